//! The whole prediction: MRTD and RTMR0 to RTMR3 of one image in one shape with one manifest, with
//! every event, its status and the facts it was computed from.

use chrysalis_evidence::{Measurement, boot_events, event_digest};
use chrysalis_wire::{Digest, NetworkId};
use serde::{Deserialize, Serialize};

use super::acpi::AcpiFacts;
use super::bytes::bounded;
use super::ccel::EventLog;
use super::digest::Sha384Digest;
use super::error::TdxError;
use super::event::{Component, Event, Known, Rtmr};
use super::hob::HobLayout;
use super::image::MeasuredImage;
use super::mrtd::{PageOrder, mrtd};
use super::profile::FirmwareProfile;
use super::shape::Shape;
use super::status::Status::{self, ConfirmedByHardware, CrossChecked};
use super::tdvf::Tdvf;
use crate::error::MeasureError;

/// The measured parts of an image.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The TDVF file.
    pub firmware: &'a [u8],
    /// What that firmware measures.
    pub profile: FirmwareProfile,
    /// How the host adds pages; [`PageOrder::SinglePass`] unless it is an old one.
    pub page_order: PageOrder,
    /// `vmlinuz`.
    pub kernel: Content<'a>,
    /// The initrd.
    pub initrd: Content<'a>,
    /// The exact bytes of the kernel command line.
    pub cmdline: &'a [u8],
}

/// A measured file, or the digest its event has.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// The file.
    Bytes(&'a [u8]),
    /// The digest of its event: Authenticode SHA-384 of a kernel, SHA-384 of an initrd.
    Digest(Sha384Digest),
}

/// A predicted register and how it comes about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedRegister {
    /// Final value.
    pub value: Sha384Digest,
    /// The weakest status among its events.
    pub status: Status,
    /// Its events, in order.
    pub events: Vec<Event>,
}

/// A predicted MRTD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedMrtd {
    /// Value.
    pub value: Sha384Digest,
    /// The value on hosts with the other [`PageOrder`]; tells an old host from other firmware.
    pub other_order: Sha384Digest,
    /// Status.
    pub status: Status,
    /// Why, in words.
    pub evidence: String,
}

/// What a prediction was computed from; decides how a difference is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// SHA-256 of the firmware file.
    pub firmware_sha256: Digest,
    /// Firmware profile.
    pub profile: FirmwareProfile,
    /// Page order of the host.
    pub page_order: PageOrder,
    /// The variable store holds secure boot keys.
    pub enrolled: bool,
    /// Where the firmware keeps its first memory; with the size it gives the TD HOB.
    pub hob: HobLayout,
    /// Guest memory, in bytes.
    pub memory_bytes: u64,
    /// vCPUs.
    pub vcpus: u32,
    /// QEMU version of the tables.
    pub qemu: String,
    /// What the ACPI tables say, where they were at hand.
    pub acpi: Option<AcpiFacts>,
    /// Machine type, from SMBIOS.
    pub machine: Option<String>,
    /// Processor id, from SMBIOS.
    pub processor_id: Option<u64>,
    /// Digest of the filtered SMBIOS table with the processor id zeroed.
    pub smbios_without_processor: Option<Sha384Digest>,
    /// Network the manifest names.
    pub network: NetworkId,
    /// The kernel command line.
    pub cmdline: String,
    /// SHA-256 of the worker manifest.
    pub manifest_sha256: Digest,
    /// Model root the manifest names.
    pub model_root: Digest,
}

/// A complete prediction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxPrediction {
    /// [`PREDICTION_SCHEMA`].
    pub schema: String,
    /// MRTD.
    pub mrtd: PredictedMrtd,
    /// RTMR0 to RTMR3.
    pub rtmr: [PredictedRegister; 4],
    /// What it was computed from.
    pub facts: Facts,
}

/// Predicts every register.
///
/// # Errors
/// [`MeasureError::Manifest`], and [`MeasureError::Tdx`] for an image that cannot be measured or
/// cannot run in the shape.
pub fn predict_tdx(
    image: &Image<'_>,
    shape: &Shape,
    manifest: &[u8],
) -> Result<TdxPrediction, MeasureError> {
    MeasuredImage::of(image)?.complete(shape, manifest)
}

impl TdxPrediction {
    /// Reads a prediction document and checks that its registers follow from its events.
    ///
    /// # Errors
    /// [`TdxError::Prediction`] and limits.
    pub fn parse(json: &[u8]) -> Result<Self, TdxError> {
        bounded("prediction", json, MAX_PREDICTION_BYTES)?;
        let parsed: Self =
            serde_json::from_slice(json).map_err(|e| TdxError::Prediction(e.to_string()))?;
        if parsed.schema != PREDICTION_SCHEMA {
            return Err(TdxError::Prediction(format!("its schema is {:?}", parsed.schema)));
        }
        for (register, predicted) in Rtmr::ALL.into_iter().zip(&parsed.rtmr) {
            let replayed = Sha384Digest::replay(predicted.events.iter().map(|e| &e.digest));
            if replayed != predicted.value {
                let (replayed, quoted) = (Box::new(replayed), Box::new(predicted.value));
                return Err(TdxError::Replay { register, replayed, quoted });
            }
        }
        Ok(parsed)
    }

