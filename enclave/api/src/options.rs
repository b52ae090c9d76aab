//! Fields both endpoints share: sampling, stop strings, streaming, and the ones whose only
//! supported value is their default. Input is attacker-controlled.

use crate::constraint::{self, Constraint};
use crate::json::{Fields, Object, Value};
use crate::limits::{
    Limits, MAX_CACHE_KEY_BYTES, MAX_CHOICES, MAX_COMPLETION_LOGPROBS, MAX_LOGIT_BIAS,
    MAX_MODEL_BYTES, MAX_PENALTY, MAX_STOP_BYTES, MAX_STOPS, MAX_TEMPERATURE, MAX_TOP_K,
    MAX_TOP_LOGPROBS, MAX_USER_BYTES, MIN_CACHE_KEY_BYTES,
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
    pub(crate) choices: u32,
    pub(crate) constraint: Option<(Constraint, &'static str)>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) include_obfuscation: bool,
    pub(crate) cache_key: Option<Prompt>,
    pub(crate) priority: i8,
}

impl Options {
    pub(crate) fn read(object: &Object<'_>, limits: &Limits) -> Result<Self, RequestError> {
        defaults_only(object)?;
        let choices = choices(object)?;
        let stream = object.optional("stream").map_or(Ok(false), |v| v.boolean())?;
        let (include_usage, include_obfuscation) = stream_options(object, stream)?;
        let cache_key = object.optional("prompt_cache_key").map(|v| cache_key(&v)).transpose()?;
        Ok(Self {
            model: model(object)?,
            sampling: sampling(object)?,
            logit_bias: object.optional("logit_bias").map_or(Ok(Vec::new()), |v| logit_bias(&v))?,
            stop: object.optional("stop").map_or(Ok(Vec::new()), |v| stops(&v))?,
            choices,
            constraint: constraint::read(object)?,
            max_tokens: max_tokens(object, choices, limits)?,
            stream,
            include_usage,
            include_obfuscation,
            priority: priority(object, cache_key.is_some())?,
            cache_key,
        })
    }
}

/// Fields that are accepted only where they ask for nothing.
fn defaults_only(object: &Object<'_>) -> Result<(), RequestError> {
    for name in ["echo", "store"] {
        if let Some(value) = object.optional(name)
            && value.boolean() != Ok(false)
        {
            return Err(RequestError::UnsupportedValue { param: value.path(), allowed: "false" });
        }
    }
    if let Some(user) = object.optional("user") {
        user.short_prompt(MAX_USER_BYTES)?;
    }
    Ok(())
}

/// `n`. `best_of` may say the same: the best of the answers given is all of them.
fn choices(object: &Object<'_>) -> Result<u32, RequestError> {
    let number = |value: Value<'_>| {
        let number = value.integer(1, MAX_CHOICES.into())?;
        Ok(u32::try_from(number).unwrap_or(MAX_CHOICES))
    };
    let choices = object.optional("n").map_or(Ok(1), number)?;
    if let Some(best_of) = object.optional("best_of")
        && best_of.number()? != f64::from(choices)
    {
        let allowed = "the same as 'n'";
        return Err(RequestError::UnsupportedValue { param: best_of.path(), allowed });
    }
    Ok(choices)
}

/// How many alternatives `top_logprobs` of a chat asks for; `None` unless `logprobs` is true.
pub(crate) fn chat_logprobs(object: &Object<'_>) -> Result<Option<u8>, RequestError> {
    let asked = object.optional("logprobs").map_or(Ok(false), |v| v.boolean())?;
    let Some(top) = object.optional("top_logprobs") else { return Ok(asked.then_some(0)) };
    if !asked {
        let rule = "unless 'logprobs' is true";
        return Err(RequestError::Conflict { param: top.path(), rule });
    }
    alternatives(&top, MAX_TOP_LOGPROBS).map(Some)
}

/// How many alternatives `logprobs` of a completion asks for: it is a number there, and 0 asks for
/// the tokens alone.
pub(crate) fn completion_logprobs(object: &Object<'_>) -> Result<Option<u8>, RequestError> {
    object.optional("logprobs").map(|v| alternatives(&v, MAX_COMPLETION_LOGPROBS)).transpose()
}

fn alternatives(value: &Value<'_>, most: u8) -> Result<u8, RequestError> {
    Ok(u8::try_from(value.integer(0, most.into())?).unwrap_or(most))
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

/// vLLM's `priority`. Among the requests of one key only: what overtakes the requests of others would be
/// anybody's to take.
fn priority(object: &Object<'_>, keyed: bool) -> Result<i8, RequestError> {
    let Some(value) = object.optional("priority") else { return Ok(0) };
    let number = value.integer(i8::MIN.into(), i8::MAX.into())?;
    if number != 0 && !keyed {
        let rule = "unless 'prompt_cache_key' says among whose requests";
        return Err(RequestError::Conflict { param: value.path(), rule });
    }
    Ok(i8::try_from(number).unwrap_or_default())
}

pub(crate) fn model(object: &Object<'_>) -> Result<String, RequestError> {
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

/// For each answer; all together may take what one request may.
fn max_tokens(
    object: &Object<'_>,
    choices: u32,
    limits: &Limits,
) -> Result<Option<u32>, RequestError> {
    let old = object.optional("max_tokens");
    // Each endpoint knows one or two of the names; the others were refused.
    let new =
        object.optional("max_completion_tokens").or_else(|| object.optional("max_output_tokens"));
    if let (Some(old), Some(_)) = (&old, &new) {
        let rule = "together with 'max_completion_tokens'";
        return Err(RequestError::Conflict { param: old.path(), rule });
    }
    let Some(value) = old.or(new) else { return Ok(None) };
    let most = limits.completion_tokens.checked_div(choices).unwrap_or_default();
    let tokens = value.integer(1, most.into())?;
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
