//! Strict reading of untrusted JSON that may hold prompts.
//!
//! `serde_json` checks the syntax and finds where each value begins and ends; the values are then
//! read from the caller's buffer. No string passes through a parser's scratch space, no parser
//! message (they quote values) reaches an error, and each object keeps its field names so that
//! unknown and repeated ones can be named.

use core::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::limits::{MAX_FIELDS, MAX_NAME_CHARS};
use crate::refusal::RequestError;
use crate::secret::Prompt;

/// Which fields an object may have.
pub(crate) struct Fields {
    /// Fields that are read.
    pub(crate) known: &'static [&'static str],
    /// Fields OpenAI defines and we do not support; `null` is taken as absent.
    pub(crate) unsupported: &'static [&'static str],
}

/// An object whose field names were checked.
pub(crate) struct Object<'a> {
    path: String,
    entries: Vec<(&'a str, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads a whole body.
    pub(crate) fn parse(
        body: &'a [u8],
        limit: usize,
        fields: &Fields,
    ) -> Result<Self, RequestError> {
        Self::read(bounded_text(body, limit)?, String::new(), Some(fields))
    }

    /// Reads an object of a peer that may know fields we do not.
    pub(crate) fn parse_lenient(body: &'a [u8], limit: usize) -> Result<Self, RequestError> {
        Self::read(bounded_text(body, limit)?, String::new(), None)
    }

    fn read(text: &'a str, path: String, fields: Option<&Fields>) -> Result<Self, RequestError> {
        let raw: RawObject<'a> = serde_json::from_str(text).map_err(|e| {
            if e.is_data() {
                RequestError::WrongType { param: path.clone(), expected: "an object" }
            } else {
                RequestError::NotJson { line: e.line(), column: e.column() }
            }
        })?;
        let object = Self { path, entries: raw.entries };
        match raw.problem {
            Some(Problem::Duplicate(name)) => {
                return Err(RequestError::Duplicate { param: object.field(name) });
            }
            Some(Problem::EscapedName) => {
                return Err(RequestError::Unknown { param: object.field("\\") });
            }
            Some(Problem::TooMany) => {
                return Err(RequestError::TooMany { param: object.path, limit: MAX_FIELDS });
            }
            None => {}
        }
        if let Some(fields) = fields {
            object.check_names(fields)?;
        }
        Ok(object)
    }

    fn check_names(&self, fields: &Fields) -> Result<(), RequestError> {
        for (name, value) in &self.entries {
            if fields.known.contains(name) {
                continue;
            }
            if !fields.unsupported.contains(name) {
                return Err(RequestError::Unknown { param: self.field(name) });
            }
            if value.get() != "null" {
                return Err(RequestError::Unsupported { param: self.field(name) });
            }
        }
        Ok(())
    }

    /// The value of a field; `null` is taken as absent.
    pub(crate) fn optional(&self, name: &str) -> Option<Value<'a>> {
        let (_, raw) = self.entries.iter().find(|(n, _)| *n == name)?;
        let text = raw.get();
        (text != "null").then(|| Value { text, path: self.field(name) })
    }

    /// The value of a field that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<Value<'a>, RequestError> {
        self.optional(name).ok_or_else(|| RequestError::Missing { param: self.field(name) })
    }

    /// Every field that is there, with its name.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.entries
            .iter()
            .filter(|(_, raw)| raw.get() != "null")
            .map(|(name, raw)| (*name, Value { text: raw.get(), path: self.field(name) }))
    }

    /// Path of a field for an error. A name is repeated only if it looks like one: anything else
    /// could be a prompt that went astray.
    pub(crate) fn field(&self, name: &str) -> String {
        let printable = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let plain = !name.is_empty() && name.len() <= MAX_NAME_CHARS && name.bytes().all(printable);
        let name = if plain { name } else { "(a name that is not an identifier)" };
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// A JSON value that is known to be well formed, and where it stands.
pub(crate) struct Value<'a> {
    text: &'a str,
    path: String,
}

impl<'a> Value<'a> {
    /// Path of the value, for errors.
    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    /// Whether the value is a JSON string.
    pub(crate) fn is_string(&self) -> bool {
        self.text.starts_with('"')
    }

