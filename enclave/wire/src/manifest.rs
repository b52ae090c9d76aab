//! The measured worker manifest: everything that decides what a worker does, in one TOML file.
//!
//! Its SHA-256 is extended into RTMR3 before any secret exists and is the *policy digest* of the
//! seal header. What is not in it (where the bundle lies, which port to bind) cannot change what
//! the worker computes or reveals.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{Digest, NetworkId};
use crate::limits::{MAX_DEVICES, MAX_MANIFEST_BYTES};

/// The measured worker manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerManifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// TON `global_id` of the network served.
    pub network: NetworkId,
    /// Account id of the registry contract receipts name; zeros while there is none.
    pub registry: Digest,
    /// The model served.
    pub model: ModelSection,
    /// What one request may ask for.
    pub limits: LimitsSection,
    /// Prices in nanogram per 10^6 tokens.
    pub prices: PricesSection,
    /// How the engine computes.
    #[serde(default, skip_serializing_if = "EngineSection::is_default")]
    pub engine: EngineSection,
    /// The clients served; everybody if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<PeersSection>,
    /// The devices shown in every evidence; none if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<DevicesSection>,
    /// How the worker is paid; it serves for nothing without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentSection>,
}

/// The model served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Name in the API.
    pub name: String,
    /// Content root of the bundle; the only bundle the worker will load.
    pub root: Digest,
    /// Whether the bundle is sealed and the worker must wait for a grant.
    pub sealed: bool,
    /// What it does; text if it is left out. A bundle of another kind does not load.
    #[serde(default, skip_serializing_if = "ModelTask::is_text")]
    pub task: ModelTask,
}

/// What a model does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelTask {
    /// Answers with text.
    #[default]
    Text,
    /// Answers with the vectors of texts.
    Embedding,
}

impl ModelTask {
    /// Whether it is what a manifest need not say: older ones have the same digest.
    #[must_use]
    pub fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

/// How the engine computes text. Each field may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSection {
    /// How keys and values of the context are kept.
    pub kv_cache_type: KvCacheType,
    /// Whether tokens that a text repeats are guessed ahead and computed together. Answers are the same and
    /// come sooner, but how many tokens come at a time then follows from what they say: the host and
    /// whoever watches the stream see where a text repeats itself.
    pub drafts: bool,
}

impl EngineSection {
    /// Whether it is what a manifest need not say: older ones have the same digest.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How keys and values of a context are kept, by the names that llama.cpp has for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvCacheType {
    /// In half precision.
    #[default]
    F16,
    /// In eight bits, with a scale for each token and head: twice the tokens in the same memory, nearly,
    /// and long contexts are read faster; numbers change a little.
    Q8_0,
}

/// What one request may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsSection {
    /// Largest sealed request, in bytes; at most [`crate::limits::MAX_SEALED_REQUEST_BYTES`].
    pub request_bytes: u32,
    /// Most tokens of prompt and completion together; of a request for embeddings, of all its texts.
    pub context_tokens: u32,
    /// Most completion tokens of one request.
    pub completion_tokens: u32,
    /// Most requests computed at once. Some more may wait for their turn, as many as the worker's build has
    /// places for; one more than that is answered 429.
    pub concurrent_requests: u32,
}

impl LimitsSection {
    /// Longest a request may be in progress, its waiting included, in seconds: a second for each token of its
    /// completion and for ten of its prompt, which is a slow machine, and [`WAITING_SECONDS`]. The worker then
    /// gives it up, so that nobody waits for ever behind what others asked for, and its payer may count on
    /// that. One that begins in time has all the rest for itself.
    #[must_use]
    pub fn longest_seconds(&self) -> u64 {
        let (completion, prompt) = (self.completion_tokens.into(), self.context_tokens / 10);
        WAITING_SECONDS.saturating_add(completion).saturating_add(prompt.into())
    }
}

/// Prices in nanogram per 10^6 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PricesSection {
    /// Prompt tokens.
    pub prompt: u64,
    /// Prompt tokens answered from a cache.
    pub cached: u64,
    /// Completion tokens.
    pub completion: u64,
    /// Reasoning tokens.
    pub reasoning: u64,
}

