//! The table of known results: which real quote verifies how, under which collateral and clock.

use chrysalis_wire::UnixTime;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteCollateralV3, TcbStatus};

use super::{JUNE_2025, MARCH_2026, OCTOBER_2026, Real, vector};
use crate::backend::AwsLcConfig;
use crate::dcap::{DcapError, verify, verify_claims};
use crate::{Authority, BodyKind, PlatformFamily, TeeKind, TrustRoot};

fn refusal(real: &Real) -> DcapError {
    verify_claims(&real.cut(), &real.collateral, &TrustRoot::Intel, real.now).unwrap_err()
}

fn status(real: &Real) -> (TcbStatus, Vec<String>) {
    let claims = verify_claims(&real.cut(), &real.collateral, &TrustRoot::Intel, real.now).unwrap();
    (claims.tcb.status, claims.tcb.advisory_ids)
}

#[test]
fn three_real_tdx_quotes_are_up_to_date() {
    for (real, body, eval) in [
        (Real::td10(), BodyKind::Td10, 17),
        (Real::cocoon(), BodyKind::Td10, 18),
        (Real::td15ex(), BodyKind::Td15Ex, 20),
    ] {
        let Some(real) = real else { return };
        assert_eq!(real.cut().body(), body);
        assert_eq!(status(&real), (TcbStatus::UpToDate, Vec::new()));
        let quote = verify(&real.cut(), &real.collateral, &TrustRoot::Intel, real.now).unwrap();
        assert_eq!(quote.claims().tcb.eval_data_number, eval);
    }
}

#[test]
fn cocoon_quote_names_its_platform() {
    let Some(real) = Real::cocoon() else { return };
    let quote = verify(&real.cut(), &real.collateral, &TrustRoot::Intel, real.now).unwrap();
    let pck = &quote.claims().platform.pck;
    assert_eq!(hex::encode(pck.fmspc), "90c06f000000");
    assert!(hex::encode(&pck.ppid).starts_with("ed8ccfd4"));
    assert!(hex::encode(pck.platform_instance_id.unwrap()).starts_with("fd39e5ba"));
}

#[test]
fn the_same_quote_is_out_of_date_under_newer_collateral() {
    let (Some(old), Some(new)) = (Real::td10(), Real::td15ex()) else { return };
    assert_eq!(status(&old).0, TcbStatus::UpToDate);
    let pair = Real { quote: old.quote, ..new };
    let (status, advisories) = status(&pair);
    assert_eq!(status, TcbStatus::OutOfDate);
    let wanted = ["INTEL-SA-01192", "INTEL-SA-01245", "INTEL-SA-01312", "INTEL-SA-01313"];
    let mut advisories = advisories;
    advisories.sort();
    assert_eq!(advisories, wanted);
}

#[test]
fn a_foreign_certificate_chain_in_collateral_is_dropped_by_us_and_fatal_without() {
    let (Some(old), Some(new)) = (Real::td10(), Real::td15ex()) else { return };
    let text = vector("attest/dcap/tdx_quote_td15ex_collateral.json").unwrap();
    let unmodified: QuoteCollateralV3 = serde_json::from_slice(&text).unwrap();
    assert!(unmodified.pck_certificate_chain.is_some());
    let error = QuoteVerifier::<AwsLcConfig>::new_with_config(TrustRoot::Intel.der().to_vec())
        .verify(&old.quote, &unmodified, OCTOBER_2026)
        .unwrap_err();
    assert!(format!("{error:#}").contains("Signature is invalid for qe_report"));
    assert!(new.collateral.dcap().pck_certificate_chain.is_none());
}

#[test]
fn refuses_quotes_whose_platform_is_at_no_known_tcb_level() {
    let outdated = "attest/dcap/tdx_quote_outdated_collateral.json";
    let Some(real) = Real::load("attest/dcap/tdx_quote_outdated", outdated, MARCH_2026) else {
        return;
    };
    assert_eq!(real.cut().body(), BodyKind::Td15);
    assert_eq!(refusal(&real), DcapError::Refused("No matching TCB level found".to_owned()));
    let b0c0 = "attest/dcap/tdx_quote_collateral.json";
    for name in ["quote-from-tappd.hex", "tdx-quote.hex"] {
        let mut real = Real::load(&format!("attest/dcap/{name}"), b0c0, JUNE_2025).unwrap();
        let text = String::from_utf8(real.quote).unwrap();
        real.quote = hex::decode(text.trim().trim_start_matches("0x")).unwrap();
        assert_eq!(refusal(&real), DcapError::Refused("No matching TCB level found".to_owned()));
        real.collateral = Real::td15ex().unwrap().collateral;
        real.now = UnixTime(OCTOBER_2026);
        assert_eq!(refusal(&real), DcapError::Refused("No matching TCB level found".to_owned()));
    }
}

#[test]
fn a_real_sgx_quote_verifies_but_needs_configuration_and_is_no_tdx_quote() {
    let collateral = "attest/dcap/sgx_quote_collateral.json";
    let Some(real) = Real::load("attest/dcap/sgx_quote", collateral, JUNE_2025) else { return };
    assert_eq!((real.cut().tee(), real.cut().version()), (TeeKind::Sgx, 3));
    let (status, mut advisories) = status(&real);
    advisories.sort();
    assert_eq!(status, TcbStatus::ConfigurationAndSWHardeningNeeded);
    assert_eq!(advisories, ["INTEL-SA-00289", "INTEL-SA-00615"]);
    let verified = verify(&real.cut(), &real.collateral, &TrustRoot::Intel, real.now).unwrap();
    assert!(matches!(verified.report(), crate::dcap::Report::Enclave(_)));
}

