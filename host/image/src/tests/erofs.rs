//! The read-only file system: our own reader over what the writer wrote, then the reference tools.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::support::Numbers;
use crate::erofs::{
    BLOCK_BYTES, Entry, ErofsFault, MAX_ENTRIES, MAX_LINK_BYTES, MAX_NAME_BYTES, MAX_PATH_BYTES,
    Node, Tree,
};

type Given = (String, Entry);

fn directory(path: &str) -> Given {
    (path.to_owned(), Entry { node: Node::Directory, mode: 0o755 })
}

fn file(path: &str, bytes: impl Into<Vec<u8>>) -> Given {
    (path.to_owned(), Entry { node: Node::File(bytes.into()), mode: 0o444 })
}

fn link(path: &str, target: &str) -> Given {
    (path.to_owned(), Entry { node: Node::Link(target.to_owned()), mode: 0o777 })
}

/// One of everything that is at an edge of the format.
fn edges() -> Vec<Given> {
    let longest = "n".repeat(MAX_NAME_BYTES);
    let mut all = vec![
        directory("empty"),
        directory("lib"),
        file("lib/none", []),
        file("lib/one", [7]),
        file("lib/block-less-one", vec![1; BLOCK_BYTES - 1]),
        file("lib/block", vec![2; BLOCK_BYTES]),
        file("lib/block-and-one", vec![3; BLOCK_BYTES + 1]),
        link("lib/so", "libcuda.so.1"),
        link("far", &"t".repeat(MAX_LINK_BYTES)),
        file(&longest, "longest name"),
        // These sort before `.`, and between a directory and what is in it.
        file("!first", "!"),
        file("lib-", "-"),
        directory("many"),
        directory("wide"),
    ];
    // Names of one byte: as many records as a block takes, and more.
    all.extend((0..400).map(|i| file(&format!("many/{i:03}"), i.to_string())));
    // The longest names: one block of them is full to the byte or not, whichever it is.
    all.extend((0..40).map(|i| file(&format!("wide/{i:02}{}", "w".repeat(253)), [i as u8])));
    all
}

/// A tree of up to 60 entries with random names, kinds and sizes.
fn random(numbers: &mut Numbers) -> Vec<Given> {
    let mut directories = vec![String::new()];
    let mut taken = BTreeSet::new();
    let mut all = Vec::new();
    for _ in 0..numbers.below(60) {
        let length = [1, 2, 8, 30, MAX_NAME_BYTES][numbers.below(5)];
        let name: String = (0..length)
            .map(|_| char::from(b'!' + u8::try_from(numbers.below(94)).unwrap()))
            .map(|c| if c == '/' { '_' } else { c })
            .collect();
        let parent = &directories[numbers.below(directories.len())];
        let path = if parent.is_empty() { name.clone() } else { format!("{parent}/{name}") };
        if path.len() > MAX_PATH_BYTES || name == "." || name == ".." || !taken.insert(path.clone())
        {
            continue;
        }
        let node = match numbers.below(4) {
            0 => Node::Directory,
            1 => Node::Link(name.repeat(1 + numbers.below(3))),
            _ => {
                let size = numbers.below(3 * BLOCK_BYTES);
                Node::File((0..size).map(|i| (i % 251) as u8).collect())
            }
        };
        if node == Node::Directory {
            directories.push(path.clone());
        }
        // The tools extract links with all bits, and read what they extracted.
        let bits = u16::try_from(numbers.below(0o1000)).unwrap();
        let mode = if matches!(node, Node::Link(_)) { 0o777 } else { bits | 0o700 };
        all.push((path, Entry { node, mode }));
    }
    all
}

fn shuffle(all: &mut [Given], numbers: &mut Numbers) {
    for i in (1..all.len()).rev() {
        all.swap(i, numbers.below(i + 1));
    }
}

#[test]
fn what_is_written_is_read_back_whatever_order_it_came_in() {
    let mut numbers = Numbers(1);
    for round in 0..200 {
        let mut all = if round == 0 { edges() } else { random(&mut numbers) };
        let tree = Tree::new(all.clone()).unwrap();
        let bytes = tree.to_bytes().unwrap();
        assert!(bytes.len().is_multiple_of(BLOCK_BYTES));
        assert!(Tree::parse(&bytes).unwrap() == tree, "round {round}");
        shuffle(&mut all, &mut numbers);
        assert!(Tree::new(all).unwrap().to_bytes().unwrap() == bytes, "round {round}: order");
    }
}

