//! How values are spelled in JSON documents: each in one way, so that a document of a stranger has no
//! second form. For `#[serde(with = "...")]`.

/// Lower-case hex of a fixed length.
pub mod hex_bytes {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    /// Writes the bytes.
    ///
    /// # Errors
    /// The serialiser's own.
    pub fn serialize<const N: usize, S: Serializer>(
        bytes: &[u8; N],
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(bytes))
    }

    /// Reads exactly `N` bytes.
    ///
    /// # Errors
    /// The deserialiser's own, and for any other text.
    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
        d: D,
    ) -> Result<[u8; N], D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        let mut out = [0u8; N];
        let well_formed = hex::decode_to_slice(text.as_ref(), &mut out).is_ok()
            && !text.bytes().any(|b| b.is_ascii_uppercase());
        if well_formed {
            Ok(out)
        } else {
            Err(D::Error::custom(format_args!("expected {N} bytes as lower-case hex")))
        }
    }
}

/// A decimal string in its only spelling: digits, no sign, no leading zero.
pub mod decimal {
    use core::fmt::Display;
    use core::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    /// Writes the number.
    ///
    /// # Errors
    /// The serialiser's own.
    pub fn serialize<T: Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    /// Reads the number.
    ///
    /// # Errors
    /// The deserialiser's own, and for any other text.
    pub fn deserialize<'de, T: FromStr + Display, D: Deserializer<'de>>(
        d: D,
    ) -> Result<T, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse::<T>()
            .ok()
            .filter(|value| value.to_string() == text.as_ref())
            .ok_or_else(|| D::Error::custom("expected a whole number as a decimal string"))
    }
}
