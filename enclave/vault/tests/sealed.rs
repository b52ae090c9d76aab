//! What an attacker who owns the disk, and has several sealed packings under one key, can do to a
//! sealed bundle, and the refusal each attempt meets (FORMAT §7).

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::Cursor;

use chrysalis_vault::limits::CHUNK_BYTES;
use chrysalis_vault::{Bundle, FaultKind, Section, VaultError, pack_sealed, verify};
use support::{LyingDisk, SlowDisk, content, input, key, load, packed, refusal, sealed, sections};

const MIB: usize = CHUNK_BYTES;

fn wrong_chunk(error: VaultError) -> u64 {
    match error {
        VaultError::ChunkSeal(location) => location.index,
        other => panic!("not a chunk that does not authenticate: {other:?}"),
    }
}

#[test]
fn unseals_what_was_sealed_with_the_root_of_the_plaintext() {
    let (a, b) = (content(2 * MIB + 7, 1), content(10, 2));
    let files: [(&str, &[u8]); 2] = [("a", &a), ("b", &b)];
    let (bundle, root) = sealed(&files, 1, 1);
    assert_eq!(root, packed(&files).1);
    let weights = load(&bundle, &root, Some(&key(1))).unwrap();
    assert_eq!((weights.file("a"), weights.file("b")), (Some(&a[..]), Some(&b[..])));
    let report = verify(Cursor::new(&bundle), Some(&key(1)), &|_, _| ()).unwrap();
    assert!(report.intact && report.sealed);
}

#[test]
fn the_same_key_and_salt_give_the_same_bytes_and_another_salt_gives_none_of_them() {
    let data = content(MIB + 7, 1);
    let (bundle, _) = sealed(&[("w", &data)], 1, 1);
    assert_eq!(bundle, sealed(&[("w", &data)], 1, 1).0);
    let (other, _) = sealed(&[("w", &data)], 1, 2);
    let s = sections(&bundle);
    assert_ne!(bundle[s.table.clone()], other[s.table]);
    for (a, b) in bundle[s.content.clone()].chunks(32).zip(other[s.content].chunks(32)) {
        assert!(a.len() < 8 || a != b);
    }
}

#[test]
fn neither_weights_nor_their_chunk_hashes_are_in_the_sealed_bytes() {
    let data = content(2 * MIB, 1);
    let (plain, _) = packed(&[("w", &data)]);
    let (bundle, _) = sealed(&[("w", &data)], 1, 1);
    let s = sections(&plain);
    // A chunk hash would tell whoever has a guess whether the guess is right.
    for secret in plain[s.table].chunks(32).chain(plain[s.content].chunks(64 * 1024)) {
        let needle = &secret[..32];
        assert!(!bundle.windows(32).step_by(1).any(|w| w == needle));
    }
}

#[test]
fn refuses_a_sealed_bundle_without_a_key() {
    let (bundle, root) = sealed(&[("w", &[1, 2, 3])], 1, 1);
    assert_eq!(refusal(&bundle, &root, None), VaultError::KeyMissing);
    assert_eq!(verify(Cursor::new(&bundle), None, &|_, _| ()), Err(VaultError::KeyMissing));
    assert!(Bundle::open(Cursor::new(&bundle)).unwrap().is_sealed());
}

#[test]
fn refuses_another_key() {
    let (bundle, root) = sealed(&[("w", &[1, 2, 3])], 1, 1);
    assert_eq!(refusal(&bundle, &root, Some(&key(2))), VaultError::KeyWrong);
}

#[test]
fn refuses_a_changed_salt_or_key_check() {
    let (bundle, root) = sealed(&[("w", &[1, 2, 3])], 1, 1);
    for at in [96, 127, 128, 159] {
        let mut changed = bundle.clone();
        changed[at] ^= 1;
        assert_eq!(refusal(&changed, &root, Some(&key(1))), VaultError::KeyWrong, "byte {at}");
    }
}

