//! Reads the header of a GGUF file: metadata and the table of tensors. Every length, count, type and
//! offset in it is checked before it is believed, and every tensor lies inside the file.
//!
//! Candle has a reader too, but it panics on `general.alignment = 0` and on dimensions whose product
//! overflows, accepts duplicate keys and repairs invalid UTF-8.

use std::collections::HashMap;
use std::io::{self, BufRead};

use candle_core::Shape;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value, VersionedMagic};

use crate::error::ModelError;
use crate::weights::Stored;

/// A checked header.
pub(crate) struct Gguf {
    /// The header in the form Candle has for it.
    pub(crate) content: Content,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// What is in the arrays, which `content` only names: Candle's form of a vocabulary takes several
    /// times its bytes.
    arrays: HashMap<String, Array>,
}

/// The items of an array.
pub(crate) enum Array {
    Texts(Texts),
    /// Integers from 0 to 2^32-1.
    Integers(Vec<u32>),
    /// Of 32 bits.
    Floats(Vec<f32>),
    /// Of another type, or out of range.
    Other,
}

/// Strings in one piece of memory.
#[derive(Default)]
pub(crate) struct Texts {
    text: String,
    /// Where each one ends.
    ends: Vec<usize>,
}

impl Texts {
    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = core::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default())
    }
}

impl Gguf {
    /// Reads the header of the file of `len` bytes that `source` is at the start of.
    pub(crate) fn read(source: &mut impl BufRead, len: u64) -> Result<Self, ModelError> {
        let mut r = Reader { source, at: 0, len };
        let magic: [u8; 4] = r.array("magic")?;
        if &magic != b"GGUF" {
            return Err(ModelError::NotGguf { got: magic });
        }
        let magic = match r.u32("version")? {
            2 => VersionedMagic::GgufV2,
            3 => VersionedMagic::GgufV3,
            got => return Err(ModelError::Version { got }),
        };
        let tensors = r.count("tensor count", MAX_TENSORS)?;
        let keys = r.count("metadata count", MAX_METADATA_KEYS)?;
        let (mut metadata, mut arrays) = (HashMap::new(), HashMap::new());
        for _ in 0..keys {
            let key = r.string("metadata key")?;
            let value = match r.u32("metadata type")? {
                TYPE_ARRAY => {
                    arrays.insert(key.clone(), r.items(&key)?);
                    Value::Array(Vec::new())
                }
                kind => r.value(&key, kind)?,
            };
            if metadata.insert(key.clone(), value).is_some() {
                return Err(ModelError::Duplicate { name: key });
            }
        }
        let mut infos = Vec::new();
        for _ in 0..tensors {
            infos.push(r.tensor_info()?);
        }
        let alignment = alignment(&metadata)?;
        let start = r.at.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        let mut tensor_infos = HashMap::new();
        for (name, info) in infos {
            check_place(len, &name, &info, start, alignment)?;
            if tensor_infos.insert(name.clone(), info).is_some() {
                return Err(ModelError::Duplicate { name });
            }
        }
        let content = Content { magic, metadata, tensor_infos, tensor_data_offset: start };
        Ok(Self { content, len: r.at, arrays })
    }

    /// What a header with this content would say, of a model that is stored otherwise. Without arrays.
    pub(crate) fn described(content: Content) -> Self {
        Self { content, len: 0, arrays: HashMap::new() }
    }

    /// Adds an array.
    pub(crate) fn put_array(&mut self, key: &str, items: Array) {
        self.content.metadata.insert(key.to_owned(), Value::Array(Vec::new()));
        self.arrays.insert(key.to_owned(), items);
    }

    /// As [`Gguf::read`], of a file in memory.
    #[cfg(test)]
    pub(crate) fn parse(mut file: &[u8]) -> Result<Self, ModelError> {
        let len = file.len() as u64;
        Self::read(&mut file, len)
    }

