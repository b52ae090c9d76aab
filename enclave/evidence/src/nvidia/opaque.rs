//! The opaque data of an NVIDIA report: type-length-value fields with what the device says about
//! itself. Attacker-controlled until the report's signature is verified. Fields without a meaning
//! here are skipped, as they are signed and newer firmware adds some; a field that stands twice is
//! refused, known or not.

use core::fmt;
use std::collections::BTreeSet;

use chrysalis_wire::Decoder;
use serde::{Deserialize, Serialize};

use super::error::DeviceError;

/// Most opaque fields; the longest report seen has 16.
pub const MAX_OPAQUE_FIELDS: usize = 64;
/// Longest text field, in bytes.
pub const MAX_OPAQUE_TEXT_BYTES: usize = 64;

/// What kind of protection the device was started for: opaque field 36.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One GPU passed through to one guest.
    Single,
    /// Several GPUs passed through, each protected by itself.
    Multi,
    /// Several GPUs and switches, protected as one.
    ProtectedPcie,
    /// The firmware is too old to say, or the device is a switch.
    Unstated,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "single",
            Self::Multi => "multi",
            Self::ProtectedPcie => "protected-pcie",
            Self::Unstated => "unstated",
        })
    }
}

/// The opaque fields that rules judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Driver version, such as `550.90.07`; switches state none.
    pub driver: Option<String>,
    /// VBIOS version, such as `96.00.9F.00.01`.
    pub vbios: String,
    /// Project, project SKU and chip SKU, such as `1010_0200_882`; switches state none.
    pub board: Option<String>,
    /// Digest of the firmware the leaf key belongs to; drivers before 550 and switches state none.
    pub fwid: Option<[u8; 48]>,
    /// What the device was started for.
    pub mode: Mode,
}

impl Opaque {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DeviceError> {
        let fields = fields(bytes)?;
        let find = |kind| fields.iter().find(|(k, _)| *k == kind).map(|(_, value)| *value);
        let texts = [(PROJECT, "project"), (PROJECT_SKU, "project SKU"), (CHIP_SKU, "chip SKU")];
        let mut board = Vec::new();
        for (kind, what) in texts {
            board.extend(find(kind).map(|value| text(what, value)).transpose()?);
        }
        let vbios = find(VBIOS).ok_or(DeviceError::MissingField { kind: VBIOS, what: "VBIOS" })?;
        Ok(Self {
            driver: find(DRIVER).map(|value| text("driver version", value)).transpose()?,
            vbios: vbios_version(vbios)?,
            board: (board.len() == texts.len()).then(|| board.join("_")),
            fwid: find(FWID).map(|value| exactly("FWID", value)).transpose()?,
            mode: find(MODE).map_or(Ok(Mode::Unstated), mode)?,
        })
    }
}

fn fields(bytes: &[u8]) -> Result<Vec<(u16, &[u8])>, DeviceError> {
    let mut d = Decoder::new(bytes);
    let mut seen = BTreeSet::new();
    let mut fields = Vec::new();
    while !d.remaining().is_empty() {
        let kind = u16::from_le_bytes(d.array("opaque field type")?);
        let length = u16::from_le_bytes(d.array("opaque field length")?);
        fields.push((kind, d.take("opaque field", usize::from(length))?));
        if !seen.insert(kind) {
            return Err(DeviceError::RepeatedField { kind });
        }
        if fields.len() > MAX_OPAQUE_FIELDS {
            let (what, limit, got) = ("opaque fields", MAX_OPAQUE_FIELDS, fields.len());
            return Err(DeviceError::TooMany { what, limit, got });
        }
    }
    Ok(fields)
}

/// Text, padded with zero bytes.
fn text(what: &'static str, value: &[u8]) -> Result<String, DeviceError> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    let (text, padding) = value.split_at(end);
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b' ');
    let sound = !text.is_empty()
        && value.len() <= MAX_OPAQUE_TEXT_BYTES
        && text.iter().all(plain)
        && padding.iter().all(|b| *b == 0);
    if !sound {
        let expected = "a short text of letters, digits and dots, padded with zero bytes";
        return Err(field(what, expected, value));
    }
    Ok(text.iter().map(|b| char::from(*b)).collect())
}

/// Eight bytes of a number on GPUs, text on switches. `96005E00` and `01`, little-endian, read
/// `96.00.5E.00.01`.
fn vbios_version(value: &[u8]) -> Result<String, DeviceError> {
    match *value {
        [d, c, b, a, e, 0, 0, 0] => Ok(format!("{a:02X}.{b:02X}.{c:02X}.{d:02X}.{e:02X}")),
        _ => text("VBIOS version", value),
    }
}

fn exactly<const N: usize>(what: &'static str, value: &[u8]) -> Result<[u8; N], DeviceError> {
    value.try_into().map_err(|_| field(what, "48 bytes", value))
}

fn mode(value: &[u8]) -> Result<Mode, DeviceError> {
    match *value {
        [0, 0] => Ok(Mode::Single),
        [1, 0] => Ok(Mode::Multi),
        [2, 0] => Ok(Mode::ProtectedPcie),
        _ => Err(field("feature flag", "0, 1 or 2", value)),
    }
}

fn field(what: &'static str, expected: &'static str, value: &[u8]) -> DeviceError {
    let shown = value.get(..MAX_OPAQUE_TEXT_BYTES).unwrap_or(value);
    DeviceError::Field { what, expected, got: hex::encode(shown) }
}

const DRIVER: u16 = 3;
const VBIOS: u16 = 6;
const CHIP_SKU: u16 = 15;
const PROJECT: u16 = 17;
const PROJECT_SKU: u16 = 18;
const FWID: u16 = 20;
const MODE: u16 = 36;
