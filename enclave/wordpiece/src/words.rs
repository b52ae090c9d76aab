//! Cuts a text into words. The text is attacker-controlled and a secret: what is kept of it is one word
//! in a buffer that is wiped, and a word that is too long is not kept.

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::char::decompose_canonical;
use zeroize::Zeroizing;

/// How texts are cleaned and cut, in the words of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) clean_text: bool,
    pub(crate) handle_chinese_chars: bool,
    pub(crate) strip_accents: bool,
    pub(crate) lowercase: bool,
    /// Most characters of a word that is looked up.
    pub(crate) word_chars: usize,
}

/// A word of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    Short(&'a str),
    /// One of more characters than are looked up.
    Long,
}

impl Rules {
    /// Whether `text` is one word of a text as it stands.
    pub(crate) fn is_word(&self, text: &str) -> bool {
        let (mut others, mut same) = (false, false);
        let words = self.words::<()>(text, &mut |word| {
            let it = !same && matches!(word, Word::Short(word) if word == text);
            (others, same) = (others || !it, same || it);
            Ok(())
        });
        words.is_ok() && same && !others
    }

    /// Calls `take` with each word of `text` until it refuses one.
    pub(crate) fn words<E>(
        &self,
        text: &str,
        take: &mut impl FnMut(Word<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut held = Held::new(self.word_chars);
        for char in text.chars() {
            if self.clean_text && is_noise(char) {
                continue;
            }
            let apart = self.handle_chinese_chars && is_ideograph(char);
            if apart {
                held.end(take)?;
            }
            if self.strip_accents {
                // Of one character at a time: what normalising the whole text would do besides is to
                // order marks, and those are taken off.
                let mut taken = Ok(());
                decompose_canonical(char, |part| {
                    if taken.is_ok() && !part.is_mark_nonspacing() {
                        taken = self.lowered(part, &mut held, take);
                    }
                });
                taken?;
            } else {
                self.lowered(char, &mut held, take)?;
            }
            if apart {
                held.end(take)?;
            }
        }
        held.end(take)
    }

    fn lowered<E>(
        &self,
        char: char,
        held: &mut Held,
        take: &mut impl FnMut(Word<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.lowercase {
            char.to_lowercase().try_for_each(|char| held.push(char, take))
        } else {
            held.push(char, take)
        }
    }
}

/// The word that is being read.
struct Held {
    word: Zeroizing<String>,
    /// Characters of it, also of those that were not kept.
    chars: usize,
    most: usize,
}

impl Held {
    fn new(most: usize) -> Self {
        // Room for the longest: a string that grows leaves copies behind.
        let word = Zeroizing::new(String::with_capacity(most.saturating_mul(4)));
        Self { word, chars: 0, most }
    }

    fn push<E>(
        &mut self,
        char: char,
        take: &mut impl FnMut(Word<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if char.is_whitespace() {
            return self.end(take);
        }
        let alone = is_punctuation(char);
        if alone {
            self.end(take)?;
        }
        if self.chars < self.most {
            self.word.push(char);
        }
        self.chars = self.chars.saturating_add(1);
        if alone { self.end(take) } else { Ok(()) }
    }

    fn end<E>(&mut self, take: &mut impl FnMut(Word<'_>) -> Result<(), E>) -> Result<(), E> {
        let taken = match self.chars {
            0 => Ok(()),
            chars if chars > self.most => take(Word::Long),
            _ => take(Word::Short(&self.word)),
        };
        self.word.clear();
        self.chars = 0;
        taken
    }
}

/// Control characters but for white space, and the two that stand for nothing.
fn is_noise(char: char) -> bool {
    match char {
        '\t' | '\n' | '\r' => false,
        '\0' | '\u{fffd}' => true,
        _ => char.is_other(),
    }
}

/// In ASCII everything printable that is no letter, digit or space: `$` and `^` too, which Unicode does
/// not call punctuation.
fn is_punctuation(char: char) -> bool {
    char.is_ascii_punctuation() || char.is_punctuation()
}

/// The blocks of CJK ideographs that BERT sets apart. The one that begins at U+2B820 is written as
/// U+2B920 where the models' files come from.
const fn is_ideograph(char: char) -> bool {
    matches!(
        char,
        '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2b81f}'
            | '\u{2b920}'..='\u{2ceaf}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}
