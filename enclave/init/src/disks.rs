//! The disks the host attaches, found by serial number, and the configuration on the first. A root
//! disk belongs to an image with a root and to no other: without one it is a disk like any unknown.
//! The host picks their order, size and every byte; no partition or file system is looked at.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use chrysalis_wire::ConfigDisk;
use chrysalis_wire::config_disk::{
    CONFIG_DISK_SERIAL, MAX_CONFIG_DISK_BYTES, MODEL_DISK_SERIAL, ROOT_DISK_SERIAL,
};

use crate::error::InitError;
use crate::files;
use crate::kernel::Kernel;
use crate::limits::{DEVICE_ATTEMPTS, DEVICE_PAUSE, MAX_BLOCK_DEVICES, MAX_SERIAL_BYTES};

/// The disks, found and told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disks {
    /// What the configuration disk holds.
    pub config: ConfigDisk,
    /// Kernel name of the model disk, as `vdb`.
    pub model: String,
    /// Kernel name of the root disk, in an image with a root.
    pub root: Option<String>,
}

/// Finds the disks, a root disk `with_root`, and reads the configuration.
///
/// # Errors
/// [`InitError`] for a disk that is missing, there twice or unknown, and for a configuration that
/// is not one.
pub fn find_and_read(
    root: &Path,
    kernel: &dyn Kernel,
    with_root: bool,
) -> Result<Disks, InitError> {
    let found = wait_for_all(root, kernel, with_root)?;
    let path = root.join("dev").join(&found.config);
    let bytes = files::read(&path, MAX_CONFIG_DISK_BYTES).map_err(|e| match e.kind() {
        std::io::ErrorKind::FileTooLarge => {
            InitError::Config(chrysalis_wire::ConfigDiskError::TooLarge {
                got: MAX_CONFIG_DISK_BYTES.saturating_add(1),
            })
        }
        kind => InitError::Unreadable { what: "configuration disk", kind },
    })?;
    Ok(Disks { config: ConfigDisk::parse(&bytes)?, model: found.model, root: found.root })
}

struct Found {
    config: String,
    model: String,
    root: Option<String>,
}

fn wait_for_all(root: &Path, kernel: &dyn Kernel, with_root: bool) -> Result<Found, InitError> {
    for _ in 1..DEVICE_ATTEMPTS {
        match look(root, with_root) {
            Err(InitError::NoDisk { .. }) => kernel.pause(DEVICE_PAUSE),
            decided => return decided,
        }
    }
    look(root, with_root)
}

fn look(root: &Path, with_root: bool) -> Result<Found, InitError> {
    let mut config = None;
    let mut model = None;
    let mut root_disk = None;
    for name in names(&root.join("sys/block"))? {
        let (slot, serial) = match serial(root, &name)?.as_slice() {
            b"" => return Err(InitError::UnknownDisk),
            found if found == CONFIG_DISK_SERIAL.as_bytes() => (&mut config, CONFIG_DISK_SERIAL),
            found if found == MODEL_DISK_SERIAL.as_bytes() => (&mut model, MODEL_DISK_SERIAL),
            found if with_root && found == ROOT_DISK_SERIAL.as_bytes() => {
                (&mut root_disk, ROOT_DISK_SERIAL)
            }
            _ => return Err(InitError::UnknownDisk),
        };
        if slot.replace(name).is_some() {
            return Err(InitError::DiskTwice { serial });
        }
    }
    if with_root && root_disk.is_none() {
        return Err(InitError::NoDisk { serial: ROOT_DISK_SERIAL });
    }
    Ok(Found {
        config: config.ok_or(InitError::NoDisk { serial: CONFIG_DISK_SERIAL })?,
        model: model.ok_or(InitError::NoDisk { serial: MODEL_DISK_SERIAL })?,
        root: root_disk,
    })
}

/// Names of the virtio-blk devices, `vda` to `vdz`.
fn names(dir: &Path) -> Result<Vec<String>, InitError> {
    let unreadable =
        |e: std::io::Error| InitError::Unreadable { what: "list of block devices", kind: e.kind() };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        match virtio_name(&name) {
            Some(name) if names.len() < MAX_BLOCK_DEVICES => names.push(name),
            Some(_) => return Err(InitError::UnknownDisk),
            // Another kind of device (loop, ram) is the kernel's own; no driver of a disk that
            // the host could attach otherwise is loaded or built in.
            None => {}
        }
    }
    names.sort();
    Ok(names)
}

fn virtio_name(name: &OsStr) -> Option<String> {
    let name = name.to_str()?;
    let letters = name.strip_prefix("vd")?;
    let known = !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_lowercase());
    known.then(|| name.to_owned())
}

