//! Tells a model's reasoning from its answer, while it speaks. Families that reason put it between `<think>` tags
//! before anything else; what the tags hold is the model's text and can be anything. Tags later in an answer
//! are text.

use zeroize::Zeroizing;

use crate::calls::{MAX_HELD_BYTES, overlap, text_of};
use crate::secret::Completion;

/// A part of what a model that reasons says; never empty.
#[derive(Debug)]
pub enum Thought {
    /// Of its reasoning.
    Reasoning(Completion),
    /// Of its answer.
    Text(Completion),
}

/// Reads what a model that may reason says.
#[derive(Debug)]
pub struct ThoughtParser {
    place: Place,
    /// Text that may be part of a tag, or white space beside one.
    held: Zeroizing<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing was said yet.
    Before,
    /// Behind the first tag, where white space is nobody's text.
    Begun,
    Inside,
    /// Behind the second tag, where white space is nobody's text.
    Ended,
    After,
}

impl ThoughtParser {
    /// A parser; `begun` if the prompt ends with the first tag.
    #[must_use]
    pub fn new(begun: bool) -> Self {
        Self { place: if begun { Place::Begun } else { Place::Before }, held: Zeroizing::default() }
    }

    /// Adds text; what is certain now.
    #[must_use]
    pub fn push(&mut self, text: &str) -> Vec<Thought> {
        let size = self.held.len().saturating_add(text.len());
        let mut all = Zeroizing::new(String::with_capacity(size));
        all.push_str(&self.held);
        all.push_str(text);
        let (mut rest, mut said) = (all.as_str(), Vec::new());
        loop {
            match self.place {
                Place::Before => {
                    let begun = rest.trim_start();
                    if let Some(inside) = begun.strip_prefix(BEGIN) {
                        (self.place, rest) = (Place::Begun, inside);
                    } else if BEGIN.starts_with(begun) && rest.len() <= MAX_HELD_BYTES {
                        break;
                    } else {
                        self.place = Place::After;
                    }
                }
                Place::Begun | Place::Ended => {
                    rest = rest.trim_start();
                    if rest.is_empty() {
                        break;
                    }
                    let begun = self.place == Place::Begun;
                    self.place = if begun { Place::Inside } else { Place::After };
                }
                Place::Inside => {
                    if let Some((before, after)) = rest.split_once(END) {
                        reasoning(before.trim_end(), &mut said);
                        (self.place, rest) = (Place::Ended, after);
                        continue;
                    }
                    // White space before the second tag is nobody's text either.
                    let keep = overlap(rest, END);
                    let certain = rest.get(..rest.len().saturating_sub(keep)).unwrap_or_default();
                    // But for what is so long that looking at it again would take too long.
                    let long = rest.len() > MAX_HELD_BYTES;
                    let certain = if long { certain } else { certain.trim_end() };
                    reasoning(certain, &mut said);
                    rest = rest.get(certain.len()..).unwrap_or_default();
                    break;
                }
                Place::After => {
                    if !rest.is_empty() {
                        said.push(Thought::Text(text_of(&[rest])));
                    }
                    rest = "";
                    break;
                }
            }
        }
        self.held = Zeroizing::new(rest.to_owned());
        said
    }

    /// The end: what was held back is what it looked like.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Thought> {
        let (held, mut said) = (core::mem::take(&mut self.held), Vec::new());
        match self.place {
            Place::Begun | Place::Inside => reasoning(held.trim_end(), &mut said),
            Place::Before | Place::Ended | Place::After if !held.is_empty() => {
                said.push(Thought::Text(text_of(&[&held])));
            }
            Place::Before | Place::Ended | Place::After => {}
        }
        said
    }
}

fn reasoning(text: &str, said: &mut Vec<Thought>) {
    if !text.is_empty() {
        said.push(Thought::Reasoning(text_of(&[text])));
    }
}

const BEGIN: &str = "<think>";
const END: &str = "</think>";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(begun: bool, parts: &[&str]) -> (String, String) {
        let mut parser = ThoughtParser::new(begun);
        let (mut reasoning, mut text) = (String::new(), String::new());
        let mut take = |said: Vec<Thought>| {
            for said in said {
                match said {
                    Thought::Reasoning(part) => reasoning.push_str(part.expose()),
                    Thought::Text(part) => text.push_str(part.expose()),
                }
            }
        };
        parts.iter().for_each(|part| take(parser.push(part)));
        take(parser.finish());
        (reasoning, text)
    }

    #[test]
    fn reasoning_and_answer_are_told_apart_however_the_text_is_cut() {
        let whole = "\n<think>\nIs a < b? </thin\n\n yes.\n</think>\n\nYes: ä </think> <think>.\n";
        let expected =
            ("Is a < b? </thin\n\n yes.".to_owned(), "Yes: ä </think> <think>.\n".to_owned());
        for (cut, _) in whole.char_indices() {
            let (a, b) = whole.split_at(cut);
            assert_eq!(parse(false, &[a, b]), expected, "cut at {cut}");
        }
        let single: Vec<String> = whole.chars().map(String::from).collect();
        let single: Vec<&str> = single.iter().map(String::as_str).collect();
        assert_eq!(parse(false, &single), expected);
    }

    #[test]
    fn a_prompt_may_have_begun_the_reasoning() {
        assert_eq!(parse(true, &["so.", "\n</thi", "nk>\nYes"]), ("so.".into(), "Yes".into()));
        assert_eq!(parse(true, &["\n\n</think>\n\nYes"]), (String::new(), "Yes".into()));
    }

    #[test]
    fn reasoning_that_was_cut_is_reasoning() {
        assert_eq!(parse(false, &["<think> a b <"]), ("a b <".into(), String::new()));
    }

    #[test]
    fn white_space_that_is_held_back_is_bounded_and_one_byte_more_is_told() {
        let told = |inside: &str, len: usize| {
            let mut parser = ThoughtParser::new(false);
            let said = parser.push(&format!("{inside}{}", " ".repeat(len)));
            said.iter()
                .map(|said| match said {
                    Thought::Reasoning(text) | Thought::Text(text) => text.expose().len(),
                })
                .sum::<usize>()
        };
        for (inside, said) in [("", 0), ("<think>x", 1)] {
            assert_eq!(told(inside, MAX_HELD_BYTES - said), said);
            assert_eq!(told(inside, MAX_HELD_BYTES - said + 1), MAX_HELD_BYTES + 1);
        }
    }

    #[test]
    fn an_answer_without_reasoning_is_unchanged() {
        for text in ["", " ", " a", "<thin", "<b>", "\n<think", "x <think>y</think>"] {
            assert_eq!(parse(false, &[text]), (String::new(), text.to_owned()));
        }
    }
}
