"""Generation requests, values and tags, without a runner (RN141, RN142, RN147)."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fuzz_strategies import json_values
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.clock_and_entropy import SystemEntropy
from runner.calls.generated_secrets import draw_value, parse_generation
from runner.calls.secret_tags import SecretTagKey
from runner.reasons import RunRefused
from sealspace.documents.generation_grants import checked_generation_type
from sealspace.secrets import Generated, Secret, SecretName
from sealspace.session import key_session
from tee_backend.backend.key import KeyFile

OWNER = key_session(bytes(32)).did


def wanting(*new: Any, profile: Any = "default", owner: Any = OWNER) -> bytes:
    return json.dumps({"owner": owner, "profile": profile, "new_secrets": list(new)}).encode()


def one(name: Any = "PROTECTED_KEY", kind: Any = "hex32") -> dict[str, Any]:
    return {"name": name, "generation_type": kind}


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (wanting(), "request-invalid"),
        (wanting(*(one(f"PROTECTED_{number}") for number in range(17))), "request-invalid"),
        (wanting(one(), one(kind="hex16")), "request-invalid"),
        *(
            (wanting(one(name)), "request-invalid")
            for name in ("KEY", "PROTECTED", "protected_KEY", "NEAR_SENDER_ID")
        ),
        *(
            (wanting(one(f"PROTECTED_K{end}")), "request-invalid")
            for end in ("\0", "\n", "/../X", " ", "é", "K" * 200)
        ),
        *((wanting(one(name)), "request-invalid") for name in (1, None, ["PROTECTED_KEY"])),
        *(
            (wanting(one(kind=kind)), "request-invalid")
            for kind in ("", "hex", "HEX32", "hex32\n", "base64", 32, None)
        ),
        *(
            (wanting(one(kind=f"password:{size}")), "request-invalid")
            for size in ("7", "257", "0", "-8", "08", "8.0", "", "1000", "٨٨", "8:9", " 8")
        ),
        *(
            (wanting(one(), profile=profile), "bad-profile")
            for profile in ("", "Prod", "a/b", "global", "x\0", 1, None)
        ),
        *(
            (wanting(one(), owner=owner), "request-invalid")
            for owner in ("", "alice", "did:", 1, None)
        ),
        (wanting({"name": "PROTECTED_KEY"}), "request-invalid"),
        (wanting(one() | {"value": "mine"}), "request-invalid"),
        (wanting("PROTECTED_KEY"), "request-invalid"),
        (b"[]", "request-invalid"),
        (b"{}", "request-invalid"),
        (b"\xff", "request-invalid"),
        (b"[" * 10_000, "request-invalid"),
        (wanting(one()).replace(b"}]", b'}], "new_secrets": []'), "request-invalid"),
        (wanting(one()) + b" " * 20_000, "input-too-large"),
    ],
)
def test_bodies_that_are_refused(body: bytes, refused: str) -> None:
    """RN141, RN142: invalid names, types, numbers and members are refused."""
    with pytest.raises(RunRefused) as caught:
        parse_generation(body)
    assert caught.value.reason.code == refused


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("hex16", "[0-9a-f]{32}"),
        ("hex32", "[0-9a-f]{64}"),
        ("hex64", "[0-9a-f]{128}"),
        ("ed25519", "ed25519:[1-9A-HJ-NP-Za-km-z]{43,44}"),
        ("ed25519_seed", "[0-9a-f]{64}"),
        ("password", "[A-Za-z0-9]{32}"),
        ("password:8", "[A-Za-z0-9]{8}"),
        ("password:256", "[A-Za-z0-9]{256}"),
    ],
)
def test_values(kind: str, form: str) -> None:
    """RN141: each type has its form, and no value repeats."""
    values = {draw_value(checked_generation_type(kind), SystemEntropy()) for _ in range(20)}
    assert len(values) == 20 and all(re.fullmatch(form, value) for value in values)


def test_characters_are_as_likely_as_one_another() -> None:
    """RN141: bytes beyond four whole alphabets are dropped."""

    class Counting(SystemEntropy):
        def token(self, size_bytes: int) -> bytes:
            return bytes(range(256))

    assert {draw_value("password:248", Counting()).count(one) for one in "AZaz09"} == {4}


def test_a_key_is_written_in_base58() -> None:
    """RN141: a key is encoded as NEAR's tools do, leading zeros included."""

    class Fixed(SystemEntropy):
        def token(self, size_bytes: int) -> bytes:
            return bytes(size_bytes - 1) + b"\x01"

    assert draw_value("ed25519", Fixed()) == "ed25519:" + "1" * 31 + "2"


@fuzzed(1)
@given(st.binary(max_size=300) | json_values().map(lambda value: json.dumps(value).encode()))
def test_fuzz_bodies(body: bytes) -> None:
    """RN142: any bytes are parsed, or refused with a code."""
    with suppress(RunRefused):
        assert parse_generation(body).types


def test_a_tag_fits_one_value_at_one_place() -> None:
    """RN147: a tag depends on owner, path, type, time, value and key."""
    owner, other = (key_session(bytes(31) + bytes([one])).did for one in (1, 2))
    secret, tags = SecretName("PROTECTED_KEY", None), SecretTagKey(bytes(32))
    tag = tags.tag(owner, secret, kind="hex16", at="now", value="ab")
    held = Secret("ab", "", "", "", Generated("hex16", "now", tag))
    assert tags.is_valid(owner, secret, held)
    assert not tags.is_valid(other, secret, held)
    assert not tags.is_valid(owner, SecretName("PROTECTED_KEY", "prod"), held)
    assert not tags.is_valid(owner, SecretName("PROTECTED_KE", None), held)
    assert not SecretTagKey(bytes(31) + b"1").is_valid(owner, secret, held)
    for kind, at, value in (
        ("hex32", "now", "ab"),
        ("hex16", "nowa", "b"),
        ("hex16", "no", "wab"),
        ("hex16n", "ow", "ab"),
    ):
        assert not tags.is_valid(owner, secret, Secret(value, "", "", "", Generated(kind, at, tag)))
    others: tuple[tuple[str | bytes, Generated | None], ...] = (
        ("ab", None),
        (b"ab", Generated("hex16", "now", tag)),
        ("ab", Generated("hex16", "now", b"")),
    )
    for given_value, generated in others:
        assert not tags.is_valid(owner, secret, Secret(given_value, "", "", "", generated))
    assert tag.hex() not in repr(held) and "0" * 8 not in repr(tags)


def test_tags_are_the_same_after_each_start(tmp_path: Path) -> None:
    """RN147: the tag key comes from the key service, under a path of its own."""
    keys = KeyFile(tmp_path / "key")
    owner, secret = key_session(bytes(32)).did, SecretName("PROTECTED_KEY", None)
    first, again = (
        SecretTagKey.derive(keys).tag(owner, secret, kind="hex16", at="now", value="ab")
        for _ in range(2)
    )
    plain = SecretTagKey(keys.key("sealspace/generated-secrets/1"))
    assert first == again != plain.tag(owner, secret, kind="hex16", at="now", value="ab")
