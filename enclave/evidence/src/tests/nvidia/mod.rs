//! NVIDIA evidence recorded from real devices. What each file must come out as is stated by the
//! vectors' own index; the clock is injected.

mod mutants;
mod pins;
mod recorded;
mod rules;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_wire::UnixTime;

use super::vector;
use crate::nvidia::{Device, DeviceError, DeviceEvidence, DeviceRoot, chain_from_pem};

/// 2026-03-01. Device certificates have no end, so any time after 2022 does.
pub(super) const NOW: UnixTime = UnixTime(1_772_323_200);

/// A recorded report and the chain that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Driver 535.86.09, which states no FWID.
    Old,
    /// Driver 550.90.07.
    Nvtrust,
    /// Driver 580.159.03.
    Unit,
    /// Driver 570.124.03; it is the manifest of this driver that has expired.
    Expired,
    /// A report whose signature is wrong.
    BadSignature,
}

impl Recorded {
    pub(super) const GOOD: [Self; 4] = [Self::Old, Self::Nvtrust, Self::Unit, Self::Expired];

    pub(super) fn load(self) -> Option<DeviceEvidence> {
        let (report, chain) = match self {
            Self::Old => ("hopperAttestationReport.txt", "hopperCertChain.txt"),
            Self::Nvtrust => ("h100-nvtrust.report.hex.txt", "h100-nvtrust.chain.txt"),
            Self::Unit => ("h100-unit.report.txt", "h100-unit.chain.txt"),
            Self::Expired => ("hopperAttestationReportExpired.txt", "hopperCertChainExpired.txt"),
            Self::BadSignature => {
                ("hopperAttestationReportInvalidSignature.txt", "hopperCertChain.txt")
            }
        };
        let report = vector(&format!("attest/nvidia/{report}"))?;
        let report = hex::decode(String::from_utf8(report).unwrap().trim()).unwrap();
        let chain = chain_from_pem(&vector(&format!("attest/nvidia/{chain}"))?).unwrap();
        Some(DeviceEvidence { report, chain })
    }
}

/// The devices of a JSON file of NVIDIA's tools, and the nonce each says it was asked with.
pub(super) fn set(name: &str) -> Option<Vec<(DeviceEvidence, [u8; 32])>> {
    let json: serde_json::Value =
        serde_json::from_slice(&vector(&format!("attest/nvidia/{name}"))?).unwrap();
    let field = |device: &serde_json::Value, name: &str| device[name].as_str().unwrap().to_owned();
    let devices = json.as_array().unwrap().iter().map(|device| {
        let report = STANDARD.decode(field(device, "evidence")).unwrap();
        let chain = STANDARD.decode(field(device, "certificate")).unwrap();
        let chain = chain_from_pem(&chain).unwrap();
        let nonce = hex::decode(field(device, "nonce")).unwrap().try_into().unwrap();
        (DeviceEvidence { report, chain }, nonce)
    });
    Some(devices.collect())
}

pub(super) fn verify(evidence: &DeviceEvidence) -> Result<Device, DeviceError> {
    Device::verify(evidence, &DeviceRoot::Nvidia, NOW)
}
