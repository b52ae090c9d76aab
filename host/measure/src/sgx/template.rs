//! The source of truth of a Gramine manifest (`manifests/gramine.toml`): a closed schema, because a
//! field that is misspelt is a field that is not there. Its author is trusted, its spelling is not.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::error::{GramineError, SgxError};
use super::gramine::{EnclaveAttributes, cpu_feature, parse_size};
use super::layout::EnclaveShape;

/// Version of the format.
pub const TEMPLATE_VERSION: u32 = 1;

/// The Gramine release whose manifest syntax and layout are written.
pub const GRAMINE_RELEASE: &str = "1.9";

/// Largest template read, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 256 << 10;

/// Most files of a template, measured and unmeasured together.
pub const MAX_TEMPLATE_FILES: usize = 256;

/// Most characters of a path or an argument.
pub const MAX_TEMPLATE_TEXT: usize = 255;

/// A template that can be written as a manifest.
#[derive(Clone, Debug)]
pub struct GramineTemplate {
    pub(super) raw: Raw,
    pub(super) shape: EnclaveShape,
}

/// A file of the host that is seen inside.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) host: String,
    pub(super) inside: String,
}

/// A file that the host may change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unmeasured {
    pub(super) host: String,
    pub(super) inside: String,
    reason: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    version: u32,
    gramine: String,
    pub(super) enclave: Enclave,
    pub(super) process: Process,
    pub(super) program: Program,
    #[serde(rename = "file")]
    pub(super) files: Vec<File>,
    #[serde(default)]
    pub(super) unmeasured: Vec<Unmeasured>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Enclave {
    pub(super) size: String,
    max_threads: u64,
    edmm_enable: bool,
    pub(super) isv_prod_id: u16,
    pub(super) isv_svn: u16,
    pub(super) cpu_features: CpuFeatures,
}

/// Every feature, explicitly.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CpuFeatures {
    avx: String,
    avx512: String,
    amx: String,
    mpx: String,
    pkru: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Process {
    pub(super) stack: String,
    pub(super) brk: String,
    pub(super) allow_eventfd: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    pub(super) libos: String,
    pub(super) entrypoint: String,
    pub(super) arguments: Vec<String>,
}

impl GramineTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`SgxError::TooLarge`], [`SgxError::Manifest`] and [`SgxError::Enclave`].
    pub fn parse(text: &str) -> Result<Self, SgxError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            let (what, limit) = ("Gramine template", MAX_TEMPLATE_BYTES);
            return Err(SgxError::TooLarge { what, limit, got: text.len() });
        }
        let raw: Raw = toml::from_str(text).map_err(|e| GramineError::Toml(e.to_string()))?;
        if raw.version != TEMPLATE_VERSION {
            return Err(value("version", "1", &raw.version.to_string()).into());
        }
        if raw.gramine != GRAMINE_RELEASE {
            return Err(value("gramine", "the release this tool knows, 1.9", &raw.gramine).into());
        }
        let enclave = &raw.enclave;
        let size = parse_size("enclave.size", &enclave.size)?;
        let shape = EnclaveShape::new(size, enclave.max_threads, enclave.edmm_enable)?;
        for (name, setting) in enclave.cpu_features.each() {
            cpu_feature(&mut EnclaveAttributes::default(), name, setting)?;
        }
        parse_size("process.stack", &raw.process.stack)?;
        parse_size("process.brk", &raw.process.brk)?;
        raw.check_files()?;
        raw.check_program()?;
        Ok(Self { raw, shape })
    }

    /// The paths, on the host that will run the enclave, of all files whose hash the manifest
    /// will carry.
    pub fn measured_files(&self) -> impl Iterator<Item = &str> {
        let files = self.raw.files.iter().map(|file| file.host.as_str());
        core::iter::once(self.raw.program.libos.as_str()).chain(files)
    }
}

impl Raw {
    fn check_files(&self) -> Result<(), GramineError> {
        let count = self.files.len().saturating_add(self.unmeasured.len());
        if count > MAX_TEMPLATE_FILES {
            return Err(value("file", "at most 256 files", &count.to_string()));
        }
        let (mut hosts, mut insides) = (BTreeSet::new(), BTreeSet::new());
        let measured = self.files.iter().map(|file| (&file.host, &file.inside));
        let unmeasured = self.unmeasured.iter().map(|file| (&file.host, &file.inside));
        check_path("program.libos", &self.program.libos)?;
        hosts.insert(self.program.libos.as_str());
        for (host, inside) in measured.chain(unmeasured) {
            check_path("file.host", host)?;
            check_path("file.inside", inside)?;
            for (set, path) in [(&mut hosts, host), (&mut insides, inside)] {
                if !set.insert(path.as_str()) {
                    return Err(value("file", "every path once", path));
                }
            }
        }
        match self.unmeasured.iter().find(|file| file.reason.trim().is_empty()) {
            Some(file) => Err(value("unmeasured.reason", "why that is harmless", &file.host)),
            None => Ok(()),
        }
    }

    fn check_program(&self) -> Result<(), GramineError> {
        let Program { entrypoint, arguments, .. } = &self.program;
        if !self.files.iter().any(|file| file.inside == *entrypoint) {
            return Err(value("program.entrypoint", "the inside path of a [[file]]", entrypoint));
        }
        if arguments.is_empty() || arguments.len() > MAX_ARGUMENTS {
            let expected = "1 to 64 arguments, the program's own name first";
            return Err(value("program.arguments", expected, &arguments.len().to_string()));
        }
        let unmeasured = self.unmeasured.iter().map(|file| file.inside.as_str());
        let inside: Vec<&str> =
            self.files.iter().map(|file| file.inside.as_str()).chain(unmeasured).collect();
        for argument in arguments {
            if !is_plain(argument) {
                return Err(value("program.arguments", PLAIN, argument));
            }
            // A directory is known by a file in it.
            let known = |path: &&str| {
                path.strip_prefix(argument.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if argument.starts_with('/') && !inside.iter().any(known) {
                return Err(value("program.arguments", "a path that is there, inside", argument));
            }
        }
        Ok(())
    }
}

impl CpuFeatures {
    /// Name and setting, in alphabetical order.
    pub(super) fn each(&self) -> [(&'static str, &str); 5] {
        [
            ("amx", &self.amx),
            ("avx", &self.avx),
            ("avx512", &self.avx512),
            ("mpx", &self.mpx),
            ("pkru", &self.pkru),
        ]
    }
}

fn check_path(field: &str, path: &str) -> Result<(), GramineError> {
    let mut parts = path.split('/');
    let absolute = parts.next() == Some("");
    let normal = parts.all(|part| !part.is_empty() && part != "." && part != "..");
    if absolute && normal && is_plain(path) {
        return Ok(());
    }
    Err(value(field, "an absolute path without . and .. and //, printable ASCII", path))
}

/// Whether a text can stand in a basic TOML string, and in any terminal, as it is.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    !text.is_empty() && text.len() <= MAX_TEMPLATE_TEXT && text.bytes().all(plain)
}

fn value(field: &str, expected: &'static str, got: &str) -> GramineError {
    GramineError::Value {
        field: field.to_owned(),
        expected,
        got: got.chars().take(MAX_TEMPLATE_TEXT).collect(),
    }
}

const PLAIN: &str = "1 to 255 printable ASCII characters without quotes and backslashes";
const MAX_ARGUMENTS: usize = 64;
