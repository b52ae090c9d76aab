//! Cocoon's `image_hash`: the one value its contracts list for an image. Computed so that an
//! operator can compare; nothing of ours pins it, because it hashes the VM's shape together with
//! the image and leaves the debug attribute out.

use chrysalis_evidence::Measurement;
use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

/// The three host-chosen identity fields of a TD, 48 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdIdentity {
    /// MRCONFIGID.
    pub mr_config_id: [u8; 48],
    /// MROWNER.
    pub mr_owner: [u8; 48],
    /// MROWNERCONFIG.
    pub mr_owner_config: [u8; 48],
}

impl TdIdentity {
    /// What a host sets that sets nothing.
    pub const ZERO: Self =
        Self { mr_config_id: [0; 48], mr_owner: [0; 48], mr_owner_config: [0; 48] };
}

/// `SHA-256(MRTD || MRCONFIGID || MROWNER || MROWNERCONFIG || RTMR0..3 || 64 zero bytes)`.
#[must_use]
pub fn cocoon_tdx_image_hash(registers: &Measurement, identity: &TdIdentity) -> Digest {
    let mut hash = Sha256::new();
    hash.update(registers.mrtd);
    hash.update(identity.mr_config_id);
    hash.update(identity.mr_owner);
    hash.update(identity.mr_owner_config);
    for register in &registers.rtmr {
        hash.update(register);
    }
    without_report_data(hash)
}

/// `SHA-256(launch measurement || 64 zero bytes)` of an SEV-SNP guest.
#[must_use]
pub fn cocoon_sev_image_hash(measurement: &[u8; 48]) -> Digest {
    without_report_data(Sha256::new().chain_update(measurement))
}

/// `SHA-256(MRENCLAVE || 64 zero bytes)`; only Cocoon's sealing enclaves have one.
#[must_use]
pub fn cocoon_sgx_image_hash(mr_enclave: &[u8; 32]) -> Digest {
    without_report_data(Sha256::new().chain_update(mr_enclave))
}

/// The report data field is hashed as zeros.
fn without_report_data(hash: Sha256) -> Digest {
    Digest(hash.chain_update([0u8; 64]).finalize().into())
}
