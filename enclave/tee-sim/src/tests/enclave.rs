//! Simulated enclaves before our own appraiser: accepted as they are, and each report that differs,
//! signed under the FAKE root as it stands, refused by the rule that exists for it.

use chrysalis_evidence::{
    AllowSim, Appraiser, Binding, Collateral, CutQuote, Pins, Role, RuleId, Verdict, boot_events,
    enclave_events_digest, keyset_digest, sim,
};
use chrysalis_tee::{Identity, Platform};
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::{AttestationDocument, Digest, NetworkId};
use sha2::{Digest as _, Sha256};

use super::appraisal::{
    EXECUTABLE, MODEL_ROOT, NOW, keyset, manifest, pins_text as td_pins, session,
};
use crate::{SimEnclave, SimPlatform, SimReport, collateral, enclave_collateral, sim_root_der};

/// INSECURE-SIM pins of the simulated enclave; `identity` names it.
fn pins_with(identity: &str) -> String {
    format!(
        "version = 1\ntier = \"INSECURE-SIM\"\nsim_root = \"{}\"\nnetwork = {}\n[platform]\n\
         td_attributes = []\nxfam = []\nmr_seam = []\nmax_collateral_age_days = 30\n\
         min_tcb_evaluation_number = {}\nallow_dynamic_platform = true\nallow_cached_keys = true\n\
         allow_smt = true\n[sgx]\nattributes = [{{ value = \"{}\", mask = \"ffffffffffffffff\" }}]\n\
         xfrm = [{{ value = \"{}\", mask = \"ffffffffffffffff\" }}]\n\
         misc_select = [{{ value = \"{}\", mask = \"ffffffff\" }}]\n[[sgx.worker]]\nname = \"sim\"\n\
         {identity}\nmanifest_sha256 = \"{}\"\nmodel_root = \"{MODEL_ROOT}\"\n",
        hex::encode(sim_root_der()),
        NetworkId::INSECURE_SIM.0,
        sim::TCB_EVALUATION_NUMBER,
        hex::encode(sim::SGX_ATTRIBUTES),
        hex::encode(sim::SGX_XFRM),
        hex::encode(sim::SGX_MISC_SELECT),
        hex::encode(Sha256::digest(manifest())),
    )
}

fn by_enclave() -> String {
    pins_with(&format!("mrenclave = \"{}\"", sim::enclave(EXECUTABLE).mrenclave))
}

fn by_signer(isv_prod_id: u16, min_isv_svn: u16) -> String {
    let mrsigner = sim::enclave(EXECUTABLE).mrsigner;
    pins_with(&format!(
        "mrsigner = \"{mrsigner}\"\nisv_prod_id = {isv_prod_id}\nmin_isv_svn = {min_isv_svn}"
    ))
}

/// An enclave that differs by `change`, attested for a fresh session and appraised.
fn appraise(pins: &str, change: impl FnOnce(&mut SimReport)) -> Verdict {
    appraise_with(pins, &enclave_collateral(NOW), change)
}

fn appraise_with(pins: &str, collateral: &str, change: impl FnOnce(&mut SimReport)) -> Verdict {
    let platform = SimEnclave::new(EXECUTABLE).with(change);
    let events = boot_events(&Digest(Sha256::digest(manifest()).into()), &MODEL_ROOT);
    let session = session();
    let binding = Binding {
        role: Role::Server,
        tls_spki: session.tls_spki,
        nonce: session.nonce,
        exporter: session.exporter,
        keyset_digest: keyset_digest(&keyset()),
        device_digest: enclave_events_digest(&events).unwrap(),
    };
    let document = AttestationDocument {
        schema: ATTESTATION_SCHEMA.into(),
        platform: platform.name().into(),
        quote: hex::encode(platform.quote(&binding.report_data().0).unwrap()),
        keyset: hex::encode(keyset()),
        manifest: hex::encode(manifest()),
        events: events.to_vec(),
        devices: Vec::new(),
        batch: None,
    };
    let collateral = Collateral::parse(collateral.as_bytes()).unwrap();
    let pins = Pins::parse(pins, AllowSim::Yes).unwrap();
    Appraiser::new(pins).appraise(&document, &session, &collateral, NOW)
}

#[track_caller]
fn refused(pins: &str, change: impl FnOnce(&mut SimReport), code: &str, rule: RuleId) {
    let verdict = appraise(pins, change);
    let refusal = verdict.result.expect_err("accepted");
    assert_eq!((refusal.code, refusal.rule), (code, rule), "{refusal}");
}

#[test]
fn an_honest_simulated_enclave_is_accepted_and_marked() {
    for pins in [by_enclave(), by_signer(1, 1)] {
        let verdict = appraise(&pins, |_| {});
        assert!(verdict.insecure_sim);
        let worker = verdict.result.as_ref().unwrap_or_else(|e| panic!("{e}"));
        assert!(worker.insecure_sim());
        let identity = sim::enclave(EXECUTABLE);
        assert_eq!(worker.measurement().enclave(), Some(&identity));
        assert_eq!(worker.measurement_digest(), identity.digest());
        assert!(verdict.to_text().starts_with("INSECURE-SIM"));
    }
}