    /// MRTD and RTMR0 to RTMR3.
    #[must_use]
    pub fn registers(&self) -> Measurement {
        Measurement { mrtd: self.mrtd.value.0, rtmr: self.rtmr.each_ref().map(|r| r.value.0) }
    }

    /// The events of a register.
    #[must_use]
    pub fn events(&self, register: Rtmr) -> &[Event] {
        // The array has one element for each variant.
        self.rtmr.get(register.index()).map_or(&[], |r| &r.events)
    }

    /// Requires that a log has exactly the predicted events of RTMR0 to RTMR2, in order. An event
    /// nobody predicted is refused whatever it is; there is no wildcard.
    ///
    /// # Errors
    /// [`TdxError::UnknownEvent`], [`TdxError::EventDigest`] or [`TdxError::EventCount`] for the
    /// first difference.
    pub fn check_log(&self, log: &EventLog) -> Result<(), TdxError> {
        for register in [Rtmr::Rtmr0, Rtmr::Rtmr1, Rtmr::Rtmr2, Rtmr::Rtmr3] {
            // The firmware's log ends before PID 1 runs.
            let expected = if register == Rtmr::Rtmr3 { &[] } else { self.events(register) };
            let mut predicted = expected.iter();
            for (index, logged) in log.of(register).enumerate() {
                let unknown = TdxError::UnknownEvent { register, index, kind: logged.kind };
                let Some(component) = logged.component else { return Err(unknown) };
                let Some(event) = predicted.next() else { return Err(unknown) };
                if (component, logged.digest) != (event.component, event.digest) {
                    return Err(TdxError::EventDigest {
                        register,
                        index,
                        component: event.component.title(),
                        expected: Box::new(event.digest),
                        got: Box::new(logged.digest),
                    });
                }
            }
            if predicted.next().is_some() {
                let (expected, got) = (expected.len(), log.of(register).count());
                return Err(TdxError::EventCount { register, expected, got });
            }
        }
        Ok(())
    }
}

/// RTMR3: what PID 1 extends before any secret exists, from the formula the verifier uses.
pub(crate) fn worker_events(
    manifest: &Digest,
    model_root: &Digest,
) -> Result<Vec<Event>, MeasureError> {
    let components = [Component::Manifest, Component::ModelRoot];
    let mut out = Vec::new();
    for (component, event) in components.into_iter().zip(boot_events(manifest, model_root)) {
        let digest = Sha384Digest(event_digest(&event)?);
        out.push(Event::new(component, digest, WORKER, event.payload));
    }
    Ok(out)
}

pub(crate) fn register(events: Vec<Event>) -> PredictedRegister {
    let status = events.iter().map(|e| e.status).fold(ConfirmedByHardware, Status::weakest);
    let value = Sha384Digest::replay(events.iter().map(|e| &e.digest));
    PredictedRegister { value, status, events }
}

pub(crate) fn predicted_mrtd(
    tdvf: &Tdvf<'_>,
    order: PageOrder,
    firmware: &Digest,
) -> PredictedMrtd {
    let (single, legacy) = (mrtd(tdvf, PageOrder::SinglePass), mrtd(tdvf, PageOrder::LegacyHost));
    let (value, other_order) = match order {
        PageOrder::SinglePass => (single, legacy),
        PageOrder::LegacyHost => (legacy, single),
    };
    let pair = (firmware.to_string(), value.to_string());
    let seen = HARDWARE_MRTD.iter().any(|(f, m)| pair.0 == *f && pair.1 == *m);
    let (status, evidence) = if seen { MRTD_SEEN } else { MRTD_COMPUTED };
    PredictedMrtd { value, other_order, status, evidence: evidence.to_owned() }
}

/// Schema of a prediction document.
pub const PREDICTION_SCHEMA: &str = "chrysalis/tdx-prediction/v1";

/// Largest prediction document, in bytes; one is some 12 KiB.
pub const MAX_PREDICTION_BYTES: usize = 1 << 20;

/// Firmware files (SHA-256) whose MRTD was read from real TDs.
pub(crate) const HARDWARE_MRTD: [(&str, &str); 2] = [
    // Ubuntu ovmf 2025.02-3ubuntu2.
    (
        "9e807cb2cd4313406a3aa4becc0836671a5c64ca7bdc08a45e15260184b446bf",
        "7357a10d2e2724dffe68813e3cc4cfcde6814d749f2fb62e3953e54f6e0b50a219786afe2cd478f684b52c61\
         837e1114",
    ),
    // edk2-stable202602 IntelTdxX64 RELEASE.
    (
        "6e0fc1c5ce4b0052e1baaf1ab5ea005557a878f2f19625b9328ca24d64b52941",
        "d4f5ee3d5fe9a5a3cbb1df8c40946714f55d5918b9b0e9ecd82a1d8adeea668495901baee134e3152dd5e0e2\
         d1781262",
    ),
];

const MRTD_SEEN: Known =
    (ConfirmedByHardware, "this firmware file had this MRTD in a quote of a real TD");
const MRTD_COMPUTED: Known = (
    CrossChecked,
    "equal to a published constant and to an independent tool; no quote of this very file was seen",
);
const WORKER: Known = (
    CrossChecked,
    "the formula verifiers use, checked by an independent computation; no TD has run it yet",
);
