//! The ACPI and SMBIOS blobs of a shape under one QEMU version. A capture file is checked like any
//! other input: sizes, digests, and that it is of the shape it is used for.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha384};

use crate::error::ShapeError;
use crate::shape::Shape;

/// A capture, checked against its digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Name of the shape.
    pub shape: String,
    /// The QEMU whose tables these are.
    pub qemu: QemuVersion,
    /// [`Shape::fingerprint`] of the shape when it was captured.
    pub fingerprint: String,
    /// What QEMU gives the firmware.
    pub blobs: Blobs,
}

/// The four blobs, whole: as fw_cfg serves them, trailing zeros included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blobs {
    /// `etc/table-loader`.
    pub table_loader: Blob,
    /// `etc/acpi/rsdp`.
    pub rsdp: Blob,
    /// `etc/acpi/tables`.
    pub tables: Blob,
    /// `etc/smbios/smbios-tables`: an input of the firmware, which completes, filters and then
    /// measures it.
    pub smbios: Blob,
}

/// A blob that has the size of its kind.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    kind: BlobKind,
    bytes: Vec<u8>,
}

/// Which blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobKind {
    /// `etc/table-loader`.
    TableLoader,
    /// `etc/acpi/rsdp`.
    Rsdp,
    /// `etc/acpi/tables`.
    Tables,
    /// `etc/smbios/smbios-tables`.
    Smbios,
}

impl BlobKind {
    /// All, in the order the firmware measures them.
    pub const ALL: [Self; 4] = [Self::TableLoader, Self::Rsdp, Self::Tables, Self::Smbios];

    /// Name in fw_cfg.
    #[must_use]
    pub const fn fw_cfg_name(self) -> &'static str {
        match self {
            Self::TableLoader => "etc/table-loader",
            Self::Rsdp => "etc/acpi/rsdp",
            Self::Tables => "etc/acpi/tables",
            Self::Smbios => "etc/smbios/smbios-tables",
        }
    }

    /// Exact size in bytes, for those that have one.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::TableLoader => Some(TABLE_LOADER_BYTES),
            Self::Rsdp => Some(RSDP_BYTES),
            Self::Tables => Some(TABLES_BYTES),
            Self::Smbios => None,
        }
    }
}

impl fmt::Display for BlobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fw_cfg_name())
    }
}

impl Blob {
    /// Takes the whole bytes of a blob.
    ///
    /// # Errors
    /// [`ShapeError::BlobSize`].
    pub fn new(kind: BlobKind, bytes: Vec<u8>) -> Result<Self, ShapeError> {
        let expected = kind.size().unwrap_or(MAX_SMBIOS_BYTES);
        let got = bytes.len();
        let wrong = match kind.size() {
            Some(size) => got != size,
            None => got == 0 || got > MAX_SMBIOS_BYTES,
        };
        if wrong {
            return Err(ShapeError::BlobSize { blob: kind, got, expected });
        }
        Ok(Self { kind, bytes })
    }

    /// Which one.
    #[must_use]
    pub const fn kind(&self) -> BlobKind {
        self.kind
    }

    /// Its bytes, whole.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-384 in hexadecimal. For the three ACPI blobs it is the digest of the measured event.
    #[must_use]
    pub fn sha384(&self) -> String {
        hex::encode(Sha384::digest(&self.bytes))
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} {} bytes {}>", self.kind, self.bytes.len(), self.sha384())
    }
}

impl Blobs {
    /// All four, in the order of [`BlobKind::ALL`].
    #[must_use]
    pub const fn all(&self) -> [&Blob; 4] {
        [&self.table_loader, &self.rsdp, &self.tables, &self.smbios]
    }
}

/// Version of a QEMU. Distribution suffixes are not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct QemuVersion {
    /// Major number.
    pub major: u16,
    /// Minor number.
    pub minor: u16,
    /// Micro number.
    pub micro: u16,
}

impl QemuVersion {
    /// The first version that starts trust domains (`tdx-guest`).
    pub const FIRST_WITH_TDX: Self = Self { major: 10, minor: 1, micro: 0 };
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

impl From<QemuVersion> for String {
    fn from(version: QemuVersion) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for QemuVersion {
    type Error = ShapeError;

    fn try_from(text: String) -> Result<Self, ShapeError> {
        text.parse()
    }
}

impl FromStr for QemuVersion {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        let mut numbers = text.split('.').map(|n| {
            let digits = n.len() <= 4 && n.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| n.parse::<u16>().ok()).flatten()
        });
        let version = match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(micro)), None) => {
                Some(Self { major, minor, micro })
            }
            _ => None,
        };
        version.filter(|v| v.to_string() == text).ok_or_else(|| ShapeError::Value {
            field: "qemu",
            got: format!("{:?}", text.chars().take(32).collect::<String>()),
            expected: "MAJOR.MINOR.MICRO".to_owned(),
        })
    }
}

