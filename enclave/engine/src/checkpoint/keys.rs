//! The keys of a `config.json`, taken one by one: what nobody took and is not known to change no number
//! is refused by name. Values are the model author's.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::malformed;
use crate::error::ModelError;

/// An object of the file. `null` is as good as absent: so the files say that something is not set.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Keys(BTreeMap<String, Json>);

impl Keys {
    pub(super) fn of(object: serde_json::Map<String, Json>) -> Self {
        Self(object.into_iter().collect())
    }

    /// The value of `key`, which is known from now on.
    pub(super) fn take(&mut self, key: &str) -> Option<Json> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    /// An integer from 0 to 2^32-1.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<u32>, ModelError> {
        let number = |value: Json| value.as_u64().and_then(|number| u32::try_from(number).ok());
        self.read(key, "an integer from 0 to 2^32-1", number)
    }

    /// A number, or a list of them; none if it is absent.
    pub(super) fn numbers(&mut self, key: &str) -> Result<Vec<u32>, ModelError> {
        let number = |value: &Json| u32::try_from(value.as_u64()?).ok();
        let numbers = |value: Json| match value {
            Json::Array(items) => items.iter().map(number).collect(),
            one => number(&one).map(|one| vec![one]),
        };
        let read = self.read(key, "an integer from 0 to 2^32-1 or a list of them", numbers)?;
        Ok(read.unwrap_or_default())
    }

    /// As [`Keys::number`], of a key that must be there.
    pub(super) fn count(&mut self, key: &str) -> Result<u32, ModelError> {
        self.number(key)?.ok_or_else(|| missing(key))
    }

    #[allow(clippy::cast_possible_truncation)] // what it becomes is checked by who computes with it
    pub(super) fn float(&mut self, key: &str) -> Result<Option<f32>, ModelError> {
        self.read(key, "a number", |value| value.as_f64().map(|number| number as f32))
    }

    pub(super) fn truth(&mut self, key: &str) -> Result<Option<bool>, ModelError> {
        self.read(key, "true or false", |value| value.as_bool())
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, ModelError> {
        self.read(key, "a text", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>, ModelError> {
        let text = |value: &Json| value.as_str().map(str::to_owned);
        let texts = |value: Json| value.as_array()?.iter().map(text).collect();
        self.read(key, "a list of texts", texts)
    }

    pub(super) fn object(&mut self, key: &str) -> Result<Option<Self>, ModelError> {
        let object = |value: Json| match value {
            Json::Object(object) => Some(Self::of(object)),
            _ => None,
        };
        self.read(key, "an object", object)
    }

    fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(Json) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| malformed(FILE, &format!("{key} is not {expected}")))
    }

    /// Takes `key`, which may say that something that is not computed is off, and nothing else.
    pub(super) fn off(&mut self, key: &str) -> Result<(), ModelError> {
        match self.take(key) {
            None | Some(Json::Bool(false)) => Ok(()),
            Some(_) => Err(unsupported(key)),
        }
    }

    /// Refuses what is left but for `harmless`. The smallest key, so that the same file always gives the
    /// same refusal.
    pub(super) fn finish(self, harmless: &[&str]) -> Result<(), ModelError> {
        let strange =
            |(key, value): &(String, Json)| !value.is_null() && !harmless.contains(&key.as_str());
        let unknown = self.0.into_iter().find(strange);
        unknown.map_or(Ok(()), |(key, _)| Err(unsupported(&key)))
    }
}

pub(super) fn missing(key: &str) -> ModelError {
    malformed(FILE, &format!("it has no {key}"))
}

pub(super) fn unsupported(what: &str) -> ModelError {
    ModelError::UnsupportedFeature { feature: format!("{what} ({FILE})") }
}

/// The file.
pub(super) const FILE: &str = "config.json";
