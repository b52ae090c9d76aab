//! Recipes and lock files: closed schemas, and only what would boot.

use chrysalis_wire::{ImageConfig, ImagePlatform};

use super::support::{RECIPE, lock, packages, recipe};
use crate::lock::{MAX_FILES, MAX_LOCK_BYTES, MAX_PACKAGES};
use crate::recipe::MAX_RECIPE_BYTES;
use crate::{ImageError, Lock, Package, PackageList, Recipe, Role};

fn recipe_with(from: &str, to: &str) -> Result<Recipe, ImageError> {
    let changed = RECIPE.replacen(from, to, 1);
    assert_ne!(changed, RECIPE, "the case changes nothing");
    Recipe::parse(changed.as_bytes())
}

/// The field that a lock with one changed package is refused for.
fn lock_field(change: impl FnOnce(&mut Vec<Package>)) -> &'static str {
    let mut list: Vec<Package> = packages().into_iter().map(|(package, _)| package).collect();
    change(&mut list);
    match Lock::new(list) {
        Err(ImageError::Field { what: "lock file", field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lock_file_survives_writing_and_reading() {
    let text = lock().to_toml().unwrap();
    assert!(text.starts_with("# "));
    assert_eq!(Lock::parse(text.as_bytes()).unwrap(), lock());
}

#[test]
fn a_lock_of_tools_is_a_list_of_packages_and_no_image() {
    let text = lock().to_toml().unwrap();
    let list = PackageList::parse(text.as_bytes()).unwrap();
    assert!(!list.is_of_a_tool());
    assert_eq!(Lock::try_from(list).unwrap(), lock());
    for tool in ["qemu", "libc"] {
        let path = format!("{}/../../images/{tool}.lock.toml", env!("CARGO_MANIFEST_DIR"));
        let list = PackageList::parse(&std::fs::read(path).unwrap()).unwrap();
        assert!(list.is_of_a_tool(), "{tool}");
        let refused = Lock::try_from(list);
        assert!(matches!(refused, Err(ImageError::Field { field: "package.file", .. })), "{tool}");
    }
}

#[test]
fn refuses_unknown_fields_and_versions_in_either_file() {
    let malformed = |r: Result<Recipe, ImageError>| matches!(r, Err(ImageError::Malformed { .. }));
    assert!(malformed(recipe_with("flavour", "shell = true\nflavour")));
    assert!(malformed(recipe_with("prefix = 24", "prefix = 24\ngateway = \"10.0.2.2\"")));
    assert!(malformed(recipe_with("\"202605\"", "\"202612\"")));
    assert!(malformed(recipe_with("10.1.0", "10.1")));
    assert!(malformed(recipe_with("10.1.0", "10.01.0")));
    let version = |r| matches!(r, Err(ImageError::Version { got: 2, .. }));
    assert!(version(recipe_with("version = 1", "version = 2")));
    let text = lock().to_toml().unwrap();
    let lock = |from: &str, to: &str| Lock::parse(text.replacen(from, to, 1).as_bytes());
    let unknown = lock("architecture", "script = \"x\"\narchitecture");
    assert!(matches!(unknown, Err(ImageError::Malformed { .. })));
    let newer = lock("version = 1", "version = 2");
    assert!(matches!(newer, Err(ImageError::Version { got: 2, .. })));
}

#[test]
fn refuses_one_byte_over_either_files_limit() {
    let mut text = RECIPE.as_bytes().to_vec();
    text.resize(MAX_RECIPE_BYTES, b'\n');
    assert!(Recipe::parse(&text).is_ok());
    text.push(b'\n');
    assert!(matches!(Recipe::parse(&text), Err(ImageError::TooLarge { .. })));
    let mut text = lock().to_toml().unwrap().into_bytes();
    text.resize(MAX_LOCK_BYTES, b'\n');
    assert!(Lock::parse(&text).is_ok());
    text.push(b'\n');
    assert!(matches!(Lock::parse(&text), Err(ImageError::TooLarge { .. })));
}

#[test]
fn refuses_command_lines_outside_the_schema() {
    let refused = |r| matches!(r, Err(ImageError::Cmdline(_)));
    assert!(refused(recipe_with("\"quiet\"", "\"init=/bin/sh\"")));
    assert!(refused(recipe_with("\"quiet\"", "\"quiet panic=0\"")));
    assert!(refused(recipe_with("\"quiet\"", "\"ignore_loglevel\"")));
    let firmware = recipe_with("\"quiet\"", "\"quiet\", \"initrd=initrd\"");
    assert!(matches!(firmware, Err(ImageError::Field { what: "command line", .. })));
}

#[test]
fn a_debug_image_says_so_in_command_line_and_configuration() {
    assert_eq!(recipe().cmdline(false).unwrap(), "console=ttyS0 quiet panic=-1");
    assert_eq!(recipe().cmdline(true).unwrap(), "console=ttyS0 panic=-1 ignore_loglevel");
    let (config, _) = recipe().config(ImagePlatform::Tdx, true, &lock(), None).unwrap();
    assert!(config.debug);
}

#[test]
fn a_platform_gets_its_modules_in_the_order_of_the_recipe() {
    let files = |platform| -> Vec<String> {
        let (config, text) = recipe().config(platform, false, &lock(), None).unwrap();
        assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap(), config);
        config.modules.into_iter().map(|m| m.file).collect()
    };
    assert_eq!(files(ImagePlatform::Tdx), ["virtio_net.ko.xz", "tdx-guest.ko.xz"]);
    assert_eq!(files(ImagePlatform::InsecureSim), ["virtio_net.ko.xz"]);
}

#[test]
fn refuses_a_module_that_is_not_pinned() {
    let recipe = recipe_with("\"virtio_net\"", "\"virtio_blk\"").unwrap();
    let refused = recipe.config(ImagePlatform::Tdx, false, &lock(), None);
    assert_eq!(refused, Err(ImageError::NoModule { name: "virtio_blk".to_owned() }));
}

#[test]
fn refuses_a_configuration_that_pid_1_would_refuse() {
    let config = |from: &str, to: &str| {
        recipe_with(from, to).unwrap().config(ImagePlatform::Tdx, false, &lock(), None)
    };
    assert!(matches!(config("10.0.2.15", "8.8.8.8"), Err(ImageError::Config(_))));
    assert!(matches!(config("kernel.kptr", "kernel/kptr"), Err(ImageError::Config(_))));
    assert!(matches!(config("8443", "80"), Err(ImageError::Config(_))));
}

#[test]
fn refuses_flavours_that_are_no_plain_word() {
    for bad in ["", "CPU", "../x", "a b", &"x".repeat(33)] {
        let refused = recipe_with("\"test\"", &format!("{bad:?}"));
        let field = "flavour";
        assert!(matches!(refused, Err(ImageError::Field { field: f, .. }) if f == field));
    }
}

#[test]
fn refuses_pins_that_could_reach_a_command_or_another_file() {
    let name = |bad: &str| lock_field(|p| p[0].name = bad.to_owned());
    for bad in ["", "-o", "a b", "a;b", "a/../b", "é", ".x"] {
        assert_eq!(name(bad), "package.name", "{bad:?}");
    }
    for bad in ["", "x1", "1 2", "1/2", "-1"] {
        assert_eq!(lock_field(|p| p[0].version = bad.to_owned()), "package.version", "{bad:?}");
    }
    for bad in ["/pool/x", "pool/../x", "pool//x", "x", "pool/a b", "pool/\u{e9}"] {
        assert_eq!(lock_field(|p| p[0].filename = bad.to_owned()), "package.filename", "{bad:?}");
    }
    for bad in ["/etc/passwd", "../x", "a//b", "a/./b", "", "a\\b"] {
        assert_eq!(lock_field(|p| p[0].files[0].path = bad.to_owned()), "file.path", "{bad:?}");
    }
    assert_eq!(lock_field(|p| p[0].architecture = "arm64".to_owned()), "package.architecture");
    assert_eq!(lock_field(|p| p[0].suite = "../sid".to_owned()), "package.suite");
}

#[test]
fn refuses_pins_over_their_limits_and_twice() {
    assert_eq!(lock_field(Vec::clear), "package count");
    let many = |p: &mut Vec<Package>| p.resize(MAX_PACKAGES + 1, p[0].clone());
    assert_eq!(lock_field(many), "package count");
    assert_eq!(lock_field(|p| p.push(p[0].clone())), "package.name");
    assert_eq!(lock_field(|p| p[0].size = (256 << 20) + 1), "package.size");
    assert_eq!(lock_field(|p| p[0].size = 0), "package.size");
    assert_eq!(lock_field(|p| p[0].files[0].size = (128 << 20) + 1), "file.size");
    assert_eq!(lock_field(|p| p[0].files.clear()), "package.file");
    let files = |p: &mut Vec<Package>| {
        let first = p[3].files[0].clone();
        p[3].files.resize(MAX_FILES + 1, first);
    };
    assert_eq!(lock_field(files), "package.file");
    let twice = |p: &mut Vec<Package>| {
        let first = p[3].files[0].clone();
        p[3].files.push(first);
    };
    assert_eq!(lock_field(twice), "file.path");
    let same_module = |p: &mut Vec<Package>| {
        let path = p[3].files[0].path.replace("drivers", "other");
        p[3].files[1].path = path;
    };
    assert_eq!(lock_field(same_module), "module");
}

#[test]
fn refuses_a_role_that_is_missing_or_there_twice() {
    for role in [Role::Firmware, Role::VariableStore, Role::Kernel] {
        assert_eq!(lock_field(|p| p[3].files[0].role = role), "role", "{role} twice");
    }
    assert_eq!(lock_field(|p| drop(p.remove(0))), "role");
}

#[test]
fn refuses_a_module_of_another_kernel() {
    let other = |p: &mut Vec<Package>| {
        let path = p[3].files[0].path.replace("7.3.4", "7.3.5");
        p[3].files[0].path = path;
    };
    assert_eq!(lock_field(other), "file.path");
}

#[test]
fn package_clients_spell_an_epoch_in_two_ways() {
    let mut package = packages().remove(0).0;
    package.version = "2:1.0-1".to_owned();
    assert_eq!(package.file_names(), ["firmware_2%3a1.0-1_all.deb", "firmware_1.0-1_all.deb"]);
}
