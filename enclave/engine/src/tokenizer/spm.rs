//! SentencePiece BPE, as GGUF files of Llama 1 and 2, Mistral 7B and Gemma describe it: pieces with
//! scores and a piece for each byte; or with a list of merges instead of scores, as their `tokenizer.json`
//! does. Text to encode is untrusted; tables are checked when the model is loaded.
//!
//! Text starts as characters. Of all neighbours that together are a piece, those with the highest score
//! are joined first, of equals the leftmost. What no piece spells in the end is written in bytes. A
//! heap of candidates makes that n log n, whatever the text.

use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use zeroize::Zeroizing;

use super::bpe::Bpe;
use crate::error::{EngineError, ModelError};

/// Pieces that text may become, and the bytes for all other text.
pub(crate) struct Pieces {
    order: Order,
    /// Ids of the 256 bytes, where the model has them.
    bytes: Vec<Option<u32>>,
    /// Whether a space goes before text that begins a prompt or follows a token.
    space_first: bool,
}

/// What is joined first. Control tokens are not among the pieces, so text never joins to one.
enum Order {
    /// The piece with the highest score.
    Scores(HashMap<Box<str>, Piece>),
    /// The earliest merge of a list.
    Merges(Bpe),
}

#[derive(Clone, Copy)]
struct Piece {
    id: u32,
    score: f32,
}

/// A part of the text that is one piece now, linked to its neighbours.
struct Symbol {
    text: Range<usize>,
    before: Option<usize>,
    after: Option<usize>,
}