impl Capture {
    /// A capture of `shape`, fresh from QEMU.
    #[must_use]
    pub fn of(shape: &Shape, qemu: QemuVersion, blobs: Blobs) -> Self {
        Self { shape: shape.name.clone(), qemu, fingerprint: shape.fingerprint(), blobs }
    }

    /// Reads a capture of `shape` from untrusted bytes.
    ///
    /// # Errors
    /// [`ShapeError`]: malformed, a blob that is not what its digest says, or a capture of another
    /// shape.
    pub fn parse(bytes: &[u8], shape: &Shape) -> Result<Self, ShapeError> {
        if bytes.len() > MAX_CAPTURE_BYTES {
            let (what, got) = ("capture", bytes.len());
            return Err(ShapeError::TooLarge { what, got, max: MAX_CAPTURE_BYTES });
        }
        let malformed = |reason: String| ShapeError::Malformed { what: "capture", reason };
        let text = std::str::from_utf8(bytes).map_err(|e| malformed(format!("not UTF-8: {e}")))?;
        let file: File = toml::from_str(text).map_err(|e| malformed(e.message().to_owned()))?;
        if file.version != CAPTURE_VERSION {
            return Err(ShapeError::UnsupportedVersion { what: "capture", got: file.version });
        }
        let expected = shape.fingerprint();
        if file.fingerprint != expected || file.shape != shape.name {
            return Err(ShapeError::CaptureOf { expected, got: file.fingerprint });
        }
        let blobs = Blobs {
            table_loader: file.table_loader.open(BlobKind::TableLoader)?,
            rsdp: file.rsdp.open(BlobKind::Rsdp)?,
            tables: file.tables.open(BlobKind::Tables)?,
            smbios: file.smbios.open(BlobKind::Smbios)?,
        };
        let qemu = file.qemu.parse()?;
        Ok(Self { shape: file.shape, qemu, fingerprint: file.fingerprint, blobs })
    }

    /// The file, canonically: [`Self::parse`] reads the same back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let file = File {
            version: CAPTURE_VERSION,
            shape: self.shape.clone(),
            qemu: self.qemu.to_string(),
            fingerprint: self.fingerprint.clone(),
            table_loader: Stored::of(&self.blobs.table_loader),
            rsdp: Stored::of(&self.blobs.rsdp),
            tables: Stored::of(&self.blobs.tables),
            smbios: Stored::of(&self.blobs.smbios),
        };
        let body = toml::to_string(&file).unwrap_or_default();
        format!("{HEADER}{body}")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    shape: String,
    qemu: String,
    fingerprint: String,
    table_loader: Stored,
    rsdp: Stored,
    tables: Stored,
    smbios: Stored,
}

/// A blob in a file: trailing zeros are cut, `size` says how many to put back.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    size: usize,
    sha384: String,
    data: String,
}

impl Stored {
    fn of(blob: &Blob) -> Self {
        let used = blob.bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let data = STANDARD.encode(blob.bytes.get(..used).unwrap_or_default());
        Self { size: blob.bytes.len(), sha384: blob.sha384(), data }
    }

    fn open(self, kind: BlobKind) -> Result<Blob, ShapeError> {
        let max = kind.size().unwrap_or(MAX_SMBIOS_BYTES);
        let wrong = |got| ShapeError::BlobSize { blob: kind, got, expected: max };
        if self.size > max {
            return Err(wrong(self.size));
        }
        let mut bytes = STANDARD.decode(&self.data).map_err(|e| ShapeError::Malformed {
            what: "capture",
            reason: format!("{kind}: {e}"),
        })?;
        if bytes.len() > self.size {
            return Err(wrong(bytes.len()));
        }
        bytes.resize(self.size, 0);
        let blob = Blob::new(kind, bytes)?;
        let got = blob.sha384();
        if got != self.sha384 {
            return Err(ShapeError::BlobDigest { blob: kind, expected: self.sha384, got });
        }
        Ok(blob)
    }
}

/// Size of `etc/table-loader`.
pub const TABLE_LOADER_BYTES: usize = 4096;

/// Size of `etc/acpi/rsdp`.
pub const RSDP_BYTES: usize = 20;

/// Size of `etc/acpi/tables`.
pub const TABLES_BYTES: usize = 131_072;

/// Largest SMBIOS table: its entry point counts in 16 bits.
pub const MAX_SMBIOS_BYTES: usize = 65_535;

/// Largest capture file, in bytes; twice what incompressible blobs would take in base64.
pub const MAX_CAPTURE_BYTES: usize = 512 * 1024;

const CAPTURE_VERSION: u32 = 1;

