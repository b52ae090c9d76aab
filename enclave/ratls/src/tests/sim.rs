//! A simulated platform, its pins and its collateral. INSECURE-SIM.

use std::sync::Arc;

use chrysalis_evidence::{AllowSim, Appraiser, Collateral, Pins, sim};
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::{Faults, SimPlatform, sim_root_der};
use chrysalis_wire::{NetworkId, UnixTime};

use crate::{CertificateVerifier, Format, Identity, Order, RatlsError};

pub(crate) const EXECUTABLE: &[u8] = b"a program";
/// 2026-03-01.
pub(crate) const NOW: UnixTime = UnixTime(1_772_323_200);
/// Windows of the certificates here.
pub(crate) const HOUR: u64 = 3600;

pub(crate) fn order(format: Format) -> Order {
    Order { format, not_before: NOW, not_after: UnixTime(NOW.0 + HOUR) }
}

pub(crate) fn identity(format: Format) -> Identity {
    identity_with(format, Faults::default()).unwrap()
}

pub(crate) fn identity_with(format: Format, faults: Faults) -> Result<Identity, RatlsError> {
    let platform = SimPlatform::new(EXECUTABLE).with_faults(faults);
    Identity::generate(&order(format), &|data: &[u8; 64]| platform.quote(data))
}

pub(crate) fn pins() -> Pins {
    Pins::parse(&pins_text(), AllowSim::Yes).unwrap()
}

pub(crate) fn verifier() -> CertificateVerifier {
    verifier_with(pins())
}

pub(crate) fn verifier_with(pins: Pins) -> CertificateVerifier {
    CertificateVerifier::new(Appraiser::new(pins), collateral(), Format::ALL)
}

pub(crate) fn collateral() -> Arc<Collateral> {
    Arc::new(Collateral::parse(chrysalis_tee_sim::collateral(NOW).as_bytes()).unwrap())
}

pub(crate) fn pins_text() -> String {
    format!(
        "version = 1\ntier = \"INSECURE-SIM\"\nsim_root = \"{}\"\nnetwork = {}\n[[worker]]\nname = \
         \"sim\"\nmrtd = \"{}\"\nrtmr0 = \"{}\"\nrtmr1 = \"{}\"\nrtmr2 = \"{}\"\nmanifest_sha256 = \
         \"{z}\"\nmodel_root = \"{z}\"\n[platform]\ntd_attributes = [\"{}\"]\nxfam = [\"{}\"]\n\
         mr_seam = [\"{}\"]\nmax_collateral_age_days = 30\nmin_tcb_evaluation_number = {}\n\
         allow_dynamic_platform = true\nallow_cached_keys = true\nallow_smt = true\n",
        hex::encode(sim_root_der()),
        NetworkId::INSECURE_SIM.0,
        hex::encode(sim::mrtd(EXECUTABLE)),
        hex::encode(sim::rtmr0()),
        hex::encode(sim::rtmr1()),
        hex::encode(sim::rtmr2()),
        hex::encode(sim::TD_ATTRIBUTES),
        hex::encode(sim::XFAM),
        hex::encode(sim::mr_seam()),
        sim::TCB_EVALUATION_NUMBER,
        z = "0".repeat(64),
    )
}

/// The same policy for hardware: Intel's root, a real network.
pub(crate) fn hardware_pins_text(tier: &str) -> String {
    pins_text()
        .lines()
        .filter(|line| !line.starts_with("sim_root"))
        .map(|line| match line {
            "tier = \"INSECURE-SIM\"" => format!("tier = \"{tier}\"\n"),
            "network = 5458253" => "network = -3\n".to_owned(),
            other => format!("{other}\n"),
        })
        .collect()
}
