//! The SMBIOS table as firmware measures it: with serial numbers and other values of one machine
//! blanked (edk2 `SmbiosMeasurementDxe`). What stays includes memory sizes and, unless the shape
//! overrides it, the stepping of the host's processor.

use super::bytes::{array, bounded, slice, u64_at};
use super::digest::Sha384Digest;
use super::error::TdxError;

/// The table the guest sees, structure by structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmbiosTable {
    structures: Vec<Structure>,
}

/// One structure, strings included.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Structure {
    kind: u8,
    /// Bytes before the strings.
    formatted: usize,
    bytes: Vec<u8>,
}

/// How the firmware names itself in the type 0 structure, which it adds to QEMU's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BiosIdentity {
    /// `PcdFirmwareVendor`.
    pub vendor: String,
    /// `PcdFirmwareVersionString`.
    pub version: String,
    /// Build date, `MM/DD/YYYY`.
    pub date: String,
}

impl BiosIdentity {
    /// The name of a firmware file we know, by its MRTD: the strings are inside a compressed
    /// volume, so they are written down here.
    #[must_use]
    pub fn of_firmware(mrtd: &Sha384Digest) -> Option<Self> {
        let known = KNOWN_FIRMWARE.iter().find(|(value, _)| mrtd.to_string() == *value)?;
        Some(known.1.map(str::to_owned).into())
    }
}

impl From<[String; 3]> for BiosIdentity {
    /// Vendor, version and date.
    fn from([vendor, version, date]: [String; 3]) -> Self {
        Self { vendor, version, date }
    }
}

