//! One honest release with everything around it: image, shape, bundle, disks, evidence, policy and
//! reference values, and what each of them is expected to be. The matrix changes one bit at a time.

use std::path::{Path, PathBuf};

use chrysalis_evidence::{
    Binding, Role as Peer, Session, boot_events, event_digest, keyset_digest, sim,
};
use chrysalis_image::compose::{Inputs, WORKER_PATH};
use chrysalis_image::cpio::Archive;
use chrysalis_image::{Image, Lock, Programs, Recipe, Store, compose, verify, verity};
use chrysalis_measure::tdx::{
    AcpiBlobs, BiosIdentity, Content, FirmwareProfile, Image as Parts, PageOrder, Shape,
    ShapeTables, SmbiosTable, Tdvf, TdxPrediction, mrtd, predict_tdx,
};
use chrysalis_measure::{pins_for, predict_process};
use chrysalis_release::{Part, Release, Tdx, ValueStatus, Values, Workload};
use chrysalis_shape::{Capture, Menu};
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::{SimPlatform, collateral, sim_root_der};
use chrysalis_vault::{AssetSource, ModelKey, PackFile, PackInput, pack, pack_sealed};
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::{
    AttestationDocument, ConfigDisk, Digest, ImagePlatform, KeyId, KeyRole, Keyset, NetworkId,
    RegisterValue, SealKeyEntry, SuiteId, UnixTime,
};
use sha2::{Digest as _, Sha256};

use crate::log;
use crate::stand_in::{self, noise, program, sha256};

/// Everything that lies somewhere a byte of it could be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Firmware,
    Kernel,
    Initrd,
    CommandLine,
    ImageManifest,
    ShapeFile,
    Capture,
    AcpiLoader,
    AcpiRsdp,
    AcpiTables,
    Smbios,
    EventLog,
    ConfigDisk,
    Bundle,
    SealedBundle,
    FileSystem,
    HashTree,
    Attestation,
    Collateral,
    Pins,
    Values,
    Corim,
    InToto,
    Boc,
}

/// The honest release.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) image: Image,
    /// All that is no file of the image.
    others: Vec<(Object, Vec<u8>)>,
    pub(crate) image_id: Digest,
    pub(crate) bios: BiosIdentity,
    pub(crate) worker_manifest: Vec<u8>,
    /// What the whole is predicted to measure.
    pub(crate) reference: TdxPrediction,
    pub(crate) model_root: Digest,
    pub(crate) sealed_root: Digest,
    pub(crate) verity_root: Digest,
    pub(crate) session: Session,
}

impl World {
    /// The image of this tree's recipe over the pinned packages, with small programs in place of
    /// ours; `None` where there are no packages. A variable that names no directory is a mistake.
    pub(crate) fn pinned() -> Option<Self> {
        let tree = chrysalis_tests::root();
        let given = std::env::var_os("CHRYSALIS_INPUTS").map(PathBuf::from);
        if let Some(given) = &given {
            assert!(given.is_dir(), "CHRYSALIS_INPUTS names no directory: {}", given.display());
        }
        let inputs = given.unwrap_or_else(|| tree.join("../shared/inputs"));
        if !inputs.is_dir() {
            eprintln!("skipped: there is no directory of pinned packages (CHRYSALIS_INPUTS)");
            return None;
        }
        let read = |name: &str| std::fs::read(tree.join("images").join(name)).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let store = Store {
            cache: cache.path().to_path_buf(),
            directories: vec![inputs],
            mirror: false,
            snapshot: None,
        };
        let (recipe, lock) = (read("cpu.toml"), Lock::parse(&read("cpu.lock.toml")).unwrap());
        let inputs = Inputs::collect(&lock, |p| store.fetch(p, &mut |_| {})).unwrap();
        Some(Self::of(&Recipe::parse(&recipe).unwrap(), &lock, &inputs))
    }

