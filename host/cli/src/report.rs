//! The one place that writes to the terminal: results to standard output, progress and errors to
//! standard error, as text or as JSON. What it prints may come from a worker or a file, so text
//! for a terminal has its control characters escaped.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::{Class, Failure};
use crate::progress::Progress;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one JSON object with a `schema` on standard output, events on standard
    /// error.
    Json,
}

/// Writes what a command has to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    format: Format,
    colour_out: bool,
    colour_err: bool,
}

impl Report {
    /// A report in `format`; colours as `NO_COLOR`, `CLICOLOR_FORCE` and the terminal say.
    pub(crate) fn new(format: Format) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
        let colour = |terminal: bool| {
            format == Format::Text && !set("NO_COLOR") && (terminal || set("CLICOLOR_FORCE"))
        };
        Self {
            format,
            colour_out: colour(io::stdout().is_terminal()),
            colour_err: colour(io::stderr().is_terminal()),
        }
    }

    /// Whether results are JSON.
    pub(crate) const fn is_json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// The result of a command: `body` under `schema`, or the text that `text` writes.
    pub(crate) fn result<T: Serialize>(
        &self,
        schema: &'static str,
        body: &T,
        text: impl FnOnce(&mut Text) -> fmt::Result,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(&WithSchema { schema, body }),
            Format::Text => self.text(text),
        }
    }

    /// A result for people alone; the caller has written the JSON one.
    pub(crate) fn text(&self, text: impl FnOnce(&mut Text) -> fmt::Result) -> Result<(), Failure> {
        let mut out = Text { out: String::new(), colour: self.colour_out };
        // Writing to a string does not fail.
        let _ = text(&mut out);
        self.out(out.out.as_bytes())
    }

    /// A result that carries its own schema.
    pub(crate) fn json<T: Serialize>(&self, body: &T) -> Result<(), Failure> {
        let mut line = serde_json::to_vec_pretty(body)
            .map_err(|e| Failure::new(Class::Internal, "E-OUTPUT", e.to_string()))?;
        line.push(b'\n');
        self.out(&line)
    }

    /// One line of a stream of results, as compact JSON.
    pub(crate) fn json_line<T: Serialize>(&self, body: &T) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(body)
            .map_err(|e| Failure::new(Class::Internal, "E-OUTPUT", e.to_string()))?;
        line.push(b'\n');
        self.out(&line)
    }

    /// Bytes of a result, as they are. A reader that went away ends the command quietly.
    pub(crate) fn out(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| {
            let message = format!("cannot write the result: {e}");
            let failure = Failure::new(Class::Internal, "E-OUTPUT", message)
                .next("check where standard output goes");
            // `chrysalis logs | head` is no error to talk about.
            Failure { quiet: e.kind() == io::ErrorKind::BrokenPipe, ..failure }
        })
    }

    /// Text somebody else wrote: as it is into a file or pipe, escaped on a terminal.
    pub(crate) fn foreign(&self, text: &str) -> Result<(), Failure> {
        if io::stdout().is_terminal() {
            self.out(escape(text).as_bytes())
        } else {
            self.out(text.as_bytes())
        }
    }

    /// A picture in characters, for people at a terminal and nobody else.
    pub(crate) fn picture(&self, picture: &str) {
        if self.format == Format::Text && io::stderr().is_terminal() {
            error_line(picture);
        }
    }

    /// A line about what is going on, to standard error.
    pub(crate) fn note(&self, text: &str) {
        match self.format {
            Format::Text => error_line(&escape(text)),
            Format::Json => self.event(&serde_json::json!({"event": "note", "text": text})),
        }
    }

    /// Lines that [`Text`] can write, to standard error; `json` in their place for programs.
    pub(crate) fn notes<T: Serialize>(
        &self,
        json: &T,
        text: impl FnOnce(&mut Text) -> fmt::Result,
    ) {
        match self.format {
            Format::Json => self.event(json),
            Format::Text => {
                let mut out = Text { out: String::new(), colour: self.colour_err };
                let _ = text(&mut out);
                error_line(out.out.trim_end());
            }
        }
    }

    /// One JSON object on standard error.
    pub(crate) fn event<T: Serialize>(&self, event: &T) {
        if let Ok(line) = serde_json::to_string(event) {
            error_line(&line);
        }
    }

    /// Something is waited for, so far for `seconds`.
    pub(crate) fn waiting(&self, what: &str, seconds: u64) {
        match self.format {
            Format::Text => error_line(&format!("still waiting for {what} ({seconds} s)")),
            Format::Json => self
                .event(&serde_json::json!({"event": "waiting", "for": what, "seconds": seconds})),
        }
    }

    /// Progress of a step that is counted in bytes.
    pub(crate) fn progress(&self, stage: &'static str) -> Progress {
        Progress::new(stage, self.format, io::stderr().is_terminal())
    }

    /// Why the command did not succeed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.quiet {
            return;
        }
        match self.format {
            Format::Json => {
                self.event(&WithSchema { schema: ERROR_SCHEMA, body: failure });
            }
            Format::Text => {
                let mut text = Text { out: String::new(), colour: self.colour_err };
                let _ = text.failure(failure);
                error_line(text.out.trim_end());
            }
        }
    }
}

