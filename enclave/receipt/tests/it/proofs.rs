//! Receipts that show less: the public form and proofs of one child.

use chrysalis_receipt::{
    CLOCK_SKEW_SECONDS, Child, ChildProof, OpenedChild, Outcome, PublicReceipt, ReceiptError,
    ReceiptReport, TimeWindow, open_child, verify_child, verify_proof,
};
use chrysalis_wire::{NetworkId, UnixTime};

use crate::{blinds, expectation, meter, receipt, signed};

fn verified(json: &str) -> Result<OpenedChild, ReceiptError> {
    let proof = ChildProof::from_json(json.as_bytes())?;
    verify_child(&proof, NetworkId::TESTNET, &meter().public()).cloned()
}

#[test]
fn every_child_can_be_proved_alone_and_hides_the_blinds_of_the_others() {
    let all = blinds();
    for (child, own) in Child::ALL.into_iter().zip([all.io, all.usage, all.model, all.att]) {
        let json = open_child(&signed(), child).to_json().unwrap();
        assert_eq!(verified(&json).unwrap().child(), child);
        for blind in [all.io, all.usage, all.model, all.att] {
            assert_eq!(json.contains(&hex::encode(blind)), blind == own, "{child}");
        }
    }
    let json = open_child(&signed(), Child::Usage).to_json().unwrap();
    assert_eq!(verified(&json), Ok(OpenedChild::Usage(receipt().usage)));
}

#[test]
fn refuses_a_proof_with_a_changed_child() {
    let json = open_child(&signed(), Child::Usage).to_json().unwrap();
    let json = json.replace("\"completion\": 30", "\"completion\": 31");
    assert_eq!(verified(&json), Err(ReceiptError::ChildHash { child: Child::Usage }));
}

#[test]
fn refuses_a_proof_whose_child_and_hash_were_both_changed() {
    let mut other = receipt();
    other.usage.finish = chrysalis_receipt::Finish::Length;
    let other = open_child(&meter().sign(&other, blinds()).unwrap(), Child::Usage);
    let json = other.to_json().unwrap();
    let signature = hex::encode(other_signature(&json));
    let json = json.replace(&signature, &hex::encode(signed().signature()));
    assert_eq!(verified(&json), Err(ReceiptError::Signature));
}

fn other_signature(json: &str) -> Vec<u8> {
    let start = json.find("\"signature\": \"").unwrap() + 14;
    hex::decode(&json[start..start + 128]).unwrap()
}

#[test]
fn refuses_a_proof_of_one_child_in_the_place_of_another() {
    // io and att have the same layout; only their position tells them apart.
    let json = open_child(&signed(), Child::Att).to_json().unwrap();
    let json = json
        .replace("\"att\": {", "\"io\": {")
        .replace("evidence_sha256", "request_commit")
        .replace("measurement_sha256", "response_commit");
    assert_eq!(verified(&json), Err(ReceiptError::ChildHash { child: Child::Io }));
}

#[test]
fn refuses_a_proof_for_another_network_or_meter() {
    let proof = open_child(&signed(), Child::Model);
    assert!(matches!(
        verify_child(&proof, NetworkId::MAINNET, &meter().public()),
        Err(ReceiptError::Check { id: "network", .. })
    ));
    assert!(matches!(
        verify_child(&proof, NetworkId::TESTNET, &[9; 32]),
        Err(ReceiptError::Check { id: "meter-key", .. })
    ));
}

#[test]
fn refuses_a_receipt_where_a_proof_is_expected() {
    let json = signed().to_json().unwrap();
    assert!(matches!(
        ChildProof::from_json(json.as_bytes()),
        Err(ReceiptError::Schema { expected: "chrysalis/receipt-proof/v1" })
    ));
}

#[test]
fn a_public_receipt_verifies_and_holds_no_blind_and_no_commitment() {
    let json = PublicReceipt::from(&signed()).to_json().unwrap();
    let public = PublicReceipt::from_json(json.as_bytes()).unwrap();
    assert_eq!(public.verify(NetworkId::TESTNET, &meter().public()), Ok(()));
    assert_eq!((public.amount(), public.request_id()), (270, receipt().request_id));
    let all = blinds();
    for blind in [all.io, all.usage, all.model, all.att] {
        assert!(!json.contains(&hex::encode(blind)));
    }
    assert!(!json.contains(&receipt().io.request_commit.to_string()));
}

