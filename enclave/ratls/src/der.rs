//! Reads DER (X.690 §10, §11): definite lengths in their shortest form, low tag numbers, nothing
//! behind the end. Input is attacker-controlled; no length is believed before the bytes are there.

use crate::error::RatlsError;

/// Longest length field read: three bytes reach 16 MiB, far above [`crate::MAX_CERTIFICATE_BYTES`].
const MAX_LENGTH_BYTES: usize = 3;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`, the version.
pub(crate) const CONTEXT_0: u8 = 0xA0;
/// `[3] EXPLICIT`, the extensions.
pub(crate) const CONTEXT_3: u8 = 0xA3;

/// A position in a run of DER values.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Tag of the next value, if there is one.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Content of the next value, which must have this tag.
    pub(crate) fn value(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], RatlsError> {
        Ok(self.element(tag, what)?.1)
    }

    /// The next value with its header, and its content.
    pub(crate) fn element(
        &mut self,
        tag: u8,
        what: &'static str,
    ) -> Result<(&'a [u8], &'a [u8]), RatlsError> {
        let start = self.rest;
        let refuse = |reason| Err(RatlsError::Der { what, reason });
        match self.byte() {
            None => return refuse("is missing"),
            Some(got) if got != tag => return refuse("has another tag"),
            Some(_) => {}
        }
        let length = match self.byte() {
            None => return refuse("ends inside its length"),
            Some(short @ 0..=0x7F) => usize::from(short),
            Some(long) => {
                let count = usize::from(long & 0x7F);
                if count == 0 || count > MAX_LENGTH_BYTES {
                    return refuse("has an indefinite or a huge length");
                }
                let Some(bytes) = self.take(count) else { return refuse("ends inside its length") };
                let length = bytes.iter().fold(0usize, |n, b| (n << 8) | usize::from(*b));
                if length < 0x80 || bytes.first() == Some(&0) {
                    return refuse("has a length that is not in its shortest form");
                }
                length
            }
        };
        let Some(content) = self.take(length) else { return refuse("ends early") };
        let whole = start.len().saturating_sub(self.rest.len());
        Ok((start.get(..whole).unwrap_or(start), content))
    }

    /// Content of the next value as a run of values of its own.
    pub(crate) fn nested(&mut self, tag: u8, what: &'static str) -> Result<Self, RatlsError> {
        self.value(tag, what).map(Self::new)
    }

    /// Refuses bytes that were not read.
    pub(crate) const fn finish(self, what: &'static str) -> Result<(), RatlsError> {
        match self.rest.len() {
            0 => Ok(()),
            got => Err(RatlsError::Trailing { what, got }),
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }
}

/// Bytes of a BIT STRING that ends on a byte boundary.
pub(crate) fn whole_bits<'a>(
    content: &'a [u8],
    what: &'static str,
) -> Result<&'a [u8], RatlsError> {
    match content.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(RatlsError::Der { what, reason: "is not a whole number of bytes" }),
    }
}

/// Whether the content of an INTEGER is in its shortest form and not negative.
pub(crate) fn is_natural(content: &[u8]) -> bool {
    match content {
        [] => false,
        [first] => *first < 0x80,
        [0, second, ..] => *second >= 0x80,
        [first, ..] => *first < 0x80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(input: &[u8]) -> &'static str {
        match Reader::new(input).value(OCTET_STRING, "field") {
            Err(RatlsError::Der { what: "field", reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_short_and_long_lengths() {
        let mut long = vec![4, 0x81, 0x80];
        long.resize(3 + 0x80, 7);
        let mut reader = Reader::new(&long);
        let (whole, content) = reader.element(OCTET_STRING, "field").unwrap();
        assert_eq!((whole.len(), content.len()), (0x83, 0x80));
        assert!(reader.is_empty());
        assert_eq!(Reader::new(&[4, 1, 9]).value(OCTET_STRING, "field"), Ok(&[9][..]));
    }

    #[test]
    fn refuses_every_other_spelling_of_a_length() {
        assert_eq!(reason(&[4, 0x81, 0x7F]), "has a length that is not in its shortest form");
        assert_eq!(reason(&[4, 0x82, 0, 0x80]), "has a length that is not in its shortest form");
        assert_eq!(reason(&[4, 0x80]), "has an indefinite or a huge length");
        assert_eq!(reason(&[4, 0x84, 1, 0, 0, 0]), "has an indefinite or a huge length");
    }

    #[test]
    fn refuses_what_ends_early() {
        assert_eq!(reason(&[]), "is missing");
        assert_eq!(reason(&[5, 0]), "has another tag");
        assert_eq!(reason(&[4]), "ends inside its length");
        assert_eq!(reason(&[4, 0x82, 1]), "ends inside its length");
        assert_eq!(reason(&[4, 2, 1]), "ends early");
    }

    #[test]
    fn natural_numbers_have_one_spelling() {
        for yes in [&[0][..], &[1], &[0x7F], &[0, 0x80], &[1, 0]] {
            assert!(is_natural(yes), "{yes:?}");
        }
        for no in [&[][..], &[0x80], &[0, 0x7F], &[0xFF, 1]] {
            assert!(!is_natural(no), "{no:?}");
        }
    }
}
