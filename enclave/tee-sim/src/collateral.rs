//! INSECURE-SIM FAKE collateral: what Intel's PCS would say about the simulated platform, signed
//! by the FAKE TCB signer. Time is an argument.

use std::time::Duration;

use chrysalis_evidence::{Collateral, QuoteCollateralV3, sim};
use chrysalis_wire::UnixTime;
use rcgen::date_time_ymd;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::facts::{
    CPU_SVN, FMSPC, OLD_TEE_TCB_SVN, PCE_ID, PCE_SVN, QE_PROD_ID, QE_SVN, SGX_QE_PROD_ID,
    SGX_QE_SVN, TDX_MODULE_ISV_SVN, TEE_TCB_SVN,
};
use crate::keys::{FakeKey, Signer};
use crate::pki::{Ca, crl, platform_ca_chain, tcb_signing_chain};

/// How long collateral is valid, as Intel's.
pub const COLLATERAL_DAYS: u64 = 30;

/// A collateral bundle for simulated quotes, issued `now`, valid [`COLLATERAL_DAYS`]: the JSON
/// that `chrysalis_evidence::Collateral::parse` reads.
///
/// Outside 2024 to 2043 the FAKE certificates are not valid, and verifiers refuse the bundle.
#[must_use]
pub fn collateral(now: UnixTime) -> String {
    bundle(now, Tee::Tdx, &[], |_| {}, |_| {})
}

/// The same for simulated SGX quotes.
#[must_use]
pub fn enclave_collateral(now: UnixTime) -> String {
    bundle(now, Tee::Sgx, &[], |_| {}, |_| {})
}

/// Certificates that forged collateral can revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The platform's PCK certificate, by the platform CA.
    Pck,
    /// The platform CA, by the root.
    PlatformCa,
    /// The signer of TCB info and QE identity, by the root.
    TcbSigning,
}

/// The bundle of [`collateral`], with certificates revoked and TCB info and QE identity changed before
/// each is signed: what Intel might say one day, or never would.
pub fn forge_collateral(
    now: UnixTime,
    revoked: &[Revoked],
    change_tcb_info: impl FnOnce(&mut Value),
    change_qe_identity: impl FnOnce(&mut Value),
) -> String {
    bundle(now, Tee::Tdx, revoked, change_tcb_info, change_qe_identity)
}

/// As [`forge_collateral`], of [`enclave_collateral`].
pub fn forge_enclave_collateral(
    now: UnixTime,
    revoked: &[Revoked],
    change_tcb_info: impl FnOnce(&mut Value),
    change_qe_identity: impl FnOnce(&mut Value),
) -> String {
    bundle(now, Tee::Sgx, revoked, change_tcb_info, change_qe_identity)
}

/// Which quoting enclave and which TCB levels a bundle is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tee {
    Sgx,
    Tdx,
}

fn bundle(
    now: UnixTime,
    tee: Tee,
    revoked: &[Revoked],
    change_tcb_info: impl FnOnce(&mut Value),
    change_qe_identity: impl FnOnce(&mut Value),
) -> String {
    // A clock beyond any certificate would overflow calendar arithmetic, not just be refused.
    let issued = UnixTime(now.0.min(LAST_SECOND));
    let expires = UnixTime(issued.0.saturating_add(COLLATERAL_DAYS.saturating_mul(86_400)));
    let signer = FakeKey::of(Signer::TcbSigning);
    let (mut tcb_info, mut qe_identity) = match tee {
        Tee::Sgx => (sgx_tcb_info(issued, expires), sgx_qe_identity(issued, expires)),
        Tee::Tdx => (tcb_info(issued, expires), qe_identity(issued, expires)),
    };
    change_tcb_info(&mut tcb_info);
    change_qe_identity(&mut qe_identity);
    let (tcb_info, qe_identity) = (tcb_info.to_string(), qe_identity.to_string());
    Collateral::new(QuoteCollateralV3 {
        pck_crl_issuer_chain: platform_ca_chain(),
        root_ca_crl: crl(Ca::Root, revoked, issued, expires),
        pck_crl: crl(Ca::Platform, revoked, issued, expires),
        tcb_info_issuer_chain: tcb_signing_chain(),
        tcb_info_signature: signer.sign_raw(tcb_info.as_bytes()).to_vec(),
        tcb_info,
        qe_identity_issuer_chain: tcb_signing_chain(),
        qe_identity_signature: signer.sign_raw(qe_identity.as_bytes()).to_vec(),
        qe_identity,
        pck_certificate_chain: None,
    })
    .to_json()
}

/// MRSIGNER of the FAKE quoting enclave for trust domains.
pub(crate) fn qe_mr_signer() -> [u8; 32] {
    Sha256::digest(b"INSECURE-SIM FAKE TD_QE signer").into()
}

/// MRSIGNER of the FAKE quoting enclave for SGX.
pub(crate) fn sgx_qe_mr_signer() -> [u8; 32] {
    Sha256::digest(b"INSECURE-SIM FAKE QE signer").into()
}

