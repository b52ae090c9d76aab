#!/usr/bin/env python3
"""llama.cpp as an oracle: the jobs of reference.py, computed by llama-cpp-python."""

import json
import sys

import numpy as np
from llama_cpp import Llama


def main():
    """Does the jobs."""
    with open(sys.argv[1], encoding="utf-8") as jobs:
        for job in json.load(jobs):
            ids = job["ids"]
            model = Llama(job["model"], n_ctx=len(ids), n_batch=len(ids), n_threads=1, logits_all=True, verbose=False)
            model.eval(ids)
            np.array(model.scores[:len(ids)]).astype("<f4").tofile(job["out"])


if __name__ == "__main__":
    main()
