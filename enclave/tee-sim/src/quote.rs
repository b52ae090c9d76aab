//! Builds INSECURE-SIM FAKE quotes in the genuine formats: ECDSA P-256, the PCK chain as
//! certification data of type 5, from version 4 on inside type 6 with the QE report. Little-endian
//! throughout (Intel TDX DCAP Quoting Library API, "Quote format"; for version 3 the same of the
//! SGX ECDSA QuoteLibReference).

use chrysalis_evidence::sim;
use sha2::{Digest as _, Sha256};

use crate::collateral::{qe_mr_signer, sgx_qe_mr_signer};
use crate::facts::{CPU_SVN, QE_ATTRIBUTES, QE_ID, QE_PROD_ID, QE_SVN, SGX_QE_PROD_ID, SGX_QE_SVN};
use crate::keys::{FakeKey, Signer};
use crate::pki::pck_chain;

/// Changes a part of a quote before it is signed.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

/// What a quote says about a simulated TD.
pub(crate) struct TdReport {
    pub(crate) tee_tcb_svn: [u8; 16],
    pub(crate) mr_seam: [u8; 48],
    pub(crate) td_attributes: [u8; 8],
    pub(crate) mrtd: [u8; 48],
    pub(crate) rtmr: [[u8; 48]; 4],
    pub(crate) report_data: [u8; 64],
}

impl TdReport {
    /// The quote over this report, signed by `signer` as the attestation key. The quoting enclave
    /// vouches for [`Signer::Attestation`] only. Header with body, and the report of the quoting
    /// enclave, are changed before each is signed.
    pub(crate) fn quote(&self, signer: Signer, body: Change<'_>, qe_report: Change<'_>) -> Vec<u8> {
        let mut quote = header(4, TEE_TDX);
        self.write_body(&mut quote);
        body(&mut quote);
        sign(quote, signer, &qe_certification(&TD_QE, qe_report), Wrap::Typed)
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tee_tcb_svn);
        out.extend_from_slice(&self.mr_seam);
        out.extend_from_slice(&[0; 48]); // mr_signer_seam: zero for Intel's module
        out.extend_from_slice(&[0; 8]); // seam_attributes
        out.extend_from_slice(&self.td_attributes);
        out.extend_from_slice(&sim::XFAM);
        out.extend_from_slice(&self.mrtd);
        out.extend_from_slice(&[0; 3 * 48]); // mr_config_id, mr_owner, mr_owner_config
        out.extend_from_slice(self.rtmr.as_flattened());
        out.extend_from_slice(&self.report_data);
    }
}

/// The quote over an enclave report, in `version` 3, 4 or 5.
pub(crate) fn enclave_quote(report: &[u8; 384], version: u16, signer: Signer) -> Vec<u8> {
    let mut quote = header(version, TEE_SGX);
    if version == 5 {
        quote.extend_from_slice(&1u16.to_le_bytes()); // body type: SGX enclave report
        quote.extend_from_slice(&384u32.to_le_bytes());
    }
    quote.extend_from_slice(report);
    let wrap = if version == 3 { Wrap::Plain } else { Wrap::Typed };
    sign(quote, signer, &qe_certification(&SGX_QE, &|_| {}), wrap)
}

/// How the QE report and the chain follow the attestation key.
#[derive(Clone, Copy)]
enum Wrap {
    /// Version 3: directly.
    Plain,
    /// Later: as certification data of type 6.
    Typed,
}

fn sign(mut quote: Vec<u8>, signer: Signer, certification: &[u8], wrap: Wrap) -> Vec<u8> {
    let attestation = FakeKey::of(signer);
    let mut signed = Vec::new();
    signed.extend_from_slice(&attestation.sign_raw(&quote));
    signed.extend_from_slice(&attestation.raw_public());
    match wrap {
        Wrap::Plain => signed.extend_from_slice(certification),
        Wrap::Typed => typed(&mut signed, CERT_TYPE_QE_REPORT, certification),
    }
    sized(&mut quote, &signed);
    quote
}

