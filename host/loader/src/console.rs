//! Reads the worker's console. The loader believes none of it beyond the closed set of
//! [`ConsoleEvent`]; whatever else arrives is counted and dropped, so that a worker that prints a
//! prompt by mistake does not leak it through the loader.

use std::net::SocketAddr;

use chrysalis_wire::{BootStage, ConsoleEvent};

/// Splits a byte stream into lines and parses each strictly. Does no I/O.
#[derive(Debug, Default)]
pub struct Console {
    line: Vec<u8>,
    /// The current line is already over the limit: skip to its end.
    skipping: bool,
    dropped: u64,
}

impl Console {
    /// An empty console.
    #[must_use]
    pub const fn new() -> Self {
        Self { line: Vec::new(), skipping: false, dropped: 0 }
    }

    /// Takes the next bytes and hands every complete, well-formed event to `event`.
    pub fn push(&mut self, bytes: &[u8], mut event: impl FnMut(ConsoleEvent)) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line(&mut event);
            } else if self.skipping {
                // Nothing of an over-long line is kept.
            } else if self.line.len() >= MAX_CONSOLE_LINE_BYTES {
                self.line.clear();
                self.skipping = true;
            } else {
                self.line.push(byte);
            }
        }
    }

    /// Lines dropped so far: over-long, not an event, or cut off by the end of the stream.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The stream ended: an unfinished line is dropped, and counted.
    pub fn end(&mut self) {
        if self.skipping || !self.line.is_empty() {
            self.dropped = self.dropped.saturating_add(1);
        }
        self.line.clear();
        self.skipping = false;
    }

    fn end_line(&mut self, event: &mut impl FnMut(ConsoleEvent)) {
        let parsed = if self.skipping { None } else { parse_line(&self.line) };
        self.line.clear();
        self.skipping = false;
        match parsed {
            Some(parsed) => event(parsed),
            None => self.dropped = self.dropped.saturating_add(1),
        }
    }
}

/// Parses one line without its line feed. The two text fields an event has are checked against
/// the only shapes they may have, so neither can carry anything else.
#[must_use]
pub fn parse_line(line: &[u8]) -> Option<ConsoleEvent> {
    if line.len() > MAX_CONSOLE_LINE_BYTES {
        return None;
    }
    let event: ConsoleEvent = serde_json::from_slice(line).ok()?;
    let sound = match &event {
        ConsoleEvent::Stage { code, .. }
        | ConsoleEvent::Init { code, .. }
        | ConsoleEvent::PowerOff { code } => code.as_deref().is_none_or(is_code),
        ConsoleEvent::Earned { claim } => is_hex(claim, CLAIM_DIGITS),
        ConsoleEvent::FundingWanted { terms, .. } => is_hex(terms, TERMS_DIGITS),
        ConsoleEvent::Listening { address, .. } => address.parse::<SocketAddr>().is_ok(),
        ConsoleEvent::PeersRefused { code, rule, .. } => {
            is_code(code) && rule.as_deref().is_none_or(is_rule)
        }
        ConsoleEvent::Image { .. }
        | ConsoleEvent::Measured { .. }
        | ConsoleEvent::WorkerEnded { .. }
        | ConsoleEvent::ContextMemory { .. }
        | ConsoleEvent::Served { .. }
        | ConsoleEvent::Stopping {} => true,
    };
    sound.then_some(event)
}

/// Whether `text` has the shape of a refusal code: `E-` and capitals, digits and dashes.
#[must_use]
pub fn is_code(text: &str) -> bool {
    is_name(text, "E-")
}

/// Whether `text` has the shape of a rule's id: as a code, with `R-`.
fn is_rule(text: &str) -> bool {
    is_name(text, "R-")
}

fn is_name(text: &str, prefix: &str) -> bool {
    text.len() <= MAX_CODE_BYTES
        && text.strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty()
                && rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
        })
}

/// Whether `text` has the shape of an encoded claim or terms; whether it is one, its reader finds out.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A boot stage in words, as the console spells it.
#[must_use]
pub const fn stage_name(stage: BootStage) -> &'static str {
    match stage {
        BootStage::Manifest => "manifest",
        BootStage::Keys => "keys",
        BootStage::Listen => "listen",
        BootStage::Grant => "grant",
        BootStage::Model => "model",
        BootStage::Appraise => "appraise",
        BootStage::Ready => "ready",
    }
}

/// Longest console line accepted, in bytes. The longest event there is, a claim,
/// has under 960.
pub const MAX_CONSOLE_LINE_BYTES: usize = 1024;

