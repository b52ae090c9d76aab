//! Reads the header of a GGUF file: metadata and the table of tensors. Every length, count, type and
//! offset in it is checked before it is believed, and every tensor lies inside the file.
//!
//! Candle has a reader too, but it panics on `general.alignment = 0` and on dimensions whose product
//! overflows, accepts duplicate keys and repairs invalid UTF-8. The result is Candle's own
//! [`gguf_file::Content`], so that Candle loads the tensors.

use std::collections::HashMap;

use candle_core::Shape;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value, VersionedMagic};

use crate::error::ModelError;

/// A checked header.
pub(crate) struct Gguf {
    /// The header in the form Candle loads tensors from.
    pub(crate) content: Content,
}

impl Gguf {
    /// Reads the header of `file`, which must be the whole file.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, ModelError> {
        let mut r = Reader { file, at: 0 };
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
        let mut metadata = HashMap::new();
        for _ in 0..keys {
            let key = r.string("metadata key")?;
            let kind = r.u32("metadata type")?;
            let value = r.value(&key, kind, false)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(ModelError::Duplicate { name: key });
            }
        }
        let mut infos = Vec::new();
        for _ in 0..tensors {
            infos.push(r.tensor_info()?);
        }
        let alignment = alignment(&metadata)?;
        let start = u64::try_from(r.at)
            .ok()
            .and_then(|at| at.checked_next_multiple_of(alignment))
            .unwrap_or(u64::MAX);
        let mut tensor_infos = HashMap::new();
        for (name, info) in infos {
            check_place(file, &name, &info, start, alignment)?;
            if tensor_infos.insert(name.clone(), info).is_some() {
                return Err(ModelError::Duplicate { name });
            }
        }
        let content = Content { magic, metadata, tensor_infos, tensor_data_offset: start };
        Ok(Self { content })
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

    /// Type and bytes of a tensor of `file`, the file this header is of.
    pub(crate) fn tensor<'f>(
        &self,
        file: &'f [u8],
        name: &str,
    ) -> Result<(GgmlDType, &'f [u8]), ModelError> {
        let missing = || ModelError::TensorMissing { name: name.to_owned() };
        let info = self.content.tensor_infos.get(name).ok_or_else(missing)?;
        let bytes = tensor_bytes(&info.shape, info.ggml_dtype).and_then(|len| {
            let from = usize::try_from(self.content.tensor_data_offset.checked_add(info.offset)?);
            file.get(from.ok()?..)?.get(..usize::try_from(len).ok()?)
        });
        bytes.map(|bytes| (info.ggml_dtype, bytes)).ok_or_else(missing)
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
        self.array(key, "an array of strings", |value| match value {
            Value::String(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// An array of unsigned integers.
    pub(crate) fn u32s(&self, key: &str) -> Result<Vec<u32>, ModelError> {
        self.array(key, "an array of integers", integer)
    }

    /// An array of 32-bit floats.
    pub(crate) fn f32s(&self, key: &str) -> Result<Vec<f32>, ModelError> {
        self.array(key, "an array of 32-bit floats", |value| match value {
            Value::F32(v) => Some(*v),
            _ => None,
        })
    }

    fn array<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        item: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Vec<T>, ModelError> {
        let value = self.get(key)?;
        let Value::Array(values) = value else { return Err(wrong_type(key, expected, value)) };
        values.iter().map(|v| item(v).ok_or_else(|| wrong_type(key, expected, v))).collect()
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
        Value::Array(values) => format!("an array of {}", values.len()),
        Value::String(_) => "a string".to_owned(),
        other => format!("{other:?}"),
    };
    ModelError::MetadataInvalid { key: key.to_owned(), expected, got }
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
    file: &[u8],
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
    if at.saturating_add(bytes) > file.len() as u64 {
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

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, what: &str, len: u64) -> Result<&'a [u8], ModelError> {
        let slice = usize::try_from(len).ok().and_then(|len| {
            let end = self.at.checked_add(len)?;
            let slice = self.file.get(self.at..end)?;
            self.at = end;
            Some(slice)
        });
        slice.ok_or_else(|| ModelError::Truncated {
            what: what.to_owned(),
            at: self.at as u64,
            needed: len,
        })
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], ModelError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(what, N as u64)?);
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
        let len = self.count("string length", MAX_STRING_BYTES)?;
        let bytes = self.take(what, len)?;
        core::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| malformed(what, "not UTF-8".to_owned()))
    }

    /// Arrays of arrays are refused: no model has one, and they would make this recursive.
    fn value(&mut self, key: &str, kind: u32, in_array: bool) -> Result<Value, ModelError> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array(key)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(key)?)),
            4 => Value::U32(u32::from_le_bytes(self.array(key)?)),
            5 => Value::I32(i32::from_le_bytes(self.array(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            7 => match self.array::<1>(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(malformed(key, format!("truth value {other}"))),
            },
            8 => Value::String(self.string(key)?),
            9 if !in_array => {
                let kind = self.u32(key)?;
                let len = self.count("array length", MAX_ARRAY_ITEMS)?;
                // No `with_capacity`: the length is believed item by item.
                let mut values = Vec::new();
                for _ in 0..len {
                    values.push(self.value(key, kind, true)?);
                }
                Value::Array(values)
            }
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
