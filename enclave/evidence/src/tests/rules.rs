//! The rules behind cryptography, reached with a real verified quote whose registers a test
//! replaces (`VerifiedQuote::forge`, which exists in tests only): one worker that is accepted, and
//! every way to differ from it.

use chrysalis_wire::{
    AttestationDocument, BatchDocument, Digest, KeyId, KeyRole, Keyset, NetworkId, SealKeyEntry,
    SuiteId, UnixTime,
};
use dcap_qvl::quote::TDReport10;
use dcap_qvl::{PckCertFlag, QuoteClaims, TcbStatus};
use sha2::{Digest as _, Sha256};

use super::{Real, parse_pins, session};
use crate::document::Document;
use crate::transcript::Transcript;
use crate::{
    Appraiser, Batch, Binding, InclusionPath, Role, RuleId, Session, Verdict, boot_events,
    keyset_digest, replay_rtmr,
};

pub(super) const MODEL_ROOT: Digest = Digest([0x5a; 32]);

/// Everything a test may change before the appraisal.
struct Case {
    real: Real,
    doc: AttestationDocument,
    session: Session,
    pins: String,
    now: UnixTime,
    /// Applied to the verified quote last.
    change: fn(&mut QuoteClaims, &mut TDReport10),
}

fn entry(suite: SuiteId, role: KeyRole, now: UnixTime) -> SealKeyEntry {
    let public = vec![0x77; if suite == SuiteId::XWing { 1216 } else { 32 }];
    let mut hash = Sha256::new();
    hash.update((suite as u16).to_be_bytes());
    hash.update(&public);
    let id = KeyId(hash.finalize()[..16].try_into().unwrap());
    let (not_before, not_after) = (UnixTime(now.0 - 60), UnixTime(now.0 + 3600));
    SealKeyEntry { id, suite, role, not_before, not_after, public }
}

pub(super) fn good_keyset(now: UnixTime) -> Keyset {
    Keyset {
        network: NetworkId::TESTNET,
        meter_key: [3; 32],
        tls_spki: session().tls_spki,
        seal_keys: vec![
            entry(SuiteId::XWing, KeyRole::Worker, now),
            entry(SuiteId::X25519, KeyRole::Worker, now),
        ],
    }
}