/// The clients served: those that prove themselves on their connection (attest/1).
///
/// The pins come beside the manifest and count only if they have this digest, so that who is served
/// is measured like everything else. Two manifests cannot name each other: the pins of a proxy that
/// this worker accepts have to come from somewhere else than the proxy's own manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeersSection {
    /// SHA-256 of the pins file that a client has to meet, its exact bytes.
    pub pins_sha256: Digest,
    /// Seconds that a client is served on the same evidence.
    pub reattest_seconds: u32,
}

/// The devices of the worker. Fewer, more or none of them stop the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicesSection {
    /// Number of GPUs.
    pub gpus: u32,
    /// Number of switches between them.
    pub switches: u32,
}

/// Whom a request's payer pays, and by which contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentSection {
    /// Account of the owner, in workchain 0 of the manifest's network.
    pub payee: Digest,
    /// Representation hash of the channel contract's code.
    pub channel_code: Digest,
    /// The owner's Ed25519 key, which vouches for deposits. Without one whoever signs a cap is served,
    /// and an owner who is promised more than a channel holds finds out when she settles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funding_key: Option<Digest>,
    /// Which of the payee's workers this is. A channel names the only one that it pays for, because of
    /// what two of them count on it apart the contract pays the larger sum alone.
    #[serde(default, skip_serializing_if = "is_first")]
    pub worker: u32,
}

// serde's signature.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_first(worker: &u32) -> bool {
    *worker == 0
}

/// Why a manifest was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST_BYTES`].
    #[error("manifest is {got} bytes; the limit is {MAX_MANIFEST_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// Not UTF-8, not TOML, a missing or an unknown field.
    #[error("manifest is malformed: {0}")]
    Malformed(String),
    /// A version this build does not read.
    #[error("manifest version {got} is not supported; this build reads {MANIFEST_VERSION}")]
    UnsupportedVersion {
        /// Version found.
        got: u32,
    },
    /// Two settings that cannot both be.
    #[error("manifest field {field} has no meaning with {with}; leave one of them out")]
    Conflict {
        /// Dotted field or section.
        field: &'static str,
        /// What it cannot be with.
        with: &'static str,
    },
    /// A value out of its range.
    #[error("manifest field {field} is {got}; it must be between {min} and {max}")]
    OutOfRange {
        /// Dotted field name.
        field: &'static str,
        /// Value found.
        got: u64,
        /// Smallest allowed value.
        min: u64,
        /// Largest allowed value.
        max: u64,
    },
}

impl WorkerManifest {
    /// Reads and checks a manifest from untrusted bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { got: bytes.len() });
        }
        let text = core::str::from_utf8(bytes)
            .map_err(|e| ManifestError::Malformed(format!("not UTF-8: {e}")))?;
        let manifest: Self =
            toml::from_str(text).map_err(|e| ManifestError::Malformed(e.message().to_owned()))?;
        if manifest.version != MANIFEST_VERSION {
            return Err(ManifestError::UnsupportedVersion { got: manifest.version });
        }
        let max_request = crate::limits::MAX_SEALED_REQUEST_BYTES as u64;
        let limits = &manifest.limits;
        let request_bytes = limits.request_bytes.into();
        in_range("limits.request_bytes", request_bytes, MIN_REQUEST_BYTES, max_request)?;
        let context_tokens = limits.context_tokens.into();
        let (min, max) = (MIN_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS);
        in_range("limits.context_tokens", context_tokens, min, max)?;
        let completion_tokens = limits.completion_tokens.into();
        in_range("limits.completion_tokens", completion_tokens, 1, context_tokens)?;
        let concurrent = limits.concurrent_requests.into();
        in_range("limits.concurrent_requests", concurrent, 1, MAX_CONCURRENT_REQUESTS)?;
        let name = manifest.model.name.len() as u64;
        in_range("model.name length", name, 1, MAX_MODEL_NAME_BYTES)?;
        if let Some(PeersSection { reattest_seconds, .. }) = manifest.peers {
            let (min, max) = (MIN_REATTEST_SECONDS, MAX_REATTEST_SECONDS);
            in_range("peers.reattest_seconds", reattest_seconds.into(), min, max)?;
        }
        if let Some(DevicesSection { gpus, switches }) = manifest.devices {
            let total = u64::from(gpus).saturating_add(switches.into());
            in_range("devices in all", total, 1, MAX_DEVICES as u64)?;
        }
        if manifest.model.task == ModelTask::Embedding && !manifest.engine.is_default() {
            return Err(ManifestError::Conflict { field: "engine", with: "task = \"embedding\"" });
        }
        if manifest.devices.is_some_and(|devices| devices.gpus > 0)
            && manifest.engine.kv_cache_type != KvCacheType::F16
        {
            // What computes on a GPU keeps f16 only.
            return Err(ManifestError::Conflict {
                field: "engine.kv_cache_type",
                with: "devices.gpus",
            });
        }
        Ok(manifest)
    }
}

