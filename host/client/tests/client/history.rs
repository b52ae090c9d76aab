//! The history of a channel as its parties keep it: recomputed whole, in part with proofs, and refused
//! for everything that would make somebody pay for what was not served.

use chrysalis_client::limits::MAX_HISTORY_BYTES;
use chrysalis_client::{ChannelHistory, ClientError, Counted, MeterHistory, Place};
use chrysalis_receipt::{
    Att, Blinds, ChannelId, Finish, Frontier, Io, MeterKey, MeterPublicKey, MeterState, Model,
    Outcome, PayerKey, PayerPublicKey, PublicReceipt, RequestReceipt, Settlement, SignedReceipt,
    SignedSettlement, Usage, prove_consistency, prove_inclusion,
};
use chrysalis_wire::manifest::PricesSection;
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixMillis, UnixTime};
use zeroize::Zeroizing;

pub(crate) const CHANNEL: ChannelId =
    ChannelId { network: NetworkId::TESTNET, account: Digest([0xc1; 32]) };

pub(crate) fn payer() -> PayerKey {
    PayerKey::from_seed(&Zeroizing::new([0x22; 32]))
}

pub(crate) fn meter(seed: u8) -> MeterKey {
    MeterKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// A request that costs `amount` nanogram.
pub(crate) fn receipt(meter: &MeterKey, id: u8, amount: u64) -> SignedReceipt {
    let none = 0;
    let usage = Usage {
        prompt: 1,
        cached: 0,
        completion: 0,
        reasoning: 0,
        finish: Finish::Stop,
        prices: PricesSection {
            prompt: amount * 1_000_000,
            cached: none,
            completion: none,
            reasoning: none,
        },
        started: UnixMillis(1_795_000_000_500),
        ended: UnixMillis(1_795_000_001_900),
    };
    let digest = |n| Digest([n; 32]);
    let receipt = RequestReceipt {
        network: CHANNEL.network,
        registry: digest(1),
        request_id: RequestId([id; 16]),
        issued_at: UnixTime(1_795_000_002),
        amount: amount.into(),
        io: Io { request_commit: digest(3), response_commit: digest(4) },
        usage,
        model: Model {
            manifest_sha256: digest(5),
            engine_image_sha256: digest(6),
            sampling_hash: digest(7),
        },
        att: Att { evidence_sha256: digest(8), measurement_sha256: digest(6) },
    };
    meter.sign(&receipt, Blinds::derive(&[9; 32], receipt.request_id)).unwrap()
}

/// A meter as it counts: settles after each of `settle_at` requests.
struct Counting {
    meter: MeterKey,
    log: Frontier,
    cum: u128,
    prev: Digest,
    receipts: Vec<SignedReceipt>,
    settlements: Vec<SignedSettlement>,
}

impl Counting {
    fn new(seed: u8, cum: u128, prev: Digest) -> Self {
        let (meter, log) = (meter(seed), Frontier::new());
        Self { meter, log, cum, prev, receipts: Vec::new(), settlements: Vec::new() }
    }

    fn serve(&mut self, id: u8, amount: u64) {
        let receipt = receipt(&self.meter, id, amount);
        self.log.append(&receipt.hash()).unwrap();
        self.cum += u128::from(amount);
        self.receipts.push(receipt);
    }

    fn settle(&mut self) {
        let head = self.log.head();
        let state = MeterState {
            blind: [0xb1; 16],
            count: head.size,
            cum_units: head.size,
            issued_at: UnixTime(1_795_000_003),
            prev: self.prev,
            log_root: head.root,
        };
        let settlement = Settlement { channel: CHANNEL, cum_amount: self.cum, state };
        let signed = self.meter.sign_settlement(settlement).unwrap();
        self.prev = signed.cell().hash();
        self.settlements.push(signed);
    }

    fn history(&self, max_cum: u128) -> MeterHistory {
        let key = MeterPublicKey::parse(&self.meter.public()).unwrap();
        let receipts = (0..).zip(&self.receipts).map(|(index, receipt)| Counted {
            index,
            receipt: PublicReceipt::from(receipt),
            inclusion: None,
        });
        MeterHistory {
            cap: payer().sign(CHANNEL, key, max_cum).unwrap(),
            settlements: self.settlements.clone(),
            receipts: receipts.collect(),
            growth: Vec::new(),
        }
    }

    fn hashes(&self) -> Vec<Digest> {
        self.receipts.iter().map(SignedReceipt::hash).collect()
    }
}

/// Five requests settled after two and five, a restart, and two more.
fn counted() -> [Counting; 2] {
    let mut first = Counting::new(0x11, 0, Digest([0; 32]));
    first.serve(1, 100);
    first.serve(2, 250);
    first.settle();
    for id in 3..=5 {
        first.serve(id, 70);
    }
    first.settle();
    let mut second = Counting::new(0x12, first.cum, first.prev);
    second.serve(6, 1_000);
    second.serve(7, 5);
    second.settle();
    [first, second]
}

fn history() -> ChannelHistory {
    let [first, second] = counted();
    let meters = vec![first.history(1_000), second.history(5_000)];
    let payer_key = PayerPublicKey::parse(&payer().public()).unwrap();
    ChannelHistory { channel: CHANNEL, payer_key, terms: None, meters }
}

fn ids(history: &ChannelHistory, outcome: Outcome) -> Vec<&'static str> {
    let report = history.verify();
    report.checks.iter().filter(|c| c.outcome == outcome).map(|c| c.id).collect()
}