    /// The same of stand-ins.
    pub(crate) fn synthetic() -> Self {
        let (lock, debs) = stand_in::packages();
        let at = |p: &_| lock.packages().iter().position(|q| q == p).unwrap();
        let inputs = Inputs::collect(&lock, |p| Ok(debs[at(p)].clone())).unwrap();
        Self::of(&Recipe::parse(stand_in::RECIPE.as_bytes()).unwrap(), &lock, &inputs)
    }

    fn of(recipe: &Recipe, lock: &Lock, inputs: &Inputs) -> Self {
        let programs = Programs { init: program(1), worker: program(2) };
        // PID 1 boots it here, and on hardware there is none.
        let platform = ImagePlatform::InsecureSim;
        let image = compose(recipe, lock, inputs, &programs, platform, false).unwrap();
        let image_id = verify(&image, None).unwrap().id();
        let own_firmware = mrtd(&Tdvf::parse(&image.firmware).unwrap(), PageOrder::SinglePass);
        let bios = BiosIdentity::of_firmware(&own_firmware).unwrap_or_else(|| BiosIdentity {
            vendor: "somebody".to_owned(),
            version: "1".to_owned(),
            date: "01/01/2026".to_owned(),
        });

        let (bundle, model_root) = bundle();
        let (sealed, sealed_root) = bundle_sealed();
        let worker_manifest = worker_manifest(model_root);
        let file_system = noise(31, 300 * verity::BLOCK_BYTES);
        let tree = verity::build(&file_system).unwrap();

        let (shape_file, capture_file) = published();
        let shape = chrysalis_shape::Shape::parse(&shape_file).unwrap();
        let capture = Capture::parse(&capture_file, &shape).unwrap();
        let reference = predict(
            &image,
            &Shape::from_menu(&shape, &capture, &bios).unwrap(),
            &worker_manifest,
            Content::Bytes(&image.kernel),
            Content::Bytes(&image.initrd),
        )
        .unwrap();

        let bundle_of_collateral = collateral(NOW).into_bytes();
        let disk = ConfigDisk::new(worker_manifest.clone(), bundle_of_collateral.clone()).unwrap();
        let archive = Archive::parse(&image.initrd).unwrap();
        let worker = archive.file(WORKER_PATH).unwrap();
        let process = predict_process(worker, &worker_manifest).unwrap();
        let (attestation, session) = attest(worker, &worker_manifest, model_root);
        let release = Release::build(values(&image, &reference, &worker_manifest)).unwrap();
        let blob = |blob: &chrysalis_shape::Blob| blob.bytes().to_vec();
        let others = vec![
            (Object::ShapeFile, shape_file),
            (Object::Capture, capture_file),
            (Object::AcpiLoader, blob(&capture.blobs.table_loader)),
            (Object::AcpiRsdp, blob(&capture.blobs.rsdp)),
            (Object::AcpiTables, blob(&capture.blobs.tables)),
            (Object::Smbios, blob(&capture.blobs.smbios)),
            (Object::EventLog, log::of(&reference)),
            (Object::ConfigDisk, disk.encode()),
            (Object::Bundle, bundle),
            (Object::SealedBundle, sealed),
            (Object::FileSystem, file_system),
            (Object::HashTree, tree.bytes),
            (Object::Attestation, serde_json::to_vec(&attestation).unwrap()),
            (Object::Collateral, bundle_of_collateral),
            (Object::Pins, pins_for(&process, "honest", &sim_root_der()).unwrap().into_bytes()),
            (Object::Values, release.toml),
            (Object::Corim, release.corim),
            (Object::InToto, release.intoto),
            (Object::Boc, release.boc),
        ];
        let verity_root = tree.root;
        Self {
            image,
            others,
            image_id,
            bios,
            worker_manifest,
            reference,
            model_root,
            sealed_root,
            verity_root,
            session,
        }
    }

    pub(crate) fn bytes(&self, object: Object) -> &[u8] {
        match object {
            Object::Firmware => &self.image.firmware,
            Object::Kernel => &self.image.kernel,
            Object::Initrd => &self.image.initrd,
            Object::CommandLine => &self.image.cmdline,
            Object::ImageManifest => &self.image.manifest,
            other => &self.others.iter().find(|(o, _)| *o == other).unwrap().1,
        }
    }

