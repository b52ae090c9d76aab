"""Asks a real worker through the second seal/1 implementation; run by the end-to-end tests.

    python ask_worker.py HOST:PORT

It speaks TLS, reads the keyset of the attestation document, seals a request for each suite, opens
the answer and checks that it is whole. It does NOT appraise the evidence: that is the verifying
client's job; here the channel is under test.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import ssl
import struct
import sys
import time

import seal1


def call(address: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPSConnection(host, int(port), timeout=120, context=context)
    connection.request(method, path, body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def read_keyset(data: bytes) -> tuple[int, list[seal1.KeyEntry]]:
    """The canonical keyset of enclave/wire (keyset.rs): network and seal keys."""
    assert data[:4] == b"CKS1", "keyset version"
    (network,) = struct.unpack(">i", data[4:8])
    count, at, entries = data[72], 73, []
    for _ in range(count):
        ident, suite, role, start, end, size = struct.unpack(">16sHBQQI", data[at : at + 39])
        at += 39
        entries.append(seal1.KeyEntry(ident, suite, role, start, end, data[at : at + size]))
        at += size
    assert at == len(data), "bytes follow the keyset"
    return network, entries


def ask(address: str, suite: int, document: dict, request: dict) -> list[seal1.Frame]:
    network, entries = read_keyset(bytes.fromhex(document["keyset"]))
    entry = next(e for e in entries if e.suite == suite and e.role == seal1.WORKER)
    roots = {e["name"]: bytes.fromhex(e["payload"]) for e in document["events"]}
    header = seal1.Header(
        suite=suite,
        role=seal1.WORKER,
        network=network,
        request_id=os.urandom(16),
        time=time.time_ns() // 1_000_000,
        path=1,
        model_root=roots["model-root"],
        policy_digest=hashlib.sha256(bytes.fromhex(document["manifest"])).digest(),
        max_tokens=16,
    )
    # The simulator pads nothing after the quote, so its digest is that of the bytes as they are.
    evidence = hashlib.sha256(bytes.fromhex(document["quote"])).digest()
    inner = os.urandom(32) + b"\x01" + evidence + json.dumps(request).encode()
    sealed, opener = seal1.seal_request(header, [entry], inner)
    status, body = call(address, "POST", "/v1/sealed", sealed)
    assert status == 200, (status, body[:200])
    frames = seal1.open_response(opener, body)
    again = call(address, "POST", "/v1/sealed", sealed)
    assert again[0] == 400 and b"REPLAY" in again[1], f"a replay was answered: {again}"
    return frames


def main() -> int:
    address = sys.argv[1]
    status, body = call(address, "GET", "/v1/attestation?nonce=" + os.urandom(32).hex())
    assert status == 200, (status, body)
    document = json.loads(body)
    model = json.loads(call(address, "GET", "/readyz")[1])
    assert model["ready"], model
    passed = failed = 0
    for name, suite in (("X-Wing", seal1.XWING), ("X25519", seal1.X25519)):
        for stream in (False, True):
            request = {
                "model": "smollm2-135m-instruct",
                "messages": [{"role": "user", "content": "What is a prime number?"}],
                "max_tokens": 16,
                "temperature": 0,
                "stream": stream,
            }
            try:
                frames = ask(address, suite, document, request)
                kinds = [f.kind for f in frames]
                assert kinds[-1] == seal1.RECEIPT and frames[-1].last, kinds
                receipt = json.loads(frames[-1].payload)
                assert receipt["schema"] == "chrysalis/receipt/v1", receipt
                wanted = seal1.CHUNK if stream else seal1.BODY
                assert set(kinds[:-1]) == {wanted}, kinds
                if stream:
                    deltas = (json.loads(f.payload) for f in frames[:-1])
                    choices = (c for d in deltas for c in d["choices"])
                    text = "".join(c["delta"].get("content") or "" for c in choices)
                else:
                    answer = json.loads(b"".join(f.payload for f in frames[:-1]))
                    text = answer["choices"][0]["message"]["content"]
                assert "prime number" in text, text
                passed += 1
                print(f"ok {name} stream={stream}: {len(frames)} frames")
            except Exception as error:  # one scenario must not hide the others
                failed += 1
                print(f"not ok {name} stream={stream}: {error!r}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
