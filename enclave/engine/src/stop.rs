//! Stop strings. They may span tokens, so text that could still become one is held back, and text is
//! released as soon as it cannot. Stop strings come from the request and are wiped.

use zeroize::Zeroizing;

/// Watches a stream of text for the first stop string.
pub(crate) struct StopMatcher {
    stops: Vec<Zeroizing<String>>,
    held: Zeroizing<String>,
}

/// What [`StopMatcher::push`] decided.
pub(crate) struct Released {
    /// Text that is certainly part of the answer.
    pub(crate) text: Zeroizing<String>,
    /// A stop string was reached; the answer ends here.
    pub(crate) stopped: bool,
}

impl StopMatcher {
    /// A matcher for `stops`, none of which is empty.
    pub(crate) fn new(stops: Vec<Zeroizing<String>>) -> Self {
        Self { stops, held: Zeroizing::new(String::new()) }
    }

    /// Adds text.
    pub(crate) fn push(&mut self, text: &str) -> Released {
        let mut all = concat(&self.held, text);
        let first = self.stops.iter().filter_map(|stop| all.find(stop.as_str())).min();
        if let Some(at) = first {
            truncate(&mut all, at);
            self.held = Zeroizing::new(String::new());
            return Released { text: all, stopped: true };
        }
        let keep = self.stops.iter().map(|stop| overlap(&all, stop)).max().unwrap_or(0);
        let cut = all.len().saturating_sub(keep);
        self.held = concat(all.get(cut..).unwrap_or_default(), "");
        truncate(&mut all, cut);
        Released { text: all, stopped: false }
    }

    /// The end of the stream: what was held back is part of the answer after all.
    pub(crate) fn finish(&mut self) -> Zeroizing<String> {
        core::mem::replace(&mut self.held, Zeroizing::new(String::new()))
    }
}

/// Longest end of `text` that is a proper beginning of `stop`, in bytes.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices()
        .map(|(at, _)| at)
        .rev()
        .find(|at| stop.get(..*at).is_some_and(|head| text.ends_with(head)))
        .unwrap_or(0)
}

/// Shortens `text` and wipes the bytes behind the cut, which the allocation still holds.
fn truncate(text: &mut Zeroizing<String>, at: usize) {
    let kept = concat(text.get(..at).unwrap_or_default(), "");
    *text = kept;
}

/// One allocation of the exact size, so that growing leaves no copy behind.
/// Both texts in one that never grew: what a string grows out of is not wiped.
pub(crate) fn concat(a: &str, b: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(a.len().saturating_add(b.len())));
    out.push_str(a);
    out.push_str(b);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], parts: &[&str]) -> (String, bool) {
        let mut matcher =
            StopMatcher::new(stops.iter().map(|s| Zeroizing::new((*s).to_owned())).collect());
        let mut out = String::new();
        for part in parts {
            let released = matcher.push(part);
            out.push_str(&released.text);
            if released.stopped {
                return (out, true);
            }
        }
        out.push_str(&matcher.finish());
        (out, false)
    }

    #[test]
    fn stops_inside_one_piece() {
        assert_eq!(run(&["END"], &["one END two"]), ("one ".into(), true));
    }

    #[test]
    fn stops_across_every_split_of_the_stop_string() {
        let text = "so\n\nUser: next";
        for cut in 0..text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(run(&["\n\nUser:"], &[a, b]), ("so".into(), true), "cut at {cut}");
        }
        let single: Vec<String> = text.chars().map(String::from).collect();
        let parts: Vec<&str> = single.iter().map(String::as_str).collect();
        assert_eq!(run(&["\n\nUser:"], &parts), ("so".into(), true));
    }

    #[test]
    fn releases_a_partial_match_that_fails() {
        assert_eq!(run(&["abc"], &["xab", "d"]), ("xabd".into(), false));
        assert_eq!(run(&["aab"], &["aa", "a", "b"]), ("a".into(), true));
    }

    #[test]
    fn releases_what_was_held_at_the_end() {
        assert_eq!(run(&["abc"], &["xab"]), ("xab".into(), false));
    }

    #[test]
    fn holds_back_only_what_may_still_match() {
        let mut matcher = StopMatcher::new(vec![Zeroizing::new("###".to_owned())]);
        assert_eq!(matcher.push("title #").text.as_str(), "title ");
        assert_eq!(matcher.push(" ").text.as_str(), "# ");
    }

    #[test]
    fn takes_the_earliest_of_several_stops() {
        assert_eq!(run(&["zz", "b"], &["aabzz"]), ("aa".into(), true));
    }

    #[test]
    fn matches_stops_of_many_byte_characters() {
        assert_eq!(run(&["。終"], &["です。", "終わり"]), ("です".into(), true));
        assert_eq!(run(&["🦋🦋"], &["🦋", "x"]), ("🦋x".into(), false));
    }
}
