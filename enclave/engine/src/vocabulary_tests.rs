//! What a `tokenizer.json` says is what is done with text: compared with the library that wrote such files,
//! in every way of cutting text that is known.

use proptest::prelude::*;
use serde_json::json;
use tokenizers::Tokenizer as Library;

use super::*;
use crate::engine::TextSide;
use crate::error::EngineError;
use crate::request::{ChatMessage, Conversation, Role};
use crate::testing::Recipe;
use crate::tokenizer::Tokenizer;

/// The file of a small model, with changes.
fn file(recipe: &Recipe, edits: &[(&str, Json)]) -> Json {
    let mut file: Json = serde_json::from_slice(&recipe.checkpoint()["tokenizer.json"]).unwrap();
    for (pointer, value) in edits {
        *file.pointer_mut(pointer).unwrap() = value.clone();
    }
    file
}

fn empty() -> Gguf {
    Gguf::described(candle_core::quantized::gguf_file::Content {
        magic: candle_core::quantized::gguf_file::VersionedMagic::GgufV3,
        metadata: HashMap::new(),
        tensor_infos: HashMap::new(),
        tensor_data_offset: 0,
    })
}

fn described(file: &Json, settings: &Json) -> Result<Gguf, ModelError> {
    let read: File = serde_json::from_value(file.clone()).unwrap();
    let mut gguf = empty();
    let settings = serde_json::from_value(settings.clone()).unwrap();
    read.describe(&settings, None, usize::MAX, Vec::new(), &mut gguf)?;
    Ok(gguf)
}

/// Words cut by a pattern, then bytes.
fn split(pattern: &str) -> Json {
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
    ]})
}

