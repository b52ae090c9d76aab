//! The configuration disk of a VM (`CHRYCFG1`): the worker manifest, the collateral and, for a worker
//! that serves only some clients, their pins, in one tiny container, so that the guest needs no file
//! system. The host writes it and is the attacker: every length is bounded before it is believed, and
//! the same files have one spelling.
//!
//! ```text
//! 8       magic "CHRYCFG1"
//! u32     number of entries, 2 or 3                                   little-endian, as below
//! entry   u8 kind | u32 length, at least 1 | that many bytes          kinds 1, 2 and 3, in this order
//! ...     zeros up to a multiple of 512 bytes, fewer than 512 of them
//! ```
//!
//! Kind 1 is the worker manifest, measured into RTMR3 before anything reads it. Kind 2 is the
//! collateral, which is signed and only ever makes the worker refuse. Kind 3 is the pins of clients,
//! which count only if the manifest names their digest.

use thiserror::Error;

use crate::codec::{Decoder, WireError};
use crate::limits::{MAX_COLLATERAL_BYTES, MAX_MANIFEST_BYTES, MAX_PEER_PINS_BYTES};

/// What the configuration disk holds, all parts as the bytes they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDisk {
    manifest: Vec<u8>,
    collateral: Vec<u8>,
    peer_pins: Option<Vec<u8>>,
}

/// Why a configuration disk was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigDiskError {
    /// Larger than [`MAX_CONFIG_DISK_BYTES`].
    #[error("configuration disk is {got} bytes; the limit is {MAX_CONFIG_DISK_BYTES}")]
    TooLarge {
        /// Size found, or the limit and one more where the rest was not read.
        got: usize,
    },
    /// The disk ends early, or a part is longer than its limit.
    #[error(transparent)]
    Encoding(#[from] WireError),
    /// The disk does not begin with [`CONFIG_DISK_MAGIC`].
    #[error(
        "configuration disk does not begin with CHRYCFG1; attach the disk `chrysalis up` wrote"
    )]
    Magic,
    /// Fewer entries than there must be, or more than there are kinds.
    #[error(
        "configuration disk lists {got} entries; it must list {CONFIG_DISK_ENTRIES}, or one more"
    )]
    Count {
        /// Count found.
        got: u32,
    },
    /// An entry of another kind than the one that must stand here: unknown, twice or out of order.
    #[error("configuration disk has an entry of kind {got} where kind {expected} must stand")]
    Kind {
        /// Kind that must stand here.
        expected: u8,
        /// Kind found.
        got: u8,
    },
    /// An entry without bytes.
    #[error("configuration disk holds an empty {what}")]
    Empty {
        /// Name of the entry.
        what: &'static str,
    },
    /// Something other than zeros follows the last entry.
    #[error("configuration disk has bytes that are not zero after its last entry")]
    TrailerNotZero,
    /// Not the shortest disk of whole sectors.
    #[error("configuration disk is {got} bytes; its content makes exactly {expected}")]
    Length {
        /// Bytes of the only spelling.
        expected: usize,
        /// Bytes found.
        got: usize,
    },
}

impl ConfigDiskError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-CONFIG-SIZE",
            Self::Encoding(_) => "E-CONFIG-ENCODING",
            Self::Magic => "E-CONFIG-MAGIC",
            Self::Count { .. } => "E-CONFIG-COUNT",
            Self::Kind { .. } => "E-CONFIG-KIND",
            Self::Empty { .. } => "E-CONFIG-EMPTY",
            Self::TrailerNotZero => "E-CONFIG-TRAILER",
            Self::Length { .. } => "E-CONFIG-LENGTH",
        }
    }
}

impl ConfigDisk {
    /// A disk with these parts.
    ///
    /// # Errors
    /// [`ConfigDiskError::Empty`], or [`WireError::TooLarge`] for a part over its limit.
    pub fn new(manifest: Vec<u8>, collateral: Vec<u8>) -> Result<Self, ConfigDiskError> {
        bounded(MANIFEST, manifest.len(), MAX_MANIFEST_BYTES)?;
        bounded(COLLATERAL, collateral.len(), MAX_COLLATERAL_BYTES)?;
        Ok(Self { manifest, collateral, peer_pins: None })
    }

