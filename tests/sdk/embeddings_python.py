"""Embeddings through the official `openai` Python package against a Chrysalis gateway whose worker serves
all-MiniLM-L6-v2. Printed and used as `openai_python.py`.

    BASE_URL=http://127.0.0.1:8080/v1 python embeddings_python.py
"""

import os
import sys

import openai
from openai import OpenAI

client = OpenAI(base_url=os.environ["BASE_URL"], api_key="not-a-key", max_retries=0, timeout=300)
MODEL = client.models.list().data[0].id
SIZE = 384
scenarios = []


def scenario(function):
    """Registers a scenario."""
    scenarios.append(function)
    return function


def check(condition, why):
    """Fails the scenario with `why` unless `condition` holds."""
    if not condition:
        raise AssertionError(why)


def refused(error_type, **options):
    """Expects a request to be refused with `error_type`, and returns the error."""
    try:
        client.embeddings.create(model=MODEL, **options)
    except error_type as error:
        return error
    raise AssertionError(f"expected {error_type.__name__}, got an answer")


def vectors(input, **options):
    """The vectors of `input`, in order."""
    answer = client.embeddings.create(model=MODEL, input=input, **options)
    check([item.index for item in answer.data] == list(range(len(answer.data))), "order")
    return [item.embedding for item in answer.data]


def cosine(a, b):
    """Of vectors of length 1."""
    return sum(x * y for x, y in zip(a, b))


@scenario
def one_text_is_one_vector_of_length_one():
    # The SDK asks for base64 by itself and decodes it.
    answer = client.embeddings.create(model=MODEL, input="A man is eating food.")
    check(answer.object == "list" and answer.model == MODEL, "shape")
    (item,) = answer.data
    check(item.object == "embedding" and len(item.embedding) == SIZE, f"{len(item.embedding)} numbers")
    check(abs(cosine(item.embedding, item.embedding) - 1) < 1e-5, "length")
    # a man is eating food . with [CLS] and [SEP]
    check(answer.usage.prompt_tokens == 8 == answer.usage.total_tokens, f"{answer.usage}")


@scenario
def numbers_are_the_same_in_both_encodings():
    plain = vectors("How do I reset my password?", encoding_format="float")
    check(plain == vectors("How do I reset my password?"), "float and base64 differ")


@scenario
def many_texts_have_the_vectors_they_have_alone():
    texts = ["one", "two words", "three words here"] * 20
    alone = {text: vectors(text)[0] for text in texts[:3]}
    check(vectors(texts) == [alone[text] for text in texts], "a vector depends on its company")


@scenario
def token_ids_have_the_vector_of_their_text():
    # "hello world" in the model's vocabulary.
    ids = [7592, 2088]
    check(vectors(ids) == vectors("Hello world"), "ids")
    check(vectors([ids, ids]) == vectors(["hello world"] * 2), "lists of ids")


@scenario
def texts_that_mean_the_same_are_closer():
    a, b, c = vectors(["A man is eating food.", "Someone eats a meal.", "Shares fell today."])
    check(cosine(a, b) > 0.5 > 0.3 > cosine(a, c), f"{cosine(a, b)} {cosine(a, c)}")


@scenario
def a_text_that_is_too_long_is_refused_and_not_cut():
    check(len(vectors("word " * 254)[0]) == SIZE, "254 words and two tokens around them fit")
    error = refused(openai.BadRequestError, input=["short", "word " * 255])
    check(error.code == "context_length_exceeded" and error.param == "input[1]", f"{error.body}")


@scenario
def fewer_dimensions_are_refused_by_name():
    error = refused(openai.BadRequestError, input="a", dimensions=64)
    check(error.code == "unsupported_parameter" and error.param == "dimensions", f"{error.body}")


@scenario
def an_empty_input_is_refused():
    for empty in ["", [], [""]]:
        check(refused(openai.BadRequestError, input=empty).code == "empty_value", f"{empty!r}")


@scenario
def a_chat_with_this_model_is_refused_and_told_where_it_is_served():
    try:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    except openai.BadRequestError as error:
        check(error.code == "unsupported_endpoint" and "/v1/embeddings" in str(error), f"{error}")
        return
    raise AssertionError("an embedding model answered a chat")


@scenario
def the_list_of_models_says_what_it_does():
    (card,) = client.models.list().data
    check(card.model_extra["endpoints"] == ["/v1/embeddings"], f"{card}")


failed = 0
for run in scenarios:
    try:
        run()
        print(f"ok {run.__name__}", flush=True)
    except Exception as error:  # a scenario must not end the run
        failed += 1
        print(f"not ok {run.__name__}: {type(error).__name__}: {error}", flush=True)
print(f"{len(scenarios) - failed} passed, {failed} failed")
sys.exit(1 if failed else 0)
