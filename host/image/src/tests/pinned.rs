//! The real thing: the recipe and lock of this tree over the pinned packages, where they are at
//! hand. The expected firmware hash is one that was booted.

use chrysalis_wire::ImagePlatform;

use super::support::{pinned_inputs, program, tree};
use crate::compose::Inputs;
use crate::{Image, Lock, Programs, Recipe, Store, compose, verify};

fn read(name: &str) -> Vec<u8> {
    std::fs::read(tree().join("images").join(name)).unwrap()
}

fn real(platform: ImagePlatform) -> Option<Image> {
    let Some(directory) = pinned_inputs() else {
        eprintln!("skipped: there is no directory of pinned packages (CHRYSALIS_INPUTS)");
        return None;
    };
    let recipe = Recipe::parse(&read("cpu.toml")).unwrap();
    let lock = Lock::parse(&read("cpu.lock.toml")).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let store = Store {
        cache: cache.path().to_path_buf(),
        directories: vec![directory],
        mirror: false,
        snapshot: None,
    };
    let inputs = Inputs::collect(&lock, |p| store.fetch(p, &mut |_| {})).unwrap();
    let programs = Programs { init: program(b"init"), worker: program(b"worker") };
    Some(compose(&recipe, &lock, &inputs, &programs, platform, false).unwrap())
}

#[test]
fn the_recipes_and_locks_of_this_tree_are_accepted() {
    let recipe = Recipe::parse(&read("cpu.toml")).unwrap();
    let lock = Lock::parse(&read("cpu.lock.toml")).unwrap();
    for platform in [ImagePlatform::Tdx, ImagePlatform::InsecureSim] {
        recipe.config(platform, false, &lock, None).unwrap();
    }
    assert_eq!(lock.to_toml().unwrap().as_bytes(), read("cpu.lock.toml"), "one spelling");
}

#[test]
fn the_pinned_packages_make_the_firmware_that_was_booted() {
    let Some(image) = real(ImagePlatform::Tdx) else { return };
    let info = verify(&image, None).unwrap();
    assert_eq!(
        info.image().parts.firmware.sha256.to_string(),
        "424e12dec9d1e175f2e9f56ea73a76dc91dd59e28334ba77310a10dd1702d7e9"
    );
    assert_eq!(info.image().kernel_release, "7.3.4+deb13-cloud-amd64");
    assert_eq!(info.config().modules.len(), 10);
    assert!(image.size() < 20 << 20, "{} bytes without programs", image.size());
}
