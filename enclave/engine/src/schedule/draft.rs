//! Drafts: tokens that may come next, guessed from what a sequence said before. They are computed in the
//! same step as its last token, and the sampler draws from the logits of each place as if there were none:
//! as long as it draws the draft itself, the next place counts too. So drafts change when an answer comes,
//! never the answer.
//!
//! A guess is what followed the last time that the sequence ended as it does now. It is made from the
//! tokens of that one sequence, never from another's, and only while there is one caller alone, nobody
//! waiting beside it: nobody's time depends on what others said. Its own does: what comes of one step is told as one piece of
//! text, but pieces come sooner one after the other for a longer text, so who watches the stream for long
//! enough sees when a text repeats itself. An engine guesses nothing unless it is told to:
//! [`crate::EngineOptions::drafts`].

/// When one sequence guesses, and how much: what guesses cost is set against what they saved.
#[derive(Debug)]
pub(crate) struct Drafter {
    /// Tokens of the next guess, at most.
    length: usize,
    /// Steps left without a guess, and how many there were the last time.
    rest: usize,
    rested: usize,
    /// What guesses have saved, in units of a row.
    balance: i64,
}

impl Default for Drafter {
    fn default() -> Self {
        Self { length: FIRST_LENGTH, rest: 0, rested: 0, balance: CREDIT }
    }
}

impl Drafter {
    /// Most tokens that the next step should guess. Called once for each step that could.
    pub(crate) const fn turn(&mut self) -> usize {
        if self.rest > 0 {
            self.rest = self.rest.saturating_sub(1);
            return 0;
        }
        self.length
    }

    /// Learns that of `guessed` tokens the first `right` ones were drawn.
    pub(crate) fn learn(&mut self, guessed: usize, right: usize) {
        let rows = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let saved = rows(right).saturating_mul(STEP_ROWS).saturating_sub(rows(guessed));
        self.balance = self.balance.saturating_add(saved).min(MOST_BALANCE);
        if self.balance < 0 {
            // One wrong guess at the end of the rest is another rest, of twice the length.
            self.balance = 0;
            self.rested = self.rested.saturating_mul(2).clamp(FIRST_REST, LONGEST_REST);
            (self.rest, self.length) = (self.rested, FIRST_LENGTH);
            return;
        }
        if saved > 0 {
            self.rested = 0;
        }
        self.length = if right == guessed {
            guessed.saturating_mul(2).clamp(FIRST_LENGTH, MAX_DRAFT_TOKENS)
        } else {
            right.saturating_add(1).clamp(FIRST_LENGTH, MAX_DRAFT_TOKENS)
        };
    }
}

/// What followed the last time that `tokens` ended as they do now, at most `most` tokens: behind the
/// longest end that was there before, of equally long ones the latest. What would follow behind the last
/// token is taken from the beginning of the guess: who repeats himself goes on with it.
pub(crate) fn guess(tokens: &[u32], most: usize) -> impl Iterator<Item = u32> {
    let (mut longest, mut found) = (LEAST_MATCH.saturating_sub(1), tokens.len());
    // An earlier end lies before the last token.
    for end in (LEAST_MATCH..tokens.len()).rev() {
        let (earlier, _) = tokens.split_at(end);
        let both = earlier.iter().rev().zip(tokens.iter().rev()).take(LONGEST_MATCH);
        let length = both.take_while(|(a, b)| a == b).count();
        if length > longest {
            (longest, found) = (length, end);
            if length == LONGEST_MATCH {
                break;
            }
        }
    }
    tokens.get(found..).unwrap_or_default().iter().copied().cycle().take(most)
}