    /// The same disk with the pins of the worker's clients.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_peer_pins(self, pins: Vec<u8>) -> Result<Self, ConfigDiskError> {
        bounded(PEER_PINS, pins.len(), MAX_PEER_PINS_BYTES)?;
        Ok(Self { peer_pins: Some(pins), ..self })
    }

    /// Reads a whole disk.
    ///
    /// # Errors
    /// [`ConfigDiskError`] for everything but the one spelling [`Self::encode`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigDiskError> {
        if bytes.len() > MAX_CONFIG_DISK_BYTES {
            return Err(ConfigDiskError::TooLarge { got: bytes.len() });
        }
        let mut input = Decoder::new(bytes);
        if input.take("magic", CONFIG_DISK_MAGIC.len())? != CONFIG_DISK_MAGIC {
            return Err(ConfigDiskError::Magic);
        }
        let count = u32::from_le_bytes(input.array("number of entries")?);
        let with_pins = count == CONFIG_DISK_ENTRIES.saturating_add(1);
        if count != CONFIG_DISK_ENTRIES && !with_pins {
            return Err(ConfigDiskError::Count { got: count });
        }
        let manifest = entry(&mut input, KIND_MANIFEST, MANIFEST, MAX_MANIFEST_BYTES)?.to_vec();
        let collateral =
            entry(&mut input, KIND_COLLATERAL, COLLATERAL, MAX_COLLATERAL_BYTES)?.to_vec();
        let peer_pins = if with_pins {
            Some(entry(&mut input, KIND_PEER_PINS, PEER_PINS, MAX_PEER_PINS_BYTES)?.to_vec())
        } else {
            None
        };
        if input.remaining().iter().any(|byte| *byte != 0) {
            return Err(ConfigDiskError::TrailerNotZero);
        }
        let expected = bytes.len().saturating_sub(input.remaining().len());
        let expected = expected.next_multiple_of(SECTOR_BYTES);
        if bytes.len() != expected {
            return Err(ConfigDiskError::Length { expected, got: bytes.len() });
        }
        Ok(Self { manifest, collateral, peer_pins })
    }

    /// The bytes of the disk: whole sectors.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = CONFIG_DISK_MAGIC.to_vec();
        let always = [(KIND_MANIFEST, &self.manifest), (KIND_COLLATERAL, &self.collateral)];
        let pins = self.peer_pins.as_ref().map(|pins| (KIND_PEER_PINS, pins));
        let entries = CONFIG_DISK_ENTRIES.saturating_add(pins.is_some().into());
        out.extend_from_slice(&entries.to_le_bytes());
        for (kind, part) in always.into_iter().chain(pins) {
            out.push(kind);
            // Bounded by `new` and `parse`, far below 4 GiB.
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(part);
        }
        out.resize(out.len().next_multiple_of(SECTOR_BYTES), 0);
        out
    }

    /// The worker manifest: hostile until it is measured, and then what it is.
    #[must_use]
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// The collateral: hostile, and authenticated by its own signatures.
    #[must_use]
    pub fn collateral(&self) -> &[u8] {
        &self.collateral
    }

    /// The pins of clients, if there are any: hostile until their digest is the manifest's.
    #[must_use]
    pub fn peer_pins(&self) -> Option<&[u8]> {
        self.peer_pins.as_deref()
    }
}

fn entry<'a>(
    input: &mut Decoder<'a>,
    kind: u8,
    what: &'static str,
    limit: usize,
) -> Result<&'a [u8], ConfigDiskError> {
    let got = input.u8(what)?;
    if got != kind {
        return Err(ConfigDiskError::Kind { expected: kind, got });
    }
    let len = u32::from_le_bytes(input.array(what)?);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    bounded(what, len, limit)?;
    Ok(input.take(what, len)?)
}

const fn bounded(what: &'static str, got: usize, limit: usize) -> Result<(), ConfigDiskError> {
    if got == 0 {
        return Err(ConfigDiskError::Empty { what });
    }
    if got > limit {
        return Err(ConfigDiskError::Encoding(WireError::TooLarge { what, limit, got }));
    }
    Ok(())
}