/// TCB info v3 (Intel PCS API v4) with one level the platform meets and an older one.
fn tcb_info(issued: UnixTime, expires: UnixTime) -> Value {
    let components = |svns: [u8; 16]| svns.map(|svn| json!({ "svn": svn }));
    let level = |tdx, date, status, advisories: &[&str]| {
        json!({
            "tcb": {
                "sgxtcbcomponents": components(CPU_SVN),
                "pcesvn": PCE_SVN,
                "tdxtcbcomponents": components(tdx),
            },
            "tcbDate": date,
            "tcbStatus": status,
            "advisoryIDs": advisories,
        })
    };
    let module = json!({
        "mrsigner": hex::encode_upper([0; 48]),
        "attributes": "0000000000000000",
        "attributesMask": "FFFFFFFFFFFFFFFF",
    });
    let mut module_identity = module.clone();
    if let Some(identity) = module_identity.as_object_mut() {
        identity.insert("id".into(), "TDX_01".into());
        identity.insert(
            "tcbLevels".into(),
            json!([{
                "tcb": { "isvsvn": TDX_MODULE_ISV_SVN },
                "tcbDate": TCB_DATE,
                "tcbStatus": "UpToDate",
            }]),
        );
    }
    json!({
        "id": "TDX",
        "version": 3,
        "issueDate": rfc3339(issued),
        "nextUpdate": rfc3339(expires),
        "fmspc": hex::encode_upper(FMSPC),
        "pceId": hex::encode_upper(PCE_ID),
        "tcbType": 0,
        "tcbEvaluationDataNumber": sim::TCB_EVALUATION_NUMBER,
        "tdxModule": module,
        "tdxModuleIdentities": [module_identity],
        "tcbLevels": [
            level(TEE_TCB_SVN, TCB_DATE, "UpToDate", &[]),
            level(OLD_TEE_TCB_SVN, OLD_TCB_DATE, "OutOfDate", &["INSECURE-SIM-SA-00001"]),
        ],
    })
}

/// SGX TCB info v3 with the one level that the platform certificate meets.
fn sgx_tcb_info(issued: UnixTime, expires: UnixTime) -> Value {
    json!({
        "id": "SGX",
        "version": 3,
        "issueDate": rfc3339(issued),
        "nextUpdate": rfc3339(expires),
        "fmspc": hex::encode_upper(FMSPC),
        "pceId": hex::encode_upper(PCE_ID),
        "tcbType": 0,
        "tcbEvaluationDataNumber": sim::TCB_EVALUATION_NUMBER,
        "tcbLevels": [{
            "tcb": {
                "sgxtcbcomponents": CPU_SVN.map(|svn| json!({ "svn": svn })),
                "pcesvn": PCE_SVN,
            },
            "tcbDate": TCB_DATE,
            "tcbStatus": "UpToDate",
        }],
    })
}

/// `QE` identity v2.
fn sgx_qe_identity(issued: UnixTime, expires: UnixTime) -> Value {
    let mut identity = qe_identity(issued, expires);
    if let Some(fields) = identity.as_object_mut() {
        fields.insert("id".into(), "QE".into());
        fields.insert("mrsigner".into(), hex::encode_upper(sgx_qe_mr_signer()).into());
        fields.insert("isvprodid".into(), SGX_QE_PROD_ID.into());
        let levels = json!([{
            "tcb": { "isvsvn": SGX_QE_SVN },
            "tcbDate": TCB_DATE,
            "tcbStatus": "UpToDate",
        }]);
        fields.insert("tcbLevels".into(), levels);
    }
    identity
}

/// `TD_QE` identity v2 (Intel PCS API v4).
fn qe_identity(issued: UnixTime, expires: UnixTime) -> Value {
    json!({
        "id": "TD_QE",
        "version": 2,
        "issueDate": rfc3339(issued),
        "nextUpdate": rfc3339(expires),
        "tcbEvaluationDataNumber": sim::TCB_EVALUATION_NUMBER,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": hex::encode_upper(qe_mr_signer()),
        "isvprodid": QE_PROD_ID,
        "tcbLevels": [{
            "tcb": { "isvsvn": QE_SVN },
            "tcbDate": TCB_DATE,
            "tcbStatus": "UpToDate",
        }],
    })
}

fn rfc3339(time: UnixTime) -> String {
    let at = date_time_ymd(1970, 1, 1)
        .saturating_add(Duration::from_secs(time.0).try_into().unwrap_or_default());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

const TCB_DATE: &str = "2024-03-13T00:00:00Z";
const OLD_TCB_DATE: &str = "2023-08-09T00:00:00Z";
/// 2100-01-01, long after the FAKE certificates end.
const LAST_SECOND: u64 = 4_102_444_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_dates_as_intel_does() {
        assert_eq!(rfc3339(UnixTime(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(UnixTime(951_825_600)), "2000-02-29T12:00:00Z");
        assert_eq!(rfc3339(UnixTime(1_772_323_199)), "2026-02-28T23:59:59Z");
    }

    #[test]
    fn survives_a_broken_clock() {
        for now in [0, u64::MAX] {
            assert!(Collateral::parse(collateral(UnixTime(now)).as_bytes()).is_ok());
        }
    }
}
