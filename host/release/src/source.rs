//! Reference values computed from the files of an image, with the code that predicts a measurement
//! (`chrysalis measure image`): an auditor gets the same values from the same files, with no TEE
//! and no word of the publisher's. The files may be anybody's; the image is verified first.

use chrysalis_evidence::{AllowSim, boot_events, replay_rtmr};
use chrysalis_image::compose::MANIFEST_FILE;
use chrysalis_image::{Image, ImageInfo, verify};
use chrysalis_measure::tdx::{
    BiosIdentity, Content, FirmwareProfile, Image as Measured, MeasuredImage, PageOrder,
    Shape as Vm, Status,
};
use chrysalis_shape::{Capture, Menu, QemuVersion};
use chrysalis_wire::{Digest, ImagePlatform, RegisterValue, WorkerManifest};
use sha2::{Digest as _, Sha256};

use crate::error::ReleaseError;
use crate::provenance::SourceCommit;
use crate::values::{Part, Sgx, Shape, Tdx, VALUES_VERSION, ValueStatus, Values, Workload, name};

/// What no file says about a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Name of the release, as `0.1.0`.
    pub release: String,
    /// The commit it is built from.
    pub source: Option<SourceCommit>,
    /// The Rust toolchain that built its programs.
    pub toolchain: Option<String>,
}

/// What the values of a release are computed from.
#[derive(Clone, Debug)]
pub struct Ingredients<'a> {
    /// The files of the image, unverified.
    pub image: &'a Image,
    /// How its firmware names itself in SMBIOS; asked for only where the firmware is not known.
    pub bios: Option<&'a BiosIdentity>,
    /// The shapes to predict for.
    pub shapes: &'a [SelectedShape],
    /// Worker manifests the release vouches for. None is usual: an image serves any manifest, and
    /// manifests, with their prices and networks, belong to the operators.
    pub workloads: &'a [Workload],
    /// The enclave of the release, measured.
    pub sgx: Option<Sgx>,
}

/// A shape of the menu under one QEMU version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedShape {
    shape: chrysalis_shape::Shape,
    capture: Capture,
}

impl SelectedShape {
    /// A shape under every QEMU version it was captured from, or under `qemu` alone.
    ///
    /// # Errors
    /// [`ReleaseError::Shape`]: unknown, or never captured; there is no RTMR0 without tables.
    pub fn named(
        menu: &Menu,
        name: &str,
        qemu: Option<QemuVersion>,
    ) -> Result<Vec<Self>, ReleaseError> {
        let shape = menu.shape(name)?;
        let captures = match (qemu, menu.captures(name)) {
            (Some(qemu), _) => vec![menu.capture(name, qemu)?],
            // Refused, with the versions there are.
            (None, []) => vec![menu.capture(name, QemuVersion { major: 0, minor: 0, micro: 0 })?],
            (None, captures) => captures.iter().collect(),
        };
        let of = |capture: &Capture| Self { shape: shape.clone(), capture: capture.clone() };
        Ok(captures.into_iter().map(of).collect())
    }

    /// Every shape of the menu that was captured, and the names of those that were not.
    #[must_use]
    pub fn all(menu: &Menu) -> (Vec<Self>, Vec<String>) {
        let (mut selected, mut described) = (Vec::new(), Vec::new());
        for shape in menu.shapes() {
            let captures = menu.captures(&shape.name);
            if captures.is_empty() {
                described.push(shape.name.clone());
            }
            let of = |capture: &Capture| Self { shape: shape.clone(), capture: capture.clone() };
            selected.extend(captures.iter().map(of));
        }
        (selected, described)
    }
}

impl Workload {
    /// The workload of a worker manifest. It is called after the model served unless `called` says
    /// otherwise.
    ///
    /// # Errors
    /// [`ReleaseError::Manifest`] for a manifest that no worker accepts, [`ReleaseError::Value`]
    /// for a name that a release cannot have.
    pub fn of(manifest: &[u8], called: Option<&str>) -> Result<Self, ReleaseError> {
        let parsed = WorkerManifest::parse(manifest)?;
        let called = called.unwrap_or(&parsed.model.name);
        name("workload.name", called)?;
        let manifest_sha256 = Digest(Sha256::digest(manifest).into());
        let events = boot_events(&manifest_sha256, &parsed.model.root);
        Ok(Self {
            name: called.to_owned(),
            manifest_sha256,
            model_root: parsed.model.root,
            rtmr3: RegisterValue(replay_rtmr(&events)?),
        })
    }
}

