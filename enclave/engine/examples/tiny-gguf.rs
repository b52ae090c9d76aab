//! Writes a generated GGUF of a few hundred kilobytes that answers every prompt with the same
//! words, for tests where a real model would take minutes (emulated machines):
//!
//! ```sh
//! cargo run -p chrysalis-engine --features testing --example tiny-gguf -- FILE
//! ```

#![allow(clippy::print_stderr)]

use std::process::ExitCode;

use chrysalis_engine::testing::TinyModel;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: tiny-gguf FILE");
        return ExitCode::from(64);
    };
    let gguf = TinyModel::scripted(&["hello", " from", " inside"]).build();
    match std::fs::write(&path, gguf) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cannot write the model: {e}");
            ExitCode::FAILURE
        }
    }
}