/// One of the two FAKE quoting enclaves.
struct QuotingEnclave {
    name: &'static [u8],
    mr_signer: fn() -> [u8; 32],
    prod_id: u16,
    svn: u16,
}

const TD_QE: QuotingEnclave = QuotingEnclave {
    name: b"INSECURE-SIM FAKE TD_QE enclave",
    mr_signer: qe_mr_signer,
    prod_id: QE_PROD_ID,
    svn: QE_SVN,
};

const SGX_QE: QuotingEnclave = QuotingEnclave {
    name: b"INSECURE-SIM FAKE QE enclave",
    mr_signer: sgx_qe_mr_signer,
    prod_id: SGX_QE_PROD_ID,
    svn: SGX_QE_SVN,
};

fn header(version: u16, tee_type: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(QUOTE_BYTES);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&2u16.to_le_bytes()); // attestation key type: ECDSA P-256
    out.extend_from_slice(&tee_type.to_le_bytes());
    out.extend_from_slice(&[0; 4]); // reserved
    out.extend_from_slice(&QE_VENDOR_ID);
    out.extend_from_slice(&QE_ID);
    out
}

/// The FAKE quoting enclave's report over the attestation key, signed by the PCK key, with the
/// certificate chain of the latter.
fn qe_certification(qe: &QuotingEnclave, change: Change<'_>) -> Vec<u8> {
    let vouched = FakeKey::of(Signer::Attestation).raw_public();
    let mut report = qe_report(qe, &vouched);
    change(&mut report);
    let mut out = report.clone();
    out.extend_from_slice(&FakeKey::of(Signer::Pck).sign_raw(&report));
    out.extend_from_slice(&AUTHENTICATION_DATA_BYTES.to_le_bytes());
    out.extend_from_slice(&AUTHENTICATION_DATA);
    typed(&mut out, CERT_TYPE_PCK_CHAIN, pck_chain().as_bytes());
    out
}

/// An SGX report body of 384 bytes whose report data commits to the attestation key.
fn qe_report(qe: &QuotingEnclave, attestation_key: &[u8; 64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(384);
    out.extend_from_slice(&CPU_SVN);
    out.extend_from_slice(&[0; 4 + 28]); // miscselect, reserved
    out.extend_from_slice(&QE_ATTRIBUTES);
    out.extend_from_slice(&Sha256::digest(qe.name)); // MRENCLAVE
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&(qe.mr_signer)());
    out.extend_from_slice(&[0; 96]);
    out.extend_from_slice(&qe.prod_id.to_le_bytes());
    out.extend_from_slice(&qe.svn.to_le_bytes());
    out.extend_from_slice(&[0; 60]);
    let commitment =
        Sha256::new().chain_update(attestation_key).chain_update(AUTHENTICATION_DATA).finalize();
    out.extend_from_slice(&commitment);
    out.extend_from_slice(&[0; 32]);
    out
}

fn typed(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    out.extend_from_slice(&kind.to_le_bytes());
    sized(out, data);
}

fn sized(out: &mut Vec<u8>, data: &[u8]) {
    // Nothing here comes near 4 GiB; a wrong length would fail every test.
    out.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(data);
}

/// Room for a whole quote.
const QUOTE_BYTES: usize = 5 * 1024;
/// Verifiers insist on Intel's id here, so the simulator must claim it too.
const QE_VENDOR_ID: [u8; 16] = [
    0x93, 0x9A, 0x72, 0x33, 0xF7, 0x9C, 0x4C, 0xA9, 0x94, 0x0A, 0x0D, 0xB3, 0x95, 0x7F, 0x06, 0x07,
];
const TEE_SGX: u32 = 0;
const TEE_TDX: u32 = 0x81;
const CERT_TYPE_PCK_CHAIN: u16 = 5;
const CERT_TYPE_QE_REPORT: u16 = 6;
const AUTHENTICATION_DATA: [u8; 32] = *b"INSECURE-SIM FAKE QE auth data..";
const AUTHENTICATION_DATA_BYTES: u16 = 32;