pub(super) fn good_manifest() -> String {
    format!(
        "version = 1\nnetwork = -3\nregistry = \"{}\"\n[model]\nname = \"m\"\nroot = \"{MODEL_ROOT}\"\n\
         sealed = false\n[limits]\nrequest_bytes = 65536\ncontext_tokens = 2048\n\
         completion_tokens = 512\nconcurrent_requests = 4\n[prices]\nprompt = 1\ncached = 1\n\
         completion = 8\nreasoning = 8\n",
        "0".repeat(64)
    )
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

impl Case {
    fn good() -> Option<Self> {
        let real = Real::cocoon()?;
        let pins = real
            .pins_text()
            .replace(
                &format!("manifest_sha256 = \"{}\"", "0".repeat(64)),
                &format!("manifest_sha256 = \"{}\"", sha256(good_manifest().as_bytes())),
            )
            .replace(
                &format!("model_root = \"{}\"", "0".repeat(64)),
                &format!("model_root = \"{MODEL_ROOT}\""),
            );
        let mut case = Self {
            doc: real.document(),
            session: session(),
            pins,
            now: real.now,
            change: |_, _| {},
            real,
        };
        case.set_keyset(&good_keyset(case.now));
        case.set_manifest(&good_manifest());
        Some(case)
    }

    fn set_keyset(&mut self, keyset: &Keyset) {
        self.doc.keyset = hex::encode(keyset.encode());
    }

    /// Sets the manifest, measures it and the good model root into the event log.
    fn set_manifest(&mut self, text: &str) {
        self.doc.manifest = hex::encode(text);
        self.doc.events = boot_events(&sha256(text.as_bytes()), &MODEL_ROOT).to_vec();
    }

    /// Pins this manifest instead of the good one.
    fn pin_manifest(&mut self, text: &str) {
        let good = sha256(good_manifest().as_bytes()).to_string();
        self.pins = self.pins.replace(&good, &sha256(text.as_bytes()).to_string());
    }

    /// Appraises with a quote whose RTMR3 and report_data fit document and good session.
    fn appraise(&self) -> Verdict {
        let appraiser = Appraiser::new(parse_pins(&self.pins));
        let mut log = Transcript::default();
        let mut evidence =
            appraiser.verify(&mut log, &self.doc, &self.real.collateral, self.real.now).unwrap();
        let honest = session();
        let bound = Binding {
            role: Role::Server,
            tls_spki: honest.tls_spki,
            nonce: honest.nonce,
            exporter: honest.exporter,
            keyset_digest: keyset_digest(&evidence.document.keyset),
            device_digest: Digest([0; 32]),
        };
        let rtmr3 = replay_rtmr(&self.doc.events).unwrap_or([0xee; 48]);
        evidence.verified = evidence.verified.forge(|_, td| {
            td.report_data = bound.report_data().0;
            td.rt_mr3 = rtmr3;
        });
        evidence.verified = evidence.verified.forge(self.change);
        let result = appraiser.judge(&mut log, &evidence, &self.session, self.now);
        log.finish(result, false)
    }

    fn refusal(&self) -> (&'static str, RuleId) {
        let verdict = self.appraise();
        let refusal = verdict.result.as_ref().expect_err("accepted");
        (refusal.code, refusal.rule)
    }
}

/// Refusal of the good case after one change to the verified quote.
fn changed(change: fn(&mut QuoteClaims, &mut TDReport10)) -> Option<(&'static str, RuleId)> {
    Some(Case { change, ..Case::good()? }.refusal())
}

/// Refusal of the good case with one change to the good keyset.
fn with_keyset(change: fn(&mut Keyset)) -> Option<(&'static str, RuleId)> {
    let mut case = Case::good()?;
    let mut keyset = good_keyset(case.now);
    change(&mut keyset);
    case.set_keyset(&keyset);
    Some(case.refusal())
}

#[test]
fn accepts_the_pinned_worker_with_every_rule_evaluated() {
    let Some(case) = Case::good() else { return };
    let verdict = case.appraise();
    let text = verdict.to_text();
    assert!(text.ends_with("\nACCEPTED  real serving TON testnet (-3)"), "{text}");
    assert_eq!(text.lines().count(), RuleId::ALL.len() + 1);
    assert!(!text.contains("SKIP") && !text.contains("FAIL"));
    let json: serde_json::Value = serde_json::from_str(&verdict.to_json()).unwrap();
    assert_eq!(json["worker"]["pin_name"], "real");
    let worker = verdict.result.unwrap();
    assert_eq!(worker.model_root(), MODEL_ROOT);
    assert_eq!(worker.manifest_digest(), sha256(good_manifest().as_bytes()));
    assert_eq!(worker.evidence_digest(), case.real.cut().digest());
    assert_eq!(worker.measurement_digest(), worker.measurement().digest());
    assert_eq!(worker.keyset(), &good_keyset(case.now));
    assert!(!worker.insecure_sim());
    assert!(worker.collateral_expires() > case.now);
}

#[test]
fn refuses_evidence_of_another_nonce_exporter_or_tls_key() {
    let Some(good) = Case::good() else { return };
    let change: [fn(&mut Session); 3] =
        [|s| s.nonce[0] ^= 1, |s| s.exporter[31] ^= 1, |s| s.tls_spki.0[5] ^= 1];
    for change in change {
        let mut case = Case { session: session(), ..Case::good().unwrap() };
        change(&mut case.session);
        assert_eq!(case.refusal(), ("E-REPORT-DATA", RuleId::ReportData));
    }
    assert!(good.appraise().accepted());
}

#[test]
fn refuses_empty_report_data() {
    let Some(refusal) = changed(|_, td| td.report_data = [0; 64]) else { return };
    assert_eq!(refusal, ("E-REPORT-DATA", RuleId::ReportData));
}

#[test]
fn refuses_a_keyset_swapped_after_quoting() {
    let Some(mut case) = Case::good() else { return };
    let honest = case.doc.keyset.clone();
    let mut other = good_keyset(case.now);
    other.meter_key = [4; 32];
    case.set_keyset(&other);
    // The quote stays bound to the honest keyset.
    let digest = keyset_digest(&hex::decode(honest).unwrap());
    let bound = Binding { keyset_digest: digest, ..bound(&case) };
    let found = bound.report_data().0;
    let document = Document::parse(&case.doc).unwrap();
    let none = Digest([0; 32]);
    let verdict = crate::rules::report_data(&found, Role::Server, &case.session, &document, none);
    assert_eq!(verdict.unwrap_err().code, "E-REPORT-DATA");
}

/// What the good case's quote is bound to.
fn bound(case: &Case) -> Binding {
    Binding {
        role: Role::Server,
        tls_spki: case.session.tls_spki,
        nonce: case.session.nonce,
        exporter: case.session.exporter,
        keyset_digest: keyset_digest(&hex::decode(&case.doc.keyset).unwrap()),
        device_digest: Digest([0; 32]),
    }
}

/// What the rule finds in a quote for `batch`, if the document shows `path`.
fn batched(case: &mut Case, batch: &Batch, path: &InclusionPath) -> Option<&'static str> {
    case.doc.batch = path.to_document();
    let Ok(document) = Document::parse(&case.doc) else { return Some("E-DOCUMENT") };
    let (found, none) = (batch.report_data().0, Digest([0; 32]));
    let verdict = crate::rules::report_data(&found, Role::Server, &case.session, &document, none);
    verdict.err().map(|refused| refused.code)
}

