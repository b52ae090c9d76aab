//! Where things are inside a VM image: what the image writer puts there, and what PID 1 hands to
//! the worker. Fixed, so that neither a command line nor a disk can move them.

/// PID 1.
pub const PID_1_PATH: &str = "/init";

/// The worker: the release worker, or the simulated one in an INSECURE-SIM image.
pub const WORKER_PATH: &str = "/chrysalis/worker";

/// The image's configuration, [`crate::ImageConfig`].
pub const IMAGE_CONFIG_PATH: &str = "/chrysalis/image.toml";

/// Directory of the kernel modules.
pub const MODULES_DIR: &str = "/lib/modules";

/// Empty directories PID 1 mounts the kernel's file systems on.
pub const MOUNT_POINTS: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Directory that PID 1 makes for the worker.
pub const HANDOVER_DIR: &str = "/run/chrysalis";

/// The worker manifest, as measured.
pub const MANIFEST_PATH: &str = "/run/chrysalis/worker.toml";

/// The collateral.
pub const COLLATERAL_PATH: &str = "/run/chrysalis/collateral.json";

/// The pins of the worker's clients, where the configuration disk has any.
pub const PEER_PINS_PATH: &str = "/run/chrysalis/peer-pins.toml";

/// Link to the model disk.
pub const MODEL_PATH: &str = "/run/chrysalis/model";

/// INSECURE-SIM: the simulated RTMR3, 48 bytes, written by PID 1 alone.
pub const SIM_REGISTER_PATH: &str = "/run/chrysalis/rtmr3";

/// Where the root of an image that has one is mounted, read-only. PID 1 makes the directory.
pub const ROOT_DIR: &str = "/chrysalis/root";

/// User and group the worker runs as; there is no user database.
pub const WORKER_ID: u32 = 1000;
