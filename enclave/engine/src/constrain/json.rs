//! JSON Schema as a grammar. What comes out is always an instance of the schema, but not every instance can
//! come out: properties come in the schema's order and no others beside them, there is at most one space
//! behind a comma or a colon, and numbers have no more digits than every reader takes. A keyword that
//! would not be kept is refused by name.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::constrain::ConstraintError;
use crate::constrain::program::Expr;
use crate::constrain::rules::Rules;
use crate::constrain::value::{MOST, boolean, number};
use crate::constrain::{digits, regex};

/// The grammar of a schema. Its rules are made at the end of `rules`.
pub(crate) struct Schemas<'a> {
    root: &'a Value,
    rules: &'a mut Rules,
    /// Rules of schemas that are referred to.
    named: HashMap<&'a str, usize>,
    /// Schemas looked at.
    count: usize,
}

/// A type of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "string" => Self::String,
            "array" => Self::Array,
            "object" => Self::Object,
            _ => return None,
        })
    }

    /// Whether `value` is of this type. A number without a fraction is an integer, however it is written.
    fn is_of(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null)
            | (Self::Boolean, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::String, Value::String(_))
            | (Self::Array, Value::Array(_))
            | (Self::Object, Value::Object(_)) => true,
            (Self::Integer, Value::Number(number)) => {
                number.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
            _ => false,
        }
    }
}

impl<'a> Schemas<'a> {
    pub(crate) fn new(root: &'a Value, rules: &'a mut Rules) -> Self {
        Self { root, rules, named: HashMap::new(), count: 0 }
    }

    /// Instances of the root.
    pub(crate) fn instance(&mut self) -> Result<Expr, ConstraintError> {
        self.schema(self.root, 0)
    }

    /// Instances of the root that are the arguments of a call: objects. A root that does not say what it is
    /// about is about them.
    ///
    /// # Errors
    /// [`ConstraintError::Malformed`] if an instance could be anything else, which would be no call.
    pub(crate) fn arguments(&mut self) -> Result<Expr, ConstraintError> {
        let says = |schema: &Map<String, Value>| {
            schema.contains_key("type") || COMBINED.iter().any(|(key, _)| schema.contains_key(*key))
        };
        let arguments = match self.root {
            Value::Object(schema) if !says(schema) => {
                refuse_what_would_not_be_kept(schema)?;
                self.of_type(Type::Object, schema, 1)?
            }
            _ => self.instance()?,
        };
        if self.rules.begins(&arguments, b'{') {
            return Ok(arguments);
        }
        Err(malformed("the arguments of a call have to be an object"))
    }