#[test]
fn accepts_the_path_of_its_own_leaf_and_refuses_every_other_one() {
    let Some(mut case) = Case::good() else { return };
    let others = [[1; 32], [2; 32], [3; 32]].map(|nonce| Binding { nonce, ..bound(&case) });
    let [a, b, c] = others.map(|other| other.leaf());
    let batch = Batch::new(&[a, bound(&case).leaf(), b, c]).unwrap();
    for (at, path) in batch.paths().enumerate() {
        let expected = (at != 1).then_some("E-REPORT-DATA");
        assert_eq!(batched(&mut case, &batch, &path), expected, "path {at}");
    }
    // Four challenges of others, and this one not among them.
    let without = Batch::new(&[a, b, c, a]).unwrap();
    for path in without.paths() {
        assert_eq!(batched(&mut case, &without, &path), Some("E-REPORT-DATA"));
    }
    // The whole quote for this challenge alone, with a path it does not have.
    let alone = Batch::new(&[bound(&case).leaf()]).unwrap();
    let path = batch.paths().nth(1).unwrap();
    assert_eq!(batched(&mut case, &alone, &path), Some("E-REPORT-DATA"));
}

#[test]
fn refuses_a_document_whose_path_does_not_fit_its_place() {
    let Some(mut case) = Case::good() else { return };
    for (index, size, hashes) in [(0, 1, 0), (2, 2, 1), (0, 2, 2), (0, 3, 1), (0, 65_537, 17)] {
        let path = vec![Digest([0; 32]); hashes];
        case.doc.batch = Some(BatchDocument { index, size, path });
        assert!(Document::parse(&case.doc).is_err(), "leaf {index} of {size}, {hashes} hashes");
    }
}

#[test]
fn refuses_evidence_bound_as_a_client_or_with_a_device() {
    let Some(case) = Case::good() else { return };
    let document = Document::parse(&case.doc).unwrap();
    let judged = |bound: &Binding| {
        let (found, none) = (bound.report_data().0, Digest([0; 32]));
        crate::rules::report_data(&found, Role::Server, &case.session, &document, none).is_ok()
    };
    let good = bound(&case);
    assert!(judged(&good));
    assert!(!judged(&Binding { role: Role::Client, ..good.clone() }));
    assert!(!judged(&Binding { device_digest: Digest([1; 32]), ..good }));
}

