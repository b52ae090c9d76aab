//! The collateral bundle: form, limits and the round trip.

use super::{Real, vector};
use crate::{COLLATERAL_SCHEMA, Collateral, MAX_COLLATERAL_BYTES};

#[test]
fn a_real_bundle_round_trips() {
    let Some(real) = Real::td15ex() else { return };
    let json = real.collateral.to_json();
    assert!(json.starts_with(&format!("{{\"schema\":\"{COLLATERAL_SCHEMA}\",\"collateral\":{{")));
    let again = Collateral::parse(json.as_bytes()).unwrap();
    assert_eq!(again, real.collateral);
    assert_eq!(again.digest(), real.collateral.digest());
}

#[test]
fn states_the_dates_and_platform_it_was_made_for() {
    let Some(real) = Real::td10() else { return };
    let stated = real.collateral.stated().unwrap();
    assert_eq!(stated.fmspc, "b0c06f000000");
    assert_eq!(stated.oldest_issue.0, 1_750_328_163);
    assert!(stated.expires.0 > super::JUNE_2025);
}

#[test]
fn refuses_another_schema_an_unknown_field_and_a_missing_one() {
    let Some(real) = Real::td10() else { return };
    let json = real.collateral.to_json();
    let code = |from: &str, to: &str| {
        assert!(json.contains(from));
        Collateral::parse(json.replacen(from, to, 1).as_bytes()).unwrap_err().code()
    };
    assert_eq!(code("collateral/v1", "collateral/v2"), "E-COLLATERAL-SCHEMA");
    assert_eq!(code("{\"schema\"", "{\"now\":1,\"schema\""), "E-COLLATERAL-FORM");
    assert_eq!(code("\"pck_crl\":", "\"pck_crl_\":"), "E-COLLATERAL-FORM");
    assert_eq!(code("\"pck_crl\":\"30", "\"pck_crl\":\"zz"), "E-COLLATERAL-FORM");
    assert_eq!(Collateral::parse(b"[]").unwrap_err().code(), "E-COLLATERAL-FORM");
}

#[test]
fn refuses_a_bare_object_as_a_bundle_and_a_bundle_as_a_bare_object() {
    let Some(bare) = vector("attest/dcap/tdx_quote_collateral.json") else { return };
    assert!(Collateral::parse(&bare).is_err());
    let bundle = Collateral::from_dcap_json(&bare).unwrap().to_json();
    assert!(Collateral::from_dcap_json(bundle.as_bytes()).is_err());
}

#[test]
fn refuses_one_byte_over_the_size_limit() {
    let Some(real) = Real::td10() else { return };
    let mut json = real.collateral.to_json().into_bytes();
    json.resize(MAX_COLLATERAL_BYTES, b' ');
    assert!(Collateral::parse(&json).is_ok());
    json.push(b' ');
    assert_eq!(Collateral::parse(&json).unwrap_err().code(), "E-COLLATERAL-SIZE");
}

#[test]
fn refuses_every_truncation_of_a_bundle() {
    let Some(real) = Real::td10() else { return };
    let json = real.collateral.to_json().into_bytes();
    assert!((0..json.len()).step_by(13).all(|len| Collateral::parse(&json[..len]).is_err()));
}

#[test]
fn refuses_collateral_with_unreadable_dates() {
    let Some(real) = Real::td10() else { return };
    let mut inner = real.collateral.dcap().clone();
    inner.tcb_info =
        inner.tcb_info.replacen("2025-06-19T10:16:03Z", "2025-06-19T10:16:03+00:00", 1);
    let error = Collateral::new(inner).stated().unwrap_err();
    assert_eq!(error.code(), "E-COLLATERAL-FORM");
}

#[test]
fn refuses_texts_of_a_version_this_build_does_not_read() {
    let Some(real) = Real::td10() else { return };
    let stated = |change: fn(&mut dcap_qvl::QuoteCollateralV3)| {
        let mut inner = real.collateral.dcap().clone();
        change(&mut inner);
        Collateral::new(inner).stated().map(|stated| stated.pce_id)
    };
    assert_eq!(stated(|_| {}), Ok("0000".to_owned()));
    let next = [
        (|c| c.tcb_info = c.tcb_info.replacen("\"version\":3", "\"version\":4", 1))
            as fn(&mut dcap_qvl::QuoteCollateralV3),
        |c| c.qe_identity = c.qe_identity.replacen("\"version\":2", "\"version\":3", 1),
    ];
    for change in next {
        let error = stated(change).unwrap_err();
        assert_eq!(error.code(), "E-COLLATERAL-FORM");
        assert!(error.to_string().contains("expected"), "{error}");
    }
}
