//! The fixed header of a bundle (FORMAT §2). Attacker-controlled: it is read into a fixed array,
//! and every size that follows from it is bounded before anything is allocated.

use chrysalis_wire::{Decoder, Digest, Encoder};
use sha2::{Digest as _, Sha256};

use crate::error::{CHUNK_BYTES_TEXT, VaultError};
use crate::layout::chunk_count;
use crate::limits::{BUNDLE_ALIGN, CHUNK_BYTES, MAX_MANIFEST_BYTES, MAX_TOTAL_BYTES};
use crate::tree;

/// First bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"CHRYSBDL";
/// The format version this build reads and writes.
pub const VERSION: u32 = 1;
/// Length of the header.
pub const HEADER_BYTES: usize = 160;
/// Length of an AES-GCM tag.
pub(crate) const TAG_BYTES: usize = 16;
const LEAF_BYTES: u64 = 32;

/// The header. A parsed one has only values that version 1 allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) manifest_len: usize,
    pub(crate) total: u64,
    pub(crate) manifest_digest: Digest,
    pub(crate) tree_root: Digest,
    /// Present when the bundle is sealed.
    pub(crate) sealing: Option<Sealing>,
}

/// Header fields of a sealed bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealing {
    pub(crate) salt: [u8; 32],
    pub(crate) key_check: [u8; 32],
}

impl Header {
    /// Reads a header. The version is looked at before any field that a later version may move.
    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, VaultError> {
        let mut d = Decoder::new(bytes);
        let magic = d.array("magic")?;
        if magic != MAGIC {
            return Err(VaultError::NotABundle { got: magic });
        }
        let version = d.u32("version")?;
        if version != VERSION {
            return Err(VaultError::UnsupportedVersion { got: version });
        }
        let sealed = match d.u32("sealing")? {
            SEALING_NONE => false,
            SEALING_AES_256_GCM => true,
            got => return Err(field("sealing", got.into(), "0 or 1")),
        };
        let chunk_bytes = d.u32("chunk size")?;
        if usize::try_from(chunk_bytes) != Ok(CHUNK_BYTES) {
            return Err(field("chunk size", chunk_bytes.into(), CHUNK_BYTES_TEXT));
        }
        let manifest_len = d.u32("manifest length")?;
        let over = |what, limit, got| VaultError::OverLimit { what, limit, got };
        let manifest_len = match usize::try_from(manifest_len) {
            Ok(len) if len <= MAX_MANIFEST_BYTES => len,
            _ => return Err(over("manifest", MAX_MANIFEST_BYTES as u64, manifest_len.into())),
        };
        let total = d.u64("content length")?;
        if total > MAX_TOTAL_BYTES {
            return Err(over("content length", MAX_TOTAL_BYTES, total));
        }
        if total == 0 {
            return Err(field("content length", 0, "at least 1"));
        }
        let manifest_digest = Digest(d.array("manifest digest")?);
        let tree_root = Digest(d.array("tree root")?);
        let salt: [u8; 32] = d.array("salt")?;
        let key_check: [u8; 32] = d.array("key check")?;
        d.finish("header")?;
        let zeros = [0u8; 32];
        let sealing = if sealed {
            if salt == zeros {
                return Err(field("salt", 0, "a random value in a sealed bundle"));
            }
            Some(Sealing { salt, key_check })
        } else if salt == zeros && key_check == zeros {
            None
        } else {
            return Err(field("salt or key check", 1, "zero in a bundle that is not sealed"));
        };
        Ok(Self { manifest_len, total, manifest_digest, tree_root, sealing })
    }

    /// The header's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        let sealing = if self.sealing.is_some() { SEALING_AES_256_GCM } else { SEALING_NONE };
        let (salt, key_check) =
            self.sealing.as_ref().map_or(([0; 32], [0; 32]), |s| (s.salt, s.key_check));
        e.raw(&MAGIC)
            .u32(VERSION)
            .u32(sealing)
            .u32(u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX))
            .u32(u32::try_from(self.manifest_len).unwrap_or(u32::MAX))
            .u64(self.total)
            .raw(&self.manifest_digest.0)
            .raw(&self.tree_root.0)
            .raw(&salt)
            .raw(&key_check);
        e.finish()
    }

    /// SHA-256 of the header before the key check: input of the key derivation and associated
    /// data of every segment.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let bytes = self.encode();
        let before_key_check = bytes.get(..KEY_CHECK_AT).unwrap_or(&bytes);
        Sha256::digest(before_key_check).into()
    }

    /// The model root this header claims.
    pub(crate) fn model_root(&self) -> Digest {
        tree::model_root(&self.manifest_digest, &self.tree_root, self.total)
    }

    /// Length of the leaf table, with its tag when sealed: at most 32 MiB + 16, because the
    /// content is at most [`MAX_TOTAL_BYTES`].
    pub(crate) const fn table_len(&self) -> u64 {
        let leaves = chunk_count(self.total).saturating_mul(LEAF_BYTES);
        leaves.saturating_add(self.tag_len())
    }

    /// Length of the header and the manifest.
    pub(crate) const fn table_at(&self) -> u64 {
        (HEADER_BYTES as u64).saturating_add(self.manifest_len as u64)
    }

    /// Where the first chunk starts.
    pub(crate) const fn content_at(&self) -> u64 {
        self.table_at().saturating_add(self.table_len())
    }

    /// Where the content ends.
    pub(crate) const fn content_end(&self) -> u64 {
        let tags = chunk_count(self.total).saturating_mul(self.tag_len());
        self.content_at().saturating_add(self.total).saturating_add(tags)
    }

    /// Length of the whole bundle.
    pub(crate) const fn bundle_len(&self) -> u64 {
        self.content_end().next_multiple_of(BUNDLE_ALIGN)
    }

    /// Bytes one chunk takes in the bundle beyond its plaintext.
    pub(crate) const fn tag_len(&self) -> u64 {
        if self.sealing.is_some() { TAG_BYTES as u64 } else { 0 }
    }
}

