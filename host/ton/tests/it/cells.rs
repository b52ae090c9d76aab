//! The enclave's cells against two libraries that share no code with it: `tycho-types` and
//! `tonlib-core`. Ten thousand random trees each, hashes and bags of cells in both directions.

use chrysalis_receipt::{Cell, CellBuilder, boc};
use chrysalis_ton::{Address, AddressKind, read_boc};
use chrysalis_wire::Digest;
use proptest::prelude::*;
use tonlib_core::TonAddress;
use tonlib_core::cell::{ArcCell, BagOfCells, CellBuilder as TonlibBuilder};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell as TychoCell, CellBuilder as TychoBuilder, CellFamily as _};

const CASES: u32 = 10_000;

/// A tree of cells, before anybody built it.
#[derive(Clone, Debug)]
struct Tree {
    bits: Vec<bool>,
    children: Vec<Self>,
}

fn tree() -> impl Strategy<Value = Tree> {
    // Sizes at both ends of a cell, and every alignment.
    let bits = || {
        prop_oneof![
            8 => prop::collection::vec(any::<bool>(), 0..40),
            1 => prop::collection::vec(any::<bool>(), 0..=1023),
            1 => prop::collection::vec(any::<bool>(), 1016..=1023),
        ]
    };
    let leaf = bits().prop_map(|bits| Tree { bits, children: Vec::new() });
    leaf.prop_recursive(5, 24, 4, move |child| {
        (bits(), prop::collection::vec(child, 0..=4))
            .prop_map(|(bits, children)| Tree { bits, children })
    })
}

fn ours(tree: &Tree) -> Cell {
    let mut b = CellBuilder::new();
    for bit in &tree.bits {
        b.bit(*bit).unwrap();
    }
    for child in &tree.children {
        b.reference(ours(child)).unwrap();
    }
    b.build().unwrap()
}

fn tychos(tree: &Tree) -> TychoCell {
    let mut b = TychoBuilder::new();
    for bit in &tree.bits {
        b.store_bit(*bit).unwrap();
    }
    for child in &tree.children {
        b.store_reference(tychos(child)).unwrap();
    }
    b.build_ext(TychoCell::empty_context()).unwrap()
}

fn tonlibs(tree: &Tree) -> ArcCell {
    let mut b = TonlibBuilder::new();
    for bit in &tree.bits {
        b.store_bit(*bit).unwrap();
    }
    for child in &tree.children {
        b.store_reference(&tonlibs(child)).unwrap();
    }
    b.build().unwrap().to_arc()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn a_cell_has_the_hash_and_depth_that_tycho_types_gives_it(tree in tree()) {
        let (ours, theirs) = (ours(&tree), tychos(&tree));
        prop_assert_eq!(ours.hash().0, theirs.repr_hash().0);
        prop_assert_eq!(ours.depth(), theirs.repr_depth());
        let read = Boc::decode(boc(&ours)).unwrap();
        prop_assert_eq!(read.repr_hash(), theirs.repr_hash());
        prop_assert_eq!(&read_boc(&Boc::encode(theirs)).unwrap(), &ours);
    }

    #[test]
    fn a_cell_has_the_hash_that_tonlib_core_gives_it(tree in tree()) {
        let (ours, theirs) = (ours(&tree), tonlibs(&tree));
        prop_assert_eq!(ours.hash().to_string(), theirs.cell_hash().to_hex());
        let read = BagOfCells::parse(&boc(&ours)).unwrap();
        let read = read.single_root().unwrap();
        prop_assert_eq!(read.cell_hash(), theirs.cell_hash());
        for checksum in [false, true] {
            let bag = BagOfCells::from_root(theirs.as_ref().clone()).serialize(checksum).unwrap();
            prop_assert_eq!(&read_boc(&bag).unwrap(), &ours);
        }
    }

    /// A reader that takes a stranger's bytes returns, whatever they are.
    #[test]
    fn a_damaged_bag_is_read_as_something_else_or_refused(tree in tree(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let ours = ours(&tree);
        let mut bag = boc(&ours);
        let at = at.index(bag.len());
        bag[at] ^= flip;
        if let Ok(read) = read_boc(&bag) {
            prop_assert_ne!(read, ours);
        }
    }

    #[test]
    fn an_address_reads_as_tonlib_core_writes_it(account in any::<[u8; 32]>(), test_only: bool, bounce: bool) {
        let theirs = TonAddress::new(0, account.into()).to_base64_url_flags(!bounce, test_only);
        let kind = if bounce { AddressKind::Bounceable } else { AddressKind::NonBounceable };
        let ours = Address { account: Digest(account), kind, test_only };
        prop_assert_eq!(ours.to_string(), theirs.clone());
        prop_assert_eq!(theirs.parse::<Address>(), Ok(ours));
    }
}
