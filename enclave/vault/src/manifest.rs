//! The bundle manifest: what the content is. Its canonical bytes are hashed into the model root,
//! but they are parsed from an untrusted disk, so each length, character and path is checked.

use std::collections::BTreeSet;

use chrysalis_wire::{Decoder, Encoder, WireError};
use serde::Serialize;

use crate::error::VaultError;
use crate::limits::{MAX_FILES, MAX_MANIFEST_BYTES, MAX_PATH_BYTES, MAX_TEXT_BYTES};

/// What a bundle contains. Only this crate makes one, and only from fields that hold the rules of
/// FORMAT §3, so paths and text are safe to print.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Name of the model.
    pub name: String,
    /// Architecture, as the engine names it: `llama`, `qwen3`, ….
    pub architecture: String,
    /// Quantisation of the weights: `Q4_K_M`, `BF16`, ….
    pub quantisation: Option<String>,
    /// Where the tokenizer comes from.
    pub tokenizer: AssetSource,
    /// Where the chat template comes from.
    pub chat_template: AssetSource,
    /// Licence of the weights, as an SPDX expression where one exists.
    pub licence: Option<String>,
    /// The files, in ascending order of path.
    pub files: Vec<FileEntry>,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// Relative path: `[A-Za-z0-9._-]` components separated by `/`.
    pub path: String,
    /// Size in bytes; never 0.
    pub size: u64,
}

/// Where a tokenizer or chat template comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AssetSource {
    /// The bundle has none.
    None,
    /// The metadata of the bundle's GGUF file.
    Gguf,
    /// This file of the bundle.
    File(String),
}

impl Manifest {
    /// Checks every rule of FORMAT §3 and sorts the files by path. What they allow is smaller
    /// than [`MAX_MANIFEST_BYTES`].
    pub(crate) fn checked(mut self) -> Result<Self, VaultError> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.check()?;
        Ok(self)
    }

    /// Canonical bytes: the only encoding of this manifest.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.u32(MANIFEST_MAGIC).bytes(self.name.as_bytes()).bytes(self.architecture.as_bytes());
        encode_option(&mut e, self.quantisation.as_deref());
        encode_source(&mut e, &self.tokenizer);
        encode_source(&mut e, &self.chat_template);
        encode_option(&mut e, self.licence.as_deref());
        e.u32(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        for file in &self.files {
            e.bytes(file.path.as_bytes()).u64(file.size);
        }
        e.finish()
    }

    /// Reads canonical bytes; every deviation is refused, so two encodings of one manifest do not
    /// exist.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, VaultError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(over("manifest", MAX_MANIFEST_BYTES, bytes.len()));
        }
        let mut d = Decoder::new(bytes);
        let magic = d.u32("manifest magic")?;
        if magic != MANIFEST_MAGIC {
            return Err(VaultError::ManifestMalformed(WireError::UnsupportedVersion {
                what: "manifest",
                expected: MANIFEST_MAGIC.into(),
                got: magic.into(),
            }));
        }
        let name = text(&mut d, "name", MAX_TEXT_BYTES)?;
        let architecture = text(&mut d, "architecture", MAX_TEXT_BYTES)?;
        let quantisation = decode_option(&mut d, "quantisation")?;
        let tokenizer = decode_source(&mut d, "tokenizer")?;
        let chat_template = decode_source(&mut d, "chat template")?;
        let licence = decode_option(&mut d, "licence")?;
        let count = usize::try_from(d.u32("file count")?).unwrap_or(usize::MAX);
        if count > MAX_FILES {
            return Err(over("file count", MAX_FILES, count));
        }
        let mut files = Vec::with_capacity(count);
        for _ in 0..count {
            let path = text(&mut d, "path", MAX_PATH_BYTES)?;
            files.push(FileEntry { path, size: d.u64("file size")? });
        }
        d.finish("manifest")?;
        let manifest =
            Self { name, architecture, quantisation, tokenizer, chat_template, licence, files };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), VaultError> {
        check_text("name", &self.name)?;
        check_text("architecture", &self.architecture)?;
        self.quantisation.as_deref().map_or(Ok(()), |t| check_text("quantisation", t))?;
        self.licence.as_deref().map_or(Ok(()), |t| check_text("licence", t))?;
        if self.files.is_empty() {
            return Err(VaultError::NoFiles);
        }
        if self.files.len() > MAX_FILES {
            return Err(over("file count", MAX_FILES, self.files.len()));
        }
        for file in &self.files {
            check_path(&file.path)?;
            if file.size == 0 {
                return Err(VaultError::EmptyFile { path: file.path.clone() });
            }
        }
        self.check_order()?;
        self.check_source("tokenizer", &self.tokenizer)?;
        self.check_source("chat template", &self.chat_template)
    }

    fn check_order(&self) -> Result<(), VaultError> {
        for (before, after) in self.files.iter().zip(self.files.iter().skip(1)) {
            let path = after.path.clone();
            match before.path.cmp(&after.path) {
                core::cmp::Ordering::Less => {}
                core::cmp::Ordering::Equal => return Err(VaultError::DuplicatePath { path }),
                core::cmp::Ordering::Greater => return Err(VaultError::PathOrder { path }),
            }
        }
        let paths: BTreeSet<&str> = self.files.iter().map(|f| f.path.as_str()).collect();
        let folders = self
            .files
            .iter()
            .flat_map(|f| f.path.match_indices('/').filter_map(|(at, _)| f.path.get(..at)));
        for folder in folders {
            if paths.contains(folder) {
                return Err(VaultError::PathConflict { path: folder.to_owned() });
            }
        }
        Ok(())
    }

    fn check_source(&self, field: &'static str, source: &AssetSource) -> Result<(), VaultError> {
        let (found, wanted) = match source {
            AssetSource::None => return Ok(()),
            AssetSource::Gguf => {
                (self.files.iter().any(|f| f.path.ends_with(GGUF_SUFFIX)), "a .gguf file")
            }
            AssetSource::File(path) => (self.files.iter().any(|f| f.path == *path), path.as_str()),
        };
        if found {
            Ok(())
        } else {
            Err(VaultError::SourceMissing { field, wanted: shorten(wanted) })
        }
    }
}

