//! An answer, cut into pieces anywhere: only the bytes that were sealed are complete. The first
//! byte of the input says how large the pieces are.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_fuzz::seal::pair;

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    vec![[&[0xff], &pair().answer()[..]].concat(), [&[0], &pair().answer()[..]].concat()]
}

fn one(data: &[u8]) -> String {
    let Some((size, answer)) = data.split_first() else { return String::new() };
    let (_, mut opener) = pair().seal(b"");
    let pieces = answer.chunks(usize::from(*size) + 1);
    let refused = pieces.map(|piece| opener.push(piece)).find_map(Result::err);
    match refused.map_or_else(|| opener.finish(), Err) {
        Ok(()) => {
            assert_eq!(answer, pair().answer(), "a forgery is complete");
            "complete".to_owned()
        }
        Err(error) => error.code().to_owned(),
    }
}
