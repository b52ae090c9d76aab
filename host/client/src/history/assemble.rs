//! Writes a channel's history from what one of its parties kept: every claim, and on a payer's side the
//! receipts. A party may have missed some; what does not fit is left out, never made to fit.

use std::collections::HashSet;

use chrysalis_receipt::{
    ChannelTerms, Claim, Frontier, LogHead, PayerPublicKey, PublicReceipt, ReceiptError,
    SignedReceipt, prove_inclusion,
};
use chrysalis_wire::{Digest, NetworkId, UnixMillis, UnixTime};

use super::{ChannelHistory, Counted, MeterHistory};
use crate::error::{ClientError, sanitise};

impl ChannelHistory {
    /// The history of the channel with `terms` from its claims in the order in which they were
    /// recorded, and from receipts in any order, those of other channels left out. Of answers that were given
    /// up there are receipts in which every part is closed: `closed`.
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
        closed: &[PublicReceipt],
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
        let whole = receipts.iter().map(Kept::whole);
        let closed = closed.iter().filter_map(|receipt| Kept::closed(receipt).ok());
        let mut seen = HashSet::new();
        let kept: Vec<Kept> = whole.chain(closed).filter(|kept| seen.insert(kept.hash)).collect();
        let meters = meters.iter().filter_map(|claims| meter(claims, &kept)).collect();
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

/// A receipt, with the time at which its request ended, as far as it says.
struct Kept {
    receipt: PublicReceipt,
    hash: Digest,
    second: UnixTime,
    ended: UnixMillis,
}

impl Kept {
    fn whole(receipt: &SignedReceipt) -> Self {
        let fields = receipt.receipt();
        let (second, ended) = (fields.issued_at, fields.usage.ended);
        Self { receipt: receipt.into(), hash: receipt.hash(), second, ended }
    }

    fn closed(receipt: &PublicReceipt) -> Result<Self, ReceiptError> {
        let (hash, second) = (receipt.hash()?, receipt.issued_at());
        Ok(Self { receipt: receipt.clone(), hash, second, ended: second.millis() })
    }
}

fn meter(claims: &[&Claim], receipts: &[Kept]) -> Option<MeterHistory> {
    let largest = claims.iter().max_by_key(|claim| claim.cap().cap().max_cum)?;
    let key = meter_of(largest);
    let mut own: Vec<&Kept> = receipts.iter().filter(|r| r.receipt.meter_key() == key).collect();
    own.sort_by_key(|kept| (kept.second, kept.ended, kept.receipt.request_id().0));
    Some(MeterHistory {
        cap: largest.cap().clone(),
        settlements: claims.iter().map(|claim| claim.settlement().clone()).collect(),
        receipts: counted(claims, own),
        growth: vec![],
    })
}

/// The receipts in the order that gives the signed roots, up to the first root that none gives.
fn counted(claims: &[&Claim], mut waiting: Vec<&Kept>) -> Vec<Counted> {
    let (mut log, mut counted) = (Frontier::new(), Vec::new());
    for claim in claims {
        let head = claim.settlement().settlement().state.log_head();
        let more = head.size.saturating_sub(log.head().size);
        let Ok(more) = usize::try_from(more) else { break };
        if more == 0 {
            continue;
        }
        let Some(order) = arrange(&log, &waiting, more, &head) else { break };
        if order.iter().zip(&waiting).all(|(taken, first)| taken.hash == first.hash) {
            waiting.drain(..more);
        } else {
            waiting.retain(|kept| order.iter().all(|taken| taken.hash != kept.hash));
        }
        for kept in order {
            let Ok(index) = log.append(&kept.hash) else { return counted };
            let receipt = kept.receipt.clone();
            counted.push(Counted { index, receipt, inclusion: None });
        }
    }
    counted
}

/// The next `more` of `waiting`, in an order in which they make `log` grow to `head`: the first ones as they
/// lie, or, for a few, any of the first few in any order.
fn arrange<'a>(
    log: &Frontier,
    waiting: &[&'a Kept],
    more: usize,
    head: &LogHead,
) -> Option<Vec<&'a Kept>> {
    let first = waiting.get(..more)?;
    let mut straight = log.clone();
    let fits = first.iter().all(|receipt| straight.append(&receipt.hash).is_ok());
    if fits && straight.head() == *head {
        return Some(first.to_vec());
    }
    if more > MAX_ARRANGED {
        return None;
    }
    permute(log, waiting.get(..MAX_ARRANGED).unwrap_or(waiting), &mut Vec::new(), head)
}

fn permute<'a>(
    log: &Frontier,
    left: &[&'a Kept],
    taken: &mut Vec<&'a Kept>,
    head: &LogHead,
) -> Option<Vec<&'a Kept>> {
    if log.head().size >= head.size {
        return (log.head() == *head).then(|| taken.clone());
    }
    for (n, next) in left.iter().enumerate() {
        let mut grown = log.clone();
        grown.append(&next.hash).ok()?;
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

/// Most receipts of which those between two claims are chosen in every order: 720 of them. A receipt whose
/// parts are closed says the second only in which its request ended.
const MAX_ARRANGED: usize = 6;