impl Values {
    /// Computes the values of a release.
    ///
    /// # Errors
    /// [`ReleaseError::Image`] for an image that is not what its manifest says,
    /// [`ReleaseError::Simulated`] for one for simulation unless `sim` allows it, and
    /// [`ReleaseError::Measure`] or [`ReleaseError::Bios`] for one that cannot be predicted.
    pub fn of_image(
        label: &Label,
        ingredients: &Ingredients<'_>,
        sim: AllowSim,
    ) -> Result<Self, ReleaseError> {
        let verified = verify(ingredients.image, None)
            .map_err(|error| ReleaseError::Image { error: Box::new(error), moved: None })?;
        if verified.image().platform == ImagePlatform::InsecureSim && sim != AllowSim::Yes {
            return Err(ReleaseError::Simulated);
        }
        Self::of_verified(label, ingredients, verified.image())
    }

    /// The values of an image that is what `info`, from its own manifest, says.
    pub(crate) fn of_verified(
        label: &Label,
        ingredients: &Ingredients<'_>,
        info: &ImageInfo,
    ) -> Result<Self, ReleaseError> {
        let Ingredients { image, shapes, workloads, .. } = ingredients;
        let measured = measured(image, info.firmware_profile.to_string().parse()?)?;
        let known = measured.bios();
        let mut predicted = Vec::new();
        for SelectedShape { shape, capture } in *shapes {
            let bios = ingredients.bios.or(known.as_ref()).ok_or(ReleaseError::Bios)?;
            let rtmr0 = measured.in_shape(&Vm::from_menu(shape, capture, bios)?)?;
            predicted.push(Shape {
                name: shape.name.clone(),
                qemu: capture.qemu.to_string(),
                rtmr0: RegisterValue(rtmr0.value.0),
                status: rtmr0.status.into(),
            });
        }
        let [mrtd, rtmr1, rtmr2] = registers(&measured);
        let statuses = [measured.rtmr1().status, measured.rtmr2().status];
        let status = statuses.into_iter().fold(measured.mrtd().status, Status::weakest);
        let named = info.parts.named().into_iter();
        let mut parts: Vec<Part> = named
            .map(|(_, p)| Part { name: p.file.clone(), bytes: p.size, sha256: p.sha256 })
            .collect();
        parts.push(Part::of(MANIFEST_FILE, &image.manifest));
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        let values = Self {
            version: VALUES_VERSION,
            release: label.release.clone(),
            platform: info.platform,
            debug: info.debug,
            firmware_profile: info.firmware_profile.to_string(),
            source: label.source.clone(),
            toolchain: label.toolchain.clone(),
            tdx: Some(Tdx { mrtd, rtmr1, rtmr2, status: status.into() }),
            sgx: ingredients.sgx.clone(),
            parts,
            shapes: predicted,
            workloads: workloads.to_vec(),
        };
        values.check()?;
        Ok(values)
    }
}

/// The image as prediction wants it, on the hosts that are supported.
pub(crate) fn measured(
    image: &Image,
    profile: FirmwareProfile,
) -> Result<MeasuredImage<'_>, ReleaseError> {
    Ok(MeasuredImage::of(&Measured {
        firmware: &image.firmware,
        profile,
        page_order: PageOrder::SinglePass,
        kernel: Content::Bytes(&image.kernel),
        initrd: Content::Bytes(&image.initrd),
        cmdline: &image.cmdline,
    })?)
}

/// MRTD, RTMR1 and RTMR2.
pub(crate) fn registers(measured: &MeasuredImage<'_>) -> [RegisterValue; 3] {
    [measured.mrtd().value, measured.rtmr1().value, measured.rtmr2().value]
        .map(|digest| RegisterValue(digest.0))
}

impl Part {
    pub(crate) fn of(file: &str, bytes: &[u8]) -> Self {
        let sha256 = Digest(Sha256::digest(bytes).into());
        Self { name: file.to_owned(), bytes: bytes.len() as u64, sha256 }
    }
}

impl From<Status> for ValueStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::ConfirmedByHardware => Self::ConfirmedByHardware,
            Status::CrossChecked => Self::CrossChecked,
            Status::Inferred => Self::Inferred,
        }
    }
}
