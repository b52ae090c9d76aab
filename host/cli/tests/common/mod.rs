//! Runs the real binary in a world of its own: a temporary directory, no environment.

#![allow(dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

/// One test's world.
pub struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a file and returns its path as an argument.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self.arg(name)
    }

    pub fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Runs `chrysalis`, the arguments separated by spaces; `@x` is the path of `x` here.
    pub fn run(&self, line: &str) -> Run {
        let arguments = line.split_whitespace().map(|a| match a.strip_prefix('@') {
            Some(name) => self.arg(name),
            None => a.to_owned(),
        });
        let output = self.command().args(arguments).output().unwrap();
        Run { output, line: line.to_owned() }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chrysalis"));
        command.env_clear().env("HOME", self.dir.path()).current_dir(self.dir.path());
        command.timeout(std::time::Duration::from_secs(60));
        command
    }

    /// A world with a packed bundle `m.chrysalis` of three chunks, made from `m.gguf`.
    pub fn with_bundle() -> Self {
        let world = Self::new();
        world.file("m.gguf", gguf());
        world.run("model pack --gguf @m.gguf --out @m.chrysalis").success();
        world
    }

    /// [`World::with_bundle`] and a manifest `w.toml` for it on the simulated network.
    pub fn with_manifest() -> Self {
        let world = Self::with_bundle();
        world.run("manifest init --bundle @m.chrysalis --network sim --out @w.toml").success();
        world
    }

    /// [`World::with_manifest`], simulated pins `pins.toml` for the file `worker`, and
    /// `collateral.json`, which parses and proves nothing.
    pub fn with_pins() -> Self {
        let world = Self::with_manifest();
        world.file("worker", "#!/bin/sh\nexit 0\n");
        world.file("root.hex", fake_root());
        world.run(
            "measure worker --worker @worker --manifest @w.toml --sim-root @root.hex --pins-out @pins.toml",
        )
        .success();
        world.file("collateral.json", collateral());
        world
    }
}

/// What one run gave.
pub struct Run {
    output: Output,
    line: String,
}

impl Run {
    pub fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(code), "{}\n{}", self.line, self.stderr());
        self
    }

    /// The error's code is shown, and so is a next step.
    #[track_caller]
    pub fn says(self, code: &str) -> Self {
        let text = self.stderr();
        assert!(text.contains(&format!("error[{code}]: ")), "{}\n{text}", self.line);
        assert!(text.contains("  next: "), "{}\n{text}", self.line);
        self
    }

    /// Standard output as JSON of `schema`.
    #[track_caller]
    pub fn json(&self, schema: &str) -> Value {
        let value: Value = serde_json::from_str(&self.stdout())
            .unwrap_or_else(|e| panic!("{}: {e}\n{}", self.line, self.stdout()));
        assert_eq!(value["schema"], schema);
        value
    }
}

/// A GGUF file of two and a half mebibytes whose metadata names a tiny Llama.
pub fn gguf() -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    let texts = [
        ("general.architecture", "llama"),
        ("general.name", "Tiny Test 1M"),
        ("general.license", "apache-2.0"),
        ("tokenizer.ggml.model", "gpt2"),
        ("tokenizer.chat_template", "{{ messages }}"),
    ];
    out.extend(3u32.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend((texts.len() as u64).to_le_bytes());
    for (key, value) in texts {
        out.extend((key.len() as u64).to_le_bytes());
        out.extend(key.as_bytes());
        // Value type 8 is a string.
        out.extend(8u32.to_le_bytes());
        out.extend((value.len() as u64).to_le_bytes());
        out.extend(value.as_bytes());
    }
    // Weights that differ from chunk to chunk.
    out.extend((0..(5u32 << 17)).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()));
    out
}

/// Turns over one bit of a file.
pub fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

pub fn fake_root() -> String {
    let fixture = "../measure/tests/fixtures/fake-root.hex";
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture)).unwrap()
}

/// A bundle with every field a collateral has, and nothing in them.
pub fn collateral() -> String {
    serde_json::json!({
        "schema": "chrysalis/collateral/v1",
        "collateral": {
            "pck_crl_issuer_chain": "", "root_ca_crl": "", "pck_crl": "",
            "tcb_info_issuer_chain": "", "tcb_info": "", "tcb_info_signature": "",
            "qe_identity_issuer_chain": "", "qe_identity": "", "qe_identity_signature": "",
        },
    })
    .to_string()
}