const fn in_range(field: &'static str, got: u64, min: u64, max: u64) -> Result<(), ManifestError> {
    if got < min || got > max {
        return Err(ManifestError::OutOfRange { field, got, min, max });
    }
    Ok(())
}

/// Smallest limit of a sealed request: less would not hold the recipients and one frame.
pub const MIN_REQUEST_BYTES: u64 = 4096;
/// Smallest context a model can answer in.
pub const MIN_CONTEXT_TOKENS: u64 = 16;
/// Largest context, in tokens: eight times the largest of published models in use.
pub const MAX_CONTEXT_TOKENS: u64 = 1 << 20;
/// Most requests in progress at once.
pub const MAX_CONCURRENT_REQUESTS: u64 = 4096;
/// Longest name of a model in the API, in bytes; a bundle's name has the same bound.
pub const MAX_MODEL_NAME_BYTES: u64 = 128;

/// Shortest interval at which clients prove themselves; each time costs them a quote.
pub const MIN_REATTEST_SECONDS: u64 = 10;
/// Longest interval at which clients prove themselves, the one of attest/1 itself.
pub const MAX_REATTEST_SECONDS: u64 = 300;

/// Longest a request may wait for its turn, in seconds; one that has not begun then is given up, and costs
/// nothing. The part of [`LimitsSection::longest_seconds`] that does not depend on a request.
pub const WAITING_SECONDS: u64 = 1_800;

