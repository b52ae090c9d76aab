//! Composes an image from verified inputs. A pure function over bytes: everything it may depend on
//! is an argument, so two callers with the same arguments get the same image.

use std::collections::BTreeMap;

use chrysalis_wire::{Digest, ImageConfig, ImagePlatform};

use crate::binary::{BinaryFault, check_kernel, check_program};
use crate::bytes::sha256;
use crate::cpio::{Archive, Node};
use crate::error::ImageError;
use crate::lock::{Lock, PinnedFile, Role};
use crate::manifest::{ImageInfo, ImageManifest, Input, Member, Part, Parts, RootInfo};
use crate::recipe::Recipe;
use crate::root::{ROOT_FILE, VERITY_FILE};
use crate::{deb, firmware};

/// The files of a whole image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// [`FIRMWARE_FILE`].
    pub firmware: Vec<u8>,
    /// [`KERNEL_FILE`].
    pub kernel: Vec<u8>,
    /// [`INITRD_FILE`].
    pub initrd: Vec<u8>,
    /// [`CMDLINE_FILE`].
    pub cmdline: Vec<u8>,
    /// [`ROOT_FILE`], in an image that has a root.
    pub root: Option<Vec<u8>>,
    /// [`VERITY_FILE`], in an image that has a root.
    pub verity: Option<Vec<u8>>,
    /// [`MANIFEST_FILE`].
    pub manifest: Vec<u8>,
}

impl Image {
    /// The files, each with the word that names its part and its name in the image directory.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, &'static str, &[u8])> {
        let mut files: Vec<(_, _, &[u8])> = vec![
            ("manifest", MANIFEST_FILE, &self.manifest),
            ("firmware", FIRMWARE_FILE, &self.firmware),
            ("kernel", KERNEL_FILE, &self.kernel),
            ("initrd", INITRD_FILE, &self.initrd),
            ("cmdline", CMDLINE_FILE, &self.cmdline),
        ];
        let root = [("root", ROOT_FILE, &self.root), ("verity", VERITY_FILE, &self.verity)];
        files.extend(
            root.into_iter().filter_map(|(part, name, b)| Some((part, name, b.as_deref()?))),
        );
        files
    }

    /// Size of all files together, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files().iter().map(|(_, _, bytes)| bytes.len() as u64).sum()
    }
}

/// Our own programs, static and stripped.
#[derive(Clone, Debug)]
pub struct Programs {
    /// PID 1.
    pub init: Vec<u8>,
    /// The worker.
    pub worker: Vec<u8>,
}

/// Pinned files by their own hash: what is found under a hash has it.
#[derive(Clone, Debug, Default)]
pub struct Inputs(BTreeMap<Digest, Vec<u8>>);

impl Inputs {
    /// The files that `lock` takes from its packages; `fetch` gives the bytes of one package.
    ///
    /// # Errors
    /// What `fetch` says, and [`ImageError::Deb`].
    pub fn collect(
        lock: &Lock,
        mut fetch: impl FnMut(&crate::Package) -> Result<Vec<u8>, ImageError>,
    ) -> Result<Self, ImageError> {
        let mut inputs = Self::default();
        for package in lock.packages() {
            let bytes = fetch(package)?;
            let files = deb::extract(&bytes, &package.files)
                .map_err(|fault| ImageError::Deb { package: package.label(), fault })?;
            for file in files {
                inputs.0.insert(sha256(&file), file);
            }
        }
        Ok(inputs)
    }

    /// Adds a file that no package has.
    pub fn add(&mut self, file: Vec<u8>) {
        self.0.insert(sha256(&file), file);
    }

    pub(crate) fn by_hash(&self, sha256: Digest) -> Option<&[u8]> {
        self.0.get(&sha256).map(Vec::as_slice)
    }

    pub(crate) fn get(&self, file: &PinnedFile) -> Result<&[u8], ImageError> {
        let missing = || ImageError::NoInput {
            package: file.path.clone(),
            sha256: file.sha256,
            tried: Vec::new(),
        };
        self.by_hash(file.sha256).ok_or_else(missing)
    }

    fn role(&self, lock: &Lock, role: Role) -> Result<&[u8], ImageError> {
        let found = lock.files().find(|(_, f)| f.role == role);
        let (_, file) = found.ok_or_else(|| {
            ImageError::field("lock file", "role", "missing", "every role that an image needs")
        })?;
        self.get(file)
    }
}

