//! `chrysalis ask`: appraise, seal, stream, verify. The answer goes to standard output, what was
//! checked to standard error. The prompt is the user's secret and is repeated nowhere.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use chrysalis_client::{Completed, Keep, Question, ReceiptStore, ask as question_and_answer};
use chrysalis_receipt::ReceiptReport;
use chrysalis_wire::{RequestId, SecretBytes};
use clap::Args;
use serde::Serialize;

use crate::args::state_dir;
use crate::commands::pay::{Pay, warn_when_near};
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::signals::Signals;
use crate::transcript;
use crate::verifier::{EVIDENCE, Policy};
use crate::waiting::Waiting;

/// `ask`.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The worker, `HOST:PORT`.
    #[arg(long, value_name = "ADDR")]
    worker: String,
    #[command(flatten)]
    policy: Policy,
    /// Most tokens of the answer; by default what the worker's manifest allows.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// Instructions before the prompt.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Sampling temperature; 0 is greedy.
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Seed of the sampler.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keep question and answer beside the receipt, so that `receipt verify` can check them.
    /// Whoever reads the state directory can read them.
    #[arg(long)]
    keep_transcript: bool,
    #[command(flatten)]
    pay: Pay,
    /// Directory that receipts are kept under.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The prompt, or `-` to read it from standard input, where no process list shows it.
    #[arg(value_name = "PROMPT")]
    prompt: String,
}

pub(crate) fn run(arguments: &Ask, context: &Context) -> Result<ExitCode, Failure> {
    let prompt = prompt(&arguments.prompt)?;
    let text = core::str::from_utf8(prompt.expose()).map_err(|_| {
        Failure::new(Class::Malformed, "E-PROMPT", "the prompt is not UTF-8 text").next("send text")
    })?;
    if text.trim().is_empty() {
        return Err(Failure::new(Class::Usage, "E-PROMPT", "the prompt is empty")
            .next("give a prompt, or `-` and a prompt on standard input"));
    }
    let question = Question {
        system: arguments.system.as_deref(),
        prompt: text,
        max_tokens: arguments.max_tokens,
        temperature: arguments.temperature,
        seed: arguments.seed,
        keep: if arguments.keep_transcript { Keep::Words } else { Keep::Receipt },
    };
    // Before anything is sent: an answer that is paid for must have a place for its receipt.
    let store = ReceiptStore::open(receipts(arguments.state.as_ref())?)?;
    let worker = arguments.policy.worker(&arguments.worker, context)?;
    let (answer, completed) = context.block_on(async {
        let waiting = Waiting::for_(context.report, EVIDENCE);
        let attestation = worker.attest().await?;
        drop(waiting);
        let report = &context.report;
        report.notes(attestation.verdict(), |out| transcript::verdict(out, attestation.verdict()));
        let attested = attestation.accept()?;
        let state = state_dir(arguments.state.as_ref())?;
        let payer = arguments.pay.attach(&attested, &state, context).await?;
        let mut signals = Signals::catch()?;
        let mut answer = Answer::new(context);
        let completed = tokio::select! {
            completed = question_and_answer(
                &attested,
                &question,
                |piece| answer.take(piece),
                |failed| keep(&store, &failed, context),
            ) => {
                completed.map_err(Failure::from)
            }
            // Dropping the question closes the connection, and the worker stops.
            () = signals.next() => Err(interrupted()),
        };
        let answered = answer.finish(completed)?;
        // Where the channel stands now. An answer that arrived stays one if the worker does not say.
        if let Err(error) = attested.collect_claim().await
            && error.ends_payments()
        {
            context.report.note(&format!("{}: {error}", error.code()));
        }
        if let Some(payer) = payer {
            warn_when_near(&payer, context, &AtomicBool::new(false));
        }
        Ok(answered)
    })?;
    let path = store.save_completed(&completed)?;
    report(answer, &completed, &path.display().to_string(), context)?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps the receipt of an answer that failed: what it cost is in the channel's sum.
pub(crate) fn keep(store: &ReceiptStore, failed: &Completed, context: &Context) {
    let id = failed.stored.request_id();
    match store.save_completed(failed) {
        Ok(path) => context.report.note(&format!("its receipt is in {}", path.display())),
        Err(error) => context.report.note(&format!("the receipt of {id} was not kept: {error}")),
    }
}

/// Where `ask` and `serve` keep receipts.
pub(crate) fn receipts(state: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    Ok(state_dir(state)?.join("receipts"))
}

fn report(
    answer: String,
    completed: &Completed,
    path: &str,
    context: &Context,
) -> Result<(), Failure> {
    let insecure_sim = completed.stored.insecure_sim();
    if context.report.is_json() {
        let body = AnswerBody {
            answer,
            request_id: completed.stored.request_id(),
            insecure_sim,
            receipt: path,
            checks: &completed.report,
        };
        return context.report.result("chrysalis/answer/v1", &body, |_| Ok(()));
    }
    context.report.notes(&(), |out| {
        transcript::receipt(out, &completed.report)?;
        let sim = if insecure_sim { " (INSECURE-SIM: it is worth nothing)" } else { "" };
        out.verdict(true, &format!("The answer is complete and its receipt holds{sim}."))?;
        out.field("receipt", path)
    });
    Ok(())
}

/// The answer as it arrives: to standard output at once for a person, kept until it is verified
/// for a program.
struct Answer<'a> {
    context: &'a Context,
    text: String,
    written: bool,
    broken: Option<Failure>,
    waiting: Option<Waiting>,
}

