//! Proposes new pins: asks the machine's mirror for the newest packages of each suite in a lock
//! file. The indices are checked by apt against the distribution's keys; what is proposed is shown
//! to a person and pinned by hash from then on.

use std::fs;
use std::path::Path;
use std::process::Command;

use chrysalis_wire::Digest;

use crate::bytes::sha256;
use crate::deb::{Size, read_files};
use crate::error::ImageError;
use crate::lock::{Lock, MAX_DEB_BYTES, MAX_FILE_BYTES, Package, PinnedFile};
use crate::store::{APT_HELPER, Step, Store, mirror_bases, run};
use crate::version;

/// A new lock, and what is new in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The whole new lock.
    pub lock: Lock,
    /// What changed, in the order of the lock.
    pub changes: Vec<Change>,
}

/// One difference between two locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The package, or the file in it.
    pub what: String,
    /// What is pinned now.
    pub from: String,
    /// What would be pinned.
    pub to: String,
}

/// A package that an index offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// Path below the mirror's base.
    pub filename: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Digest,
}

/// Asks the mirror for newer packages and pins them.
///
/// # Errors
/// [`ImageError::PackageClient`] if apt or the mirror does not work, and what fetching and pinning
/// a package may say.
pub fn propose(
    lock: &Lock,
    store: &Store,
    on_step: &mut dyn FnMut(Step),
) -> Result<Proposal, ImageError> {
    let state = store.cache.join("apt");
    let suites = suites(lock);
    let indices = fetch_indices(&state, &suites)?;
    let mut packages = Vec::new();
    for package in lock.packages() {
        let offers: Vec<Offer> = indices
            .iter()
            .filter(|(suite, _)| *suite == package.suite)
            .flat_map(|(_, text)| offers(text, package))
            .collect();
        let newest = newest(package, &offers);
        packages.push(match newest {
            Some(offer) if offer.sha256 != package.sha256 => {
                let pinned = promised(package, offer);
                let deb = store.fetch(&pinned, on_step)?;
                repin(pinned, &deb)?
            }
            _ => package.clone(),
        });
    }
    let lock_of = Lock::new(packages)?;
    Ok(Proposal { changes: changes(lock, &lock_of), lock: lock_of })
}

/// The packages of an index (Debian policy 5.3) that `package` could be updated to.
#[must_use]
pub fn offers(index: &str, package: &Package) -> Vec<Offer> {
    index.split("\n\n").filter_map(|stanza| offer(stanza, package)).collect()
}

fn offer(stanza: &str, package: &Package) -> Option<Offer> {
    let field = |name: &str| {
        let mut values = stanza.lines().filter_map(|line| line.split_once(": "));
        values.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
    };
    let name = field("Package").filter(|name| may_replace(package, name))?;
    let architecture = field("Architecture").filter(|a| *a == package.architecture)?;
    Some(Offer {
        name,
        architecture,
        version: field("Version")?,
        filename: field("Filename")?,
        size: field("Size")?.parse().ok().filter(|size| *size <= MAX_DEB_BYTES)?,
        sha256: field("SHA256")?.parse().ok()?,
    })
}

/// The same package; for a kernel or its modules, the same flavour of another release.
fn may_replace(package: &Package, name: &str) -> bool {
    if package.name == name {
        return true;
    }
    let Some((prefix, flavour)) = kernel_name(package) else { return false };
    let release = name.strip_prefix(prefix).and_then(|n| n.strip_suffix(&format!("-{flavour}")));
    release.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()) && !r.contains('-'))
}

/// `linux-modules-` and `cloud-amd64` of `linux-modules-7.3.4+deb13-cloud-amd64`.
fn kernel_name(package: &Package) -> Option<(&str, &str)> {
    let release = package.files.first()?.kernel_release()?;
    Some((package.name.strip_suffix(release)?, release.split_once('-')?.1))
}

/// The newest offer that is not older than what is pinned.
fn newest<'a>(package: &Package, offers: &'a [Offer]) -> Option<&'a Offer> {
    let newest = offers.iter().max_by(|a, b| version::compare(&a.version, &b.version))?;
    version::compare(&newest.version, &package.version).is_ge().then_some(newest)
}

