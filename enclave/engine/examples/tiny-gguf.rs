//! Writes a generated GGUF of a few hundred kilobytes. It answers every prompt with the same words, for
//! tests where a real model would take minutes (emulated machines); or, with the name of a recipe, it
//! is a model of that family with random weights, for comparing engines:
//!
//! ```sh
//! cargo run -p chrysalis-engine --features testing --example tiny-gguf -- FILE ["gemma 3"]
//! ```

#![allow(clippy::print_stderr)]

use std::process::ExitCode;

use chrysalis_engine::testing::{Recipe, TinyModel};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: tiny-gguf FILE [RECIPE]");
        return ExitCode::from(64);
    };
    let gguf = match std::env::args().nth(2) {
        None => TinyModel::scripted(&["hello", " from", " inside"]).build(),
        Some(name) => {
            let Some(recipe) = Recipe::all().into_iter().find(|recipe| recipe.name == name) else {
                eprintln!("{name:?} is none of {:?}", Recipe::all().map(|recipe| recipe.name));
                return ExitCode::from(64);
            };
            recipe.build()
        }
    };
    match std::fs::write(&path, gguf) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cannot write the model: {e}");
            ExitCode::FAILURE
        }
    }
}
