//! Fields both endpoints share: sampling, stop strings, streaming, and the ones whose only
//! supported value is their default. Input is attacker-controlled.

use crate::json::{Fields, Object, Value};
use crate::limits::{
    Limits, MAX_CACHE_KEY_BYTES, MAX_LOGIT_BIAS, MAX_MODEL_BYTES, MAX_PENALTY, MAX_STOP_BYTES,
    MAX_STOPS, MAX_TEMPERATURE, MAX_TOP_K, MAX_USER_BYTES, MIN_CACHE_KEY_BYTES,
};
use crate::refusal::RequestError;
use crate::request::{LogitBias, Sampling};
use crate::secret::Prompt;

/// Everything but the input of a request.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) model: String,
    pub(crate) sampling: Sampling,
    pub(crate) logit_bias: Vec<LogitBias>,
    pub(crate) stop: Vec<Prompt>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) include_obfuscation: bool,
    pub(crate) cache_key: Option<Prompt>,
}

impl Options {
    pub(crate) fn read(object: &Object<'_>, limits: &Limits) -> Result<Self, RequestError> {
        defaults_only(object)?;
        let stream = object.optional("stream").map_or(Ok(false), |v| v.boolean())?;
        let (include_usage, include_obfuscation) = stream_options(object, stream)?;
        Ok(Self {
            model: model(object)?,
            sampling: sampling(object)?,
            logit_bias: object.optional("logit_bias").map_or(Ok(Vec::new()), |v| logit_bias(&v))?,
            stop: object.optional("stop").map_or(Ok(Vec::new()), |v| stops(&v))?,
            max_tokens: max_tokens(object, limits)?,
            stream,
            include_usage,
            include_obfuscation,
            cache_key: object.optional("prompt_cache_key").map(|v| cache_key(&v)).transpose()?,
        })
    }
}

/// Fields that are accepted only where they ask for nothing.
fn defaults_only(object: &Object<'_>) -> Result<(), RequestError> {
    for name in ["n", "best_of"] {
        if let Some(value) = object.optional(name)
            && value.number()? != 1.0
        {
            return Err(RequestError::UnsupportedValue { param: value.path(), allowed: "1" });
        }
    }
    // `logprobs` is a number in completions, where even 0 asks for something.
    for name in ["logprobs", "echo", "store"] {
        if let Some(value) = object.optional(name)
            && value.boolean() != Ok(false)
        {
            return Err(RequestError::UnsupportedValue { param: value.path(), allowed: "false" });
        }
    }
    if let Some(user) = object.optional("user") {
        user.short_prompt(MAX_USER_BYTES)?;
    }
    response_format(object)
}

/// A secret that prompts share what was computed of them under.
fn cache_key(value: &Value<'_>) -> Result<Prompt, RequestError> {
    let key = value.short_prompt(MAX_CACHE_KEY_BYTES)?;
    if key.len() < MIN_CACHE_KEY_BYTES {
        let allowed = "a random secret of 32 bytes or more: who guesses it learns of your prompts";
        return Err(RequestError::UnsupportedValue { param: value.path(), allowed });
    }
    Ok(key)
}

fn response_format(object: &Object<'_>) -> Result<(), RequestError> {
    const FIELDS: Fields = Fields { known: &["type"], unsupported: &["json_schema"] };
    let Some(format) = object.optional("response_format") else { return Ok(()) };
    let kind = format.object(&FIELDS)?.required("type")?;
    if kind.prompt()?.expose() != "text" {
        return Err(RequestError::UnsupportedValue { param: kind.path(), allowed: "\"text\"" });
    }
    Ok(())
}

fn model(object: &Object<'_>) -> Result<String, RequestError> {
    let value = object.required("model")?;
    let name = value.short_prompt(MAX_MODEL_BYTES)?;
    if name.is_empty() {
        return Err(RequestError::Empty { param: value.path() });
    }
    Ok(name.expose().to_owned())
}

