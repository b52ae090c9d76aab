//! `chrysalis serve`: the OpenAI API on this machine, in front of one attested worker. Programs
//! on this machine are trusted with their own prompts, the network is not. Pins and collateral are
//! read again when their files change; what they deny then is ended, also in the middle of an answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use chrysalis_client::{Exposure, Gateway, Keep, Payer, ReceiptStore};
use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::args::{listen, state_dir};
use crate::commands::ask::receipts;
use crate::commands::pay::{Pay, warn_when_near};
use crate::commands::reload::{Seen, follow};
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::signals::Signals;
use crate::transcript;
use crate::verifier::{EVIDENCE, Policy};
use crate::waiting::Waiting;

/// `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The worker, `HOST:PORT`.
    #[arg(long, value_name = "ADDR")]
    worker: String,
    #[command(flatten)]
    policy: Policy,
    /// Address of the API.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000", value_parser = listen)]
    listen: SocketAddr,
    /// Allow an address that others can reach. They speak plain HTTP to it and can read prompts.
    #[arg(long)]
    allow_remote: bool,
    /// Keep every request and answer beside its receipt, so that `receipt verify` can check them.
    /// Whoever reads the state directory can read them.
    #[arg(long)]
    keep_transcripts: bool,
    #[command(flatten)]
    pay: Pay,
    /// Directory that receipts are kept under.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Serve, context: &Context) -> Result<ExitCode, Failure> {
    let exposure = if arguments.allow_remote { Exposure::Network } else { Exposure::LoopbackOnly };
    let keep = if arguments.keep_transcripts { Keep::Words } else { Keep::Receipt };
    let directory = receipts(arguments.state.as_ref())?;
    let store = ReceiptStore::open(&directory)?;
    let state = state_dir(arguments.state.as_ref())?;
    let seen = Seen::of(&arguments.policy);
    let worker = arguments.policy.worker(&arguments.worker, context)?;
    context.block_on(async {
        let listener = Gateway::bind(arguments.listen, exposure).await?;
        let listen = listener.local_addr().map_err(runtime)?;
        let waiting = Waiting::for_(context.report, EVIDENCE);
        let attestation = worker.attest().await?;
        drop(waiting);
        let verdict = attestation.verdict();
        context.report.notes(verdict, |out| transcript::verdict(out, verdict));
        let attested = attestation.accept()?;
        let evidence = attested.evidence().await;
        let payer = arguments.pay.attach(&attested, &state, context).await?;
        let serving = Serving {
            base_url: format!("http://{listen}/v1"),
            model: evidence.verified.manifest().model.name.clone(),
            insecure_sim: evidence.verified.insecure_sim(),
            receipts: directory.display().to_string(),
            keeps_transcripts: arguments.keep_transcripts,
            channel: payer.as_ref().map(|payer| format!("0:{}", payer.channel().account)),
            pay_limit: payer.as_ref().map(|payer| payer.standing().limit.to_string()),
        };
        context.report.result("chrysalis/serve/v1", &serving, |out| {
            if serving.insecure_sim {
                out.warning("INSECURE-SIM  the worker is simulated; its host can read everything")?;
            }
            out.field("base_url", &serving.base_url)?;
            out.field("model", &serving.model)?;
            out.field("receipts", &serving.receipts)?;
            if let (Some(channel), Some(limit)) = (&serving.channel, &serving.pay_limit) {
                out.field("channel", channel)?;
                out.field("pays at most", format_args!("{limit} nanogram"))?;
            }
            if serving.keeps_transcripts {
                out.line("Requests and answers are kept beside the receipts.")?;
            }
            Ok(())
        })?;
        let judged = attested.worker().clone();
        let gateway = Gateway::new(attested.clone(), store, exposure, keep);
        tokio::select! {
            stopped = until_stopped(gateway, listener, context) => stopped?,
            () = follow(seen, &arguments.policy, &judged, context) => {}
            () = watch_budget(payer.as_ref(), context) => {}
        }
        // The last answer's claim, if it was not collected yet. The worker may be gone already.
        if let Err(error) = attested.collect_claim().await
            && error.ends_payments()
        {
            return Err(error.into());
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Serves until the first signal, then until the answers in progress are complete or a second one
/// comes. What is broken off then is an error for whoever waits for it.
async fn until_stopped(
    gateway: Gateway,
    listener: TcpListener,
    context: &Context,
) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = gateway.serve(listener, async move { drop(stopped.await) });
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return Ok(()),
        () = signals.next() => drop(stop),
    }
    tokio::select! {
        biased;
        () = &mut serving => return Ok(()),
        () = tokio::time::sleep(QUIET_STOP) => {}
    }
    context.report.note("stopping after the answers in progress; interrupt again to stop at once");
    tokio::select! {
        () = &mut serving => {}
        () = signals.next() => context.report.note("stopped; unfinished answers were broken off"),
    }
    Ok(())
}

/// Says once when the budget is nearly used up; never ends.
async fn watch_budget(payer: Option<&Payer>, context: &Context) {
    let Some(payer) = payer else { return core::future::pending().await };
    let warned = AtomicBool::new(false);
    let mut interval = tokio::time::interval(BUDGET_INTERVAL);
    loop {
        interval.tick().await;
        warn_when_near(payer, context, &warned);
    }
}

fn runtime(error: std::io::Error) -> Failure {
    Failure::new(Class::Internal, "E-RUNTIME", error.to_string())
}

#[derive(Serialize)]
struct Serving {
    base_url: String,
    model: String,
    insecure_sim: bool,
    receipts: String,
    keeps_transcripts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pay_limit: Option<String>,
}

/// How often the budget is looked at.
const BUDGET_INTERVAL: Duration = Duration::from_secs(1);
/// A stop that takes no longer is not worth a word.
const QUIET_STOP: Duration = Duration::from_millis(300);