    /// The tensors and where they lie in the file.
    pub(crate) fn tensors(&self) -> Vec<Stored> {
        let stored = |(name, info): (&String, &TensorInfo)| Stored {
            name: name.clone(),
            dtype: info.ggml_dtype,
            dims: info.shape.dims().to_vec(),
            // Both were checked when the header was read.
            at: self.content.tensor_data_offset.saturating_add(info.offset),
            bytes: tensor_bytes(&info.shape, info.ggml_dtype).unwrap_or(0),
            turned: None,
        };
        self.content.tensor_infos.iter().map(stored).collect()
    }

    /// What it says besides tensors, with vocabulary and merges. These take more memory than all else,
    /// and are gone from this one.
    pub(crate) fn take_text(&mut self) -> Self {
        let Content { metadata, tensor_data_offset, .. } = &self.content;
        let content = Content {
            magic: VersionedMagic::GgufV3,
            metadata: metadata.clone(),
            tensor_infos: HashMap::new(),
            tensor_data_offset: *tensor_data_offset,
        };
        Self { content, len: self.len, arrays: core::mem::take(&mut self.arrays) }
    }

    fn get(&self, key: &str) -> Result<&Value, ModelError> {
        self.content
            .metadata
            .get(key)
            .ok_or_else(|| ModelError::MetadataMissing { key: key.to_owned() })
    }

    /// Whether `key` is present.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.content.metadata.contains_key(key)
    }

    /// A string.
    pub(crate) fn string(&self, key: &str) -> Result<&str, ModelError> {
        match self.get(key)? {
            Value::String(s) => Ok(s),
            other => Err(wrong_type(key, "a string", other)),
        }
    }

    /// A string, or nothing if the key is absent.
    pub(crate) fn string_opt(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.has(key).then(|| self.string(key)).transpose()
    }

    /// An unsigned integer of any width that fits 32 bits.
    pub(crate) fn u32(&self, key: &str) -> Result<u32, ModelError> {
        let value = self.get(key)?;
        integer(value).ok_or_else(|| wrong_type(key, "an integer from 0 to 2^32-1", value))
    }

    /// An unsigned integer, or nothing if the key is absent.
    pub(crate) fn u32_opt(&self, key: &str) -> Result<Option<u32>, ModelError> {
        self.has(key).then(|| self.u32(key)).transpose()
    }

    /// A number, or nothing if the key is absent.
    pub(crate) fn f32_opt(&self, key: &str) -> Result<Option<f32>, ModelError> {
        match self.content.metadata.get(key) {
            None => Ok(None),
            Some(Value::F32(v)) => Ok(Some(*v)),
            Some(other) => Err(wrong_type(key, "a 32-bit float", other)),
        }
    }

    /// A truth value, or nothing if the key is absent.
    pub(crate) fn bool_opt(&self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.content.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Err(wrong_type(key, "true or false", other)),
        }
    }

    /// An array of strings.
    pub(crate) fn strings(&self, key: &str) -> Result<Vec<&str>, ModelError> {
        match self.array(key)? {
            Array::Texts(texts) => Ok(texts.iter().collect()),
            _ => Err(wrong_array(key, "an array of strings")),
        }
    }

    /// An array of unsigned integers.
    pub(crate) fn u32s(&self, key: &str) -> Result<Vec<u32>, ModelError> {
        match self.array(key)? {
            Array::Integers(values) => Ok(values.clone()),
            _ => Err(wrong_array(key, "an array of integers")),
        }
    }

    /// An array of 32-bit floats.
    pub(crate) fn f32s(&self, key: &str) -> Result<Vec<f32>, ModelError> {
        match self.array(key)? {
            Array::Floats(values) => Ok(values.clone()),
            _ => Err(wrong_array(key, "an array of 32-bit floats")),
        }
    }

    fn array(&self, key: &str) -> Result<&Array, ModelError> {
        let value = self.get(key)?;
        self.arrays.get(key).ok_or_else(|| wrong_type(key, "an array", value))
    }
}

fn integer(value: &Value) -> Option<u32> {
    match *value {
        Value::U8(v) => Some(v.into()),
        Value::U16(v) => Some(v.into()),
        Value::U32(v) => Some(v),
        Value::U64(v) => v.try_into().ok(),
        Value::I8(v) => v.try_into().ok(),
        Value::I16(v) => v.try_into().ok(),
        Value::I32(v) => v.try_into().ok(),
        Value::I64(v) => v.try_into().ok(),
        _ => None,
    }
}

