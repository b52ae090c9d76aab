//! Receipts on disk: written whole, read as untrusted, verified again without any worker.

use std::fs;

use chrysalis_client::limits::MAX_STORED_RECEIPT_BYTES;
use chrysalis_client::{
    ClientError, ClientEvent, Keep, PathId, ProvenChild, ProvenReport, ReceiptStore, Spoken,
    StoredReceipt, StoredReport, Transcript, read_stored_receipt,
};
use chrysalis_evidence::{AllowSim, Pins};
use chrysalis_policy::Judge;
use chrysalis_receipt::{Blinds, Child, Outcome};
use chrysalis_wire::{RequestId, UnixTime};
use serde_json::Value;
use tempfile::TempDir;

use crate::bench::{Bench, START, STREAM, WHOLE, collect, pins, pins_for, stream};

/// A receipt with the answer it is about.
struct Kept {
    bench: Bench,
    stored: StoredReceipt,
    answer: Vec<u8>,
}

impl Kept {
    async fn new() -> Self {
        let bench = Bench::start().await;
        let worker = bench.attested().await;
        let (pieces, completed) = collect(&worker, PathId::ChatCompletions, WHOLE).await;
        Self { bench, stored: completed.stored, answer: pieces.concat() }
    }

    /// The stored document, changed.
    fn edited(&self, edit: impl FnOnce(&mut Value)) -> Result<StoredReceipt, ClientError> {
        let mut value: Value = serde_json::from_slice(&self.stored.to_json().unwrap()).unwrap();
        edit(&mut value);
        StoredReceipt::parse(&serde_json::to_vec(&value).unwrap())
    }

    /// Verifies a receipt under pins.
    fn verify(&self, stored: &StoredReceipt, pins: &str) -> StoredReport {
        let judge = Judge::by(Pins::parse(pins, AllowSim::Yes).unwrap());
        stored.verify(Some((&judge, &self.bench.collateral)), None)
    }
}

/// Ids of the receipt checks with this outcome.
fn checks(report: &StoredReport, outcome: Outcome) -> Vec<&'static str> {
    report.receipt.checks.iter().filter(|c| c.outcome == outcome).map(|c| c.id).collect()
}

#[tokio::test]
async fn a_stored_receipt_holds_again_offline() {
    let kept = Kept::new().await;
    let read = StoredReceipt::parse(&kept.stored.to_json().unwrap()).unwrap();
    assert!(read == kept.stored);
    let report = kept.verify(&read, &pins());
    assert!(report.holds && report.insecure_sim);
    let text = report.to_string();
    assert!(text.contains("PASS  R-REPORT-DATA") && text.contains("PASS  signature"), "{text}");
    assert!(text.contains("HOLDS (INSECURE-SIM"), "{text}");
    assert!(text.contains("not checked: request, response"), "{text}");
}

#[tokio::test]
async fn whoever_kept_the_words_can_prove_them() {
    let kept = Kept::new().await;
    let judge = Judge::by(Pins::parse(&pins(), AllowSim::Yes).unwrap());
    let judge = Some((&judge, &*kept.bench.collateral));
    let spoken = Spoken { request: WHOLE.as_bytes(), response: &kept.answer };
    let report = kept.stored.verify(judge, Some(&spoken));
    assert!(report.holds);
    assert_eq!(checks(&report, Outcome::Skip), [""; 0], "nothing is left to take on trust");
    assert!(report.conclusion().ends_with("signed this receipt"), "{}", report.conclusion());

    let other = Spoken { request: b"other words", response: &kept.answer };
    let report = kept.stored.verify(judge, Some(&other));
    assert!(report.failed());
    assert_eq!(checks(&report, Outcome::Fail), ["request"]);

    let warmer = WHOLE.replace("\"max_tokens\"", "\"temperature\":2,\"max_tokens\"");
    let other = Spoken { request: warmer.as_bytes(), response: &kept.answer };
    let failed = checks(&kept.stored.verify(judge, Some(&other)), Outcome::Fail);
    assert_eq!(failed, ["request", "sampling"]);

    let cut = kept.answer.strip_suffix(b"}").unwrap();
    let other = Spoken { request: WHOLE.as_bytes(), response: cut };
    let report = kept.stored.verify(judge, Some(&other));
    assert_eq!(checks(&report, Outcome::Fail), ["response"]);
    assert!(format!("{other:?}").starts_with("<redacted"));
}