#[test]
fn refuses_every_flipped_byte_that_is_not_content_and_sees_those_that_are() {
    let all = vec![directory("a"), file("a/b", [5; 100]), link("c", "a/b"), file("d", [])];
    let tree = Tree::new(all).unwrap();
    let good = tree.to_bytes().unwrap();
    let mut other = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        if let Ok(read) = Tree::parse(&bad) {
            assert_ne!(read, tree, "byte {at} is seen by nobody");
            other += 1;
        }
    }
    // The bytes of the file and of the link, and some of the names: inodes are under the checksum.
    assert!((103..=120).contains(&other), "{other} flips make another tree");
}

#[test]
fn reading_stops_at_the_end_of_whatever_it_is_given() {
    let good = Tree::new(edges()).unwrap().to_bytes().unwrap();
    for length in (0..good.len()).step_by(1009) {
        assert!(Tree::parse(&good[..length]).is_err(), "{length} bytes");
    }
    let mut longer = good.clone();
    longer.extend([0; BLOCK_BYTES]);
    let offset = good.len() as u64;
    assert!(
        matches!(Tree::parse(&longer), Err(ErofsFault::NotCanonical { offset: at, .. }) if at == offset)
    );
    let mut numbers = Numbers(7);
    for _ in 0..500 {
        let mut bad = good.clone();
        for _ in 0..1 + numbers.below(8) {
            // Superblock, inodes and names of the first directories.
            bad[1024 + numbers.below(24 * 1024)] = u8::try_from(numbers.below(256)).unwrap();
        }
        // Only that it comes back.
        drop(Tree::parse(&bad));
    }
}

#[test]
fn refuses_a_directory_that_contains_itself_and_content_that_is_shared() {
    let all = vec![directory("a"), directory("a/b"), file("x", [1; 3000]), file("y", [2; 3000])];
    let good = Tree::new(all).unwrap().to_bytes().unwrap();
    let inode = |index: usize| 1152 + 32 * index;
    // Root, a, a/b, x, y: the content of a/b becomes that of a, which names a/b.
    let mut bad = good.clone();
    bad.copy_within(inode(1)..inode(2), inode(2));
    assert!(matches!(Tree::parse(&bad), Err(ErofsFault::Path { .. } | ErofsFault::TooMany)));
    // Both files in the blocks of one.
    let mut bad = good;
    bad.copy_within(inode(3) + 16..inode(3) + 20, inode(4) + 16);
    assert!(matches!(Tree::parse(&bad), Err(ErofsFault::NotCanonical { .. })));
}

#[test]
fn refuses_paths_targets_and_modes_one_past_their_limit() {
    let one = |given: Given| Tree::new([given]).map(drop);
    for bad in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a b", "é", "a\n"] {
        assert!(matches!(one(file(bad, [])), Err(ErofsFault::Path { .. })), "{bad:?}");
    }
    let long = "n".repeat(MAX_NAME_BYTES + 1);
    assert!(matches!(one(file(&long, [])), Err(ErofsFault::Path { .. })));
    assert!(one(file(&long[1..], [])).is_ok());
    let deep = |length: usize| {
        let path = format!("{}x", "d/".repeat(MAX_PATH_BYTES / 2)).split_at(length).0.to_owned();
        let parents = path.match_indices('/').map(|(at, _)| directory(&path[..at]));
        Tree::new(parents.chain([file(&path, [])])).map(drop)
    };
    assert!(deep(MAX_PATH_BYTES - 1).is_ok());
    assert!(matches!(deep(MAX_PATH_BYTES + 1), Err(ErofsFault::Path { .. })));
    for bad in [String::new(), "t".repeat(MAX_LINK_BYTES + 1), "a b".to_owned()] {
        assert!(matches!(one(link("l", &bad)), Err(ErofsFault::Target { .. })));
    }
    let set_uid = Entry { node: Node::File(vec![]), mode: 0o4755 };
    assert!(matches!(one(("s".to_owned(), set_uid)), Err(ErofsFault::Mode { .. })));
}

