//! `chrysalis measure`: predicts registers from files alone, compares and explains them. It asks
//! nobody and runs nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use chrysalis_evidence::EnclaveIdentity;
use chrysalis_measure::sgx::{predict_sim_enclave, sim_enclave_pins};
use chrysalis_measure::{MAX_SIM_ROOT_BYTES, Prediction, pins_for, predict_process};
use chrysalis_wire::limits::MAX_MANIFEST_BYTES;
use chrysalis_wire::{Digest, NetworkId};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::commands::gramine;
use crate::commands::measure_diff::{self, Diff, Explain};
use crate::commands::measure_image::{self, Image};
use crate::context::Context;
use crate::exit::Failure;
use crate::files::{self, Existing};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum MeasureCommand {
    /// Predict the registers of a simulated worker process and, if asked, pin them.
    Worker(Worker),
    /// Predict the MRENCLAVE of a Gramine enclave, and compare it with its signature.
    Gramine(gramine::Measure),
    /// Predict MRTD and RTMR0 to RTMR3 of a VM image in a shape, with every event.
    Image(Box<Image>),
    /// Compare two of: image directory, release, prediction, quote, event log, worker manifest; name
    /// what changed and why.
    Diff(Diff),
    /// Say what each register of one of them is made of.
    Explain(Explain),
}

/// `measure worker`.
#[derive(Debug, Args)]
pub(crate) struct Worker {
    /// The worker program, as you built it.
    #[arg(long, value_name = "FILE")]
    worker: PathBuf,
    /// Its measured manifest.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Root certificate of the simulator: hex as `chrysalis-worker-sim sim root` writes it, or
    /// DER.
    #[arg(long, value_name = "FILE", requires = "pins_out")]
    sim_root: Option<PathBuf>,
    /// Write a pins file that accepts exactly this worker.
    #[arg(long, value_name = "FILE", requires = "sim_root")]
    pins_out: Option<PathBuf>,
    /// Name of the pin.
    #[arg(long, default_value = "simulated worker")]
    name: String,
    /// The worker runs in a simulated SGX enclave (`chrysalis-worker-sim sgx`), not in a simulated
    /// trust domain.
    #[arg(long)]
    enclave: bool,
}

pub(crate) fn run(command: &MeasureCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        MeasureCommand::Worker(arguments) => worker(arguments, context)?,
        MeasureCommand::Gramine(arguments) => gramine::measure(arguments, context)?,
        MeasureCommand::Image(arguments) => measure_image::run(arguments, context)?,
        MeasureCommand::Diff(arguments) => return measure_diff::diff(arguments, context),
        MeasureCommand::Explain(arguments) => measure_diff::explain(arguments, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn worker(arguments: &Worker, context: &Context) -> Result<(), Failure> {
    let executable = files::read(&arguments.worker, MAX_WORKER_BYTES)?;
    let manifest = files::read(&arguments.manifest, MAX_MANIFEST_BYTES)?;
    if arguments.enclave {
        return enclave(arguments, &executable, &manifest, context);
    }
    let prediction = predict_process(&executable, &manifest)?;
    if let (Some(root), Some(out)) = (&arguments.sim_root, &arguments.pins_out) {
        let root = der(files::read(root, MAX_SIM_ROOT_BYTES.saturating_mul(3))?);
        let pins = pins_for(&prediction, &arguments.name, &root)?;
        files::write(out, pins.as_bytes(), Existing::Replace)?;
    }
    let shown = Shown::new(&prediction);
    context.report.result("chrysalis/prediction/v1", &shown, |out| {
        out.warning("INSECURE-SIM  registers of a simulated platform; they prove nothing")?;
        out.field("mrtd", &shown.mrtd)?;
        for (index, register) in shown.rtmr.iter().enumerate() {
            out.field(&format!("rtmr{index}"), register)?;
        }
        out.field("manifest sha256", shown.manifest_sha256)?;
        out.field("model root", shown.model_root)?;
        out.field("measurement", shown.measurement)?;
        if let Some(path) = &arguments.pins_out {
            out.field("pins", path.display())?;
        }
        Ok(())
    })
}

fn enclave(
    arguments: &Worker,
    executable: &[u8],
    manifest: &[u8],
    context: &Context,
) -> Result<(), Failure> {
    let prediction = predict_sim_enclave(executable, manifest)?;
    if let (Some(root), Some(out)) = (&arguments.sim_root, &arguments.pins_out) {
        let root = der(files::read(root, MAX_SIM_ROOT_BYTES.saturating_mul(3))?);
        let pins = sim_enclave_pins(&prediction, &arguments.name, &root)?;
        files::write(out, pins.as_bytes(), Existing::Replace)?;
    }
    let shown = ShownEnclave {
        platform: chrysalis_evidence::sim::PLATFORM,
        identity: prediction.identity,
        manifest_sha256: prediction.manifest_sha256,
        model_root: prediction.model_root,
        measurement: prediction.identity.digest(),
    };
    context.report.result("chrysalis/enclave-prediction/v1", &shown, |out| {
        out.warning("INSECURE-SIM  identity of a simulated enclave; it proves nothing")?;
        out.field("mrenclave", shown.identity.mrenclave)?;
        out.field("mrsigner", shown.identity.mrsigner)?;
        let EnclaveIdentity { isv_prod_id, isv_svn, .. } = shown.identity;
        out.field("product", format!("{isv_prod_id}, security version {isv_svn}"))?;
        out.field("manifest sha256", shown.manifest_sha256)?;
        out.field("model root", shown.model_root)?;
        out.field("measurement", shown.measurement)?;
        if let Some(path) = &arguments.pins_out {
            out.field("pins", path.display())?;
        }
        Ok(())
    })
}

/// The certificate's bytes, whichever of its two spellings the file has.
fn der(bytes: Vec<u8>) -> Vec<u8> {
    let hex = core::str::from_utf8(&bytes).ok().and_then(|text| hex::decode(text.trim()).ok());
    hex.filter(|der| !der.is_empty()).unwrap_or(bytes)
}

#[derive(Serialize)]
struct ShownEnclave {
    platform: &'static str,
    #[serde(flatten)]
    identity: EnclaveIdentity,
    manifest_sha256: Digest,
    model_root: Digest,
    measurement: Digest,
}

#[derive(Serialize)]
struct Shown {
    platform: &'static str,
    mrtd: String,
    rtmr: [String; 4],
    manifest_sha256: Digest,
    model_root: Digest,
    measurement: Digest,
    network: NetworkId,
}

impl Shown {
    fn new(prediction: &Prediction) -> Self {
        Self {
            platform: chrysalis_evidence::sim::PLATFORM,
            mrtd: hex::encode(prediction.registers.mrtd),
            rtmr: prediction.registers.rtmr.map(hex::encode),
            manifest_sha256: prediction.manifest_sha256,
            model_root: prediction.model_root,
            measurement: prediction.digest(),
            network: prediction.network,
        }
    }
}

/// Largest worker program read, in bytes: a debug build is some 200 MiB.
const MAX_WORKER_BYTES: usize = 1 << 30;
