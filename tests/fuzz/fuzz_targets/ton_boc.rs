//! Bags of cells and addresses from strangers: what is read is written back as the same cells, and
//! reading ends however the bag refers to itself.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_receipt::{Cell, CellBuilder, boc};
use chrysalis_ton::{Address, channel_code, read_boc, registry_code};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let codes = [channel_code(), registry_code()].map(|code| code.expect("it is pinned"));
    let bags = codes.into_iter().chain([ladder()]).map(|cell| boc(&cell));
    let address = b"EQDa6BWLZLlyItpqoXMgZv5jJrsoUbv73Vbt3cnLRM3oDCha".to_vec();
    bags.chain([address]).collect()
}

/// Each cell four times in its parent: as a tree it would have 4^64 leaves.
fn ladder() -> Cell {
    let mut cell = CellBuilder::new().build().expect("an empty cell");
    for _ in 0..64 {
        let mut parent = CellBuilder::new();
        let shared = std::sync::Arc::new(cell);
        for _ in 0..4 {
            parent.reference(shared.clone()).expect("four references");
        }
        cell = parent.build().expect("64 is not deep");
    }
    cell
}

fn one(data: &[u8]) -> String {
    let bag = match read_boc(data) {
        Ok(cell) => {
            let again = read_boc(&boc(&cell)).expect("it was read before");
            // By hash: comparing trees would walk every path.
            assert_eq!(again.hash(), cell.hash());
            "cells"
        }
        Err(error) => error.code(),
    };
    let text = core::str::from_utf8(data).unwrap_or_default();
    let address = match text.parse::<Address>() {
        Ok(address) => {
            assert_eq!(address.to_string(), text);
            "address"
        }
        Err(error) => error.code(),
    };
    format!("{bag} {address}")
}
