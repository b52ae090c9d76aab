//! Files streamed out of a bundle are the files that went in, whatever their sizes; what is wrong is
//! refused before it is handed out, or by the end if nobody asked for it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::cell::RefCell;
use std::io::{BufRead, Cursor, Read};

use chrysalis_vault::limits::CHUNK_BYTES;
use chrysalis_vault::{Bundle, ModelKey, VaultError};
use chrysalis_wire::Digest;
use proptest::prelude::*;
use support::{LyingDisk, SlowDisk, content, key, packed, refusal, sealed, sections};

/// A path, and what was read of the file.
type Got = (String, Vec<u8>);

/// Reads `most` bytes of each file; what was read, and how it ended.
fn streamed(
    bundle: &[u8],
    root: &Digest,
    key: Option<&ModelKey>,
    most: u64,
) -> (Vec<Got>, Result<(), VaultError>) {
    let bundle = Bundle::open(Cursor::new(bundle)).unwrap();
    let mut files = match bundle.files(root, key, &|_, _| ()) {
        Ok(files) => files,
        Err(refused) => return (Vec::new(), Err(refused)),
    };
    let mut out = Vec::new();
    while let Some(file) = files.next_file() {
        let (path, size) = (file.path().to_owned(), file.size());
        let mut bytes = Vec::new();
        let read = file.take(most).read_to_end(&mut bytes);
        assert!(read.is_err() || bytes.len() as u64 == size.min(most));
        out.push((path, bytes));
    }
    (out, files.finish())
}

fn size() -> impl Strategy<Value = usize> {
    let around = |edge: usize| edge.saturating_sub(2).max(1)..edge + 3;
    prop_oneof![
        1usize..5000,
        around(4096),
        around(CHUNK_BYTES),
        around(4 * CHUNK_BYTES),
        1..9 * CHUNK_BYTES,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_file_comes_out_as_it_went_in_and_nothing_wrong_does(
        sizes in prop::collection::vec(size(), 1..4),
        seed in 1u8..,
        most in prop_oneof![Just(u64::MAX), 0..2 * CHUNK_BYTES as u64],
        place in any::<prop::sample::Index>(),
    ) {
        let data: Vec<_> = sizes.iter().map(|&len| content(len, seed)).collect();
        let names = ["a", "b", "c"];
        let files: Vec<_> = names.iter().copied().zip(data.iter().map(Vec::as_slice)).collect();
        let (plain, root) = packed(&files);
        let (closed, _) = sealed(&files, seed, seed);
        for (bundle, key) in [(plain, None), (closed, Some(key(seed)))] {
            let (got, end) = streamed(&bundle, &root, key.as_ref(), most);
            prop_assert_eq!(end, Ok(()));
            prop_assert_eq!(got.len(), files.len());
            for ((path, got), (name, bytes)) in got.iter().zip(&files) {
                let wanted = bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                prop_assert!(path == name && got[..] == bytes[..wanted]);
            }
            let s = sections(&bundle);
            let mut changed = bundle;
            changed[s.content.start + place.index(s.content.len())] ^= 1;
            let (got, end) = streamed(&changed, &root, key.as_ref(), most);
            prop_assert_eq!(end.unwrap_err(), refusal(&changed, &root, key.as_ref()));
            for ((_, got), (_, bytes)) in got.iter().zip(&files) {
                prop_assert!(bytes.starts_with(got), "a byte that is not of the file");
            }
        }
    }
}

#[test]
fn nothing_of_a_bank_with_a_wrong_chunk_is_handed_out() {
    let data = content(3 * CHUNK_BYTES, 1);
    let (mut bundle, root) = packed(&[("w", &data)]);
    let at = sections(&bundle).content.start;
    bundle[at] ^= 1;
    let opened = Bundle::open(Cursor::new(&bundle)).unwrap();
    let mut files = opened.files(&root, None, &|_, _| ()).unwrap();
    let mut file = files.next_file().unwrap();
    for _ in 0..2 {
        let error = file.fill_buf().unwrap_err();
        let told = error.get_ref().and_then(|e| e.downcast_ref::<VaultError>());
        assert!(matches!(told, Some(VaultError::ChunkHash(at)) if at.index == 0));
    }
}

#[test]
fn a_file_nobody_reads_is_verified_by_the_end() {
    let (a, b) = (content(10, 1), content(20 * CHUNK_BYTES, 2));
    let (mut bundle, root) = packed(&[("a", &a), ("b", &b)]);
    let last = sections(&bundle).content.end - 1;
    bundle[last] ^= 1;
    let (got, end) = streamed(&bundle, &root, None, 10);
    assert_eq!((got[0].1.as_slice(), got[1].1.as_slice()), (&a[..], &b[..10]));
    assert_eq!(end.unwrap_err(), refusal(&bundle, &root, None));
}

#[test]
fn what_follows_the_content_is_judged_by_the_end() {
    let (mut bundle, root) = packed(&[("w", &[1, 2, 3])]);
    *bundle.last_mut().unwrap() = 1;
    assert_eq!(streamed(&bundle, &root, None, 9).1, Err(VaultError::TrailerNotZero));
}

#[test]
fn a_disk_that_ends_early_is_refused_after_the_chunks_before() {
    let data = content(3 * CHUNK_BYTES, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let cut = sections(&bundle).content.start + 2 * CHUNK_BYTES + 5;
    let disk = LyingDisk { bytes: Cursor::new(&bundle[..cut]), claimed: bundle.len() as u64 };
    let mut files = Bundle::open(disk).unwrap().files(&root, None, &|_, _| ()).unwrap();
    let mut got = Vec::new();
    assert!(files.next_file().unwrap().read_to_end(&mut got).is_err());
    assert!(got[..] == data[..2 * CHUNK_BYTES]);
    let end = files.finish().unwrap_err();
    assert!(matches!(end, VaultError::Truncated { chunk: Some(at), .. } if at.index == 2));
}

#[test]
fn a_slow_disk_gives_the_same_bytes_and_progress_is_whole_only_at_the_end() {
    let data = content(CHUNK_BYTES + 1, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let disk = SlowDisk { bytes: Cursor::new(&bundle[..]), reads: 0 };
    let seen = RefCell::new(Vec::new());
    let progress = |done, total| seen.borrow_mut().push((done, total));
    let mut files = Bundle::open(disk).unwrap().files(&root, None, &progress).unwrap();
    let mut got = Vec::new();
    files.next_file().unwrap().read_to_end(&mut got).unwrap();
    assert!(got == data);
    assert!(files.next_file().is_none());
    assert!(seen.borrow().iter().all(|(done, total)| done < total));
    files.finish().unwrap();
    let total = data.len() as u64;
    assert_eq!(seen.borrow().last(), Some(&(total, total)));
}

#[test]
fn refuses_another_root_and_a_wrong_key_before_the_first_byte() {
    let (bundle, root) = sealed(&[("w", &[1, 2, 3])], 1, 1);
    let start = |root: &Digest, key: Option<&ModelKey>| streamed(&bundle, root, key, 9);
    let other = Digest([7; 32]);
    let (got, end) = start(&other, Some(&key(1)));
    assert!(got.is_empty() && matches!(end, Err(VaultError::RootMismatch { .. })));
    assert_eq!(start(&root, Some(&key(2))).1, Err(VaultError::KeyWrong));
    assert_eq!(start(&root, None).1, Err(VaultError::KeyMissing));
}
