//! `chrysalis measure diff` and `measure explain`: what changed between two measurements, or what
//! one is made of. The inputs may come from anybody; comparing verifies no signature and says so.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrysalis_measure::tdx::diff::{
    Diff as Compared, Difference, Explanation, Side, SideKind, compare, explain as explain_side,
    html_of_diff, html_of_explanation,
};
use chrysalis_measure::tdx::{
    EventLog, MAX_LOG_BYTES, MAX_PREDICTION_BYTES, TdQuote, TdxPrediction, looks_like_quote,
};
use clap::Args;

use crate::commands::measure_image::With;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};
use crate::report::Text;

/// `measure diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// What was expected: image directory, prediction (JSON), quote, attestation or event log.
    #[arg(value_name = "A")]
    expected: PathBuf,
    /// What was found.
    #[arg(value_name = "B")]
    found: PathBuf,
    #[command(flatten)]
    more: More,
}

/// `measure explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Image directory, prediction (JSON), quote, attestation or event log.
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    #[command(flatten)]
    more: More,
}

#[derive(Debug, Args)]
struct More {
    /// Event log (CCEL) of the machine whose quote is given; it must lead to the quote.
    #[arg(long, value_name = "FILE")]
    ccel: Option<PathBuf>,
    /// Write the report as one HTML file as well.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    with: With,
}

pub(crate) fn diff(arguments: &Diff, context: &Context) -> Result<ExitCode, Failure> {
    let expected = arguments.more.side(&arguments.expected)?;
    let found = arguments.more.side(&arguments.found)?;
    let quote = |side: &Side| side.kind == SideKind::QuoteWithLog;
    if arguments.more.ccel.is_some() && !quote(&expected) && !quote(&found) {
        return Err(no_quote());
    }
    let result = compare(&expected, &found)?;
    arguments.more.write_html(&html_of_diff(&result))?;
    context.report.result("chrysalis/measure-diff/v1", &result, |out| show_diff(&result, out))?;
    Ok(if result.equal { ExitCode::SUCCESS } else { Class::Refused.into() })
}

pub(crate) fn explain(arguments: &Explain, context: &Context) -> Result<(), Failure> {
    let side = arguments.more.side(&arguments.input)?;
    if arguments.more.ccel.is_some() && side.kind != SideKind::QuoteWithLog {
        return Err(no_quote());
    }
    let explained = explain_side(&side);
    arguments.more.write_html(&html_of_explanation(&explained))?;
    context
        .report
        .result("chrysalis/measure-explain/v1", &explained, |out| show_explanation(&explained, out))
}

impl More {
    /// Reads an input by what it is, not by what it is called.
    fn side(&self, path: &Path) -> Result<Side, Failure> {
        let label = path.display().to_string();
        if path.is_dir() {
            let predicted = self.with.predict(Some(path))?;
            let mark = if predicted.simulated { " (INSECURE-SIM image)" } else { "" };
            return Ok(Side::prediction(format!("{label}{mark}"), &predicted.prediction));
        }
        let bytes = files::read(path, MAX_INPUT_BYTES)?;
        if bytes.starts_with(b"{") {
            if let Some(quote) = quote_of_attestation(&bytes) {
                return self.quote(label, &quote);
            }
            return Ok(Side::prediction(label, &TdxPrediction::parse(&bytes)?));
        }
        if looks_like_quote(&bytes) {
            return self.quote(label, &bytes);
        }
        let text = core::str::from_utf8(&bytes).ok().map(str::trim);
        if let Some(quote) = text.and_then(|t| hex::decode(t).ok()).filter(|q| looks_like_quote(q))
        {
            return self.quote(label, &quote);
        }
        Ok(Side::log(label, &EventLog::parse(&bytes)?))
    }

    fn quote(&self, label: String, bytes: &[u8]) -> Result<Side, Failure> {
        let quote = TdQuote::parse(bytes)?;
        let Some(path) = &self.ccel else { return Ok(Side::quote(label, &quote)) };
        let log = EventLog::parse(&files::read(path, MAX_LOG_BYTES)?)?;
        Ok(Side::quote_with_log(label, &quote, &log)?)
    }

