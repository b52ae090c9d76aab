//! The cpio archive: one spelling, read strictly.

use crate::cpio::{Archive, CpioFault, MAX_ENTRIES, MAX_PATH_BYTES, Node};

fn sample() -> Archive {
    let mut archive = Archive::default();
    archive.add("dev", 0o755, Node::Directory).unwrap();
    archive.add("dev/console", 0o600, Node::CharDevice { major: 5, minor: 1 }).unwrap();
    archive.add("init", 0o555, Node::File(b"hello".to_vec())).unwrap();
    archive
}

fn fault(path: &str) -> CpioFault {
    sample().add(path, 0o644, Node::Directory).unwrap_err()
}

#[test]
fn writes_newc_with_counted_inodes_and_no_owner_or_time() {
    let bytes = sample().to_bytes().unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with(
        "07070100000001000041ED000000000000000000000002000000000000000000000000\
         000000000000000000000000000000040000000" // dev: inode 1, 040755, 2 links
    ));
    assert!(text.contains("0707010000000200002180")); // dev/console: inode 2, 020600
    assert!(text.contains("070701000000030000816D")); // init: inode 3, 100555
    assert!(text.contains("TRAILER!!!"));
    assert_eq!(bytes.len() % 512, 0);
}

#[test]
fn the_order_of_adding_does_not_show() {
    let mut other = Archive::default();
    other.add("init", 0o555, Node::File(b"hello".to_vec())).unwrap();
    other.add("dev", 0o755, Node::Directory).unwrap();
    other.add("dev/console", 0o600, Node::CharDevice { major: 5, minor: 1 }).unwrap();
    assert_eq!(other.to_bytes().unwrap(), sample().to_bytes().unwrap());
}

#[test]
fn reads_back_what_it_wrote() {
    let bytes = sample().to_bytes().unwrap();
    let read = Archive::parse(&bytes).unwrap();
    assert_eq!(read, sample());
    assert_eq!(read.file("init"), Some(b"hello".as_slice()));
    assert_eq!(read.file("dev"), None);
}

#[test]
fn gnu_cpio_lists_it_where_it_is_installed() {
    let Ok(mut child) = std::process::Command::new("cpio")
        .args(["--list", "--quiet"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
    else {
        eprintln!("skipped: cpio is not installed");
        return;
    };
    let bytes = sample().to_bytes().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &bytes).unwrap();
    let listed = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "dev\ndev/console\ninit\n");
}

#[test]
fn refuses_paths_that_climb_or_hang_in_the_air() {
    for bad in ["", "/init", "../init", "a/../b", "dev//x", "dev/", "./x", "a b", "é", "TRAILER!!!"]
    {
        assert!(matches!(fault(bad), CpioFault::Path { .. }), "{bad}");
    }
    assert_eq!(fault("usr/bin"), CpioFault::NoParent { path: "usr/bin".to_owned() });
    assert_eq!(fault("init/x"), CpioFault::NoParent { path: "init/x".to_owned() });
    assert_eq!(fault("dev"), CpioFault::Duplicate { path: "dev".to_owned() });
}

#[test]
fn refuses_one_byte_and_one_entry_over_the_limits() {
    let mut archive = Archive::default();
    let long = "x".repeat(MAX_PATH_BYTES);
    archive.add(&long, 0o644, Node::Directory).unwrap();
    let refused = archive.add(&format!("{long}x"), 0o644, Node::Directory);
    assert!(matches!(refused, Err(CpioFault::Path { .. })));
    for i in 1..MAX_ENTRIES {
        archive.add(&format!("d{i}"), 0o755, Node::Directory).unwrap();
    }
    assert_eq!(archive.add("one-more", 0o755, Node::Directory), Err(CpioFault::TooMany));
    assert!(archive.add("x", 0o1777, Node::Directory).is_err(), "modes have nine bits here");
}

#[test]
fn refuses_every_other_spelling_of_the_same_content() {
    let good = sample().to_bytes().unwrap();
    let cases: [(&str, usize, u8); 6] = [
        ("inode", 13, b'9'),
        ("uid", 29, b'1'),
        ("mtime", 53, b'1'),
        ("magic", 5, b'2'),
        ("checksum", 109, b'1'),
        ("lower-case hexadecimal", 20, b'e'),
    ];
    for (what, offset, value) in cases {
        let mut bytes = good.clone();
        assert_ne!(bytes[offset], value, "{what}: the case changes nothing");
        bytes[offset] = value;
        let refused = Archive::parse(&bytes);
        assert!(matches!(refused, Err(CpioFault::NotCanonical { .. })), "{what}: {refused:?}");
    }
    let mut padding = good.clone();
    *padding.last_mut().unwrap() = 1;
    assert!(matches!(Archive::parse(&padding), Err(CpioFault::NotCanonical { .. })));
    let mut longer = good.clone();
    longer.resize(good.len() + 512, 0);
    assert!(matches!(Archive::parse(&longer), Err(CpioFault::NotCanonical { .. })));
}

#[test]
fn no_prefix_of_an_archive_is_an_archive() {
    let good = sample().to_bytes().unwrap();
    for length in 0..good.len() {
        assert!(Archive::parse(&good[..length]).is_err(), "{length} bytes were accepted");
    }
}
