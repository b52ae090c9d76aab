//! Certificates for the RA-TLS targets, signed with keys that everybody knows, so that an input
//! means the same in every run.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use gramine_ratls::{
    Claims, Format, OID_COCOON_CLAIMS, OID_COCOON_QUOTE, OID_GRAMINE_QUOTE, OID_TAGGED_EVIDENCE,
    PublicKey, TaggedEvidence,
};

/// The P-256 key 1, whose public point is the base point.
static P256: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    let mut one = [0; 32];
    one[31] = 1;
    EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &one,
        &P256_BASE_POINT,
    )
    .expect("1 is a private key")
});

static ED25519: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("any seed is a key"));

/// The P-256 key as certificates carry it.
pub fn p256_key() -> PublicKey {
    PublicKey::from_spki(&p256_spki()).expect("it is a key")
}

/// A TDX quote of version 4 with zeros for everything but header and report data.
pub fn quote(report_data: &[u8; 64]) -> Vec<u8> {
    let mut quote = vec![0; 636];
    quote[..8].copy_from_slice(&[4, 0, 2, 0, 0x81, 0, 0, 0]);
    quote[568..632].copy_from_slice(report_data);
    quote
}

/// To-be-signed parts of one good certificate in each format, and of Gramine's pair.
pub fn seeds_to_be_signed() -> Vec<Vec<u8>> {
    let p256 = p256_key();
    let claims = Claims::of_key(&p256);
    let tagged_quote = quote(&Format::Interoperable.report_data(&p256, &claims).0);
    let tagged = TaggedEvidence { quote: &tagged_quote, claims: &claims }.encode();
    let tagged = extension(OID_TAGGED_EVIDENCE, false, &tagged);
    let bare = quote(&Format::Gramine.report_data(&p256, &[]).0);
    let bare = extension(OID_GRAMINE_QUOTE, false, &bare);
    let ed25519 = PublicKey::from_spki(&ed25519_spki()).expect("it is a key");
    let cocoon = [
        extension(OID_COCOON_QUOTE, true, &quote(&Format::Cocoon.report_data(&ed25519, &[]).0)),
        extension(OID_COCOON_CLAIMS, true, ed25519.raw()),
        // CA:FALSE, digitalSignature, serverAuth and clientAuth.
        extension(&[0x55, 0x1D, 0x13], true, &[0x30, 0]),
        extension(&[0x55, 0x1D, 0x0F], true, &[3, 2, 7, 0x80]),
        extension(&[0x55, 0x1D, 0x25], true, PURPOSES),
    ];
    vec![
        to_be_signed(ECDSA_SHA256, &p256_spki(), &tagged),
        to_be_signed(ECDSA_SHA256, &p256_spki(), &bare),
        to_be_signed(ECDSA_SHA256, &p256_spki(), &[bare, tagged].concat()),
        to_be_signed(ED25519_ALGORITHM, &ed25519_spki(), &cocoon.concat()),
    ]
}

/// The certificates around a to-be-signed part, one signed with each key.
pub fn signed(to_be_signed: &[u8]) -> [Vec<u8>; 2] {
    let ecdsa = P256.sign(&SystemRandom::new(), to_be_signed).expect("it signs");
    [(ECDSA_SHA256, ecdsa), (ED25519_ALGORITHM, ED25519.sign(to_be_signed))].map(
        |(algorithm, signature)| {
            let bits = der(3, &[&[0], signature.as_ref()].concat());
            der(0x30, &[to_be_signed, algorithm, &bits].concat())
        },
    )
}

fn to_be_signed(algorithm: &[u8], spki: &[u8], extensions: &[u8]) -> Vec<u8> {
    let time = |text: &str| der(0x17, text.as_bytes());
    let validity = der(0x30, &[time("260101000000Z"), time("270101000000Z")].concat());
    let name = der(0x30, &[]);
    let extensions = der(0xA3, &der(0x30, extensions));
    let head: &[u8] = &[0xA0, 3, 2, 1, 2, 2, 1, 1];
    let fields = [head, algorithm, &name, &validity, &name, spki, &extensions];
    der(0x30, &fields.concat())
}

fn p256_spki() -> Vec<u8> {
    spki(P256_ALGORITHM, P256.public_key().as_ref())
}

fn ed25519_spki() -> Vec<u8> {
    spki(ED25519_ALGORITHM, ED25519.public_key().as_ref())
}

fn spki(algorithm: &[u8], raw: &[u8]) -> Vec<u8> {
    der(0x30, &[algorithm, &der(3, &[&[0], raw].concat())].concat())
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xFF] } else { &[] };
    der(0x30, &[&der(6, oid), critical, &der(4, value)].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    let head = match content.len() {
        0..0x80 => vec![tag, length[3]],
        0x80..0x100 => vec![tag, 0x81, length[3]],
        0x100..0x1_0000 => vec![tag, 0x82, length[2], length[3]],
        _ => vec![tag, 0x83, length[1], length[2], length[3]],
    };
    [&head[..], content].concat()
}

const P256_ALGORITHM: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86, 0x48,
    0xCE, 0x3D, 0x03, 0x01, 0x07,
];
const ECDSA_SHA256: &[u8] =
    &[0x30, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];
const ED25519_ALGORITHM: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70];
const PURPOSES: &[u8] = &[
    0x30, 0x14, 0x06, 0x08, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01, 0x06, 0x08, 0x2B, 0x06,
    0x01, 0x05, 0x05, 0x07, 0x03, 0x02,
];
/// SEC 2, secp256r1, G uncompressed.
const P256_BASE_POINT: [u8; 65] = [
    0x04, 0x6B, 0x17, 0xD1, 0xF2, 0xE1, 0x2C, 0x42, 0x47, 0xF8, 0xBC, 0xE6, 0xE5, 0x63, 0xA4, 0x40,
    0xF2, 0x77, 0x03, 0x7D, 0x81, 0x2D, 0xEB, 0x33, 0xA0, 0xF4, 0xA1, 0x39, 0x45, 0xD8, 0x98, 0xC2,
    0x96, 0x4F, 0xE3, 0x42, 0xE2, 0xFE, 0x1A, 0x7F, 0x9B, 0x8E, 0xE7, 0xEB, 0x4A, 0x7C, 0x0F, 0x9E,
    0x16, 0x2B, 0xCE, 0x33, 0x57, 0x6B, 0x31, 0x5E, 0xCE, 0xCB, 0xB6, 0x40, 0x68, 0x37, 0xBF, 0x51,
    0xF5,
];
