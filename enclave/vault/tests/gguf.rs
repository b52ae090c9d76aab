//! GGUF metadata from strangers: the facts are read, everything else is skipped within bounds,
//! and every lie about a length, count, type or version is refused.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::Cursor;

use chrysalis_vault::limits::{
    MAX_GGUF_ENTRIES, MAX_GGUF_KEY_BYTES, MAX_GGUF_TENSORS, MAX_GGUF_TEXT_BYTES,
};
use chrysalis_vault::{AssetSource, Bundle, GgufError, GgufFacts, PackInput, VaultError, pack};

/// Writes GGUF metadata, honest or not.
struct Writer {
    magic: [u8; 4],
    version: u32,
    tensors: u64,
    entries: Vec<Vec<u8>>,
    claimed_entries: Option<u64>,
}

impl Writer {
    fn new() -> Self {
        let entries = vec![text("general.architecture", "llama")];
        Self { magic: *b"GGUF", version: 3, tensors: 7, entries, claimed_entries: None }
    }

    fn with(entries: Vec<Vec<u8>>) -> Self {
        let mut writer = Self::new();
        writer.entries.extend(entries);
        writer
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensors.to_le_bytes());
        out.extend(self.claimed_entries.unwrap_or(self.entries.len() as u64).to_le_bytes());
        out.extend(self.entries.concat());
        out
    }

    fn read(&self) -> Result<GgufFacts, VaultError> {
        GgufFacts::read(Cursor::new(self.bytes()))
    }

    fn refusal(&self) -> GgufError {
        match self.read() {
            Err(VaultError::Gguf(e)) => e,
            other => panic!("{other:?}"),
        }
    }
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

fn entry(key: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    [&string(key.as_bytes())[..], &value_type.to_le_bytes(), value].concat()
}

fn text(key: &str, value: &str) -> Vec<u8> {
    entry(key, 8, &string(value.as_bytes()))
}

fn array(element: u32, count: u64, body: &[u8]) -> Vec<u8> {
    [&element.to_le_bytes()[..], &count.to_le_bytes(), body].concat()
}

fn whole() -> Writer {
    Writer::with(vec![
        text("general.name", "Tiny"),
        text("general.license", "apache-2.0"),
        entry("general.file_type", 4, &15u32.to_le_bytes()),
        entry("llama.rope.freq_base", 6, &1e4f32.to_le_bytes()),
        entry("general.quantized", 7, &[1]),
        entry("x.long", 12, &[0; 8]),
        text("tokenizer.ggml.model", "gpt2"),
        entry("tokenizer.ggml.tokens", 9, &array(8, 2, &[string(b"a"), string(b"\xff")].concat())),
        entry("tokenizer.ggml.token_type", 9, &array(5, 2, &[0; 8])),
        entry("nested", 9, &array(9, 2, &[array(0, 1, &[0]), array(8, 0, &[])].concat())),
        text("tokenizer.chat_template", "{{ messages }}"),
    ])
}

#[test]
fn reads_the_facts_of_both_versions_and_skips_the_rest() {
    for version in [2, 3] {
        let mut writer = whole();
        writer.version = version;
        let facts = writer.read().unwrap();
        assert_eq!((facts.version, facts.tensors), (version, 7));
        assert_eq!(facts.architecture, "llama");
        assert_eq!(facts.name.as_deref(), Some("Tiny"));
        assert_eq!(facts.licence.as_deref(), Some("apache-2.0"));
        assert_eq!(facts.tokenizer_model.as_deref(), Some("gpt2"));
        assert_eq!(facts.quantisation().as_deref(), Some("Q4_K_M"));
        assert!(facts.has_chat_template);
    }
}

#[test]
fn a_file_with_only_an_architecture_has_no_other_facts() {
    let facts = Writer::new().read().unwrap();
    assert_eq!((facts.name.as_ref(), facts.quantisation()), (None, None));
    assert!(!facts.has_chat_template);
    let unknown = Writer::with(vec![entry("general.file_type", 4, &999u32.to_le_bytes())]);
    assert_eq!(unknown.read().unwrap().quantisation().as_deref(), Some("file type 999"));
}

