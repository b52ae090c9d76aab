//! Packing: the same input gives the same bytes, changed input is refused, and nothing partial
//! ever has the final name.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use chrysalis_vault::limits::CHUNK_BYTES;
use chrysalis_vault::{
    AssetSource, Bundle, PackFile, SealWith, VaultError, pack, pack_file, pack_sealed,
};
use support::{Forge, content, input, key, load, packed, sections};

const MIB: usize = CHUNK_BYTES;

#[test]
fn the_same_input_gives_the_same_bytes_in_any_order_of_files() {
    let (a, b) = (content(MIB + 1, 1), content(5, 2));
    let (one, root) = packed(&[("a", &a), ("b", &b)]);
    let (two, other) = packed(&[("b", &b), ("a", &a)]);
    assert_eq!(one, two);
    assert_eq!(root, other);
    assert_ne!(packed(&[("a", &b), ("b", &a)]).1, root);
}

#[test]
fn writes_what_an_independent_implementation_writes() {
    let data = content(3 * MIB + 1, 1);
    let (forged, root) = Forge::new(&[("w", data.len() as u64)], data.clone()).build();
    let mut input = input(&[("w", &data)]);
    (input.quantisation, input.licence) = (None, None);
    let mut out = Vec::new();
    let report = pack(input, &mut out, &|_, _| ()).unwrap();
    assert_eq!(report.model_root, root);
    assert!(out == forged, "bundles of {} and {} bytes differ", out.len(), forged.len());
}

#[test]
fn every_field_of_the_manifest_changes_the_root() {
    let root = |change: &dyn Fn(&mut chrysalis_vault::PackInput<'_>)| {
        let mut input = input(&[("a.gguf", &[1]), ("b", &[2])]);
        change(&mut input);
        pack(input, Vec::new(), &|_, _| ()).unwrap().model_root
    };
    let roots = [
        root(&|_| ()),
        root(&|i| i.name = "Other".to_owned()),
        root(&|i| i.architecture = "qwen3".to_owned()),
        root(&|i| i.quantisation = None),
        root(&|i| i.licence = None),
        root(&|i| i.tokenizer = AssetSource::Gguf),
        root(&|i| i.tokenizer = AssetSource::File("b".to_owned())),
        root(&|i| i.chat_template = AssetSource::Gguf),
        root(&|i| i.files[1] = PackFile::new("c", Cursor::new(&[2]))),
        root(&|i| i.files[1] = PackFile::new("b", Cursor::new(&[3]))),
    ];
    let distinct: std::collections::BTreeSet<_> = roots.iter().collect();
    assert_eq!(distinct.len(), roots.len());
}

#[test]
fn reports_what_it_wrote_and_progress_over_both_passes() {
    let data = content(2 * MIB + 1, 1);
    let seen = RefCell::new(Vec::new());
    let mut out = Vec::new();
    let report =
        pack(input(&[("w", &data)]), &mut out, &|a, b| seen.borrow_mut().push((a, b))).unwrap();
    assert_eq!(report.bundle_bytes, out.len() as u64);
    assert_eq!((report.chunks, report.content_bytes, report.sealed), (3, data.len() as u64, false));
    let total = 2 * data.len() as u64;
    let calls = seen.take();
    assert!(calls.is_sorted());
    assert_eq!(calls.last(), Some(&(total, total)));
}

#[test]
fn refuses_to_pack_zero_files_an_empty_file_and_bad_names() {
    let refused = |files: &[(&str, &[u8])]| {
        pack(input(files), Vec::new(), &|_, _| ()).map(|_| ()).unwrap_err()
    };
    assert_eq!(refused(&[]), VaultError::NoFiles);
    assert_eq!(refused(&[("a", &[1]), ("b", &[])]), VaultError::EmptyFile { path: "b".to_owned() });
    assert!(matches!(refused(&[("../a", &[1])]), VaultError::Path { .. }));
    assert!(matches!(refused(&[("a", &[1]), ("a", &[2])]), VaultError::DuplicatePath { .. }));
}

/// A file that becomes another one when it is rewound for the second pass.
struct Changing {
    now: Cursor<Vec<u8>>,
    next: Vec<u8>,
    rewinds: u32,
}

impl Changing {
    fn new(first: Vec<u8>, second: Vec<u8>) -> Self {
        Self { now: Cursor::new(first), next: second, rewinds: 0 }
    }
}

impl Read for Changing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.now.read(out)
    }
}

impl Seek for Changing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if to == SeekFrom::Start(0) {
            self.rewinds += 1;
            if self.rewinds == 2 {
                self.now = Cursor::new(std::mem::take(&mut self.next));
            }
        }
        self.now.seek(to)
    }
}

