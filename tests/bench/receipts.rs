//! Receipts and settlements against bare Ed25519 of the same library over 32 bytes: what is around the
//! signatures that nobody can do without.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrysalis_receipt::{
    Att, Blinds, ChannelId, Finish, Frontier, Io, MeterKey, MeterPublicKey, MeterState, Model,
    PayerKey, PayerPublicKey, ReceiptExpectation, RequestReceipt, ResponseCommit, Settlement,
    SignedReceipt, Usage, request_commit, verify,
};
use chrysalis_wire::manifest::PricesSection;
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixMillis, UnixTime};
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use crate::report::{Better, Comparison};
use crate::request::millis;

/// Receipts, and what a channel settles by.
pub(crate) fn measure(rounds: usize) -> Result<[Comparison; 2]> {
    crate::progress("receipts and settlements");
    let meter = MeterKey::from_seed(&Zeroizing::new(SEED));
    let bare = SigningKey::from_bytes(&SEED);
    Ok([receipts(rounds, &meter, &bare)?, settlements(rounds, &meter, &bare)?])
}

fn receipts(rounds: usize, meter: &MeterKey, bare: &SigningKey) -> Result<Comparison> {
    let receipt = receipt()?;
    let signed = meter.sign(&receipt, Blinds::derive(&SALT, receipt.request_id))?;
    let expect = expectation(&receipt, meter);
    let hash = signed.hash().0;
    let signature = bare.sign(&hash);
    ensure!(signature.to_bytes() == *signed.signature(), "another scheme is measured");
    let json = signed.to_json()?;
    let candidates = [
        "blinds, cells and signature of a receipt",
        "one Ed25519 signature",
        "every check of a receipt",
        "one strict Ed25519 verification",
        "a receipt read from JSON and checked",
    ];
    let mut out = Comparison::new("Receipts: one request", "us", Better::Less, candidates)
        .ratio(0, 1)
        .ratio(2, 3)
        .ratio(4, 3)
        .note("the bars are 60 us to sign and 100 us to verify, and twice the bare operation");
    for round in 0..=rounds {
        let signing = timed(|| {
            let blinds = Blinds::derive(&SALT, receipt.request_id);
            Ok(meter.sign(&receipt, blinds)?.signature() == signed.signature())
        })?;
        let alone = timed(|| Ok(bare.sign(&hash) == signature))?;
        let verifying = timed(|| Ok(verify(&signed, &expect).ok))?;
        let strict = timed(|| Ok(bare.verifying_key().verify_strict(&hash, &signature).is_ok()))?;
        let reading =
            timed(|| Ok(verify(&SignedReceipt::from_json(json.as_bytes())?, &expect).ok))?;
        if round > 0 {
            out.round(&[signing, alone, verifying, strict, reading].map(micros));
        }
    }
    Ok(out)
}

