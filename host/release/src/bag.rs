//! Reads a bag of cells: the form in which TON tools exchange cell trees. Input is hostile; only
//! what our own writer produces is read (one root, no index, no checksum, ordinary cells), and
//! cells refer forward only, so no bag is a loop.

use crate::error::ReleaseError;
use crate::release::BOC_FILE;

/// A cell that was read: its data and its references.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BagCell {
    /// Data, a whole number of bytes.
    pub(crate) bytes: Vec<u8>,
    /// Indexes of the cells it refers to, each greater than its own.
    pub(crate) refs: Vec<usize>,
}

/// Reads every cell; the first one is the root.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<BagCell>, ReleaseError> {
    if bytes.len() > MAX_BAG_BYTES {
        return Err(ReleaseError::TooLarge {
            file: BOC_FILE,
            got: bytes.len(),
            max: MAX_BAG_BYTES,
        });
    }
    let mut input = Input(bytes);
    if input.take(4)? != MAGIC {
        return Err(malformed("it does not begin with b5ee9c72"));
    }
    let id_len = input.number(1)?;
    let size_len = input.number(1)?;
    if !(1..=2).contains(&id_len) || !(1..=4).contains(&size_len) {
        return Err(malformed("it has an index, a checksum or numbers of unusual width"));
    }
    let (count, roots, absent) =
        (input.number(id_len)?, input.number(id_len)?, input.number(id_len)?);
    let (size, root) = (input.number(size_len)?, input.number(id_len)?);
    if count == 0 || count > MAX_CELLS || (roots, absent, root) != (1, 0, 0) {
        return Err(malformed("it does not have one root and 1 to 4096 cells"));
    }
    if size != input.0.len() {
        return Err(malformed("its size is not the size it states"));
    }
    let mut cells = Vec::new();
    for index in 0..count {
        cells.push(cell(&mut input, index, count, id_len)?);
    }
    if !input.0.is_empty() {
        return Err(malformed("bytes follow its last cell"));
    }
    Ok(cells)
}

/// Descriptor bytes d1 = references (no level, not exotic), d2 = twice the data bytes; odd means
/// a last byte that is not whole, which our layout never has.
fn cell(
    input: &mut Input<'_>,
    index: usize,
    count: usize,
    id_len: usize,
) -> Result<BagCell, ReleaseError> {
    let (refs, halves) = (input.number(1)?, input.number(1)?);
    if refs > 4 {
        return Err(malformed("a cell is exotic or has more than four references"));
    }
    if halves % 2 == 1 {
        return Err(malformed("a cell does not hold whole bytes"));
    }
    let bytes = input.take(halves / 2)?.to_vec();
    let mut out = BagCell { bytes, refs: Vec::new() };
    for _ in 0..refs {
        let to = input.number(id_len)?;
        if to <= index || to >= count {
            return Err(malformed("a cell refers to itself, backwards or to no cell"));
        }
        out.refs.push(to);
    }
    Ok(out)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ReleaseError> {
        let (head, tail) =
            self.0.split_at_checked(len).ok_or_else(|| malformed("it is cut short"))?;
        self.0 = tail;
        Ok(head)
    }

    /// A big-endian number of at most four bytes.
    fn number(&mut self, len: usize) -> Result<usize, ReleaseError> {
        let bytes = self.take(len)?;
        Ok(bytes.iter().fold(0, |n: usize, b| n.wrapping_shl(8) | usize::from(*b)))
    }
}

fn malformed(reason: &str) -> ReleaseError {
    ReleaseError::Malformed { file: BOC_FILE, reason: reason.to_owned() }
}

const MAGIC: [u8; 4] = [0xb5, 0xee, 0x9c, 0x72];
const MAX_BAG_BYTES: usize = 1024 * 1024;
const MAX_CELLS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Root "r" with references to "m" and "s"; "m" refers to "s".
    const SHARED: &str = "b5ee9c720101030100 0c00 0202720102 01026d02 000273";

    fn shared() -> Vec<u8> {
        hex::decode(SHARED.replace(' ', "")).unwrap()
    }

    #[test]
    fn reads_a_tree_with_a_shared_cell() {
        let cells = read(&shared()).unwrap();
        let of = |bytes: &[u8], refs: &[usize]| BagCell { bytes: bytes.into(), refs: refs.into() };
        assert_eq!(cells, [of(b"r", &[1, 2]), of(b"m", &[2]), of(b"s", &[])]);
    }

    #[test]
    fn refuses_every_truncation_and_a_byte_more() {
        let bytes = shared();
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(read(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn refuses_loops_and_references_to_nothing() {
        let at = shared().len() - 4;
        for bad in [0, 1, 3] {
            let mut bytes = shared();
            assert_eq!(bytes[at], 2);
            bytes[at] = bad;
            assert!(read(&bytes).is_err(), "{bad}");
        }
    }

    #[test]
    fn refuses_flags_other_roots_and_odd_cells() {
        for (at, bad) in
            [(4, 0x41), (4, 0), (5, 5), (6, 0), (7, 2), (8, 1), (10, 1), (11, 5), (12, 3)]
        {
            let mut bytes = shared();
            bytes[at] = bad;
            assert!(read(&bytes).is_err(), "byte {at} = {bad}");
        }
    }

    #[test]
    fn refuses_one_byte_over_the_limit() {
        let refused = read(&vec![0; MAX_BAG_BYTES + 1]);
        assert!(matches!(refused, Err(ReleaseError::TooLarge { .. })));
    }
}