impl From<WireError> for VaultError {
    fn from(error: WireError) -> Self {
        Self::ManifestMalformed(error)
    }
}

fn encode_option(e: &mut Encoder, value: Option<&str>) {
    match value {
        None => e.u8(0),
        Some(text) => e.u8(1).bytes(text.as_bytes()),
    };
}

fn encode_source(e: &mut Encoder, source: &AssetSource) {
    match source {
        AssetSource::None => e.u8(0),
        AssetSource::Gguf => e.u8(1),
        AssetSource::File(path) => e.u8(2).bytes(path.as_bytes()),
    };
}

fn decode_option(d: &mut Decoder<'_>, what: &'static str) -> Result<Option<String>, VaultError> {
    match d.u8(what)? {
        0 => Ok(None),
        1 => Ok(Some(text(d, what, MAX_TEXT_BYTES)?)),
        other => Err(WireError::UnknownValue { what, got: other.into() }.into()),
    }
}

fn decode_source(d: &mut Decoder<'_>, what: &'static str) -> Result<AssetSource, VaultError> {
    match d.u8(what)? {
        0 => Ok(AssetSource::None),
        1 => Ok(AssetSource::Gguf),
        2 => Ok(AssetSource::File(text(d, what, MAX_PATH_BYTES)?)),
        other => Err(WireError::UnknownValue { what, got: other.into() }.into()),
    }
}

fn text(d: &mut Decoder<'_>, what: &'static str, limit: usize) -> Result<String, VaultError> {
    let bytes = d.bytes(what, limit)?;
    // The rules below admit ASCII only, so a lossy reading of anything else is refused by them.
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Printable ASCII only: these strings are printed by tools that read bundles of strangers, and
/// control or bidirectional characters could forge what a terminal shows.
fn check_text(field: &'static str, text: &str) -> Result<(), VaultError> {
    let printable = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if printable && (1..=MAX_TEXT_BYTES).contains(&text.len()) && text.trim() == text {
        Ok(())
    } else {
        Err(VaultError::ManifestText { field, text: shorten(text) })
    }
}

fn check_path(path: &str) -> Result<(), VaultError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    let reason = if path.is_empty() {
        "it is empty"
    } else if path.len() > MAX_PATH_BYTES {
        "it is too long"
    } else if !path.bytes().all(plain) {
        "it has a character outside the portable set"
    } else if path.starts_with('/') {
        "it is absolute"
    } else if path.split('/').any(|part| part == "." || part == "..") {
        "it leaves its folder"
    } else if path.split('/').any(str::is_empty) {
        "it has an empty component"
    } else {
        return Ok(());
    };
    Err(VaultError::Path { path: shorten(path), reason })
}

/// At most 64 characters of a refused string, so that an error stays one line.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

fn over(what: &'static str, limit: usize, got: usize) -> VaultError {
    VaultError::OverLimit { what, limit: limit as u64, got: got as u64 }
}