const HEADER: &str = "# Written by `chrysalis shape capture`. Trailing zeros of `data` are cut; \
                      `size` and `sha384` are of the whole blob.\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::menu::Menu;

    fn sample() -> (Shape, Capture) {
        let menu = Menu::published().unwrap();
        let shape = menu.shape("cpu-2").unwrap().clone();
        let blob = |kind: BlobKind, len| Blob::new(kind, [vec![7; 5], vec![0; len - 5]].concat());
        let blobs = Blobs {
            table_loader: blob(BlobKind::TableLoader, TABLE_LOADER_BYTES).unwrap(),
            rsdp: blob(BlobKind::Rsdp, RSDP_BYTES).unwrap(),
            tables: blob(BlobKind::Tables, TABLES_BYTES).unwrap(),
            smbios: blob(BlobKind::Smbios, 300).unwrap(),
        };
        let capture = Capture::of(&shape, "11.1.3".parse().unwrap(), blobs);
        (shape, capture)
    }

    #[test]
    fn a_capture_survives_its_file_and_the_file_is_small() {
        let (shape, capture) = sample();
        let text = capture.to_toml();
        assert!(text.len() < 2048, "{} bytes", text.len());
        assert_eq!(Capture::parse(text.as_bytes(), &shape).unwrap(), capture);
    }

    #[test]
    fn refuses_a_capture_with_one_flipped_byte_naming_the_blob() {
        let (shape, capture) = sample();
        let text = capture.to_toml();
        for (kind, section) in
            BlobKind::ALL.iter().zip(["table_loader", "rsdp", "tables", "smbios"])
        {
            let at = text.find(&format!("[{section}]")).unwrap();
            let flipped = text[at..].replacen("data = \"Bw", "data = \"Bg", 1);
            let refused = Capture::parse((text[..at].to_owned() + &flipped).as_bytes(), &shape);
            assert!(
                matches!(&refused, Err(ShapeError::BlobDigest { blob, .. }) if blob == kind),
                "{section}: {refused:?}"
            );
        }
    }

    #[test]
    fn refuses_blobs_one_byte_off_their_size() {
        for kind in BlobKind::ALL {
            let size = kind.size().unwrap_or(MAX_SMBIOS_BYTES);
            assert!(Blob::new(kind, vec![1; size]).is_ok());
            assert_eq!(
                Blob::new(kind, vec![1; size + 1]),
                Err(ShapeError::BlobSize { blob: kind, got: size + 1, expected: size })
            );
        }
        assert!(Blob::new(BlobKind::Rsdp, vec![1; RSDP_BYTES - 1]).is_err());
        assert!(Blob::new(BlobKind::Smbios, vec![]).is_err());
    }

    #[test]
    fn refuses_a_stored_size_that_is_not_the_blobs() {
        let (shape, capture) = sample();
        for (from, to) in [
            ("size = 4096", "size = 4097"),
            ("size = 4096", "size = 4"),
            ("size = 131072", "size = 262144"),
        ] {
            let text = capture.to_toml().replacen(from, to, 1);
            let refused = Capture::parse(text.as_bytes(), &shape);
            assert!(matches!(refused, Err(ShapeError::BlobSize { .. })), "{to}: {refused:?}");
        }
    }

    #[test]
    fn refuses_a_capture_of_another_shape() {
        let (shape, capture) = sample();
        let other =
            Shape { machine: crate::Machine { vcpus: 3, ..shape.machine.clone() }, ..shape };
        let refused = Capture::parse(capture.to_toml().as_bytes(), &other);
        assert!(matches!(refused, Err(ShapeError::CaptureOf { .. })));
        let renamed = Shape { name: "cpu-3".to_owned(), ..sample().0 };
        let refused = Capture::parse(capture.to_toml().as_bytes(), &renamed);
        assert!(matches!(refused, Err(ShapeError::CaptureOf { .. })));
    }

    #[test]
    fn refuses_malformed_captures() {
        let (shape, capture) = sample();
        let text = capture.to_toml();
        let parse = |from: &str, to: &str| {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "the case changes nothing");
            Capture::parse(changed.as_bytes(), &shape).unwrap_err()
        };
        assert!(matches!(parse("[rsdp]", "[rsdq]"), ShapeError::Malformed { .. }));
        assert!(matches!(parse("data = \"Bw", "data = \"!w"), ShapeError::Malformed { .. }));
        assert_eq!(parse("version = 1", "version = 2").code(), "E-SHAPE-VERSION");
        assert_eq!(parse("11.1.3", "11.1").code(), "E-SHAPE-VALUE");
        let mut bytes = text.into_bytes();
        bytes.resize(MAX_CAPTURE_BYTES, b'\n');
        assert!(Capture::parse(&bytes, &shape).is_ok());
        bytes.push(b'\n');
        assert!(matches!(Capture::parse(&bytes, &shape), Err(ShapeError::TooLarge { .. })));
    }

    #[test]
    fn refuses_versions_with_more_than_numbers() {
        for bad in ["", "11", "11.1", "11.1.3.4", "11.1.3+ds", "11.01.3", "+1.1.1", "99999.1.1"] {
            assert!(bad.parse::<QemuVersion>().is_err(), "accepted {bad}");
        }
        let new: QemuVersion = "11.1.3".parse().unwrap();
        assert!(new > QemuVersion::FIRST_WITH_TDX);
        assert!("10.0.9".parse::<QemuVersion>().unwrap() < QemuVersion::FIRST_WITH_TDX);
    }
}
