//! The `[[deny]]` entries of a pins file and the admission of platforms: what takes away from what
//! the rest of the file accepts. A denial has no date; it holds as soon as the file is read.

use chrysalis_wire::Digest;
use serde::Deserialize;

use crate::hexadecimal::{HexArray, parse_serial};
use crate::pins::PinsError;
use crate::text::printable;

/// Most `[[deny]]` entries.
pub const MAX_DENIED: usize = 4096;
/// Most vetted platforms.
pub const MAX_VETTED_PLATFORMS: usize = 4096;
/// Longest reason of a denial, in characters.
pub const MAX_REASON_CHARS: usize = 200;

/// Which platforms may run accepted images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Any genuine one. An owner with physical access to it is not stopped.
    Open,
    /// Only these: platform instance ids, or PPIDs of platforms without one. An empty list denies.
    Vetted(Vec<[u8; 16]>),
}

/// One `[[deny]]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What is denied.
    pub what: Denied,
    /// The file's reason, printable ASCII.
    pub reason: String,
}

/// A denied value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Workers with this MRTD.
    Mrtd([u8; 48]),
    /// Workers with this MRENCLAVE.
    Mrenclave(Digest),
    /// Workers with this manifest.
    Manifest(Digest),
    /// Workers with this model.
    Model(Digest),
    /// The platform with this instance id or PPID.
    Platform([u8; 16]),
    /// A platform family.
    Fmspc([u8; 6]),
    /// Platforms that this advisory applies to, whatever their status.
    Advisory(String),
    /// Devices with a certificate of this serial number: lower-case hex without zeros before it.
    GpuSerial(String),
}

/// Why `what` is denied, if it is.
pub(crate) fn reason<'a>(list: &'a [Denial], what: &Denied) -> Option<&'a str> {
    list.iter().find(|entry| entry.what == *what).map(|entry| entry.reason.as_str())
}

/// `admission` of `[platform]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AdmissionName {
    #[default]
    Open,
    Vetted,
}

/// Reads `admission` and `vetted` together: a list under `open` would look like a rule and be none.
pub(crate) fn admission(
    name: AdmissionName,
    vetted: Option<Vec<HexArray<16>>>,
) -> Result<Admission, PinsError> {
    let refuse = |reason| Err(PinsError::Platform { reason });
    match (name, vetted) {
        (AdmissionName::Open, None) => Ok(Admission::Open),
        (AdmissionName::Open, Some(_)) => refuse("vetted needs admission = \"vetted\""),
        (AdmissionName::Vetted, None) => refuse("admission = \"vetted\" needs the list vetted"),
        (AdmissionName::Vetted, Some(list)) if list.len() > MAX_VETTED_PLATFORMS => {
            let (limit, got) = (MAX_VETTED_PLATFORMS, list.len());
            Err(PinsError::TooMany { what: "vetted", limit, got })
        }
        (AdmissionName::Vetted, Some(list)) => {
            Ok(Admission::Vetted(list.into_iter().map(|id| id.0).collect()))
        }
    }
}

/// One `[[deny]]` entry as it stands in the file: exactly one value, and a reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DenySection {
    reason: String,
    mrtd: Option<HexArray<48>>,
    mrenclave: Option<Digest>,
    manifest_sha256: Option<Digest>,
    model_root: Option<Digest>,
    platform: Option<HexArray<16>>,
    fmspc: Option<HexArray<6>>,
    advisory: Option<String>,
    gpu_serial: Option<String>,
}

impl DenySection {
    fn check(self) -> Result<Denial, &'static str> {
        let reason = self.reason;
        if reason.is_empty() || reason.len() > MAX_REASON_CHARS || printable(&reason) != reason {
            return Err("the reason must be 1 to 200 printable ASCII characters");
        }
        let values = [
            self.mrtd.map(|v| Denied::Mrtd(v.0)),
            self.mrenclave.map(Denied::Mrenclave),
            self.manifest_sha256.map(Denied::Manifest),
            self.model_root.map(Denied::Model),
            self.platform.map(|v| Denied::Platform(v.0)),
            self.fmspc.map(|v| Denied::Fmspc(v.0)),
            self.advisory.map(Denied::Advisory),
            // What is no serial number is empty here, and refused below.
            self.gpu_serial.map(|v| Denied::GpuSerial(parse_serial(&v).unwrap_or_default())),
        ];
        let mut values = values.into_iter().flatten();
        let (Some(what), None) = (values.next(), values.next()) else {
            return Err("an entry denies exactly one value");
        };
        // A misspelt value would deny nothing.
        let spelt = match &what {
            Denied::Advisory(id) => id.strip_prefix("INTEL-SA-").is_some_and(|number| {
                number.len() == ADVISORY_DIGITS && number.bytes().all(|b| b.is_ascii_digit())
            }),
            Denied::GpuSerial(serial) => !serial.is_empty(),
            _ => true,
        };
        if spelt { Ok(Denial { what, reason }) } else { Err(MISSPELT) }
    }
}

/// Reads all entries.
pub(crate) fn denials(sections: Vec<DenySection>) -> Result<Vec<Denial>, PinsError> {
    if sections.len() > MAX_DENIED {
        let (limit, got) = (MAX_DENIED, sections.len());
        return Err(PinsError::TooMany { what: "deny", limit, got });
    }
    let entries = sections.into_iter().enumerate();
    entries
        .map(|(index, entry)| entry.check().map_err(|reason| PinsError::Deny { index, reason }))
        .collect()
}

const MISSPELT: &str =
    "an advisory is INTEL-SA-NNNNN, a gpu_serial lower-case hex of 1 to 21 bytes, not zero";
/// Digits in the name of an advisory of Intel's.
const ADVISORY_DIGITS: usize = 5;
