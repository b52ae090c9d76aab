//! A BERT encoder (Devlin et al., 2018) that gives one vector for each text. Its weights are those of a
//! verified file; ids and lengths were checked before they come here.

use core::ops::Range;

use zeroize::Zeroizing;

use super::config::{Config, Pooling};
use crate::error::{EngineError, ModelError};
use crate::kernels::{
    Inputs, Lanes, LayerNorm, Matrix, Pool, Tiled, add_bias, attend_all, gelu, lanes, product,
};
use crate::weights::Weights;

/// The vector of a text, of length 1.
pub(super) type Values = Zeroizing<Vec<f32>>;

/// The model.
pub(super) struct Bert {
    hidden: usize,
    intermediate: usize,
    heads: usize,
    words: Matrix,
    positions: Matrix,
    /// What is added to every token of a text: that it belongs to the first part of two.
    part: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    pooling: Pooling,
}

struct Layer {
    /// Queries, keys, values.
    attention: [Matrix; 3],
    attention_bias: Vec<Lanes>,
    output: Dense,
    output_norm: LayerNorm,
    up: Dense,
    down: Dense,
    norm: LayerNorm,
}

struct Dense {
    weight: Matrix,
    bias: Vec<Lanes>,
}

impl Bert {
    /// # Errors
    /// [`ModelError::TensorMissing`], [`ModelError::Weights`] for tensors of other sizes than `config`
    /// says.
    pub(super) fn new(
        config: &Config,
        pooling: Pooling,
        weights: &Weights,
    ) -> Result<Self, ModelError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let read = Reader { weights, epsilon: config.layer_norm_eps };
        let vocabulary = usize::try_from(config.vocab_size).unwrap_or(usize::MAX);
        let table = |name: &str, rows| {
            weights.matrix(&format!("embeddings.{name}_embeddings.weight"), rows, hidden)
        };
        let parts = table("token_type", config.type_vocab_size)?;
        let mut part = vec![0.0; hidden];
        parts.row(0, &mut part);
        let layers = (0..config.num_hidden_layers).map(|n| {
            let name = |part: &str| format!("encoder.layer.{n}.{part}");
            let [query, key, value] = ["query", "key", "value"]
                .map(|part| read.dense(&name(&format!("attention.self.{part}")), hidden, hidden));
            let (query, key, value) = (query?, key?, value?);
            Ok(Layer {
                attention_bias: [query.bias, key.bias, value.bias].concat(),
                attention: [query.weight, key.weight, value.weight],
                output: read.dense(&name("attention.output.dense"), hidden, hidden)?,
                output_norm: read.norm(&name("attention.output.LayerNorm"), hidden)?,
                up: read.dense(&name("intermediate.dense"), wide, hidden)?,
                down: read.dense(&name("output.dense"), hidden, wide)?,
                norm: read.norm(&name("output.LayerNorm"), hidden)?,
            })
        });
        Ok(Self {
            hidden,
            intermediate: wide,
            heads: config.num_attention_heads,
            words: table("word", vocabulary)?,
            positions: table("position", config.max_position_embeddings)?,
            part,
            norm: read.norm("embeddings.LayerNorm", hidden)?,
            layers: layers.collect::<Result<_, ModelError>>()?,
            pooling,
        })
    }

    /// Numbers of a vector.
    pub(super) const fn dimensions(&self) -> usize {
        self.hidden
    }

    /// The vector of each text, or [`EngineError::Compute`] for one whose numbers are none. No text is
    /// empty. The vector of one does not depend on the others, bit for bit.
    pub(super) fn embed(&self, pool: &Pool, texts: &[&[u32]]) -> Vec<Result<Values, EngineError>> {
        let rows = texts.iter().fold(0, |sum: usize, text| sum.saturating_add(text.len()));
        let mut x = Tiled::new(rows, self.hidden);
        let mut spans = Vec::with_capacity(texts.len());
        let mut start = 0usize;
        for text in texts {
            for (position, id) in text.iter().enumerate() {
                let row = self.token(*id, position);
                x.set_row(start.saturating_add(position), &row);
            }
            let end = start.saturating_add(text.len());
            spans.push(start..end);
            start = end;
        }
        self.norm.apply(pool, &mut x);
        self.encode(pool, &spans, &mut x);
        spans.into_iter().map(|span| self.pooled(&x, span)).collect()
    }

    /// What the first layer is told of a token.
    fn token(&self, id: u32, position: usize) -> Values {
        let mut row = Zeroizing::new(vec![0.0; self.hidden]);
        let mut place = vec![0.0; self.hidden];
        self.words.row(usize::try_from(id).unwrap_or(usize::MAX), &mut row);
        self.positions.row(position, &mut place);
        for ((x, place), part) in row.iter_mut().zip(&place).zip(&self.part) {
            *x += place + part;
        }
        row
    }

    fn encode(&self, pool: &Pool, spans: &[Range<usize>], x: &mut Tiled) {
        let rows = x.rows();
        let mut inputs = Inputs::new(rows, self.hidden.max(self.intermediate));
        let mut qkv = Tiled::new(rows, self.hidden.saturating_mul(3));
        let mut narrow = Tiled::new(rows, self.hidden);
        let mut wide = Tiled::new(rows, self.intermediate);
        for layer in &self.layers {
            let [query, key, value] = &layer.attention;
            let all = [query, key, value];
            inputs.fill(pool, x, None, &all);
            product(pool, &all, &inputs, &mut qkv);
            add_bias(pool, &layer.attention_bias, &mut qkv);
            attend_all(pool, &qkv, spans, self.heads, &mut narrow);
            inputs.fill(pool, &narrow, None, &[&layer.output.weight]);
            product(pool, &[&layer.output.weight], &inputs, &mut narrow);
            layer.output_norm.apply_added(pool, &narrow, &layer.output.bias, x);
            inputs.fill(pool, x, None, &[&layer.up.weight]);
            product(pool, &[&layer.up.weight], &inputs, &mut wide);
            gelu(pool, &layer.up.bias, &mut wide);
            inputs.fill(pool, &wide, None, &[&layer.down.weight]);
            product(pool, &[&layer.down.weight], &inputs, &mut narrow);
            layer.norm.apply_added(pool, &narrow, &layer.down.bias, x);
        }
    }

    /// One vector of length 1 for the tokens of a text.
    fn pooled(&self, x: &Tiled, span: Range<usize>) -> Result<Values, EngineError> {
        let mut sum = Zeroizing::new(vec![0.0f32; self.hidden]);
        let rows = match self.pooling {
            // The length of what is divided does not matter below.
            Pooling::Mean => span,
            Pooling::First => span.start..span.start.saturating_add(1),
        };
        for row in rows {
            let row = x.row(row, self.hidden);
            for (sum, x) in sum.iter_mut().zip(row.iter()) {
                *sum += x;
            }
        }
        let square = sum.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        if !(square.is_finite() && square > 0.0) {
            return Err(EngineError::Compute { stage: "the vector of a text" });
        }
        let scale = 1.0 / square.sqrt();
        for x in sum.iter_mut() {
            #[allow(clippy::cast_possible_truncation)] // rounded to what vectors are told in
            let scaled = (f64::from(*x) * scale) as f32;
            *x = scaled;
        }
        Ok(sum)
    }
}

/// Reads the parts of a model.
struct Reader<'a> {
    weights: &'a Weights,
    epsilon: f32,
}

impl Reader<'_> {
    fn dense(&self, name: &str, rows: usize, columns: usize) -> Result<Dense, ModelError> {
        let weight = self.weights.matrix(&format!("{name}.weight"), rows, columns)?;
        Ok(Dense { weight, bias: lanes(self.vector(&format!("{name}.bias"), rows)?) })
    }

    fn norm(&self, name: &str, columns: usize) -> Result<LayerNorm, ModelError> {
        let weight = self.vector(&format!("{name}.weight"), columns)?;
        let bias = self.vector(&format!("{name}.bias"), columns)?;
        Ok(LayerNorm::new(weight, bias, self.epsilon))
    }

    fn vector(&self, name: &str, len: usize) -> Result<&[f32], ModelError> {
        let vector = self.weights.vector(name)?;
        if vector.len() != len {
            let (name, expected, got) = (name.to_owned(), vec![len], vec![vector.len()]);
            return Err(ModelError::TensorShape { name, expected, got });
        }
        Ok(vector)
    }
}
