//! The files of an embedding model, in the order of their paths, as a bundle gives them: `config.json`
//! comes before the weights and the tokenizer after them. Verified by who gives them; see `config.rs`.

use std::io::BufRead;

use chrysalis_wordpiece::Tokenizer;

use super::bert::Bert;
use super::config::{Config, Module, POOLING, PoolingFile, Sentence, check_modules};
use crate::checkpoint::{bytes, json};
use crate::error::ModelError;
use crate::kernels::Pool;
use crate::safetensors::Header;
use crate::weights::Weights;

/// What was read.
#[derive(Default)]
pub(super) struct Files {
    config: Option<Config>,
    pooling: Option<PoolingFile>,
    modules: Option<Vec<Module>>,
    sentence: Option<Sentence>,
    tokenizer: Option<Tokenizer>,
    weights: Option<Weights>,
}

/// A model and its tokenizer.
pub(super) struct Loaded {
    pub(super) model: Bert,
    pub(super) tokenizer: Tokenizer,
    /// Most tokens of a text, those around it included.
    pub(super) text_tokens: usize,
}

impl Files {
    /// Takes one file of `len` bytes. A file that says nothing about the model is left alone.
    ///
    /// # Errors
    /// [`ModelError`] for one that makes no sense, is over its limit or asks for what is not computed.
    pub(super) fn file(
        &mut self,
        path: &str,
        len: u64,
        source: &mut impl BufRead,
        pool: &Pool,
    ) -> Result<(), ModelError> {
        match path {
            "config.json" => self.config = Some(json::<Config>(path, len, source)?.checked()?),
            POOLING => self.pooling = Some(json(path, len, source)?),
            "modules.json" => self.modules = Some(json(path, len, source)?),
            "sentence_bert_config.json" => {
                self.sentence = Some(json::<Sentence>(path, len, source)?.checked()?);
            }
            "tokenizer.json" => self.tokenizer = Some(Tokenizer::parse(&bytes(len, source)?)?),
            "model.safetensors" => {
                let mut header = Header::read_beside(source, len, &IGNORED)?;
                header.tensors.retain(|tensor| !tensor.name.starts_with(POOLER));
                self.weights = Some(Weights::read(source, header.len, header.tensors, pool)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The model, once every file was taken.
    ///
    /// # Errors
    /// [`ModelError`] for a file that is missing and files that contradict each other.
    pub(super) fn finish(self) -> Result<Loaded, ModelError> {
        let missing = |name: &str| ModelError::FileMissing { name: name.to_owned() };
        let config = self.config.ok_or_else(|| missing("config.json"))?;
        let pooling = self.pooling.ok_or_else(|| missing(POOLING))?.checked(config.hidden_size)?;
        check_modules(&self.modules.ok_or_else(|| missing("modules.json"))?)?;
        let tokenizer = self.tokenizer.ok_or_else(|| missing("tokenizer.json"))?;
        let weights = self.weights.ok_or_else(|| missing("model.safetensors"))?;
        if tokenizer.vocabulary() > config.vocab_size {
            let what = "it has more tokens than the embedding has rows";
            return Err(ModelError::TokenizerInvalid { what });
        }
        let stated = self.sentence.and_then(|sentence| sentence.max_seq_length);
        let text_tokens = config.max_position_embeddings.min(MAX_TEXT_TOKENS);
        let text_tokens = text_tokens.min(stated.unwrap_or(usize::MAX));
        Ok(Loaded { model: Bert::new(&config, pooling, &weights)?, tokenizer, text_tokens })
    }
}

/// The numbers 0, 1, 2 and so on, which older files hold as if they were weights.
const IGNORED: [&str; 1] = ["embeddings.position_ids"];
/// What classifiers put behind the encoder.
const POOLER: &str = "pooler.";
/// Most tokens of a text. Attention takes the square of it: at this many, half a second of one thread
/// for each layer of a small model.
pub(super) const MAX_TEXT_TOKENS: usize = 8192;
