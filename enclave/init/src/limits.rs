//! Limits of what PID 1 reads, and how long it waits for a device.

use std::time::Duration;

/// Largest module file, in bytes; the largest compressed one of the kernel is under 1 MiB.
pub const MAX_MODULE_BYTES: usize = 16 * 1024 * 1024;

/// Most block devices looked at. Three can be ours, a debug image may have more.
pub const MAX_BLOCK_DEVICES: usize = 16;

/// Longest serial number of a virtio-blk device, in bytes (`VIRTIO_BLK_ID_BYTES`).
pub const MAX_SERIAL_BYTES: usize = 20;

/// Longest kernel setting read back, in bytes.
pub const MAX_SYSCTL_READ_BYTES: usize = 256;

/// How often a device is looked for before it counts as missing.
pub const DEVICE_ATTEMPTS: u32 = 100;

/// The pause between two looks: ten seconds in all, for emulated machines.
pub const DEVICE_PAUSE: Duration = Duration::from_millis(100);
