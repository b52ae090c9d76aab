//! The command line. Every subcommand's arguments live beside its code in [`crate::commands`].

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{
    appraise::Appraise, ask::Ask, channel::ChannelCommand, devchain::Devchain,
    earnings::EarningsCommand, embed::Embed, funding::Funding, image::ImageCommand,
    manifest::ManifestCommand, measure::MeasureCommand, model::ModelCommand, policy::PolicyCommand,
    receipt::ReceiptCommand, release::ReleaseCommand, serve::Serve, sgx::SgxCommand,
    shape::ShapeCommand, shell::Completions, shell::Man, tcb::Tcb, vectors::VectorsCommand,
    watch::Watch, worker::Logs, worker::State, worker::Up,
};
use crate::report::Format;

/// Confidential AI inference: run a worker you cannot look into, or use one you can check.
#[derive(Debug, Parser)]
#[command(name = "chrysalis", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// How results are written; progress and errors follow on standard error.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pack, inspect, verify and unlock model bundles.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Write the measured manifest of a worker.
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Build, verify and compare confidential VM images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Predict measurements from files alone, and pin them.
    #[command(subcommand)]
    Measure(MeasureCommand),
    /// Write and check the reference values of a release, and pin them.
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Make parts of a policy from what vendors sign, and sign pins for others.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// VM shapes: the menu, and what a QEMU makes of it.
    #[command(subcommand)]
    Shape(ShapeCommand),
    /// Sign and inspect SGX enclaves, and check this machine for SGX.
    #[command(subcommand)]
    Sgx(SgxCommand),
    /// Count what must be trusted: crates, lines, unsafe, files of an image.
    Tcb(Tcb),
    /// Start a worker and keep it running.
    Up(Up),
    /// Stop the worker.
    Down(State),
    /// Say how the worker is.
    Status(State),
    /// Show the worker's boot stages and counters.
    Logs(Logs),
    /// Check a worker's evidence and show every rule.
    Appraise(Appraise),
    /// Judge conformance cases, as other implementations can.
    #[command(subcommand)]
    Vectors(VectorsCommand),
    /// Ask a worker one question over a sealed channel, and verify its receipt.
    Ask(Ask),
    /// Turn texts into vectors over a sealed channel, and verify the receipt.
    Embed(Embed),
    /// Serve the OpenAI API on this machine, with every answer verified.
    Serve(Serve),
    /// List, show, verify and prove receipts.
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Open, fill, show and close payment channels on TON.
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// Bring what a worker earned to the chain, above all when a payer closes. Needs no key.
    Watch(Watch),
    /// Show what a worker earned, what was paid of it and what comes next.
    Earnings(EarningsCommand),
    /// Run a chain of one process for trying things out; its coins have no value.
    Devchain(Devchain),
    /// Write the completions of a shell to standard output.
    Completions(Completions),
    /// Write the manual pages.
    Man(Man),
    /// The supervisor behind `up`; reads its launch from standard input.
    #[command(name = "__supervise", hide = true)]
    Supervise(Funding),
}

/// An address to listen on: `IP:PORT`, or `localhost:PORT`.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    let ip = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    ip.as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "write it as IP:PORT, such as 127.0.0.1:8443".to_owned())
}

/// Where the supervisors of this user tell each other who is paid, whatever directories they run in.
pub(crate) fn paid_dir() -> Option<PathBuf> {
    default_state().map(|state| state.join("paid"))
}

fn default_state() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name);
    let (xdg, home) = (from("XDG_STATE_HOME"), from("HOME"));
    chrysalis_loader::default_state_dir(xdg.as_deref(), home.as_deref())
}

/// The state directory: `--state`, else `$XDG_STATE_HOME/chrysalis`, else
/// `~/.local/state/chrysalis`.
pub(crate) fn state_dir(given: Option<&PathBuf>) -> Result<PathBuf, crate::exit::Failure> {
    given.cloned().or_else(default_state).ok_or_else(|| {
        let message = "there is no home directory to keep state in";
        crate::exit::Failure::new(crate::exit::Class::Usage, "E-NO-STATE", message)
            .next("give --state DIR")
    })
}