    /// Flips one bit; flipping it again undoes it.
    pub(crate) fn flip(&mut self, object: Object, at: usize, bit: u8) {
        let bytes = match object {
            Object::Firmware => &mut self.image.firmware,
            Object::Kernel => &mut self.image.kernel,
            Object::Initrd => &mut self.image.initrd,
            Object::CommandLine => &mut self.image.cmdline,
            Object::ImageManifest => &mut self.image.manifest,
            other => &mut self.others.iter_mut().find(|(o, _)| *o == other).unwrap().1,
        };
        bytes[at] ^= 1 << bit;
    }

    /// The user space of the image.
    pub(crate) fn archive(&self) -> Archive {
        Archive::parse(&self.image.initrd).unwrap()
    }

    /// The shape as its raw blobs now say, without the digests that guard them.
    pub(crate) fn shape_of_blobs(&self) -> Result<Shape, chrysalis_measure::tdx::TdxError> {
        let blob = |object| self.bytes(object).to_vec();
        let acpi = AcpiBlobs::new(
            blob(Object::AcpiLoader),
            blob(Object::AcpiRsdp),
            blob(Object::AcpiTables),
        )?;
        let smbios = SmbiosTable::parse(self.bytes(Object::Smbios))?.with_bios(&self.bios)?;
        let published = chrysalis_shape::Shape::parse(&published().0).unwrap();
        let capture = Capture::parse(&published_capture(), &published).unwrap();
        let shape = Shape::from_menu(&published, &capture, &self.bios)?;
        Ok(Shape { tables: ShapeTables::Blobs { acpi, smbios }, ..shape })
    }
}

/// Predicts the registers of an image in a shape.
pub(crate) fn predict(
    image: &Image,
    shape: &Shape,
    manifest: &[u8],
    kernel: Content<'_>,
    initrd: Content<'_>,
) -> Result<TdxPrediction, chrysalis_measure::MeasureError> {
    let parts = Parts {
        firmware: &image.firmware,
        profile: FirmwareProfile::Stable202605,
        page_order: PageOrder::SinglePass,
        kernel,
        initrd,
        cmdline: &image.cmdline,
    };
    predict_tdx(&parts, shape, manifest)
}

/// The shape file and the capture of the published menu, as they lie in the tree.
fn published() -> (Vec<u8>, Vec<u8>) {
    let file = shapes().join(format!("{SHAPE}.toml"));
    (std::fs::read(file).unwrap(), published_capture())
}

fn published_capture() -> Vec<u8> {
    let menu = Menu::published().unwrap();
    let [capture] = menu.captures(SHAPE) else { panic!("{SHAPE} has several captures") };
    std::fs::read(shapes().join(SHAPE).join(format!("qemu-{}.toml", capture.qemu))).unwrap()
}

fn shapes() -> PathBuf {
    chrysalis_tests::root().join(Path::new("manifests/shapes"))
}

/// The key of the sealed bundle.
pub(crate) fn model_key() -> ModelKey {
    ModelKey::from_bytes(&[0x4b; 32]).unwrap()
}

fn input(weights: &[u8]) -> PackInput<'_> {
    PackInput {
        name: "Example".to_owned(),
        architecture: "llama".to_owned(),
        quantisation: None,
        tokenizer: AssetSource::None,
        chat_template: AssetSource::None,
        licence: None,
        files: vec![PackFile::new("model.bin", std::io::Cursor::new(weights))],
    }
}

/// Three chunks, the last one short.
fn bundle() -> (Vec<u8>, Digest) {
    let (weights, mut out) = (noise(21, (2 << 20) + 77_777), Vec::new());
    let report = pack(input(&weights), &mut out, &|_, _| ()).unwrap();
    (out, report.model_root)
}

fn bundle_sealed() -> (Vec<u8>, Digest) {
    let (weights, mut out) = (noise(22, (1 << 20) + 77), Vec::new());
    let key = model_key();
    let report = pack_sealed(input(&weights), &mut out, &key, [0x5a; 32], &|_, _| ()).unwrap();
    (out, report.model_root)
}

