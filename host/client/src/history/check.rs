//! The checks of a history. Each is about the whole of it and names the first place where it fails.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrysalis_receipt::{
    Check, ConsistencyProof, Frontier, LogHead, Outcome, PublicReceipt, Settlement,
    SignedSettlement,
};
use chrysalis_wire::{Digest, NetworkId};

use super::{ChannelHistory, Counted, HISTORY_REPORT_SCHEMA, HistoryReport, MeterHistory, Place};
use crate::report::Gram;

pub(super) fn verify(history: &ChannelHistory) -> HistoryReport {
    let mut seen = Seen { sums: Sums::of(history), ..Seen::default() };
    for (number, meter) in history.meters.iter().enumerate() {
        seen.meter(history, meter, number);
    }
    seen.all_together();
    let Seen { checks, owed, allowed, requests, places, .. } = seen;
    let mut checks: Vec<Check> = checks.into_checks();
    // Older files have none, and say whose key it is themselves.
    checks.splice(0..0, terms(history));
    HistoryReport {
        schema: HISTORY_REPORT_SCHEMA,
        holds: checks.iter().all(|check| check.outcome == Outcome::Pass),
        insecure_sim: history.channel.network == NetworkId::INSECURE_SIM,
        network: history.channel.network,
        account: history.channel.account,
        payer_key: Digest(history.payer_key.to_bytes()),
        bound: history.terms.is_some(),
        owed,
        allowed,
        requests,
        checks,
        places,
    }
}

/// Whether the account is that of the terms, and the payer's key the one in them.
fn terms(history: &ChannelHistory) -> Option<Check> {
    let terms = history.terms.as_ref()?;
    let account = terms.id(history.channel.network).map(|id| id.account);
    let (outcome, detail) = if account != Ok(history.channel.account) {
        (Outcome::Fail, "the channel's account is not the hash of its terms".to_owned())
    } else if *terms.payer_key() != history.payer_key {
        (Outcome::Fail, "the payer's key is not the one in the channel's terms".to_owned())
    } else {
        (Outcome::Pass, format!("it pays 0:{}", terms.payee()))
    };
    let title = "The account is a hash of the payer's key, the payee and the contract";
    Some(Check { id: "terms", title, outcome, detail })
}

/// What was read so far, over all meters.
#[derive(Default)]
struct Seen {
    checks: Checks,
    owed: u128,
    allowed: u128,
    requests: u64,
    places: Vec<(Digest, Place)>,
    keys: HashSet<[u8; 32]>,
    ids: HashSet<[u8; 16]>,
    hashes: HashSet<Digest>,
    sums: Sums,
    /// What the requests here cost, and whether there may be others.
    cost: u128,
    partial: bool,
}

impl Seen {
    fn meter(&mut self, history: &ChannelHistory, meter: &MeterHistory, number: usize) {
        let key = meter.cap.cap().meter_key;
        let cap = meter.cap.verify(&history.payer_key, history.channel, &key);
        let cap_holds = match &cap {
            Err(error) => Err(format!("cap {number}: {error}")),
            Ok(_) if !self.keys.insert(key.to_bytes()) => {
                Err(format!("cap {number} names a meter key that an earlier one names too"))
            }
            Ok(_) => Ok(()),
        };
        self.checks.caps.note(cap_holds);
        self.allowed = self.allowed.max(meter.cap.cap().max_cum);

        let receipts = self.receipts(meter);
        let whole = Whole::of(&receipts);
        let (mut before, mut at) = (0, Frontier::new().head());
        let mut units = 0;
        for (n, signed) in meter.settlements.iter().enumerate() {
            let place = format!("settlement {n} of meter {number}");
            let settlement = signed.settlement();
            self.checks.settlements.note(match &cap {
                Ok(cap) => signed.verify(cap).map(drop).map_err(|e| format!("{place}: {e}")),
                Err(_) => Err(format!("{place} stands under a cap that does not hold")),
            });
            self.checks.grow.note(grows(settlement, before, at.size, units, &place));
            let from = self.acknowledged(settlement, &place);
            let head = settlement.state.log_head();
            self.checks.log.judge(grown(&whole, &meter.growth, &at, &head, &place));
            let goes_on = GoesOn { meter: number, before, at: at.size, from };
            self.checks.amounts.judge(adds_up(&receipts, settlement, &goes_on, &self.sums, &place));
            (before, at, units) = (settlement.cum_amount, head, settlement.state.cum_units);
        }
        self.included(meter, &whole, &at, number);
        for (index, (_, hash)) in &receipts {
            let place = Place { meter: number, index: *index, settled: *index < at.size };
            self.places.push((*hash, place));
        }
        self.owed = self.owed.max(before);
        self.requests = self.requests.saturating_add(at.size);
        self.partial |= whole.head(at.size).is_none();
        let cost = receipts.range(..at.size).map(|(_, (receipt, _))| receipt.amount());
        self.cost = cost.fold(self.cost, u128::saturating_add);
    }

