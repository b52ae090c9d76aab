//! Chat templates: the ones models ship, and the ones that must be refused.

use super::*;
use crate::testing::CHATML;

fn render(source: &str, messages: &[(Role, &str)]) -> Result<String, TemplateError> {
    let template = ChatTemplate::compile_untried(source, "<s>", "</s>")?;
    template.render(messages).map(|out| out.to_string())
}

fn hello(source: &str) -> Result<String, TemplateError> {
    render(source, &[(Role::User, "Hello")])
}

#[test]
fn renders_chatml() {
    let out = render(CHATML, &[(Role::System, "Be brief."), (Role::User, "Hi")]).unwrap();
    assert_eq!(
        out,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
         <|im_start|>assistant\n"
    );
}

#[test]
fn renders_what_python_templates_use() {
    let source = "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages %}\
        {% set ns.n = ns.n + 1 %}{{ m.content.strip().split('|')[-1] | trim }}\
        {% if not loop.last %},{% endif %}{% endfor %}{{ ns.n }}\
        {% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}undated{% endif %}\
        {% if messages[0]['content'].startswith(' a') %}!{% endif %}{{ eos_token }}";
    let out = render(source, &[(Role::User, " a|b "), (Role::Assistant, "c")]).unwrap();
    assert_eq!(out, "<s>b,c2undated!</s>");
}

/// `minijinja` 3.0.5 panicked where nothing was there: a requester's empty text would have ended the worker.
#[test]
fn a_slice_that_goes_backwards_over_nothing_is_nothing() {
    let source = "{% for m in messages[1:][::-1] %}{{ m.content }}{% endfor %}\
        {{ messages[0].content[::-1] }}{{ messages[0].content[5:2:-1] }}.{{ [][::-1] | length }}";
    assert_eq!(render(source, &[(Role::User, "")]).unwrap(), ".0");
    assert_eq!(render(source, &[(Role::User, "ab")]).unwrap(), "ba.0");
}

#[test]
fn trims_blocks_as_transformers_does() {
    assert_eq!(hello("  {% if true %}\nx\n  {% endif %}\ny").unwrap(), "x\ny");
}

#[test]
fn refuses_a_template_that_loops() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    assert_eq!(hello(source), Err(TemplateError::OutOfFuel));
    let compiled = ChatTemplate::compile(source, "", "").err();
    assert_eq!(compiled, Some(TemplateError::OutOfFuel), "refused when the model is loaded");
}

#[test]
fn refuses_a_template_that_calls_itself_for_ever() {
    let source = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}";
    assert_eq!(hello(source), Err(TemplateError::OutOfFuel));
}

#[test]
fn refuses_a_template_that_loops_on_some_content_only() {
    let source = "{% if messages[0].content == 'now' %}{% for a in range(9999) %}\
        {% for b in range(9999) %}{% endfor %}{% endfor %}{% endif %}ok";
    assert!(ChatTemplate::compile(source, "", "").is_ok());
    assert_eq!(render(source, &[(Role::User, "now")]), Err(TemplateError::OutOfFuel));
}

#[test]
fn refuses_one_byte_of_output_over_the_limit() {
    let half = MAX_RENDERED_BYTES / 2;
    let source = |extra: usize| {
        format!("{{% for i in [1, 2] %}}{{{{ 'x' * {half} }}}}{{% endfor %}}{}", "y".repeat(extra))
    };
    assert_eq!(hello(&source(0)).unwrap().len(), MAX_RENDERED_BYTES);
    assert_eq!(hello(&source(1)), Err(TemplateError::OutputTooLarge));
}

#[test]
fn refuses_a_template_one_byte_over_the_limit() {
    assert!(hello(&"x".repeat(MAX_TEMPLATE_BYTES)).is_ok());
    let got = MAX_TEMPLATE_BYTES + 1;
    assert_eq!(hello(&"x".repeat(got)), Err(TemplateError::TooLarge { got }));
}

#[test]
fn refuses_a_conversation_the_template_raises_on_without_quoting_it() {
    let source = "a\n{{ raise_exception('no: ' + messages[0].content) }}";
    let error = render(source, &[(Role::User, "canary-7f3a")]).unwrap_err();
    assert_eq!(error, TemplateError::Raised { line: 2 });
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[test]
fn refuses_the_clock() {
    let failed = hello("{{ strftime_now('%Y') }}");
    assert_eq!(failed, Err(TemplateError::Failed { kind: "a function does not exist", line: 1 }));
}

#[test]
fn refuses_an_operation_on_content_without_quoting_it() {
    let error =
        render("{{ messages[0].content / 2 }}", &[(Role::User, "canary-7f3a")]).unwrap_err();
    assert!(matches!(error, TemplateError::Failed { .. }));
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[test]
fn refuses_a_template_that_does_not_compile() {
    assert_eq!(hello("a\n{% if %}"), Err(TemplateError::Syntax { line: 2 }));
}

#[test]
fn refuses_to_include_another_template() {
    assert!(hello("{% include '/etc/passwd' %}").is_err());
    assert!(hello("{% extends 'chat' %}").is_err());
    assert_eq!(hello("{% include 'chat' %}"), Err(TemplateError::OutOfFuel), "itself");
}
