//! TON cells: up to 1023 bits and four references, with their representation hash and depth.
//!
//! Only ordinary cells of level 0 exist here. Values come from our own layouts or from a parsed
//! receipt; whatever does not fit is refused, never cut.

use core::fmt;
use std::sync::Arc;

use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Why a cell cannot be built.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CellError {
    /// The data does not fit in one cell.
    #[error("a cell holds {MAX_BITS} bits; it has {used} and {adding} more were added")]
    BitsOverflow {
        /// Bits in the cell.
        used: usize,
        /// Bits that did not fit.
        adding: usize,
    },
    /// A fifth reference.
    #[error("a cell holds {MAX_REFS} references; put the rest in a child cell")]
    RefsOverflow,
    /// A number is wider than its field.
    #[error("a number of {needed} bits does not fit in a field of {width} bits")]
    ValueTooWide {
        /// Bits the number needs.
        needed: u32,
        /// Bits of the field.
        width: u16,
    },
    /// An amount is wider than `Coins`.
    #[error("an amount of {needed} bits does not fit in Coins, which hold {MAX_COINS_BITS}")]
    CoinsTooWide {
        /// Bits the amount needs.
        needed: u32,
    },
    /// The tree below the cell is too deep.
    #[error("a cell tree may be {MAX_DEPTH} deep; this one would be deeper")]
    TooDeep,
}

impl CellError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BitsOverflow { .. } => "E-CELL-BITS",
            Self::RefsOverflow => "E-CELL-REFS",
            Self::ValueTooWide { .. } => "E-CELL-VALUE",
            Self::CoinsTooWide { .. } => "E-CELL-COINS",
            Self::TooDeep => "E-CELL-DEPTH",
        }
    }
}

/// An ordinary cell, immutable, with its hash and depth. Prints without its data: receipts keep
/// blinds there.
#[derive(Clone, PartialEq, Eq)]
pub struct Cell {
    bits: CellBits,
    refs: Vec<Arc<Self>>,
    depth: u16,
    hash: Digest,
}

impl Cell {
    /// SHA-256 of the standard representation: what TON calls the cell's hash.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// Length of the longest path to a leaf.
    #[must_use]
    pub const fn depth(&self) -> u16 {
        self.depth
    }

    /// Number of data bits.
    #[must_use]
    pub const fn bit_len(&self) -> usize {
        self.bits.len
    }

    /// Referenced cells in order.
    #[must_use]
    pub fn refs(&self) -> &[Arc<Self>] {
        &self.refs
    }

    /// The two descriptor bytes and the padded data: what both the hash and a bag of cells begin
    /// a cell with.
    pub(crate) fn head(&self) -> Vec<u8> {
        self.bits.head(self.refs.len())
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cell({}, {} bits, {} references)", self.hash, self.bits.len, self.refs.len())
    }
}

/// Builds a [`Cell`]. Every method that adds something returns the builder, or refuses.
#[derive(Clone, Debug, Default)]
pub struct CellBuilder {
    bits: CellBits,
    refs: Vec<Arc<Cell>>,
}

impl CellBuilder {
    /// An empty cell.
    #[must_use]
    pub const fn new() -> Self {
        Self { bits: CellBits { bytes: Vec::new(), len: 0 }, refs: Vec::new() }
    }

    /// Adds one bit.
    ///
    /// # Errors
    /// [`CellError::BitsOverflow`] past [`MAX_BITS`].
    pub fn bit(&mut self, value: bool) -> Result<&mut Self, CellError> {
        self.bits.reserve(1)?;
        self.bits.push(value);
        Ok(self)
    }

    /// Adds an unsigned number as `width` bits, big endian.
    ///
    /// # Errors
    /// [`CellError::ValueTooWide`] if it needs more bits, [`CellError::BitsOverflow`] past
    /// [`MAX_BITS`].
    pub fn uint(&mut self, value: u128, width: u16) -> Result<&mut Self, CellError> {
        let needed = significant_bits(value);
        if needed > u32::from(width) {
            return Err(CellError::ValueTooWide { needed, width });
        }
        self.bits.reserve(width.into())?;
        for shift in (0..u32::from(width)).rev() {
            self.bits.push(value.checked_shr(shift).is_some_and(|v| v & 1 == 1));
        }
        Ok(self)
    }

    /// Adds a signed 32-bit number, two's complement.
    ///
    /// # Errors
    /// [`CellError::BitsOverflow`] past [`MAX_BITS`].
    pub fn int32(&mut self, value: i32) -> Result<&mut Self, CellError> {
        self.bytes(&value.to_be_bytes())
    }

    /// Adds whole bytes.
    ///
    /// # Errors
    /// [`CellError::BitsOverflow`] past [`MAX_BITS`].
    pub fn bytes(&mut self, value: &[u8]) -> Result<&mut Self, CellError> {
        self.bits.reserve(value.len().saturating_mul(8))?;
        for byte in value {
            for mask in [0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01] {
                self.bits.push(byte & mask != 0);
            }
        }
        Ok(self)
    }

