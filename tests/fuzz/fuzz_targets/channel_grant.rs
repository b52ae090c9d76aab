//! A grant of a model key: only the bytes that were sealed open.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_channel::open_grant;
use chrysalis_fuzz::seal::{DIGEST, NOW, ROOT, pair};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    vec![pair().grant()]
}

fn one(data: &[u8]) -> String {
    match open_grant(&pair().ring, &ROOT, &[DIGEST], NOW, data) {
        Ok(_) => {
            assert_eq!(data, pair().grant(), "a forgery opened");
            "opened".to_owned()
        }
        Err(error) => error.code().to_owned(),
    }
}
