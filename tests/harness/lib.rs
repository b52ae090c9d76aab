//! Shared test harness: the built binaries, the real model, and one world (bundle, manifest,
//! pins, collateral) that every end-to-end test starts workers from.
//!
//! Tests are parallel-safe: each worker listens on a port the kernel picks and keeps its state in
//! a directory of its own, removed with the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::missing_panics_doc
)]

pub mod small_image;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest a worker may take from start to ready in a test.
pub const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// A command that ended: its exit code and what it printed.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Panics with the end of what was printed unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "exit code\n--- stdout\n{}\n--- stderr\n{}",
            last_lines(&self.stdout),
            last_lines(&self.stderr)
        );
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("stdout is not JSON ({e}): {}", self.stdout))
    }
}

/// Lines of an output that a failed test shows: enough for what went wrong, and few enough that the
/// logs of CI keep them.
const SHOWN_LINES: usize = 40;

/// The last lines of `text`, and how many came before them.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let hidden = lines.len().saturating_sub(SHOWN_LINES);
    let shown = lines[hidden..].join("\n");
    if hidden == 0 { shown } else { format!("[{hidden} lines before]\n{shown}") }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A binary of this workspace, built by `cargo build --workspace`.
#[must_use]
pub fn bin(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().find(|p| p.ends_with("debug") || p.ends_with("release"));
    let path = target.expect("tests run from the target directory").join(name);
    assert!(path.exists(), "{} is not built; run `cargo build --workspace`", path.display());
    path
}

/// Runs `chrysalis` with `args`.
#[track_caller]
pub fn chrysalis<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    Command::new(bin("chrysalis"))
        .args(args)
        // Where supervisors leave word of who is paid: a place of this process's own.
        .env("XDG_STATE_HOME", bin("chrysalis").with_file_name("tests-state").join(own_number()))
        .stdin(Stdio::null())
        .output()
        .expect("chrysalis starts")
        .into()
}

fn own_number() -> String {
    std::process::id().to_string()
}

/// The default model, or `None` with a printed reason where it may be absent.
///
/// Under `scripts/test` (and in CI) it must be there.
#[must_use]
pub fn model() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHRYSALIS_MODEL_GGUF") {
        return Some(path.into());
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let cache = std::env::var_os("CHRYSALIS_CACHE")
        .map_or_else(|| home().join(".cache/chrysalis"), PathBuf::from);
    let path = cache.join("models/smollm2-135m-instruct-q4_1.gguf");
    if path.exists() {
        return Some(path);
    }
    let required = ["CI", "CHRYSALIS_REQUIRE_MODEL"].iter().any(|v| std::env::var_os(v).is_some());
    assert!(!required, "the default model is missing; run scripts/fetch-model");
    None
}

/// The folder of the embedding model, or `None` with a printed reason where it may be absent, as
/// [`model`].
#[must_use]
pub fn embedding_model() -> Option<PathBuf> {
    let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = || env("CHRYSALIS_CACHE").or_else(|| Some(env("HOME")?.join(".cache/chrysalis")));
    let path = env("CHRYSALIS_EMBEDDING_MODEL")
        .or_else(|| Some(cache()?.join("models/all-minilm-l6-v2")))
        .filter(|path| path.join("model.safetensors").is_file());
    if path.is_none() {
        let required = ["CI", "CHRYSALIS_REQUIRE_MODEL"].iter().any(|v| env(v).is_some());
        assert!(
            !required,
            "the embedding model is missing; run scripts/fetch-model all-minilm-l6-v2"
        );
        println!(
            "skipped: the embedding model is not here; run scripts/fetch-model all-minilm-l6-v2"
        );
    }
    path
}

/// Bundle, manifest, pins and collateral of the real model, made once per test process.
pub struct World {
    dir: TempDir,
}