#[test]
fn refuses_every_tcb_level_that_is_not_up_to_date() {
    for change in [
        (|c, _| c.tcb.status = TcbStatus::OutOfDate) as fn(&mut QuoteClaims, &mut TDReport10),
        |c, _| c.tcb.status = TcbStatus::SWHardeningNeeded,
        |c, _| c.platform.tcb_level.tcb_status = TcbStatus::TDRelaunchAdvised,
        // Hidden by the merged status: see POLICY.md, rule 5.
        |c, _| c.qe.tcb_level.tcb_status = TcbStatus::ConfigurationNeeded,
        |c, _| {
            let mut level = c.platform.tcb_level.clone();
            level.tcb_status = TcbStatus::OutOfDate;
            c.platform.current_tcb_level = Some(level);
        },
    ] {
        let Some(refusal) = changed(change) else { return };
        assert_eq!(refusal, ("E-TCB-STATUS", RuleId::TcbStatus));
    }
}

#[test]
fn a_verdict_under_an_exception_ends_with_it_and_covers_advisories_of_every_level() {
    let Some(mut case) = Case::good() else { return };
    case.change = |c, _| {
        c.tcb.status = TcbStatus::OutOfDate;
        c.platform.tcb_level.tcb_status = TcbStatus::OutOfDate;
        // The merged list does not repeat it.
        c.platform.tcb_level.advisory_ids = vec!["INTEL-SA-01192".to_owned()];
    };
    assert_eq!(case.refusal(), ("E-TCB-STATUS", RuleId::TcbStatus));
    let bare = case.pins.clone();
    let except = |advisories: &str| {
        format!(
            "{bare}\n[[platform.exception]]\nfmspc = \"90c06f000000\"\nstatuses = [\"OutOfDate\"]\n\
             advisories = [{advisories}]\nuntil = \"2026-03-01T00:10:00Z\"\nreason = \"a test\"\n"
        )
    };
    case.pins = except("");
    assert_eq!(case.refusal(), ("E-TCB-STATUS", RuleId::TcbStatus));
    case.pins = except("\"INTEL-SA-01192\"");
    // The collateral alone would allow it for weeks, and the keys of the case for an hour.
    let worker = case.appraise().result.expect("the exception covers it");
    let until = crate::parse_utc("2026-03-01T00:10:00Z").unwrap();
    assert_eq!((worker.collateral_expires(), worker.valid_until()), (until, Some(until)));
}

#[test]
fn refuses_a_platform_flag_that_is_not_stated() {
    let Some(mut case) = Case::good() else { return };
    case.change = |c, _| c.platform.pck.smt_enabled = PckCertFlag::Undefined;
    assert!(case.appraise().accepted());
    case.pins = case.pins.replace("allow_smt = true", "allow_smt = false");
    assert_eq!(case.refusal(), ("E-SMT", RuleId::PlatformFlags));
    case.change = |c, _| c.platform.pck.smt_enabled = PckCertFlag::False;
    assert!(case.appraise().accepted());
}

#[test]
fn refuses_a_module_not_signed_by_intel() {
    let Some(refusal) = changed(|_, td| td.mr_signer_seam[0] = 1) else { return };
    assert_eq!(refusal, ("E-SEAM-SIGNER", RuleId::Seam));
    let refusal = changed(|_, td| td.seam_attributes[7] = 0x80).unwrap();
    assert_eq!(refusal, ("E-SEAM-SIGNER", RuleId::Seam));
}

#[test]
fn refuses_owner_fields_and_an_unlisted_config_id() {
    let Some(refusal) = changed(|_, td| td.mr_owner[0] = 1) else { return };
    assert_eq!(refusal, ("E-OWNER", RuleId::ConfigId));
    let refusal = changed(|_, td| td.mr_owner_config[47] = 1).unwrap();
    assert_eq!(refusal, ("E-OWNER", RuleId::ConfigId));
    let refusal = changed(|_, td| td.mr_config_id[0] = 1).unwrap();
    assert_eq!(refusal, ("E-CONFIG-ID", RuleId::ConfigId));
}

