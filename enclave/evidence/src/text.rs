//! Makes peer-controlled text safe to show. A transcript is read in a terminal, so nothing a peer
//! or a collateral host wrote reaches it with control characters or without a length limit.

/// Most characters of foreign text in one transcript field.
pub(crate) const MAX_SHOWN_CHARS: usize = 300;

/// `text` with everything but printable ASCII replaced by `?`, cut at [`MAX_SHOWN_CHARS`].
pub(crate) fn printable(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(MAX_SHOWN_CHARS)
        .map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' })
        .collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_terminal_escapes_and_newlines() {
        assert_eq!(printable("a\x1b[2Jb\nPASS\u{202e}"), "a?[2Jb?PASS?");
    }

    #[test]
    fn cuts_one_character_past_the_limit() {
        assert_eq!(printable(&"x".repeat(MAX_SHOWN_CHARS)).len(), MAX_SHOWN_CHARS);
        assert!(printable(&"x".repeat(MAX_SHOWN_CHARS + 1)).ends_with("x..."));
    }
}
