//! What an attacker who owns the disk can do to a bundle that is not sealed, and the refusal each
//! attempt meets. Clause numbers are those of FORMAT.md.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::cell::{Cell, RefCell};
use std::io::Cursor;

use chrysalis_vault::limits::{CHUNK_BYTES, FILE_ALIGN, MAX_REPORTED_FAULTS};
use chrysalis_vault::{Bundle, ChunkLocation, FaultKind, Section, VaultError, verify};
use chrysalis_wire::Digest;
use support::{
    Forge, LyingDisk, MeteredDisk, SlowDisk, content, key, load, packed, refusal, sections,
};

const MIB: usize = CHUNK_BYTES;

fn location(error: VaultError) -> ChunkLocation {
    match error {
        VaultError::ChunkHash(location) => location,
        other => panic!("not a wrong chunk: {other:?}"),
    }
}

fn flipped(bundle: &[u8], at: usize) -> Vec<u8> {
    let mut out = bundle.to_vec();
    out[at] ^= 1;
    out
}

#[test]
fn loads_what_was_packed() {
    let (a, b) = (content(3 * MIB + 5, 1), content(100, 2));
    let (bundle, root) = packed(&[("model.gguf", &a), ("tokenizer.json", &b)]);
    let weights = load(&bundle, &root, None).unwrap();
    assert_eq!(weights.file("model.gguf"), Some(&a[..]));
    assert_eq!(weights.file("tokenizer.json"), Some(&b[..]));
    assert_eq!(weights.file("other"), None);
    assert_eq!(weights.root(), root);
    assert_eq!(weights.manifest().files.len(), 2);
    assert_eq!(weights.files().count(), 2);
    let offset = weights.file("tokenizer.json").unwrap().as_ptr().addr() - weights.as_ptr().addr();
    assert!(offset.is_multiple_of(usize::try_from(FILE_ALIGN).unwrap()));
    assert_eq!(
        format!("{weights:?}"),
        format!("<weights of {root}, redacted {} bytes>", weights.len())
    );
}

