//! Tiny models of every family, with random weights: the same tensors and metadata as published files
//! of the family, in small. Shapes are chosen so that no two sizes are equal by accident.

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;

use super::{Brain, Random, Vocabulary, Weights, write};

/// A model to generate. The constructors give one for each family; the fields may be changed.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // as the metadata names them
pub struct Recipe {
    /// For reports.
    pub name: &'static str,
    pub architecture: &'static str,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    pub layers: usize,
    pub context: u32,
    /// All, and those a token takes.
    pub experts: Option<(usize, usize)>,
    /// Of every layer, or of the local ones.
    pub window: Option<u32>,
    pub freq_base: f32,
    /// Linear scaling of positions.
    pub stretch: Option<f32>,
    pub ramp: Option<Ramp>,
    /// Whether the embedding is the output matrix too.
    pub tied: bool,
    pub head_norms: bool,
    pub after_norms: bool,
    /// Of all matrices but the router.
    pub dtype: GgmlDType,
    pub seed: u64,
    /// Rows of the embedding; those of the test vocabulary if none are given.
    pub vocab: Option<usize>,
    /// Metadata set or left out in the end.
    pub edits: Vec<(String, Option<Value>)>,
    /// A tensor left out.
    pub missing: Option<String>,
}

/// Rope scaling of Llama 3.1 and later, as their `config.json` names it.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Ramp {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    pub original_context: f64,
}

impl Recipe {
    /// Llama 3: grouped heads, an output matrix of its own.
    #[must_use]
    pub fn llama() -> Self {
        Self {
            name: "llama",
            architecture: "llama",
            hidden: 48,
            heads: 6,
            kv_heads: 2,
            head_dim: 8,
            ffn: 80,
            layers: 2,
            context: 512,
            experts: None,
            window: None,
            freq_base: 500_000.0,
            stretch: None,
            ramp: None,
            tied: false,
            head_norms: false,
            after_norms: false,
            dtype: GgmlDType::F32,
            seed: 1,
            vocab: None,
            edits: Vec::new(),
            missing: None,
        }
    }

    /// Llama 3.1 and later: slower low frequencies. The original context is small, so that the
    /// positions of a test reach into the ramp.
    #[must_use]
    pub fn llama3_1() -> Self {
        let ramp = Ramp {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 64.0,
        };
        Self { name: "llama 3.1", freq_base: 10_000.0, ramp: Some(ramp), ..Self::llama() }
    }

    /// SmolLM2: as Llama, tied, an odd number of heads.
    #[must_use]
    pub fn smollm2() -> Self {
        Self { name: "smollm2", heads: 3, kv_heads: 1, head_dim: 16, tied: true, ..Self::llama() }
    }

    /// Mistral 7B 0.1: a window in every layer, here shorter than a page.
    #[must_use]
    pub fn mistral() -> Self {
        Self { name: "mistral 0.1", window: Some(20), freq_base: 10_000.0, ..Self::llama() }
    }

    /// Mistral NeMo: heads that together are not as wide as the model.
    #[must_use]
    pub fn nemo() -> Self {
        Self { name: "mistral nemo", heads: 4, head_dim: 16, ..Self::llama() }
    }

    /// Qwen3.
    #[must_use]
    pub fn qwen3() -> Self {
        Self {
            name: "qwen3",
            architecture: "qwen3",
            heads: 4,
            head_dim: 16,
            freq_base: 1_000_000.0,
            tied: true,
            head_norms: true,
            ..Self::llama()
        }
    }

    /// Qwen3 as a mixture of five experts, of which a token takes two.
    #[must_use]
    pub fn qwen3_moe() -> Self {
        Self {
            name: "qwen3 moe",
            architecture: "qwen3moe",
            experts: Some((5, 2)),
            ffn: 40,
            tied: false,
            ..Self::qwen3()
        }
    }

    /// Gemma 3: seven layers, so that the sixth sees all and the seventh does not, and a window that
    /// is longer than a page.
    #[must_use]
    pub fn gemma3() -> Self {
        Self {
            name: "gemma 3",
            architecture: "gemma3",
            heads: 4,
            kv_heads: 1,
            head_dim: 16,
            layers: 7,
            window: Some(37),
            freq_base: 1_000_000.0,
            tied: true,
            head_norms: true,
            after_norms: true,
            ..Self::llama()
        }
    }