/// The package as the index promises it, with the files still to be looked at.
fn promised(package: &Package, offer: &Offer) -> Package {
    let rename = |path: &str| {
        let releases = kernel_name(package).and_then(|(prefix, _)| {
            let old = package.name.strip_prefix(prefix)?;
            Some((old, offer.name.strip_prefix(prefix)?))
        });
        releases.map_or_else(|| path.to_owned(), |(old, new)| path.replace(old, new))
    };
    Package {
        name: offer.name.clone(),
        version: offer.version.clone(),
        architecture: offer.architecture.clone(),
        suite: package.suite.clone(),
        filename: offer.filename.clone(),
        size: offer.size,
        sha256: offer.sha256,
        files: package
            .files
            .iter()
            .map(|file| PinnedFile { path: rename(&file.path), ..file.clone() })
            .collect(),
    }
}

/// Pins the files of a package from its bytes.
fn repin(mut package: Package, deb: &[u8]) -> Result<Package, ImageError> {
    let label = package.label();
    let fault = |fault| ImageError::Deb { package: label.clone(), fault };
    let wanted = |path: &str| {
        package.files.iter().any(|f| f.path == path).then_some(Size::AtMost(MAX_FILE_BYTES))
    };
    let mut found = read_files(deb, wanted).map_err(fault)?;
    for file in &mut package.files {
        let missing = || crate::deb::DebFault::NoFile { path: file.path.clone() };
        let bytes = found.remove(&file.path).ok_or_else(missing).map_err(fault)?;
        (file.size, file.sha256) = (bytes.len() as u64, sha256(&bytes));
    }
    Ok(package)
}

/// What is different, package by package and file by file; the two locks have the same order.
#[must_use]
pub fn changes(old: &Lock, new: &Lock) -> Vec<Change> {
    let mut changes = Vec::new();
    for (old, new) in old.packages().iter().zip(new.packages()) {
        if old == new {
            continue;
        }
        changes.push(Change { what: "package".to_owned(), from: old.label(), to: new.label() });
        for (a, b) in old.files.iter().zip(&new.files) {
            if a != b {
                let say = |file: &PinnedFile| format!("{} {}", file.sha256, file.path);
                changes.push(Change { what: a.role.to_string(), from: say(a), to: say(b) });
            }
        }
    }
    changes
}

fn suites(lock: &Lock) -> Vec<&str> {
    let mut suites: Vec<&str> = lock.packages().iter().map(|p| p.suite.as_str()).collect();
    suites.sort_unstable();
    suites.dedup();
    suites
}

