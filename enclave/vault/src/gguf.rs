//! Facts from the metadata of a GGUF file, so that packing needs no inference engine. The file is
//! untrusted: every count and length is bounded before it is followed, and nothing is allocated
//! beyond one key or one fact.
//!
//! Layout (GGUF specification, versions 2 and 3, little-endian): magic `GGUF`, version u32, tensor
//! count u64, entry count u64, then entries of key, type u32 and value. A string is a u64 length
//! and bytes; an array is an element type u32, a count u64 and the elements.

use std::io::{BufRead, BufReader, Read};

use serde::Serialize;
use thiserror::Error;

use crate::bundle::read_full;
use crate::error::VaultError;
use crate::limits::{
    MAX_GGUF_ARRAY_DEPTH, MAX_GGUF_ENTRIES, MAX_GGUF_KEY_BYTES, MAX_GGUF_METADATA_BYTES,
    MAX_GGUF_TENSORS, MAX_GGUF_TEXT_BYTES,
};

/// What the metadata says. Nothing in it is verified: it fills a manifest, which the packer and
/// later every reader check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GgufFacts {
    /// Version of the GGUF format: 2 or 3.
    pub version: u32,
    /// Number of tensors.
    pub tensors: u64,
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, unless it is longer than [`MAX_GGUF_TEXT_BYTES`].
    pub name: Option<String>,
    /// `general.license`, unless it is longer than [`MAX_GGUF_TEXT_BYTES`].
    pub licence: Option<String>,
    /// `tokenizer.ggml.model`.
    pub tokenizer_model: Option<String>,
    /// Whether `tokenizer.chat_template` is there and not empty.
    pub has_chat_template: bool,
    /// `general.file_type`: the quantisation most tensors have.
    pub file_type: Option<u32>,
}

/// Why a GGUF file was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GgufError {
    /// The first bytes are not `GGUF`.
    #[error(
        "not a GGUF file: it starts with {}, expected \"GGUF\"; check the file",
        hex::encode(.got)
    )]
    Magic {
        /// The bytes found.
        got: [u8; 4],
    },
    /// A version other than 2 and 3; a big-endian file looks like this too.
    #[error("GGUF version {got} is not supported; this build reads 2 and 3: convert the file")]
    Version {
        /// Version found.
        got: u32,
    },
    /// The file ends inside its metadata.
    #[error("GGUF file ends inside its metadata, at {what}; fetch it again")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A count or length over its limit.
    #[error("GGUF {what} is {got}, over the limit of {limit}; check the file")]
    OverLimit {
        /// What is too large.
        what: &'static str,
        /// The named limit.
        limit: u64,
        /// Value found.
        got: u64,
    },
    /// A value type without a meaning.
    #[error("GGUF value type {got} has no meaning; the file is damaged or newer than this build")]
    ValueType {
        /// Type found.
        got: u32,
    },
    /// A key this module reads has a value of another type.
    #[error("GGUF key {key} has value type {got}, expected {expected}; convert the file again")]
    WrongType {
        /// The key.
        key: &'static str,
        /// The type it must have.
        expected: u32,
        /// Type found.
        got: u32,
    },
    /// A text this module reads is not UTF-8.
    #[error("GGUF key {key} is not UTF-8 text; convert the file again")]
    NotText {
        /// The key.
        key: &'static str,
    },
    /// A key this module reads appears twice: two readers could see two models.
    #[error("GGUF key {key} appears twice; convert the file again")]
    DuplicateKey {
        /// The key.
        key: &'static str,
    },
    /// The file does not say what it is.
    #[error("GGUF key {key} is missing; convert the file again with a current converter")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
}

impl GgufError {
    /// Stable code of this refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Magic { .. } => "E-GGUF-MAGIC",
            Self::Version { .. } => "E-GGUF-VERSION",
            Self::Truncated { .. } => "E-GGUF-TRUNCATED",
            Self::OverLimit { .. } => "E-GGUF-LIMIT",
            Self::ValueType { .. } | Self::WrongType { .. } => "E-GGUF-TYPE",
            Self::NotText { .. } => "E-GGUF-TEXT",
            Self::DuplicateKey { .. } => "E-GGUF-DUPLICATE",
            Self::MissingKey { .. } => "E-GGUF-MISSING",
        }
    }
}

