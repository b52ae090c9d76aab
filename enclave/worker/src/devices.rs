//! The devices that the manifest names: asked at boot whether they are there, and for every challenge
//! what they measured. Their answers are evidence, appraised by whoever receives it; what is decided
//! here is only that the machine is the one that the manifest describes.

use std::sync::Arc;

use chrysalis_evidence::Measured;
use chrysalis_evidence::nvidia::{Device, DeviceEvidence, DeviceRoot, chain_from_pem};
use chrysalis_tee::{DeviceChain, DeviceCount, Devices};
use chrysalis_wire::manifest::DevicesSection;
use chrysalis_wire::{AttestationDocument, DeviceDocument, UnixTime, WorkerManifest};

use crate::error::WorkerError;
use crate::http::Refused;

/// The devices of this boot; none if the manifest names none, whatever else the machine has.
///
/// # Errors
/// [`WorkerError::Devices`] for other numbers than the manifest's, and for an enclave, which has no
/// way to a device; [`WorkerError::Platform`] if they cannot be counted.
pub fn of_boot(
    manifest: &WorkerManifest,
    measured: &Measured,
    devices: &Arc<dyn Devices>,
) -> Result<Option<Arc<dyn Devices>>, WorkerError> {
    let Some(expected) = manifest.devices else { return Ok(None) };
    let refuse = |got: String| Err(WorkerError::Devices { expected: in_words(expected), got });
    if matches!(measured, Measured::Enclave(_)) {
        return refuse("an SGX enclave, which has no devices".to_owned());
    }
    let DeviceCount { gpus, switches } = devices.count()?;
    let got = DevicesSection { gpus, switches };
    if got != expected {
        return refuse(in_words(got));
    }
    Ok(Some(Arc::clone(devices)))
}

/// What the devices answer to `nonce`.
///
/// # Errors
/// [`Refused::Quote`] if one of them gives no evidence, or a chain that cannot be read.
pub fn evidence(devices: &dyn Devices, nonce: &[u8; 32]) -> Result<Vec<DeviceEvidence>, Refused> {
    let reports = devices.reports(nonce).map_err(|e| Refused::Quote { code: e.code() })?;
    let read = |report: chrysalis_tee::DeviceReport| {
        let chain = match report.chain {
            DeviceChain::Der(der) => der,
            DeviceChain::Pem(pem) => {
                chain_from_pem(&pem).map_err(|e| Refused::Quote { code: e.code() })?
            }
        };
        Ok(DeviceEvidence { report: report.report, chain })
    };
    reports.into_iter().map(read).collect()
}

/// Evidence as it stands in a document.
#[must_use]
pub fn documents(set: &[DeviceEvidence]) -> Vec<DeviceDocument> {
    let write = |device: &DeviceEvidence| DeviceDocument {
        report: hex::encode(&device.report),
        chain: hex::encode(&device.chain),
    };
    set.iter().map(write).collect()
}

/// The `[device]` section of pins that accept exactly the devices in `document`, as they are; nothing
/// where the manifest names none. For the worker's appraisal of itself: that they are genuine and
/// answered this challenge. Whether they are acceptable is for the verifier's golden values.
///
/// # Errors
/// [`WorkerError::SelfAppraisal`] for devices that do not hang from their root.
pub fn own_pins(
    manifest: &WorkerManifest,
    document: &AttestationDocument,
    sim_root: Option<&[u8]>,
    now: UnixTime,
) -> Result<String, WorkerError> {
    let Some(DevicesSection { gpus, switches }) = manifest.devices else {
        return Ok(String::new());
    };
    let (root, line) = match sim_root {
        None => (DeviceRoot::Nvidia, String::new()),
        Some(der) => (
            DeviceRoot::InsecureSim(der.to_vec()),
            format!("sim_root = \"{}\"\n", hex::encode(der)),
        ),
    };
    let mut text = format!(
        "\n[device]\n{line}gpus = {gpus}\nswitches = {switches}\n\
         modes = [\"single\", \"multi\", \"protected-pcie\"]\nswitches_without_firmware = true\n"
    );
    for shown in &document.devices {
        let refused = |message: String| WorkerError::SelfAppraisal { code: CODE.into(), message };
        let read = |text: &str| hex::decode(text).map_err(|e| refused(e.to_string()));
        let evidence = DeviceEvidence { report: read(&shown.report)?, chain: read(&shown.chain)? };
        let device = Device::verify(&evidence, &root, now).map_err(|e| {
            WorkerError::SelfAppraisal { code: e.code().to_owned(), message: e.to_string() }
        })?;
        text += &golden(&device);
    }
    Ok(text)
}

/// Golden values that are what one device measured. What belongs to its driver and what to its VBIOS
/// only NVIDIA's manifests say, so all of it stands under the VBIOS.
fn golden(device: &Device) -> String {
    let (kind, opaque) = (device.kind(), device.opaque());
    let mut text = opaque.driver.as_ref().map_or_else(String::new, |driver| {
        format!(
            "\n[[device.driver]]\nkind = \"{kind}\"\nversion = {driver:?}\n\
             [device.driver.records]\n"
        )
    });
    text += &format!(
        "\n[[device.vbios]]\nkind = \"{kind}\"\nversion = {:?}\n[device.vbios.records]\n",
        opaque.vbios
    );
    for (index, record) in (1u8..).zip(device.records()) {
        text += &format!("{index} = [\"{}\"]\n", hex::encode(record));
    }
    text
}

fn in_words(DevicesSection { gpus, switches }: DevicesSection) -> String {
    format!("{gpus} GPUs and {switches} switches")
}

/// Code of devices that are not those of the manifest.
pub const CODE: &str = "E-DEVICES";
