//! Model files: header, metadata, tensors and tokenizer of a GGUF file as the engine reads it. One that is
//! taken computes; any other is refused with a typed error.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::num::NonZeroUsize;

use chrysalis_engine::EngineError;
use chrysalis_engine::testing::{Probe, Recipe, TinyModel, text};
use chrysalis_fuzz::variant;

chrysalis_fuzz::target!(seeds, one);

/// An input is the header; the numbers behind it are added, or they would be most of what is changed.
fn load(header: &[u8]) -> Result<Probe, EngineError> {
    let mut file = header.to_vec();
    // One as `F16`, and small as `BF16` and `F32`.
    file.extend([0x00, 0x3c].into_iter().cycle().take(NUMBERS));
    Probe::load_with(&file, NonZeroUsize::new(1))
}

fn one(data: &[u8]) -> String {
    let probe = match load(data) {
        Ok(probe) => probe,
        Err(EngineError::Model(error)) => return variant(&error),
        Err(EngineError::Template(error)) => return variant(&error),
        Err(error) => panic!("a model is not refused so: {error}"),
    };
    let mut ids = match probe.ids(&text("Hello, hello!")) {
        Ok(ids) => ids,
        Err(error) => return format!("taken, but {}", variant(&error)),
    };
    ids.truncate(8);
    match probe.session().feed(&ids, 3) {
        Ok(logits) => {
            assert!(!logits.is_empty());
            format!("computes {}", logits.iter().all(|logit| logit.is_finite()))
        }
        Err(error) => format!("taken, but {}", variant(&error)),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = Recipe::all().iter().map(Recipe::build).collect();
    files.push(Recipe { layers: 1, ..Recipe::gemma3() }.with_pieces().build());
    files.push(TinyModel::random(1).build());
    // The shortest beginning that loads is the header.
    let header = |file: &Vec<u8>| {
        let (mut short, mut long) = (0, file.len());
        assert!(load(file).is_ok(), "a seed that is refused leads nowhere");
        while long - short > 1 {
            let middle = usize::midpoint(short, long);
            if load(&file[..middle]).is_ok() { long = middle } else { short = middle }
        }
        file[..long].to_vec()
    };
    files.iter().map(header).collect()
}

/// Bytes of numbers behind a header: more than the tensors of a seed have.
const NUMBERS: usize = 1 << 20;
