//! The optional root of an image: a read-only file system with the part of user space that is too
//! large for an initrd, and its hash tree. The root hash is in `/chrysalis/image.toml` of the
//! initrd, so RTMR2 covers every byte of the root.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use chrysalis_wire::Digest;
use chrysalis_wire::image::RootSection;
use serde::Deserialize;

use crate::bytes::sha256;
use crate::compose::Inputs;
use crate::erofs::{Entry, ErofsFault, Node, Tree};
use crate::error::ImageError;
use crate::lock::{Lock, PinnedFile, Role};
use crate::store::{Attempt, Outcome, Source};
use crate::verity;

/// `[root]` of a recipe: what lies where. Directories on the way are made, with mode 0755.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootRecipe {
    #[serde(rename = "file")]
    files: Vec<WantedFile>,
    #[serde(default, rename = "link")]
    links: Vec<WantedLink>,
}

/// A file of the root: either `pinned`, or `local` with `sha256`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedFile {
    /// Path in the root.
    path: String,
    #[serde(default)]
    executable: bool,
    /// Path in its package, as the lock file pins it with role `root`.
    pinned: Option<String>,
    /// Name of a file in a directory of inputs.
    local: Option<String>,
    /// Its SHA-256.
    sha256: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedLink {
    path: String,
    target: String,
}

/// A file that no package has: its name and its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalFile<'a> {
    /// Name in a directory of inputs.
    pub name: &'a str,
    /// SHA-256 of the file.
    pub sha256: Digest,
}

enum Origin<'a> {
    Pinned(&'a str),
    Local(LocalFile<'a>),
}

impl WantedFile {
    fn origin(&self) -> Result<Origin<'_>, ImageError> {
        match (&self.pinned, &self.local, self.sha256) {
            (Some(path), None, None) => Ok(Origin::Pinned(path)),
            (None, Some(name), Some(sha256)) if is_file_name(name) => {
                Ok(Origin::Local(LocalFile { name, sha256 }))
            }
            _ => Err(ImageError::field("recipe", "root.file", &self.path, ORIGIN)),
        }
    }
}

impl RootRecipe {
    /// Checks everything that does not need the files themselves.
    pub(crate) fn check(&self) -> Result<(), ImageError> {
        self.files.iter().try_for_each(|file| file.origin().map(drop))?;
        self.tree(|_| Ok(Vec::new())).map(drop)
    }

    /// The files that no package has.
    pub fn local_files(&self) -> impl Iterator<Item = LocalFile<'_>> {
        self.files.iter().filter_map(|file| match file.origin() {
            Ok(Origin::Local(local)) => Some(local),
            _ => None,
        })
    }

    /// The pinned files it uses.
    ///
    /// # Errors
    /// [`ImageError::NoRootFile`] if the lock does not pin one with role `root`.
    pub(crate) fn pinned<'a>(&self, lock: &'a Lock) -> Result<Vec<&'a PinnedFile>, ImageError> {
        let wanted = self.files.iter().filter_map(|file| file.pinned.as_deref());
        wanted.map(|path| pinned(lock, path)).collect()
    }

    pub(crate) fn build(&self, lock: &Lock, inputs: &Inputs) -> Result<Root, ImageError> {
        let tree = self.tree(|file| match file.origin()? {
            Origin::Pinned(path) => Ok(inputs.get(pinned(lock, path)?)?.to_vec()),
            Origin::Local(LocalFile { name, sha256 }) => {
                let missing = || missing(name, sha256, Vec::new());
                Ok(inputs.by_hash(sha256).ok_or_else(missing)?.to_vec())
            }
        })?;
        Root::new(tree)
    }

    fn tree(
        &self,
        mut content: impl FnMut(&WantedFile) -> Result<Vec<u8>, ImageError>,
    ) -> Result<Tree, ImageError> {
        let mut entries: Vec<(String, Entry)> = Vec::new();
        for file in &self.files {
            let mode = if file.executable { 0o555 } else { 0o444 };
            let node = Node::File(content(file)?);
            entries.push((file.path.clone(), Entry { node, mode }));
        }
        for link in &self.links {
            let node = Node::Link(link.target.clone());
            entries.push((link.path.clone(), Entry { node, mode: 0o777 }));
        }
        let directories: std::collections::BTreeSet<String> = entries
            .iter()
            .flat_map(|(path, _)| path.match_indices('/').filter_map(|(at, _)| path.get(..at)))
            .map(str::to_owned)
            .collect();
        entries.extend(
            directories.into_iter().map(|d| (d, Entry { node: Node::Directory, mode: 0o755 })),
        );
        Ok(Tree::new(entries)?)
    }
}

