//! SHA-384 values: event digests and registers, and the one operation that joins them.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha384};

use super::error::TdxError;

/// A SHA-384 value: the digest of one event, or a measurement register. 48 bytes; prints as 96
/// lower-case hexadecimal digits and parses from exactly that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha384Digest(pub [u8; 48]);

impl Sha384Digest {
    /// A runtime register at TD start.
    pub const ZERO: Self = Self([0; 48]);

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha384::digest(bytes).into())
    }

    /// `SHA-384(self || digest)`: what `TDG.MR.RTMR.EXTEND` does (TDX module ABI).
    #[must_use]
    pub fn extend(self, digest: &Self) -> Self {
        let mut hash = Sha384::new();
        hash.update(self.0);
        hash.update(digest.0);
        Self(hash.finalize().into())
    }

    /// The register after `digests`, from zero.
    pub fn replay<'a>(digests: impl IntoIterator<Item = &'a Self>) -> Self {
        digests.into_iter().fold(Self::ZERO, Self::extend)
    }
}

impl fmt::Display for Sha384Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha384Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha384Digest {
    type Err = TdxError;

    fn from_str(text: &str) -> Result<Self, TdxError> {
        let mut bytes = [0u8; 48];
        let upper = text.bytes().any(|b| b.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if !upper => Ok(Self(bytes)),
            _ => Err(TdxError::Hex { expected_chars: 96, got_chars: text.chars().count() }),
        }
    }
}

impl Serialize for Sha384Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha384Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
