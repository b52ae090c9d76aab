//! The lock file (`images/*.lock.toml`): every foreign byte that ends up in an image, by package,
//! version, size and SHA-256. It is read from a repository that may be anybody's, so it is parsed
//! as a closed schema; a path in it never leaves the package it names.

use std::collections::BTreeSet;
use std::fmt;

use chrysalis_wire::Digest;
use serde::{Deserialize, Serialize};

use crate::error::ImageError;

/// Pinned packages whose fields are checked: all there is to a lock of tools (a QEMU, a C library),
/// which are unpacked whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageList(Vec<Package>);

/// The lock of an image: its files have the roles that an image needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock(PackageList);

/// One pinned package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Debian package name.
    pub name: String,
    /// Debian version, with its epoch if it has one.
    pub version: String,
    /// Debian architecture, or `all`.
    pub architecture: String,
    /// The suite whose index named it; says where newer ones will appear.
    pub suite: String,
    /// Path below a mirror's base.
    pub filename: String,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    /// SHA-256 of the `.deb`.
    pub sha256: Digest,
    /// The files an image takes from it; none in a lock of tools.
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PinnedFile>,
}

/// One file taken from a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedFile {
    /// What the image uses it for.
    pub role: Role,
    /// Path in the package, without a leading slash.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
}

/// What an image uses a file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The TDVF firmware whose code is kept.
    Firmware,
    /// The blank variable store put into it.
    VariableStore,
    /// The kernel.
    Kernel,
    /// A kernel module.
    Module,
    /// A file of the root, for an image that has one.
    Root,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firmware => "firmware",
            Self::VariableStore => "variable-store",
            Self::Kernel => "kernel",
            Self::Module => "module",
            Self::Root => "root",
        })
    }
}

impl Package {
    /// The package as messages name it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {} ({})", self.name, self.version, self.architecture)
    }

    /// File names under which package clients store it: a colon is `%3a` to `apt`.
    #[must_use]
    pub fn file_names(&self) -> [String; 2] {
        let name = |version: &str| format!("{}_{version}_{}.deb", self.name, self.architecture);
        let without_epoch = self.version.split_once(':').map_or(&*self.version, |(_, v)| v);
        [name(&self.version.replace(':', "%3a")), name(without_epoch)]
    }
}

impl PinnedFile {
    /// The name after the last slash.
    #[must_use]
    pub fn base_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Name of a kernel module: its file name without `.ko` or `.ko.xz`.
    #[must_use]
    pub fn module_name(&self) -> &str {
        let name = self.base_name();
        name.strip_suffix(".ko.xz").or_else(|| name.strip_suffix(".ko")).unwrap_or(name)
    }

    /// The kernel release a kernel or module belongs to: the directory below `modules/`.
    #[must_use]
    pub fn kernel_release(&self) -> Option<&str> {
        self.path.split_once("lib/modules/")?.1.split('/').next()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    version: u32,
    #[serde(rename = "package")]
    packages: Vec<Package>,
}

impl PackageList {
    /// Reads and checks a lock file.
    ///
    /// # Errors
    /// [`ImageError::TooLarge`], [`ImageError::Malformed`], [`ImageError::Version`] and
    /// [`ImageError::Field`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let file: LockFile = crate::error::parse_toml("lock file", bytes, MAX_LOCK_BYTES)?;
        if file.version != LOCK_VERSION {
            return Err(ImageError::Version { what: "lock file", got: file.version });
        }
        Self::new(file.packages)
    }

    fn new(packages: Vec<Package>) -> Result<Self, ImageError> {
        let count = packages.len();
        field("package count", &count.to_string(), "1 to 128 packages", |_| {
            (1..=MAX_PACKAGES).contains(&count)
        })?;
        let mut seen = BTreeSet::new();
        for package in &packages {
            check_package(package)?;
            field("package.name", &package.name, "each package once", |n| {
                seen.insert(n.to_owned())
            })?;
        }
        Ok(Self(packages))
    }

    /// The packages, in the order of the file.
    #[must_use]
    pub fn packages(&self) -> &[Package] {
        &self.0
    }

    /// Whether no file is taken from any package, so that they are a tool's.
    #[must_use]
    pub fn is_of_a_tool(&self) -> bool {
        self.0.iter().all(|package| package.files.is_empty())
    }
}

impl TryFrom<PackageList> for Lock {
    type Error = ImageError;

    fn try_from(list: PackageList) -> Result<Self, ImageError> {
        let lock = Self(list);
        lock.check()?;
        Ok(lock)
    }
}

