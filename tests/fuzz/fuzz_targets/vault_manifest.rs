//! A bundle manifest behind a header that hashes it rightly, so that its rules are reached.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::io::Cursor;

use chrysalis_vault::Bundle;

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let text = |t: &str| [&(t.len() as u32).to_be_bytes()[..], t.as_bytes()].concat();
    let file = |path: &str| [text(path), 1u64.to_be_bytes().to_vec()].concat();
    let head = [&b"CVM1"[..], &text("n"), &text("llama"), &[1], &text("Q4_1"), &[1, 2]].concat();
    let rest = [text("b/c"), vec![0], 2u32.to_be_bytes().to_vec()].concat();
    vec![[head, rest, file("a.gguf"), file("b/c")].concat()]
}

fn one(manifest: &[u8]) -> String {
    let mut bundle = b"CHRYSBDL\0\0\0\x01\0\0\0\0\0\x10\0\0".to_vec();
    bundle.extend((manifest.len() as u32).to_be_bytes());
    // The seed's two files: one byte, padding, one byte.
    bundle.extend(4097u64.to_be_bytes());
    bundle.extend(blake3::derive_key("chrysalis/vault/1/manifest", manifest));
    bundle.resize(160, 0);
    bundle.extend(manifest);
    bundle.resize((bundle.len() + 32 + 4097).next_multiple_of(4096), 0);
    match Bundle::open(Cursor::new(bundle)) {
        Ok(bundle) => {
            let files = &bundle.manifest().files;
            assert!(files.is_sorted_by(|a, b| a.path < b.path) && files.iter().all(|f| f.size > 0));
            let plain = |p: &str| !p.starts_with('/') && !p.split('/').any(|part| part == "..");
            assert!(files.iter().all(|f| plain(&f.path)));
            "opened".to_owned()
        }
        Err(error) => error.code().to_owned(),
    }
}
