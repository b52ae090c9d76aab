//! Who meets a byte in production: each gate runs the real code over the world as it is now and
//! says whether that refuses it, by code and component, or predicts another register.

use std::io::Cursor;

use chrysalis_evidence::{AllowSim, Appraiser, Collateral, Pins, RuleId};
use chrysalis_image::cpio::Archive;
use chrysalis_image::{ImageError, verify, verity};
use chrysalis_init::InitError;
use chrysalis_measure::MeasureError;
use chrysalis_measure::tdx::diff::{Side, compare};
use chrysalis_measure::tdx::{Component, Content, EventLog, Rtmr, Shape, TdxError, TdxPrediction};
use chrysalis_release::{INTOTO_FILE, Release, ReleaseError, VALUES_FILE};
use chrysalis_shape::{Capture, ShapeError};
use chrysalis_vault::{Bundle, VaultError};
use chrysalis_wire::{AttestationDocument, ImageConfig};

use crate::pid1;
use crate::world::{NOW, Object, World, model_key, predict};

/// Code that meets bytes of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// `chrysalis image verify`, and everything that reads an image directory.
    ImageVerify,
    /// `chrysalis measure image`, compared with the reference values.
    Measure,
    /// The same for a shape file with its capture.
    MeasureShape,
    /// The same for the blobs themselves, as QEMU would give them to the firmware.
    MeasureBlobs,
    /// The boot of the VM, up to the start of the worker.
    Pid1,
    /// The worker, as it loads its model.
    Vault,
    /// The worker, as it loads a sealed model.
    VaultWithKey,
    /// The hash tree of a root file system.
    Verity,
    /// A verifier with the event log of a TD.
    EventLog,
    /// A verifier with the evidence of a worker.
    Appraisal,
    /// `chrysalis release verify`.
    Release,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// Nothing was noticed.
    Accepted,
    /// Refused, by a stable code that names a component.
    Refused { code: &'static str, component: String },
    /// Measured, and not what the reference values say.
    Moved { register: String, component: String },
}

impl Met {
    /// Code or register, and component.
    pub(crate) fn named(&self) -> Option<(&str, &str)> {
        match self {
            Self::Accepted => None,
            Self::Refused { code, component } => Some((code, component)),
            Self::Moved { register, component } => Some((register, component)),
        }
    }

    fn refused(code: &'static str, component: impl Into<String>) -> Self {
        Self::Refused { code, component: component.into() }
    }
}

impl Gate {
    /// Lets the gate meet the world, of which only `changed` can have changed.
    pub(crate) fn meet(self, world: &World, changed: Object) -> Met {
        match self {
            Self::ImageVerify => image_verify(world),
            Self::Measure => measure(world, changed),
            Self::MeasureShape => measure_shape(world),
            Self::MeasureBlobs => match world.shape_of_blobs() {
                Ok(shape) => compared(world, in_shape(world, &shape)),
                Err(error) => refused_by_measure(&error),
            },
            Self::Pid1 => boot(world),
            Self::Vault => vault(world, Object::Bundle),
            Self::VaultWithKey => vault(world, Object::SealedBundle),
            Self::Verity => hash_tree(world),
            Self::EventLog => event_log(world),
            Self::Appraisal => appraisal(world),
            Self::Release => release(world),
        }
    }
}

fn image_verify(world: &World) -> Met {
    match verify(&world.image, Some(world.image_id)) {
        Ok(_) => Met::Accepted,
        Err(error) => {
            let ImageError::Refused(fault) = &error else { panic!("not a refusal: {error}") };
            Met::refused(error.code(), fault.member().unwrap_or_else(|| fault.part()))
        }
    }
}

/// Digests stand in for files that did not change: a kernel is not hashed again for a command line.
fn measure(world: &World, changed: Object) -> Met {
    let known = |component: Component| {
        let mut events = Rtmr::ALL.into_iter().flat_map(|r| world.reference.events(r));
        Content::Digest(events.find(|e| e.component == component).unwrap().digest)
    };
    let kernel = match changed {
        Object::Kernel => Content::Bytes(&world.image.kernel),
        _ => known(Component::Kernel),
    };
    let initrd = match changed {
        Object::Initrd => Content::Bytes(&world.image.initrd),
        _ => known(Component::Initrd),
    };
    let shape = world.shape_of_blobs().unwrap();
    let predicted = predict(&world.image, &shape, &world.worker_manifest, kernel, initrd);
    compared(world, predicted)
}

