//! The pins file: which workers, platforms and root a verifier accepts. It is written by the
//! verifier and trusted by it; it is still parsed strictly, because a misread policy accepts too
//! much. An empty list denies. `manifests/pins.example.toml` documents every field.

mod contents;
mod exception;
mod sgx;

pub(crate) use contents::Contents;
pub use exception::TcbException;
pub use sgx::{EnclaveConfig, EnclavePin, Masked, PinnedIdentity, SgxPins};

use core::fmt;
use std::borrow::Cow;

use chrysalis_wire::{Digest, NetworkId, UnixTime};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::deny::{self, Admission, AdmissionName, Denial, Denied, DenySection};
use crate::hexadecimal::{self, HexArray};
use crate::nvidia::{DevicePins, DeviceSection};
use crate::roots::TrustRoot;
use crate::text::printable;
use crate::time::parse_utc;
use exception::ExceptionEntry;
use sgx::SgxSection;

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

/// One accepted worker. All values hold together: a worker that matches some values of one entry
/// and some of another is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerPin {
    /// Name shown in verdicts.
    pub name: String,
    /// Expected MRTD.
    #[serde(with = "hexadecimal::array")]
    pub mrtd: [u8; 48],
    /// Expected RTMR0.
    #[serde(with = "hexadecimal::array")]
    pub rtmr0: [u8; 48],
    /// Expected RTMR1.
    #[serde(with = "hexadecimal::array")]
    pub rtmr1: [u8; 48],
    /// Expected RTMR2.
    #[serde(with = "hexadecimal::array")]
    pub rtmr2: [u8; 48],
    /// SHA-256 of the measured worker manifest: the policy digest.
    pub manifest_sha256: Digest,
    /// Content root of the model bundle the manifest names.
    pub model_root: Digest,
    /// When the entry begins to count; at once where the file says nothing.
    #[serde(default, deserialize_with = "utc")]
    pub activates_at: Option<UnixTime>,
}

impl WorkerPin {
    /// MRTD, RTMR0, RTMR1, RTMR2.
    pub(crate) const fn registers(&self) -> [&[u8; 48]; 4] {
        [&self.mrtd, &self.rtmr0, &self.rtmr1, &self.rtmr2]
    }
}

/// What platforms are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformPins {
    /// Which platforms are admitted.
    pub admission: Admission,
    /// Accepted `td_attributes`, compared exactly. None has a debug bit.
    pub td_attributes: Vec<[u8; 8]>,
    /// Accepted `xfam`, compared exactly.
    pub xfam: Vec<[u8; 8]>,
    /// Accepted TDX module measurements.
    pub mr_seam: Vec<[u8; 48]>,
    /// Accepted `mr_config_id`; only zero unless the file lists others.
    pub mr_config_id: Vec<[u8; 48]>,
    /// Oldest accepted collateral, in days since its issue.
    pub max_collateral_age_days: u32,
    /// Smallest accepted TCB evaluation number of the collateral.
    pub min_tcb_evaluation_number: u32,
    /// Whether platforms that accept added CPU packages are accepted.
    pub allow_dynamic_platform: bool,
    /// Whether platforms that keep their keys at Intel's registration service are accepted.
    pub allow_cached_keys: bool,
    /// Whether platforms with simultaneous multithreading are accepted.
    pub allow_smt: bool,
    /// Platform families accepted for a while although they are not up to date.
    pub exceptions: Vec<TcbException>,
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

