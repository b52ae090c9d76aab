//! `chrysalis model`: bundles and their keys. The bundle's own words are the packer's; what is
//! printed as verified was verified by `chrysalis-vault`.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrysalis_vault::{
    AssetSource, Bundle, Inspection, Manifest, ModelKey, PackInput, SealWith, VerifyReport,
    pack_file,
};
use chrysalis_wire::Digest;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::commands::model_folder;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;
use crate::progress::bytes;
use crate::report::Text;
use crate::verifier::{EVIDENCE, Policy};
use crate::waiting::Waiting;

/// What to do with a model.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Pack a model into a content-addressed bundle, sealed if a key is given.
    Pack(Pack),
    /// Say what a bundle claims to be, without reading its weights.
    Inspect {
        /// The bundle.
        file: PathBuf,
    },
    /// Read a whole bundle and verify every chunk.
    Verify(Verify),
    /// Make a model key.
    Keygen {
        /// Where the key goes; never over an existing file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Hand the key of a sealed model to a worker whose evidence is accepted.
    Grant(Grant),
}

/// `model pack`.
#[derive(Debug, Args)]
pub(crate) struct Pack {
    #[command(flatten)]
    source: Source,
    /// The bundle to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the model; by default the one in the GGUF file, or the folder's.
    #[arg(long)]
    name: Option<String>,
    /// Licence of the weights, as an SPDX expression; by default the one in the GGUF file.
    #[arg(long)]
    licence: Option<String>,
    /// Seal the bundle with this model key.
    #[arg(long, value_name = "FILE")]
    seal_key: Option<PathBuf>,
}

/// Where a model is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The model in GGUF format.
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,
    /// The folder of a model in safetensors with its `config.json`, as hubs publish it.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// `model verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The bundle.
    file: PathBuf,
    /// The model root it must have. Without it a whole bundle may still be another model.
    #[arg(long, value_name = "HEX")]
    root: Option<String>,
    /// The model key of a sealed bundle.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// `model grant`.
#[derive(Debug, Args)]
pub(crate) struct Grant {
    /// The worker, `HOST:PORT`.
    #[arg(long, value_name = "ADDR")]
    worker: String,
    #[command(flatten)]
    policy: Policy,
    #[command(flatten)]
    model: WhichModel,
    /// The model key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Which model a key belongs to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichModel {
    /// The sealed bundle.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Its model root.
    #[arg(long, value_name = "HEX")]
    root: Option<String>,
}

