//! Finds pinned packages: in a cache by hash, in local directories, at the machine's package
//! mirror, at a snapshot the user names. Every source is untrusted; a package is used only with
//! its pinned size and hash, and a partial file has no name under which it would be found.
//!
//! The network is left to the distribution's own client (`apt-helper`), which knows the machine's
//! mirror, proxies and certificates and continues interrupted downloads.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use chrysalis_wire::Digest;

use crate::bytes::sha256;
use crate::error::ImageError;
use crate::lock::Package;

/// Where packages are looked for.
#[derive(Clone, Debug)]
pub struct Store {
    /// Directory of the cache; made when something is put there.
    pub cache: PathBuf,
    /// Local directories, in order; packages may lie one level below.
    pub directories: Vec<PathBuf>,
    /// Whether to ask the machine's package mirror.
    pub mirror: bool,
    /// Base of an archive of packages, above its `pool/`.
    pub snapshot: Option<Snapshot>,
}

/// Base URL of an archive of packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(String);

impl std::str::FromStr for Snapshot {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scheme = ["https://", "http://", "file:///"].iter().any(|s| text.starts_with(s));
        if !scheme || text.len() > MAX_URL_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("expected a URL beginning with https://, http:// or file:///");
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// What the store is doing, for progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The package, as messages name it.
    pub package: String,
    /// Where it was found or is being fetched from.
    pub source: Source,
}

/// Kinds of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The cache.
    Cache,
    /// A local directory.
    Directory(PathBuf),
    /// A package mirror or snapshot.
    Url(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cache => f.write_str("the cache"),
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// A place where a package was looked for in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The place.
    pub source: Source,
    /// What was there.
    pub outcome: Outcome,
}

/// What a place had instead of the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No such file.
    NotThere,
    /// A file of another size.
    Size {
        /// Its size in bytes; one more than the pinned size where reading stopped there.
        got: u64,
    },
    /// A file with another hash.
    Hash {
        /// Its SHA-256.
        got: Digest,
    },
    /// It could not be read or fetched.
    Failed {
        /// What the system or the package client said.
        reason: String,
    },
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.source;
        match &self.outcome {
            Outcome::NotThere => write!(f, "{source} does not have it"),
            Outcome::Size { got } => write!(f, "{source} has one of {got} bytes"),
            Outcome::Hash { got } => write!(f, "{source} has one with SHA-256 {got}"),
            Outcome::Failed { reason } => write!(f, "{source}: {reason}"),
        }
    }
}

impl Store {
    /// The bytes of `package`, with its pinned size and hash.
    ///
    /// # Errors
    /// [`ImageError::NoInput`] with every place and what was there, [`ImageError::Io`] if the
    /// cache cannot be written.
    pub fn fetch(
        &self,
        package: &Package,
        on_step: &mut dyn FnMut(Step),
    ) -> Result<Vec<u8>, ImageError> {
        let mut tried = Vec::new();
        let mut step = |source: Source| on_step(Step { package: package.label(), source });
        let cached = self.cache.join("inputs").join(format!("{}.deb", package.sha256));
        match read_pinned(&cached, package) {
            Ok(bytes) => {
                step(Source::Cache);
                return Ok(bytes);
            }
            Err(outcome) => tried.push(Attempt { source: Source::Cache, outcome }),
        }
        for directory in &self.directories {
            let source = Source::Directory(directory.clone());
            match read_from_directory(directory, package) {
                Ok(bytes) => {
                    step(source);
                    return Ok(bytes);
                }
                Err(outcome) => tried.push(Attempt { source, outcome }),
            }
        }
        for base in self.bases(&mut tried) {
            let source = Source::Url(format!("{base}/{}", package.filename));
            step(source.clone());
            match download(&source, package, &cached)? {
                Ok(bytes) => return Ok(bytes),
                Err(outcome) => tried.push(Attempt { source, outcome }),
            }
        }
        Err(ImageError::NoInput { package: package.label(), sha256: package.sha256, tried })
    }

    /// Bases of archives, in the order they are asked.
    fn bases(&self, tried: &mut Vec<Attempt>) -> Vec<String> {
        let mut bases = Vec::new();
        if self.mirror {
            match mirror_bases() {
                Ok(found) => bases = found,
                Err(reason) => {
                    let source = Source::Url("the machine's package mirror".to_owned());
                    tried.push(Attempt { source, outcome: Outcome::Failed { reason } });
                }
            }
        }
        bases.extend(self.snapshot.iter().map(|s| s.0.clone()));
        bases
    }
}