#[test]
fn refuses_a_file_that_is_not_gguf() {
    let mut writer = Writer::new();
    writer.magic = *b"GGML";
    assert_eq!(writer.refusal(), GgufError::Magic { got: *b"GGML" });
}

#[test]
fn refuses_old_new_and_big_endian_versions() {
    for version in [0, 1, 4, 3u32.swap_bytes()] {
        let mut writer = Writer::new();
        writer.version = version;
        assert_eq!(writer.refusal(), GgufError::Version { got: version });
    }
}

#[test]
fn refuses_every_truncation_of_the_metadata() {
    let bytes = whole().bytes();
    for len in 0..bytes.len() {
        let refused = GgufFacts::read(Cursor::new(&bytes[..len])).unwrap_err();
        assert!(matches!(refused, VaultError::Gguf(GgufError::Truncated { .. })), "{len} bytes");
    }
}

#[test]
fn refuses_counts_one_over_their_limits() {
    let mut writer = Writer::new();
    writer.tensors = MAX_GGUF_TENSORS;
    writer.read().unwrap();
    writer.tensors += 1;
    assert!(matches!(writer.refusal(), GgufError::OverLimit { what: "tensor count", .. }));
    let mut writer = Writer::new();
    writer.claimed_entries = Some(MAX_GGUF_ENTRIES + 1);
    assert!(matches!(writer.refusal(), GgufError::OverLimit { what: "entry count", .. }));
}

#[test]
fn refuses_a_key_one_byte_over_its_limit() {
    let limit = usize::try_from(MAX_GGUF_KEY_BYTES).unwrap();
    Writer::with(vec![entry(&"k".repeat(limit), 0, &[0])]).read().unwrap();
    let writer = Writer::with(vec![entry(&"k".repeat(limit + 1), 0, &[0])]);
    assert!(matches!(writer.refusal(), GgufError::OverLimit { what: "key length", .. }));
}

#[test]
fn refuses_lengths_that_no_file_has_without_reading_them() {
    let huge = u64::MAX.to_le_bytes();
    for value in [
        entry("a", 8, &huge),
        entry("a", 9, &array(10, u64::MAX, &[])),
        entry("a", 9, &array(0, 1 << 40, &[])),
        entry("general.name", 8, &huge),
        entry("tokenizer.chat_template", 8, &huge),
    ] {
        let refused = Writer::with(vec![value]).refusal();
        assert!(matches!(refused, GgufError::OverLimit { what: "metadata size", .. }));
    }
    // A huge count of strings ends where the file does.
    let refused = Writer::with(vec![entry("a", 9, &array(8, u64::MAX, &[]))]).refusal();
    assert!(matches!(refused, GgufError::Truncated { .. }));
}

#[test]
fn refuses_arrays_nested_too_deeply() {
    let nested = |depth: usize| {
        let inner = array(0, 1, &[0]);
        let value = (1..depth).fold(inner, |body, _| array(9, 1, &body));
        Writer::with(vec![entry("a", 9, &value)])
    };
    nested(4).read().unwrap();
    assert!(matches!(nested(5).refusal(), GgufError::OverLimit { what: "array depth", .. }));
    assert!(matches!(nested(500).refusal(), GgufError::OverLimit { what: "array depth", .. }));
}

#[test]
fn refuses_value_types_without_a_meaning() {
    for (value_type, value) in [(13, vec![0; 8]), (9, array(77, 1, &[0; 8]))] {
        let writer = Writer::with(vec![entry("a", value_type, &value)]);
        assert!(matches!(writer.refusal(), GgufError::ValueType { got: 13 | 77 }));
    }
}

#[test]
fn refuses_a_known_key_with_another_type() {
    for (key, value_type) in
        [("general.name", 4), ("tokenizer.chat_template", 9), ("general.file_type", 10)]
    {
        let writer = Writer::with(vec![entry(key, value_type, &[0; 8])]);
        assert!(matches!(writer.refusal(), GgufError::WrongType { .. }), "{key}");
    }
}

