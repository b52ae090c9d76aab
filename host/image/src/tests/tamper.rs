//! Changed images: whatever is wrong is refused, and the part it is in is named. Random flips, here
//! and in everything else that is measured, are the matrix of `tests/tamper`.

use chrysalis_wire::ImagePlatform;

use super::support::{image, no_digest, program};
use crate::cpio::{Archive, Node};
use crate::manifest::{ImageManifest, Member, Part};
use crate::verify::Fault;
use crate::{Image, ImageError, ImageInfo, compare, directory, verify};

fn good() -> Image {
    image(ImagePlatform::InsecureSim, false)
}

fn fault(image: &Image) -> Fault {
    match verify(image, None) {
        Err(ImageError::Refused(fault)) => fault,
        other => panic!("accepted, or refused otherwise: {other:?}"),
    }
}

fn file_mut<'a>(image: &'a mut Image, part: &str) -> &'a mut Vec<u8> {
    match part {
        "manifest" => &mut image.manifest,
        "firmware" => &mut image.firmware,
        "kernel" => &mut image.kernel,
        "initrd" => &mut image.initrd,
        "cmdline" => &mut image.cmdline,
        other => panic!("no part {other}"),
    }
}

/// An image whose manifest was written anew over changed claims and parts, by somebody who knows
/// how: only what is inside can give it away.
fn forged(change: impl FnOnce(&mut Image, &mut ImageInfo)) -> Image {
    let mut image = good();
    let mut info = ImageManifest::parse(&image.manifest).unwrap().image().clone();
    change(&mut image, &mut info);
    info.parts.firmware = Part::of("tdvf.fd", &image.firmware);
    info.parts.kernel = Part::of("vmlinuz", &image.kernel);
    info.parts.initrd = Part::of("initrd.cpio", &image.initrd);
    info.parts.cmdline = Part::of("cmdline", &image.cmdline);
    image.manifest = ImageManifest::new(info).unwrap().to_bytes().unwrap();
    image
}

/// As [`forged`], with another initrd that the manifest describes truly.
fn forged_initrd(change: impl FnOnce(&mut Vec<(String, u32, Node)>)) -> Image {
    forged(|image, info| {
        let archive = Archive::parse(&image.initrd).unwrap();
        let mut entries: Vec<_> =
            archive.entries().map(|(path, e)| (path.to_owned(), e.mode, e.node.clone())).collect();
        change(&mut entries);
        let mut archive = Archive::default();
        for (path, mode, node) in entries {
            archive.add(&path, mode, node).unwrap();
        }
        image.initrd = archive.to_bytes().unwrap();
        info.members = archive.entries().map(|(p, e)| Member::of(p, e)).collect();
    })
}

fn content(image: &Image) -> (&'static str, String) {
    match fault(image) {
        Fault::Content { part, reason } => (part, reason),
        Fault::Manifest { reason } => ("manifest", reason),
        other => panic!("{other}"),
    }
}

#[test]
fn accepts_the_image_and_its_id() {
    let image = good();
    let id = verify(&image, None).unwrap().id();
    assert_eq!(verify(&image, Some(id)).unwrap().id(), id);
    let other = verify(&image, Some(no_digest()));
    assert_eq!(other, Err(ImageError::Refused(Fault::Id { expected: no_digest(), got: id })));
}

#[test]
fn every_byte_of_command_line_and_manifest_counts() {
    let good = good();
    for part in ["cmdline", "manifest"] {
        let length = file_mut(&mut good.clone(), part).len();
        for offset in 0..length {
            let mut image = good.clone();
            file_mut(&mut image, part)[offset] ^= 0x01;
            assert_eq!(fault(&image).part(), part, "byte {offset}");
        }
    }
}

#[test]
fn cut_and_longer_parts_are_refused_by_name() {
    let good = good();
    for part in ["manifest", "firmware", "kernel", "initrd", "cmdline"] {
        let mut cut = good.clone();
        file_mut(&mut cut, part).pop();
        assert_eq!(fault(&cut).part(), part);
        let mut longer = good.clone();
        file_mut(&mut longer, part).push(b'\n');
        assert_eq!(fault(&longer).part(), part);
    }
}

#[test]
fn a_flip_inside_the_initrd_names_the_entry() {
    let good = good();
    let archive = Archive::parse(&good.initrd).unwrap();
    for (path, entry) in archive.entries() {
        let Node::File(content) = &entry.node else { continue };
        let at = good.initrd.windows(content.len()).position(|w| w == content.as_slice()).unwrap();
        let mut image = good.clone();
        image.initrd[at + content.len() / 2] ^= 0x10;
        let fault = fault(&image);
        assert_eq!(fault.member(), Some(path), "{fault}");
        let differences = compare(&good, &image);
        let [difference] = &differences[..] else { panic!("{differences:?}") };
        assert_eq!(difference.member.as_deref(), Some(path));
        assert_eq!(difference.offset, Some(content.len() / 2));
    }
}