/// The unchanged image in another shape.
fn in_shape(world: &World, shape: &Shape) -> Result<TdxPrediction, MeasureError> {
    let [_, rtmr1, rtmr2, _] = &world.reference.rtmr;
    let (kernel, initrd) = (rtmr1.events[0].digest, rtmr2.events[1].digest);
    let (kernel, initrd) = (Content::Digest(kernel), Content::Digest(initrd));
    predict(&world.image, shape, &world.worker_manifest, kernel, initrd)
}

fn compared(world: &World, predicted: Result<TdxPrediction, MeasureError>) -> Met {
    let predicted = match predicted {
        Ok(predicted) => predicted,
        Err(MeasureError::Tdx(error)) => return refused_by_measure(&error),
        Err(other) => panic!("refused for another reason: {other}"),
    };
    let reference = Side::prediction("reference", &world.reference);
    let diff = compare(&reference, &Side::prediction("found", &predicted)).unwrap();
    let Some(first) = diff.differences.into_iter().next() else { return Met::Accepted };
    let component = first.event.map_or_else(|| "firmware".to_owned(), |e| e.component);
    Met::Moved { register: first.register, component }
}

fn refused_by_measure(error: &TdxError) -> Met {
    let component = match error {
        TdxError::Truncated { what, .. }
        | TdxError::Malformed { what, .. }
        | TdxError::TooLarge { what, .. } => what,
        TdxError::Section { .. }
        | TdxError::SectionOverlap { .. }
        | TdxError::SectionCount { .. }
        | TdxError::SectionOutsideMemory { .. } => "TDVF section",
        TdxError::StoredBootVariable { .. } => "stored variable",
        TdxError::Vcpus { .. } => "ACPI tables",
        TdxError::CommandLine { .. } => "command line",
        TdxError::Profile { .. } => "firmware profile",
        TdxError::EventDigest { component, .. } => component,
        TdxError::UnknownEvent { .. } | TdxError::EventCount { .. } => "event",
        TdxError::LogDigest { .. } | TdxError::LogRegister { .. } => "event log",
        _ => UNEXPECTED,
    };
    Met::refused(error.code(), component)
}

fn measure_shape(world: &World) -> Met {
    match shape_of_files(world) {
        Ok(shape) => compared(world, in_shape(world, &shape)),
        Err(met) => met,
    }
}

/// The shape as its two files say.
fn shape_of_files(world: &World) -> Result<Shape, Met> {
    let refused = |component: &str, error: &ShapeError| match error {
        ShapeError::BlobDigest { blob, .. } | ShapeError::BlobSize { blob, .. } => {
            Met::refused(error.code(), blob.fw_cfg_name())
        }
        _ => Met::refused(error.code(), component),
    };
    let shape = chrysalis_shape::Shape::parse(world.bytes(Object::ShapeFile))
        .map_err(|e| refused("shape file", &e))?;
    let capture =
        Capture::parse(world.bytes(Object::Capture), &shape).map_err(|e| refused("capture", &e))?;
    let profile: Result<chrysalis_measure::tdx::FirmwareProfile, _> =
        shape.firmware.profile.parse();
    profile.map_err(|e| refused_by_measure(&e))?;
    Shape::from_menu(&shape, &capture, &world.bios).map_err(|e| refused_by_measure(&e))
}

fn boot(world: &World) -> Met {
    let archive = world.archive();
    let line = String::from_utf8_lossy(&world.image.cmdline);
    // As the firmware of the image hands it to the kernel.
    let line = world.reference.facts.profile.load_options(&line);
    let booted = match pid1::run(&archive, &line, world.bytes(Object::ConfigDisk)) {
        Ok(booted) => booted,
        Err(error) => return refused_by_pid_1(&archive, &error),
    };
    if booted.rtmr3 != world.reference.registers().rtmr[3] {
        let component = Component::Manifest.title().to_owned();
        return Met::Moved { register: Rtmr::Rtmr3.to_string(), component };
    }
    // PID 1 hands the collateral on unread; whoever needs it reads it with this.
    match Collateral::parse(&booted.collateral) {
        Ok(_) => Met::Accepted,
        Err(error) => Met::refused(error.code(), "collateral"),
    }
}

fn refused_by_pid_1(archive: &Archive, error: &InitError) -> Met {
    let component = match error {
        InitError::ModuleHash { index, .. } => {
            let config = archive.file("chrysalis/image.toml").unwrap_or_default();
            ImageConfig::parse(config).unwrap().modules[*index].file.clone()
        }
        InitError::Image(_) => "image.toml".to_owned(),
        InitError::CommandLine(_) => "command line".to_owned(),
        InitError::Config(_) => "configuration disk".to_owned(),
        InitError::Manifest(_) => "worker manifest".to_owned(),
        _ => UNEXPECTED.to_owned(),
    };
    Met::refused(error.code(), component)
}