/// Two neighbours that could be joined.
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when this was found: it is outdated if they have changed since.
    len: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        // The largest is taken first: a higher score, or further left.
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl Pieces {
    /// Takes the pieces (text, id, score) that text may become, and the ids of bytes.
    pub(crate) fn scored<'a>(
        pieces: impl IntoIterator<Item = (&'a str, u32, f32)>,
        bytes: impl IntoIterator<Item = (u8, u32)>,
        space_first: bool,
    ) -> Result<Self, ModelError> {
        let mut by_text = HashMap::new();
        for (text, id, score) in pieces {
            if !score.is_finite() {
                return Err(super::inconsistent("a score is no number"));
            }
            // Of two pieces with one text the first is used.
            by_text.entry(text.into()).or_insert(Piece { id, score });
        }
        Ok(Self::of(Order::Scores(by_text), bytes, space_first))
    }

    /// Takes the pieces with their merges, and the ids of bytes.
    pub(crate) fn merged(
        merges: Bpe,
        bytes: impl IntoIterator<Item = (u8, u32)>,
        space_first: bool,
    ) -> Self {
        Self::of(Order::Merges(merges), bytes, space_first)
    }

    fn of(order: Order, bytes: impl IntoIterator<Item = (u8, u32)>, space_first: bool) -> Self {
        let mut ids = vec![None; 256];
        for (byte, id) in bytes {
            if let Some(slot) = ids.get_mut(usize::from(byte)) {
                *slot = Some(id);
            }
        }
        Self { order, bytes: ids, space_first }
    }

    /// Bytes of text that [`Pieces::encode`] adds.
    pub(crate) fn added(&self) -> usize {
        usize::from(self.space_first)
    }

    /// Appends the ids of `text`, which is not empty.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EngineError> {
        // A mark that the text itself brings is no space: it goes in bytes, and joins nothing.
        for (number, part) in text.split(SPACE).enumerate() {
            if number > 0 {
                self.in_bytes(SPACE, ids)?;
            }
            let part = normalised(part, self.space_first && number == 0);
            match &self.order {
                Order::Scores(pieces) => self.join(pieces, &part, ids)?,
                Order::Merges(merges) => self.merge(merges, &part, ids)?,
            }
        }
        Ok(())
    }

    /// A character that is no piece goes in bytes, which no merge joins with anything.
    fn merge(&self, merges: &Bpe, text: &str, ids: &mut Vec<u32>) -> Result<(), EngineError> {
        let mut start = 0;
        for (at, c) in text.char_indices().filter(|(_, c)| !merges.knows(*c)) {
            merges.encode(text.get(start..at).unwrap_or_default(), ids);
            start = at.saturating_add(c.len_utf8());
            self.unknown(text.get(at..start).unwrap_or_default(), ids)?;
        }
        merges.encode(text.get(start..).unwrap_or_default(), ids);
        Ok(())
    }

    fn join(
        &self,
        pieces: &HashMap<Box<str>, Piece>,
        text: &str,
        ids: &mut Vec<u32>,
    ) -> Result<(), EngineError> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            let (index, end) = (symbols.len(), at.saturating_add(c.len_utf8()));
            let before = index.checked_sub(1);
            let after = (end < text.len()).then_some(index.saturating_add(1));
            symbols.push(Symbol { text: at..end, before, after });
        }
        let mut heap = BinaryHeap::with_capacity(symbols.len());
        for left in 0..symbols.len() {
            heap.extend(candidate(pieces, text, &symbols, Some(left)));
        }
        while let Some(Candidate { left, right, len, .. }) = heap.pop() {
            let (Some(a), Some(b)) = (symbols.get(left), symbols.get(right)) else { continue };
            // One of them has been joined with another neighbour since.
            if a.after != Some(right) || b.text.end.saturating_sub(a.text.start) != len {
                continue;
            }
            let (end, before, after) = (b.text.end, a.before, b.after);
            if let Some(b) = symbols.get_mut(right) {
                // What is left of it matches no candidate.
                (b.text, b.after) = (end..end, None);
            }
            if let Some(a) = symbols.get_mut(left) {
                (a.text.end, a.after) = (end, after);
            }
            if let Some(next) = after.and_then(|next| symbols.get_mut(next)) {
                next.before = Some(left);
            }
            heap.extend(candidate(pieces, text, &symbols, before));
            heap.extend(candidate(pieces, text, &symbols, Some(left)));
        }
        let mut at = Some(0);
        while let Some(symbol) = at.and_then(|at| symbols.get(at)) {
            let text = text.get(symbol.text.clone()).unwrap_or_default();
            match pieces.get(text) {
                Some(piece) => ids.push(piece.id),
                None => self.unknown(text, ids)?,
            }
            at = symbol.after;
        }
        Ok(())
    }

    /// What no piece spells, in bytes.
    fn unknown(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EngineError> {
        // The mark stands for a space, and its own bytes would be decoded as the mark.
        self.in_bytes(if text == SPACE { " " } else { text }, ids)
    }

    fn in_bytes(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EngineError> {
        for byte in text.bytes() {
            let id = self.bytes.get(usize::from(byte)).copied().flatten();
            ids.push(id.ok_or(EngineError::Unencodable)?);
        }
        Ok(())
    }
}

/// The symbol at `left` with the one after it, if they are a piece together.
fn candidate(
    pieces: &HashMap<Box<str>, Piece>,
    text: &str,
    symbols: &[Symbol],
    left: Option<usize>,
) -> Option<Candidate> {
    let left = left?;
    let a = symbols.get(left)?;
    let right = a.after?;
    let both = text.get(a.text.start..symbols.get(right)?.text.end)?;
    let Piece { score, .. } = *pieces.get(both)?;
    Some(Candidate { score, left, right, len: both.len() })
}

/// `text` with marks for its spaces, and one before it if asked.
fn normalised(text: &str, space_first: bool) -> Zeroizing<String> {
    let spaces = text.matches(' ').count().saturating_add(1);
    let len = text.len().saturating_add(spaces.saturating_mul(SPACE.len()));
    let mut out = Zeroizing::new(String::with_capacity(len));
    if space_first {
        out.push_str(SPACE);
    }
    for c in text.chars() {
        if c == ' ' { out.push_str(SPACE) } else { out.push(c) }
    }
    out
}

/// The byte that a piece like `<0x0A>` stands for.
pub(crate) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let two = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    two.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Stands for a space inside pieces (U+2581).
pub(crate) const SPACE: &str = "\u{2581}";

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(space_first: bool) -> Pieces {
        let texts = ["a", "b", "c", "ab", "bc", "abc", "\u{2581}", "\u{2581}a", "\u{2581}\u{2581}"];
        let scores = [-9.0, -9.0, -9.0, -2.0, -1.0, -3.0, -9.0, -4.0, -5.0];
        let pieces = texts.iter().zip(scores).zip(0u32..).map(|((t, s), id)| (*t, id, s));
        let bytes = (0..=u8::MAX).map(|byte| (byte, 100 + u32::from(byte)));
        Pieces::scored(pieces, bytes, space_first).unwrap()
    }

    fn encode(pieces: &Pieces, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        pieces.encode(text, &mut ids).unwrap();
        ids
    }

    #[test]
    fn joins_the_highest_score_first_and_of_equals_the_leftmost() {
        let p = pieces(false);
        assert_eq!(encode(&p, "ab"), [3]);
        // `bc` before `ab`, then `a` and `bc` are a piece.
        assert_eq!(encode(&p, "abc"), [5]);
        assert_eq!(encode(&p, "ababc"), [3, 5]);
        assert_eq!(encode(&p, "   "), [8, 6], "the leftmost pair");
    }

    #[test]
    fn writes_a_space_first_where_the_model_was_trained_so() {
        assert_eq!(encode(&pieces(true), "ab"), [6, 3]);
        assert_eq!(encode(&pieces(true), "a"), [7]);
        assert_eq!(encode(&pieces(false), " a"), [7]);
    }

    #[test]
    fn writes_in_bytes_what_no_piece_spells() {
        assert_eq!(encode(&pieces(false), "aé\n"), [0, 100 + 0xc3, 100 + 0xa9, 110]);
        let none = Pieces::scored([("a", 0, 0.0)], [], false).unwrap();
        assert_eq!(none.encode("é", &mut Vec::new()), Err(EngineError::Unencodable));
        let bytes = Pieces::scored([("a", 0, 0.0)], [(b' ', 7)], false).unwrap();
        assert_eq!(encode(&bytes, " a"), [7, 0], "a space, not its mark");
        let mark = [100 + 0xe2, 100 + 0x96, 100 + 0x81];
        assert_eq!(encode(&pieces(false), "\u{2581}a"), [&mark[..], &[0]].concat());
    }

    #[test]
    fn a_long_text_of_one_letter_ends() {
        let text = "a".repeat(1 << 18);
        assert_eq!(encode(&pieces(false), &text).len(), text.len());
        let spaces = " ".repeat(1 << 18);
        assert_eq!(encode(&pieces(false), &spaces).len(), spaces.len() / 2);
    }

    #[test]
    fn reads_the_names_of_bytes_and_nothing_else() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        for no in ["<0x0A", "0x0A>", "<0x+1>", "<0x0AB>", "<0x1>", "<0xzz>"] {
            assert_eq!(byte_of(no), None, "{no}");
        }
    }
}