impl<'a> Answer<'a> {
    fn new(context: &'a Context) -> Self {
        let waiting = Some(Waiting::for_(context.report, "the answer"));
        Self { context, text: String::new(), written: false, broken: None, waiting }
    }

    fn take(&mut self, piece: &str) {
        if self.context.report.is_json() {
            self.text.push_str(piece);
        } else if self.broken.is_none() {
            // From here on the answer itself shows that it comes.
            self.waiting = None;
            self.broken = self.context.report.foreign(piece).err();
            self.written = true;
        }
    }

    fn finish(
        mut self,
        completed: Result<Box<Completed>, Failure>,
    ) -> Result<(String, Box<Completed>), Failure> {
        self.waiting = None;
        if self.written {
            self.context.report.out(b"\n")?;
        }
        match completed {
            Ok(completed) => self.broken.map_or(Ok((self.text, completed)), Err),
            Err(error) => {
                if self.written {
                    self.context.report.note("What was printed is INCOMPLETE. Do not use it.");
                }
                Err(error)
            }
        }
    }
}

fn interrupted() -> Failure {
    let message = "interrupted before the answer was complete; there is no receipt for it";
    Failure::new(Class::Internal, "E-INTERRUPTED", message).next("ask again")
}

fn prompt(argument: &str) -> Result<SecretBytes, Failure> {
    if argument != "-" {
        return Ok(SecretBytes::new(argument.as_bytes().to_vec()));
    }
    // One buffer of the final size: growing would leave unwiped copies behind.
    let mut bytes = Vec::with_capacity(MAX_PROMPT_BYTES.saturating_add(1));
    std::io::stdin()
        .take((MAX_PROMPT_BYTES as u64).saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::new(Class::Internal, "E-STDIN", e.to_string()))?;
    let prompt = SecretBytes::new(bytes);
    if prompt.len() > MAX_PROMPT_BYTES {
        let message = format!("the prompt is over the limit of {MAX_PROMPT_BYTES} bytes");
        return Err(Failure::new(Class::Malformed, "E-PROMPT-SIZE", message).next("shorten it"));
    }
    Ok(prompt)
}

#[derive(Serialize)]
struct AnswerBody<'a> {
    answer: String,
    request_id: RequestId,
    insecure_sim: bool,
    receipt: &'a str,
    checks: &'a ReceiptReport,
}

/// Largest prompt read from standard input, in bytes; a worker's limit is usually lower.
const MAX_PROMPT_BYTES: usize = 4 * 1024 * 1024;
