// Embeddings through the official `openai` npm package against a Chrysalis gateway whose worker serves
// all-MiniLM-L6-v2. Printed and used as `openai_js.mjs`.

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: "not-a-key",
  maxRetries: 0,
  timeout: 300_000,
});
const model = (await client.models.list()).data[0].id;

/** Fails the scenario with `why` unless `condition` holds. */
function check(condition, why) {
  if (!condition) throw new Error(why);
}

const scenarios = {
  async a_text_has_the_same_vector_in_both_encodings() {
    // The SDK asks for base64 by itself and decodes it.
    const input = "A man is eating food.";
    const coded = await client.embeddings.create({ model, input });
    const plain = await client.embeddings.create({ model, input, encoding_format: "float" });
    const [a, b] = [coded.data[0].embedding, plain.data[0].embedding];
    check(a.length === 384 && a.length === b.length, `${a.length} and ${b.length} numbers`);
    // Written as the shortest decimal that reads back as the same f32.
    check(a.every((x, i) => x === Math.fround(b[i])), "float and base64 differ");
    check(coded.usage.prompt_tokens === 8, JSON.stringify(coded.usage));
  },

  async lists_of_texts_and_of_token_ids_come_in_order() {
    const texts = await client.embeddings.create({ model, input: ["hello world", "hello"] });
    const ids = await client.embeddings.create({ model, input: [[7592, 2088], [7592]] });
    check(texts.data.map((item) => item.index).join() === "0,1", "order");
    for (const [i, item] of texts.data.entries()) {
      check(item.embedding.every((x, n) => x === ids.data[i].embedding[n]), `input ${i}`);
    }
  },

  async a_text_that_is_too_long_is_refused() {
    try {
      await client.embeddings.create({ model, input: "word ".repeat(255) });
    } catch (error) {
      check(error instanceof OpenAI.BadRequestError, error.constructor.name);
      check(error.code === "context_length_exceeded", error.code);
      return;
    }
    throw new Error("it was answered");
  },
};

let [passed, failed] = [0, 0];
for (const [name, run] of Object.entries(scenarios)) {
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