    /// Each meter may go on from sums of the others, and all of them together from nothing.
    fn all_together(&mut self) {
        if !self.partial && self.owed > self.cost {
            let (owed, cost) = (Gram(self.owed), Gram(self.cost));
            let text = format!("the meters come to {owed}, all requests of theirs to {cost}");
            self.checks.amounts.note(Err(text));
        }
    }

    /// The receipts of one meter by position: signed by it, and no request twice on the channel.
    fn receipts<'a>(
        &mut self,
        meter: &'a MeterHistory,
    ) -> BTreeMap<u64, (&'a PublicReceipt, Digest)> {
        let (channel, key) = (meter.cap.cap().channel, meter.cap.cap().meter_key.to_bytes());
        let mut receipts = BTreeMap::new();
        for counted in &meter.receipts {
            let (receipt, index) = (&counted.receipt, counted.index);
            let id = receipt.request_id();
            let hash = receipt.verify(channel.network, &key).and_then(|()| receipt.hash());
            self.checks.receipts.note(match &hash {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("receipt {index}, of request {id}: {error}")),
            });
            let Ok(hash) = hash else { continue };
            let first = self.ids.insert(id.0)
                & self.hashes.insert(hash)
                & receipts.insert(index, (receipt, hash)).is_none();
            self.checks.once.note(if first {
                Ok(())
            } else {
                Err(format!("request {id} or position {index} is counted a second time"))
            });
        }
        receipts
    }

    /// Notes whether the settlement before is here, and says so: its sum, zero if it is the first of all.
    fn acknowledged(&mut self, settlement: &Settlement, place: &str) -> Option<u128> {
        let prev = settlement.state.prev;
        let known = if prev == Digest([0; 32]) { Some(0) } else { self.sums.by_hash(&prev) };
        self.partial |= known.is_none();
        self.checks.acknowledged.judge(if known.is_some() {
            Ok(())
        } else {
            let text = format!("{place} goes back to settlement {prev}, which is not here");
            Err((Outcome::Skip, text))
        });
        known
    }

    fn included(&mut self, meter: &MeterHistory, whole: &Whole, head: &LogHead, number: usize) {
        for counted in &meter.receipts {
            let (index, receipt) = (counted.index, &counted.receipt);
            let place = format!("receipt {index} of meter {number}");
            self.checks.inclusion.judge(if index >= head.size {
                Err((Outcome::Skip, format!("{place} is in no settlement yet")))
            } else if let Some(proof) = &counted.inclusion {
                let right = receipt.hash().map_err(|e| e.to_string()).and_then(|hash| {
                    if proof.index() != index {
                        return Err(format!("its proof is for position {}", proof.index()));
                    }
                    proof.verify(&hash, head).map_err(|e| e.to_string())
                });
                right.map_err(|text| (Outcome::Fail, format!("{place}: {text}")))
            } else if whole.head(head.size) == Some(*head) {
                Ok(())
            } else {
                Err((Outcome::Skip, format!("nothing shows that {place} is in the log")))
            });
        }
    }
}

/// Sums, counts and tokens never go back.
fn grows(
    settlement: &Settlement,
    before: u128,
    count: u64,
    units: u64,
    place: &str,
) -> Result<(), String> {
    let state = &settlement.state;
    if settlement.cum_amount < before {
        let (now, before) = (Gram(settlement.cum_amount), Gram(before));
        return Err(format!("{place} says {now} after {before}"));
    }
    if state.count < count {
        return Err(format!("{place} counts {} requests after {count}", state.count));
    }
    if state.cum_units < units {
        return Err(format!("{place} counts {} tokens after {units}", state.cum_units));
    }
    Ok(())
}

type Judged = Result<(), (Outcome, String)>;

/// The later log begins with the earlier one: by every receipt, else by a proof.
fn grown(
    whole: &Whole,
    growth: &[ConsistencyProof],
    earlier: &LogHead,
    later: &LogHead,
    place: &str,
) -> Judged {
    if let Some(head) = whole.head(later.size) {
        return if head == *later {
            Ok(())
        } else {
            Err((Outcome::Fail, format!("{place}: its root is not that of the receipts here")))
        };
    }
    if earlier.size == later.size {
        let text = format!("{place}: the meter has signed two logs of {} receipts", later.size);
        return if earlier == later { Ok(()) } else { Err((Outcome::Fail, text)) };
    }
    // Every log begins with the empty one.
    if earlier.size == 0 {
        return Ok(());
    }
    let proof = growth.iter().find(|p| (p.first(), p.second()) == (earlier.size, later.size));
    match proof.map(|proof| proof.verify(earlier, later)) {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err((Outcome::Fail, format!("{place}: {error}"))),
        None => Err((Outcome::Skip, format!("nothing shows that {place} took no receipt back"))),
    }
}

