//! The certificate formats and what each binds a quote to. These rules are the formats' own and
//! fixed: a quote made for one is never accepted as another.

use core::fmt;

use chrysalis_evidence::ReportData;
use sha2::{Digest as _, Sha256, Sha512};

use crate::key::{KeyKind, PublicKey};

/// How evidence stands in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// The interoperable format of Gramine 1.8, Intel's SGX SDK and rats-tls: TCG DICE tagged
    /// evidence (OID 2.23.133.5.4.9), CBOR. `report_data` = SHA-256(claims) and 32 zero bytes; the
    /// claims hash the SubjectPublicKeyInfo.
    Interoperable,
    /// Gramine's older extension, the bare quote. `report_data` = SHA-256(SubjectPublicKeyInfo) and
    /// 32 zero bytes.
    Gramine,
    /// Cocoon: two critical extensions with quote and raw key. `report_data` = SHA-512(raw Ed25519
    /// key), 32 bytes hashed.
    Cocoon,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Interoperable, Self::Gramine, Self::Cocoon];

    /// Whether certificates of this format may carry such a key. Gramine's own verifier knows
    /// P-256 and P-384, Cocoon's only Ed25519.
    #[must_use]
    pub const fn allows(self, kind: KeyKind) -> bool {
        match self {
            Self::Interoperable | Self::Gramine => matches!(kind, KeyKind::P256 | KeyKind::P384),
            Self::Cocoon => matches!(kind, KeyKind::Ed25519),
        }
    }

    /// What a quote must carry to vouch for `key`. `claims` are the exact claim bytes of an
    /// [`Format::Interoperable`] certificate; the other formats have none and ignore them.
    #[must_use]
    pub fn report_data(self, key: &PublicKey, claims: &[u8]) -> ReportData {
        match self {
            Self::Interoperable => padded(Sha256::digest(claims).into()),
            Self::Gramine => padded(key.spki_sha256().0),
            Self::Cocoon => ReportData(Sha512::digest(key.raw()).into()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interoperable => "interoperable (DICE tagged evidence)",
            Self::Gramine => "Gramine (bare quote)",
            Self::Cocoon => "Cocoon",
        })
    }
}

fn padded(hash: [u8; 32]) -> ReportData {
    let mut data = [0; 64];
    for (to, from) in data.iter_mut().zip(hash) {
        *to = from;
    }
    ReportData(data)
}
