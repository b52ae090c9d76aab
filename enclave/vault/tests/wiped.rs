//! Nothing of a sealed model is left in memory that was given back: not its weights, not the
//! hashes that would confirm a guess of them, not its key. Every block of the heap is looked at
//! before it is freed; what a function left on its stack is not seen.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::io::{BufRead as _, Cursor};

use chrysalis_vault::limits::CHUNK_BYTES;
use chrysalis_vault::{Bundle, ModelKey, pack_sealed, verify};
use heap::{Watch, Watched};
use support::{input, key, load, sealed};

#[global_allocator]
static HEAP: Watched = Watched;

const WEIGHTS: [u8; 16] = *b"secret weights!!";

/// Weights of two chunks and a bit, which repeat the secret at every alignment.
fn weights() -> Vec<u8> {
    WEIGHTS.repeat(2 * CHUNK_BYTES / 16 + 1)
}

fn start_of(secret: &[u8]) -> [u8; 16] {
    secret[..16].try_into().unwrap()
}

#[test]
fn the_watch_sees_what_is_not_wiped() {
    let watch = Watch::alone();
    assert_eq!(watch.left_behind(WEIGHTS, || drop(WEIGHTS.to_vec())), 1);
    assert_eq!(watch.left_behind(WEIGHTS, || drop(vec![1u8; 100])), 0);
    // Growing copies the bytes and frees the first block as it is.
    let grown = watch.left_behind(WEIGHTS, || {
        let mut bytes = WEIGHTS.to_vec();
        bytes.reserve_exact(1000);
        bytes.fill(0);
    });
    assert_eq!(grown, 1);
}

#[test]
fn loading_and_dropping_a_sealed_model_leaves_no_weights() {
    let watch = Watch::alone();
    let data = weights();
    let (bundle, root) = sealed(&[("w", &data)], 1, 1);
    let key = key(1);
    let left = watch.left_behind(WEIGHTS, || {
        let weights = load(&bundle, &root, Some(&key)).unwrap();
        assert!(weights.file("w") == Some(&data[..]));
    });
    assert_eq!(left, 0);
}

#[test]
fn streaming_a_sealed_model_leaves_no_weights() {
    let watch = Watch::alone();
    let data = weights();
    let (bundle, root) = sealed(&[("w", &data)], 1, 1);
    let key = key(1);
    let left = watch.left_behind(WEIGHTS, || {
        let bundle = Bundle::open(Cursor::new(&bundle)).unwrap();
        let mut files = bundle.files(&root, Some(&key), &|_, _| ()).unwrap();
        let mut same = 0;
        let mut file = files.next_file().unwrap();
        while let Ok(bytes) = file.fill_buf()
            && !bytes.is_empty()
        {
            assert!(data[same..].starts_with(bytes));
            let read = bytes.len();
            same += read;
            file.consume(read);
        }
        assert_eq!(same, data.len());
        files.finish().unwrap();
    });
    assert_eq!(left, 0);
}

#[test]
fn refusing_the_last_chunk_leaves_no_weights_of_the_chunks_before_it() {
    let watch = Watch::alone();
    let data = weights();
    let (mut bundle, root) = sealed(&[("w", &data)], 1, 1);
    let last = support::sections(&bundle).content.end - 1;
    bundle[last] ^= 1;
    let key = key(1);
    let left = watch.left_behind(WEIGHTS, || drop(load(&bundle, &root, Some(&key)).unwrap_err()));
    assert_eq!(left, 0);
}

#[test]
fn verifying_and_packing_leave_no_weights() {
    let watch = Watch::alone();
    let data = weights();
    let (bundle, _) = sealed(&[("w", &data)], 1, 1);
    let key = key(1);
    let left = watch.left_behind(WEIGHTS, || {
        assert!(verify(Cursor::new(&bundle), Some(&key), &|_, _| ()).unwrap().intact);
        let mut out = Vec::new();
        pack_sealed(input(&[("w", &data)]), &mut out, &key, [1; 32], &|_, _| ()).unwrap();
        assert!(out == bundle);
    });
    assert_eq!(left, 0);
}

/// Where models are served, that is: who packs one has it on a disk.
#[test]
fn no_leaf_of_a_sealed_model_is_left() {
    let watch = Watch::alone();
    let data = weights();
    let (bundle, root) = sealed(&[("w", &data)], 1, 1);
    let leaves = data.chunks(CHUNK_BYTES).map(|c| blake3::derive_key("chrysalis/vault/1/leaf", c));
    for leaf in leaves {
        let key = key(1);
        let left = watch.left_behind(start_of(&leaf), || {
            drop(load(&bundle, &root, Some(&key)).unwrap());
            assert!(verify(Cursor::new(&bundle), Some(&key), &|_, _| ()).unwrap().intact);
        });
        assert_eq!(left, 0);
    }
}

#[test]
fn no_model_key_is_left() {
    let watch = Watch::alone();
    let secret = *b"sixteen of a key";
    let (bundle, text) = {
        let key = ModelKey::from_bytes(&secret.repeat(2)).unwrap();
        let mut out = Vec::new();
        pack_sealed(input(&[("w", &[1, 2, 3])]), &mut out, &key, [1; 32], &|_, _| ()).unwrap();
        (out, key.to_text())
    };
    let left = watch.left_behind(secret, || {
        let key = ModelKey::from_text(&text).unwrap();
        let root = Bundle::open(Cursor::new(&bundle)).unwrap().root();
        load(&bundle, &root, Some(&key)).unwrap();
        drop(key.to_text());
    });
    assert_eq!(left, 0);
    let text = start_of(&text.as_bytes()[22..]);
    assert_eq!(
        watch.left_behind(text, || drop(ModelKey::from_bytes(&secret.repeat(2)).unwrap())),
        0
    );
}
