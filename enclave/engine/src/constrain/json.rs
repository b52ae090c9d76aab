//! JSON Schema as a grammar. What comes out is always an instance of the schema, but not every instance can
//! come out: properties come in the schema's order and no others beside them, there is at most one space
//! behind a comma or a colon, and numbers have no more digits than every reader takes. A keyword that
//! would not be kept is refused by name.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::constrain::ConstraintError;
use crate::constrain::program::Expr;
use crate::constrain::value::{
    MOST, any_string, boolean, character, colon, number, object_of, separator,
};
use crate::constrain::{digits, regex};

/// The grammar of every JSON object; of `schema` if there is one. Its rules begin at the end of `rules`.
pub(crate) struct Schemas<'a> {
    root: &'a Value,
    rules: &'a mut Vec<Expr>,
    /// Rules of schemas that are referred to, and of any value.
    named: HashMap<String, usize>,
    any: Option<usize>,
    /// Schemas looked at.
    count: usize,
}

impl<'a> Schemas<'a> {
    pub(crate) fn new(root: &'a Value, rules: &'a mut Vec<Expr>) -> Self {
        Self { root, rules, named: HashMap::new(), any: None, count: 0 }
    }

    /// Instances of the root.
    pub(crate) fn instance(&mut self) -> Result<Expr, ConstraintError> {
        self.schema(self.root, 0)
    }

    /// Any object.
    pub(crate) fn any_object(&mut self) -> Expr {
        let value = self.any_value();
        object_of(value)
    }

    fn schema(&mut self, schema: &Value, depth: usize) -> Result<Expr, ConstraintError> {
        self.count = self.count.saturating_add(1);
        if self.count > MAX_SCHEMAS || depth > MAX_SCHEMA_DEPTH {
            return Err(ConstraintError::TooLarge);
        }
        let schema = match schema {
            Value::Bool(true) => return Ok(self.any_value()),
            Value::Bool(false) => return Ok(Expr::Never),
            Value::Object(schema) => schema,
            _ => return Err(malformed("a schema is neither an object nor true or false")),
        };
        refuse_what_would_not_be_kept(schema)?;
        let depth = depth.saturating_add(1);
        for (keyword, read) in COMBINED {
            if let Some(value) = schema.get(keyword) {
                let alone = |key: &str| key == keyword || NOTES.contains(&key);
                let typed = |key: &str| key == "type" && matches!(keyword, "const" | "enum");
                if !schema.keys().all(|key| alone(key) || typed(key)) {
                    return Err(ConstraintError::Combination { keyword });
                }
                return read(self, value, depth);
            }
        }
        let types: Vec<&str> = match schema.get("type") {
            None => return self.untyped(schema, depth),
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names
                .iter()
                .map(|name| name.as_str().ok_or_else(|| malformed("a type is not a string")))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(malformed("type is neither a string nor a list")),
        };
        let of_type = |name: &&str| self.of_type(name, schema, depth);
        Ok(Expr::Any(types.iter().map(of_type).collect::<Result<_, _>>()?))
    }

