//! Simulated workers before our own appraiser: accepted as they are, and each fault refused by the
//! rule that exists for it.

use chrysalis_evidence::nvidia::DeviceEvidence;
use chrysalis_evidence::{
    AllowSim, Appraiser, Binding, Collateral, Pins, PinsError, Refusal, Role, Session,
    VerifiedWorker, boot_events, event_digest, keyset_digest, sim,
};
use chrysalis_tee::{Platform, TeeError};
use chrysalis_wire::{
    AttestationDocument, DeviceDocument, Digest, KeyId, KeyRole, Keyset, NetworkId, SealKeyEntry,
    SuiteId, UnixTime,
};
use sha2::{Digest as _, Sha256};

use crate::{Faults, SimPlatform, collateral, sim_root_der};

pub(super) const EXECUTABLE: &[u8] = b"a worker";
/// 2026-03-01.
pub(super) const NOW: UnixTime = UnixTime(1_772_323_200);
const SPKI: Digest = Digest([0x5B; 32]);
pub(super) const MODEL_ROOT: Digest = Digest([0x3D; 32]);

pub(super) fn manifest() -> Vec<u8> {
    format!(
        "version = 1\nnetwork = {}\nregistry = \"{}\"\n[model]\nname = \"m\"\nroot = \
         \"{MODEL_ROOT}\"\nsealed = false\n[limits]\nrequest_bytes = 65536\ncontext_tokens = 2048\n\
         completion_tokens = 512\nconcurrent_requests = 4\n[prices]\nprompt = 1\ncached = 1\n\
         completion = 1\nreasoning = 1\n",
        NetworkId::INSECURE_SIM.0,
        "0".repeat(64)
    )
    .into_bytes()
}

pub(super) fn pins_text() -> String {
    format!(
        "version = 1\ntier = \"INSECURE-SIM\"\nsim_root = \"{}\"\nnetwork = {}\n[[worker]]\nname = \
         \"sim\"\nmrtd = \"{}\"\nrtmr0 = \"{}\"\nrtmr1 = \"{}\"\nrtmr2 = \"{}\"\nmanifest_sha256 = \
         \"{}\"\nmodel_root = \"{MODEL_ROOT}\"\n[platform]\ntd_attributes = [\"{}\"]\nxfam = \
         [\"{}\"]\nmr_seam = [\"{}\"]\nmax_collateral_age_days = 30\nmin_tcb_evaluation_number = \
         {}\nallow_dynamic_platform = true\nallow_cached_keys = true\nallow_smt = true\n",
        hex::encode(sim_root_der()),
        NetworkId::INSECURE_SIM.0,
        hex::encode(sim::mrtd(EXECUTABLE)),
        hex::encode(sim::rtmr0()),
        hex::encode(sim::rtmr1()),
        hex::encode(sim::rtmr2()),
        hex::encode(Sha256::digest(manifest())),
        hex::encode(sim::TD_ATTRIBUTES),
        hex::encode(sim::XFAM),
        hex::encode(sim::mr_seam()),
        sim::TCB_EVALUATION_NUMBER,
    )
}

pub(super) fn keyset() -> Vec<u8> {
    keyset_of(SPKI, [1; 32]).encode()
}

/// A keyset of one boot.
pub(super) fn keyset_of(tls_spki: Digest, meter_key: [u8; 32]) -> Keyset {
    let public = vec![9; 32];
    let id = Sha256::new().chain_update(0x0020u16.to_be_bytes()).chain_update(&public).finalize();
    Keyset {
        network: NetworkId::INSECURE_SIM,
        meter_key,
        tls_spki,
        seal_keys: vec![SealKeyEntry {
            id: KeyId(*id.first_chunk().unwrap()),
            suite: SuiteId::X25519,
            role: KeyRole::Worker,
            not_before: NOW,
            not_after: UnixTime(NOW.0 + 3600),
            public,
        }],
    }
}

/// Boots a simulated worker, attests it for a fresh session and appraises what it says.
fn appraise(faults: Faults) -> Result<VerifiedWorker, Refusal> {
    appraise_with(faults, &pins_text(), |_| {})
}

fn appraise_with(
    faults: Faults,
    pins: &str,
    tamper: impl FnOnce(&mut AttestationDocument),
) -> Result<VerifiedWorker, Refusal> {
    appraise_bound(faults, pins, Digest([0; 32]), tamper)
}

/// Appraises an honest worker that shows `set` and whose quote commits to `digest`.
pub(super) fn appraise_devices(
    pins: &str,
    set: &[DeviceEvidence],
    digest: Digest,
) -> Result<VerifiedWorker, Refusal> {
    appraise_bound(Faults::default(), pins, digest, |document| {
        let show = |device: &DeviceEvidence| DeviceDocument {
            report: hex::encode(&device.report),
            chain: hex::encode(&device.chain),
        };
        document.devices = set.iter().map(show).collect();
    })
}