    /// Gemma 3 from 4B on: positions of the layers that see all are scaled.
    #[must_use]
    pub fn gemma3_scaled() -> Self {
        Self { name: "gemma 3 scaled", stretch: Some(8.0), ..Self::gemma3() }
    }

    /// One of each.
    #[must_use]
    pub fn all() -> [Self; 9] {
        [
            Self::llama(),
            Self::llama3_1(),
            Self::smollm2(),
            Self::mistral(),
            Self::nemo(),
            Self::qwen3(),
            Self::qwen3_moe(),
            Self::gemma3(),
            Self::gemma3_scaled(),
        ]
    }

    /// Stores the matrices as `dtype`, and makes every row a whole number of blocks of any format.
    #[must_use]
    pub fn quantised(mut self, dtype: GgmlDType) -> Self {
        self.dtype = dtype;
        self.hidden = 256;
        self.ffn = if self.experts.is_some() { 256 } else { 512 };
        // Still not as wide as the model where it was not.
        self.head_dim = if self.head_dim * self.heads == 48 { 256 / 4 } else { 512 / 4 };
        if self.heads != 4 {
            (self.heads, self.kv_heads) = (4, if self.kv_heads == 1 { 1 } else { 2 });
        }
        self
    }

    /// Sets a metadata key to a number.
    #[must_use]
    pub fn with_number(self, key: &str, value: u32) -> Self {
        self.with(key, Some(Value::U32(value)))
    }

    /// Sets a metadata key to a 32-bit float.
    #[must_use]
    pub fn with_float(self, key: &str, value: f32) -> Self {
        self.with(key, Some(Value::F32(value)))
    }

    /// Sets a metadata key to a string.
    #[must_use]
    pub fn with_text(self, key: &str, value: &str) -> Self {
        self.with(key, Some(Value::String(value.to_owned())))
    }

    /// Sets a metadata key to a truth value.
    #[must_use]
    pub fn with_truth(self, key: &str, value: bool) -> Self {
        self.with(key, Some(Value::Bool(value)))
    }

    /// Sets a metadata key to an array of strings.
    #[must_use]
    pub fn with_texts<T: AsRef<str>>(self, key: &str, values: &[T]) -> Self {
        let values = values.iter().map(|value| Value::String(value.as_ref().to_owned()));
        self.with(key, Some(Value::Array(values.collect())))
    }

    /// Sets a metadata key to an array of numbers.
    #[must_use]
    pub fn with_numbers(self, key: &str, values: &[u32]) -> Self {
        let values = values.iter().map(|value| Value::U32(*value));
        self.with(key, Some(Value::Array(values.collect())))
    }

    /// Sets a metadata key to an array of 32-bit floats.
    #[must_use]
    pub fn with_floats(self, key: &str, values: &[f32]) -> Self {
        let values = values.iter().map(|value| Value::F32(*value));
        self.with(key, Some(Value::Array(values.collect())))
    }

    /// Leaves a metadata key out.
    #[must_use]
    pub fn without(self, key: &str) -> Self {
        self.with(key, None)
    }

    fn with(mut self, key: &str, value: Option<Value>) -> Self {
        self.edits.push((key.to_owned(), value));
        self
    }

    /// Leaves a tensor out.
    #[must_use]
    pub fn without_tensor(mut self, name: &str) -> Self {
        self.missing = Some(name.to_owned());
        self
    }

    /// Names of its tensors.
    #[must_use]
    pub fn tensors(&self) -> Vec<String> {
        self.weights(1).into_iter().map(|(name, _, _)| name).collect()
    }