#[test]
fn names_the_first_chunk_when_it_is_wrong() {
    let data = content(4 * MIB, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let at = location(refusal(&flipped(&bundle, sections(&bundle).content.start), &root, None));
    assert_eq!((at.index, at.count, at.start, at.end), (0, 4, 0, MIB as u64));
    assert_eq!(at.files, ["w"]);
}

#[test]
fn names_a_middle_chunk_when_it_is_wrong_and_its_files() {
    let (a, b) = (content(2 * MIB - 10, 1), content(2 * MIB, 2));
    let (bundle, root) = packed(&[("a", &a), ("b", &b)]);
    let s = sections(&bundle);
    let at = location(refusal(&flipped(&bundle, s.content.start + 2 * MIB), &root, None));
    assert_eq!((at.index, at.files), (2, vec!["b".to_owned()]));
    let error = refusal(&flipped(&bundle, s.content.start + MIB), &root, None);
    assert_eq!(
        error.to_string(),
        "chunk 1 of 4 (bytes 1048576..2097152, file a) has the wrong hash; fetch the bundle again"
    );
}

#[test]
fn names_the_last_and_shorter_chunk_when_it_is_wrong() {
    let data = content(2 * MIB + 1, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let at = location(refusal(&flipped(&bundle, sections(&bundle).content.end - 1), &root, None));
    assert_eq!((at.index, at.start, at.end), (2, 2 * MIB as u64, 2 * MIB as u64 + 1));
}

#[test]
fn names_the_lowest_of_several_wrong_chunks() {
    let data = content(8 * MIB, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let mut bundle = bundle;
    let start = sections(&bundle).content.start;
    for chunk in [7, 6, 3, 5, 4] {
        bundle[start + chunk * MIB] ^= 1;
    }
    for _ in 0..20 {
        assert_eq!(location(refusal(&bundle, &root, None)).index, 3);
    }
}

#[test]
fn stops_reading_soon_after_a_wrong_chunk() {
    let chunks = 64;
    let data = content(chunks * MIB, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let at = sections(&bundle).content.start;
    let broken = flipped(&bundle, at);
    // A disk slow enough for the other core to judge a chunk before the next one is there.
    let read = Cell::new(0);
    let disk = MeteredDisk { bytes: Cursor::new(&broken[..]), read: &read };
    let refused = Bundle::open(disk).unwrap().load(&root, None, &|_, _| ());
    assert!(matches!(refused, Err(VaultError::ChunkHash(at)) if at.index == 0));
    assert!(read.get() < chunks * MIB / 2, "{} bytes were read", read.get());
}

#[test]
fn refuses_two_chunks_swapped() {
    let data = content(2 * MIB, 1);
    let (mut bundle, root) = packed(&[("w", &data)]);
    let start = sections(&bundle).content.start;
    let (left, right) = bundle[start..start + 2 * MIB].split_at_mut(MIB);
    left.swap_with_slice(right);
    assert_eq!(location(refusal(&bundle, &root, None)).index, 0);
}

#[test]
fn refuses_two_chunks_swapped_together_with_their_leaves() {
    let data = content(2 * MIB, 1);
    let (mut bundle, root) = packed(&[("w", &data)]);
    let s = sections(&bundle);
    let (left, right) = bundle[s.content.start..][..2 * MIB].split_at_mut(MIB);
    left.swap_with_slice(right);
    let (left, right) = bundle[s.table].split_at_mut(32);
    left.swap_with_slice(right);
    assert!(matches!(refusal(&bundle, &root, None), VaultError::TableHash { .. }));
}

#[test]
fn refuses_a_bundle_cut_inside_its_header() {
    let (bundle, root) = packed(&[("w", &[1, 2, 3])]);
    for len in 0..160 {
        let error = refusal(&bundle[..len], &root, None);
        let expected = VaultError::Truncated {
            section: Section::Header,
            expected: 160,
            got: len as u64,
            chunk: None,
        };
        assert_eq!(error, expected, "cut to {len} bytes");
    }
}

#[test]
fn refuses_a_bundle_cut_at_every_section_boundary() {
    let data = content(2 * MIB + 1, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let s = sections(&bundle);
    let (chunk1, chunk2) = (s.content.start + MIB, s.content.start + 2 * MIB);
    for (len, section, chunk) in [
        (160, Section::Manifest, None),
        (s.manifest.end - 1, Section::Manifest, None),
        (s.manifest.end, Section::Table, None),
        (s.table.end - 1, Section::Table, None),
        (s.content.start, Section::Content, Some(0)),
        (chunk1 - 1, Section::Content, Some(0)),
        (chunk1, Section::Content, Some(1)),
        (chunk2, Section::Content, Some(2)),
        (s.content.end, Section::Padding, None),
        (bundle.len() - 1, Section::Padding, None),
    ] {
        match refusal(&bundle[..len], &root, None) {
            VaultError::Truncated { section: got, expected, got: length, chunk: at } => {
                assert_eq!((got, at.map(|c| c.index)), (section, chunk), "cut to {len} bytes");
                assert_eq!((expected, length), (bundle.len() as u64, len as u64));
            }
            other => panic!("cut to {len} bytes: {other:?}"),
        }
    }
}

#[test]
fn refuses_a_disk_that_ends_earlier_than_it_claims_and_names_the_chunk() {
    let data = content(2 * MIB + 1, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let s = sections(&bundle);
    for (len, section, chunk) in [
        (s.table.start + 1, Section::Table, None),
        (s.content.start + MIB + 7, Section::Content, Some(1)),
        (s.content.end + 1, Section::Padding, None),
    ] {
        let disk = LyingDisk { bytes: Cursor::new(&bundle[..len]), claimed: bundle.len() as u64 };
        let error = Bundle::open(disk).unwrap().load(&root, None, &|_, _| ()).unwrap_err();
        match error {
            VaultError::Truncated { section: got, got: length, chunk: at, .. } => {
                assert_eq!((got, at.map(|c| c.index)), (section, chunk));
                assert_eq!(length, len as u64);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_wrong_chunk_is_named_before_a_later_truncation() {
    let data = content(4 * MIB, 1);
    let (mut bundle, root) = packed(&[("w", &data)]);
    let start = sections(&bundle).content.start;
    bundle[start + MIB] ^= 1;
    let short = &bundle[..start + 3 * MIB];
    let disk = LyingDisk { bytes: Cursor::new(short), claimed: bundle.len() as u64 };
    let error = Bundle::open(disk).unwrap().load(&root, None, &|_, _| ()).unwrap_err();
    assert_eq!(location(error).index, 1);
}

#[test]
fn refuses_bytes_after_the_end() {
    let (mut bundle, root) = packed(&[("w", &[1, 2, 3])]);
    let expected = bundle.len() as u64;
    bundle.push(0);
    let error = VaultError::TrailingBytes { expected, got: expected + 1 };
    // Already when it is opened, so that inspecting it does not pass either.
    assert_eq!(Bundle::open(Cursor::new(&bundle)).unwrap_err(), error);
    let disk = LyingDisk { bytes: Cursor::new(&bundle), claimed: expected };
    let refused = Bundle::open(disk).unwrap().load(&root, None, &|_, _| ()).unwrap_err();
    assert_eq!(refused, error);
}

#[test]
fn refuses_padding_that_is_not_zero() {
    let (bundle, root) = packed(&[("w", &[1, 2, 3])]);
    for at in [sections(&bundle).padding.start, bundle.len() - 1] {
        assert_eq!(refusal(&flipped(&bundle, at), &root, None), VaultError::TrailerNotZero);
        let verified = verify(Cursor::new(flipped(&bundle, at)), None, &|_, _| ());
        assert_eq!(verified, Err(VaultError::TrailerNotZero));
    }
    let cut = &bundle[..bundle.len() - 1];
    let refused = Bundle::open(Cursor::new(cut)).unwrap_err();
    assert!(matches!(refused, VaultError::Truncated { section: Section::Padding, .. }));
}

#[test]
fn refuses_every_changed_leaf() {
    let data = content(5 * MIB, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    for at in sections(&bundle).table.step_by(32) {
        let refused = refusal(&flipped(&bundle, at), &root, None);
        assert!(matches!(refused, VaultError::TableHash { .. }), "byte {at}");
    }
}

#[test]
fn refuses_a_changed_manifest() {
    let (bundle, root) = packed(&[("w", &[1, 2, 3])]);
    for at in sections(&bundle).manifest {
        let refused = refusal(&flipped(&bundle, at), &root, None);
        assert!(matches!(refused, VaultError::ManifestHash { .. }), "byte {at}");
    }
}

#[test]
fn refuses_a_changed_manifest_with_a_repaired_digest() {
    let (_, root) = Forge::new(&[("a", 3)], vec![1, 2, 3]).build();
    let (bundle, other) = Forge::new(&[("b", 3)], vec![1, 2, 3]).build();
    let expected = VaultError::RootMismatch { expected: root, got: other };
    assert_eq!(refusal(&bundle, &root, None), expected);
}

#[test]
fn refuses_another_root_than_the_expected_one() {
    let (bundle, root) = packed(&[("w", &[1, 2, 3])]);
    let expected = Digest([7; 32]);
    let error = VaultError::RootMismatch { expected, got: root };
    assert_eq!(refusal(&bundle, &expected, None), error);
    let refused =
        Bundle::open(Cursor::new(&bundle)).unwrap().verify(Some(&expected), None, &|_, _| ());
    assert_eq!(refused, Err(error));
}

#[test]
fn refuses_a_future_version() {
    let (mut bundle, root) = packed(&[("w", &[1, 2, 3])]);
    bundle[11] = 2;
    assert_eq!(refusal(&bundle, &root, None), VaultError::UnsupportedVersion { got: 2 });
}

#[test]
fn refuses_files_that_are_not_bundles() {
    let (bundle, root) = packed(&[("w", &[1, 2, 3])]);
    for file in [&flipped(&bundle, 0)[..], b"GGUF", &[0; 4096], b"CHRYSBDM"] {
        assert!(matches!(refusal(file, &root, None), VaultError::NotABundle { .. }));
    }
}

#[test]
fn refuses_a_header_that_claims_a_tebibyte_before_believing_it() {
    let mut forge = Forge::new(&[("w", 1 << 40)], vec![1, 2, 3]);
    forge.total = Some(1 << 40);
    let (bundle, root) = forge.build();
    assert!(matches!(
        refusal(&bundle, &root, None),
        VaultError::Truncated { section: Section::Table, .. }
    ));
    // Even from a disk that claims to hold it, the pinned root is compared before any reading.
    let claimed = 160 + forge.manifest.len() as u64 + (32 << 20) + (1 << 40);
    let claimed = claimed.next_multiple_of(4096);
    let disk = || LyingDisk { bytes: Cursor::new(&bundle[..]), claimed };
    let refused = Bundle::open(disk()).unwrap().load(&Digest([7; 32]), None, &|_, _| ());
    assert!(matches!(refused, Err(VaultError::RootMismatch { .. })));
    // And with the right root, the table is checked before a buffer for the weights exists.
    let refused = Bundle::open(disk()).unwrap().load(&root, None, &|_, _| ());
    assert!(matches!(refused, Err(VaultError::Truncated { section: Section::Table, .. })));
}

#[test]
fn refuses_sizes_over_their_limits() {
    for size in [(1 << 40) + 1, u64::MAX] {
        let mut forge = Forge::new(&[("w", size)], vec![1]);
        forge.total = Some(size);
        let (bundle, root) = forge.build();
        let refused = refusal(&bundle, &root, None);
        assert!(matches!(refused, VaultError::OverLimit { what: "content length", .. }));
        // The same from the manifest alone, with a header that does not show it.
        forge.total = None;
        let (bundle, root) = forge.build();
        let refused = refusal(&bundle, &root, None);
        assert!(matches!(refused, VaultError::OverLimit { what: "content length", .. }));
    }
}

#[test]
fn refuses_one_file_more_than_the_limit() {
    let paths: Vec<String> = (0..257).map(|i| format!("{i:03}")).collect();
    let files: Vec<(&str, u64)> = paths.iter().map(|p| (p.as_str(), 1)).collect();
    let (bundle, root) = Forge::new(&files, vec![1; 257 * 4096]).build();
    let refused = refusal(&bundle, &root, None);
    assert_eq!(refused, VaultError::OverLimit { what: "file count", limit: 256, got: 257 });
}

#[test]
fn refuses_files_that_do_not_add_up_to_the_content() {
    for size in [2, 4] {
        let (bundle, root) = Forge::new(&[("w", size)], vec![1, 2, 3]).build();
        let refused = refusal(&bundle, &root, None);
        assert_eq!(refused, VaultError::TotalLength { expected: 3, got: size });
    }
}

#[test]
fn refuses_hostile_paths_with_correct_hashes() {
    for path in ["../w", "/w", "a/../w", "w\u{1b}[2J", "", "C:\\w"] {
        let (bundle, root) = Forge::new(&[(path, 3)], vec![1, 2, 3]).build();
        assert!(matches!(refusal(&bundle, &root, None), VaultError::Path { .. }), "{path:?}");
    }
}

#[test]
fn refuses_duplicate_paths_with_correct_hashes() {
    let (bundle, root) = Forge::new(&[("w", 1), ("w", 1)], vec![0; 4097]).build();
    assert_eq!(refusal(&bundle, &root, None), VaultError::DuplicatePath { path: "w".to_owned() });
}

#[test]
fn refuses_a_bundle_of_no_files_and_one_of_an_empty_file() {
    let (bundle, root) = Forge::new(&[], vec![1]).build();
    assert_eq!(refusal(&bundle, &root, None), VaultError::NoFiles);
    let (bundle, root) = Forge::new(&[("a", 0), ("b", 1)], vec![1]).build();
    assert_eq!(refusal(&bundle, &root, None), VaultError::EmptyFile { path: "a".to_owned() });
}

#[test]
fn refuses_bytes_hidden_between_files_with_correct_hashes() {
    let mut hidden = vec![0; 4097];
    hidden[1] = 1;
    let (bundle, root) = Forge::new(&[("a", 1), ("b", 1)], hidden).build();
    assert!(matches!(refusal(&bundle, &root, None), VaultError::ChunkPadding(at) if at.index == 0));
    hidden = vec![0; 4097];
    hidden[0] = 1;
    let (bundle, root) = Forge::new(&[("a", 1), ("b", 1)], hidden).build();
    load(&bundle, &root, None).unwrap();
}

#[test]
fn refuses_a_key_for_a_bundle_that_is_not_sealed() {
    let (bundle, root) = packed(&[("w", &[1, 2, 3])]);
    assert_eq!(refusal(&bundle, &root, Some(&key(1))), VaultError::KeyUnexpected);
}

#[test]
fn refuses_every_single_flipped_bit_of_a_small_bundle() {
    let (bundle, root) = packed(&[("w", &content(600, 1))]);
    for at in 0..bundle.len() {
        assert!(load(&flipped(&bundle, at), &root, None).is_err(), "byte {at}");
    }
}

#[test]
fn loads_from_a_disk_that_gives_one_byte_at_a_time() {
    let data = content(MIB + 3, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let disk = SlowDisk { bytes: Cursor::new(&bundle), reads: 0 };
    let weights = Bundle::open(disk).unwrap().load(&root, None, &|_, _| ()).unwrap();
    assert_eq!(weights.file("w"), Some(&data[..]));
}

#[test]
fn progress_reaches_the_total_only_when_everything_is_verified() {
    let data = content(5 * MIB + 1, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let seen = RefCell::new(Vec::new());
    let total = data.len() as u64;
    let note = |done, of| seen.borrow_mut().push((done, of));
    Bundle::open(Cursor::new(&bundle)).unwrap().load(&root, None, &note).unwrap();
    let calls = seen.take();
    assert_eq!(calls.last(), Some(&(total, total)));
    assert!(calls.iter().all(|&(_, of)| of == total));
    assert!(calls.is_sorted() && calls.iter().filter(|&&(done, _)| done == total).count() == 1);

    // A wrong last chunk, and bytes after it that are not zero: nothing was ever complete.
    for at in [sections(&bundle).content.end - 1, bundle.len() - 1] {
        let broken = flipped(&bundle, at);
        Bundle::open(Cursor::new(&broken)).unwrap().load(&root, None, &note).unwrap_err();
        assert!(seen.take().iter().all(|&(done, _)| done < total), "byte {at}");
    }
}

#[test]
fn verify_reports_every_wrong_chunk_and_loading_only_the_first() {
    let data = content(6 * MIB, 1);
    let (mut bundle, root) = packed(&[("w", &data)]);
    let report = verify(Cursor::new(&bundle), None, &|_, _| ()).unwrap();
    assert!(report.intact && !report.root_pinned && !report.sealed);
    assert_eq!(
        (report.model_root, report.chunks, report.content_bytes),
        (root, 6, data.len() as u64)
    );
    report.into_result().unwrap();

    let start = sections(&bundle).content.start;
    for chunk in [1, 4] {
        bundle[start + chunk * MIB] ^= 1;
    }
    let report = verify(Cursor::new(&bundle), None, &|_, _| ()).unwrap();
    let wrong: Vec<_> = report.faults.iter().map(|f| (f.kind, f.location.index)).collect();
    assert_eq!(wrong, [(FaultKind::Hash, 1), (FaultKind::Hash, 4)]);
    assert!(!report.intact);
    assert_eq!(location(report.into_result().unwrap_err()).index, 1);
}

#[test]
fn verify_lists_a_bounded_number_of_wrong_chunks_and_counts_all() {
    let chunks = MAX_REPORTED_FAULTS + 1;
    let data = vec![0; chunks * MIB];
    let (mut bundle, _) = packed(&[("w", &data)]);
    let start = sections(&bundle).content.start;
    for chunk in 0..chunks {
        bundle[start + chunk * MIB] = 1;
    }
    let report = verify(Cursor::new(&bundle), None, &|_, _| ()).unwrap();
    assert_eq!(report.wrong_chunks, chunks as u64);
    assert_eq!(report.faults.len(), MAX_REPORTED_FAULTS);
}

#[test]
fn reports_are_json_that_names_the_chunk() {
    let data = content(100, 1);
    let (bundle, root) = packed(&[("w", &data)]);
    let inspection = Bundle::open(Cursor::new(&bundle)).unwrap().inspect();
    let json = serde_json::to_value(&inspection).unwrap();
    assert_eq!(json["model_root"], root.to_string());
    assert_eq!(json["manifest"]["files"][0]["path"], "w");
    let broken = flipped(&bundle, sections(&bundle).content.start);
    let report = verify(Cursor::new(&broken), None, &|_, _| ()).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["faults"][0]["kind"], "hash");
    assert_eq!(json["faults"][0]["index"], 0);
}
