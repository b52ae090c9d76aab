//! SGX: what MRENCLAVE will be, from a Gramine manifest and its loader, or from a record stream;
//! and who signed it. Pure functions over bytes. Manifests, loaders, streams and signatures are
//! attacker-controlled; the signing key is its owner's.
//!
//! | value | status |
//! |---|---|
//! | MRENCLAVE of a record stream | confirmed by a signature made for hardware |
//! | MRENCLAVE of Gramine 1.9 | cross-checked with Gramine's own signer, synthetic loaders; **not run on SGX hardware** |
//! | SIGSTRUCT verification, MRSIGNER | confirmed by signatures of Intel's and Fortanix' enclaves |

mod canonical;
mod elf;
mod error;
mod gramine;
mod key;
mod layout;
mod pin;
mod records;
mod rsa;
mod sigstruct;
mod stream;
mod template;
#[cfg(test)]
mod tests;

pub use elf::{MAX_LIBPAL_BYTES, MAX_LIBPAL_SPAN, MAX_PROGRAM_HEADERS, PalImage};
pub use error::{
    ElfError, EnclaveError, GramineError, KeyError, SgxError, SigstructError, StreamFault,
};
pub use gramine::{EnclaveAttributes, GramineManifest, MAX_GRAMINE_MANIFEST_BYTES};
pub use key::{MAX_KEY_BYTES, SigningKey};
pub use layout::{Area, EnclaveShape, MAX_HEAP_AT_START, MAX_THREADS, MeasuredEnclave};
pub use pin::{SimEnclavePrediction, enclave_section, predict_sim_enclave, sim_enclave_pins};
pub use records::{MAX_ENCLAVE_BYTES, PAGE_BYTES, PageKind, Permissions};
pub use sigstruct::{SIGSTRUCT_BYTES, SigningDate, Sigstruct, SigstructBody, UnverifiedSigstruct};
pub use stream::{MAX_STREAM_BYTES, MAX_STREAM_PAGES, StreamSummary};
pub use template::{
    GRAMINE_RELEASE, GramineTemplate, MAX_TEMPLATE_BYTES, MAX_TEMPLATE_FILES, MAX_TEMPLATE_TEXT,
    TEMPLATE_VERSION,
};
