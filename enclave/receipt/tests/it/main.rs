//! Tests of receipts as their users meet them: a meter signs, a stranger's document arrives, a
//! requester verifies. Everything here goes through the public API only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod documents;
mod funding;
mod layout;
mod log;
mod metering;
mod proofs;
mod settling;
mod signing;
mod vectors;
mod verifying;

use chrysalis_receipt::{
    Att, Blinds, Finish, Io, MeterKey, Model, ReceiptExpectation, RequestReceipt, ResponseCommit,
    SignedReceipt, TimeWindow, Usage, request_commit,
};
use chrysalis_wire::manifest::PricesSection;
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixMillis, UnixTime};
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

pub const SALT: [u8; 32] = [0x5a; 32];
pub const REQUEST: &[u8] = b"{\"model\":\"m\",\"messages\":[]}";
pub const RESPONSE: &[u8] = b"{\"choices\":[]}";

pub fn meter() -> MeterKey {
    MeterKey::from_seed(&Zeroizing::new([0x11; 32]))
}

pub fn blinds() -> Blinds {
    Blinds::derive(&SALT, RequestId([0x22; 16]))
}

pub fn response_commit() -> Digest {
    let mut commit = ResponseCommit::new(&SALT);
    commit.update(RESPONSE);
    commit.finish()
}

pub fn receipt() -> RequestReceipt {
    let usage = Usage {
        prompt: 100,
        cached: 40,
        completion: 30,
        reasoning: 10,
        finish: Finish::Stop,
        prices: PricesSection {
            prompt: 1_000_000,
            cached: 250_000,
            completion: 8_000_000,
            reasoning: 4_000_001,
        },
        started: UnixMillis(1_795_000_000_500),
        ended: UnixMillis(1_795_000_001_900),
    };
    RequestReceipt {
        network: NetworkId::TESTNET,
        registry: Digest([0x21; 32]),
        request_id: RequestId([0x22; 16]),
        issued_at: UnixTime(1_795_000_002),
        amount: usage.amount().unwrap(),
        io: Io {
            request_commit: request_commit(&SALT, REQUEST),
            response_commit: response_commit(),
        },
        usage,
        model: Model {
            manifest_sha256: Digest([0x41; 32]),
            engine_image_sha256: Digest([0x52; 32]),
            sampling_hash: Digest([0x43; 32]),
        },
        att: Att { evidence_sha256: Digest([0x51; 32]), measurement_sha256: Digest([0x52; 32]) },
    }
}

pub fn signed() -> SignedReceipt {
    meter().sign(&receipt(), blinds()).unwrap()
}

/// A receipt as a meter without scruples signs it: its document with other values, the cells of
/// those values and a good signature by the meter's key.
pub fn forged(changes: &[(&str, &str)]) -> SignedReceipt {
    let mut json = signed().to_json().unwrap();
    let mut replace = |from: &str, to: &str| {
        assert!(json.contains(from), "{from} is not in the document");
        json = json.replacen(from, to, 1);
        SignedReceipt::from_json(json.as_bytes()).unwrap()
    };
    for (from, to) in changes {
        let _ = replace(from, to);
    }
    let hash = replace(&signed().hash().to_string(), &"0".repeat(64)).hash();
    let signature = SigningKey::from_bytes(&[0x11; 32]).sign(&hash.0).to_bytes();
    let _ = replace(&"0".repeat(64), &hash.to_string());
    replace(&hex::encode(signed().signature()), &hex::encode(signature))
}

pub fn expectation() -> ReceiptExpectation<'static> {
    let r = receipt();
    ReceiptExpectation {
        network: r.network,
        registry: r.registry,
        meter_key: meter().public(),
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
        window: Some(TimeWindow { from: UnixTime(1_795_000_000), to: UnixTime(1_795_000_003) }),
    }
}