/// The sums of all meters.
#[derive(Default)]
struct Sums(HashMap<Digest, (usize, u128)>);

impl Sums {
    fn of(history: &ChannelHistory) -> Self {
        let of = |(number, meter): (usize, &MeterHistory)| {
            let sum = |s: &SignedSettlement| (s.cell().hash(), (number, s.settlement().cum_amount));
            meter.settlements.iter().map(sum).collect::<Vec<_>>()
        };
        Self(history.meters.iter().enumerate().flat_map(of).collect())
    }

    fn by_hash(&self, settlement: &Digest) -> Option<u128> {
        self.0.get(settlement).map(|(_, sum)| *sum)
    }

    /// The sums of meters other than `meter` above `before` and up to `cum`.
    fn between(&self, meter: usize, before: u128, cum: u128) -> Vec<u128> {
        let others = self.0.values().filter(|(number, _)| *number != meter);
        others.map(|(_, sum)| *sum).filter(|sum| before < *sum && *sum <= cum).collect()
    }
}

/// What a settlement goes on from.
struct GoesOn {
    meter: usize,
    /// The last sum of its own meter, and how many requests are in it.
    before: u128,
    at: u64,
    /// The sum that it goes back to, if that is here.
    from: Option<u128>,
}

/// What was added to the sum is what the requests since then cost, and what other meters counted
/// meanwhile: their claim is handed to this one at any time, and whatever it had signed for is inside.
fn adds_up(
    receipts: &BTreeMap<u64, (&PublicReceipt, Digest)>,
    settlement: &Settlement,
    goes_on: &GoesOn,
    sums: &Sums,
    place: &str,
) -> Judged {
    let GoesOn { meter, before, at, from } = *goes_on;
    let to = settlement.state.count.max(at);
    let (mut sum, mut known) = (0u128, 0u64);
    for (_, (receipt, _)) in receipts.range(at..to) {
        sum = sum.saturating_add(receipt.amount());
        known = known.saturating_add(1);
    }
    let cum = settlement.cum_amount;
    // The first sum of a meter goes back to the one of another that it goes on from, or one below.
    let base = if at == 0 { before.max(from.unwrap_or(0)) } else { before };
    let added = cum.saturating_sub(base);
    let missing = to.saturating_sub(at).saturating_sub(known);
    let (words, total) = (Gram(sum), Gram(added));
    if at == 0 && from.is_none() && sum < added {
        let text = format!("{place} goes on from a sum of another meter that is not here");
        return Err((Outcome::Skip, text));
    }
    let others = sums.between(meter, base, cum);
    if missing == 0 && others.iter().any(|other| other.checked_add(sum) == Some(cum)) {
        return Ok(());
    }
    if !others.is_empty() && sum < added {
        let text = format!("{place} goes on from a sum of another meter, of which a part is here");
        return Err((Outcome::Skip, text));
    }
    if missing == 0 && sum != added {
        return Err((Outcome::Fail, format!("{place} adds {total}, its requests cost {words}")));
    }
    if sum > added {
        let text = format!("{place} adds {total}, and the requests known of it cost {words}");
        return Err((Outcome::Fail, text));
    }
    if missing > 0 {
        return Err((Outcome::Skip, format!("{missing} receipts of {place} are not here")));
    }
    Ok(())
}

/// Whether two parties were signed the same log by each meter: roots of one size, signed or recomputed from
/// receipts that a signed one is over, are compared. No meter is left out because another one was compared.
pub(super) fn agree(one: &ChannelHistory, other: &ChannelHistory) -> Check {
    let mut tally = Tally::default();
    if one.channel != other.channel {
        tally.note(Err("the two files are of two channels".to_owned()));
    }
    let key = |meter: &MeterHistory| meter.cap.cap().meter_key.to_bytes();
    let mut compared = Vec::new();
    for (number, meter) in one.meters.iter().enumerate() {
        let (ours, mut largest, mut last) = (roots(meter), None, 0);
        for theirs in other.meters.iter().filter(|theirs| key(theirs) == key(meter)) {
            let theirs = roots(theirs);
            let sizes = ours.keys().chain(theirs.keys());
            last = sizes.copied().max().unwrap_or(0).max(last);
            for (size, (root, signed)) in &ours {
                match theirs.get(size) {
                    Some((other, also)) if *signed || *also => {
                        largest = largest.max(Some(*size));
                        tally.note(if root == other {
                            Ok(())
                        } else {
                            Err(format!("meter {number} has signed two logs of {size} receipts"))
                        });
                    }
                    _ => {}
                }
            }
        }
        // That another meter's log is one says nothing of this one's.
        match largest {
            Some(size) => compared.push(format!("meter {number} up to receipt {size} of {last}")),
            None => {
                let text = format!("no log of one size that meter {number} has signed is in both");
                tally.judge(Err((Outcome::Skip, text)));
            }
        }
    }
    let known: HashSet<_> = one.meters.iter().map(key).collect();
    for (number, _) in other.meters.iter().enumerate().filter(|(_, m)| !known.contains(&key(m))) {
        let text = format!("meter {number} of the other file is not in this one");
        tally.judge(Err((Outcome::Skip, text)));
    }
    if tally.passed == 0 && tally.worst.is_none() {
        tally.judge(Err((Outcome::Skip, "there is no meter in either".to_owned())));
    }
    let roots = format!("roots: {}", compared.join(", "));
    tally.check("agree", "Both files show one log of each meter", &roots)
}

