"""Fuzzing of caveats, facts, keys and stored headers."""

import json
from contextlib import suppress
from typing import Any

import fixed_vectors as fixed
import pytest
from capability_strategies import SIGNERS
from fuzz_strategies import LARGE_UNITS, changed_objects, damaged_text, json_values, large_texts
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.capability_errors import CapabilityError
from capabilities.caveats import check_delegated, check_invoked, same_json
from capabilities.facts import (
    ATTESTATION_URN,
    contains_statement,
    is_terminal,
    policy_profile_refusal,
    statement_facts,
)
from capabilities.issuers import key_of_jwk
from capabilities.principals import parse_address, parse_chain_id
from capabilities.signatures import recover_eip191, recover_public_key
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import check_text, parse_json, repeats_member
from capabilities.tokens import restore_delegation

SELECTOR = {"type": "xyz.tinycloud.resource/selector", "kind": "prefix", "value": "a"}
caveat_values = json_values("prefix", "exact", "a", SELECTOR["type"], members=[*SELECTOR])
caveats = st.dictionaries(
    st.sampled_from("01k"), changed_objects(SELECTOR, caveat_values) | caveat_values, max_size=2
).filter(lambda drawn: "NaN" not in json.dumps(drawn))


@fuzzed()
@given(caveats, caveats)
def test_fuzz_caveats(parent: dict[str, Any], child: dict[str, Any]) -> None:
    """Caveats of any shape are contained or refused; equal ones are contained."""
    for check in (check_delegated, check_invoked):
        with suppress(CapabilityError):
            check(parent, child)
    assert same_json(parent, parent)


@fuzzed()
@given(
    st.lists(
        json_values("terminal", members=["xyz.tinycloud.policy/delegationMode", "role", "profile"]),
        max_size=3,
    )
)
def test_fuzz_facts(facts: list[Any]) -> None:
    """Facts of any shape are evaluated without an error."""
    is_terminal(facts)
    contains_statement(facts)
    policy_profile_refusal(tuple(facts))


@fuzzed()
@given(
    st.binary(max_size=100) | st.text().map(str.encode) | large_texts.map(str.encode),
    st.text(max_size=5),
)
def test_fuzz_statements_in_sign_ins(statement: bytes, tail: str) -> None:
    """A policy statement of any bytes in a sign-in becomes a fact, or rejects the sign-in."""
    for resource in (ATTESTATION_URN + encode_url(statement) + tail, ATTESTATION_URN[:-3] + tail):
        with suppress(CapabilityError):
            statement_facts([resource])


JWK = {
    "kty": "OKP",
    "crv": "Ed25519",
    "x": encode_url(SIGNERS[0].public_key),
    "y": encode_url(bytes(32)),
    "use": "sig",
}
jwk_values = json_values("EC", "P-256", "secp256k1", "sign", JWK["x"])


@fuzzed()
@given(
    changed_objects(JWK, jwk_values | st.binary(max_size=33).map(encode_url)),
    st.binary(max_size=70),
    st.sampled_from(["EdDSA", "ES256", "none"]),
)
def test_fuzz_keys(jwk: dict[str, Any], signature: bytes, algorithm: str) -> None:
    """Any JWK is parsed as a key or raises BadSignature, and so does any signature under it."""
    with suppress(CapabilityError):
        key = key_of_jwk(jwk)
        key.verifier.verify(key.algorithm or algorithm, b"message", signature)


@fuzzed()
@given(
    st.text()
    | damaged_text(fixed.HOST_HEADER, fixed.SESSION_HEADER, fixed.DELEGATION)
    | large_texts
)
def test_fuzz_stored_headers(header: str) -> None:
    """A stored header of any text is a delegation or is rejected."""
    with suppress(CapabilityError):
        restore_delegation(header)


@pytest.mark.parametrize("unit", LARGE_UNITS)
def test_fuzz_large_json(unit: str) -> None:
    """Repetitive JSON of the maximum size is handled quickly and without a crash."""
    data = (unit * 1_000_000)[:1_000_000].encode()
    for text in (data, b'{"a":' + data[:-10] + b"}"):
        for read in (parse_json, check_text):
            with suppress(CapabilityError):
                read(text, max_bytes=1_000_000)


@fuzzed()
@given(st.text() | st.text("0123456789+x abcdef", max_size=50), st.binary(max_size=70))
def test_fuzz_parts_of_wallets(text: str, signature: bytes) -> None:
    """Chain numbers, addresses and wallet signatures of any text are parsed or rejected."""
    for read in (
        lambda: parse_chain_id(text),
        lambda: parse_address(text),
        lambda: recover_eip191(text.encode("utf-8", "replace"), signature),
        lambda: recover_public_key(bytes(32), signature, len(text) % 3),
    ):
        with suppress(CapabilityError):
            read()


@fuzzed()
@given(st.dictionaries(st.sampled_from(["a", "b", "\\u0061"]), json_values(), max_size=3))
def test_fuzz_repeated_members(value: dict[str, Any]) -> None:
    """Repeated members are detected in any object."""
    text = "{" + ",".join(f'"{name}":1,"{name}":2' for name in value) + "}"
    assert repeats_member(text.encode(), frozenset({"a"})) is any(
        name in ("a", "\\u0061") for name in value
    )
