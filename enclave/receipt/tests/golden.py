#!/usr/bin/env python3
"""A second implementation of the receipt layout: standard library only, shares no code with the
crate. Prints the hash, signature and root cell that tests/it/layout.rs expects.

    python3 enclave/receipt/tests/golden.py
"""

import hashlib
import hmac
import struct

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
L = 2**252 + 27742317777372353535851937790883648493


def sha256(data):
    return hashlib.sha256(data).digest()


def hkdf16(ikm, salt, info):
    prk = hmac.new(salt, ikm, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()[:16]


def add(p, q):
    k = D * p[0] * q[0] * p[1] * q[1] % P
    x = (p[0] * q[1] + q[0] * p[1]) * pow(1 + k, P - 2, P)
    y = (p[1] * q[1] + p[0] * q[0]) * pow(1 - k, P - 2, P)
    return x % P, y % P


def multiply(k, point):
    result = (0, 1)
    while k:
        if k & 1:
            result = add(result, point)
        point = add(point, point)
        k >>= 1
    return result


def encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def base_point():
    y = 4 * pow(5, P - 2, P) % P
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x % 2 else x), y


def scalar(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def ed25519(seed):
    """RFC 8032: the public key and a signing function."""
    half = hashlib.sha512(seed).digest()
    secret = int.from_bytes(half[:32], "little") & ((1 << 254) - 8) | 1 << 254
    public = encode(multiply(secret, base_point()))

    def sign(message):
        r = scalar(half[32:], message) % L
        big_r = encode(multiply(r, base_point()))
        s = (r + scalar(big_r, public, message) * secret) % L
        return big_r + s.to_bytes(32, "little")

    return public, sign


def bits(data):
    return "".join(f"{byte:08b}" for byte in data)


def coins(amount):
    length = (amount.bit_length() + 7) // 8
    return f"{length:04b}" + (f"{amount:0{8 * length}b}" if length else "")


def cell(data, children=()):
    """Hash and serialised head of a cell whose children have no children."""
    d2 = len(data) // 8 + (len(data) + 7) // 8
    if len(data) % 8:
        data += "1"
        data += "0" * (-len(data) % 8)
    head = bytes([len(children), d2]) + int(data, 2).to_bytes(len(data) // 8, "big")
    return sha256(head + b"\0\0" * len(children) + b"".join(c[0] for c in children)), head


def main():
    salt, request_id = b"\x5a" * 32, b"\x22" * 16
    request, response = b'{"model":"m","messages":[]}', b'{"choices":[]}'
    asked = sha256(b"chrysalis/req/v1\0" + salt + struct.pack(">Q", len(request)) + request)
    answered = sha256(b"chrysalis/resp/v1\0" + salt + response + struct.pack(">Q", len(response)))
    usage = struct.pack(
        ">4IB6Q",
        *(100, 40, 30, 10, 1),
        *(1_000_000, 250_000, 8_000_000, 4_000_001),
        *(1_795_000_000_500, 1_795_000_001_900),
    )
    amount = (60 * 1_000_000 + 40 * 250_000 + 20 * 8_000_000 + 10 * 4_000_001) // 10**6

    def child(label, content):
        blind = hkdf16(salt, b"chrysalis/receipt/blind/v1", label + request_id)
        return cell(bits(blind + content))

    children = [
        child(b"io", asked + answered),
        child(b"usage", usage),
        child(b"model", b"\x41" * 32 + b"\x52" * 32 + b"\x43" * 32),
        child(b"att", b"\x51" * 32 + b"\x52" * 32),
    ]
    public, sign = ed25519(b"\x11" * 32)
    for tag, network in ((b"RQR1", -3), (b"SIM1", 0x53494D)):
        head = tag + struct.pack(">i", network) + b"\x21" * 32 + public + request_id
        head += struct.pack(">I", 1_795_000_002)
        root, data = cell(bits(head) + coins(amount), children)
        print(tag.decode(), "hash     ", root.hex())
        print(tag.decode(), "signature", sign(root).hex())
        print(tag.decode(), "root cell", data.hex())


if __name__ == "__main__":
    main()
