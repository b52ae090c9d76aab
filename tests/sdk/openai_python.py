"""Scenarios through the official `openai` Python package against a Chrysalis gateway.

    BASE_URL=http://127.0.0.1:8080/v1 python openai_python.py [SCENARIO...]

Prints `ok NAME` or `not ok NAME: why` for each scenario and `N passed, M failed` at the end; exits
1 if anything failed. The SDK is used unmodified: the API key is a placeholder the gateway ignores,
and retries are off so that a refusal is seen as it was sent. MODEL picks a model; without it the
first one the gateway lists is used. WORKER_PID, if given, is a worker to kill in the last scenario.
"""

import asyncio
import json
import os
import re
import signal
import sys
import time
import urllib.request
from typing import Literal, Optional

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8080/v1").rstrip("/")
TIMEOUT_S = float(os.environ.get("TIMEOUT_S", "300"))

client = OpenAI(base_url=BASE_URL, api_key="not-a-key", max_retries=0, timeout=TIMEOUT_S)
scenarios = []


def scenario(function):
    """Registers a scenario under its function name."""
    scenarios.append((function.__name__, function))
    return function


def check(condition, why):
    """Fails the scenario with `why` unless `condition` holds."""
    if not condition:
        raise AssertionError(why)


def refused(error_type, call):
    """Runs `call`, expects exactly `error_type`, and returns the error."""
    try:
        call()
    except error_type as error:
        return error
    except openai.APIError as error:
        raise AssertionError(f"expected {error_type.__name__}, got {type(error).__name__}") from error
    raise AssertionError(f"expected {error_type.__name__}, got an answer")


def model():
    """The model under test."""
    return os.environ.get("MODEL") or client.models.list().data[0].id


def user(text):
    """One user message."""
    return [{"role": "user", "content": text}]


def chat(messages, **options):
    """A greedy chat completion, short unless told otherwise."""
    options.setdefault("temperature", 0)
    if "max_completion_tokens" not in options:
        options.setdefault("max_tokens", 16)
    return client.chat.completions.create(model=model(), messages=messages, **options)


def content(answer):
    """Text of the only choice."""
    check(len(answer.choices) == 1, f"{len(answer.choices)} choices")
    return answer.choices[0].message.content


def joined(stream):
    """Text, finish reason and usage of a chat stream; checks the order of its parts."""
    text, finish, usage, seen = "", None, None, 0
    for chunk in stream:
        seen += 1
        check(chunk.object == "chat.completion.chunk", f"object {chunk.object!r}")
        if chunk.usage is not None:
            usage = chunk.usage
        for choice in chunk.choices:
            check(finish is None or not choice.delta.content, "text after the finish reason")
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    check(seen > 0, "the stream was empty")
    return text, finish, usage


LONG = "Count from one to fifty in English words, separated by commas."


@scenario
def models_list_names_the_model():
    models = client.models.list().data
    check(models, "no model listed")
    check(all(m.object == "model" and m.id for m in models), "not model objects")


@scenario
def model_retrieve_returns_the_listed_model():
    check(client.models.retrieve(model()).id == model(), "another model came back")


