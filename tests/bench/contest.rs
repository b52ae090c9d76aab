//! Two programs that do the same work in turn: each reads a task per line and answers with what it
//! measured. Both are our own, so a line that makes no sense is a bug and ends the run.

use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use chrysalis_tests::Killed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One piece of work: continue `prompt` greedily by one token and then by `decode` more.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) prompt: String,
    pub(crate) decode: u32,
}

/// The first line of a contestant.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) about: String,
}

/// How long one task took.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Timed {
    pub(crate) prompt_tokens: u32,
    /// From text to the first token.
    pub(crate) prefill_seconds: f64,
    /// From the first token to the last.
    pub(crate) decode_seconds: f64,
}

/// A program that takes part.
pub(crate) struct Contestant {
    // Before the process: it is killed last, after its input was closed.
    tasks: ChildStdin,
    answers: BufReader<ChildStdout>,
    process: Killed,
    program: String,
}

impl Contestant {
    /// Starts `command` and waits until it has loaded its model.
    pub(crate) fn start(command: &mut Command) -> Result<(Self, Hello)> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut process = Killed(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context(program.clone())?,
        );
        let tasks = process.0.stdin.take().context("no standard input")?;
        let answers = BufReader::new(process.0.stdout.take().context("no standard output")?);
        let mut contestant = Self { tasks, answers, process, program };
        let hello = contestant.hear()?;
        Ok((contestant, hello))
    }

    /// Lets it do `task`.
    pub(crate) fn time(&mut self, task: &Task) -> Result<Timed> {
        say(&mut self.tasks, task)?;
        self.hear()
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("{} ended ({}) before it answered", self.program, self.process.0.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.program))
    }
}

/// Writes one line.
pub(crate) fn say(out: &mut impl std::io::Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
