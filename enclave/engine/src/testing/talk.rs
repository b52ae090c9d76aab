//! A chat template and a tokenizer without a model behind them: what a conversation becomes.

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;

use super::{Brain, Vocabulary, write};
use crate::engine::TextSide;
use crate::error::EngineError;
use crate::gguf::Gguf;
use crate::model::MAX_CONTEXT_TOKENS;
use crate::request::Input;

/// The text side of a model file.
pub struct Talk(TextSide);

impl Talk {
    /// Of a file with this chat template and the vocabulary of [`super::TinyModel`], with more control tokens.
    ///
    /// # Errors
    /// As [`crate::CandleEngine::load`].
    pub fn new(template: &str, controls: &[&str]) -> Result<Self, EngineError> {
        let mut vocabulary = Vocabulary::new(&Brain::Random(0));
        vocabulary.tokens.extend(controls.iter().map(|token| (*token).to_owned()));
        vocabulary.types.extend(controls.iter().map(|_| CONTROL));
        let mut metadata = vocabulary.metadata();
        metadata.retain(|(key, _)| key != TEMPLATE);
        metadata.push((TEMPLATE.to_owned(), Value::String(template.to_owned())));
        let file = write(&metadata, Vec::new(), GgmlDType::F32);
        let gguf = Gguf::read(&mut &file[..], file.len() as u64)?;
        let mut text = TextSide::read(&gguf)?;
        text.context = MAX_CONTEXT_TOKENS;
        Ok(Self(text))
    }

    /// The prompt's token ids, as the engine computes them.
    ///
    /// # Errors
    /// As [`crate::Engine::generate`].
    pub fn ids(&self, input: &Input) -> Result<Vec<u32>, EngineError> {
        self.0.prompt(input).map(|ids| ids.to_vec())
    }

    /// The control tokens among `ids`.
    #[must_use]
    pub fn controls(&self, ids: &[u32]) -> Vec<u32> {
        ids.iter().copied().filter(|id| self.0.tokenizer.spelling(*id).1).collect()
    }

    /// The text of the others.
    #[must_use]
    pub fn text(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|id| self.0.tokenizer.bytes(*id)).copied().collect()
    }
}

const TEMPLATE: &str = "tokenizer.chat_template";
/// `LLAMA_TOKEN_TYPE_CONTROL`.
const CONTROL: i32 = 3;
