//! Reads the CBOR of tagged evidence (RFC 8949 §4.2.1): lengths are definite, every number is in
//! its shortest form, depth and counts are bounded. Input is attacker-controlled.
//!
//! One rule of the deterministic encoding is left out on purpose: map keys need no order, because
//! rats-tls writes `pubkey-hash` before shorter names. Keys are unique, and the hash is over the
//! bytes as they came, so order carries no meaning.

use thiserror::Error;

/// Deepest nesting read below the claims map; the known claims need none.
pub const MAX_CBOR_DEPTH: usize = 4;
/// Most entries of one map or array.
pub const MAX_CBOR_ENTRIES: u64 = 64;

/// Why CBOR was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CborError {
    /// The input ends inside an item.
    #[error("ends inside {what}")]
    Truncated {
        /// The item being read.
        what: &'static str,
    },
    /// Another kind of item than the format has there.
    #[error("{what}: CBOR major type {expected} is expected, {got} found")]
    Type {
        /// The item being read.
        what: &'static str,
        /// Major type the format has there.
        expected: u8,
        /// Major type found.
        got: u8,
    },
    /// A number that is longer than it must be, or an indefinite length.
    #[error("{what}: not in deterministic form")]
    NotDeterministic {
        /// The item being read.
        what: &'static str,
    },
    /// A count or a depth over its limit.
    #[error("{what}: {got} is over the limit of {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The named limit.
        limit: u64,
        /// What was found.
        got: u64,
    },
    /// An array of another length than the format has there.
    #[error("{what}: {got} entries, {expected} are expected")]
    Entries {
        /// The item being read.
        what: &'static str,
        /// Entries the format has there.
        expected: u64,
        /// Entries found.
        got: u64,
    },
    /// Floating point and simple values other than false, true, null and undefined.
    #[error("{what}: floating point and unassigned simple values are not read")]
    Simple {
        /// The item being read.
        what: &'static str,
    },
    /// A text that is not UTF-8.
    #[error("{what}: not UTF-8")]
    Text {
        /// The item being read.
        what: &'static str,
    },
    /// A map with the same key twice.
    #[error("{what}: the same key twice")]
    DuplicateKey {
        /// The map being read.
        what: &'static str,
    },
    /// Bytes follow the end of the item.
    #[error("{got} bytes follow the end of the {what}")]
    Trailing {
        /// The item that should have ended.
        what: &'static str,
        /// Bytes left over.
        got: usize,
    },
}

pub(crate) const UNSIGNED: u8 = 0;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;
pub(crate) const TAG: u8 = 6;
pub(crate) const SIMPLE: u8 = 7;