#[test]
fn refuses_an_event_log_that_does_not_replay() {
    let Some(refusal) = changed(|_, td| td.rt_mr3[0] ^= 1) else { return };
    assert_eq!(refusal, ("E-RTMR3", RuleId::EventLog));
}

#[test]
fn refuses_missing_reordered_repeated_and_additional_events() {
    let Some(mut case) = Case::good() else { return };
    let [manifest, model] = [case.doc.events[0].clone(), case.doc.events[1].clone()];
    for events in [
        vec![],
        vec![manifest.clone()],
        vec![model.clone(), manifest.clone()],
        vec![manifest.clone(), model.clone(), model.clone()],
        vec![manifest.clone(), manifest.clone()],
    ] {
        case.doc.events = events;
        assert_eq!(case.refusal(), ("E-EVENT-ORDER", RuleId::EventLog));
    }
    let mut odd = model;
    odd.name = "Model Root".to_owned();
    case.doc.events = vec![manifest, odd];
    assert_eq!(case.refusal(), ("E-EVENT-NAME", RuleId::EventLog));
}

#[test]
fn refuses_a_manifest_that_was_not_measured() {
    let Some(mut case) = Case::good() else { return };
    case.doc.manifest = hex::encode(good_manifest().replace("prompt = 1", "prompt = 2"));
    assert_eq!(case.refusal(), ("E-MANIFEST-EVENT", RuleId::Manifest));
}

#[test]
fn refuses_a_measured_manifest_that_is_not_pinned() {
    let Some(mut case) = Case::good() else { return };
    case.set_manifest(&good_manifest().replace("prompt = 1", "prompt = 2"));
    assert_eq!(case.refusal(), ("E-MANIFEST-PIN", RuleId::Manifest));
}

#[test]
fn refuses_a_pinned_manifest_this_build_does_not_read() {
    let Some(mut case) = Case::good() else { return };
    let text = good_manifest().replace("version = 1", "version = 9");
    case.set_manifest(&text);
    case.pin_manifest(&text);
    assert_eq!(case.refusal(), ("E-MANIFEST-FORM", RuleId::Manifest));
}

#[test]
fn refuses_a_measured_model_that_is_not_the_manifests_or_not_pinned() {
    let Some(mut case) = Case::good() else { return };
    let other = Digest([0x5b; 32]);
    let pinned = case.pins.clone();
    case.pins = pinned.replace(&MODEL_ROOT.to_string(), &other.to_string());
    assert_eq!(case.refusal(), ("E-MODEL-ROOT-PIN", RuleId::ModelRoot));
    case.pins = pinned;
    let manifest = sha256(good_manifest().as_bytes());
    case.doc.events = boot_events(&manifest, &other).to_vec();
    assert_eq!(case.refusal(), ("E-MODEL-ROOT-EVENT", RuleId::ModelRoot));
}

#[test]
fn refuses_a_manifest_of_one_pin_with_the_image_of_another() {
    let Some(mut case) = Case::good() else { return };
    let (head, tail) =
        (case.pins.find("[[worker]]").unwrap(), case.pins.find("[platform]").unwrap());
    let worker = case.pins[head..tail].to_owned();
    let other_text = good_manifest().replace("prompt = 1", "prompt = 2");
    let good = sha256(good_manifest().as_bytes()).to_string();
    let mrtd = worker.lines().find(|l| l.starts_with("mrtd")).unwrap();
    // Pin "other": another image with the manifest that the worker shows.
    let other = worker
        .replace("\"real\"", "\"other\"")
        .replace(mrtd, &format!("mrtd = \"{}\"", "cd".repeat(48)))
        .replace(&good, &sha256(other_text.as_bytes()).to_string());
    case.pins.insert_str(tail, &other);
    assert!(case.appraise().accepted());
    case.set_manifest(&other_text);
    assert_eq!(case.refusal(), ("E-MANIFEST-PIN", RuleId::Manifest));
}

