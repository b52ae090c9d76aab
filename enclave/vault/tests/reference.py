"""Second implementation of FORMAT.md, written from its text alone: packs, seals, opens, verifies.

Prints the vectors that tests/vectors.rs holds:
    pip install blake3 cryptography && python3 enclave/vault/tests/reference.py
Opens a bundle written by the Rust code:
    python3 enclave/vault/tests/reference.py BUNDLE [KEY_HEX]
"""

import hashlib
import struct
import sys

from blake3 import blake3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

CHUNK = 1 << 20
ALIGN = 4096


def dk(context, data):
    return blake3(data, derive_key_context="chrysalis/vault/1/" + context).digest()


def text(value):
    raw = value.encode("ascii")
    return struct.pack(">I", len(raw)) + raw


def opt(value):
    return b"\0" if value is None else b"\1" + text(value)


def src(value):
    return {None: b"\0", "gguf": b"\1"}.get(value) or b"\2" + text(value)


def manifest(name, architecture, quantisation, tokenizer, template, licence, files):
    out = b"CVM1" + text(name) + text(architecture) + opt(quantisation)
    out += src(tokenizer) + src(template) + opt(licence) + struct.pack(">I", len(files))
    return out + b"".join(text(p) + struct.pack(">Q", len(b)) for p, b in files)


def pad(data):
    return data + bytes(-len(data) % ALIGN)


def tree(leaves):
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return dk("node", tree(leaves[:split]) + tree(leaves[split:]))


def root(header):
    total = header[24:32]
    return dk("root", header[32:64] + header[64:96] + total + struct.pack(">Q", CHUNK))


def keys(model_key, header):
    h = hashlib.sha256(header[:128]).digest()

    def expand(label, n):
        info = b"chrysalis/vault/1/" + label + h
        return HKDF(hashes.SHA256(), n, header[96:128], info).derive(model_key)

    segment = expand(b"segment", 39)
    return h, segment[:32], segment[32:], expand(b"table", 32), expand(b"key-check", 32)


def nonce(prefix, i, n):
    return prefix + struct.pack(">IB", i, i == n - 1)


def pack(fields, files, model_key=None, salt=bytes(32)):
    files = sorted(files)
    body = manifest(*fields, files)
    content = b""
    for _, data in files:
        content = pad(content) + data
    chunks = [content[i : i + CHUNK] for i in range(0, len(content), CHUNK)]
    leaves = [dk("leaf", c) for c in chunks]
    header = b"CHRYSBDL" + struct.pack(
        ">IIIIQ", 1, model_key is not None, CHUNK, len(body), len(content)
    )
    header += dk("manifest", body) + tree(leaves) + salt
    table = b"".join(leaves)
    if model_key is None:
        return pad(header + bytes(32) + body + table + content)
    h, key, prefix, table_key, check = keys(model_key, header)
    gcm = AESGCM(key)
    sealed = [gcm.encrypt(nonce(prefix, i, len(chunks)), c, h) for i, c in enumerate(chunks)]
    table = AESGCM(table_key).encrypt(bytes(12), table, h)
    return pad(header + check + body + table + b"".join(sealed))


def open_bundle(bundle, model_key=None):
    """The content, or an exception; what the wrong bytes are called is the Rust code's business."""
    header = bundle[:160]
    magic, version, sealing, chunk, m, total = struct.unpack(">8sIIIIQ", header[:32])
    assert (magic, version, chunk) == (b"CHRYSBDL", 1, CHUNK)
    assert dk("manifest", bundle[160 : 160 + m]) == header[32:64]
    n = -(-total // CHUNK)
    tag = 16 if sealing else 0
    at = 160 + m
    table = bundle[at : at + 32 * n + tag]
    at += len(table)
    if sealing:
        h, key, prefix, table_key, check = keys(model_key, header)
        assert check == header[128:160]
        table = AESGCM(table_key).decrypt(bytes(12), table, h)
    leaves = [table[i : i + 32] for i in range(0, 32 * n, 32)]
    assert tree(leaves) == header[64:96]
    content = b""
    for i in range(n):
        size = min(CHUNK, total - i * CHUNK) + tag
        data = bundle[at : at + size]
        at += size
        if sealing:
            data = AESGCM(key).decrypt(nonce(prefix, i, n), data, h)
        assert dk("leaf", data) == leaves[i], i
        content += data
    assert bundle[at:] == bytes(-at % ALIGN)
    return content


def vectors():
    stream = blake3(b"vector").digest(length=2 * CHUNK + 5)
    cases = {
        "one byte": (("V", "a", None, None, None, None), [("f", b"\1")]),
        "one chunk": (("V", "a", None, None, None, None), [("f", stream[:CHUNK])]),
        "several files": (
            ("Tiny Vector", "llama", "Q4_1", "gguf", "t/chat.txt", "Apache-2.0"),
            [("m.gguf", stream), ("t/chat.txt", stream[:100])],
        ),
    }
    for name, (fields, files) in cases.items():
        plain = pack(fields, files)
        sealed = pack(fields, files, bytes([1]) * 32, bytes([2]) * 32)
        assert open_bundle(plain) == open_bundle(sealed, bytes([1]) * 32)
        print(name, len(plain), len(sealed))
        print("  root  ", root(plain).hex())
        print("  plain ", hashlib.sha256(plain).hexdigest())
        print("  sealed", hashlib.sha256(sealed).hexdigest())


if len(sys.argv) > 1:
    data = open(sys.argv[1], "rb").read()
    key = bytes.fromhex(sys.argv[2]) if len(sys.argv) > 2 else None
    content = open_bundle(data, key)
    print("root", root(data).hex(), "content", len(content))
else:
    vectors()