fn serial(root: &Path, name: &str) -> Result<Vec<u8>, InitError> {
    let path: PathBuf = root.join("sys/block").join(name).join("serial");
    // One more for the newline sysfs may add.
    let bytes = files::read(&path, MAX_SERIAL_BYTES.saturating_add(1))
        .map_err(|_| InitError::UnknownDisk)?;
    Ok(bytes.strip_suffix(b"\n").unwrap_or(&bytes).to_vec())
}

#[cfg(test)]
mod tests {
    use chrysalis_wire::ConfigDiskError;

    use super::*;
    use crate::fake::{Fake, config_disk};

    fn find(fake: &Fake) -> Result<Disks, InitError> {
        find_and_read(fake.root(), fake, false)
    }

    #[test]
    fn tells_the_disks_apart_by_serial_in_either_order() {
        let fake = Fake::new();
        assert_eq!(find(&fake).unwrap().model, "vdb");
        let fake = Fake::new();
        fake.write("sys/block/vda/serial", MODEL_DISK_SERIAL);
        fake.write("sys/block/vdb/serial", &format!("{CONFIG_DISK_SERIAL}\n"));
        fake.write_bytes("dev/vdb", &config_disk());
        assert_eq!(find(&fake).unwrap().model, "vda");
    }

    #[test]
    fn refuses_a_missing_disk_after_waiting_for_it() {
        for (gone, serial) in [("vda", CONFIG_DISK_SERIAL), ("vdb", MODEL_DISK_SERIAL)] {
            let fake = Fake::new();
            fs::remove_dir_all(fake.root().join("sys/block").join(gone)).unwrap();
            assert_eq!(find(&fake), Err(InitError::NoDisk { serial }));
            assert_eq!(fake.pauses(), DEVICE_ATTEMPTS - 1);
        }
    }

    #[test]
    fn a_root_disk_belongs_to_an_image_with_a_root_and_to_no_other() {
        let fake = Fake::with_root();
        let found = find_and_read(fake.root(), &fake, true).unwrap();
        assert_eq!(found.root.as_deref(), Some("vdc"));
        assert_eq!(find(&fake), Err(InitError::UnknownDisk));
        let fake = Fake::new();
        let missing = Err(InitError::NoDisk { serial: ROOT_DISK_SERIAL });
        assert_eq!(find_and_read(fake.root(), &fake, true), missing);
        assert_eq!(fake.pauses(), DEVICE_ATTEMPTS - 1);
        let fake = Fake::with_root();
        fake.write("sys/block/vdd/serial", ROOT_DISK_SERIAL);
        let twice = Err(InitError::DiskTwice { serial: ROOT_DISK_SERIAL });
        assert_eq!(find_and_read(fake.root(), &fake, true), twice);
    }

    #[test]
    fn refuses_two_disks_with_one_serial() {
        let fake = Fake::new();
        fake.write("sys/block/vdc/serial", MODEL_DISK_SERIAL);
        assert_eq!(find(&fake), Err(InitError::DiskTwice { serial: MODEL_DISK_SERIAL }));
    }

    #[test]
    fn refuses_a_disk_it_does_not_know() {
        for serial in ["", "chrysalis-config2", "CHRYSALIS-CONFIG", "chrysalis-model and more"] {
            let fake = Fake::new();
            fake.write("sys/block/vdc/serial", serial);
            assert_eq!(find(&fake), Err(InitError::UnknownDisk), "{serial:?}");
        }
    }

    #[test]
    fn refuses_one_disk_more_than_it_looks_at() {
        let fake = Fake::new();
        for letter in 'c'..='q' {
            fake.write(&format!("sys/block/vd{letter}/serial"), MODEL_DISK_SERIAL);
        }
        assert_eq!(find(&fake), Err(InitError::UnknownDisk));
    }

    #[test]
    fn never_opens_a_device_of_another_driver() {
        let fake = Fake::new();
        for name in ["loop0", "ram0", "sda", "vd", "vd0", "vda1"] {
            fake.write(&format!("sys/block/{name}/serial"), CONFIG_DISK_SERIAL);
        }
        assert!(find(&fake).is_ok());
    }

    #[test]
    fn refuses_a_malformed_configuration() {
        let fake = Fake::new();
        fake.write_bytes("dev/vda", &[0; 512]);
        assert_eq!(find(&fake), Err(InitError::Config(ConfigDiskError::Magic)));
        fake.write_bytes("dev/vda", b"");
        assert!(matches!(find(&fake), Err(InitError::Config(ConfigDiskError::Encoding(_)))));
    }

    #[test]
    fn refuses_a_configuration_disk_past_its_limit_without_reading_on() {
        let fake = Fake::new();
        fake.write_bytes("dev/vda", &vec![0; MAX_CONFIG_DISK_BYTES + 512]);
        let got = MAX_CONFIG_DISK_BYTES + 1;
        assert_eq!(find(&fake), Err(InitError::Config(ConfigDiskError::TooLarge { got })));
    }
}
