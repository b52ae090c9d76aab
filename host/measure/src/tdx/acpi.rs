//! The three ACPI blobs QEMU hands to the firmware, as measured: raw, before the firmware links
//! and patches them. The code inside is the host's and the guest's kernel runs it, so their
//! digests come from a catalogue of shapes and from nowhere else.

use serde::{Deserialize, Serialize};

use super::bytes::{array, bounded, size_at, slice, u32_at, u64_at};
use super::digest::Sha384Digest;
use super::error::TdxError;

/// The ACPI blobs of one shape under one QEMU version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpiBlobs {
    loader: Vec<u8>,
    rsdp: Vec<u8>,
    tables: Vec<u8>,
    facts: AcpiFacts,
}

/// What can be read from the tables; names the cause when their digest differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcpiFacts {
    /// Enabled processors in the MADT.
    pub processors: u32,
    /// The 64-bit PCI window of the first host bridge: first and last address.
    pub mmio64: Option<[u64; 2]>,
    /// Digest of the tables with every 64-bit window zeroed.
    pub without_windows: Sha384Digest,
}

impl AcpiBlobs {
    /// Checks the three fw_cfg files `etc/table-loader`, `etc/acpi/rsdp` and `etc/acpi/tables`,
    /// with the zero padding QEMU gives them.
    ///
    /// # Errors
    /// [`TdxError`] for sizes QEMU does not produce and tables that cannot be walked.
    pub fn new(loader: Vec<u8>, rsdp: Vec<u8>, tables: Vec<u8>) -> Result<Self, TdxError> {
        bounded("ACPI table-loader", &loader, MAX_LOADER_BYTES)?;
        bounded("ACPI rsdp", &rsdp, RSDP_SIZES[1])?;
        bounded("ACPI tables", &tables, MAX_TABLES_BYTES)?;
        let malformed = |what, reason| Err(TdxError::Malformed { what, at: 0, reason });
        if !loader.len().is_multiple_of(BLOB_UNIT) {
            return malformed("ACPI table-loader", "it lacks the zero padding QEMU measures");
        }
        if !tables.len().is_multiple_of(BLOB_UNIT) {
            return malformed("ACPI tables", "they lack the zero padding QEMU measures");
        }
        if !RSDP_SIZES.contains(&rsdp.len()) || !rsdp.starts_with(b"RSD PTR ") {
            return malformed("ACPI rsdp", "it is no root pointer");
        }
        let facts = facts(&tables)?;
        Ok(Self { loader, rsdp, tables, facts })
    }

    /// Digests in the order they are measured: loader, rsdp, tables.
    #[must_use]
    pub fn digests(&self) -> [Sha384Digest; 3] {
        [&self.loader, &self.rsdp, &self.tables].map(|b| Sha384Digest::of(b))
    }

    /// What the tables say.
    #[must_use]
    pub const fn facts(&self) -> &AcpiFacts {
        &self.facts
    }
}

fn facts(blob: &[u8]) -> Result<AcpiFacts, TdxError> {
    let mut masked = blob.to_vec();
    let mut processors = None;
    let mut mmio64 = None;
    let mut at = 0usize;
    for _ in 0..MAX_TABLES {
        let rest = blob.get(at..).unwrap_or_default();
        if rest.len() < TABLE_HEADER || rest.starts_with(&[0; 4]) {
            let processors = processors.ok_or(TdxError::Malformed {
                what: "ACPI tables",
                at,
                reason: "there is no MADT",
            })?;
            let without_windows = Sha384Digest::of(&masked);
            return Ok(AcpiFacts { processors, mmio64, without_windows });
        }
        let length = size_at("ACPI table", rest, 4)?;
        let malformed = |reason| TdxError::Malformed { what: "ACPI table", at, reason };
        if length < TABLE_HEADER {
            return Err(malformed("it is shorter than its header"));
        }
        let table = slice("ACPI table", rest, 0, length)?;
        match &array::<4>("ACPI table", table, 0)? {
            b"APIC" if processors.is_some() => return Err(malformed("a second MADT")),
            b"APIC" => processors = Some(enabled_processors(table)?),
            b"DSDT" | b"SSDT" => {
                for offset in windows(table) {
                    let first = u64_at("PCI window", table, offset.saturating_add(14))?;
                    let last = u64_at("PCI window", table, offset.saturating_add(22))?;
                    mmio64.get_or_insert([first, last]);
                    mask(&mut masked, at.saturating_add(offset));
                }
            }
            _ => {}
        }
        at = at.saturating_add(length);
    }
    Err(TdxError::TooLarge {
        what: "ACPI tables in the blob",
        limit: MAX_TABLES,
        got: MAX_TABLES.saturating_add(1),
    })
}

/// Local APIC and x2APIC entries that are enabled (ACPI 6.5, 5.2.12).
fn enabled_processors(madt: &[u8]) -> Result<u32, TdxError> {
    const WHAT: &str = "MADT entry";
    let mut at = MADT_ENTRIES_AT;
    let mut count = 0u32;
    while at < madt.len() {
        let [kind, length] = array::<2>(WHAT, madt, at)?;
        let entry = slice(WHAT, madt, at, usize::from(length))?;
        let enabled = match (kind, length) {
            (0, 8) => u32_at(WHAT, entry, 4)? & 1,
            (9, 16) => u32_at(WHAT, entry, 8)? & 1,
            (_, 0..=1) | (0 | 9, _) => {
                return Err(TdxError::Malformed { what: WHAT, at, reason: "its length is wrong" });
            }
            _ => 0,
        };
        count = count.saturating_add(enabled);
        at = at.saturating_add(usize::from(length));
    }
    Ok(count)
}

/// Offsets of 64-bit memory windows: QWord address space descriptors (ACPI 6.5, 6.4.3.5.1) of
/// resource type memory. A pattern search: it only decides how a difference is *named*.
fn windows(table: &[u8]) -> Vec<usize> {
    let of_memory = |w: &[u8]| w.starts_with(&[0x8a, 0x2b, 0x00, 0x00]);
    table
        .windows(WINDOW_BYTES)
        .enumerate()
        .filter_map(|(at, w)| of_memory(w).then_some(at))
        .collect()
}

/// Zeroes granularity, first, last, translation and length.
fn mask(blob: &mut [u8], at: usize) {
    let fields = at.saturating_add(6)..at.saturating_add(WINDOW_BYTES);
    if let Some(fields) = blob.get_mut(fields) {
        fields.fill(0);
    }
}

/// Largest `etc/table-loader`, in bytes; QEMU's has 4096 for the shapes seen.
pub const MAX_LOADER_BYTES: usize = 64 << 10;

/// Largest `etc/acpi/tables`, in bytes; QEMU's has 128 KiB for the shapes seen.
pub const MAX_TABLES_BYTES: usize = 2 << 20;

/// Most tables in the blob.
pub const MAX_TABLES: usize = 64;

/// QEMU pads both blobs to multiples of this, in bytes.
const BLOB_UNIT: usize = 4096;
/// ACPI 1.0 and 2.0 root pointers.
const RSDP_SIZES: [usize; 2] = [20, 36];
/// Signature and length; FACS has no more of the usual header.
const TABLE_HEADER: usize = 8;
const MADT_ENTRIES_AT: usize = 44;
/// Tag, length, and 43 bytes.
const WINDOW_BYTES: usize = 46;
