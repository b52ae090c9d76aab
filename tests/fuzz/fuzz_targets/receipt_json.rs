//! Receipts, public receipts and proofs as JSON: what is read is written back as the same value,
//! and only the receipt that was signed verifies.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_receipt::{
    Att, Blinds, Child, ChildProof, Finish, Io, MeterKey, Model, PublicReceipt, ReceiptError,
    RequestReceipt, SignedReceipt, Usage, open_child, verify_offline,
};
use chrysalis_wire::manifest::PricesSection;
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixMillis, UnixTime};
use zeroize::Zeroizing;

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let signed = signed();
    let proofs = Child::ALL.map(|child| open_child(&signed, child).to_json());
    let all = [signed.to_json(), PublicReceipt::from(&signed).to_json()].into_iter().chain(proofs);
    all.map(|json| json.expect("a receipt is JSON").into_bytes()).collect()
}

fn one(data: &[u8]) -> String {
    let code = |error: ReceiptError| error.code().to_owned();
    let receipt = match SignedReceipt::from_json(data) {
        Ok(receipt) => {
            let json = receipt.to_json().expect("it was read from JSON");
            assert_eq!(SignedReceipt::from_json(json.as_bytes()), Ok(receipt.clone()));
            let holds = verify_offline(&receipt).ok;
            assert!(!holds || receipt == signed(), "a forgery verifies");
            assert_eq!(receipt.boc().get(..4), Some(&[0xb5, 0xee, 0x9c, 0x72][..]));
            holds.to_string()
        }
        Err(error) => code(error),
    };
    let public = PublicReceipt::from_json(data).map_or_else(code, |public| {
        let json = public.to_json().expect("it was read from JSON");
        assert_eq!(PublicReceipt::from_json(json.as_bytes()), Ok(public));
        "public".to_owned()
    });
    let proof = ChildProof::from_json(data).map_or_else(code, |proof| {
        let json = proof.to_json().expect("it was read from JSON");
        assert!(ChildProof::from_json(json.as_bytes()) == Ok(proof));
        "proof".to_owned()
    });
    format!("{receipt} {public} {proof}")
}

fn signed() -> SignedReceipt {
    let usage = Usage {
        prompt: 100,
        cached: 40,
        completion: 30,
        reasoning: 10,
        finish: Finish::Stop,
        prices: PricesSection { prompt: 1_000_000, cached: 1, completion: 2_000_000, reasoning: 3 },
        started: UnixMillis(1_795_000_000_500),
        ended: UnixMillis(1_795_000_001_900),
    };
    let digest = |n: u8| Digest([n; 32]);
    let receipt = RequestReceipt {
        network: NetworkId::TESTNET,
        registry: digest(1),
        request_id: RequestId([2; 16]),
        issued_at: UnixTime(1_795_000_002),
        amount: usage.amount().expect("parts within their wholes"),
        io: Io { request_commit: digest(3), response_commit: digest(4) },
        usage,
        model: Model {
            manifest_sha256: digest(5),
            engine_image_sha256: digest(6),
            sampling_hash: digest(7),
        },
        att: Att { evidence_sha256: digest(8), measurement_sha256: digest(6) },
    };
    let blinds = Blinds::derive(&[9; 32], receipt.request_id);
    let meter = MeterKey::from_seed(&Zeroizing::new([7; 32]));
    meter.sign(&receipt, blinds).expect("an honest receipt")
}
