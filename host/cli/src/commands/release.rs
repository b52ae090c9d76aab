//! `chrysalis release`: reference values of an image, computed from its files, in every dialect, and
//! pins from them. Offline: it reads files and trusts none of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrysalis_release::{
    BOC_FILE, CORIM_FILE, INTOTO_FILE, MAX_VALUES_BYTES, Recomputed, Release, ReleaseError,
    VALUES_FILE, ValueStatus, Values, pins_for,
};
use chrysalis_wire::{Digest, RegisterValue};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::commands::manifest::Network;
use crate::commands::release_image::{Beside, FromImage, Workloads};
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};
use crate::report::Text;

/// What to do with a release.
#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Compute the reference values of an image, and write them as values.toml, CoRIM, in-toto
    /// statement and TON cell.
    ///
    /// Offline, from files alone, and the same wherever it runs: an auditor who builds the image
    /// again gets the same four files.
    Build(Build),
    /// Check that all files of a release say the same and, with --image, that they say what the
    /// image measures.
    ///
    /// With --image every value is computed again, and the first that differs is named with its
    /// register and the file it comes from. Without, nothing is computed from an image.
    Verify(Verify),
    /// Write the pins of a verified release for a proxy.
    ///
    /// A release of the image alone has no worker manifest in it; say with --workload which you
    /// accept.
    Pins(Pins),
}

/// `release build`.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Do not compute anything: write the other dialects of this values.toml.
    #[arg(long, value_name = "FILE", required_unless_present = "image", conflicts_with = "image")]
    values: Option<PathBuf>,
    #[command(flatten)]
    from: FromImage,
    #[command(flatten)]
    beside: Beside,
    /// The folder to write; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// `release verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The folder of the release, or its name below manifests/releases.
    #[arg(value_name = "DIR|NAME")]
    release: PathBuf,
    /// Compute every value again from this image directory.
    #[arg(long, value_name = "DIR")]
    image: Option<PathBuf>,
    #[command(flatten)]
    beside: Beside,
}

