//! What the chat templates of each family use, in short templates of our own: the same functions, tests,
//! slices and scopes as the published ones, and the turns they must give.

use super::*;

fn render(source: &str, messages: &[(Role, &str)]) -> Result<String, TemplateError> {
    let template = ChatTemplate::compile(source.into(), "<bos>", "<eos>")?;
    template.render(messages).map(|out| out.to_string())
}

const TALK: [(Role, &str); 3] =
    [(Role::User, " One? "), (Role::Assistant, "Two."), (Role::User, "Three?")];

/// Llama 3: headers, every content trimmed, BOS with the first message; a date only if there is a clock.
const LLAMA3: &str = include_str!("../../../tests/parity/templates/llama-3.jinja");

#[test]
fn llama_3_puts_headers_around_trimmed_turns() {
    let system = "<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n";
    let turns = "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nOne?<|eot_id|>\
        <|start_header_id|>assistant<|end_header_id|>\n\nTwo.<|eot_id|>\
        <|start_header_id|>user<|end_header_id|>\n\nThree?<|eot_id|>\
        <|start_header_id|>assistant<|end_header_id|>\n\n";
    assert_eq!(render(LLAMA3, &TALK).unwrap(), format!("<bos>{system}{turns}"));
    let with = [&[(Role::System, "Be brief.\n")], &TALK[..]].concat();
    assert_eq!(render(LLAMA3, &with).unwrap(), format!("<bos>{system}Be brief.{turns}"));
}

/// Qwen3: the last question is looked for from the end; reasoning of earlier answers is cut off; an
/// empty thought is written where thinking is off.
const QWEN3: &str = include_str!("../../../tests/parity/templates/qwen-3.jinja");

#[test]
fn qwen_3_thinks_unless_it_is_told_not_to_and_forgets_what_it_thought() {
    let talk = [
        (Role::System, "Be brief."),
        (Role::User, "One?"),
        (Role::Assistant, "<think>\nHm.\n</think>\n\nTwo."),
        (Role::User, "Three?"),
    ];
    let turns = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n\
        <|im_start|>assistant\nTwo.<|im_end|>\n<|im_start|>user\nThree?<|im_end|>\n\
        <|im_start|>assistant\n";
    assert_eq!(render(QWEN3, &talk).unwrap(), turns);
    let off = format!("{{%- set enable_thinking = false %}}{QWEN3}");
    assert_eq!(render(&off, &talk).unwrap(), format!("{turns}<think>\n\n</think>\n\n"));
    // An answer after the last question keeps its thought.
    let going_on = [&talk[..3], &[(Role::Assistant, "<think>\nAh.\n</think>\n\nMore.")]].concat();
    let out = render(QWEN3, &going_on).unwrap();
    assert!(out.contains("<|im_start|>assistant\n<think>\nAh.\n</think>\n\nMore.<|im_end|>"));
}

/// Gemma 3: no system role; its text goes before the first question. Turns must alternate.
const GEMMA3: &str = include_str!("../../../tests/parity/templates/gemma-3.jinja");

#[test]
fn gemma_3_calls_itself_model_and_puts_the_system_text_into_the_first_question() {
    let rest = "One?<end_of_turn>\n<start_of_turn>model\nTwo.<end_of_turn>\n\
        <start_of_turn>user\nThree?<end_of_turn>\n<start_of_turn>model\n";
    assert_eq!(render(GEMMA3, &TALK).unwrap(), format!("<bos><start_of_turn>user\n{rest}"));
    let with = [&[(Role::System, "Be brief.")], &TALK[..]].concat();
    let expected = format!("<bos><start_of_turn>user\nBe brief.\n\n{rest}");
    assert_eq!(render(GEMMA3, &with).unwrap(), expected);
    let twice = [(Role::User, "a"), (Role::User, "b")];
    assert!(matches!(render(GEMMA3, &twice), Err(TemplateError::Raised { .. })));
}

/// Mistral: `[INST]` around questions, EOS behind answers; newer ones select messages by their role
/// and put the system text into the last question.
const MISTRAL: &str = include_str!("../../../tests/parity/templates/mistral.jinja");

#[test]
fn mistral_puts_instructions_in_brackets_and_ends_answers() {
    let turns = "<bos>[INST]  One? [/INST] Two.<eos>[INST] ";
    assert_eq!(render(MISTRAL, &TALK).unwrap(), format!("{turns}Three?[/INST]"));
    let with = [&[(Role::System, "Be brief.")], &TALK[..]].concat();
    assert_eq!(render(MISTRAL, &with).unwrap(), format!("{turns}Be brief.\n\nThree?[/INST]"));
    let twice = [(Role::User, "a"), (Role::User, "b")];
    assert!(matches!(render(MISTRAL, &twice), Err(TemplateError::Raised { .. })));
}
