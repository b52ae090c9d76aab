//! `chrysalis channel stopped`: the claim for which a payer signs nothing more on a channel, out of its own
//! ledger. Whoever finds out that it was owed, because the key paid from another directory as well, or who
//! would rather pay it than lose the channel, has the payments go on.

use std::io::ErrorKind;
use std::path::PathBuf;

use chrysalis_ledger::{Ledger, LedgerError, LedgerView, Side, Stopped as Stop};
use chrysalis_receipt::Claim;
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
    let stopped = match &writer {
        Some(ledger) => ledger.lift(id, context.now())?,
        None => view.memory(id)?.and_then(|memory| memory.stopped()),
    };
    let Some(stopped) = stopped else {
        let message = "nothing stops the payments through this channel";
        return Err(Failure::new(Class::Refused, "E-NOT-STOPPED", message)
            .next("see `chrysalis receipt history` for what it paid"));
    };
    let (claim, before, accounted) = match &stopped {
        Stop::Overcharge(proof) => (&proof.claim, None, Some(proof.accounted)),
        Stop::Fork(proof) => (&proof.claim, Some(&proof.before), None),
    };
    let shown = Shown {
        network: id.network,
        account: id.account,
        meter: Digest(claim.cap().cap().meter_key.to_bytes()),
        claimed_nano: claim.cum_amount().to_string(),
        accounted_nano: accounted.map(|accounted| accounted.to_string()),
        claim: hex::encode(claim.encode()),
        before: before.map(|before| hex::encode(before.encode())),
        lifted: arguments.lift,
    };
    context.report.result("chrysalis/channel-stopped/v1", &shown, |out| {
        let nano = arguments.nano;
        out.field("channel", format_args!("0:{} on {}", id.account, id.network))?;
        out.field("claimed", amount(claim.cum_amount(), nano))?;
        if let Some(accounted) = accounted {
            out.field("accounted for", amount(accounted, nano))?;
        }
        out.field("by the meter", shown.meter)?;
        if let Some(before) = before {
            let log = |claim: &Claim| claim.settlement().settlement().state.log_head();
            let (one, other) = (log(before), log(claim));
            out.field("one log", format_args!("{} receipts, root {}", one.size, one.root))?;
            out.field("another", format_args!("{} receipts, root {}", other.size, other.root))?;
        }
        match (arguments.lift, before.is_some()) {
            (true, true) => out.line("Lifted: requests are paid for again, whatever log this meter shows."),
            (true, false) => {
                out.line("Lifted: what was claimed is owed, and requests are paid for again.")
            }
            (false, true) => {
                out.line("All signatures hold: this meter tells payer and payee different things.")?;
                out.line("Next: use another worker; or pay on all the same, with --lift.")
            }
            (false, false) => {
                out.line("Both signatures on the claim hold: it proves what this meter counted.")?;
                out.line(
                    "If the key paid from another state directory, that was no fault of the meter's.",
                )?;
                out.line("Next: use another worker; or owe what was claimed, and pay on, with --lift.")
            }
        }
    })
}

/// Amounts are decimal strings in nanogram since the channel was opened.
#[derive(Serialize)]
struct Shown {
    network: NetworkId,
    account: Digest,
    meter: Digest,
    claimed_nano: String,
    /// Of a claim that was too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    accounted_nano: Option<String>,
    /// Hexadecimal.
    claim: String,
    /// The claim that is of another log of the same meter, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    lifted: bool,
}