/// The package index of each suite, through apt with a state of its own: the machine's list of
/// sources is neither used nor changed.
fn fetch_indices(state: &Path, suites: &[&str]) -> Result<Vec<(String, String)>, ImageError> {
    let client = |reason| ImageError::PackageClient { reason };
    let bases = mirror_bases().map_err(client)?;
    let base = bases
        .iter()
        .find(|b| b.ends_with("/debian"))
        .ok_or_else(|| client("no configured mirror carries the main Debian archive".to_owned()))?;
    for directory in ["lists/partial", "cache/archives/partial"] {
        let path = state.join(directory);
        fs::create_dir_all(&path).map_err(|e| ImageError::io("create", &path, &e))?;
    }
    let sources = state.join("sources.list");
    let lines: String =
        suites.iter().map(|s| format!("deb [signed-by={KEYRING}] {base} {s} main\n")).collect();
    fs::write(&sources, lines).map_err(|e| ImageError::io("write", &sources, &e))?;
    let apt = || {
        let mut command = Command::new("apt-get");
        for (name, value) in [
            ("Dir::Etc::sourcelist", sources.display().to_string()),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::State::lists", state.join("lists").display().to_string()),
            ("Dir::Cache", state.join("cache").display().to_string()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".to_owned()),
        ] {
            command.args(["-o", &format!("{name}={value}")]);
        }
        command
    };
    run(apt().args(["update", "--error-on=any"])).map_err(client)?;
    let format = ["indextargets", "--format", "$(RELEASE)|$(FILENAME)", "Created-By: Packages"];
    let listed = run(apt().args(format)).map_err(client)?;
    let mut indices = Vec::new();
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let Some((suite, file)) = line.split_once('|') else { continue };
        let index = run(Command::new(APT_HELPER).args(["cat-file", file])).map_err(client)?;
        let text = String::from_utf8_lossy(&index.stdout).into_owned();
        indices.push((suite.to_owned(), text));
    }
    Ok(indices)
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;
    use crate::tests::support::{self, RELEASE};

    fn kernel_package() -> (Package, Vec<u8>) {
        let path = format!("usr/lib/modules/{RELEASE}/vmlinuz");
        let name = format!("linux-binary-{RELEASE}");
        support::package(&name, &[(Role::Kernel, &path, &support::kernel())])
    }

    fn stanza(name: &str, version: &str, architecture: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nDescription: x\n \
             Package: evil\nFilename: pool/main/x/{name}.deb\nSize: 7\nSHA256: {}\n",
            "1".repeat(64)
        )
    }

    #[test]
    fn offers_are_the_same_package_or_the_same_flavour_of_kernel() {
        let (package, _) = kernel_package();
        let names = [
            "linux-binary-7.3.4+test-amd64",
            "linux-binary-7.4.0+test-amd64",
            "linux-binary-7.4.0+test-rt-amd64",
            "linux-binary-7.4.0+test-amd64-dbg",
            "linux-binary-amd64",
            "linux-modules-7.4.0+test-amd64",
        ];
        let index: Vec<String> = names.iter().map(|n| stanza(n, "1", "all")).collect();
        let index = index.join("\n");
        let found: Vec<String> = offers(&index, &package).into_iter().map(|o| o.name).collect();
        assert_eq!(found, names[..2]);
        let (plain, _) = support::packages().remove(0);
        let index = [stanza("firmware", "9", "all"), stanza("firmware", "9", "arm64")].join("\n");
        assert_eq!(offers(&index, &plain).len(), 1);
    }

    #[test]
    fn an_offer_without_a_hash_or_with_a_hostile_size_is_none() {
        let (package, _) = support::packages().remove(0);
        let good = stanza("firmware", "9", "all");
        assert_eq!(offers(&good, &package).len(), 1);
        assert!(offers(&good.replace("SHA256", "MD5sum"), &package).is_empty());
        assert!(offers(&good.replace("Size: 7", "Size: 999999999999"), &package).is_empty());
        assert!(offers(&good.replace("Size: 7", "Size: -1"), &package).is_empty());
    }

    #[test]
    fn the_newest_is_taken_and_nothing_older_than_the_pin() {
        let (package, _) = support::packages().remove(0);
        let offer = |version: &str| offers(&stanza("firmware", version, "all"), &package).remove(0);
        let list = [offer("1:2.3-4"), offer("1:2.10-1"), offer("1:2.9-1"), offer("9.9-1")];
        assert_eq!(newest(&package, &list).unwrap().version, "1:2.10-1");
        assert!(newest(&package, &[offer("1:2.3-3")]).is_none());
        assert!(newest(&package, &[]).is_none());
    }

    #[test]
    fn a_new_kernel_moves_paths_and_pins_its_own_bytes() {
        let (old, _) = kernel_package();
        let offer = Offer {
            name: "linux-binary-7.4.0+test-amd64".to_owned(),
            version: "1:3-1".to_owned(),
            architecture: "all".to_owned(),
            filename: "pool/x.deb".to_owned(),
            size: 7,
            sha256: support::no_digest(),
        };
        let promised = promised(&old, &offer);
        let path = "usr/lib/modules/7.4.0+test-amd64/vmlinuz";
        assert_eq!(promised.files[0].path, path);
        let deb = support::deb(&[(path, support::Node::File(b"new"))], support::Packing::Xz);
        let pinned = repin(promised.clone(), &deb).unwrap();
        assert_eq!((pinned.files[0].size, pinned.files[0].sha256), (3, sha256(b"new")));
        let empty = support::deb(&[("other", support::Node::File(b"x"))], support::Packing::Xz);
        assert!(matches!(repin(promised, &empty), Err(ImageError::Deb { .. })));
    }

    #[test]
    fn changes_name_packages_and_files() {
        let old = support::lock();
        assert!(changes(&old, &old).is_empty());
        let mut packages = old.packages().to_vec();
        packages[0].version = "2:1-1".to_owned();
        packages[0].files[0].sha256 = support::no_digest();
        let found = changes(&old, &Lock::new(packages).unwrap());
        let what: Vec<&str> = found.iter().map(|c| c.what.as_str()).collect();
        assert_eq!(what, ["package", "firmware"]);
        assert!(found[1].to.starts_with(&support::no_digest().to_string()));
    }
}
