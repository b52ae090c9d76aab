//! `config.json` as what a GGUF header says of the same model. A setting that changes what is computed and
//! is not computed here gives fluent but wrong text, so each key is known or refused by name.

use std::collections::HashMap;
use std::io::BufRead;

use candle_core::quantized::gguf_file::Value;

use super::keys::{FILE, Keys, missing, unsupported};
use super::names::{FAMILIES, Family, MIXTURE, SUPPORTED};
use super::{json, malformed};
use crate::error::ModelError;

/// What decides how a model is computed.
pub(super) struct Config {
    pub(super) family: &'static Family,
    /// Under the keys of GGUF files.
    pub(super) metadata: HashMap<String, Value>,
    pub(super) head_dim: usize,
    /// Experts of each layer, if it is a mixture.
    pub(super) experts: Option<u32>,
    /// Tokens that end a turn, beside those that the tokenizer's files name.
    pub(super) ends: Vec<u32>,
    /// Rows of the embedding, if the file says so.
    pub(super) vocab: Option<u32>,
    /// Whether the embedding is the output matrix too.
    pub(super) tied: bool,
    /// What rotary frequencies are divided by, one for each pair of dimensions.
    pub(super) factors: Option<Vec<f32>>,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ModelError::UnknownArchitecture`], [`ModelError::UnsupportedFeature`] for a setting that is not
    /// computed, [`ModelError::Malformed`] for one that is missing or of the wrong type.
    pub(super) fn read(len: u64, source: &mut impl BufRead) -> Result<Self, ModelError> {
        let mut keys: Keys = json(FILE, len, source)?;
        let family = family(&mut keys)?;
        let mut out = Metadata { architecture: family.architecture, values: HashMap::new() };
        let name = Value::String(family.architecture.to_owned());
        out.values.insert("general.architecture".to_owned(), name);
        let layers = keys.count("num_hidden_layers")?;
        let (hidden, heads) = (keys.count("hidden_size")?, keys.count("num_attention_heads")?);
        // What is absent is a default of the family. Only those that follow from other settings are used.
        let llama = family.architecture == "llama";
        let kv_heads = match keys.number("num_key_value_heads")? {
            None if llama => heads,
            given => given.ok_or_else(|| missing("num_key_value_heads"))?,
        };
        let head_dim = match keys.number("head_dim")? {
            None if llama => hidden.checked_div(heads).unwrap_or(0),
            given => given.ok_or_else(|| missing("head_dim"))?,
        };
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(malformed(FILE, "heads of no or of odd size"));
        }
        out.number("block_count", layers);
        out.number("embedding_length", hidden);
        out.number("feed_forward_length", keys.count("intermediate_size")?);
        out.number("attention.head_count", heads);
        out.number("attention.head_count_kv", kv_heads);
        out.number("attention.key_length", head_dim);
        out.number("attention.value_length", head_dim);
        out.number("rope.dimension_count", head_dim);
        out.number("context_length", keys.count("max_position_embeddings")?);
        let epsilon = keys.float("rms_norm_eps")?.ok_or_else(|| missing("rms_norm_eps"))?;
        out.float("attention.layer_norm_rms_epsilon", epsilon);
        activation(&mut keys, family)?;
        let experts = mixture(&mut keys, family, &mut out)?;
        let factors = turning(&mut keys, family, head_dim, &mut out)?;
        seen(&mut keys, family, layers, &mut out)?;
        NOT_COMPUTED.iter().try_for_each(|key| keys.off(key))?;
        let tied = keys.truth("tie_word_embeddings")?.unwrap_or(family.tied);
        let vocab = keys.number("vocab_size")?;
        let ends = keys.numbers(ENDS)?;
        keys.finish(&HARMLESS)?;
        let head_dim = usize::try_from(head_dim).unwrap_or(usize::MAX);
        Ok(Self { family, metadata: out.values, head_dim, experts, ends, vocab, tied, factors })
    }
}

/// The tokens that end a turn of `generation_config.json`. What else it says are wishes for sampling, which
/// a request has of its own.
pub(super) fn ends(len: u64, source: &mut impl BufRead) -> Result<Vec<u32>, ModelError> {
    let ends = json::<Keys>(GENERATION, len, source)?.numbers(ENDS);
    ends.map_err(|_| malformed(GENERATION, "eos_token_id is neither an id nor a list of them"))
}

/// Metadata of one architecture.
struct Metadata {
    architecture: &'static str,
    values: HashMap<String, Value>,
}

impl Metadata {
    fn put(&mut self, key: &str, value: Value) {
        self.values.insert(format!("{}.{key}", self.architecture), value);
    }

    fn number(&mut self, key: &str, value: u32) {
        self.put(key, Value::U32(value));
    }

    fn float(&mut self, key: &str, value: f32) {
        self.put(key, Value::F32(value));
    }
}

fn family(keys: &mut Keys) -> Result<&'static Family, ModelError> {
    let classes = keys.texts("architectures")?.unwrap_or_default();
    let got = classes.first().map_or("", String::as_str);
    let known = FAMILIES.iter().find(|family| family.class == got);
    known.ok_or_else(|| ModelError::UnknownArchitecture {
        got: got.to_owned(),
        supported: SUPPORTED.to_owned(),
    })
}

fn activation(keys: &mut Keys, family: &Family) -> Result<(), ModelError> {
    let computed = if family.architecture == "gemma3" { "gelu_pytorch_tanh" } else { "silu" };
    for key in ["hidden_act", "hidden_activation"] {
        if let Some(got) = keys.text(key)?
            && got != computed
        {
            return Err(unsupported(&format!("{key} {got}")));
        }
    }
    Ok(())
}

/// What a mixture says of its experts; how many each layer has.
fn mixture(
    keys: &mut Keys,
    family: &Family,
    out: &mut Metadata,
) -> Result<Option<u32>, ModelError> {
    if family.class != MIXTURE {
        return Ok(None);
    }
    let count = keys.count("num_experts")?;
    out.number("expert_count", count);
    out.number("expert_used_count", keys.count("num_experts_per_tok")?);
    out.number("expert_feed_forward_length", keys.count("moe_intermediate_size")?);
    // Of training.
    drop([keys.take("router_aux_loss_coef"), keys.take("output_router_logits")]);
    let other = [
        // The class's own default: shares of all experts, and not of those that a token takes.
        ("norm_topk_prob", keys.truth("norm_topk_prob")? != Some(true)),
        // Layers without experts, and an expert of all tokens.
        ("decoder_sparse_step", keys.number("decoder_sparse_step")?.is_some_and(|step| step != 1)),
        ("mlp_only_layers", !keys.numbers("mlp_only_layers")?.is_empty()),
        (
            "shared_expert_intermediate_size",
            keys.number("shared_expert_intermediate_size")? > Some(0),
        ),
        ("use_qk_norm", keys.truth("use_qk_norm")? == Some(false)),
    ];
    let other = other.iter().find(|(_, other)| *other);
    other.map_or(Ok(Some(count)), |(key, _)| Err(unsupported(key)))
}

/// What two keys for the same say. Who wrote two values meant one of them, and nobody knows which: what
/// reads such files elsewhere goes by the one or by the other.
fn agreed<T: PartialEq>(
    one: Option<T>,
    other: Option<T>,
    what: &str,
) -> Result<Option<T>, ModelError> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(unsupported(what)),
        (one, other) => Ok(one.or(other)),
    }
}

/// What each token sees, and how much it is scaled.
fn seen(
    keys: &mut Keys,
    family: &Family,
    layers: u32,
    out: &mut Metadata,
) -> Result<(), ModelError> {
    // Every so many layers one sees all.
    let mut pattern = 1;
    match family.class {
        "MistralForCausalLM" => {
            if let Some(window) = keys.number("sliding_window")? {
                out.number("attention.sliding_window", window);
                pattern = u32::MAX;
            }
        }
        "Qwen3ForCausalLM" | MIXTURE => {
            keys.off("use_sliding_window")?;
            // What it would be.
            drop([keys.take("sliding_window"), keys.take("max_window_layers")]);
        }
        "Gemma3ForCausalLM" => {
            out.number("attention.sliding_window", keys.count("sliding_window")?);
            let given = keys.number("sliding_window_pattern")?;
            let also = keys.number("_sliding_window_pattern")?;
            let what = "sliding_window_pattern beside _sliding_window_pattern";
            pattern = agreed(given, also, what)?.unwrap_or(GEMMA3_PATTERN);
            out.number("attention.sliding_window_pattern", pattern);
            #[allow(clippy::cast_precision_loss)] // the size of a head, or near it
            let scalar = keys.count("query_pre_attn_scalar")? as f32;
            out.float("attention.scale", 1.0 / scalar.sqrt());
        }
        _ => {}
    }
    let Some(kinds) = keys.texts("layer_types")? else { return Ok(()) };
    let kind = |number: u32| match number.checked_rem(pattern) {
        Some(0) => "full_attention",
        _ => "sliding_attention",
    };
    let computed = (1..=layers).map(kind);
    if kinds.iter().map(String::as_str).eq(computed) {
        Ok(())
    } else {
        Err(unsupported("layer_types"))
    }
}

/// How heads turn; the factors, if some frequencies are slower than others.
fn turning(
    keys: &mut Keys,
    family: &Family,
    head_dim: u32,
    out: &mut Metadata,
) -> Result<Option<Vec<f32>>, ModelError> {
    let (parameters, scaling) = (keys.object("rope_parameters")?, keys.object("rope_scaling")?);
    if parameters.is_some() && scaling.is_some() {
        return Err(unsupported("rope_scaling beside rope_parameters"));
    }
    let gemma = family.architecture == "gemma3";
    let mut local_base = if gemma { keys.float("rope_local_base_freq")? } else { None };
    let whole = match parameters.or(scaling) {
        Some(mut kinds) if gemma => match kinds.object("full_attention")? {
            Some(whole) => {
                if let Some(local) = kinds.object("sliding_attention")? {
                    let local = Rope::read(local)?;
                    if local.scaling != Scaling::None {
                        return Err(unsupported("scaled positions of a window"));
                    }
                    let what = "rope_local_base_freq beside rope_parameters";
                    local_base = agreed(local_base, local.base, what)?;
                }
                kinds.finish(&[])?;
                Some(whole)
            }
            None => Some(kinds),
        },
        whole => whole,
    };
    let whole = whole.map(Rope::read).transpose()?.unwrap_or_default();
    let given = keys.float("rope_theta")?;
    let base = match agreed(given, whole.base, "rope_theta beside rope_parameters")? {
        None if gemma => return Err(missing("rope_theta")),
        base => base.unwrap_or(DEFAULT_BASE),
    };
    out.float("rope.freq_base", base);
    if let Some(base) = local_base {
        out.float("rope.freq_base_swa", base);
    }
    match whole.scaling {
        Scaling::None => Ok(None),
        Scaling::Linear(factor) => {
            out.put("rope.scaling.type", Value::String("linear".to_owned()));
            out.float("rope.scaling.factor", factor);
            Ok(None)
        }
        Scaling::Ramp(ramp) if family.architecture == "llama" => {
            Ok(Some(ramp.factors(base, head_dim)))
        }
        Scaling::Ramp(_) => Err(unsupported("rope_type llama3")),
    }
}

/// `rope_parameters`, or `rope_scaling` before it was called so.
#[derive(Default)]
struct Rope {
    base: Option<f32>,
    scaling: Scaling,
}

#[derive(Default, PartialEq)]
enum Scaling {
    #[default]
    None,
    /// Positions are divided by this.
    Linear(f32),
    Ramp(Ramp),
}

impl Rope {
    fn read(mut keys: Keys) -> Result<Self, ModelError> {
        let base = keys.float("rope_theta")?;
        let (new, old) = (keys.text("rope_type")?, keys.text("type")?);
        let kind = agreed(new, old, "rope_type beside type")?;
        let mut float = |key: &str| keys.float(key)?.ok_or_else(|| missing(key));
        let scaling = match kind.as_deref() {
            None | Some("default") => Scaling::None,
            Some("linear") => Scaling::Linear(float("factor")?),
            Some("llama3") => Scaling::Ramp(Ramp {
                factor: float("factor")?,
                low: float("low_freq_factor")?,
                high: float("high_freq_factor")?,
                context: float("original_max_position_embeddings")?,
            }),
            Some(other) => return Err(unsupported(&format!("rope_type {other}"))),
        };
        keys.finish(&[])?;
        Ok(Self { base, scaling })
    }
}

/// Rope scaling of Llama 3.1 and later (`llama3`).
#[derive(PartialEq)]
struct Ramp {
    factor: f32,
    low: f32,
    high: f32,
    /// Tokens the model was trained with before.
    context: f32,
}

impl Ramp {
    /// Waves of which `high` and more fit into the old context stay, those of which at most `low` do get
    /// `factor` times as long, and between them frequency changes evenly. A factor that is no number is
    /// refused where frequencies are computed.
    #[allow(clippy::cast_possible_truncation)] // to the precision of the files that converters write
    fn factors(&self, base: f32, head_dim: u32) -> Vec<f32> {
        let [base, factor, low, high, context] =
            [base, self.factor, self.low, self.high, self.context].map(f64::from);
        let of_pair = |pair: u32| {
            let frequency = base.powf(-2.0 * f64::from(pair) / f64::from(head_dim));
            let waves = context * frequency / core::f64::consts::TAU;
            let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / (kept + (1.0 - kept) / factor)) as f32
        };
        (0..head_dim / 2).map(of_pair).collect()
    }
}

/// What is off, or absent, in every model that is computed.
const NOT_COMPUTED: [&str; 5] =
    ["attention_bias", "mlp_bias", "qkv_bias", "rope_interleaved", "use_bidirectional_attention"];
/// What is known and changes no number, or none that is computed here.
const HARMLESS: [&str; 15] = [
    "_name_or_path",
    "attention_dropout",
    "bos_token_id",
    "cache_implementation",
    "dtype",
    "initializer_range",
    "is_llama_config",
    "model_type",
    "pad_token_id",
    // Products are computed in parts: the same sums.
    "pretraining_tp",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unk_token_id",
    "use_cache",
];
/// A number or a list of them, in either file.
const ENDS: &str = "eos_token_id";
/// The file with settings for sampling, which also names the tokens that end a turn.
pub(super) const GENERATION: &str = "generation_config.json";
/// `sliding_window_pattern` of a Gemma 3 that does not say.
const GEMMA3_PATTERN: u32 = 6;
/// `rope_theta` of the other families where a file does not say.
const DEFAULT_BASE: f32 = 10_000.0;
