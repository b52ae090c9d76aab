//! What `model pack --folder` packs: the files of a model as hubs publish it, those that the engine reads
//! and no other. A folder also holds examples, older formats of the same weights and a repository's own
//! files, none of which a worker should carry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use chrysalis_vault::{AssetSource, PackFile, PackInput};
use serde::Deserialize;

use crate::exit::{Class, Failure};

/// The bundle of the model in `folder`, named `name`.
pub(crate) fn input(folder: &Path, name: String) -> Result<PackInput<'static>, Failure> {
    let config: Config = json(folder, CONFIG, CONFIG_FAULT)?;
    if !folder.join(TOKENIZER).is_file() {
        let message = format!("{} holds no {TOKENIZER}", folder.display());
        return Err(Failure::new(Class::Malformed, "E-MODEL-FILE", message).next(
            "fetch the model's tokenizer.json too (tokenizer.model is not read), or pack a GGUF file",
        ));
    }
    let mut paths: Vec<String> =
        FILES.iter().filter(|path| folder.join(path).is_file()).map(|p| (*p).to_owned()).collect();
    let chat_template = chat_template(folder)?;
    paths.append(&mut weights(folder)?);
    let open = |path: &String| {
        let file = folder.join(path);
        let mut reader = File::open(&file).map_err(|e| Failure::file("open", &file, &e))?;
        fetched(&mut reader, &file)?;
        Ok(PackFile::new(path.clone(), reader))
    };
    Ok(PackInput {
        name,
        architecture: config.model_type,
        quantisation: config.dtype.or(config.torch_dtype),
        tokenizer: AssetSource::File(TOKENIZER.to_owned()),
        chat_template,
        licence: None,
        files: paths.iter().map(open).collect::<Result<_, Failure>>()?,
    })
}

/// The files with the weights: those that the index names, where there is one. Beside them folders hold
/// the same weights once more, under the names of other programs, and adapters.
fn weights(folder: &Path) -> Result<Vec<String>, Failure> {
    if folder.join(INDEX).is_file() {
        let Index { weight_map } = json(folder, INDEX, "it is no index of shards")?;
        let shards: BTreeSet<String> = weight_map.into_values().collect();
        let strange = |name: &&String| name.contains('/') || !name.ends_with(WEIGHTS);
        if let Some(name) = shards.iter().find(strange) {
            let message = format!("{INDEX} names {name:?}, which is no {WEIGHTS} file beside it");
            return Err(Failure::new(Class::Malformed, "E-MODEL-INDEX", message)
                .next("fetch the index again, or convert the weights to safetensors"));
        }
        if let Some(name) = shards.iter().find(|name| !folder.join(name).is_file()) {
            let message = format!("{} has no {name}, which {INDEX} names", folder.display());
            return Err(Failure::new(Class::Malformed, "E-MODEL-FILE", message)
                .next("fetch that file too; without it the model is not whole"));
        }
        return Ok(shards.into_iter().collect());
    }
    if folder.join(WHOLE).is_file() {
        return Ok(vec![WHOLE.to_owned()]);
    }
    let read = |e: std::io::Error| Failure::file("read", folder, &e);
    let mut weights = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let file = entry.map_err(read)?.file_name().to_string_lossy().into_owned();
        if file.ends_with(WEIGHTS) {
            weights.push(file);
        }
    }
    if weights.is_empty() {
        let message = format!("{} holds no {WEIGHTS} file", folder.display());
        return Err(Failure::new(Class::Malformed, "E-MODEL-FILE", message)
            .next("convert the weights to safetensors, or pack a GGUF file"));
    }
    Ok(weights)
}

/// The file that has the chat template; the engine looks in the same order.
fn chat_template(folder: &Path) -> Result<AssetSource, Failure> {
    if folder.join(TEMPLATE).is_file() {
        return Ok(AssetSource::File(TEMPLATE.to_owned()));
    }
    if !folder.join(TOKENIZER_CONFIG).is_file() {
        return Ok(AssetSource::None);
    }
    let settings: Settings = json(folder, TOKENIZER_CONFIG, "it is no tokenizer's configuration")?;
    let there = match settings.chat_template {
        Some(Templates::One(_)) => true,
        Some(Templates::Named(all)) => all.iter().any(|one| one.name == "default"),
        None => false,
    };
    Ok(if there { AssetSource::File(TOKENIZER_CONFIG.to_owned()) } else { AssetSource::None })
}

