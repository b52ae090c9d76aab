//! What entries add up to.

use chrysalis_ledger::{
    Entry, EventKind, Fork, Ledger, LedgerError, LedgerView, Memory, Nano, OpenRequest, Overcharge,
    Phase, Recorded, Side, Stopped,
};
use chrysalis_receipt::{Claim, ReceiptError, SignedCap};
use chrysalis_wire::{Digest, RequestId, UnixTime};
use tempfile::TempDir;

use crate::{ASKED, NOW, cap, channel, claim, claim_of, meter, open_channel};

struct Kept {
    dir: TempDir,
    ledger: Ledger,
}

fn kept(side: Side) -> Kept {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(&dir.path().join("l"), side).unwrap();
    Kept { dir, ledger }
}

impl Kept {
    fn record(&self, entry: &Entry<'_>) -> Result<Recorded, LedgerError> {
        self.ledger.record(entry, NOW)
    }

    fn is_new(&self, entry: &Entry<'_>) -> bool {
        matches!(self.record(entry).unwrap(), Recorded::New { .. })
    }

    fn channel(&self) -> chrysalis_ledger::Channel {
        self.ledger.view().channel(channel()).unwrap().unwrap()
    }
}

fn request(id: u8, amount: u128) -> Entry<'static> {
    Entry::Request { channel: channel(), request: RequestId([id; 16]), amount }
}

fn paid(cum_paid: u128, fee: u128) -> Entry<'static> {
    Entry::Paid { channel: channel(), cum_paid, fee, transaction: Digest([3; 32]) }
}

#[test]
fn what_is_recorded_twice_counts_once() {
    let k = kept(Side::Payer);
    open_channel(&k.ledger);
    let claim = claim(70, 2);
    for entry in [Entry::Cap(&cap(100)), request(1, 40), Entry::Claim(&claim), paid(70, 5)] {
        assert!(k.is_new(&entry), "{entry:?}");
        let before = k.channel();
        assert_eq!(k.record(&entry), Ok(Recorded::Known), "{entry:?}");
        assert_eq!(k.channel(), before);
    }
    let c = k.channel();
    assert_eq!((c.covered, c.receipted, c.requests, c.earned), (100, 40, 1, 70));
    assert_eq!((c.settled, c.fees, c.unsettled()), (70, 5, 0));
}

#[test]
fn a_lower_cap_or_claim_replaces_no_higher_one() {
    let k = kept(Side::Payee);
    open_channel(&k.ledger);
    assert!(k.is_new(&Entry::Claim(&claim(500, 5))));
    for lower in [claim(499, 9), claim(1, 1)] {
        assert!(!k.is_new(&Entry::Claim(&lower)));
    }
    assert!(!k.is_new(&Entry::Cap(&cap(400))));
    let c = k.channel();
    assert_eq!((c.earned, c.covered, c.requests), (500, 500, 5));
    assert_eq!(c.claim, Some(claim(500, 5)));
}

#[test]
fn a_new_meter_counts_its_requests_from_zero_and_its_amounts_from_the_base() {
    let k = kept(Side::Payee);
    assert!(k.is_new(&Entry::Claim(&claim(500, 5))));
    assert!(k.is_new(&Entry::Claim(&claim_of(&meter(0x12), 530, 2))));
    assert!(k.is_new(&Entry::Claim(&claim_of(&meter(0x12), 560, 3))));
    assert_eq!((k.channel().earned, k.channel().requests), (560, 8));
    let amounts: u128 = k
        .ledger
        .view()
        .events(0, 100)
        .unwrap()
        .into_iter()
        .map(|event| match event.kind {
            EventKind::Earned { amount: Nano(amount), .. } => amount,
            _ => 0,
        })
        .sum();
    assert_eq!(amounts, 560, "the events of a channel add up to what it earned");
}