/// The checks that fail; the report must say so in every way it has.
#[track_caller]
fn refused(history: &ChannelHistory) -> Vec<&'static str> {
    let report = history.verify();
    assert!(report.failed() && !report.holds, "{}", report.conclusion());
    assert!(report.conclusion().starts_with("REFUSED"), "{}", report.conclusion());
    ids(history, Outcome::Fail)
}

#[test]
fn a_whole_history_holds_and_says_what_is_owed() {
    let report = history().verify();
    assert!(report.holds, "{:#?}", report.checks);
    assert_eq!((report.owed, report.allowed, report.requests), (1_565, 5_000, 7));
    assert_eq!(
        report.conclusion(),
        "HOLDS  7 requests cost 0.000001565 GRAM of 0.000005000 GRAM allowed, and every one of them is \
         here"
    );
    let [_, second] = counted();
    let place = report.place_of(&second.receipts[1].hash());
    assert_eq!(place, Some(Place { meter: 1, index: 1, settled: true }));
    assert_eq!(report.place_of(&Digest([0; 32])), None);
}

#[test]
fn a_history_is_read_back_as_it_was_written() {
    let json = history().to_json().unwrap();
    assert!(ChannelHistory::parse(&json).unwrap() == history());
}

#[test]
fn a_part_of_a_history_holds_as_far_as_its_proofs_go() {
    let [first, second] = counted();
    let hashes = first.hashes();
    let mut part = history();
    // One request of the first meter with its proof, and none of the second.
    let kept = &mut part.meters[0];
    kept.receipts = vec![Counted {
        inclusion: Some(prove_inclusion(&hashes, 3).unwrap()),
        ..kept.receipts[3].clone()
    }];
    kept.growth = vec![prove_consistency(&hashes, 2).unwrap()];
    part.meters[1].receipts.clear();
    let report = part.verify();
    assert!(!report.failed() && !report.holds, "{}", report.conclusion());
    assert!(report.conclusion().starts_with("INCOMPLETE"), "{}", report.conclusion());
    assert_eq!(ids(&part, Outcome::Skip), ["amounts"]);
    assert_eq!(report.place_of(&hashes[3]).unwrap().index, 3);
    assert_eq!(ChannelHistory::parse(&part.to_json().unwrap()).unwrap(), part);

    // Without the proofs there is nothing to go by, and the report says so.
    part.meters[0].growth.clear();
    part.meters[0].receipts[0].inclusion = None;
    assert_eq!(ids(&part, Outcome::Skip), ["log", "inclusion", "amounts"]);
    // A proof for another place or of another log is a failure, no gap.
    part.meters[0].receipts[0].inclusion = Some(prove_inclusion(&hashes, 2).unwrap());
    assert_eq!(refused(&part), ["inclusion"]);
    part.meters[0].receipts[0].inclusion = None;
    part.meters[0].growth = vec![prove_consistency(&second.hashes(), 2).unwrap()];
    assert_eq!(ids(&part, Outcome::Skip), ["log", "inclusion", "amounts"]);
    let mut other = hashes;
    other[4] = Digest([7; 32]);
    part.meters[0].growth = vec![prove_consistency(&other, 2).unwrap()];
    assert_eq!(refused(&part), ["log"]);
}

#[test]
fn refuses_a_sum_that_its_requests_do_not_cost() {
    let [mut first, second] = counted();
    first.cum += 1;
    first.serve(9, 1);
    first.settle();
    let mut more = history();
    more.meters[0] = first.history(1_000);
    more.meters.truncate(1);
    assert_eq!(refused(&more), ["amounts"]);
    // Nor one below what the known part of them costs.
    drop(second);
    let mut less = Counting::new(0x11, 0, Digest([0; 32]));
    less.serve(1, 100);
    less.serve(2, 250);
    less.cum = 50;
    less.settle();
    let mut part = history();
    part.meters = vec![less.history(1_000)];
    part.meters[0].receipts.truncate(1);
    assert_eq!(refused(&part), ["amounts"]);
}

#[test]
fn refuses_a_request_that_is_counted_twice() {
    // By one meter, signed twice so that the log is right.
    let mut twice = Counting::new(0x11, 0, Digest([0; 32]));
    twice.serve(1, 100);
    twice.serve(1, 100);
    twice.settle();
    let mut history = history();
    history.meters = vec![twice.history(1_000)];
    assert_eq!(refused(&history), ["once"]);
    // And by the next one.
    let [first, _] = counted();
    let mut second = Counting::new(0x12, first.cum, first.prev);
    second.serve(5, 70);
    second.settle();
    history.meters = vec![first.history(1_000), second.history(1_000)];
    assert_eq!(refused(&history), ["once"]);
}

