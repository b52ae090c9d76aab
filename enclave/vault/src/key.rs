//! The model key: 32 secret bytes that open sealed bundles. It reaches a worker only as a grant
//! sealed to the worker's attested key; it never prints, clones or serialises, and is wiped.

use core::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::error::VaultError;

/// Key of sealed bundles. Boxed, so that moving the value leaves no copy on the stack.
pub struct ModelKey(Box<Zeroizing<[u8; Self::LEN]>>);

impl ModelKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A new key from the caller's random generator.
    ///
    /// # Errors
    /// [`VaultError::NotRandom`] if `fill` left only zeros.
    pub fn generate(fill: impl FnOnce(&mut [u8])) -> Result<Self, VaultError> {
        let mut key = Box::new(Zeroizing::new([0u8; Self::LEN]));
        fill(key.as_mut_slice());
        Self::checked(key)
    }

    /// A key from 32 bytes.
    ///
    /// # Errors
    /// [`VaultError::KeyMalformed`] on another length, [`VaultError::NotRandom`] on all zeros.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, VaultError> {
        if bytes.len() != Self::LEN {
            return Err(VaultError::KeyMalformed { expected: "32 bytes" });
        }
        Self::generate(|key| key.copy_from_slice(bytes))
    }

    /// Reads the text form of a key file: `chrysalis-model-key-1:` and 64 lower-case hexadecimal
    /// digits, with or without a line end.
    ///
    /// # Errors
    /// [`VaultError::KeyMalformed`] on any other text, [`VaultError::NotRandom`] on all zeros.
    pub fn from_text(text: &str) -> Result<Self, VaultError> {
        let malformed =
            || VaultError::KeyMalformed { expected: "chrysalis-model-key-1:<64 hex digits>" };
        let digits = text.trim_end().strip_prefix(TEXT_PREFIX).ok_or_else(malformed)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(malformed());
        }
        let mut key = Box::new(Zeroizing::new([0u8; Self::LEN]));
        hex::decode_to_slice(digits, key.as_mut_slice()).map_err(|_| malformed())?;
        Self::checked(key)
    }

    /// The text form, for a key file readable by its owner only. The prefix lets secret scanners
    /// find a key that was committed by mistake.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut digits = [0u8; Self::LEN * 2];
        // Fixed lengths on both sides; it cannot fail.
        let _ = hex::encode_to_slice(self.expose(), &mut digits);
        let mut text = String::with_capacity(TEXT_PREFIX.len().saturating_add(digits.len()));
        text.push_str(TEXT_PREFIX);
        text.extend(digits.iter().map(|&b| char::from(b)));
        digits.zeroize();
        Zeroizing::new(text)
    }

    /// The bytes, to seal them into a grant.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    fn checked(key: Box<Zeroizing<[u8; Self::LEN]>>) -> Result<Self, VaultError> {
        if key.iter().all(|&b| b == 0) {
            return Err(VaultError::NotRandom { what: "model key" });
        }
        Ok(Self(key))
    }
}

impl fmt::Debug for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted model key>")
    }
}

const TEXT_PREFIX: &str = "chrysalis-model-key-1:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_its_text() {
        let key = ModelKey::from_bytes(&[0xab; 32]).unwrap();
        let text = key.to_text();
        assert_eq!(*text, format!("chrysalis-model-key-1:{}", "ab".repeat(32)));
        assert_eq!(ModelKey::from_text(&format!("{}\n", *text)).unwrap().expose(), &[0xab; 32]);
    }

    #[test]
    fn refuses_other_text() {
        let hex = "ab".repeat(32);
        for text in [
            String::new(),
            hex.clone(),
            format!("chrysalis-model-key-1:{}", &hex[1..]),
            format!("chrysalis-model-key-1:{hex}00"),
            format!("chrysalis-model-key-1:{}", hex.to_uppercase()),
            format!("chrysalis-model-key-2:{hex}"),
        ] {
            assert!(matches!(ModelKey::from_text(&text), Err(VaultError::KeyMalformed { .. })));
        }
    }

    #[test]
    fn refuses_a_key_of_another_length() {
        for len in [0, 31, 33] {
            let refused = ModelKey::from_bytes(&vec![1; len]);
            assert!(matches!(refused, Err(VaultError::KeyMalformed { .. })));
        }
    }

    #[test]
    fn refuses_a_generator_that_did_not_run() {
        let refused = ModelKey::generate(|_| ()).unwrap_err();
        assert_eq!(refused, VaultError::NotRandom { what: "model key" });
    }

    #[test]
    fn debug_does_not_print_the_key() {
        let key = ModelKey::from_bytes(&[0xab; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "<redacted model key>");
    }
}
