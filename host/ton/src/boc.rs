//! Reads bags of cells: compiled code, and what a chain answers. Its input may be a stranger's; only
//! what our own tools and TON's write is read, everything else is refused, and nothing here trusts
//! an announced count before the bytes for it are there.

use std::sync::Arc;

use chrysalis_receipt::{Cell, CellBuilder};

use crate::error::TonError;

/// Reads a bag with one root and ordinary cells only.
///
/// # Errors
/// [`TonError::BocSize`] and [`TonError::BocCells`] past the limits; [`TonError::Boc`] for anything
/// that is not one root over ordinary cells, each after its parents and within the bytes;
/// [`TonError::Cell`] for a tree that is too deep.
pub fn read_boc(bytes: &[u8]) -> Result<Cell, TonError> {
    if bytes.len() > MAX_BOC_BYTES {
        return Err(TonError::BocSize { got: bytes.len() });
    }
    let mut input = Input(bytes);
    if input.take(4)? != MAGIC {
        return Err(refused("the magic is not b5ee9c72"));
    }
    // Flags: index, checksum and cache bits, two reserved, and the bytes of a cell's number.
    let flags = input.number(1)?;
    let has_checksum = flags & 0x40 != 0;
    if flags & 0xb8 != 0 {
        return Err(refused("an index is not read"));
    }
    let id_len = flags & 0x07;
    let size_len = input.number(1)?;
    if !(1..=4).contains(&id_len) || !(1..=8).contains(&size_len) {
        return Err(refused("a number has no bytes, or too many"));
    }
    let (count, roots, absent) =
        (input.number(id_len)?, input.number(id_len)?, input.number(id_len)?);
    if count > MAX_CELLS {
        return Err(TonError::BocCells { got: count });
    }
    let size = input.number(size_len)?;
    let root = input.number(id_len)?;
    if (roots, absent, root) != (1, 0, 0) {
        return Err(refused("not one root that comes first"));
    }
    let mut body = Input(input.take(size)?);
    let checksum = input.take(if has_checksum { 4 } else { 0 })?;
    if !input.0.is_empty() {
        return Err(refused("bytes after the end"));
    }
    if has_checksum {
        let covered = bytes.len().saturating_sub(4);
        if crc32c(bytes.get(..covered).unwrap_or_default()).to_le_bytes() != checksum {
            return Err(refused("the checksum is wrong"));
        }
    }
    let raw: Vec<Raw<'_>> = (0..count)
        .map(|index| raw_cell(&mut body, index, count, id_len))
        .collect::<Result<_, _>>()?;
    if !body.0.is_empty() {
        return Err(refused("bytes after the last cell"));
    }
    build(&raw)
}

/// A cell as it stands in the bag.
struct Raw<'a> {
    data: &'a [u8],
    bits: usize,
    refs: Vec<usize>,
}

fn raw_cell<'a>(
    body: &mut Input<'a>,
    index: usize,
    count: usize,
    id_len: usize,
) -> Result<Raw<'a>, TonError> {
    let (d1, d2) = (body.number(1)?, body.number(1)?);
    // Above the count of references: exotic cells, stored hashes, levels.
    if d1 > 4 {
        return Err(refused("a cell is exotic, has a level or more than four references"));
    }
    let data = body.take(d2.div_ceil(2))?;
    let partial = d2 % 2 == 1;
    let padding = match (partial, data.last()) {
        (false, _) => 0,
        // The last one bit ends the data, and what follows it is padding.
        (true, Some(last)) if last & 0x7f != 0 => {
            (last.trailing_zeros() as usize).saturating_add(1)
        }
        (true, _) => return Err(refused("a cell is padded more than it needs")),
    };
    let bits = data.len().saturating_mul(8).saturating_sub(padding);
    let mut refs = Vec::new();
    for _ in 0..d1 {
        let to = body.number(id_len)?;
        // Parents come first, so a bag has no cycle.
        if to <= index || to >= count {
            return Err(refused("a reference does not point to a later cell"));
        }
        refs.push(to);
    }
    Ok(Raw { data, bits, refs })
}

/// Builds the cells from the last to the first.
fn build(raw: &[Raw<'_>]) -> Result<Cell, TonError> {
    let mut built: Vec<Option<Arc<Cell>>> = vec![None; raw.len()];
    let mut used = vec![false; raw.len()];
    for (index, cell) in raw.iter().enumerate().rev() {
        let mut b = CellBuilder::new();
        let whole = cell.bits / 8;
        b.bytes(cell.data.get(..whole).unwrap_or_default())?;
        let rest = cell.bits % 8;
        if let Some(last) = cell.data.get(whole).filter(|_| rest > 0) {
            let value = last.checked_shr(8u32.saturating_sub(rest as u32)).unwrap_or_default();
            b.uint(value.into(), rest as u16)?;
        }
        for to in &cell.refs {
            let child = built.get(*to).cloned().flatten();
            b.reference(child.ok_or_else(|| refused("a reference is missing"))?)?;
            if let Some(used) = used.get_mut(*to) {
                *used = true;
            }
        }
        if let Some(place) = built.get_mut(index) {
            *place = Some(Arc::new(b.build()?));
        }
    }
    if used.iter().skip(1).any(|used| !used) {
        return Err(refused("a cell that nothing refers to"));
    }
    let root = built.first().cloned().flatten().ok_or_else(|| refused("no cell"))?;
    Ok(Arc::unwrap_or_clone(root))
}

/// The rest of the input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], TonError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or_else(|| refused("it ends early"))?;
        self.0 = tail;
        Ok(head)
    }

    /// A big-endian number of at most eight bytes.
    fn number(&mut self, len: usize) -> Result<usize, TonError> {
        let value = self.take(len)?.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        usize::try_from(value).map_err(|_| refused("a number is too large"))
    }
}