#[test]
fn refuses_a_sealed_bundle_passed_off_as_plain() {
    let (mut bundle, root) = sealed(&[("w", &[1, 2, 3])], 1, 1);
    bundle[15] = 0;
    assert!(matches!(refusal(&bundle, &root, None), VaultError::HeaderField { .. }));
    bundle[96..160].fill(0);
    // Now it is a well-formed plain bundle of the same root, with other lengths and a table of
    // noise.
    assert!(matches!(refusal(&bundle, &root, None), VaultError::TableHash { .. }));
}

#[test]
fn refuses_segments_reordered() {
    let data = content(3 * MIB, 1);
    let (mut bundle, root) = sealed(&[("w", &data)], 1, 1);
    let s = sections(&bundle);
    let (left, right) = bundle[s.content.start..][..2 * s.stride].split_at_mut(s.stride);
    left.swap_with_slice(right);
    assert_eq!(wrong_chunk(refusal(&bundle, &root, Some(&key(1)))), 0);
}

#[test]
fn refuses_a_segment_repeated() {
    let data = content(3 * MIB, 1);
    let (mut bundle, root) = sealed(&[("w", &data)], 1, 1);
    let s = sections(&bundle);
    bundle.copy_within(s.content.start..s.content.start + s.stride, s.content.start + s.stride);
    assert_eq!(wrong_chunk(refusal(&bundle, &root, Some(&key(1)))), 1);
}

#[test]
fn refuses_a_segment_dropped() {
    let data = content(3 * MIB, 1);
    let (bundle, root) = sealed(&[("w", &data)], 1, 1);
    let s = sections(&bundle);
    let mut dropped = bundle.clone();
    dropped.drain(s.content.start + s.stride..s.content.start + 2 * s.stride);
    let refused = refusal(&dropped, &root, Some(&key(1)));
    assert!(matches!(refused, VaultError::Truncated { section: Section::Content, .. }));
    // The same with the length made up for: what follows moved to an earlier place.
    dropped.resize(bundle.len(), 0);
    assert_eq!(wrong_chunk(refusal(&dropped, &root, Some(&key(1)))), 1);
}

#[test]
fn refuses_a_bundle_truncated_to_whole_segments() {
    let data = content(3 * MIB, 1);
    let (bundle, root) = sealed(&[("w", &data)], 1, 1);
    let s = sections(&bundle);
    let end = s.content.start + 2 * s.stride;
    match refusal(&bundle[..end], &root, Some(&key(1))) {
        VaultError::Truncated { section: Section::Content, chunk: Some(at), .. } => {
            assert_eq!(at.index, 2);
        }
        other => panic!("{other:?}"),
    }
    let disk = LyingDisk { bytes: Cursor::new(&bundle[..end]), claimed: bundle.len() as u64 };
    let refused = Bundle::open(disk).unwrap().load(&root, Some(&key(1)), &|_, _| ()).unwrap_err();
    assert!(matches!(refused, VaultError::Truncated { chunk: Some(at), .. } if at.index == 2));
}

#[test]
fn refuses_a_shorter_model_claimed_by_the_header() {
    // Whoever cuts the bundle and repairs the header makes another model root; even a verifier
    // without a pinned root sees that the key check belongs to another header.
    let data = content(3 * MIB, 1);
    let (mut bundle, root) = sealed(&[("w", &data)], 1, 1);
    let shorter = (2 * MIB as u64).to_be_bytes();
    bundle[24..32].copy_from_slice(&shorter);
    assert!(matches!(refusal(&bundle, &root, Some(&key(1))), VaultError::TotalLength { .. }));
}

#[test]
fn refuses_a_segment_of_another_packing_of_the_same_model() {
    let data = content(3 * MIB, 1);
    let (mut bundle, root) = sealed(&[("w", &data)], 1, 1);
    let (other, _) = sealed(&[("w", &data)], 1, 2);
    let s = sections(&bundle);
    let last = s.content.start + 2 * s.stride..s.content.end;
    bundle[last.clone()].copy_from_slice(&other[last]);
    assert_eq!(wrong_chunk(refusal(&bundle, &root, Some(&key(1)))), 2);
}