/// First bytes of a configuration disk.
pub const CONFIG_DISK_MAGIC: &[u8; 8] = b"CHRYCFG1";

/// Entries of every configuration disk; the pins of clients are one more.
pub const CONFIG_DISK_ENTRIES: u32 = 2;

/// Serial number of the virtio-blk device that carries the configuration disk.
pub const CONFIG_DISK_SERIAL: &str = "chrysalis-config";

/// Serial number of the virtio-blk device that carries the model bundle, bytes as they are.
pub const MODEL_DISK_SERIAL: &str = "chrysalis-model";

/// Serial number of the virtio-blk device that carries the root of an image that has one.
pub const ROOT_DISK_SERIAL: &str = "chrysalis-root";

/// Largest configuration disk, in bytes: all parts at their limits, framed, in whole sectors.
pub const MAX_CONFIG_DISK_BYTES: usize =
    (27 + MAX_MANIFEST_BYTES + MAX_COLLATERAL_BYTES + MAX_PEER_PINS_BYTES)
        .next_multiple_of(SECTOR_BYTES);

/// Bytes of a sector of a virtio-blk device.
pub const SECTOR_BYTES: usize = 512;

const KIND_MANIFEST: u8 = 1;
const KIND_COLLATERAL: u8 = 2;
const KIND_PEER_PINS: u8 = 3;
const MANIFEST: &str = "worker manifest";
const COLLATERAL: &str = "collateral";
const PEER_PINS: &str = "pins of clients";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn disk() -> Vec<u8> {
        ConfigDisk::new(b"version = 1\n".to_vec(), b"{}".to_vec()).unwrap().encode()
    }

    /// `disk()` with one change.
    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<ConfigDisk, ConfigDiskError> {
        let mut bytes = disk();
        change(&mut bytes);
        assert_ne!(bytes, disk(), "the case changes nothing");
        ConfigDisk::parse(&bytes)
    }

    #[test]
    fn writes_the_documented_layout() {
        let bytes = disk();
        assert_eq!(bytes.len(), SECTOR_BYTES);
        assert_eq!(&bytes[..12], b"CHRYCFG1\x02\0\0\0");
        assert_eq!(&bytes[12..29], b"\x01\x0c\0\0\0version = 1\n");
        assert_eq!(&bytes[29..36], b"\x02\x02\0\0\0{}");
        assert!(bytes[36..].iter().all(|b| *b == 0));
    }

    #[test]
    fn reads_back_both_parts() {
        let read = ConfigDisk::parse(&disk()).unwrap();
        assert_eq!(read.manifest(), b"version = 1\n");
        assert_eq!(read.collateral(), b"{}");
    }

    #[test]
    fn refuses_another_magic() {
        assert_eq!(changed(|b| b[7] = b'2'), Err(ConfigDiskError::Magic));
        assert_eq!(ConfigDisk::parse(&[0; 512]), Err(ConfigDiskError::Magic));
    }

    #[test]
    fn refuses_fewer_entries_than_two_and_more_than_three() {
        for count in [0, 1, 4, 255] {
            let refused = changed(|b| b[8] = count);
            assert_eq!(refused, Err(ConfigDiskError::Count { got: count.into() }));
        }
        // A third that is not there.
        assert_eq!(changed(|b| b[8] = 3), Err(ConfigDiskError::Kind { expected: 3, got: 0 }));
    }

    #[test]
    fn pins_of_clients_are_a_third_entry_and_read_back() {
        let with = |pins: &[u8]| ConfigDisk::parse(&disk()).unwrap().with_peer_pins(pins.to_vec());
        let bytes = with(b"pins").unwrap().encode();
        assert_eq!(&bytes[8..12], b"\x03\0\0\0");
        assert_eq!(&bytes[36..45], b"\x03\x04\0\0\0pins");
        assert_eq!(ConfigDisk::parse(&bytes).unwrap().peer_pins(), Some(&b"pins"[..]));
        assert_eq!(ConfigDisk::parse(&disk()).unwrap().peer_pins(), None);
        assert!(matches!(with(b""), Err(ConfigDiskError::Empty { .. })));
        assert!(with(&vec![b'p'; MAX_PEER_PINS_BYTES]).is_ok());
        assert!(with(&vec![b'p'; MAX_PEER_PINS_BYTES + 1]).is_err());
        // Said to be two, the third is what must not follow.
        let mut two = bytes;
        two[8] = 2;
        assert_eq!(ConfigDisk::parse(&two), Err(ConfigDiskError::TrailerNotZero));
    }

    #[test]
    fn refuses_unknown_repeated_and_swapped_kinds() {
        for kind in [0, 2, 3] {
            let refused = changed(|b| b[12] = kind);
            assert_eq!(refused, Err(ConfigDiskError::Kind { expected: 1, got: kind }));
        }
        assert_eq!(changed(|b| b[29] = 1), Err(ConfigDiskError::Kind { expected: 2, got: 1 }));
    }

    #[test]
    fn refuses_an_empty_part() {
        assert!(matches!(changed(|b| b[13] = 0), Err(ConfigDiskError::Empty { .. })));
        assert!(ConfigDisk::new(Vec::new(), vec![1]).is_err());
        assert!(ConfigDisk::new(vec![1], Vec::new()).is_err());
    }

    #[test]
    fn refuses_a_length_that_reaches_past_the_disk() {
        assert!(matches!(
            changed(|b| b[31] = 0xff),
            Err(ConfigDiskError::Encoding(WireError::Truncated { .. }))
        ));
    }

    #[test]
    fn refuses_a_disk_that_ends_early_at_every_byte() {
        let bytes = disk();
        for len in 0..bytes.len() {
            assert!(ConfigDisk::parse(&bytes[..len]).is_err(), "{len} bytes were accepted");
        }
    }

    #[test]
    fn refuses_bytes_after_the_last_entry() {
        assert_eq!(changed(|b| b[511] = 1), Err(ConfigDiskError::TrailerNotZero));
        assert_eq!(changed(|b| b[36] = 1), Err(ConfigDiskError::TrailerNotZero));
    }

    #[test]
    fn refuses_a_sector_of_zeros_too_many() {
        assert_eq!(
            changed(|b| b.resize(1024, 0)),
            Err(ConfigDiskError::Length { expected: 512, got: 1024 })
        );
    }

    #[test]
    fn refuses_parts_one_byte_past_their_limits() {
        let fits = |m: usize, c: usize| ConfigDisk::new(vec![b'm'; m], vec![b'c'; c]);
        let largest = fits(MAX_MANIFEST_BYTES, MAX_COLLATERAL_BYTES)
            .and_then(|disk| disk.with_peer_pins(vec![b'p'; MAX_PEER_PINS_BYTES]))
            .unwrap();
        assert_eq!(largest.encode().len(), MAX_CONFIG_DISK_BYTES);
        assert_eq!(ConfigDisk::parse(&largest.encode()), Ok(largest));
        assert!(fits(MAX_MANIFEST_BYTES + 1, 1).is_err());
        assert!(fits(1, MAX_COLLATERAL_BYTES + 1).is_err());
        let limit = u32::try_from(MAX_MANIFEST_BYTES).unwrap();
        let refused = changed(|b| b[13..17].copy_from_slice(&(limit + 1).to_le_bytes()));
        assert!(matches!(refused, Err(ConfigDiskError::Encoding(WireError::TooLarge { .. }))));
    }

    #[test]
    fn refuses_a_disk_one_byte_past_its_limit() {
        let got = MAX_CONFIG_DISK_BYTES + 1;
        assert_eq!(ConfigDisk::parse(&vec![0; got]), Err(ConfigDiskError::TooLarge { got }));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_written_back_byte_for_byte(
            at in 0usize..512, value: u8, cut in 0usize..=512,
        ) {
            let mut bytes = disk();
            bytes[at] = value;
            bytes.truncate(cut);
            if let Ok(read) = ConfigDisk::parse(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }
}
