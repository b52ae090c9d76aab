//! Grants: a model owner gives a worker the key of a sealed model. The owner has appraised the
//! worker's keyset; the worker treats the message as attacker-controlled.

use chrysalis_wire::{
    Decoder, Digest, Encoder, KeyId, KeyRole, SealKeyEntry, SecretBytes, SuiteId, UnixTime,
};
use hpke::rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::error::ChannelError;
use crate::header::{SEAL_VERSION, read_magic};
use crate::kem::{self, Context, WRAPPED_KEY_BYTES};
use crate::keys::{check_entry, check_validity};
use crate::ring::KeyRing;

/// A model key for one model.
#[derive(Debug)]
pub struct GrantRequest {
    /// Content root of the model the key opens.
    pub model_root: Digest,
    /// The model key, [`GRANT_KEY_BYTES`] long.
    pub key: SecretBytes,
}

/// Seals a model key to a worker's grant key (SPEC §7). `keyset_digest` is the digest of the
/// appraised keyset that `recipient` comes from.
///
/// # Errors
/// [`ChannelError::WrongRole`], [`ChannelError::KeyIdMismatch`], [`ChannelError::KeyMalformed`],
/// [`ChannelError::KeyExpired`], [`ChannelError::KeyNotYetValid`] or
/// [`ChannelError::GrantKeyLength`].
pub fn seal_grant(
    recipient: &SealKeyEntry,
    keyset_digest: &Digest,
    grant: &GrantRequest,
    now: UnixTime,
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, ChannelError> {
    if recipient.role != KeyRole::Grant {
        return Err(ChannelError::WrongRole { expected: KeyRole::Grant, got: recipient.role });
    }
    check_entry(recipient)?;
    check_validity(recipient.id, recipient.not_before, recipient.not_after, now)?;
    let mut key = Zeroizing::new([0u8; GRANT_KEY_BYTES]);
    if grant.key.len() != key.len() {
        return Err(ChannelError::GrantKeyLength { got: grant.key.len() });
    }
    key.copy_from_slice(grant.key.expose());
    let aad = grant_aad(&grant.model_root, keyset_digest);
    let context = Context { info: GRANT_INFO, aad: &aad, export: GRANT_INFO };
    let sealed = kem::seal(recipient.suite, &recipient.public, &key, context, rng)
        .map_err(|_| ChannelError::KeyMalformed { id: recipient.id })?;
    let mut e = Encoder::new();
    e.raw(&GRANT_MAGIC).u8(SEAL_VERSION).u16(recipient.suite as u16).raw(&recipient.id.0);
    e.raw(&aad).raw(&sealed.enc).raw(&sealed.ciphertext);
    Ok(e.finish())
}

/// Opens a grant for the model with root `expected_root`. `keysets` are the digests of the
/// keysets this worker attested and still holds keys of: the current one and the one before.
///
/// # Errors
/// Typed before decryption: [`ChannelError::BadMagic`], [`ChannelError::UnsupportedVersion`],
/// [`ChannelError::Malformed`], [`ChannelError::WrongModelRoot`], [`ChannelError::WrongKeyset`],
/// [`ChannelError::NoRecipient`], [`ChannelError::KeyExpired`],
/// [`ChannelError::KeyNotYetValid`], [`ChannelError::WrongSuite`], [`ChannelError::WrongRole`];
/// then only [`ChannelError::Refused`] (SPEC §8).
pub fn open_grant(
    ring: &KeyRing,
    expected_root: &Digest,
    keysets: &[Digest],
    now: UnixTime,
    bytes: &[u8],
) -> Result<GrantRequest, ChannelError> {
    let mut d = Decoder::new(bytes);
    read_magic(&mut d, "grant", GRANT_MAGIC)?;
    let suite = SuiteId::try_from(d.u16("suite")?)?;
    let id = KeyId(d.array("recipient key id")?);
    let model_root = Digest(d.array("model root")?);
    let keyset_digest = Digest(d.array("keyset digest")?);
    let enc = d.take("encapsulated key", kem::enc_len(suite))?;
    let wrapped = d.take("wrapped key", WRAPPED_KEY_BYTES)?;
    d.finish("grant")?;
    if model_root != *expected_root {
        return Err(ChannelError::WrongModelRoot { expected: *expected_root, got: model_root });
    }
    if !keysets.contains(&keyset_digest) {
        return Err(ChannelError::WrongKeyset { got: keyset_digest });
    }
    let pair = ring.usable(&id, now).ok_or(ChannelError::NoRecipient)??;
    let entry = pair.public_entry();
    if entry.suite != suite {
        return Err(ChannelError::WrongSuite { expected: suite, got: entry.suite });
    }
    if entry.role != KeyRole::Grant {
        return Err(ChannelError::WrongRole { expected: KeyRole::Grant, got: entry.role });
    }
    let aad = grant_aad(&model_root, &keyset_digest);
    let context = Context { info: GRANT_INFO, aad: &aad, export: GRANT_INFO };
    let opened = pair.secret.open(enc, wrapped, context).map_err(|_| ChannelError::Refused)?;
    Ok(GrantRequest { model_root, key: SecretBytes::new(opened.key.to_vec()) })
}

fn grant_aad(model_root: &Digest, keyset_digest: &Digest) -> Vec<u8> {
    [model_root.0, keyset_digest.0].concat()
}

/// Length of a model key.
pub const GRANT_KEY_BYTES: usize = 32;

/// First bytes of a grant.
const GRANT_MAGIC: [u8; 4] = *b"CHGR";

/// HPKE info of grants.
const GRANT_INFO: &[u8] = b"chrysalis/grant/1";
