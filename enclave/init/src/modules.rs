//! Kernel modules: exactly those `image.toml` lists, in that order, each checked before the kernel
//! sees it. The image is measured as a whole; the hashes say which file is wrong.

use std::fs::File;
use std::path::Path;

use chrysalis_wire::Digest;
use chrysalis_wire::guest::MODULES_DIR;
use chrysalis_wire::image::ModuleEntry;
use sha2::{Digest as _, Sha256};

use crate::error::InitError;
use crate::kernel::Kernel;
use crate::limits::MAX_MODULE_BYTES;
use crate::{below, files};

/// Checks and loads every listed module; returns how many.
///
/// # Errors
/// For the first one that is missing, too large, not the listed one, or refused by the kernel.
/// None of the following is looked at.
pub fn load_all(
    root: &Path,
    kernel: &dyn Kernel,
    modules: &[ModuleEntry],
) -> Result<usize, InitError> {
    for (index, module) in modules.iter().enumerate() {
        let path = below(root, MODULES_DIR).join(&module.file);
        let missing = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::FileTooLarge => InitError::ModuleTooLarge { index },
            kind => InitError::ModuleMissing { index, kind },
        };
        // The kernel reads the same open file that was hashed; nothing else can write to it.
        let mut file = File::open(path).map_err(missing)?;
        let bytes = files::read_from(&mut file, MAX_MODULE_BYTES).map_err(missing)?;
        let got = Digest(Sha256::digest(&bytes).into());
        if got != module.sha256 {
            return Err(InitError::ModuleHash { index, expected: module.sha256, got });
        }
        kernel
            .load_module(&file, module.file.ends_with(".xz"))
            .map_err(|e| InitError::ModuleRefused { index, kind: e.kind() })?;
    }
    Ok(modules.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn entry(file: &str, content: &[u8]) -> ModuleEntry {
        ModuleEntry { file: file.into(), sha256: Digest(Sha256::digest(content).into()) }
    }

    #[test]
    fn loads_in_the_listed_order_and_says_which_are_packed() {
        let fake = Fake::new();
        fake.write("lib/modules/b.ko.xz", "two");
        fake.write("lib/modules/a.ko", "one");
        let listed = [entry("b.ko.xz", b"two"), entry("a.ko", b"one")];
        assert_eq!(load_all(fake.root(), &fake, &listed), Ok(2));
        assert_eq!(fake.log(), ["module two packed", "module one"]);
    }

    #[test]
    fn never_looks_at_a_module_that_is_not_listed() {
        let fake = Fake::new();
        fake.write("lib/modules/other.ko", "x");
        assert_eq!(load_all(fake.root(), &fake, &[]), Ok(0));
        assert!(fake.log().is_empty());
    }

    #[test]
    fn refuses_a_module_with_another_hash_before_the_kernel_sees_it() {
        let fake = Fake::new();
        fake.write("lib/modules/a.ko", "onf");
        let listed = [entry("a.ko", b"one")];
        assert!(matches!(
            load_all(fake.root(), &fake, &listed),
            Err(InitError::ModuleHash { index: 0, .. })
        ));
        assert!(fake.log().is_empty());
    }

    #[test]
    fn a_refused_module_ends_the_list() {
        let fake = Fake::new();
        fake.write("lib/modules/a.ko", "bad");
        fake.write("lib/modules/b.ko", "two");
        let listed = [entry("a.ko", b"one"), entry("b.ko", b"two")];
        load_all(fake.root(), &fake, &listed).unwrap_err();
        assert!(fake.log().is_empty(), "a module after the refused one was loaded");
    }

    #[test]
    fn refuses_a_listed_module_that_is_missing() {
        let fake = Fake::new();
        assert!(matches!(
            load_all(fake.root(), &fake, &[entry("gone.ko", b"one")]),
            Err(InitError::ModuleMissing { index: 0, .. })
        ));
    }

    #[test]
    fn refuses_a_module_the_kernel_refuses() {
        let fake = Fake::new().refusing("module one");
        fake.write("lib/modules/a.ko", "one");
        assert!(matches!(
            load_all(fake.root(), &fake, &[entry("a.ko", b"one")]),
            Err(InitError::ModuleRefused { index: 0, .. })
        ));
    }

    #[test]
    fn refuses_a_module_one_byte_past_the_limit() {
        let fake = Fake::new();
        let mut bytes = vec![0u8; MAX_MODULE_BYTES];
        fake.write_bytes("lib/modules/a.ko", &bytes);
        assert!(load_all(fake.root(), &fake, &[entry("a.ko", &bytes)]).is_ok());
        bytes.push(0);
        fake.write_bytes("lib/modules/a.ko", &bytes);
        assert_eq!(
            load_all(fake.root(), &fake, &[entry("a.ko", &bytes)]),
            Err(InitError::ModuleTooLarge { index: 0 })
        );
    }
}