    /// Adds an amount as `Coins` (`VarUInteger 16`): a 4-bit length in bytes, then that many
    /// bytes. The length is minimal, so that an amount has one spelling and one hash.
    ///
    /// # Errors
    /// [`CellError::CoinsTooWide`] above 120 bits, [`CellError::BitsOverflow`] past [`MAX_BITS`].
    pub fn coins(&mut self, amount: u128) -> Result<&mut Self, CellError> {
        let needed = significant_bits(amount);
        if needed > MAX_COINS_BITS {
            return Err(CellError::CoinsTooWide { needed });
        }
        let bytes = u16::try_from(needed.div_ceil(8)).unwrap_or(u16::MAX);
        let width = bytes.saturating_mul(8);
        self.bits.reserve(usize::from(width).saturating_add(4))?;
        self.uint(bytes.into(), 4)?.uint(amount, width)
    }

    /// Adds a reference.
    ///
    /// # Errors
    /// [`CellError::RefsOverflow`] for a fifth one.
    pub fn reference(&mut self, cell: impl Into<Arc<Cell>>) -> Result<&mut Self, CellError> {
        if self.refs.len() >= MAX_REFS {
            return Err(CellError::RefsOverflow);
        }
        self.refs.push(cell.into());
        Ok(self)
    }

    /// The finished cell.
    ///
    /// # Errors
    /// [`CellError::TooDeep`] if the tree is deeper than [`MAX_DEPTH`].
    pub fn build(self) -> Result<Cell, CellError> {
        let depth = self.refs.iter().map(|r| r.depth.saturating_add(1)).max().unwrap_or(0);
        if depth > MAX_DEPTH {
            return Err(CellError::TooDeep);
        }
        let children: Vec<_> = self.refs.iter().map(|r| (r.depth, r.hash)).collect();
        let hash = self.bits.hash(&children);
        Ok(Cell { bits: self.bits, refs: self.refs, depth, hash })
    }

    /// The hash of the cell with this data and the given children, known by depth and hash only.
    /// This is how one child is proved without showing the others.
    pub(crate) fn hash_with_children(&self, children: &[(u16, Digest)]) -> Digest {
        self.bits.hash(children)
    }
}

/// A bit string: whole bytes, the last one filled from its high bit and zero below.
#[derive(Clone, Default, PartialEq, Eq)]
struct CellBits {
    bytes: Vec<u8>,
    len: usize,
}

impl fmt::Debug for CellBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bits>", self.len)
    }
}

impl CellBits {
    const fn reserve(&self, adding: usize) -> Result<(), CellError> {
        if self.len.saturating_add(adding) > MAX_BITS {
            return Err(CellError::BitsOverflow { used: self.len, adding });
        }
        Ok(())
    }

    /// Appends one bit; the caller has reserved it.
    fn push(&mut self, value: bool) {
        let mask = self.next_mask();
        if mask == 0x80 {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut().filter(|_| value) {
            *last |= mask;
        }
        self.len = self.len.saturating_add(1);
    }

    /// The place of the next bit within its byte.
    const fn next_mask(&self) -> u8 {
        match self.len % 8 {
            0 => 0x80,
            1 => 0x40,
            2 => 0x20,
            3 => 0x10,
            4 => 0x08,
            5 => 0x04,
            6 => 0x02,
            _ => 0x01,
        }
    }

    /// Descriptors `d1 = references`, `d2 = floor(bits / 8) + ceil(bits / 8)`, then the data. An
    /// odd `d2` says that the last byte is partial and ends in a one and zeros (TON whitepaper
    /// 3.1.4).
    fn head(&self, refs: usize) -> Vec<u8> {
        let d2 = (self.len / 8).saturating_add(self.len.div_ceil(8));
        let mut out = Vec::with_capacity(self.bytes.len().saturating_add(2));
        out.push(u8::try_from(refs).unwrap_or(u8::MAX));
        out.push(u8::try_from(d2).unwrap_or(u8::MAX));
        out.extend_from_slice(&self.bytes);
        if !self.len.is_multiple_of(8)
            && let Some(last) = out.last_mut()
        {
            *last |= self.next_mask();
        }
        out
    }

    /// `SHA-256(d1 || d2 || data || depth of each child || hash of each child)`.
    fn hash(&self, children: &[(u16, Digest)]) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.head(children.len()));
        for (depth, _) in children {
            hash.update(depth.to_be_bytes());
        }
        for (_, child) in children {
            hash.update(child.0);
        }
        Digest(hash.finalize().into())
    }
}

const fn significant_bits(value: u128) -> u32 {
    u128::BITS.saturating_sub(value.leading_zeros())
}

