"""Vectors of shares of a key, computed from the text of SLIP-39 without the product's library.

Only the list of words is that of the library `shamir-mnemonic`.
"""

import hashlib
import hmac
from collections.abc import Sequence

from shamir_mnemonic.wordlist import WORDLIST

from .cases import Case, Documents
from .tokens import ALICE

_KEY = bytes(range(1, 33))
_ID = 0x2BAD
_GENERATORS = (
    0xE0E040, 0x1C1C080, 0x3838100, 0x7070200, 0xE0E0009, 0x1C0C2412, 0x38086C24, 0x3090FC48,
    0x21B1F890, 0x3F3F120,
)  # fmt: skip
_DIGEST_X, _SECRET_X = 254, 255


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    return {
        "shares": ("shares, and the key that they give", _shares(), {"key_hex": _KEY.hex()}),
        "sheets": ("recovery sheets", _sheets(), {}),
    }


# --- SLIP-39 --------------------------------------------------------------------------------------


def _product(one: int, other: int) -> int:
    """Multiply in the field of 256 elements with the polynomial x^8 + x^4 + x^3 + x + 1."""
    result = 0
    while other:
        if other & 1:
            result ^= one
        one <<= 1
        if one & 0x100:
            one ^= 0x11B
        other >>= 1
    return result


def _inverse(one: int) -> int:
    result = 1
    for _ in range(254):
        result = _product(result, one)
    return result


def _value_at(x: int, points: dict[int, bytes]) -> bytes:
    """Return the value at `x` of the polynomials of lowest degree through points."""
    if x in points:
        return points[x]
    result = bytearray(len(_KEY))
    for own_x, value in points.items():
        factor = 1
        for other_x in points:
            if other_x != own_x:
                quotient = _product(x ^ other_x, _inverse(own_x ^ other_x))
                factor = _product(factor, quotient)
        for at, byte in enumerate(value):
            result[at] ^= _product(factor, byte)
    return bytes(result)


def _fixed(label: str, size_bytes: int) -> bytes:
    """Return bytes in the place of random ones."""
    return hashlib.sha256(f"recovery vectors: {label}".encode()).digest()[:size_bytes]