/// "CVM1": Chrysalis vault manifest, version 1.
const MANIFEST_MAGIC: u32 = u32::from_be_bytes(*b"CVM1");

const GGUF_SUFFIX: &str = ".gguf";

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> FileEntry {
        FileEntry { path: path.to_owned(), size: 1 }
    }

    fn manifest(paths: &[&str]) -> Manifest {
        Manifest {
            name: "Tiny".to_owned(),
            architecture: "llama".to_owned(),
            quantisation: Some("Q4_1".to_owned()),
            tokenizer: AssetSource::None,
            chat_template: AssetSource::None,
            licence: None,
            files: paths.iter().map(|p| entry(p)).collect(),
        }
    }

    fn refusal(m: Manifest) -> VaultError {
        // Both doors refuse: packing and reading.
        let at_reading = Manifest::decode(&m.encode()).unwrap_err();
        let at_packing = m.checked().unwrap_err();
        assert_eq!(at_packing.code(), at_reading.code());
        at_reading
    }

    #[test]
    fn decodes_what_it_encodes() {
        let mut m = manifest(&["a/b.gguf", "c", "tok.json"]);
        m.tokenizer = AssetSource::File("tok.json".to_owned());
        m.chat_template = AssetSource::Gguf;
        m.licence = Some("Apache-2.0 OR MIT".to_owned());
        assert_eq!(Manifest::decode(&m.encode()).unwrap(), m);
    }

    #[test]
    fn refuses_every_truncation_and_a_trailing_byte() {
        let mut bytes = manifest(&["a", "b"]).encode();
        for len in 0..bytes.len() {
            let refused = Manifest::decode(&bytes[..len]);
            assert!(matches!(refused, Err(VaultError::ManifestMalformed(_))), "{len} bytes");
        }
        bytes.push(0);
        assert!(matches!(
            Manifest::decode(&bytes),
            Err(VaultError::ManifestMalformed(WireError::TrailingBytes { got: 1, .. }))
        ));
    }

    #[test]
    fn refuses_a_future_manifest_version() {
        let mut bytes = manifest(&["a"]).encode();
        bytes[3] = b'2';
        assert!(matches!(
            Manifest::decode(&bytes),
            Err(VaultError::ManifestMalformed(WireError::UnsupportedVersion { .. }))
        ));
    }

    #[test]
    fn refuses_a_parent_path() {
        for path in ["../a", "a/../b", "..", "a/.."] {
            let e = refusal(manifest(&[path]));
            assert!(matches!(e, VaultError::Path { reason: "it leaves its folder", .. }), "{path}");
        }
        Manifest::decode(&manifest(&["a..b", "...", "a/..c"]).checked().unwrap().encode()).unwrap();
    }

    #[test]
    fn refuses_an_absolute_path() {
        assert!(matches!(
            refusal(manifest(&["/etc/passwd"])),
            VaultError::Path { reason: "it is absolute", .. }
        ));
    }

    #[test]
    fn refuses_paths_outside_the_portable_set() {
        for path in ["", "a//b", "a/", "./a", "a b", "a\\b", "C:a", "a\0", "a\n", "ä"] {
            assert!(matches!(refusal(manifest(&[path])), VaultError::Path { .. }), "{path:?}");
        }
    }

    #[test]
    fn refuses_a_path_one_byte_over_the_limit() {
        let path = "p".repeat(MAX_PATH_BYTES);
        manifest(&[&path]).checked().unwrap();
        let long = manifest(&[&"p".repeat(MAX_PATH_BYTES + 1)]);
        assert!(matches!(
            Manifest::decode(&long.encode()),
            Err(VaultError::ManifestMalformed(WireError::TooLarge { limit: MAX_PATH_BYTES, .. }))
        ));
        assert!(matches!(long.checked(), Err(VaultError::Path { reason: "it is too long", .. })));
    }

    #[test]
    fn refuses_a_duplicate_path() {
        assert!(matches!(refusal(manifest(&["a", "a"])), VaultError::DuplicatePath { .. }));
    }

    #[test]
    fn refuses_files_out_of_order_when_reading_and_sorts_them_when_packing() {
        let m = manifest(&["b", "a"]);
        assert!(matches!(Manifest::decode(&m.encode()), Err(VaultError::PathOrder { .. })));
        assert_eq!(m.checked().unwrap().files[0].path, "a");
    }

    #[test]
    fn refuses_a_path_that_is_a_file_and_a_folder() {
        // "a-" sorts between them: neighbours alone would not show it.
        let e = refusal(manifest(&["a", "a-", "a/b"]));
        assert_eq!(e, VaultError::PathConflict { path: "a".to_owned() });
    }

    #[test]
    fn refuses_zero_files_and_an_empty_file() {
        assert_eq!(refusal(manifest(&[])), VaultError::NoFiles);
        let mut m = manifest(&["a"]);
        m.files[0].size = 0;
        assert_eq!(refusal(m), VaultError::EmptyFile { path: "a".to_owned() });
    }

    #[test]
    fn refuses_one_file_more_than_the_limit() {
        let paths: Vec<String> = (0..=MAX_FILES).map(|i| format!("{i:0190}")).collect();
        let mut refs: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert!(matches!(refusal(manifest(&refs)), VaultError::OverLimit { .. }));
        refs.pop();
        manifest(&refs).checked().unwrap();
    }

    #[test]
    fn refuses_a_file_count_before_making_room_for_the_files() {
        let mut bytes = manifest(&["a"]).encode();
        let count_at = bytes.len() - (4 + 4 + 1 + 8);
        bytes[count_at..count_at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(
            Manifest::decode(&bytes),
            Err(VaultError::OverLimit { what: "file count", limit: 256, got: 0xffff_ffff })
        ));
    }

    #[test]
    fn the_largest_manifest_the_other_limits_allow_is_within_its_own() {
        let paths: Vec<String> = (0..MAX_FILES).map(|i| format!("{i:0MAX_PATH_BYTES$}")).collect();
        let mut m = manifest(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let text = "t".repeat(MAX_TEXT_BYTES);
        (m.name, m.architecture) = (text.clone(), text.clone());
        (m.quantisation, m.licence) = (Some(text.clone()), Some(text));
        m.tokenizer = AssetSource::File(paths[0].clone());
        m.chat_template = AssetSource::File(paths[1].clone());
        let m = m.checked().unwrap();
        assert!(m.encode().len() < 56 * 1024, "{}", m.encode().len());
        assert_eq!(Manifest::decode(&m.encode()).unwrap(), m);
    }

    #[test]
    fn refuses_a_manifest_one_byte_over_the_limit() {
        assert!(matches!(
            Manifest::decode(&vec![0; MAX_MANIFEST_BYTES + 1]),
            Err(VaultError::OverLimit { what: "manifest", .. })
        ));
    }

    #[test]
    fn refuses_text_that_is_not_plain() {
        for name in ["", " a", "a ", "a\u{1b}[2J", "a\u{202e}b", "naïve", "a\tb"] {
            let mut m = manifest(&["a"]);
            m.name = name.to_owned();
            assert!(matches!(refusal(m), VaultError::ManifestText { field: "name", .. }));
        }
        let mut m = manifest(&["a"]);
        m.licence = Some(String::new());
        assert!(matches!(refusal(m), VaultError::ManifestText { field: "licence", .. }));
    }

    #[test]
    fn refuses_text_one_byte_over_the_limit() {
        let mut m = manifest(&["a"]);
        m.name = "n".repeat(MAX_TEXT_BYTES);
        Manifest::decode(&m.encode()).unwrap();
        m.name.push('n');
        assert!(matches!(
            Manifest::decode(&m.encode()),
            Err(VaultError::ManifestMalformed(WireError::TooLarge { limit: MAX_TEXT_BYTES, .. }))
        ));
        assert!(matches!(m.checked(), Err(VaultError::ManifestText { .. })));
    }

    #[test]
    fn refuses_a_tokenizer_or_template_that_is_not_in_the_bundle() {
        let mut m = manifest(&["a.bin"]);
        m.tokenizer = AssetSource::File("tok.json".to_owned());
        assert!(matches!(refusal(m), VaultError::SourceMissing { field: "tokenizer", .. }));
        let mut m = manifest(&["a.bin"]);
        m.chat_template = AssetSource::Gguf;
        assert!(matches!(refusal(m), VaultError::SourceMissing { field: "chat template", .. }));
    }

    #[test]
    fn refuses_an_unknown_source_and_an_unknown_option() {
        let good = manifest(&["a"]).encode();
        // magic 4, name 4+4, architecture 4+5, option tag, quantisation 4+4, source tag.
        for at in [21, 30] {
            let mut bytes = good.clone();
            bytes[at] = 9;
            assert!(matches!(
                Manifest::decode(&bytes),
                Err(VaultError::ManifestMalformed(WireError::UnknownValue { got: 9, .. }))
            ));
        }
    }
}