    /// Whether the value is an object, whatever is in it.
    pub(crate) fn is_object(&self) -> bool {
        self.text.starts_with('{')
    }

    /// The first byte of a list's first element; `None` if there is none.
    pub(crate) fn first_element(&self) -> Option<u8> {
        let inside = self.text.strip_prefix('[')?.trim_start();
        // An empty list has none, but is one: its end stands in the place.
        inside.bytes().next()
    }

    fn wrong_type(&self, expected: &'static str) -> RequestError {
        RequestError::WrongType { param: self.path(), expected }
    }

    /// An object with these fields.
    pub(crate) fn object(&self, fields: &Fields) -> Result<Object<'a>, RequestError> {
        Object::read(self.text, self.path(), Some(fields))
    }

    /// An object with any fields.
    pub(crate) fn object_lenient(&self) -> Result<Object<'a>, RequestError> {
        Object::read(self.text, self.path(), None)
    }

    /// A list of at most `limit` values.
    pub(crate) fn elements(&self, limit: usize) -> Result<Vec<Self>, RequestError> {
        let mut de = serde_json::Deserializer::from_str(self.text);
        let raw = RawArray { limit }
            .deserialize(&mut de)
            .map_err(|_| self.wrong_type("an array"))?
            .ok_or_else(|| RequestError::TooMany { param: self.path(), limit })?;
        let value = |(i, r): (usize, &'a RawValue)| Self {
            text: r.get(),
            path: format!("{}[{i}]", self.path),
        };
        Ok(raw.into_iter().enumerate().map(value).collect())
    }

    /// A string that may be a secret.
    pub(crate) fn prompt(&self) -> Result<Prompt, RequestError> {
        let inner = self
            .text
            .strip_prefix('"')
            .and_then(|t| t.strip_suffix('"'))
            .ok_or_else(|| self.wrong_type("a string"))?;
        unescape(inner)
            .map(Prompt::from)
            .ok_or_else(|| RequestError::NotUnicode { param: self.path() })
    }

    /// A string of at most `limit` bytes that may be a secret.
    pub(crate) fn short_prompt(&self, limit: usize) -> Result<Prompt, RequestError> {
        let text = self.prompt()?;
        if text.len() > limit {
            return Err(RequestError::TooLong { param: self.path(), limit });
        }
        Ok(text)
    }

    /// The text of a string that is written without escapes.
    pub(crate) fn word(&self) -> Option<&'a str> {
        self.text.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
    }

    /// The value as it stands in the request, of at most `limit` bytes.
    pub(crate) fn json(&self, limit: usize) -> Result<Prompt, RequestError> {
        if self.text.len() > limit {
            return Err(RequestError::TooLong { param: self.path(), limit });
        }
        Ok(Prompt::new(self.text.to_owned()))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Result<bool, RequestError> {
        match self.text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    /// A whole number between `min` and `max`, written as one.
    pub(crate) fn integer(&self, min: i64, max: i64) -> Result<i64, RequestError> {
        let digits = self.text.strip_prefix('-').unwrap_or(self.text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.wrong_type("an integer"));
        }
        // What does not fit an i64 is out of every range.
        let value = self.text.parse().ok().filter(|v| (min..=max).contains(v));
        value.ok_or_else(|| RequestError::OutOfRange {
            param: self.path(),
            allowed: format!("between {min} and {max}"),
        })
    }

    /// A number.
    pub(crate) fn number(&self) -> Result<f64, RequestError> {
        let first = self.text.bytes().next().unwrap_or_default();
        if !(first == b'-' || first.is_ascii_digit()) {
            return Err(self.wrong_type("a number"));
        }
        self.text.parse().map_err(|_| self.wrong_type("a number"))
    }
}

fn bounded_text(body: &[u8], limit: usize) -> Result<&str, RequestError> {
    if body.len() > limit {
        return Err(RequestError::TooLarge { limit, got: body.len() });
    }
    core::str::from_utf8(body).map_err(|_| RequestError::NotUtf8)
}

