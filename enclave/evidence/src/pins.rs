//! The pins file: which workers, platforms and root a verifier accepts. It is written by the
//! verifier and trusted by it; it is still parsed strictly, because a misread policy accepts too
//! much. An empty list denies. `manifests/pins.example.toml` documents every field.

mod contents;
mod error;
mod exception;
mod platform;
mod sgx;
mod worker;

pub(crate) use contents::Contents;
pub use error::PinsError;
pub use exception::TcbException;
pub use platform::PlatformPins;
pub use sgx::{EnclaveConfig, EnclavePin, Masked, PinnedIdentity, SgxPins};
pub use worker::WorkerPin;

use core::fmt;

use chrysalis_wire::{Digest, NetworkId};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::deny::{self, Denial, Denied, DenySection};
use crate::hexadecimal;
use crate::nvidia::{DevicePins, DeviceSection};
use crate::roots::TrustRoot;
use crate::text::printable;
use platform::PlatformSection;
use sgx::SgxSection;
use worker::check_workers;

/// Version of the pins file this build reads.
pub const PINS_VERSION: u32 = 1;
/// Largest pins file accepted, in bytes.
pub const MAX_PINS_BYTES: usize = 1024 * 1024;
/// Most `[[worker]]` entries.
pub const MAX_PINNED_WORKERS: usize = 1024;
/// Most values in one list of `[platform]`.
pub const MAX_PINNED_VALUES: usize = 64;

/// What kind of evidence a pins file accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Hardware under Intel's root.
    #[serde(rename = "production")]
    Production,
    /// The simulator under its FAKE root; protects nothing.
    #[serde(rename = "INSECURE-SIM")]
    InsecureSim,
    /// Hardware under Intel's root, and a certificate is enough. Replayed, relayed and diverted
    /// evidence passes: for interoperability with peers that speak nothing better. Only
    /// [`Pins::parse_certificate_only`] reads it.
    #[serde(rename = "INSECURE-CERTIFICATE-ONLY")]
    CertificateOnly,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::InsecureSim => "INSECURE-SIM",
            Self::CertificateOnly => "INSECURE-CERTIFICATE-ONLY",
        })
    }
}

/// Whether the caller accepts INSECURE-SIM pins at all. A type and not a flag, so that the choice
/// is visible at every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowSim {
    /// INSECURE-SIM pins load; everything that comes of them must say so.
    Yes,
    /// INSECURE-SIM pins are refused.
    No,
}

/// A pins file that was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    sequence: Option<u64>,
    tier: Tier,
    root: TrustRoot,
    network: NetworkId,
    workers: Vec<WorkerPin>,
    platform: PlatformPins,
    sgx: Option<SgxPins>,
    device: Option<DevicePins>,
    denied: Vec<Denial>,
    digest: Digest,
}

impl Pins {
    /// Reads and checks a pins file.
    ///
    /// # Errors
    /// [`PinsError`], one variant per rule of `manifests/pins.example.toml`.
    pub fn parse(text: &str, allow_sim: AllowSim) -> Result<Self, PinsError> {
        Self::read(text, |tier| match tier {
            Tier::InsecureSim if allow_sim == AllowSim::No => Err(PinsError::SimRefused),
            Tier::CertificateOnly => Err(PinsError::CertificateOnlyRefused),
            Tier::Production | Tier::InsecureSim => Ok(()),
        })
    }

    /// Reads pins of [`Tier::CertificateOnly`], and only those. What loads production pins cannot
    /// load these and the other way round, so that nobody gets the weaker promise by a file alone.
    ///
    /// # Errors
    /// [`PinsError`], as [`Self::parse`].
    pub fn parse_certificate_only(text: &str) -> Result<Self, PinsError> {
        Self::read(text, |tier| match tier {
            Tier::CertificateOnly => Ok(()),
            Tier::Production | Tier::InsecureSim => Err(PinsError::NotCertificateOnly { tier }),
        })
    }

