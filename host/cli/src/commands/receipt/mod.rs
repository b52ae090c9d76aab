//! `chrysalis receipt`: shows, verifies and proves receipt files, without any worker. Files are
//! untrusted; what holds is said by the checks alone.

mod chain;
mod counted;
pub(crate) mod history;
mod prove;
mod show;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrysalis_client::limits::MAX_STORED_RECEIPT_BYTES;
use chrysalis_client::{ReceiptStore, StoredReceipt};
use clap::Subcommand;
use serde::Serialize;

use self::chain::Chain;
use self::history::History;
use self::prove::Prove;
use self::verify::Verify;
use crate::commands::ask::receipts;
use crate::context::Context;
use crate::exit::Failure;
use crate::files;

/// What to do with a receipt.
#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// List the stored receipts, newest first.
    List {
        /// Directory that receipts are kept under.
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Say what a receipt or a proof claims and what each field means, without verifying it.
    Show {
        /// The stored receipt, or a proof of one part.
        file: PathBuf,
    },
    /// Appraise the stored evidence again and check everything the receipt or proof says.
    Verify(Verify),
    /// Write a proof for somebody else: of one part of a receipt, which shows no other part, or that a
    /// receipt is in the sum that its payer pays by.
    Prove(Prove),
    /// Write what a ledger kept of a payment channel, for `chain` to recompute.
    History(History),
    /// Recompute what a payment channel owes from its history, and say what single requests cost.
    Chain(Chain),
}

pub(crate) fn run(command: &ReceiptCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        ReceiptCommand::List { state } => list(state.as_ref(), context)?,
        ReceiptCommand::Show { file } => show::run(file, context)?,
        ReceiptCommand::Verify(arguments) => verify::run(arguments, context)?,
        ReceiptCommand::Prove(arguments) => prove::run(arguments, context)?,
        ReceiptCommand::History(arguments) => history::run(arguments, context)?,
        ReceiptCommand::Chain(arguments) => chain::run(arguments, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<StoredReceipt, Failure> {
    let bytes = files::read(path, MAX_STORED_RECEIPT_BYTES)?;
    StoredReceipt::parse(&bytes).map_err(|e| Failure::from(e).in_file(path))
}

fn list(state: Option<&PathBuf>, context: &Context) -> Result<(), Failure> {
    let directory = receipts(state)?;
    let mut paths = Vec::new();
    // Looking makes no directory.
    if directory.exists() {
        let store = ReceiptStore::open(&directory)?;
        paths.extend(store.list()?.into_iter().map(|id| store.path(id).display().to_string()));
    }
    let listed = Listed { directory: directory.display().to_string(), receipts: &paths };
    context.report.result("chrysalis/receipts/v1", &listed, |out| {
        if paths.is_empty() {
            out.line(format_args!("There is no receipt in {}.", listed.directory))?;
        }
        paths.iter().try_for_each(|path| out.line(path))
    })
}

#[derive(Serialize)]
struct Listed<'a> {
    directory: String,
    receipts: &'a [String],
}