/// A position in a run of CBOR items.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    pub(crate) fn unsigned(&mut self, what: &'static str) -> Result<u64, CborError> {
        self.head_of(UNSIGNED, what)
    }

    pub(crate) fn tag(&mut self, what: &'static str) -> Result<u64, CborError> {
        self.head_of(TAG, what)
    }

    /// Number of entries of a map.
    pub(crate) fn map(&mut self, what: &'static str) -> Result<u64, CborError> {
        let got = self.head_of(MAP, what)?;
        bounded(got, what)
    }

    /// Refuses an array of any other length.
    pub(crate) fn array(&mut self, expected: u64, what: &'static str) -> Result<(), CborError> {
        let got = self.head_of(ARRAY, what)?;
        if got == expected { Ok(()) } else { Err(CborError::Entries { what, expected, got }) }
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], CborError> {
        let length = self.head_of(BYTES, what)?;
        self.take(length, what)
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, CborError> {
        let length = self.head_of(TEXT, what)?;
        core::str::from_utf8(self.take(length, what)?).map_err(|_| CborError::Text { what })
    }

    /// Reads over one item of any kind, with everything in it, and refuses what is not
    /// deterministic.
    pub(crate) fn skip(&mut self, what: &'static str) -> Result<(), CborError> {
        self.skip_at(0, what)
    }

    fn skip_at(&mut self, depth: usize, what: &'static str) -> Result<(), CborError> {
        if depth > MAX_CBOR_DEPTH {
            let (limit, got) = (MAX_CBOR_DEPTH as u64, depth as u64);
            return Err(CborError::Limit { what: "nesting depth", limit, got });
        }
        let deeper = depth.saturating_add(1);
        let (major, value) = self.head(what)?;
        match major {
            BYTES => self.take(value, what).map(drop),
            TEXT => core::str::from_utf8(self.take(value, what)?)
                .map(drop)
                .map_err(|_| CborError::Text { what }),
            ARRAY => (0..bounded(value, what)?).try_for_each(|_| self.skip_at(deeper, what)),
            MAP => {
                let mut keys = Vec::new();
                for _ in 0..bounded(value, what)? {
                    let before = self.rest;
                    self.skip_at(deeper, what)?;
                    let length = before.len().saturating_sub(self.rest.len());
                    let key = before.get(..length).unwrap_or_default();
                    if keys.contains(&key) {
                        return Err(CborError::DuplicateKey { what });
                    }
                    keys.push(key);
                    self.skip_at(deeper, what)?;
                }
                Ok(())
            }
            TAG => self.skip_at(deeper, what),
            SIMPLE if !(20..=23).contains(&value) => Err(CborError::Simple { what }),
            // Numbers are whole with their head; so are false, true, null and undefined.
            _ => Ok(()),
        }
    }

    pub(crate) const fn finish(self, what: &'static str) -> Result<(), CborError> {
        match self.rest.len() {
            0 => Ok(()),
            got => Err(CborError::Trailing { what, got }),
        }
    }

    fn head_of(&mut self, expected: u8, what: &'static str) -> Result<u64, CborError> {
        match self.head(what)? {
            (major, value) if major == expected => Ok(value),
            (got, _) => Err(CborError::Type { what, expected, got }),
        }
    }

    /// Major type and argument of the next item.
    fn head(&mut self, what: &'static str) -> Result<(u8, u64), CborError> {
        let (first, rest) = self.rest.split_first().ok_or(CborError::Truncated { what })?;
        self.rest = rest;
        let (major, info) = (first >> 5, first & 0x1F);
        let (count, least) = match info {
            0..=23 => return Ok((major, u64::from(info))),
            // In major type 7 these are not numbers: a simple value in two bytes, and floats.
            24..=27 if major == SIMPLE => return Err(CborError::Simple { what }),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(CborError::NotDeterministic { what }),
        };
        let value = self.take(count, what)?.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b));
        if value < least {
            return Err(CborError::NotDeterministic { what });
        }
        Ok((major, value))
    }

    fn take(&mut self, count: u64, what: &'static str) -> Result<&'a [u8], CborError> {
        let (head, rest) = usize::try_from(count)
            .ok()
            .and_then(|count| self.rest.split_at_checked(count))
            .ok_or(CborError::Truncated { what })?;
        self.rest = rest;
        Ok(head)
    }
}

fn bounded(got: u64, what: &'static str) -> Result<u64, CborError> {
    let limit = MAX_CBOR_ENTRIES;
    if got > limit { Err(CborError::Limit { what, limit, got }) } else { Ok(got) }
}

/// Appends the head of an item in its shortest form.
pub(crate) fn write_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let top = major << 5;
    match value {
        0..24 => out.push(top | u8::try_from(value).unwrap_or_default()),
        24..0x100 => out.extend([top | 24, u8::try_from(value).unwrap_or_default()]),
        0x100..0x1_0000 => {
            out.push(top | 25);
            out.extend(u16::try_from(value).unwrap_or_default().to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(top | 26);
            out.extend(u32::try_from(value).unwrap_or_default().to_be_bytes());
        }
        _ => {
            out.push(top | 27);
            out.extend(value.to_be_bytes());
        }
    }
}

