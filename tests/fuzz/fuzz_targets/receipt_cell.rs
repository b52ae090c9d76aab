//! A cell built by any sequence of steps, two bytes each: it stays within TON's limits, and what
//! is refused adds nothing.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_receipt::{Cell, CellBuilder, MAX_BITS, MAX_DEPTH, MAX_REFS, boc};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    vec![vec![0, 1, 1, 7, 2, 200, 3, 9, 4, 0, 5, 0, 1, 1, 5, 0], vec![2, 127, 2, 1, 0, 1]]
}

fn one(data: &[u8]) -> String {
    let (mut builder, mut finished) = (CellBuilder::new(), Vec::<Cell>::new());
    let mut refused = "none".to_owned();
    for step in data.as_chunks::<2>().0 {
        let [kind, value] = *step;
        let wide = u128::MAX >> (value % 128);
        let before = builder.clone().build().map(|cell| cell.bit_len());
        let done = match kind % 6 {
            0 => builder.bit(value & 1 == 1).map(|_| ()),
            1 => builder.uint(wide, value.into()).map(|_| ()),
            2 => builder.bytes(&vec![value; value.into()]).map(|_| ()),
            3 => builder.coins(wide).map(|_| ()),
            4 => finished.last().map_or(Ok(()), |c| builder.reference(c.clone()).map(|_| ())),
            _ => std::mem::take(&mut builder).build().map(|cell| finished.push(cell)),
        };
        if let Err(error) = done {
            assert_eq!(builder.clone().build().map(|cell| cell.bit_len()), before);
            error.code().clone_into(&mut refused);
        }
    }
    for cell in &finished {
        assert!(cell.bit_len() <= MAX_BITS && cell.refs().len() <= MAX_REFS);
        assert!(cell.depth() <= MAX_DEPTH);
    }
    // Written once: a tree of shared cells does not grow with its paths.
    finished.last().map_or(refused.clone(), |cell| {
        assert!(boc(cell).len() <= 32 + finished.len() * (2 + 128 + 4 * 8));
        format!("{refused} {}", cell.depth().min(3))
    })
}