#[test]
fn refuses_a_known_key_twice() {
    let writer = Writer::with(vec![text("general.architecture", "qwen3")]);
    assert_eq!(writer.refusal(), GgufError::DuplicateKey { key: "general.architecture" });
    let long = "x".repeat(usize::try_from(MAX_GGUF_TEXT_BYTES).unwrap() + 1);
    let writer = Writer::with(vec![text("general.name", &long), text("general.name", "a")]);
    assert_eq!(writer.refusal(), GgufError::DuplicateKey { key: "general.name" });
}

#[test]
fn refuses_a_fact_that_is_not_text() {
    let writer = Writer::with(vec![entry("general.name", 8, &string(b"\xff"))]);
    assert_eq!(writer.refusal(), GgufError::NotText { key: "general.name" });
}

#[test]
fn refuses_a_file_that_does_not_say_its_architecture() {
    let mut writer = Writer::new();
    writer.entries.clear();
    assert_eq!(writer.refusal(), GgufError::MissingKey { key: "general.architecture" });
}

#[test]
fn a_text_one_byte_over_its_limit_is_not_a_fact() {
    let limit = usize::try_from(MAX_GGUF_TEXT_BYTES).unwrap();
    let name =
        |len| Writer::with(vec![text("general.name", &"x".repeat(len))]).read().unwrap().name;
    assert_eq!(name(limit).map(|n| n.len()), Some(limit));
    assert_eq!(name(limit + 1), None);
}

#[test]
fn fills_a_manifest_from_the_facts() {
    let gguf = whole().bytes();
    let input = PackInput::from_gguf("model.gguf", "fallback", Cursor::new(&gguf)).unwrap();
    let mut out = Vec::new();
    let report = pack(input, &mut out, &|_, _| ()).unwrap();
    let m = &report.manifest;
    assert_eq!((m.name.as_str(), m.architecture.as_str()), ("Tiny", "llama"));
    assert_eq!((&m.tokenizer, &m.chat_template), (&AssetSource::Gguf, &AssetSource::Gguf));
    assert_eq!(m.licence.as_deref(), Some("apache-2.0"));
    let weights = Bundle::open(Cursor::new(&out))
        .unwrap()
        .load(&report.model_root, None, &|_, _| ())
        .unwrap();
    assert_eq!(weights.file("model.gguf"), Some(&gguf[..]));

    let bare = Writer::new().bytes();
    let input = PackInput::from_gguf("model.gguf", "fallback", Cursor::new(&bare)).unwrap();
    assert_eq!(input.name, "fallback");
    assert_eq!((input.tokenizer, input.chat_template), (AssetSource::None, AssetSource::None));
}

#[test]
fn a_name_that_a_terminal_must_not_see_is_refused_when_packing() {
    let gguf = Writer::with(vec![text("general.name", "a\u{1b}[2J")]).bytes();
    let input = PackInput::from_gguf("model.gguf", "fallback", Cursor::new(&gguf)).unwrap();
    let refused = pack(input, Vec::new(), &|_, _| ()).unwrap_err();
    assert!(matches!(refused, VaultError::ManifestText { field: "name", .. }));
}

/// Run with `CHRYSALIS_MODEL_GGUF=<file>`; says so when it is not set.
#[test]
fn a_real_model_survives_packing_and_sealing() {
    let Some(path) = std::env::var_os("CHRYSALIS_MODEL_GGUF") else {
        eprintln!("skipped: CHRYSALIS_MODEL_GGUF is not set");
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let open = || PackInput::from_gguf("model.gguf", "model", Cursor::new(&bytes)).unwrap();
    let (mut plain, mut closed) = (Vec::new(), Vec::new());
    let report = pack(open(), &mut plain, &|_, _| ()).unwrap();
    assert_eq!(report.manifest.tokenizer, AssetSource::Gguf);
    eprintln!("{}", serde_json::to_string_pretty(&report).unwrap());
    let key = support::key(1);
    chrysalis_vault::pack_sealed(open(), &mut closed, &key, [1; 32], &|_, _| ()).unwrap();
    for (bundle, key) in [(plain, None), (closed, Some(&key))] {
        let weights = support::load(&bundle, &report.model_root, key).unwrap();
        assert!(weights.file("model.gguf") == Some(&bytes[..]));
    }
}
