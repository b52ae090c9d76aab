//! Writes a channel's history from what one of its parties kept: every claim, and on a payer's side the
//! receipts. A party may have missed some; what does not fit is left out, never made to fit.

use chrysalis_receipt::{
    ChannelTerms, Claim, Frontier, LogHead, PayerPublicKey, PublicReceipt, ReceiptError,
    SignedReceipt, prove_inclusion,
};
use chrysalis_wire::{Digest, NetworkId};

use super::{ChannelHistory, Counted, MeterHistory};
use crate::error::{ClientError, sanitise};

impl ChannelHistory {
    /// The history of the channel with `terms` from its claims in the order in which they were
    /// recorded, and from receipts in any order, those of other channels left out.
    ///
    /// A receipt says no position. They are put in the order in which the meter ended their requests and
    /// kept as far as that gives the roots the meter signed, a few that ended together in whichever
    /// order does.
    ///
    /// # Errors
    /// [`ClientError::Payment`] for claims of another channel.
    pub fn assemble(
        terms: &ChannelTerms,
        network: NetworkId,
        claims: &[Claim],
        receipts: &[SignedReceipt],
    ) -> Result<Self, ClientError> {
        let channel = terms.id(network).map_err(ReceiptError::from)?;
        let payer_key: PayerPublicKey = *terms.payer_key();
        let mut meters: Vec<Vec<&Claim>> = Vec::new();
        for claim in claims {
            if claim.channel() != channel {
                let (expected, got) = (channel, claim.channel());
                return Err(ReceiptError::OtherChannel { expected, got }.into());
            }
            let same = |other: &Claim| meter_of(other) == meter_of(claim);
            match meters.iter_mut().find(|meter| meter.first().is_some_and(|first| same(first))) {
                Some(meter) => meter.push(claim),
                None => meters.push(vec![claim]),
            }
        }
        let meters = meters.iter().filter_map(|claims| meter(claims, receipts)).collect();
        Ok(Self { channel, payer_key, terms: Some(terms.clone()), meters })
    }

    /// What shows that a receipt is in the last sum of its meter, and nothing else of the channel: a
    /// history of one settlement and one receipt with its proof.
    ///
    /// # Errors
    /// [`ClientError::HistoryMalformed`] if the receipt is not here, not settled, or receipts before the
    /// last settlement are missing.
    pub fn proof_of(&self, receipt: &Digest) -> Result<Self, ClientError> {
        let refused = |text: &str| ClientError::HistoryMalformed(sanitise(text));
        for meter in &self.meters {
            let hashes: Vec<Digest> = meter
                .receipts
                .iter()
                .map(|counted| counted.receipt.hash())
                .collect::<Result<_, _>>()?;
            let Some(place) = hashes.iter().position(|hash| hash == receipt) else { continue };
            let settlement = meter.settlements.last();
            let settlement = settlement.ok_or_else(|| refused("nothing was settled yet"))?;
            let size = settlement.settlement().state.count;
            let counted = meter.receipts.get(place).ok_or_else(|| refused("no such receipt"))?;
            let log = usize::try_from(size).ok().and_then(|size| hashes.get(..size));
            let log =
                log.ok_or_else(|| refused("receipts before the last settlement are missing"))?;
            if counted.index >= size {
                return Err(refused("the receipt is in no settlement yet"));
            }
            let inclusion = prove_inclusion(log, counted.index).map_err(ReceiptError::from)?;
            let counted = Counted { inclusion: Some(inclusion), ..counted.clone() };
            let meter = MeterHistory {
                cap: meter.cap.clone(),
                settlements: vec![settlement.clone()],
                receipts: vec![counted],
                growth: vec![],
            };
            return Ok(Self { meters: vec![meter], ..self.clone() });
        }
        Err(refused("the receipt is not in this history"))
    }
}

fn meter_of(claim: &Claim) -> [u8; 32] {
    claim.cap().cap().meter_key.to_bytes()
}

fn meter(claims: &[&Claim], receipts: &[SignedReceipt]) -> Option<MeterHistory> {
    let largest = claims.iter().max_by_key(|claim| claim.cap().cap().max_cum)?;
    let key = meter_of(largest);
    let mut own: Vec<&SignedReceipt> = receipts.iter().filter(|r| r.meter_key() == key).collect();
    own.sort_by_key(|receipt| (receipt.receipt().usage.ended, receipt.receipt().request_id.0));
    Some(MeterHistory {
        cap: largest.cap().clone(),
        settlements: claims.iter().map(|claim| claim.settlement().clone()).collect(),
        receipts: counted(claims, own),
        growth: vec![],
    })
}

/// The receipts in the order that gives the signed roots, up to the first root that none gives.
fn counted(claims: &[&Claim], mut waiting: Vec<&SignedReceipt>) -> Vec<Counted> {
    let (mut log, mut counted) = (Frontier::new(), Vec::new());
    for claim in claims {
        let head = claim.settlement().settlement().state.log_head();
        let more = head.size.saturating_sub(log.head().size);
        let Ok(more) = usize::try_from(more) else { break };
        if more == 0 {
            continue;
        }
        if more > waiting.len() {
            break;
        }
        let rest = waiting.split_off(more);
        let Some(order) = arrange(&log, waiting, &head) else { break };
        for receipt in order {
            let Ok(index) = log.append(&receipt.hash()) else { return counted };
            let receipt = PublicReceipt::from(receipt);
            counted.push(Counted { index, receipt, inclusion: None });
        }
        waiting = rest;
    }
    counted
}

/// An order of `receipts` in which they make `log` grow to `head`: the given one, or, for a few, any.
fn arrange<'a>(
    log: &Frontier,
    receipts: Vec<&'a SignedReceipt>,
    head: &LogHead,
) -> Option<Vec<&'a SignedReceipt>> {
    let mut straight = log.clone();
    let fits = receipts.iter().all(|receipt| straight.append(&receipt.hash()).is_ok());
    if fits && straight.head() == *head {
        return Some(receipts);
    }
    if receipts.len() > MAX_ARRANGED {
        return None;
    }
    permute(log, &receipts, &mut Vec::new(), head)
}

fn permute<'a>(
    log: &Frontier,
    left: &[&'a SignedReceipt],
    taken: &mut Vec<&'a SignedReceipt>,
    head: &LogHead,
) -> Option<Vec<&'a SignedReceipt>> {
    if left.is_empty() {
        return (log.head() == *head).then(|| taken.clone());
    }
    for (n, next) in left.iter().enumerate() {
        let mut grown = log.clone();
        grown.append(&next.hash()).ok()?;
        let rest: Vec<_> =
            left.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, r)| *r).collect();
        taken.push(next);
        if let Some(found) = permute(&grown, &rest, taken, head) {
            return Some(found);
        }
        taken.pop();
    }
    None
}

/// Most receipts between two claims that are tried in every order: 720 of them.
const MAX_ARRANGED: usize = 6;
