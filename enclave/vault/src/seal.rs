//! Sealing (FORMAT §7): one key per packing, one AES-256-GCM message per chunk, in the way of
//! STREAM. The only place in this crate that holds derived keys or calls the cipher.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::header::{Header, TAG_BYTES};
use crate::key::ModelKey;

/// HKDF info prefix of the segment key and nonce prefix: 32 + 7 bytes.
pub const SEGMENT_INFO: &[u8] = b"chrysalis/vault/1/segment";
/// HKDF info prefix of the leaf table key: 32 bytes.
pub const TABLE_INFO: &[u8] = b"chrysalis/vault/1/table";
/// HKDF info prefix of the key check: 32 bytes.
pub const KEY_CHECK_INFO: &[u8] = b"chrysalis/vault/1/key-check";

/// Keys of one packing.
pub(crate) struct Seal {
    segments: Aes256Gcm,
    nonce_prefix: [u8; 7],
    table: Aes256Gcm,
    header_hash: [u8; 32],
    key_check: [u8; 32],
}

/// A message did not authenticate. Says nothing more: the caller knows which one it was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

impl Seal {
    /// Derives the keys of the packing with this header and salt.
    pub(crate) fn derive(
        key: &ModelKey,
        salt: &[u8; 32],
        header: &Header,
    ) -> Result<Self, VaultError> {
        let header_hash = header.hash();
        let hkdf = Hkdf::<Sha256>::new(Some(salt), key.expose());
        let expand = |label: &[u8], out: &mut [u8]| {
            hkdf.expand_multi_info(&[label, &header_hash], out)
                .map_err(|_| VaultError::Crypto { what: "HKDF" })
        };
        let mut okm = Zeroizing::new([0u8; 39]);
        expand(SEGMENT_INFO, okm.as_mut_slice())?;
        let short = || VaultError::Crypto { what: "key split" };
        let (segment_key, prefix) = okm.split_first_chunk::<32>().ok_or_else(short)?;
        let nonce_prefix = prefix.try_into().map_err(|_| short())?;
        let mut table_key = Zeroizing::new([0u8; 32]);
        expand(TABLE_INFO, table_key.as_mut_slice())?;
        let mut key_check = [0u8; 32];
        expand(KEY_CHECK_INFO, &mut key_check)?;
        Ok(Self {
            segments: Aes256Gcm::new(segment_key.into()),
            nonce_prefix,
            table: Aes256Gcm::new((&*table_key).into()),
            header_hash,
            key_check,
        })
    }

    /// Value that commits the packing to its key; public, in the header.
    pub(crate) const fn key_check(&self) -> [u8; 32] {
        self.key_check
    }

    /// Whether the header's key check is the one this key gives.
    pub(crate) fn accepts(&self, key_check: &[u8; 32]) -> bool {
        self.key_check.ct_eq(key_check).into()
    }

    /// Encrypts chunk `index` in place and returns its tag.
    pub(crate) fn seal_segment(
        &self,
        index: u64,
        last: bool,
        chunk: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], VaultError> {
        let nonce = self.nonce(index, last).ok_or(VaultError::Crypto { what: "nonce" })?;
        self.segments
            .encrypt_inout_detached(&nonce, &self.header_hash, InOutBuf::from(chunk))
            .map(Into::into)
            .map_err(|_| VaultError::Crypto { what: "AES-256-GCM" })
    }

    /// Authenticates chunk `index`, then decrypts it in place. On refusal the bytes are as they
    /// were: no unauthenticated plaintext ever exists.
    pub(crate) fn open_segment(
        &self,
        index: u64,
        last: bool,
        chunk: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), NotAuthentic> {
        let nonce = self.nonce(index, last).ok_or(NotAuthentic)?;
        let tag = Tag::from(*tag);
        self.segments
            .decrypt_inout_detached(&nonce, &self.header_hash, InOutBuf::from(chunk), &tag)
            .map_err(|_| NotAuthentic)
    }

    /// Encrypts the leaf table and appends its tag. Its key is used for this one message, so the
    /// nonce is zero.
    pub(crate) fn seal_table(&self, table: &mut Vec<u8>) -> Result<(), VaultError> {
        let tag = self
            .table
            .encrypt_inout_detached(
                &Nonce::default(),
                &self.header_hash,
                InOutBuf::from(table.as_mut_slice()),
            )
            .map_err(|_| VaultError::Crypto { what: "AES-256-GCM" })?;
        table.extend_from_slice(&tag);
        Ok(())
    }

    /// Authenticates and decrypts the leaf table and removes its tag.
    pub(crate) fn open_table(&self, table: &mut Vec<u8>) -> Result<(), NotAuthentic> {
        let at = table.len().checked_sub(TAG_BYTES).ok_or(NotAuthentic)?;
        let (body, tag) = table.split_at_mut_checked(at).ok_or(NotAuthentic)?;
        let tag = Tag::from(<[u8; TAG_BYTES]>::try_from(&*tag).map_err(|_| NotAuthentic)?);
        self.table
            .decrypt_inout_detached(
                &Nonce::default(),
                &self.header_hash,
                InOutBuf::from(body),
                &tag,
            )
            .map_err(|_| NotAuthentic)?;
        table.truncate(at);
        Ok(())
    }

