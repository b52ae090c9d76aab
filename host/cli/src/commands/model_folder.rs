//! What `model pack --folder` packs: the files of a model as hubs publish it, those that the engine reads
//! and no other. A folder also holds examples, older formats of the same weights and a repository's own
//! files, none of which a worker should carry.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use chrysalis_vault::{AssetSource, PackFile, PackInput};
use serde::Deserialize;

use crate::exit::{Class, Failure};

/// The bundle of the model in `folder`, named `name`.
pub(crate) fn input(folder: &Path, name: String) -> Result<PackInput<'static>, Failure> {
    let config = config(&folder.join(CONFIG))?;
    let mut paths: Vec<String> =
        FILES.iter().filter(|path| folder.join(path).is_file()).map(|p| (*p).to_owned()).collect();
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
    paths.append(&mut weights);
    let source = |path: &str| match paths.iter().any(|known| known == path) {
        true => AssetSource::File(path.to_owned()),
        false => AssetSource::None,
    };
    let (tokenizer, chat_template) = (source("tokenizer.json"), source("chat_template.jinja"));
    let open = |path: &String| {
        let file = folder.join(path);
        let reader = File::open(&file).map_err(|e| Failure::file("open", &file, &e))?;
        Ok(PackFile::new(path.clone(), reader))
    };
    Ok(PackInput {
        name,
        architecture: config.model_type,
        quantisation: config.dtype.or(config.torch_dtype),
        tokenizer,
        chat_template,
        licence: None,
        files: paths.iter().map(open).collect::<Result<_, Failure>>()?,
    })
}

/// `config.json`, as far as a bundle's manifest repeats it.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    dtype: Option<String>,
    torch_dtype: Option<String>,
}

fn config(path: &Path) -> Result<Config, Failure> {
    let file = File::open(path).map_err(|e| Failure::file("open", path, &e))?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_CONFIG_BYTES.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|e| Failure::file("read", path, &e))?;
    let fault = if bytes.len() as u64 > MAX_CONFIG_BYTES {
        format!("over {MAX_CONFIG_BYTES} bytes")
    } else {
        match serde_json::from_slice(&bytes) {
            Ok(config) => return Ok(config),
            Err(e) => e.to_string(),
        }
    };
    let message = format!("{} is not that of a model: {fault}", path.display());
    Err(Failure::new(Class::Malformed, "E-MODEL-CONFIG", message)
        .next("name the folder that holds the model's config.json"))
}

const CONFIG: &str = "config.json";
const WEIGHTS: &str = ".safetensors";
/// What the engine reads of a folder, beside the weights.
const FILES: [&str; 9] = [
    "1_Pooling/config.json",
    "chat_template.jinja",
    CONFIG,
    "generation_config.json",
    "model.safetensors.index.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
];
/// Largest `config.json`. Those of published models have a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn takes_the_files_that_the_engine_reads_and_leaves_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(CONFIG, r#"{"model_type":"bert","torch_dtype":"float32"}"#);
        assert_eq!(input(dir.path(), "m".into()).err().unwrap().code, "E-MODEL-FILE");
        for path in ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"] {
            write(path, "x");
        }
        for path in ["pytorch_model.bin", "README.md", "onnx/model.onnx", ".gitattributes"] {
            write(path, "x");
        }
        let packed = input(dir.path(), "m".into()).unwrap();
        let report = chrysalis_vault::pack(packed, std::io::sink(), &|_, _| {}).unwrap();
        let manifest = report.manifest;
        let paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
        let expected = ["1_Pooling/config.json", CONFIG, "model.safetensors", "tokenizer.json"];
        assert_eq!(paths, expected);
        assert_eq!(manifest.architecture, "bert");
        assert_eq!(manifest.quantisation.as_deref(), Some("float32"));
        assert_eq!(manifest.tokenizer, AssetSource::File("tokenizer.json".into()));
    }

    #[test]
    fn refuses_a_folder_without_a_config_and_one_that_is_not_a_models() {
        let dir = tempfile::tempdir().unwrap();
        assert!(input(dir.path(), "m".into()).is_err());
        for text in ["", "{}", "[]", &format!("{{\"model_type\":\"bert\"}}{}", " ".repeat(1 << 20))]
        {
            fs::write(dir.path().join(CONFIG), text).unwrap();
            let refused = input(dir.path(), "m".into()).err().unwrap();
            assert_eq!(refused.code, "E-MODEL-CONFIG", "{}", text.len());
        }
    }
}