#[test]
fn refuses_a_public_receipt_with_another_amount() {
    let json = PublicReceipt::from(&signed()).to_json().unwrap();
    let json = json.replace("\"amount\": \"270\"", "\"amount\": \"271\"");
    let public = PublicReceipt::from_json(json.as_bytes()).unwrap();
    assert_eq!(public.verify(NetworkId::TESTNET, &meter().public()), Err(ReceiptError::Signature));
}

fn checks(report: &ReceiptReport, outcome: Outcome) -> Vec<&'static str> {
    report.checks.iter().filter(|c| c.outcome == outcome).map(|c| c.id).collect()
}

#[test]
fn a_proof_is_checked_as_far_as_its_child_goes() {
    let about = |child| -> &[&str] {
        match child {
            Child::Io => &["request", "response"],
            Child::Usage => &["prices", "tokens", "amount", "times", "finish"],
            Child::Model => &["model", "measurement", "sampling"],
            Child::Att => &["measurement", "evidence"],
        }
    };
    for child in Child::ALL {
        let report = verify_proof(&open_child(&signed(), child), Some(&expectation()));
        assert!(report.ok, "{report:?}");
        let root = &["child", "signature", "network", "registry", "meter-key", "issued"];
        let all = [root, about(child)];
        assert_eq!(checks(&report, Outcome::Pass), all.concat(), "{child}");
        assert_eq!(report.checks.len(), all.concat().len());
    }
}

#[test]
fn a_proof_without_anything_to_compare_says_what_it_did_not_check() {
    let report = verify_proof(&open_child(&signed(), Child::Model), None);
    assert!(report.ok);
    assert_eq!(checks(&report, Outcome::Pass), ["child", "signature"]);
}

#[test]
fn refuses_a_proof_that_contradicts_what_was_attested() {
    let mut other = expectation();
    other.model_root.0[0] ^= 1;
    other.measurement_digest.0[0] ^= 1;
    other.evidence_digest.0[0] ^= 1;
    other.prices.prompt += 1;
    other.meter_key[0] ^= 1;
    for (child, wrong) in [
        (Child::Usage, &["meter-key", "prices"][..]),
        (Child::Model, &["meter-key", "model", "measurement"]),
        (Child::Att, &["meter-key", "measurement", "evidence"]),
    ] {
        let report = verify_proof(&open_child(&signed(), child), Some(&other));
        assert!(!report.ok);
        assert_eq!(checks(&report, Outcome::Fail), wrong);
    }
}

#[test]
fn refuses_a_proof_with_evidence_of_another_day() {
    let proof = open_child(&signed(), Child::Model);
    let at = receipt().issued_at.0;
    let failed = |from, to| {
        let mut expect = expectation();
        expect.window = Some(TimeWindow { from: UnixTime(from), to: UnixTime(to) });
        checks(&verify_proof(&proof, Some(&expect)), Outcome::Fail)
    };
    assert!(failed(at + CLOCK_SKEW_SECONDS, at + CLOCK_SKEW_SECONDS).is_empty());
    assert_eq!(failed(at + CLOCK_SKEW_SECONDS + 1, u64::MAX), ["issued"]);
    assert!(failed(0, at - CLOCK_SKEW_SECONDS).is_empty());
    assert_eq!(failed(0, at - CLOCK_SKEW_SECONDS - 1), ["issued"]);
}

#[test]
fn refuses_a_proof_of_other_content_or_with_another_signature() {
    let json = open_child(&signed(), Child::Usage).to_json().unwrap();
    let failed = |json: &str| {
        let proof = ChildProof::from_json(json.as_bytes()).unwrap();
        checks(&verify_proof(&proof, None), Outcome::Fail)
    };
    assert_eq!(
        failed(&json.replace("\"completion\": 30", "\"completion\": 31")),
        ["child", "amount"]
    );
    let signature = hex::encode(signed().signature());
    let other = format!("{}{}", &signature[1..], &signature[..1]);
    assert_eq!(failed(&json.replace(&signature, &other)), ["signature"]);
    assert_eq!(failed(&json.replace("\"270\"", "\"271\"")), ["signature", "amount"]);
}

#[test]
fn a_public_receipt_has_the_hash_of_the_whole_one() {
    assert_eq!(PublicReceipt::from(&signed()).hash(), Ok(signed().hash()));
}