    /// `prefix[7] || index u32 || last u8`. `None` past 2^32 segments, which the limits exclude.
    fn nonce(&self, index: u64, last: bool) -> Option<Nonce<aes_gcm::aead::consts::U12>> {
        let [p0, p1, p2, p3, p4, p5, p6] = self.nonce_prefix;
        let [i0, i1, i2, i3] = u32::try_from(index).ok()?.to_be_bytes();
        Some([p0, p1, p2, p3, p4, p5, p6, i0, i1, i2, i3, u8::from(last)].into())
    }
}

#[cfg(test)]
mod tests {
    use chrysalis_wire::Digest;

    use super::*;

    fn seal(key: u8, salt: u8, total: u64) -> Seal {
        let header = Header {
            manifest_len: 1,
            total,
            manifest_digest: Digest([1; 32]),
            tree_root: Digest([2; 32]),
            sealing: Some(crate::header::Sealing { salt: [salt; 32], key_check: [0; 32] }),
        };
        Seal::derive(&ModelKey::from_bytes(&[key; 32]).unwrap(), &[salt; 32], &header).unwrap()
    }

    #[test]
    fn opens_what_it_seals_and_leaves_refused_bytes_alone() {
        let s = seal(1, 1, 5);
        let mut chunk = *b"hello";
        let tag = s.seal_segment(0, true, &mut chunk).unwrap();
        let sealed = chunk;
        assert_ne!(&sealed, b"hello");
        let mut bad_tag = tag;
        bad_tag[0] ^= 1;
        assert_eq!(s.open_segment(0, true, &mut chunk, &bad_tag), Err(NotAuthentic));
        assert_eq!(chunk, sealed);
        s.open_segment(0, true, &mut chunk, &tag).unwrap();
        assert_eq!(&chunk, b"hello");
    }

    #[test]
    fn refuses_a_segment_at_another_place() {
        let s = seal(1, 1, 5);
        let mut chunk = *b"hello";
        let tag = s.seal_segment(7, false, &mut chunk).unwrap();
        assert_eq!(s.open_segment(8, false, &mut chunk, &tag), Err(NotAuthentic));
    }

    #[test]
    fn refuses_a_segment_made_last_and_a_last_segment_made_inner() {
        let s = seal(1, 1, 5);
        for last in [false, true] {
            let mut chunk = *b"hello";
            let tag = s.seal_segment(7, last, &mut chunk).unwrap();
            assert_eq!(s.open_segment(7, !last, &mut chunk, &tag), Err(NotAuthentic));
        }
    }

    #[test]
    fn refuses_a_segment_of_another_key_salt_or_header() {
        let mut sealed = *b"hello";
        let tag = seal(1, 1, 5).seal_segment(0, true, &mut sealed).unwrap();
        for other in [seal(2, 1, 5), seal(1, 2, 5), seal(1, 1, 6)] {
            let mut chunk = sealed;
            assert_eq!(other.open_segment(0, true, &mut chunk, &tag), Err(NotAuthentic));
        }
    }

    #[test]
    fn the_key_check_depends_on_key_salt_and_header() {
        let check = seal(1, 1, 5).key_check();
        assert!(seal(1, 1, 5).accepts(&check));
        for other in [seal(2, 1, 5), seal(1, 2, 5), seal(1, 1, 6)] {
            assert!(!other.accepts(&check));
        }
    }

    #[test]
    fn the_table_key_opens_no_segment() {
        let s = seal(1, 1, 5);
        let mut table = vec![7u8; 32];
        s.seal_table(&mut table).unwrap();
        let (body, tag) = table.split_at(32);
        let mut body = body.to_vec();
        let tag = <[u8; 16]>::try_from(tag).unwrap();
        assert_eq!(s.open_segment(0, false, &mut body, &tag), Err(NotAuthentic));
        s.open_table(&mut table).unwrap();
        assert_eq!(table, [7; 32]);
    }

    #[test]
    fn refuses_a_table_shorter_than_its_tag() {
        assert_eq!(seal(1, 1, 5).open_table(&mut vec![0; 15]), Err(NotAuthentic));
    }

    #[test]
    fn key_schedules_and_hash_states_are_wiped_when_dropped() {
        const fn wiped<T: zeroize::ZeroizeOnDrop>() {}
        // Features of their crates; HKDF is made of the second.
        wiped::<Aes256Gcm>();
        wiped::<Sha256>();
    }

    #[test]
    fn refuses_segment_numbers_past_32_bits() {
        let refused = seal(1, 1, 5).seal_segment(1 << 32, false, &mut []);
        assert_eq!(refused, Err(VaultError::Crypto { what: "nonce" }));
    }
}
