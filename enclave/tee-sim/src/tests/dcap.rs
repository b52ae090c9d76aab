//! The simulator against an independent verifier, `dcap-qvl`: its evidence must be accepted under
//! the FAKE root for the right reasons, and refused for each wrong one.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use chrysalis_evidence::{Collateral, QuoteCollateralV3, TrustRoot, sim};
use chrysalis_tee::{Platform, TeeError};
use chrysalis_wire::UnixTime;
use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::quote::TDReport10;
use dcap_qvl::signature::DerSigEncoder;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::x509::X509CertBackend;
use dcap_qvl::{QuoteClaims, QuotePolicy, TcbStatus};
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use sha2::{Digest as _, Sha256, Sha384};

use crate::{
    COLLATERAL_DAYS, FMSPC, Faults, PLATFORM_INSTANCE_ID, PPID, SimPlatform, collateral,
    predict_mrtd, sim_root_der,
};

struct Backend;

impl Config for Backend {
    type X509 = X509CertBackend;
    type SigEncoder = DerSigEncoder;
    type Crypto = Self;
}

impl CryptoProvider for Backend {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        &P256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        Sha384::digest(data).into()
    }
}

#[derive(Debug)]
struct P256;

impl SignatureVerificationAlgorithm for P256 {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }

    fn verify_signature(
        &self,
        key: &[u8],
        message: &[u8],
        sig: &[u8],
    ) -> Result<(), InvalidSignature> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
            .verify(message, sig)
            .map_err(|_| InvalidSignature)
    }
}

const EXECUTABLE: &[u8] = b"a worker";
const REPORT_DATA: [u8; 64] = [0x5C; 64];
/// 2026-03-01.
const NOW: UnixTime = UnixTime(1_772_323_200);

fn sim(faults: Faults) -> SimPlatform {
    SimPlatform::new(EXECUTABLE).with_faults(faults)
}

fn quote(faults: Faults) -> Vec<u8> {
    sim(faults).quote(&REPORT_DATA).unwrap()
}

fn fresh() -> QuoteCollateralV3 {
    inner(&collateral(NOW))
}

/// The object inside the bundle, read as a foreign tool would.
fn inner(bundle: &str) -> QuoteCollateralV3 {
    let bundle: serde_json::Value = serde_json::from_str(bundle).unwrap();
    assert_eq!(bundle["schema"], "chrysalis/collateral/v1");
    serde_json::from_value(bundle["collateral"].clone()).unwrap()
}

fn verify_with(
    root: &[u8],
    quote: &[u8],
    collateral: &QuoteCollateralV3,
    now: u64,
    policy: &QuotePolicy,
) -> Result<QuoteClaims, String> {
    QuoteVerifier::<Backend>::new_with_config(root.to_vec())
        .verify_with_policy(quote, collateral, now, policy)
        .map_err(|e| format!("{e:#}"))
}

/// UpToDate only; the platform is a multi-package server as every real one in the test vectors.
fn policy(now: u64) -> QuotePolicy {
    QuotePolicy::strict(now).allow_dynamic_platform(true).allow_cached_keys(true).allow_smt(true)
}

fn verify(quote: &[u8]) -> Result<QuoteClaims, String> {
    verify_with(&sim_root_der(), quote, &fresh(), NOW.0, &policy(NOW.0))
}

fn td(claims: &QuoteClaims) -> &TDReport10 {
    claims.report.as_td10().unwrap()
}

#[track_caller]
fn assert_refused<T>(result: Result<T, String>, because: &str) {
    match result {
        Ok(_) => panic!("accepted; expected a refusal because {because:?}"),
        Err(message) => assert!(message.contains(because), "refused for another reason: {message}"),
    }
}

#[test]
fn a_simulated_quote_is_up_to_date_under_the_fake_root() {
    let platform = sim(Faults::default());
    platform.extend_runtime(&[7; 48]).unwrap();
    let claims = verify(&platform.quote(&REPORT_DATA).unwrap()).unwrap();
    assert_eq!(claims.tcb.status, TcbStatus::UpToDate);
    assert!(claims.tcb.advisory_ids.is_empty());
    assert_eq!(claims.tcb.eval_data_number, sim::TCB_EVALUATION_NUMBER);
    let pck = &claims.platform.pck;
    assert_eq!((pck.ppid.as_slice(), pck.fmspc), (PPID.as_slice(), FMSPC));
    assert_eq!(pck.platform_instance_id, Some(PLATFORM_INSTANCE_ID));
    let registers = platform.measurements().unwrap();
    let td = td(&claims);
    assert_eq!(td.report_data, REPORT_DATA);
    assert_eq!(td.mr_td, registers.mrtd);
    assert_eq!([td.rt_mr0, td.rt_mr1, td.rt_mr2, td.rt_mr3], registers.rtmr);
    assert_eq!((td.td_attributes, td.xfam), (sim::TD_ATTRIBUTES, sim::XFAM));
    assert_eq!(td.mr_seam, sim::mr_seam());
}

