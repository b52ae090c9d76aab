//! Verifies an image directory: recomputes everything its manifest claims from the bytes beside it
//! and names the first part that is wrong. The bytes may come from anybody.

use chrysalis_wire::{CommandLine, Digest, ImageConfig};
use thiserror::Error;

use crate::binary::{check_kernel, check_program};
use crate::bytes::{sha256, slice};
use crate::compose::{
    CMDLINE_FILE, FIRMWARE_FILE, INIT_PATH, INITRD_FILE, Image, KERNEL_FILE, MODULES_PATH,
    WORKER_PATH, check_worker, config_of,
};
use crate::cpio::{Archive, CpioFault};
use crate::erofs::Tree;
use crate::error::ImageError;
use crate::firmware;
use crate::lock::Role;
use crate::manifest::{ImageInfo, ImageManifest, Member, Part, RootInfo};
use crate::recipe::check_cmdline;
use crate::root::{ROOT_FILE, Root, VERITY_FILE};

/// An image that is what its manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    manifest: ImageManifest,
    archive: Archive,
    cmdline: CommandLine,
    config: ImageConfig,
    root: Option<Tree>,
}

impl Verified {
    /// What it claimed, and is.
    #[must_use]
    pub const fn image(&self) -> &ImageInfo {
        self.manifest.image()
    }

    /// The name of exactly this image.
    #[must_use]
    pub const fn id(&self) -> Digest {
        self.manifest.id()
    }

    /// Its initial file system.
    #[must_use]
    pub const fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Its root, if it has one.
    #[must_use]
    pub const fn root(&self) -> Option<&Tree> {
        self.root.as_ref()
    }

    /// Its kernel command line.
    #[must_use]
    pub const fn cmdline(&self) -> &CommandLine {
        &self.cmdline
    }

    /// What its PID 1 is told.
    #[must_use]
    pub const fn config(&self) -> &ImageConfig {
        &self.config
    }
}

/// What is wrong with an image, by part.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// A file is missing.
    #[error("{part}: the file {file} is missing")]
    Missing {
        /// The part.
        part: &'static str,
        /// Its file name.
        file: &'static str,
    },
    /// The manifest is not one this program wrote.
    #[error("manifest: {reason}")]
    Manifest {
        /// What is wrong.
        reason: String,
    },
    /// It is another image than the one asked for.
    #[error("manifest: this is image {got}, not {expected}")]
    Id {
        /// The id asked for.
        expected: Digest,
        /// The id found.
        got: Digest,
    },
    /// A file of another size or hash.
    #[error("{part}: SHA-256 is {got}, the manifest says {expected}")]
    Hash {
        /// The part.
        part: &'static str,
        /// Hash in the manifest.
        expected: Digest,
        /// Hash of the file.
        got: Digest,
    },
    /// A file whose hash is right but which is no such part, or contradicts the manifest.
    #[error("{part}: {reason}")]
    Content {
        /// The part.
        part: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// An entry of the initrd that the manifest describes otherwise.
    #[error("initrd: {path} is {got}, the manifest says {expected}")]
    Member {
        /// Path of the entry.
        path: String,
        /// What the manifest says.
        expected: String,
        /// What is there.
        got: String,
    },
}

