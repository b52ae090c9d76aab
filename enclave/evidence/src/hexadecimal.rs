//! Fixed-size byte arrays as lower-case hex in text formats. One spelling per value: pins and
//! documents are hashed and compared as text.

use serde::{Deserialize, Serialize};

/// Reads exactly `N` bytes of lower-case hex.
pub(crate) fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (!has_upper(text)).then_some(bytes)
}

/// Reads lower-case hex of any length; `None` also when the text is upper-case.
pub(crate) fn parse_vec(text: &str) -> Option<Vec<u8>> {
    if has_upper(text) { None } else { hex::decode(text).ok() }
}

/// A certificate's serial number as it is compared: its bytes without zeros before them. DER writes
/// one before a number whose first bit is set, and tools that print the number do not.
pub(crate) fn serial(bytes: &[u8]) -> String {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    hex::encode(bytes.get(first..).unwrap_or_default())
}

/// Reads a serial number of 1 to 20 bytes (RFC 5280 §4.1.2.2) and perhaps zeros before it, together
/// at most [`MAX_SERIAL_BYTES`]; `None` for zero, which no certificate has.
pub(crate) fn parse_serial(text: &str) -> Option<String> {
    let bytes = parse_vec(text).filter(|bytes| bytes.len() <= MAX_SERIAL_BYTES)?;
    Some(serial(&bytes)).filter(|serial| !serial.is_empty())
}

/// A serial number of 20 bytes and a sign.
const MAX_SERIAL_BYTES: usize = 21;

fn has_upper(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

/// `N` bytes that are hex in serde formats.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct HexArray<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> Serialize for HexArray<N> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for HexArray<N> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        parse(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "expected {} lower-case hex digits",
                N.saturating_mul(2)
            ))
        })
    }
}

/// serde for `[u8; N]` fields: `#[serde(with = "crate::hexadecimal::array")]`.
pub(crate) mod array {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::HexArray;

    /// Writes hex.
    pub(crate) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        s: S,
    ) -> Result<S::Ok, S::Error> {
        HexArray(*bytes).serialize(s)
    }

    /// Reads hex.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        d: D,
    ) -> Result<[u8; N], D::Error> {
        HexArray::deserialize(d).map(|h| h.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_upper_case_and_wrong_length() {
        assert_eq!(parse::<2>("0aff"), Some([0x0a, 0xff]));
        assert_eq!(parse::<2>("0AFF"), None);
        assert_eq!(parse::<2>("0af"), None);
        assert_eq!(parse::<2>("0aff00"), None);
        assert_eq!(parse_vec("0A"), None);
    }

    #[test]
    fn a_serial_number_is_the_same_with_and_without_zeros_before_it() {
        for text in ["9f00", "009f00", "0000009f00"] {
            assert_eq!(parse_serial(text).as_deref(), Some("9f00"), "{text}");
        }
        assert_eq!(parse_serial(&"9f".repeat(21)), Some("9f".repeat(21)));
        for text in ["", "00", "0000", "9", "9F", &"9f".repeat(22)] {
            assert_eq!(parse_serial(text), None, "{text}");
        }
    }
}
