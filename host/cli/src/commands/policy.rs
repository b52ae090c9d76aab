//! `chrysalis policy`: makes parts of a policy, and what it is judged with, from what vendors sign. Vendors' files are untrusted
//! until their signatures are verified.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use chrysalis_rim::{MAX_RIM_BYTES, Manifest, RimRoot};
use chrysalis_wire::UnixTime;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::commands::collateral::{self, FetchCollateral};
use crate::commands::pins::{self, DiffPins, Keygen, Sign, Verify};
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;

/// What to make.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Verify NVIDIA's manifest of a driver or VBIOS, and write its entry for a pins file.
    ImportRim(ImportRim),
    /// Fetch Intel's collateral for a platform family, verify it, and keep the newer bundle.
    FetchCollateral(FetchCollateral),
    /// Make a key to sign pins with.
    Keygen(Keygen),
    /// Sign a pins file for others.
    Sign(Sign),
    /// Verify signed pins under the publisher's key, and show what they accept.
    Verify(Verify),
    /// Say what one pins file accepts that another does not.
    Diff(DiffPins),
}

/// `policy import-rim`.
#[derive(Debug, Args)]
pub(crate) struct ImportRim {
    /// The manifest: SWID XML with NVIDIA's signature, as its manifest service gives it out.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the entry for this board alone: project, project SKU and chip SKU, as in the name of a
    /// VBIOS manifest (1010_0200_882).
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// Judge the signer's certificates at this time, in seconds since 1970, instead of now. Signers
    /// are valid for two years; manifests stay in use for longer.
    #[arg(long, value_name = "SECONDS")]
    at: Option<u64>,
}

/// What was imported.
#[derive(Serialize)]
struct Imported<'a> {
    part: String,
    kind: String,
    version: &'a str,
    signer: &'a str,
    verified_at: u64,
    records: BTreeMap<u8, Vec<String>>,
    toml: String,
}

pub(crate) fn run(command: &PolicyCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::ImportRim(arguments) => {
            import_rim(arguments, context).map(|()| ExitCode::SUCCESS)
        }
        PolicyCommand::FetchCollateral(arguments) => collateral::fetch(arguments, context),
        PolicyCommand::Keygen(arguments) => pins::keygen(arguments, context),
        PolicyCommand::Sign(arguments) => pins::sign(arguments, context),
        PolicyCommand::Verify(arguments) => pins::verify(arguments, context),
        PolicyCommand::Diff(arguments) => pins::diff(arguments, context),
    }
}

fn import_rim(arguments: &ImportRim, context: &Context) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if arguments.board.as_ref().is_some_and(|b| b.is_empty() || !b.chars().all(plain)) {
        let message = "a board is letters, digits and underscores";
        return Err(
            Failure::new(Class::Usage, "E-BOARD", message).next("write it as 1010_0200_882")
        );
    }
    let bytes = files::read(&arguments.file, MAX_RIM_BYTES)?;
    let at = arguments.at.map_or_else(|| context.now(), UnixTime);
    let manifest = Manifest::verify(&bytes, &RimRoot::Nvidia, at)
        .map_err(|e| Failure::from(e).in_file(&arguments.file))?;
    if arguments.at.is_some() {
        context.report.note("the signer was judged at the given time and may have expired since");
    }
    let toml = manifest.to_pins(arguments.board.as_deref());
    if !context.report.is_json() {
        return context.report.out(toml.as_bytes());
    }
    let hex = |values: &Vec<_>| values.iter().map(hex::encode).collect();
    let imported = Imported {
        part: manifest.part.to_string(),
        kind: manifest.kind.to_string(),
        version: &manifest.version,
        signer: &manifest.signer,
        verified_at: at.0,
        records: manifest.records.iter().map(|(index, values)| (*index, hex(values))).collect(),
        toml,
    };
    context.report.result("chrysalis/rim/v1", &imported, |_| Ok(()))
}
