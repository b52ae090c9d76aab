#!/usr/bin/env python3
"""The independent reference of the engine: every family, read from the GGUF and computed in numpy.

Usage: reference.py JOBS.json. A job is {"model": GGUF, "ids": [token, …], "out": FILE}; FILE gets the
logits after each token as little-endian f32, one row for each token. Weights are dequantised exactly
as `ggml-quants.c` says and everything is computed in f64 (f32 for models of a size where that takes
long), in one pass over all tokens. It shares no code, no table and no shape with the engine.
"""

import json
import struct
import sys

import numpy as np

LARGE = 50_000_000  # weights; beyond it arithmetic is f32


# --- the file -------------------------------------------------------------------------------------

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class File:
    """Metadata and tensors of a GGUF file (version 2 or 3, little-endian)."""

    def __init__(self, path):
        self.data = np.fromfile(path, dtype=np.uint8)
        self.bytes = self.data.tobytes() if self.data.size < 1 << 24 else memoryview(self.data)
        self.at = 0
        magic, version, tensors, keys = self.read("4sIQQ")
        assert magic == b"GGUF" and version in (2, 3), (magic, version)
        self.meta = {}
        for _ in range(keys):
            key = self.string()
            self.meta[key] = self.value(self.read("I")[0])
        infos = []
        for _ in range(tensors):
            name = self.string()
            dims = self.read(f"{self.read('I')[0]}Q")
            kind, offset = self.read("IQ")
            infos.append((name, dims[::-1], kind, offset))
        align = self.meta.get("general.alignment", 32)
        start = -(-self.at // align) * align
        self.tensors = {name: (dims, kind, start + offset) for name, dims, kind, offset in infos}

    def read(self, form):
        """Unpacks values."""
        form = "<" + form
        values = struct.unpack_from(form, self.bytes, self.at)
        self.at += struct.calcsize(form)
        return values

    def string(self):
        """A string with its length before it."""
        length = self.read("Q")[0]
        return self.read(f"{length}s")[0].decode()

    def value(self, kind):
        """A metadata value."""
        if kind == 8:
            return self.string()
        if kind == 9:
            kind, count = self.read("IQ")
            return [self.value(kind) for _ in range(count)]
        return self.read(SCALARS[kind])[0]

    def tensor(self, name):
        """A tensor, dequantised."""
        dims, kind, at = self.tensors[name]
        count = int(np.prod(dims))
        per, size, decode = FORMATS[kind]
        raw = self.data[at:at + count // per * size].reshape(-1, size)
        return decode(raw).astype(np.float32).reshape(dims)


def half(raw):
    """f16 in the first two bytes of each row, as a column."""
    return np.ascontiguousarray(raw[:, :2]).view("<f2").astype(np.float32)


def nibbles(raw):
    """Low nibbles of a block, then its high nibbles."""
    return np.concatenate([raw & 15, raw >> 4], axis=1).astype(np.float32)


def fifth(raw):
    """32 single bits."""
    return np.unpackbits(np.ascontiguousarray(raw), axis=1, bitorder="little").astype(np.float32)


def q5(raw):
    """Codes of five bits: the fifth bits, then the nibbles."""
    return nibbles(raw[:, 4:]) + 16 * fifth(raw[:, :4])


def k_scales(raw):
    """Eight scales and eight minima of six bits each, in twelve bytes."""
    low, mid, high = raw[:, 0:4], raw[:, 4:8], raw[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 6) << 4)], axis=1)
    minima = np.concatenate([mid & 63, (high >> 4) | ((mid >> 6) << 4)], axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def q4_k(raw, high=None):
    """Eight blocks of 32; codes of two blocks share bytes, and `high` adds fifth bits."""
    scales, minima = k_scales(raw[:, 4:16])
    codes = raw[:, 16 if high is None else 48:].reshape(-1, 4, 1, 32)
    codes = np.concatenate([codes & 15, codes >> 4], axis=2).reshape(-1, 8, 32).astype(np.float32)
    if high is not None:
        codes = codes + 16 * high
    d, least = half(raw)[:, :, None], half(raw[:, 2:])[:, :, None]
    return d * scales[:, :, None] * codes - least * minima[:, :, None]


def q5_k(raw):
    """As Q4_K, with bit i of 32 bytes as the fifth bits of block i."""
    bits = raw[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None] & 1
    return q4_k(raw, bits.astype(np.float32))


def q6_k(raw):
    """Two halves of 128: low nibbles, pairs of high bits, sixteen scales, one scale of them."""
    low = raw[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[None, None, :, None]
    codes = (low | (raw[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3) << 4).astype(np.float32)
    scales = np.ascontiguousarray(raw[:, 192:208]).view(np.int8).astype(np.float32)
    d = half(raw[:, 208:])
    return (codes.reshape(-1, 16, 16) - 32) * (d * scales)[:, :, None]


FORMATS = {  # values in a block, its bytes, how it is read; the numbers are `enum ggml_type`
    0: (1, 4, lambda raw: np.ascontiguousarray(raw).view("<f4")),
    1: (1, 2, lambda raw: np.ascontiguousarray(raw).view("<f2")),
    2: (32, 18, lambda raw: half(raw) * (nibbles(raw[:, 2:]) - 8)),
    3: (32, 20, lambda raw: half(raw) * nibbles(raw[:, 4:]) + half(raw[:, 2:])),
    6: (32, 22, lambda raw: half(raw) * (q5(raw[:, 2:]) - 16)),
    7: (32, 24, lambda raw: half(raw) * q5(raw[:, 4:]) + half(raw[:, 2:])),
    8: (32, 34, lambda raw: half(raw) * np.ascontiguousarray(raw[:, 2:]).view(np.int8)),
    12: (256, 144, q4_k),
    13: (256, 176, q5_k),
    14: (256, 210, q6_k),
    30: (1, 2, lambda raw: (np.ascontiguousarray(raw).view("<u2").astype(np.uint32) << 16).view("<f4")),
}


# --- the graph ------------------------------------------------------------------------------------

def rms(x, weight, epsilon):
    """RMS norm over the last axis."""
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * weight


def softmax(x):
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x):
    """x * sigmoid(x)."""
    return x / (1 + np.exp(-x))


def gelu(x):
    """The tanh form."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))


def rotate(x, angles, neighbours):
    """Rotary embedding of [token, head, dimension] by [token, pair]."""
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    out = np.empty_like(x)
    pairs = x.shape[-1] // 2
    a, b = (np.s_[..., 0::2], np.s_[..., 1::2]) if neighbours else (np.s_[..., :pairs], np.s_[..., pairs:])
    out[a] = x[a] * cos - x[b] * sin
    out[b] = x[a] * sin + x[b] * cos
    return out


class Model:
    """One model; what its family does is asked of the file where it is needed."""

    def __init__(self, file):
        self.file = file
        self.family = file.meta["general.architecture"]
        self.gemma = self.family == "gemma3"
        count = sum(int(np.prod(dims)) for dims, _, _ in file.tensors.values())
        self.float = np.float32 if count > LARGE else np.float64
        self.hidden = self.key("embedding_length")
        self.heads = self.key("attention.head_count")
        self.kv_heads = self.key("attention.head_count_kv")
        self.dim = self.key("attention.key_length", self.hidden // self.heads)
        self.epsilon = self.key("attention.layer_norm_rms_epsilon")
        self.window = self.key("attention.sliding_window", None)

    def key(self, name, *default):
        """A value of the architecture."""
        if default:
            return self.file.meta.get(f"{self.family}.{name}", default[0])
        return self.file.meta[f"{self.family}.{name}"]

    def get(self, name):
        """A tensor in the type of the arithmetic."""
        return self.file.tensor(name + ".weight").astype(self.float)

    def logits(self, ids):
        """After each of the tokens."""
        embedding = self.get("token_embd")
        x = embedding[ids]
        if self.gemma:
            x = x * np.sqrt(self.hidden)
        for block in range(self.key("block_count")):
            x = x + self.attention(x, block)
            x = x + self.feed(x, block)
        x = rms(x, self.get("output_norm"), self.epsilon)
        tied = "output.weight" not in self.file.tensors
        return x @ (embedding if tied else self.get("output")).T

    def angles(self, count, local):
        """For each token and pair."""
        base = 10_000.0 if local and self.gemma else self.key("rope.freq_base", 10_000.0)
        turns = float(base) ** (-np.arange(0, self.dim, 2) / self.dim)
        if self.key("rope.scaling.type", None) == "linear" and not local:
            turns = turns / self.key("rope.scaling.factor")
        if "rope_freqs.weight" in self.file.tensors:
            turns = turns / self.get("rope_freqs")
        return np.arange(count)[:, None] * turns

    def attention(self, x, block):
        """One attention part, as it is added."""
        count, at = len(x), f"blk.{block}."
        local = self.gemma and block % 6 != 5
        h = rms(x, self.get(at + "attn_norm"), self.epsilon)
        q = (h @ self.get(at + "attn_q").T).reshape(count, self.heads, self.dim)
        k = (h @ self.get(at + "attn_k").T).reshape(count, self.kv_heads, self.dim)
        v = (h @ self.get(at + "attn_v").T).reshape(count, self.kv_heads, self.dim)
        if self.family != "llama":
            q = rms(q, self.get(at + "attn_q_norm"), self.epsilon)
            k = rms(k, self.get(at + "attn_k_norm"), self.epsilon)
        angles = self.angles(count, local).astype(self.float)
        q, k = (rotate(t, angles, self.family == "llama") for t in (q, k))
        shared = self.heads // self.kv_heads
        k, v = (np.repeat(t, shared, axis=1) for t in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(self.dim)
        distance = np.arange(count)[:, None] - np.arange(count)[None, :]
        seen = distance >= 0
        if self.window and (local or not self.gemma):
            seen &= distance < self.window
        mix = softmax(np.where(seen, scores, -np.inf))
        out = np.einsum("hij,jhd->ihd", mix, v).reshape(count, -1) @ self.get(at + "attn_output").T
        return rms(out, self.get(at + "post_attention_norm"), self.epsilon) if self.gemma else out

    def feed(self, x, block):
        """One feed-forward part, as it is added."""
        at = f"blk.{block}."
        h = rms(x, self.get(at + "ffn_norm"), self.epsilon)
        if self.family == "qwen3moe":
            return self.mixture(h, at)
        act = gelu if self.gemma else silu
        inner = act(h @ self.get(at + "ffn_gate").T) * (h @ self.get(at + "ffn_up").T)
        out = inner @ self.get(at + "ffn_down").T
        return rms(out, self.get(at + "post_ffw_norm"), self.epsilon) if self.gemma else out

    def mixture(self, h, at):
        """Token by token: probabilities over all experts, the best of them normalised again."""
        gates, ups, downs = (self.get(f"{at}ffn_{name}_exps") for name in ("gate", "up", "down"))
        chances = softmax(h @ self.get(at + "ffn_gate_inp").T)
        out = np.zeros_like(h)
        for row, (x, chance) in enumerate(zip(h, chances)):
            best = np.argsort(-chance, kind="stable")[:self.key("expert_used_count")]
            for expert in best:
                inner = silu(gates[expert] @ x) * (ups[expert] @ x)
                out[row] += chance[expert] / chance[best].sum() * (downs[expert] @ inner)
        return out


def main():
    """Does the jobs."""
    with open(sys.argv[1], encoding="utf-8") as jobs:
        for job in json.load(jobs):
            logits = Model(File(job["model"])).logits(np.array(job["ids"]))
            logits.astype("<f4").tofile(job["out"])


if __name__ == "__main__":
    main()