#[test]
fn registers_are_what_the_measuring_tool_predicts() {
    let registers = sim(Faults::default()).measurements().unwrap();
    assert_eq!(registers.mrtd, predict_mrtd(EXECUTABLE));
    assert_ne!(registers.mrtd, predict_mrtd(b"another worker"));
    assert_eq!(registers.rtmr, [sim::rtmr0(), sim::rtmr1(), sim::rtmr2(), [0; 48]]);
}

#[test]
fn an_extension_hashes_the_old_value_and_the_digest() {
    let platform = sim(Faults::default());
    platform.extend_runtime(&[1; 48]).unwrap();
    let expected: [u8; 48] = Sha384::digest([[0; 48], [1; 48]].concat()).into();
    assert_eq!(platform.measurements().unwrap().rtmr[3], expected);
}

#[test]
fn the_platform_says_what_it_is() {
    let platform = sim(Faults::default());
    assert!(platform.insecure_sim());
    assert_eq!(platform.name(), "INSECURE-SIM");
}

#[test]
fn collateral_is_the_bundle_the_appraiser_reads() {
    let text = collateral(NOW);
    assert_eq!(Collateral::parse(text.as_bytes()).unwrap().to_json(), text);
}

#[test]
fn collateral_is_valid_from_its_second_to_its_last() {
    let (quote, bundle, root) = (quote(Faults::default()), fresh(), sim_root_der());
    let last = NOW.0 + COLLATERAL_DAYS * 86_400;
    for now in [NOW.0, last - 1] {
        verify_with(&root, &quote, &bundle, now, &policy(now)).unwrap();
    }
    assert_refused(
        verify_with(&root, &quote, &bundle, NOW.0 - 1, &policy(NOW.0 - 1)),
        "issue date is in the future",
    );
    let after = last + 1;
    assert_refused(verify_with(&root, &quote, &bundle, after, &policy(after)), "xpired");
}

#[test]
fn is_refused_under_intels_root() {
    let intel = TrustRoot::Intel;
    let result =
        verify_with(intel.der(), &quote(Faults::default()), &fresh(), NOW.0, &policy(NOW.0));
    // The first thing checked under a root is its own revocation list.
    assert_refused(result, "Failed to parse root CA CRL");
}

#[test]
fn is_refused_under_a_root_of_the_same_name_with_another_key() {
    let (lookalike, its_crl) = crate::pki::lookalike_root(NOW);
    let mut bundle = fresh();
    bundle.root_ca_crl = its_crl;
    assert_refused(
        verify_with(&lookalike, &quote(Faults::default()), &bundle, NOW.0, &policy(NOW.0)),
        "Failed to verify certificate chain",
    );
}

#[test]
fn refuses_a_flipped_bit_anywhere_in_the_signed_body() {
    let good = quote(Faults::default());
    for offset in [8, 28, 48, 120, 136, 184, 328, 568, 631] {
        let mut bad = good.clone();
        bad[offset] ^= 1;
        assert!(verify(&bad).is_err(), "accepted a flipped bit at {offset}");
    }
}

#[test]
fn refuses_a_quote_with_a_bad_signature() {
    assert_refused(
        verify(&quote(Faults { bad_signature: true, ..Faults::default() })),
        "ISV enclave report signature is invalid",
    );
}

#[test]
fn refuses_a_quote_signed_by_a_key_nobody_vouched_for() {
    assert_refused(
        verify(&quote(Faults { uncertified_key: true, ..Faults::default() })),
        "QE report hash mismatch",
    );
}

#[test]
fn refuses_a_truncated_quote() {
    assert_refused(
        verify(&quote(Faults { truncated: true, ..Faults::default() })),
        "Failed to decode quote",
    );
}

#[test]
fn refuses_a_debug_td() {
    assert_refused(
        verify(&quote(Faults { debug: true, ..Faults::default() })),
        "Debug mode is enabled",
    );
}