#[test]
fn refuses_each_signed_report_that_differs_by_its_own_rule() {
    use RuleId::{SgxAttributes, SgxConfig, SgxDebug, SgxEnclave, SgxMiscSelect, SgxXfrm};
    let pins = by_enclave();
    let flags = ("E-SGX-ATTRIBUTES", SgxAttributes);
    refused(&pins, |r| r.attributes[0] |= 2, "E-SGX-DEBUG", SgxDebug);
    refused(&pins, |r| r.attributes[0] |= 0x10, flags.0, flags.1); // PROVISIONKEY
    refused(&pins, |r| r.attributes[0] |= 0x20, flags.0, flags.1); // EINITTOKEN_KEY
    refused(&pins, |r| r.attributes[0] |= 0x80, flags.0, flags.1); // KSS
    refused(&pins, |r| r.attributes[0] &= !4, flags.0, flags.1); // a 32-bit enclave
    refused(&pins, |r| r.xfrm[1] |= 2, "E-SGX-XFRM", SgxXfrm); // PKRU
    refused(&pins, |r| r.misc_select[0] = 1, "E-SGX-MISCSELECT", SgxMiscSelect);
    refused(&pins, |r| r.config_id[0] = 1, "E-SGX-CONFIG", SgxConfig);
    refused(&pins, |r| r.config_svn = 1, "E-SGX-CONFIG", SgxConfig);
    refused(&pins, |r| r.isv_ext_prod_id[0] = 1, "E-SGX-EXTENDED-ID", SgxConfig);
    refused(&pins, |r| r.isv_family_id[0] = 1, "E-SGX-EXTENDED-ID", SgxConfig);
    refused(&pins, |r| r.reserved = 1, "E-SGX-RESERVED", SgxConfig);
    refused(&pins, |r| r.identity.mrenclave.0[0] ^= 1, "E-MRENCLAVE", SgxEnclave);
    let pins = by_signer(1, 1);
    refused(&pins, |r| r.identity.mrsigner.0[0] ^= 1, "E-MRSIGNER", SgxEnclave);
    refused(&pins, |r| r.identity.isv_prod_id = 2, "E-ISV-PROD-ID", SgxEnclave);
    refused(&pins, |r| r.identity.isv_svn = 0, "E-ISV-SVN", SgxEnclave);
}

#[test]
fn refuses_quotes_that_are_replayed_or_signed_by_a_stranger() {
    let pins = by_enclave();
    refused(&pins, |r| r.wrong_report_data = true, "E-REPORT-DATA", RuleId::ReportData);
    refused(&pins, |r| r.uncertified_key = true, "E-DCAP", RuleId::Dcap);
}

#[test]
fn genuine_quotes_of_versions_4_and_5_are_read_and_not_verified_by_the_library() {
    for version in [4, 5] {
        let enclave = SimEnclave::new(EXECUTABLE).with(|r| r.quote_version = version);
        let cut = CutQuote::parse(&enclave.quote(&[7; 64]).unwrap()).unwrap();
        assert_eq!((cut.version(), cut.ignored()), (version, 0));
        refused(&by_enclave(), |r| r.quote_version = version, "E-DCAP", RuleId::Dcap);
    }
}

#[test]
fn another_build_is_accepted_under_its_signer_and_refused_under_its_measurement() {
    let other_build = |r: &mut SimReport| r.identity.mrenclave.0[0] ^= 1;
    assert!(appraise(&by_signer(1, 1), other_build).accepted());
    assert!(appraise(&by_signer(1, 1), |r| r.identity.isv_svn = 9).accepted());
    assert!(!appraise(&by_enclave(), other_build).accepted());
}

#[test]
fn enclaves_and_trust_domains_are_refused_under_each_others_pins() {
    refused(&td_pins(), |_| {}, "E-QUOTE-TEE", RuleId::QuoteForm);

    // The other way round, with a platform section that would accept the domain.
    let (enclaves, td) = (by_enclave(), td_pins());
    let lists = |text: &str| {
        text.lines()
            .filter(|line| ["td_attr", "xfam", "mr_seam"].iter().any(|key| line.starts_with(key)))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut mixed = enclaves;
    for (from, to) in lists(&mixed.clone()).iter().zip(lists(&td)) {
        mixed = mixed.replace(from, &to);
    }
    let platform = SimPlatform::new(EXECUTABLE);
    let quote = platform.quote(&[7; 64]).unwrap();
    let collateral = Collateral::parse(collateral(NOW).as_bytes()).unwrap();
    let pins = Pins::parse(&mixed, AllowSim::Yes).unwrap();
    let expected = chrysalis_evidence::ReportData([7; 64]);
    let verdict = Appraiser::new(pins).appraise_quote(&quote, &expected, &collateral, NOW);
    assert_eq!(verdict.result.unwrap_err().code, "E-NO-WORKERS");
}

#[test]
fn refuses_collateral_of_the_other_kind_of_platform() {
    let verdict = appraise_with(&by_enclave(), &collateral(NOW), |_| {});
    assert_eq!(verdict.result.unwrap_err().code, "E-DCAP");
}

#[test]
fn the_simulated_enclave_has_no_register_and_says_who_it_is() {
    let enclave = SimEnclave::new(EXECUTABLE);
    assert_eq!(enclave.extend_runtime(&[1; 48]).unwrap_err().code(), "E-TEE-UNSUPPORTED");
    assert_eq!(enclave.measurements().unwrap_err().code(), "E-TEE-UNSUPPORTED");
    assert!(enclave.insecure_sim());
    let Ok(Identity::Sgx(identity)) = enclave.identity() else { panic!("no enclave") };
    assert_eq!(identity.mrenclave, sim::enclave(EXECUTABLE).mrenclave.0);
    let other = SimEnclave::new(b"another");
    assert_ne!(*enclave.sealing_key("x").unwrap(), *other.sealing_key("x").unwrap());
    assert_ne!(*enclave.sealing_key("x").unwrap(), *enclave.sealing_key("y").unwrap());
}