#[test]
fn the_carried_root_certificate_is_the_built_in_one() {
    let Some(real) = Real::td10() else { return };
    assert_eq!(real.cut().carried_root(), Some(TrustRoot::Intel.der()));
}

#[test]
fn refuses_an_intel_quote_under_another_root() {
    let Some(real) = Real::td10() else { return };
    // The platform CA is a genuine CA certificate, and still not the pinned root.
    let pem = real.collateral.dcap().pck_crl_issuer_chain.clone();
    let der = crate::chain::split(pem.as_bytes())
        .or_else(|_| crate::chain::split(format!("{pem}\n").as_bytes()));
    let other = TrustRoot::InsecureSim(der.unwrap()[0].clone());
    let verified = verify(&real.cut(), &real.collateral, &other, real.now);
    assert_eq!(verified.unwrap_err(), DcapError::Root);
}

#[test]
fn refuses_a_quote_that_leaves_its_root_out_under_another_root() {
    let Some(mut real) = Real::td10() else { return };
    let whole = real.cut().bytes().to_vec();
    let begin = b"-----BEGIN CERTIFICATE-----\n";
    let root_at = whole.windows(begin.len()).rposition(|w| w == begin).unwrap();
    let removed = u32::try_from(whole.len() - root_at).unwrap();
    real.quote = whole[..root_at].to_vec();
    // Signature data, certification data of type 6, certificate chain of type 5.
    for at in [SIGNED, SIGNED + 4 + 130, SIGNED + 4 + 134 + 450 + 32 + 2] {
        let length = u32::from_le_bytes(real.quote[at..at + 4].try_into().unwrap());
        real.quote[at..at + 4].copy_from_slice(&(length - removed).to_le_bytes());
    }
    assert_eq!(real.cut().carried_root(), None);
    assert_eq!(status(&real).0, TcbStatus::UpToDate);
    let other = TrustRoot::InsecureSim(hex::decode(super::pins::TEST_ROOT).unwrap());
    let verified = verify(&real.cut(), &real.collateral, &other, real.now);
    assert!(matches!(verified, Err(DcapError::Refused(_))));
}

#[test]
fn refuses_collateral_one_second_outside_its_window() {
    let Some(mut real) = Real::td10() else { return };
    let stated = real.collateral.stated().unwrap();
    real.now = UnixTime(stated.expires.0 + 1);
    assert!(matches!(refusal(&real), DcapError::Expired { .. }));
    real.now = UnixTime(stated.newest_issue.0 - 1);
    assert!(matches!(refusal(&real), DcapError::NotYetValid { .. }));
    for now in [0, u64::MAX] {
        real.now = UnixTime(now);
        refusal(&real);
    }
}

#[test]
fn refuses_collateral_of_another_platform_family() {
    let (Some(b0c0), Some(cocoon)) = (Real::td10(), Real::cocoon()) else { return };
    let mixed = Real { quote: b0c0.quote, ..cocoon };
    assert_eq!(
        refusal(&mixed),
        DcapError::Fmspc { collateral: "90c06f000000".into(), quote: "b0c06f000000".into() }
    );
}

#[test]
fn refuses_collateral_with_one_changed_byte_in_each_signed_part() {
    let Some(real) = Real::td10() else { return };
    let change: [fn(&mut QuoteCollateralV3); 6] = [
        |c| c.tcb_info = c.tcb_info.replacen("UpToDate", "uptodate", 1),
        |c| c.tcb_info_signature[5] ^= 1,
        |c| c.qe_identity = c.qe_identity.replacen("\"isvprodid\":2", "\"isvprodid\":1", 1),
        |c| c.qe_identity_signature[5] ^= 1,
        |c| c.root_ca_crl[100] ^= 1,
        |c| c.pck_crl[100] ^= 1,
    ];
    for (i, change) in change.into_iter().enumerate() {
        let mut changed = real.collateral.dcap().clone();
        change(&mut changed);
        assert_ne!(&changed, real.collateral.dcap(), "change {i} changes nothing");
        let changed = Real { collateral: crate::Collateral::new(changed), ..real.clone() };
        refusal(&changed);
    }
}

#[test]
fn refuses_a_quote_with_one_flipped_body_bit() {
    let Some(mut real) = Real::td10() else { return };
    real.quote[48 + 136] ^= 1;
    let words = "ISV enclave report signature is invalid".to_owned();
    assert_eq!(refusal(&real), DcapError::Refused(words));
}

#[test]
fn a_quote_names_the_family_that_its_collateral_is_for() {
    for (real, authority) in
        [(Real::td10(), Authority::Platform), (Real::sgx(), Authority::Processor)]
    {
        let Some(real) = real else { return };
        let family = PlatformFamily::of_quote(&real.cut()).unwrap();
        assert_eq!(family.authority, authority);
        assert_eq!(hex::encode(family.fmspc), real.collateral.stated().unwrap().fmspc);
    }
    let names = [Authority::Processor, Authority::Platform].map(|a| (a.word(), a.common_name()));
    assert_eq!(names[0], ("processor", "Intel SGX PCK Processor CA"));
    assert_eq!(names[1], ("platform", "Intel SGX PCK Platform CA"));
}

/// Header and TD 1.0 report.
const SIGNED: usize = 48 + 584;