#[test]
fn refuses_a_cap_and_a_claim_that_do_not_verify() {
    let k = kept(Side::Payee);
    open_channel(&k.ledger);
    let mut raised = cap(100).cap().clone();
    raised.max_cum = 101;
    let raised = SignedCap::new(raised, *cap(100).signature()).unwrap();
    let refused = Err(LedgerError::Refused(ReceiptError::CapSignature));
    assert_eq!(k.record(&Entry::Cap(&raised)), refused);
    let good = claim(100, 1);
    let over = Claim::new(good.terms().clone(), cap(99), good.settlement().clone()).unwrap();
    assert_eq!(
        k.record(&Entry::Claim(&over)),
        Err(LedgerError::Refused(ReceiptError::OverCap { needed: 100, max_cum: 99 }))
    );
    let c = k.channel();
    assert_eq!((c.earned, c.covered, c.claim), (0, 0, None));
}

#[test]
fn refuses_an_entry_for_a_channel_it_does_not_know() {
    let k = kept(Side::Payer);
    let refused = Err(LedgerError::UnknownChannel { channel: channel() });
    for entry in [Entry::Cap(&cap(100)), request(1, 40), paid(1, 1)] {
        assert_eq!(k.record(&entry), refused);
    }
    open_channel(&k.ledger);
    assert!(k.is_new(&request(1, 40)), "the refused request left no trace");
}

#[test]
fn refuses_sums_that_do_not_fit_and_keeps_those_before() {
    let k = kept(Side::Payer);
    open_channel(&k.ledger);
    assert!(k.is_new(&request(1, u128::MAX)));
    assert_eq!(k.record(&request(2, 1)), Err(LedgerError::Overflow { channel: channel() }));
    assert_eq!((k.channel().receipted, k.channel().requests), (u128::MAX, 1));
}

#[test]
fn a_channel_closes_once_and_never_opens_again() {
    let k = kept(Side::Payee);
    open_channel(&k.ledger);
    let refund_from = UnixTime(NOW.0 + 86_400);
    let closing = Entry::Closing { channel: channel(), refund_from };
    assert!(k.is_new(&closing) && !k.is_new(&closing));
    assert_eq!(k.channel().phase, Phase::Closing { refund_from });
    let closed = Entry::Closed { channel: channel() };
    assert!(k.is_new(&closed) && !k.is_new(&closed) && !k.is_new(&closing));
    assert_eq!(k.channel().phase, Phase::Closed);
}

#[test]
fn the_export_is_one_line_of_json_per_event_with_amounts_as_strings() {
    let k = kept(Side::Payer);
    open_channel(&k.ledger);
    for id in 0..3 {
        assert!(k.is_new(&request(id, 1 << 70)));
    }
    let mut out = Vec::new();
    assert_eq!(k.ledger.view().export(&mut out), Ok(4));
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!((&lines[0]["event"], &lines[3]["event"]), (&"opened".into(), &"request".into()));
    assert_eq!(lines[3]["amount"], (1u128 << 70).to_string());
    assert_eq!((&lines[3]["seq"], &lines[3]["at"]), (&4.into(), &NOW.0.into()));
}

#[test]
fn a_reader_follows_while_the_writer_writes() {
    let k = kept(Side::Payee);
    let reader = LedgerView::open(&k.dir.path().join("l"), Side::Payee).unwrap();
    assert!(reader.channels().unwrap().is_empty());
    assert!(k.is_new(&Entry::Claim(&claim(500, 5))));
    assert_eq!(reader.channels().unwrap()[0].earned, 500);
    assert_eq!(reader.events(0, 10).unwrap().len(), 2);
    assert_eq!(reader.events(1, 10).unwrap().len(), 1);
}

fn begun(id: u8, worst: u128) -> Entry<'static> {
    Entry::Begun { channel: channel(), request: RequestId([id; 16]), worst }
}