@scenario
def model_retrieve_of_an_unknown_model_is_404():
    error = refused(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"))
    check(error.code == "model_not_found", f"code {error.code!r}")


@scenario
def chat_answers_with_text_and_usage():
    answer = chat(user("Say hello."))
    check(answer.object == "chat.completion", f"object {answer.object!r}")
    check(answer.model == model(), f"model {answer.model!r}")
    check(answer.choices[0].message.role == "assistant", "role")
    check(content(answer), "empty answer")
    check(answer.choices[0].finish_reason in ("stop", "length"), "finish reason")
    usage = answer.usage
    check(usage.prompt_tokens > 0 and usage.completion_tokens > 0, "no tokens counted")
    check(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, "sum is wrong")


@scenario
def chat_stream_equals_the_plain_answer():
    text, finish, usage = joined(chat(user("Say hello."), stream=True))
    check(finish in ("stop", "length"), f"finish {finish!r}")
    check(usage is None, "usage was not asked for")
    check(text == content(chat(user("Say hello."))), "stream and plain answer differ")


@scenario
def chat_stream_includes_usage_when_asked():
    stream = chat(user("Say hello."), stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    last = chunks[-1]
    check(last.choices == [] and last.usage is not None, "the last chunk does not carry usage")
    check(last.usage.completion_tokens > 0, "no completion tokens")
    check(all(c.usage is None for c in chunks[:-1]), "usage before the last chunk")


@scenario
def stop_sequence_ends_the_answer_before_it():
    whole = content(chat(user(LONG), max_tokens=24))
    words = [w for w in whole.split() if w]
    check(len(words) >= 3, f"only {len(words)} words to choose a stop from")
    stop = words[2]
    answer = chat(user(LONG), max_tokens=24, stop=[stop])
    check(stop not in content(answer), "the stop sequence is in the answer")
    check(whole.startswith(content(answer)), "the answer is not a prefix of the unstopped one")
    check(answer.choices[0].finish_reason == "stop", "finish reason is not stop")


@scenario
def max_tokens_limits_the_answer():
    answer = chat(user(LONG), max_tokens=4)
    check(answer.usage.completion_tokens == 4, f"{answer.usage.completion_tokens} tokens")
    check(answer.choices[0].finish_reason == "length", "finish reason is not length")


@scenario
def max_completion_tokens_limits_the_answer():
    answer = chat(user(LONG), max_completion_tokens=3)
    check(answer.usage.completion_tokens == 3, f"{answer.usage.completion_tokens} tokens")


@scenario
def temperature_zero_is_deterministic():
    first, second = (content(chat(user(LONG), seed=1)) for _ in range(2))
    check(first == second, "two greedy answers differ")


@scenario
def equal_seeds_give_equal_samples():
    first, second = (content(chat(user(LONG), seed=7, temperature=1.0, top_p=0.9)) for _ in range(2))
    check(first == second, "two samples with one seed differ")


# Two tokens of the default model's vocabulary, B and C.
TWO_TOKENS = ("50", "51")


@scenario
def logit_bias_forces_a_token():
    text = content(chat(user(LONG), max_tokens=6, logit_bias={TWO_TOKENS[0]: 100}))
    check(text == "BBBBBB", f"not the one token six times: {text!r}")


@scenario
def frequency_penalty_makes_two_forced_tokens_take_turns():
    forced = {token: 100 for token in TWO_TOKENS}
    plain = content(chat(user(LONG), logit_bias=forced))
    turns = content(chat(user(LONG), logit_bias=forced, frequency_penalty=2))
    rarer = lambda text: min(text.count(character) for character in "BC")
    check(rarer(plain) < rarer(turns), f"no more turns with the penalty: {plain!r} {turns!r}")


@scenario
def min_p_of_one_is_greedy_at_any_temperature():
    sampled = chat(user(LONG), temperature=2, seed=3, extra_body={"min_p": 1})
    check(content(sampled) == content(chat(user(LONG))), "another token than the best was drawn")


def scored(tokens):
    """Bytes of a list of tokens with log probabilities; checks each against its alternatives."""
    for token in tokens:
        check(token.logprob <= 0, f"log probability {token.logprob}")
        for likelier, other in zip(token.top_logprobs, token.top_logprobs[1:]):
            check(likelier.logprob >= other.logprob, "alternatives are not in order")
    return bytes(byte for token in tokens for byte in token.bytes or [])


@scenario
def logprobs_spell_the_answer_and_come_with_alternatives():
    answer = chat(user("Say hello."), logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    check(scored(tokens) == content(answer).encode(), "the tokens are not the answer")
    check(all(len(token.top_logprobs) == 3 for token in tokens), "not three alternatives each")
    check(all(t.token == t.top_logprobs[0].token for t in tokens), "greedy, but not the likeliest")
    check(chat(user("Say hello.")).choices[0].logprobs is None, "nobody asked for them")


@scenario
def logprobs_of_a_stream_equal_those_of_the_plain_answer():
    options = {"logprobs": True, "top_logprobs": 2}
    plain = chat(user("Say hello."), **options).choices[0].logprobs.content
    streamed = []
    for chunk in chat(user("Say hello."), stream=True, **options):
        for choice in chunk.choices:
            if choice.logprobs is not None:
                streamed += choice.logprobs.content
    check(streamed == plain, "the log probabilities differ")


@scenario
def top_logprobs_without_logprobs_are_refused():
    error = refused(openai.BadRequestError, lambda: chat(user("hi"), top_logprobs=2))
    check(error.param == "top_logprobs", f"param {error.param!r}")


@scenario
def completion_logprobs_are_lists_side_by_side():
    answer = client.completions.create(
        model=model(), prompt="Once upon a time", max_tokens=6, temperature=0, logprobs=2
    )
    logprobs, text = answer.choices[0].logprobs, answer.choices[0].text
    lists = (logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, logprobs.text_offset)
    check({len(each) for each in lists} == {len(logprobs.tokens)}, "lists of different lengths")
    check("".join(logprobs.tokens) == text, "the tokens are not the text")
    check(all(text[at:].startswith(t) for at, t in zip(logprobs.text_offset, logprobs.tokens)), "offsets")
    check(all(max(top, key=top.get) == t for top, t in zip(logprobs.top_logprobs, logprobs.tokens)), "best")


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mood": {"enum": ["glad", "sad"]},
        "friends": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 2},
    },
    "required": ["name", "age", "mood", "friends"],
    "additionalProperties": False,
}


