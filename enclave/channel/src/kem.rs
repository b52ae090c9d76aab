//! The only place that touches HPKE (RFC 9180, base mode; X-Wing per `draft-ietf-hpke-pq`).
//! Everything received here is attacker-controlled; failures carry no reason.

use chrysalis_wire::SuiteId;
use hpke::aead::{AeadCtxR, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::rand_core::CryptoRng;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, setup_receiver};
use zeroize::Zeroizing;

/// A secret exported from an HPKE context, or a key wrapped by one.
pub(crate) type Key32 = Zeroizing<[u8; 32]>;

/// A KEM private key. Both inner types wipe themselves when dropped; they are boxed so that moving
/// the pair around (a growing ring, a sort) leaves no copies that nobody wipes.
pub(crate) enum KemSecret {
    XWing(Box<<XWing as Kem>::PrivateKey>),
    X25519(Box<<X25519HkdfSha256 as Kem>::PrivateKey>),
}

/// HPKE inputs both sides share.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) info: &'a [u8],
    pub(crate) aad: &'a [u8],
    /// Context string of the exporter.
    pub(crate) export: &'a [u8],
}

/// What the sender gets from sealing one 32-byte key.
pub(crate) struct SealedKey {
    pub(crate) enc: Vec<u8>,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) exporter: Key32,
}

/// What the recipient gets from opening it.
pub(crate) struct OpenedKey {
    pub(crate) key: Key32,
    pub(crate) exporter: Key32,
}

/// HPKE or its inputs failed; deliberately without a reason.
#[derive(Debug)]
pub(crate) struct KemFailure;

impl KemSecret {
    /// A fresh key pair: `DeriveKeyPair` of 32 random bytes.
    pub(crate) fn generate(suite: SuiteId, rng: &mut impl CryptoRng) -> (Self, Vec<u8>) {
        match suite {
            SuiteId::XWing => {
                let (secret, public) = XWing::gen_keypair_with_rng(rng);
                (Self::XWing(Box::new(secret)), public.to_bytes().to_vec())
            }
            SuiteId::X25519 => {
                let (secret, public) = X25519HkdfSha256::gen_keypair_with_rng(rng);
                (Self::X25519(Box::new(secret)), public.to_bytes().to_vec())
            }
        }
    }

    /// Opens a wrapped key.
    pub(crate) fn open(
        &self,
        enc: &[u8],
        ciphertext: &[u8],
        context: Context<'_>,
    ) -> Result<OpenedKey, KemFailure> {
        match self {
            Self::XWing(secret) => open_with::<XWing>(secret, enc, ciphertext, context),
            Self::X25519(secret) => open_with::<X25519HkdfSha256>(secret, enc, ciphertext, context),
        }
    }
}

/// Seals `key` to `public`.
pub(crate) fn seal(
    suite: SuiteId,
    public: &[u8],
    key: &[u8; 32],
    context: Context<'_>,
    rng: &mut impl CryptoRng,
) -> Result<SealedKey, KemFailure> {
    match suite {
        SuiteId::XWing => seal_with::<XWing>(public, key, context, rng),
        SuiteId::X25519 => seal_with::<X25519HkdfSha256>(public, key, context, rng),
    }
}

/// Whether `public` is a key of `suite`.
pub(crate) fn parses(suite: SuiteId, public: &[u8]) -> bool {
    match suite {
        SuiteId::XWing => <XWing as Kem>::PublicKey::from_bytes(public).is_ok(),
        SuiteId::X25519 => <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(public).is_ok(),
    }
}

/// Length of the encapsulated key (`Nenc`).
pub(crate) const fn enc_len(suite: SuiteId) -> usize {
    match suite {
        SuiteId::XWing => 1120,
        SuiteId::X25519 => 32,
    }
}

fn seal_with<K: Kem>(
    public: &[u8],
    key: &[u8; 32],
    context: Context<'_>,
    rng: &mut impl CryptoRng,
) -> Result<SealedKey, KemFailure> {
    let public = K::PublicKey::from_bytes(public).map_err(|_| KemFailure)?;
    let (enc, mut hpke) = hpke::setup_sender_with_rng::<AesGcm256, HkdfSha256, K>(
        &OpModeS::Base,
        &public,
        context.info,
        rng,
    )
    .map_err(|_| KemFailure)?;
    let ciphertext = hpke.seal(key, context.aad).map_err(|_| KemFailure)?;
    let mut exporter = Zeroizing::new([0u8; 32]);
    hpke.export(context.export, exporter.as_mut_slice()).map_err(|_| KemFailure)?;
    Ok(SealedKey { enc: enc.to_bytes().to_vec(), ciphertext, exporter })
}

fn open_with<K: Kem>(
    secret: &K::PrivateKey,
    enc: &[u8],
    ciphertext: &[u8],
    context: Context<'_>,
) -> Result<OpenedKey, KemFailure> {
    let enc = K::EncappedKey::from_bytes(enc).map_err(|_| KemFailure)?;
    let mut hpke: AeadCtxR<AesGcm256, HkdfSha256, K> =
        setup_receiver(&OpModeR::Base, secret, &enc, context.info).map_err(|_| KemFailure)?;
    let plain = Zeroizing::new(hpke.open(ciphertext, context.aad).map_err(|_| KemFailure)?);
    let mut opened =
        OpenedKey { key: Zeroizing::new([0u8; 32]), exporter: Zeroizing::new([0u8; 32]) };
    if plain.len() != opened.key.len() {
        return Err(KemFailure);
    }
    opened.key.copy_from_slice(&plain);
    hpke.export(context.export, opened.exporter.as_mut_slice()).map_err(|_| KemFailure)?;
    Ok(opened)
}

/// Length of a wrapped 32-byte key: the key and an AES-GCM tag.
pub(crate) const WRAPPED_KEY_BYTES: usize = 48;
