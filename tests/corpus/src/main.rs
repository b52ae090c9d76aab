//! `chrysalis-corpus DIR`: writes the corpus, `DIR/<stage>/<nnn-name>/…`, over what is there. It reads
//! nothing and trusts nothing.

use std::io::{Error, Result};
use std::path::PathBuf;

fn main() -> Result<()> {
    let usage = || Error::other("usage: chrysalis-corpus DIR");
    let dir: PathBuf = std::env::args_os().nth(1).ok_or_else(usage)?.into();
    for stage in chrysalis_corpus::corpus() {
        let root = dir.join(stage.name());
        if root.exists() {
            std::fs::remove_dir_all(&root)?;
        }
        for file in chrysalis_corpus::render(&stage) {
            let path = dir.join(&file.path);
            std::fs::create_dir_all(path.parent().ok_or_else(usage)?)?;
            std::fs::write(&path, &file.text)?;
        }
    }
    Ok(())
}