impl Lock {
    /// Reads and checks the lock file of an image.
    ///
    /// # Errors
    /// As [`PackageList::parse`]; [`ImageError::Field`] also for files that make no image.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        PackageList::parse(bytes)?.try_into()
    }

    /// A lock of these packages, if they make one.
    ///
    /// # Errors
    /// [`ImageError::Field`].
    pub fn new(packages: Vec<Package>) -> Result<Self, ImageError> {
        PackageList::new(packages)?.try_into()
    }

    /// The packages, in the order of the file.
    #[must_use]
    pub fn packages(&self) -> &[Package] {
        self.0.packages()
    }

    /// Every pinned file with its package.
    pub fn files(&self) -> impl Iterator<Item = (&Package, &PinnedFile)> {
        self.packages().iter().flat_map(|p| p.files.iter().map(move |f| (p, f)))
    }

    /// The lock file as text, which parses to the same lock.
    ///
    /// # Errors
    /// [`ImageError::Malformed`] if a value has no TOML form, which a checked lock rules out.
    pub fn to_toml(&self) -> Result<String, ImageError> {
        let file = LockFile { version: LOCK_VERSION, packages: self.packages().to_vec() };
        let body = toml::to_string(&file)
            .map_err(|e| ImageError::Malformed { what: "lock file", reason: e.to_string() })?;
        Ok(format!("{HEAD}{body}"))
    }

    fn check(&self) -> Result<(), ImageError> {
        for package in self.packages() {
            let none = package.files.is_empty();
            field("package.file", &package.name, "a package that gives the image a file", |_| {
                !none
            })?;
        }
        let mut modules = BTreeSet::new();
        for (_, file) in self.files().filter(|(_, f)| f.role == Role::Module) {
            field("module", file.module_name(), "each module once", |n| {
                modules.insert(n.to_owned())
            })?;
        }
        for role in [Role::Firmware, Role::VariableStore, Role::Kernel] {
            let found = self.files().filter(|(_, f)| f.role == role).count();
            field("role", &format!("{found} files of role {role}"), "exactly one", |_| found == 1)?;
        }
        self.check_kernel()
    }

    /// A module of another kernel would be refused at boot, by a machine that cannot say so.
    fn check_kernel(&self) -> Result<(), ImageError> {
        let kernel = self.files().find(|(_, f)| f.role == Role::Kernel);
        let release = kernel.and_then(|(_, f)| f.kernel_release());
        for (_, file) in self.files().filter(|(_, f)| f.role == Role::Module) {
            field("file.path", &file.path, "a module of the pinned kernel", |_| {
                release.is_some() && file.kernel_release() == release
            })?;
        }
        Ok(())
    }
}

fn check_package(package: &Package) -> Result<(), ImageError> {
    let all = |text: &str, extra: &str, max: usize| {
        (1..=max).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.as_bytes().contains(&b))
    };
    // Debian policy 5.6.1 and 5.6.12; a leading dash would be an option of a command.
    field("package.name", &package.name, "a Debian package name", |n| {
        all(n, "+-.", MAX_NAME_BYTES) && !n.starts_with(['-', '.', '+'])
    })?;
    field("package.version", &package.version, "a Debian version", |v| {
        all(v, "+-.~:", MAX_NAME_BYTES) && v.starts_with(|c: char| c.is_ascii_digit())
    })?;
    field("package.architecture", &package.architecture, "amd64 or all", |a| {
        matches!(a, "amd64" | "all")
    })?;
    field("package.suite", &package.suite, "a suite name", |s| {
        all(s, "-", MAX_NAME_BYTES) && !s.starts_with('-')
    })?;
    field("package.filename", &package.filename, "a path below pool/", |p| {
        is_relative_path(p) && p.starts_with("pool/")
    })?;
    let size = package.size.to_string();
    field("package.size", &size, "1 byte to 256 MiB", |_| {
        (1..=MAX_DEB_BYTES).contains(&package.size)
    })?;
    let count = package.files.len();
    field("package.file", &format!("{count} files"), "at most 256 files", |_| count <= MAX_FILES)?;
    let mut paths = BTreeSet::new();
    for file in &package.files {
        field("file.path", &file.path, "a relative path, once", |p| {
            is_relative_path(p) && paths.insert(p.to_owned())
        })?;
        let size = file.size.to_string();
        field("file.size", &size, "1 byte to 128 MiB", |_| {
            (1..=MAX_FILE_BYTES).contains(&file.size)
        })?;
    }
    Ok(())
}

/// Neither absolute nor climbing, in printable ASCII without a space.
fn is_relative_path(path: &str) -> bool {
    path.len() <= MAX_PATH_BYTES
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn field(
    field: &'static str,
    got: &str,
    expected: &'static str,
    good: impl FnOnce(&str) -> bool,
) -> Result<(), ImageError> {
    if good(got) {
        return Ok(());
    }
    Err(ImageError::field("lock file", field, got, expected))
}

/// Version of the lock file this build reads and writes.
pub const LOCK_VERSION: u32 = 1;

/// Largest lock file, in bytes.
pub const MAX_LOCK_BYTES: usize = 256 * 1024;

/// Most packages of one lock file. QEMU and its libraries are 72.
pub const MAX_PACKAGES: usize = 128;

/// Most files taken from one package.
pub const MAX_FILES: usize = 256;

/// Largest package, in bytes. The kernel's modules are 23 MB.
pub const MAX_DEB_BYTES: u64 = 256 << 20;

/// Largest file taken from a package, in bytes. The kernel is 14 MB, the largest of NVIDIA's user
/// libraries (libnvidia-nvvm) 83 MB.
pub const MAX_FILE_BYTES: u64 = 128 << 20;

const MAX_NAME_BYTES: usize = 128;
const MAX_PATH_BYTES: usize = 255;

const HEAD: &str = "\
# Every foreign byte of the image, by SHA-256. The packages are Debian's, unmodified; a build looks
# for them in its cache, in CHRYSALIS_INPUTS, at the machine's mirror, at a snapshot you name, and
# uses nothing that does not have these sizes and hashes. `chrysalis image lock --update` proposes
# newer pins; every change of a file here is another measurement.

";
