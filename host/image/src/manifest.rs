//! `manifest.json`: what an image claims to be. It has one spelling and an id over all it says, so
//! whoever holds the id holds the image; nothing in it is believed before [`crate::verify`].

use chrysalis_measure::tdx::FirmwareProfile;
use chrysalis_shape::QemuVersion;
use chrysalis_wire::{Digest, ImagePlatform};
use serde::{Deserialize, Serialize};

use crate::bytes::sha256;
use crate::error::ImageError;
use crate::lock::{Lock, Role};

/// A manifest and its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageManifest {
    schema: String,
    id: Digest,
    image: ImageInfo,
}

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInfo {
    /// Name of the kind of image, as `cpu`.
    pub flavour: String,
    /// What it runs on; `insecure-sim` proves nothing.
    pub platform: ImagePlatform,
    /// A debug image is another image and says so.
    pub debug: bool,
    /// How its firmware measures.
    pub firmware_profile: FirmwareProfile,
    /// Oldest QEMU whose measurements are predicted.
    pub qemu_min: QemuVersion,
    /// Release of the kernel and its modules.
    pub kernel_release: String,
    /// The files of the image.
    pub parts: Parts,
    /// Every entry of the initrd, in order.
    pub members: Vec<Member>,
    /// The root, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootInfo>,
    /// Where foreign bytes came from.
    pub inputs: Vec<Input>,
}

/// The files of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// TDVF firmware with a blank variable store.
    pub firmware: Part,
    /// The kernel.
    pub kernel: Part,
    /// The initial file system.
    pub initrd: Part,
    /// The kernel command line.
    pub cmdline: Part,
    /// The file system of the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Part>,
    /// Its hash tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verity: Option<Part>,
}

impl Parts {
    /// The parts, each with the word that names it.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, &Part)> {
        let mut named = vec![
            ("firmware", &self.firmware),
            ("kernel", &self.kernel),
            ("initrd", &self.initrd),
            ("cmdline", &self.cmdline),
        ];
        let root = [("root", &self.root), ("verity", &self.verity)];
        named.extend(root.into_iter().filter_map(|(name, part)| Some((name, part.as_ref()?))));
        named
    }
}

/// What the root of an image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootInfo {
    /// Its dm-verity root hash, as the measured `image.toml` says it.
    pub hash: Digest,
    /// Every entry of it, by path.
    pub members: Vec<Member>,
}

impl RootInfo {
    pub(crate) fn of(hash: Digest, tree: &crate::erofs::Tree) -> Self {
        let members = tree.entries().map(|(path, entry)| Member {
            path: path.to_owned(),
            kind: entry.node.kind().to_owned(),
            mode: format!("{:04o}", entry.mode),
            size: entry.node.bytes().len() as u64,
            sha256: entry.node.digest(),
        });
        Self { hash, members: members.collect() }
    }
}

/// One file of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// File name in the image directory.
    pub file: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
}

impl Part {
    pub(crate) fn of(file: &str, bytes: &[u8]) -> Self {
        Self { file: file.to_owned(), size: bytes.len() as u64, sha256: sha256(bytes) }
    }
}

/// One entry of the initrd or of the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Path, without a leading slash.
    pub path: String,
    /// `directory`, `file`, `device`, or in the root `link`.
    pub kind: String,
    /// Permission bits in octal, as `0555`.
    pub mode: String,
    /// Size in bytes; 0 for a directory or a device.
    pub size: u64,
    /// SHA-256 of the content; of `MAJOR:MINOR` for a device.
    pub sha256: Digest,
}

impl Member {
    pub(crate) fn of(path: &str, entry: &crate::cpio::Entry) -> Self {
        Self {
            path: path.to_owned(),
            kind: entry.node.kind().to_owned(),
            mode: format!("{:04o}", entry.mode),
            size: match &entry.node {
                crate::cpio::Node::File(bytes) => bytes.len() as u64,
                _ => 0,
            },
            sha256: entry.node.digest(),
        }
    }
}

/// One file taken from a distribution's package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What it is used for.
    pub role: Role,
    /// Debian package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the `.deb`.
    pub package_sha256: Digest,
    /// Path in the package.
    pub path: String,
    /// SHA-256 of the file.
    pub sha256: Digest,
}

impl Input {
    /// The pinned files of `lock` that an image with these modules and root files is made of.
    pub(crate) fn of(lock: &Lock, optional: &[&crate::lock::PinnedFile]) -> Vec<Self> {
        let always = |role| !matches!(role, Role::Module | Role::Root);
        let used = lock.files().filter(|(_, f)| always(f.role) || optional.contains(f));
        used.map(|(package, file)| Self {
            role: file.role,
            package: package.name.clone(),
            version: package.version.clone(),
            package_sha256: package.sha256,
            path: file.path.clone(),
            sha256: file.sha256,
        })
        .collect()
    }
}

impl ImageManifest {
    /// The manifest of an image that is `image`.
    pub(crate) fn new(image: ImageInfo) -> Result<Self, ImageError> {
        Ok(Self { schema: SCHEMA.to_owned(), id: id_of(&image)?, image })
    }

    /// Reads a manifest: its schema, its one spelling and its id are checked, and nothing else.
    ///
    /// # Errors
    /// [`ImageError::TooLarge`], [`ImageError::Malformed`] and [`ImageError::Field`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            let (got, max) = (bytes.len() as u64, MAX_MANIFEST_BYTES as u64);
            return Err(ImageError::TooLarge { what: MANIFEST, got, max });
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|e| ImageError::Malformed { what: MANIFEST, reason: e.to_string() })?;
        if manifest.schema != SCHEMA {
            return Err(ImageError::field(MANIFEST, "schema", &manifest.schema, SCHEMA));
        }
        if manifest.to_bytes()? != bytes {
            let reason = "it is not in the spelling this program writes".to_owned();
            return Err(ImageError::Malformed { what: MANIFEST, reason });
        }
        let expected = id_of(&manifest.image)?;
        if manifest.id != expected {
            let reason = format!("its id is {}, its content makes {expected}", manifest.id);
            return Err(ImageError::Malformed { what: MANIFEST, reason });
        }
        Ok(manifest)
    }

    /// SHA-256 over what the manifest says: the name of exactly this image.
    #[must_use]
    pub const fn id(&self) -> Digest {
        self.id
    }

    /// What the image claims to be.
    #[must_use]
    pub const fn image(&self) -> &ImageInfo {
        &self.image
    }

    /// The one spelling: pretty JSON in the order of the fields, with a final newline.
    ///
    /// # Errors
    /// [`ImageError::Malformed`], which its fields rule out.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ImageError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(no_json)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

fn id_of(image: &ImageInfo) -> Result<Digest, ImageError> {
    Ok(sha256(&serde_json::to_vec(image).map_err(no_json)?))
}

#[allow(clippy::needless_pass_by_value)] // the signature `map_err` asks for
fn no_json(error: serde_json::Error) -> ImageError {
    ImageError::Malformed { what: MANIFEST, reason: error.to_string() }
}

/// Largest manifest, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 256 * 1024;

/// Schema of the manifest this build reads and writes.
pub const SCHEMA: &str = "chrysalis/image/v1";

const MANIFEST: &str = "image manifest";