/// Version of the manifest this build reads.
pub const MANIFEST_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        format!(
            "version = 1\nnetwork = 5458253\nregistry = \"{z}\"\n\n[model]\nname = \"m\"\n\
             root = \"{z}\"\nsealed = false\n\n[limits]\nrequest_bytes = 65536\n\
             context_tokens = 2048\ncompletion_tokens = 512\nconcurrent_requests = 4\n\n\
             [prices]\nprompt = 1\ncached = 1\ncompletion = 8\nreasoning = 8\n",
            z = "0".repeat(64)
        )
    }

    #[test]
    fn parses_a_whole_manifest() {
        let m = WorkerManifest::parse(text().as_bytes()).unwrap();
        assert_eq!(m.network, NetworkId::INSECURE_SIM);
        assert_eq!(m.limits.context_tokens, 2048);
    }

    #[test]
    fn a_model_answers_with_text_unless_the_manifest_says_otherwise() {
        let parse = |t: &str| WorkerManifest::parse(t.as_bytes());
        let plain = parse(&text()).unwrap();
        assert_eq!(plain.model.task, ModelTask::Text);
        assert!(
            !toml::to_string(&plain).unwrap().contains("task"),
            "its bytes stay what they were"
        );
        let with = |task: &str| {
            parse(&text().replace("sealed = false", &format!("sealed = false\ntask = \"{task}\"")))
        };
        let embedding = with("embedding").unwrap();
        assert_eq!(embedding.model.task, ModelTask::Embedding);
        assert_eq!(parse(&toml::to_string(&embedding).unwrap()), Ok(embedding));
        assert!(matches!(with("vision"), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn an_engine_keeps_f16_and_guesses_nothing_unless_the_manifest_says_otherwise() {
        let with = |section: &str| WorkerManifest::parse(format!("{}{section}", text()).as_bytes());
        let plain = with("").unwrap();
        assert_eq!(plain.engine, EngineSection { kv_cache_type: KvCacheType::F16, drafts: false });
        assert!(!toml::to_string(&plain).unwrap().contains("engine"), "its bytes stay the same");
        let q8 = with("[engine]\nkv_cache_type = \"q8_0\"\n").unwrap();
        assert_eq!(q8.engine, EngineSection { kv_cache_type: KvCacheType::Q8_0, drafts: false });
        let both = with("[engine]\nkv_cache_type = \"q8_0\"\ndrafts = true\n").unwrap();
        assert!(both.engine.drafts);
        assert_eq!(WorkerManifest::parse(toml::to_string(&both).unwrap().as_bytes()), Ok(both));
        for (section, named) in [
            ("[engine]\nkv_cache_type = \"q4_0\"\n", "q4_0"),
            ("[engine]\nkv_cache_type = \"Q8_0\"\n", "Q8_0"),
            ("[engine]\ndraft = true\n", "draft"),
            ("[engine]\ndrafts = 1\n", "1"),
        ] {
            let error = with(section).unwrap_err();
            assert!(
                matches!(&error, ManifestError::Malformed(what) if what.contains(named)),
                "{error}"
            );
        }
    }

    #[test]
    fn refuses_settings_of_an_engine_that_is_not_there() {
        let section = "[engine]\nkv_cache_type = \"q8_0\"\n";
        let embeds = text().replace("sealed = false", "sealed = false\ntask = \"embedding\"");
        let conflict = |text: String| match WorkerManifest::parse(text.as_bytes()) {
            Err(ManifestError::Conflict { field, .. }) => Some(field),
            _ => None,
        };
        assert_eq!(conflict(format!("{embeds}{section}")), Some("engine"));
        assert_eq!(conflict(embeds), None);
        let devices = |gpus, switches| {
            format!("{}{section}[devices]\ngpus = {gpus}\nswitches = {switches}\n", text())
        };
        assert_eq!(conflict(devices(1, 0)), Some("engine.kv_cache_type"));
        assert_eq!(conflict(devices(0, 1)), None);
    }

    #[test]
    fn refuses_an_unknown_field() {
        let t = text().replace("sealed = false", "sealed = false\ndebug = true");
        assert!(matches!(
            WorkerManifest::parse(t.as_bytes()),
            Err(ManifestError::Malformed(m)) if m.contains("debug")
        ));
    }

    #[test]
    fn refuses_a_missing_section() {
        let t = text().replace("[prices]", "[price]");
        assert!(matches!(WorkerManifest::parse(t.as_bytes()), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn a_payment_section_is_read_whole_or_refused() {
        let z = "7".repeat(64);
        let with = |section: &str| WorkerManifest::parse(format!("{}{section}", text()).as_bytes());
        let whole = format!("[payment]\npayee = \"{z}\"\nchannel_code = \"{z}\"\n");
        let sevens = Digest([0x77; 32]);
        let payment =
            PaymentSection { payee: sevens, channel_code: sevens, funding_key: None, worker: 0 };
        assert_eq!(with(&whole).unwrap().payment, Some(payment));
        let funded = PaymentSection { funding_key: Some(sevens), ..payment };
        let named = format!("{whole}funding_key = \"{z}\"\n");
        assert_eq!(with(&named).unwrap().payment, Some(funded));
        let third = PaymentSection { worker: 3, ..payment };
        assert_eq!(with(&format!("{whole}worker = 3\n")).unwrap().payment, Some(third));
        assert!(!toml::to_string(&payment).unwrap().contains("worker"), "its bytes stay");
        assert_eq!(WorkerManifest::parse(text().as_bytes()).unwrap().payment, None);
        let past = format!("{whole}worker = 4294967296\n");
        for bad in [format!("[payment]\npayee = \"{z}\"\n"), format!("{whole}cap = 1\n"), past] {
            assert!(matches!(with(&bad), Err(ManifestError::Malformed(_))));
        }
    }

    #[test]
    fn refuses_a_future_version() {
        let t = text().replace("version = 1", "version = 2");
        assert_eq!(
            WorkerManifest::parse(t.as_bytes()),
            Err(ManifestError::UnsupportedVersion { got: 2 })
        );
    }

    #[test]
    fn refuses_a_completion_limit_above_the_context() {
        let t = text().replace("completion_tokens = 512", "completion_tokens = 4096");
        assert!(matches!(
            WorkerManifest::parse(t.as_bytes()),
            Err(ManifestError::OutOfRange { field: "limits.completion_tokens", .. })
        ));
    }

    /// Both ends of every range, and one past each.
    #[test]
    fn refuses_every_number_outside_its_range() {
        let parse = |from: &str, to: String| {
            assert!(text().contains(from));
            WorkerManifest::parse(text().replace(from, &to).as_bytes())
        };
        for (field, from, min, max) in [
            ("limits.request_bytes", "request_bytes = 65536", 4096, 8 * 1024 * 1024),
            ("limits.context_tokens", "context_tokens = 2048", 512, 1 << 20),
            ("limits.completion_tokens", "completion_tokens = 512", 1, 2048),
            ("limits.concurrent_requests", "concurrent_requests = 4", 1, 4096),
        ] {
            let key = from.split(' ').next().unwrap();
            let with = |value: u64| parse(from, format!("{key} = {value}"));
            assert!(with(min).is_ok() && with(max).is_ok(), "{field}");
            assert!(with(min - 1).is_err(), "{field}");
            assert!(
                matches!(with(max + 1), Err(ManifestError::OutOfRange { field: f, got, .. })
                    if f == field && got == max + 1),
                "{field}"
            );
        }
        let small = text().replace("completion_tokens = 512", "completion_tokens = 16");
        let context =
            |n: u32| small.replace("context_tokens = 2048", &format!("context_tokens = {n}"));
        assert!(WorkerManifest::parse(context(16).as_bytes()).is_ok());
        assert!(matches!(
            WorkerManifest::parse(context(15).as_bytes()),
            Err(ManifestError::OutOfRange { field: "limits.context_tokens", min: 16, .. })
        ));
        let named = |len: usize| parse("name = \"m\"", format!("name = \"{}\"", "m".repeat(len)));
        assert!(named(128).is_ok());
        for len in [0, 129] {
            assert!(matches!(
                named(len),
                Err(ManifestError::OutOfRange { field: "model.name length", .. })
            ));
        }
    }

    #[test]
    fn names_clients_and_devices_only_within_their_ranges() {
        let none = WorkerManifest::parse(text().as_bytes()).unwrap();
        assert_eq!((none.peers, none.devices), (None, None));
        let with = |more: String| WorkerManifest::parse((text() + &more).as_bytes());
        let peers = |seconds: u64| {
            let digest = "a".repeat(64);
            with(format!("[peers]\npins_sha256 = \"{digest}\"\nreattest_seconds = {seconds}\n"))
        };
        for seconds in [10, 300] {
            let read = peers(seconds).unwrap().peers.unwrap();
            assert_eq!(u64::from(read.reattest_seconds), seconds);
        }
        for seconds in [0, 9, 301] {
            assert!(matches!(
                peers(seconds),
                Err(ManifestError::OutOfRange { field: "peers.reattest_seconds", .. })
            ));
        }
        let devices = |gpus: u32, switches: u32| {
            with(format!("[devices]\ngpus = {gpus}\nswitches = {switches}\n"))
        };
        assert_eq!(devices(8, 4).unwrap().devices, Some(DevicesSection { gpus: 8, switches: 4 }));
        for (gpus, switches) in [(0, 0), (9, 4), (u32::MAX, u32::MAX)] {
            assert!(matches!(
                devices(gpus, switches),
                Err(ManifestError::OutOfRange { field: "devices in all", .. })
            ));
        }
        assert!(with("[peers]\nreattest_seconds = 60\n".to_owned()).is_err());
    }

    #[test]
    fn refuses_one_byte_over_the_size_limit() {
        let mut t = text().into_bytes();
        t.resize(MAX_MANIFEST_BYTES, b'\n');
        assert!(WorkerManifest::parse(&t).is_ok());
        t.push(b'\n');
        assert!(matches!(WorkerManifest::parse(&t), Err(ManifestError::TooLarge { .. })));
    }
}
