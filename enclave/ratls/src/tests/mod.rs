//! Tests on recorded certificates, and on ones made here field by field. The recorded ones are
//! other people's data and stay outside the tree: `$CHRYSALIS_VECTORS`, or `shared/vectors` beside
//! the workspace. Where the folder is absent these tests say `skipped`; where it is present a
//! missing file fails them.

mod enclave;
mod forge;
mod handshake;
mod properties;
mod recorded;
mod refusals;
mod sim;
mod verify;
mod wycheproof;

use std::path::PathBuf;

/// Bytes of a vector; `None` (and a line on stderr) where the vectors folder is absent.
pub(crate) fn vector(path: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("CHRYSALIS_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    if !root.is_dir() {
        eprintln!("skipped: no vectors folder; set CHRYSALIS_VECTORS");
        return None;
    }
    let file = root.join(path);
    Some(std::fs::read(&file).unwrap_or_else(|e| panic!("vector {path} is missing: {e}")))
}
