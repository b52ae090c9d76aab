//! Writes the `[sgx]` section of a pins file that accepts one enclave with one worker manifest: of a
//! predicted MRENCLAVE, or a whole INSECURE-SIM file for the simulated one. Policy, written from what
//! was measured and never from what a worker said.

use core::fmt::Write as _;

use chrysalis_evidence::{EnclaveIdentity, sim};
use chrysalis_wire::{Digest, NetworkId, WorkerManifest};
use sha2::{Digest as _, Sha256};

use super::error::{GramineError, SgxError};
use super::gramine::{EnclaveAttributes, GramineManifest};
use crate::error::MeasureError;
use crate::pins::{check_name, check_root, quoted};

/// The `[sgx]` section and the `[[sgx.worker]]` entry for the enclave with `mrenclave`.
///
/// The worker manifest must be one of the files whose hash the Gramine manifest has, so that
/// MRENCLAVE binds it too. What the signature leaves to the machine, the section leaves open.
///
/// # Errors
/// [`SgxError::Manifest`] for an enclave under debug, without DCAP evidence, or that does not measure
/// this worker manifest; [`MeasureError::Manifest`] for one no worker accepts; [`MeasureError::Name`].
pub fn enclave_section(
    enclave: &GramineManifest,
    mrenclave: Digest,
    worker_manifest: &[u8],
    name: &str,
) -> Result<String, MeasureError> {
    check_name(name)?;
    let refuse = |error: GramineError| Err(MeasureError::Sgx(SgxError::from(error)));
    if enclave.attributes.debug() {
        return refuse(GramineError::Debug);
    }
    if !enclave.dcap {
        return refuse(GramineError::NoEvidence);
    }
    let manifest = WorkerManifest::parse(worker_manifest)?;
    let sha256 = Digest(Sha256::digest(worker_manifest).into());
    if !enclave.trusted_sha256.contains(&sha256) {
        return refuse(GramineError::OtherWorkerManifest { sha256 });
    }
    let mut out = configuration(&enclave.attributes);
    let identity = format!(
        "# MRENCLAVE: Gramine's loader, the Gramine manifest, and through its hashes every file.\n\
         mrenclave = \"{mrenclave}\"\n\
         # Or every build of a signer, from a version on, instead of the line above:\n\
         # mrsigner = \"<64 hex digits>\"\n# isv_prod_id = {}\n# min_isv_svn = {}\n",
        enclave.isv_prod_id, enclave.isv_svn
    );
    out.push_str(&worker(name, &identity, sha256, manifest.model.root));
    Ok(out)
}

/// What the process-mode simulator of SGX will be, with what its manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimEnclavePrediction {
    /// MRENCLAVE is a hash of the executable, the rest constant.
    pub identity: EnclaveIdentity,
    /// SHA-256 of the manifest's exact bytes: the policy digest.
    pub manifest_sha256: Digest,
    /// Model root the manifest names.
    pub model_root: Digest,
}

/// Predicts the simulated enclave made of `executable`.
///
/// # Errors
/// As [`crate::predict_process`].
pub fn predict_sim_enclave(
    executable: &[u8],
    manifest: &[u8],
) -> Result<SimEnclavePrediction, MeasureError> {
    let process = crate::predict_process(executable, manifest)?;
    Ok(SimEnclavePrediction {
        identity: sim::enclave(executable),
        manifest_sha256: process.manifest_sha256,
        model_root: process.model_root,
    })
}

/// A complete INSECURE-SIM pins file that accepts exactly the simulated enclave.
///
/// # Errors
/// [`MeasureError::Name`], [`MeasureError::SimRoot`].
pub fn sim_enclave_pins(
    prediction: &SimEnclavePrediction,
    name: &str,
    sim_root: &[u8],
) -> Result<String, MeasureError> {
    check_name(name)?;
    check_root(sim_root)?;
    let exact = EnclaveAttributes {
        flags: u64::from_le_bytes(sim::SGX_ATTRIBUTES),
        flags_mask: u64::MAX,
        xfrm: u64::from_le_bytes(sim::SGX_XFRM),
        xfrm_mask: u64::MAX,
        misc_select: u32::from_le_bytes(sim::SGX_MISC_SELECT),
        misc_mask: u32::MAX,
    };
    let identity = format!(
        "# SHA-256 over the worker executable.\nmrenclave = \"{}\"\n",
        prediction.identity.mrenclave
    );
    Ok(format!(
        "{SIM_HEAD}sim_root = \"{}\"\n\nnetwork = {}\n\n{SIM_PLATFORM}min_tcb_evaluation_number = \
         {}\nallow_dynamic_platform = true\nallow_cached_keys = true\nallow_smt = true\n\n{}{}",
        hex::encode(sim_root),
        NetworkId::INSECURE_SIM.0,
        sim::TCB_EVALUATION_NUMBER,
        configuration(&exact),
        worker(name, &identity, prediction.manifest_sha256, prediction.model_root),
    ))
}

/// `[sgx]`: how enclaves with these attributes report them. EINIT sets INIT, which no signature has.
fn configuration(attributes: &EnclaveAttributes) -> String {
    let entry = |value: &[u8], mask: &[u8]| {
        format!("[{{ value = \"{}\", mask = \"{}\" }}]", hex::encode(value), hex::encode(mask))
    };
    let mut out = String::from(SECTION);
    let flags = (attributes.flags | FLAG_INIT).to_le_bytes();
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "attributes = {}\nxfrm = {}\nmisc_select = {}\n\n",
        entry(&flags, &(attributes.flags_mask | FLAG_INIT).to_le_bytes()),
        entry(&attributes.xfrm.to_le_bytes(), &attributes.xfrm_mask.to_le_bytes()),
        entry(&attributes.misc_select.to_le_bytes(), &attributes.misc_mask.to_le_bytes()),
    );
    out
}

fn worker(name: &str, identity: &str, manifest_sha256: Digest, model_root: Digest) -> String {
    format!(
        "[[sgx.worker]]\nname = \"{}\"\n{identity}\
         # SHA-256 of the exact bytes of the worker manifest, and the model bundle it names. The\n\
         # enclave commits to both in every quote.\n\
         manifest_sha256 = \"{manifest_sha256}\"\nmodel_root = \"{model_root}\"\n",
        quoted(name)
    )
}

/// ATTRIBUTES.FLAGS, SDM 3D: set in every report.
const FLAG_INIT: u64 = 0x1;

const SECTION: &str = "\
# How accepted enclaves are configured: the bytes of the report, and the bits that are compared.
[sgx]
";

const SIM_HEAD: &str = "\
# Pins of one SIMULATED enclave, written by `chrysalis measure worker --enclave` from files alone.
# INSECURE-SIM: the evidence is real in form and worthless as proof; the keys that sign it are
# public. Loads only where --insecure-sim was given.
version = 1
tier = \"INSECURE-SIM\"

# The simulator's FAKE root certificate, DER.
";

const SIM_PLATFORM: &str = "\
# No trust domain is accepted. What the simulated platform certificate says is.
[platform]
td_attributes = []
xfam = []
mr_seam = []
max_collateral_age_days = 30
";
