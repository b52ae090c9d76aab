//! Byte-pair merging: a word becomes the tokens that its characters merge to, the earliest merge of the
//! model's list first and of equal ones the leftmost. The word is a part of a prompt, so every length is
//! its sender's, and what was made of it is wiped.
//!
//! The tables hold numbers, not texts: of a vocabulary of strings in maps the `tokenizers` crate makes
//! ten times the bytes that are in the file.

use std::collections::{BinaryHeap, HashMap};

use foldhash::fast::RandomState;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::ModelError;

/// The merges of one model.
pub(crate) struct Bpe {
    /// Tokens of one character.
    characters: Table<char, u32>,
    /// For two [`neighbours`]: the place of their merge in the list, and what they become.
    merges: Table<u64, [u32; 2]>,
    /// All tokens by their text, if a word that is one is not merged.
    whole: Option<Whole>,
}

/// A model's tables are what they are, whoever writes the prompts: they need no hash that withstands
/// keys made to collide. With one, hashing was half of the time to read a tokenizer.
type Table<K, V> = HashMap<K, V, RandomState>;

/// Tokens in the order of their texts.
struct Whole {
    text: String,
    /// Where the text of each starts and ends, and its id.
    entries: Vec<[u32; 3]>,
}

impl Bpe {
    /// The merger of a vocabulary (texts and ids) and its list of merges, each two tokens with a space
    /// between. With `whole`, a word that is a token stays it.
    ///
    /// # Errors
    /// [`ModelError::TokenizerInvalid`] for a merge that does not join two tokens to a third.
    pub(crate) fn new<'a>(
        tokens: impl IntoIterator<Item = (&'a str, u32)>,
        list: impl IntoIterator<Item = &'a str>,
        whole: bool,
    ) -> Result<Self, ModelError> {
        let tokens = tokens.into_iter();
        let mut ids = Table::with_capacity_and_hasher(most(&tokens), RandomState::default());
        let mut characters = Table::default();
        for (text, id) in tokens {
            ids.insert(text, id);
            let mut every = text.chars();
            if let (Some(only), None) = (every.next(), every.next()) {
                characters.insert(only, id);
            }
        }
        let list = list.into_iter();
        let mut merges = Table::with_capacity_and_hasher(most(&list), RandomState::default());
        let mut joined = String::new();
        for (rank, merge) in (0u32..).zip(list) {
            let Some((a, b)) = merge.split_once(' ') else {
                return Err(inconsistent("a merge is not two tokens"));
            };
            joined.clear();
            joined.extend([a, b]);
            let [Some(a), Some(b), Some(both)] =
                [a, b, joined.as_str()].map(|text| ids.get(text).copied())
            else {
                return Err(inconsistent("a merge names a token the vocabulary does not have"));
            };
            merges.insert(neighbours(a, b), [rank, both]);
        }
        let whole = whole.then(|| Whole::new(&ids)).transpose()?;
        Ok(Self { characters, merges, whole })
    }

    /// Whether there is a token of this character.
    pub(crate) fn knows(&self, character: char) -> bool {
        self.characters.contains_key(&character)
    }

    /// Appends the tokens of `word`. A character that is no token is left out.
    pub(crate) fn encode(&self, word: &str, out: &mut Vec<u32>) {
        if let Some(id) = self.whole.as_ref().and_then(|whole| whole.find(word)) {
            return out.push(id);
        }
        let mut symbols = Zeroizing::new(Vec::with_capacity(word.len()));
        symbols.extend(word.chars().filter_map(|c| self.characters.get(&c)).map(|id| Symbol {
            id: *id,
            before: 0,
            after: 0,
        }));
        let count = u32::try_from(symbols.len()).unwrap_or(u32::MAX);
        for (at, symbol) in (0u32..).zip(symbols.iter_mut()) {
            // One past the end is nobody, on both sides.
            symbol.before = at.checked_sub(1).unwrap_or(count);
            symbol.after = at.saturating_add(1);
        }
        self.merge(&mut symbols, count);
        let live = symbols.iter().filter(|symbol| symbol.id != MERGED);
        out.extend(live.map(|symbol| symbol.id));
    }

    fn merge(&self, symbols: &mut [Symbol], count: u32) {
        // Never grows: a merge takes one symbol away and adds two entries at most. What a vector grows
        // out of is not wiped.
        let mut queue = BinaryHeap::with_capacity(symbols.len().saturating_mul(3));
        // The largest comes first, so numbers are turned around.
        let next = |symbols: &[Symbol], at: u32| -> Option<[u32; 3]> {
            let left = symbol(symbols, at)?;
            let right = symbol(symbols, left.after)?;
            let [rank, id] = *self.merges.get(&neighbours(left.id, right.id))?;
            Some([!rank, !at, id])
        };
        queue.extend((0..count).filter_map(|at| next(symbols, at)));
        while let Some([_, at, id]) = queue.pop() {
            let at = !at;
            // Its neighbours may have become something else since.
            let still = next(symbols, at).is_some_and(|[.., now]| now == id);
            let left = symbol(symbols, at).copied().filter(|_| still);
            let Some(left) = left else { continue };
            let Some(right) = symbol(symbols, left.after).copied() else { continue };
            change(symbols, left.after, |symbol| symbol.id = MERGED);
            change(symbols, right.after, |symbol| symbol.before = at);
            change(symbols, at, |symbol| (symbol.id, symbol.after) = (id, right.after));
            queue.extend(next(symbols, left.before));
            queue.extend(next(symbols, at));
        }
        queue.into_vec().zeroize();
    }
}