/// Composes the image of `recipe` for `platform`.
///
/// # Errors
/// [`ImageError`] if an input is missing, is not what its role needs, or would not run.
pub fn compose(
    recipe: &Recipe,
    lock: &Lock,
    inputs: &Inputs,
    programs: &Programs,
    platform: ImagePlatform,
    debug: bool,
) -> Result<Image, ImageError> {
    let firmware = firmware::compose(
        inputs.role(lock, Role::Firmware)?,
        inputs.role(lock, Role::VariableStore)?,
    )?;
    let kernel = inputs.role(lock, Role::Kernel)?.to_vec();
    let pinned_kernel = lock.files().find(|(_, f)| f.role == Role::Kernel);
    let release = pinned_kernel.and_then(|(_, f)| f.kernel_release()).unwrap_or_default();
    check_kernel(&kernel, release)?;
    check_program("init", &programs.init)?;
    check_worker(&programs.worker, platform)?;

    let modules = recipe.modules(platform, lock)?;
    let root = recipe.root.as_ref().map(|root| root.build(lock, inputs)).transpose()?;
    let section = root.as_ref().map(|root| root.section.clone());
    let (_, config) = recipe.config(platform, debug, lock, section)?;
    let archive = initrd(inputs, programs, &modules, config.as_bytes())?;
    let initrd = archive.to_bytes()?;
    let cmdline = recipe.cmdline(debug)?.into_bytes();
    let mut optional = modules;
    if let Some(root) = &recipe.root {
        optional.extend(root.pinned(lock)?);
    }
    let image = ImageInfo {
        flavour: recipe.flavour.clone(),
        platform,
        debug,
        firmware_profile: recipe.firmware_profile,
        qemu_min: recipe.qemu_min,
        kernel_release: release.to_owned(),
        parts: Parts {
            firmware: Part::of(FIRMWARE_FILE, &firmware),
            kernel: Part::of(KERNEL_FILE, &kernel),
            initrd: Part::of(INITRD_FILE, &initrd),
            cmdline: Part::of(CMDLINE_FILE, &cmdline),
            root: root.as_ref().map(|root| Part::of(ROOT_FILE, &root.data)),
            verity: root.as_ref().map(|root| Part::of(VERITY_FILE, &root.verity)),
        },
        members: archive.entries().map(|(path, entry)| Member::of(path, entry)).collect(),
        root: root.as_ref().map(|root| RootInfo::of(root.section.hash, &root.tree)),
        inputs: Input::of(lock, &optional),
    };
    let manifest = ImageManifest::new(image)?.to_bytes()?;
    let (root, verity) = root.map(|root| (root.data, root.verity)).unzip();
    Ok(Image { firmware, kernel, initrd, cmdline, root, verity, manifest })
}

/// The initial file system; everything the guest's user space consists of.
fn initrd(
    inputs: &Inputs,
    programs: &Programs,
    modules: &[&PinnedFile],
    config: &[u8],
) -> Result<Archive, ImageError> {
    let mut archive = Archive::default();
    for directory in DIRECTORIES {
        archive.add(directory, 0o755, Node::Directory)?;
    }
    // The kernel opens it for PID 1 before anything is mounted.
    archive.add("dev/console", 0o600, Node::CharDevice { major: 5, minor: 1 })?;
    archive.add(INIT_PATH, 0o555, Node::File(programs.init.clone()))?;
    archive.add(WORKER_PATH, 0o555, Node::File(programs.worker.clone()))?;
    archive.add(CONFIG_PATH, 0o444, Node::File(config.to_vec()))?;
    for module in modules {
        let path = format!("{MODULES_PATH}/{}", module.base_name());
        archive.add(&path, 0o444, Node::File(inputs.get(module)?.to_vec()))?;
    }
    Ok(archive)
}

/// A worker that signs under the public FAKE root has no place in an image that claims hardware.
pub(crate) fn check_worker(worker: &[u8], platform: ImagePlatform) -> Result<(), ImageError> {
    check_program("worker", worker)?;
    let simulated = worker.windows(SIMULATOR_MARK.len()).any(|w| w == SIMULATOR_MARK);
    if platform != ImagePlatform::InsecureSim && simulated {
        let fault = BinaryFault::Simulated { platform };
        return Err(ImageError::Binary { what: "worker", fault });
    }
    Ok(())
}

/// What the image tells its PID 1, as PID 1 would read it.
pub(crate) fn config_of(archive: &Archive) -> Result<ImageConfig, ImageError> {
    Ok(ImageConfig::parse(archive.file(CONFIG_PATH).unwrap_or_default())?)
}

/// TDVF firmware with a blank variable store.
pub const FIRMWARE_FILE: &str = "tdvf.fd";
/// The kernel.
pub const KERNEL_FILE: &str = "vmlinuz";
/// The initial file system.
pub const INITRD_FILE: &str = "initrd.cpio";
/// The kernel command line, without a newline.
pub const CMDLINE_FILE: &str = "cmdline";
/// What the image claims to be.
pub const MANIFEST_FILE: &str = "manifest.json";

/// PID 1 in the initrd.
pub const INIT_PATH: &str = "init";
/// The worker in the initrd.
pub const WORKER_PATH: &str = "chrysalis/worker";
/// The configuration of PID 1 in the initrd.
pub const CONFIG_PATH: &str = "chrysalis/image.toml";
/// The kernel modules in the initrd.
pub const MODULES_PATH: &str = "lib/modules";

/// Directories of the initrd; those without files are where PID 1 mounts.
const DIRECTORIES: &[&str] =
    &["chrysalis", "dev", "lib", "lib/modules", "proc", "run", "sys", "tmp"];

/// Name of the simulator's root certificate, which the simulated worker carries.
const SIMULATOR_MARK: &[u8] = b"INSECURE-SIM FAKE SGX Root CA";
