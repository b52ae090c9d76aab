//! `chrysalis channel stopped`: the claim for which a payer signs nothing more on a channel, out of its own
//! ledger. Whoever finds out that it was owed, because the key paid from another directory as well, or who
//! would rather pay it than lose the channel, has the payments go on.

use std::io::ErrorKind;
use std::path::PathBuf;

use chrysalis_ledger::{Ledger, LedgerError, LedgerView, Overcharge, Side};
use chrysalis_wire::{Digest, NetworkId};
use clap::Args;
use serde::Serialize;

use crate::commands::chain::account;
use crate::commands::channel::amount;
use crate::commands::receipt::history::one_of;
use crate::context::Context;
use crate::exit::{Class, Failure};

/// `channel stopped`.
#[derive(Debug, Args)]
pub(crate) struct Stopped {
    /// The ledger of who pays: `payments.redb` in a client's state directory.
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// The channel, if the ledger has several.
    #[arg(long, value_name = "ADDRESS", value_parser = account)]
    channel: Option<Digest>,
    /// Owe what was claimed, and pay on.
    #[arg(long)]
    lift: bool,
    /// Amounts in nanogram.
    #[arg(long)]
    nano: bool,
}

pub(crate) fn run(arguments: &Stopped, context: &Context) -> Result<(), Failure> {
    let path = &arguments.ledger;
    if !path.is_file() {
        return Err(LedgerError::Open { path: path.clone(), kind: ErrorKind::NotFound }.into());
    }
    let writer = arguments.lift.then(|| Ledger::open(path, Side::Payer)).transpose()?;
    let view =
        writer.as_ref().map_or_else(|| LedgerView::open(path, Side::Payer), |l| Ok(l.view()));
    let view = view?;
    let id = one_of(view.each_channel()?, arguments.channel)?.id;
    let proof = match &writer {
        Some(ledger) => ledger.lift(id, context.now())?,
        None => view.memory(id)?.and_then(|memory| memory.overcharge),
    };
    let Some(Overcharge { claim, accounted }) = proof else {
        let message = "nothing stops the payments through this channel";
        return Err(Failure::new(Class::Refused, "E-NOT-STOPPED", message)
            .next("see `chrysalis receipt history` for what it paid"));
    };
    let shown = Shown {
        network: id.network,
        account: id.account,
        meter: Digest(claim.cap().cap().meter_key.to_bytes()),
        claimed_nano: claim.cum_amount().to_string(),
        accounted_nano: accounted.to_string(),
        claim: hex::encode(claim.encode()),
        lifted: arguments.lift,
    };
    context.report.result("chrysalis/channel-stopped/v1", &shown, |out| {
        let nano = arguments.nano;
        out.field("channel", format_args!("0:{} on {}", id.account, id.network))?;
        out.field("claimed", amount(claim.cum_amount(), nano))?;
        out.field("accounted for", amount(accounted, nano))?;
        out.field("by the meter", shown.meter)?;
        if arguments.lift {
            return out.line("Lifted: what was claimed is owed, and requests are paid for again.");
        }
        out.line("Both signatures on the claim hold: it proves what this meter counted.")?;
        out.line(
            "If the key paid from another state directory, that was no fault of the meter's.",
        )?;
        out.line("Next: use another worker; or owe what was claimed, and pay on, with --lift.")
    })
}

/// Amounts are decimal strings in nanogram since the channel was opened.
#[derive(Serialize)]
struct Shown {
    network: NetworkId,
    account: Digest,
    meter: Digest,
    claimed_nano: String,
    accounted_nano: String,
    /// Hexadecimal.
    claim: String,
    lifted: bool,
}