/// Why a pins file was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PinsError {
    /// Larger than [`MAX_PINS_BYTES`].
    #[error("pins file is {got} bytes; the limit is {MAX_PINS_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// Not TOML, a missing or an unknown field, a value of the wrong kind.
    #[error("pins file is malformed: {0}")]
    Malformed(String),
    /// A version this build does not read.
    #[error("pins version {got} is not supported; this build reads {PINS_VERSION}")]
    Version {
        /// Version found.
        got: u32,
    },
    /// INSECURE-SIM pins where the caller did not ask for simulation.
    #[error(
        "these pins are for the INSECURE-SIM tier, which protects nothing; ask for simulation \
         explicitly or use production pins"
    )]
    SimRefused,
    /// Certificate-only pins where a live proof is due.
    #[error(
        "these pins are for the INSECURE-CERTIFICATE-ONLY tier, which accepts replayed and relayed \
         evidence; use production pins"
    )]
    CertificateOnlyRefused,
    /// Pins of another tier where certificate-only ones are asked for by name.
    #[error("these pins are of tier {tier}; INSECURE-CERTIFICATE-ONLY is asked for")]
    NotCertificateOnly {
        /// Tier found.
        tier: Tier,
    },
    /// The root is missing, superfluous or no certificate.
    #[error("sim_root {reason}")]
    SimRoot {
        /// What is wrong.
        reason: &'static str,
    },
    /// Tier and network do not belong together.
    #[error("{tier} pins cannot name {network}; INSECURE-SIM pins name network {sim}, others never do", sim = NetworkId::INSECURE_SIM.0)]
    Network {
        /// Tier found.
        tier: Tier,
        /// Network found.
        network: NetworkId,
    },
    /// A list is longer than its limit.
    #[error("{what} has {got} entries; the limit is {limit}")]
    TooMany {
        /// Name of the list.
        what: &'static str,
        /// Its limit.
        limit: usize,
        /// Entries found.
        got: usize,
    },
    /// A worker name is empty, long, not printable or used twice.
    #[error("worker {index}: the name must be unique, 1 to 128 printable ASCII characters")]
    Name {
        /// Position in the file.
        index: usize,
    },
    /// A zero MRTD is what an unmeasured peer reports.
    #[error("worker {name:?}: mrtd is all zero; measure the worker first")]
    ZeroMeasurement {
        /// Name of the entry.
        name: String,
    },
    /// A listed `td_attributes` has a debug bit.
    #[error(
        "td_attributes {value} has a debug bit (first byte not zero); a debug TD hides nothing"
    )]
    Debug {
        /// The value, hex.
        value: String,
    },
    /// A `[[sgx.worker]]` names no enclave, or in two ways.
    #[error("sgx worker {name:?}: {reason}")]
    Enclave {
        /// Name of the entry.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A value of `[sgx]` accepts what no policy may accept.
    #[error("{field} {value}: {reason}")]
    EnclaveField {
        /// The field.
        field: &'static str,
        /// The value, hex.
        value: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A `[[platform.exception]]` is malformed or accepts too much.
    #[error("[[platform.exception]]: {reason}: {got:?}")]
    Exception {
        /// What is wrong.
        reason: &'static str,
        /// The value found.
        got: String,
    },
    /// `sequence` is 0.
    #[error("sequence is 0; numbers begin with 1")]
    Sequence,
    /// `admission` and `vetted` contradict each other.
    #[error("[platform]: {reason}")]
    Platform {
        /// What is wrong.
        reason: &'static str,
    },
    /// A denial that would not deny what it seems to.
    #[error("deny {index}: {reason}")]
    Deny {
        /// Position in the file.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The `[device]` section contradicts itself or the tier.
    #[error("[device]: {reason}")]
    Device {
        /// What is wrong.
        reason: &'static str,
    },
    /// A number out of its range.
    #[error("{field} is {got}; it must be between {min} and {max}")]
    OutOfRange {
        /// Field name.
        field: &'static str,
        /// Value found.
        got: u32,
        /// Smallest allowed value.
        min: u32,
        /// Largest allowed value.
        max: u32,
    },
}

impl PinsError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-PINS-SIZE",
            Self::Malformed(_) => "E-PINS-FORM",
            Self::Version { .. } => "E-PINS-VERSION",
            Self::SimRefused => "E-PINS-SIM-REFUSED",
            Self::CertificateOnlyRefused => "E-PINS-CERTIFICATE-ONLY",
            Self::NotCertificateOnly { .. } => "E-PINS-TIER",
            Self::SimRoot { .. } => "E-PINS-SIM-ROOT",
            Self::Network { .. } => "E-PINS-NETWORK",
            Self::TooMany { .. } => "E-PINS-COUNT",
            Self::Name { .. } => "E-PINS-NAME",
            Self::ZeroMeasurement { .. } => "E-PINS-ZERO",
            Self::Debug { .. } => "E-PINS-DEBUG",
            Self::Enclave { .. } => "E-PINS-ENCLAVE",
            Self::EnclaveField { .. } => "E-PINS-SGX",
            Self::Exception { .. } => "E-PINS-EXCEPTION",
            Self::Sequence => "E-PINS-SEQUENCE",
            Self::Platform { .. } => "E-PINS-PLATFORM",
            Self::Deny { .. } => "E-PINS-DENY",
            Self::Device { .. } => "E-PINS-DEVICE",
            Self::OutOfRange { .. } => "E-PINS-RANGE",
        }
    }
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

