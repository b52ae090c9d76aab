//! Reads the keys of an architecture and remembers which were asked for, so that the others can be
//! refused. Values are the model author's: every number has a range.

use std::collections::BTreeSet;

use super::Turning;
use crate::error::ModelError;
use crate::gguf::Gguf;

/// The keys `ARCHITECTURE.*` of a file.
pub(crate) struct Settings<'a> {
    gguf: &'a Gguf,
    architecture: &'static str,
    known: BTreeSet<String>,
}

impl<'a> Settings<'a> {
    pub(crate) const fn new(gguf: &'a Gguf, architecture: &'static str) -> Self {
        Self { gguf, architecture, known: BTreeSet::new() }
    }

    /// The whole key of `name`, which is known from now on.
    fn key(&mut self, name: &str) -> String {
        let key = format!("{}.{name}", self.architecture);
        self.known.insert(key.clone());
        key
    }

    /// Whether there is a value for `name`.
    pub(crate) fn has(&mut self, name: &str) -> bool {
        let key = self.key(name);
        self.gguf.has(&key)
    }

    /// A number, zero too.
    pub(crate) fn number(&mut self, name: &str) -> Result<u32, ModelError> {
        let key = self.key(name);
        self.gguf.u32(&key)
    }

    /// A number from 1 to `most`.
    pub(crate) fn count(
        &mut self,
        name: &str,
        most: u32,
        expected: &'static str,
    ) -> Result<u32, ModelError> {
        let key = self.key(name);
        let got = self.gguf.u32(&key)?;
        if got == 0 || got > most { Err(self.invalid(name, expected, got)) } else { Ok(got) }
    }

    /// As [`Settings::count`], or nothing if the key is absent.
    pub(crate) fn count_opt(
        &mut self,
        name: &str,
        most: u32,
        expected: &'static str,
    ) -> Result<Option<u32>, ModelError> {
        self.has(name).then(|| self.count(name, most, expected)).transpose()
    }

    /// A base of rotary frequencies, or nothing if the key is absent.
    pub(crate) fn base_opt(&mut self, name: &str) -> Result<Option<f32>, ModelError> {
        let key = self.key(name);
        let base = self.gguf.f32_opt(&key)?;
        match base {
            Some(got) if !(got.is_finite() && got >= 1.0) => {
                let (expected, got) = ("at least 1", got.to_string());
                Err(ModelError::MetadataInvalid { key, expected, got })
            }
            base => Ok(base),
        }
    }

    /// A positive number, or nothing if the key is absent.
    pub(crate) fn positive_opt(&mut self, name: &str) -> Result<Option<f32>, ModelError> {
        let key = self.key(name);
        let got = self.gguf.f32_opt(&key)?;
        if got.is_none_or(|got| got.is_finite() && got > 0.0) {
            return Ok(got);
        }
        let got = got.map(|got| got.to_string()).unwrap_or_default();
        Err(ModelError::MetadataInvalid { key, expected: "a positive number", got })
    }

    /// How the heads turn: the base, and a linear scaling of positions. Other scalings are refused.
    pub(crate) fn turning(&mut self) -> Result<Turning, ModelError> {
        let base = self.base_opt("rope.freq_base")?.unwrap_or(DEFAULT_BASE);
        let key = self.key("rope.scaling.type");
        let linear = match self.gguf.string_opt(&key)? {
            None | Some("none") => false,
            Some("linear") => true,
            Some(kind) => {
                let feature = format!("rope scaling {kind:?} ({key})");
                return Err(ModelError::UnsupportedFeature { feature });
            }
        };
        // Without a type, or with `none`, a factor would be left to guess at: it stays unknown.
        let stretch = if linear { self.stretch()? } else { 1.0 };
        Ok(Turning { base, stretch })
    }

    fn stretch(&mut self) -> Result<f32, ModelError> {
        let key = self.key("rope.scaling.factor");
        let got = self.gguf.f32_opt(&key)?;
        let got = got.ok_or_else(|| ModelError::MetadataMissing { key: key.clone() })?;
        if got.is_finite() && got >= 1.0 {
            return Ok(got);
        }
        Err(ModelError::MetadataInvalid { key, expected: "at least 1", got: got.to_string() })
    }

    /// What norms add to the mean square.
    pub(crate) fn epsilon(&mut self) -> Result<f32, ModelError> {
        let key = self.key("attention.layer_norm_rms_epsilon");
        let got = self.gguf.f32_opt(&key)?;
        let got = got.ok_or_else(|| ModelError::MetadataMissing { key: key.clone() })?;
        if got > 0.0 && got < 1.0 {
            return Ok(got);
        }
        let expected = "between 0 and 1";
        Err(ModelError::MetadataInvalid { key, expected, got: got.to_string() })
    }

    /// Rows of the embedding.
    pub(crate) fn vocab(&self) -> Result<usize, ModelError> {
        const NAME: &str = "token_embd.weight";
        let missing = || ModelError::TensorMissing { name: NAME.to_owned() };
        let info = self.gguf.content.tensor_infos.get(NAME).ok_or_else(missing)?;
        let rows = info.shape.dims().first().copied().unwrap_or(0);
        let limit = u64::from(u32::MAX);
        if u32::try_from(rows).is_err() {
            return Err(ModelError::Limit { what: "vocabulary", limit, got: rows as u64 });
        }
        Ok(rows)
    }

    /// Keys that describe the file and change no number.
    pub(crate) fn describe(&mut self, names: &[&str]) {
        for name in names {
            self.key(name);
        }
    }

    /// The refusal of a number.
    pub(crate) fn invalid(&self, name: &str, expected: &'static str, got: u32) -> ModelError {
        let key = format!("{}.{name}", self.architecture);
        ModelError::MetadataInvalid { key, expected, got: got.to_string() }
    }

    /// Refuses what was not asked for. The smallest key, so that the same file always gives the same
    /// refusal.
    pub(crate) fn finish(self) -> Result<(), ModelError> {
        let prefix = format!("{}.", self.architecture);
        let unknown = self
            .gguf
            .content
            .metadata
            .keys()
            .filter(|key| key.starts_with(&prefix) && !self.known.contains(*key))
            .min();
        unknown.map_or(Ok(()), |key| {
            Err(ModelError::UnsupportedFeature { feature: format!("metadata {key}") })
        })
    }
}

/// `rope.freq_base` of a file that has none.
const DEFAULT_BASE: f32 = 10_000.0;
