//! `chrysalis manifest gramine` and `chrysalis measure gramine`: the manifest of an SGX enclave,
//! written from its template and files, and the MRENCLAVE that follows from it. Neither runs
//! anything or needs SGX.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use chrysalis_measure::sgx::{
    Area, GRAMINE_RELEASE, GramineManifest, GramineTemplate, MAX_GRAMINE_MANIFEST_BYTES,
    MAX_LIBPAL_BYTES, MAX_TEMPLATE_BYTES, MeasuredEnclave, PalImage, SIGSTRUCT_BYTES, Sigstruct,
    UnverifiedSigstruct, enclave_section,
};
use chrysalis_wire::Digest;
use chrysalis_wire::limits::MAX_MANIFEST_BYTES;
use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};
use crate::report::Text;

/// `manifest gramine`.
#[derive(Debug, Args)]
pub(crate) struct Write {
    /// The template, such as manifests/gramine.toml.
    #[arg(long, value_name = "FILE")]
    template: PathBuf,
    /// Where the files it names are found on this machine: a directory that stands for the root
    /// of the host that will run the enclave.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// The manifest to write; Gramine wants a name that ends in .manifest.sgx.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

/// `measure gramine`.
#[derive(Debug, Args)]
pub(crate) struct Measure {
    #[command(flatten)]
    enclave: Enclave,
    /// A signature that must be for exactly this enclave.
    #[arg(long, value_name = "FILE")]
    sigstruct: Option<PathBuf>,
    /// The MRENCLAVE it must have, in hex.
    #[arg(long, value_name = "HEX")]
    expect: Option<String>,
    /// Show what lies where in the enclave.
    #[arg(long)]
    layout: bool,
    /// The worker manifest it measures, for --pin-out.
    #[arg(long, value_name = "FILE", requires = "pin_out")]
    worker_manifest: Option<PathBuf>,
    /// Write the [sgx] section of a pins file that accepts exactly this enclave.
    #[arg(long, value_name = "FILE", requires = "worker_manifest")]
    pin_out: Option<PathBuf>,
    /// Name of the pin.
    #[arg(long, default_value = "enclave")]
    name: String,
}

/// What an enclave is made of.
#[derive(Debug, Args)]
pub(crate) struct Enclave {
    /// Its final manifest (.manifest.sgx).
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// sgx/libpal.so of the Gramine release that will run it.
    #[arg(long, value_name = "FILE")]
    libpal: PathBuf,
}

pub(crate) fn write(arguments: &Write, context: &Context) -> Result<(), Failure> {
    let text = files::read_text(&arguments.template, MAX_TEMPLATE_BYTES)?;
    let template = GramineTemplate::parse(&text)?;
    let manifest = template.write(|path| {
        let relative = path.trim_start_matches('/');
        files::sha256(&arguments.root.join(relative))
    })?;
    let existing = if arguments.force { Existing::Replace } else { Existing::Refuse };
    files::write(&arguments.out, manifest.as_bytes(), existing)?;
    let written = Written {
        path: arguments.out.display().to_string(),
        sha256: files::sha256(&arguments.out)?,
        measured_files: template.measured_files().count(),
    };
    context.report.result("chrysalis/gramine-manifest/v1", &written, |out| {
        out.field("manifest", &written.path)?;
        out.field("sha256", written.sha256)?;
        out.field("measured files", written.measured_files)?;
        out.line("Next: `chrysalis measure gramine` predicts the MRENCLAVE of an enclave with it.")
    })
}

pub(crate) fn measure(arguments: &Measure, context: &Context) -> Result<(), Failure> {
    let (manifest, measured, inputs) = arguments.enclave.measure()?;
    if let Some(expected) = &arguments.expect {
        let expected = Digest::from_str(expected).map_err(|e| Failure::hex("--expect", &e))?;
        agree("MRENCLAVE", expected, measured.mrenclave)?;
    }
    let signed = match &arguments.sigstruct {
        Some(path) => Some(judge(path, &manifest, &measured)?),
        None => None,
    };
    if let (Some(worker), Some(out)) = (&arguments.worker_manifest, &arguments.pin_out) {
        let worker = files::read(worker, MAX_MANIFEST_BYTES)?;
        let pin = enclave_section(&manifest, measured.mrenclave, &worker, &arguments.name)?;
        files::write(out, pin.as_bytes(), Existing::Replace)?;
    }
    let shown = Shown {
        mrenclave: measured.mrenclave,
        status: STATUS,
        gramine: GRAMINE_RELEASE,
        inputs,
        enclave_size: manifest.shape.size(),
        max_threads: manifest.shape.threads(),
        edmm: manifest.shape.edmm(),
        debug: manifest.attributes.debug(),
        dcap: manifest.dcap,
        isv_prod_id: manifest.isv_prod_id,
        isv_svn: manifest.isv_svn,
        trusted_files: manifest.trusted_files,
        allowed_files: &manifest.allowed_files,
        insecure: &manifest.insecure,
        mrsigner: signed.as_ref().map(Sigstruct::mrsigner),
        layout: arguments.layout.then(|| measured.areas.iter().map(Place::from).collect()),
    };
    context.report.result("chrysalis/sgx-measurement/v1", &shown, |out| shown.text(out))
}

impl Enclave {
    pub(super) const fn of(manifest: PathBuf, libpal: PathBuf) -> Self {
        Self { manifest, libpal }
    }