#[test]
fn accepts_the_second_of_two_pins_of_one_image() {
    let Some(mut case) = Case::good() else { return };
    let (head, tail) =
        (case.pins.find("[[worker]]").unwrap(), case.pins.find("[platform]").unwrap());
    let text = good_manifest().replace("prompt = 1", "prompt = 2");
    let good = sha256(good_manifest().as_bytes()).to_string();
    let second = case.pins[head..tail]
        .replace("\"real\"", "\"second\"")
        .replace(&good, &sha256(text.as_bytes()).to_string());
    case.pins.insert_str(tail, &second);
    case.set_manifest(&text);
    assert_eq!(case.appraise().result.unwrap().pin_name(), "second");
}

#[test]
fn refuses_manifest_and_keyset_of_another_network() {
    let Some(refusal) = with_keyset(|k| k.network = NetworkId::MAINNET) else { return };
    assert_eq!(refusal, ("E-NETWORK", RuleId::Network));
    let mut case = Case::good().unwrap();
    let text = good_manifest().replace("network = -3", "network = 5458253");
    case.set_manifest(&text);
    case.pin_manifest(&text);
    assert_eq!(case.refusal(), ("E-NETWORK", RuleId::Network));
}

#[test]
fn refuses_a_keyset_that_names_another_tls_key() {
    let Some(refusal) = with_keyset(|k| k.tls_spki.0[0] ^= 1) else { return };
    assert_eq!(refusal, ("E-TLS-KEY", RuleId::TlsKey));
}

#[test]
fn refuses_keysets_with_wrong_ids_lengths_validities_or_repeats() {
    for change in [
        (|k| k.seal_keys[0].id.0[0] ^= 1) as fn(&mut Keyset),
        |k| k.seal_keys[0].public[0] ^= 1,
        |k| k.seal_keys[0].suite = SuiteId::X25519,
        |k| k.seal_keys[1].public.truncate(31),
        |k| k.seal_keys[1].not_before = UnixTime(k.seal_keys[1].not_after.0 + 1),
        |k| k.seal_keys[1] = k.seal_keys[0].clone(),
    ] {
        let Some(refusal) = with_keyset(change) else { return };
        assert_eq!(refusal, ("E-KEYSET-FORM", RuleId::Keyset));
    }
}

#[test]
fn refuses_a_keyset_without_a_worker_key_valid_now() {
    for change in [
        (|k| k.seal_keys.clear()) as fn(&mut Keyset),
        |k| k.seal_keys.iter_mut().for_each(|e| e.role = KeyRole::Grant),
        |k| k.seal_keys.iter_mut().for_each(|e| e.not_after = UnixTime(e.not_before.0 + 1)),
        |k| k.seal_keys.iter_mut().for_each(|e| e.not_before = e.not_after),
    ] {
        let Some(refusal) = with_keyset(change) else { return };
        assert_eq!(refusal, ("E-KEYSET-EXPIRED", RuleId::Keyset));
    }
}

#[test]
fn refuses_a_keyset_that_does_not_decode() {
    let Some(mut case) = Case::good() else { return };
    case.doc.keyset.push_str("00");
    assert_eq!(case.refusal(), ("E-KEYSET-FORM", RuleId::Keyset));
    case.doc.keyset.clear();
    assert_eq!(case.refusal(), ("E-KEYSET-FORM", RuleId::Keyset));
}

#[test]
fn a_transcript_with_a_rule_left_out_or_out_of_order_accepts_nothing() {
    let Some(case) = Case::good() else { return };
    let worker = case.appraise().result.unwrap();
    let pass = || Ok(crate::rules::Passed::new((), String::new()));
    for skipped in RuleId::ALL {
        let mut log = Transcript::default();
        for id in RuleId::ALL.iter().filter(|id| *id != skipped) {
            log.rule(*id, pass()).unwrap();
        }
        let verdict = log.finish(Ok(worker.clone()), false);
        assert_eq!(verdict.result.unwrap_err().code, "E-INTERNAL", "without {skipped}");
    }
    let mut log = Transcript::default();
    RuleId::ALL.iter().rev().for_each(|id| log.rule(*id, pass()).unwrap());
    assert_eq!(log.finish(Ok(worker), false).result.unwrap_err().code, "E-INTERNAL");
}