fn worker_manifest(root: Digest) -> Vec<u8> {
    format!(
        "version = 1\nnetwork = {}\nregistry = \"{}\"\n\n[model]\nname = \"m\"\nroot = \"{root}\"\n\
         sealed = false\n\n[limits]\nrequest_bytes = 65536\ncontext_tokens = 2048\n\
         completion_tokens = 512\nconcurrent_requests = 4\n\n[prices]\nprompt = 1\ncached = 1\n\
         completion = 8\nreasoning = 8\n",
        NetworkId::INSECURE_SIM.0,
        "0".repeat(64)
    )
    .into_bytes()
}

/// What the worker of the image answers to one challenge on the simulated platform.
fn attest(worker: &[u8], manifest: &[u8], model_root: Digest) -> (AttestationDocument, Session) {
    let session = Session { nonce: [0xab; 32], tls_spki: Digest([0x5b; 32]), exporter: [0xcd; 32] };
    let public = vec![9; 32];
    let id = Sha256::new().chain_update(0x0020u16.to_be_bytes()).chain_update(&public).finalize();
    let keyset = Keyset {
        network: NetworkId::INSECURE_SIM,
        meter_key: [1; 32],
        tls_spki: session.tls_spki,
        seal_keys: vec![SealKeyEntry {
            id: KeyId(*id.first_chunk().unwrap()),
            suite: SuiteId::X25519,
            role: KeyRole::Worker,
            not_before: NOW,
            not_after: UnixTime(NOW.0 + 3600),
            public,
        }],
    }
    .encode();
    let platform = SimPlatform::new(worker);
    let events = boot_events(&sha256(manifest), &model_root);
    for event in &events {
        platform.extend_runtime(&event_digest(event).unwrap()).unwrap();
    }
    let binding = Binding {
        role: Peer::Server,
        tls_spki: session.tls_spki,
        nonce: session.nonce,
        exporter: session.exporter,
        keyset_digest: keyset_digest(&keyset),
        device_digest: Digest([0; 32]),
    };
    let document = AttestationDocument {
        schema: ATTESTATION_SCHEMA.to_owned(),
        platform: sim::PLATFORM.to_owned(),
        quote: hex::encode(platform.quote(&binding.report_data().0).unwrap()),
        keyset: hex::encode(keyset),
        manifest: hex::encode(manifest),
        events: events.to_vec(),
        devices: Vec::new(),
        batch: None,
    };
    (document, session)
}

/// Reference values of the release.
fn values(image: &Image, reference: &TdxPrediction, manifest: &[u8]) -> Values {
    let registers = reference.registers();
    let [rtmr0, rtmr1, rtmr2, rtmr3] = registers.rtmr.map(RegisterValue);
    let status = ValueStatus::Inferred;
    Values {
        version: chrysalis_release::VALUES_VERSION,
        release: "0.1.0".to_owned(),
        platform: ImagePlatform::InsecureSim,
        debug: false,
        source: None,
        toolchain: None,
        firmware_profile: reference.facts.profile.to_string(),
        tdx: Some(Tdx { mrtd: RegisterValue(registers.mrtd), rtmr1, rtmr2, status }),
        sgx: None,
        parts: image
            .files()
            .into_iter()
            .map(|(_, name, bytes)| Part {
                name: name.to_owned(),
                bytes: bytes.len() as u64,
                sha256: sha256(bytes),
            })
            .collect(),
        shapes: vec![chrysalis_release::Shape {
            name: SHAPE.to_owned(),
            qemu: reference.facts.qemu.clone(),
            rtmr0,
            status,
        }],
        workloads: vec![Workload {
            name: "m".to_owned(),
            manifest_sha256: sha256(manifest),
            model_root: reference.facts.model_root,
            rtmr3,
        }],
    }
}

/// 2026-03-01.
pub(crate) const NOW: UnixTime = UnixTime(1_772_323_200);
const SHAPE: &str = "cpu-2";
