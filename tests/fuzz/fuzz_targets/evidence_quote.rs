//! Where a quote ends. The seed is the real quote of the shared vectors, if they are there.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_evidence::{CutQuote, cut_quote};
use chrysalis_fuzz::variant;

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let folder = std::env::var("CHRYSALIS_VECTORS").unwrap_or_default();
    let real = std::fs::read(format!("{folder}/quote.dat")).ok();
    // Version 4, ECDSA P-256, TDX; then nothing but lengths that lie.
    let mut made = vec![4, 0, 2, 0, 0x81, 0, 0, 0];
    made.resize(1100, 1);
    [real, Some(made)].into_iter().flatten().collect()
}

fn one(data: &[u8]) -> String {
    match (CutQuote::parse(data), cut_quote(data)) {
        (Ok(_), Ok(cut)) => {
            assert!(data.starts_with(cut));
            assert_eq!(cut_quote(cut), Ok(cut), "a quote that was cut ends where it ends");
            "quote".to_owned()
        }
        (Err(error), Err(same)) => {
            assert_eq!(error, same);
            variant(&error)
        }
        (parsed, cut) => panic!("{parsed:?} and {cut:?}"),
    }
}
