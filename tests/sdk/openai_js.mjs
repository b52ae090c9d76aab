// Scenarios through the official `openai` npm package against a Chrysalis gateway.
//
//     BASE_URL=http://127.0.0.1:8080/v1 node openai_js.mjs [SCENARIO...]
//
// Prints `ok NAME` or `not ok NAME: why` for each scenario and `N passed, M failed` at the end;
// exits 1 if anything failed. The SDK is used unmodified: the API key is a placeholder the gateway
// ignores, and retries are off so that a refusal is seen as it was sent. MODEL picks a model;
// without it the first one the gateway lists is used. WORKER_PID, if given, is a worker to kill in
// the last scenario.

import OpenAI from "openai";

const BASE_URL = (process.env.BASE_URL ?? "http://127.0.0.1:8080/v1").replace(/\/+$/, "");
const TIMEOUT_MS = Number(process.env.TIMEOUT_S ?? "300") * 1000;
const LONG = "Count from one to fifty in English words, separated by commas.";

const client = new OpenAI({
  baseURL: BASE_URL,
  apiKey: "not-a-key",
  maxRetries: 0,
  timeout: TIMEOUT_MS,
});

/** Fails the scenario with `why` unless `condition` holds. */
function check(condition, why) {
  if (!condition) throw new Error(why);
}

/** Awaits `call`, expects exactly `type`, and returns the error. */
async function refused(type, call) {
  try {
    await call();
  } catch (error) {
    check(error instanceof type, `expected ${type.name}, got ${error.constructor.name}: ${error.message}`);
    return error;
  }
  throw new Error(`expected ${type.name}, got an answer`);
}

let cachedModel = process.env.MODEL;

/** The model under test. */
async function model() {
  cachedModel ??= (await client.models.list()).data[0].id;
  return cachedModel;
}

const user = (text) => [{ role: "user", content: text }];

/** A greedy chat completion, short unless told otherwise. */
async function chat(messages, options = {}) {
  const limit = "max_completion_tokens" in options ? {} : { max_tokens: 16 };
  return client.chat.completions.create({
    model: await model(),
    messages,
    temperature: 0,
    ...limit,
    ...options,
  });
}

/** Text of the only choice. */
function content(answer) {
  check(answer.choices.length === 1, `${answer.choices.length} choices`);
  return answer.choices[0].message.content;
}

/** Text, finish reason and usage of a chat stream; checks the order of its parts. */
async function joined(stream) {
  let [text, finish, usage, seen] = ["", null, null, 0];
  for await (const chunk of stream) {
    seen += 1;
    check(chunk.object === "chat.completion.chunk", `object ${chunk.object}`);
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      check(finish === null || !choice.delta.content, "text after the finish reason");
      text += choice.delta.content ?? "";
      finish = choice.finish_reason ?? finish;
    }
  }
  check(seen > 0, "the stream was empty");
  return { text, finish, usage };
}

/** Text of a list of tokens with log probabilities; checks each against its alternatives. */
function scored(tokens) {
  for (const { logprob, top_logprobs: top } of tokens) {
    check(logprob <= 0, `log probability ${logprob}`);
    check(top.every((t, n) => n === 0 || top[n - 1].logprob >= t.logprob), "not in order");
  }
  return Buffer.from(tokens.flatMap((token) => token.bytes ?? [])).toString();
}

const PERSON = {
  type: "object",
  properties: {
    name: { type: "string", minLength: 1, maxLength: 20 },
    age: { type: "integer", minimum: 0, maximum: 150 },
  },
  required: ["name", "age"],
  additionalProperties: false,
};

const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city.",
    parameters: {
      type: "object",
      properties: {
        city: { type: "string", maxLength: 20 },
        unit: { type: "string", enum: ["celsius", "fahrenheit"] },
      },
      required: ["city", "unit"],
    },
  },
};

/** `response_format` for a schema. */
const formatted = (schema) => ({
  type: "json_schema",
  json_schema: { name: "answer", schema, strict: true },
});

