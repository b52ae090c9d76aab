//! The source of truth of a release: `values.toml`.

use std::collections::BTreeSet;

use chrysalis_evidence::{boot_events, replay_rtmr};
use chrysalis_wire::{Digest, ImagePlatform, RegisterValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::ReleaseError;
use crate::facts::{Facts, SOURCE_DIGEST, Scope};
use crate::provenance::SourceCommit;
use crate::release::VALUES_FILE;

/// Reference values of one release: what its files hash to and what its workers measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Values {
    /// [`VALUES_VERSION`].
    pub version: u32,
    /// Name of the release, as `0.1.0`.
    pub release: String,
    /// The platform its image was built for.
    pub platform: ImagePlatform,
    /// Whether it is a debug image. Nothing in production accepts one.
    pub debug: bool,
    /// How the firmware measures (`manifest.json` of the image names the same).
    pub firmware_profile: String,
    /// The commit it was built from, as its publisher says; building that again has to give the
    /// same values, whoever does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceCommit>,
    /// The Rust toolchain that built its programs, as `1.95.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolchain: Option<String>,
    /// The image's TD registers that no shape and no workload moves.
    pub tdx: Option<Tdx>,
    /// The enclave, where the release has one.
    pub sgx: Option<Sgx>,
    /// Files of the image.
    #[serde(default, rename = "part")]
    pub parts: Vec<Part>,
    /// Shapes it runs on.
    #[serde(default, rename = "shape")]
    pub shapes: Vec<Shape>,
    /// Manifests and models it serves.
    #[serde(default, rename = "workload")]
    pub workloads: Vec<Workload>,
}

/// Registers of the image: firmware, kernel, command line and initrd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tdx {
    /// Initial contents of the TD.
    pub mrtd: RegisterValue,
    /// Kernel.
    pub rtmr1: RegisterValue,
    /// Command line and initrd.
    pub rtmr2: RegisterValue,
    /// How far these values are known.
    pub status: ValueStatus,
}

/// An SGX enclave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgx {
    /// The enclave's identity.
    pub mrenclave: Digest,
    /// Its signer's identity.
    pub mrsigner: Digest,
    /// Product id.
    pub isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
    /// How far these values are known.
    pub status: ValueStatus,
}

/// A file of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// File name.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: Digest,
}

/// A VM shape under one QEMU version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Name in the menu.
    pub name: String,
    /// QEMU version, as `11.1.3`.
    pub qemu: String,
    /// Firmware configuration.
    pub rtmr0: RegisterValue,
    /// How far this value is known.
    pub status: ValueStatus,
}

/// A worker manifest with its model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Name of the model served.
    pub name: String,
    /// SHA-256 of the manifest's bytes.
    pub manifest_sha256: Digest,
    /// Content root of the model bundle.
    pub model_root: Digest,
    /// What PID 1 leaves in the runtime register; it follows from the two above, and a file that
    /// says otherwise is refused.
    pub rtmr3: RegisterValue,
}

/// How far a value is known. Order is from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueStatus {
    /// A quote from hardware had it.
    ConfirmedByHardware,
    /// Two independent computations agree.
    CrossChecked,
    /// Computed; at least one step was inferred from source code.
    Inferred,
}

impl ValueStatus {
    /// As the file spells it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::ConfirmedByHardware => "confirmed-by-hardware",
            Self::CrossChecked => "cross-checked",
            Self::Inferred => "inferred",
        }
    }
}

