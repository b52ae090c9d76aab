//! Known answers: roots and whole bundles computed by `tests/reference.py`, a second
//! implementation written from FORMAT.md. A change here is a change of the format.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::Cursor;

use chrysalis_vault::limits::CHUNK_BYTES;
use chrysalis_vault::{AssetSource, PackFile, PackInput, pack, pack_sealed};
use sha2::{Digest as _, Sha256};
use support::{key, load};

struct Vector {
    input: fn() -> PackInput<'static>,
    root: &'static str,
    plain: &'static str,
    sealed: &'static str,
}

fn stream(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(b"vector").finalize_xof().fill(&mut out);
    out
}

fn bare(bytes: Vec<u8>) -> PackInput<'static> {
    PackInput {
        name: "V".to_owned(),
        architecture: "a".to_owned(),
        quantisation: None,
        tokenizer: AssetSource::None,
        chat_template: AssetSource::None,
        licence: None,
        files: vec![PackFile::new("f", Cursor::new(bytes))],
    }
}

fn several() -> PackInput<'static> {
    let bytes = stream(2 * CHUNK_BYTES + 5);
    let template = bytes[..100].to_vec();
    PackInput {
        name: "Tiny Vector".to_owned(),
        architecture: "llama".to_owned(),
        quantisation: Some("Q4_1".to_owned()),
        tokenizer: AssetSource::Gguf,
        chat_template: AssetSource::File("t/chat.txt".to_owned()),
        licence: Some("Apache-2.0".to_owned()),
        files: vec![
            PackFile::new("t/chat.txt", Cursor::new(template)),
            PackFile::new("m.gguf", Cursor::new(bytes)),
        ],
    }
}

const VECTORS: [Vector; 3] = [
    Vector {
        input: || bare(vec![1]),
        root: "0366d7a10ef6ef52a98cb518a50a3ea2caca9c96d376659abe6bdc0693a3bb3e",
        plain: "4a74436e8e57498a1b950e22a1e713695b2d76f88cf2dfd990ce41c87a502fd7",
        sealed: "4ea4b49060e3e5d78bb2803d2dbf45baf96f98057efeb5ec38630b615c51d51d",
    },
    Vector {
        input: || bare(stream(CHUNK_BYTES)),
        root: "e6d14bd4498761da0625630b02e8f60ddeb2ccb97a7770e74a9767797ab0661f",
        plain: "47599cc688b5bdaa38473612c50cd8e5d1a69b2c6f6b1207356558f2f7186677",
        sealed: "fd36c873115e5d36ddd08e08daba8849f7cd2dd6e3754687f3647ec824eaac2b",
    },
    Vector {
        input: several,
        root: "29269e15beb0dc2a0040020c1a7c33a1c337e8d65b3ebb5432a5e622e3ec30cd",
        plain: "4e9bd3b8828fdb04ab0c2c1ab8b7b6bf543cadac0e7693a14b7efea1d0b2171f",
        sealed: "38dbbc65b6273bac85e93fe899ba224ccf42ecbd2332e143510b8b0d2d861f32",
    },
];

#[test]
fn roots_and_bundles_equal_those_of_the_second_implementation() {
    for vector in &VECTORS {
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        let key = key(1);
        let report = pack((vector.input)(), &mut plain, &|_, _| ()).unwrap();
        let other = pack_sealed((vector.input)(), &mut sealed, &key, [2; 32], &|_, _| ()).unwrap();
        assert_eq!(report.model_root.to_string(), vector.root);
        assert_eq!(other.model_root, report.model_root);
        assert_eq!(hex::encode(Sha256::digest(&plain)), vector.plain);
        assert_eq!(hex::encode(Sha256::digest(&sealed)), vector.sealed);
        load(&plain, &report.model_root, None).unwrap();
        load(&sealed, &report.model_root, Some(&key)).unwrap();
    }
}
