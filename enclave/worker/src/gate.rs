//! From the measured manifest to the clients it lets in. The files are the host's: the pins count only
//! if they are, byte for byte, those that the manifest names, and the collateral authenticates itself.

use std::path::Path;
use std::time::Duration;

use chrysalis_evidence::{AllowSim, Appraiser, Collateral, MAX_COLLATERAL_BYTES, Pins};
use chrysalis_wire::limits::MAX_PEER_PINS_BYTES;
use chrysalis_wire::{Digest, WorkerManifest};
use sha2::{Digest as _, Sha256};

use crate::args::Args;
use crate::boot::read_bounded;
use crate::error::WorkerError;
use crate::peer::PeerGate;

/// The gate that `manifest` asks for; none if it serves everybody. `allow_sim` is for a worker that is
/// simulated itself.
///
/// # Errors
/// [`WorkerError::PeerPins`] where manifest and arguments do not fit, [`WorkerError::PeerPinsDigest`]
/// for other pins than the named ones, [`WorkerError::Refused`] for pins or collateral that are none.
pub fn gate(
    manifest: &WorkerManifest,
    args: &Args,
    allow_sim: AllowSim,
) -> Result<Option<PeerGate>, WorkerError> {
    let (section, path) = match (&manifest.peers, &args.peer_pins) {
        (None, None) => return Ok(None),
        (Some(section), Some(path)) => (section, path),
        (Some(_), None) => return Err(WorkerError::PeerPins("the manifest names pins of clients")),
        (None, Some(_)) => return Err(WorkerError::PeerPins("the manifest serves everybody")),
    };
    let pins = read_bounded(path, "pins of clients", MAX_PEER_PINS_BYTES)?;
    let (expected, got) = (section.pins_sha256, Digest(Sha256::digest(&pins).into()));
    if got != expected {
        return Err(WorkerError::PeerPinsDigest { expected, got });
    }
    let text = core::str::from_utf8(&pins)
        .map_err(|_| WorkerError::PeerPins("the pins of clients are no text"))?;
    let pins = Pins::parse(text, allow_sim)
        .map_err(|e| WorkerError::Refused { code: e.code(), message: e.to_string() })?;
    if pins.network() != manifest.network {
        return Err(WorkerError::PeerPins("the pins of clients are for another network"));
    }
    let interval = Duration::from_secs(section.reattest_seconds.into());
    Ok(Some(PeerGate::new(Appraiser::new(pins), collateral(&args.collateral)?, interval)))
}

/// The boot's collateral.
fn collateral(path: &Path) -> Result<Collateral, WorkerError> {
    let bytes = read_bounded(path, "collateral", MAX_COLLATERAL_BYTES)?;
    Collateral::parse(&bytes)
        .map_err(|e| WorkerError::Refused { code: e.code(), message: e.to_string() })
}
