//! Certificates made field by field, with keys that anybody can compute: X.509 (RFC 5280) as RA-TLS
//! peers make it, and every way to get it wrong. INSECURE-SIM, as all of the corpus.

use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::SimPlatform;
use ed25519_dalek::Signer as _;
use gramine_ratls::{
    Claims, Format, OID_COCOON_CLAIMS, OID_COCOON_QUOTE, OID_GRAMINE_QUOTE, OID_TAGGED_EVIDENCE,
    PublicKey, TaggedEvidence,
};
use p256::ecdsa::Signature;
use sha2::{Digest as _, Sha256};

use crate::world::EXECUTABLE;

/// The key of a certificate; its secret is public.
#[derive(Clone)]
pub(crate) enum Key {
    P256(p256::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

impl Key {
    /// `secret = SHA-256("INSECURE-SIM FAKE CERTIFICATE KEY" || number)`.
    pub(crate) fn p256(number: u8) -> Self {
        Self::P256(p256::ecdsa::SigningKey::from_slice(&seed(number)).unwrap())
    }

    /// From the same secret.
    pub(crate) fn ed25519(number: u8) -> Self {
        Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(&seed(number)))
    }

    /// Its SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let (algorithm, raw) = match self {
            Self::P256(key) => (
                "301306072a8648ce3d020106082a8648ce3d030107",
                key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            ),
            Self::Ed25519(key) => ("300506032b6570", key.verifying_key().to_bytes().to_vec()),
        };
        let bits = der(0x03, &[vec![0], raw].concat());
        der(0x30, &[hex::decode(algorithm).unwrap(), bits].concat())
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::from_spki(&self.spki()).unwrap()
    }

    fn algorithm(&self) -> Vec<u8> {
        let oid = match self {
            Self::P256(_) => "06082a8648ce3d040302",
            Self::Ed25519(_) => "06032b6570",
        };
        der(0x30, &hex::decode(oid).unwrap())
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
        }
    }
}

fn seed(number: u8) -> [u8; 32] {
    Sha256::new()
        .chain_update("INSECURE-SIM FAKE CERTIFICATE KEY")
        .chain_update([number])
        .finalize()
        .into()
}

/// A certificate in the making; every field is DER already.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) signer: Key,
    pub(crate) version: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) validity: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
    /// Behind the extensions, inside what is signed.
    pub(crate) tail: Vec<u8>,
}

impl Certificate {
    /// A genuine certificate of a format.
    pub(crate) fn new(format: Format) -> Self {
        let key = if format == Format::Cocoon { Key::ed25519(0) } else { Key::p256(0) };
        let extensions = evidence(format, &key.public());
        Self::of(key, extensions)
    }

    /// A certificate of this key with these extensions.
    pub(crate) fn of(key: Key, extensions: Vec<Vec<u8>>) -> Self {
        Self {
            version: der(0xA0, &[2, 1, 2]),
            serial: vec![2, 1, 1],
            algorithm: key.algorithm(),
            issuer: der(0x30, &[]),
            validity: validity("260301000000Z", "260302000000Z"),
            spki: key.spki(),
            extensions,
            tail: Vec::new(),
            signer: key,
        }
    }

    /// The same with another extension.
    pub(crate) fn extended(mut self, oid: &[u8], critical: bool, value: &[u8]) -> Self {
        self.extensions.push(extension(oid, critical, value));
        self
    }

    /// Signs it.
    pub(crate) fn sign(&self) -> Vec<u8> {
        let fields = [
            &self.version[..],
            &self.serial,
            &self.algorithm,
            &self.issuer,
            &self.validity,
            &der(0x30, &[]),
            &self.spki,
            &der(0xA3, &der(0x30, &self.extensions.concat())),
            &self.tail,
        ];
        let signed = der(0x30, &fields.concat());
        let signature = der(0x03, &[vec![0], self.signer.sign(&signed)].concat());
        der(0x30, &[&signed[..], &self.algorithm, &signature].concat())
    }
}

/// The extensions of a format for this key, with a quote that is bound to it.
pub(crate) fn evidence(format: Format, key: &PublicKey) -> Vec<Vec<u8>> {
    match format {
        Format::Interoperable => vec![tagged(key, &Claims::of_key(key))],
        Format::Gramine => {
            let quote = quote(&format.report_data(key, &[]).0);
            vec![extension(OID_GRAMINE_QUOTE, false, &quote)]
        }
        Format::Cocoon => vec![
            extension(OID_COCOON_QUOTE, true, &quote(&format.report_data(key, &[]).0)),
            extension(OID_COCOON_CLAIMS, true, key.raw()),
        ],
    }
}

/// Tagged evidence with any claims, and a quote that is bound to them.
pub(crate) fn tagged(key: &PublicKey, claims: &[u8]) -> Vec<u8> {
    let quote = quote(&Format::Interoperable.report_data(key, claims).0);
    extension(OID_TAGGED_EVIDENCE, false, &TaggedEvidence { quote: &quote, claims }.encode())
}

/// A genuine quote over this report data.
pub(crate) fn quote(report_data: &[u8; 64]) -> Vec<u8> {
    SimPlatform::new(EXECUTABLE).quote(report_data).unwrap()
}

pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { vec![1, 1, 0xFF] } else { Vec::new() };
    der(0x30, &[der(0x06, oid), critical, der(0x04, value)].concat())
}

/// Two times as UTCTime.
pub(crate) fn validity(from: &str, until: &str) -> Vec<u8> {
    der(0x30, &[der(0x17, from.as_bytes()), der(0x17, until.as_bytes())].concat())
}

pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        0..0x80 => vec![tag, length[3]],
        0x80..0x100 => vec![tag, 0x81, length[3]],
        0x100..0x1_0000 => vec![tag, 0x82, length[2], length[3]],
        _ => vec![tag, 0x83, length[1], length[2], length[3]],
    };
    [&head[..], content].concat()
}