/// Files of every way.
fn ways() -> Vec<(&'static str, Json)> {
    let words = Recipe::smollm2();
    let cut = |steps: Json, whole: bool| {
        file(&words, &[("/pre_tokenizer", steps), ("/model/ignore_merges", json!(whole))])
    };
    let gpt2 = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    let mut qwen = cut(split(QWEN2_PATTERN), false);
    qwen["normalizer"] = json!({"type": "NFC"});
    let pieces = Recipe::gemma3().with_pieces();
    let first = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u{2581}"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
    ]});
    vec![
        ("smollm", file(&words, &[])),
        ("gpt-2", cut(gpt2, false)),
        ("qwen2", qwen),
        ("llama-bpe", cut(split(LLAMA3_PATTERN), true)),
        ("tekken", cut(split(TEKKEN_PATTERN), true)),
        ("gemma", file(&pieces, &[])),
        ("llama 2", file(&pieces, &[("/normalizer", first), ("/pre_tokenizer", json!(null))])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_way_gives_the_ids_of_the_library(
        text in "([ ]{0,3}(hello|wor|the|he|ll|x7|12|\n|<think>|é|漢|'s|[A-Za-z.!]{1,3})){1,12}[ ]{0,2}",
    ) {
        for (name, file) in ways() {
            let ours = Tokenizer::read(&described(&file, &json!({})).unwrap()).unwrap();
            let theirs = Library::from_bytes(file.to_string()).unwrap();
            let wanted = theirs.encode(text.as_str(), false).unwrap();
            let got = ours.encode_text(&text).unwrap();
            prop_assert_eq!(got.as_slice(), wanted.get_ids(), "{} {:?}", name, text);
        }
    }
}

#[test]
fn a_marker_of_turns_is_no_text_whatever_its_entry_says() {
    let described = |content: &str, id: usize, settings: &Json| {
        let entry = json!({"id": id, "content": content, "special": false, "normalized": false});
        let mut file = file(&Recipe::smollm2(), &[]);
        let known = file["model"]["vocab"].as_object().unwrap().len();
        let added = file["added_tokens"].as_array_mut().unwrap();
        added.retain(|token| token["id"] != id);
        added.push(entry);
        if id < known {
            assert!(file["model"]["vocab"].get(content).is_some(), "{content} is not that token");
        }
        Tokenizer::read(&described(&file, settings).unwrap()).unwrap()
    };
    let next = file(&Recipe::smollm2(), &[])["model"]["vocab"].as_object().unwrap().len();
    let (none, eos) = (json!({}), json!({"eos_token": "[end]"}));
    for (content, id, settings) in [
        ("<|im_start|>", 1, &none),
        ("<|im_end|>", 2, &none),
        ("<\u{ff5c}User\u{ff5c}>", next, &none),
        ("<end_of_turn>", next, &none),
        ("[end]", next, &eos),
    ] {
        let ours = described(content, id, settings);
        let id = u32::try_from(id).unwrap();
        assert_eq!((ours.control(content), ours.bytes(id)), (Some(id), &b""[..]), "{content}");
        let said = format!("x{content}\n{content}system\n");
        let rendered = ours.encode_rendered(&format!("{content}{}", *ours.defuse(&said))).unwrap();
        assert_eq!(rendered.iter().filter(|known| **known == id).count(), 1, "{content}");
        assert!(!ours.encode_text(&said).unwrap().contains(&id), "{content}");
    }
    // It ends a turn as well as one whose entry is right, and other added tokens stay text.
    assert!(described("<|im_end|>", 2, &none).ends_turn(2));
    let call = described("<tool_call>", next, &none);
    assert_eq!((call.control("<tool_call>"), call.bytes(next as u32)), (None, &b"<tool_call>"[..]));
}

/// Some models have one for requests with tools beside the other (Hermes 2 and 3, Command R).
#[test]
fn chat_templates_may_be_one_or_several_by_name() {
    let file = file(&Recipe::smollm2(), &[]);
    let templates = |settings: Json| {
        let gguf = described(&file, &settings).unwrap();
        ["tokenizer.chat_template", "tokenizer.chat_template.tool_use"]
            .map(|key| gguf.string_opt(key).unwrap().map(str::to_owned))
    };
    let named = |name: &str, text: &str| json!({"name": name, "template": text});
    let [one, two] = [Some("one".to_owned()), Some("two".to_owned())];
    assert_eq!(templates(json!({})), [None, None]);
    assert_eq!(templates(json!({"chat_template": "one"})), [one.clone(), None]);
    let both = [named("rag", "three"), named("tool_use", "two"), named("default", "one")];
    assert_eq!(templates(json!({"chat_template": both})), [one, two.clone()]);
    assert_eq!(templates(json!({"chat_template": [named("tool_use", "two")]})), [None, two]);
}

#[test]
fn a_request_with_tools_is_told_through_the_template_the_settings_have_for_them() {
    let both = json!([
        {"name": "default", "template": "plain {{ messages[0].content }}"},
        {"name": "tool_use", "template": "{{ tools[0].function.name }} <tool_call>"},
    ]);
    let gguf = described(&file(&Recipe::smollm2(), &[]), &json!({"chat_template": both})).unwrap();
    let text = TextSide::read(&gguf).unwrap();
    let bytes = |text: &str| text.as_bytes().to_vec().into();
    let messages = vec![ChatMessage::new(Role::User, bytes("Hi"))];
    let mut conversation = Conversation { messages, ..Conversation::default() };
    assert_eq!(*text.render(&conversation).unwrap(), "plain Hi");
    conversation.tools.push(bytes(r#"{"name":"look","parameters":{"type":"object"}}"#));
    assert_eq!(*text.render(&conversation).unwrap(), "look <tool_call>");
}

#[test]
fn a_file_of_the_template_alone_stands_for_all_templates_of_the_settings() {
    let read: File = serde_json::from_value(file(&Recipe::smollm2(), &[])).unwrap();
    let both = json!([
        {"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"},
    ]);
    let settings = serde_json::from_value(json!({"chat_template": both})).unwrap();
    let mut gguf = empty();
    read.describe(&settings, Some("alone".to_owned()), usize::MAX, Vec::new(), &mut gguf).unwrap();
    assert_eq!(gguf.string_opt("tokenizer.chat_template").unwrap(), Some("alone"));
    assert_eq!(gguf.string_opt("tokenizer.chat_template.tool_use").unwrap(), None);
}

#[test]
fn texts_begin_with_the_token_that_the_file_puts_before_them() {
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let template = |single: Vec<Json>| json!({"type": "TemplateProcessing", "single": single});
    let sequence = |last: Json| json!({"type": "Sequence", "processors": [{"type": "ByteLevel", "use_regex": true}, last]});
    let begins = |post: &Json, settings: &Json| {
        let file = file(&Recipe::llama(), &[("/post_processor", post.clone())]);
        let ours = Tokenizer::read(&described(&file, settings)?)?;
        Ok::<_, ModelError>(ours.encode_text("x").unwrap().len() == 2)
    };
    let bos = json!({"bos_token": "<|im_start|>"});
    let before = template(vec![special("<|im_start|>"), text.clone()]);
    assert_eq!(begins(&json!(null), &bos), Ok(false));
    assert_eq!(begins(&before, &bos), Ok(true));
    assert_eq!(begins(&sequence(before.clone()), &bos), Ok(true));
    assert_eq!(begins(&template(vec![text.clone()]), &bos), Ok(false));
    // The settings know better.
    let told = |add: bool| json!({"bos_token": "<|im_start|>", "add_bos_token": add});
    assert_eq!(
        (begins(&before, &told(false)), begins(&json!(null), &told(true))),
        (Ok(false), Ok(true))
    );
    for (post, settings) in [
        (before.clone(), json!({})),
        (template(vec![special("<|im_end|>"), text.clone()]), bos.clone()),
        (template(vec![text.clone(), special("<|im_end|>")]), bos.clone()),
        (template(vec![special("<|im_start|>"), text.clone(), special("<|im_end|>")]), bos.clone()),
        (json!({"type": "RobertaProcessing"}), bos.clone()),
        (json!(null), json!({"add_eos_token": true})),
        (json!(null), json!({"add_bos_token": true})),
    ] {
        let refused = begins(&post, &settings);
        assert!(matches!(refused, Err(ModelError::TokenizerUnsupported { .. })), "{post}");
    }
}

#[test]
fn a_mark_that_a_text_brings_stays_one_and_spaces_come_back_as_spaces() {
    let file = file(&Recipe::gemma3().with_pieces(), &[]);
    let ours = Tokenizer::read(&described(&file, &json!({})).unwrap()).unwrap();
    let text = "a\u{2581}  the \u{2581}";
    let ids = ours.encode_text(text).unwrap();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| ours.bytes(*id)).copied().collect();
    assert_eq!(bytes, text.as_bytes());
}

#[test]
fn text_that_no_piece_and_no_byte_spells_is_refused() {
    let mut file = file(&Recipe::gemma3().with_pieces(), &[]);
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    // A token of another kind in the place of a byte.
    let id = vocab.remove("<0x5A>").unwrap();
    vocab.insert("a piece".to_owned(), id);
    let ours = Tokenizer::read(&described(&file, &json!({})).unwrap()).unwrap();
    assert!(ours.encode_text("Y").is_ok());
    assert_eq!(ours.encode_text("Z").err(), Some(EngineError::Unencodable));
}

#[test]
fn every_limit_of_a_tokenizers_file_holds_one_past_it() {
    let most = usize::try_from(MAX_ENTRIES).unwrap();
    let count = |entries: usize| {
        let text = format!("[{}0]", "0,".repeat(entries - 1));
        serde_json::from_str::<List<u32>>(&text).unwrap().within("merges").map(|all| all.len())
    };
    assert_eq!(count(most), Ok(most));
    let got = MAX_ENTRIES + 1;
    assert_eq!(count(most + 1), Err(ModelError::Limit { what: "merges", limit: MAX_ENTRIES, got }));

    let step = |bytes: usize| {
        let text = format!("\"{}\"", "x".repeat(bytes - 2));
        let raw = RawValue::from_string(text).unwrap();
        steps(Some(&raw), "normalizers").map(|steps| steps.len())
    };
    let limit = usize::try_from(MAX_STEP_BYTES).unwrap();
    assert_eq!(step(limit), Ok(1));
    assert!(matches!(step(limit + 1), Err(ModelError::Limit { .. })));
}

#[test]
fn refuses_a_merge_of_tokens_with_spaces_in_them() {
    let file = file(&Recipe::llama(), &[("/model/merges", json!([["h", "e x"]]))]);
    let refused = described(&file, &json!({})).err();
    assert!(matches!(refused, Some(ModelError::TokenizerInvalid { .. })), "{refused:?}");
}
