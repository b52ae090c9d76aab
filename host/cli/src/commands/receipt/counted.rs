//! `receipt verify --proof`: whether a receipt is in the sum that its payer pays by, without the other
//! receipts of the channel.

use std::path::Path;

use chrysalis_client::limits::MAX_HISTORY_BYTES;
use chrysalis_client::{ChannelHistory, Gram, HistoryReport, Place};
use chrysalis_receipt::{Check, Outcome, ReceiptError};
use chrysalis_wire::Digest;
use serde::Serialize;

use super::read;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;

/// Checks which say something about one receipt; the others need every receipt.
const NEEDED: [&str; 5] = ["terms", "caps", "settlements", "receipts", "inclusion"];

/// Holds the receipt at `path` against a proof, and says what it shows.
pub(super) fn run(path: &Path, proof: &Path, context: &Context) -> Result<(), Failure> {
    let stored = read(path)?;
    let bytes = files::read(proof, MAX_HISTORY_BYTES)?;
    let history = ChannelHistory::parse(&bytes).map_err(|e| Failure::from(e).in_file(proof))?;
    let report = history.verify();
    let receipt = stored.receipt();
    let place = report.place_of(&receipt.hash());
    let counted = place.and_then(|Place { meter, .. }| {
        let last = history.meters.get(meter)?.settlements.last()?.settlement();
        Some((last.state.count, last.cum_amount))
    });
    let unbound = unbound(&report);
    let wrong = report.checks.iter().chain(&unbound).find(|check| wrong(check));
    let words = match (wrong, place, counted) {
        (None, Some(Place { index, settled: true, .. }), Some((count, sum))) => format!(
            "request {} is number {} of {count} that its meter counted; they are in a sum of {} that \
             the meter signed and the payer allowed, and this one cost {}",
            stored.request_id(),
            index.saturating_add(1),
            Gram(sum),
            Gram(receipt.receipt().amount)
        ),
        (None, _, _) => "the proof is about another receipt".to_owned(),
        (Some(check), _, _) => format!("the proof does not hold: {}", check.detail),
    };
    let holds = wrong.is_none() && place.is_some_and(|place| place.settled);
    show(&report, holds, place, &words, context)?;
    if let Some(check) = wrong {
        let (id, title, detail) = (check.id, check.title, check.detail.clone());
        let failure = Failure::from(ReceiptError::Check { id, title, detail });
        return Err(failure.next("ask whoever made the proof for another").in_file(proof));
    }
    if !holds {
        let message = "the receipt is not the one that this proof counts";
        return Err(Failure::new(Class::Refused, "E-RECEIPT-NOT-COUNTED", message)
            .next("check that both are of one request")
            .in_file(proof));
    }
    Ok(())
}

/// A file without terms says itself whose caps count: then nothing shows that the payer allowed anything.
fn unbound(report: &HistoryReport) -> Option<Check> {
    let detail = "the file has no terms, of which the account is a hash".to_owned();
    let title = "The account is a hash of the payer's key, the payee and the contract";
    (!report.bound).then_some(Check { id: "terms", title, outcome: Outcome::Skip, detail })
}

/// Whether a check fails, or is left open that one receipt depends on.
fn wrong(check: &Check) -> bool {
    check.outcome == Outcome::Fail || (NEEDED.contains(&check.id) && check.outcome != Outcome::Pass)
}

fn show(
    report: &HistoryReport,
    holds: bool,
    place: Option<Place>,
    words: &str,
    context: &Context,
) -> Result<(), Failure> {
    let checks: Vec<&Check> =
        report.checks.iter().filter(|check| NEEDED.contains(&check.id) || wrong(check)).collect();
    let shown = Shown { holds, account: report.account, place, words, checks: &checks };
    context.report.result("chrysalis/receipt-counted/v1", &shown, |out| {
        out.field("channel", format_args!("0:{} on {}", report.account, report.network))?;
        for check in &checks {
            out.check(&check.outcome.to_string(), check.id, check.title, &check.detail)?;
        }
        out.verdict(holds, words)
    })
}

#[derive(Serialize)]
struct Shown<'a> {
    holds: bool,
    account: Digest,
    place: Option<Place>,
    words: &'a str,
    checks: &'a [&'a Check],
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrysalis_receipt::{ChannelId, PayerKey, PayerPublicKey};
    use chrysalis_wire::NetworkId;
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn a_proof_without_the_channels_terms_shows_nothing_that_a_payer_allowed() {
        let key = PayerKey::from_seed(&Zeroizing::new([7; 32]));
        let history = ChannelHistory {
            channel: ChannelId { network: NetworkId::TESTNET, account: Digest([1; 32]) },
            payer_key: PayerPublicKey::parse(&key.public()).unwrap(),
            terms: None,
            meters: vec![],
        };
        let check = unbound(&history.verify()).unwrap();
        assert_eq!(check.id, "terms");
        assert!(wrong(&check));
    }
}
