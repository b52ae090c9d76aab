#!/usr/bin/env python3
"""Vocabularies for the tokenizer comparison, and the ids an independent implementation gives.

Usage: vocabularies.py OUT [WHEELS]. Writes OUT/NAME.json for each vocabulary: the tables as a GGUF has
them and cases of text and ids. Byte-level ones are merged by rank, as tiktoken does; those with pieces
and scores are encoded by SentencePiece. Without WHEELS small ones are trained on the licence and the
texts below. With it they are those of Mistral 7B and NeMo (mistral-common) and of Qwen (dashscope).
"""

import base64
import json
import pathlib
import sys
import tempfile
import zipfile
from collections import Counter

import regex
import sentencepiece

LICENCE = pathlib.Path(__file__).resolve().parents[2] / "LICENSE"
TEXTS = [
    "Hello, world!", " leading and trailing ", "two  spaces,   three", "tabs\tand\nlines\n\n\nand\r\nmore",
    "It's we'll THEY'RE i'd", "1 12 123 1234 12345.678", "CamelCaseAndSHOUTING mixedCASE", "a" * 40,
    "naïve café, Straße, Ελλάδα, Россия, עברית, العربية", "漢字とかな、한국어", "🦋 🇺🇦 👩‍👩‍👧 e\u0301",
    "if (x != y) { return a[i] + b->c; } // done\n", "http://example.org/path?q=1&r=2#frag", "...!!!???---===",
    "\u00a0no-break\u2003em", "<|im_start|>user </s> <s> [INST]", "x" + " " * 30 + "y", "", "\u2581 mark",
]
SPLIT = {  # as the published tokenizers have them
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                 r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
             r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
              r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
              r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def words(pre, text):
    """The words of a text, as bytes."""
    if pre == "smollm":  # every digit alone, then as gpt-2
        parts = regex.findall(r"\p{N}|[^\p{N}]+", text)
        return [w for part in parts for w in words("gpt-2", part)]
    found = regex.findall(SPLIT[pre], text)
    assert "".join(found) == text
    return [word.encode() for word in found]


def merge(ranks, word, below=None):
    """Joins the pair of the lowest rank until there is none (below a rank)."""
    parts = [word[i:i + 1] for i in range(len(word))]
    while len(parts) > 1:
        pairs = [(ranks.get(a + b, sys.maxsize), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))]
        rank, i = min(pairs)
        if rank == sys.maxsize or (below is not None and rank >= below):
            break
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def train(pre, size):
    """Ranks of the most frequent pairs of the licence and the texts."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    text = LICENCE.read_text(encoding="utf-8")
    count = Counter(words(pre, text))
    for text in TEXTS:
        count.update(words(pre, text))
    split = {word: [word[i:i + 1] for i in range(len(word))] for word in count}
    while len(ranks) < size:
        pairs = Counter()
        for word, parts in split.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += count[word]
        (a, b), _ = max(pairs.items(), key=lambda item: (item[1], item[0]))
        # A pair whose bytes are a token already would make two merges of one.
        ranks.setdefault(a + b, len(ranks))
        for word, parts in split.items():
            i = 0
            while i + 1 < len(parts):
                if parts[i] == a and parts[i + 1] == b:
                    parts[i:i + 2] = [a + b]
                i += 1
    return ranks


def spelling():
    """The printable stand-ins of bytes."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(256 + i) for i, b in enumerate(other)}}


def byte_level(pre, ranks, specials=()):
    """Tables and cases of a byte-level vocabulary: ranks are ids, special tokens follow."""
    alphabet = spelling()
    spell = lambda token: "".join(alphabet[byte] for byte in token)  # noqa: E731
    order = sorted(ranks, key=ranks.get)
    assert [ranks[token] for token in order] == list(range(len(order)))
    merges = []
    for token in order:
        if len(token) > 1:
            parts = merge(ranks, token, ranks[token])
            if len(parts) == 2:
                merges.append(" ".join(map(spell, parts)))
    whole = pre in ("llama-bpe", "tekken")  # a word that is a token is that token

    def ids(text):
        for word in words(pre, text):
            parts = [word] if whole and word in ranks else merge(ranks, word)
            yield from (ranks[part] for part in parts)

    return {
        "model": "gpt2", "pre": pre, "merges": merges, "add_bos": False,
        "tokens": [spell(token) for token in order] + list(specials),
        "types": [1] * len(order) + [3] * len(specials),
        "cases": [{"text": text, "ids": list(ids(text))} for text in TEXTS],
    }


def scored(path):
    """Tables and cases of a SentencePiece model."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    kind = lambda i: (2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i)  # noqa: E731
                      else 5 if model.is_unused(i) else 1)
    count = model.vocab_size()
    first = model.encode("a")
    return {
        "model": "llama", "add_bos": False,
        "space_first": model.id_to_piece(first[0]).startswith("\u2581"),
        "tokens": [model.id_to_piece(i) for i in range(count)],
        "types": [kind(i) for i in range(count)],
        "scores": [model.get_score(i) for i in range(count)],
        # SentencePiece writes no space before an empty text, and reads its own mark as a space.
        "cases": [{"text": t, "ids": model.encode(t)} for t in TEXTS if t and "\u2581" not in t],
    }


def trained(out):
    """The small ones."""
    for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"]:
        yield pre, byte_level(pre, train(pre, 700), ["<|im_start|>", "</s>"])
    with tempfile.TemporaryDirectory() as tmp:
        text = pathlib.Path(tmp) / "text"
        text.write_text(LICENCE.read_text(encoding="utf-8") + "\n".join(TEXTS), encoding="utf-8")
        for name, space in [("spm", True), ("spm-no-space", False)]:
            sentencepiece.SentencePieceTrainer.train(
                input=str(text), model_prefix=f"{tmp}/{name}", model_type="bpe", vocab_size=900,
                byte_fallback=True, add_dummy_prefix=space, normalization_rule_name="identity",
                remove_extra_whitespaces=False, split_digits=True, character_coverage=0.98,
                minloglevel=2)
            yield name, scored(f"{tmp}/{name}.model")
    del out


def published(wheels, out):
    """Those of real models."""
    for wheel in sorted(pathlib.Path(wheels).glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                short = name.rsplit("/", 1)[-1]
                if short in ("tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3"):
                    yield short, scored(archive.extract(name, out))
                elif short == "qwen.tiktoken":
                    lines = archive.read(name).decode().split("\n")
                    pairs = (line.split() for line in lines if line)
                    yield short, byte_level("qwen2", {base64.b64decode(t): int(r) for t, r in pairs})
                elif short == "tekken_240718.json":
                    data = json.loads(archive.read(name))
                    size = data["config"]["default_vocab_size"] - data["config"]["default_num_special_tokens"]
                    tokens = [base64.b64decode(entry["token_bytes"]) for entry in data["vocab"][:size]]
                    yield short, byte_level("tekken", {token: rank for rank, token in enumerate(tokens)})


def main():
    """Writes the vocabularies."""
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name, tables in published(sys.argv[2], out / "tmp") if len(sys.argv) > 2 else trained(out):
        (out / f"{name}.json").write_text(json.dumps(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