/// Text for people, with aligned fields.
pub(crate) struct Text {
    out: String,
    colour: bool,
}

impl Text {
    /// One line.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> fmt::Result {
        writeln!(self.out, "{}", escape(&text.to_string()))
    }

    /// A name and a value.
    pub(crate) fn field(&mut self, name: &str, value: impl fmt::Display) -> fmt::Result {
        writeln!(self.out, "{name:<20}{}", escape(&value.to_string()))
    }

    /// One check of a transcript.
    pub(crate) fn check(
        &mut self,
        outcome: &str,
        id: &str,
        title: &str,
        detail: &str,
    ) -> fmt::Result {
        let colour = match outcome {
            "PASS" => GREEN,
            "FAIL" => RED,
            _ => YELLOW,
        };
        self.coloured(colour, outcome)?;
        writeln!(self.out, "  {id:<18}{} — {}", escape(title), escape(detail))
    }

    /// The verdict line of a transcript.
    pub(crate) fn verdict(&mut self, good: bool, text: &str) -> fmt::Result {
        self.coloured(if good { GREEN } else { RED }, &escape(text))?;
        self.out.write_char('\n')
    }

    /// A warning nobody may overlook.
    pub(crate) fn warning(&mut self, text: &str) -> fmt::Result {
        self.coloured(YELLOW, &escape(text))?;
        self.out.write_char('\n')
    }

    fn failure(&mut self, failure: &Failure) -> fmt::Result {
        self.coloured(RED, &format!("error[{}]", escape(&failure.code)))?;
        writeln!(self.out, ": {}", escape(&failure.message))?;
        if let Some(compared) = &failure.compared {
            writeln!(self.out, "  expected: {}", escape(&compared.expected))?;
            writeln!(self.out, "  found:    {}", escape(&compared.found))?;
        }
        writeln!(self.out, "  next:     {}", escape(&failure.next_step))
    }

    fn coloured(&mut self, colour: &str, text: &str) -> fmt::Result {
        if self.colour {
            write!(self.out, "{colour}{text}{RESET}")
        } else {
            self.out.write_str(text)
        }
    }
}

/// What clap has to say, in our words and with our exit code; help and version are results.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    if asks_for_json(std::env::args_os().skip(1)) {
        let failure = Failure::new(Class::Usage, "E-USAGE", text);
        Report::new(Format::Json).failure(&failure);
    } else {
        error_line(&format!("error[E-USAGE]: {text}"));
    }
    Class::Usage.into()
}

/// Whether a command line that cannot be parsed asks for JSON all the same.
fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let mut previous = OsString::new();
    for argument in arguments {
        if argument == "--format=json" || (previous == "--format" && argument == "json") {
            return true;
        }
        previous = argument;
    }
    false
}

/// Control characters of a stranger's text, made visible. Line feeds and tabs stay.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Bidirectional controls can make one text look like another one.
        let hidden = c.is_control() && c != '\n' && c != '\t';
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hidden || reorders {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Writes one line to standard error. There is nowhere to report that this failed.
pub(crate) fn error_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[derive(Serialize)]
struct WithSchema<'a, T> {
    schema: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

/// Schema of errors in JSON.
const ERROR_SCHEMA: &str = "chrysalis/error/v1";

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(colour: bool) -> Text {
        Text { out: String::new(), colour }
    }

    #[test]
    fn an_error_says_what_was_expected_found_and_what_to_do() {
        let failure = Failure::new(Class::Refused, "E-X", "a thing differs")
            .compared("one", "two")
            .next("do it again");
        let mut out = text(false);
        out.failure(&failure).unwrap_or_default();
        let expected = "error[E-X]: a thing differs\n  expected: one\n  found:    two\n  next:     do it again\n";
        assert_eq!(out.out, expected);
    }

    #[test]
    fn a_strangers_text_cannot_move_the_cursor_or_reorder_a_line() {
        assert_eq!(escape("a\x1b[2J\nb\u{202e}c"), "a\\u{1b}[2J\nb\\u{202e}c");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let (mut plain, mut colour) = (text(false), text(true));
        let _ = plain.check("PASS", "a", "b", "c");
        let _ = colour.check("PASS", "a", "b", "c");
        assert!(!plain.out.contains('\x1b'));
        assert!(colour.out.starts_with(GREEN));
    }
}