impl GgufFacts {
    /// Reads the metadata from the start of a GGUF file; the tensors are not touched.
    ///
    /// # Errors
    /// [`VaultError::Gguf`] for every way the metadata can be wrong, [`VaultError::Io`].
    pub fn read(reader: impl Read) -> Result<Self, VaultError> {
        let mut source = Source { reader: BufReader::new(reader), left: MAX_GGUF_METADATA_BYTES };
        let magic = source.array("magic")?;
        if magic != *b"GGUF" {
            return Err(GgufError::Magic { got: magic }.into());
        }
        let version = source.u32("version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version { got: version }.into());
        }
        let tensors = at_most("tensor count", MAX_GGUF_TENSORS, source.u64("tensor count")?)?;
        let entries = at_most("entry count", MAX_GGUF_ENTRIES, source.u64("entry count")?)?;
        let mut found = Found::default();
        for _ in 0..entries {
            found.entry(&mut source)?;
        }
        let architecture = found.architecture.flatten();
        Ok(Self {
            version,
            tensors,
            architecture: architecture.ok_or(GgufError::MissingKey { key: ARCHITECTURE })?,
            name: found.name.flatten(),
            licence: found.licence.flatten(),
            tokenizer_model: found.tokenizer_model.flatten(),
            has_chat_template: found.chat_template.unwrap_or(false),
            file_type: found.file_type,
        })
    }

    /// The file type by its usual name: `Q4_K_M`, `BF16`, …, or its number if it is newer than
    /// this table.
    #[must_use]
    pub fn quantisation(&self) -> Option<String> {
        let number = self.file_type?;
        let known = FILE_TYPES.iter().find(|(n, _)| *n == number);
        Some(known.map_or_else(|| format!("file type {number}"), |(_, name)| (*name).to_owned()))
    }
}

/// Facts seen so far; the outer `Option` says whether the key was seen.
#[derive(Default)]
struct Found {
    architecture: Option<Option<String>>,
    name: Option<Option<String>>,
    licence: Option<Option<String>>,
    tokenizer_model: Option<Option<String>>,
    chat_template: Option<bool>,
    file_type: Option<u32>,
}

impl Found {
    fn entry<R: Read>(&mut self, source: &mut Source<R>) -> Result<(), VaultError> {
        let len = at_most("key length", MAX_GGUF_KEY_BYTES, source.u64("key length")?)?;
        let key = source.bytes("key", len)?;
        let value_type = source.u32("value type")?;
        match key.as_slice() {
            k if k == ARCHITECTURE.as_bytes() => {
                once(&mut self.architecture, ARCHITECTURE, source.text(ARCHITECTURE, value_type)?)
            }
            k if k == NAME.as_bytes() => once(&mut self.name, NAME, source.text(NAME, value_type)?),
            k if k == LICENCE.as_bytes() => {
                once(&mut self.licence, LICENCE, source.text(LICENCE, value_type)?)
            }
            k if k == TOKENIZER.as_bytes() => {
                once(&mut self.tokenizer_model, TOKENIZER, source.text(TOKENIZER, value_type)?)
            }
            k if k == CHAT_TEMPLATE.as_bytes() => {
                expect_type(CHAT_TEMPLATE, TYPE_STRING, value_type)?;
                let len = source.u64("string length")?;
                source.skip("string", len)?;
                once(&mut self.chat_template, CHAT_TEMPLATE, len > 0)
            }
            k if k == FILE_TYPE.as_bytes() => {
                expect_type(FILE_TYPE, TYPE_U32, value_type)?;
                once(&mut self.file_type, FILE_TYPE, source.u32("file type")?)
            }
            _ => source.skip_value(value_type, 0),
        }
    }
}

fn once<T>(slot: &mut Option<T>, key: &'static str, value: T) -> Result<(), VaultError> {
    if slot.replace(value).is_some() {
        return Err(GgufError::DuplicateKey { key }.into());
    }
    Ok(())
}

fn expect_type(key: &'static str, expected: u32, got: u32) -> Result<(), VaultError> {
    if got == expected { Ok(()) } else { Err(GgufError::WrongType { key, expected, got }.into()) }
}

fn at_most(what: &'static str, limit: u64, got: u64) -> Result<u64, VaultError> {
    if got > limit {
        return Err(GgufError::OverLimit { what, limit, got }.into());
    }
    Ok(got)
}

