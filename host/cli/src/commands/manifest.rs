//! `chrysalis manifest init`: writes the measured manifest of a worker for a bundle; `manifest
//! gramine` writes that of an SGX enclave. What they write is policy; every later change of a byte is another worker to a verifier.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use chrysalis_evidence::Pins;
use chrysalis_receipt::{ChannelCode, FundingKey};
use chrysalis_wire::limits::{MAX_PEER_PINS_BYTES, MAX_SEALED_REQUEST_BYTES};
use chrysalis_wire::manifest::{
    DevicesSection, EngineSection, KvCacheType, LimitsSection, MANIFEST_VERSION, ModelSection,
    ModelTask, PaymentSection, PeersSection, PricesSection,
};
use chrysalis_wire::{Digest, NetworkId, WorkerManifest};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::commands::gramine;
use crate::commands::model::{EMBEDDING_ARCHITECTURE, open};
use crate::commands::pay::made_seed;
use crate::commands::pins::sim;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};

/// What to do with a manifest.
#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// Write the manifest of a worker that serves one bundle.
    Init(Init),
    /// Write the Gramine manifest of an SGX enclave from its template and files.
    Gramine(gramine::Write),
}

/// `manifest init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The bundle the worker will serve.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// The network it will serve: `sim`, `testnet`, `mainnet`, or a TON global id.
    #[arg(long, value_name = "NETWORK", allow_hyphen_values = true)]
    network: Network,
    /// The manifest to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the model in the API; by default the bundle's, in API spelling.
    #[arg(long)]
    name: Option<String>,
    /// Most tokens of prompt and completion together.
    #[arg(long, default_value_t = 4096)]
    context_tokens: u32,
    /// Most completion tokens of one request.
    #[arg(long, default_value_t = 2048)]
    completion_tokens: u32,
    /// Most requests computed at once. Sixteen more wait for their turn; one more is told to ask again.
    #[arg(long, default_value_t = 4)]
    concurrent_requests: u32,
    /// How keys and values are kept: `f16`, or `q8_0` for nearly twice the tokens in the same memory.
    #[arg(long, value_enum, value_name = "TYPE", default_value_t)]
    kv_cache_type: CacheType,
    /// Guess tokens that a text repeats. Whoever watches a stream then sees where it repeats itself.
    #[arg(long)]
    drafts: bool,
    /// Price of 10^6 prompt tokens, in nanogram.
    #[arg(long, default_value_t = 20_000_000)]
    price_prompt: u64,
    /// Price of 10^6 prompt tokens that were cached, in nanogram.
    #[arg(long, default_value_t = 5_000_000)]
    price_cached: u64,
    /// Price of 10^6 completion tokens, in nanogram.
    #[arg(long, default_value_t = 80_000_000)]
    price_completion: u64,
    /// Serve only clients that prove themselves and meet these pins. The same file goes to `up`.
    #[arg(long, value_name = "FILE")]
    peer_pins: Option<PathBuf>,
    /// Seconds after which such a client has to prove itself again.
    #[arg(long, value_name = "SECONDS", requires = "peer_pins", default_value_t = 300)]
    reattest: u32,
    /// Number of GPUs that the worker shows evidence of; it does not boot with more or fewer.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    gpus: u32,
    /// Number of switches between them.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    switches: u32,
    /// Account to be paid, `0:` and 64 hexadecimal digits. Without it the worker serves for nothing.
    #[arg(long, value_name = "ACCOUNT", value_parser = account)]
    payee: Option<Digest>,
    /// Serve a channel only as far as its deposit is vouched for with this key, a file of 64 hexadecimal
    /// digits; made if it is not there. The same file goes to `up`. Without it a payer whose channel is
    /// empty is served too.
    #[arg(long, value_name = "FILE", requires = "payee")]
    funding_key_file: Option<PathBuf>,
    /// Number of this worker among those that the account is paid for. Each that runs at the same time
    /// needs one of its own: a channel pays for the worker that it names.
    #[arg(long, value_name = "NUMBER", requires = "payee", default_value_t = 0)]
    worker: u32,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