    fn schema(&mut self, schema: &'a Value, depth: usize) -> Result<Expr, ConstraintError> {
        self.count = self.count.saturating_add(1);
        if self.count > MAX_SCHEMAS || depth > MAX_SCHEMA_DEPTH {
            return Err(ConstraintError::TooLarge);
        }
        let schema = match schema {
            Value::Bool(true) => return self.rules.any_value(),
            Value::Bool(false) => return self.rules.fixed(Expr::Never),
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
                return read(self, schema, value, depth);
            }
        }
        let Some(types) = types(schema)? else { return self.untyped(schema, depth) };
        let of_type = |of: &Type| self.of_type(*of, schema, depth);
        let all = types.iter().map(of_type).collect::<Result<_, _>>()?;
        self.rules.any(all)
    }

    /// A schema that does not name a type: the type its keywords are about, which is one that fits.
    fn untyped(
        &mut self,
        schema: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Expr, ConstraintError> {
        let has = |names: &[&str]| names.iter().any(|name| schema.contains_key(*name));
        let of = if has(&["properties", "required", "additionalProperties"]) {
            Type::Object
        } else if has(&["items", "prefixItems", "minItems", "maxItems"]) {
            Type::Array
        } else if has(&["minLength", "maxLength", "pattern", "format"]) {
            Type::String
        } else if has(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]) {
            Type::Integer
        } else {
            return self.rules.any_value();
        };
        self.of_type(of, schema, depth)
    }

    fn of_type(
        &mut self,
        of: Type,
        schema: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Expr, ConstraintError> {
        match of {
            Type::Null => self.rules.text(b"null"),
            Type::Boolean => self.rules.fixed(boolean()),
            Type::Integer => self.rules.fixed(integer(schema)?),
            Type::Number if BOUNDS.iter().any(|bound| schema.contains_key(*bound)) => {
                Err(ConstraintError::Keyword { keyword: "minimum or maximum of a number" })
            }
            Type::Number => self.rules.fixed(number()),
            Type::String => self.string(schema),
            Type::Array => self.array(schema, depth),
            Type::Object => self.object(schema, depth),
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
                let character = self.rules.character()?;
                self.rules.repeat(character, min.unwrap_or(0), max)?
            }
        };
        self.rules.string(inside)
    }

    fn array(
        &mut self,
        schema: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Expr, ConstraintError> {
        let min = count(schema, "minItems")?.unwrap_or(0);
        let max = count(schema, "maxItems")?.unwrap_or(u32::MAX);
        if min > max {
            return self.rules.fixed(Expr::Never);
        }
        let prefix: &'a [Value] = match schema.get("prefixItems") {
            None => &[],
            Some(Value::Array(prefix)) => prefix,
            Some(_) => return Err(malformed("prefixItems is no list")),
        };
        let mut parts = vec![self.rules.text(b"[")?];
        let most = usize::try_from(max).unwrap_or(usize::MAX);
        for (at, item) in prefix.iter().take(most).enumerate() {
            if at > 0 {
                parts.push(self.rules.separator()?);
            }
            parts.push(self.schema(item, depth)?);
        }
        let fixed = u32::try_from(prefix.len()).unwrap_or(u32::MAX).min(max);
        let (min, max) = (min.saturating_sub(fixed), max.saturating_sub(fixed));
        let item = match schema.get("items") {
            None => self.rules.any_value()?,
            Some(item) => self.schema(item, depth)?,
        };
        let item = self.rules.rule(item)?;
        let max = Some(max).filter(|max| *max != u32::MAX.saturating_sub(fixed));
        let more = vec![self.rules.separator()?, self.rules.again(item)?];
        let more = self.rules.seq(more)?;
        if max == Some(0) && min == 0 {
            // Nothing follows.
        } else if fixed > 0 {
            parts.push(self.rules.repeat(more, min, max)?);
        } else {
            let max = max.map(|max| max.saturating_sub(1));
            let others = self.rules.repeat(more, min.saturating_sub(1), max)?;
            let some = vec![self.rules.again(item)?, others];
            let some = self.rules.seq(some)?;
            parts.push(self.rules.repeat(some, min.min(1), Some(1))?);
        }
        parts.push(self.rules.text(b"]")?);
        self.rules.seq(parts)
    }

    fn object(
        &mut self,
        schema: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Expr, ConstraintError> {
        let properties = match schema.get("properties") {
            None => None,
            Some(Value::Object(properties)) => Some(properties),
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
        let others = schema.get("additionalProperties").unwrap_or(&ANYTHING);
        if properties.is_none_or(Map::is_empty) && required.is_empty() {
            // Who lists properties lists all of them, also if there are none.
            let listed = properties.is_some();
            let open = schema.contains_key("additionalProperties");
            if *others == Value::Bool(false) || (listed && !open) {
                return self.rules.text(b"{}");
            }
            let value = self.schema(others, depth)?;
            return self.rules.object_of(value);
        }
        self.rules.charge(required.len())?;
        let is_required: HashSet<&str> = required.iter().copied().collect();
        let mut seen = HashSet::new();
        let is_listed = |name: &str| properties.is_some_and(|all| all.contains_key(name));
        let unnamed = required.into_iter().filter(|name| !is_listed(name) && seen.insert(*name));
        let unnamed: Vec<&str> = unnamed.collect();
        let unnamed = unnamed.into_iter().map(|name| (name, others));
        let named = properties.into_iter().flatten().map(|(name, value)| (name.as_str(), value));
        // From the last to the first: what follows a property that is there, and the ones that may come
        // before all others.
        let (mut after, mut first) = (self.rules.fixed(Expr::Empty)?, Vec::new());
        let mut may_be_empty = true;
        for (name, value) in named.chain(unnamed).collect::<Vec<_>>().into_iter().rev() {
            let value = self.schema(value, depth)?;
            let text = serde_json::to_string(name).unwrap_or_default();
            let property = vec![self.rules.text(text.as_bytes())?, self.rules.colon()?, value];
            let property = self.rules.seq(property)?;
            let property = self.rules.rule(property)?;
            let rest = self.rules.rule(after)?;
            let begin = vec![self.rules.again(property)?, self.rules.again(rest)?];
            let begin = self.rules.seq(begin)?;
            let is_required = is_required.contains(name);
            if is_required {
                first.clear();
                may_be_empty = false;
            }
            first.push(begin);
            let next = vec![self.rules.separator()?, self.rules.again(property)?];
            let next = self.rules.seq(next)?;
            let next = self.rules.repeat(next, u32::from(is_required), Some(1))?;
            let then = vec![next, self.rules.again(rest)?];
            after = self.rules.seq(then)?;
        }
        if may_be_empty {
            first.push(self.rules.fixed(Expr::Empty)?);
        }
        let all = vec![self.rules.text(b"{")?, self.rules.any(first)?, self.rules.text(b"}")?];
        self.rules.seq(all)
    }

    fn reference(&mut self, value: &'a Value, depth: usize) -> Result<Expr, ConstraintError> {
        let reference = value.as_str().ok_or_else(|| malformed("$ref is no string"))?;
        if let Some(rule) = self.named.get(reference) {
            return self.rules.again(*rule);
        }
        let pointer = reference.strip_prefix('#');
        let target = pointer.and_then(|pointer| self.root.pointer(pointer));
        let target = target.ok_or_else(|| malformed("$ref points to nothing in the schema"))?;
        // Its place is taken first: it may refer to itself.
        let rule = self.rules.rule(Expr::Never)?;
        self.named.insert(reference, rule);
        let expr = self.schema(target, depth)?;
        self.rules.set(rule, expr);
        self.rules.again(rule)
    }

    fn alternatives(&mut self, value: &'a Value, depth: usize) -> Result<Expr, ConstraintError> {
        let list = value.as_array().ok_or_else(|| malformed("anyOf is no list"))?;
        let all = list.iter().map(|one| self.schema(one, depth)).collect::<Result<_, _>>()?;
        self.rules.any(all)
    }

    /// One of `values`, but only those of a type that the schema names if it names one.
    fn constants(
        &mut self,
        schema: &Map<String, Value>,
        values: &[Value],
    ) -> Result<Expr, ConstraintError> {
        let types = types(schema)?;
        let mut all = Vec::new();
        for value in values {
            if types.as_ref().is_none_or(|types| types.iter().any(|of| of.is_of(value))) {
                let text = serde_json::to_vec(value).map_err(|_| ConstraintError::NotJson)?;
                all.push(self.rules.text(&text)?);
            }
        }
        self.rules.any(all)
    }

    fn conjunction(&mut self, value: &'a Value, depth: usize) -> Result<Expr, ConstraintError> {
        match value.as_array().map(Vec::as_slice) {
            Some([one]) => self.schema(one, depth),
            _ => Err(ConstraintError::Keyword { keyword: "allOf of more than one schema" }),
        }
    }
}

type Read = for<'a> fn(&mut Schemas<'a>, &'a Map<String, Value>, &'a Value, usize) -> Made;
type Made = Result<Expr, ConstraintError>;