/// A reader with a budget: no metadata can make it read more than [`MAX_GGUF_METADATA_BYTES`].
struct Source<R> {
    reader: BufReader<R>,
    left: u64,
}

impl<R: Read> Source<R> {
    fn spend(&mut self, bytes: u64) -> Result<(), VaultError> {
        let over = GgufError::OverLimit {
            what: "metadata size",
            limit: MAX_GGUF_METADATA_BYTES,
            got: MAX_GGUF_METADATA_BYTES.saturating_sub(self.left).saturating_add(bytes),
        };
        self.left = self.left.checked_sub(bytes).ok_or(over)?;
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], VaultError> {
        self.spend(N as u64)?;
        let mut out = [0u8; N];
        if read_full(&mut self.reader, &mut out, "read a GGUF file")? < N {
            return Err(GgufError::Truncated { what }.into());
        }
        Ok(out)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, VaultError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, VaultError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Reads `len` bytes; the caller has bounded `len` to a small constant.
    fn bytes(&mut self, what: &'static str, len: u64) -> Result<Vec<u8>, VaultError> {
        self.spend(len)?;
        let mut out = vec![0u8; usize::try_from(len).unwrap_or(0)];
        if read_full(&mut self.reader, &mut out, "read a GGUF file")? < out.len() {
            return Err(GgufError::Truncated { what }.into());
        }
        Ok(out)
    }

    fn skip(&mut self, what: &'static str, len: u64) -> Result<(), VaultError> {
        self.spend(len)?;
        let mut left = len;
        while left > 0 {
            let buffered = match self.reader.fill_buf() {
                Ok(bytes) => bytes.len(),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(VaultError::io("read a GGUF file")(e)),
            };
            if buffered == 0 {
                return Err(GgufError::Truncated { what }.into());
            }
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffered);
            self.reader.consume(part);
            left = left.saturating_sub(part as u64);
        }
        Ok(())
    }

    fn text(&mut self, key: &'static str, value_type: u32) -> Result<Option<String>, VaultError> {
        expect_type(key, TYPE_STRING, value_type)?;
        let len = self.u64("string length")?;
        if len > MAX_GGUF_TEXT_BYTES {
            self.skip("string", len)?;
            return Ok(None);
        }
        let bytes = self.bytes("string", len)?;
        Ok(Some(String::from_utf8(bytes).map_err(|_| GgufError::NotText { key })?))
    }

    fn skip_value(&mut self, value_type: u32, depth: u32) -> Result<(), VaultError> {
        if value_type == TYPE_STRING {
            let len = self.u64("string length")?;
            return self.skip("string", len);
        }
        if value_type != TYPE_ARRAY {
            return self.skip("value", fixed_size(value_type)?);
        }
        let depth = depth.saturating_add(1);
        at_most("array depth", MAX_GGUF_ARRAY_DEPTH.into(), depth.into())?;
        let element = self.u32("array type")?;
        let count = self.u64("array count")?;
        if element != TYPE_STRING && element != TYPE_ARRAY {
            let size = fixed_size(element)?.saturating_mul(count);
            return self.skip("array", size);
        }
        // Each element costs at least its length from the budget, so this loop is bounded by it.
        for _ in 0..count {
            self.skip_value(element, depth)?;
        }
        Ok(())
    }
}

fn fixed_size(value_type: u32) -> Result<u64, VaultError> {
    match value_type {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        got => Err(GgufError::ValueType { got }.into()),
    }
}

const TYPE_U32: u32 = 4;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

const ARCHITECTURE: &str = "general.architecture";
const NAME: &str = "general.name";
const LICENCE: &str = "general.license";
const FILE_TYPE: &str = "general.file_type";
const TOKENIZER: &str = "tokenizer.ggml.model";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// `general.file_type` numbers and names (GGUF specification, general metadata).
const FILE_TYPES: &[(u32, &str)] = &[
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (21, "Q2_K_S"),
    (22, "IQ3_XS"),
    (23, "IQ3_XXS"),
    (24, "IQ1_S"),
    (25, "IQ4_NL"),
    (26, "IQ3_S"),
    (27, "IQ3_M"),
    (28, "IQ2_S"),
    (29, "IQ2_M"),
    (30, "IQ4_XS"),
    (31, "IQ1_M"),
    (32, "BF16"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
    (38, "MXFP4_MOE"),
];
