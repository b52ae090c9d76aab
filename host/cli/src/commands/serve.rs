//! `chrysalis serve`: the OpenAI API on this machine, in front of one attested worker. Programs
//! on this machine are trusted with their own prompts, the network is not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use chrysalis_client::{Exposure, Gateway, ReceiptStore};
use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::ask::receipts;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::transcript;
use crate::verifier::Policy;

/// `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The worker, `HOST:PORT`.
    #[arg(long, value_name = "ADDR")]
    worker: String,
    #[command(flatten)]
    policy: Policy,
    /// Address of the API.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Allow an address that others can reach. They speak plain HTTP to it and can read prompts.
    #[arg(long)]
    allow_remote: bool,
    /// Directory that receipts are kept under.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Serve, context: &Context) -> Result<ExitCode, Failure> {
    let exposure = if arguments.allow_remote { Exposure::Network } else { Exposure::LoopbackOnly };
    let directory = receipts(arguments.state.as_ref())?;
    let store = ReceiptStore::open(&directory)?;
    let worker = arguments.policy.worker(&arguments.worker, context)?;
    context.block_on(async {
        let listener = Gateway::bind(arguments.listen, exposure).await?;
        let listen = listener.local_addr().map_err(runtime)?;
        let attestation = worker.attest().await?;
        let verdict = attestation.verdict();
        context.report.notes(verdict, |out| transcript::verdict(out, verdict));
        let attested = attestation.accept()?;
        let evidence = attested.evidence().await;
        let serving = Serving {
            base_url: format!("http://{listen}/v1"),
            model: evidence.verified.manifest().model.name.clone(),
            insecure_sim: evidence.verified.insecure_sim(),
            receipts: directory.display().to_string(),
        };
        context.report.result("chrysalis/serve/v1", &serving, |out| {
            out.field("base_url", &serving.base_url)?;
            out.field("model", &serving.model)?;
            out.field("receipts", &serving.receipts)
        })?;
        let stop = stop()?;
        Gateway::new(attested, store, exposure).serve(listener, stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Completes at Ctrl-C, SIGTERM or the end of the terminal.
fn stop() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(runtime)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(runtime)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
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
}
