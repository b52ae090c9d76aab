//! What the worker gets from PID 1: the configuration as files it can only read, the model disk, and
//! on TDX the device that makes reports.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use chrysalis_tee::TdxPaths;
use chrysalis_wire::ImagePlatform;
use chrysalis_wire::guest::{
    COLLATERAL_PATH, HANDOVER_DIR, MANIFEST_PATH, MODEL_PATH, PEER_PINS_PATH, WORKER_ID,
};

use crate::disks::Disks;
use crate::error::InitError;
use crate::kernel::Kernel;
use crate::{below, files};

/// Creates the directory everything is handed over in.
///
/// # Errors
/// [`InitError::Unwritable`] if it cannot be created or exists.
pub fn make_directory(root: &Path) -> Result<(), InitError> {
    fs::create_dir(below(root, HANDOVER_DIR)).map_err(unwritable("handover directory"))
}

/// Writes the configuration, links the model disk and opens the devices to the worker's group.
///
/// # Errors
/// [`InitError::Unwritable`] naming what could not be handed over.
pub fn hand_over(
    root: &Path,
    kernel: &dyn Kernel,
    platform: ImagePlatform,
    disks: &Disks,
) -> Result<(), InitError> {
    files::create(&below(root, MANIFEST_PATH), disks.config.manifest())
        .map_err(unwritable("worker manifest"))?;
    files::create(&below(root, COLLATERAL_PATH), disks.config.collateral())
        .map_err(unwritable("collateral"))?;
    if let Some(pins) = disks.config.peer_pins() {
        files::create(&below(root, PEER_PINS_PATH), pins).map_err(unwritable("pins of clients"))?;
    }
    let model = Path::new("/dev").join(&disks.model);
    symlink(&model, below(root, MODEL_PATH)).map_err(unwritable("model link"))?;
    let device = root.join("dev").join(&disks.model);
    kernel.give(&device, WORKER_ID, READ_ONLY).map_err(unwritable("model disk"))?;
    if platform == ImagePlatform::Tdx {
        let device = TdxPaths::under(root).device;
        kernel.give(&device, WORKER_ID, READ_WRITE).map_err(unwritable("TDX device"))?;
    }
    Ok(())
}

fn unwritable(what: &'static str) -> impl Fn(std::io::Error) -> InitError {
    move |e| InitError::Unwritable { what, kind: e.kind() }
}

const READ_ONLY: u32 = 0o440;
const READ_WRITE: u32 = 0o660;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::disks::find_and_read;
    use crate::fake::{Fake, manifest};

    #[test]
    fn hands_over_what_was_measured_and_no_write_permission() {
        let fake = Fake::new();
        make_directory(fake.root()).unwrap();
        let disks = find_and_read(fake.root(), &fake, false).unwrap();
        hand_over(fake.root(), &fake, ImagePlatform::InsecureSim, &disks).unwrap();
        let path = below(fake.root(), MANIFEST_PATH);
        assert_eq!(fs::read(&path).unwrap(), manifest());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o222, 0);
        let link = fs::read_link(below(fake.root(), MODEL_PATH)).unwrap();
        assert_eq!(link, Path::new("/dev/vdb"));
        assert_eq!(fake.log(), ["give dev/vdb 1000 440"]);
    }

    #[test]
    fn hands_over_the_pins_of_clients_where_there_are_any() {
        let fake = Fake::new();
        make_directory(fake.root()).unwrap();
        let mut disks = find_and_read(fake.root(), &fake, false).unwrap();
        disks.config = disks.config.with_peer_pins(b"pins".to_vec()).unwrap();
        hand_over(fake.root(), &fake, ImagePlatform::InsecureSim, &disks).unwrap();
        let path = below(fake.root(), PEER_PINS_PATH);
        assert_eq!(fs::read(&path).unwrap(), b"pins");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o222, 0);
    }

    #[test]
    fn only_a_tdx_worker_gets_the_tdx_device() {
        let fake = Fake::new();
        make_directory(fake.root()).unwrap();
        let disks = find_and_read(fake.root(), &fake, false).unwrap();
        hand_over(fake.root(), &fake, ImagePlatform::Tdx, &disks).unwrap();
        assert_eq!(fake.log(), ["give dev/vdb 1000 440", "give dev/tdx_guest 1000 660"]);
    }

    #[test]
    fn refuses_a_handover_directory_that_exists() {
        let fake = Fake::new();
        make_directory(fake.root()).unwrap();
        assert!(matches!(make_directory(fake.root()), Err(InitError::Unwritable { .. })));
    }

    #[test]
    fn refuses_a_model_disk_it_cannot_give_away() {
        let fake = Fake::new().refusing("give dev/vdb 1000 440");
        make_directory(fake.root()).unwrap();
        let disks = find_and_read(fake.root(), &fake, false).unwrap();
        assert!(matches!(
            hand_over(fake.root(), &fake, ImagePlatform::InsecureSim, &disks),
            Err(InitError::Unwritable { what: "model disk", .. })
        ));
    }
}
