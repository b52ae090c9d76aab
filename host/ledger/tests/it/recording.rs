//! What entries add up to.

use chrysalis_ledger::{
    Entry, EventKind, Ledger, LedgerError, LedgerView, Nano, Phase, Recorded, Side,
};
use chrysalis_receipt::{Claim, ReceiptError, SignedCap};
use chrysalis_wire::{Digest, RequestId, UnixTime};
use tempfile::TempDir;

use crate::{NOW, cap, channel, claim, claim_of, meter, open_channel};

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
