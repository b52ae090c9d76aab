//! Reads the header of a safetensors file: the table of tensors. Every name, type, shape and offset in
//! it is checked before it is believed, and the tensors are the file: no byte is left between them.
//!
//! Layout: the length of the header as a little-endian u64, the header as one JSON object, then the
//! tensors. Each key but `__metadata__` is a tensor with `dtype`, `shape` and `data_offsets`, which
//! count from the end of the header.

use core::fmt;
use std::collections::HashSet;
use std::io::BufRead;

use candle_core::quantized::GgmlDType;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::error::ModelError;
use crate::weights::Stored;

/// A checked header.
#[derive(Debug)]
pub(crate) struct Header {
    /// Bytes before the first tensor.
    pub(crate) len: u64,
    /// The tensors, in the order of the file.
    pub(crate) tensors: Vec<Stored>,
}

impl Header {
    /// Reads the header of the file of `len` bytes that `source` is at the start of.
    ///
    /// # Errors
    /// [`ModelError::Limit`] for a header over [`MAX_HEADER_BYTES`] or more tensors than
    /// [`MAX_TENSORS`], [`ModelError::Truncated`], [`ModelError::Duplicate`], and
    /// [`ModelError::Malformed`] for everything that contradicts itself or the length of the file.
    pub(crate) fn read(source: &mut impl BufRead, len: u64) -> Result<Self, ModelError> {
        Self::read_beside(source, len, &[])
    }

    /// As [`Header::read`], but for tensors named in `ignored`: they may have integers, are no weights
    /// and not in the table.
    ///
    /// # Errors
    /// As [`Header::read`].
    pub(crate) fn read_beside(
        source: &mut impl BufRead,
        len: u64,
        ignored: &[&str],
    ) -> Result<Self, ModelError> {
        let mut length = [0; 8];
        fill(source, &mut length, 0)?;
        let (at, needed) = (8, u64::from_le_bytes(length));
        if needed > MAX_HEADER_BYTES {
            let limit = MAX_HEADER_BYTES;
            return Err(ModelError::Limit { what: "header length", limit, got: needed });
        }
        let end = needed.saturating_add(at);
        if end > len {
            return Err(ModelError::Truncated { what: HEADER.to_owned(), at, needed });
        }
        let mut json = vec![0; usize::try_from(needed).unwrap_or(0)];
        fill(source, &mut json, at)?;
        let Table(entries) = serde_json::from_slice(&json).map_err(|e| {
            // The line and the column, never the text: it may be of a sealed model.
            let detail = format!("no table of tensors, at column {}", e.column());
            ModelError::Malformed { what: HEADER.to_owned(), detail }
        })?;
        let mut names = HashSet::new();
        let mut tensors = Vec::new();
        for (name, entry) in entries {
            if !names.insert(name.clone()) {
                return Err(ModelError::Duplicate { name });
            }
            let got = names.len() as u64;
            if got > MAX_TENSORS {
                return Err(ModelError::Limit { what: "tensor count", limit: MAX_TENSORS, got });
            }
            let ignored = ignored.contains(&name.as_str());
            tensors.push(entry.stored(name, end, ignored)?);
        }
        tensors.sort_by_key(|tensor| tensor.at);
        // Without holes there is one way to read the file; bytes that nobody reads could be anything.
        let mut next = end;
        for tensor in &tensors {
            if tensor.at != next {
                let detail = format!("it starts at {}, not where the one before ends", tensor.at);
                return Err(malformed(&tensor.name, detail));
            }
            next = next.saturating_add(tensor.bytes);
        }
        if next > len {
            let what = tensors.pop().map_or_else(String::new, |tensor| tensor.name);
            return Err(ModelError::Truncated { what, at: len, needed: next.saturating_sub(len) });
        }
        if next < len {
            let detail = format!("{} bytes follow the last tensor", len.saturating_sub(next));
            return Err(malformed("file", detail));
        }
        tensors.retain(|tensor| !ignored.contains(&tensor.name.as_str()));
        Ok(Self { len: end, tensors })
    }
}

fn fill(source: &mut impl BufRead, out: &mut [u8], at: u64) -> Result<(), ModelError> {
    source.read_exact(out).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            ModelError::Truncated { what: HEADER.to_owned(), at, needed: out.len() as u64 }
        }
        kind => ModelError::Read { kind },
    })
}

/// The entries in the order of the file, with duplicates.
struct Table(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Table;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Table(entries))
            }
        }
        from.deserialize_map(Entries)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Entry {
    /// `start` is the end of the header. What is `ignored` may have integers, whose type the result does
    /// not say.
    fn stored(self, name: String, start: u64, ignored: bool) -> Result<Stored, ModelError> {
        let (dtype, size) = match self.dtype.as_str() {
            "BF16" => (GgmlDType::BF16, 2),
            "F16" => (GgmlDType::F16, 2),
            "F32" => (GgmlDType::F32, 4),
            "I64" if ignored => (GgmlDType::F32, 8),
            other => {
                let feature = format!("tensor {name} of type {other}");
                return Err(ModelError::UnsupportedFeature { feature });
            }
        };
        let [from, to] = self.data_offsets;
        let elements = self.shape.iter().try_fold(1u64, |n, size| n.checked_mul(*size));
        let bytes = elements.and_then(|n| n.checked_mul(size)).filter(|bytes| *bytes > 0);
        let dims: Result<Vec<usize>, _> = self.shape.iter().map(|n| usize::try_from(*n)).collect();
        let (Some(bytes), Ok(dims)) = (bytes, dims) else {
            return Err(malformed(&name, format!("impossible shape {:?}", self.shape)));
        };
        if to.checked_sub(from) != Some(bytes) {
            let detail = format!("offsets {from} to {to} for {bytes} bytes");
            return Err(malformed(&name, detail));
        }
        let at = start.checked_add(from).ok_or_else(|| malformed(&name, format!("at {from}")))?;
        Ok(Stored { name, dtype, dims, at, bytes, turned: None })
    }
}

fn malformed(what: &str, detail: String) -> ModelError {
    ModelError::Malformed { what: what.to_owned(), detail }
}

const HEADER: &str = "safetensors header";

/// Longest header. One with twenty thousand tensors has 3 MB.
pub(crate) const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Most tensors of one file, as of a GGUF file.
const MAX_TENSORS: u64 = 1 << 16;

#[cfg(test)]
#[path = "safetensors_tests.rs"]
mod tests;
