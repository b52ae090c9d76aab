//! The `[device]` section of a pins file: which devices a worker must show, and what they must have
//! measured. Written by the verifier and trusted by it; an empty list denies. Golden values come
//! from NVIDIA's signed manifests through `chrysalis policy import-rim`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kind::DeviceKind;
use super::opaque::Mode;
use super::report::{MAX_RECORDS, Record};
use super::root::DeviceRoot;
use crate::hexadecimal::{self, HexArray};
use crate::pins::{MAX_PINNED_VALUES, PinsError, Tier};

pub use chrysalis_wire::limits::MAX_DEVICES;

/// Most `[[device.driver]]`, and most `[[device.vbios]]` entries.
pub const MAX_GOLDEN_SETS: usize = 256;
/// Most alternatives for one record.
pub const MAX_GOLDEN_ALTERNATIVES: usize = 64;
/// Most denied serial numbers.
pub const MAX_DENIED_SERIALS: usize = 4096;

/// What devices are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePins {
    /// The root every chain must end in.
    pub root: DeviceRoot,
    /// Number of GPUs, exactly.
    pub gpus: usize,
    /// Number of switches, exactly.
    pub switches: usize,
    /// Accepted modes of GPUs.
    pub modes: Vec<Mode>,
    /// Whether switches, whose reports state no firmware, are accepted.
    pub switches_without_firmware: bool,
    /// Refused certificate serial numbers, at any place of a chain; lower-case hex without zeros
    /// before it.
    pub denied_serials: Vec<String>,
    /// What each accepted driver version must have measured.
    pub drivers: Vec<Golden>,
    /// What each accepted VBIOS version must have measured.
    pub vbioses: Vec<Golden>,
}

/// What one version of one part must have measured. A set holds as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Golden {
    /// The chip.
    pub kind: DeviceKind,
    /// The version, as the report states it.
    pub version: String,
    /// The board, if the values are only for one.
    pub board: Option<String>,
    /// Accepted digests by SPDM index; all zero is a value like any other.
    pub records: BTreeMap<u8, Vec<Record>>,
}

impl Golden {
    /// Whether the set is for a device that states these.
    pub(crate) fn is_for(&self, kind: DeviceKind, version: &str, board: Option<&str>) -> bool {
        self.kind == kind
            && self.version == version
            && self.board.as_deref().is_none_or(|wanted| board == Some(wanted))
    }
}

/// `[device]` as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceSection {
    sim_root: Option<String>,
    gpus: usize,
    switches: usize,
    modes: Vec<Mode>,
    #[serde(default)]
    switches_without_firmware: bool,
    #[serde(default)]
    denied_serials: Vec<String>,
    #[serde(default)]
    driver: Vec<GoldenSection>,
    #[serde(default)]
    vbios: Vec<GoldenSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenSection {
    kind: DeviceKind,
    version: String,
    board: Option<String>,
    records: BTreeMap<String, Vec<HexArray<48>>>,
}

impl DeviceSection {
    pub(crate) fn check(self, tier: Tier) -> Result<DevicePins, PinsError> {
        let total = self.gpus.saturating_add(self.switches);
        at_most("devices", MAX_DEVICES, total)?;
        if total == 0 {
            return refuse("gpus and switches are both 0; leave [device] out instead");
        }
        at_most("device.modes", MAX_PINNED_VALUES, self.modes.len())?;
        at_most("device.denied_serials", MAX_DENIED_SERIALS, self.denied_serials.len())?;
        let serials = self.denied_serials.iter().map(|s| hexadecimal::parse_serial(s)).collect();
        let Some(denied_serials) = serials else {
            return refuse("denied_serials are not lower-case hex of 1 to 21 bytes, not zero");
        };
        at_most("device.driver", MAX_GOLDEN_SETS, self.driver.len())?;
        at_most("device.vbios", MAX_GOLDEN_SETS, self.vbios.len())?;
        Ok(DevicePins {
            root: root(tier, self.sim_root.as_deref())?,
            gpus: self.gpus,
            switches: self.switches,
            modes: self.modes,
            switches_without_firmware: self.switches_without_firmware,
            denied_serials,
            drivers: golden(self.driver)?,
            vbioses: golden(self.vbios)?,
        })
    }
}

impl GoldenSection {
    fn check(self) -> Result<Golden, PinsError> {
        let mut records = BTreeMap::new();
        for (index, values) in self.records {
            at_most("alternatives of a device record", MAX_GOLDEN_ALTERNATIVES, values.len())?;
            let number = index.parse::<u8>().ok().filter(|n| n.to_string() == index);
            let known = number.filter(|n| (1..=MAX_RECORDS).contains(&usize::from(*n)));
            let Some(number) = known else {
                return refuse("a record's index is not a number from 1 to 64");
            };
            records.insert(number, values.into_iter().map(|HexArray(v)| v).collect());
        }
        Ok(Golden { kind: self.kind, version: self.version, board: self.board, records })
    }
}

fn golden(sets: Vec<GoldenSection>) -> Result<Vec<Golden>, PinsError> {
    sets.into_iter().map(GoldenSection::check).collect()
}

fn root(tier: Tier, sim_root: Option<&str>) -> Result<DeviceRoot, PinsError> {
    match (tier, sim_root) {
        // A certificate carries no device reports, so what the section asks for is never shown.
        (Tier::CertificateOnly, _) => refuse("the section has no place in certificate-only pins"),
        (Tier::Production, None) => Ok(DeviceRoot::Nvidia),
        (Tier::Production, Some(_)) => refuse("sim_root must not be present in production pins"),
        (Tier::InsecureSim, None) => refuse("sim_root is missing; INSECURE-SIM pins must name it"),
        (Tier::InsecureSim, Some(text)) => {
            let der = hexadecimal::parse_vec(text).filter(|d| d.len() <= MAX_ROOT_BYTES);
            match der {
                Some(der) if der == DeviceRoot::Nvidia.der() => {
                    refuse("sim_root is NVIDIA's root; genuine devices need production pins")
                }
                Some(der) if !der.is_empty() => Ok(DeviceRoot::InsecureSim(der)),
                _ => refuse("sim_root is not lower-case hex of a DER certificate"),
            }
        }
    }
}

fn refuse<T>(reason: &'static str) -> Result<T, PinsError> {
    Err(PinsError::Device { reason })
}

const fn at_most(what: &'static str, limit: usize, got: usize) -> Result<(), PinsError> {
    if got > limit { Err(PinsError::TooMany { what, limit, got }) } else { Ok(()) }
}

const MAX_ROOT_BYTES: usize = 4096;
