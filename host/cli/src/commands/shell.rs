//! `chrysalis completions` and `chrysalis man`: what a shell and `man` know of this program, made
//! from the definition of the command line itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use serde::Serialize;

use crate::args::Cli;
use crate::context::Context;
use crate::exit::Failure;
use crate::files::{self, Existing};

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell; the script goes to standard output.
    shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory the pages are written to, one for each command.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn completions(arguments: &Completions, context: &Context) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "chrysalis", &mut script);
    let text = String::from_utf8_lossy(&script);
    let body = Script { shell: arguments.shell.to_string(), script: &text };
    if context.report.is_json() {
        context.report.result("chrysalis/completions/v1", &body, |_| Ok(()))?;
    } else {
        context.report.out(&script)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(arguments: &Man, context: &Context) -> Result<ExitCode, Failure> {
    std::fs::create_dir_all(&arguments.out)
        .map_err(|e| Failure::file("create", &arguments.out, &e))?;
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    write_pages(&root, "chrysalis", &arguments.out, &mut pages)?;
    let body = Pages { pages: &pages };
    context.report.result("chrysalis/man/v1", &body, |out| {
        pages.iter().try_for_each(|page| out.line(page))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and those of its subcommands, as far as they are shown.
fn write_pages(
    command: &Command,
    name: &str,
    out: &Path,
    pages: &mut Vec<String>,
) -> Result<(), Failure> {
    let path = out.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name)
        .render(&mut page)
        .map_err(|e| Failure::file("write", &path, &e))?;
    files::write(&path, &page, Existing::Replace)?;
    pages.push(path.display().to_string());
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    for subcommand in shown {
        write_pages(subcommand, &format!("{name}-{}", subcommand.get_name()), out, pages)?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Script<'a> {
    shell: String,
    script: &'a str,
}

#[derive(Serialize)]
struct Pages<'a> {
    pages: &'a [String],
}
