//! What an image measures by itself: MRTD, RTMR1 and RTMR2 depend on no shape and no workload, so
//! they are computed once and completed for each. The files may be anybody's.

use chrysalis_wire::{Digest, WorkerManifest};
use sha2::{Digest as _, Sha256};

use super::boot::{CommandLine, MAX_INITRD_BYTES, kernel_events, linux_events};
use super::bytes::bounded;
use super::digest::Sha384Digest;
use super::error::TdxError;
use super::firmware::firmware_events;
use super::hob::HobLayout;
use super::mrtd::PageOrder;
use super::pe::authenticode_sha384;
use super::predict::{
    Content, Facts, Image, PREDICTION_SCHEMA, PredictedMrtd, PredictedRegister, TdxPrediction,
    predicted_mrtd, register, worker_events,
};
use super::profile::FirmwareProfile;
use super::shape::Shape;
use super::smbios::BiosIdentity;
use super::tdvf::{SectionKind, Tdvf};
use super::varstore::StoredKeys;
use crate::error::MeasureError;

/// An image, measured as far as it alone decides.
#[derive(Clone, Debug)]
pub struct MeasuredImage<'a> {
    tdvf: Tdvf<'a>,
    profile: FirmwareProfile,
    page_order: PageOrder,
    firmware_sha256: Digest,
    cmdline: CommandLine,
    mrtd: PredictedMrtd,
    rtmr1: PredictedRegister,
    rtmr2: PredictedRegister,
}

impl<'a> MeasuredImage<'a> {
    /// Measures the parts of an image.
    ///
    /// # Errors
    /// [`TdxError`] for a part that cannot be measured.
    pub fn of(image: &Image<'a>) -> Result<Self, TdxError> {
        let tdvf = Tdvf::parse(image.firmware)?;
        let cmdline = CommandLine::parse(image.cmdline)?;
        let kernel = match image.kernel {
            Content::Bytes(bytes) => authenticode_sha384(bytes)?,
            Content::Digest(digest) => digest,
        };
        let initrd = match image.initrd {
            Content::Bytes(bytes) => {
                bounded("initrd", bytes, MAX_INITRD_BYTES)?;
                Sha384Digest::of(bytes)
            }
            Content::Digest(digest) => digest,
        };
        let firmware_sha256 = Digest(Sha256::digest(image.firmware).into());
        Ok(Self {
            mrtd: predicted_mrtd(&tdvf, image.page_order, &firmware_sha256),
            rtmr1: register(kernel_events(kernel)),
            rtmr2: register(linux_events(image.profile, &cmdline, initrd)),
            profile: image.profile,
            page_order: image.page_order,
            firmware_sha256,
            cmdline,
            tdvf,
        })
    }

    /// MRTD: the firmware.
    #[must_use]
    pub const fn mrtd(&self) -> &PredictedMrtd {
        &self.mrtd
    }

    /// RTMR1: the kernel.
    #[must_use]
    pub const fn rtmr1(&self) -> &PredictedRegister {
        &self.rtmr1
    }

    /// RTMR2: command line and initrd.
    #[must_use]
    pub const fn rtmr2(&self) -> &PredictedRegister {
        &self.rtmr2
    }

    /// How its firmware names itself in SMBIOS, if it is one we know.
    #[must_use]
    pub fn bios(&self) -> Option<BiosIdentity> {
        BiosIdentity::of_firmware(match self.page_order {
            PageOrder::SinglePass => &self.mrtd.value,
            PageOrder::LegacyHost => &self.mrtd.other_order,
        })
    }

    /// RTMR0 in a shape.
    ///
    /// # Errors
    /// [`TdxError`] for an image that cannot run in the shape.
    pub fn in_shape(&self, shape: &Shape) -> Result<PredictedRegister, TdxError> {
        Ok(register(firmware_events(&self.tdvf, self.profile, shape)?))
    }

    /// The whole prediction: in `shape`, with the worker manifest `manifest`.
    ///
    /// # Errors
    /// [`MeasureError::Manifest`], and [`MeasureError::Tdx`] as [`Self::in_shape`].
    pub fn complete(self, shape: &Shape, manifest: &[u8]) -> Result<TdxPrediction, MeasureError> {
        let parsed = WorkerManifest::parse(manifest)?;
        let manifest_sha256 = Digest(Sha256::digest(manifest).into());
        let rtmr0 = self.in_shape(shape)?;
        let rtmr3 = register(worker_events(&manifest_sha256, &parsed.model.root)?);
        let keys = StoredKeys::parse(self.tdvf.contents(self.tdvf.only(SectionKind::Cfv)?))?;
        let smbios = shape.tables.smbios();
        let smbios_without_processor = match smbios {
            Some(table) => Some(Sha384Digest::of(&table.filtered_without_processor_id()?)),
            None => None,
        };
        let facts = Facts {
            firmware_sha256: self.firmware_sha256,
            profile: self.profile,
            page_order: self.page_order,
            enrolled: !keys.is_blank(),
            hob: HobLayout::of(&self.tdvf)?,
            memory_bytes: shape.memory.bytes(),
            vcpus: shape.vcpus,
            qemu: shape.qemu.clone(),
            acpi: shape.tables.acpi_facts().copied(),
            machine: smbios.and_then(|s| s.machine()),
            processor_id: smbios.and_then(|s| s.processor_id()),
            smbios_without_processor,
            network: parsed.network,
            cmdline: self.cmdline.as_str().to_owned(),
            manifest_sha256,
            model_root: parsed.model.root,
        };
        Ok(TdxPrediction {
            schema: PREDICTION_SCHEMA.to_owned(),
            mrtd: self.mrtd,
            rtmr: [rtmr0, self.rtmr1, self.rtmr2, rtmr3],
            facts,
        })
    }
}
