"""seal/1 and grant/1, second implementation, written from enclave/channel/SPEC.md.

Needs Python 3.11 and the package `cryptography` with ML-KEM (see requirements.txt). It is meant
for tests and for readers of the specification: it is not constant-time and wipes nothing.

    sealed, opener = seal_request(header, [entry], body)
    frames = open_response(opener, response_bytes)
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from dataclasses import dataclass, field
from typing import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Random = Callable[[int], bytes]

XWING, X25519 = 0x647A, 0x0020
WORKER, PROXY, GRANT = 1, 2, 3
CHUNK, BODY, ERROR, RECEIPT, KEEP_ALIVE = 1, 2, 3, 4, 5

BUCKETS = [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
MAX_PAYLOAD = 65531
MAX_REQUEST = 8 * 1024 * 1024
MAX_SKEW_MS = 300_000
HEADER_BYTES = 105
FINAL_BIT = 1 << 31
NENC = {XWING: 1120, X25519: 32}


class Refusal(Exception):
    """A refusal with its stable code (SPEC 5, 7, 8)."""

    def __init__(self, code: str):
        super().__init__(code)
        self.code = code


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    out, block = b"", b""
    for n in range(1, -(-length // 32) + 1):
        block = hmac.new(prk, block + info + bytes([n]), hashlib.sha256).digest()
        out += block
    return out[:length]


# --- KEMs: RFC 9180 section 4.1, draft-connolly-cfrg-xwing-kem, draft-ietf-hpke-pq


def labeled_extract(suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite_id + label + ikm)


def labeled_expand(suite_id: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite_id + label + info, length)


def kem_id(suite: int) -> bytes:
    return b"KEM" + struct.pack(">H", suite)


def xwing_combine(ss_m: bytes, ss_x: bytes, ct_x: bytes, pk_x: bytes) -> bytes:
    return hashlib.sha3_256(ss_m + ss_x + ct_x + pk_x + rb"\.//^" + b"\\").digest()


@dataclass
class PrivateKey:
    """A recipient's secret key: an X25519 scalar, or the 32-byte X-Wing seed."""

    suite: int
    secret: bytes

    @staticmethod
    def derive(suite: int, ikm: bytes) -> PrivateKey:
        """DeriveKeyPair (SPEC 6)."""
        if suite == X25519:
            prk = labeled_extract(kem_id(suite), b"", b"dkp_prk", ikm)
            return PrivateKey(suite, labeled_expand(kem_id(suite), prk, b"sk", b"", 32))
        label = b"DeriveKeyPair"
        data = ikm + b"HPKE-v1" + kem_id(suite) + struct.pack(">H", len(label)) + label
        return PrivateKey(suite, hashlib.shake_256(data + struct.pack(">H", 32)).digest(32))

    def _parts(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = hashlib.shake_256(self.secret).digest(96)
        return (
            MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
            X25519PrivateKey.from_private_bytes(expanded[64:]),
        )

    def public(self) -> bytes:
        if self.suite == X25519:
            return X25519PrivateKey.from_private_bytes(self.secret).public_key().public_bytes_raw()
        ml, x = self._parts()
        return ml.public_key().public_bytes_raw() + x.public_key().public_bytes_raw()

    def decapsulate(self, enc: bytes) -> bytes:
        if self.suite == X25519:
            key = X25519PrivateKey.from_private_bytes(self.secret)
            dh = key.exchange(X25519PublicKey.from_public_bytes(enc))
            return dhkem_secret(dh, enc + self.public())
        ml, x = self._parts()
        ss_x = x.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        pk_x = x.public_key().public_bytes_raw()
        return xwing_combine(ml.decapsulate(enc[:1088]), ss_x, enc[1088:], pk_x)


def dhkem_secret(dh: bytes, kem_context: bytes) -> bytes:
    prk = labeled_extract(kem_id(X25519), b"", b"eae_prk", dh)
    return labeled_expand(kem_id(X25519), prk, b"shared_secret", kem_context, 32)


def encapsulate(suite: int, public: bytes, random: Random) -> tuple[bytes, bytes]:
    """Returns (shared secret, enc). ML-KEM draws from the system whatever `random` is."""
    if suite == X25519:
        ephemeral = PrivateKey.derive(X25519, random(32))
        enc = ephemeral.public()
        key = X25519PrivateKey.from_private_bytes(ephemeral.secret)
        dh = key.exchange(X25519PublicKey.from_public_bytes(public))
        return dhkem_secret(dh, enc + public), enc
    ss_m, ct_m = MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    ephemeral_x = X25519PrivateKey.from_private_bytes(random(32))
    ss_x = ephemeral_x.exchange(X25519PublicKey.from_public_bytes(public[1184:]))
    ct_x = ephemeral_x.public_key().public_bytes_raw()
    return xwing_combine(ss_m, ss_x, ct_x, public[1184:]), ct_m + ct_x


# --- HPKE, RFC 9180 section 5, base mode, one message per context


class HpkeContext:
    def __init__(self, suite: int, shared_secret: bytes, info: bytes):
        self.suite_id = b"HPKE" + struct.pack(">HHH", suite, 1, 2)
        psk_id_hash = labeled_extract(self.suite_id, b"", b"psk_id_hash", b"")
        info_hash = labeled_extract(self.suite_id, b"", b"info_hash", info)
        context = b"\x00" + psk_id_hash + info_hash
        secret = labeled_extract(self.suite_id, shared_secret, b"secret", b"")
        self.key = labeled_expand(self.suite_id, secret, b"key", context, 32)
        self.nonce = labeled_expand(self.suite_id, secret, b"base_nonce", context, 12)
        self.exporter_secret = labeled_expand(self.suite_id, secret, b"exp", context, 32)

    def seal(self, aad: bytes, plain: bytes) -> bytes:
        return AESGCM(self.key).encrypt(self.nonce, plain, aad)

    def open(self, aad: bytes, sealed: bytes) -> bytes:
        return AESGCM(self.key).decrypt(self.nonce, sealed, aad)

    def export(self, context: bytes, length: int = 32) -> bytes:
        return labeled_expand(self.suite_id, self.exporter_secret, b"sec", context, length)


def setup_sender(suite: int, public: bytes, info: bytes, random: Random):
    shared_secret, enc = encapsulate(suite, public, random)
    return enc, HpkeContext(suite, shared_secret, info)


def setup_receiver(key: PrivateKey, enc: bytes, info: bytes) -> HpkeContext:
    return HpkeContext(key.suite, key.decapsulate(enc), info)


# --- Header and keys, SPEC 2 and 6

HEADER = struct.Struct(">4sBHBi16sQB32s32sI")
assert HEADER.size == HEADER_BYTES


@dataclass
class Header:
    suite: int
    role: int
    network: int
    request_id: bytes
    time: int
    path: int
    model_root: bytes
    policy_digest: bytes
    max_tokens: int

    def encode(self) -> bytes:
        return HEADER.pack(
            b"CHSL", 1, self.suite, self.role, self.network, self.request_id, self.time,
            self.path, self.model_root, self.policy_digest, self.max_tokens,
        )  # fmt: skip

    @staticmethod
    def decode(data: bytes) -> Header:
        read_magic(data, b"CHSL")
        if len(data) < HEADER_BYTES:
            raise Refusal("E-SEAL-MALFORMED")
        _, _, *values = HEADER.unpack(data[:HEADER_BYTES])
        header = Header(*values)
        if header.suite not in NENC or header.role not in (WORKER, PROXY, GRANT):
            raise Refusal("E-SEAL-MALFORMED")
        if header.path not in (1, 2):
            raise Refusal("E-SEAL-MALFORMED")
        if header.role == GRANT:
            raise Refusal("E-SEAL-ROLE")
        return header


def read_magic(data: bytes, magic: bytes) -> None:
    if len(data) < 4:
        raise Refusal("E-SEAL-MALFORMED")
    if data[:4] != magic:
        raise Refusal("E-SEAL-MAGIC")
    if len(data) < 5:
        raise Refusal("E-SEAL-MALFORMED")
    if data[4] != 1:
        raise Refusal("E-SEAL-VERSION")


def key_id(suite: int, public: bytes) -> bytes:
    return sha256(struct.pack(">H", suite) + public)[:16]


@dataclass
class KeyEntry:
    """One entry of an attested keyset. Appraise the keyset before you seal to it."""

    id: bytes
    suite: int
    role: int
    not_before: int
    not_after: int
    public: bytes

    def check(self, suite: int, role: int, now: int) -> None:
        if self.suite != suite:
            raise Refusal("E-SEAL-SUITE")
        if self.role != role:
            raise Refusal("E-SEAL-ROLE")
        if key_id(self.suite, self.public) != self.id:
            raise Refusal("E-SEAL-KEY-ID")
        if len(self.public) != {XWING: 1216, X25519: 32}[self.suite]:
            raise Refusal("E-SEAL-KEY")
        self.check_time(now)

    def check_time(self, now: int) -> None:
        if now < self.not_before:
            raise Refusal("E-SEAL-KEY-NOT-YET")
        if now > self.not_after:
            raise Refusal("E-SEAL-KEY-EXPIRED")


# --- Frames, SPEC 4


@dataclass
class Frame:
    kind: int
    payload: bytes
    last: bool


class Frames:
    """One direction of one message."""

    def __init__(self, salt: bytes, secret: bytes, direction: bytes, bind: bytes, hh: bytes):
        prk = extract(salt, secret)
        label = b"chrysalis/seal/1 " + direction
        self.key = expand(prk, label + b" key" + bind, 32)
        self.iv = expand(prk, label + b" iv" + bind, 12)
        self.hh = hh
        self.next = 0

    def _inputs(self, last: bool) -> tuple[bytes, bytes]:
        counter = struct.pack(">Q", self.next)
        nonce = bytes(a ^ b for a, b in zip(self.iv, bytes(4) + counter))
        self.next += 1
        return nonce, self.hh + counter + bytes([last])

    def seal(self, kind: int, payload: bytes, last: bool) -> bytes:
        plain = struct.pack(">BI", kind, len(payload)) + payload
        if len(payload) > MAX_PAYLOAD:
            raise Refusal("E-SEAL-PAYLOAD")
        plain = plain.ljust(next(b for b in BUCKETS if b >= len(plain)), b"\0")
        nonce, aad = self._inputs(last)
        sealed = AESGCM(self.key).encrypt(nonce, plain, aad)
        return struct.pack(">I", len(sealed) | (FINAL_BIT if last else 0)) + sealed

    def open(self, sealed: bytes, last: bool) -> Frame:
        nonce, aad = self._inputs(last)
        try:
            plain = AESGCM(self.key).decrypt(nonce, sealed, aad)
        except InvalidTag:
            raise Refusal("E-SEAL-REFUSED") from None
        kind, length = struct.unpack_from(">BI", plain)
        payload, padding = plain[5 : 5 + length], plain[5 + length :]
        if kind not in range(1, 6) or length > len(plain) - 5 or any(padding):
            raise Refusal("E-SEAL-REFUSED")
        return Frame(kind, payload, last)


def cut_frame(data: bytes, at: int) -> tuple[bytes, bool, int]:
    """The sealed frame at `at`, its final mark, and where the next one begins."""
    if len(data) - at < 4:
        raise Refusal("E-SEAL-TRUNCATED")
    (word,) = struct.unpack_from(">I", data, at)
    length, last = word & ~FINAL_BIT, bool(word & FINAL_BIT)
    if length > BUCKETS[-1] + 16:
        raise Refusal("E-SEAL-FRAME-LIMIT")
    if length - 16 not in BUCKETS:
        raise Refusal("E-SEAL-FRAME-SIZE")
    end = at + 4 + length
    if len(data) < end:
        raise Refusal("E-SEAL-TRUNCATED")
    return data[at + 4 : end], last, end


# --- Sender, SPEC 3 and 4.5


@dataclass
class ResponseOpener:
    hh: bytes
    transcript: bytes
    candidates: list[tuple[bytes, bytes]]  # (enc, exporter)


def seal_request(
    header: Header, recipients: list[KeyEntry], body: bytes, random: Random = os.urandom
) -> tuple[bytes, ResponseOpener]:
    if not 1 <= len(recipients) <= 3:
        raise Refusal("E-SEAL-RECIPIENT-COUNT")
    if len({r.id for r in recipients}) != len(recipients):
        raise Refusal("E-SEAL-DUPLICATE-RECIPIENT")
    if header.role == GRANT:
        raise Refusal("E-SEAL-ROLE")
    for entry in recipients:
        entry.check(header.suite, header.role, header.time // 1000)
    out = header.encode()
    hh = sha256(out)
    out += bytes([len(recipients)])
    dek = random(32)
    candidates = []
    for entry in recipients:
        info = b"chrysalis/seal/1" + hh
        enc, context = setup_sender(header.suite, entry.public, info, random)
        out += entry.id + enc + context.seal(entry.id, dek)
        candidates.append((enc, context.export(b"chrysalis/seal/1 response")))
    frames = Frames(sha256(out), dek, b"request", b"", hh)
    pieces = [body[n : n + MAX_PAYLOAD] for n in range(0, len(body), MAX_PAYLOAD)] or [b""]
    out += b"".join(frames.seal(BODY, p, n == len(pieces) - 1) for n, p in enumerate(pieces))
    if len(out) > MAX_REQUEST:
        raise Refusal("E-SEAL-REQUEST-SIZE")
    return out, ResponseOpener(hh, sha256(out), candidates)


def open_response(opener: ResponseOpener, data: bytes) -> list[Frame]:
    """All frames of a complete response; anything less or more is refused."""
    if data and data[0] >= len(opener.candidates):
        raise Refusal("E-SEAL-CANDIDATE")
    if len(data) < 33:
        raise Refusal("E-SEAL-TRUNCATED")
    enc, exporter = opener.candidates[data[0]]
    frames = Frames(enc + data[1:33], exporter, b"response", opener.transcript, opener.hh)
    out, at, last = [], 33, False
    while not last:
        sealed, last, at = cut_frame(data, at)
        out.append(frames.open(sealed, last))
    if at != len(data):
        raise Refusal("E-SEAL-AFTER-FINAL")
    return out


def seal_grant(
    recipient: KeyEntry,
    keyset_digest: bytes,
    model_root: bytes,
    model_key: bytes,
    now: int,
    random: Random = os.urandom,
) -> bytes:
    recipient.check(recipient.suite, GRANT, now)
    if len(model_key) != 32:
        raise Refusal("E-GRANT-KEY-LENGTH")
    suite, aad = recipient.suite, model_root + keyset_digest
    enc, context = setup_sender(suite, recipient.public, b"chrysalis/grant/1", random)
    head = b"CHGR\x01" + struct.pack(">H", suite) + recipient.id + aad
    return head + enc + context.seal(aad, model_key)


# --- Recipient, SPEC 4.5, 5, 7 and 8


@dataclass
class Worker:
    """What a recipient knows: its keys, what it serves, and what it has seen."""

    keys: list[tuple[KeyEntry, PrivateKey]]
    network: int
    model_root: bytes
    policy_digest: bytes
    seen: set[bytes] = field(default_factory=set)
    capacity: int = 1 << 17

    def usable(self, id: bytes, now: int) -> tuple[KeyEntry, PrivateKey] | None:
        for entry, key in self.keys:
            if entry.id == id:
                entry.check_time(now)
                return entry, key
        return None


@dataclass
class Opened:
    header: Header
    body: bytes
    prefix: bytes
    frames: Frames
    trace: dict[str, bytes]

    def response(self, frames: list[Frame]) -> bytes:
        return self.prefix + b"".join(self.frames.seal(f.kind, f.payload, f.last) for f in frames)


def open_request(worker: Worker, now_ms: int, data: bytes, random: Random = os.urandom) -> Opened:
    if len(data) > MAX_REQUEST:
        raise Refusal("E-SEAL-REQUEST-SIZE")
    header = Header.decode(data)
    recipients, at = read_recipients(header, data)
    sealed_frames, prefix = [], data[:at]
    last = False
    while not last:
        sealed, last, at = cut_frame(data, at)
        sealed_frames.append((sealed, last))
    if at != len(data):
        raise Refusal("E-SEAL-AFTER-FINAL")
    for got, expected, code in [
        (header.network, worker.network, "E-SEAL-NETWORK"),
        (header.model_root, worker.model_root, "E-SEAL-MODEL-ROOT"),
        (header.policy_digest, worker.policy_digest, "E-SEAL-POLICY"),
    ]:
        if got != expected:
            raise Refusal(code)
    if abs(now_ms - header.time) > MAX_SKEW_MS:
        raise Refusal("E-SEAL-TIME")
    index, enc, wrapped, entry, key = find_key(worker, header, recipients, now_ms // 1000)
    if sha256(enc) in worker.seen:
        raise Refusal("E-SEAL-REPLAY")
    if len(worker.seen) >= worker.capacity:
        raise Refusal("E-SEAL-REPLAY-FULL")

    decoy, hh, failed = random(32), sha256(data[:HEADER_BYTES]), False
    try:
        context = setup_receiver(key, enc, b"chrysalis/seal/1" + hh)
        dek, exporter = context.open(entry.id, wrapped), context.export(b"chrysalis/seal/1 response")
    except (InvalidTag, ValueError):
        dek, exporter, failed = decoy, bytes(32), True
    frames, body = Frames(sha256(prefix), dek, b"request", b"", hh), b""
    for sealed, last in sealed_frames:
        try:
            frame = frames.open(sealed, last)
            failed, body = failed or frame.kind != BODY, body + frame.payload
        except Refusal:
            failed = True
    nonce, transcript = random(32), sha256(data)
    answer = Frames(enc + nonce, exporter, b"response", transcript, hh)
    if failed:
        raise Refusal("E-SEAL-REFUSED")
    worker.seen.add(sha256(enc))
    trace = {
        "header_hash": hh,
        "dek": dek,
        "prefix_hash": sha256(prefix),
        "request_key": frames.key,
        "request_iv": frames.iv,
        "exporter": exporter,
        "transcript": transcript,
        "response_key": answer.key,
        "response_iv": answer.iv,
    }
    return Opened(header, body, bytes([index]) + nonce, answer, trace)


def read_recipients(header: Header, data: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], int]:
    if len(data) <= HEADER_BYTES:
        raise Refusal("E-SEAL-MALFORMED")
    count, at = data[HEADER_BYTES], HEADER_BYTES + 1
    if not 1 <= count <= 3:
        raise Refusal("E-SEAL-RECIPIENT-COUNT")
    nenc, recipients = NENC[header.suite], []
    for _ in range(count):
        id, after = data[at : at + 16], at + 16
        enc, wrapped = data[after : after + nenc], data[after + nenc : after + nenc + 48]
        at = after + nenc + 48
        if at > len(data):
            raise Refusal("E-SEAL-MALFORMED")
        if any(id == earlier for earlier, _, _ in recipients):
            raise Refusal("E-SEAL-DUPLICATE-RECIPIENT")
        recipients.append((id, enc, wrapped))
    return recipients, at


def find_key(worker: Worker, header: Header, recipients, now: int):
    refusal = Refusal("E-SEAL-NO-RECIPIENT")
    for index, (id, enc, wrapped) in enumerate(recipients):
        try:
            found = worker.usable(id, now)
        except Refusal as unusable:
            refusal = unusable
            continue
        if found is None:
            continue
        entry, key = found
        own = {held.id for held, _ in worker.keys if held.id != id}
        if any(other in own for other, _, _ in recipients):
            raise Refusal("E-SEAL-DUPLICATE-RECIPIENT")
        if entry.suite != header.suite:
            raise Refusal("E-SEAL-SUITE")
        if entry.role != header.role:
            raise Refusal("E-SEAL-ROLE")
        return index, enc, wrapped, entry, key
    raise refusal


def open_grant(worker: Worker, keysets: list[bytes], now: int, data: bytes) -> bytes:
    read_magic(data, b"CHGR")
    if len(data) < 7:
        raise Refusal("E-SEAL-MALFORMED")
    (suite,) = struct.unpack_from(">H", data, 5)
    if suite not in NENC or len(data) != 87 + NENC[suite] + 48:
        raise Refusal("E-SEAL-MALFORMED")
    id, root, keyset = data[7:23], data[23:55], data[55:87]
    if root != worker.model_root:
        raise Refusal("E-SEAL-MODEL-ROOT")
    if keyset not in keysets:
        raise Refusal("E-GRANT-KEYSET")
    found = worker.usable(id, now)
    if found is None:
        raise Refusal("E-SEAL-NO-RECIPIENT")
    entry, key = found
    if entry.suite != suite:
        raise Refusal("E-SEAL-SUITE")
    if entry.role != GRANT:
        raise Refusal("E-SEAL-ROLE")
    try:
        context = setup_receiver(key, data[87:-48], b"chrysalis/grant/1")
        return context.open(root + keyset, data[-48:])
    except (InvalidTag, ValueError):
        raise Refusal("E-SEAL-REFUSED") from None
