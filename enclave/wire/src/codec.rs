//! The one canonical binary encoding: big-endian integers, byte strings with a `u32` length,
//! no padding, no optional parts. Input is attacker-controlled; no length field is believed
//! before the bytes behind it are seen.

use thiserror::Error;

/// Why a canonical encoding was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// The input ended inside a field.
    #[error("{what}: input ends early: {expected} bytes expected, {got} left")]
    Truncated {
        /// The field being read.
        what: &'static str,
        /// Bytes the field needs.
        expected: usize,
        /// Bytes that were left.
        got: usize,
    },
    /// A length or count field is above its limit.
    #[error("{what}: {got} is over the limit of {limit}")]
    TooLarge {
        /// The field being read.
        what: &'static str,
        /// The named limit.
        limit: usize,
        /// What the input asked for.
        got: usize,
    },
    /// Bytes follow the end of the value.
    #[error("{what}: {got} bytes follow the end of the value")]
    TrailingBytes {
        /// The value that was read.
        what: &'static str,
        /// Number of bytes left over.
        got: usize,
    },
    /// The magic or version is not one this build knows.
    #[error("{what}: version {got:#x} is not supported; this build reads {expected:#x}")]
    UnsupportedVersion {
        /// The value that was read.
        what: &'static str,
        /// Version this build reads.
        expected: u64,
        /// Version found.
        got: u64,
    },
    /// An enumerated field has a value without a meaning.
    #[error("{what}: value {got:#x} has no meaning")]
    UnknownValue {
        /// The field being read.
        what: &'static str,
        /// The value found.
        got: u64,
    },
    /// Text that should be hex is not, or has the wrong length.
    #[error("{what}: expected {expected_chars} hexadecimal digits, got {got_chars} characters")]
    Hex {
        /// The identifier being parsed.
        what: &'static str,
        /// Digits expected.
        expected_chars: usize,
        /// Characters found.
        got_chars: usize,
    },
    /// The value is readable but not in its only allowed spelling.
    #[error("{what}: not in canonical form")]
    NotCanonical {
        /// The value being parsed.
        what: &'static str,
    },
}

/// Writes the canonical encoding.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// An empty encoder.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Appends a big-endian `u16`.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a big-endian `u32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a big-endian `u64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a big-endian `i32`.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends bytes of a length both sides know.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// Appends a `u32` length and the bytes. Values over 4 GiB do not exist here: every caller
    /// bounds its input by a constant of [`crate::limits`].
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX)).raw(value)
    }

    /// The encoding so far.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads the canonical encoding from untrusted bytes.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads exactly `len` bytes.
    pub fn take(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(WireError::Truncated {
            what,
            expected: len,
            got: self.rest.len(),
        })?;
        self.rest = tail;
        Ok(head)
    }

    /// Reads a fixed-size array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let mut out = [0u8; N];
        out.copy_from_slice(self.take(what, N)?);
        Ok(out)
    }

    /// Reads one byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }

    /// Reads a big-endian `u16`.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// Reads a big-endian `u32`.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// Reads a big-endian `u64`.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    /// Reads a big-endian `i32`.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    /// Reads a `u32` length, refuses it above `limit`, then reads that many bytes.
    pub fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(self.u32(what)?).unwrap_or(usize::MAX);
        if len > limit {
            return Err(WireError::TooLarge { what, limit, got: len });
        }
        self.take(what, len)
    }

    /// Refuses trailing bytes.
    pub const fn finish(self, what: &'static str) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::TrailingBytes { what, got: self.rest.len() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written() {
        let mut e = Encoder::new();
        e.u8(1).u16(2).u32(3).u64(4).i32(-5).bytes(b"six").raw(b"7");
        let bytes = e.finish();
        let mut d = Decoder::new(&bytes);
        assert_eq!(d.u8("a").unwrap(), 1);
        assert_eq!(d.u16("b").unwrap(), 2);
        assert_eq!(d.u32("c").unwrap(), 3);
        assert_eq!(d.u64("d").unwrap(), 4);
        assert_eq!(d.i32("e").unwrap(), -5);
        assert_eq!(d.bytes("f", 3).unwrap(), b"six");
        assert_eq!(d.take("g", 1).unwrap(), b"7");
        d.finish("all").unwrap();
    }

    #[test]
    fn refuses_length_over_its_limit_before_reading() {
        let mut d = Decoder::new(&[0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(d.bytes("field", 10), Err(WireError::TooLarge { limit: 10, .. })));
    }

    #[test]
    fn refuses_input_that_ends_inside_a_field() {
        let mut d = Decoder::new(&[0, 0, 0, 4, 1, 2]);
        assert_eq!(
            d.bytes("field", 10),
            Err(WireError::Truncated { what: "field", expected: 4, got: 2 })
        );
    }

    #[test]
    fn refuses_trailing_bytes() {
        assert_eq!(
            Decoder::new(b"x").finish("value"),
            Err(WireError::TrailingBytes { what: "value", got: 1 })
        );
    }
}
