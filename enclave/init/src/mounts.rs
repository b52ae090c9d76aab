//! The file systems PID 1 mounts, and which of them it closes before the worker starts.
//!
//! All of them are the kernel's own, and the root of an image that has one is a checked copy
//! ([`crate::root`]): no disk of the host is ever mounted. There is no configfs:
//! its quote interface needs root, so under PID 1 a worker quotes through vsock alone.

use std::ffi::CStr;
use std::path::Path;

use rustix::mount::MountFlags;

use crate::error::InitError;
use crate::kernel::Kernel;

/// One file system of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Mount {
    /// Type, and name in `/proc/mounts`.
    pub fs: &'static str,
    /// Where, below the root.
    pub target: &'static str,
    /// Flags; never set-uid.
    pub flags: MountFlags,
    /// Options of the file system.
    pub options: Option<&'static CStr>,
    /// Whether it is made read-only before the worker starts.
    pub sealed: bool,
}

/// Mounts everything in [`MOUNTS`].
///
/// # Errors
/// [`InitError::Mount`] for the first one the kernel refuses.
pub fn mount_all(root: &Path, kernel: &dyn Kernel) -> Result<(), InitError> {
    for mount in MOUNTS {
        kernel
            .mount(mount, &root.join(mount.target))
            .map_err(|e| InitError::Mount { target: mount.target, kind: e.kind() })?;
    }
    Ok(())
}

/// Makes the root and every mount marked so read-only: sysfs above all, whose measurement file is
/// the way into RTMR3. Nobody without `CAP_SYS_ADMIN` undoes it, and only PID 1 has that.
///
/// # Errors
/// [`InitError::Mount`] for the first one the kernel refuses.
pub fn seal_all(root: &Path, kernel: &dyn Kernel) -> Result<(), InitError> {
    let sealed = MOUNTS.iter().filter(|m| m.sealed).map(|m| (m.target, m.flags));
    for (target, flags) in sealed.chain([("", MountFlags::empty())]) {
        kernel
            .seal_mount(&root.join(target), flags)
            .map_err(|e| InitError::Mount { target, kind: e.kind() })?;
    }
    Ok(())
}

const HARDENED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Memory for the copy of a root. Nothing limits a ramfs; what is written to it has a measured size.
pub const ROOT_COPY: Mount = Mount {
    fs: "ramfs",
    target: "chrysalis/root",
    flags: HARDENED,
    options: Some(c"mode=0700"),
    sealed: true,
};

/// A root can hold programs; nothing in it is a device or runs as another user.
pub const ROOT_FLAGS: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV);

/// In the order they are mounted.
pub const MOUNTS: &[Mount] = &[
    // A process sees itself and nobody else.
    Mount {
        fs: "proc",
        target: "proc",
        flags: HARDENED,
        options: Some(c"hidepid=invisible"),
        sealed: false,
    },
    Mount { fs: "sysfs", target: "sys", flags: HARDENED, options: None, sealed: true },
    Mount {
        fs: "devtmpfs",
        target: "dev",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: Some(c"mode=0755"),
        sealed: false,
    },
    // What PID 1 hands to the worker: under half a megabyte, written once.
    Mount {
        fs: "tmpfs",
        target: "run",
        flags: HARDENED,
        options: Some(c"mode=0755,size=1m,nr_inodes=32"),
        sealed: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[test]
    fn nothing_is_mounted_set_uid_and_only_devices_have_devices() {
        for mount in MOUNTS {
            assert!(mount.flags.contains(MountFlags::NOSUID | MountFlags::NOEXEC), "{mount:?}");
            assert_eq!(mount.flags.contains(MountFlags::NODEV), mount.fs != "devtmpfs");
        }
    }

    #[test]
    fn no_file_system_has_a_backing_disk() {
        let known = ["proc", "sysfs", "devtmpfs", "tmpfs", "ramfs"];
        assert!(MOUNTS.iter().chain([&ROOT_COPY]).all(|m| known.contains(&m.fs)));
    }

    #[test]
    fn the_way_into_the_register_and_the_root_are_sealed() {
        let fake = Fake::new();
        seal_all(fake.root(), &fake).unwrap();
        assert_eq!(fake.log(), ["seal sys", "seal run", "seal "]);
    }

    #[test]
    fn refuses_to_go_on_when_a_mount_is_refused() {
        let fake = Fake::new().refusing("mount sysfs");
        assert!(matches!(
            mount_all(fake.root(), &fake),
            Err(InitError::Mount { target: "sys", .. })
        ));
        assert_eq!(fake.log(), ["mount proc", "mount sysfs"]);
    }

    #[test]
    fn refuses_to_go_on_when_a_mount_cannot_be_sealed() {
        let fake = Fake::new().refusing("seal sys");
        assert!(matches!(
            seal_all(fake.root(), &fake),
            Err(InitError::Mount { target: "sys", .. })
        ));
    }
}
