#!/usr/bin/env python3
"""The reference side of scripts/bench: llama.cpp doing the same tasks as our engine, in turn.

Usage: bench-llama.py MODEL.gguf THREADS SEQUENCES. Each line of standard input is a task; each line
of standard output says how long it took. Tasks are
{"alone": {"prompt": text, "decode": n}}: continue the text greedily by one token and then by n more;
{"together": {"prompts": [text, ...], "answer": n}}: continue at most SEQUENCES texts at once, greedily,
each by n tokens or until the model ends its turn, in one batch that every step computes whole.

llama.cpp runs with its defaults: K/V cache in f16, a part of it for each sequence, flash attention
where it has it, and the fastest kernels it was compiled with.
Its AMX kernels are known to crash on some virtual machines (llama.cpp issue 20824), so another
process tries the defaults first; where it dies, repacked weights and AMX are switched off, and the
first line of output says so.
"""

import ctypes
import json
import resource
import subprocess
import sys
import time

import llama_cpp
import numpy

CONTEXT = 4096
DEFAULT_PARAMS = llama_cpp.llama_cpp.llama_model_default_params
PROBE = {"prompt": "The captain wrote down the wind and the depth. " * 20, "decode": 2}


class Reference:
    """One model in one context."""

    def __init__(self, model, threads, sequences):
        # The binding's own context only serves its tokenizer; ours is as llama.cpp makes one.
        self.llm = llama_cpp.Llama(model, n_ctx=64, n_batch=64, n_threads=threads,
                                   n_threads_batch=threads, verbose=False)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = CONTEXT
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.llm._model.model, params)
        if not self.context:
            raise RuntimeError("llama.cpp made no context")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.llm._model.model)
        self.tokens = self.llm.n_vocab()
        self.batch = llama_cpp.llama_batch_init(CONTEXT, 0, 1)

    def step(self, parts):
        """Appends to each (sequence, position, ids); returns the most likely next token of each."""
        batch, at = self.batch, 0
        for sequence, position, ids in parts:
            for offset, token in enumerate(ids):
                batch.token[at] = token
                batch.pos[at] = position + offset
                batch.n_seq_id[at] = 1
                batch.seq_id[at][0] = sequence
                batch.logits[at] = offset == len(ids) - 1
                at += 1
        batch.n_tokens = at
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode refused a batch")
        logits = llama_cpp.llama_get_logits(self.context)
        logits = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float))
        logits = numpy.ctypeslib.as_array(logits, shape=(len(parts), self.tokens))
        return [int(token) for token in logits.argmax(axis=1)]

    def forget(self):
        """Empties the cache."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def ids(self, text):
        """Tokens of a text. Control tokens in it are plain text, as in our engine."""
        return self.llm.tokenize(text.encode(), add_bos=False, special=False)

    def alone(self, task):
        """One text."""
        self.forget()
        started = time.perf_counter()
        ids = self.ids(task["prompt"])
        token, = self.step([(0, 0, ids)])
        first = time.perf_counter()
        for position in range(len(ids), len(ids) + task["decode"]):
            token, = self.step([(0, position, [token])])
        ended = time.perf_counter()
        return {"prompt_tokens": len(ids), "prefill_seconds": first - started,
                "decode_seconds": ended - first}

    def together(self, task):
        """Several texts. What has ended leaves the batch."""
        self.forget()
        started, tokens = time.perf_counter(), 0
        parts = [(n, 0, self.ids(prompt)) for n, prompt in enumerate(task["prompts"])]
        for _ in range(task["answer"]):
            if not parts:
                break
            likeliest = self.step(parts)
            tokens += len(parts)
            parts = [(n, position + len(ids), [token])
                     for (n, position, ids), token in zip(parts, likeliest)
                     if not llama_cpp.llama_vocab_is_eog(self.vocabulary, token)]
        return {"tokens": tokens, "seconds": time.perf_counter() - started}


def plain_kernels():
    """Neither repacked weights nor AMX."""
    params = DEFAULT_PARAMS()
    params.use_extra_bufts = False
    return params


def defaults_work(model, threads):
    """Whether a process with default parameters survives a task."""
    command = [sys.executable, __file__, model, threads, "1", "probe"]
    done = subprocess.run(command, check=False, capture_output=True)
    return done.returncode == 0


def say(value):
    """Writes one line."""
    print(json.dumps(value), flush=True)


def main():
    """Loads the model, then does tasks until standard input ends."""
    model, threads, sequences, *probe = sys.argv[1:]
    kernels = "default kernels"
    if probe:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    elif not defaults_work(model, threads):
        llama_cpp.llama_cpp.llama_model_default_params = plain_kernels
        kernels = "without repacked weights and AMX, whose default use crashes on this machine"
    reference = Reference(model, int(threads), int(sequences))
    if probe:
        return say(reference.alone(PROBE))
    system = llama_cpp.llama_print_system_info().decode().strip(" |")
    say({"about": f"llama.cpp (llama-cpp-python {llama_cpp.__version__}), {kernels}; {system}"})
    for line in sys.stdin:
        (kind, task), = json.loads(line).items()
        say({"alone": reference.alone, "together": reference.together}[kind](task))


if __name__ == "__main__":
    main()
