//! Two programs that do the same work in turn: each reads a task per line and answers with what it
//! measured. Both are our own, so a line that makes no sense is a bug and ends the run.

use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use chrysalis_tests::Killed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One piece of work.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Answered with [`Timed`].
    Alone(Task),
    /// Answered with [`Answered`].
    Together(Together),
}

/// Continue `prompt` greedily by one token and then by `decode` more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) prompt: String,
    pub(crate) decode: u32,
}

/// Continue several prompts at once, greedily, each by `answer` tokens or until the model ends its turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Together {
    pub(crate) prompts: Vec<String>,
    pub(crate) answer: u32,
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

/// What was made together, and how long that took from the prompts to the last token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    /// Of all answers.
    pub(crate) tokens: u32,
    pub(crate) seconds: f64,
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
        say(&mut self.tasks, &Work::Alone(task.clone()))?;
        self.hear()
    }

    /// Lets it answer several at once; tokens per second of all of them.
    pub(crate) fn together(&mut self, task: &Together) -> Result<f64> {
        say(&mut self.tasks, &Work::Together(task.clone()))?;
        let answered: Answered = self.hear()?;
        let asked = u32::try_from(task.prompts.len())?.saturating_mul(task.answer);
        let tokens = answered.tokens;
        ensure!(tokens <= asked, "{} made {tokens} tokens of {asked}", self.program);
        ensure!(tokens > asked / 2, "the model ended most of its turns early; use other prompts");
        Ok(f64::from(tokens) / answered.seconds)
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