    /// A schema that does not name a type: the type its keywords are about, which is one that fits.
    fn untyped(
        &mut self,
        schema: &Map<String, Value>,
        depth: usize,
    ) -> Result<Expr, ConstraintError> {
        let has = |names: &[&str]| names.iter().any(|name| schema.contains_key(*name));
        let name = if has(&["properties", "required", "additionalProperties"]) {
            "object"
        } else if has(&["items", "prefixItems", "minItems", "maxItems"]) {
            "array"
        } else if has(&["minLength", "maxLength", "pattern", "format"]) {
            "string"
        } else if has(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]) {
            "integer"
        } else {
            return Ok(self.any_value());
        };
        self.of_type(name, schema, depth)
    }

    fn of_type(
        &mut self,
        name: &str,
        schema: &Map<String, Value>,
        depth: usize,
    ) -> Result<Expr, ConstraintError> {
        match name {
            "null" => Ok(Expr::text("null")),
            "boolean" => Ok(boolean()),
            "integer" => integer(schema),
            "number" if BOUNDS.iter().any(|bound| schema.contains_key(*bound)) => {
                Err(ConstraintError::Keyword { keyword: "minimum or maximum of a number" })
            }
            "number" => Ok(number()),
            "string" => self.string(schema),
            "array" => self.array(schema, depth),
            "object" => self.object(schema, depth),
            _ => Err(malformed("type names no type of JSON")),
        }
    }

    fn string(&mut self, schema: &Map<String, Value>) -> Result<Expr, ConstraintError> {
        let (min, max) = (count(schema, "minLength")?, count(schema, "maxLength")?);
        let bounded = min.is_some() || max.is_some();
        let text = |keyword: &'static str| match schema.get(keyword) {
            None => Ok(None),
            Some(value) => {
                value.as_str().map(Some).ok_or_else(|| malformed("a pattern is no string"))
            }
        };
        let (pattern, format) = (text("pattern")?, text("format")?);
        let known = format.map(|name| {
            let known = FORMATS.iter().find(|(known, _)| *known == name);
            known.map(|(_, pattern)| *pattern).ok_or(ConstraintError::Keyword { keyword: "format" })
        });
        let inside = match (pattern, known.transpose()?) {
            (Some(_), Some(_)) => return Err(ConstraintError::Combination { keyword: "pattern" }),
            (Some(_), None) if bounded => {
                return Err(ConstraintError::Combination { keyword: "pattern" });
            }
            (None, Some(_)) if bounded => {
                return Err(ConstraintError::Combination { keyword: "format" });
            }
            (Some(pattern), None) | (None, Some(pattern)) => regex::part(pattern, self.rules)?,
            (None, None) => {
                self.rules.push(character());
                let character = Expr::Rule(self.rules.len().saturating_sub(1));
                repeat(character, min.unwrap_or(0), max)?
            }
        };
        Ok(Expr::Seq(vec![Expr::text("\""), inside, Expr::text("\"")]))
    }

    fn array(
        &mut self,
        schema: &Map<String, Value>,
        depth: usize,
    ) -> Result<Expr, ConstraintError> {
        let min = count(schema, "minItems")?.unwrap_or(0);
        let max = count(schema, "maxItems")?.unwrap_or(u32::MAX);
        if min > max {
            return Ok(Expr::Never);
        }
        let none = Vec::new();
        let prefix = match schema.get("prefixItems") {
            None => &none,
            Some(Value::Array(prefix)) => prefix,
            Some(_) => return Err(malformed("prefixItems is no list")),
        };
        let mut parts = Vec::new();
        let most = usize::try_from(max).unwrap_or(usize::MAX);
        for item in prefix.iter().take(most) {
            if !parts.is_empty() {
                parts.push(separator());
            }
            parts.push(self.schema(item, depth)?);
        }
        let fixed = u32::try_from(prefix.len()).unwrap_or(u32::MAX).min(max);
        let (min, max) = (min.saturating_sub(fixed), max.saturating_sub(fixed));
        let item = match schema.get("items") {
            None => self.any_value(),
            Some(item) => self.schema(item, depth)?,
        };
        self.rules.push(item);
        let item = Expr::Rule(self.rules.len().saturating_sub(1));
        let max = Some(max).filter(|max| *max != u32::MAX.saturating_sub(fixed));
        let more = Expr::Seq(vec![separator(), item.clone()]);
        if max == Some(0) && min == 0 {
            // Nothing follows.
        } else if fixed > 0 {
            parts.push(repeat(more, min, max)?);
        } else {
            let others = repeat(more, min.saturating_sub(1), max.map(|max| max.saturating_sub(1)))?;
            let some = Expr::Seq(vec![item, others]);
            parts.push(if min == 0 { some.optional() } else { some });
        }
        Ok(Expr::Seq(vec![Expr::text("["), Expr::Seq(parts), Expr::text("]")]))
    }

    fn object(
        &mut self,
        schema: &Map<String, Value>,
        depth: usize,
    ) -> Result<Expr, ConstraintError> {
        let none = Map::new();
        let properties = match schema.get("properties") {
            None => &none,
            Some(Value::Object(properties)) => properties,
            Some(_) => return Err(malformed("properties is no object")),
        };
        let required: Vec<&str> = match schema.get("required") {
            None => Vec::new(),
            Some(Value::Array(names)) => names
                .iter()
                .map(|name| name.as_str().ok_or_else(|| malformed("required names no property")))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(malformed("required is no list")),
        };
        let anything = Value::Bool(true);
        let others = schema.get("additionalProperties").unwrap_or(&anything);
        if properties.is_empty() && required.is_empty() {
            // Who lists properties lists all of them, also if there are none.
            let listed = schema.contains_key("properties");
            let open = schema.contains_key("additionalProperties");
            if *others == Value::Bool(false) || (listed && !open) {
                return Ok(Expr::text("{}"));
            }
            let value = self.schema(others, depth)?;
            return Ok(object_of(value));
        }
        let unnamed = required.iter().filter(|name| !properties.contains_key(**name));
        let unnamed: Vec<(&str, &Value)> = unnamed.map(|name| (*name, others)).collect();
        let named = properties.iter().map(|(name, value)| (name.as_str(), value));
        // From the last to the first: what follows a property that is there, and what may come at all.
        let (mut after, mut all) = (Expr::Empty, Expr::Empty);
        for (name, value) in named.chain(unnamed).collect::<Vec<_>>().into_iter().rev() {
            let value = self.schema(value, depth)?;
            let name = serde_json::to_string(name).unwrap_or_default();
            self.rules.push(Expr::Seq(vec![Expr::Text(name.clone().into_bytes()), colon(), value]));
            let property = Expr::Rule(self.rules.len().saturating_sub(1));
            let is_required = required.iter().any(|required| {
                serde_json::to_string(required).is_ok_and(|required| required == name)
            });
            self.rules.push(after);
            let rest = Expr::Rule(self.rules.len().saturating_sub(1));
            let first = Expr::Seq(vec![property.clone(), rest.clone()]);
            let next = Expr::Seq(vec![separator(), property]);
            all = if is_required { first } else { Expr::Any(vec![first, all]) };
            let next = if is_required { next } else { next.optional() };
            after = Expr::Seq(vec![next, rest]);
        }
        Ok(Expr::Seq(vec![Expr::text("{"), all, Expr::text("}")]))
    }

    /// Any value, as one rule.
    fn any_value(&mut self) -> Expr {
        if let Some(rule) = self.any {
            return Expr::Rule(rule);
        }
        let rule = self.rules.len();
        self.any = Some(rule);
        let value = Expr::Rule(rule);
        let more = Expr::Seq(vec![separator(), value.clone()]);
        let list = Expr::Seq(vec![value.clone(), Expr::Repeat(Box::new(more), 0, None)]);
        let scalars = [Expr::text("null"), boolean(), number(), any_string()];
        let list = Expr::Seq(vec![Expr::text("["), list.optional(), Expr::text("]")]);
        self.rules
            .push(Expr::Any(scalars.into_iter().chain([list, object_of(value.clone())]).collect()));
        value
    }

    fn reference(&mut self, value: &Value, depth: usize) -> Result<Expr, ConstraintError> {
        let reference = value.as_str().ok_or_else(|| malformed("$ref is no string"))?;
        if let Some(rule) = self.named.get(reference) {
            return Ok(Expr::Rule(*rule));
        }
        let pointer = reference.strip_prefix('#');
        let target = pointer.and_then(|pointer| self.root.pointer(pointer));
        let target = target.ok_or_else(|| malformed("$ref points to nothing in the schema"))?;
        let rule = self.rules.len();
        // Its place is taken first: it may refer to itself.
        self.rules.push(Expr::Never);
        self.named.insert(reference.to_owned(), rule);
        let expr = self.schema(target, depth)?;
        if let Some(place) = self.rules.get_mut(rule) {
            *place = expr;
        }
        Ok(Expr::Rule(rule))
    }

    fn alternatives(&mut self, value: &Value, depth: usize) -> Result<Expr, ConstraintError> {
        let list = value.as_array().ok_or_else(|| malformed("anyOf is no list"))?;
        Ok(Expr::Any(list.iter().map(|one| self.schema(one, depth)).collect::<Result<_, _>>()?))
    }

    fn conjunction(&mut self, value: &Value, depth: usize) -> Result<Expr, ConstraintError> {
        match value.as_array().map(Vec::as_slice) {
            Some([one]) => self.schema(one, depth),
            _ => Err(ConstraintError::Keyword { keyword: "allOf of more than one schema" }),
        }
    }
}