/// Decodes the inside of a JSON string that was already checked for syntax, into a buffer that
/// does not grow: an escape is never shorter than what it stands for. `None` for half a surrogate
/// pair, the one thing the syntax check lets through.
fn unescape(inner: &str) -> Option<Zeroizing<String>> {
    let mut out = Zeroizing::new(String::with_capacity(inner.len()));
    let mut rest = inner;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = escaped.chars();
        let decoded = match chars.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let (c, after) = unicode_escape(chars.as_str())?;
                chars = after.chars();
                c
            }
            c @ ('"' | '\\' | '/') => c,
            _ => return None,
        };
        out.push(decoded);
        rest = chars.as_str();
    }
    out.push_str(rest);
    Some(out)
}

/// Decodes what follows `\u`, taking a second escape for a surrogate pair.
fn unicode_escape(text: &str) -> Option<(char, &str)> {
    let (high, rest) = hex4(text)?;
    if let Some(c) = char::from_u32(high) {
        return Some((c, rest));
    }
    let (low, rest) = hex4(rest.strip_prefix("\\u")?)?;
    let pair = [u16::try_from(high).ok()?, u16::try_from(low).ok()?];
    let c = char::decode_utf16(pair).next()?.ok()?;
    Some((c, rest))
}

fn hex4(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    // from_str_radix would take a sign.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}

enum Problem<'a> {
    Duplicate(&'a str),
    EscapedName,
    TooMany,
}

struct RawObject<'a> {
    entries: Vec<(&'a str, &'a RawValue)>,
    problem: Option<Problem<'a>>,
}

impl<'de> Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject<'de>, A::Error> {
                let mut object = RawObject { entries: Vec::new(), problem: None };
                while let Some(Name(name)) = map.next_key()? {
                    // After the first problem the rest is only checked for syntax.
                    if object.problem.is_some() {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value: &RawValue = map.next_value()?;
                    match name {
                        None => object.problem = Some(Problem::EscapedName),
                        Some(name) if object.entries.iter().any(|(n, _)| *n == name) => {
                            object.problem = Some(Problem::Duplicate(name));
                        }
                        Some(_) if object.entries.len() >= MAX_FIELDS => {
                            object.problem = Some(Problem::TooMany);
                        }
                        Some(name) => object.entries.push((name, value)),
                    }
                }
                Ok(object)
            }
        }

        d.deserialize_map(Fields)
    }
}

/// A field name as it stands in the input; `None` if it is written with escapes. No field of the
/// API needs one, and decoding it would make a second spelling of the same name.
struct Name<'a>(Option<&'a str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Some(name)))
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<Name<'de>, E> {
                Ok(Name(None))
            }
        }

        d.deserialize_str(Text)
    }
}

/// Reads a list; `None` if it is longer than the limit, without keeping what is beyond.
struct RawArray {
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for RawArray {
    type Value = Option<Vec<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RawArray {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            if values.len() >= self.limit {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            values.push(value);
        }
        Ok(Some(values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decodes_every_escape() {
        let text = r#"a\"\\\/\b\f\n\r\tä\u00e4\ud83d\ude00z"#;
        assert_eq!(unescape(text).unwrap().as_str(), "a\"\\/\u{8}\u{c}\n\r\tää😀z");
    }

    #[test]
    fn refuses_half_a_surrogate_pair() {
        for text in
            [r"\ud83d", r"\ud83dx", r"\ud83d\n", r"\ud83d\u0041", r"\ude00\ud83d", r"\u+123"]
        {
            assert!(unescape(text).is_none(), "{text}");
        }
    }

    proptest! {
        /// What serde_json writes, this reads, and the buffer did not grow.
        #[test]
        fn reads_every_string_serde_json_writes(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let inner = &json[1..json.len() - 1];
            let decoded = unescape(inner).unwrap();
            prop_assert_eq!(decoded.as_str(), text.as_str());
            prop_assert!(decoded.capacity() <= inner.len().max(8));
        }

        /// Whatever the bytes are, the reader neither panics nor quotes them.
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Object::parse_lenient(&body, 1000).map(|o| o.entries.len());
        }
    }
}