fn sampling(object: &Object<'_>) -> Result<Sampling, RequestError> {
    let temperature = match object.optional("temperature") {
        None => 1.0,
        Some(v) => in_range(&v, (0.0..=MAX_TEMPERATURE).contains(&v.number()?), "from 0 to 2")?,
    };
    let top_p = match object.optional("top_p") {
        None => 1.0,
        Some(v) => {
            let allowed = "above 0, up to 1; for greedy answers set temperature to 0";
            // Compared as it will be used: a tiny number could round to zero.
            let rounded = narrow(v.number()?);
            in_range(&v, rounded > 0.0 && rounded <= 1.0, allowed)?
        }
    };
    let top_k = object.optional("top_k").map(|v| v.integer(1, MAX_TOP_K.into())).transpose()?;
    let seed = object.optional("seed").map(|v| v.integer(i64::MIN, i64::MAX)).transpose()?;
    let min_p = match object.optional("min_p") {
        None => 0.0,
        Some(v) => in_range(&v, (0.0..=1.0).contains(&v.number()?), "from 0 to 1")?,
    };
    Ok(Sampling {
        temperature,
        top_p,
        top_k: top_k.and_then(|k| u32::try_from(k).ok()),
        min_p,
        frequency_penalty: penalty(object, "frequency_penalty")?,
        presence_penalty: penalty(object, "presence_penalty")?,
        seed: seed.map(i64::cast_unsigned),
    })
}

fn penalty(object: &Object<'_>, name: &str) -> Result<f32, RequestError> {
    let Some(value) = object.optional(name) else { return Ok(0.0) };
    in_range(&value, (-MAX_PENALTY..=MAX_PENALTY).contains(&value.number()?), "from -2 to 2")
}

/// An object from token ids to changes; a change of 0 is none. In the order of the ids, so that a
/// request has one encoding. What ids the model has is the engine's to say.
fn logit_bias(value: &Value<'_>) -> Result<Vec<LogitBias>, RequestError> {
    let mut out = Vec::new();
    for (name, value) in value.object_lenient()?.values() {
        // One spelling of an id, so that none is named twice.
        let token = name.parse().ok().filter(|token: &u32| token.to_string() == name);
        let token = token.ok_or_else(|| RequestError::Unknown { param: value.path() })?;
        let allowed = (-MAX_LOGIT_BIAS..=MAX_LOGIT_BIAS).contains(&value.number()?);
        let bias = in_range(&value, allowed, "from -100 to 100")?;
        if bias != 0.0 {
            out.push(LogitBias { token, bias });
        }
    }
    out.sort_unstable_by_key(|bias| bias.token);
    Ok(out)
}

fn in_range(value: &Value<'_>, ok: bool, allowed: &str) -> Result<f32, RequestError> {
    if !ok {
        return Err(RequestError::OutOfRange { param: value.path(), allowed: allowed.to_owned() });
    }
    // Adding zero turns -0.0 into 0.0, so that a parameter has one encoding.
    Ok(narrow(value.number()?) + 0.0)
}

#[expect(clippy::cast_possible_truncation, reason = "sampling is done in single precision")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

fn stops(value: &Value<'_>) -> Result<Vec<Prompt>, RequestError> {
    let stop = |value: &Value<'_>| {
        let stop = value.short_prompt(MAX_STOP_BYTES)?;
        if stop.is_empty() {
            return Err(RequestError::Empty { param: value.path() });
        }
        Ok(stop)
    };
    if value.is_string() {
        return Ok(vec![stop(value)?]);
    }
    value.elements(MAX_STOPS)?.iter().map(stop).collect()
}

fn max_tokens(object: &Object<'_>, limits: &Limits) -> Result<Option<u32>, RequestError> {
    let old = object.optional("max_tokens");
    let new = object.optional("max_completion_tokens");
    if let (Some(old), Some(_)) = (&old, &new) {
        let rule = "together with 'max_completion_tokens'";
        return Err(RequestError::Conflict { param: old.path(), rule });
    }
    let Some(value) = old.or(new) else { return Ok(None) };
    let tokens = value.integer(1, limits.completion_tokens.into())?;
    Ok(u32::try_from(tokens).ok())
}

/// `include_usage` and `include_obfuscation`.
fn stream_options(object: &Object<'_>, stream: bool) -> Result<(bool, bool), RequestError> {
    const FIELDS: Fields =
        Fields { known: &["include_usage", "include_obfuscation"], unsupported: &[] };
    let Some(options) = object.optional("stream_options") else { return Ok((false, false)) };
    if !stream {
        let rule = "unless 'stream' is true";
        return Err(RequestError::Conflict { param: options.path(), rule });
    }
    let options = options.object(&FIELDS)?;
    let flag = |name| options.optional(name).map_or(Ok(false), |v| v.boolean());
    Ok((flag("include_usage")?, flag("include_obfuscation")?))
}
