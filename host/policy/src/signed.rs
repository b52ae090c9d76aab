//! The signed form of a pins file: a DSSE envelope (Dead Simple Signing Envelope, version 1) around
//! the exact bytes of the file, with one Ed25519 signature. The release's in-toto statement names
//! the same envelope. A signed file is a stranger's until it opens under the key the caller pinned.
//!
//! ```text
//! {"payloadType":"application/vnd.chrysalis.pins+toml","payload":"<base64 of the file>",
//!  "signatures":[{"keyid":"<SHA-256 of the public key>","sig":"<base64, 64 bytes>"}]}
//! signed bytes = "DSSEv1 " len(type) " " type " " len(file) " " file     lengths in ASCII decimal
//! ```
//!
//! The file is not written anew, so there is no canonical form to agree on: what was signed is what
//! is read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_evidence::{AllowSim, MAX_PINS_BYTES, Pins};
use chrysalis_wire::Digest;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::PolicyError;

/// Media type of the signed bytes.
pub const PINS_PAYLOAD_TYPE: &str = "application/vnd.chrysalis.pins+toml";

/// Largest envelope read, in bytes: base64 adds a third to the file.
pub const MAX_SIGNED_PINS_BYTES: usize = MAX_PINS_BYTES / 3 * 4 + 4096;

/// The key a verifier pinned for a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinsKey(VerifyingKey);

impl PinsKey {
    /// Reads a public key: 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`PolicyError::Key`]; also for points of small order, under which signatures of anything
    /// hold.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let key = VerifyingKey::from_bytes(&digits(text)?).map_err(|_| PolicyError::Key)?;
        if key.is_weak() { Err(PolicyError::Key) } else { Ok(Self(key)) }
    }

    /// The key as it is written.
    #[must_use]
    pub fn to_text(&self) -> String {
        hex::encode(self.0.as_bytes())
    }

    /// SHA-256 of the key's bytes, which names it.
    #[must_use]
    pub fn id(&self) -> Digest {
        key_id(self.0.as_bytes())
    }
}

/// The key a publisher signs with. It does not print, and its memory is wiped.
pub struct PinsSecret(SigningKey);

impl PinsSecret {
    /// A key from 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads a secret key: 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`PolicyError::Key`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Ok(Self::from_seed(&Zeroizing::new(digits(text)?)))
    }

    /// The secret as it is written to a file of its owner's.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(*Zeroizing::new(self.0.to_bytes())))
    }

    /// What verifiers pin.
    #[must_use]
    pub fn public(&self) -> PinsKey {
        PinsKey(self.0.verifying_key())
    }
}

/// A pins file whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPins {
    text: String,
    pins: Pins,
    sequence: u64,
    key: Digest,
}

impl SignedPins {
    /// Signs a pins file that verifiers will read.
    ///
    /// # Errors
    /// [`PolicyError::Pins`] for a file verifiers would refuse, [`PolicyError::Unnumbered`].
    pub fn sign(text: &str, secret: &PinsSecret, sim: AllowSim) -> Result<String, PolicyError> {
        numbered(text, sim)?;
        let signature = secret.0.sign(&signed_bytes(text.as_bytes()));
        let envelope = Envelope {
            payload_type: PINS_PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(text),
            signatures: vec![OneSignature {
                keyid: secret.public().id().to_string(),
                sig: STANDARD.encode(signature.to_bytes()),
            }],
        };
        // Strings always serialise; an empty text would be refused on reading.
        Ok(serde_json::to_string(&envelope).unwrap_or_default())
    }

    /// Opens an envelope under the pinned key.
    ///
    /// # Errors
    /// [`PolicyError`]; the signature is verified before the file inside is parsed.
    pub fn open(envelope: &[u8], key: &PinsKey, sim: AllowSim) -> Result<Self, PolicyError> {
        if envelope.len() > MAX_SIGNED_PINS_BYTES {
            return Err(PolicyError::TooLarge { got: envelope.len() });
        }
        let form = |reason| PolicyError::Form { reason };
        let envelope: Envelope = serde_json::from_slice(envelope)
            .map_err(|_| form("not a DSSE envelope with payloadType, payload and signatures"))?;
        if envelope.payload_type != PINS_PAYLOAD_TYPE {
            return Err(form("the payload is of another type than pins"));
        }
        let [signature] = envelope.signatures.as_slice() else {
            return Err(form("exactly one signature is expected"));
        };
        if signature.keyid != key.id().to_string() {
            let got = signature.keyid.chars().filter(char::is_ascii_hexdigit).take(64).collect();
            return Err(PolicyError::OtherKey { expected: key.id(), got });
        }
        let payload =
            STANDARD.decode(&envelope.payload).map_err(|_| form("the payload is not base64"))?;
        let bytes =
            STANDARD.decode(&signature.sig).ok().and_then(|sig| <[u8; 64]>::try_from(sig).ok());
        let bytes = bytes.ok_or_else(|| form("the signature is not base64 of 64 bytes"))?;
        key.0
            .verify_strict(&signed_bytes(&payload), &Signature::from_bytes(&bytes))
            .map_err(|_| PolicyError::Signature)?;
        let text = String::from_utf8(payload).map_err(|_| form("the pins are not UTF-8 text"))?;
        let (pins, sequence) = numbered(&text, sim)?;
        Ok(Self { text, pins, sequence, key: key.id() })
    }

    /// The file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The pins in it.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Its number.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Id of the key that signed it.
    #[must_use]
    pub const fn key(&self) -> Digest {
        self.key
    }
}

/// SHA-256 of a public key's 32 bytes.
#[must_use]
pub fn key_id(key: &[u8; 32]) -> Digest {
    Digest(Sha256::digest(key).into())
}

pub(crate) fn numbered(text: &str, sim: AllowSim) -> Result<(Pins, u64), PolicyError> {
    let pins = Pins::parse(text, sim)?;
    let sequence = pins.sequence().ok_or(PolicyError::Unnumbered)?;
    Ok((pins, sequence))
}

/// DSSE's pre-authentication encoding: type and file with their lengths, so that neither can be
/// taken for the other.
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PINS_PAYLOAD_TYPE} {} ", PINS_PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn digits(text: &str) -> Result<[u8; 32], PolicyError> {
    let text = text.trim();
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| PolicyError::Key)?;
    if text.bytes().any(|b| b.is_ascii_uppercase()) { Err(PolicyError::Key) } else { Ok(bytes) }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<OneSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneSignature {
    keyid: String,
    sig: String,
}
