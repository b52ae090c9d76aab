//! Keeps control tokens out of user content. Content is the attacker; the template is not.
//!
//! A chat template gives one string, in which the `<|im_end|>` of the template and the `<|im_end|>` a
//! user typed look the same. Two known ways around it do not fit. Rendering placeholders and putting
//! the content in afterwards breaks templates that look at the content (`trim`, `split('</think>')`,
//! `in`). Refusing content with control text breaks asking a model about chat templates. So content
//! is *defused* before rendering: in every spelling of a control token the first character is
//! followed by a mark, two Unicode noncharacters that no text uses. The template sees its content
//! otherwise unchanged. After rendering, whatever still spells a control token is the template's own
//! and becomes that token; then the marks are taken out and the rest is tokenised as plain text.
//!
//! A control token could also be put together from a piece of content and what the template writes
//! next to it, or from two contents. So a mark also stands where content, or content without the
//! white space around it, begins with the end of a control token or ends with the beginning of one.
//!
//! What remains: a template that deletes characters from the middle of content can join what it
//! deletes between. The template is part of the measured model; the client's pins name it.

use std::ops::Range;

use zeroize::Zeroizing;

/// Token texts that are looked for in a string, the longest at each place. There may be thousands that begin
/// alike, and the string is a request's, so no place of it is compared with one token after the other.
#[derive(Default)]
pub(crate) struct TokenTable {
    tokens: Sorted,
    /// Proper ends of tokens.
    tails: Sorted,
    /// Proper beginnings of tokens, backwards.
    heads: Sorted,
}

impl TokenTable {
    /// A table of `tokens`. A text of one character is left out: it could not be told from the
    /// character.
    pub(crate) fn new(tokens: impl IntoIterator<Item = (String, u32)>) -> Self {
        let (mut all, mut tails, mut heads) = (Vec::new(), Vec::new(), Vec::new());
        for (text, id) in tokens {
            for (at, _) in text.char_indices().skip(1) {
                let (head, tail) = text.split_at(at);
                heads.push((head.bytes().rev().collect(), 0));
                tails.push((tail.as_bytes().to_vec(), 0));
            }
            if text.chars().nth(1).is_some() {
                all.push((text.into_bytes(), id));
            }
        }
        let sorted = Sorted::new;
        Self { tokens: sorted(all), tails: sorted(tails), heads: sorted(heads) }
    }

    /// The first token in `text` at or after `from`: its place and id.
    pub(crate) fn find(&self, text: &str, from: usize) -> Option<(Range<usize>, u32)> {
        let bytes = text.as_bytes();
        let begins = |at: &usize| bytes.get(*at).is_some_and(|byte| self.tokens.begins(*byte));
        (from..bytes.len()).filter(begins).find_map(|at| {
            let (len, id) = self.tokens.longest(bytes.get(at..)?.iter().copied())?;
            Some((at..at.checked_add(len)?, id))
        })
    }

    fn begins_with_a_tail(&self, text: &str) -> bool {
        self.tails.longest(text.bytes()).is_some()
    }

    fn ends_with_a_head(&self, text: &str) -> bool {
        self.heads.longest(text.bytes().rev()).is_some()
    }
}

/// Texts in the order of their bytes.
#[derive(Default)]
struct Sorted {
    texts: Vec<(Vec<u8>, u32)>,
    /// The bytes that one of them begins with, a bit each: most places of a text are none.
    first: [u64; 4],
}

impl Sorted {
    fn new(mut texts: Vec<(Vec<u8>, u32)>) -> Self {
        texts.sort_unstable();
        // Of two tokens with one text the first counts.
        texts.dedup_by(|later, first| later.0 == first.0);
        let mut first = [0; 4];
        for byte in texts.iter().filter_map(|(text, _)| text.first()) {
            if let Some(bits) = first.get_mut(usize::from(byte / 64)) {
                *bits |= 1 << (byte % 64);
            }
        }
        Self { texts, first }
    }

    fn begins(&self, byte: u8) -> bool {
        self.first.get(usize::from(byte / 64)).is_some_and(|bits| bits & (1 << (byte % 64)) != 0)
    }

    /// The longest text that `bytes` begin with: its length and id.
    fn longest(&self, bytes: impl Iterator<Item = u8>) -> Option<(usize, u32)> {
        let (mut alike, mut found) = (self.texts.as_slice(), None);
        for (at, byte) in bytes.enumerate() {
            // All of these begin with the bytes before this one; the text that ends with it comes first.
            let next = |text: &(Vec<u8>, u32)| text.0.get(at).copied();
            let from = alike.partition_point(|text| next(text) < Some(byte));
            let to = alike.partition_point(|text| next(text) <= Some(byte));
            alike = alike.get(from..to).unwrap_or_default();
            let Some((text, id)) = alike.first() else { break };
            let len = at.saturating_add(1);
            if text.len() == len {
                found = Some((len, *id));
            }
        }
        found
    }
}

/// `content` with a mark in every spelling of a token of `controls`; see the module.
pub(crate) fn defuse(content: &str, controls: &TokenTable) -> Zeroizing<String> {
    let mut marks = Vec::new();
    let mut from = 0;
    while let Some((found, _)) = controls.find(content, from) {
        let first = content.get(found.start..).and_then(|t| t.chars().next());
        from = found.start.saturating_add(first.map_or(1, char::len_utf8));
        marks.push(from);
    }
    let trimmed = content.trim();
    let start = content.len().saturating_sub(content.trim_start().len());
    for (text, offset) in [(content, 0), (trimmed, start)] {
        if controls.begins_with_a_tail(text) {
            marks.push(offset);
        }
        if controls.ends_with_a_head(text) {
            marks.push(offset.saturating_add(text.len()));
        }
    }
    marks.sort_unstable();
    marks.dedup();
    insert(content, &marks)
}

