//! A text model as hubs publish it, from its folder to a verified receipt: packed, inspected, measured,
//! served, asked. It answers as the GGUF file of the same weights does. The models are small, with
//! random weights: what they say is nonsense, and the same nonsense each time.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use chrysalis_engine::testing::Recipe;
use chrysalis_tests::{READY_TIMEOUT, Ran, Running, World, chrysalis, eventually, status};
use tempfile::TempDir;

const PROMPT: &str = "hello, who is there?";

/// One model as a checkpoint and as a GGUF file.
struct Model {
    dir: TempDir,
    folder: PathBuf,
}

impl Model {
    fn write(recipe: Recipe, name: &str) -> Self {
        let recipe = recipe.quantised(GgmlDType::BF16);
        let dir = TempDir::new().unwrap();
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        for (path, bytes) in recipe.checkpoint() {
            fs::write(folder.join(path), bytes).unwrap();
        }
        // What else lies in such folders.
        fs::write(folder.join("README.md"), "not the model").unwrap();
        fs::write(folder.join("consolidated.safetensors"), "other names").unwrap();
        fs::write(dir.path().join("model.gguf"), recipe.build()).unwrap();
        Self { dir, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Packs the folder, or the GGUF file.
    fn pack(&self, from: &str, bundle: &str, more: &[&Path]) -> PathBuf {
        let source = if from == "--folder" { self.folder.clone() } else { self.path("model.gguf") };
        let bundle = self.path(bundle);
        let mut args: Vec<&Path> = ["model", "pack", from].map(Path::new).into();
        args.extend([&*source, Path::new("--out"), &*bundle]);
        args.extend(more);
        chrysalis(args).expect_code(0);
        bundle
    }
}

/// A worker of its own with pins for it.
struct Served {
    worker: Running,
    pins: String,
}

impl Served {
    fn start(world: &World, bundle: &Path, name: &str) -> Self {
        let (manifest, pins) = (format!("{name}.toml"), format!("{name}-pins.toml"));
        world.pin(bundle, &manifest, &pins);
        let (worker, ran) = Running::try_start(world, &world.path(&manifest), bundle);
        ran.expect_code(0);
        Self { worker: worker.unwrap(), pins }
    }

    fn ask(&self, world: &World) -> Ran {
        let mut args = vec!["ask".to_owned(), "--worker".into(), self.worker.address.clone()];
        args.extend(world.trust_with(&self.pins));
        args.extend(
            ["--max-tokens", "16", "--temperature", "0", "--keep-transcript"].map(Into::into),
        );
        args.extend(["--state".into(), self.worker.state.path().display().to_string()]);
        args.push(PROMPT.into());
        chrysalis(args).expect_code(0)
    }

    /// What the worker says, with a receipt that verifies offline.
    fn answer(&self, world: &World) -> String {
        let answer = self.ask(world).stdout;
        let receipts = fs::read_dir(self.worker.state.path().join("receipts")).unwrap();
        let mut receipts = receipts.map(|entry| entry.unwrap().path());
        let receipt = receipts.find(|path| path.extension().is_some_and(|end| end == "json"));
        let mut args = vec!["receipt".to_owned(), "verify".into()];
        args.push(receipt.expect("the receipt is kept").display().to_string());
        args.extend(world.trust_with(&self.pins));
        let verified = chrysalis(args).expect_code(0).stdout;
        for id in ["signature", "request", "response", "tokens", "amount"] {
            assert!(verified.contains(&format!("PASS  {id}")), "{id}: {verified}");
        }
        answer
    }
}

#[test]
fn a_checkpoint_is_packed_verified_served_and_answers_as_its_gguf_file_does() {
    let Some(world) = World::get() else { return };
    for (recipe, name, architecture) in [
        (Recipe::qwen3(), "Tiny-Qwen3-0.6B", "qwen3"),
        (Recipe::qwen3_moe(), "tiny-qwen3-moe", "qwen3_moe"),
    ] {
        let model = Model::write(recipe, name);
        let bundle = model.pack("--folder", "folder.chrysalis", &[]);

        let shown = chrysalis(
            ["--format", "json", "model", "inspect"].map(Path::new).into_iter().chain([&*bundle]),
        );
        let shown = shown.expect_code(0).json();
        let manifest = &shown["manifest"];
        assert_eq!(manifest["name"], name, "the folder's whole name");
        assert_eq!(manifest["architecture"], architecture);
        let paths: Vec<&str> = manifest["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["path"].as_str().unwrap())
            .collect();
        let expected = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(paths, expected);
        let root = shown["model_root"].as_str().unwrap();
        let verify = ["model", "verify", bundle.to_str().unwrap(), "--root", root];
        assert!(chrysalis(verify).expect_code(0).stdout.contains("INTACT"));

        let of_folder = Served::start(world, &bundle, &format!("{name}-folder"));
        let gguf = model.pack("--gguf", "gguf.chrysalis", &[]);
        let of_gguf = Served::start(world, &gguf, &format!("{name}-gguf"));
        let answer = of_folder.answer(world);
        assert!(!answer.trim().is_empty());
        assert_eq!(answer, of_gguf.answer(world), "{name}");
    }
}

#[test]
fn a_sealed_checkpoint_is_served_after_its_grant_and_answers_as_the_open_one_does() {
    let Some(world) = World::get() else { return };
    let model = Model::write(Recipe::gemma3(), "tiny-gemma");
    let key = model.path("key");
    chrysalis(["model", "keygen", "--out", key.to_str().unwrap()]).expect_code(0);
    let sealed = model.pack("--folder", "sealed.chrysalis", &[Path::new("--seal-key"), &key]);
    let open = model.pack("--folder", "open.chrysalis", &[]);
    let served = Served::start(world, &sealed, "tiny-gemma-sealed");
    let mut grant = vec!["model".to_owned(), "grant".into()];
    grant.extend(["--worker".into(), served.worker.address.clone()]);
    grant.extend(world.trust_with(&served.pins));
    for (flag, path) in [("--bundle", &sealed), ("--key", &key)] {
        grant.extend([flag.to_owned(), path.display().to_string()]);
    }
    chrysalis(grant).expect_code(0);
    eventually(READY_TIMEOUT, "the worker becomes ready after the grant", || {
        (status(served.worker.state.path())["phase"] == "ready").then_some(())
    });
    let open = Served::start(world, &open, "tiny-gemma-open");
    assert_eq!(served.answer(world), open.answer(world));
}

#[test]
fn a_checkpoint_that_would_be_computed_wrongly_is_refused_at_boot_with_what_to_do() {
    let Some(world) = World::get() else { return };
    let model = Model::write(Recipe::qwen3(), "strange");
    let config = model.folder.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let yarn = text.replace("\"rope_scaling\":null", "\"rope_scaling\":{\"rope_type\":\"yarn\"}");
    assert_ne!(yarn, text);
    fs::write(&config, yarn).unwrap();
    let bundle = model.pack("--folder", "strange.chrysalis", &[]);
    world.pin(&bundle, "strange.toml", "strange-pins.toml");
    let (worker, ran) = Running::try_start(world, &world.path("strange.toml"), &bundle);
    assert!(worker.is_none());
    let said = ran.expect_code(10).stderr;
    for words in
        ["error[E-MODEL-FEATURE]", "boot stage model", "checkpoints of Llama, Mistral, Qwen3"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
}