/// The roots of a meter's log by size, and whether the meter signed them.
fn roots(meter: &MeterHistory) -> BTreeMap<u64, (Digest, bool)> {
    let mut receipts = BTreeMap::new();
    for Counted { index, receipt, .. } in &meter.receipts {
        if let Ok(hash) = receipt.hash() {
            receipts.insert(*index, (receipt, hash));
        }
    }
    let whole = Whole::of(&receipts);
    let signed: Vec<_> =
        meter.settlements.iter().map(|s| s.settlement().state.log_head()).collect();
    // The order of receipts behind that is the file's word, and no meter's.
    let proven = signed.iter().filter(|head| whole.head(head.size) == Some(**head));
    let proven = proven.map(|head| head.size).max().unwrap_or(0);
    let computed = whole.0.iter().take_while(|head| head.size <= proven);
    let computed = computed.map(|head| (head.size, (head.root, false)));
    let signed = signed.iter().map(|head| (head.size, (head.root, true)));
    // A size of which both are known says what was signed.
    computed.chain(signed).filter(|(size, _)| *size > 0).collect()
}

/// The heads of a log of which every receipt from the first on is there.
struct Whole(Vec<LogHead>);

impl Whole {
    fn of(receipts: &BTreeMap<u64, (&PublicReceipt, Digest)>) -> Self {
        let mut frontier = Frontier::new();
        let mut heads = vec![frontier.head()];
        for (index, (_, hash)) in receipts {
            if *index != frontier.head().size || frontier.append(hash).is_err() {
                break;
            }
            heads.push(frontier.head());
        }
        Self(heads)
    }

    fn head(&self, size: u64) -> Option<LogHead> {
        self.0.get(usize::try_from(size).ok()?).copied()
    }
}

/// One check over many places.
#[derive(Default)]
struct Tally {
    passed: usize,
    worst: Option<(Outcome, String)>,
}

impl Tally {
    fn note(&mut self, result: Result<(), String>) {
        self.judge(result.map_err(|text| (Outcome::Fail, text)));
    }

    fn judge(&mut self, judged: Judged) {
        match judged {
            Ok(()) => self.passed = self.passed.saturating_add(1),
            // The first failure is kept, else the first place that could not be checked.
            Err((outcome, text)) => {
                let failed = matches!(self.worst, Some((Outcome::Fail, _)));
                if self.worst.is_none() || (!failed && outcome == Outcome::Fail) {
                    self.worst = Some((outcome, text));
                }
            }
        }
    }

    fn check(self, id: &'static str, title: &'static str, of: &str) -> Check {
        let (outcome, detail) =
            self.worst.unwrap_or_else(|| (Outcome::Pass, format!("{} {of}", self.passed)));
        Check { id, title, outcome, detail }
    }
}

#[derive(Default)]
struct Checks {
    caps: Tally,
    settlements: Tally,
    grow: Tally,
    acknowledged: Tally,
    receipts: Tally,
    once: Tally,
    log: Tally,
    inclusion: Tally,
    amounts: Tally,
}

impl Checks {
    fn into_checks(self) -> Vec<Check> {
        vec![
            self.caps.check("caps", "The payer allowed each meter key, each once", "caps"),
            self.settlements.check(
                "settlements",
                "The allowed meter key signed every sum, none above its cap",
                "settlements",
            ),
            self.grow.check("growth", "Sums, counts and tokens only grow", "settlements"),
            self.acknowledged.check(
                "acknowledged",
                "Every sum goes back to one that is here",
                "settlements",
            ),
            self.receipts.check("receipts", "The same key signed every receipt", "receipts"),
            self.once.check("once", "No request is counted twice", "receipts"),
            self.log.check("log", "No sum took a receipt of an earlier one back", "settlements"),
            self.inclusion.check("inclusion", "Every receipt is in the last log", "receipts"),
            self.amounts.check(
                "amounts",
                "What was added is what the requests cost",
                "settlements",
            ),
        ]
    }
}
