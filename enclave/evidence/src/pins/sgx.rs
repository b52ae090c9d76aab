//! The `[sgx]` section of the pins: which enclaves are accepted, and how they may be configured.
//! It is the verifier's own; it is still parsed strictly, because a misread policy accepts too much.
//! Empty lists deny. Values are the report's bytes in their order, lower-case hex (little endian).

use chrysalis_wire::{Digest, UnixTime};
use serde::Deserialize;

use super::worker::utc;
use super::{MAX_PINNED_VALUES, MAX_PINNED_WORKERS, PinsError, at_most, shown_name};
use crate::hexadecimal::HexArray;

/// Accepted enclaves and their configurations. Each list is any-of; all of them must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SgxPins {
    /// Accepted ATTRIBUTES.FLAGS. No entry accepts DEBUG, a 32-bit enclave, or leaves open
    /// whether the enclave holds the provisioning keys or uses KSS.
    pub attributes: Vec<Masked<8>>,
    /// Accepted XFRM: the processor state the enclave may use.
    pub xfrm: Vec<Masked<8>>,
    /// Accepted MISCSELECT.
    pub misc_select: Vec<Masked<4>>,
    /// Accepted CONFIGID with CONFIGSVN, which the host chooses; only zero unless the file lists
    /// others.
    pub config: Vec<EnclaveConfig>,
    /// The accepted enclaves.
    pub workers: Vec<EnclavePin>,
}

/// A value that holds under a mask: SGX signatures and Intel's own identities are written so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked<const N: usize> {
    value: [u8; N],
    mask: [u8; N],
}

impl<const N: usize> Masked<N> {
    /// Whether `found` has the value in every bit of the mask.
    #[must_use]
    pub fn accepts(&self, found: &[u8; N]) -> bool {
        self.mask.iter().zip(found).zip(&self.value).all(|((mask, got), want)| got & mask == *want)
    }

    /// The value.
    #[must_use]
    pub const fn value(&self) -> &[u8; N] {
        &self.value
    }

    /// The bits that are compared.
    #[must_use]
    pub const fn mask(&self) -> &[u8; N] {
        &self.mask
    }
}

/// One accepted configuration of an enclave with KSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnclaveConfig {
    /// CONFIGID.
    pub id: [u8; 64],
    /// CONFIGSVN, compared exactly.
    pub svn: u16,
}

/// One accepted worker in an enclave. All values hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnclavePin {
    /// Name shown in verdicts.
    pub name: String,
    /// Which enclave.
    pub identity: PinnedIdentity,
    /// SHA-256 of the worker manifest the enclave commits to: the policy digest.
    pub manifest_sha256: Digest,
    /// Content root of the model bundle the manifest names.
    pub model_root: Digest,
    /// When the entry begins to count; at once where the file says nothing.
    pub activates_at: Option<UnixTime>,
}