#[test]
fn refuses_entries_that_are_there_twice_hang_in_the_air_or_are_too_many() {
    let twice = Tree::new([file("a", []), file("a", [1])]);
    assert_eq!(twice, Err(ErofsFault::Duplicate { path: "a".to_owned() }));
    for given in [vec![file("a/b", [])], vec![file("a", []), file("a/b", [])]] {
        assert_eq!(Tree::new(given), Err(ErofsFault::NoParent { path: "a/b".to_owned() }));
    }
    let many = |count: usize| Tree::new((0..count).map(|i| directory(&i.to_string())));
    let full = many(MAX_ENTRIES).unwrap();
    assert_eq!(Tree::parse(&full.to_bytes().unwrap()).unwrap(), full);
    assert_eq!(many(MAX_ENTRIES + 1), Err(ErofsFault::TooMany));
}

#[test]
fn the_reference_tools_accept_it_and_extract_the_same_tree() {
    if Command::new("fsck.erofs").arg("-V").output().is_err() {
        eprintln!("skipped: fsck.erofs is missing (Debian package erofs-utils)");
        return;
    }
    let mut numbers = Numbers(3);
    let mut large = edges();
    large.push(file("large", (0..20 << 20).map(|i| (i / 4099) as u8).collect::<Vec<_>>()));
    let trees = [vec![], large, random(&mut numbers), random(&mut numbers), random(&mut numbers)];
    for (round, given) in trees.into_iter().enumerate() {
        let tree = Tree::new(given).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (image, out) = (dir.path().join("image"), dir.path().join("out"));
        std::fs::write(&image, tree.to_bytes().unwrap()).unwrap();
        // Errors are printed, and the exit code of 1.5 is 0 all the same.
        let said = run(Command::new("fsck.erofs").arg(&image));
        assert_eq!(said, "", "round {round}");
        let extract = format!("--extract={}", out.display());
        run(Command::new("fsck.erofs").arg(extract).arg(&image));
        assert!(extracted(&out) == tree, "round {round}: another tree was extracted");
        let said = run(Command::new("dump.erofs").arg("-s").arg(&image));
        assert!(said.contains("sb_csum") && !said.contains("<E>"), "{said}");
        let inodes = tree.entries().count() + 1;
        let counted = said.lines().find(|l| l.contains("inode count")).unwrap_or_default();
        assert!(counted.ends_with(&format!(" {inodes}")), "{said}");
    }
}

#[test]
fn the_reference_tools_see_a_changed_superblock() {
    if Command::new("fsck.erofs").arg("-V").output().is_err() {
        eprintln!("skipped: fsck.erofs is missing (Debian package erofs-utils)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let mut bytes = Tree::new([file("a", "b")]).unwrap().to_bytes().unwrap();
    // The label, which only the checksum covers.
    bytes[1024 + 64] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let said = run(Command::new("fsck.erofs").arg(&image));
    assert!(said.contains("superblock chksum doesn't match"), "{said}");
}

/// PID 1's tests boot with a root and cannot use this crate: they have what it writes as a file.
#[test]
fn the_root_that_pid_1_is_tested_with_is_written_here() {
    let path = super::support::tree().join("enclave/init/tests/machine/root.erofs");
    let tree = Tree::new([
        file("hello", "a file of the root\n"),
        directory("lib"),
        link("lib/hello", "../hello"),
    ]);
    let bytes = tree.unwrap().to_bytes().unwrap();
    assert!(std::fs::read(path).unwrap() == bytes, "write it anew");
    let root = crate::verity::build(&bytes).unwrap().root;
    assert_eq!(
        root.to_string(),
        "7f303031a76fae19d72df52a33d917f10fffc15b8c99ff451a402de72828ddce"
    );
}

/// Everything the tool says.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8(both).unwrap()
}

/// What `fsck.erofs` wrote below `root`.
fn extracted(root: &Path) -> Tree {
    let mut all = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let metadata = path.symlink_metadata().unwrap();
            let node = if metadata.is_dir() {
                open.push(path.clone());
                Node::Directory
            } else if metadata.is_symlink() {
                Node::Link(std::fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else {
                Node::File(std::fs::read(&path).unwrap())
            };
            let mode = u16::try_from(metadata.permissions().mode() & 0o777).unwrap();
            all.push((name, Entry { node, mode }));
        }
    }
    Tree::new(all).unwrap()
}
