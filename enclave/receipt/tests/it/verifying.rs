//! What a requester's verification refuses: one test for every check.

use chrysalis_receipt::{
    Finish, Outcome, ReceiptError, ReceiptExpectation, RequestReceipt, TimeWindow, request_commit,
    verify, verify_offline,
};
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixMillis, UnixTime};

use crate::{SALT, blinds, expectation, forged, meter, receipt, signed};

/// Ids of failed checks when the meter signed `change`d fields.
fn dishonest(change: impl FnOnce(&mut RequestReceipt)) -> Vec<&'static str> {
    let mut r = receipt();
    change(&mut r);
    r.amount = r.usage.amount().unwrap();
    let signed = meter().sign(&r, blinds()).unwrap();
    failed(&expectation(), &signed)
}

/// Ids of failed checks when the requester expects something else.
fn expecting(change: impl FnOnce(&mut ReceiptExpectation<'static>)) -> Vec<&'static str> {
    let mut expect = expectation();
    change(&mut expect);
    failed(&expect, &signed())
}

fn failed(
    expect: &ReceiptExpectation<'_>,
    signed: &chrysalis_receipt::SignedReceipt,
) -> Vec<&'static str> {
    let report = verify(signed, expect);
    let failed: Vec<_> =
        report.checks.iter().filter(|c| c.outcome == Outcome::Fail).map(|c| c.id).collect();
    assert_eq!(report.ok, failed.is_empty());
    failed
}

#[test]
fn accepts_an_honest_receipt_with_nothing_skipped() {
    let report = verify(&signed(), &expectation());
    assert!(report.ok, "{report:#?}");
    assert_eq!(report.skipped().count(), 0);
    assert!(!report.insecure_sim);
    assert!(report.require().is_ok());
}

#[test]
fn refuses_another_network() {
    assert_eq!(expecting(|e| e.network = NetworkId::MAINNET), ["network"]);
}

#[test]
fn refuses_a_simulated_receipt_where_a_real_one_is_expected() {
    let mut r = receipt();
    r.network = NetworkId::INSECURE_SIM;
    let signed = meter().sign(&r, blinds()).unwrap();
    assert_eq!(failed(&expectation(), &signed), ["network"]);
    assert!(verify_offline(&signed).insecure_sim);
}

#[test]
fn refuses_another_registry() {
    assert_eq!(expecting(|e| e.registry = Digest([9; 32])), ["registry"]);
}

#[test]
fn refuses_a_meter_key_that_is_not_attested() {
    assert_eq!(expecting(|e| e.meter_key = [9; 32]), ["meter-key"]);
}

#[test]
fn refuses_a_receipt_of_another_request() {
    // Another id also means other blinds.
    assert_eq!(dishonest(|r| r.request_id = RequestId([9; 16])), ["request-id", "blinds"]);
}

#[test]
fn refuses_blinds_the_worker_chose() {
    let mut chosen = blinds();
    chosen.att[0] ^= 1;
    let signed = meter().sign(&receipt(), chosen).unwrap();
    assert_eq!(failed(&expectation(), &signed), ["blinds"]);
}

#[test]
fn refuses_a_receipt_for_another_request_body() {
    let commit = request_commit(&SALT, b"another request");
    assert_eq!(expecting(|e| e.request_commit = Some(commit)), ["request"]);
}

#[test]
fn refuses_a_receipt_for_another_answer() {
    assert_eq!(dishonest(|r| r.io.response_commit = Digest([9; 32])), ["response"]);
}

#[test]
fn refuses_another_model() {
    assert_eq!(dishonest(|r| r.model.manifest_sha256 = Digest([9; 32])), ["model"]);
}

#[test]
fn refuses_another_measurement() {
    assert_eq!(expecting(|e| e.measurement_digest = Digest([9; 32])), ["measurement"]);
}

#[test]
fn refuses_a_receipt_with_two_measurements() {
    assert_eq!(dishonest(|r| r.model.engine_image_sha256 = Digest([9; 32])), ["measurement"]);
    let mut r = receipt();
    r.model.engine_image_sha256 = Digest([9; 32]);
    assert!(!verify_offline(&meter().sign(&r, blinds()).unwrap()).ok);
}

#[test]
fn refuses_other_evidence() {
    assert_eq!(dishonest(|r| r.att.evidence_sha256 = Digest([9; 32])), ["evidence"]);
}

#[test]
fn refuses_other_sampling() {
    assert_eq!(dishonest(|r| r.model.sampling_hash = Digest([9; 32])), ["sampling"]);
}

#[test]
fn refuses_prices_that_were_not_attested() {
    assert_eq!(dishonest(|r| r.usage.prices.completion += 1), ["prices"]);
}

#[test]
fn refuses_tokens_other_than_the_answer_reported() {
    assert_eq!(dishonest(|r| r.usage.completion += 1), ["tokens"]);
}

/// Our meter signs none of these; another program with its key could.
#[test]
fn refuses_an_amount_that_is_not_tokens_times_prices() {
    assert!(failed(&expectation(), &forged(&[])).is_empty());
    for changes in [
        [("\"amount\": \"270\"", "\"amount\": \"271\"")],
        [("\"amount\": \"270\"", "\"amount\": \"269\"")],
        [("\"cached\": 40", "\"cached\": 101")],
        [("\"reasoning\": 10", "\"reasoning\": 31")],
    ] {
        let signed = forged(&changes);
        assert_eq!(failed(&expectation(), &signed), ["amount"], "{changes:?}");
        assert!(!verify_offline(&signed).ok, "{changes:?}");
    }
}

#[test]
fn refuses_a_request_that_ended_before_it_started() {
    let signed = forged(&[("1795000001900", "1795000000499")]);
    assert_eq!(failed(&expectation(), &signed), ["times"]);
}

#[test]
fn refuses_an_aborted_answer_presented_as_complete() {
    assert_eq!(dishonest(|r| r.usage.finish = Finish::Aborted), ["finish"]);
}

#[test]
fn refuses_a_receipt_issued_before_the_request_ended() {
    assert_eq!(dishonest(|r| r.issued_at = UnixTime(1_795_000_000)), ["times"]);
}

#[test]
fn refuses_a_receipt_issued_one_second_too_late() {
    // The request ended within second 1795000001.
    let issued = |s: u64| expecting_issued(UnixTime(1_795_000_001 + s));
    assert!(issued(60).is_empty());
    assert_eq!(issued(61), ["times"]);
}

fn expecting_issued(issued_at: UnixTime) -> Vec<&'static str> {
    dishonest(|r| r.issued_at = issued_at)
}