/// Most data bits of a cell.
pub const MAX_BITS: usize = 1023;
/// Most references of a cell.
pub const MAX_REFS: usize = 4;
/// Deepest tree built here; TON refuses messages that are deeper.
pub const MAX_DEPTH: u16 = 512;
/// Widest amount: 15 bytes.
pub const MAX_COINS_BITS: u32 = 120;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf() -> Cell {
        CellBuilder::new().build().unwrap()
    }

    #[test]
    fn an_empty_cell_has_the_well_known_hash() {
        assert_eq!(
            leaf().hash().to_string(),
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
        );
    }

    #[test]
    fn accepts_1023_bits_and_refuses_one_more() {
        let mut b = CellBuilder::new();
        b.bytes(&[0xff; 127]).unwrap().uint(0x7f, 7).unwrap();
        assert_eq!(b.clone().build().unwrap().bit_len(), MAX_BITS);
        assert_eq!(b.bit(true).unwrap_err(), CellError::BitsOverflow { used: 1023, adding: 1 });
    }

    #[test]
    fn refuses_bytes_that_overflow_and_adds_none_of_them() {
        let mut b = CellBuilder::new();
        b.bytes(&[1; 127]).unwrap();
        assert_eq!(b.bytes(&[1]).unwrap_err(), CellError::BitsOverflow { used: 1016, adding: 8 });
        assert_eq!(b.build().unwrap().bit_len(), 1016);
    }

    #[test]
    fn refuses_a_fifth_reference() {
        let mut b = CellBuilder::new();
        for _ in 0..4 {
            b.reference(leaf()).unwrap();
        }
        assert_eq!(b.reference(leaf()).unwrap_err(), CellError::RefsOverflow);
    }

    #[test]
    fn refuses_a_number_wider_than_its_field() {
        let mut b = CellBuilder::new();
        assert!(b.uint(255, 8).is_ok());
        assert_eq!(b.uint(256, 8).unwrap_err(), CellError::ValueTooWide { needed: 9, width: 8 });
    }

    #[test]
    fn a_number_in_a_wide_field_is_padded_with_leading_zeros() {
        let mut wide = CellBuilder::new();
        wide.uint(u128::MAX, 256).unwrap();
        let mut bytes = CellBuilder::new();
        bytes.bytes(&[0; 16]).unwrap().bytes(&[0xff; 16]).unwrap();
        assert_eq!(wide.build().unwrap(), bytes.build().unwrap());
    }

    #[test]
    fn coins_are_as_short_as_they_can_be() {
        for (amount, bits) in [(0, 4), (1, 12), (255, 12), (256, 20), ((1 << 120) - 1, 124)] {
            let mut b = CellBuilder::new();
            b.coins(amount).unwrap();
            assert_eq!(b.build().unwrap().bit_len(), bits, "{amount}");
        }
    }

    #[test]
    fn refuses_coins_one_above_120_bits() {
        let mut b = CellBuilder::new();
        assert_eq!(b.coins(1 << 120).unwrap_err(), CellError::CoinsTooWide { needed: 121 });
    }

    #[test]
    fn refuses_a_tree_one_deeper_than_the_limit() {
        let mut cell = leaf();
        for _ in 0..MAX_DEPTH {
            let mut b = CellBuilder::new();
            b.reference(cell).unwrap();
            cell = b.build().unwrap();
        }
        assert_eq!(cell.depth(), MAX_DEPTH);
        let mut b = CellBuilder::new();
        b.reference(cell).unwrap();
        assert_eq!(b.build().unwrap_err(), CellError::TooDeep);
    }

    #[test]
    fn a_partial_byte_and_its_padded_twin_have_different_hashes() {
        let mut partial = CellBuilder::new();
        partial.uint(0b101, 3).unwrap();
        let mut whole = CellBuilder::new();
        whole.uint(0b1011_0000, 8).unwrap();
        assert_ne!(partial.build().unwrap().hash(), whole.build().unwrap().hash());
    }

    proptest! {
        /// The bits are those of a plain list of booleans, whatever the alignment.
        #[test]
        fn data_equals_a_list_of_bits(pieces in prop::collection::vec((any::<u32>(), 0u16..=32), 0..30)) {
            let mut b = CellBuilder::new();
            let mut bits = Vec::new();
            for (value, width) in pieces {
                let value = u128::from(value) & ((1u128 << width) - 1);
                b.uint(value, width).unwrap();
                bits.extend((0..width).rev().map(|i| value >> i & 1 == 1));
            }
            let len = bits.len();
            if len % 8 != 0 {
                bits.push(true);
                bits.resize(bits.len().next_multiple_of(8), false);
            }
            let bytes: Vec<u8> =
                bits.chunks(8).map(|c| c.iter().fold(0, |a, b| a << 1 | u8::from(*b))).collect();
            let cell = b.build().unwrap();
            prop_assert_eq!(cell.bit_len(), len);
            prop_assert_eq!(&cell.head()[2..], &bytes[..]);
        }
    }
}