pub(crate) fn run(command: ModelCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        ModelCommand::Pack(arguments) => pack(&arguments, context)?,
        ModelCommand::Inspect { file } => inspect(&file, context)?,
        ModelCommand::Verify(arguments) => verify(&arguments, context)?,
        ModelCommand::Keygen { out } => keygen(&out, context)?,
        ModelCommand::Grant(arguments) => grant(&arguments, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens a bundle; nothing in it is verified yet but that it is consistent.
pub(crate) fn open(path: &Path) -> Result<Bundle<File>, Failure> {
    let file = File::open(path).map_err(|e| Failure::file("open", path, &e))?;
    Bundle::open(file).map_err(|e| Failure::from(e).in_file(path))
}

fn pack(arguments: &Pack, context: &Context) -> Result<(), Failure> {
    let mut input = match (&arguments.source.gguf, &arguments.source.folder) {
        (Some(path), _) => {
            let file = File::open(path).map_err(|e| Failure::file("open", path, &e))?;
            PackInput::from_gguf(GGUF_NAME, &fallback_name(path.file_stem()), file)
                .map_err(|e| Failure::from(e).in_file(path))?
        }
        (None, Some(folder)) => {
            // `.` has a name too; and `Qwen3-0.6B` has no extension.
            let whole = folder.canonicalize().map_err(|e| Failure::file("open", folder, &e))?;
            model_folder::input(folder, fallback_name(whole.file_name()))?
        }
        (None, None) => return Err(Failure::new(Class::Usage, "E-USAGE", "no model was named")),
    };
    if let Some(name) = &arguments.name {
        input.name.clone_from(name);
    }
    if arguments.licence.is_some() {
        input.licence.clone_from(&arguments.licence);
    }
    let key = arguments.seal_key.as_deref().map(files::read_key).transpose()?;
    let seal = match &key {
        Some(key) => Some(SealWith { key, salt: context.random()? }),
        None => None,
    };
    let progress = context.report.progress("pack");
    let update = |done, total| progress.update(done, total);
    let report = pack_file(input, &arguments.out, seal.as_ref(), &update)?;
    drop(progress);
    context.report.result("chrysalis/pack/v1", &report, |out| {
        out.field("bundle", arguments.out.display())?;
        out.field("model root", report.model_root)?;
        manifest(out, &report.manifest)?;
        out.field("sealed", yes_no(report.sealed))?;
        out.field("size", sizes(report.content_bytes, report.chunks))
    })
}

fn inspect(path: &Path, context: &Context) -> Result<(), Failure> {
    let inspection = open(path)?.inspect();
    context.report.result("chrysalis/bundle/v1", &inspection, |out| {
        out.line("What the bundle claims; `chrysalis model verify` proves it.")?;
        out.field("model root", inspection.model_root)?;
        manifest(out, &inspection.manifest)?;
        out.field("sealed", yes_no(inspection.sealed))?;
        out.field("size", sizes(inspection.content_bytes, inspection.chunks))?;
        files_of(out, &inspection)
    })
}

fn verify(arguments: &Verify, context: &Context) -> Result<(), Failure> {
    let root = arguments.root.as_deref().map(root).transpose()?;
    let key = arguments.key.as_deref().map(files::read_key).transpose()?;
    let bundle = open(&arguments.file)?;
    let progress = context.report.progress("verify");
    let update = |done, total| progress.update(done, total);
    let report = bundle.verify(root.as_ref(), key.as_ref(), &update)?;
    drop(progress);
    context
        .report
        .result("chrysalis/bundle-verification/v1", &report, |out| verification(out, &report))?;
    Ok(report.into_result()?)
}

fn keygen(out: &Path, context: &Context) -> Result<(), Failure> {
    let mut filled = false;
    let key = ModelKey::generate(|bytes| filled = (context.random)(bytes))?;
    if !filled {
        // Says why; a half-filled key is never written.
        context.random::<1>()?;
    }
    files::write_key(out, &key)?;
    let written = KeyWritten { path: out.display().to_string() };
    context.report.result("chrysalis/key/v1", &written, |text| {
        text.field("model key", out.display())?;
        text.line("Keep it off the machines that run workers; send it with `model grant`.")
    })
}

fn grant(arguments: &Grant, context: &Context) -> Result<(), Failure> {
    let key = files::read_key(&arguments.key)?;
    let model_root = match (&arguments.model.bundle, &arguments.model.root) {
        (Some(bundle), _) => sealed_root(bundle)?,
        (None, Some(text)) => root(text)?,
        (None, None) => return Err(Failure::new(Class::Usage, "E-USAGE", "no model was named")),
    };
    let worker = arguments.policy.worker(&arguments.worker, context)?;
    let insecure_sim = context.block_on(async {
        let waiting = Waiting::for_(context.report, EVIDENCE);
        let attested = worker.appraise().await?;
        drop(waiting);
        let evidence = attested.evidence().await;
        let expected = evidence.verified.model_root();
        if expected != model_root {
            // The worker would refuse it too; the key need not travel to find out.
            let message = "the worker serves another model than the key is for";
            return Err(Failure::new(Class::Refused, "E-MODEL-ROOT", message)
                .compared(expected, model_root)
                .next("name the bundle that the worker's manifest names"));
        }
        attested.grant(model_root, &key).await?;
        Ok(evidence.verified.insecure_sim())
    })?;
    let granted = Granted { worker: arguments.worker.clone(), model_root, insecure_sim };
    context.report.result("chrysalis/grant/v1", &granted, |out| {
        if insecure_sim {
            out.warning("INSECURE-SIM  the worker is simulated; its host can read this key")?;
        }
        out.field("granted to", &arguments.worker)?;
        out.field("model root", model_root)
    })
}

/// The root of a bundle a key can be for.
fn sealed_root(path: &Path) -> Result<Digest, Failure> {
    let bundle = open(path)?;
    if bundle.is_sealed() {
        return Ok(bundle.root());
    }
    let message = format!("{} is not sealed; it needs no key", path.display());
    Err(Failure::new(Class::Refused, "E-KEY-UNEXPECTED", message)
        .next("name the sealed bundle, or start the worker without a grant"))
}

fn root(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|e| Failure::hex("--root", &e))
}

fn manifest(out: &mut Text, manifest: &Manifest) -> std::fmt::Result {
    out.field("name", &manifest.name)?;
    out.field("architecture", &manifest.architecture)?;
    out.field("quantisation", manifest.quantisation.as_deref().unwrap_or("not stated"))?;
    out.field("tokenizer", source(&manifest.tokenizer))?;
    out.field("chat template", source(&manifest.chat_template))?;
    out.field("licence", manifest.licence.as_deref().unwrap_or("not stated"))
}

fn files_of(out: &mut Text, inspection: &Inspection) -> std::fmt::Result {
    for file in &inspection.manifest.files {
        out.field("file", format_args!("{}  {}", file.path, bytes(file.size)))?;
    }
    Ok(())
}

fn verification(out: &mut Text, report: &VerifyReport) -> std::fmt::Result {
    let count = format!("{} chunks, {}", report.chunks, bytes(report.content_bytes));
    let seal = if report.sealed { "every segment was opened" } else { "the bundle is not sealed" };
    let outcome = |good| if good { "PASS" } else { "FAIL" };
    out.check(outcome(report.intact), "chunks", "every chunk is the one packed", &count)?;
    for fault in &report.faults {
        out.line(format_args!("      {}", fault.location))?;
    }
    if report.root_pinned {
        out.check("PASS", "root", "the root is the one you gave", &report.model_root.to_string())?;
    } else {
        let detail = format!("{}; give --root to be sure which model it is", report.model_root);
        out.check("SKIP", "root", "the root is the one you gave", &detail)?;
    }
    out.check("INFO", "seal", "sealing", seal)?;
    let verdict = if report.intact { "INTACT" } else { "REFUSED" };
    out.verdict(report.intact, &format!("{verdict}  {}", report.model_root))
}

fn sizes(content: u64, chunks: u64) -> String {
    format!("{} in {chunks} chunks", bytes(content))
}

fn source(source: &AssetSource) -> String {
    match source {
        AssetSource::None => "none".to_owned(),
        AssetSource::Gguf => "in the GGUF file".to_owned(),
        AssetSource::File(path) => path.clone(),
    }
}

const fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// The name of a model that has none: that of its file or folder, as far as it is plain text.
fn fallback_name(name: Option<&OsStr>) -> String {
    let name = name.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: String = name.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
    if plain.is_empty() { "model".to_owned() } else { plain }
}

#[derive(Serialize)]
struct KeyWritten {
    path: String,
}

#[derive(Serialize)]
struct Granted {
    worker: String,
    model_root: Digest,
    insecure_sim: bool,
}

/// The architecture of models that answer with vectors.
pub(crate) const EMBEDDING_ARCHITECTURE: &str = "bert";
/// Name of the one file in a bundle packed from GGUF.
const GGUF_NAME: &str = "model.gguf";
