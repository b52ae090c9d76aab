//! `chrysalis receipt chain` on a history as the parties of a channel keep it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use chrysalis_client::{ChannelHistory, Counted, MeterHistory};
use chrysalis_receipt::{
    Att, Blinds, ChannelId, Finish, Io, MeterKey, MeterPublicKey, MeterState, Model, PayerKey,
    PayerPublicKey, PublicReceipt, RequestReceipt, Settlement, Usage, head_of,
};
use chrysalis_wire::manifest::PricesSection;
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixMillis, UnixTime};
use common::World;
use zeroize::Zeroizing;

/// Two requests of 0.4 GRAM each, settled once for `cum_amount` nanogram.
fn history(cum_amount: u128) -> Vec<u8> {
    history_of(cum_amount, 2, true)
}

/// The first `settled` of the two, and their receipts if `shown`.
fn history_of(cum_amount: u128, settled: usize, shown: bool) -> Vec<u8> {
    let channel = ChannelId { network: NetworkId::TESTNET, account: Digest([0xc1; 32]) };
    let payer = PayerKey::from_seed(&Zeroizing::new([0x22; 32]));
    let meter = MeterKey::from_seed(&Zeroizing::new([0x11; 32]));
    let key = MeterPublicKey::parse(&meter.public()).unwrap();
    let digest = |n| Digest([n; 32]);
    let prices = PricesSection { prompt: 4_000_000, cached: 0, completion: 0, reasoning: 0 };
    let receipts: Vec<_> = (1..=2)
        .map(|id| {
            let usage = Usage {
                prompt: 100_000_000,
                cached: 0,
                completion: 0,
                reasoning: 0,
                finish: Finish::Stop,
                prices,
                started: UnixMillis(1_795_000_000_500),
                ended: UnixMillis(1_795_000_001_900),
            };
            let receipt = RequestReceipt {
                network: channel.network,
                registry: digest(1),
                request_id: RequestId([id; 16]),
                issued_at: UnixTime(1_795_000_002),
                amount: usage.amount().unwrap(),
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
        })
        .collect();
    let hashes: Vec<_> = receipts.iter().take(settled).map(|receipt| receipt.hash()).collect();
    let head = head_of(&hashes);
    let state = MeterState {
        blind: [0xb1; 16],
        count: head.size,
        cum_units: 200_000_000,
        issued_at: UnixTime(1_795_000_003),
        prev: Digest([0; 32]),
        log_root: head.root,
    };
    let meter_history = MeterHistory {
        cap: payer.sign(channel, key, 1_000_000_000).unwrap(),
        settlements: vec![
            meter.sign_settlement(Settlement { channel, cum_amount, state }).unwrap(),
        ],
        receipts: (0..)
            .zip(receipts.iter().filter(|_| shown))
            .map(|(index, r)| Counted { index, receipt: PublicReceipt::from(r), inclusion: None })
            .collect(),
        growth: Vec::new(),
    };
    let payer_key = PayerPublicKey::parse(&payer.public()).unwrap();
    ChannelHistory { channel, payer_key, terms: None, meters: vec![meter_history] }
        .to_json()
        .unwrap()
}

#[test]
fn a_history_that_adds_up_holds_in_words_and_json() {
    let world = World::new();
    world.file("h.json", history(800_000_000));
    let text = world.run("receipt chain @h.json").success().stdout();
    for line in [
        "PASS  amounts",
        "PASS  once",
        "HOLDS  2 requests cost 0.800000000 GRAM of 1.000000000 GRAM allowed",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let json = world.run("--format json receipt chain @h.json").success();
    let json = json.json("chrysalis/receipt-chain/v1");
    assert_eq!(json["history"]["owed"], "800000000");
    assert_eq!(json["history"]["requests"], 2);
    assert_eq!(json["history"]["holds"], true);
}

#[test]
fn a_history_that_does_not_add_up_is_refused_with_what_is_wrong() {
    let world = World::new();
    world.file("h.json", history(800_000_001));
    let run = world.run("receipt chain @h.json").exits(10).says("E-RECEIPT-CHECK");
    assert!(run.stdout().contains("FAIL  amounts"), "{}", run.stdout());
    assert!(run.stdout().contains("REFUSED"), "{}", run.stdout());
    assert!(run.stderr().contains("0.800000001 GRAM, its requests cost"), "{}", run.stderr());
}

#[test]
fn a_file_that_is_no_history_is_malformed_and_receipts_need_pins() {
    let world = World::with_pins();
    world.file("h.json", history(800_000_000));
    world.file("r.json", "{\"schema\":\"chrysalis/stored-receipt/v1\"}");
    world.run("receipt chain @r.json").exits(30).says("E-HISTORY");
    world.run("receipt chain @nowhere").exits(64).says("E-FILE");
    world.run("receipt chain @h.json @r.json").exits(64);
    let judge = "--pins @pins.toml --collateral @collateral.json --insecure-sim";
    let run = world.run(&format!("receipt chain @h.json @r.json {judge}"));
    run.exits(30).says("E-STORED-RECEIPT");
}

#[test]
fn two_histories_are_compared_and_it_is_no_success_where_nothing_could_be() {
    let world = World::new();
    world.file("ours.json", history(800_000_000));
    world.file("theirs.json", history_of(800_000_000, 2, false));
    let run = world.run("receipt chain @ours.json --with @theirs.json").success();
    assert!(run.stdout().contains("agree"), "{}", run.stdout());
    // One has signed sums of one receipt, the other of two, and neither shows receipts.
    world.file("less.json", history_of(400_000_000, 1, false));
    for (one, other) in [("theirs", "less"), ("less", "theirs")] {
        let run = world.run(&format!("receipt chain @{one}.json --with @{other}.json"));
        run.exits(10).says("E-HISTORY-NOT-COMPARED");
    }
    world.run("receipt chain @ours.json --with @less.json").success();
}