/// Appends a byte string.
pub(crate) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_head(out, BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a text string.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(bytes: &[u8]) -> Result<(), CborError> {
        let mut reader = Reader::new(bytes);
        reader.skip("item")?;
        reader.finish("item")
    }

    #[test]
    fn numbers_round_trip_in_their_shortest_form() {
        let edges =
            [0, 23, 24, 0xFF, 0x100, 0xFFFF, 0x1_0000, 0xFFFF_FFFF, 0x1_0000_0000, u64::MAX];
        for (value, length) in edges.into_iter().zip([1, 1, 2, 2, 3, 3, 5, 5, 9, 9]) {
            let mut out = Vec::new();
            write_head(&mut out, UNSIGNED, value);
            assert_eq!(out.len(), length);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.unsigned("number"), Ok(value));
            assert_eq!(reader.finish("number"), Ok(()));
        }
    }

    #[test]
    fn refuses_numbers_that_are_longer_than_needed() {
        for long in ["1817", "1900ff", "1a0000ffff", "1b00000000ffffffff", "1800", "581700"] {
            let bytes = hex::decode(long).unwrap();
            assert_eq!(skip(&bytes), Err(CborError::NotDeterministic { what: "item" }), "{long}");
        }
    }

    #[test]
    fn refuses_indefinite_lengths_and_reserved_heads() {
        for bad in ["5f4100ff", "7f6100ff", "9f00ff", "bf0000ff", "ff", "1c", "1d", "1e"] {
            let bytes = hex::decode(bad).unwrap();
            assert_eq!(skip(&bytes), Err(CborError::NotDeterministic { what: "item" }), "{bad}");
        }
    }

    #[test]
    fn reads_the_four_simple_values_and_no_other() {
        for good in [0xF4, 0xF5, 0xF6, 0xF7] {
            assert_eq!(skip(&[good]), Ok(()));
        }
        for bad in ["e0", "f3", "f820", "f93c00", "fa3f800000", "fb3ff0000000000000"] {
            let bytes = hex::decode(bad).unwrap();
            assert_eq!(skip(&bytes), Err(CborError::Simple { what: "item" }), "{bad}");
        }
    }

    #[test]
    fn bounds_depth_and_entries() {
        let nested = |depth: usize| [vec![0x81; depth], vec![0]].concat();
        assert_eq!(skip(&nested(MAX_CBOR_DEPTH)), Ok(()));
        let deep = CborError::Limit { what: "nesting depth", limit: 4, got: 5 };
        assert_eq!(skip(&nested(MAX_CBOR_DEPTH + 1)), Err(deep));
        assert_eq!(skip(&[[0xC1].repeat(MAX_CBOR_DEPTH + 1), vec![0]].concat()), Err(deep));
        let wide = |count: u8| [vec![0x98, count], vec![0; usize::from(count)]].concat();
        assert_eq!(skip(&wide(64)), Ok(()));
        let limit = CborError::Limit { what: "item", limit: MAX_CBOR_ENTRIES, got: 65 };
        assert_eq!(skip(&wide(65)), Err(limit));
        assert_eq!(skip(&[0xB8, 65]), Err(limit));
    }

    #[test]
    fn refuses_a_key_that_stands_twice_in_a_nested_map() {
        assert_eq!(skip(&[0xA2, 1, 0, 2, 0]), Ok(()));
        assert_eq!(skip(&[0xA2, 1, 0, 1, 0]), Err(CborError::DuplicateKey { what: "item" }));
    }

    #[test]
    fn refuses_what_ends_early_and_what_goes_on() {
        for short in ["", "19ff", "42ff", "8200", "a1", "a100", "d9ea60", "61"] {
            let bytes = hex::decode(short).unwrap();
            assert_eq!(skip(&bytes), Err(CborError::Truncated { what: "item" }), "{short}");
        }
        assert_eq!(skip(&[0, 0]), Err(CborError::Trailing { what: "item", got: 1 }));
        assert_eq!(skip(&[0x61, 0xFF]), Err(CborError::Text { what: "item" }));
    }
}
