//! Tests of the TDX predictions. `vectors` reproduces values of real machines and of published
//! tools; they are other people's data and stay outside the tree: `$CHRYSALIS_VECTORS` and
//! `$CHRYSALIS_INPUTS`, or `shared/` beside the workspace. Where such a folder is absent these
//! tests say `skipped`; where it is present a missing file fails them. Everything else runs on
//! small files made in `fixture`.

pub(crate) mod fixture;
pub(crate) mod logs;
mod mutations;
mod refusals_image;
mod refusals_shape;
mod vectors;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{Sha384Digest, Tdvf};

/// A folder of shared data, or `None` with a line on stderr.
fn shared(variable: &str, folder: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(folder);
    let root = std::env::var_os(variable).map_or(beside, PathBuf::from);
    if root.is_dir() {
        return Some(root);
    }
    eprintln!("skipped: no {folder} folder; set {variable}");
    None
}

/// Bytes of a vector.
pub(crate) fn vector(path: &str) -> Option<Vec<u8>> {
    let file = shared("CHRYSALIS_VECTORS", "vectors")?.join(path);
    Some(std::fs::read(&file).unwrap_or_else(|e| panic!("vector {path} is missing: {e}")))
}

/// A JSON vector.
pub(crate) fn json(path: &str) -> Option<serde_json::Value> {
    Some(serde_json::from_slice(&vector(path)?).unwrap())
}

/// Unpacks a gzip file with the system's own program.
pub(crate) fn gunzip(path: &str) -> Option<Vec<u8>> {
    let file = shared("CHRYSALIS_VECTORS", "vectors")?.join(path);
    let output = Command::new("gzip").arg("-dc").arg(&file).output().unwrap();
    assert!(output.status.success(), "cannot unpack {path}");
    Some(output.stdout)
}

pub(crate) fn digest(value: &serde_json::Value) -> Sha384Digest {
    value.as_str().unwrap().parse().unwrap()
}

/// Files of the pinned packages, unpacked once.
pub(crate) struct Inputs {
    /// Debian `ovmf-inteltdx` 2026.08, keys enrolled.
    pub(crate) inteltdx_ms: Vec<u8>,
    /// Debian `ovmf` 2025.02.
    pub(crate) ovmf_2025: Vec<u8>,
    /// The blank variable store.
    pub(crate) vars: Vec<u8>,
    /// A variable store with keys and boot options.
    pub(crate) vars_ms: Vec<u8>,
    /// Debian's cloud kernel 7.3.4.
    pub(crate) kernel: Vec<u8>,
}

impl Inputs {
    /// The firmware we recommend: Intel TDX build, blank store.
    pub(crate) fn blank(&self) -> Vec<u8> {
        self.with_store(&self.vars)
    }

    pub(crate) fn with_store(&self, store: &[u8]) -> Vec<u8> {
        [store, &self.inteltdx_ms[store.len()..]].concat()
    }
}

pub(crate) fn inputs() -> Option<&'static Inputs> {
    static INPUTS: OnceLock<Option<Inputs>> = OnceLock::new();
    INPUTS.get_or_init(unpack).as_ref()
}

fn unpack() -> Option<Inputs> {
    let root = shared("CHRYSALIS_INPUTS", "inputs")?;
    let read = |package: &str, path: &str| {
        let named = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().starts_with(package);
        let deb = std::fs::read_dir(&root).unwrap().flatten().find(named);
        let deb = deb.unwrap_or_else(|| panic!("package {package} is missing")).path();
        let dir = tempfile::tempdir().unwrap();
        let done = Command::new("dpkg-deb").arg("-x").arg(&deb).arg(dir.path()).status().unwrap();
        assert!(done.success(), "cannot unpack {package}");
        std::fs::read(dir.path().join(path)).unwrap_or_else(|e| panic!("{path} is missing: {e}"))
    };
    Some(Inputs {
        inteltdx_ms: read("ovmf-inteltdx_2026.08", "usr/share/ovmf/OVMF.inteltdx.ms.fd"),
        ovmf_2025: read("ovmf_2025.02", "usr/share/ovmf/OVMF.fd"),
        vars: read("ovmf_2025.02", "usr/share/OVMF/OVMF_VARS_4M.fd"),
        vars_ms: read("ovmf_2025.02", "usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
        kernel: read(
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "usr/lib/modules/7.3.4+deb13-cloud-amd64/vmlinuz",
        ),
    })
}

pub(crate) fn parse(firmware: &[u8]) -> Tdvf<'_> {
    Tdvf::parse(firmware).unwrap()
}