fn check_workers(workers: &[WorkerPin]) -> Result<(), PinsError> {
    at_most("worker", MAX_PINNED_WORKERS, workers.len())?;
    let mut names = std::collections::BTreeSet::new();
    for (index, worker) in workers.iter().enumerate() {
        let name = worker.name.as_str();
        if !shown_name(name) || !names.insert(name) {
            return Err(PinsError::Name { index });
        }
        if worker.mrtd == [0; 48] {
            return Err(PinsError::ZeroMeasurement { name: worker.name.clone() });
        }
    }
    Ok(())
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformSection {
    #[serde(default)]
    admission: AdmissionName,
    vetted: Option<Vec<HexArray<16>>>,
    td_attributes: Vec<HexArray<8>>,
    xfam: Vec<HexArray<8>>,
    mr_seam: Vec<HexArray<48>>,
    mr_config_id: Option<Vec<HexArray<48>>>,
    max_collateral_age_days: u32,
    min_tcb_evaluation_number: u32,
    #[serde(default)]
    allow_dynamic_platform: bool,
    #[serde(default)]
    allow_cached_keys: bool,
    #[serde(default)]
    allow_smt: bool,
    #[serde(default)]
    exception: Vec<ExceptionEntry>,
}

impl PlatformSection {
    fn check(self) -> Result<PlatformPins, PinsError> {
        let mr_config_id = self.mr_config_id.unwrap_or_else(|| vec![HexArray([0; 48])]);
        at_most("td_attributes", MAX_PINNED_VALUES, self.td_attributes.len())?;
        at_most("xfam", MAX_PINNED_VALUES, self.xfam.len())?;
        at_most("mr_seam", MAX_PINNED_VALUES, self.mr_seam.len())?;
        at_most("mr_config_id", MAX_PINNED_VALUES, mr_config_id.len())?;
        if let Some(HexArray(value)) = self.td_attributes.iter().find(|a| a.0.first() != Some(&0)) {
            return Err(PinsError::Debug { value: hex::encode(value) });
        }
        at_most("platform.exception", MAX_PINNED_VALUES, self.exception.len())?;
        let age = self.max_collateral_age_days;
        in_range("max_collateral_age_days", age, 1, MAX_COLLATERAL_AGE_DAYS)?;
        let number = self.min_tcb_evaluation_number;
        in_range("min_tcb_evaluation_number", number, 1, u32::MAX)?;
        Ok(PlatformPins {
            admission: deny::admission(self.admission, self.vetted)?,
            td_attributes: plain(self.td_attributes),
            xfam: plain(self.xfam),
            mr_seam: plain(self.mr_seam),
            mr_config_id: plain(mr_config_id),
            max_collateral_age_days: age,
            min_tcb_evaluation_number: number,
            allow_dynamic_platform: self.allow_dynamic_platform,
            allow_cached_keys: self.allow_cached_keys,
            allow_smt: self.allow_smt,
            exceptions: self
                .exception
                .into_iter()
                .map(ExceptionEntry::check)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// A date in the one spelling that collateral has too.
fn utc<'de, D: Deserializer<'de>>(d: D) -> Result<Option<UnixTime>, D::Error> {
    let text = <Cow<'de, str>>::deserialize(d)?;
    let error = || serde::de::Error::custom("expected a date as 2026-12-01T00:00:00Z");
    parse_utc(&text).map(Some).ok_or_else(error)
}

fn plain<const N: usize>(list: Vec<HexArray<N>>) -> Vec<[u8; N]> {
    list.into_iter().map(|h| h.0).collect()
}

/// Intel's collateral is valid for 30 days, so a longer bound would bound nothing.
const MAX_COLLATERAL_AGE_DAYS: u32 = 30;
const MAX_ROOT_BYTES: usize = 4096;
const MAX_NAME_CHARS: usize = 128;
