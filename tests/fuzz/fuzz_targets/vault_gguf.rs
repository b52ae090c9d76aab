//! Metadata of a GGUF file: no length or count in it is followed past a limit.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_vault::GgufFacts;

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let string = |t: &str| [&(t.len() as u64).to_le_bytes()[..], t.as_bytes()].concat();
    let entry = |key: &str, kind: u32, value: &[u8]| {
        [&string(key)[..], &kind.to_le_bytes(), value].concat()
    };
    let array = [&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &string("a"), &string("b")].concat();
    let entries = [
        entry("general.architecture", 8, &string("llama")),
        entry("general.file_type", 4, &15u32.to_le_bytes()),
        entry("tokenizer.ggml.tokens", 9, &array),
        entry("tokenizer.chat_template", 8, &string("{{ x }}")),
    ];
    let head = [&b"GGUF"[..], &3u32.to_le_bytes(), &7u64.to_le_bytes(), &4u64.to_le_bytes()];
    vec![[head.concat(), entries.concat()].concat()]
}

fn one(data: &[u8]) -> String {
    match GgufFacts::read(data) {
        Ok(facts) => facts.quantisation().map_or_else(|| "read".to_owned(), |_| "typed".to_owned()),
        Err(error) => error.code().to_owned(),
    }
}
