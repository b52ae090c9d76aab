//! Header, recipients and frames of a sealed request: only the bytes that were sealed open.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_channel::Header;
use chrysalis_fuzz::seal::pair;

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    vec![pair().seal(b"").0, pair().seal(&[5; 70_000]).0]
}

fn one(data: &[u8]) -> String {
    let routed = Header::peek(data);
    match pair().open(data) {
        Ok(opened) => {
            assert_eq!(routed.as_ref(), Ok(&opened.header));
            assert_eq!(data, pair().seal(opened.body.expose()).0, "a forgery opened");
            "opened".to_owned()
        }
        Err(error) => error.code().to_owned(),
    }
}