/// Refusal of the good case under pins with one change.
fn pinned(from: &str, to: &str) -> Option<Verdict> {
    let mut case = Case::good()?;
    assert!(case.pins.contains(from), "{from} is not in the pins");
    case.pins = case.pins.replacen(from, to, 1);
    Some(case.appraise())
}

/// The good case with one denial added.
fn denying(what: &str) -> Option<(&'static str, RuleId)> {
    let mut case = Case::good()?;
    case.pins += &format!("[[deny]]\n{what}\nreason = \"its keys were published\"\n");
    let verdict = case.appraise();
    let refusal = verdict.result.as_ref().expect_err("accepted");
    assert!(refusal.found.contains("its keys were published"), "{refusal}");
    Some((refusal.code, refusal.rule))
}

/// Cocoon's platform.
const INSTANCE: &str = "fd39e5ba";

fn platform() -> Option<([u8; 16], [u8; 16])> {
    let real = Real::cocoon()?;
    let root = crate::TrustRoot::Intel;
    let quote = crate::dcap::verify(&real.cut(), &real.collateral, &root, real.now).unwrap();
    let pck = &quote.claims().platform.pck;
    Some((pck.platform_instance_id.unwrap(), pck.ppid.as_slice().try_into().unwrap()))
}

#[test]
fn an_open_admission_is_shown_and_is_no_pass() {
    let Some(case) = Case::good() else { return };
    let verdict = case.appraise();
    let line = verdict.rules.iter().find(|rule| rule.id == RuleId::PlatformId).unwrap();
    assert_eq!(line.outcome, crate::Outcome::Info);
    assert!(line.detail.starts_with("open: ") && line.detail.contains(INSTANCE), "{line}");
}

#[test]
fn a_vetted_admission_takes_the_listed_platform_and_no_other() {
    let Some((instance, ppid)) = platform() else { return };
    let vetted = |ids: &str| {
        let to = format!("[platform]\nadmission = \"vetted\"\nvetted = [{ids}]");
        pinned("[platform]", &to).unwrap()
    };
    let listed = vetted(&format!("\"{}\", \"{}\"", "00".repeat(16), hex::encode(instance)));
    assert!(listed.accepted(), "{}", listed.to_text());
    let line = listed.rules.iter().find(|rule| rule.id == RuleId::PlatformId).unwrap();
    assert_eq!(line.outcome, crate::Outcome::Pass);
    // An empty list denies, and so does the PPID of a platform that has an instance id.
    for ids in ["", &format!("\"{}\"", "00".repeat(16)), &format!("\"{}\"", hex::encode(ppid))] {
        let refusal = vetted(ids).result.unwrap_err();
        assert_eq!((refusal.code, refusal.rule), ("E-PLATFORM-UNVETTED", RuleId::PlatformId));
    }
}

#[test]
fn a_platform_without_an_instance_id_is_vetted_by_its_ppid() {
    let Some((_, ppid)) = platform() else { return };
    let mut case = Case::good().unwrap();
    let to = format!("[platform]\nadmission = \"vetted\"\nvetted = [\"{}\"]", hex::encode(ppid));
    case.pins = case.pins.replacen("[platform]", &to, 1);
    case.change = |claims, _| claims.platform.pck.platform_instance_id = None;
    assert!(case.appraise().accepted());
    case.change = |claims, _| {
        claims.platform.pck.platform_instance_id = None;
        claims.platform.pck.ppid.clear();
    };
    assert_eq!(case.refusal(), ("E-PLATFORM-UNVETTED", RuleId::PlatformId));
}

