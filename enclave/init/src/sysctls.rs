//! Kernel settings: those `image.toml` lists, then a few that are not negotiable.

use std::path::{Path, PathBuf};

use chrysalis_wire::image::SysctlEntry;

use crate::error::InitError;
use crate::files;
use crate::limits::MAX_SYSCTL_READ_BYTES;

/// Writes every listed setting, then closes what no image may leave open; returns how many.
///
/// # Errors
/// [`InitError::Sysctl`] for the first one that does not take its value; a closing one that does
/// not hold it is [`InitError::SysctlNotHeld`].
pub fn apply_all(root: &Path, listed: &[SysctlEntry]) -> Result<usize, InitError> {
    for SysctlEntry { name, value } in listed {
        write(root, name, value)?;
    }
    for (name, value) in CLOSING {
        write(root, name, value)?;
        let held = files::read(&path(root, name), MAX_SYSCTL_READ_BYTES)
            .map_err(|e| InitError::Sysctl { name: (*name).to_owned(), kind: e.kind() })?;
        if held.trim_ascii() != value.as_bytes() {
            return Err(InitError::SysctlNotHeld { name });
        }
    }
    Ok(listed.len().saturating_add(CLOSING.len()))
}

fn write(root: &Path, name: &str, value: &str) -> Result<(), InitError> {
    files::write_attribute(&path(root, name), value.as_bytes())
        .map_err(|e| InitError::Sysctl { name: name.to_owned(), kind: e.kind() })
}

/// A dotted name cannot hold a separator (`ImageConfig` refuses it), so this cannot leave the
/// directory.
fn path(root: &Path, name: &str) -> PathBuf {
    root.join("proc/sys").join(name.replace('.', "/"))
}

/// What is closed in every image, whatever it lists.
pub const CLOSING: &[(&str, &str)] = &[
    // No further module until the machine restarts; not even root can undo it.
    ("kernel.modules_disabled", "1"),
    // No other kernel, likewise.
    ("kernel.kexec_load_disabled", "1"),
    // The host can send a BREAK and a letter over the serial line.
    ("kernel.sysrq", "0"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn entry(name: &str, value: &str) -> SysctlEntry {
        SysctlEntry { name: name.into(), value: value.into() }
    }

    #[test]
    fn writes_the_listed_ones_and_the_closing_ones() {
        let fake = Fake::new();
        fake.write("proc/sys/vm/swappiness", "");
        assert_eq!(apply_all(fake.root(), &[entry("vm.swappiness", "7")]), Ok(4));
        assert_eq!(fake.read("proc/sys/vm/swappiness"), "7");
        for (name, value) in CLOSING {
            assert_eq!(fake.read(&format!("proc/sys/{}", name.replace('.', "/"))), *value);
        }
    }

    #[test]
    fn an_image_cannot_list_a_closed_door_open() {
        let fake = Fake::new();
        apply_all(fake.root(), &[entry("kernel.sysrq", "1")]).unwrap();
        assert_eq!(fake.read("proc/sys/kernel/sysrq"), "0");
    }

    #[test]
    fn refuses_a_setting_the_kernel_does_not_have() {
        let fake = Fake::new();
        assert!(matches!(
            apply_all(fake.root(), &[entry("vm.no_such_thing", "7")]),
            Err(InitError::Sysctl { name, .. }) if name == "vm.no_such_thing"
        ));
        assert!(!fake.root().join("proc/sys/vm/no_such_thing").exists());
    }

    #[test]
    fn refuses_a_kernel_without_a_door_to_close() {
        let fake = Fake::new();
        std::fs::remove_file(fake.root().join("proc/sys/kernel/modules_disabled")).unwrap();
        assert!(matches!(apply_all(fake.root(), &[]), Err(InitError::Sysctl { .. })));
    }

    #[test]
    fn refuses_a_closing_value_that_does_not_hold() {
        // A regular file keeps what follows the written byte; the kernel's files do not.
        let fake = Fake::new();
        fake.write("proc/sys/kernel/sysrq", "176\n");
        assert_eq!(
            apply_all(fake.root(), &[]),
            Err(InitError::SysctlNotHeld { name: "kernel.sysrq" })
        );
    }
}
