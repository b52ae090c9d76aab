//! `chrysalis tcb`: what a verifier has to trust, counted over a source tree and an image.

use std::path::PathBuf;

use chrysalis_image::{directory, verify};
use chrysalis_tcb::{
    Budget, Cargo, Depth, GuestFiles, MAX_BUDGET_BYTES, Outcome, ProgramReport, SourceCount,
    TcbReport, Verdict,
};
use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;
use crate::report::Text;

/// `tcb`.
#[derive(Debug, Args)]
pub(crate) struct Tcb {
    /// The source tree. Its cargo is run; nothing is built or fetched.
    #[arg(long, value_name = "DIR", default_value = ".")]
    source: PathBuf,
    /// An image directory. It is verified, and its files, modules and port are listed too.
    #[arg(long, value_name = "DIR")]
    image: Option<PathBuf>,
    /// Refuse what is over this budget, such as manifests/tcb-budget.toml.
    #[arg(long, value_name = "FILE")]
    budget: Option<PathBuf>,
    /// Read the source of dependencies as well, and list every crate.
    #[arg(long)]
    dependencies: bool,
}

pub(crate) fn run(arguments: &Tcb, context: &Context) -> Result<(), Failure> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let cargo = Cargo::new(program.into(), arguments.source.clone());
    let depth = if arguments.dependencies { Depth::Dependencies } else { Depth::Own };
    let mut report = TcbReport::of_tree(&cargo, depth)?;
    if let Some(dir) = &arguments.image {
        let verified = verify(&directory::read(dir)?, None)?;
        report.guest = Some(GuestFiles::of(verified.image(), verified.config()));
    }
    let verdicts = match &arguments.budget {
        Some(path) => Budget::parse(&files::read_text(path, MAX_BUDGET_BYTES)?)?.judge(&report)?,
        None => Vec::new(),
    };
    let shown = Shown { report: &report, budget: &verdicts };
    context.report.result("chrysalis/tcb/v1", &shown, |out| shown.text(out, depth))?;
    match verdicts.iter().find(|verdict| verdict.outcome == Outcome::Over) {
        None => Ok(()),
        Some(Verdict { program, count, at_most, found, .. }) => {
            let message = format!("{program} is over its budget of {}", count.name());
            Err(Failure::new(Class::Refused, "E-TCB-OVER", message)
                .compared(format!("at most {at_most}"), found)
                .next("make it smaller, or raise the budget and write down why"))
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    report: &'a TcbReport,
    #[serde(skip_serializing_if = "<[Verdict]>::is_empty")]
    budget: &'a [Verdict],
}

impl Shown<'_> {
    fn text(&self, out: &mut Text, depth: Depth) -> std::fmt::Result {
        for program in &self.report.programs {
            text_of(program, depth, out)?;
        }
        if let Some(guest) = &self.report.guest {
            let debug = if guest.debug { ", DEBUG" } else { "" };
            out.line(format!("image ({}{debug})", guest.platform))?;
            out.field("  measured bytes", guest.measured_bytes)?;
            out.field("  files", guest.files.len())?;
            for file in &guest.files {
                out.line(format!("    {:>10}  {}", file.size, file.path))?;
            }
            out.field("  kernel modules", guest.modules.join(" "))?;
            out.field("  open port", guest.listen_port)?;
        }
        for Verdict { program, count, at_most, found, outcome } in self.budget {
            let (word, title) = match outcome {
                Outcome::Within => ("PASS", "within the budget"),
                Outcome::Over => ("FAIL", "over the budget"),
                Outcome::Loose => ("WARN", "far below the budget, which can shrink"),
            };
            let detail = format!("{found} of {at_most}");
            out.check(word, count.name(), &format!("{program} {title}"), &detail)?;
        }
        Ok(())
    }
}

fn text_of(program: &ProgramReport, depth: Depth, out: &mut Text) -> std::fmt::Result {
    let own = &program.own;
    out.line(&program.name)?;
    out.field("  linked crates", program.linked_crates)?;
    out.field("  build-time crates", program.build_time_crates)?;
    out.field("  own code", format!("{} lines in {} files", own.lines, own.files))?;
    out.field("  own unsafe", unsafes(own))?;
    for listen in &own.listens {
        out.field("  listens", format!("{}:{}", listen.file.display(), listen.line))?;
    }
    if let Some(sum) = program.dependencies() {
        out.field("  their unsafe", format!("{}, at most", unsafes(&sum)))?;
        out.field("  their C and asm", format!("{} lines, at most", sum.foreign_lines))?;
    }
    if depth == Depth::Own {
        return Ok(());
    }
    for one in program.crates.iter().filter(|one| !one.own) {
        let Some(source) = &one.source else {
            out.line(format!("    {} {}: no source on this machine", one.name, one.version))?;
            continue;
        };
        let SourceCount { lines, unsafes, foreign_lines, .. } = source;
        out.line(format!(
            "    {} {}: {lines} lines, {} unsafe, {foreign_lines} lines of C and assembly",
            one.name,
            one.version,
            unsafes.total()
        ))?;
    }
    Ok(())
}

fn unsafes(count: &SourceCount) -> String {
    let unsafes = count.unsafes;
    format!("{} ({} blocks)", unsafes.total(), unsafes.blocks)
}