impl SmbiosTable {
    /// Reads a whole table, through its end-of-table structure.
    ///
    /// # Errors
    /// [`TdxError`] for a table that does not end where it says, or is over its limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, TdxError> {
        bounded(WHAT, bytes, MAX_SMBIOS_BYTES)?;
        let mut structures = Vec::new();
        let mut at = 0usize;
        loop {
            if structures.len() >= MAX_STRUCTURES {
                let (limit, got) = (MAX_STRUCTURES, structures.len().saturating_add(1));
                return Err(TdxError::TooLarge { what: "SMBIOS structures", limit, got });
            }
            let structure = Structure::parse(bytes, at)?;
            at = at.saturating_add(structure.bytes.len());
            let last = structure.kind == END_OF_TABLE;
            structures.push(structure);
            if last {
                break;
            }
        }
        if at != bytes.len() {
            let reason = "bytes follow the end-of-table structure";
            return Err(TdxError::Malformed { what: WHAT, at, reason });
        }
        Ok(Self { structures })
    }

    /// The table after the firmware added its type 0 structure to what QEMU gave it in
    /// `etc/smbios/smbios-tables`, with the handles `SmbiosDxe` assigns.
    ///
    /// # Errors
    /// [`TdxError::Malformed`] where the table has a type 0 structure already, or where a name
    /// cannot be a string of it.
    pub fn with_bios(mut self, bios: &BiosIdentity) -> Result<Self, TdxError> {
        if self.structures.iter().any(|s| s.kind == BIOS) {
            let reason = "QEMU was told to write the BIOS structure itself";
            return Err(TdxError::Malformed { what: WHAT, at: 0, reason });
        }
        let mut bytes = TYPE_0.to_vec();
        for text in [&bios.vendor, &bios.version, &bios.date] {
            let spelled = text.bytes().all(|b| (0x20..0x7f).contains(&b));
            if text.is_empty() || text.len() > MAX_STRING_BYTES || !spelled {
                let reason = "a name of the firmware is empty, long or not printable";
                return Err(TdxError::Malformed { what: WHAT, at: 0, reason });
            }
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        bytes.push(0);
        if let Some(end) = self.structures.last_mut() {
            end.bytes = vec![END_OF_TABLE, 4, 0xff, 0xfe, 0, 0];
        }
        let before_end = self.structures.len().saturating_sub(1);
        let added = Structure { kind: BIOS, formatted: TYPE_0.len(), bytes };
        self.structures.insert(before_end, added);
        Ok(self)
    }

    /// The bytes as the guest sees them.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.structures.iter().flat_map(|s| s.bytes.iter().copied()).collect()
    }

    /// The bytes as they are measured.
    ///
    /// # Errors
    /// [`TdxError::Malformed`] for a field that names a string which is not there.
    pub fn filtered(&self) -> Result<Vec<u8>, TdxError> {
        let mut out = Vec::new();
        let mut at = 0usize;
        for structure in &self.structures {
            out.append(&mut structure.filtered(at)?);
            at = at.saturating_add(structure.bytes.len());
        }
        Ok(out)
    }

    /// [`Self::filtered`] with the processor id zeroed: tells whether it alone differs.
    ///
    /// # Errors
    /// As [`Self::filtered`].
    pub fn filtered_without_processor_id(&self) -> Result<Vec<u8>, TdxError> {
        let mut copy = self.clone();
        for structure in &mut copy.structures {
            if structure.kind == PROCESSOR
                && let Some(id) = structure.bytes.get_mut(PROCESSOR_ID_AT..PROCESSOR_ID_END)
            {
                id.fill(0);
            }
        }
        copy.filtered()
    }

    /// Processor id of the first processor: CPUID leaf 1 of the host, unless overridden.
    #[must_use]
    pub fn processor_id(&self) -> Option<u64> {
        let processor = self.structures.iter().find(|s| s.kind == PROCESSOR)?;
        u64_at(WHAT, &processor.bytes, PROCESSOR_ID_AT).ok()
    }

    /// Product version of the system: QEMU's machine type.
    #[must_use]
    pub fn machine(&self) -> Option<String> {
        let system = self.structures.iter().find(|s| s.kind == SYSTEM)?;
        let index = system.bytes.get(6).copied()?;
        let range = system.string(index)?;
        let text = system.bytes.get(range)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

impl Structure {
    fn parse(table: &[u8], at: usize) -> Result<Self, TdxError> {
        let [kind, length] = array::<2>(WHAT, table, at)?;
        let formatted = usize::from(length);
        if formatted < HEADER_BYTES {
            let reason = "a structure is shorter than its header";
            return Err(TdxError::Malformed { what: WHAT, at, reason });
        }
        slice(WHAT, table, at, formatted)?;
        let strings = at.saturating_add(formatted);
        let rest = table.get(strings..).unwrap_or_default();
        let end = rest.windows(2).position(|w| w == [0, 0]).ok_or(TdxError::Truncated {
            what: "SMBIOS strings",
            at: strings,
            needed: 2,
            size: table.len(),
        })?;
        let size = formatted.saturating_add(end).saturating_add(2);
        Ok(Self { kind, formatted, bytes: slice(WHAT, table, at, size)?.to_vec() })
    }

    fn filtered(&self, at: usize) -> Result<Vec<u8>, TdxError> {
        let mut out = self.bytes.clone();
        if is_blanked(self.kind) {
            if let Some(body) = out.get_mut(HEADER_BYTES..) {
                body.fill(0);
            }
            return Ok(out);
        }
        for field in FILTER.iter().filter(|f| f.kind == self.kind) {
            let end = field.offset.saturating_add(field.size);
            if end > self.formatted {
                // An older structure does not have the field.
                continue;
            }
            if field.string {
                self.blank_string(&mut out, field.offset, at)?;
            }
            if let Some(bytes) = out.get_mut(field.offset..end) {
                bytes.fill(0);
            }
        }
        Ok(out)
    }

    fn blank_string(&self, out: &mut [u8], offset: usize, at: usize) -> Result<(), TdxError> {
        let index = self.bytes.get(offset).copied().unwrap_or(0);
        if index == 0 {
            return Ok(());
        }
        let range = self.string(index).ok_or(TdxError::Malformed {
            what: WHAT,
            at,
            reason: "a field names a string that is not there",
        })?;
        if let Some(text) = out.get_mut(range) {
            text.fill(b' ');
        }
        Ok(())
    }

    /// Where string number `index`, counted from 1, stands.
    fn string(&self, index: u8) -> Option<core::ops::Range<usize>> {
        let mut start = self.formatted;
        for number in 1..=index {
            let rest = self.bytes.get(start..)?;
            let length = rest.iter().position(|b| *b == 0)?;
            if length == 0 {
                return None;
            }
            let end = start.checked_add(length)?;
            if number == index {
                return Some(start..end);
            }
            start = end.checked_add(1)?;
        }
        None
    }
}

/// Types of which nothing but the header is measured.
const fn is_blanked(kind: u8) -> bool {
    matches!(kind, 0x0b | 0x0f | 0x12 | 0x1f | 0x21 | 0x80..)
}

/// A field that is blanked before measuring.
struct Field {
    kind: u8,
    offset: usize,
    size: usize,
    string: bool,
}

const fn text(kind: u8, offset: usize) -> Field {
    Field { kind, offset, size: 1, string: true }
}

const fn number(kind: u8, offset: usize, size: usize) -> Field {
    Field { kind, offset, size, string: false }
}

/// Offsets are those of the SMBIOS 3 specification.
const FILTER: &[Field] = &[
    // System: serial number, UUID, wake-up type.
    text(0x01, 0x07),
    number(0x01, 0x08, 16),
    number(0x01, 0x18, 1),
    // Baseboard: serial number, location in chassis.
    text(0x02, 0x07),
    text(0x02, 0x0a),
    // Chassis: serial number, asset tag.
    text(0x03, 0x07),
    text(0x03, 0x08),
    // Processor: serial number, asset tag, part number; core, enabled core and thread counts;
    // voltage, current speed.
    text(0x04, 0x20),
    text(0x04, 0x21),
    text(0x04, 0x22),
    number(0x04, 0x23, 1),
    number(0x04, 0x24, 1),
    number(0x04, 0x25, 1),
    number(0x04, 0x2a, 2),
    number(0x04, 0x2c, 2),
    number(0x04, 0x2e, 2),
    number(0x04, 0x11, 1),
    number(0x04, 0x16, 2),
    // Memory device: serial number, asset tag, part number.
    text(0x11, 0x18),
    text(0x11, 0x19),
    text(0x11, 0x1a),
    // Portable battery: serial number, SBDS serial number and manufacture date.
    text(0x16, 0x07),
    number(0x16, 0x10, 2),
    number(0x16, 0x12, 2),
    // System reset: reset count.
    number(0x17, 0x05, 2),
    // Cooling device: nominal speed.
    number(0x1b, 0x0c, 2),
    // Power supply: serial number, asset tag, part number.
    text(0x27, 0x08),
    text(0x27, 0x09),
    text(0x27, 0x0a),
];

/// Largest table, in bytes: the 32-bit entry point could not name a larger one.
pub const MAX_SMBIOS_BYTES: usize = 64 << 10;

/// Most structures: one for each vCPU socket and memory device of the largest shape, and more.
pub const MAX_STRUCTURES: usize = 1024;

/// Longest string of the type 0 structure, in bytes.
const MAX_STRING_BYTES: usize = 64;

const WHAT: &str = "SMBIOS table";
const HEADER_BYTES: usize = 4;
const BIOS: u8 = 0;
const SYSTEM: u8 = 1;
const PROCESSOR: u8 = 4;
const END_OF_TABLE: u8 = 127;
const PROCESSOR_ID_AT: usize = 8;
const PROCESSOR_ID_END: usize = 16;

/// The type 0 structure of OVMF's `SmbiosPlatformDxe`: strings 1 to 3, segment 0xe800,
/// "characteristics not supported", and the two extension bytes.
const TYPE_0: [u8; 26] = [
    0, 26, 0, 0, 1, 2, 0x00, 0xe8, 3, 0, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0x1c, 0, 0, 0xff, 0xff, 0, 0,
];

/// MRTD (single pass) and the names the firmware puts into SMBIOS.
const KNOWN_FIRMWARE: [(&str, [&str; 3]); 1] = [(
    "a7a1f751abc454f9cbab198ca8d2edb2821935df525c74182b5e776cb0929e8c59aefecce725b0d08a5e9d3d3183bd08",
    ["Debian distribution of EDK II", "2026.08+ds-2", "09/26/2026"],
)];