    /// Reads and measures; also the digests of what was read.
    pub(super) fn measure(&self) -> Result<(GramineManifest, MeasuredEnclave, Inputs), Failure> {
        let bytes = files::read(&self.manifest, MAX_GRAMINE_MANIFEST_BYTES)?;
        let manifest = GramineManifest::parse(&bytes)?;
        let libpal = files::read(&self.libpal, MAX_LIBPAL_BYTES)?;
        let pal = PalImage::parse(&libpal)?;
        let measured = MeasuredEnclave::gramine_v1_9(&manifest.shape, &bytes, &pal)?;
        let inputs = Inputs {
            manifest_sha256: files::digest(&bytes),
            libpal_sha256: files::digest(&libpal),
        };
        Ok((manifest, measured, inputs))
    }
}

/// A signature, verified and found to be for exactly this enclave.
pub(super) fn judge(
    path: &Path,
    manifest: &GramineManifest,
    measured: &MeasuredEnclave,
) -> Result<Sigstruct, Failure> {
    let signed = UnverifiedSigstruct::parse(&files::read(path, SIGSTRUCT_BYTES)?)?.verify()?;
    let body = signed.body();
    agree("MRENCLAVE", measured.mrenclave, body.mrenclave)?;
    let ids = |prod: u16, svn: u16| format!("product {prod}, security version {svn}");
    let expected = ids(manifest.isv_prod_id, manifest.isv_svn);
    agree("identity", expected, ids(body.isv_prod_id, body.isv_svn))?;
    let attributes = |a| format!("{a:x?}");
    agree("attributes", attributes(manifest.attributes), attributes(body.attributes))?;
    Ok(signed)
}

/// Refuses a value that is not the expected one.
fn agree<T: PartialEq + ToString>(what: &str, expected: T, found: T) -> Result<(), Failure> {
    if expected == found {
        return Ok(());
    }
    let message = format!("the {what} is not the expected one");
    Err(Failure::new(Class::Refused, "E-MRENCLAVE", message).compared(expected.to_string(), found.to_string()).next(
        "compare manifest and libpal.so with those of the release; one byte of either is another enclave",
    ))
}

#[derive(Serialize)]
struct Written {
    path: String,
    sha256: Digest,
    measured_files: usize,
}

/// Digests of the files an enclave was measured from.
#[derive(Serialize)]
pub(super) struct Inputs {
    manifest_sha256: Digest,
    libpal_sha256: Digest,
}

#[derive(Serialize)]
struct Shown<'a> {
    mrenclave: Digest,
    status: &'static str,
    gramine: &'static str,
    #[serde(flatten)]
    inputs: Inputs,
    enclave_size: u64,
    max_threads: u64,
    edmm: bool,
    debug: bool,
    dcap: bool,
    isv_prod_id: u16,
    isv_svn: u16,
    trusted_files: usize,
    allowed_files: &'a [String],
    insecure: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    mrsigner: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<Vec<Place>>,
}

impl Shown<'_> {
    fn text(&self, out: &mut Text) -> std::fmt::Result {
        if self.debug {
            out.warning("DEBUG  the host can read the memory of this enclave")?;
        }
        out.field("mrenclave", self.mrenclave)?;
        if let Some(mrsigner) = self.mrsigner {
            out.field("mrsigner", mrsigner)?;
        }
        out.field("status", self.status)?;
        out.field("gramine", self.gramine)?;
        out.field("manifest sha256", self.inputs.manifest_sha256)?;
        out.field("libpal sha256", self.inputs.libpal_sha256)?;
        let edmm = if self.edmm { "with EDMM" } else { "without EDMM" };
        let size = self.enclave_size >> 20;
        out.field("enclave", format!("{size} MiB, {} threads, {edmm}", self.max_threads))?;
        let identity = format!("{}, security version {}", self.isv_prod_id, self.isv_svn);
        out.field("product", identity)?;
        out.field("attestation", if self.dcap { "dcap" } else { "not DCAP: nobody can check it" })?;
        out.field("measured files", self.trusted_files)?;
        for file in self.allowed_files {
            out.field("unmeasured file", file)?;
        }
        for key in self.insecure {
            out.field("trusts its host", key)?;
        }
        for place in self.layout.iter().flatten() {
            let Place { name, start, size, measured } = place;
            let how = if *measured { "measured" } else { "added, contents not measured" };
            out.line(format!("  {start:#014x}  {size:#012x}  {name}, {how}"))?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Place {
    name: &'static str,
    start: u64,
    size: u64,
    measured: bool,
}

impl From<&Area> for Place {
    fn from(area: &Area) -> Self {
        Self { name: area.name, start: area.start, size: area.size, measured: area.measured }
    }
}

/// How well founded the prediction is.
const STATUS: &str = "cross-checked with Gramine's signer; not confirmed on SGX hardware";
