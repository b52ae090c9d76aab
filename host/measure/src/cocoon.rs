//! Cocoon's `image_hash`: the one value its contracts list for an image. Computed so that an
//! operator can compare; nothing of ours pins it, because it hashes the VM's shape together with
//! the image and leaves the debug attribute out.

use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

pub use chrysalis_evidence::{TdIdentity, cocoon_tdx_image_hash};

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