#[test]
fn refuses_input_that_changes_shrinks_or_grows_between_the_passes() {
    let data = content(MIB + 100, 1);
    let mut changed = data.clone();
    changed[MIB + 50] ^= 1;
    let (shorter, longer) = (data[..MIB + 99].to_vec(), [&data[..], &[0]].concat());
    for other in [changed, shorter, longer] {
        for seal in [false, true] {
            let mut input = input(&[("a", &[1])]);
            input.files.push(PackFile::new("w", Changing::new(data.clone(), other.clone())));
            let mut out = Vec::new();
            let result = if seal {
                pack_sealed(input, &mut out, &key(1), [1; 32], &|_, _| ())
            } else {
                pack(input, &mut out, &|_, _| ())
            };
            let Err(VaultError::InputChanged { path }) = result else { panic!("{result:?}") };
            assert!(path.contains('w'), "{path}");
        }
    }
}

#[test]
fn writes_no_plaintext_when_sealing_is_refused() {
    let data = content(100, 1);
    let mut input = input(&[]);
    input.files.push(PackFile::new("w", Changing::new(vec![0; 100], data.clone())));
    let mut out = Vec::new();
    pack_sealed(input, &mut out, &key(1), [1; 32], &|_, _| ()).unwrap_err();
    assert!(!out.windows(16).any(|w| w == &data[..16]));
}

#[test]
fn a_packed_file_appears_whole_under_its_name_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("m.chrysalis");
    let data = content(MIB + 1, 1);
    let seen_early = RefCell::new(false);
    let progress = |_, _| *seen_early.borrow_mut() |= target.exists();
    let report = pack_file(input(&[("w", &data)]), &target, None, &progress).unwrap();
    assert!(!seen_early.take());
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["m.chrysalis"]);
    let weights = Bundle::open(File::open(&target).unwrap())
        .unwrap()
        .load(&report.model_root, None, &|_, _| ())
        .unwrap();
    assert_eq!(weights.file("w"), Some(&data[..]));
}

#[test]
fn a_refused_packing_leaves_the_old_bundle_and_no_partial_one() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("m.chrysalis");
    fs::write(&target, b"old").unwrap();
    let mut input = input(&[]);
    let changing = Changing::new(content(MIB * 20, 1), content(MIB * 20, 2));
    input.files.push(PackFile::new("w", changing));
    pack_file(input, &target, None, &|_, _| ()).unwrap_err();
    assert_eq!(fs::read(&target).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_interrupted_packing_is_simply_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("m.chrysalis");
    let partial = folder.path().join("m.chrysalis.partial");
    // Longer than the bundle: what was left must not stay at its end.
    fs::write(&partial, vec![7; 3 * MIB]).unwrap();
    let seal = SealWith { key: &key(1), salt: [1; 32] };
    let data = content(MIB, 1);
    let report = pack_file(input(&[("w", &data)]), &target, Some(&seal), &|_, _| ()).unwrap();
    assert!(!partial.exists());
    load(&fs::read(&target).unwrap(), &report.model_root, Some(&key(1))).unwrap();
}

#[test]
fn refuses_to_pack_where_another_process_is_packing() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("m.chrysalis");
    let partial = folder.path().join("m.chrysalis.partial");
    let mut other = File::create(&partial).unwrap();
    other.lock().unwrap();
    other.write_all(b"theirs").unwrap();
    let refused = pack_file(input(&[("w", &[1])]), &target, None, &|_, _| ()).unwrap_err();
    assert!(matches!(refused, VaultError::PackBusy { .. }));
    assert_eq!(fs::read(&partial).unwrap(), b"theirs");
}

#[test]
fn refuses_a_folder_that_does_not_exist() {
    let target = std::path::Path::new("/nonexistent/m.chrysalis");
    let refused = pack_file(input(&[("w", &[1])]), target, None, &|_, _| ()).unwrap_err();
    assert!(matches!(refused, VaultError::Io { kind: io::ErrorKind::NotFound, .. }));
}

#[test]
fn a_full_disk_is_an_error_and_not_a_short_bundle() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let data = content(2 * MIB, 1);
    let size = packed(&[("w", &data)]).0.len();
    for room in [0, 200, MIB + 500, size - 1] {
        let refused = pack(input(&[("w", &data)]), Full(room), &|_, _| ()).unwrap_err();
        assert!(matches!(refused, VaultError::Io { kind: io::ErrorKind::StorageFull, .. }));
    }
    pack(input(&[("w", &data)]), Full(size), &|_, _| ()).unwrap();
}

#[test]
fn a_bundle_is_a_whole_number_of_sectors() {
    for len in [1, 4096, MIB, MIB + 1] {
        let (bundle, _) = packed(&[("w", &content(len, 1))]);
        assert!(bundle.len().is_multiple_of(4096));
        assert!(sections(&bundle).padding.len() < 4096);
    }
}
