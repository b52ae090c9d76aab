//! Chat templates in the manner of each family, of our own: what published ones use, in short. Which control
//! tokens each writes depends on the roles of a conversation and never on what is said in it.

use chrysalis_engine::testing::CHATML;

/// Control tokens beside those of the test vocabulary: of the families, and some that overlap with one another
/// and with what they stand next to.
pub const CONTROLS: [&str; 22] = [
    "<s>",
    "</s>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "<<",
    "|><|",
    "aba",
    ">>\u{e9}",
    "\u{27e8}角\u{27e9}",
];

/// One of each family.
pub const FAMILIES: [&str; 5] = [CHATML, QWEN, LLAMA, MISTRAL, GEMMA];

/// Tools in the system turn, calls between tags, reasoning cut out of earlier answers.
const QWEN: &str = r"
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
    {{- '# Tools\n<tools>' }}
    {%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\n</tools>\nWrite <tool_call>\n{\'name\': ..., \'arguments\': ...}\n</tool_call><|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\n<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- for call in message.tool_calls or [] %}
            {%- if (loop.first and content) or not loop.first %}{{- '\n' }}{%- endif %}
            {{- '<tool_call>\n{\'name\': \'' }}{{- call.function.name }}{{- '\', \'arguments\': ' }}
            {%- if call.function.arguments is string %}{{- call.function.arguments }}
            {%- else %}{{- call.function.arguments | tojson }}{%- endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}";

/// Headers around trimmed texts; one call a message.
const LLAMA: &str = r"
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}
{%- if tools is not none %}
    {{- 'Environment: ipython\n' }}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- '\n\n' }}{%- endfor %}
    {{- 'Answer with {\'name\': ..., \'parameters\': ...}\n' }}
{%- endif %}
{{- system_message }}{{- '<|eot_id|>' }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\n\n' }}
        {%- if message.content is mapping %}{{- message.content | tojson }}{%- else %}{{- message.content }}{%- endif %}
        {{- '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}{{- raise_exception('one call at a time') }}{%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n{\'name\': \'' + call.name + '\', \'parameters\': ' }}
        {{- call.arguments | tojson }}{{- '}<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}";

/// Brackets around questions, and around tools before the last of them.
const MISTRAL: &str = r"
{%- set system_message = messages[0].content if messages[0].role == 'system' else '' %}
{%- set rest = messages[1:] if messages[0].role == 'system' else messages %}
{%- set questions = rest | selectattr('role', 'equalto', 'user') | list %}
{{- bos_token }}
{%- for message in rest %}
    {%- if message.role == 'user' %}
        {%- if tools is not none and loop.last %}
            {{- '[AVAILABLE_TOOLS] [' }}
            {%- for tool in tools %}{{- tool | tojson }}{{- ', ' if not loop.last else ']' }}{%- endfor %}
            {{- '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + (system_message + '\n\n' if loop.last else '') + message.content + '[/INST]' }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {%- set out = call.function | tojson %}
            {{- out[:-1] }}{{- ', \'id\': \'' + call.id + '\'}' }}{{- ', ' if not loop.last else ']' + eos_token }}
        {%- endfor %}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content | trim + eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {\'content\': ' + message.content | string + ', \'call_id\': \'' + message.tool_call_id + '\'}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('no such role here') }}
    {%- endif %}
{%- endfor %}
{%- if questions | length == 0 %}{{- raise_exception('a question is needed') }}{%- endif %}";

/// The system text goes into the first question; turns must alternate.
const GEMMA: &str = r"
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set prefix = '' -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('turns must alternate') }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else '') }}
    {{ message['content'] | trim }}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}";

/// What else templates are written with.
pub const OTHERS: [&str; 7] = [
    "{% for m in messages[1:][::-1] %}{{ m.content[::-1] }}{{ m.content[4:1:-2] }}{% endfor %}",
    "{% macro turn(role, text) %}<|im_start|>{{ role }}\n{{ text|trim }}<|im_end|>\n{% endmacro %}\
     {% for m in messages %}{{ turn(m.role, m.content) }}{% endfor %}{{ caller }}",
    "{% set ns = namespace(n=0, seen=[]) %}{% for m in messages | reverse recursive %}{% set ns.n = ns.n + 1 %}\
     {{ loop.index }}{{ m.content.strip().split('|')[-1] | upper | replace('A', 'b') }}\
     {% if loop.previtem is defined %}{{ loop.previtem.role }}{% endif %}{% endfor %}{{ ns.n }}",
    "{{ messages | map(attribute='content') | join('-') | indent(3) }}{{ messages | tojson(indent=2) }}\
     {{ messages | length }}{{ range(5) | list | batch(2) | list }}{{ dict(a=1).items() | list }}",
    "{% if messages[0]['content'].startswith(' a') or 'b' in messages[-1].content %}!{% endif %}\
     {{ messages[0].content[1:-1] }}{{ messages[0].content.title().find('x') }}{{ '%s' | format('x') }}",
    "{% for k, v in messages[0] | items %}{{ k }}={{ v | string | length }};{% endfor %}\
     {% filter upper %}{{ messages[0].content | first }}{% endfilter %}{{ 1 // 1 + 2 ** 3 % 5 - 7 / 2 }}",
    "{% set x %}{{ messages[0].content }}{% endset %}{{ x ~ x | int + 1 }}{{ x is mapping }}{{ x | sort | unique | list }}\
     {% with y = x | reverse %}{{ y }}{% endwith %}{% if x is divisibleby(3) %}{% endif %}",
];