    fn read(text: &str, accept: impl Fn(Tier) -> Result<(), PinsError>) -> Result<Self, PinsError> {
        if text.len() > MAX_PINS_BYTES {
            return Err(PinsError::TooLarge { got: text.len() });
        }
        let file: File = toml::from_str(text)
            .map_err(|e| PinsError::Malformed(printable(&e.to_string().replace('\n', " "))))?;
        if file.version != PINS_VERSION {
            return Err(PinsError::Version { got: file.version });
        }
        accept(file.tier)?;
        let root = root(file.tier, file.sim_root.as_deref())?;
        // Equality both ways: a receipt is marked as simulated by its network alone.
        if (file.tier == Tier::InsecureSim) != (file.network == NetworkId::INSECURE_SIM) {
            return Err(PinsError::Network { tier: file.tier, network: file.network });
        }
        check_workers(&file.worker)?;
        let taken: Vec<&str> = file.worker.iter().map(|worker| worker.name.as_str()).collect();
        let sgx = file.sgx.map(|section| section.check(&taken)).transpose()?;
        if file.sequence == Some(0) {
            return Err(PinsError::Sequence);
        }
        let denied = deny::denials(file.deny)?;
        let mut device = file.device.map(|section| section.check(file.tier)).transpose()?;
        if let Some(device) = &mut device {
            // One list for the rule, wherever a serial number stands in the file.
            device.denied_serials.extend(denied.iter().filter_map(|entry| match &entry.what {
                Denied::GpuSerial(serial) => Some(serial.clone()),
                _ => None,
            }));
        }
        Ok(Self {
            sequence: file.sequence,
            tier: file.tier,
            root,
            network: file.network,
            workers: file.worker,
            platform: file.platform.check()?,
            sgx,
            device,
            denied,
            digest: Digest(Sha256::digest(text.as_bytes()).into()),
        })
    }

    /// Number of the file among those of its publisher: a higher one replaces a lower one, and
    /// never the reverse. `None` for a file that its user wrote.
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// What is denied, whatever else the file says.
    #[must_use]
    pub fn denied(&self) -> &[Denial] {
        &self.denied
    }

    /// What kind of evidence is accepted.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// Whether everything accepted is simulated.
    #[must_use]
    pub fn insecure_sim(&self) -> bool {
        self.tier == Tier::InsecureSim
    }

    /// The root every quote must chain to.
    #[must_use]
    pub const fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// The network accepted workers serve.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    /// The accepted workers.
    #[must_use]
    pub fn workers(&self) -> &[WorkerPin] {
        &self.workers
    }

    /// The accepted platforms.
    #[must_use]
    pub const fn platform(&self) -> &PlatformPins {
        &self.platform
    }

    /// The accepted enclaves; `None` accepts none.
    #[must_use]
    pub const fn sgx(&self) -> Option<&SgxPins> {
        self.sgx.as_ref()
    }

    /// The accepted devices; `None` accepts workers without any and no others.
    #[must_use]
    pub const fn device(&self) -> Option<&DevicePins> {
        self.device.as_ref()
    }

    /// SHA-256 of the file's text, to name the policy in caches and transcripts.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

fn root(tier: Tier, sim_root: Option<&str>) -> Result<TrustRoot, PinsError> {
    let refuse = |reason| Err(PinsError::SimRoot { reason });
    match (tier, sim_root) {
        (Tier::Production | Tier::CertificateOnly, None) => Ok(TrustRoot::Intel),
        (Tier::Production | Tier::CertificateOnly, Some(_)) => {
            refuse("must not be present in pins of hardware")
        }
        (Tier::InsecureSim, None) => refuse("is missing; INSECURE-SIM pins must name it"),
        (Tier::InsecureSim, Some(text)) => {
            let Some(der) = hexadecimal::parse_vec(text).filter(|d| d.len() <= MAX_ROOT_BYTES)
            else {
                return refuse("is not lower-case hex of a DER certificate of at most 4096 bytes");
            };
            if der == TrustRoot::Intel.der() {
                return refuse("is Intel's root; hardware evidence needs production pins");
            }
            if RootCertStore::empty().add(CertificateDer::from_slice(&der)).is_err() {
                return refuse("is not an X.509 certificate");
            }
            Ok(TrustRoot::InsecureSim(der))
        }
    }
}

fn shown_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_CHARS && printable(name) == name
}

const fn at_most(what: &'static str, limit: usize, got: usize) -> Result<(), PinsError> {
    if got > limit { Err(PinsError::TooMany { what, limit, got }) } else { Ok(()) }
}

const fn in_range(field: &'static str, got: u32, min: u32, max: u32) -> Result<(), PinsError> {
    if got < min || got > max {
        return Err(PinsError::OutOfRange { field, got, min, max });
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    sequence: Option<u64>,
    tier: Tier,
    sim_root: Option<String>,
    network: NetworkId,
    #[serde(default)]
    worker: Vec<WorkerPin>,
    platform: PlatformSection,
    sgx: Option<SgxSection>,
    device: Option<DeviceSection>,
    #[serde(default)]
    deny: Vec<DenySection>,
}

const MAX_ROOT_BYTES: usize = 4096;
const MAX_NAME_CHARS: usize = 128;
