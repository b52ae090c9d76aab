//! `chrysalis release`: reference values of a release, in every dialect, and pins from them.
//! Offline: it reads files and trusts none of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrysalis_release::{
    BOC_FILE, CORIM_FILE, INTOTO_FILE, MAX_VALUES_BYTES, Release, VALUES_FILE, Values, pins_for,
};
use chrysalis_wire::Digest;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::commands::manifest::Network;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};

/// What to do with a release.
#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Write a release from its `values.toml`: CoRIM, in-toto statement and TON cell.
    Build(Build),
    /// Check that all files of a release say the same.
    Verify(Verify),
    /// Write the pins of a verified release for a proxy.
    Pins(Pins),
}

/// `release build`.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The source of truth.
    #[arg(long, value_name = "FILE")]
    values: PathBuf,
    /// The folder to write; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// `release verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The folder of the release.
    #[arg(value_name = "DIR")]
    release: PathBuf,
}

/// `release pins`.
#[derive(Debug, Args)]
pub(crate) struct Pins {
    /// The folder of the release.
    #[arg(value_name = "DIR")]
    release: PathBuf,
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
    let values = Values::parse(&files::read(&arguments.values, MAX_VALUES_BYTES)?)?;
    let release = Release::build(values)?;
    let out = &arguments.out;
    std::fs::create_dir_all(out).map_err(|e| Failure::file("create", out, &e))?;
    for (name, bytes) in release.files() {
        files::write(&out.join(name), bytes, Existing::Replace)?;
    }
    // What counts is what lies on the disk now.
    report("wrote", &read(out)?, out, context)
}

fn verify(arguments: &Verify, context: &Context) -> Result<(), Failure> {
    report("agree", &read(&arguments.release)?, &arguments.release, context)
}

fn pins(arguments: &Pins, context: &Context) -> Result<(), Failure> {
    let release = read(&arguments.release)?;
    let platform = files::read_text(&arguments.platform, MAX_VALUES_BYTES)?;
    let text = pins_for(&release.values, &[], arguments.network.0, &platform)?;
    files::write(&arguments.out, text.as_bytes(), Existing::Replace)?;
    let values = &release.values;
    let shown = Pinned {
        path: arguments.out.display().to_string(),
        release: values.release.clone(),
        workers: values.shapes.len().saturating_mul(values.workloads.len()),
    };
    context.report.result("chrysalis/release-pins/v1", &shown, |out| {
        out.field("pins", &shown.path)?;
        out.field("release", &shown.release)?;
        out.field("workers", shown.workers)
    })
}

/// Reads and verifies the release in a folder.
fn read(dir: &Path) -> Result<Release, Failure> {
    let file = |name: &str| files::read(&dir.join(name), MAX_FILE_BYTES);
    let (toml, corim) = (file(VALUES_FILE)?, file(CORIM_FILE)?);
    let (intoto, boc) = (file(INTOTO_FILE)?, file(BOC_FILE)?);
    Ok(Release::verify(&toml, &corim, &intoto, &boc)?)
}

fn report(
    outcome: &'static str,
    release: &Release,
    dir: &Path,
    context: &Context,
) -> Result<(), Failure> {
    let values = &release.values;
    let shown = Shown {
        outcome,
        dir: dir.display().to_string(),
        release: values.release.clone(),
        platform: values.platform.to_string(),
        debug: values.debug,
        values_sha256: values.sha256()?,
        cell_hash: release.cell_hash()?,
        parts: values.parts.len(),
        shapes: values.shapes.iter().map(|s| format!("{} (QEMU {})", s.name, s.qemu)).collect(),
        workloads: values.workloads.iter().map(|w| w.name.clone()).collect(),
    };
    context.report.result("chrysalis/release/v1", &shown, |out| {
        if values.platform == chrysalis_wire::ImagePlatform::InsecureSim {
            out.warning("INSECURE-SIM  a release for simulation; its values prove nothing")?;
        }
        if values.debug {
            out.warning("DEBUG  a debug image; nothing in production accepts it")?;
        }
        out.field("release", &shown.release)?;
        out.field("platform", &shown.platform)?;
        for name in [VALUES_FILE, CORIM_FILE, INTOTO_FILE, BOC_FILE] {
            out.field(name, dir.join(name).display())?;
        }
        out.field("values sha256", shown.values_sha256)?;
        out.field("cell hash", shown.cell_hash)?;
        out.field("image parts", shown.parts)?;
        out.field("shapes", shown.shapes.join(", "))?;
        out.field("workloads", shown.workloads.join(", "))?;
        out.line("All four files say the same. Whose release it is, its signature has to say.")
    })
}

#[derive(Serialize)]
struct Shown {
    outcome: &'static str,
    dir: String,
    release: String,
    platform: String,
    debug: bool,
    values_sha256: Digest,
    cell_hash: Digest,
    parts: usize,
    shapes: Vec<String>,
    workloads: Vec<String>,
}

#[derive(Serialize)]
struct Pinned {
    path: String,
    release: String,
    workers: usize,
}

impl From<chrysalis_release::ReleaseError> for Failure {
    fn from(error: chrysalis_release::ReleaseError) -> Self {
        use chrysalis_release::ReleaseError as E;
        let class = match &error {
            E::UnsupportedVersion { .. } => Class::Unsupported,
            E::Disagrees { .. } | E::NotCanonical { .. } | E::Rtmr3 { .. } => Class::Refused,
            E::NothingToPin { .. } => Class::Usage,
            E::Pins(inner) => return inner.clone().into(),
            _ => Class::Malformed,
        };
        let failure = Self::new(class, error.code(), error.to_string()).next(error.next_step());
        match error {
            E::Disagrees { expected, got, .. } | E::Rtmr3 { expected, got, .. } => {
                failure.compared(expected, got)
            }
            _ => failure,
        }
    }
}

/// Largest file of a release read, in bytes; the library's own limits are lower or equal.
const MAX_FILE_BYTES: usize = 1024 * 1024;