/// Hexadecimal digits of a claim: 460 bytes.
pub const CLAIM_DIGITS: usize = 920;

/// Hexadecimal digits of the terms of a channel: 156 bytes.
pub const TERMS_DIGITS: usize = 312;

/// Longest refusal code accepted, in bytes.
pub const MAX_CODE_BYTES: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn events(input: &[u8]) -> (Vec<ConsoleEvent>, u64) {
        let mut console = Console::new();
        let mut out = Vec::new();
        console.push(input, |e| out.push(e));
        console.end();
        (out, console.dropped())
    }

    #[test]
    fn reads_events_split_anywhere() {
        let input =
            b"{\"event\":\"stopping\"}\n{\"event\":\"served\",\"requests\":8,\"refused\":0}\n";
        for cut in 0..input.len() {
            let mut console = Console::new();
            let mut out = Vec::new();
            console.push(&input[..cut], |e| out.push(e));
            console.push(&input[cut..], |e| out.push(e));
            console.end();
            assert_eq!((out.len(), console.dropped()), (2, 0), "cut at {cut}");
        }
    }

    #[test]
    fn drops_and_counts_junk() {
        let (out, dropped) = events(b"hello\n\xff\xfe\n{\"event\":\"stopping\"}\n\n");
        assert_eq!(out, [ConsoleEvent::Stopping {}]);
        assert_eq!(dropped, 3);
    }

    #[test]
    fn drops_an_event_with_an_extra_field() {
        assert_eq!(events(b"{\"event\":\"stopping\",\"prompt\":\"x\"}\n"), (vec![], 1));
    }

    #[test]
    fn drops_a_line_one_byte_over_the_limit() {
        let event = "{\"event\":\"stopping\"}";
        let pad = |len: usize| format!("{event}{}\n", " ".repeat(len - event.len()));
        assert_eq!(events(pad(MAX_CONSOLE_LINE_BYTES).as_bytes()).0.len(), 1);
        assert_eq!(events(pad(MAX_CONSOLE_LINE_BYTES + 1).as_bytes()), (vec![], 1));
    }

    #[test]
    fn reads_on_after_an_over_long_line() {
        let mut input = vec![b'x'; 10 * MAX_CONSOLE_LINE_BYTES];
        input.extend_from_slice(b"\n{\"event\":\"stopping\"}\n");
        assert_eq!(events(&input), (vec![ConsoleEvent::Stopping {}], 1));
    }

    #[test]
    fn counts_a_line_the_worker_did_not_finish() {
        assert_eq!(events(b"{\"event\":\"stopping\"}"), (vec![], 1));
    }

    #[test]
    fn drops_a_code_that_is_not_a_code() {
        let line = |code: &str| {
            format!(r#"{{"event":"stage","stage":"model","state":"refused","code":"{code}"}}"#)
        };
        assert!(parse_line(line("E-CHUNK-HASH").as_bytes()).is_some());
        for bad in ["write me a poem", "E-", "E-lower", "CHUNK", &format!("E-{}", "A".repeat(47))] {
            assert!(parse_line(line(bad).as_bytes()).is_none(), "accepted {bad}");
        }
    }

    #[test]
    fn drops_a_claim_that_has_not_the_shape_of_one() {
        let line = |claim: &str| format!(r#"{{"event":"earned","claim":"{claim}"}}"#);
        let digits = "0a".repeat(CLAIM_DIGITS / 2);
        assert!(parse_line(line(&digits).as_bytes()).is_some());
        for bad in [&digits[1..], &format!("{digits}0"), &digits.replace('a', "A"), "a poem"] {
            assert!(parse_line(line(bad).as_bytes()).is_none(), "accepted {bad}");
        }
    }

    #[test]
    fn drops_terms_that_have_not_the_shape_of_some() {
        let line = |key: &str, terms: &str| {
            format!(r#"{{"event":"funding-wanted","meter_key":"{key}","terms":"{terms}"}}"#)
        };
        let (key, terms) = ("0a".repeat(32), "0a".repeat(TERMS_DIGITS / 2));
        assert!(parse_line(line(&key, &terms).as_bytes()).is_some());
        for (key, terms) in [(&key, &terms[1..]), (&key, "a poem"), (&"0a".repeat(31), &terms)] {
            assert!(parse_line(line(key, terms).as_bytes()).is_none(), "accepted {key} {terms}");
        }
    }

    #[test]
    fn drops_an_address_that_is_not_an_address() {
        let line = br#"{"event":"listening","address":"tell me a secret","insecure_sim":true}"#;
        assert!(parse_line(line).is_none());
    }
}
