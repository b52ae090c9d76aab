//! Header, manifest, leaf table and chunks of a bundle: what loads is what was packed.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::io::Cursor;

use chrysalis_vault::{
    AssetSource, Bundle, ModelKey, PackFile, PackInput, pack, pack_sealed, verify,
};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let (mut plain, mut sealed) = (Vec::new(), Vec::new());
    pack(input(), &mut plain, &|_, _| ()).expect("a small bundle");
    pack_sealed(input(), &mut sealed, &key(), [2; 32], &|_, _| ()).expect("a small bundle");
    vec![plain, sealed]
}

fn one(data: &[u8]) -> String {
    let bundle = match Bundle::open(Cursor::new(data)) {
        Ok(bundle) => bundle,
        Err(error) => return error.code().to_owned(),
    };
    let (root, key) = (bundle.root(), bundle.is_sealed().then(key));
    let report = verify(Cursor::new(data), key.as_ref(), &|_, _| ());
    match bundle.load(&root, key.as_ref(), &|_, _| ()) {
        Ok(weights) => {
            assert!(report.is_ok_and(|r| r.intact && r.model_root == root));
            let files = weights.manifest().files.iter().map(|f| f.size);
            assert_eq!(
                weights.files().map(|(_, b)| b.len() as u64).sum::<u64>(),
                files.sum::<u64>()
            );
            "loaded".to_owned()
        }
        Err(error) => {
            assert!(!report.is_ok_and(|r| r.intact));
            error.code().to_owned()
        }
    }
}

fn key() -> ModelKey {
    ModelKey::from_bytes(&[1; 32]).expect("32 bytes")
}

fn input() -> PackInput<'static> {
    PackInput {
        name: "Seed".to_owned(),
        architecture: "llama".to_owned(),
        quantisation: None,
        tokenizer: AssetSource::Gguf,
        chat_template: AssetSource::File("t.txt".to_owned()),
        licence: Some("MIT".to_owned()),
        files: vec![
            PackFile::new("m.gguf", Cursor::new(&[1, 2, 3])),
            PackFile::new("t.txt", Cursor::new(b"{{ x }}")),
        ],
    }
}
