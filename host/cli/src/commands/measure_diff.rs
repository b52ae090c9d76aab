//! `chrysalis measure diff` and `measure explain`: what changed between two measurements, or what
//! one is made of. The inputs may come from anybody; comparing verifies no signature and says so.

use std::path::PathBuf;
use std::process::ExitCode;

use chrysalis_measure::tdx::diff::{
    Diff as Compared, Difference, Explanation, compare, explain as explain_side, html_of_diff,
    html_of_explanation,
};
use clap::Args;

use crate::commands::measure_input::Inputs;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};
use crate::report::Text;

/// `measure diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// What was expected: image directory, release (folder or name), prediction (JSON), quote,
    /// attestation, event log (plain or gzip) or worker manifest.
    #[arg(value_name = "A")]
    expected: PathBuf,
    /// What was found.
    #[arg(value_name = "B")]
    found: PathBuf,
    /// Worker manifest of image B, where it is not the one of image A.
    #[arg(long, value_name = "FILE")]
    found_manifest: Option<PathBuf>,
    /// Model bundle of image B, where it is not the one of image A.
    #[arg(long, value_name = "FILE")]
    found_bundle: Option<PathBuf>,
    #[command(flatten)]
    more: More,
}

/// `measure explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Image directory, release (folder or name), prediction (JSON), quote, attestation, event log
    /// (plain or gzip) or worker manifest.
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    #[command(flatten)]
    more: More,
}

#[derive(Debug, Args)]
struct More {
    /// Write the report as one HTML file as well.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    inputs: Inputs,
}

pub(crate) fn diff(arguments: &Diff, context: &Context) -> Result<ExitCode, Failure> {
    let inputs = &arguments.more.inputs;
    let own = inputs.workload();
    let expected = inputs.side(&arguments.expected, own)?;
    let other = own.or(arguments.found_manifest.as_deref(), arguments.found_bundle.as_deref());
    if other != own && !inputs.takes_workload(&arguments.found) {
        let message = "--found-manifest and --found-bundle belong to an image or a release as B";
        return Err(Failure::new(Class::Usage, "E-USAGE", message)
            .compared("an image directory or a release as B", arguments.found.display())
            .next("leave them out, or name the image directory"));
    }
    let found = inputs.side(&arguments.found, other)?;
    inputs.used(&[&expected, &found])?;
    let result = compare(&expected, &found)?;
    arguments.more.write_html(&html_of_diff(&result))?;
    context.report.result("chrysalis/measure-diff/v1", &result, |out| show_diff(&result, out))?;
    Ok(if result.equal { ExitCode::SUCCESS } else { Class::Refused.into() })
}

pub(crate) fn explain(arguments: &Explain, context: &Context) -> Result<(), Failure> {
    let inputs = &arguments.more.inputs;
    let side = inputs.side(&arguments.input, inputs.workload())?;
    inputs.used(&[&side])?;
    let explained = explain_side(&side);
    arguments.more.write_html(&html_of_explanation(&explained))?;
    context
        .report
        .result("chrysalis/measure-explain/v1", &explained, |out| show_explanation(&explained, out))
}

impl More {
    fn write_html(&self, page: &str) -> Result<(), Failure> {
        match &self.html {
            Some(path) => files::write(path, page.as_bytes(), Existing::Replace),
            None => Ok(()),
        }
    }
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