#[test]
fn refuses_a_request_one_millisecond_longer_than_a_day() {
    let lasting = |ms: u64| {
        let mut r = receipt();
        r.usage.ended = UnixMillis(r.usage.started.0 + ms);
        r.issued_at = UnixTime(r.usage.ended.0 / 1000);
        verify_offline(&meter().sign(&r, blinds()).unwrap()).ok
    };
    assert!(lasting(86_400_000));
    assert!(!lasting(86_400_001));
}

#[test]
fn refuses_times_one_second_outside_the_allowed_clock_skew() {
    let waited = |from, to| {
        let window = TimeWindow { from: UnixTime(from), to: UnixTime(to) };
        expecting(|e| e.window = Some(window))
    };
    assert!(waited(1_795_000_300, 1_795_000_301).is_empty());
    assert_eq!(waited(1_795_000_301, 1_795_000_301), ["times"]);
    assert!(waited(1_794_999_000, 1_794_999_702).is_empty());
    assert_eq!(waited(1_794_999_000, 1_794_999_701), ["times"]);
}

#[test]
fn offline_verification_says_what_it_did_not_check() {
    let report = verify_offline(&signed());
    assert!(report.ok);
    for id in ["network", "meter-key", "request", "response", "model", "evidence", "prices"] {
        assert_eq!(report.check(id).unwrap().outcome, Outcome::Skip, "{id}");
    }
    for id in ["form", "signature", "amount", "times"] {
        assert_eq!(report.check(id).unwrap().outcome, Outcome::Pass, "{id}");
    }
}

#[test]
fn requiring_a_failed_report_gives_its_first_failure() {
    let mut expect = expectation();
    expect.model_root = Digest([9; 32]);
    expect.finish = Some(Finish::Length);
    let error = verify(&signed(), &expect).require().unwrap_err();
    assert_eq!(error.code(), "E-RECEIPT-CHECK");
    assert!(matches!(error, ReceiptError::Check { id: "model", .. }));
}