fn read_from_directory(directory: &Path, package: &Package) -> Result<Vec<u8>, Outcome> {
    let mut outcome = Outcome::NotThere;
    for place in with_folders(directory) {
        for name in package.file_names() {
            match read_pinned(&place.join(name), package) {
                Ok(bytes) => return Ok(bytes),
                Err(Outcome::NotThere) => {}
                Err(other) => outcome = other,
            }
        }
    }
    Err(outcome)
}

/// A directory and the folders in it, in the order of their names.
fn with_folders(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path());
    let mut folders: Vec<PathBuf> = entries.filter(|p| p.is_dir()).take(MAX_FOLDERS).collect();
    folders.sort();
    folders.insert(0, directory.to_owned());
    folders
}

/// Reads a file if it is the pinned one.
fn read_pinned(path: &Path, package: &Package) -> Result<Vec<u8>, Outcome> {
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => Outcome::NotThere,
        _ => Outcome::Failed { reason: e.to_string() },
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(package.size.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 != package.size {
        return Err(Outcome::Size { got: bytes.len() as u64 });
    }
    let got = sha256(&bytes);
    if got == package.sha256 { Ok(bytes) } else { Err(Outcome::Hash { got }) }
}

/// Downloads to a partial file of the cache, verifies it, and only then gives it its name.
fn download(
    source: &Source,
    package: &Package,
    cached: &Path,
) -> Result<Result<Vec<u8>, Outcome>, ImageError> {
    let directory = cached.parent().unwrap_or(cached);
    fs::create_dir_all(directory).map_err(|e| ImageError::io("create", directory, &e))?;
    // One download of a package at a time; the lock goes with the process.
    let lock_path = cached.with_extension("lock");
    let lock = File::create(&lock_path).map_err(|e| ImageError::io("create", &lock_path, &e))?;
    lock.lock().map_err(|e| ImageError::io("lock", &lock_path, &e))?;
    if let Ok(bytes) = read_pinned(cached, package) {
        return Ok(Ok(bytes));
    }
    let partial = cached.with_extension("partial");
    let fetched = run(Command::new(APT_HELPER)
        .args(["-o", "Acquire::Retries=3", "download-file", &source.to_string()])
        .arg(&partial)
        .arg(format!("SHA256:{}", package.sha256)));
    if let Err(reason) = fetched {
        return Ok(Err(Outcome::Failed { reason }));
    }
    let bytes = match read_pinned(&partial, package) {
        Ok(bytes) => bytes,
        Err(outcome) => {
            // Not ours to continue: what is there is something else.
            let _ = fs::remove_file(&partial);
            return Ok(Err(outcome));
        }
    };
    keep(&partial, cached, &bytes)?;
    Ok(Ok(bytes))
}

/// Gives a verified download its name. For `file:` URLs the client leaves a link, not a copy.
fn keep(partial: &Path, cached: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let link = fs::symlink_metadata(partial).is_ok_and(|m| m.is_symlink());
    if link {
        fs::remove_file(partial).map_err(|e| ImageError::io("remove", partial, &e))?;
        fs::write(partial, bytes).map_err(|e| ImageError::io("write", partial, &e))?;
    }
    fs::rename(partial, cached).map_err(|e| ImageError::io("write", cached, &e))
}

/// Bases of the Debian archives this machine is configured for, without a final slash.
pub(crate) fn mirror_bases() -> Result<Vec<String>, String> {
    let args =
        ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"];
    let output = run(Command::new("apt-get").args(args))?;
    let mut bases: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let base = line.trim().trim_end_matches('/');
        if base.parse::<Snapshot>().is_ok() && !bases.iter().any(|b| b == base) {
            bases.push(base.to_owned());
        }
    }
    if bases.is_empty() {
        return Err("apt is not configured for a Debian mirror".to_owned());
    }
    Ok(bases)
}

/// Runs a command of the package client without a terminal, in the plain locale.
pub(crate) fn run(command: &mut Command) -> Result<Output, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = stderr.lines().find(|line| line.starts_with("E: "));
    let said = said.map_or("it said nothing", |line| line.trim_start_matches("E: "));
    Err(format!("{program} ended with {}: {said}", output.status))
}

/// Part of apt; fetches, continues and checks one file, or reads a compressed one.
pub(crate) const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
const MAX_URL_BYTES: usize = 1024;

/// Most folders of a directory that are searched.
const MAX_FOLDERS: usize = 64;
