//! The key that signs enclaves. It lives on an offline machine of the publisher's; aws-lc does the
//! secret arithmetic (constant time, blinded) and wipes its copies when they are freed.
//!
//! There is no key generation here: no library we link makes RSA keys with exponent 3, which SGX
//! demands. `openssl genrsa -3 -out key.pem 3072` does.

use core::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_wire::{Digest, SecretBytes};
use zeroize::Zeroizing;

use super::error::{KeyError, SgxError};
use super::rsa::{MODULUS_BYTES, Modulus};
use super::sigstruct::{
    Sigstruct, SigstructBody, UnverifiedSigstruct, put_signature, signed_bytes,
};

/// Largest key file read, in bytes; one of 3072 bits has 2 500.
pub const MAX_KEY_BYTES: usize = 16 << 10;

/// An RSA key of 3072 bits with exponent 3. It does not print.
pub struct SigningKey {
    pair: KeyPair,
    modulus: Modulus,
}

impl SigningKey {
    /// Reads an unencrypted PEM key, PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`).
    ///
    /// # Errors
    /// [`SgxError::TooLarge`] and [`SgxError::Key`].
    pub fn from_pem(pem: &SecretBytes) -> Result<Self, SgxError> {
        if pem.len() > MAX_KEY_BYTES {
            let (what, limit) = ("signing key", MAX_KEY_BYTES);
            return Err(SgxError::TooLarge { what, limit, got: pem.len() });
        }
        let (label, der) = read_pem(pem.expose()).ok_or(KeyError::Pem)?;
        let pair = match label {
            "PRIVATE KEY" => KeyPair::from_pkcs8(&der),
            "RSA PRIVATE KEY" => KeyPair::from_der(&der),
            _ => return Err(KeyError::Kind.into()),
        };
        let pair = pair.map_err(|_| KeyError::Rejected)?;
        let modulus = public_modulus(&pair)?;
        Ok(Self { pair, modulus })
    }

    /// MRSIGNER of everything this key signs.
    #[must_use]
    pub fn mrsigner(&self) -> Digest {
        self.modulus.mrsigner()
    }

    /// Signs an enclave. The same key and body give the same bytes.
    ///
    /// # Errors
    /// [`KeyError::Sign`]; and [`SgxError::Sigstruct`] if the result does not verify, so that a
    /// computing error never leaves this function (a faulty CRT signature reveals the key).
    pub fn sign(&self, body: &SigstructBody) -> Result<Sigstruct, SgxError> {
        let mut bytes = body.unsigned();
        let message = digest::digest(&digest::SHA256, &signed_bytes(&bytes));
        let mut signature = [0; MODULUS_BYTES];
        self.pair
            .sign_digest(&RSA_PKCS1_SHA256, &message, &mut signature)
            .map_err(|_| KeyError::Sign)?;
        signature.reverse();
        put_signature(&mut bytes, &self.modulus, &signature)?;
        UnverifiedSigstruct::parse(&bytes)?.verify()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<redacted enclave signing key of {}>", self.mrsigner())
    }
}

/// The modulus, little-endian. DER of an RSAPublicKey (RFC 8017 A.1.1) has one form for 3072 bits
/// and exponent 3, so it is matched and not parsed.
fn public_modulus(pair: &KeyPair) -> Result<Modulus, SgxError> {
    let bits = pair.public_modulus_len().saturating_mul(8);
    if bits != MODULUS_BYTES * 8 {
        return Err(KeyError::Bits { got: bits }.into());
    }
    let public = pair.public_key();
    let modulus = public
        .as_ref()
        .strip_prefix(&[0x30, 0x82, 0x01, 0x88, 0x02, 0x82, 0x01, 0x81, 0x00])
        .and_then(|rest| rest.strip_suffix(&[0x02, 0x01, 0x03]))
        .and_then(|rest| <[u8; MODULUS_BYTES]>::try_from(rest).ok());
    let mut modulus = modulus.ok_or(KeyError::Exponent)?;
    modulus.reverse();
    Ok(Modulus::from_le_bytes(&modulus)?)
}

/// The label and bytes of the only PEM block (RFC 7468). Text around it is refused.
fn read_pem(pem: &[u8]) -> Option<(&str, Zeroizing<Vec<u8>>)> {
    let text = core::str::from_utf8(pem).ok()?.trim_ascii();
    let (label, rest) = text.strip_prefix("-----BEGIN ")?.split_once("-----")?;
    let (body, end) = rest.split_once("-----END ")?;
    if end.strip_suffix("-----")? != label {
        return None;
    }
    let mut digits = Zeroizing::new(Vec::with_capacity(body.len()));
    digits.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; digits.len()]);
    let len = STANDARD.decode_slice(&*digits, &mut der).ok()?;
    der.truncate(len);
    Some((label, der))
}