#[tokio::test]
async fn without_pins_a_receipt_is_not_proven_and_says_so() {
    let kept = Kept::new().await;
    let report = kept.stored.verify(None, None);
    assert!(!report.holds && !report.failed());
    assert!(report.conclusion().starts_with("UNPROVEN"), "{}", report.conclusion());
}

#[tokio::test]
async fn a_receipt_of_a_worker_that_is_not_pinned_does_not_hold() {
    let kept = Kept::new().await;
    let report = kept.verify(&kept.stored, &pins_for(b"another executable"));
    assert!(report.failed() && !report.holds);
    assert!(report.conclusion().starts_with("REFUSED"));
}

#[tokio::test]
async fn a_changed_amount_does_not_hold() {
    let kept = Kept::new().await;
    let edited = kept.edited(|v| v["receipt"]["head"]["amount"] = "1".into()).unwrap();
    let report = kept.verify(&edited, &pins());
    assert!(report.failed());
    assert!(checks(&report, Outcome::Fail).contains(&"signature"));
}

#[tokio::test]
async fn another_salt_does_not_hold() {
    let kept = Kept::new().await;
    let edited = kept.edited(|v| v["salt"] = "00".repeat(32).into()).unwrap();
    assert_eq!(checks(&kept.verify(&edited, &pins()), Outcome::Fail), ["blinds"]);
}

#[tokio::test]
async fn evidence_of_another_session_does_not_hold() {
    let kept = Kept::new().await;
    let edited = kept.edited(|v| v["session"]["nonce"] = "00".repeat(32).into()).unwrap();
    let report = kept.verify(&edited, &pins());
    let refusal = report.evidence.as_ref().unwrap().result.as_ref().unwrap_err();
    assert_eq!(refusal.code, "E-REPORT-DATA");
    assert!(report.failed());
}

#[tokio::test]
async fn evidence_of_another_worker_does_not_hold() {
    let kept = Kept::new().await;
    let other = Kept::new().await;
    let theirs: Value = serde_json::from_slice(&other.stored.to_json().unwrap()).unwrap();
    let edited = kept
        .edited(|v| {
            v["evidence"] = theirs["evidence"].clone();
            v["session"] = theirs["session"].clone();
        })
        .unwrap();
    let report = kept.verify(&edited, &pins());
    assert!(report.evidence.as_ref().unwrap().accepted());
    let failed = checks(&report, Outcome::Fail);
    assert!(failed.contains(&"meter-key") && failed.contains(&"evidence"), "{failed:?}");
}

#[tokio::test]
async fn a_mark_that_denies_simulation_changes_nothing() {
    let kept = Kept::new().await;
    let edited = kept.edited(|v| v["insecure_sim"] = false.into()).unwrap();
    assert!(kept.verify(&edited, &pins()).insecure_sim);
    assert!(edited.verify(None, None).insecure_sim);
}

#[tokio::test]
async fn refuses_a_stored_receipt_with_an_unknown_field() {
    let refused = Kept::new().await.edited(|v| v["note"] = "x".into());
    assert!(matches!(refused, Err(ClientError::StoredMalformed(text)) if text.contains("note")));
}

#[tokio::test]
async fn refuses_a_stored_receipt_of_a_future_schema() {
    let refused = Kept::new().await.edited(|v| v["schema"] = "chrysalis/stored-receipt/v2".into());
    assert!(matches!(refused, Err(ClientError::StoredMalformed(text)) if text.contains("v2")));
}

#[tokio::test]
async fn refuses_a_stored_receipt_one_byte_over_its_limit() {
    let kept = Kept::new().await;
    let mut bytes = kept.stored.to_json().unwrap();
    bytes.resize(MAX_STORED_RECEIPT_BYTES, b' ');
    assert!(StoredReceipt::parse(&bytes).is_ok());
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("receipt.json");
    fs::write(&path, &bytes).unwrap();
    assert!(read_stored_receipt(&path).is_ok());
    bytes.push(b' ');
    assert!(matches!(StoredReceipt::parse(&bytes), Err(ClientError::StoredMalformed(_))));
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(read_stored_receipt(&path), Err(ClientError::StoredMalformed(_))));
}

