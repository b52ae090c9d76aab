//! Checkpoints in shards: `config.json`, the index, the tables of tensors and the tokenizer's files. One that
//! is taken computes; any other is refused with a typed error.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::num::NonZeroUsize;

use chrysalis_engine::EngineError;
use chrysalis_engine::testing::{Hub, Probe, Recipe, checkpoint_with, text};
use chrysalis_fuzz::variant;
use serde_json::Value;

chrysalis_fuzz::target!(seeds, one);

/// The files of an input: texts, each behind a line with its name. Of a shard that is the table of its tensors
/// alone: its length and numbers for all of them are added here, or few inputs would get past it.
fn files(data: &[u8]) -> Hub {
    let mut files = Hub::new();
    let mut rest = data;
    while let Some(at) = find(rest, BEGIN) {
        let part = &rest[at + BEGIN.len()..];
        let (file, next) = part.split_at(find(part, BEGIN).unwrap_or(part.len()));
        rest = next;
        let Some(line) = find(file, END) else { continue };
        let (name, content) = (&file[..line], &file[line + END.len()..]);
        let name = String::from_utf8_lossy(name).into_owned();
        let is_table = name.ends_with(".safetensors") && content.first() == Some(&b'{');
        let content = if is_table { shard(content) } else { content.to_vec() };
        files.insert(name, content);
    }
    files
}

fn shard(table: &[u8]) -> Vec<u8> {
    let mut out = (table.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(table);
    let read: Value = serde_json::from_slice(table).unwrap_or_default();
    let ends = read.as_object().into_iter().flatten().filter_map(|(_, tensor)| {
        tensor.get("data_offsets")?.get(1)?.as_u64().filter(|end| *end <= MOST_NUMBERS)
    });
    let bytes = usize::try_from(ends.max().unwrap_or(0)).unwrap_or(0);
    // One as `F16`, and small as the others.
    out.extend([0x00, 0x3c].into_iter().cycle().take(bytes));
    out
}

fn one(data: &[u8]) -> String {
    let probe = match checkpoint_with(&files(data), NonZeroUsize::new(1)) {
        Ok(probe) => probe,
        Err(EngineError::Model(error)) => return variant(&error),
        Err(EngineError::Template(error)) => return variant(&error),
        Err(error) => panic!("a model is not refused so: {error}"),
    };
    computes(&probe)
}

/// Computes a few tokens of a model that was taken.
fn computes(probe: &Probe) -> String {
    let mut ids = match probe.ids(&text("Hello, hello!")) {
        Ok(ids) => ids,
        Err(error) => return format!("taken, but {}", variant(&error)),
    };
    ids.truncate(8);
    let logits = probe.session().feed(&ids, 3);
    match logits {
        Ok(logits) => {
            assert!(!logits.is_empty());
            format!("computes {}", logits.iter().all(|logit| logit.is_finite()))
        }
        Err(error) => format!("taken, but {}", variant(&error)),
    }
}

fn find(data: &[u8], wanted: &[u8]) -> Option<usize> {
    data.windows(wanted.len()).position(|window| window == wanted)
}

fn seeds() -> Vec<Vec<u8>> {
    let recipes = [
        Recipe::llama(),
        Recipe::llama3_1(),
        Recipe::smollm2(),
        Recipe::mistral(),
        Recipe::nemo(),
        Recipe::qwen3(),
        Recipe::gemma3(),
        Recipe::gemma3_scaled(),
        Recipe { layers: 1, ..Recipe::gemma3() }.with_pieces(),
    ];
    let seed = |recipe: Recipe| {
        let mut out = Vec::new();
        for (name, mut content) in recipe.checkpoint() {
            if name.ends_with(".safetensors") {
                let (length, rest) = content.split_first_chunk().expect("it has a length");
                let length = usize::try_from(u64::from_le_bytes(*length)).expect("it is short");
                content = rest[..length].to_vec();
            }
            out.extend([BEGIN, name.as_bytes(), END, &content].concat());
        }
        let taken = one(&out);
        assert!(taken.starts_with("computes"), "a seed that is refused leads nowhere: {taken}");
        out
    };
    recipes.map(seed).to_vec()
}

const BEGIN: &[u8] = b"\n==> ";
const END: &[u8] = b" <==\n";
/// Most bytes of numbers that are added to a table.
const MOST_NUMBERS: u64 = 1 << 20;