/// Refuses a file that Git LFS left in the place of one it did not fetch.
fn fetched(file: &mut File, path: &Path) -> Result<(), Failure> {
    use std::io::Seek as _;
    let unread = |e: std::io::Error| Failure::file("read", path, &e);
    let mut start = Vec::new();
    file.by_ref().take(POINTER.len() as u64).read_to_end(&mut start).map_err(unread)?;
    file.rewind().map_err(unread)?;
    if start != POINTER {
        return Ok(());
    }
    let message = format!("{} is a pointer of Git LFS and not the file itself", path.display());
    Err(Failure::new(Class::Malformed, "E-MODEL-FILE", message)
        .next("run `git lfs pull` in the model's folder"))
}

/// `config.json`, as far as a bundle's manifest repeats it.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    dtype: Option<String>,
    torch_dtype: Option<String>,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    /// The shard of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// `tokenizer_config.json`.
#[derive(Deserialize)]
struct Settings {
    chat_template: Option<Templates>,
}

/// One template, or several by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    Named(Vec<Named>),
    One(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Reads a file of `folder`; `fault` says what it is not.
fn json<T: for<'de> Deserialize<'de>>(
    folder: &Path,
    name: &str,
    fault: &str,
) -> Result<T, Failure> {
    let path = folder.join(name);
    let mut file = File::open(&path).map_err(|e| Failure::file("open", &path, &e))?;
    fetched(&mut file, &path)?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_JSON_BYTES.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|e| Failure::file("read", &path, &e))?;
    let detail = if bytes.len() as u64 > MAX_JSON_BYTES {
        format!("over {MAX_JSON_BYTES} bytes")
    } else {
        match serde_json::from_slice(&bytes) {
            Ok(value) => return Ok(value),
            Err(e) => e.to_string(),
        }
    };
    let message = format!("{}: {fault}: {detail}", path.display());
    Err(Failure::new(Class::Malformed, "E-MODEL-CONFIG", message)
        .next("name the folder of a whole model, as it was published"))
}

