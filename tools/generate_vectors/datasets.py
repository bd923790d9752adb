"""Vectors of encrypted data sets, made with the ciphers of a general library."""

import base64
import hashlib
import struct

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from .cases import Case, Documents

_KEY = bytes(range(32))
_OTHER = bytes(32)
_IV = bytes(range(16))
_PREFIX = bytes(range(7))
_GREETING = b"Hello, enclave!\n"
_CHUNK = 65_536
_CBC, _AEAD = "iexec-cbc-v1", "aead-chunked-v1"


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    return {
        "formats": (
            "encrypted data sets and their plaintext",
            [*_readable(), *_refused()],
            {
                "key": base64.b64encode(_KEY).decode(),
                "other_key": base64.b64encode(_OTHER).decode(),
            },
        )
    }


def _header(key: bytes = _KEY) -> bytes:
    key_id = hashlib.sha256(b"sealspace.dataset.key/v1\0" + key).digest()
    return b"sealdata" + b"\x01" + struct.pack(">I", _CHUNK) + key_id + _PREFIX


def _chunk(plain: bytes, number: int, last: bool, header: bytes) -> bytes:
    nonce = _PREFIX + struct.pack(">I?", number, last)
    return AESGCM(_KEY).encrypt(nonce, plain, header)


def _aead(plain: bytes, header: bytes | None = None) -> bytes:
    header = header or _header()
    parts = [plain[at : at + _CHUNK] for at in range(0, len(plain), _CHUNK)] or [b""]
    return header + b"".join(
        _chunk(part, number, number == len(parts) - 1, header) for number, part in enumerate(parts)
    )


def _cbc(padded: bytes) -> bytes:
    encryptor = Cipher(AES(_KEY), CBC(_IV)).encryptor()
    return _IV + encryptor.update(padded) + encryptor.finalize()


def _padded(plain: bytes) -> bytes:
    count = 16 - len(plain) % 16
    return plain + bytes([count]) * count


def _case(name: str, suite: str, blob: bytes, rules: list[str], expect: Case) -> Case:
    case: Case = {"name": name, "rules": rules, "suite": suite}
    case["blob_hex"] = blob.hex()
    return case | {"expect": expect}


def _readable() -> list[Case]:
    cases = []
    for name, plain in (("empty", b""), ("greeting", _GREETING), ("odd length", _GREETING[:5])):
        for suite, blob, rule in (
            (_CBC, _cbc(_padded(plain)), "DS2"),
            (_AEAD, _aead(plain), "DS4"),
        ):
            expect = {
                "plaintext_hex": plain.hex(),
                "checksum": f"0x{hashlib.sha256(blob).hexdigest()}",
            }
            cases.append(_case(f"{name}, {suite}", suite, blob, [rule], expect))
    # Two chunks: their bytes are not listed, because they are long.
    plain = bytes(_CHUNK) + b"end"
    for length, of in ((_CHUNK, "one full chunk"), (_CHUNK + 3, "two chunks")):
        blob = _aead(plain[:length])
        cases.append(
            {
                "name": f"{of}, {_AEAD}",
                "rules": ["DS4"],
                "suite": _AEAD,
                "prefix_hex": _PREFIX.hex(),
                "zeros": _CHUNK,
                "then_hex": plain[_CHUNK:length].hex(),
                "expect": {
                    "size_bytes": len(blob),
                    "checksum": f"0x{hashlib.sha256(blob).hexdigest()}",
                },
            }
        )
    return cases


def _refused() -> list[Case]:
    header = _header()
    good = _aead(_GREETING)
    flag = header + _chunk(_GREETING, 0, False, header)
    second = header + _chunk(_GREETING, 1, True, header)
    other_size = b"sealdata\x01" + struct.pack(">I", 2 * _CHUNK) + header[13:]
    other_prefix = header[:-7] + bytes(7)
    cases = {
        "another key_fail": (_AEAD, _aead(_GREETING, _header(_OTHER)), "DS3", "header or key"),
        "another magic_fail": (_AEAD, b"S" + good[1:], "DS3", "header or key"),
        "another chunk size_fail": (_AEAD, _aead(_GREETING, other_size), "DS3", "header or key"),
        "header cut off_fail": (_AEAD, good[:51], "DS3", "changed or cut off"),
        "no chunk_fail": (_AEAD, good[:52], "DS4", "changed or cut off"),
        "tag cut off_fail": (_AEAD, good[:-1], "DS4", "changed or cut off"),
        "one byte more_fail": (_AEAD, good + b"\0", "DS4", "changed or cut off"),
        "another nonce prefix_fail": (_AEAD, other_prefix + good[52:], "DS4", "changed or cut off"),
        "last chunk not marked_fail": (_AEAD, flag, "DS4", "changed or cut off"),
        "first chunk missing_fail": (_AEAD, second, "DS4", "changed or cut off"),
        "no block_fail": (_CBC, _IV, "DS2", "padding"),
        "no IV_fail": (_CBC, _IV[:15], "DS2", "header or key"),
        "part of a block_fail": (_CBC, _cbc(_padded(_GREETING)) + b"\0", "DS2", "length"),
        "padding of zero_fail": (_CBC, _cbc(bytes(16)), "DS2", "padding"),
        "padding over a block_fail": (_CBC, _cbc(bytes([17]) * 32), "DS2", "padding"),
        "padding not uniform_fail": (_CBC, _cbc(bytes(14) + b"\1\2"), "DS2", "padding"),
    }
    return [
        _case(name, suite, blob, [rule], {"code": "dataset-invalid", "text": text})
        for name, (suite, blob, rule, text) in cases.items()
    ]