#[test]
fn a_payer_remembers_what_was_begun_until_it_ends() {
    let k = kept(Side::Payer);
    open_channel(&k.ledger);
    let memory = || k.ledger.view().memory(channel()).unwrap();
    assert_eq!(memory(), None);
    let with_cap = k.ledger.record_all(&[Entry::Cap(&cap(100)), begun(1, 30)], NOW).unwrap();
    assert!(matches!(with_cap, Recorded::New { .. }));
    for id in 2..=4 {
        assert!(k.is_new(&begun(id, 30)));
    }
    assert!(k.is_new(&request(1, 7)));
    assert!(k.is_new(&Entry::Refused { channel: channel(), request: RequestId([2; 16]) }));
    let (claim, ended, late) = (claim(7, 1), [RequestId([3; 16])], [RequestId([4; 16])]);
    assert!(k.is_new(&begun(5, 30)));
    let (late, ended) = (&late, &ended);
    let (explained, unreceipted) = (3, 2);
    let included = 7;
    let claim = &claim;
    assert!(k.is_new(&Entry::Accepted { claim, included, late, ended, explained, unreceipted }));
    let left = |id| vec![OpenRequest { request: RequestId([id; 16]), worst: 30, begun: NOW }];
    let (open, late) = (left(5), left(4));
    let unreceipted = Some(unreceipted);
    let expected = Memory { included, open, late, explained, unreceipted, ..Memory::default() };
    assert_eq!(memory(), Some(expected.clone()));
    // Another process reads the same.
    drop(k.ledger);
    let view = LedgerView::open(&k.dir.path().join("l"), Side::Payer).unwrap();
    assert_eq!(view.memory(channel()).unwrap(), Some(expected));
    assert_eq!(view.channel(channel()).unwrap().unwrap().earned, 7);
}

#[test]
fn a_payer_that_adopts_a_claim_it_forgot_remembers_what_it_says_beyond_its_receipts() {
    let k = kept(Side::Payer);
    open_channel(&k.ledger);
    let room = || k.ledger.view().memory(channel()).unwrap().and_then(|memory| memory.unreceipted);
    assert!(k.is_new(&Entry::Accepted {
        claim: &claim(7, 1),
        included: 7,
        late: &[],
        ended: &[],
        explained: 0,
        unreceipted: 0,
    }));
    assert_eq!(room(), Some(0));
    assert!(k.is_new(&Entry::Claim(&claim(70, 2))));
    assert_eq!(room(), Some(63));
    k.record(&Entry::Claim(&claim(60, 2))).unwrap();
    assert_eq!(room(), Some(63), "an old one takes nothing back");
}

#[test]
fn entries_that_belong_together_are_recorded_together_or_not_at_all() {
    let k = kept(Side::Payer);
    open_channel(&k.ledger);
    let mut forged = cap(100).cap().clone();
    forged.max_cum = 101;
    let forged = SignedCap::new(forged, *cap(100).signature()).unwrap();
    let refused = k.ledger.record_all(&[begun(1, 30), Entry::Cap(&forged)], NOW);
    assert_eq!(refused, Err(LedgerError::Refused(ReceiptError::CapSignature)));
    assert_eq!(k.ledger.view().memory(channel()).unwrap(), None);
}