#[test]
fn refuses_a_log_that_took_a_request_back() {
    let [first, _] = counted();
    let mut other = Counting::new(0x11, 0, Digest([0; 32]));
    other.serve(1, 100);
    other.serve(8, 250);
    other.settle();
    let mut history = history();
    history.meters.truncate(1);
    // The first settlement is of another log than the second.
    history.meters[0].settlements[0] = other.settlements[0].clone();
    let failed = refused(&history);
    assert_eq!(failed, ["log"], "{failed:?}");
    drop(first);
}

#[test]
fn refuses_signatures_that_are_not_the_payers_or_the_allowed_meters() {
    let mut forged = history();
    let stranger = PayerKey::from_seed(&Zeroizing::new([0x23; 32]));
    let key = forged.meters[0].cap.cap().meter_key;
    forged.meters[0].cap = stranger.sign(CHANNEL, key, 1_000).unwrap();
    assert_eq!(refused(&forged), ["caps", "settlements"]);

    let mut above = history();
    above.meters[0].cap = payer().sign(CHANNEL, key, 559).unwrap();
    assert_eq!(refused(&above), ["settlements"]);

    let mut swapped = history();
    swapped.meters[0].cap = swapped.meters[1].cap.clone();
    let failed = refused(&swapped);
    assert_eq!(failed[..3], ["caps", "settlements", "receipts"], "{failed:?}");
}

#[test]
fn refuses_sums_that_shrink_and_says_which_are_missing() {
    let mut shrunk = history();
    shrunk.meters[0].settlements.swap(0, 1);
    let failed = refused(&shrunk);
    assert!(failed.contains(&"growth"), "{failed:?}");
    let mut gap = history();
    gap.meters[0].settlements.remove(0);
    assert_eq!(ids(&gap, Outcome::Skip), ["acknowledged"]);
    assert!(ids(&gap, Outcome::Fail).is_empty());
}

/// A sum may be signed again, for a payer who has acknowledged more; with another log it is proof that
/// the meter tells different people different things.
#[test]
fn refuses_two_logs_of_one_size() {
    let [mut first, _] = counted();
    first.settle();
    let mut again = history();
    again.meters = vec![first.history(1_000)];
    assert!(again.verify().holds, "{}", again.verify().conclusion());

    let mut other = Counting::new(0x11, 0, first.prev);
    for (id, amount) in [(1, 100), (2, 250), (3, 70), (8, 70), (9, 70)] {
        other.serve(id, amount);
    }
    other.settle();
    again.meters[0].settlements.push(other.settlements[0].clone());
    assert_eq!(refused(&again), ["log"]);
    again.meters[0].receipts.clear();
    assert_eq!(refused(&again), ["log"]);
}

#[test]
fn a_request_after_the_last_sum_is_not_settled() {
    let [mut first, _] = counted();
    first.serve(9, 10);
    let mut history = history();
    history.meters = vec![first.history(1_000)];
    let report = history.verify();
    let place = report.place_of(&first.receipts[5].hash());
    assert_eq!(place, Some(Place { meter: 0, index: 5, settled: false }));
    assert_eq!(ids(&history, Outcome::Skip), ["inclusion"]);
}

#[test]
fn refuses_a_document_of_another_form() {
    let text = String::from_utf8(history().to_json().unwrap()).unwrap();
    let read = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        ChannelHistory::parse(text.replacen(from, to, 1).as_bytes())
    };
    for (from, to) in [
        ("channel-history/v1", "channel-history/v2"),
        ("\"network\"", "\"more\": 1, \"network\""),
        ("\"max_cum\": \"1000\"", "\"max_cum\": 1000"),
        ("\"max_cum\": \"1000\"", "\"max_cum\": \"01000\""),
        ("\"cum_amount\": \"350\"", "\"cum_amount\": \"-350\""),
        ("\"tag\": \"RQR1\"", "\"tag\": \"SIM1\""),
    ] {
        let refused = read(from, to);
        assert!(matches!(refused, Err(ClientError::HistoryMalformed(_))), "{to}");
    }
    let changed = read("\"cum_amount\": \"350\"", "\"cum_amount\": \"351\"").unwrap();
    assert!(refused(&changed).contains(&"settlements"));
}

#[test]
fn refuses_one_byte_over_the_size_limit() {
    let mut json = history().to_json().unwrap();
    json.resize(MAX_HISTORY_BYTES, b' ');
    assert!(ChannelHistory::parse(&json).is_ok());
    json.push(b' ');
    assert!(matches!(ChannelHistory::parse(&json), Err(ClientError::HistoryMalformed(_))));
}
