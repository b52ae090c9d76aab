//! `chrysalis receipt history`: writes what a party of a payment channel kept as one file, which `receipt
//! chain` recomputes. Payer and payee each write their own; nothing in it has to be believed.

use std::path::{Path, PathBuf};

use chrysalis_client::limits::MAX_LISTED_RECEIPTS;
use chrysalis_client::{ChannelHistory, ReceiptStore};
use chrysalis_ledger::{Channel, EventKind, Ledger, LedgerError, LedgerView, Side};
use chrysalis_receipt::{Claim, SignedReceipt};
use chrysalis_wire::{Digest, RequestId};
use clap::Args;
use serde::Serialize;

use crate::commands::chain::account;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};

/// `receipt history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The ledger: `payments.redb` of who pays, `earnings.redb` of who is paid.
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// Receipts of the requests that were paid for; by default those beside a payer's ledger.
    #[arg(long, value_name = "DIR")]
    receipts: Option<PathBuf>,
    /// The channel, if the ledger has several.
    #[arg(long, value_name = "ADDRESS", value_parser = account)]
    channel: Option<Digest>,
    /// Where to write the history. It is not written over a file that is there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(arguments: &History, context: &Context) -> Result<(), Failure> {
    let (view, side) = open(&arguments.ledger)?;
    let channel = one_of(view.each_channel()?, arguments.channel)?;
    let claims = thinned(view.claims(channel.id)?);
    let receipts = match (&arguments.receipts, side) {
        (Some(directory), _) => receipts(directory, &view, &channel, side)?,
        (None, Side::Payer) => {
            let beside = arguments.ledger.with_file_name("receipts");
            receipts(&beside, &view, &channel, side)?
        }
        (None, Side::Payee) => vec![],
    };
    let network = channel.id.network;
    let history = ChannelHistory::assemble(&channel.terms, network, &claims, &receipts)?;
    files::write(&arguments.out, &history.to_json()?, Existing::Refuse)?;
    let report = history.verify();
    let kept: usize = history.meters.iter().map(|meter| meter.receipts.len()).sum();
    let written = Written {
        history: arguments.out.display().to_string(),
        side: side.to_string(),
        account: channel.id.account,
        meters: history.meters.len(),
        settlements: claims.len(),
        receipts: kept,
        left_out: receipts.len().saturating_sub(kept),
        holds: report.holds,
        conclusion: report.conclusion(),
    };
    context.report.result("chrysalis/history-written/v1", &written, |out| {
        out.field("channel", format_args!("0:{} on {network}", written.account))?;
        out.field("as kept by", format_args!("the {}", written.side))?;
        out.field("settlements", written.settlements)?;
        out.field("receipts", written.receipts)?;
        if written.left_out > 0 {
            out.field("left out", format_args!("{} receipts without a place", written.left_out))?;
        }
        out.line(&written.conclusion)?;
        out.line(format_args!("Next: `chrysalis receipt chain {}` checks it.", written.history))
    })
}

/// Opens the ledger of whichever side it is. One that a killed program left is repaired first.
fn open(path: &Path) -> Result<(LedgerView, Side), Failure> {
    let attempt = |side| match LedgerView::open(path, side) {
        Err(LedgerError::Damaged { .. }) => Ledger::open(path, side).map(|ledger| ledger.view()),
        other => other,
    };
    match attempt(Side::Payer) {
        // The two sides lock their files in different ways, so one may seem to be in use to the other.
        Err(LedgerError::OtherSide { .. } | LedgerError::InUse { .. }) => {
            Ok((attempt(Side::Payee)?, Side::Payee))
        }
        other => Ok((other?, Side::Payer)),
    }
}

/// The channel that was named, or the only one.
pub(crate) fn one_of(
    channels: Vec<Result<Channel, LedgerError>>,
    wanted: Option<Digest>,
) -> Result<Channel, Failure> {
    let all = channels.len();
    let mut fitting = channels.into_iter().filter(|channel| {
        let account = match channel {
            Ok(channel) => Some(channel.id.account),
            // Who names another channel is not told of this one.
            Err(LedgerError::DamagedChannel { channel, .. }) => Some(channel.account),
            Err(_) => None,
        };
        wanted.is_none_or(|id| account == Some(id))
    });
    match (fitting.next(), fitting.next()) {
        (Some(channel), None) => Ok(channel?),
        (None, _) => {
            let message = format!("there is no such channel among the {all} of this ledger");
            Err(Failure::new(Class::Usage, "E-CHANNEL-NONE", message)
                .next("check the file and the address"))
        }
        (Some(_), Some(_)) => {
            let message = format!("the ledger has {all} channels");
            Err(Failure::new(Class::Usage, "E-CHANNEL-WHICH", message)
                .next("say which one with --channel"))
        }
    }
}

/// The receipts of the requests that the channel paid for. On a payer's side the ledger says which those
/// are; a store may hold receipts of other channels.
fn receipts(
    directory: &Path,
    view: &LedgerView,
    channel: &Channel,
    side: Side,
) -> Result<Vec<SignedReceipt>, Failure> {
    let mut receipts = Vec::new();
    if !directory.is_dir() {
        return Ok(receipts);
    }
    let store = ReceiptStore::open(directory)?;
    let ids = match side {
        Side::Payer => paid_for(view, channel)?,
        Side::Payee => store.list()?,
    };
    for id in ids.into_iter().take(MAX_LISTED_RECEIPTS) {
        // One that was deleted is left out, and the history says that it is not there.
        if store.path(id).is_file() {
            receipts.push(store.load(id)?.receipt().clone());
        }
    }
    Ok(receipts)
}

fn paid_for(view: &LedgerView, channel: &Channel) -> Result<Vec<RequestId>, Failure> {
    let (mut ids, mut last) = (Vec::new(), 0);
    loop {
        let page = view.events(last, PAGE)?;
        let Some(end) = page.last() else { return Ok(ids) };
        last = end.seq;
        for event in &page {
            if let (EventKind::Request { request, .. }, true) =
                (&event.kind, event.channel() == channel.id)
            {
                ids.push(*request);
            }
        }
    }
}

/// The newest claims, and of those before them the last of each meter: the sums go on from it.
fn thinned(claims: Vec<Claim>) -> Vec<Claim> {
    let surplus = claims.len().saturating_sub(MAX_CLAIMS);
    let meter = |claim: &Claim| claim.cap().cap().meter_key;
    let keep: Vec<bool> = (0..claims.len())
        .map(|n| {
            let next = claims.get(n.saturating_add(1)).map(meter);
            n >= surplus || claims.get(n).map(meter) != next
        })
        .collect();
    claims.into_iter().zip(keep).filter_map(|(claim, keep)| keep.then_some(claim)).collect()
}

#[derive(Serialize)]
struct Written {
    history: String,
    side: String,
    account: Digest,
    meters: usize,
    settlements: usize,
    receipts: usize,
    left_out: usize,
    holds: bool,
    conclusion: String,
}

/// Most claims of one file, which has room for about twice as many.
const MAX_CLAIMS: usize = 10_000;
/// Events read at once.
const PAGE: usize = 1_024;
