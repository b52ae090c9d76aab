"""Drives seal1.py for the interop tests of chrysalis-channel.

    seal1_interop.py check DIR     verify the vectors in DIR, and our HPKE against cryptography's
    seal1_interop.py trace DIR     write the `intermediate` values into new vectors
    seal1_interop.py serve         answer JSON commands, one per line, on stdin and stdout
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import seal1
from seal1 import Frame, Header, KeyEntry, PrivateKey, Refusal, ResponseOpener, Worker

SUITES = {"x-wing": seal1.XWING, "x25519": seal1.X25519}


def list_random(hexadecimal: str):
    """Gives out exactly the recorded bytes."""
    rest = bytearray.fromhex(hexadecimal)

    def draw(length: int) -> bytes:
        out = bytes(rest[:length])
        del rest[:length]
        assert len(out) == length, "the recorded randomness is used up"
        return out

    return draw


def entry_from(suite: int, fields: dict) -> KeyEntry:
    return KeyEntry(
        id=bytes.fromhex(fields["id"]),
        suite=suite,
        role=fields["role"],
        not_before=fields["not_before"],
        not_after=fields["not_after"],
        public=bytes.fromhex(fields["public"]),
    )


def header_from(suite: int, fields: dict) -> Header:
    return Header(
        suite=suite,
        role=fields["role"],
        network=fields["network"],
        request_id=bytes.fromhex(fields["request_id"]),
        time=fields["time"],
        path=fields["path"],
        model_root=bytes.fromhex(fields["model_root"]),
        policy_digest=bytes.fromhex(fields["policy_digest"]),
        max_tokens=fields["max_tokens"],
    )


def frames_from(fields: list) -> list[Frame]:
    return [Frame(f["kind"], bytes.fromhex(f["payload"]), f["last"]) for f in fields]


def frames_to(frames: list[Frame]) -> list[dict]:
    return [{"kind": f.kind, "payload": f.payload.hex(), "last": f.last} for f in frames]


# --- vectors


def worker_of(vector: dict, answering: int) -> Worker:
    suite = SUITES[vector["suite"]]
    fields = vector["recipients"][answering]
    key = PrivateKey.derive(suite, bytes.fromhex(fields["ikm"]))
    assert key.public().hex() == fields["public"], "public key of ikm"
    entry = entry_from(suite, fields)
    assert seal1.key_id(suite, entry.public) == entry.id, "key id"
    header = vector.get("header", {"network": 0, "policy_digest": ""})
    root = header.get("model_root", vector.get("model_root"))
    return Worker(
        [(entry, key)], header["network"], bytes.fromhex(root),
        bytes.fromhex(header["policy_digest"]),
    )  # fmt: skip


def open_vector(vector: dict) -> seal1.Opened:
    worker = worker_of(vector, vector["answering"])
    draw = list_random(vector["recipient_random"])
    return seal1.open_request(worker, vector["now"], bytes.fromhex(vector["request"]), draw)


def check_exchange(vector: dict) -> ResponseOpener:
    suite = SUITES[vector["suite"]]
    header = header_from(suite, vector["header"])
    assert header.encode().hex() == vector["request"][:210], "header bytes"
    opened = open_vector(vector)
    assert opened.header == header and opened.body.hex() == vector["body"], "request"
    trace = {name: value.hex() for name, value in opened.trace.items()}
    assert trace == vector["intermediate"], "intermediate values"
    frames = frames_from(vector["frames"])
    assert opened.response(frames).hex() == vector["response"], "response bytes"

    # Our own sender meets the same bytes where ML-KEM lets it be repeated, and where it does not,
    # the opener is rebuilt from the recipients' side.
    request = bytes.fromhex(vector["request"])
    candidates = []
    for n, _ in enumerate(vector["recipients"]):
        again = dict(vector, answering=n, recipient_random="00" * 64)
        exporter = open_vector(again).trace["exporter"]
        recipients, _ = seal1.read_recipients(header, request)
        candidates.append((recipients[n][1], exporter))
    opener = ResponseOpener(opened.trace["header_hash"], opened.trace["transcript"], candidates)
    if suite == seal1.X25519:
        entries = [entry_from(suite, r) for r in vector["recipients"]]
        draw = list_random(vector["sender_random"])
        sealed, own = seal1.seal_request(header, entries, opened.body, draw)
        assert sealed == request and own == opener, "sealing again"
    assert seal1.open_response(opener, bytes.fromhex(vector["response"])) == frames, "response"
    return opener


def check_grant(vector: dict) -> None:
    suite = SUITES[vector["suite"]]
    worker = worker_of(vector, 0)
    keyset = bytes.fromhex(vector["keyset_digest"])
    now, grant = vector["now"] // 1000, bytes.fromhex(vector["grant"])
    assert seal1.open_grant(worker, [keyset], now, grant).hex() == vector["model_key"]
    if suite == seal1.X25519:
        draw = list_random(vector["sender_random"])
        again = seal1.seal_grant(
            worker.keys[0][0], keyset, worker.model_root, bytes.fromhex(vector["model_key"]),
            now, draw,
        )  # fmt: skip
        assert again == grant, "sealing again"


def damage(data: bytes, case: dict) -> bytes:
    """Applies `ranges` (keep these parts, in this order), then `xor`, then `append`."""
    if "ranges" in case:
        data = b"".join(data[start:end] for start, end in case["ranges"])
    out = bytearray(data)
    for offset, mask in case.get("xor", []):
        out[offset] ^= mask
    return bytes(out) + bytes.fromhex(case.get("append", ""))


def check_refusal(case: dict, vectors: dict, openers: dict) -> None:
    vector = vectors[case["vector"]]
    now = vector["now"] + case.get("delay", 0)
    damaged = damage(bytes.fromhex(vector[case["message"]]), case)
    try:
        if case["message"] == "request":
            worker = worker_of(vector, vector["answering"])
            for other in set(case.get("holds", [])) - {vector["answering"]}:
                worker.keys += worker_of(vector, other).keys
            for _ in range(case.get("deliveries", 1)):
                seal1.open_request(worker, now, damaged)
        elif case["message"] == "response":
            seal1.open_response(openers[case["vector"]], damaged)
        else:
            keyset = bytes.fromhex(vector["keyset_digest"])
            seal1.open_grant(worker_of(vector, 0), [keyset], now // 1000, damaged)
    except Refusal as refusal:
        assert refusal.code == case["code"], f"{case['name']}: {refusal.code}"
    else:
        raise AssertionError(f"{case['name']}: opened")


def check_own_hpke() -> None:
    """Our HPKE opens with the HPKE of the cryptography package, where that has one."""
    try:
        from cryptography.hazmat.primitives import hpke
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    except ImportError:
        print("note: this cryptography package has no HPKE to compare with")
        return
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    key = PrivateKey.derive(seal1.X25519, bytes(range(32)))
    enc, context = seal1.setup_sender(seal1.X25519, key.public(), b"info", seal1.os.urandom)
    other = X25519PrivateKey.from_private_bytes(key.secret)
    assert suite.decrypt(enc + context.seal(b"", b"plain"), other, b"info") == b"plain"
    theirs = suite.encrypt(b"plain", other.public_key(), b"info")
    assert seal1.setup_receiver(key, theirs[:32], b"info").open(b"", theirs[32:]) == b"plain"

    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    key = PrivateKey.derive(seal1.XWING, bytes(range(32)))
    other = hpke.MLKEM768X25519PrivateKey(*key._parts())
    enc, context = seal1.setup_sender(seal1.XWING, key.public(), b"info", seal1.os.urandom)
    assert suite.decrypt(enc + context.seal(b"", b"plain"), other, b"info") == b"plain"
    theirs = suite.encrypt(b"plain", other.public_key(), b"info")
    assert seal1.setup_receiver(key, theirs[:1120], b"info").open(b"", theirs[1120:]) == b"plain"


def check(folder: Path) -> None:
    check_own_hpke()
    vectors = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    refusals = vectors.pop("refusals")
    openers = {}
    for name, vector in sorted(vectors.items()):
        if vector["kind"] == "exchange":
            openers[name] = check_exchange(vector)
        else:
            check_grant(vector)
        print(f"ok {name}")
    for case in refusals["cases"]:
        check_refusal(case, vectors, openers)
        print(f"ok refused: {case['name']}")


def trace(folder: Path) -> None:
    for path in folder.glob("*.json"):
        vector = json.loads(path.read_text())
        if vector.get("kind") == "exchange":
            values = open_vector(vector).trace
            vector["intermediate"] = {name: value.hex() for name, value in values.items()}
            path.write_text(json.dumps(vector, indent=2) + "\n")


# --- live interop


class Session:
    """State of the commands of one peer: openers and opened requests, by name."""

    def __init__(self):
        self.openers: dict[str, ResponseOpener] = {}
        self.workers: dict[str, Worker] = {}
        self.opened: dict[str, seal1.Opened] = {}

    def run(self, command: dict) -> dict:
        suite = SUITES[command["suite"]] if "suite" in command else 0
        match command["do"]:
            case "seal_request":
                header = header_from(suite, command["header"])
                entries = [entry_from(suite, r) for r in command["recipients"]]
                body = bytes.fromhex(command["body"])
                sealed, self.openers[command["name"]] = seal1.seal_request(header, entries, body)
                return {"request": sealed.hex()}
            case "open_response":
                opener = self.openers[command["name"]]
                frames = seal1.open_response(opener, bytes.fromhex(command["response"]))
                return {"frames": frames_to(frames)}
            case "make_worker":
                key = PrivateKey.derive(suite, seal1.os.urandom(32))
                public = key.public()
                id = seal1.key_id(suite, public)
                entry = KeyEntry(id, suite, command["role"], 0, command["not_after"], public)
                self.workers[command["name"]] = Worker(
                    [(entry, key)], command["network"], bytes.fromhex(command["model_root"]),
                    bytes.fromhex(command["policy_digest"]),
                )  # fmt: skip
                return {"id": id.hex(), "public": public.hex()}
            case "open_request":
                worker = self.workers[command["name"]]
                data = bytes.fromhex(command["request"])
                opened = seal1.open_request(worker, command["now"], data)
                self.opened[command["name"]] = opened
                return {"body": opened.body.hex()}
            case "seal_response":
                opened = self.opened[command["name"]]
                return {"response": opened.response(frames_from(command["frames"])).hex()}
            case "seal_grant":
                grant = seal1.seal_grant(
                    entry_from(suite, command["recipient"]),
                    bytes.fromhex(command["keyset_digest"]),
                    bytes.fromhex(command["model_root"]),
                    bytes.fromhex(command["model_key"]),
                    command["now"],
                )
                return {"grant": grant.hex()}
            case "open_grant":
                key = seal1.open_grant(
                    self.workers[command["name"]],
                    [bytes.fromhex(command["keyset_digest"])],
                    command["now"],
                    bytes.fromhex(command["grant"]),
                )
                return {"model_key": key.hex()}
            case other:
                raise ValueError(f"unknown command {other}")


def serve() -> None:
    session = Session()
    for line in sys.stdin:
        try:
            answer = session.run(json.loads(line))
        except Refusal as refusal:
            answer = {"refused": refusal.code}
        print(json.dumps(answer), flush=True)


def main() -> None:
    match sys.argv[1:]:
        case ["check", folder]:
            check(Path(folder))
        case ["trace", folder]:
            trace(Path(folder))
        case ["serve"]:
            serve()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