const fn field(field: &'static str, got: u64, expected: &'static str) -> VaultError {
    VaultError::HeaderField { field, got, expected }
}

const SEALING_NONE: u32 = 0;
const SEALING_AES_256_GCM: u32 = 1;
const KEY_CHECK_AT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sealing: Option<Sealing>) -> Header {
        Header {
            manifest_len: 100,
            total: 5,
            manifest_digest: Digest([1; 32]),
            tree_root: Digest([2; 32]),
            sealing,
        }
    }

    fn parse(bytes: Vec<u8>) -> Result<Header, VaultError> {
        Header::parse(&bytes.try_into().unwrap())
    }

    fn with(at: usize, value: &[u8]) -> Vec<u8> {
        let mut bytes = header(None).encode();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    }

    #[test]
    fn parses_what_it_encodes() {
        let sealed = header(Some(Sealing { salt: [3; 32], key_check: [4; 32] }));
        for h in [header(None), sealed] {
            assert_eq!(parse(h.encode()).unwrap(), h);
        }
    }

    #[test]
    fn refuses_a_bad_magic_before_the_version() {
        let mut bytes = with(8, &[9; 4]);
        bytes[0] = b'X';
        assert!(matches!(parse(bytes), Err(VaultError::NotABundle { .. })));
    }

    #[test]
    fn refuses_a_future_version_whatever_follows() {
        let mut bytes = vec![0xff; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&2u32.to_be_bytes());
        assert_eq!(parse(bytes), Err(VaultError::UnsupportedVersion { got: 2 }));
    }

    #[test]
    fn refuses_an_unknown_sealing() {
        let refused = parse(with(12, &2u32.to_be_bytes()));
        assert!(matches!(refused, Err(VaultError::HeaderField { field: "sealing", got: 2, .. })));
    }

    #[test]
    fn refuses_another_chunk_size() {
        for size in [0u32, 1, 0x0010_0001, u32::MAX] {
            let refused = parse(with(16, &size.to_be_bytes()));
            assert!(matches!(refused, Err(VaultError::HeaderField { field: "chunk size", .. })));
        }
    }

    #[test]
    fn refuses_a_manifest_length_one_over_its_limit() {
        let limit = u32::try_from(MAX_MANIFEST_BYTES).unwrap();
        parse(with(20, &limit.to_be_bytes())).unwrap();
        let refused = parse(with(20, &(limit + 1).to_be_bytes()));
        assert!(matches!(refused, Err(VaultError::OverLimit { what: "manifest", .. })));
    }

    #[test]
    fn refuses_a_content_length_of_zero_or_one_over_its_limit() {
        let largest = parse(with(24, &MAX_TOTAL_BYTES.to_be_bytes())).unwrap();
        assert_eq!(largest.table_len(), 32 * 1024 * 1024);
        let refused = parse(with(24, &(MAX_TOTAL_BYTES + 1).to_be_bytes()));
        assert!(matches!(refused, Err(VaultError::OverLimit { what: "content length", .. })));
        let refused = parse(with(24, &[0; 8]));
        assert!(matches!(refused, Err(VaultError::HeaderField { field: "content length", .. })));
    }

    #[test]
    fn refuses_a_salt_where_there_is_none_and_none_where_there_must_be_one() {
        for at in [96, 159] {
            assert!(matches!(parse(with(at, &[1])), Err(VaultError::HeaderField { .. })));
        }
        let refused = parse(with(12, &1u32.to_be_bytes()));
        assert!(matches!(refused, Err(VaultError::HeaderField { field: "salt", .. })));
    }

    #[test]
    fn the_header_hash_covers_everything_but_the_key_check() {
        let sealing = |salt, check| Some(Sealing { salt: [salt; 32], key_check: [check; 32] });
        let hash = header(sealing(3, 0)).hash();
        assert_eq!(hash, header(sealing(3, 9)).hash());
        assert_ne!(hash, header(sealing(4, 0)).hash());
        let mut other = header(sealing(3, 0));
        other.total = 6;
        assert_ne!(hash, other.hash());
    }
}