fn pinned<'a>(lock: &'a Lock, path: &str) -> Result<&'a PinnedFile, ImageError> {
    let mut files = lock.files().map(|(_, f)| f).filter(|f| f.role == Role::Root);
    files.find(|f| f.path == path).ok_or_else(|| ImageError::NoRootFile { path: path.to_owned() })
}

/// One name, in printable ASCII: it cannot leave its directory.
fn is_file_name(name: &str) -> bool {
    !name.starts_with('.')
        && (1..=crate::erofs::MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

/// A root as it lies in an image directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// What is in it.
    pub tree: Tree,
    /// The file system: what the guest's disk is.
    pub data: Vec<u8>,
    /// Its hash tree. The guest does not need it: it hashes all of the data.
    pub verity: Vec<u8>,
    /// What the image's configuration says of it.
    pub section: RootSection,
}

impl Root {
    fn new(tree: Tree) -> Result<Self, ImageError> {
        let data = tree.to_bytes()?;
        let built = verity::build(&data)?;
        let section = RootSection { hash: built.root, bytes: data.len() as u64 };
        Ok(Self { tree, data, verity: built.bytes, section })
    }

    /// Checks the two files of a root against what the configuration says of it.
    ///
    /// # Errors
    /// What is wrong, by part: `root` or `verity`.
    pub(crate) fn check(
        data: &[u8],
        tree: &[u8],
        section: &RootSection,
    ) -> Result<Tree, (&'static str, String)> {
        let wrong = |fault: verity::VerityFault| {
            let part = match fault {
                verity::VerityFault::Tree { .. } => "verity",
                _ => "root",
            };
            (part, fault.to_string())
        };
        verity::check(data, tree, section.hash).map_err(wrong)?;
        if data.len() as u64 != section.bytes {
            let reason = format!("it is {} bytes, image.toml says {}", data.len(), section.bytes);
            return Err(("root", reason));
        }
        Tree::parse(data).map_err(|fault: ErofsFault| ("root", fault.to_string()))
    }
}

/// Finds a local file by name in `directories`; its hash decides.
///
/// # Errors
/// [`ImageError::NoInput`] with every place and what was there.
pub fn find_local(directories: &[PathBuf], wanted: LocalFile<'_>) -> Result<Vec<u8>, ImageError> {
    let mut tried = Vec::new();
    for directory in directories {
        match read_local(&directory.join(wanted.name), wanted.sha256) {
            Ok(bytes) => return Ok(bytes),
            Err(outcome) => {
                tried.push(Attempt { source: Source::Directory(directory.clone()), outcome });
            }
        }
    }
    Err(missing(wanted.name, wanted.sha256, tried))
}

fn read_local(path: &Path, sha256_wanted: Digest) -> Result<Vec<u8>, Outcome> {
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => Outcome::NotThere,
        _ => Outcome::Failed { reason: e.to_string() },
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let limit = crate::lock::MAX_FILE_BYTES.saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 >= limit {
        return Err(Outcome::Size { got: bytes.len() as u64 });
    }
    let got = sha256(&bytes);
    if got == sha256_wanted { Ok(bytes) } else { Err(Outcome::Hash { got }) }
}

fn missing(name: &str, sha256: Digest, tried: Vec<Attempt>) -> ImageError {
    ImageError::NoInput { package: name.to_owned(), sha256, tried }
}

/// The read-only file system of an image that has one.
pub const ROOT_FILE: &str = "rootfs.erofs";
/// Its dm-verity hash tree.
pub const VERITY_FILE: &str = "rootfs.verity";

const ORIGIN: &str = "either pinned = PATH, or local = NAME with sha256 = HEX";
