//! Self-appraisal: before it says ready, the worker appraises its own evidence with the same code
//! and the same collateral a client will use, over a nonce of its own.
//!
//! The pins are made from the registers or the enclave identity the platform reports, so what this
//! proves is that the evidence is genuine, complete and about this boot's keys. Whether the platform
//! is *acceptable* is for the verifier's policy, not for the worker's.

use std::path::Path;
use std::sync::Arc;

use chrysalis_evidence::exchange::Statement;
use chrysalis_evidence::{
    AllowSim, Appraiser, Collateral, CutQuote, EnclaveIdentity, MAX_COLLATERAL_BYTES, Measured,
    Measurement, Pins, Session,
};
use chrysalis_wire::{AttestationDocument, UnixTime};

use crate::boot::{SimRoots, read_bounded};
use crate::devices;
use crate::error::WorkerError;
use crate::quotes::document;
use crate::worker::Worker;

/// Makes evidence for a fresh nonce and appraises it.
///
/// # Errors
/// [`WorkerError::SelfAppraisal`] with the code of the rule that refused.
pub async fn self_appraise(
    worker: &Arc<Worker>,
    collateral: &Path,
    sim_roots: Option<&SimRoots>,
) -> Result<(), WorkerError> {
    let bytes = read_bounded(collateral, "collateral", MAX_COLLATERAL_BYTES)?;
    let collateral = Collateral::parse(&bytes).map_err(|e| refused(e.code(), &e))?;
    let mut nonce = [0u8; 32];
    let mut exporter = [0u8; 32];
    getrandom::fill(&mut nonce)
        .and_then(|()| getrandom::fill(&mut exporter))
        .map_err(|_| WorkerError::Keys("a nonce"))?;
    let session = Session { nonce, tls_spki: worker.session.tls.spki, exporter };
    let statement = Statement::to_oneself(session.clone());
    let document = document(worker, statement).await.map_err(|_| WorkerError::SelfAppraisal {
        code: "E-QUOTE".into(),
        message: "the platform made no quote".into(),
    })?;
    let now = (worker.clock)().seconds();
    let pins = own_pins(worker, &document, sim_roots, now)?;
    let verdict = Appraiser::new(pins).appraise(&document, &session, &collateral, now);
    match verdict.result {
        Ok(verified) if verified.measurement().digest() == worker.measurement_digest => Ok(()),
        Ok(_) => Err(refused("E-SELF-MEASUREMENT", &"the quote carries another measurement")),
        Err(refusal) => Err(refused(refusal.code, &refusal.message())),
    }
}

/// Pins that accept exactly this worker.
fn own_pins(
    worker: &Worker,
    document: &AttestationDocument,
    sim_roots: Option<&SimRoots>,
    now: UnixTime,
) -> Result<Pins, WorkerError> {
    let quote = hex::decode(&document.quote).map_err(|e| refused("E-QUOTE", &e))?;
    let cut = CutQuote::parse(&quote).map_err(|e| refused(e.code(), &e))?;
    let body = report_body(&cut).ok_or_else(|| refused("E-QUOTE", &"no report in the quote"))?;
    let field = |at: usize, len: usize| {
        body.get(at..at.saturating_add(len)).map(hex::encode).unwrap_or_default()
    };
    let tier = sim_roots.map_or_else(
        || "tier = \"production\"".to_owned(),
        |roots| {
            let root = hex::encode(&roots.platform);
            format!("tier = \"INSECURE-SIM\"\nsim_root = \"{root}\"")
        },
    );
    let device_root = sim_roots.map(|roots| roots.devices.as_slice());
    let device = devices::own_pins(&worker.manifest, document, device_root, now)?;
    let contents = format!(
        "manifest_sha256 = \"{}\"\nmodel_root = \"{}\"\n",
        worker.policy_digest, worker.manifest.model.root
    );
    let (platform, own) = match &worker.measurement {
        Measured::Td(registers) => (td_platform(field), td_worker(registers, &contents)),
        Measured::Enclave(identity) => (NO_TD.to_owned(), enclave(identity, &contents, field)),
    };
    let text = format!(
        "version = 1\nnetwork = {}\n{tier}\n\n[platform]\n{platform}max_collateral_age_days = 30\n\
         min_tcb_evaluation_number = 1\nallow_dynamic_platform = true\nallow_cached_keys = true\n\
         allow_smt = true\n\n{own}{device}",
        worker.manifest.network.0,
    );
    let allow = if sim_roots.is_some() { AllowSim::Yes } else { AllowSim::No };
    Pins::parse(&text, allow).map_err(|e| refused(e.code(), &e))
}

fn td_platform(field: impl Fn(usize, usize) -> String) -> String {
    format!(
        "td_attributes = [\"{}\"]\nxfam = [\"{}\"]\nmr_seam = [\"{}\"]\n",
        field(TD_ATTRIBUTES_AT, 8),
        field(XFAM_AT, 8),
        field(MR_SEAM_AT, 48),
    )
}

fn td_worker(registers: &Measurement, contents: &str) -> String {
    let Measurement { mrtd, rtmr: [rtmr0, rtmr1, rtmr2, _] } = registers;
    format!(
        "[[worker]]\nname = \"self\"\nmrtd = \"{}\"\nrtmr0 = \"{}\"\nrtmr1 = \"{}\"\n\
         rtmr2 = \"{}\"\n{contents}",
        hex::encode(mrtd),
        hex::encode(rtmr0),
        hex::encode(rtmr1),
        hex::encode(rtmr2),
    )
}

/// As the enclave is configured; what no policy accepts, its own pins cannot name either.
fn enclave(
    identity: &EnclaveIdentity,
    contents: &str,
    field: impl Fn(usize, usize) -> String,
) -> String {
    let exact = |at, len: usize| {
        format!("[{{ value = \"{}\", mask = \"{}\" }}]", field(at, len), "ff".repeat(len))
    };
    format!(
        "[sgx]\nattributes = {}\nxfrm = {}\nmisc_select = {}\n\n[[sgx.worker]]\nname = \"self\"\n\
         mrenclave = \"{}\"\n{contents}",
        exact(SGX_ATTRIBUTES_AT, 8),
        exact(SGX_XFRM_AT, 8),
        exact(SGX_MISC_SELECT_AT, 4),
        identity.mrenclave,
    )
}

/// The report of a quote: after the 48-byte header, in version 5 after 6 more bytes (body type and
/// size).
fn report_body(cut: &CutQuote) -> Option<&[u8]> {
    match cut.version() {
        3 | 4 => cut.bytes().get(48..),
        5 => cut.bytes().get(54..),
        _ => None,
    }
}

fn refused(code: &str, message: &dyn core::fmt::Display) -> WorkerError {
    WorkerError::SelfAppraisal { code: code.to_owned(), message: message.to_string() }
}

/// An enclave accepts no trust domain.
const NO_TD: &str = "td_attributes = []\nxfam = []\nmr_seam = []\n";
/// Offsets in the TD report (Intel TDX DCAP quoting library, quote format v4).
const MR_SEAM_AT: usize = 16;
const TD_ATTRIBUTES_AT: usize = 120;
const XFAM_AT: usize = 128;
/// Offsets in the enclave report (Intel SDM vol. 3D, REPORT).
const SGX_MISC_SELECT_AT: usize = 16;
const SGX_ATTRIBUTES_AT: usize = 48;
const SGX_XFRM_AT: usize = 56;
