//! A tokenizer's file, and a text behind it: what is read gives ids of its vocabulary, within the limit,
//! and takes them back. The file ends at the first zero byte.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_wordpiece::{TextError, Tokenizer};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let file = |post: &str, vocab: &str| {
        format!(
            r###"{{"added_tokens":[{{"id":0,"content":"[C]","special":true}}],"normalizer":{{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}},"pre_tokenizer":{{"type":"BertPreTokenizer"}},"post_processor":{post},"model":{{"type":"WordPiece","unk_token":"[U]","continuing_subword_prefix":"##","max_input_chars_per_word":9,"vocab":{vocab}}}}}"###
        )
    };
    let vocab = r###"{"[C]":0,"[S]":1,"[U]":2,"a":3,"##b":4,"ab":5,"\u4e00":6,"!":7}"###;
    let plain = r#"{"type":"BertProcessing","sep":["[S]",1],"cls":["[C]",0]}"#;
    let template = r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[C]","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[S]","type_id":0}}]}"#;
    let texts = ["abb a!", "\u{c4}b\u{308} \u{4e00}\u{d55c} [C] aaaaaaaaaaaaaaaaaa"];
    [(plain, texts[0]), (template, texts[1])]
        .map(|(post, text)| [file(post, vocab).as_bytes(), b"\0", text.as_bytes()].concat())
        .to_vec()
}

fn one(data: &[u8]) -> String {
    let cut = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (file, text) = data.split_at(cut);
    let tokenizer = match Tokenizer::parse(file) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return chrysalis_fuzz::variant(&error),
    };
    let text = String::from_utf8_lossy(text.get(1..).unwrap_or_default());
    match tokenizer.encode(&text, LIMIT) {
        Ok(ids) => {
            assert!((2..=LIMIT).contains(&ids.len()));
            assert!(ids.iter().all(|id| *id < tokenizer.vocabulary()));
            let again = tokenizer.surround(&ids[1..ids.len() - 1], LIMIT);
            // A file may name a token of words as one that stands around them.
            assert!(again.is_err() || again.as_ref() == Ok(&ids));
            format!("{}", ids.len().min(8))
        }
        Err(error) => {
            assert_eq!(error, TextError::TooLong { limit: LIMIT });
            chrysalis_fuzz::variant(&error)
        }
    }
}

/// Most tokens.
const LIMIT: usize = 64;