#[test]
fn a_flip_in_a_header_of_the_initrd_is_near_an_entry() {
    let mut image = good();
    let at = image.initrd.windows(16).position(|w| w == b"chrysalis/worker").unwrap();
    image.initrd[at - 80] = b'7';
    let (part, reason) = content(&image);
    assert_eq!(part, "initrd");
    assert!(reason.contains("near the entry chrysalis/worker"), "{reason}");
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("image");
    directory::write(&good(), &out, crate::Existing::Refuse).unwrap();
    for file in ["manifest.json", "tdvf.fd", "vmlinuz", "initrd.cpio", "cmdline"] {
        let (path, aside) = (out.join(file), dir.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        match directory::read(&out) {
            Err(ImageError::Refused(Fault::Missing { file: named, .. })) => assert_eq!(named, file),
            other => panic!("{file}: {other:?}"),
        }
        std::fs::rename(&aside, &path).unwrap();
    }
    assert!(matches!(directory::read(&dir.path().join("no")), Err(ImageError::Io { .. })));
}

#[test]
fn a_well_forged_manifest_cannot_hide_another_firmware() {
    let enrolled = forged(|image, _| image.firmware[0x64..0x66].copy_from_slice(&[0xaa, 0x55]));
    assert_eq!(content(&enrolled).0, "firmware");
    let no_metadata = forged(|image, _| image.firmware.truncate(0x8000));
    assert_eq!(content(&no_metadata).0, "firmware");
    let swapped = forged(|image, _| image.firmware[0x3000] = 0);
    assert_eq!(content(&swapped).0, "manifest", "the variable store is not the pinned one");
}

#[test]
fn a_well_forged_manifest_cannot_hide_another_kernel_or_command_line() {
    let none = forged(|image, _| image.kernel[0x202] = 0);
    assert_eq!(content(&none).0, "kernel");
    let patched = forged(|image, _| image.kernel[0x700] ^= 1);
    assert!(content(&patched).1.contains("vmlinuz is not what the image uses"));
    let shell = forged(|image, _| image.cmdline.extend_from_slice(b" init=/bin/sh"));
    assert_eq!(content(&shell).0, "cmdline");
    let debug = forged(|image, _| image.cmdline.extend_from_slice(b" ignore_loglevel"));
    assert_eq!(content(&debug).0, "cmdline");
    let newline = forged(|image, _| image.cmdline.push(b'\n'));
    assert_eq!(content(&newline).0, "cmdline");
    let firmware = forged(|image, _| image.cmdline.extend_from_slice(b" initrd=initrd"));
    assert_eq!(content(&firmware).0, "cmdline");
}

#[test]
fn a_well_forged_manifest_cannot_claim_what_the_image_does_not_say() {
    let tdx = forged(|_, info| info.platform = ImagePlatform::Tdx);
    assert!(content(&tdx).1.contains("it is for insecure-sim"));
    let debug = forged(|_, info| info.debug = true);
    assert!(content(&debug).1.contains("debug: false"));
    let release = forged(|_, info| info.kernel_release = "7.9.9".to_owned());
    assert_eq!(content(&release).0, "kernel");
    let input = forged(|_, info| info.inputs[1].sha256 = no_digest());
    assert_eq!(content(&input).0, "manifest");
    let no_input = forged(|_, info| drop(info.inputs.remove(0)));
    assert_eq!(content(&no_input).0, "manifest");
}

#[test]
fn members_that_the_manifest_does_not_describe_are_named() {
    let gone = forged(|_, info| drop(info.members.pop()));
    assert_eq!(fault(&gone).member(), Some("tmp"));
    let mode = forged(|_, info| info.members[2].mode = "0755".to_owned());
    assert_eq!(fault(&mode).member(), Some("chrysalis/worker"));
    let extra = forged(|_, info| info.members.push(info.members[0].clone()));
    assert_eq!(fault(&extra).part(), "initrd");
}

#[test]
fn an_initrd_with_other_user_space_is_refused() {
    let find = |entries: &mut Vec<(String, u32, Node)>, path: &str| {
        entries.iter().position(|(p, _, _)| p == path).unwrap()
    };
    let no_init = forged_initrd(|e| {
        let at = find(e, "init");
        e.remove(at);
    });
    assert!(content(&no_init).1.contains("no /init"));
    let script = forged_initrd(|e| {
        let at = find(e, "init");
        e[at].2 = Node::File(b"#!/bin/sh\n".to_vec());
    });
    assert!(content(&script).1.contains("ELF"));
    let dynamic = forged_initrd(|e| {
        let mut elf = program(b"/lib64/ld.so");
        elf[64] = 3;
        let at = find(e, "chrysalis/worker");
        e[at].2 = Node::File(elf);
    });
    assert!(content(&dynamic).1.contains("dynamic loader"));
    let config = forged_initrd(|e| {
        let at = find(e, "chrysalis/image.toml");
        e[at].2 = Node::File(b"version = 1\nshell = true\n".to_vec());
    });
    assert!(content(&config).1.contains("configuration"));
    let module = forged_initrd(|e| {
        e.push(("lib/modules/evil.ko".to_owned(), 0o444, Node::File(b"x".to_vec())));
    });
    assert!(content(&module).1.contains("evil.ko"));
    let no_module = forged_initrd(|e| {
        let at = find(e, "lib/modules/virtio_net.ko.xz");
        e.remove(at);
    });
    assert!(matches!(fault(&no_module), Fault::Manifest { .. } | Fault::Content { .. }));
}

#[test]
fn compare_says_what_only_one_image_has() {
    let (sim, tdx) = (good(), image(ImagePlatform::Tdx, false));
    let differences = compare(&sim, &tdx);
    let parts: Vec<&str> = differences.iter().map(|d| d.part).collect();
    assert_eq!(parts, ["initrd", "manifest"]);
    assert_eq!(differences[0].member.as_deref(), Some("chrysalis/image.toml"));
    let added = forged_initrd(|e| {
        e.push(("zzz".to_owned(), 0o444, Node::File(b"x".to_vec())));
    });
    let differences = compare(&good(), &added);
    assert_eq!(differences[0].member.as_deref(), Some("zzz"));
    assert_eq!((differences[0].a.as_str(), differences[0].offset), ("not there", None));
}