type Read = fn(&mut Schemas<'_>, &Value, usize) -> Result<Expr, ConstraintError>;

/// Keywords that stand alone in a schema, but for notes and the type of a constant.
const COMBINED: [(&str, Read); 5] = [
    ("$ref", |schemas, value, depth| schemas.reference(value, depth)),
    ("const", |_, value, _| Ok(constant(value))),
    ("enum", |_, value, _| constants(value)),
    ("anyOf", |schemas, value, depth| schemas.alternatives(value, depth)),
    ("allOf", |schemas, value, depth| schemas.conjunction(value, depth)),
];

fn refuse_what_would_not_be_kept(schema: &Map<String, Value>) -> Result<(), ConstraintError> {
    let combined = |key: &str| COMBINED.iter().any(|(keyword, _)| *keyword == key);
    for key in schema.keys().map(String::as_str) {
        if KEPT.contains(&key) || BOUNDS.contains(&key) || NOTES.contains(&key) || combined(key) {
            continue;
        }
        let named = REFUSED.iter().find(|keyword| **keyword == key);
        return Err(ConstraintError::Keyword { keyword: named.copied().unwrap_or(UNKNOWN) });
    }
    Ok(())
}

const fn malformed(what: &'static str) -> ConstraintError {
    ConstraintError::Malformed { what }
}

fn constant(value: &Value) -> Expr {
    Expr::Text(serde_json::to_vec(value).unwrap_or_default())
}

fn constants(value: &Value) -> Result<Expr, ConstraintError> {
    let list = value.as_array().ok_or_else(|| malformed("enum is no list"))?;
    Ok(Expr::Any(list.iter().map(constant).collect()))
}

fn count(schema: &Map<String, Value>, keyword: &str) -> Result<Option<u32>, ConstraintError> {
    let Some(value) = schema.get(keyword) else { return Ok(None) };
    let count = value.as_u64().ok_or_else(|| malformed("a length is no whole number"))?;
    u32::try_from(count).map(Some).map_err(|_| ConstraintError::TooLarge)
}

fn repeat(part: Expr, min: u32, max: Option<u32>) -> Result<Expr, ConstraintError> {
    if max.is_some_and(|max| max < min) {
        return Ok(Expr::Never);
    }
    Ok(Expr::Repeat(Box::new(part), min, max))
}

/// A whole number between the bounds, of at most [`DIGITS`] digits.
fn integer(schema: &Map<String, Value>) -> Result<Expr, ConstraintError> {
    let bound = |keyword: &str| match schema.get(keyword) {
        None => Ok(None),
        Some(value) => {
            value.as_i64().map(Some).ok_or_else(|| malformed("a bound is no whole number"))
        }
    };
    let low = bound("minimum")?.unwrap_or(-MOST);
    let high = bound("maximum")?.unwrap_or(MOST);
    let low = bound("exclusiveMinimum")?.map_or(low, |bound| low.max(bound.saturating_add(1)));
    let high = bound("exclusiveMaximum")?.map_or(high, |bound| high.min(bound.saturating_sub(1)));
    let (low, high) = (low.max(-MOST), high.min(MOST));
    let mut parts = Vec::new();
    if low < 0 {
        let (from, to) = (high.min(-1).unsigned_abs(), low.unsigned_abs());
        let digits = digits::between(from, to);
        parts.push(Expr::Seq(vec![Expr::text("-"), digits]));
    }
    if high >= 0 && low <= high {
        parts.push(digits::between(low.max(0).unsigned_abs(), high.unsigned_abs()));
    }
    Ok(Expr::Any(parts))
}

/// Keywords that an instance is made by.
const KEPT: [&str; 12] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "format",
];
const BOUNDS: [&str; 4] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
/// Keywords that say nothing about an instance.
const NOTES: [&str; 15] = [
    "$schema",
    "$id",
    "$defs",
    "definitions",
    "$comment",
    "$anchor",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
];
/// Keywords of JSON Schema that are refused.
const REFUSED: [&str; 21] = [
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "multipleOf",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedItems",
    "unevaluatedProperties",
    "additionalItems",
    "$dynamicRef",
];
const UNKNOWN: &str = "one that JSON Schema does not define";
/// Formats that are kept, as patterns.
const FORMATS: [(&str, &str); 6] = [
    ("date", DATE),
    ("time", TIME),
    ("date-time", DATE_TIME),
    ("uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
    (
        "ipv4",
        r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$",
    ),
    (
        "email",
        r"^[A-Za-z0-9_+-]{1,32}(\.[A-Za-z0-9_+-]{1,32}){0,3}@([A-Za-z0-9]{1,32}\.){1,3}[A-Za-z]{2,12}$",
    ),
];
/// Days that every month has.
const DATE: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$";
const TIME: &str =
    "^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";
const DATE_TIME: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";

/// Most schemas in a schema.
pub(crate) const MAX_SCHEMAS: usize = 2048;
/// Deepest nesting of a schema.
pub(crate) const MAX_SCHEMA_DEPTH: usize = 32;