fn wrong_type(key: &str, expected: &'static str, got: &Value) -> ModelError {
    let got = match got {
        Value::Array(_) => "an array".to_owned(),
        Value::String(_) => "a string".to_owned(),
        other => format!("{other:?}"),
    };
    ModelError::MetadataInvalid { key: key.to_owned(), expected, got }
}

fn wrong_array(key: &str, expected: &'static str) -> ModelError {
    let (key, got) = (key.to_owned(), "an array of other items".to_owned());
    ModelError::MetadataInvalid { key, expected, got }
}

fn alignment(metadata: &HashMap<String, Value>) -> Result<u64, ModelError> {
    const KEY: &str = "general.alignment";
    let Some(value) = metadata.get(KEY) else { return Ok(DEFAULT_ALIGNMENT) };
    integer(value)
        .filter(|a| a.is_power_of_two() && *a <= MAX_ALIGNMENT)
        .map(u64::from)
        .ok_or_else(|| wrong_type(KEY, "a power of two up to 65536", value))
}

/// The tensor is aligned and ends inside the file.
fn check_place(
    len: u64,
    name: &str,
    info: &TensorInfo,
    start: u64,
    alignment: u64,
) -> Result<(), ModelError> {
    if info.offset.checked_rem(alignment) != Some(0) {
        return Err(malformed(name, format!("offset {} is not aligned", info.offset)));
    }
    let bytes = tensor_bytes(&info.shape, info.ggml_dtype)
        .ok_or_else(|| malformed(name, format!("impossible shape {:?}", info.shape.dims())))?;
    let at = start.saturating_add(info.offset);
    if at.saturating_add(bytes) > len {
        return Err(ModelError::Truncated { what: name.to_owned(), at, needed: bytes });
    }
    Ok(())
}

/// Size of a tensor; `None` if rows are no whole number of blocks or the size overflows.
fn tensor_bytes(shape: &Shape, dtype: GgmlDType) -> Option<u64> {
    let row = *shape.dims().last()?;
    if row.checked_rem(dtype.block_size())? != 0 {
        return None;
    }
    let elements = shape.dims().iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    let bytes = elements.checked_div(dtype.block_size())?.checked_mul(dtype.type_size())?;
    u64::try_from(bytes).ok().filter(|b| *b > 0)
}

fn malformed(what: &str, detail: String) -> ModelError {
    ModelError::Malformed { what: what.to_owned(), detail }
}

struct Reader<'a, S> {
    source: &'a mut S,
    at: u64,
    /// Of the whole file.
    len: u64,
}

