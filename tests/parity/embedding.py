"""The vectors of a BERT that reads as Sentence Transformers' models do, computed by numpy alone.

    python embedding.py MODEL_DIR JOB OUT

JOB holds a JSON list of lists of token ids; OUT gets their vectors, little-endian f32, one after the
other. Everything is computed in f64 from the numbers of the file. Written from the paper (Devlin et al.,
2018) and the names of the tensors.
"""

import json
import struct
import sys
from math import erf
from pathlib import Path

import numpy as np

folder, job, out = map(Path, sys.argv[1:])
raw = (folder / "model.safetensors").read_bytes()
(size,) = struct.unpack_from("<Q", raw)
table = json.loads(raw[8 : 8 + size])
config = json.loads((folder / "config.json").read_text())


def tensor(name):
    entry = table[name]
    assert entry["dtype"] == "F32", name
    start, end = entry["data_offsets"]
    data = np.frombuffer(raw, "<f4", (end - start) // 4, 8 + size + start)
    return data.astype(np.float64).reshape(entry["shape"])


def dense(x, name):
    return x @ tensor(f"{name}.weight").T + tensor(f"{name}.bias")


def norm(x, name):
    off = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((off**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
    return off / scale * tensor(f"{name}.weight") + tensor(f"{name}.bias")


gelu = np.vectorize(lambda x: 0.5 * x * (1 + erf(x / 2**0.5)))


def vector(ids):
    embedded = tensor("embeddings.word_embeddings.weight")[ids]
    embedded = embedded + tensor("embeddings.position_embeddings.weight")[: len(ids)]
    embedded = embedded + tensor("embeddings.token_type_embeddings.weight")[0]
    x = norm(embedded, "embeddings.LayerNorm")
    heads = config["num_attention_heads"]
    split = (len(ids), heads, x.shape[1] // heads)
    for n in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{n}"
        q, k, v = (
            dense(x, f"{at}.attention.self.{part}").reshape(split).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / split[2] ** 0.5
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        seen = (weights @ v).transpose(1, 0, 2).reshape(x.shape)
        x = norm(x + dense(seen, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        wide = gelu(dense(x, f"{at}.intermediate.dense"))
        x = norm(x + dense(wide, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


vectors = [vector(np.array(ids)) for ids in json.loads(job.read_text())]
out.write_bytes(np.stack(vectors).astype("<f4").tobytes())