/// As manifests name it.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum CacheType {
    /// Half precision.
    #[default]
    F16,
    /// Eight bits with scales.
    #[value(name = "q8_0")]
    Q8,
}

impl From<CacheType> for KvCacheType {
    fn from(from: CacheType) -> Self {
        match from {
            CacheType::F16 => Self::F16,
            CacheType::Q8 => Self::Q8_0,
        }
    }
}

/// An account of workchain 0 in its raw form; nobody is paid in another.
pub(crate) fn account(text: &str) -> Result<Digest, String> {
    text.strip_prefix("0:")
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| "expected 0: and 64 lower-case hexadecimal digits".to_owned())
}

/// A network by name or number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network(pub(crate) NetworkId);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "sim" => NetworkId::INSECURE_SIM,
            "testnet" => NetworkId::TESTNET,
            "mainnet" => NetworkId::MAINNET,
            number => NetworkId(
                number
                    .parse()
                    .map_err(|_| "expected sim, testnet, mainnet or a TON global id".to_owned())?,
            ),
        }))
    }
}

pub(crate) fn run(command: &ManifestCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        ManifestCommand::Init(arguments) => init(arguments, context)?,
        ManifestCommand::Gramine(arguments) => gramine::write(arguments, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Init {
    /// The section about clients. The pins are read, so that a worker does not find out at its boot
    /// that they are none.
    fn peers(&self) -> Result<Option<PeersSection>, Failure> {
        let Some(path) = &self.peer_pins else { return Ok(None) };
        let text = files::read_text(path, MAX_PEER_PINS_BYTES)?;
        let sim = sim(self.network.0 == NetworkId::INSECURE_SIM);
        let pins = Pins::parse(&text, sim).map_err(|e| Failure::from(e).in_file(path))?;
        let (network, own) = (pins.network(), self.network.0);
        if network != own {
            let message = format!("the pins of clients are for network {network}, not {own}");
            return Err(Failure::new(Class::Usage, "E-NETWORK", message).in_file(path));
        }
        let pins_sha256 = Digest(Sha256::digest(text.as_bytes()).into());
        Ok(Some(PeersSection { pins_sha256, reattest_seconds: self.reattest }))
    }

    fn payment(&self) -> Result<Option<PaymentSection>, Failure> {
        let Some(payee) = self.payee else { return Ok(None) };
        let key = self.funding_key_file.as_deref().map(made_seed).transpose()?;
        let funding_key = key.map(|seed| Digest(FundingKey::from_seed(&seed).public()));
        let channel_code = ChannelCode::METERED_V1.hash();
        Ok(Some(PaymentSection { payee, channel_code, funding_key, worker: self.worker }))
    }

    fn devices(&self) -> Option<DevicesSection> {
        let (gpus, switches) = (self.gpus, self.switches);
        ((gpus, switches) != (0, 0)).then_some(DevicesSection { gpus, switches })
    }
}

fn init(arguments: &Init, context: &Context) -> Result<(), Failure> {
    let bundle = open(&arguments.bundle)?;
    let name = arguments.name.clone().unwrap_or_else(|| api_name(&bundle.manifest().name));
    let embeds = bundle.manifest().architecture == EMBEDDING_ARCHITECTURE;
    let task = if embeds { ModelTask::Embedding } else { ModelTask::Text };
    let manifest = WorkerManifest {
        version: MANIFEST_VERSION,
        network: arguments.network.0,
        registry: Digest([0; 32]),
        model: ModelSection { name, root: bundle.root(), sealed: bundle.is_sealed(), task },
        limits: LimitsSection {
            request_bytes: REQUEST_BYTES,
            context_tokens: arguments.context_tokens,
            completion_tokens: arguments.completion_tokens.min(arguments.context_tokens),
            concurrent_requests: arguments.concurrent_requests,
        },
        prices: PricesSection {
            prompt: arguments.price_prompt,
            cached: arguments.price_cached,
            completion: arguments.price_completion,
            reasoning: arguments.price_completion,
        },
        engine: EngineSection {
            kv_cache_type: arguments.kv_cache_type.into(),
            drafts: arguments.drafts,
        },
        peers: arguments.peers()?,
        devices: arguments.devices(),
        payment: arguments.payment()?,
    };
    let text = write(&manifest)?;
    // The worker's own parser has the last word, now and not at its boot.
    WorkerManifest::parse(text.as_bytes())?;
    let existing = if arguments.force { Existing::Replace } else { Existing::Refuse };
    files::write(&arguments.out, text.as_bytes(), existing)?;
    let written = Written { path: arguments.out.display().to_string(), manifest };
    context.report.result("chrysalis/manifest-written/v1", &written, |out| {
        let manifest = &written.manifest;
        out.field("manifest", &written.path)?;
        out.field("network", manifest.network)?;
        out.field("model", &manifest.model.name)?;
        out.field("model root", manifest.model.root)?;
        out.field("sealed", if manifest.model.sealed { "yes" } else { "no" })?;
        if manifest.model.task == ModelTask::Embedding {
            out.field("answers with", "vectors, at /v1/embeddings")?;
        }
        if let Some(peers) = &manifest.peers {
            out.field("serves only", format_args!("clients under pins {}", peers.pins_sha256))?;
        }
        if let Some(devices) = &manifest.devices {
            let DevicesSection { gpus, switches } = devices;
            out.field("devices", format_args!("{gpus} GPUs, {switches} switches"))?;
        }
        if let Some(payment) = &manifest.payment {
            let worker = payment.worker;
            out.field("payee", format_args!("0:{}, for its worker {worker}", payment.payee))?;
            match &payment.funding_key {
                Some(key) => out.field("deposits", format_args!("as vouched for by {key}"))?,
                None => out.field("deposits", "not looked at: a cap is taken for coins")?,
            }
        }
        out.line("Next: `chrysalis measure worker` predicts what a worker with it will measure.")
    })
}

/// The manifest as TOML, with a comment for whoever reads it before it is pinned.
fn write(manifest: &WorkerManifest) -> Result<String, Failure> {
    let body = toml::to_string(manifest)
        .map_err(|e| Failure::new(Class::Internal, "E-OUTPUT", e.to_string()))?;
    Ok(format!("{HEAD}{body}"))
}

/// A name as OpenAI clients write them: lower case, dashes for everything else.
fn api_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let parts: Vec<&str> = lower
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
        .filter(|part| !part.is_empty())
        .collect();
    let joined: String = parts.join("-").chars().take(MAX_NAME_CHARS).collect();
    if joined.is_empty() { "model".to_owned() } else { joined }
}

#[derive(Serialize)]
struct Written {
    path: String,
    manifest: WorkerManifest,
}

/// Largest sealed request a new manifest allows: a quarter of what the format does, which is a
/// prompt of some 500 000 tokens.
const REQUEST_BYTES: u32 = (MAX_SEALED_REQUEST_BYTES / 4) as u32;

const MAX_NAME_CHARS: usize = 64;

const HEAD: &str = "\
# The measured manifest of a worker: everything that decides what it does. Its SHA-256 is in
# RTMR3, in the pins and in every receipt; change one byte and it is another worker.
# `network` is a TON global id (5458253 is INSECURE-SIM), `registry` the account that receipts
# name (zeros: none yet), prices are in nanogram per 10^6 tokens.

";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_model_name_becomes_an_api_name() {
        assert_eq!(api_name("Qwen3 0.6B Instruct (GGUF)"), "qwen3-0.6b-instruct-gguf");
        assert_eq!(api_name("***"), "model");
    }

    #[test]
    fn reads_networks_by_name_and_number() {
        assert_eq!("sim".parse::<Network>().unwrap().0, NetworkId::INSECURE_SIM);
        assert_eq!("-3".parse::<Network>().unwrap().0, NetworkId::TESTNET);
        assert!("moon".parse::<Network>().is_err());
    }
}
