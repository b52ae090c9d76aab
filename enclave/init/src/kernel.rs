//! What PID 1 asks of the kernel beyond reading and writing files, behind one narrow trait, so that
//! the whole boot runs in a fake root in tests. The kernel is measured and trusted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{Gid, Uid};
use rustix::mount::MountFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use rustix::system::RebootCommand;

use chrysalis_wire::guest::PID_1_PATH;

use crate::mounts::{Mount, ROOT_FLAGS};
use crate::network::MAX_NETLINK_REPLY_BYTES;
use crate::sandbox::Launch;

/// The system calls of PID 1.
pub trait Kernel {
    /// Mounts a file system of the kernel on `target`.
    ///
    /// # Errors
    /// What the kernel says; likewise below.
    fn mount(&self, mount: &Mount, target: &Path) -> io::Result<()>;

    /// Mounts the EROFS in `file` on `target`, with [`ROOT_FLAGS`].
    fn mount_root(&self, file: &Path, target: &Path) -> io::Result<()>;

    /// Makes the file system mounted on `target` read-only, keeping `mount`'s other flags.
    fn seal_mount(&self, target: &Path, flags: MountFlags) -> io::Result<()>;

    /// Opens `path` for writing and closes it again: `Ok` if that is possible.
    fn open_for_writing(&self, path: &Path) -> io::Result<()>;

    /// Loads the module in `file`; `compressed` if the kernel has to unpack it.
    fn load_module(&self, file: &File, compressed: bool) -> io::Result<()>;

    /// Index of a network interface.
    fn interface(&self, name: &str) -> io::Result<u32>;

    /// Sends one route netlink request and returns the kernel's reply.
    fn route_request(&self, request: &[u8]) -> io::Result<Vec<u8>>;

    /// Gives `path` to root and group `gid` with `mode`.
    fn give(&self, path: &Path, gid: u32, mode: u32) -> io::Result<()>;

    /// Waits for a device.
    fn pause(&self, time: Duration);

    /// Starts the second stage, [`crate::sandbox`], which becomes the worker.
    fn spawn(&self, launch: &Launch) -> io::Result<i32>;

    /// Waits until process `pid` ends, burying every orphan meanwhile.
    fn wait_for(&self, pid: i32) -> io::Result<Ended>;

    /// Turns the machine off.
    fn power_off(&self) -> io::Result<()>;
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Exit(i32),
    /// This signal ended it.
    Signal(i32),
}

/// The kernel PID 1 runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

impl Kernel for Linux {
    fn mount(&self, mount: &Mount, target: &Path) -> io::Result<()> {
        rustix::mount::mount(mount.fs, target, mount.fs, mount.flags, mount.options)?;
        Ok(())
    }

    fn mount_root(&self, file: &Path, target: &Path) -> io::Result<()> {
        rustix::mount::mount(file, target, "erofs", ROOT_FLAGS, None)?;
        Ok(())
    }

    fn seal_mount(&self, target: &Path, flags: MountFlags) -> io::Result<()> {
        rustix::mount::mount_remount(target, flags | MountFlags::RDONLY, c"")?;
        Ok(())
    }

    fn open_for_writing(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).open(path).map(drop)
    }

    fn load_module(&self, file: &File, compressed: bool) -> io::Result<()> {
        let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
        // No parameters, ever: they would be a second configuration.
        rustix::system::finit_module(file, c"", flags)?;
        Ok(())
    }

    fn interface(&self, name: &str) -> io::Result<u32> {
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
    }

    fn route_request(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // Protocol 0, NETLINK_ROUTE.
            None,
        )?;
        rustix::net::send(&socket, request, SendFlags::empty())?;
        let mut reply = vec![0; MAX_NETLINK_REPLY_BYTES];
        let (read, _) = rustix::net::recv(&socket, reply.as_mut_slice(), RecvFlags::empty())?;
        reply.truncate(read);
        Ok(reply)
    }

    fn give(&self, path: &Path, gid: u32, mode: u32) -> io::Result<()> {
        rustix::fs::chown(path, Some(Uid::ROOT), Some(Gid::from_raw(gid)))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn spawn(&self, launch: &Launch) -> io::Result<i32> {
        let errors = if launch.debug { Stdio::inherit() } else { Stdio::null() };
        let child = Command::new(PID_1_PATH)
            .args(launch.to_args())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::inherit())
            .stderr(errors)
            .spawn()?;
        i32::try_from(child.id()).map_err(io::Error::other)
    }

    fn wait_for(&self, pid: i32) -> io::Result<Ended> {
        loop {
            let Some((ended, status)) = rustix::process::wait(WaitOptions::empty())? else {
                continue;
            };
            if Pid::as_raw(Some(ended)) == pid
                && let Some(how) = how_ended(status)
            {
                return Ok(how);
            }
        }
    }

    fn power_off(&self) -> io::Result<()> {
        rustix::system::reboot(RebootCommand::PowerOff)?;
        Ok(())
    }
}

fn how_ended(status: WaitStatus) -> Option<Ended> {
    let exit = status.exit_status().map(Ended::Exit);
    exit.or_else(|| status.terminating_signal().map(Ended::Signal))
}

/// `finit_module` flag of `<linux/module.h>`: the kernel unpacks the file.
const MODULE_INIT_COMPRESSED_FILE: i32 = 4;