def _split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Split a secret with the threshold 2 or more."""
    rest = _fixed("rest", len(secret) - 4)
    digest = hmac.new(rest, secret, hashlib.sha256).digest()[:4]
    points = {_DIGEST_X: digest + rest, _SECRET_X: secret}
    for x in range(threshold - 2):
        points[x] = _fixed(f"share {x}", len(secret))
    return [_value_at(x, points) for x in range(count)]


def _encrypted(key: bytes, passphrase: str, exponent: int, extendable: bool) -> bytes:
    left, right = key[:16], key[16:]
    salt = b"" if extendable else b"shamir" + _ID.to_bytes(2)
    for number in range(4):
        rounds = 2500 << exponent
        password = bytes([number]) + passphrase.encode()
        mask = hashlib.pbkdf2_hmac("sha256", password, salt + right, rounds, dklen=16)
        left, right = right, bytes(a ^ b for a, b in zip(left, mask, strict=True))
    return right + left


def _checksum(numbers: Sequence[int], customization: bytes) -> list[int]:
    remainder = 1
    for number in [*customization, *numbers, 0, 0, 0]:
        top = remainder >> 20
        remainder = (remainder & 0xFFFFF) << 10 ^ number
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                remainder ^= generator
    remainder ^= 1
    return [remainder >> shift & 1023 for shift in (20, 10, 0)]


def _line(
    value: bytes,
    index: int,
    threshold: int,
    *,
    exponent: int = 0,
    extendable: bool = True,
    set_id: int = _ID,
    groups: int = 1,
) -> str:
    bits = f"{set_id:015b}{extendable:b}{exponent:04b}"
    bits += f"{0:04b}{0:04b}{groups - 1:04b}{index:04b}{threshold - 1:04b}"
    bits += f"{int.from_bytes(value):0260b}"
    numbers = [int(bits[at : at + 10], 2) for at in range(0, len(bits), 10)]
    customization = b"shamir_extendable" if extendable else b"shamir"
    numbers += _checksum(numbers, customization)
    return " ".join(WORDLIST[number] for number in numbers)


def _set(
    threshold: int,
    count: int,
    *,
    passphrase: str = "",
    exponent: int = 0,
    extendable: bool = True,
) -> list[str]:
    encrypted = _encrypted(_KEY, passphrase, exponent, extendable)
    return [
        _line(value, index, threshold, exponent=exponent, extendable=extendable)
        for index, value in enumerate(_split(encrypted, threshold, count))
    ]


# --- cases ----------------------------------------------------------------------------------------


def _case(name: str, rule: str, lines: Sequence[str], expect: Case, passphrase: str = "") -> Case:
    return {
        "name": name,
        "rules": [rule],
        "shares": list(lines),
        "passphrase": passphrase,
        "expect": expect,
    }


def _shares() -> list[Case]:
    gives = {"key_hex": _KEY.hex()}
    two, three, most = _set(2, 3), _set(3, 5), _set(16, 16)
    locked = _set(2, 2, passphrase="open sesame", exponent=6)
    former = _set(2, 2, passphrase="open sesame", exponent=1, extendable=False)
    words = three[0].split()
    exchanged = " ".join([*words[:4], words[5], words[4], *words[6:]])
    mistyped = " ".join([*words[:6], "academic", *words[7:]])
    unknown = " ".join([*words[:6], "sesame", *words[7:]])
    other = _line(bytes(32), 0, 3, set_id=_ID + 1)
    forged = _line(bytes(32), 0, 3)
    refused = {"code": "invalid-share"}
    return [
        _case("two-of-three", "RV1", two[1:], gives),
        _case("three-of-five", "RV1", [three[4], three[0], three[2]], gives),
        _case("all-five", "RV1", three, gives),
        _case("sixteen-of-sixteen", "RV1", most, gives),
        _case("a-passphrase", "RV9", locked, gives, "open sesame"),
        _case("not-extendable", "RV9", former, gives, "open sesame"),
        _case(
            "a-wrong-passphrase", "RV9", locked, _wrong(locked_with="Open sesame"), "Open sesame"
        ),
        _case("one-less_fail", "RV2", three[:2], {"code": "shares-missing"}),
        _case("none_fail", "RV2", [], {"code": "shares-missing"}),
        _case("a-mistyped-word_fail", "RV4", [mistyped, *three[1:3]], refused),
        _case("an-unknown-word_fail", "RV4", [unknown, *three[1:3]], refused),
        _case("exchanged-words_fail", "RV4", [exchanged, *three[1:3]], refused),
        _case("a-word-less_fail", "RV4", [" ".join(words[:-1]), *three[1:3]], refused),
        _case("groups_fail", "RV4", [_line(bytes(32), 0, 2, groups=2)], refused),
        _case("the-whole-key_fail", "RV4", [_line(bytes(32), 0, 1)], refused),
        _case("too-many-rounds_fail", "RV4", [_line(bytes(32), 0, 2, exponent=9)], refused),
        _case("another-set_fail", "RV5", [other, *three[1:3]], refused),
        _case("the-same-twice_fail", "RV5", [three[1], three[1], three[2]], refused),
        _case("one-number-twice_fail", "RV5", [forged, *three[:2]], refused),
        _case("a-forged-share_fail", "RV5", [forged, *three[1:3]], refused),
        _case("a-forged-surplus-share_fail", "RV5", [*three[1:4], forged], refused),
    ]


def _wrong(*, locked_with: str) -> Case:
    """Return the key that a wrong passphrase gives."""
    encrypted = _encrypted(_KEY, "open sesame", 6, True)
    left, right = encrypted[:16], encrypted[16:]
    for number in reversed(range(4)):
        password = bytes([number]) + locked_with.encode()
        mask = hashlib.pbkdf2_hmac("sha256", password, right, 2500 << 6, dklen=16)
        left, right = right, bytes(a ^ b for a, b in zip(left, mask, strict=True))
    return {"key_hex": (right + left).hex()}


def _sheets() -> list[Case]:
    line = _set(3, 5)[1]
    words = line.split()
    rows = [f"{at + 1:2} {' '.join(words[at : at + 3])}" for at in range(0, 33, 3)]
    text = "\n".join(
        [
            "sealspace recovery share, format 1",
            "",
            "share: 2 of 5",
            "needed: 3",
            f"owner: {ALICE.did}",
            "node: https://node.example",
            "created: 2026-01-02T03:04:05Z",
            "passphrase: no",
            "",
            "words:",
            *rows,
            "",
            "what this is:",
            "",
        ]
    )
    read = {
        "number": 2,
        "shares": 5,
        "threshold": 3,
        "owner": ALICE.did,
        "node": "https://node.example",
        "created": "2026-01-02T03:04:05Z",
        "has_passphrase": False,
        "words": line,
    }
    refused = {"code": "invalid-share"}
    return [
        _sheet("a-sheet", text, read),
        _sheet("line-ends-of-windows", text.replace("\n", "\r\n"), read),
        _sheet("nothing-behind-the-words", text.partition("what")[0], read),
        _sheet("another-format_fail", text.replace("format 1", "format 2"), refused),
        _sheet("another-number_fail", text.replace("share: 2", "share: 3"), refused),
        _sheet("another-threshold_fail", text.replace("needed: 3", "needed: 2"), refused),
        _sheet("an-unknown-line_fail", text.replace("node:", "color: red\nnode:"), refused),
        _sheet("a-line-less_fail", text.replace("passphrase: no\n", ""), refused),
        _sheet(
            "another-spelling-of-the-owner_fail",
            text.replace(ALICE.did, ALICE.did.lower()),
            refused,
        ),
        _sheet("a-row-less_fail", text.replace(f"{rows[3]}\n", ""), refused),
    ]


def _sheet(name: str, text: str, expect: Case) -> Case:
    return {"name": name, "rules": ["RV6"], "text": text, "expect": expect}