    fn write_html(&self, page: &str) -> Result<(), Failure> {
        match &self.html {
            Some(path) => files::write(path, page.as_bytes(), Existing::Replace),
            None => Ok(()),
        }
    }
}

/// The quote in an attestation document, as a worker answers it.
fn quote_of_attestation(json: &[u8]) -> Option<Vec<u8>> {
    let document: serde_json::Value = serde_json::from_slice(json).ok()?;
    hex::decode(document.get("quote")?.as_str()?).ok()
}

fn show_diff(diff: &Compared, out: &mut Text) -> std::fmt::Result {
    out.field("expected", format!("{} — {}", diff.expected.label, diff.expected.kind.title()))?;
    out.field("found", format!("{} — {}", diff.found.label, diff.found.kind.title()))?;
    for difference in &diff.differences {
        out.line("")?;
        show_difference(difference, out)?;
    }
    out.line("")?;
    let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
    out.field("equal", list(&diff.equal_registers))?;
    out.field("not compared", list(&diff.not_compared))?;
    match diff.differences.first() {
        None => out.verdict(true, "everything that could be compared is equal"),
        Some(first) => out.verdict(false, &format!("{} — {}", first.register, first.cause_title)),
    }
}

fn show_difference(difference: &Difference, out: &mut Text) -> std::fmt::Result {
    let certain = if difference.certain { "" } else { " (the usual cause; not certain)" };
    let code = difference.cause.code();
    out.verdict(false, &format!("{} differs: {}", difference.register, difference.cause_title))?;
    if let Some(event) = &difference.event {
        out.field("  first event", format!("{}, {}", event.index, event.component))?;
        let shown = |d: Option<chrysalis_measure::tdx::Sha384Digest>| {
            d.map_or_else(|| "none".to_owned(), |d| d.to_string())
        };
        out.field("  event expected", shown(event.expected))?;
        out.field("  event found", shown(event.found))?;
    }
    out.field("  cause", format!("{code}{certain}"))?;
    if !difference.detail.is_empty() {
        out.field("  change", &difference.detail)?;
    }
    out.field("  why", difference.why)?;
    out.field("  fix", difference.fix)?;
    if !difference.also.is_empty() {
        let also: Vec<_> = difference.also.iter().map(|c| c.title()).collect();
        out.field("  also possible", also.join("; "))?;
    }
    out.field("  expected", &difference.expected)?;
    out.field("  found", &difference.found)
}

fn show_explanation(explanation: &Explanation, out: &mut Text) -> std::fmt::Result {
    out.field("source", format!("{} — {}", explanation.label, explanation.kind.title()))?;
    for register in &explanation.registers {
        out.line("")?;
        out.field(&register.register, register.value)?;
        out.line(format!("  {}", register.about))?;
        for (index, event) in register.events.iter().enumerate() {
            out.line(format!("  {index:>2} {:<28}{}", event.component, event.digest))?;
            out.line(format!("     {}; {}", event.about, event.detail))?;
            if let (Some(status), Some(evidence)) = (event.status, &event.evidence) {
                out.line(format!("     {status}: {evidence}"))?;
            }
        }
    }
    if explanation.unknown_events == 0 {
        return Ok(());
    }
    let count = explanation.unknown_events;
    out.verdict(false, &format!("{count} events that no firmware of ours writes"))
}

fn no_quote() -> Failure {
    Failure::new(Class::Usage, "E-USAGE", "--ccel belongs to a quote, and none was given")
        .next("give the quote of the same machine, or the log itself as an input")
}

/// Largest input file, in bytes: the larger of a prediction and a log.
const MAX_INPUT_BYTES: usize =
    if MAX_PREDICTION_BYTES > MAX_LOG_BYTES { MAX_PREDICTION_BYTES } else { MAX_LOG_BYTES };