impl Values {
    /// Reads reference values from untrusted bytes.
    ///
    /// # Errors
    /// [`ReleaseError`], saying which field and what was expected.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        if bytes.len() > MAX_VALUES_BYTES {
            let got = bytes.len();
            return Err(ReleaseError::TooLarge { file: VALUES_FILE, got, max: MAX_VALUES_BYTES });
        }
        let malformed = |reason| ReleaseError::Malformed { file: VALUES_FILE, reason };
        let text = core::str::from_utf8(bytes).map_err(|e| malformed(format!("not UTF-8: {e}")))?;
        let values: Self = toml::from_str(text).map_err(|e| malformed(e.message().to_owned()))?;
        values.check()?;
        Ok(values)
    }

    /// The file in its one spelling: [`Self::parse`] reads the same back.
    ///
    /// # Errors
    /// As [`Self::parse`], for values that were not parsed.
    pub fn to_toml(&self) -> Result<String, ReleaseError> {
        self.check()?;
        let reason = |e: toml::ser::Error| e.to_string();
        let body = toml::to_string(self).map_err(reason);
        let body = body.map_err(|reason| ReleaseError::Malformed { file: VALUES_FILE, reason })?;
        Ok(format!("{HEADER}{body}"))
    }

    /// SHA-256 of the file in its one spelling. Every other dialect names it.
    ///
    /// # Errors
    /// As [`Self::to_toml`].
    pub fn sha256(&self) -> Result<Digest, ReleaseError> {
        Ok(Digest(Sha256::digest(self.to_toml()?).into()))
    }

    /// What the values say, one by one.
    ///
    /// # Errors
    /// As [`Self::to_toml`].
    pub fn facts(&self, scope: Scope) -> Result<Facts, ReleaseError> {
        let mut facts = Facts::default();
        facts.say(SOURCE_DIGEST, self.sha256()?.to_string())?;
        facts.say("release/name", self.release.clone())?;
        facts.say("release/platform", self.platform.to_string())?;
        facts.say("release/debug", self.debug.to_string())?;
        if let Some(tdx) = &self.tdx {
            facts.say("tdx/mrtd", tdx.mrtd.to_string())?;
            facts.say("tdx/rtmr1", tdx.rtmr1.to_string())?;
            facts.say("tdx/rtmr2", tdx.rtmr2.to_string())?;
        }
        if let Some(sgx) = &self.sgx {
            facts.say("sgx/mrenclave", sgx.mrenclave.to_string())?;
            facts.say("sgx/mrsigner", sgx.mrsigner.to_string())?;
        }
        for shape in &self.shapes {
            let name = format!("shape/{}/{}/rtmr0", shape.name, shape.qemu);
            facts.say(name, shape.rtmr0.to_string())?;
        }
        for workload in &self.workloads {
            let name = &workload.name;
            let (manifest, root) = (workload.manifest_sha256, workload.model_root);
            facts.say(format!("workload/{name}/manifest"), manifest.to_string())?;
            facts.say(format!("workload/{name}/model-root"), root.to_string())?;
            facts.say(format!("workload/{name}/rtmr3"), workload.rtmr3.to_string())?;
        }
        if scope == Scope::Whole {
            if let Some(source) = &self.source {
                facts.say("release/source", source.to_string())?;
            }
            if let Some(toolchain) = &self.toolchain {
                facts.say("release/toolchain", toolchain.clone())?;
            }
            for part in &self.parts {
                facts.say(format!("part/{}", part.name), part.sha256.to_string())?;
            }
        }
        Ok(facts)
    }

    pub(crate) fn check(&self) -> Result<(), ReleaseError> {
        if self.version != VALUES_VERSION {
            let (got, expected) = (self.version, VALUES_VERSION);
            return Err(ReleaseError::UnsupportedVersion { got, expected });
        }
        name("release", &self.release)?;
        name("firmware_profile", &self.firmware_profile)?;
        if let Some(toolchain) = &self.toolchain {
            name("toolchain", toolchain)?;
        }
        if self.tdx.is_none() && !self.shapes.is_empty() {
            return Err(ReleaseError::NothingToPin { missing: "tdx section" });
        }
        list("part", self.parts.iter().map(|p| p.name.clone()), MAX_PARTS)?;
        for part in &self.parts {
            name("part.name", &part.name)?;
        }
        let shapes = self.shapes.iter().map(|s| format!("{}/{}", s.name, s.qemu));
        list("shape", shapes, MAX_SHAPES)?;
        for shape in &self.shapes {
            name("shape.name", &shape.name)?;
            name("shape.qemu", &shape.qemu)?;
        }
        list("workload", self.workloads.iter().map(|w| w.name.clone()), MAX_WORKLOADS)?;
        for workload in &self.workloads {
            name("workload.name", &workload.name)?;
            let events = boot_events(&workload.manifest_sha256, &workload.model_root);
            let expected = RegisterValue(replay_rtmr(&events)?);
            if workload.rtmr3 != expected {
                return Err(ReleaseError::Rtmr3 {
                    name: workload.name.clone(),
                    expected: expected.to_string(),
                    got: workload.rtmr3.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// One spelling for names that end up in file names, facts and hashes.
pub(crate) fn name(field: &'static str, got: &str) -> Result<(), ReleaseError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    if (1..=MAX_NAME_CHARS).contains(&got.len()) && got.bytes().all(good) {
        return Ok(());
    }
    let got = got.chars().take(MAX_NAME_CHARS).collect();
    Err(ReleaseError::Value { field, got, expected: "1 to 64 of a-z, 0-9, dot, dash, underscore" })
}

pub(crate) fn list(
    field: &'static str,
    names: impl Iterator<Item = String>,
    max: usize,
) -> Result<(), ReleaseError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if seen.len() == max {
            return Err(ReleaseError::TooMany { field, got: max.saturating_add(1), max });
        }
        if !seen.insert(name.clone()) {
            return Err(ReleaseError::Duplicate { field, name });
        }
    }
    Ok(())
}

/// Version of `values.toml` this build reads.
pub const VALUES_VERSION: u32 = 1;

/// Largest `values.toml` accepted, in bytes.
pub const MAX_VALUES_BYTES: usize = 256 * 1024;

/// An image has five parts; a GPU image a root file system more.
pub(crate) const MAX_PARTS: usize = 32;
/// Shapes times QEMU versions.
pub(crate) const MAX_SHAPES: usize = 256;
pub(crate) const MAX_WORKLOADS: usize = 256;
const MAX_NAME_CHARS: usize = 64;

const HEADER: &str = "\
# Reference values of a Chrysalis release. The other files of this folder are written from this
# one by `chrysalis release build`; `chrysalis release verify` checks that they say the same.

";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    fn changed(change: impl FnOnce(&mut Values)) -> Result<Values, ReleaseError> {
        let mut values = values();
        change(&mut values);
        let text = format!("{HEADER}{}", toml::to_string(&values).unwrap());
        Values::parse(text.as_bytes())
    }

    #[test]
    fn reads_back_what_it_writes_in_one_spelling() {
        let values = values();
        let text = values.to_toml().unwrap();
        let again = Values::parse(text.as_bytes()).unwrap();
        assert_eq!(again, values);
        assert_eq!(again.to_toml().unwrap(), text);
    }

    #[test]
    fn refuses_an_rtmr3_that_does_not_follow_from_manifest_and_model() {
        let refused = changed(|v| v.workloads[0].rtmr3.0[47] ^= 1);
        assert!(matches!(refused, Err(ReleaseError::Rtmr3 { .. })));
        let refused = changed(|v| v.workloads[0].model_root.0[0] ^= 1);
        assert!(matches!(refused, Err(ReleaseError::Rtmr3 { .. })));
    }

    #[test]
    fn refuses_another_version_an_unknown_field_and_upper_case_hex() {
        let refused = changed(|v| v.version = 2);
        assert_eq!(refused, Err(ReleaseError::UnsupportedVersion { got: 2, expected: 1 }));
        let text = values().to_toml().unwrap();
        for (from, to) in
            [("debug = false", "debug = false\nnote = 1"), ("mrtd = \"1", "mrtd = \"A")]
        {
            let text = text.replacen(from, to, 1);
            let refused = Values::parse(text.as_bytes());
            assert!(matches!(refused, Err(ReleaseError::Malformed { .. })), "{to}");
        }
    }

    #[test]
    fn refuses_names_that_are_paths_or_have_two_spellings() {
        for bad in ["", "a/b", "A", "a b", "é", &"x".repeat(65)] {
            let refused = changed(|v| v.parts[0].name = bad.to_owned());
            assert!(matches!(refused, Err(ReleaseError::Value { field: "part.name", .. })));
        }
        assert!(changed(|v| v.parts[0].name = "x".repeat(64)).is_ok());
    }

    #[test]
    fn refuses_two_entries_of_one_name() {
        for refused in [
            changed(|v| v.parts.push(v.parts[0].clone())),
            changed(|v| v.shapes.push(v.shapes[0].clone())),
            changed(|v| v.workloads.push(v.workloads[0].clone())),
        ] {
            assert!(matches!(refused, Err(ReleaseError::Duplicate { .. })));
        }
        // The same shape under another QEMU is another entry.
        let other = changed(|v| {
            let qemu = "12.0.0".to_owned();
            v.shapes.push(Shape { qemu, ..v.shapes[0].clone() });
        });
        assert!(other.is_ok());
    }

    #[test]
    fn refuses_one_shape_too_many() {
        let with = |count: usize| {
            changed(|v| {
                let first = v.shapes[0].clone();
                let named = |i| Shape { name: format!("s{i}"), ..first.clone() };
                v.shapes = (0..count).map(named).collect();
            })
        };
        assert!(with(MAX_SHAPES).is_ok());
        let (field, got, max) = ("shape", MAX_SHAPES + 1, MAX_SHAPES);
        assert_eq!(with(got), Err(ReleaseError::TooMany { field, got, max }));
    }

    #[test]
    fn refuses_shapes_without_the_registers_they_complete() {
        let refused = changed(|v| v.tdx = None);
        assert_eq!(refused, Err(ReleaseError::NothingToPin { missing: "tdx section" }));
    }

    #[test]
    fn refuses_one_byte_over_the_limit() {
        let mut bytes = values().to_toml().unwrap().into_bytes();
        bytes.resize(MAX_VALUES_BYTES, b'\n');
        assert!(Values::parse(&bytes).is_ok());
        bytes.push(b'\n');
        assert!(matches!(Values::parse(&bytes), Err(ReleaseError::TooLarge { .. })));
    }
}
