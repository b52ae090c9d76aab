//! Composing and writing whole images.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use chrysalis_wire::{ImageConfig, ImagePlatform};

use super::support::{RELEASE, image, inputs, kernel, lock, program, programs, recipe};
use crate::binary::{BinaryFault, MAX_PROGRAM_BYTES, check_kernel, check_program};
use crate::compose::{Inputs, check_worker};
use crate::cpio::Archive;
use crate::{Existing, ImageError, compare, compose, directory, verify};

fn fault(result: Result<(), ImageError>) -> BinaryFault {
    match result.unwrap_err() {
        ImageError::Binary { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn an_image_is_what_its_recipe_says_and_nothing_else() {
    let image = image(ImagePlatform::InsecureSim, false);
    assert_eq!(image.cmdline, b"console=ttyS0 quiet panic=-1");
    let archive = Archive::parse(&image.initrd).unwrap();
    let paths: Vec<&str> = archive.entries().map(|(path, _)| path).collect();
    assert_eq!(
        paths,
        [
            "chrysalis",
            "chrysalis/image.toml",
            "chrysalis/worker",
            "dev",
            "dev/console",
            "init",
            "lib",
            "lib/modules",
            "lib/modules/virtio_net.ko.xz",
            "proc",
            "run",
            "sys",
            "tmp",
        ]
    );
    let config = ImageConfig::parse(archive.file("chrysalis/image.toml").unwrap()).unwrap();
    assert_eq!(config.platform, ImagePlatform::InsecureSim);
    let verified = verify(&image, None).unwrap();
    assert_eq!(verified.image().kernel_release, RELEASE);
    assert_eq!(verified.config(), &config);
    assert_eq!(verified.image().inputs.len(), 4, "one module of two is used");
}

#[test]
fn platform_and_debug_make_other_images() {
    let sim = image(ImagePlatform::InsecureSim, false);
    let tdx = image(ImagePlatform::Tdx, false);
    let debug = image(ImagePlatform::InsecureSim, true);
    let id = |image| verify(image, None).unwrap().id();
    assert_ne!(id(&sim), id(&tdx));
    assert_ne!(id(&sim), id(&debug));
    assert_ne!(sim.initrd, debug.initrd);
    assert_ne!(sim.cmdline, debug.cmdline);
}

#[test]
fn two_builds_are_the_same_bytes() {
    let (a, b) = (image(ImagePlatform::Tdx, false), image(ImagePlatform::Tdx, false));
    assert_eq!(a, b);
    assert!(compare(&a, &b).is_empty());
}

#[test]
fn refuses_an_input_that_was_not_given() {
    let (recipe, lock) = (recipe(), lock());
    let refused =
        compose(&recipe, &lock, &Inputs::default(), &programs(), ImagePlatform::Tdx, false);
    assert!(matches!(refused, Err(ImageError::NoInput { .. })));
}

#[test]
fn refuses_programs_that_would_not_run() {
    let changed = |offset: usize, value: u8| {
        let mut elf = program(b"x");
        elf[offset] = value;
        fault(check_program("worker", &elf))
    };
    assert!(check_program("worker", &program(b"x")).is_ok());
    for (what, offset, value) in [
        ("magic", 0, b'#'),
        ("32 bits", 4, 1),
        ("big endian", 5, 2),
        ("object file", 16, 1),
        ("other machine", 18, 183),
        ("no program headers", 56, 0),
        ("header size", 54, 32),
        ("headers beyond the end", 33, 0xff),
        ("too many headers", 57, 0xff),
    ] {
        assert!(matches!(changed(offset, value), BinaryFault::NotElf { .. }), "{what}");
    }
    assert!(matches!(fault(check_program("init", b"#!/bin/sh")), BinaryFault::NotElf { .. }));
    assert!(matches!(fault(check_program("init", b"")), BinaryFault::NotElf { .. }));
}

#[test]
fn refuses_a_dynamic_program_and_names_its_loader() {
    let mut elf = program(b"/lib64/ld-linux.so\0");
    elf[64] = 3;
    elf[64 + 8] = 120;
    elf[64 + 32] = 19;
    let interpreter = "/lib64/ld-linux.so".to_owned();
    let refused = fault(check_program("worker", &elf));
    assert_eq!(refused, BinaryFault::Dynamic { interpreter });
    assert!(refused.next_step().contains("crt-static"));
}

#[test]
fn refuses_a_program_one_byte_over_the_limit() {
    let mut elf = program(b"");
    elf.resize(MAX_PROGRAM_BYTES, 0);
    assert!(check_program("init", &elf).is_ok());
    elf.push(0);
    assert!(matches!(fault(check_program("init", &elf)), BinaryFault::TooLarge { .. }));
}

#[test]
fn refuses_the_simulated_worker_in_an_image_for_hardware() {
    let worker = program(b"... INSECURE-SIM FAKE SGX Root CA ...");
    assert!(check_worker(&worker, ImagePlatform::InsecureSim).is_ok());
    let platform = ImagePlatform::Tdx;
    assert_eq!(fault(check_worker(&worker, platform)), BinaryFault::Simulated { platform });
}

#[test]
fn refuses_kernels_that_are_none_or_of_another_release() {
    let changed = |offset: usize| {
        let mut image = kernel();
        image[offset] ^= 1;
        fault(check_kernel(&image, RELEASE))
    };
    assert!(check_kernel(&kernel(), RELEASE).is_ok());
    assert!(matches!(changed(0), BinaryFault::NotKernel { .. }));
    assert!(matches!(changed(0x202), BinaryFault::NotKernel { .. }));
    assert!(matches!(changed(0x500), BinaryFault::Release { .. }));
    assert!(matches!(fault(check_kernel(b"MZ", RELEASE)), BinaryFault::NotKernel { .. }));
    assert!(matches!(fault(check_kernel(&kernel(), "7.3.4")), BinaryFault::Release { .. }));
}

#[test]
fn writes_plain_modes_reads_back_and_leaves_nothing_beside() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("image");
    let image = image(ImagePlatform::Tdx, false);
    directory::write(&image, &out, Existing::Refuse).unwrap();
    assert_eq!(directory::read(&out).unwrap(), image);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&out), 0o755);
    for (_, file, _) in image.files() {
        assert_eq!(mode(&out.join(file)), 0o644);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn replaces_an_image_only_when_told_and_anything_else_never() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("image");
    let (one, two) = (image(ImagePlatform::Tdx, false), image(ImagePlatform::Tdx, true));
    directory::write(&one, &out, Existing::Refuse).unwrap();
    let refused = directory::write(&two, &out, Existing::Refuse);
    assert!(matches!(refused, Err(ImageError::Exists { .. })));
    assert_eq!(directory::read(&out).unwrap(), one);
    directory::write(&two, &out, Existing::Replace).unwrap();
    assert_eq!(directory::read(&out).unwrap(), two);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter"), b"x").unwrap();
    let refused = directory::write(&two, &home, Existing::Replace);
    assert!(matches!(refused, Err(ImageError::Exists { .. })));
    assert!(home.join("letter").exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    let nowhere = directory::write(&two, &dir.path().join("no/such/place"), Existing::Refuse);
    assert!(matches!(nowhere, Err(ImageError::Io { .. })));
}

#[test]
fn every_input_of_the_lock_is_collected_under_its_own_hash() {
    let lock = lock();
    assert_eq!(format!("{:?}", inputs(&lock)).matches("Digest(").count(), lock.files().count());
}