    /// The GGUF file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let vocabulary = Vocabulary::new(&Brain::Random(self.seed));
        let mut weights = self.weights(self.vocab.unwrap_or(vocabulary.tokens.len()));
        weights.retain(|(name, _, _)| Some(name) != self.missing.as_ref());
        let mut metadata = vocabulary.metadata();
        metadata.retain(|(key, _)| key != "general.architecture");
        metadata.extend(self.metadata());
        for (key, value) in &self.edits {
            metadata.retain(|(k, _)| k != key);
            metadata.extend(value.clone().map(|v| (key.clone(), v)));
        }
        write(&metadata, weights, self.dtype)
    }

    #[allow(clippy::cast_possible_truncation)]
    fn metadata(&self) -> Vec<(String, Value)> {
        let number = |n: usize| Value::U32(n as u32);
        let mut own = vec![
            ("block_count", number(self.layers)),
            ("embedding_length", number(self.hidden)),
            ("feed_forward_length", number(self.ffn)),
            ("attention.head_count", number(self.heads)),
            ("attention.head_count_kv", number(self.kv_heads)),
            ("attention.key_length", number(self.head_dim)),
            ("attention.value_length", number(self.head_dim)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("context_length", Value::U32(self.context)),
            ("rope.freq_base", Value::F32(self.freq_base)),
        ];
        if let Some(window) = self.window {
            own.push(("attention.sliding_window", Value::U32(window)));
        }
        if let Some((all, used)) = self.experts {
            own.push(("expert_count", number(all)));
            own.push(("expert_used_count", number(used)));
            own.push(("expert_feed_forward_length", number(self.ffn)));
        }
        if let Some(stretch) = self.stretch {
            own.push(("rope.scaling.type", Value::String("linear".to_owned())));
            own.push(("rope.scaling.factor", Value::F32(stretch)));
        }
        let architecture = Value::String(self.architecture.to_owned());
        own.into_iter()
            .map(|(key, value)| (format!("{}.{key}", self.architecture), value))
            .chain([("general.architecture".to_owned(), architecture)])
            .collect()
    }

    /// Matrices keep the size of what goes through them; norms are around one.
    fn weights(&self, vocab: usize) -> Weights {
        let mut random = Random::new(self.seed);
        #[allow(clippy::cast_precision_loss)]
        let mut tensor = |name: String, dims: Vec<usize>| {
            let data = (0..dims.iter().product()).map(|_| match dims.as_slice() {
                [_] => 0.5 + random.unit(),
                [.., columns] => (random.unit() - 0.5) * (12.0 / *columns as f32).sqrt() * 1.3,
                [] => 0.0,
            });
            (format!("{name}.weight"), dims.clone(), data.collect())
        };
        let (hidden, ffn) = (self.hidden, self.ffn);
        let (query, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut out = vec![tensor("token_embd".to_owned(), vec![vocab, hidden])];
        for block in 0..self.layers {
            let mut dims = vec![
                ("attn_norm", vec![hidden]),
                ("attn_q", vec![query, hidden]),
                ("attn_k", vec![kv, hidden]),
                ("attn_v", vec![kv, hidden]),
                ("attn_output", vec![hidden, query]),
                ("ffn_norm", vec![hidden]),
            ];
            if self.head_norms {
                let norms = ["attn_q_norm", "attn_k_norm"];
                dims.extend(norms.map(|name| (name, vec![self.head_dim])));
            }
            if self.after_norms {
                let norms = ["post_attention_norm", "post_ffw_norm"];
                dims.extend(norms.map(|name| (name, vec![hidden])));
            }
            match self.experts {
                Some((count, _)) => dims.extend([
                    ("ffn_gate_inp", vec![count, hidden]),
                    ("ffn_gate_exps", vec![count, ffn, hidden]),
                    ("ffn_up_exps", vec![count, ffn, hidden]),
                    ("ffn_down_exps", vec![count, hidden, ffn]),
                ]),
                None => dims.extend([
                    ("ffn_gate", vec![ffn, hidden]),
                    ("ffn_up", vec![ffn, hidden]),
                    ("ffn_down", vec![hidden, ffn]),
                ]),
            }
            out.extend(dims.into_iter().map(|(n, dims)| tensor(format!("blk.{block}.{n}"), dims)));
        }
        out.push(tensor("output_norm".to_owned(), vec![hidden]));
        if !self.tied {
            out.push(tensor("output".to_owned(), vec![vocab, hidden]));
        }
        if let Some(ramp) = self.ramp {
            let factors = ramp.factors(f64::from(self.freq_base), self.head_dim);
            out.push(("rope_freqs.weight".to_owned(), vec![factors.len()], factors));
        }
        out
    }
}

impl Ramp {
    /// What converters store: by how much each frequency of a head is slowed down. Waves shorter than
    /// a part of the original context are left alone, those longer than it go `factor` times slower,
    /// and between them the frequency changes evenly.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    fn factors(self, base: f64, dim: usize) -> Vec<f32> {
        let factor = |pair: usize| {
            let frequency = base.powf(-2.0 * pair as f64 / dim as f64);
            let waves = self.original_context * frequency / core::f64::consts::TAU;
            let (low, high) = (self.low_freq_factor, self.high_freq_factor);
            let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / (kept + (1.0 - kept) / self.factor)) as f32
        };
        (0..dim / 2).map(factor).collect()
    }
}