const CONFIG: &str = "config.json";
const CONFIG_FAULT: &str = "it is not the config.json of a model";
const INDEX: &str = "model.safetensors.index.json";
const TEMPLATE: &str = "chat_template.jinja";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const WEIGHTS: &str = ".safetensors";
/// The weights of a model that is not cut into shards.
const WHOLE: &str = "model.safetensors";
/// What the engine reads of a folder, beside the weights.
const FILES: [&str; 9] = [
    "1_Pooling/config.json",
    TEMPLATE,
    CONFIG,
    "generation_config.json",
    INDEX,
    "modules.json",
    "sentence_bert_config.json",
    TOKENIZER,
    TOKENIZER_CONFIG,
];
/// Beginning of what Git LFS leaves in the place of a file.
const POINTER: &[u8] = b"version https://git-lfs";
/// Largest file of settings or names that is read here. The index of the largest published mixtures has ten
/// megabytes.
const MAX_JSON_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use chrysalis_vault::Manifest;
    use tempfile::TempDir;

    use super::*;

    const BERT: &str = r#"{"model_type":"bert","torch_dtype":"float32"}"#;

    /// A folder with these files, by path and text.
    fn folder(files: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn packed(files: &[(&str, &str)]) -> Manifest {
        let dir = folder(files);
        let input = input(dir.path(), "m".into()).unwrap();
        chrysalis_vault::pack(input, std::io::sink(), &|_, _| {}).unwrap().manifest
    }

    fn refused(files: &[(&str, &str)]) -> Failure {
        input(folder(files).path(), "m".into()).err().unwrap()
    }

    fn paths(manifest: &Manifest) -> Vec<&str> {
        manifest.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn takes_the_files_that_the_engine_reads_and_leaves_the_others() {
        let manifest = packed(&[
            (CONFIG, BERT),
            (WHOLE, "x"),
            (TOKENIZER, "x"),
            ("1_Pooling/config.json", "x"),
            ("adapter.safetensors", "x"),
            ("pytorch_model.bin", "x"),
            ("README.md", "x"),
            ("onnx/model.onnx", "x"),
            (".gitattributes", "x"),
        ]);
        assert_eq!(paths(&manifest), ["1_Pooling/config.json", CONFIG, WHOLE, TOKENIZER]);
        assert_eq!(manifest.architecture, "bert");
        assert_eq!(manifest.quantisation.as_deref(), Some("float32"));
        assert_eq!(manifest.tokenizer, AssetSource::File(TOKENIZER.into()));
        assert_eq!(manifest.chat_template, AssetSource::None);
        // Weights under a name of their own, where there are no others.
        let own = packed(&[(CONFIG, BERT), (TOKENIZER, "x"), ("own.safetensors", "x")]);
        assert_eq!(paths(&own), [CONFIG, "own.safetensors", TOKENIZER]);
    }

    #[test]
    fn takes_the_shards_that_the_index_names_and_no_other_copy_of_the_weights() {
        let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
        let index = format!(r#"{{"weight_map":{{"a":"{one}","b":"{two}","c":"{one}"}}}}"#);
        let mut files = vec![
            (CONFIG, BERT),
            (TOKENIZER, "x"),
            (INDEX, index.as_str()),
            ("consolidated.safetensors", "x"),
            (one, "x"),
            (two, "x"),
        ];
        assert_eq!(paths(&packed(&files)), [CONFIG, one, two, INDEX, TOKENIZER]);
        files.pop();
        let missing = refused(&files);
        assert_eq!(missing.code, "E-MODEL-FILE");
        assert!(missing.message.contains(two), "{}", missing.message);
        for name in ["../model.safetensors", "model.bin"] {
            let index = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
            let strange = refused(&[(CONFIG, BERT), (TOKENIZER, "x"), (INDEX, &index)]);
            assert_eq!(strange.code, "E-MODEL-INDEX", "{name}");
        }
    }

    #[test]
    fn says_which_file_has_the_chat_template() {
        let with = |settings: &str, more: &[(&str, &str)]| {
            let files =
                [(CONFIG, BERT), (TOKENIZER, "x"), (WHOLE, "x"), (TOKENIZER_CONFIG, settings)];
            packed(&[&files[..], more].concat()).chat_template
        };
        let inside = r#"{"chat_template":"{{ messages }}"}"#;
        assert_eq!(with(inside, &[]), AssetSource::File(TOKENIZER_CONFIG.into()));
        assert_eq!(with(inside, &[(TEMPLATE, "x")]), AssetSource::File(TEMPLATE.into()));
        let named = |name: &str| {
            format!(r#"{{"chat_template":[{{"name":"{name}","template":"{{{{ messages }}}}"}}]}}"#)
        };
        assert_eq!(with(&named("default"), &[]), AssetSource::File(TOKENIZER_CONFIG.into()));
        for none in ["{}", r#"{"chat_template":null}"#, &named("tool_use")] {
            assert_eq!(with(none, &[]), AssetSource::None);
        }
    }

    #[test]
    fn refuses_a_folder_that_lacks_a_file_and_one_whose_files_were_not_fetched() {
        for (files, file) in [
            (vec![(CONFIG, BERT), (TOKENIZER, "x")], WEIGHTS),
            (vec![(CONFIG, BERT), (WHOLE, "x"), ("tokenizer.model", "x")], TOKENIZER),
        ] {
            let refused = refused(&files);
            assert_eq!(refused.code, "E-MODEL-FILE");
            assert!(refused.message.contains(file), "{}", refused.message);
        }
        let pointer = "version https://git-lfs/spec/v1\noid sha256:00\nsize 9\n";
        for path in [CONFIG, TOKENIZER, WHOLE] {
            let mut files = vec![(CONFIG, BERT), (TOKENIZER, "x"), (WHOLE, "x")];
            files.iter_mut().filter(|file| file.0 == path).for_each(|file| file.1 = pointer);
            let refused = refused(&files);
            assert!(refused.next_step.contains("git lfs pull"), "{path}: {}", refused.message);
        }
    }

    #[test]
    fn refuses_a_folder_without_a_config_and_one_that_is_not_a_models() {
        assert_eq!(refused(&[]).code, "E-FILE");
        for text in ["", "{}", "[]"] {
            assert_eq!(refused(&[(CONFIG, text)]).code, "E-MODEL-CONFIG", "{text}");
        }
        let dir = folder(&[(CONFIG, BERT)]);
        let config = fs::File::options().append(true).open(dir.path().join(CONFIG)).unwrap();
        config.set_len(MAX_JSON_BYTES + 1).unwrap();
        let refused = input(dir.path(), "m".into()).err().unwrap();
        assert!(refused.message.contains("over 67108864 bytes"), "{}", refused.message);
    }
}