/** The stored receipt `id`, from the gateway. */
async function receipt(id) {
  const response = await fetch(`${BASE_URL}/receipts/${id}`);
  check(response.ok, `receipt ${id}: HTTP ${response.status}`);
  return response.json();
}

const scenarios = {
  async models_list_names_the_model() {
    const models = (await client.models.list()).data;
    check(models.length > 0, "no model listed");
    check(models.every((m) => m.object === "model" && m.id), "not model objects");
  },

  async model_retrieve_returns_the_listed_model() {
    check((await client.models.retrieve(await model())).id === (await model()), "another model came back");
  },

  async model_retrieve_of_an_unknown_model_is_404() {
    const error = await refused(OpenAI.NotFoundError, () => client.models.retrieve("no-such-model"));
    check(error.code === "model_not_found", `code ${error.code}`);
  },

  async chat_answers_with_text_and_usage() {
    const answer = await chat(user("Say hello."));
    check(answer.object === "chat.completion", `object ${answer.object}`);
    check(answer.model === (await model()), `model ${answer.model}`);
    check(answer.choices[0].message.role === "assistant", "role");
    check(content(answer), "empty answer");
    check(["stop", "length"].includes(answer.choices[0].finish_reason), "finish reason");
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
    check(prompt_tokens > 0 && completion_tokens > 0, "no tokens counted");
    check(total_tokens === prompt_tokens + completion_tokens, "sum is wrong");
  },

  async chat_stream_equals_the_plain_answer() {
    const { text, finish, usage } = await joined(await chat(user("Say hello."), { stream: true }));
    check(["stop", "length"].includes(finish), `finish ${finish}`);
    check(usage === null, "usage was not asked for");
    check(text === content(await chat(user("Say hello."))), "stream and plain answer differ");
  },

  async chat_stream_includes_usage_when_asked() {
    const options = { stream: true, stream_options: { include_usage: true } };
    const chunks = [];
    for await (const chunk of await chat(user("Say hello."), options)) chunks.push(chunk);
    const last = chunks.pop();
    check(last.choices.length === 0 && last.usage, "the last chunk does not carry usage");
    check(last.usage.completion_tokens > 0, "no completion tokens");
    check(chunks.every((c) => !c.usage), "usage before the last chunk");
  },

  async stop_sequence_ends_the_answer_before_it() {
    const whole = content(await chat(user(LONG), { max_tokens: 24 }));
    const words = whole.split(/\s+/).filter(Boolean);
    check(words.length >= 3, `only ${words.length} words to choose a stop from`);
    const answer = await chat(user(LONG), { max_tokens: 24, stop: [words[2]] });
    check(!content(answer).includes(words[2]), "the stop sequence is in the answer");
    check(whole.startsWith(content(answer)), "the answer is not a prefix of the unstopped one");
    check(answer.choices[0].finish_reason === "stop", "finish reason is not stop");
  },

  async max_tokens_limits_the_answer() {
    const answer = await chat(user(LONG), { max_tokens: 4 });
    check(answer.usage.completion_tokens === 4, `${answer.usage.completion_tokens} tokens`);
    check(answer.choices[0].finish_reason === "length", "finish reason is not length");
  },

  async max_completion_tokens_limits_the_answer() {
    const answer = await chat(user(LONG), { max_completion_tokens: 3 });
    check(answer.usage.completion_tokens === 3, `${answer.usage.completion_tokens} tokens`);
  },

  async temperature_zero_is_deterministic() {
    const first = content(await chat(user(LONG), { seed: 1 }));
    const second = content(await chat(user(LONG), { seed: 1 }));
    check(first === second, "two greedy answers differ");
  },

  async equal_seeds_give_equal_samples() {
    const options = { seed: 7, temperature: 1, top_p: 0.9 };
    const first = content(await chat(user(LONG), options));
    const second = content(await chat(user(LONG), options));
    check(first === second, "two samples with one seed differ");
  },

  // Tokens 50 and 51 of the default model's vocabulary are B and C.
  async logit_bias_forces_a_token() {
    const text = content(await chat(user(LONG), { max_tokens: 6, logit_bias: { 50: 100 } }));
    check(text === "BBBBBB", `not the one token six times: ${text}`);
  },

  async frequency_penalty_makes_two_forced_tokens_take_turns() {
    const forced = { logit_bias: { 50: 100, 51: 100 } };
    const plain = content(await chat(user(LONG), forced));
    const turns = content(await chat(user(LONG), { ...forced, frequency_penalty: 2 }));
    const rarer = (text) => Math.min(...["B", "C"].map((one) => text.split(one).length - 1));
    check(rarer(plain) < rarer(turns), `no more turns with the penalty: ${plain} ${turns}`);
  },

  async min_p_of_one_is_greedy_at_any_temperature() {
    const sampled = await chat(user(LONG), { temperature: 2, seed: 3, min_p: 1 });
    const greedy = content(await chat(user(LONG)));
    check(content(sampled) === greedy, "another token than the best was drawn");
  },

  async logprobs_spell_the_answer_and_come_with_alternatives() {
    const answer = await chat(user("Say hello."), { logprobs: true, top_logprobs: 3 });
    const tokens = answer.choices[0].logprobs.content;
    check(scored(tokens) === content(answer), "the tokens are not the answer");
    check(tokens.every((t) => t.top_logprobs.length === 3), "not three alternatives each");
    check(tokens.every((t) => t.token === t.top_logprobs[0].token), "greedy, but not the likeliest");
    check((await chat(user("Say hello."))).choices[0].logprobs === null, "nobody asked for them");
  },

  async logprobs_of_a_stream_equal_those_of_the_plain_answer() {
    const options = { logprobs: true, top_logprobs: 2 };
    const plain = (await chat(user("Say hello."), options)).choices[0].logprobs.content;
    const streamed = [];
    for await (const chunk of await chat(user("Say hello."), { stream: true, ...options })) {
      for (const choice of chunk.choices) streamed.push(...(choice.logprobs?.content ?? []));
    }
    check(JSON.stringify(streamed) === JSON.stringify(plain), "the log probabilities differ");
  },

  async json_schema_holds_for_every_seed_at_a_high_temperature() {
    for (let seed = 0; seed < 4; seed += 1) {
      const options = { response_format: formatted(PERSON), temperature: 1.5, seed, max_tokens: 120 };
      const answer = await chat(user("Describe a person."), options);
      check(answer.choices[0].finish_reason === "stop", "it was cut");
      const person = JSON.parse(content(answer));
      check(Object.keys(person).join() === "name,age", `properties ${Object.keys(person)}`);
      check(Number.isInteger(person.age) && person.age >= 0 && person.age <= 150, `age ${person.age}`);
    }
  },

  async the_sdks_parse_helper_returns_an_object() {
    const answer = await client.chat.completions.parse({
      model: await model(),
      messages: user("Describe a person."),
      temperature: 0,
      max_tokens: 120,
      response_format: formatted(PERSON),
    });
    check(typeof answer.choices[0].message.content === "string", "no content");
    check(JSON.parse(answer.choices[0].message.content).name, "no name");
  },

  async guided_grammar_holds() {
    const guided_grammar = 'root ::= "yes" | "no" reason?\nreason ::= ", " [a-z]{2,5}';
    const answer = await chat(user("Yes or no?"), { temperature: 1.5, guided_grammar });
    check(/^(yes|no(, [a-z]{2,5})?)$/.test(content(answer)), content(answer));
  },

  async guided_choice_holds() {
    const answer = await chat(user("Yes or no?"), { temperature: 1.5, guided_choice: ["yes", "no"] });
    check(["yes", "no"].includes(content(answer)), content(answer));
  },

  async a_schema_keyword_that_would_not_be_kept_is_refused_by_name() {
    const schema = { type: "array", uniqueItems: true };
    const call = () => chat(user("hi"), { response_format: formatted(schema) });
    const error = await refused(OpenAI.BadRequestError, call);
    check(error.param === "response_format" && error.message.includes("uniqueItems"), error.message);
  },

  async several_turns_are_one_conversation() {
    const turns = user("My name is Ada.");
    const short = await chat(turns);
    turns.push({ role: "assistant", content: content(short) || "Hello." });
    turns.push(...user("What is my name?"));
    const longer = await chat(turns);
    check(content(longer), "empty answer");
    check(longer.usage.prompt_tokens > short.usage.prompt_tokens, "earlier turns were dropped");
  },

  async system_prompt_reaches_the_model() {
    const system = { role: "system", content: "Answer in capital letters. ".repeat(8) };
    const without = await chat(user("Say hello."));
    const withSystem = await chat([system, ...user("Say hello.")]);
    check(content(withSystem), "empty answer");
    check(withSystem.usage.prompt_tokens > without.usage.prompt_tokens, "it was dropped");
  },

  async content_parts_equal_plain_content() {
    const parts = [{ role: "user", content: [{ type: "text", text: "Say hello." }] }];
    check(content(await chat(parts)) === content(await chat(user("Say hello."))), "answers differ");
  },

  async completion_answers_with_text_and_usage() {
    const options = { prompt: "Once upon a time", max_tokens: 8, temperature: 0 };
    const answer = await client.completions.create({ model: await model(), ...options });
    check(answer.object === "text_completion", `object ${answer.object}`);
    check(answer.choices[0].text, "empty answer");
    check(answer.usage.completion_tokens > 0, "no tokens counted");
  },

  async completion_stream_equals_the_plain_answer() {
    const options = { model: await model(), prompt: "Once upon a time", max_tokens: 8, temperature: 0 };
    let text = "";
    for await (const chunk of await client.completions.create({ ...options, stream: true })) {
      for (const choice of chunk.choices) text += choice.text;
    }
    check(text === (await client.completions.create(options)).choices[0].text, "answers differ");
  },

  async a_response_says_what_a_chat_says() {
    const options = { input: "Say hello.", max_output_tokens: 16, temperature: 0 };
    const response = await client.responses.create({ model: await model(), ...options });
    check(response.output_text === content(await chat(user("Say hello."))), "another text");
  },

  async a_streamed_response_has_the_events_the_sdk_reads() {
    const options = { input: "Say hello.", max_output_tokens: 16, temperature: 0 };
    const request = { model: await model(), ...options };
    let [text, last] = ["", null];
    for await (const event of await client.responses.create({ ...request, stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    check(["response.completed", "response.incomplete"].includes(last.type), `last ${last.type}`);
    check(text === (await client.responses.create(request)).output_text, "texts differ");
  },

  async a_response_that_continues_a_stored_one_is_refused_by_name() {
    const request = { model: await model(), input: "hi", previous_response_id: "resp_1" };
    const error = await refused(OpenAI.BadRequestError, () => client.responses.create(request));
    check(error.param === "previous_response_id", `param ${error.param}`);
  },

  async unknown_parameter_is_refused_by_name() {
    const error = await refused(OpenAI.BadRequestError, () => chat(user("hi"), { frobnicate: 1 }));
    check(error.param === "frobnicate", `param ${error.param}`);
    check(error.message.includes("frobnicate"), "the message does not name it");
  },

  async a_required_tool_is_called_with_arguments_of_its_schema() {
    const options = { tools: [WEATHER], tool_choice: "required", max_tokens: 100 };
    const { finish_reason: finish, message } = (await chat(user("Weather in Rome?"), options)).choices[0];
    check(finish === "tool_calls" && message.content === null, `finish ${finish}`);
    check(message.tool_calls.length === 1, `${message.tool_calls.length} calls`);
    const { name, arguments: text } = message.tool_calls[0].function;
    const { city, unit } = JSON.parse(text);
    check(name === "get_weather" && typeof city === "string", name);
    check(["celsius", "fahrenheit"].includes(unit), `unit ${unit}`);
  },

  async the_sdks_stream_helper_puts_a_call_together() {
    const options = { tools: [WEATHER], tool_choice: "required", max_tokens: 100, temperature: 0 };
    const request = { model: await model(), messages: user("Weather in Rome?"), ...options };
    const final = await client.chat.completions.stream(request).finalMessage();
    check(final.tool_calls.length === 1, `${final.tool_calls.length} calls`);
    check(JSON.parse(final.tool_calls[0].function.arguments).unit, "no arguments");
  },

  async a_result_of_a_tool_is_answered() {
    const options = { tools: [WEATHER], tool_choice: "required", max_tokens: 100 };
    const turns = user("Weather in Rome?");
    const { message } = (await chat(turns, options)).choices[0];
    const id = message.tool_calls[0].id;
    turns.push(message, { role: "tool", tool_call_id: id, content: "sunny" });
    const answer = await chat(turns, { tools: [WEATHER] });
    check(answer.usage.completion_tokens > 0, "no answer");
  },

  async one_call_at_most_is_made_where_parallel_calls_are_off() {
    const options = { tools: [WEATHER], parallel_tool_calls: false, max_tokens: 100, temperature: 1, seed: 2 };
    const { message, finish_reason } = (await chat(user("Weather in Paris and Rome?"), options)).choices[0];
    const calls = message.tool_calls ?? [];
    check(calls.length <= 1, `${calls.length} calls`);
    check(finish_reason === "length" || (finish_reason === "tool_calls") === (calls.length === 1), finish_reason);
  },

  async what_the_sdks_helpers_make_of_an_answer_is_taken_back() {
    const tools = [{ ...WEATHER, function: { ...WEATHER.function, strict: true } }];
    const request = { model: await model(), tools, tool_choice: "required", max_tokens: 100, temperature: 0 };
    const asked = () => user("Weather in Rome?");
    const streamed = await client.chat.completions.stream({ ...request, messages: asked() }).finalMessage();
    const parsed = (await client.chat.completions.parse({ ...request, messages: asked() })).choices[0].message;
    check(parsed.tool_calls[0].function.parsed_arguments.unit, "the helper read nothing");
    for (const message of [streamed, parsed]) {
      const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sunny" };
      const answer = await chat([...asked(), message, result], { tools });
      check(answer.usage.completion_tokens > 0, "no answer");
    }
    const format = { model: await model(), max_tokens: 100, response_format: formatted(PERSON) };
    const person = await client.chat.completions.parse({ ...format, messages: user("Who?") });
    check("parsed" in person.choices[0].message, "the helper read nothing");
    const again = await chat([...user("Who?"), person.choices[0].message, ...user("Who else?")]);
    check(again.usage.completion_tokens > 0, "no answer");
  },

  async a_tool_choice_that_names_no_tool_is_refused() {
    const tool_choice = { type: "function", function: { name: "no_such_tool" } };
    const call = () => chat(user("hi"), { tools: [WEATHER], tool_choice });
    const error = await refused(OpenAI.BadRequestError, call);
    check(error.param === "tool_choice.function.name", `param ${error.param}`);
  },

  async unknown_model_is_404() {
    const call = () => chat(user("hi"), { model: "no-such-model" });
    const error = await refused(OpenAI.NotFoundError, call);
    check(error.code === "model_not_found", `code ${error.code}`);
  },

  async choices_differ_and_the_first_is_the_answer_for_one() {
    const options = { temperature: 1, seed: 7, max_tokens: 12 };
    const three = await chat(user(LONG), { n: 3, ...options });
    const texts = three.choices.map((choice) => choice.message.content);
    check(new Set(texts).size === 3, `equal choices: ${JSON.stringify(texts)}`);
    const one = await chat(user(LONG), options);
    check(texts[0] === content(one), "the first choice is another answer");
    check(three.usage.prompt_tokens === one.usage.prompt_tokens, "the prompt was counted again");
  },

  async choices_of_a_stream_equal_the_plain_ones() {
    const options = { temperature: 1, seed: 7, n: 2 };
    const plain = (await chat(user(LONG), options)).choices.map((c) => c.message.content);
    const streamed = ["", ""];
    for await (const chunk of await chat(user(LONG), { stream: true, ...options })) {
      for (const choice of chunk.choices) streamed[choice.index] += choice.delta.content ?? "";
    }
    check(JSON.stringify(streamed) === JSON.stringify(plain), "they differ");
  },

  async more_choices_than_there_can_be_are_refused() {
    const error = await refused(OpenAI.BadRequestError, () => chat(user("hi"), { n: 9 }));
    check(error.param === "n", `param ${error.param}`);
  },

  async temperature_out_of_range_is_refused() {
    const error = await refused(OpenAI.BadRequestError, () => chat(user("hi"), { temperature: 5 }));
    check(error.param === "temperature", `param ${error.param}`);
  },

  async receipt_id_is_in_a_header_and_the_receipt_is_kept() {
    const request = { model: await model(), messages: user("hi"), max_tokens: 4 };
    const { data, response } = await client.chat.completions.create(request).withResponse();
    const id = response.headers.get("x-chrysalis-receipt-id") ?? "";
    check(/^[0-9a-f]{32}$/.test(id), `receipt id ${id}`);
    check(content(data) !== null, "no answer");
    check((await receipt(id)).schema === "chrysalis/stored-receipt/v1", "schema");
  },

  async receipt_of_a_stream_is_kept() {
    const request = { model: await model(), messages: user("hi"), max_tokens: 4, stream: true };
    const { data, response } = await client.chat.completions.create(request).withResponse();
    const id = response.headers.get("x-chrysalis-receipt-id") ?? "";
    check(/^[0-9a-f]{32}$/.test(id), `receipt id ${id}`);
    await joined(data);
    check((await receipt(id)).schema === "chrysalis/stored-receipt/v1", "schema");
  },

  async aborted_stream_leaves_the_gateway_working() {
    let seen = 0;
    const stream = await chat(user(LONG), { stream: true, max_tokens: 200 });
    for await (const _chunk of stream) if ((seen += 1) === 3) break;
    stream.controller.abort();
    const started = Date.now();
    check(content(await chat(user("Say hello."), { max_tokens: 4 })), "empty answer after an abort");
    check(Date.now() - started < TIMEOUT_MS / 2, "the next request waited for the aborted one");
  },

  async two_requests_at_once_are_both_answered() {
    const ask = (text) => chat(user(text), { max_tokens: 8 });
    const answers = await Promise.all([ask("Say hello."), ask("Say goodbye.")]);
    check(answers.every((a) => content(a)), "an answer is empty");
  },

  async a_busy_worker_is_a_RateLimitError_with_the_time_to_wait() {
    // Each choice takes a place of the engine: of four that are computed and sixteen that wait, by default.
    const long = { stream: true, n: 8, max_tokens: 200, temperature: 1 };
    const busy = [await chat(user(LONG), long), await chat(user(LONG), long)];
    let error;
    try {
      error = await refused(OpenAI.RateLimitError, () => chat(user("hi"), { n: 8 }));
    } finally {
      busy.forEach((stream) => stream.controller.abort());
    }
    check(error.code === "rate_limit_exceeded", `code ${error.code}`);
    const wait = error.headers.get("retry-after");
    check(wait === "1", `retry-after ${wait}`);
  },
};

if (process.env.WORKER_PID) {
  scenarios.a_stream_whose_worker_is_killed_is_an_error = async () => {
    let [seen, error] = [0, null];
    try {
      for await (const _chunk of await chat(user(LONG), { stream: true, max_tokens: 400 })) {
        if ((seen += 1) === 4) process.kill(Number(process.env.WORKER_PID), "SIGKILL");
      }
    } catch (caught) {
      error = caught;
    }
    check(error instanceof OpenAI.APIError, "a cut stream ended as if it were complete");
    check(error.code === "E-TRUNCATED", `code ${error.code}`);
  };
}

const wanted = new Set(process.argv.slice(2));
let [passed, failed] = [0, 0];
for (const [name, run] of Object.entries(scenarios)) {
  if (wanted.size > 0 && !wanted.has(name)) continue;
  try {
    await run();
    passed += 1;
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`not ok ${name}: ${error.constructor.name}: ${error.message}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