fn settlements(rounds: usize, meter: &MeterKey, bare: &SigningKey) -> Result<Comparison> {
    let payer = PayerKey::from_seed(&Zeroizing::new([0x22; 32]));
    let payer_key = PayerPublicKey::parse(&payer.public())?;
    let meter_key = MeterPublicKey::parse(&meter.public())?;
    let channel = ChannelId { network: NetworkId::TESTNET, account: Digest([0xc1; 32]) };
    let cap = payer.sign(channel, meter_key, 1_000_000_000)?;
    let state = |count| MeterState {
        blind: [0xb1; 16],
        count,
        cum_units: 123_456,
        issued_at: UnixTime(1_795_000_000),
        prev: Digest([0; 32]),
        log_root: Digest([0xab; 32]),
    };
    let settlement = Settlement { channel, cum_amount: 900_000_000, state: state(1_000_000) };
    let signed = meter.sign_settlement(settlement.clone())?;
    let hash = signed.cell().hash().0;
    let signature = bare.sign(&hash);
    let mut log = Frontier::new();
    for n in 0..LOG {
        log.append(&Digest([n.to_le_bytes()[0]; 32]))?;
    }
    let candidates = [
        "receipt into the log, and a settlement signed",
        "one Ed25519 signature",
        "cap and settlement verified",
        "two strict Ed25519 verifications",
    ];
    let mut out = Comparison::new("Receipts: settlement", "us", Better::Less, candidates)
        .ratio(0, 1)
        .ratio(2, 3)
        .note(format!(
            "the log has {LOG} receipts and more; the payer's key differs from the meter's"
        ));
    for round in 0..=rounds {
        let signing = timed(|| {
            log.append(&Digest([7; 32]))?;
            let head = log.head();
            let state = MeterState { log_root: head.root, ..state(head.size) };
            let signed = meter.sign_settlement(Settlement { state, ..settlement.clone() })?;
            Ok(signed.settlement().cum_amount == settlement.cum_amount)
        })?;
        let alone = timed(|| Ok(bare.sign(&hash) == signature))?;
        let verifying = timed(|| {
            let cap = cap.verify(&payer_key, channel, &meter_key)?;
            Ok(signed.verify(&cap).is_ok())
        })?;
        let strict = timed(|| {
            let key = bare.verifying_key();
            Ok((0..2).all(|_| key.verify_strict(&hash, &signature).is_ok()))
        })?;
        if round > 0 {
            out.round(&[signing, alone, verifying, strict].map(micros));
        }
    }
    Ok(out)
}

/// Time of one turn; every turn has to give what it should.
fn timed(mut turn: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..TURNS {
        ensure!(turn()?, "the result is wrong");
    }
    Ok(started.elapsed() / TURNS)
}

fn micros(time: Duration) -> f64 {
    millis(time) * 1000.0
}

fn receipt() -> Result<RequestReceipt> {
    let usage = Usage {
        prompt: 1000,
        cached: 400,
        completion: 300,
        reasoning: 0,
        finish: Finish::Stop,
        prices: PricesSection {
            prompt: 20_000_000,
            cached: 5_000_000,
            completion: 160_000_000,
            reasoning: 0,
        },
        started: UnixMillis(1_795_000_000_500),
        ended: UnixMillis(1_795_000_001_900),
    };
    Ok(RequestReceipt {
        network: NetworkId::TESTNET,
        registry: Digest([0x21; 32]),
        request_id: RequestId([0x22; 16]),
        issued_at: UnixTime(1_795_000_002),
        amount: usage.amount()?,
        io: Io {
            request_commit: request_commit(&SALT, b"{}"),
            response_commit: ResponseCommit::new(&SALT).finish(),
        },
        usage,
        model: Model {
            manifest_sha256: Digest([0x41; 32]),
            engine_image_sha256: Digest([0x52; 32]),
            sampling_hash: Digest([0x43; 32]),
        },
        att: Att { evidence_sha256: Digest([0x51; 32]), measurement_sha256: Digest([0x52; 32]) },
    })
}

/// Everything that a requester can compare, so that no check is skipped but times.
fn expectation(r: &RequestReceipt, meter: &MeterKey) -> ReceiptExpectation<'static> {
    ReceiptExpectation {
        network: r.network,
        registry: r.registry,
        meter_key: meter.public(),
        request_id: r.request_id,
        model_root: r.model.manifest_sha256,
        measurement_digest: r.att.measurement_sha256,
        evidence_digest: r.att.evidence_sha256,
        prices: r.usage.prices,
        salt: Some(&SALT),
        request_commit: Some(r.io.request_commit),
        response_commit: Some(r.io.response_commit),
        sampling_hash: Some(r.model.sampling_hash),
        tokens: Some((r.usage.prompt, r.usage.completion)),
        finish: Some(r.usage.finish),
        window: None,
    }
}

const SEED: [u8; 32] = [0x11; 32];
const SALT: [u8; 32] = [0x5a; 32];
/// Turns per round; one takes tens of microseconds.
const TURNS: u32 = 500;
/// A log with ten subtrees, as a long-lived one has.
const LOG: u64 = 1023;