#[tokio::test]
async fn nothing_of_the_words_is_in_the_file_or_in_debug_output() {
    let kept = Kept::new().await;
    let text = String::from_utf8(kept.stored.to_json().unwrap()).unwrap();
    let debug = format!("{:?}", kept.stored);
    assert!(!text.contains("canary") && !text.contains("wörd"));
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(!debug.contains(value["salt"].as_str().unwrap()));
}

#[tokio::test]
async fn saves_lists_and_loads_receipts_newest_first() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let directory = TempDir::new().unwrap();
    let store = ReceiptStore::open(directory.path().join("deep/receipts")).unwrap();
    let mut saved = Vec::new();
    for _ in 0..3 {
        let (_, completed) = stream(&worker).await;
        let path = store.save(&completed.stored).unwrap();
        assert!(read_stored_receipt(&path).unwrap() == completed.stored);
        saved.insert(0, completed.stored.request_id());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(store.list().unwrap(), saved);
    assert_eq!(store.load(saved[0]).unwrap().request_id(), saved[0]);
}

#[tokio::test]
async fn a_receipt_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let kept = Kept::new().await;
    let directory = TempDir::new().unwrap();
    let store = ReceiptStore::open(directory.path().join("receipts")).unwrap();
    let path = store.save(&kept.stored).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let parent = fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(parent.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn words_that_are_kept_are_for_their_owner_and_prove_the_whole_receipt() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let (_, completed) = stream(&worker).await;
    assert!(completed.transcript.is_none(), "nothing is kept unless asked for");
    let path = PathId::ChatCompletions;
    let mut answer = worker.request_keeping(path, STREAM.as_bytes(), Keep::Words).await.unwrap();
    let completed = loop {
        if let Some(ClientEvent::Done(completed)) = answer.next().await.unwrap() {
            break completed;
        }
    };
    let directory = TempDir::new().unwrap();
    let store = ReceiptStore::open(directory.path()).unwrap();
    store.save_completed(&completed).unwrap();
    let path = store.transcript_path(completed.stored.request_id());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = Transcript::parse(&fs::read(&path).unwrap()).unwrap();
    let spoken = Spoken { request: kept.request(), response: &kept.response() };
    let judge = Judge::by(Pins::parse(&pins(), AllowSim::Yes).unwrap());
    let report = completed.stored.verify(Some((&judge, &bench.collateral)), Some(&spoken));
    assert!(report.holds);
    assert_eq!(checks(&report, Outcome::Skip), [""; 0]);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_not_a_receipt() {
    let kept = Kept::new().await;
    let directory = TempDir::new().unwrap();
    let store = ReceiptStore::open(directory.path()).unwrap();
    let id = kept.stored.request_id();
    fs::write(store.path(id).with_extension("partial"), b"{\"schema\":").unwrap();
    assert!(store.list().unwrap().is_empty());
    assert_eq!(store.load(id).unwrap_err(), ClientError::NoSuchReceipt(id));
    store.save(&kept.stored).unwrap();
    assert_eq!(store.list().unwrap(), [id]);
}

#[tokio::test]
async fn refuses_a_receipt_under_the_name_of_another() {
    let kept = Kept::new().await;
    let directory = TempDir::new().unwrap();
    let store = ReceiptStore::open(directory.path()).unwrap();
    let other = RequestId([1; 16]);
    fs::write(store.path(other), kept.stored.to_json().unwrap()).unwrap();
    assert!(matches!(store.load(other), Err(ClientError::StoredMalformed(_))));
}

#[tokio::test]
async fn says_when_the_store_cannot_be_written() {
    let kept = Kept::new().await;
    let directory = TempDir::new().unwrap();
    let store = ReceiptStore::open(directory.path().join("receipts")).unwrap();
    fs::remove_dir(directory.path().join("receipts")).unwrap();
    let refused = store.save(&kept.stored).unwrap_err();
    assert!(matches!(refused, ClientError::Store { kind: std::io::ErrorKind::NotFound, .. }));
}

#[tokio::test]
async fn one_part_is_proved_to_a_stranger_and_shows_none_of_the_others() {
    let kept = Kept::new().await;
    let judge = Judge::by(Pins::parse(&pins(), AllowSim::Yes).unwrap());
    let judge = Some((&judge, &*kept.bench.collateral));
    let stored: Value = serde_json::from_slice(&kept.stored.to_json().unwrap()).unwrap();
    let salt = stored["salt"].as_str().unwrap();
    let Blinds { io, usage, model, att, .. } = kept.stored.receipt().blinds();
    for (child, own) in Child::ALL.into_iter().zip([io, usage, model, att]) {
        let json = ProvenChild::of(&kept.stored, child).to_json().unwrap();
        let text = String::from_utf8(json.clone()).unwrap();
        assert!(!text.contains(salt), "{child}");
        for blind in [io, usage, model, att] {
            assert_eq!(text.contains(&hex::encode(blind)), blind == own, "{child}");
        }
        assert!(ProvenChild::is_one(&json));
        let report = ProvenChild::parse(&json).unwrap().verify(judge, START).unwrap();
        assert!(report.holds, "{child}: {}", report.conclusion());
        assert!(report.conclusion().starts_with("HOLDS (INSECURE-SIM"), "{}", report.conclusion());
    }
    let report = ProvenChild::of(&kept.stored, Child::Model).verify(None, START).unwrap();
    assert!(!report.holds && !report.failed());
    assert!(report.conclusion().starts_with("UNPROVEN"), "{}", report.conclusion());
}

#[tokio::test]
async fn a_proof_does_not_hold_under_other_pins_or_other_evidence_or_changed() {
    let (kept, other) = (Kept::new().await, Kept::new().await);
    let proof = |kept: &Kept| -> Value {
        let json = ProvenChild::of(&kept.stored, Child::Usage).to_json().unwrap();
        serde_json::from_slice(&json).unwrap()
    };
    let conclude = |value: &Value, pins: &str| {
        let judge = Judge::by(Pins::parse(pins, AllowSim::Yes).unwrap());
        let proof = ProvenChild::parse(&serde_json::to_vec(value).unwrap()).unwrap();
        let report = proof.verify(Some((&judge, &kept.bench.collateral)), START).unwrap();
        assert!(report.failed() && !report.holds, "{}", report.conclusion());
        assert!(report.conclusion().starts_with("REFUSED"), "{}", report.conclusion());
        let failed = report.receipt.checks.iter().filter(|c| c.outcome == Outcome::Fail);
        failed.map(|c| c.id).collect::<Vec<_>>()
    };
    assert!(conclude(&proof(&kept), &pins_for(b"another executable")).is_empty());

    let mut moved = proof(&kept);
    moved["evidence"] = proof(&other)["evidence"].clone();
    moved["session"] = proof(&other)["session"].clone();
    assert!(conclude(&moved, &pins()).contains(&"meter-key"));

    let mut cheaper = proof(&kept);
    cheaper["proof"]["head"]["amount"] = "1".into();
    assert_eq!(conclude(&cheaper, &pins()), ["signature", "amount"]);

    let mut unknown = proof(&kept);
    unknown["note"] = "x".into();
    assert!(ProvenChild::parse(&serde_json::to_vec(&unknown).unwrap()).is_err());
}

#[tokio::test]
async fn a_proof_dated_after_the_present_is_not_judged_by_pins_that_count_later() {
    let kept = Kept::new().await;
    let later = UnixTime(START.0 + 600);
    let pins = format!("{}activates_at = \"2026-11-22T00:10:00Z\"\n", pins());
    let judge = Judge::by(Pins::parse(&pins, AllowSim::Yes).unwrap());
    let judge = Some((&judge, &*kept.bench.collateral));
    let json = ProvenChild::of(&kept.stored, Child::Usage).to_json().unwrap();
    let dated = |at: UnixTime| {
        let mut value: Value = serde_json::from_slice(&json).unwrap();
        value["appraised_at"] = at.0.into();
        ProvenChild::parse(&serde_json::to_vec(&value).unwrap()).unwrap()
    };
    let accepted = |report: ProvenReport| report.evidence.is_some_and(|verdict| verdict.accepted());
    assert!(!accepted(dated(START).verify(judge, START).unwrap()));
    assert!(accepted(dated(later).verify(judge, later).unwrap()));
    let error = dated(later).verify(judge, START).unwrap_err();
    assert_eq!(error, ClientError::ProofOfTheFuture { at: later, now: START });
    // A clock may be ahead by as much as a requester's, and no second more.
    let skew = chrysalis_channel::MAX_CLOCK_SKEW_MILLIS / 1000;
    assert!(dated(UnixTime(START.0 + skew)).verify(None, START).is_ok());
    assert!(dated(UnixTime(START.0 + skew + 1)).verify(None, START).is_err());
}
