//! WordPiece against known cases, and against the reference implementation over random ones.

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::tokenizer::{
    NormalizedString, Normalizer as _, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer as _,
};

use crate::words::{Rules, Word};
use crate::{FileError, MAX_FILE_BYTES, MAX_WORD_CHARS, TextError, Tokenizer};

const CONTROLS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const UNK: u32 = 1;
const CLS: u32 = 2;
const SEP: u32 = 3;

/// A file whose vocabulary is the control tokens and then `tokens`.
fn file(tokens: &[&str]) -> Value {
    let vocab: serde_json::Map<String, Value> = CONTROLS
        .iter()
        .chain(tokens)
        .enumerate()
        .map(|(id, text)| ((*text).to_owned(), id.into()))
        .collect();
    let added: Vec<Value> = CONTROLS
        .iter()
        .enumerate()
        .map(|(id, text)| {
            json!({ "id": id, "content": text, "special": true, "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false })
        })
        .collect();
    let special = |id: &str| json!({ "SpecialToken": { "id": id, "type_id": 0 } });
    let ids = |id: &str, n: u32| json!({ "id": id, "ids": [n], "tokens": [id] });
    json!({
        "version": "1.0", "truncation": { "max_length": 4, "strategy": "LongestFirst", "stride": 0 },
        "padding": null, "added_tokens": added,
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                        "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "TemplateProcessing",
            "single": [special("[CLS]"), { "Sequence": { "id": "A", "type_id": 0 } }, special("[SEP]")],
            "pair": [], "special_tokens": { "[CLS]": ids("[CLS]", CLS), "[SEP]": ids("[SEP]", SEP) } },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": vocab },
    })
}

fn parse(file: &Value) -> Result<Tokenizer, FileError> {
    Tokenizer::parse(file.to_string().as_bytes())
}

fn tokenizer(tokens: &[&str]) -> Tokenizer {
    parse(&file(tokens)).unwrap()
}

/// The tokens of `text` by name, without those around it.
fn cut(tokens: &[&str], text: &str) -> Vec<String> {
    let ids = tokenizer(tokens).encode(text, usize::MAX).unwrap();
    assert_eq!((ids[0], ids[ids.len() - 1]), (CLS, SEP));
    let name = |id: &u32| CONTROLS.iter().chain(tokens).nth(*id as usize).unwrap().to_string();
    ids[1..ids.len() - 1].iter().map(name).collect()
}

/// The example of the BERT repository.
#[test]
fn takes_the_longest_piece_that_a_word_begins_with_and_then_goes_on_with() {
    let tokens = ["want", "##want", "##ed", "wa", "un", "runn", "##ing", ",", "low", "lowest"];
    assert_eq!(
        cut(&tokens, "UNwant\u{e9}d,running"),
        ["un", "##want", "##ed", ",", "runn", "##ing"]
    );
    assert_eq!(cut(&tokens, "lowest low"), ["lowest", "low"]);
    assert_eq!(cut(&tokens, " \t\n"), Vec::<String>::new());
}

#[test]
fn a_word_that_cannot_be_spelled_to_its_end_is_one_unknown_token() {
    let tokens = ["un", "##want", "a"];
    assert_eq!(cut(&tokens, "unwantX a unwant"), ["[UNK]", "a", "un", "##want"]);
}

#[test]
fn a_word_of_a_hundred_characters_is_looked_up_and_one_more_is_unknown() {
    let tokens = ["a", "##a"];
    assert_eq!(cut(&tokens, &"a".repeat(100)).len(), 100);
    assert_eq!(cut(&tokens, &"a".repeat(101)), ["[UNK]"]);
    assert_eq!(cut(&tokens, &format!("{} a", "ä".repeat(1 << 20))), ["[UNK]", "a"]);
}

#[test]
fn the_name_of_a_control_token_in_a_text_is_text() {
    let tokens = ["[", "]", "cl", "##s", "sep"];
    assert_eq!(cut(&tokens, "[CLS] [SEP]"), ["[", "cl", "##s", "]", "[", "sep", "]"]);
}

#[test]
fn refuses_one_token_more_than_the_limit_however_the_text_is_given() {
    let tokenizer = tokenizer(&["a"]);
    let too_long = |limit| Err(TextError::TooLong { limit });
    assert_eq!(tokenizer.encode("a a a", 5).unwrap().as_slice(), [CLS, 5, 5, 5, SEP]);
    assert_eq!(tokenizer.encode("a a a a", 5).map(|ids| ids.len()), too_long(5));
    assert_eq!(tokenizer.surround(&[5; 3], 5).unwrap().as_slice(), [CLS, 5, 5, 5, SEP]);
    assert_eq!(tokenizer.surround(&[5; 4], 5).map(|ids| ids.len()), too_long(5));
    // Its pieces would not fit, and it is one unknown word.
    let pieces = self::tokenizer(&["a", "##a"]);
    let text = "a a aaaaX";
    assert_eq!(pieces.encode(text, 5).unwrap().as_slice(), [CLS, 5, 5, UNK, SEP]);
    assert_eq!(pieces.encode(text, 4).map(|ids| ids.len()), too_long(4));
    assert_eq!(pieces.encode("aaa", 5).unwrap().as_slice(), [CLS, 5, 6, 6, SEP]);
    assert_eq!(pieces.encode("aaa", 4).map(|ids| ids.len()), too_long(4));
    for limit in 0..2 {
        assert_eq!(tokenizer.encode("", limit).map(|ids| ids.len()), too_long(limit));
    }
}

#[test]
fn refuses_ids_that_are_not_in_the_vocabulary_or_no_text_has() {
    let tokenizer = tokenizer(&["a"]);
    let refused = |ids: &[u32]| tokenizer.surround(ids, 9).map(|ids| ids.len()).unwrap_err();
    assert_eq!(refused(&[5, 6]), TextError::UnknownId { at: 1, vocabulary: 6 });
    for control in [0, CLS, SEP, 4] {
        assert_eq!(refused(&[5, 5, control]), TextError::ControlId { at: 2 });
    }
    assert!(tokenizer.surround(&[UNK], 9).is_ok(), "texts have unknown words");
}

#[test]
fn what_is_given_as_ids_has_the_ids_of_its_text() {
    let tokenizer = tokenizer(&["want", "##ed", "un"]);
    let ids = tokenizer.encode("unwanted wanted", 99).unwrap();
    assert_eq!(tokenizer.surround(&ids[1..ids.len() - 1], 99).unwrap(), ids);
}

#[test]
fn refuses_a_file_that_asks_for_what_is_not_done() {
    let edits: [(&str, Value); 9] = [
        ("/model/type", json!("BPE")),
        ("/model/continuing_subword_prefix", json!("")),
        ("/normalizer/type", json!("NFKC")),
        ("/pre_tokenizer/type", json!("Whitespace")),
        ("/post_processor/type", json!("ByteLevel")),
        ("/post_processor/single", json!([{ "Sequence": { "id": "A", "type_id": 0 } }])),
        ("/post_processor/single/1/Sequence/id", json!("B")),
        ("/post_processor/single/2/SpecialToken/type_id", json!(1)),
        ("/added_tokens/0/special", json!(false)),
    ];
    for (place, value) in edits {
        let mut file = file(&["a"]);
        *file.pointer_mut(place).unwrap() = value;
        let refused = parse(&file).err();
        assert!(matches!(refused, Some(FileError::Unsupported { .. })), "{place}: {refused:?}");
    }
}

#[test]
fn refuses_a_control_token_that_a_text_could_spell() {
    for (word, refused) in [
        ("mask", true),
        ("!", true),
        // Texts are in small letters, and these are cut apart.
        ("MASK", false),
        ("<mask>", false),
        ("two words", false),
    ] {
        let mut file = file(&["a", word]);
        let token = json!({ "id": 6, "content": word, "special": true });
        file["added_tokens"].as_array_mut().unwrap().push(token);
        let got = parse(&file).err();
        let what = "a control token that a text could spell";
        assert_eq!(got, refused.then_some(FileError::Unsupported { what }), "{word}");
        file["model"]["unk_token"] = json!(word);
        assert_eq!(parse(&file).err(), None, "texts have unknown words");
    }
    let mut around = file(&["a"]);
    around["post_processor"] =
        json!({ "type": "BertProcessing", "sep": ["a", 5], "cls": ["[CLS]", 2] });
    assert!(matches!(parse(&around).err(), Some(FileError::Unsupported { .. })));
}

#[test]
fn refuses_a_file_that_contradicts_itself() {
    let with = |place: &str, value: Value| {
        let mut file = file(&["a", "b"]);
        *file.pointer_mut(place).unwrap() = value;
        parse(&file).err().unwrap()
    };
    assert_eq!(with("/model/vocab/b", json!(5)), FileError::Ids, "two tokens of one id");
    assert_eq!(with("/model/vocab/b", json!(7)), FileError::Ids, "a gap");
    assert_eq!(with("/model/unk_token", json!("[X]")), FileError::Token { what: "unknown" });
    assert_eq!(with("/added_tokens/4/id", json!(3)), FileError::Token { what: "added" });
    let first = with("/post_processor/single/0/SpecialToken/id", json!("[X]"));
    assert_eq!(first, FileError::Token { what: "first" });
    let mut other = file(&["a"]);
    other["post_processor"] =
        json!({ "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2] });
    assert_eq!(parse(&other).unwrap().encode("a", 9).unwrap().as_slice(), [CLS, 5, SEP]);
    other["post_processor"]["sep"][1] = json!(4);
    assert_eq!(parse(&other).err(), Some(FileError::Token { what: "last" }));
}

#[test]
fn every_limit_of_a_file_holds_one_past_it() {
    let words = |chars: usize| {
        let mut file = file(&["a"]);
        file["model"]["max_input_chars_per_word"] = chars.into();
        parse(&file).err()
    };
    assert_eq!((words(1), words(MAX_WORD_CHARS)), (None, None));
    for got in [0, MAX_WORD_CHARS + 1] {
        assert_eq!(words(got), Some(FileError::WordChars { got }));
    }
    let mut bytes = file(&["a"]).to_string().into_bytes();
    bytes.resize(MAX_FILE_BYTES, b' ');
    assert!(Tokenizer::parse(&bytes).is_ok());
    bytes.push(b' ');
    let refused = Tokenizer::parse(&bytes).err();
    assert_eq!(refused, Some(FileError::TooLarge { got: MAX_FILE_BYTES + 1 }));
}

/// The vocabulary's limit is not a file's: so many tokens are more than the bytes a file may have.
#[test]
fn refuses_one_token_more_than_the_largest_vocabulary() {
    use crate::pieces::Pieces;
    let vocab = |count: u32| (0..count).map(|id| (id.to_string().into(), id)).collect();
    let got = crate::MAX_VOCABULARY as usize + 1;
    assert!(Pieces::new(vocab(crate::MAX_VOCABULARY), "##").is_ok());
    let refused = Pieces::new(vocab(crate::MAX_VOCABULARY + 1), "##").err();
    assert_eq!(refused, Some(FileError::Vocabulary { got }));
}

#[test]
fn a_refusal_of_a_file_quotes_nothing_of_it() {
    let error = Tokenizer::parse(br#"{"model":{"type":"canary"}"#).err().unwrap();
    assert_eq!(error, FileError::Malformed { line: 1, column: 26 });
    assert!(!error.to_string().contains("canary"));
}

#[test]
fn no_character_becomes_more_tokens_than_it_has_bytes() {
    let rules = rules(true, true, true, true);
    for char in '\0'..=char::MAX {
        let mut chars = 0;
        rules
            .words::<()>(char.encode_utf8(&mut [0; 4]), &mut |word| {
                let Word::Short(word) = word else { panic!("{char:?} is too long") };
                chars += word.chars().count();
                Ok(())
            })
            .unwrap();
        assert!(chars <= char.len_utf8(), "{char:?} becomes {chars}");
    }
}

const fn rules(
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: bool,
    lowercase: bool,
) -> Rules {
    Rules { clean_text, handle_chinese_chars, strip_accents, lowercase, word_chars: 100 }
}

fn words(rules: Rules, text: &str) -> Vec<Option<String>> {
    let mut words = Vec::new();
    rules
        .words::<()>(text, &mut |word| {
            words.push(match word {
                Word::Short(word) => Some(word.to_owned()),
                Word::Long => None,
            });
            Ok(())
        })
        .unwrap();
    words
}

/// The words of the `tokenizers` library; `None` for one that it would not look up.
fn expected(rules: Rules, text: &str) -> Vec<Option<String>> {
    let Rules { clean_text, handle_chinese_chars, strip_accents, lowercase, .. } = rules;
    let normalizer =
        BertNormalizer::new(clean_text, handle_chinese_chars, Some(strip_accents), lowercase);
    let mut normalized = NormalizedString::from(text);
    normalizer.normalize(&mut normalized).unwrap();
    let mut split = PreTokenizedString::from(normalized);
    BertPreTokenizer.pre_tokenize(&mut split).unwrap();
    split
        .get_splits(OffsetReferential::Normalized, OffsetType::Byte)
        .into_iter()
        .map(|(word, _, _)| (word.chars().count() <= 100).then(|| word.to_owned()))
        .collect()
}

#[test]
fn every_character_is_cut_as_the_library_does() {
    for rules in [rules(true, true, true, true), rules(true, true, false, false)] {
        for char in '\0'..=char::MAX {
            let text = format!("a{char}B");
            assert_eq!(words(rules, &text), expected(rules, &text), "{char:?} {rules:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_cut_as_the_library_does(text: String, flags: [bool; 4]) {
        let [clean, ideographs, accents, lower] = flags;
        let rules = rules(clean, ideographs, accents, lower);
        prop_assert_eq!(words(rules, &text), expected(rules, &text));
    }

    #[test]
    fn any_vocabulary_gives_the_ids_of_the_library(
        tokens in prop::collection::btree_set("(##)?[a-d]{1,4}", 1..40),
        text in "[a-dE .]{0,200}",
    ) {
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let file = file(&tokens);
        let mut theirs = file.clone();
        // It would cut and match control tokens.
        (theirs["truncation"], theirs["added_tokens"]) = (Value::Null, json!([]));
        let theirs = tokenizers::Tokenizer::from_bytes(theirs.to_string()).unwrap();
        let ids = theirs.encode(text.as_str(), true).unwrap().get_ids().to_vec();
        let tokenizer = parse(&file).unwrap();
        let ours = tokenizer.encode(&text, ids.len());
        prop_assert_eq!(ours.as_ref().map(|ids| &***ids), Ok(&ids[..]));
        let limit = ids.len() - 1;
        let refused = tokenizer.encode(&text, limit).map(|ids| ids.len());
        prop_assert_eq!(refused, Err(TextError::TooLong { limit }));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        drop(Tokenizer::parse(&bytes));
    }
}
