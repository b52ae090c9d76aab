//! Workers in virtual machines: a QEMU for each, from the files of an image and a shape. The host
//! is untrusted, so nothing here protects the guest; it only builds the machine whose measurement
//! was published, or says why it cannot.

pub mod argv;
mod backend;
pub mod capture;
mod launch;
mod probe;
mod qemu;
mod qmp;
mod qtest;
#[cfg(test)]
mod real;

pub use backend::{VmBackend, VmGuest, config_disk_path};
pub use launch::{GpuAddress, QgsAddress, VmImage, VmLaunch, VmPlatform};
pub use probe::{Accelerator, Choice, HostPaths, PROBE_TIME, Wanted, choose};
pub use qemu::Qemu;
