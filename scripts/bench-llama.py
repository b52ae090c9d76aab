#!/usr/bin/env python3
"""The reference side of scripts/bench: llama.cpp doing the same tasks as our engine, in turn.

Usage: bench-llama.py MODEL.gguf THREADS. Each line of standard input is a task
{"prompt": text, "decode": n}: continue the text greedily by one token and then by n more. Each
line of standard output says how long that took.

llama.cpp runs with its defaults: K/V cache in f16 and the fastest kernels it was compiled with.
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

CONTEXT = 1024
DEFAULT_PARAMS = llama_cpp.llama_cpp.llama_model_default_params
PROBE = {"prompt": "The captain wrote down the wind and the depth. " * 20, "decode": 2}


class Reference:
    """One model in one context."""

    def __init__(self, model, threads):
        self.llm = llama_cpp.Llama(model, n_ctx=CONTEXT, n_batch=CONTEXT, n_ubatch=512,
                                   n_threads=threads, n_threads_batch=threads, verbose=False)
        self.context = self.llm._ctx.ctx
        self.vocab = self.llm.n_vocab()

    def feed(self, ids):
        """Appends tokens and returns the most likely next one."""
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        batch = llama_cpp.llama_batch_get_one(tokens, len(ids))
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode refused a batch")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        logits = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float))
        return int(numpy.ctypeslib.as_array(logits, shape=(self.vocab,)).argmax())

    def time(self, task):
        """Does one task. Control tokens in the prompt are plain text, as in our engine."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        started = time.perf_counter()
        ids = self.llm.tokenize(task["prompt"].encode(), add_bos=False, special=False)
        token = self.feed(ids)
        first = time.perf_counter()
        for _ in range(task["decode"]):
            token = self.feed([token])
        ended = time.perf_counter()
        return {"prompt_tokens": len(ids), "prefill_seconds": first - started,
                "decode_seconds": ended - first}


def plain_kernels():
    """Neither repacked weights nor AMX."""
    params = DEFAULT_PARAMS()
    params.use_extra_bufts = False
    return params


def defaults_work(model, threads):
    """Whether a process with default parameters survives a task."""
    command = [sys.executable, __file__, model, threads, "probe"]
    done = subprocess.run(command, check=False, capture_output=True)
    return done.returncode == 0


def say(value):
    """Writes one line."""
    print(json.dumps(value), flush=True)


def main():
    """Loads the model, then does tasks until standard input ends."""
    model, threads, *probe = sys.argv[1:]
    kernels = "default kernels"
    if probe:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    elif not defaults_work(model, threads):
        llama_cpp.llama_cpp.llama_model_default_params = plain_kernels
        kernels = "without repacked weights and AMX, whose default use crashes on this machine"
    reference = Reference(model, int(threads))
    if probe:
        return say(reference.time(PROBE))
    system = llama_cpp.llama_print_system_info().decode().strip(" |")
    say({"about": f"llama.cpp (llama-cpp-python {llama_cpp.__version__}), {kernels}; {system}"})
    for line in sys.stdin:
        say(reference.time(json.loads(line)))


if __name__ == "__main__":
    main()