#[test]
fn refuses_every_kind_of_denied_value_by_its_rule() {
    let Some((instance, ppid)) = platform() else { return };
    let mrtd = {
        let report = dcap_qvl::quote::Quote::parse(&Real::cocoon().unwrap().quote).unwrap().report;
        hex::encode(report.as_td10().unwrap().mr_td)
    };
    let manifest = sha256(good_manifest().as_bytes());
    for (what, code, rule) in [
        ("fmspc = \"90c06f000000\"".to_owned(), "E-FMSPC-DENIED", RuleId::PlatformId),
        (
            format!("platform = \"{}\"", hex::encode(instance)),
            "E-PLATFORM-DENIED",
            RuleId::PlatformId,
        ),
        (format!("platform = \"{}\"", hex::encode(ppid)), "E-PLATFORM-DENIED", RuleId::PlatformId),
        (format!("mrtd = \"{mrtd}\""), "E-IMAGE-DENIED", RuleId::Image),
        (format!("manifest_sha256 = \"{manifest}\""), "E-IMAGE-DENIED", RuleId::Image),
        (format!("model_root = \"{MODEL_ROOT}\""), "E-IMAGE-DENIED", RuleId::Image),
    ] {
        assert_eq!(denying(&what).unwrap(), (code, rule), "{what}");
    }
    // One denied pin of an image does not deny the others of the same image.
    let mut case = Case::good().unwrap();
    case.pins += &format!("[[deny]]\nmodel_root = \"{}\"\nreason = \"x\"\n", "1".repeat(64));
    assert!(case.appraise().accepted());
}

#[test]
fn refuses_a_denied_advisory_on_a_platform_that_is_up_to_date() {
    let Some(mut case) = Case::good() else { return };
    case.pins += "[[deny]]\nadvisory = \"INTEL-SA-09999\"\nreason = \"exploited\"\n";
    assert!(case.appraise().accepted());
    case.change = |claims, _| claims.tcb.advisory_ids.push("INTEL-SA-09999".to_owned());
    assert_eq!(case.refusal(), ("E-ADVISORY-DENIED", RuleId::PlatformId));
}

#[test]
fn a_pin_counts_from_its_second_on() {
    // The clock of the case is 2026-03-01T00:00:00Z.
    for (date, accepted) in [
        ("2026-02-28T23:59:59Z", true),
        ("2026-03-01T00:00:00Z", true),
        ("2026-03-01T00:00:01Z", false),
    ] {
        let to = format!("activates_at = \"{date}\"\nname = \"real\"");
        let Some(verdict) = pinned("name = \"real\"", &to) else { return };
        assert_eq!(verdict.accepted(), accepted, "{date}");
        let code = verdict.result.map_or_else(|refusal| refusal.code, |_| "E-PIN-INACTIVE");
        assert_eq!(code, "E-PIN-INACTIVE");
    }
}

#[test]
fn a_verdict_shows_the_image_hash_and_ends_with_the_first_thing_it_rests_on() {
    let Some(case) = Case::good() else { return };
    let worker = case.appraise().result.unwrap();
    let identity = crate::TdIdentity::ZERO;
    let registers = worker.measurement().td().unwrap();
    let hash = worker.image_hash().unwrap();
    assert_eq!(hash, crate::cocoon_tdx_image_hash(registers, &identity));
    let json = serde_json::to_value(&worker).unwrap();
    assert_eq!(json["cocoon_image_hash"], hash.to_string());
    // The keys of the case end first.
    assert_eq!(worker.valid_until(), Some(UnixTime(case.now.0 + 3600)));
    let mut aged = Case::good().unwrap();
    // Collateral of 18 February is twelve days old at most until 2 March.
    aged.pins = aged.pins.replace("max_collateral_age_days = 30", "max_collateral_age_days = 11");
    let issued = aged.real.collateral.stated().unwrap().oldest_issue.0;
    let ends = UnixTime(issued + 11 * 86_400);
    assert!(ends.0 > aged.now.0 && ends.0 < aged.now.0 + 86_400);
    let mut keyset = good_keyset(aged.now);
    keyset.seal_keys.iter_mut().for_each(|key| key.not_after = UnixTime(u64::MAX));
    aged.set_keyset(&keyset);
    assert_eq!(aged.appraise().result.unwrap().valid_until(), Some(ends));
}
