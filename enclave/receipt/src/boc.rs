//! Writes a bag of cells, the form in which TON tools exchange cell trees. Its input is a tree
//! that was already built, so nothing here can be refused.

use std::collections::{HashMap, HashSet};

use chrysalis_wire::Digest;

use crate::cell::Cell;

/// The bag of cells with `root`: magic `b5ee9c72`, no index, no checksum, one root. Equal cells are
/// written once and parents before children, so a tree has one encoding here.
#[must_use]
pub fn boc(root: &Cell) -> Vec<u8> {
    let mut order = Vec::new();
    visit(root, &mut HashSet::new(), &mut order);
    order.reverse();
    let ids: HashMap<Digest, usize> =
        order.iter().enumerate().map(|(i, c)| (c.hash(), i)).collect();

    let id_len = bytes_needed(order.len());
    let mut body = Vec::new();
    for cell in &order {
        body.extend_from_slice(&cell.head());
        for child in cell.refs() {
            let id = ids.get(&child.hash()).copied().unwrap_or_default();
            body.extend_from_slice(tail(&id.to_be_bytes(), id_len));
        }
    }

    let size_len = bytes_needed(body.len());
    let mut out = MAGIC.to_vec();
    // The flags above the low three bits (index, checksum, cache) are all zero.
    out.push(u8::try_from(id_len).unwrap_or(u8::MAX));
    out.push(u8::try_from(size_len).unwrap_or(u8::MAX));
    let (roots, absent, root_id) = (1usize, 0usize, 0usize);
    for (value, len) in [
        (order.len(), id_len),
        (roots, id_len),
        (absent, id_len),
        (body.len(), size_len),
        (root_id, id_len),
    ] {
        out.extend_from_slice(tail(&value.to_be_bytes(), len));
    }
    out.extend_from_slice(&body);
    out
}

/// Post-order over distinct cells, last reference first; reversed, it puts every parent before
/// its children and first references first. Recursion is bounded by [`crate::cell::MAX_DEPTH`].
fn visit<'a>(cell: &'a Cell, seen: &mut HashSet<Digest>, order: &mut Vec<&'a Cell>) {
    if !seen.insert(cell.hash()) {
        return;
    }
    for child in cell.refs().iter().rev() {
        visit(child, seen, order);
    }
    order.push(cell);
}

/// Fewest whole bytes that hold `value`, at least one.
const fn bytes_needed(value: usize) -> usize {
    let bits = usize::BITS.saturating_sub(value.leading_zeros());
    match bits.div_ceil(8) {
        0 => 1,
        n => n as usize,
    }
}

fn tail(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(len)..).unwrap_or(bytes)
}

const MAGIC: [u8; 4] = [0xb5, 0xee, 0x9c, 0x72];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::CellBuilder;

    fn cell(data: &[u8], refs: &[&Cell]) -> Cell {
        let mut b = CellBuilder::new();
        b.bytes(data).unwrap();
        for r in refs {
            b.reference((*r).clone()).unwrap();
        }
        b.build().unwrap()
    }

    #[test]
    fn writes_an_empty_cell() {
        assert_eq!(hex::encode(boc(&cell(b"", &[]))), "b5ee9c72010101010002000000");
    }

    #[test]
    fn writes_a_shared_cell_once_and_after_all_its_parents() {
        let shared = cell(b"s", &[]);
        let middle = cell(b"m", &[&shared]);
        let root = cell(b"r", &[&shared, &middle]);
        // Cells: root (references 2 and 1), middle (reference 2), shared.
        assert_eq!(
            hex::encode(boc(&root)),
            concat!("b5ee9c720101030100", "0c00", "0202720201", "01026d02", "000273")
        );
    }
}
