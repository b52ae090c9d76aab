//! Cuts a byte stream into whole characters. Tokens of a byte-level vocabulary end anywhere, also
//! inside a character; bytes come from the model and may be no UTF-8 at all.

use zeroize::Zeroizing;

/// Holds back an incomplete character; replaces what can never become one by U+FFFD.
#[derive(Default)]
pub(crate) struct Utf8Stream {
    held: Zeroizing<Vec<u8>>,
}

impl Utf8Stream {
    /// Adds bytes and returns the whole characters so far.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Zeroizing<String> {
        let mut input =
            Zeroizing::new(Vec::with_capacity(self.held.len().saturating_add(bytes.len())));
        input.extend_from_slice(&self.held);
        input.extend_from_slice(bytes);
        let mut out = Zeroizing::new(String::with_capacity(input.len().saturating_mul(3)));
        let mut tail: &[u8] = &[];
        let mut chunks = input.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            out.push_str(chunk.valid());
            let last = chunks.peek().is_none();
            if last && may_continue(chunk.invalid()) {
                tail = chunk.invalid();
            } else if !chunk.invalid().is_empty() {
                out.push(char::REPLACEMENT_CHARACTER);
            }
        }
        // At most three bytes: the vector was made with this capacity and never moves.
        let mut held = Zeroizing::new(Vec::with_capacity(4));
        held.extend_from_slice(tail);
        self.held = held;
        out
    }

    /// The end: an incomplete character becomes U+FFFD.
    pub(crate) fn finish(&mut self) -> Zeroizing<String> {
        let held = core::mem::take(&mut self.held);
        let text = if held.is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.into() };
        Zeroizing::new(text)
    }
}

/// Whether `bytes` are the beginning of a character rather than an error.
fn may_continue(bytes: &[u8]) -> bool {
    // `error_len` is `None` exactly when the input ended inside a valid sequence.
    core::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(parts: &[&[u8]]) -> String {
        let mut stream = Utf8Stream::default();
        let mut out = String::new();
        for part in parts {
            let text = stream.push(part);
            out.push_str(&text);
        }
        out.push_str(&stream.finish());
        out
    }

    #[test]
    fn joins_a_character_split_at_every_byte() {
        let text = "aé漢🦋z";
        let bytes = text.as_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(feed(&[&bytes[..cut], &bytes[cut..]]), text, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(feed(&single), text);
    }

    #[test]
    fn emits_nothing_before_the_character_is_whole() {
        let mut stream = Utf8Stream::default();
        let butterfly = "🦋".as_bytes();
        assert_eq!(stream.push(&butterfly[..3]).as_str(), "");
        assert_eq!(stream.push(&butterfly[3..]).as_str(), "🦋");
    }

    #[test]
    fn replaces_what_can_never_become_a_character() {
        assert_eq!(feed(&[b"a\xff", b"b"]), "a\u{fffd}b");
        assert_eq!(feed(&[b"\xe6\xbc", b"x"]), "\u{fffd}x");
        assert_eq!(feed(&[b"\xc0\x80"]), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn replaces_a_character_cut_off_by_the_end() {
        assert_eq!(feed(&[b"ok\xf0\x9f"]), "ok\u{fffd}");
    }

    #[test]
    fn agrees_with_the_lossy_decoder_on_random_bytes() {
        let mut state = 7u32;
        for _ in 0..500 {
            let bytes: Vec<u8> = (0..12)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8 | if state & 0x100 == 0 { 0x80 } else { 0 }
                })
                .collect();
            let parts: Vec<&[u8]> = bytes.chunks(5).collect();
            assert_eq!(feed(&parts), String::from_utf8_lossy(&bytes));
        }
    }
}