/// A worker that goes back to an earlier meter is handed the sum of the later one.
#[test]
fn a_meter_that_goes_on_after_another_has_its_requests_counted_once() {
    let k = kept(Side::Payee);
    for (seed, sum, count) in [(0x11, 100, 2), (0x12, 150, 1), (0x11, 155, 3), (0x12, 160, 2)] {
        assert!(k.is_new(&Entry::Claim(&claim_of(&meter(seed), sum, count))));
    }
    let events = k.ledger.view().events(1, 10).unwrap();
    let requests: Vec<_> = events
        .iter()
        .map(|event| match event.kind {
            EventKind::Earned { requests, tokens, .. } => (requests, tokens),
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(requests, [(2, 20), (1, 10), (1, 10), (1, 10)]);
    assert_eq!(k.channel().requests, 5);
}

#[test]
fn a_claim_that_is_too_much_is_a_proof_and_no_sum() {
    let k = kept(Side::Payer);
    open_channel(&k.ledger);
    let claim = claim(70, 2);
    assert!(k.is_new(&Entry::Overcharge { claim: &claim, accounted: 60, asked: ASKED }));
    let proof = k.ledger.view().memory(channel()).unwrap().unwrap().overcharge.unwrap();
    assert_eq!((proof.claim, proof.accounted), (claim, 60));
    assert_eq!((k.channel().earned, k.channel().claim), (0, None));
}

#[test]
fn a_payer_that_pays_on_after_all_owes_what_was_claimed_and_keeps_the_event() {
    let k = kept(Side::Payer);
    open_channel(&k.ledger);
    let claim = claim(70, 2);
    let lifted = Entry::Lifted { channel: channel() };
    assert_eq!(k.record(&lifted), Ok(Recorded::Known), "nothing is stopped");
    assert_eq!(k.ledger.lift(channel(), NOW), Ok(None));
    assert!(k.is_new(&request(1, 50)) && k.is_new(&begun(2, 30)));
    let later = UnixTime(NOW.0 + 1);
    k.ledger.record(&begun(3, 30), later).unwrap();
    assert!(k.is_new(&Entry::Overcharge { claim: &claim, accounted: 60, asked: ASKED }));
    let proof = Box::new(Overcharge { claim: claim.clone(), accounted: 60, asked: Some(ASKED) });
    assert_eq!(k.ledger.lift(channel(), NOW), Ok(Some(Stopped::Overcharge(proof))));
    let memory = k.ledger.view().memory(channel()).unwrap().unwrap();
    assert_eq!(memory.overcharge, None);
    assert_eq!(k.channel().earned, 70);
    // What is in the claim for certain does not count a second time.
    let open = OpenRequest { request: RequestId([3; 16]), worst: 30, begun: later };
    assert_eq!((memory.included, memory.open, memory.late.len()), (50, vec![open], 1));
    assert_eq!(memory.unreceipted, Some(20), "all that it says beyond its receipts");
    assert_eq!(k.record(&lifted), Ok(Recorded::Known));
    let events = k.ledger.view().events(0, 10).unwrap();
    let kinds: Vec<_> = events.into_iter().map(|event| event.kind).collect();
    assert!(matches!(kinds[2], EventKind::Overcharged { .. }), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&EventKind::Lifted {}));
}

#[test]
fn each_of_two_proofs_is_shown_before_it_is_lifted() {
    let k = kept(Side::Payer);
    open_channel(&k.ledger);
    let (before, other, too_much) = (claim(70, 2), claim(60, 3), claim(90, 4));
    assert!(k.is_new(&Entry::Claim(&before)));
    assert!(k.is_new(&Entry::Forked { before: &before, claim: &other }));
    assert!(k.is_new(&Entry::Overcharge { claim: &too_much, accounted: 80, asked: ASKED }));
    let forgiven = || k.ledger.view().memory(channel()).unwrap().unwrap().forgiven;
    let proof = Overcharge { claim: too_much, accounted: 80, asked: Some(ASKED) };
    let first = k.ledger.lift(channel(), NOW);
    assert_eq!(first, Ok(Some(Stopped::Overcharge(Box::new(proof)))));
    assert_eq!(forgiven(), None, "nobody was told of the two logs yet");
    let fork = Box::new(Fork { before, claim: other });
    assert_eq!(k.ledger.lift(channel(), NOW), Ok(Some(Stopped::Fork(fork))));
    assert_eq!(forgiven(), Some(before_meter(&k)));
    assert_eq!(k.ledger.lift(channel(), NOW), Ok(None));
}

#[test]
fn two_logs_are_kept_until_they_are_forgiven() {
    let k = kept(Side::Payer);
    open_channel(&k.ledger);
    let (before, other) = (claim(70, 2), claim(60, 3));
    assert!(k.is_new(&Entry::Claim(&before)));
    assert!(k.is_new(&Entry::Forked { before: &before, claim: &other }));
    let fork = Fork { before: before.clone(), claim: other };
    let memory = || k.ledger.view().memory(channel()).unwrap().unwrap();
    assert_eq!((memory().fork.as_ref(), memory().forgiven), (Some(&fork), None));
    assert_eq!(k.channel().claim, Some(before), "the other is no sum");
    assert_eq!(k.ledger.lift(channel(), NOW), Ok(Some(Stopped::Fork(Box::new(fork)))));
    let named = before_meter(&k);
    assert_eq!((memory().fork, memory().forgiven), (None, Some(named)));
    assert_eq!((k.channel().earned, k.ledger.lift(channel(), NOW)), (70, Ok(None)));
}

fn before_meter(k: &Kept) -> Digest {
    Digest(k.channel().claim.unwrap().cap().cap().meter_key.to_bytes())
}

/// The record says `{}`, or `bytes` stand for the claim of one sum.
fn damage(path: &std::path::Path, table: &'static str, key: &[u8], bytes: &[u8]) {
    let database = redb::Builder::new()
        .set_concurrency_mode(redb::ConcurrencyMode::MultiWriter)
        .create(path)
        .unwrap();
    let tx = database.begin_write().unwrap();
    let table = redb::TableDefinition::<&[u8], &[u8]>::new(table);
    tx.open_table(table).unwrap().insert(key, bytes).unwrap();
    tx.commit().unwrap();
}

#[test]
fn a_claim_of_a_channel_whose_record_is_damaged_is_kept_and_the_damage_is_told() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("l");
    let ledger = || Ledger::open(&path, Side::Payee).unwrap();
    ledger().record(&Entry::Claim(&claim(70, 2)), NOW).unwrap();
    let id = channel();
    let key = [&id.network.0.to_be_bytes()[..], &id.account.0].concat();
    damage(&path, "channels", &key, b"{}");
    let damaged =
        |told| matches!(told, Err(LedgerError::DamagedChannel { channel, .. }) if channel == id);
    for (cum, twice) in [(90, false), (90, true), (80, false)] {
        assert!(damaged(ledger().record(&Entry::Claim(&claim(cum, 3)), NOW)), "{cum} {twice}");
    }
    let sums = || -> Vec<u128> {
        ledger().view().claims(id).unwrap().iter().map(Claim::cum_amount).collect()
    };
    assert_eq!(sums(), [70, 80, 90]);
    // What does not verify is not kept, and nothing else of the channel is.
    let mut forged = claim(95, 3).encode();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Claim::decode(&forged).unwrap();
    assert!(matches!(ledger().record(&Entry::Claim(&forged), NOW), Err(LedgerError::Refused(_))));
    assert!(damaged(ledger().record(&paid(70, 1), NOW)));
    assert_eq!(sums(), [70, 80, 90]);
    // A later claim that cannot be read either does not hide those before it.
    damage(&path, "claims", &[key.as_slice(), &91_u128.to_be_bytes()].concat(), b"x");
    assert!(ledger().view().claims(id).is_err());
    assert_eq!(ledger().view().latest_claim(id).unwrap(), Some(claim(90, 3)));
    // Nor one that can be read and does not hold.
    damage(&path, "claims", &[key.as_slice(), &95_u128.to_be_bytes()].concat(), &forged.encode());
    assert_eq!(ledger().view().latest_claim(id).unwrap(), Some(claim(90, 3)));
}

#[test]
fn a_record_that_cannot_be_read_costs_its_own_channel_and_no_other() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("l");
    let ledger = Ledger::open(&path, Side::Payee).unwrap();
    ledger.record(&Entry::Claim(&claim(70, 2)), NOW).unwrap();
    drop(ledger);
    damage(&path, "channels", &[0; 36], b"{}");
    let view = LedgerView::open(&path, Side::Payee).unwrap();
    assert!(view.channels().is_err());
    let [bad, good] = &view.each_channel().unwrap()[..] else { panic!() };
    let Err(LedgerError::DamagedChannel { channel: named, .. }) = bad else { panic!("{bad:?}") };
    assert_eq!(named.account, chrysalis_wire::Digest([0; 32]));
    assert_eq!(good.as_ref().unwrap().earned, 70);
}