/// Most tokens of one guess: with the last token of the sequence the eight rows that products and
/// attention compute at once.
pub(crate) const MAX_DRAFT_TOKENS: usize = 7;
/// Tokens of a guess nothing is known about.
const FIRST_LENGTH: usize = 2;
/// Fewest tokens that must have been there before, in that order. Two are found everywhere and say little.
const LEAST_MATCH: usize = 3;
/// Tokens that are compared at most. It bounds the work of a step: this many for each token there is.
const LONGEST_MATCH: usize = 8;
/// What a step of one row takes, in rows added to another step. On a processor a row costs a seventh to a
/// quarter of a step, less in larger models; so a guess counts as paid for a little late.
const STEP_ROWS: i64 = 4;
/// What a sequence may lose before it rests the first time: two wrong guesses.
const CREDIT: i64 = 4;
/// What is remembered of good times: a text that stops to repeat itself is noticed after a few guesses.
const MOST_BALANCE: i64 = 16;
/// Steps of the first rest, and of the longest one.
const FIRST_REST: usize = 16;
const LONGEST_REST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(tokens: &[u32], most: usize) -> Vec<u32> {
        guess(tokens, most).collect()
    }

    #[test]
    fn guesses_what_followed_the_longest_end_and_of_equals_the_latest() {
        assert_eq!(guessed(&[1, 2, 3, 9, 8, 7, 1, 2, 3], 2), [9, 8]);
        assert_eq!(guessed(&[1, 2, 3, 4, 0, 1, 2, 3, 5, 0, 1, 2, 3], 1), [5], "the latest");
        assert_eq!(guessed(&[7, 1, 2, 3, 4, 0, 1, 2, 3, 5, 7, 1, 2, 3], 1), [4], "the longest");
    }

    #[test]
    fn a_guess_behind_the_last_token_goes_on_with_its_beginning() {
        assert_eq!(guessed(&[5, 5, 5, 5], 3), [5, 5, 5]);
        assert_eq!(guessed(&[1, 2, 3, 1, 2, 3], 7), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(guessed(&[1, 2, 3, 1, 2, 3], 0), [0u32; 0]);
    }

    #[test]
    fn guesses_nothing_from_fewer_tokens_than_say_something() {
        for tokens in [&[][..], &[1], &[1, 1, 1], &[1, 2, 9, 1, 2], &[1, 2, 3, 4, 5, 6]] {
            assert_eq!(guessed(tokens, 7), [0u32; 0], "{tokens:?}");
        }
        assert_eq!(guessed(&[3, 1, 2, 9, 3, 1, 2], 1), [9], "one more does");
    }

    #[test]
    fn right_guesses_grow_to_the_longest_and_wrong_ones_shrink_to_what_was_right() {
        let mut drafter = Drafter::default();
        let lengths: Vec<_> = (0..4)
            .map(|_| {
                let length = drafter.turn();
                drafter.learn(length, length);
                length
            })
            .collect();
        assert_eq!(lengths, [2, 4, 7, 7]);
        drafter.learn(7, 3);
        assert_eq!(drafter.turn(), 4);
    }

    /// Steps that guess among the first `steps` of a sequence whose guesses are all wrong.
    fn wrong(drafter: &mut Drafter, steps: usize) -> usize {
        let guesses = (0..steps).filter(|_| {
            let length = drafter.turn();
            if length > 0 {
                drafter.learn(length, 0);
            }
            length > 0
        });
        guesses.count()
    }

    #[test]
    fn who_guesses_wrong_rests_longer_each_time_and_a_right_guess_ends_it() {
        assert_eq!(
            wrong(&mut Drafter::default(), 1000),
            9,
            "three, then behind 16, 32, …, 256, 256"
        );
        let mut drafter = Drafter::default();
        wrong(&mut drafter, 1000);
        while drafter.turn() == 0 {}
        drafter.learn(2, 2);
        assert_eq!(wrong(&mut drafter, 20), 4, "as if it were new, with what it gained");
    }

    #[test]
    fn good_times_are_forgotten_within_a_few_guesses() {
        let mut drafter = Drafter::default();
        for _ in 0..1000 {
            drafter.learn(7, 7);
        }
        let before = (0..).take_while(|_| {
            let length = drafter.turn();
            drafter.learn(length, 0);
            length > 0
        });
        assert!(before.count() <= 8);
    }
}
