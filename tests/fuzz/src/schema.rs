//! Whether a value is an instance of a JSON Schema, for the keywords that the engine keeps: written from the
//! standard, not from the grammar that makes such values.

use regex_automata::meta::Regex;
use serde_json::{Map, Value};

/// Whether `value` is an instance of `schema`; `None` where that is not looked into: references that go round,
/// patterns that are too large to search for.
pub fn is_instance(root: &Value, schema: &Value, value: &Value) -> Option<bool> {
    Checker { root, left: MOST_SCHEMAS }.is(schema, value, 0)
}

/// A pattern that the engine accepts, to look for anywhere in a text.
pub fn pattern(text: &str) -> Option<Regex> {
    let hir = regex_syntax::Parser::new().parse(text).ok()?;
    Regex::builder().build_from_hir(&hir).ok()
}

struct Checker<'a> {
    root: &'a Value,
    left: usize,
}

impl Checker<'_> {
    fn is(&mut self, schema: &Value, value: &Value, depth: usize) -> Option<bool> {
        self.left = self.left.checked_sub(1).filter(|_| depth < MOST_DEPTH)?;
        let keywords = match schema {
            Value::Bool(truth) => return Some(*truth),
            Value::Object(keywords) => keywords,
            _ => return Some(false),
        };
        for (key, wanted) in keywords {
            let kept = match value {
                Value::Object(object) => self.of_object(keywords, key, wanted, object, depth)?,
                Value::Array(items) => self.of_array(keywords, key, wanted, items, depth)?,
                Value::String(text) => of_string(key, wanted, text)?,
                Value::Number(number) => of_number(key, wanted, number.as_f64()?),
                Value::Null | Value::Bool(_) => true,
            };
            if !(kept && self.of_any(key, wanted, value, depth)?) {
                return Some(false);
            }
        }
        Some(true)
    }

    fn of_any(&mut self, key: &str, wanted: &Value, value: &Value, depth: usize) -> Option<bool> {
        let list = || wanted.as_array().map_or(&[][..], Vec::as_slice);
        Some(match key {
            "type" => {
                let names = wanted.as_array().map_or(core::slice::from_ref(wanted), Vec::as_slice);
                names.iter().any(|name| name.as_str().is_some_and(|name| is_of(name, value)))
            }
            "const" => is_equal(wanted, value),
            "enum" => list().iter().any(|one| is_equal(one, value)),
            "anyOf" => {
                let mut any = false;
                for one in list() {
                    any |= self.is(one, value, depth + 1)?;
                }
                any
            }
            "allOf" => {
                let mut all = true;
                for one in list() {
                    all &= self.is(one, value, depth + 1)?;
                }
                all
            }
            "$ref" => {
                let target = self.root.pointer(wanted.as_str()?.strip_prefix('#')?)?;
                self.is(target, value, depth + 1)?
            }
            _ => true,
        })
    }

    fn of_object(
        &mut self,
        keywords: &Map<String, Value>,
        key: &str,
        wanted: &Value,
        object: &Map<String, Value>,
        depth: usize,
    ) -> Option<bool> {
        let named = |name: &str| keywords.get("properties").and_then(|all| all.get(name));
        let mut all = true;
        match key {
            "required" => {
                let names = wanted.as_array().map_or(&[][..], Vec::as_slice);
                return Some(
                    names.iter().all(|n| n.as_str().is_some_and(|n| object.contains_key(n))),
                );
            }
            "properties" => {
                for (name, value) in object {
                    if let Some(schema) = named(name) {
                        all &= self.is(schema, value, depth + 1)?;
                    }
                }
            }
            "additionalProperties" => {
                for (_, value) in object.iter().filter(|(name, _)| named(name).is_none()) {
                    all &= self.is(wanted, value, depth + 1)?;
                }
            }
            _ => {}
        }
        Some(all)
    }

    fn of_array(
        &mut self,
        keywords: &Map<String, Value>,
        key: &str,
        wanted: &Value,
        items: &[Value],
        depth: usize,
    ) -> Option<bool> {
        let prefix = keywords.get("prefixItems").and_then(Value::as_array);
        let prefix = prefix.map_or(&[][..], Vec::as_slice);
        let mut all = true;
        match key {
            "minItems" => return Some(wanted.as_u64()? <= items.len() as u64),
            "maxItems" => return Some(wanted.as_u64()? >= items.len() as u64),
            "prefixItems" => {
                for (schema, item) in prefix.iter().zip(items) {
                    all &= self.is(schema, item, depth + 1)?;
                }
            }
            "items" => {
                for item in items.iter().skip(prefix.len()) {
                    all &= self.is(wanted, item, depth + 1)?;
                }
            }
            _ => {}
        }
        Some(all)
    }
}

fn of_string(key: &str, wanted: &Value, text: &str) -> Option<bool> {
    let length = || text.chars().count() as u64;
    Some(match key {
        "minLength" => wanted.as_u64()? <= length(),
        "maxLength" => wanted.as_u64()? >= length(),
        "pattern" => pattern(wanted.as_str()?)?.is_match(text),
        _ => true,
    })
}

fn of_number(key: &str, wanted: &Value, number: f64) -> bool {
    let bound = wanted.as_f64().unwrap_or(f64::NAN);
    match key {
        "minimum" => number >= bound,
        "maximum" => number <= bound,
        "exclusiveMinimum" => number > bound,
        "exclusiveMaximum" => number < bound,
        _ => true,
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// Whether two values are one. The reader of JSON may be off by the last bit of a number, so the wanted one is
/// written and read once more, as the other was.
fn is_equal(wanted: &Value, value: &Value) -> bool {
    let again = wanted.to_string();
    wanted == value || serde_json::from_str::<Value>(&again).is_ok_and(|again| again == *value)
}

const MOST_SCHEMAS: usize = 20_000;
const MOST_DEPTH: usize = 200;
