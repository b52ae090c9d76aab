//! Fixed-size identifiers. They print as lower-case hex and parse from exactly that.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::codec::WireError;

/// Defines a fixed-size byte identifier with hex text form, serde as a hex string and ordering.
macro_rules! hex_id {
    ($(#[$meta:meta])* $name:ident, $len:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = WireError;

            fn from_str(text: &str) -> Result<Self, WireError> {
                let mut bytes = [0u8; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| WireError::Hex {
                    what: stringify!($name),
                    expected_chars: $len * 2,
                    got_chars: text.len(),
                })?;
                // One spelling per value: ids end up in signed and hashed text.
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(WireError::NotCanonical { what: stringify!($name) });
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// A 32-byte hash. Which hash function made it is stated where it is used.
    Digest,
    32
);
hex_id!(
    /// Random id of one sealed request, chosen by the client.
    RequestId,
    16
);
hex_id!(
    /// Id of a seal key: the first 16 bytes of `SHA-256(suite || public key)`.
    KeyId,
    16
);

hex_id!(
    /// The value of a measurement register (SHA-384).
    RegisterValue,
    48
);

/// TON `global_id` of the network a worker serves; part of the measured manifest, of every seal
/// header and of every signed receipt, so nothing crosses from one network to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(pub i32);

impl NetworkId {
    /// TON mainnet.
    pub const MAINNET: Self = Self(-239);
    /// TON testnet.
    pub const TESTNET: Self = Self(-3);
    /// Chrysalis simulation. Receipts of this network can never be settled ("SIM" in ASCII).
    pub const INSECURE_SIM: Self = Self(0x53_49_4d);
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MAINNET => f.write_str("TON mainnet (-239)"),
            Self::TESTNET => f.write_str("TON testnet (-3)"),
            Self::INSECURE_SIM => f.write_str("INSECURE-SIM (5458253)"),
            Self(other) => write!(f, "network {other}"),
        }
    }
}

/// Seconds since the Unix epoch. Always an argument; the crates below `main.rs` own no clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The same instant in milliseconds, saturating.
    #[must_use]
    pub const fn millis(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(1000))
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The same instant in whole seconds.
    #[must_use]
    pub const fn seconds(self) -> UnixTime {
        UnixTime(self.0 / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_lower_case_hex() {
        let id = RequestId([0xab; 16]);
        assert_eq!(id.to_string().parse::<RequestId>().unwrap(), id);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{}\"", "ab".repeat(16)));
    }

    #[test]
    fn refuses_hex_of_wrong_length() {
        assert!(matches!("abcd".parse::<Digest>(), Err(WireError::Hex { expected_chars: 64, .. })));
    }

    #[test]
    fn refuses_upper_case_hex() {
        let text = "AB".repeat(16);
        assert!(matches!(text.parse::<KeyId>(), Err(WireError::NotCanonical { .. })));
    }
}