fn vault(world: &World, object: Object) -> Met {
    let (root, key) = match object {
        Object::SealedBundle => (world.sealed_root, Some(model_key())),
        _ => (world.model_root, None),
    };
    let loaded = Bundle::open(Cursor::new(world.bytes(object)))
        .and_then(|bundle| bundle.load(&root, key.as_ref(), &|_, _| ()));
    let Err(error) = loaded else { return Met::Accepted };
    let component = match &error {
        VaultError::ChunkHash(at) | VaultError::ChunkSeal(at) | VaultError::ChunkPadding(at) => {
            format!("chunk {}", at.index)
        }
        VaultError::TableHash { .. } | VaultError::TableSeal => "leaf table".to_owned(),
        VaultError::ManifestHash { .. } => "bundle manifest".to_owned(),
        VaultError::RootMismatch { .. } => "model root".to_owned(),
        VaultError::TrailerNotZero => "bundle padding".to_owned(),
        VaultError::NotABundle { .. }
        | VaultError::UnsupportedVersion { .. }
        | VaultError::HeaderField { .. }
        | VaultError::OverLimit { .. }
        | VaultError::Truncated { .. }
        | VaultError::TrailingBytes { .. }
        | VaultError::TotalLength { .. } => "bundle header".to_owned(),
        _ => UNEXPECTED.to_owned(),
    };
    Met::refused(error.code(), component)
}

fn hash_tree(world: &World) -> Met {
    let (data, tree) = (world.bytes(Object::FileSystem), world.bytes(Object::HashTree));
    let Err(fault) = verity::check(data, tree, world.verity_root) else { return Met::Accepted };
    let component = match &fault {
        verity::VerityFault::Data { .. } => "file system",
        verity::VerityFault::Tree { .. } => "hash tree",
        _ => UNEXPECTED,
    };
    Met::refused(ImageError::from(fault).code(), component)
}

fn event_log(world: &World) -> Met {
    let registers = world.reference.rtmr.each_ref().map(|r| r.value);
    let checked = EventLog::parse(world.bytes(Object::EventLog)).and_then(|log| {
        world.reference.check_log(&log)?;
        log.check_replay(&registers)
    });
    checked.map_or_else(|e| refused_by_measure(&e), |()| Met::Accepted)
}

fn appraisal(world: &World) -> Met {
    let Ok(pins) = std::str::from_utf8(world.bytes(Object::Pins)) else {
        // As the command that reads the file says it.
        return Met::refused("E-FILE-TEXT", "pins");
    };
    let pins = match Pins::parse(pins, AllowSim::Yes) {
        Ok(pins) => pins,
        Err(error) => return Met::refused(error.code(), "pins"),
    };
    let collateral = match Collateral::parse(world.bytes(Object::Collateral)) {
        Ok(collateral) => collateral,
        Err(error) => return Met::refused(error.code(), "collateral"),
    };
    let document: Result<AttestationDocument, _> =
        serde_json::from_slice(world.bytes(Object::Attestation));
    let Ok(document) = document else {
        return Met::refused("E-DOCUMENT", RuleId::Document.id());
    };
    let verdict = Appraiser::new(pins).appraise(&document, &world.session, &collateral, NOW);
    match verdict.result {
        Ok(_) => Met::Accepted,
        Err(refusal) => Met::refused(refusal.code, refusal.rule.id()),
    }
}

fn release(world: &World) -> Met {
    let [toml, corim, intoto, boc] =
        [Object::Values, Object::Corim, Object::InToto, Object::Boc].map(|o| world.bytes(o));
    let Err(error) = Release::verify(toml, corim, intoto, boc) else { return Met::Accepted };
    let component = match &error {
        ReleaseError::Disagrees { file, .. } => format!("{file} and {VALUES_FILE}"),
        ReleaseError::Malformed { file, .. } | ReleaseError::NotCanonical { file } => {
            (*file).to_owned()
        }
        ReleaseError::Value { field, .. } => match *field {
            // Fields that only a statement has.
            "_type" | "predicateType" | "subject.digest" => INTOTO_FILE.to_owned(),
            _ => VALUES_FILE.to_owned(),
        },
        ReleaseError::UnsupportedVersion { .. } | ReleaseError::Rtmr3 { .. } => {
            VALUES_FILE.to_owned()
        }
        _ => UNEXPECTED.to_owned(),
    };
    Met::refused(error.code(), component)
}

/// Refused, and by what no row expects.
const UNEXPECTED: &str = "unexpected";