#[test]
fn refuses_a_segment_of_another_model_under_the_same_key_and_salt() {
    let (a, b) = (content(2 * MIB, 1), content(2 * MIB, 2));
    let (mut bundle, root) = sealed(&[("w", &a)], 1, 1);
    let (other, _) = sealed(&[("w", &b)], 1, 1);
    let s = sections(&bundle);
    let first = s.content.start..s.content.start + s.stride;
    bundle[first.clone()].copy_from_slice(&other[first]);
    assert_eq!(wrong_chunk(refusal(&bundle, &root, Some(&key(1)))), 0);
}

#[test]
fn refuses_the_leaf_table_of_another_packing() {
    let data = content(MIB, 1);
    let (mut bundle, root) = sealed(&[("w", &data)], 1, 1);
    let (other, _) = sealed(&[("w", &data)], 1, 2);
    let table = sections(&bundle).table;
    bundle[table.clone()].copy_from_slice(&other[table]);
    assert_eq!(refusal(&bundle, &root, Some(&key(1))), VaultError::TableSeal);
}

#[test]
fn refuses_the_header_of_another_packing() {
    let data = content(MIB, 1);
    let (mut bundle, root) = sealed(&[("w", &data)], 1, 1);
    let (other, _) = sealed(&[("w", &data)], 1, 2);
    bundle[..160].copy_from_slice(&other[..160]);
    assert_eq!(refusal(&bundle, &root, Some(&key(1))), VaultError::TableSeal);
}

#[test]
fn refuses_a_flipped_bit_in_every_part_of_a_segment() {
    let data = content(2 * MIB, 1);
    let (bundle, root) = sealed(&[("w", &data)], 1, 1);
    let s = sections(&bundle);
    let tag = s.content.start + MIB;
    for (at, chunk) in [(s.content.start, 0), (tag - 1, 0), (tag, 0), (tag + 15, 0), (tag + 16, 1)]
    {
        let mut changed = bundle.clone();
        changed[at] ^= 0x80;
        assert_eq!(wrong_chunk(refusal(&changed, &root, Some(&key(1)))), chunk, "byte {at}");
    }
}

#[test]
fn refuses_every_single_flipped_bit_of_a_small_bundle() {
    let (bundle, root) = sealed(&[("w", &content(600, 1))], 1, 1);
    let key = key(1);
    for at in 0..bundle.len() {
        let mut changed = bundle.clone();
        changed[at] ^= 1;
        assert!(load(&changed, &root, Some(&key)).is_err(), "byte {at}");
    }
}

#[test]
fn verify_reports_every_segment_that_does_not_authenticate() {
    let data = content(4 * MIB, 1);
    let (mut bundle, _) = sealed(&[("w", &data)], 1, 1);
    let s = sections(&bundle);
    for chunk in [0, 3] {
        bundle[s.content.start + chunk * s.stride] ^= 1;
    }
    let report = verify(Cursor::new(&bundle), Some(&key(1)), &|_, _| ()).unwrap();
    let wrong: Vec<_> = report.faults.iter().map(|f| (f.kind, f.location.index)).collect();
    assert_eq!(wrong, [(FaultKind::Seal, 0), (FaultKind::Seal, 3)]);
}

#[test]
fn refuses_a_salt_of_zeros() {
    let refused =
        pack_sealed(input(&[("w", &[1])]), Vec::new(), &key(1), [0; 32], &|_, _| ()).unwrap_err();
    assert_eq!(refused, VaultError::NotRandom { what: "salt" });
}

#[test]
fn unseals_from_a_disk_that_gives_one_byte_at_a_time() {
    let data = content(MIB + 3, 1);
    let (bundle, root) = sealed(&[("w", &data)], 1, 1);
    let disk = SlowDisk { bytes: Cursor::new(&bundle), reads: 0 };
    let weights = Bundle::open(disk).unwrap().load(&root, Some(&key(1)), &|_, _| ()).unwrap();
    assert_eq!(weights.file("w"), Some(&data[..]));
}