#[test]
fn refuses_an_out_of_date_platform_and_names_the_advisory() {
    let old = quote(Faults { out_of_date: true, ..Faults::default() });
    assert_refused(verify(&old), "OutOfDate");
    let unjudged = QuotePolicy::claims_only(NOW.0);
    let claims = verify_with(&sim_root_der(), &old, &fresh(), NOW.0, &unjudged).unwrap();
    assert_eq!(claims.tcb.status, TcbStatus::OutOfDate);
    assert_eq!(claims.tcb.advisory_ids, ["INSECURE-SIM-SA-00001"]);
}

#[test]
fn shows_other_report_data_when_told_to_replay() {
    let claims = verify(&quote(Faults { wrong_report_data: true, ..Faults::default() })).unwrap();
    assert_ne!(td(&claims).report_data, REPORT_DATA);
}

#[test]
fn shows_other_measurements_when_told_to_lie_about_them() {
    let lie = Faults { wrong_mrtd: true, wrong_mr_seam: true, ..Faults::default() };
    let claims = verify(&quote(lie)).unwrap();
    assert_ne!(td(&claims).mr_td, predict_mrtd(EXECUTABLE));
    assert_ne!(td(&claims).mr_seam, sim::mr_seam());
}

#[test]
fn loses_extensions_when_told_to() {
    let platform = sim(Faults { lost_extend: true, ..Faults::default() });
    platform.extend_runtime(&[1; 48]).unwrap();
    assert_eq!(platform.measurements().unwrap().rtmr[3], [0; 48]);
}

#[test]
fn makes_no_quote_when_told_not_to() {
    let platform = sim(Faults { no_quote: true, ..Faults::default() });
    let error = platform.quote(&REPORT_DATA).unwrap_err();
    assert!(matches!(error, TeeError::Simulator(_)));
    assert_eq!(error.code(), "E-INSECURE-SIM");
}

#[test]
fn refuses_platform_flags_the_policy_does_not_allow() {
    let quote = quote(Faults::default());
    let strict = QuotePolicy::strict(NOW.0);
    for (almost, because) in [
        (strict.clone().allow_cached_keys(true).allow_smt(true), "ynamic"),
        (strict.clone().allow_dynamic_platform(true).allow_smt(true), "ached"),
        (strict.allow_dynamic_platform(true).allow_cached_keys(true), "SMT"),
    ] {
        assert_refused(verify_with(&sim_root_der(), &quote, &fresh(), NOW.0, &almost), because);
    }
}

#[test]
fn refuses_collateral_whose_texts_were_edited() {
    let quote = quote(Faults::default());
    let refused = |bundle: &QuoteCollateralV3, because: &str| {
        assert_refused(
            verify_with(&sim_root_der(), &quote, bundle, NOW.0, &policy(NOW.0)),
            because,
        );
    };
    let mut bundle = fresh();
    bundle.tcb_info = bundle.tcb_info.replace("OutOfDate", "UpToDate");
    refused(&bundle, "Signature is invalid for tcb_info");
    let mut bundle = fresh();
    bundle.qe_identity = bundle.qe_identity.replace("\"isvsvn\":4", "\"isvsvn\":1");
    refused(&bundle, "Signature is invalid for qe_identity");
    let mut bundle = fresh();
    let last = bundle.root_ca_crl.len() - 1;
    bundle.root_ca_crl[last] ^= 1;
    refused(&bundle, "CRL");
}

#[test]
fn refuses_the_two_revocation_lists_in_each_others_place() {
    let mut bundle = fresh();
    std::mem::swap(&mut bundle.root_ca_crl, &mut bundle.pck_crl);
    assert_refused(
        verify_with(&sim_root_der(), &quote(Faults::default()), &bundle, NOW.0, &policy(NOW.0)),
        "CRL",
    );
}

#[test]
fn the_sealing_key_is_the_same_on_every_machine() {
    let one = SimPlatform::new(b"one").sealing_key("x").unwrap();
    let other = SimPlatform::new(b"other").sealing_key("x").unwrap();
    assert_eq!(*one, *other, "a simulated sealing key must not look like it protects anything");
    assert_ne!(*one, *SimPlatform::new(b"one").sealing_key("y").unwrap());
}

#[test]
fn a_quote_has_the_size_and_marks_of_a_real_one() {
    let quote = quote(Faults::default());
    assert!((4000..5120).contains(&quote.len()), "{} bytes", quote.len());
    assert_eq!(&quote[28..48], b"INSECURE-SIM FAKE QE");
    assert!(quote.ends_with(b"-----END CERTIFICATE-----\n"));
}