/// `release pins`.
#[derive(Debug, Args)]
pub(crate) struct Pins {
    /// The folder of the release, or its name below manifests/releases.
    #[arg(value_name = "DIR|NAME")]
    release: PathBuf,
    #[command(flatten)]
    workloads: Workloads,
    /// The network to serve: `testnet`, `mainnet`, or a TON global id.
    #[arg(long, value_name = "NETWORK", allow_hyphen_values = true)]
    network: Network,
    /// A file with the `[platform]` section: which platforms you accept is your decision, and no
    /// release can make it. `manifests/pins.example.toml` explains each field.
    #[arg(long, value_name = "FILE")]
    platform: PathBuf,
    /// The pins file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(command: &ReleaseCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        ReleaseCommand::Build(arguments) => build(arguments, context)?,
        ReleaseCommand::Verify(arguments) => verify(arguments, context)?,
        ReleaseCommand::Pins(arguments) => pins(arguments, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn build(arguments: &Build, context: &Context) -> Result<(), Failure> {
    let values = match (&arguments.values, arguments.from.values(&arguments.beside, context)?) {
        (Some(path), None) => {
            arguments.beside.without_image()?;
            Values::parse(&files::read(path, MAX_VALUES_BYTES)?)?
        }
        (_, Some(values)) => values,
        (None, None) => return Err(ReleaseError::NothingToPin { missing: "image" }.into()),
    };
    arguments.beside.allows(&values)?;
    let release = Release::build(values)?;
    let out = &arguments.out;
    std::fs::create_dir_all(out).map_err(|e| Failure::file("create", out, &e))?;
    for (name, bytes) in release.files() {
        files::write(&out.join(name), bytes, Existing::Replace)?;
    }
    // What counts is what lies on the disk now.
    report("wrote", &read(out)?, out, None, context)
}

fn verify(arguments: &Verify, context: &Context) -> Result<(), Failure> {
    let dir = folder(&arguments.release);
    let release = read(&dir)?;
    let beside = &arguments.beside;
    beside.allows(&release.values)?;
    let recomputed = match &arguments.image {
        Some(image) => Some(beside.recompute(&release.values, image)?),
        None => beside.without_image().map(|()| None)?,
    };
    report("agree", &release, &dir, recomputed, context)
}

fn pins(arguments: &Pins, context: &Context) -> Result<(), Failure> {
    let release = read(&folder(&arguments.release))?;
    let platform = files::read_text(&arguments.platform, MAX_VALUES_BYTES)?;
    let network = arguments.network.0;
    let workloads = arguments.workloads.read_for(network)?;
    let text = pins_for(&release.values, &workloads, network, &platform)?;
    files::write(&arguments.out, text.as_bytes(), Existing::Replace)?;
    let values = &release.values;
    let count = values.workloads.len().saturating_add(workloads.len());
    let shown = Pinned {
        path: arguments.out.display().to_string(),
        release: values.release.clone(),
        workers: values.shapes.len().saturating_mul(count),
    };
    context.report.result("chrysalis/release-pins/v1", &shown, |out| {
        out.field("pins", &shown.path)?;
        out.field("release", &shown.release)?;
        out.field("workers", shown.workers)
    })
}

/// The folder of a release: as given, or below the releases of this tree.
pub(crate) fn folder(given: &Path) -> PathBuf {
    let named = Path::new(RELEASES_DIR).join(given);
    if !given.exists() && named.is_dir() { named } else { given.to_path_buf() }
}

/// Reads and verifies the release in a folder.
pub(crate) fn read(dir: &Path) -> Result<Release, Failure> {
    let file = |name: &str| files::read(&dir.join(name), MAX_FILE_BYTES);
    let (toml, corim) = (file(VALUES_FILE)?, file(CORIM_FILE)?);
    let (intoto, boc) = (file(INTOTO_FILE)?, file(BOC_FILE)?);
    Ok(Release::verify(&toml, &corim, &intoto, &boc)?)
}

fn report(
    outcome: &'static str,
    release: &Release,
    dir: &Path,
    recomputed: Option<Recomputed>,
    context: &Context,
) -> Result<(), Failure> {
    let shown = Shown::of(outcome, release, dir, recomputed)?;
    let values = &release.values;
    context.report.result("chrysalis/release/v1", &shown, |out| {
        if values.platform == chrysalis_wire::ImagePlatform::InsecureSim {
            out.warning("INSECURE-SIM  a release for simulation; its values prove nothing")?;
        }
        if values.debug {
            out.warning("DEBUG  a debug image; nothing in production accepts it")?;
        }
        shown.text(dir, out)
    })
}

#[derive(Serialize)]
struct Shown {
    outcome: &'static str,
    dir: String,
    release: String,
    platform: String,
    debug: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    toolchain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registers: Option<[RegisterValue; 3]>,
    status: Option<&'static str>,
    values_sha256: Digest,
    cell_hash: Digest,
    parts: usize,
    shapes: Vec<String>,
    workloads: Vec<String>,
    recomputed: Option<Again>,
}

#[derive(Serialize)]
struct Again {
    image: Digest,
    values: Vec<String>,
    open: Vec<String>,
}

impl Shown {
    fn of(
        outcome: &'static str,
        release: &Release,
        dir: &Path,
        recomputed: Option<Recomputed>,
    ) -> Result<Self, Failure> {
        let values = &release.values;
        let tdx = values.tdx.as_ref();
        let statuses = values.shapes.iter().map(|s| s.status).chain(tdx.map(|t| t.status));
        Ok(Self {
            outcome,
            dir: dir.display().to_string(),
            release: values.release.clone(),
            platform: values.platform.to_string(),
            debug: values.debug,
            source: values.source.as_ref().map(ToString::to_string),
            toolchain: values.toolchain.clone(),
            registers: tdx.map(|t| [t.mrtd, t.rtmr1, t.rtmr2]),
            status: statuses.max().map(ValueStatus::text),
            values_sha256: values.sha256()?,
            cell_hash: release.cell_hash()?,
            parts: values.parts.len(),
            shapes: values.shapes.iter().map(|s| format!("{} (QEMU {})", s.name, s.qemu)).collect(),
            workloads: values.workloads.iter().map(|w| w.name.clone()).collect(),
            recomputed: recomputed.map(|Recomputed { image, values, open }| Again {
                image,
                values,
                open,
            }),
        })
    }

    fn text(&self, dir: &Path, out: &mut Text) -> std::fmt::Result {
        out.field("release", &self.release)?;
        out.field("platform", &self.platform)?;
        for (name, value) in [("source", &self.source), ("toolchain", &self.toolchain)] {
            value.as_ref().map_or(Ok(()), |value| out.field(name, value))?;
        }
        for name in [VALUES_FILE, CORIM_FILE, INTOTO_FILE, BOC_FILE] {
            out.field(name, dir.join(name).display())?;
        }
        out.field("values sha256", self.values_sha256)?;
        out.field("cell hash", self.cell_hash)?;
        for (name, value) in ["mrtd", "rtmr1", "rtmr2"].iter().zip(self.registers.iter().flatten())
        {
            out.field(name, value)?;
        }
        if let Some(status) = self.status {
            out.field("weakest value", status)?;
        }
        let list =
            |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
        out.field("image parts", self.parts)?;
        out.field("shapes", list(&self.shapes))?;
        out.field("workloads", list(&self.workloads))?;
        out.line("All four files say the same. Whose release it is, its signature has to say.")?;
        let Some(again) = &self.recomputed else {
            return if self.outcome == "wrote" {
                Ok(())
            } else {
                out.line("Nothing was recomputed: --image DIR computes every value from the files.")
            };
        };
        out.field("image", again.image)?;
        out.field("recomputed", again.values.join(", "))?;
        for open in &again.open {
            out.field("NOT recomputed", open)?;
        }
        if again.open.is_empty() {
            return out.verdict(true, "every value is what the image measures");
        }
        out.warning("what was recomputed is what the image measures; the rest was not checked")
    }
}

#[derive(Serialize)]
struct Pinned {
    path: String,
    release: String,
    workers: usize,
}

impl From<ReleaseError> for Failure {
    fn from(error: ReleaseError) -> Self {
        use ReleaseError as E;
        let class = match &error {
            E::UnsupportedVersion { .. } => Class::Unsupported,
            E::Disagrees { .. } | E::NotCanonical { .. } | E::Rtmr3 { .. } => Class::Refused,
            E::Simulated => Class::Refused,
            E::NothingToPin { .. } | E::Bios | E::NoEntry { .. } | E::Ambiguous { .. } => {
                Class::Usage
            }
            E::Pins(inner) => return inner.clone().into(),
            E::Shape(inner) => return inner.clone().into(),
            E::Measure(inner) => return inner.clone().into(),
            E::Manifest(inner) => return inner.clone().into(),
            E::Image { moved: None, error } => return (**error).clone().into(),
            E::Image { moved: Some(_), .. } | E::Differs(_) => Class::Refused,
            _ => Class::Malformed,
        };
        let failure = Self::new(class, error.code(), error.to_string()).next(error.next_step());
        match error {
            E::Disagrees { expected, got, .. } | E::Rtmr3 { expected, got, .. } => {
                failure.compared(expected, got)
            }
            E::Differs(moved) | E::Image { moved: Some(moved), .. } => {
                failure.compared(moved.expected, moved.found)
            }
            _ => failure,
        }
    }
}

/// Where this tree keeps the values of its releases.
const RELEASES_DIR: &str = "manifests/releases";

/// Largest file of a release read, in bytes; the library's own limits are lower or equal.
const MAX_FILE_BYTES: usize = 1024 * 1024;
