//! PID 1 of the confidential VM image: from a kernel that has just started to a worker that can
//! reach nothing it does not need. User space is this program and the worker; there is no shell,
//! no login, no package, no switch that opens any of that.
//!
//! Trusted: the image (kernel, command line and initrd are in RTMR1 and RTMR2) and so this program,
//! its `image.toml` and the modules. Hostile: everything the host chooses, which is the words on the
//! command line, the devices, the bytes on the disks, the network and the clock.
//!
//! # Boot order
//!
//! | step | what happens | why here |
//! |---|---|---|
//! | `mounts` | proc, sysfs, devtmpfs, tmpfs; no disk | everything below reads them |
//! | `image` | `/chrysalis/image.toml`, a closed schema; debug and INSECURE-SIM are announced | decides all the rest |
//! | `command-line` | every word must be in [`chrysalis_wire::cmdline::WORDS`] | before anything obeys one |
//! | `modules` | listed ones, SHA-256 checked, loaded in order | drivers of the disks and the network |
//! | `sysctls` | listed ones, then no module, no kexec, no sysrq until the next boot | before the first byte of the host is read |
//! | `network` | loopback and one static address; no route | |
//! | `disks` | two disks by serial number, three in an image with a root; the configuration is read with a limit | first hostile bytes |
//! | `root` | an image with a root: all of its disk is copied, its hash compared with the one in `image.toml`, the copy mounted ([`root`]) | before the register is touched |
//! | `measure` | RTMR3 must be zero, then [`measure`]'s events; files for the worker; sysfs, `/run` and `/` become read-only | before any secret exists |
//! | `worker` | the second stage ([`sandbox`]) drops everything and becomes the worker | |
//!
//! PID 1 then buries orphans until the worker ends, prints how, and powers off. It never restarts
//! a worker: the register cannot go back.
//!
//! # Promises, and the test that holds each
//!
//! `vm` is `tests/vm.rs` (a real kernel under QEMU), `sandbox` is `tests/sandbox.rs` (real
//! processes on the machine that runs the tests).
//!
//! | promise | test |
//! |---|---|
//! | order of boot | `boot::boots_in_the_documented_order_and_ends_with_the_worker`; vm `boots_…` |
//! | an unknown command line word powers off before a module is loaded | `boot::refuses_a_word_…`; vm |
//! | the kernel sees no module but listed ones with their hash | `modules::*`; vm |
//! | module loading, kexec and sysrq are closed whatever the image lists | `sysctls::*`; vm |
//! | no disk is accepted but these, none is mounted | `disks::*`, `mounts::no_file_system_…`; vm |
//! | the kernel parses no byte of a root that is not the measured one | `root::*`; vm |
//! | the manifest is measured before it is parsed | `measure::a_manifest_is_measured_even_if_…` |
//! | RTMR3 is what verifiers replay, or the machine is off | `measure::*`; vm |
//! | nobody can extend RTMR3 once the worker runs, not even PID 1 | `boot::refuses_to_start_a_worker_while_…`, sandbox; vm |
//! | the worker has no capability, another user, no new privilege | sandbox; vm |
//! | the worker reads its inputs, writes nothing, executes nothing else | sandbox; vm |
//! | the worker binds one port and connects nowhere (to the quote service on TDX) | sandbox, `seccomp::*` |
//! | any other system call ends the worker | sandbox |
//! | environment empty, arguments fixed | `sandbox::arguments_…`, sandbox; vm |
//! | every refusal is one code on the console and the power goes off | `boot::*`; vm |
//!
//! # Not run on TDX
//!
//! No TDX machine was at hand. Only the simulated register ([`measure`]) ran in a VM; the TDX one is
//! `chrysalis-tee`'s, tested on fake files. Not run: loading `tdx-guest.ko`, extending through its
//! sysfs, sealing that sysfs, quoting through vsock as an unprivileged user, booting under TDVF.
//! Under PID 1 there is no configfs: its report entries belong to root, so a worker whose host
//! offers no quote service over vsock cannot quote.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

use std::path::{Path, PathBuf};

pub mod boot;
pub mod console;
pub mod disks;
pub mod error;
pub mod files;
pub mod handover;
pub mod image;
pub mod kernel;
pub mod limits;
pub mod measure;
pub mod modules;
pub mod mounts;
pub mod network;
pub mod root;
pub mod sandbox;
pub mod seccomp;
pub mod sysctls;

#[cfg(test)]
mod fake;

pub use error::InitError;

/// `path`, absolute in the guest, below `root`.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