impl World {
    /// The world, or `None` (printed) without the model.
    #[must_use]
    pub fn get() -> Option<&'static Self> {
        static WORLD: OnceLock<Option<World>> = OnceLock::new();
        let world = WORLD.get_or_init(Self::make);
        if world.is_none() {
            println!("skipped: the default model is not here; run scripts/fetch-model");
        }
        world.as_ref()
    }

    fn make() -> Option<Self> {
        let gguf = model()?;
        let world = Self { dir: TempDir::new().unwrap() };
        let sim = bin("chrysalis-worker-sim");
        for (what, file) in [("root", "sim-root.hex"), ("collateral", "collateral.json")] {
            let out: Ran = Command::new(&sim)
                .args(["sim", what, "--out"])
                .arg(world.path(file))
                .output()
                .unwrap()
                .into();
            out.expect_code(0);
        }
        let bundle = world.path("model.chrysalis");
        chrysalis([
            "model".as_ref(),
            "pack".as_ref(),
            "--gguf".as_ref(),
            gguf.as_os_str(),
            "--name".as_ref(),
            "smollm2-135m-instruct".as_ref(),
            "--out".as_ref(),
            bundle.as_os_str(),
        ])
        .expect_code(0);
        world.pin(&bundle, "worker.toml", "pins.toml");
        Some(world)
    }

    /// Writes a manifest for `bundle` and pins for it.
    pub fn pin(&self, bundle: &Path, manifest: &str, pins: &str) {
        let manifest = self.path(manifest);
        chrysalis([
            "manifest".as_ref(),
            "init".as_ref(),
            "--bundle".as_ref(),
            bundle.as_os_str(),
            "--network".as_ref(),
            "sim".as_ref(),
            "--out".as_ref(),
            manifest.as_os_str(),
        ])
        .expect_code(0);
        self.measure(&manifest, pins);
    }

    /// Predicts the worker with `manifest` and writes pins.
    pub fn measure(&self, manifest: &Path, pins: &str) {
        chrysalis([
            "measure".as_ref(),
            "worker".as_ref(),
            "--worker".as_ref(),
            bin("chrysalis-worker-sim").as_os_str(),
            "--manifest".as_ref(),
            manifest.as_os_str(),
            "--sim-root".as_ref(),
            self.path("sim-root.hex").as_os_str(),
            "--pins-out".as_ref(),
            self.path(pins).as_os_str(),
        ])
        .expect_code(0);
    }

    /// A file of the world.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `--pins … --collateral … --insecure-sim`.
    #[must_use]
    pub fn trust(&self) -> Vec<String> {
        self.trust_with("pins.toml")
    }

    /// The same with another pins file of the world.
    #[must_use]
    pub fn trust_with(&self, pins: &str) -> Vec<String> {
        vec![
            "--pins".into(),
            self.path(pins).display().to_string(),
            "--collateral".into(),
            self.path("collateral.json").display().to_string(),
            "--insecure-sim".into(),
        ]
    }
}

/// A worker behind its loader; stopped when dropped.
pub struct Running {
    /// State directory of the loader.
    pub state: TempDir,
    /// Public address of the relay.
    pub address: String,
}

impl Running {
    /// Starts the world's worker and waits until it is ready.
    #[track_caller]
    #[must_use]
    pub fn start(world: &World) -> Self {
        let (running, ran) =
            Self::try_start(world, &world.path("worker.toml"), &world.path("model.chrysalis"));
        ran.expect_code(0);
        running.expect("a worker that is ready has an address")
    }

    /// Starts a worker and returns what `chrysalis up` said.
    #[must_use]
    pub fn try_start(world: &World, manifest: &Path, bundle: &Path) -> (Option<Self>, Ran) {
        Self::try_start_with(world, manifest, bundle, &[])
    }

    /// The same with more arguments of `chrysalis up`.
    #[must_use]
    pub fn try_start_with(
        world: &World,
        manifest: &Path,
        bundle: &Path,
        extra: &[String],
    ) -> (Option<Self>, Ran) {
        let state = TempDir::new().unwrap();
        let mut args = up_args(world, manifest, bundle, state.path());
        args.extend(extra.iter().map(PathBuf::from));
        let ran = chrysalis(args);
        if ran.code != 0 {
            return (None, ran);
        }
        let address = address_of(state.path());
        (Some(Self { state, address }), ran)
    }

    /// Runs `chrysalis ask` against this worker.
    #[must_use]
    pub fn ask(&self, world: &World, extra: &[&str], prompt: &str) -> Ran {
        let mut args = vec!["ask".to_owned(), "--worker".into(), self.address.clone()];
        args.extend(world.trust());
        args.extend(extra.iter().map(|s| (*s).to_owned()));
        args.push("--state".into());
        args.push(self.state.path().display().to_string());
        args.push(prompt.into());
        chrysalis(args)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        chrysalis(["down".as_ref(), "--state".as_ref(), self.state.path().as_os_str()]);
    }
}

/// Arguments of `chrysalis up` for `manifest` and `bundle`.
#[must_use]
pub fn up_args(world: &World, manifest: &Path, bundle: &Path, state: &Path) -> Vec<PathBuf> {
    vec![
        "up".into(),
        "--worker".into(),
        bin("chrysalis-worker-sim"),
        "--manifest".into(),
        manifest.into(),
        "--bundle".into(),
        bundle.into(),
        "--collateral".into(),
        world.path("collateral.json"),
        "--listen".into(),
        "127.0.0.1:0".into(),
        "--state".into(),
        state.into(),
    ]
}

/// The relay's address, from `chrysalis status --format json`.
#[must_use]
pub fn address_of(state: &Path) -> String {
    status(state)["listen"].as_str().expect("status names the address").to_owned()
}

/// The run of the loader in `state`, from `chrysalis status --format json`; null if there is none.
#[must_use]
pub fn status(state: &Path) -> serde_json::Value {
    let mut body = chrysalis([
        "status".as_ref(),
        "--format".as_ref(),
        "json".as_ref(),
        "--state".as_ref(),
        state.as_os_str(),
    ])
    .expect_code(0)
    .json();
    body["run"].take()
}

/// Polls `probe` until it returns a value or `limit` is over.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A child that is killed when dropped.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Every regular file under `dir` with its bytes.
#[must_use]
pub fn files_under(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(files_under(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            out.push((path, bytes));
        }
    }
    out
}