impl Whole {
    fn new(ids: &Table<&str, u32>) -> Result<Self, ModelError> {
        let mut sorted: Vec<(&str, u32)> = ids.iter().map(|(text, id)| (*text, *id)).collect();
        sorted.sort_unstable();
        let mut out = Self { text: String::new(), entries: Vec::with_capacity(sorted.len()) };
        for (text, id) in sorted {
            let place = |at: usize| u32::try_from(at).map_err(|_| inconsistent("it is too long"));
            let start = place(out.text.len())?;
            out.text.push_str(text);
            out.entries.push([start, place(out.text.len())?, id]);
        }
        Ok(out)
    }

    fn find(&self, word: &str) -> Option<u32> {
        let text = |[start, end, _]: &[u32; 3]| {
            let range = usize::try_from(*start).ok()?..usize::try_from(*end).ok()?;
            self.text.get(range)
        };
        let at = self.entries.binary_search_by(|entry| text(entry).cmp(&Some(word))).ok()?;
        self.entries.get(at).map(|[.., id]| *id)
    }
}

/// A token of a word, and its neighbours.
#[derive(Clone, Copy, Default)]
struct Symbol {
    id: u32,
    before: u32,
    after: u32,
}

impl zeroize::DefaultIsZeroes for Symbol {}

/// A symbol that was not merged away.
fn symbol(symbols: &[Symbol], at: u32) -> Option<&Symbol> {
    symbols.get(usize::try_from(at).ok()?).filter(|symbol| symbol.id != MERGED)
}

fn change(symbols: &mut [Symbol], at: u32, change: impl FnOnce(&mut Symbol)) {
    if let Some(symbol) = usize::try_from(at).ok().and_then(|at| symbols.get_mut(at)) {
        change(symbol);
    }
}

/// Two ids as one number, which is hashed at once.
fn neighbours(left: u32, right: u32) -> u64 {
    u64::from(left).rotate_left(u32::BITS) | u64::from(right)
}

/// How many items there may be. They are in memory already.
fn most(items: &impl Iterator) -> usize {
    items.size_hint().1.unwrap_or(0)
}

const fn inconsistent(what: &'static str) -> ModelError {
    ModelError::TokenizerInvalid { what }
}

/// The id of what was merged into its left neighbour; no vocabulary is that large.
const MERGED: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::models::bpe::BPE;
    use tokenizers::tokenizer::Model as _;

    use super::*;

    /// Tokens over the letters a, b, c, merges of them, and a word.
    fn cases() -> impl Strategy<Value = (Vec<String>, Vec<(String, String)>, String)> {
        let letter = prop_oneof![Just('a'), Just('b'), Just('c')];
        let text = |len| prop::collection::vec(letter.clone(), len).prop_map(String::from_iter);
        let merges =
            prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..30);
        (merges, text(0..60), any::<bool>()).prop_map(|(picks, word, without_c)| {
            let mut tokens: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
            if without_c {
                tokens.pop();
            }
            let mut merges = Vec::new();
            for (left, right) in picks {
                let pair = [left, right].map(|pick| tokens[pick.index(tokens.len())].clone());
                let both = pair.concat();
                if both.len() <= 12 {
                    if !tokens.contains(&both) {
                        tokens.push(both);
                    }
                    let [left, right] = pair;
                    merges.push((left, right));
                }
            }
            (tokens, merges, word)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn words_become_the_tokens_that_the_tokenizers_crate_makes(
            (tokens, merges, word) in cases(),
            whole in any::<bool>(),
        ) {
            let list: Vec<String> = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
            let texts = tokens.iter().map(String::as_str).zip(0..);
            let ours = Bpe::new(texts, list.iter().map(String::as_str), whole).unwrap();
            let mut got = Vec::new();
            ours.encode(&word, &mut got);
            let vocab = tokens.iter().cloned().zip(0..).collect::<tokenizers::models::bpe::Vocab>();
            let theirs = BPE::builder()
                .vocab_and_merges(vocab, merges)
                .cache_capacity(0)
                .ignore_merges(whole)
                .build()
                .unwrap();
            let wanted: Vec<u32> = if word.is_empty() {
                Vec::new()
            } else {
                theirs.tokenize(&word).unwrap().iter().map(|token| token.id).collect()
            };
            prop_assert_eq!(got, wanted);
        }
    }

    #[test]
    fn a_word_as_long_as_a_prompt_takes_no_more_than_a_moment() {
        let ours = Bpe::new([("a", 0), ("aa", 1), ("aaaa", 2)], ["a a", "aa aa"], false).unwrap();
        let mut got = Vec::new();
        ours.encode(&"a".repeat(1 << 20), &mut got);
        assert_eq!(got, vec![2; 1 << 18]);
    }

    #[test]
    fn refuses_merges_of_what_is_no_token() {
        let tokens = [("a", 0), ("b", 1), ("ab", 2)];
        let refused = |list: &[&str]| Bpe::new(tokens, list.iter().copied(), true).err();
        assert!(refused(&["a b"]).is_none());
        for list in ["ab", "a c", "b a", "c a"] {
            assert!(
                matches!(refused(&[list]), Some(ModelError::TokenizerInvalid { .. })),
                "{list}"
            );
        }
    }
}
