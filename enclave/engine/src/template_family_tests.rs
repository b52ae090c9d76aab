//! What the chat templates of each family use, in short templates of our own: the same functions, tests,
//! slices and scopes as the published ones, and the turns they must give.

use super::*;

fn render(source: &str, messages: &[(Role, &str)]) -> Result<String, TemplateError> {
    let template = ChatTemplate::compile(source, "<bos>", "<eos>")?;
    template.render(messages).map(|out| out.to_string())
}

const TALK: [(Role, &str); 3] =
    [(Role::User, " One? "), (Role::Assistant, "Two."), (Role::User, "Three?")];

/// Llama 3: headers, every content trimmed, BOS with the first message; a date only if there is a clock.
const LLAMA3: &str = "\
{% set loop_messages = messages %}
{%- if date_string is not defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now('%d %b %Y') %}
    {%- else %}
        {%- set date_string = '26 Jul 2024' %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- bos_token }}
{%- if tools is not none and tools is defined %}{{- raise_exception('tools') }}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n' }}
{{- system_message }}{{- '<|eot_id|>' }}
{%- for message in loop_messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}";

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
const QWEN3: &str = "\
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == 'user' and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}";

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
const GEMMA3: &str = "\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = '' -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('turns must alternate') }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = 'model' -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else '') }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- else -%}
        {{ raise_exception('content') }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}";

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
const MISTRAL: &str = "\
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr('role', 'equalto', 'user') | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == 'tool' or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message['role'] == 'user') != (ns.index % 2 == 0) %}
            {{- raise_exception('turns must alternate') }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message['role'] == 'user' %}
        {%- if loop.last and system_message is defined %}
            {{- '[INST] ' + system_message + '\\n\\n' + message['content'] + '[/INST]' }}
        {%- else %}
            {{- '[INST] ' + message['content'] + '[/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
{%- if user_messages[-1] != loop_messages[-1] %}{{- raise_exception('a question is last') }}{% endif %}";

#[test]
fn mistral_puts_instructions_in_brackets_and_ends_answers() {
    let turns = "<bos>[INST]  One? [/INST] Two.<eos>[INST] ";
    assert_eq!(render(MISTRAL, &TALK).unwrap(), format!("{turns}Three?[/INST]"));
    let with = [&[(Role::System, "Be brief.")], &TALK[..]].concat();
    assert_eq!(render(MISTRAL, &with).unwrap(), format!("{turns}Be brief.\n\nThree?[/INST]"));
    let twice = [(Role::User, "a"), (Role::User, "b")];
    assert!(matches!(render(MISTRAL, &twice), Err(TemplateError::Raised { .. })));
}
