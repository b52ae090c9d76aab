//! Writes the pins file that accepts exactly one predicted worker in a trust domain. What no image
//! decides (TDX module, attributes, freshness) is the reader's policy and comes as a `[platform]`
//! table; the result must load as production pins before anybody gets it.

use core::fmt::Write as _;

use chrysalis_evidence::{AllowSim, Pins};

use super::predict::TdxPrediction;
use crate::error::MeasureError;

/// A complete production pins file for `prediction`.
///
/// # Errors
/// [`MeasureError::Pins`] for a name, a platform table or a network that pins do not accept.
pub fn tdx_pins(
    prediction: &TdxPrediction,
    name: &str,
    platform: &str,
) -> Result<String, MeasureError> {
    let facts = &prediction.facts;
    let [rtmr0, rtmr1, rtmr2, _] = prediction.rtmr.each_ref().map(|r| r.value);
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = String::from(HEAD);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "network = {}\n\n[[worker]]\nname = \"{escaped}\"\n# {}.\nmrtd = \"{}\"\n\
         # {} vCPUs, {} MiB, QEMU {}; {}.\nrtmr0 = \"{rtmr0}\"\nrtmr1 = \"{rtmr1}\"\n\
         rtmr2 = \"{rtmr2}\"\nmanifest_sha256 = \"{}\"\nmodel_root = \"{}\"\n\n",
        facts.network.0,
        prediction.mrtd.status,
        prediction.mrtd.value,
        facts.vcpus,
        facts.memory_bytes >> 20,
        facts.qemu.escape_default(),
        prediction.rtmr.iter().map(|r| r.status).fold(prediction.mrtd.status, |a, b| a.weakest(b)),
        facts.manifest_sha256,
        facts.model_root,
    );
    out.push_str(platform);
    let pins = Pins::parse(&out, AllowSim::No).map_err(MeasureError::Pins)?;
    // The table must not bring workers of its own.
    match pins.workers() {
        [only] if only.name == name => Ok(out),
        _ => Err(MeasureError::PlatformTable),
    }
}

const HEAD: &str = "\
# Pins of one worker in a trust domain, written by `chrysalis measure image` from files alone.
version = 1
tier = \"production\"
";
