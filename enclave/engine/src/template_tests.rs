//! Chat templates: the ones models ship, and the ones that must be refused.

use super::*;
use crate::testing::CHATML;

fn render(source: &str, messages: &[(Role, &str)]) -> Result<String, TemplateError> {
    let template = ChatTemplate::compile_untried(source.into(), "<s>", "</s>")?;
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

/// `transformers` prints nothing for them, and trims what is beside them as beside any other tag.
#[test]
fn marks_of_what_the_model_said_print_nothing() {
    let source = "{% for m in messages %}\n  {% generation %}\n<{{ m.content }}>\n  {%- endgeneration -%}\n .{% endfor %}";
    let plain = source.replace("endgeneration", "endif").replace("generation", "if true");
    assert_eq!(hello(source).unwrap(), "<Hello>.");
    assert_eq!(hello(&plain).unwrap(), "<Hello>.");
    // A tag is not what looks like the start of one, or names something else.
    let other = "{{ '{%' }}{%+ generation %}{% set generations = 1 %}{{ generations }}{% endgeneration %}{{ '{%' }}";
    assert_eq!(hello(other).unwrap(), "{%1{%");
    assert!(matches!(hello("{% generation %}"), Err(TemplateError::Syntax { line: 1 })));
}

#[test]
fn requests_with_tools_go_through_the_template_that_is_for_them() {
    let sources = Sources {
        default: "{{ messages[0].content }}",
        tools: Some("{{ tools[0].function.name }}:{{ messages[0].content }}<tool_call>"),
    };
    let template = ChatTemplate::compile(sources, "", "").unwrap();
    assert_eq!(template.style(), ToolStyle::Tagged);
    assert_eq!(*template.render(&[(Role::User, "Hi")]).unwrap(), "Hi");
    let told = |tools| {
        let messages = vec![context! { role => "user", content => "Hi" }];
        template.render_told(&Told { messages, tools, thinking: None }).unwrap().to_string()
    };
    let tool = context! { function => context! { name => "look" } };
    assert_eq!(told(Value::from(vec![tool])), "look:Hi<tool_call>");
    assert_eq!(told(Value::from(Vec::<Value>::new())), "Hi", "no tools are none");
    // What an earlier turn called is told by the one for tools only.
    let said = |role, text: &str| ChatMessage::new(role, text.as_bytes().to_vec().into());
    let messages = vec![said(Role::User, "Hi"), said(Role::Tool, "found")];
    let mut conversation = Conversation { messages, ..Conversation::default() };
    assert_eq!(template.check(&conversation), Err(TemplateError::NoTools));
    conversation.tools.push(b"{\"name\": \"look\"}".to_vec().into());
    assert_eq!(template.check(&conversation), Ok(()));
}

/// Before they were looked at, such a model answered; and so it does.
#[test]
fn a_template_for_tools_that_cannot_be_used_leaves_the_other_one() {
    let default = "{{ messages[0].content }}{% for t in tools %}{{ t | tojson }}<tool_call>{% endfor %}<think>";
    for tools in
        ["{% if %}", "{{ raise_exception('no') }}", "no style", &"x".repeat(MAX_TEMPLATE_BYTES + 1)]
    {
        let template =
            ChatTemplate::compile(Sources { default, tools: Some(tools) }, "", "").unwrap();
        assert_eq!(template.style(), ToolStyle::Tagged);
        assert!(template.reasons() && !template.separate);
    }
}

#[test]
fn refuses_a_template_that_loops() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    assert_eq!(hello(source), Err(TemplateError::OutOfFuel));
    let compiled = ChatTemplate::compile(source.into(), "", "").err();
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
    assert!(ChatTemplate::compile(source.into(), "", "").is_ok());
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
    assert!(hello("{% extends 'default' %}").is_err());
    assert_eq!(hello("{% include 'default' %}"), Err(TemplateError::OutOfFuel), "itself");
}