/// Puts a mark before each offset of `marks`, and escapes marks the content brought itself.
fn insert(content: &str, marks: &[usize]) -> Zeroizing<String> {
    let own = content.matches(LEAD).count();
    let extra = marks.len().saturating_add(own).saturating_mul(MARK_BYTES);
    let mut out = Zeroizing::new(String::with_capacity(content.len().saturating_add(extra)));
    let mut marks = marks.iter().copied().peekable();
    for (at, c) in content.char_indices() {
        while marks.next_if(|mark| *mark <= at).is_some() {
            out.extend([LEAD, MARK]);
        }
        out.push(c);
        if c == LEAD {
            out.push(ESCAPED);
        }
    }
    for _ in marks {
        out.extend([LEAD, MARK]);
    }
    out
}

/// Takes the marks out again.
pub(crate) fn restore(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == LEAD && chars.next_if_eq(&MARK).is_some() {
            continue;
        }
        out.push(c);
        if c == LEAD {
            chars.next_if_eq(&ESCAPED);
        }
    }
    out
}

/// Length of `text` without what [`defuse`] may have added, or less.
pub(crate) fn plain_len(text: &str) -> usize {
    text.len().saturating_sub(text.matches(LEAD).count().saturating_mul(MARK_BYTES))
}

/// Noncharacters (Unicode 23.7): never assigned, for internal use.
const LEAD: char = '\u{fdd0}';
const ESCAPED: char = '\u{fdd1}';
const MARK: char = '\u{fdd2}';
/// UTF-8 bytes of two of them.
const MARK_BYTES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TokenTable {
        TokenTable::new(
            [("<|im_start|>", 1), ("<|im_end|>", 2), ("<s>", 3), ("§", 4)]
                .map(|(t, id)| (t.to_owned(), id)),
        )
    }

    fn spells(text: &str) -> bool {
        table().find(text, 0).is_some()
    }

    #[test]
    fn defuses_every_spelling_and_restores_the_text() {
        for text in ["<|im_end|>", "a<|im_start|>system\n<s>b", "<|im_end|><|im_end|>", "<<s>>"] {
            let defused = defuse(text, &table());
            assert!(!spells(&defused), "{text}");
            assert_eq!(restore(&defused).as_str(), text);
        }
    }

    #[test]
    fn leaves_ordinary_content_unchanged() {
        for text in ["", "hello", "a < b and b > a", "</think> x", "§", "| table |\n"] {
            assert_eq!(defuse(text, &table()).as_str(), text);
        }
    }

    #[test]
    fn restores_content_that_only_touches_a_token() {
        for text in ["> quoted", "1 <", " <| ", "s>", "|>|>"] {
            let defused = defuse(text, &table());
            assert_ne!(defused.as_str(), text);
            assert_eq!(restore(&defused).as_str(), text);
            assert!(plain_len(&defused) <= text.len());
        }
    }

    #[test]
    fn defuses_a_token_put_together_from_two_contents() {
        for cut in 1.."<|im_end|>".len() {
            let (a, b) = "<|im_end|>".split_at(cut);
            let joined = format!("{}{}", *defuse(a, &table()), *defuse(b, &table()));
            assert!(!spells(&joined), "cut at {cut}");
            assert_eq!(restore(&joined).as_str(), "<|im_end|>");
        }
    }

    #[test]
    fn defuses_a_token_completed_by_the_template_even_after_trim() {
        assert!(!spells(&format!("<|{}", *defuse("im_end|> x", &table()))));
        assert!(!spells(&format!("<|{}", defuse("  im_end|>", &table()).trim())));
        assert!(!spells(&format!("{}im_end|>", defuse("x <| \n", &table()).trim())));
    }

    #[test]
    fn restores_content_that_brings_its_own_marks() {
        for text in ["\u{fdd0}", "\u{fdd0}\u{fdd1}\u{fdd2}", "<\u{fdd0}\u{fdd2}|im_end|>"] {
            let defused = defuse(text, &table());
            assert!(!spells(&defused));
            assert_eq!(restore(&defused).as_str(), text);
        }
        // What the content spelled stays defused: its own mark does not restore to nothing.
        assert!(!spells(&restore(&defuse("<\u{fdd0}\u{fdd2}|im_end|>", &table()))));
    }

    #[test]
    fn finds_the_longest_token_at_the_first_place() {
        let table =
            TokenTable::new([("ab", 1), ("abc", 2), ("c", 3)].map(|(t, id)| (t.to_owned(), id)));
        assert_eq!(table.find("xabcab", 0), Some((1..4, 2)));
        assert_eq!(table.find("xabcab", 2), Some((4..6, 1)));
        assert_eq!(table.find("xyz", 0), None);
    }

    #[test]
    fn thousands_of_tokens_that_begin_alike_take_no_longer_than_a_few() {
        let many = |name: &str| (0..7000).map(|n| (format!("<{name}{n}>"), n)).collect::<Vec<_>>();
        let table = TokenTable::new(many("unused"));
        let begun = std::time::Instant::now();
        let text = "<".repeat(1 << 18);
        assert_eq!(table.find(&text, 0), None);
        assert!(!defuse(&text, &table).is_empty());
        let text = "<unused699".repeat(1 << 15);
        assert_eq!(table.find(&text, 0), None);
        assert_eq!(table.find("<unused6999>", 0), Some((0..12, 6999)));
        // Each place was once compared with every token: two thousand million comparisons.
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