/// Keywords that stand alone in a schema, but for notes and the type of a constant.
const COMBINED: [(&str, Read); 5] = [
    ("$ref", |schemas, _, value, depth| schemas.reference(value, depth)),
    ("const", |schemas, schema, value, _| schemas.constants(schema, core::slice::from_ref(value))),
    ("enum", |schemas, schema, value, _| {
        let list = value.as_array().ok_or_else(|| malformed("enum is no list"))?;
        schemas.constants(schema, list)
    }),
    ("anyOf", |schemas, _, value, depth| schemas.alternatives(value, depth)),
    ("allOf", |schemas, _, value, depth| schemas.conjunction(value, depth)),
];

static ANYTHING: Value = Value::Bool(true);

/// The types that a schema names, if it does. Each is an alternative of its own, so none may come twice.
fn types(schema: &Map<String, Value>) -> Result<Option<Vec<Type>>, ConstraintError> {
    let names = match schema.get("type") {
        None => return Ok(None),
        Some(Value::Array(names)) => names.as_slice(),
        Some(name) => core::slice::from_ref(name),
    };
    let mut types = Vec::new();
    for name in names {
        let name = name.as_str().ok_or_else(|| malformed("a type is not a string"))?;
        let of = Type::of(name).ok_or_else(|| malformed("type names no type of JSON"))?;
        if types.contains(&of) {
            return Err(malformed("type names a type twice"));
        }
        types.push(of);
    }
    Ok(Some(types))
}

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

fn count(schema: &Map<String, Value>, keyword: &str) -> Result<Option<u32>, ConstraintError> {
    let Some(value) = schema.get(keyword) else { return Ok(None) };
    let count = value.as_u64().ok_or_else(|| malformed("a length is no whole number"))?;
    u32::try_from(count).map(Some).map_err(|_| ConstraintError::TooLarge)
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