/// The verifier's view of the connection.
pub(super) const fn session() -> Session {
    Session { nonce: [0xAB; 32], tls_spki: SPKI, exporter: [0xCD; 32] }
}

fn appraise_bound(
    faults: Faults,
    pins: &str,
    device_digest: Digest,
    tamper: impl FnOnce(&mut AttestationDocument),
) -> Result<VerifiedWorker, Refusal> {
    let platform = SimPlatform::new(EXECUTABLE).with_faults(faults);
    let events = boot_events(&Digest(Sha256::digest(manifest()).into()), &MODEL_ROOT);
    for event in &events {
        platform.extend_runtime(&event_digest(event).unwrap()).unwrap();
    }
    let session = session();
    let binding = Binding {
        role: Role::Server,
        tls_spki: session.tls_spki,
        nonce: session.nonce,
        exporter: session.exporter,
        keyset_digest: keyset_digest(&keyset()),
        device_digest,
    };
    let mut document = AttestationDocument {
        schema: chrysalis_wire::attest::ATTESTATION_SCHEMA.into(),
        platform: platform.name().into(),
        quote: hex::encode(platform.quote(&binding.report_data().0).unwrap()),
        keyset: hex::encode(keyset()),
        manifest: hex::encode(manifest()),
        events: events.to_vec(),
        devices: Vec::new(),
        batch: None,
    };
    tamper(&mut document);
    let collateral = Collateral::parse(collateral(NOW).as_bytes()).unwrap();
    let pins = Pins::parse(pins, AllowSim::Yes).unwrap();
    Appraiser::new(pins).appraise(&document, &session, &collateral, NOW).result
}

#[track_caller]
fn assert_refused(result: Result<VerifiedWorker, Refusal>, code: &str) {
    match result {
        Ok(_) => panic!("accepted; expected {code}"),
        Err(refusal) => assert_eq!(refusal.code, code, "{refusal}"),
    }
}

#[test]
fn an_honest_simulated_worker_is_accepted_and_marked() {
    let worker = appraise(Faults::default()).unwrap();
    assert!(worker.insecure_sim());
    assert_eq!(worker.pin_name(), "sim");
    assert_eq!(worker.model_root(), MODEL_ROOT);
    assert_eq!(worker.measurement().td().unwrap().mrtd, crate::predict_mrtd(EXECUTABLE));
}

#[test]
fn each_fault_is_refused_by_its_own_rule() {
    let none = Faults::default();
    for (faults, code) in [
        (Faults { debug: true, ..none }, "E-DEBUG"),
        (Faults { wrong_report_data: true, ..none }, "E-REPORT-DATA"),
        (Faults { bad_signature: true, ..none }, "E-DCAP"),
        (Faults { uncertified_key: true, ..none }, "E-DCAP"),
        (Faults { truncated: true, ..none }, "E-QUOTE-TRUNCATED"),
        (Faults { out_of_date: true, ..none }, "E-TCB-STATUS"),
        (Faults { wrong_mr_seam: true, ..none }, "E-SEAM"),
        (Faults { wrong_mrtd: true, ..none }, "E-MRTD"),
        (Faults { lost_extend: true, ..none }, "E-RTMR3"),
    ] {
        assert_refused(appraise(faults), code);
    }
}

#[test]
fn refuses_pins_that_do_not_allow_the_platforms_properties() {
    for (flag, code) in [
        ("allow_dynamic_platform", "E-DYNAMIC"),
        ("allow_cached_keys", "E-CACHED-KEYS"),
        ("allow_smt", "E-SMT"),
    ] {
        let pins = pins_text().replace(&format!("{flag} = true"), &format!("{flag} = false"));
        assert_refused(appraise_with(Faults::default(), &pins, |_| {}), code);
    }
}

#[test]
fn refuses_a_keyset_that_was_swapped_after_the_quote() {
    let swapped = appraise_with(Faults::default(), &pins_text(), |document| {
        document.keyset = document.keyset.replace(&"01".repeat(32), &"02".repeat(32));
    });
    assert_refused(swapped, "E-REPORT-DATA");
}

#[test]
fn the_word_for_the_platform_in_the_document_decides_nothing() {
    let renamed = appraise_with(Faults::default(), &pins_text(), |document| {
        document.platform = "tdx".into();
    });
    assert!(renamed.unwrap().insecure_sim(), "a worker talked its way out of being simulated");
}

#[test]
fn refuses_simulated_pins_unless_simulation_was_asked_for() {
    assert_eq!(Pins::parse(&pins_text(), AllowSim::No), Err(PinsError::SimRefused));
}

#[test]
fn a_platform_without_quotes_cannot_be_appraised_at_all() {
    let platform =
        SimPlatform::new(EXECUTABLE).with_faults(Faults { no_quote: true, ..Faults::default() });
    assert!(matches!(platform.quote(&[0; 64]), Err(TeeError::Simulator(_))));
}