def formatted(schema):
    """`response_format` for a schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


@scenario
def json_schema_holds_for_every_seed_at_a_high_temperature():
    for seed in range(6):
        answer = chat(
            user("Describe a person."),
            response_format=formatted(PERSON), temperature=1.5, seed=seed, max_tokens=160,
        )
        check(answer.choices[0].finish_reason == "stop", "it was cut")
        person = json.loads(content(answer))
        check(list(person) == PERSON["required"], f"properties {list(person)}")
        check(0 <= person["age"] <= 150 and person["mood"] in ("glad", "sad"), f"{person}")
        check(1 <= len(person["name"]) <= 20 and len(person["friends"]) <= 2, f"{person}")


@scenario
def json_object_parses_unless_it_is_cut():
    answer = chat(
        user("Give a JSON object with one key."), response_format={"type": "json_object"}, max_tokens=96
    )
    text = content(answer)
    check(text.startswith("{"), f"not an object: {text!r}")
    if answer.choices[0].finish_reason == "stop":
        check(isinstance(json.loads(text), dict), "not an object")


@scenario
def the_sdks_parse_helper_returns_a_typed_answer():
    class Weather(BaseModel):
        city: str = Field(max_length=20)
        degrees: int = Field(ge=-50, le=50)
        kind: Literal["rain", "sun"]
        note: Optional[str] = Field(max_length=8)

    answer = client.chat.completions.parse(
        model=model(), messages=user("What is the weather in Paris?"), max_tokens=120, temperature=0,
        response_format=Weather,
    )
    weather = answer.choices[0].message.parsed
    check(isinstance(weather, Weather) and -50 <= weather.degrees <= 50, f"{weather!r}")


@scenario
def a_stream_of_json_equals_the_plain_answer():
    options = {"response_format": formatted(PERSON), "max_tokens": 160}
    text, finish, _ = joined(chat(user("Describe a person."), stream=True, **options))
    check(finish == "stop" and json.loads(text), "not a complete answer")
    check(text == content(chat(user("Describe a person."), **options)), "they differ")


@scenario
def guided_regex_and_choice_hold():
    plate = content(chat(user("A number plate?"), temperature=1.5, seed=3, extra_body={"guided_regex": "[A-Z]{2}-[0-9]{3}"}))
    check(re.fullmatch("[A-Z]{2}-[0-9]{3}", plate), f"{plate!r}")
    answer = client.completions.create(
        model=model(), prompt="Is the sky blue? ", max_tokens=8, extra_body={"guided_choice": ["yes", "no"]}
    )
    check(answer.choices[0].text in ("yes", "no"), f"{answer.choices[0].text!r}")


@scenario
def a_guided_grammar_holds_and_one_that_is_none_is_refused_with_its_place():
    grammar = 'root ::= move (" " move){1,2}\nmove ::= [KQRBN]? [a-h] [1-8] # no captures'
    for seed in range(3):
        played = content(chat(user("Open."), temperature=1.5, seed=seed, max_tokens=40, extra_body={"guided_grammar": grammar}))
        check(re.fullmatch("[KQRBN]?[a-h][1-8]( [KQRBN]?[a-h][1-8]){1,2}", played), f"{played!r}")
    options = {"extra_body": {"guided_grammar": "root ::= move\nmove ::= (castle"}}
    error = refused(openai.BadRequestError, lambda: chat(user("hi"), **options))
    check(error.param == "guided_grammar", f"param {error.param!r}")
    check("(rule 2, line 2, column 17)" in error.message, error.message)


@scenario
def a_schema_keyword_that_would_not_be_kept_is_refused_by_name():
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    error = refused(openai.BadRequestError, lambda: chat(user("hi"), response_format=formatted(schema)))
    check(error.param == "response_format", f"param {error.param!r}")
    check("uniqueItems" in error.message, f"message {error.message!r}")


@scenario
def a_schema_that_nothing_can_be_is_refused():
    schema = {"type": "integer", "minimum": 2, "maximum": 1}
    error = refused(openai.BadRequestError, lambda: chat(user("hi"), response_format=formatted(schema)))
    check(error.param == "response_format", f"param {error.param!r}")


@scenario
def several_turns_are_one_conversation():
    turns = user("My name is Ada.")
    short = chat(turns)
    turns = turns + [{"role": "assistant", "content": content(short) or "Hello."}]
    turns = turns + user("What is my name?")
    longer = chat(turns)
    check(content(longer), "empty answer")
    check(longer.usage.prompt_tokens > short.usage.prompt_tokens, "earlier turns were dropped")


@scenario
def system_prompt_reaches_the_model():
    system = [{"role": "system", "content": "Answer in capital letters. " * 8}]
    without, with_system = chat(user("Say hello.")), chat(system + user("Say hello."))
    check(content(with_system), "empty answer")
    check(with_system.usage.prompt_tokens > without.usage.prompt_tokens, "it was dropped")


@scenario
def content_parts_equal_plain_content():
    parts = [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]
    check(content(chat(parts)) == content(chat(user("Say hello."))), "answers differ")


@scenario
def completion_answers_with_text_and_usage():
    answer = client.completions.create(
        model=model(), prompt="Once upon a time", max_tokens=8, temperature=0
    )
    check(answer.object == "text_completion", f"object {answer.object!r}")
    check(answer.choices[0].text, "empty answer")
    check(answer.usage.completion_tokens > 0, "no tokens counted")


@scenario
def completion_stream_equals_the_plain_answer():
    options = {"model": model(), "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    chunks = client.completions.create(**options, stream=True)
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    check(text == client.completions.create(**options).choices[0].text, "answers differ")


def respond(said, **options):
    """A greedy response."""
    options.setdefault("max_output_tokens", 16)
    options.setdefault("temperature", 0)
    return client.responses.create(model=model(), input=said, **options)


@scenario
def a_response_says_what_a_chat_says():
    response = respond("Say hello.")
    check(response.object == "response" and response.id.startswith("resp_"), f"{response.id!r}")
    answer = chat(user("Say hello."))
    check(response.output_text == content(answer), "another text")
    check(response.usage.input_tokens == answer.usage.prompt_tokens, "other tokens")
    check(response.status in ("completed", "incomplete"), f"status {response.status!r}")
    check(response.store is False, "it says that it is stored")


@scenario
def a_streamed_response_has_the_events_the_sdk_reads():
    plain = respond("Say hello.")
    text, names, last = "", [], None
    for event in respond("Say hello.", stream=True):
        check(event.sequence_number == len(names), "events are not numbered in order")
        names.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
        last = event
    check(names[0] == "response.created", f"first {names[0]!r}")
    check(last.type in ("response.completed", "response.incomplete"), f"last {last.type!r}")
    check(text == plain.output_text == last.response.output_text, "texts differ")
    check(last.response.usage == plain.usage, "tokens differ")


@scenario
def a_response_goes_on_from_messages_it_is_given():
    first = respond("My name is Ada.")
    turns = user("My name is Ada.") + [item.model_dump(exclude_none=True) for item in first.output]
    second = respond(turns + user("What is my name?"), instructions="Answer in one word.")
    check(second.usage.input_tokens > first.usage.input_tokens, "earlier turns were dropped")


@scenario
def a_response_may_have_to_be_an_instance_of_a_schema():
    text = {"format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}}
    response = respond("Describe a person.", text=text, max_output_tokens=160)
    check(response.status == "completed", f"status {response.status!r}")
    check(list(json.loads(response.output_text)) == PERSON["required"], response.output_text)


@scenario
def responses_that_need_something_stored_are_refused_by_name():
    for field, value in (("store", True), ("previous_response_id", "resp_1"), ("background", True)):
        error = refused(openai.BadRequestError, lambda: respond("hi", **{field: value}))
        check(error.param == field, f"param {error.param!r} for {field}")


@scenario
def unknown_parameter_is_refused_by_name():
    call = lambda: chat(user("hi"), extra_body={"frobnicate": 1})
    error = refused(openai.BadRequestError, call)
    check(error.param == "frobnicate", f"param {error.param!r}")
    check("frobnicate" in error.message, "the message does not name it")


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 20},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}


def the_call(answer):
    """The only call of an answer, and its arguments."""
    choice = answer.choices[0]
    check(choice.finish_reason == "tool_calls", f"finish {choice.finish_reason!r}")
    check(choice.message.content is None, f"content {choice.message.content!r}")
    check(len(choice.message.tool_calls) == 1, f"{len(choice.message.tool_calls)} calls")
    call = choice.message.tool_calls[0]
    check(call.id and call.type == "function", "no id or type")
    return call, json.loads(call.function.arguments)


@scenario
def a_required_tool_is_called_with_arguments_of_its_schema():
    for seed in range(4):
        answer = chat(
            user("What is the weather in Paris?"), tools=[WEATHER], tool_choice="required",
            temperature=1.5, seed=seed, max_tokens=100,
        )
        call, arguments = the_call(answer)
        check(call.function.name == "get_weather", call.function.name)
        check(arguments["unit"] in ("celsius", "fahrenheit") and len(arguments["city"]) <= 20, f"{arguments}")


@scenario
def a_named_tool_is_the_one_that_is_called():
    named = {"type": "function", "function": {"name": "get_time"}}
    answer = chat(user("Hello."), tools=[WEATHER, TIME], tool_choice=named, max_tokens=60)
    call, arguments = the_call(answer)
    check((call.function.name, arguments) == ("get_time", {}), f"{call.function.name} {arguments}")


@scenario
def a_streamed_call_equals_the_plain_one():
    options = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 100}
    plain, arguments = the_call(chat(user("Weather in Rome?"), **options))
    name, text, finish = None, "", None
    for chunk in chat(user("Weather in Rome?"), stream=True, **options):
        for choice in chunk.choices:
            check(not choice.delta.content, f"content {choice.delta.content!r}")
            for call in choice.delta.tool_calls or []:
                check(call.index == 0, f"index {call.index}")
                name = call.function.name or name
                text += call.function.arguments or ""
            finish = choice.finish_reason or finish
    check((name, json.loads(text), finish) == (plain.function.name, arguments, "tool_calls"), f"{name} {text}")


@scenario
def one_call_at_most_is_made_where_parallel_calls_are_off():
    for seed in range(3):
        answer = chat(
            user("What is the weather in Paris, and what in Rome? Call the tool."), tools=[WEATHER],
            parallel_tool_calls=False, temperature=1.0, seed=seed, max_tokens=100,
        )
        choice = answer.choices[0]
        calls = choice.message.tool_calls or []
        check(len(calls) <= 1, f"{len(calls)} calls")
        check((choice.finish_reason == "tool_calls") == (len(calls) == 1) or choice.finish_reason == "length", choice.finish_reason)
        check("<tool_call>" not in (choice.message.content or "") or choice.finish_reason == "length", "a call that is text")
    called, arguments = the_call(chat(
        user("Paris?"), tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, max_tokens=100,
    ))
    check(called.function.name == "get_weather", called.function.name)


@scenario
def a_streamed_answer_with_parallel_calls_off_equals_the_plain_one():
    options = {"tools": [WEATHER, TIME], "parallel_tool_calls": False, "max_tokens": 60}
    plain = chat(user("What time is it in Oslo?"), **options).choices[0]
    text, names, finish = "", [], None
    for chunk in chat(user("What time is it in Oslo?"), stream=True, **options):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            names += [call.function.name for call in choice.delta.tool_calls or [] if call.function.name]
            finish = choice.finish_reason or finish
    made = [call.function.name for call in plain.message.tool_calls or []]
    check((text, names, finish) == (plain.message.content or "", made, plain.finish_reason), f"{text!r} {names} {finish}")


@scenario
def a_strict_tool_whose_schema_cannot_be_kept_is_refused():
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object", "not": {}}}}
    error = refused(openai.BadRequestError, lambda: chat(user("hi"), tools=[tool]))
    check(error.param == "tools" and ": not" in error.message, error.message)


@scenario
def a_model_without_a_switch_for_reasoning_refuses_one():
    wish = {"chat_template_kwargs": {"enable_thinking": False}}
    error = refused(openai.BadRequestError, lambda: chat(user("hi"), extra_body=wish))
    check("enable_thinking" in error.message, error.message)
    unknown = {"chat_template_kwargs": {"think": True}}
    error = refused(openai.BadRequestError, lambda: chat(user("hi"), extra_body=unknown))
    check(error.param == "chat_template_kwargs.think", f"param {error.param!r}")


@scenario
def a_result_of_a_tool_is_answered_in_words():
    turns = user("What is the weather in Paris?")
    call, _ = the_call(chat(turns, tools=[WEATHER], tool_choice="required", max_tokens=100))
    turns = turns + [
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"},
    ]
    without = chat(user("What is the weather in Paris?"), tools=[WEATHER])
    answer = chat(turns, tools=[WEATHER], tool_choice="auto")
    check(answer.choices[0].finish_reason in ("stop", "length", "tool_calls"), "finish")
    check(answer.usage.prompt_tokens > without.usage.prompt_tokens, "call and result were dropped")


@scenario
def what_the_sdks_helpers_make_of_an_answer_is_taken_back():
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    options = {
        "model": model(), "tools": [strict], "tool_choice": "required", "max_tokens": 100, "temperature": 0,
    }
    turns = user("What is the weather in Paris?")
    with client.chat.completions.stream(messages=turns, **options) as stream:
        streamed = stream.get_final_completion().choices[0].message
    parsed = client.chat.completions.parse(messages=turns, **options).choices[0].message
    check(parsed.tool_calls[0].function.parsed_arguments["unit"], "the helper read nothing")
    for message in (streamed, parsed):
        for told in (message, message.model_dump(), message.to_dict()):
            result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
            answer = chat([*turns, told, result], tools=[strict])
            check(answer.usage.completion_tokens > 0, "no answer")


@scenario
def tools_that_are_not_to_be_called_are_not_told():
    plain = chat(user("Say hello."))
    none = chat(user("Say hello."), tools=[WEATHER], tool_choice="none")
    check(content(none) == content(plain), "another answer")
    check(none.usage.prompt_tokens == plain.usage.prompt_tokens, "they were told")


@scenario
def a_tool_choice_that_names_no_tool_is_refused():
    named = {"type": "function", "function": {"name": "no_such_tool"}}
    call = lambda: chat(user("hi"), tools=[WEATHER], tool_choice=named)
    error = refused(openai.BadRequestError, call)
    check(error.param == "tool_choice.function.name", f"param {error.param!r}")


@scenario
def functions_are_refused_by_name():
    call = lambda: chat(user("hi"), functions=[{"name": "f", "parameters": {}}])
    error = refused(openai.BadRequestError, call)
    check(error.param == "functions", f"param {error.param!r}")


@scenario
def unknown_model_is_404():
    call = lambda: client.chat.completions.create(model="no-such-model", messages=user("hi"))
    error = refused(openai.NotFoundError, call)
    check(error.code == "model_not_found", f"code {error.code!r}")


@scenario
def choices_differ_and_the_first_is_the_answer_for_one():
    options = {"temperature": 1.0, "seed": 7, "max_tokens": 12}
    three = chat(user(LONG), n=3, **options)
    texts = [choice.message.content for choice in three.choices]
    check([choice.index for choice in three.choices] == [0, 1, 2], "indexes")
    check(len(set(texts)) == 3, f"equal choices: {texts!r}")
    one = chat(user(LONG), **options)
    check(texts[0] == content(one), "the first choice is another answer")
    check(three.usage.prompt_tokens == one.usage.prompt_tokens, "the prompt was counted again")
    check(three.usage.completion_tokens > one.usage.completion_tokens, "completions not counted")


@scenario
def choices_of_a_stream_equal_the_plain_ones():
    options = {"temperature": 1.0, "seed": 7, "n": 2, "logprobs": True}
    plain = [choice.message.content for choice in chat(user(LONG), **options).choices]
    streamed, ended = ["", ""], [0, 0]
    for chunk in chat(user(LONG), stream=True, **options):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
            ended[choice.index] += choice.finish_reason is not None
    check(streamed == plain, f"{streamed!r} is not {plain!r}")
    check(ended == [1, 1], f"ends {ended}")


@scenario
def completion_with_two_choices_answers_both():
    answer = client.completions.create(
        model=model(), prompt="Once upon a time", max_tokens=8, n=2, seed=5, extra_body={"best_of": 2}
    )
    check(len({choice.text for choice in answer.choices}) == 2, "not two different choices")


@scenario
def more_choices_than_there_can_be_are_refused():
    error = refused(openai.BadRequestError, lambda: chat(user("hi"), n=9))
    check(error.param == "n", f"param {error.param!r}")


@scenario
def prompts_of_one_cache_key_are_cached_and_of_another_not():
    key, text = os.urandom(32).hex(), "Remember this sentence well. " * 12
    cached = lambda key: chat(
        user(text), max_tokens=2, prompt_cache_key=key
    ).usage.prompt_tokens_details.cached_tokens
    check(cached(key) == 0, "somebody else's prompt was reused")
    check(cached(key) > 0, "the same prompt was computed again")
    check(cached(os.urandom(32).hex()) == 0, "another key found it")


@scenario
def priority_is_among_the_requests_of_one_cache_key():
    key = os.urandom(32).hex()
    ask = lambda **more: content(chat(user("Say hello."), extra_body={"priority": -1}, **more))
    check(ask(prompt_cache_key=key) == content(chat(user("Say hello."))), "priority changed the answer")
    error = refused(openai.BadRequestError, ask)
    check(error.param == "priority", f"param {error.param!r}")


@scenario
def temperature_out_of_range_is_refused():
    error = refused(openai.BadRequestError, lambda: chat(user("hi"), temperature=5))
    check(error.param == "temperature", f"param {error.param!r}")


def receipt(identifier):
    """The stored receipt `identifier`, from the gateway."""
    with urllib.request.urlopen(f"{BASE_URL}/receipts/{identifier}", timeout=30) as response:
        return json.load(response)


@scenario
def receipt_id_is_in_a_header_and_the_receipt_is_kept():
    raw = client.chat.completions.with_raw_response.create(
        model=model(), messages=user("hi"), max_tokens=4
    )
    identifier = raw.headers.get("x-chrysalis-receipt-id", "")
    check(len(identifier) == 32, f"receipt id {identifier!r}")
    check(content(raw.parse()) is not None, "no answer")
    check(receipt(identifier)["schema"] == "chrysalis/stored-receipt/v1", "schema")


@scenario
def receipt_of_a_stream_is_kept():
    raw = client.chat.completions.with_raw_response.create(
        model=model(), messages=user("hi"), max_tokens=4, stream=True
    )
    identifier = raw.headers.get("x-chrysalis-receipt-id", "")
    check(len(identifier) == 32, f"receipt id {identifier!r}")
    joined(raw.parse())
    check(receipt(identifier)["schema"] == "chrysalis/stored-receipt/v1", "schema")


@scenario
def aborted_stream_leaves_the_gateway_working():
    stream = chat(user(LONG), stream=True, max_tokens=200)
    for _, _chunk in zip(range(3), stream):
        pass
    stream.close()
    started = time.monotonic()
    check(content(chat(user("Say hello."), max_tokens=4)), "empty answer after an abort")
    check(time.monotonic() - started < TIMEOUT_S / 2, "the next request waited for the aborted one")


@scenario
def embeddings_of_a_model_that_chats_are_refused():
    create = lambda: client.embeddings.create(model=model(), input="hi")
    error = refused(openai.BadRequestError, create)
    check(error.code == "unsupported_endpoint" and "/v1/chat/completions" in str(error), str(error))


@scenario
def two_requests_at_once_are_both_answered():
    async def both():
        # One instance for each loop. A worker that computes one request at a time lets the other wait.
        async with AsyncOpenAI(
            base_url=BASE_URL, api_key="not-a-key", max_retries=0, timeout=TIMEOUT_S
        ) as both_client:
            ask = lambda text: both_client.chat.completions.create(
                model=model(), messages=user(text), max_tokens=8, temperature=0
            )
            return await asyncio.gather(ask("Say hello."), ask("Say goodbye."))

    check(all(content(answer) for answer in asyncio.run(both())), "an answer is empty")


@scenario
def a_busy_worker_is_a_RateLimitError_with_the_time_to_wait():
    # Each choice takes a place of the engine: of four that are computed and sixteen that wait, by default.
    busy = [chat(user(LONG), stream=True, n=8, max_tokens=200, temperature=1) for _ in range(2)]
    try:
        error = refused(openai.RateLimitError, lambda: chat(user("hi"), n=8))
    finally:
        for stream in busy:
            stream.close()
    check(error.code == "rate_limit_exceeded", f"code {error.code!r}")
    wait = error.response.headers.get("retry-after")
    check(wait == "1", f"retry-after {wait!r}")
    patient = client.with_options(max_retries=20)
    answer = patient.chat.completions.create(model=model(), messages=user("hi"), max_tokens=4, n=8)
    check(len(answer.choices) == 8, "no answer once there is room")


def a_stream_whose_worker_is_killed_is_an_error():
    error = None
    try:
        for seen, _chunk in enumerate(chat(user(LONG), stream=True, max_tokens=400)):
            if seen == 3:
                os.kill(int(os.environ["WORKER_PID"]), signal.SIGKILL)
    except openai.APIError as caught:
        error = caught
    check(error is not None, "a cut stream ended as if it were complete")
    check(error.code == "E-TRUNCATED", f"code {error.code!r}")


if "WORKER_PID" in os.environ:
    scenario(a_stream_whose_worker_is_killed_is_an_error)


def main():
    """Runs the scenarios named on the command line, or all."""
    wanted = set(sys.argv[1:])
    passed = failed = 0
    for name, function in scenarios:
        if wanted and name not in wanted:
            continue
        try:
            function()
        except Exception as error:  # a scenario must not end the run
            failed += 1
            print(f"not ok {name}: {type(error).__name__}: {error}", flush=True)
        else:
            passed += 1
            print(f"ok {name}", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