/// How a pin names an enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinnedIdentity {
    /// One build, whoever signed it.
    Enclave {
        /// Digest of the enclave's initial contents.
        mrenclave: Digest,
    },
    /// Every build of a product that a signer vouches for, from a security version on.
    Signer {
        /// Digest of the signer's key.
        mrsigner: Digest,
        /// Product.
        isv_prod_id: u16,
        /// Oldest accepted security version.
        min_isv_svn: u16,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SgxSection {
    attributes: Vec<MaskedEntry<8>>,
    xfrm: Vec<MaskedEntry<8>>,
    misc_select: Vec<MaskedEntry<4>>,
    config: Option<Vec<ConfigEntry>>,
    #[serde(default)]
    worker: Vec<WorkerEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaskedEntry<const N: usize> {
    value: HexArray<N>,
    mask: HexArray<N>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigEntry {
    id: HexArray<64>,
    svn: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkerEntry {
    name: String,
    mrenclave: Option<Digest>,
    mrsigner: Option<Digest>,
    isv_prod_id: Option<u16>,
    min_isv_svn: Option<u16>,
    manifest_sha256: Digest,
    model_root: Digest,
    #[serde(default, deserialize_with = "utc")]
    activates_at: Option<UnixTime>,
}

impl SgxSection {
    /// Checks the section. `taken` are the names of the other workers.
    pub(crate) fn check(self, taken: &[&str]) -> Result<SgxPins, PinsError> {
        at_most("sgx.worker", MAX_PINNED_WORKERS, self.worker.len())?;
        let mut workers: Vec<EnclavePin> = Vec::with_capacity(self.worker.len());
        for (index, entry) in self.worker.into_iter().enumerate() {
            let pin = entry.check(index)?;
            if taken.contains(&pin.name.as_str()) || workers.iter().any(|w| w.name == pin.name) {
                return Err(PinsError::Name { index });
            }
            workers.push(pin);
        }
        let zero = EnclaveConfig { id: [0; 64], svn: 0 };
        let config = match self.config {
            None => vec![zero],
            Some(list) => {
                at_most("sgx.config", MAX_PINNED_VALUES, list.len())?;
                list.into_iter().map(|e| EnclaveConfig { id: e.id.0, svn: e.svn }).collect()
            }
        };
        let attributes = masked("sgx.attributes", self.attributes)?;
        attributes.iter().try_for_each(check_flags)?;
        let xfrm = masked("sgx.xfrm", self.xfrm)?;
        xfrm.iter().try_for_each(check_xfrm)?;
        let misc_select = masked("sgx.misc_select", self.misc_select)?;
        Ok(SgxPins { attributes, xfrm, misc_select, config, workers })
    }
}

impl WorkerEntry {
    fn check(self, index: usize) -> Result<EnclavePin, PinsError> {
        if !shown_name(&self.name) {
            return Err(PinsError::Name { index });
        }
        let identity = match (self.mrenclave, self.mrsigner, self.isv_prod_id, self.min_isv_svn) {
            (Some(mrenclave), None, None, None) => PinnedIdentity::Enclave { mrenclave },
            (None, Some(mrsigner), Some(isv_prod_id), Some(min_isv_svn)) => {
                PinnedIdentity::Signer { mrsigner, isv_prod_id, min_isv_svn }
            }
            _ => {
                return Err(PinsError::Enclave {
                    name: self.name,
                    reason: "name either mrenclave, or mrsigner with isv_prod_id and min_isv_svn",
                });
            }
        };
        let (measured, field) = match identity {
            PinnedIdentity::Enclave { mrenclave } => (mrenclave, "mrenclave"),
            PinnedIdentity::Signer { mrsigner, .. } => (mrsigner, "mrsigner"),
        };
        if measured.0 == [0; 32] {
            return Err(PinsError::ZeroMeasurement { name: self.name, field });
        }
        let Self { name, manifest_sha256, model_root, activates_at, .. } = self;
        Ok(EnclavePin { name, identity, manifest_sha256, model_root, activates_at })
    }
}

fn masked<const N: usize>(
    field: &'static str,
    list: Vec<MaskedEntry<N>>,
) -> Result<Vec<Masked<N>>, PinsError> {
    at_most(field, MAX_PINNED_VALUES, list.len())?;
    let entry = |MaskedEntry { value, mask }: MaskedEntry<N>| {
        let (value, mask) = (value.0, mask.0);
        // A bit that is set and not compared reads as a promise and is none.
        if value.iter().zip(mask).any(|(value, mask)| value & !mask != 0) {
            return Err(refuse(field, &value, "a bit is set that the mask leaves out"));
        }
        Ok(Masked { value, mask })
    };
    list.into_iter().map(entry).collect()
}

/// What no pins file may leave to the host.
fn check_flags(entry: &Masked<8>) -> Result<(), PinsError> {
    let (value, mask) = (u64::from_le_bytes(entry.value), u64::from_le_bytes(entry.mask));
    let refuse = |reason| Err(refuse("sgx.attributes", &entry.value, reason));
    if value & FLAG_DEBUG != 0 {
        return refuse("DEBUG (0x02) is set; an enclave under debug hides nothing");
    }
    if mask & FLAGS_DECIDED != FLAGS_DECIDED {
        return refuse(
            "the mask must cover INIT, DEBUG, MODE64BIT, PROVISIONKEY, EINITTOKEN_KEY and KSS \
             (0xb7)",
        );
    }
    if value & FLAGS_REQUIRED != FLAGS_REQUIRED {
        return refuse("INIT and MODE64BIT (0x05) must be set: every 64-bit enclave has them");
    }
    Ok(())
}

fn check_xfrm(entry: &Masked<8>) -> Result<(), PinsError> {
    if u64::from_le_bytes(entry.value) & XFRM_LEGACY == XFRM_LEGACY {
        return Ok(());
    }
    Err(refuse("sgx.xfrm", &entry.value, "x87 and SSE (0x03) must be set: every enclave has them"))
}

fn refuse(field: &'static str, value: &[u8], reason: &'static str) -> PinsError {
    PinsError::EnclaveField { field, value: hex::encode(value), reason }
}

/// ATTRIBUTES.FLAGS, Intel SDM vol. 3D, "ATTRIBUTES".
const FLAG_INIT: u64 = 0x01;
const FLAG_DEBUG: u64 = 0x02;
const FLAG_MODE64BIT: u64 = 0x04;
const FLAG_PROVISION_KEY: u64 = 0x10;
const FLAG_EINIT_TOKEN_KEY: u64 = 0x20;
const FLAG_KSS: u64 = 0x80;
const FLAGS_REQUIRED: u64 = FLAG_INIT | FLAG_MODE64BIT;
const FLAGS_DECIDED: u64 =
    FLAGS_REQUIRED | FLAG_DEBUG | FLAG_PROVISION_KEY | FLAG_EINIT_TOKEN_KEY | FLAG_KSS;
/// x87 and SSE state.
const XFRM_LEGACY: u64 = 0x03;