impl<S: BufRead> Reader<'_, S> {
    /// Fills `out` with the next bytes.
    fn fill(&mut self, what: &str, out: &mut [u8]) -> Result<(), ModelError> {
        let truncated = |at, needed| ModelError::Truncated { what: what.to_owned(), at, needed };
        self.source.read_exact(out).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => truncated(self.at, out.len() as u64),
            kind => ModelError::Read { kind },
        })?;
        self.at = self.at.saturating_add(out.len() as u64);
        Ok(())
    }

    /// The next bytes instead of what is in `buffer`; the caller has bounded `len`.
    fn take(&mut self, what: &str, len: u64, buffer: &mut Vec<u8>) -> Result<(), ModelError> {
        let left = self.len.saturating_sub(self.at);
        let bytes = usize::try_from(len).ok().filter(|_| len <= left);
        let Some(bytes) = bytes else {
            return Err(ModelError::Truncated { what: what.to_owned(), at: self.at, needed: len });
        };
        buffer.resize(bytes, 0);
        self.fill(what, buffer)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], ModelError> {
        let mut out = [0; N];
        self.fill(what, &mut out)?;
        Ok(out)
    }

    fn u32(&mut self, what: &str) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, ModelError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, ModelError> {
        let got = self.u64(what)?;
        if got > limit { Err(ModelError::Limit { what, limit, got }) } else { Ok(got) }
    }

    fn string(&mut self, what: &str) -> Result<String, ModelError> {
        let mut bytes = Vec::new();
        self.text(what, &mut bytes).map(str::to_owned)
    }

    /// A string, in `buffer`: a vocabulary has so many that a block of the heap for each takes longer than
    /// all of their bytes.
    fn text<'b>(&mut self, what: &str, buffer: &'b mut Vec<u8>) -> Result<&'b str, ModelError> {
        let len = self.count("string length", MAX_STRING_BYTES)?;
        self.take(what, len, buffer)?;
        core::str::from_utf8(buffer).map_err(|_| malformed(what, "not UTF-8".to_owned()))
    }

    /// The items of an array. No memory is asked for by its length, which is believed item by item.
    fn items(&mut self, key: &str) -> Result<Array, ModelError> {
        let kind = self.u32(key)?;
        let len = self.count("array length", MAX_ARRAY_ITEMS)?;
        if kind == TYPE_STRING {
            let (mut texts, mut buffer) = (Texts::default(), Vec::new());
            for _ in 0..len {
                texts.push(self.text(key, &mut buffer)?);
            }
            return Ok(Array::Texts(texts));
        }
        if kind == TYPE_F32 {
            let mut values = Vec::new();
            for _ in 0..len {
                values.push(f32::from_le_bytes(self.array(key)?));
            }
            return Ok(Array::Floats(values));
        }
        let mut values = Some(Vec::new());
        for _ in 0..len {
            let value = integer(&self.value(key, kind)?);
            if let (Some(values), Some(value)) = (&mut values, value) {
                values.push(value);
            } else {
                values = None;
            }
        }
        Ok(values.map_or(Array::Other, Array::Integers))
    }

    /// A single value. Arrays in arrays are refused: no model has one, and they would make this
    /// recursive.
    fn value(&mut self, key: &str, kind: u32) -> Result<Value, ModelError> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array(key)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(key)?)),
            4 => Value::U32(u32::from_le_bytes(self.array(key)?)),
            5 => Value::I32(i32::from_le_bytes(self.array(key)?)),
            TYPE_F32 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            7 => match self.array::<1>(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(malformed(key, format!("truth value {other}"))),
            },
            TYPE_STRING => Value::String(self.string(key)?),
            10 => Value::U64(u64::from_le_bytes(self.array(key)?)),
            11 => Value::I64(i64::from_le_bytes(self.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            other => return Err(malformed(key, format!("value type {other}"))),
        })
    }

    fn tensor_info(&mut self) -> Result<(String, TensorInfo), ModelError> {
        let name = self.string("tensor name")?;
        let rank = self.u32(&name)?;
        if rank == 0 || rank > MAX_TENSOR_RANK {
            return Err(malformed(&name, format!("{rank} dimensions")));
        }
        let mut dims = Vec::new();
        for _ in 0..rank {
            let dim = self.u64(&name)?;
            dims.push(usize::try_from(dim).map_err(|_| malformed(&name, format!("size {dim}")))?);
        }
        // GGUF lists the fastest-moving dimension first.
        dims.reverse();
        let kind = self.u32(&name)?;
        let ggml_dtype =
            dtype(kind).ok_or_else(|| malformed(&name, format!("tensor type {kind}")))?;
        let offset = self.u64(&name)?;
        Ok((name, TensorInfo { ggml_dtype, shape: Shape::from(dims), offset }))
    }
}

/// The tensor types Candle computes with on a CPU (`ggml.h`, `enum ggml_type`).
const fn dtype(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

const TYPE_F32: u32 = 6;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u32 = 1 << 16;
/// Real models have about 30.
const MAX_METADATA_KEYS: u64 = 4096;
/// A 128-layer model has about 1200; one with 64 experts per layer unpacked, 25 000.
const MAX_TENSORS: u64 = 1 << 16;
/// Longest string; chat templates reach some ten thousand bytes.
const MAX_STRING_BYTES: u64 = 1 << 20;
/// Longest array; vocabularies reach 262 144 entries and twice as many merges.
const MAX_ARRAY_ITEMS: u64 = 1 << 22;
/// `GGML_MAX_DIMS`.
const MAX_TENSOR_RANK: u32 = 4;

#[cfg(test)]
#[path = "gguf_tests.rs"]
mod tests;