impl Fault {
    /// The part it is about: a word of [`crate::manifest::Parts::named`], or `manifest`.
    #[must_use]
    pub const fn part(&self) -> &'static str {
        match self {
            Self::Manifest { .. } | Self::Id { .. } => "manifest",
            Self::Missing { part, .. } | Self::Hash { part, .. } | Self::Content { part, .. } => {
                part
            }
            Self::Member { .. } => "initrd",
        }
    }

    /// The entry of the initrd it is about, where it can be named.
    #[must_use]
    pub fn member(&self) -> Option<&str> {
        match self {
            Self::Member { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// Verifies `image`; with `id`, that it is exactly that one.
///
/// Without an id an image can be whole and still be somebody else's.
///
/// # Errors
/// [`ImageError::Refused`] with the first part that is wrong.
pub fn verify(image: &Image, id: Option<Digest>) -> Result<Verified, ImageError> {
    check(image, id).map_err(ImageError::Refused)
}

fn check(image: &Image, id: Option<Digest>) -> Result<Verified, Fault> {
    let manifest = ImageManifest::parse(&image.manifest)
        .map_err(|e| Fault::Manifest { reason: e.to_string() })?;
    if let Some(expected) = id.filter(|id| *id != manifest.id()) {
        return Err(Fault::Id { expected, got: manifest.id() });
    }
    let info = manifest.image();
    check_part("firmware", FIRMWARE_FILE, &info.parts.firmware, &image.firmware)?;
    check_part("kernel", KERNEL_FILE, &info.parts.kernel, &image.kernel)?;
    check_part("cmdline", CMDLINE_FILE, &info.parts.cmdline, &image.cmdline)?;
    let archive = check_initrd(info, &image.initrd)?;

    let content = |part| move |reason: String| Fault::Content { part, reason };
    let layout =
        firmware::check(&image.firmware).map_err(|e| content("firmware")(e.to_string()))?;
    check_kernel(&image.kernel, &info.kernel_release)
        .map_err(|e| content("kernel")(e.to_string()))?;
    let cmdline =
        check_cmdline(&image.cmdline, info.debug).map_err(|e| content("cmdline")(e.to_string()))?;
    let store = slice(&image.firmware, 0, layout.variables).unwrap_or_default();
    check_inputs(info, sha256(store))?;
    let config = check_user_space(info, &archive).map_err(content("initrd"))?;
    let root = check_root(info, &config, image)?;
    Ok(Verified { cmdline, archive, config, root, manifest })
}

/// The root: there or not as manifest and measured configuration say alike, and what they say.
fn check_root(
    info: &ImageInfo,
    config: &ImageConfig,
    image: &Image,
) -> Result<Option<Tree>, Fault> {
    let parts = [
        ("root", ROOT_FILE, &info.parts.root, &image.root),
        ("verity", VERITY_FILE, &info.parts.verity, &image.verity),
    ];
    for (part, file, claimed, found) in parts {
        match (claimed, found) {
            (Some(claimed), Some(bytes)) => check_part(part, file, claimed, bytes)?,
            (Some(_), None) => return Err(Fault::Missing { part, file }),
            (None, Some(_)) => {
                let reason = format!("there is a file {file} that the manifest does not list");
                return Err(Fault::Content { part, reason });
            }
            (None, None) => {}
        }
    }
    match (&info.root, &config.root, &image.root, &image.verity) {
        (None, None, None, None) => Ok(None),
        (Some(claimed), Some(section), Some(data), Some(verity)) => {
            let tree = Root::check(data, verity, section)
                .map_err(|(part, reason)| Fault::Content { part, reason })?;
            if *claimed != RootInfo::of(section.hash, &tree) {
                let reason = "it describes another root than there is".to_owned();
                return Err(Fault::Manifest { reason });
            }
            Ok(Some(tree))
        }
        _ => {
            let reason = "manifest, image.toml and files do not agree on whether there is one";
            Err(Fault::Content { part: "root", reason: reason.to_owned() })
        }
    }
}

fn check_part(
    part: &'static str,
    file: &'static str,
    claimed: &Part,
    bytes: &[u8],
) -> Result<(), Fault> {
    if claimed.file != file {
        let reason = format!("the file of the {part} is {:?}, not {file:?}", claimed.file);
        return Err(Fault::Manifest { reason });
    }
    let (expected, got) = (claimed.sha256, sha256(bytes));
    if expected != got {
        return Err(Fault::Hash { part, expected, got });
    }
    if claimed.size != bytes.len() as u64 {
        let reason = format!("the {part} is {} bytes, not {}", bytes.len(), claimed.size);
        return Err(Fault::Manifest { reason });
    }
    Ok(())
}

/// The initrd is opened first: an entry that was changed can be named, a hash cannot.
fn check_initrd(info: &ImageInfo, bytes: &[u8]) -> Result<Archive, Fault> {
    let whole = check_part("initrd", INITRD_FILE, &info.parts.initrd, bytes);
    let archive = match Archive::parse(bytes) {
        Ok(archive) => archive,
        Err(fault) => return Err(near(info, bytes, fault)),
    };
    let found: Vec<Member> = archive.entries().map(|(p, e)| Member::of(p, e)).collect();
    let pairs = info.members.iter().zip(&found).find(|(claimed, found)| claimed != found);
    if let Some((claimed, found)) = pairs {
        return Err(Fault::Member {
            path: claimed.path.clone(),
            expected: say(claimed),
            got: if claimed.path == found.path { say(found) } else { found.path.clone() },
        });
    }
    if info.members.len() != found.len() {
        let extra = found.get(info.members.len()).or_else(|| info.members.get(found.len()));
        let there = |members: &[Member]| format!("one of {} entries", members.len());
        return Err(Fault::Member {
            path: extra.map(|m| m.path.clone()).unwrap_or_default(),
            expected: there(&info.members),
            got: there(&found),
        });
    }
    whole.map(|()| archive)
}

/// Says in which entry the archive stops being readable, by the sizes the manifest claims.
fn near(info: &ImageInfo, bytes: &[u8], fault: CpioFault) -> Fault {
    let CpioFault::NotCanonical { offset, .. } = &fault else {
        return Fault::Content { part: "initrd", reason: fault.to_string() };
    };
    let (offset, total) = (*offset as u64, bytes.len());
    let mut at = 0u64;
    for member in &info.members {
        at = at.saturating_add(crate::cpio::member_bytes(&member.path, member.size));
        if offset < at {
            let reason = format!("near the entry {}: {fault}", member.path);
            return Fault::Content { part: "initrd", reason };
        }
    }
    Fault::Content { part: "initrd", reason: format!("{fault} (of {total} bytes)") }
}

fn say(member: &Member) -> String {
    let Member { kind, mode, size, sha256, .. } = member;
    format!("{kind} {mode} {size} bytes {sha256}")
}

/// Where foreign bytes came from is a claim; that they are these bytes is not.
fn check_inputs(info: &ImageInfo, store: Digest) -> Result<(), Fault> {
    let wrong = |reason| Err(Fault::Manifest { reason });
    for role in [Role::Firmware, Role::VariableStore, Role::Kernel] {
        if info.inputs.iter().filter(|i| i.role == role).count() != 1 {
            return wrong(format!("there is not exactly one input of role {role}"));
        }
    }
    for input in &info.inputs {
        let name = input.path.rsplit('/').next().unwrap_or_default();
        let used = match input.role {
            // Its variable store is not in the image any more; its code is covered by the part.
            Role::Firmware => continue,
            Role::VariableStore => Some(store),
            Role::Kernel => Some(info.parts.kernel.sha256),
            Role::Module => {
                let path = format!("{MODULES_PATH}/{name}");
                info.members.iter().find(|m| m.path == path).map(|m| m.sha256)
            }
            // The recipe gave it another path.
            Role::Root => {
                let mut members = info.root.iter().flat_map(|root| &root.members);
                members.find(|m| m.sha256 == input.sha256).map(|m| m.sha256)
            }
        };
        if used != Some(input.sha256) {
            return wrong(format!("the input {} is not what the image uses", input.path));
        }
    }
    Ok(())
}

/// The initrd must say of itself what the manifest says of it, and hold nothing else.
fn check_user_space(info: &ImageInfo, archive: &Archive) -> Result<ImageConfig, String> {
    let say = |e: ImageError| e.to_string();
    let config = config_of(archive).map_err(say)?;
    if (config.platform, config.debug) != (info.platform, info.debug) {
        return Err(format!(
            "it is for {} (debug: {}), the manifest says {} (debug: {})",
            config.platform, config.debug, info.platform, info.debug
        ));
    }
    let program = |path: &str| archive.file(path).ok_or_else(|| format!("it has no /{path}"));
    check_program("init", program(INIT_PATH)?).map_err(say)?;
    check_worker(program(WORKER_PATH)?, info.platform).map_err(say)?;
    let prefix = format!("{MODULES_PATH}/");
    let mut files = 0usize;
    for (path, entry) in archive.entries() {
        let Some(name) = path.strip_prefix(&prefix) else { continue };
        files = files.saturating_add(1);
        let hash = entry.node.digest();
        if !config.modules.iter().any(|m| m.file == name && m.sha256 == hash) {
            return Err(format!("its image.toml does not list the module {name}"));
        }
    }
    if files != config.modules.len() {
        return Err(format!("{files} modules of {} listed are there", config.modules.len()));
    }
    Ok(config)
}
