#!/usr/bin/env python3
"""Records greedy output of llama.cpp, the independent reference of the engine's parity test.

Usage:
    python3 -m venv venv
    CMAKE_ARGS="-DGGML_NATIVE=ON" venv/bin/pip install llama-cpp-python==0.3.36
    venv/bin/python scripts/record-greedy.py MODEL.gguf tests/vectors/engine/prompts.json OUT.json

Each prompt is {"text": ...} (continued as it is; control tokens in it are plain text) or
{"chat": [{"role", "content"}, ...]} (rendered by the model's chat template with Jinja2). Recorded
for each: the rendered prompt, its token ids, and for 32 steps the two most likely tokens as
[id, logit]. The first of them is the next token, also where it ends the turn, so that every prompt
gives 32 steps. One thread, K/V cache in f32, prompt in one batch, plain CPU kernels.
"""

import hashlib
import json
import platform
import sys

import jinja2.sandbox
import llama_cpp
import numpy

STEPS = 32
F32 = 0  # enum ggml_type


def prompt_ids(llm, prompt):
    """The text the model sees and its token ids, by llama.cpp's tokenizer."""
    if "text" in prompt:
        return prompt["text"], llm.tokenize(prompt["text"].encode(), add_bos=False, special=False)
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = env.from_string(llm.metadata["tokenizer.chat_template"])
    text = template.render(messages=prompt["chat"], add_generation_prompt=True)
    return text, llm.tokenize(text.encode(), add_bos=False, special=True)


def record(llm, prompt):
    """One prompt and its greedy continuation."""
    rendered, ids = prompt_ids(llm, prompt)
    llm.reset()
    llm.eval(ids)
    steps = []
    for _ in range(STEPS):
        logits = numpy.ctypeslib.as_array(llm._ctx.get_logits(), shape=(llm.n_vocab(),))
        top = numpy.argsort(-logits, kind="stable")[:2]
        steps.append([[int(i), round(float(logits[i]), 5)] for i in top])
        llm.eval([int(top[0])])
    return {**prompt, "rendered": rendered, "ids": [int(i) for i in ids], "steps": steps}


def main():
    """Reads the model and the prompts, writes the reference."""
    model, prompts, out = sys.argv[1:]
    # Ordinary CPU kernels on any machine: no repacked weights, no AMX.
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False
    llama_cpp.llama_cpp.llama_model_default_params = lambda: params
    llm = llama_cpp.Llama(model, n_ctx=1024, n_batch=1024, n_ubatch=1024, n_threads=1,
                          n_threads_batch=1, type_k=F32, type_v=F32, verbose=False)
    with open(model, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with open(prompts, encoding="utf-8") as file:
        cases = json.load(file)
    head = {
        "made_by": "scripts/record-greedy.py MODEL.gguf tests/vectors/engine/prompts.json OUT.json",
        "model_sha256": digest,
        "llama_cpp_python": llama_cpp.__version__,
        "system_info": llama_cpp.llama_print_system_info().decode().strip(),
        "machine": platform.machine(),
    }
    lines = ",\n".join(json.dumps(record(llm, case), ensure_ascii=False) for case in cases)
    with open(out, "w", encoding="utf-8") as file:
        file.write(json.dumps(head, indent=1)[:-2] + ',\n "cases": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
