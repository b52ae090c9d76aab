//! Makes certificates field by field, right and wrong ones, without the library that makes the
//! real ones. Quotes are filler: a header and report data.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};

use crate::key::PublicKey;
use crate::oid::{OID_COCOON_CLAIMS, OID_COCOON_QUOTE, OID_GRAMINE_QUOTE, OID_TAGGED_EVIDENCE};
use crate::{Claims, Format, TaggedEvidence};

pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];
pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x25];

pub(crate) enum Key {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub(crate) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    pub(crate) fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        let (algorithm, raw) = match self {
            Self::P256(key) => {
                ("301306072a8648ce3d020106082a8648ce3d030107", key.public_key().as_ref())
            }
            Self::Ed25519(key) => ("300506032b6570", key.public_key().as_ref()),
        };
        let bits = der(0x03, &[&[0], raw].concat());
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
            Self::P256(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// A certificate in the making; every field is DER already.
pub(crate) struct Forge {
    pub(crate) key: Key,
    pub(crate) version: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) outer_algorithm: Option<Vec<u8>>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) validity: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
    /// After the extensions, inside what is signed.
    pub(crate) tail: Vec<u8>,
}

impl Forge {
    /// A certificate of this format that is accepted.
    pub(crate) fn new(format: Format) -> Self {
        let key = if format == Format::Cocoon { Key::ed25519() } else { Key::p256() };
        Self::with(key, |key| evidence(format, key))
    }

    pub(crate) fn with(key: Key, extensions: impl Fn(&PublicKey) -> Vec<Vec<u8>>) -> Self {
        let name = der(0x30, &[]);
        Self {
            version: der(0xA0, &[2, 1, 2]),
            serial: vec![2, 1, 1],
            algorithm: key.algorithm(),
            outer_algorithm: None,
            issuer: name.clone(),
            validity: validity("260101000000Z", "270101000000Z"),
            subject: name,
            spki: key.spki(),
            extensions: extensions(&key.public()),
            tail: Vec::new(),
            key,
        }
    }

    pub(crate) fn extended(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    pub(crate) fn sign(&self) -> Vec<u8> {
        let fields = [
            &self.version[..],
            &self.serial,
            &self.algorithm,
            &self.issuer,
            &self.validity,
            &self.subject,
            &self.spki,
            &der(0xA3, &der(0x30, &self.extensions.concat())),
            &self.tail,
        ];
        let signed = der(0x30, &fields.concat());
        let signature = der(0x03, &[vec![0], self.key.sign(&signed)].concat());
        let algorithm = self.outer_algorithm.as_ref().unwrap_or(&self.algorithm);
        der(0x30, &[&signed[..], algorithm, &signature].concat())
    }
}

/// Evidence extensions of a format, bound to `key` as the format says.
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
    let value = TaggedEvidence { quote: &quote, claims }.encode();
    extension(OID_TAGGED_EVIDENCE, false, &value)
}

/// A TDX quote of version 4 with zeros for everything but header and report data.
pub(crate) fn quote(report_data: &[u8; 64]) -> Vec<u8> {
    let mut quote = vec![0; 636];
    quote[..8].copy_from_slice(&[4, 0, 2, 0, 0x81, 0, 0, 0]);
    quote[568..632].copy_from_slice(report_data);
    quote
}

pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { vec![1, 1, 0xFF] } else { Vec::new() };
    der(0x30, &[der(0x06, oid), critical, der(0x04, value)].concat())
}

/// Two UTCTime or GeneralizedTime, told apart by their length.
pub(crate) fn validity(from: &str, until: &str) -> Vec<u8> {
    let time = |text: &str| der(if text.len() == 13 { 0x17 } else { 0x18 }, text.as_bytes());
    der(0x30, &[time(from), time(until)].concat())
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