const fn refused(reason: &'static str) -> TonError {
    TonError::Boc { reason }
}

/// CRC-32C (RFC 3720), bit by bit: bags are small.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// Largest bag that is read: a message of TON is smaller.
pub const MAX_BOC_BYTES: usize = 1 << 16;
/// Most cells of a bag that is read; our contracts have a dozen.
pub const MAX_CELLS: usize = 1 << 10;

const MAGIC: [u8; 4] = [0xb5, 0xee, 0x9c, 0x72];

#[cfg(test)]
mod tests {
    use chrysalis_receipt::boc;

    use super::*;

    fn chain(cells: usize) -> Cell {
        let mut cell = CellBuilder::new().build().unwrap();
        for _ in 1..cells {
            let mut b = CellBuilder::new();
            b.reference(cell).unwrap();
            cell = b.build().unwrap();
        }
        cell
    }

    fn reason(bytes: &[u8]) -> &'static str {
        match read_boc(bytes) {
            Err(TonError::Boc { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// A leaf of three bits, `101`.
    const LEAF: [u8; 14] = [0xb5, 0xee, 0x9c, 0x72, 1, 1, 1, 1, 0, 3, 0, 0, 1, 0xb0];

    #[test]
    fn reads_what_the_enclave_writes() {
        assert_eq!(boc(&read_boc(&LEAF).unwrap()), LEAF);
        assert_eq!(read_boc(&boc(&chain(300))).unwrap(), chain(300));
    }

    #[test]
    fn refuses_a_bag_that_ends_early_or_late_everywhere() {
        for end in 0..LEAF.len() {
            assert!(matches!(read_boc(&LEAF[..end]), Err(TonError::Boc { .. })), "{end}");
        }
        assert_eq!(reason(&[LEAF.as_slice(), &[0]].concat()), "bytes after the end");
    }

    #[test]
    fn refuses_one_byte_over_the_limit() {
        let size = MAX_BOC_BYTES + 1;
        assert_eq!(read_boc(&vec![0; size]), Err(TonError::BocSize { got: size }));
        assert_eq!(reason(&vec![0; size - 1]), "the magic is not b5ee9c72");
    }

    #[test]
    fn refuses_one_cell_over_the_limit_before_reading_any() {
        let mut bag = vec![0xb5, 0xee, 0x9c, 0x72, 2, 2, 0x04, 0x01, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(read_boc(&bag), Err(TonError::BocCells { got: MAX_CELLS + 1 }));
        (bag[6], bag[7]) = (0x04, 0x00);
        assert_eq!(reason(&bag), "it ends early");
    }

    #[test]
    fn refuses_a_reference_to_itself_or_backwards() {
        for to in [0, 1] {
            let bag = [0xb5, 0xee, 0x9c, 0x72, 1, 1, 2, 1, 0, 6, 0, 1, 0, 1, 1, 0, to];
            assert_eq!(reason(&bag), "a reference does not point to a later cell");
        }
    }

    #[test]
    fn refuses_a_cell_that_nothing_refers_to() {
        let bag = [0xb5, 0xee, 0x9c, 0x72, 1, 1, 2, 1, 0, 4, 0, 0, 0, 0, 0];
        assert_eq!(reason(&bag), "a cell that nothing refers to");
    }

    #[test]
    fn refuses_exotic_cells_levels_and_a_fifth_reference() {
        for d1 in [0x08, 0x10, 0x20, 0x05] {
            let mut bag = LEAF;
            bag[11] = d1;
            assert_eq!(reason(&bag), "a cell is exotic, has a level or more than four references");
        }
    }

    #[test]
    fn refuses_padding_without_an_end_or_with_a_spare_byte() {
        for last in [0x00, 0x80] {
            let mut bag = LEAF;
            bag[13] = last;
            assert_eq!(reason(&bag), "a cell is padded more than it needs");
        }
    }

    #[test]
    fn refuses_a_wrong_checksum() {
        let mut bag = LEAF.to_vec();
        bag[4] |= 0x40;
        let crc = crc32c(&bag).to_le_bytes();
        let right = [bag.as_slice(), &crc].concat();
        assert_eq!(boc(&read_boc(&right).unwrap()), LEAF);
        let mut wrong = right;
        wrong[13] ^= 0x20;
        assert_eq!(reason(&wrong), "the checksum is wrong");
    }
}
