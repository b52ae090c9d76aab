//! Evidence as certificates carry it: TCG DICE tagged evidence with its claims, Gramine's bare
//! quote, Cocoon's pair of extensions. Attacker-controlled; what is read here is unsigned words
//! until an [`Appraiser`](chrysalis_evidence::Appraiser) has verified the quote.

use chrysalis_wire::limits::MAX_QUOTE_BYTES;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;

use crate::cbor;
use crate::error::RatlsError;
use crate::key::PublicKey;

/// CBOR tag of an SGX or TDX ECDSA quote with claims.
pub const TAG_QUOTE: u64 = 60_000;
/// Largest claims buffer, in bytes; a real one has 51.
pub const MAX_CLAIMS_BYTES: usize = 4096;

/// DICE tagged evidence: `60000([quote, claims])`, both byte strings.
///
/// ```
/// # fn main() -> Result<(), gramine_ratls::RatlsError> {
/// let written = gramine_ratls::TaggedEvidence { quote: b"a quote", claims: &[0xA0] }.encode();
/// assert_eq!(gramine_ratls::TaggedEvidence::parse(&written)?.quote, b"a quote");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaggedEvidence<'a> {
    /// The quote. Its report data is SHA-256 of the claims and 32 zero bytes.
    pub quote: &'a [u8],
    /// The claims, exactly as they are hashed.
    pub claims: &'a [u8],
}

impl<'a> TaggedEvidence<'a> {
    /// Reads the value of the extension.
    ///
    /// # Errors
    /// [`RatlsError::Cbor`], [`RatlsError::EvidenceTag`], [`RatlsError::TooLarge`].
    pub fn parse(value: &'a [u8]) -> Result<Self, RatlsError> {
        let mut reader = cbor::Reader::new(value);
        let got = reader.tag("evidence tag")?;
        if got != TAG_QUOTE {
            return Err(RatlsError::EvidenceTag { got });
        }
        reader.array(2, "evidence")?;
        let quote = reader.bytes("quote")?;
        let claims = reader.bytes("claims")?;
        reader.finish("evidence")?;
        at_most("quote", MAX_QUOTE_BYTES, quote)?;
        at_most("claims", MAX_CLAIMS_BYTES, claims)?;
        Ok(Self { quote, claims })
    }

    /// The value of the extension.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        cbor::write_head(&mut out, cbor::TAG, TAG_QUOTE);
        cbor::write_head(&mut out, cbor::ARRAY, 2);
        cbor::write_bytes(&mut out, self.quote);
        cbor::write_bytes(&mut out, self.claims);
        out
    }
}

/// Hash algorithms a `pubkey-hash` may name (IANA named information hash algorithms).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PubkeyHash {
    /// SHA-256, id 1.
    Sha256([u8; 32]),
    /// SHA-384, id 7.
    Sha384([u8; 48]),
    /// SHA-512, id 8.
    Sha512([u8; 64]),
}

impl PubkeyHash {
    fn new(algorithm: u64, hash: &[u8]) -> Result<Self, RatlsError> {
        let known = match algorithm {
            1 => hash.try_into().map(Self::Sha256),
            7 => hash.try_into().map(Self::Sha384),
            8 => hash.try_into().map(Self::Sha512),
            _ => return Err(RatlsError::PubkeyHashForm { algorithm, bytes: hash.len() }),
        };
        known.map_err(|_| RatlsError::PubkeyHashForm { algorithm, bytes: hash.len() })
    }

    /// Whether it is the hash of this key's SubjectPublicKeyInfo, in constant time.
    #[must_use]
    pub fn is_of(&self, key: &PublicKey) -> bool {
        let spki = key.spki();
        let same = match self {
            Self::Sha256(hash) => hash.ct_eq(&Sha256::digest(spki)[..]),
            Self::Sha384(hash) => hash.ct_eq(&Sha384::digest(spki)[..]),
            Self::Sha512(hash) => hash.ct_eq(&Sha512::digest(spki)[..]),
        };
        same.into()
    }
}

/// The claims of interoperable evidence: a CBOR map with text keys. `pubkey-hash` stands in it
/// exactly once (Gramine's own reader does not insist on that); claims not known here are hashed
/// with the others and mean nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims<'a> {
    /// Hash of the certificate's key.
    pub pubkey_hash: PubkeyHash,
    /// A nonce, if there is one. Nothing here compares it: it is the peer's word about a challenge
    /// this verifier never made.
    pub nonce: Option<&'a [u8]>,
}

impl<'a> Claims<'a> {
    /// Reads claims.
    ///
    /// # Errors
    /// [`RatlsError::Cbor`], [`RatlsError::NoPubkeyHash`], [`RatlsError::PubkeyHashForm`].
    pub fn parse(claims: &'a [u8]) -> Result<Self, RatlsError> {
        at_most("claims", MAX_CLAIMS_BYTES, claims)?;
        let mut reader = cbor::Reader::new(claims);
        let mut names = Vec::new();
        let (mut pubkey_hash, mut nonce) = (None, None);
        for _ in 0..reader.map("claims")? {
            let name = reader.text("claim name")?;
            if names.contains(&name) {
                return Err(cbor::CborError::DuplicateKey { what: "claims" }.into());
            }
            names.push(name);
            match name {
                PUBKEY_HASH => pubkey_hash = Some(pubkey_hash_of(reader.bytes(PUBKEY_HASH)?)?),
                NONCE => nonce = Some(reader.bytes(NONCE)?),
                _ => reader.skip("claim")?,
            }
        }
        reader.finish("claims")?;
        Ok(Self { pubkey_hash: pubkey_hash.ok_or(RatlsError::NoPubkeyHash)?, nonce })
    }

    /// The claims of a key, with nothing but its SHA-256: what Gramine writes, 51 bytes.
    #[must_use]
    pub fn of_key(key: &PublicKey) -> Vec<u8> {
        let mut hash = Vec::new();
        cbor::write_head(&mut hash, cbor::ARRAY, 2);
        cbor::write_head(&mut hash, cbor::UNSIGNED, 1);
        cbor::write_bytes(&mut hash, key.spki_sha256().as_bytes());
        let mut out = Vec::new();
        cbor::write_head(&mut out, cbor::MAP, 1);
        cbor::write_text(&mut out, PUBKEY_HASH);
        cbor::write_bytes(&mut out, &hash);
        out
    }
}

/// The value of `pubkey-hash`: a byte string that holds CBOR, `[id, hash]`.
fn pubkey_hash_of(value: &[u8]) -> Result<PubkeyHash, RatlsError> {
    let mut reader = cbor::Reader::new(value);
    reader.array(2, PUBKEY_HASH)?;
    let algorithm = reader.unsigned("hash algorithm")?;
    let hash = reader.bytes("hash")?;
    reader.finish(PUBKEY_HASH)?;
    PubkeyHash::new(algorithm, hash)
}

pub(crate) const fn at_most(
    what: &'static str,
    limit: usize,
    bytes: &[u8],
) -> Result<(), RatlsError> {
    let got = bytes.len();
    if got > limit { Err(RatlsError::TooLarge { what, limit, got }) } else { Ok(()) }
}

const PUBKEY_HASH: &str = "pubkey-hash";
const NONCE: &str = "nonce";
