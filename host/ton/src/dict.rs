//! Writes the dictionaries of TON (`HashmapE` of the TL-B block schema) with one-byte keys: what
//! contracts keep owners and signatures in. Keys and values are ours, so nothing is refused but
//! what does not fit a cell.

use std::collections::BTreeMap;

use chrysalis_receipt::{Cell, CellBuilder, CellError};

/// The root of a dictionary from one-byte keys to bytes; `None` if it is empty.
pub(crate) fn dictionary<const N: usize>(
    entries: &BTreeMap<u8, [u8; N]>,
) -> Result<Option<Cell>, CellError> {
    if entries.is_empty() {
        return Ok(None);
    }
    let leaves: Vec<(u8, &[u8])> = entries.iter().map(|(k, v)| (*k, v.as_slice())).collect();
    edge(&leaves, 8).map(Some)
}

/// Adds a dictionary to a cell: a bit, and its root if it has one.
pub(crate) fn store_dictionary<const N: usize>(
    b: &mut CellBuilder,
    entries: &BTreeMap<u8, [u8; N]>,
) -> Result<(), CellError> {
    let root = dictionary(entries)?;
    b.bit(root.is_some())?;
    if let Some(root) = root {
        b.reference(root)?;
    }
    Ok(())
}

/// The edge to leaves that agree in all but their last `rest` bits: the bits that they share, then
/// a value or a fork.
fn edge(leaves: &[(u8, &[u8])], rest: u16) -> Result<Cell, CellError> {
    let mut b = CellBuilder::new();
    let (Some((first, value)), Some((last, _))) = (leaves.first(), leaves.last()) else {
        return b.build();
    };
    // Sorted, so what the first and the last share all share.
    let shared = u16::try_from((first ^ last).leading_zeros()).unwrap_or_default().min(8);
    let label = shared.saturating_sub(8u16.saturating_sub(rest));
    store_label(&mut b, *first, rest, label)?;
    let left = rest.saturating_sub(label);
    if left == 0 {
        b.bytes(value)?;
        return b.build();
    }
    let bit = 1u8.checked_shl(u32::from(left.saturating_sub(1))).unwrap_or_default();
    let middle = leaves.partition_point(|(key, _)| key & bit == 0);
    let (zeros, ones) = leaves.split_at_checked(middle).unwrap_or((leaves, &[]));
    let below = left.saturating_sub(1);
    b.reference(edge(zeros, below)?)?.reference(edge(ones, below)?)?;
    b.build()
}

/// A label in the form that TON's own code chooses: `hml_same$11` for a run of one bit where it is
/// shorter, else `hml_long$10` where that is, else `hml_short$0`.
fn store_label(b: &mut CellBuilder, key: u8, rest: u16, len: u16) -> Result<(), CellError> {
    let shift = u32::from(rest.saturating_sub(len));
    let mask = 1u16.checked_shl(len.into()).unwrap_or_default().wrapping_sub(1);
    let bits = u16::from(key).checked_shr(shift).unwrap_or_default() & mask;
    // Bits of a number up to `rest`.
    let width = u16::try_from(u16::BITS.saturating_sub(rest.leading_zeros())).unwrap_or_default();
    let same = bits == 0 || bits == mask;
    if same && len > 1 && width < len.saturating_mul(2).saturating_sub(1) {
        b.uint(0b11, 2)?.bit(bits != 0)?.uint(len.into(), width)?;
    } else if width < len {
        b.uint(0b10, 2)?.uint(len.into(), width)?.uint(bits.into(), len)?;
    } else {
        b.bit(false)?;
        for _ in 0..len {
            b.bit(true)?;
        }
        b.bit(false)?.uint(bits.into(), len)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tycho_types::cell::HashBytes;
    use tycho_types::dict::Dict;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(2_000)
        })]

        #[test]
        fn a_dictionary_is_the_one_that_tycho_types_writes(
            entries in prop::collection::btree_map(any::<u8>(), any::<[u8; 32]>(), 0..40),
        ) {
            let mut theirs = Dict::<u8, HashBytes>::new();
            for (key, value) in &entries {
                theirs.set(*key, HashBytes(*value)).unwrap();
            }
            let ours = dictionary(&entries).unwrap().map(|cell| cell.hash().0);
            prop_assert_eq!(ours, theirs.into_root().map(|cell| cell.repr_hash().0));
        }
    }

    /// Every shape of a label: all keys, single keys, neighbours.
    #[test]
    fn full_single_and_neighbouring_keys_agree_too() {
        let all: Vec<u8> = (0..=255).collect();
        let mut sets = vec![all];
        sets.extend((0..=255).map(|key| vec![key]));
        sets.extend((0..8).map(|bit| vec![0xff, 0xff ^ 1 << bit]));
        sets.extend((0..8).map(|bit| vec![0, 1 << bit]));
        for keys in sets {
            let entries = keys.iter().map(|key| (*key, [*key; 32])).collect();
            let mut theirs = Dict::<u8, HashBytes>::new();
            for key in &keys {
                theirs.set(*key, HashBytes([*key; 32])).unwrap();
            }
            let ours = dictionary(&entries).unwrap().unwrap().hash().0;
            assert_eq!(ours, theirs.into_root().unwrap().repr_hash().0, "{keys:?}");
        }
    }
}
