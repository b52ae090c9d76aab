//! Which texts are computed next. Pure: it computes nothing and reads no clock.
//!
//! Requests take turns, one text each, until a step is full. So a request of one text waits for one text
//! of each of the others, however many those have; and texts of several requests share the reading of
//! the weights. A text that does not fit any more is the first of the next step.

use std::collections::VecDeque;

/// Requests and the texts of each that are not computed yet.
pub(super) struct Turns<K, T> {
    waiting: VecDeque<(K, VecDeque<T>)>,
}

impl<K: Copy, T> Turns<K, T> {
    pub(super) const fn new() -> Self {
        Self { waiting: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A request, behind those that are there.
    pub(super) fn add(&mut self, key: K, texts: VecDeque<T>) {
        if !texts.is_empty() {
            self.waiting.push_back((key, texts));
        }
    }

    /// Forgets the requests that `wanted` does not name.
    pub(super) fn keep(&mut self, wanted: impl Fn(K) -> bool) {
        self.waiting.retain(|(key, _)| wanted(*key));
    }

    /// The texts of the next step: at least one if there is any, and as many more in turn as `size` of
    /// all of them is within `budget`.
    pub(super) fn step(&mut self, budget: usize, size: impl Fn(&T) -> usize) -> Vec<(K, T)> {
        let mut step = Vec::new();
        let mut filled = 0usize;
        while let Some((key, mut texts)) = self.waiting.pop_front() {
            let next = texts.front().map_or(0, &size);
            let total = filled.saturating_add(next);
            if total > budget && !step.is_empty() {
                self.waiting.push_front((key, texts));
                break;
            }
            filled = total;
            step.extend(texts.pop_front().map(|text| (key, text)));
            self.add(key, texts);
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(requests: &[&[usize]]) -> Turns<usize, usize> {
        let mut turns = Turns::new();
        for (key, texts) in requests.iter().enumerate() {
            turns.add(key, texts.iter().copied().collect());
        }
        turns
    }

    #[test]
    fn a_request_of_one_text_waits_for_one_text_of_another() {
        let mut turns = turns(&[&[10; 1000], &[10]]);
        assert_eq!(turns.step(20, |size| *size), [(0, 10), (1, 10)]);
    }

    #[test]
    fn texts_of_one_request_fill_a_step_in_their_order() {
        let mut turns = turns(&[&[1, 2, 3, 4]]);
        assert_eq!(turns.step(6, |size| *size), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(turns.step(6, |size| *size), [(0, 4)]);
        assert!(turns.is_empty() && turns.step(6, |size| *size).is_empty());
    }

    #[test]
    fn a_text_that_does_not_fit_is_the_first_of_the_next_step() {
        let mut turns = turns(&[&[3, 3], &[9], &[3]]);
        assert_eq!(turns.step(6, |size| *size), [(0, 3)]);
        assert_eq!(turns.step(6, |size| *size), [(1, 9)], "it is computed alone");
        assert_eq!(turns.step(6, |size| *size), [(2, 3), (0, 3)]);
    }

    #[test]
    fn a_request_that_nobody_waits_for_is_forgotten() {
        let mut turns = turns(&[&[1, 1], &[2]]);
        turns.keep(|key| key != 0);
        assert_eq!(turns.step(6, |size| *size), [(1, 2)]);
    }

    proptest! {
        /// Every text is computed once, each request's in its order, no step is over its budget unless
        /// it is one text, and nobody waits for more than one text of each other request per turn.
        #[test]
        fn every_text_has_its_turn(
            requests in prop::collection::vec(prop::collection::vec(1usize..20, 0..20), 0..6),
            budget in 1usize..40,
        ) {
            let lists: Vec<&[usize]> = requests.iter().map(Vec::as_slice).collect();
            let mut turns = turns(&lists);
            let mut done = vec![Vec::new(); requests.len()];
            while !turns.is_empty() {
                let step = turns.step(budget, |size| *size);
                prop_assert!(!step.is_empty());
                let filled: usize = step.iter().map(|(_, size)| size).sum();
                prop_assert!(filled <= budget || step.len() == 1);
                for (key, size) in step {
                    done[key].push(size);
                    let open = |other: &usize| done[*other].len() < requests[*other].len();
                    let behind = (0..requests.len()).filter(open).map(|other| done[other].len()).min();
                    prop_assert!(behind.is_none_or(|least| done[key].len() <= least + 1));
                }
            }
            prop_assert_eq!(done, requests);
        }
    }
}
