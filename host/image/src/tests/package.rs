//! Packages: taken apart in memory, with limits, and nothing but the pinned regular files.

use super::support::{Node, Packing, ar, deb, no_digest, tar, xz};
use crate::bytes::sha256;
use crate::deb::{DebFault, Size, extract, read_files};
use crate::lock::{PinnedFile, Role};

const LONG: &str = "usr/lib/modules/7.3.4+deb13-cloud-amd64/kernel/net/x.ko.xz";

fn pin(path: &str, bytes: &[u8]) -> PinnedFile {
    let (size, sha256) = (bytes.len() as u64, sha256(bytes));
    PinnedFile { role: Role::Module, path: path.to_owned(), size, sha256 }
}

fn package(packing: Packing) -> Vec<u8> {
    let entries = [
        ("etc/passwd", Node::File(b"root".as_slice())),
        (LONG, Node::File(b"module")),
        ("usr/link", Node::Link("/etc/passwd")),
    ];
    deb(&entries, packing)
}

fn fault(deb: &[u8], pins: &[PinnedFile]) -> DebFault {
    extract(deb, pins).unwrap_err()
}

#[test]
fn takes_pinned_files_in_the_order_of_the_pins_from_every_packing() {
    let pins = [pin(LONG, b"module"), pin("etc/passwd", b"root")];
    for packing in [Packing::Plain, Packing::Xz, Packing::Zstd] {
        let files = extract(&package(packing), &pins).unwrap();
        assert_eq!(files, [b"module".to_vec(), b"root".to_vec()]);
    }
}

#[test]
fn a_file_of_many_blocks_survives_every_packing() {
    let big: Vec<u8> =
        (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for packing in [Packing::Plain, Packing::Xz, Packing::Zstd] {
        let package = deb(&[("big", Node::File(&big))], packing);
        assert!(extract(&package, &[pin("big", &big)]).unwrap() == [&*big]);
    }
}

#[test]
fn refuses_a_file_that_is_missing_or_another() {
    let package = package(Packing::Xz);
    let missing = pin("usr/nothing", b"module");
    assert_eq!(fault(&package, &[missing]), DebFault::NoFile { path: "usr/nothing".to_owned() });
    let longer = fault(&package, &[pin(LONG, b"module!")]);
    assert_eq!(longer, DebFault::FileSize { path: LONG.to_owned(), expected: 7, got: 6 });
    let other = fault(&package, &[pin(LONG, b"modulo")]);
    assert!(matches!(other, DebFault::FileHash { path, .. } if path == LONG));
}

#[test]
fn refuses_links_at_pinned_paths() {
    let package = package(Packing::Xz);
    let refused = fault(&package, &[pin("usr/link", b"root")]);
    assert_eq!(refused, DebFault::NotRegular { path: "usr/link".to_owned() });
    let hard = deb(&[("a", Node::File(b"x")), ("b", Node::HardLink("./a"))], Packing::Xz);
    let refused = fault(&hard, &[pin("b", b"x")]);
    assert_eq!(refused, DebFault::NotRegular { path: "b".to_owned() });
}

#[test]
fn refuses_a_pinned_path_that_is_there_twice() {
    let twice = deb(&[("a", Node::File(b"x")), ("a", Node::File(b"x"))], Packing::Xz);
    assert_eq!(fault(&twice, &[pin("a", b"x")]), DebFault::Twice { path: "a".to_owned() });
}

#[test]
fn hostile_names_have_no_effect_and_match_nothing() {
    let entries =
        [("../../etc/shadow", Node::File(b"x".as_slice())), ("a", Node::File(b"y".as_slice()))];
    let package = deb(&entries, Packing::Xz);
    assert_eq!(extract(&package, &[pin("a", b"y")]).unwrap(), [b"y".to_vec()]);
    assert!(matches!(fault(&package, &[pin("etc/shadow", b"x")]), DebFault::NoFile { .. }));
}

#[test]
fn refuses_what_is_no_package_of_format_2() {
    let not = |deb: &[u8]| matches!(fault(deb, &[]), DebFault::NotDeb { .. });
    assert!(not(b""));
    assert!(not(b"!<arch>\n"));
    let (binary, control) =
        (("debian-binary", b"2.0\n".as_slice()), ("control.tar", b"".as_slice()));
    assert!(not(&ar(&[binary, control])));
    assert!(not(&ar(&[binary, ("data.tar", b""), control])));
    assert!(not(&ar(&[("debian-binary", b"3.0\n"), control, ("data.tar", b"")])));
    let mut broken = ar(&[binary, control, ("data.tar", b"")]);
    broken[8 + 58] = b'x';
    assert!(not(&broken));
    let mut size = ar(&[binary, control, ("data.tar", b"")]);
    size[8 + 48] = b'-';
    assert!(not(&size));
}

#[test]
fn refuses_a_compression_it_does_not_read() {
    let package = ar(&[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar.lzma", b"")]);
    let refused = fault(&package, &[]);
    assert_eq!(refused, DebFault::Compression { member: "data.tar.lzma".to_owned() });
}

#[test]
fn refuses_damaged_and_cut_content() {
    let packed = xz(&tar(&[("a", Node::File(&[7; 5000]))]));
    let members = |data: &[u8]| {
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar.xz", data)])
    };
    let pins = [pin("a", &[7; 5000])];
    assert!(extract(&members(&packed), &pins).is_ok());
    let cut = fault(&members(&packed[..packed.len() / 2]), &pins);
    assert!(matches!(cut, DebFault::Damaged { .. }), "{cut:?}");
    let mut flipped = packed;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    assert!(extract(&members(&flipped), &pins).is_err());
    let whole = tar(&[("a", Node::File(&[7; 5000]))]);
    let plain =
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar", &whole[..2000])]);
    assert!(matches!(fault(&plain, &pins), DebFault::Damaged { .. }));
}

#[test]
fn refuses_one_byte_over_a_size_limit_before_reading() {
    let package = package(Packing::Plain);
    let read = |max| read_files(&package, |path| (path == LONG).then_some(Size::AtMost(max)));
    assert_eq!(read(6).unwrap()[LONG], b"module");
    assert!(matches!(read(5), Err(DebFault::FileSize { got: 6, .. })));
}

#[test]
fn a_size_that_lies_about_a_terabyte_is_refused_by_arithmetic() {
    let mut whole = tar(&[("a", Node::File(b"x"))]);
    // 11 octal digits: 8 GiB less one; the checksum is made good again.
    whole[124..135].copy_from_slice(b"77777777777");
    whole[148..156].fill(b' ');
    let sum: u32 = whole[..512].iter().map(|b| u32::from(*b)).sum();
    whole[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let package = ar(&[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar", &whole)]);
    let pin = PinnedFile { sha256: no_digest(), ..pin("a", b"x") };
    assert_eq!(fault(&package, &[pin]), DebFault::TooLarge);
}
