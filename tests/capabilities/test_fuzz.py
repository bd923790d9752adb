"""Fuzzing of all parsers: each input gives a value or an error of this package."""

import contextlib
from collections.abc import Callable
from typing import Any

import capability_strategies as draw
import dag_cbor
import fixed_vectors as fixed
import libipld
import msgspec
import pytest
from capability_cases import claims, raw_ucan
from hypothesis import given
from hypothesis import strategies as st
from key_types import ISSUERS, token
from tests_support import fuzzed

from capabilities.abilities import parse_ability
from capabilities.cacao import (
    header_bytes,
    header_text,
    parse_cacao,
    restore_cacao,
    restore_header_bytes,
)
from capabilities.capability_errors import CapabilityError
from capabilities.cids import parse_cid
from capabilities.issuers import verify_jws
from capabilities.principals import ed25519_public_key, parse_principal, principal_of
from capabilities.recap import PREFIX, parse_recap
from capabilities.resources import parse_network_id, parse_resource, parse_space_id, root_of
from capabilities.signatures import recover_address
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import parse_json
from capabilities.tokens import (
    parse_delegation,
    parse_invocation,
    parse_revocation,
    verify_delegation,
    verify_invocation,
    verify_revocation,
)
from capabilities.ucan import parse_ucan

TEXT_PARSERS: list[Callable[[str], object]] = [
    parse_ability,
    parse_cid,
    parse_principal,
    parse_network_id,
    parse_resource,
    parse_space_id,
    parse_rfc3339,
    parse_recap,
    parse_ucan,
    header_bytes,
    restore_header_bytes,
    parse_delegation,
    parse_invocation,
    parse_revocation,
]
HEADERS = [
    fixed.HOST_HEADER,
    fixed.SESSION_HEADER,
    fixed.INVOCATION,
    fixed.DELEGATION,
    *map(token, ISSUERS),
]
CBOR = [header_bytes(header) for header in HEADERS[:2]]
much = fuzzed(1 / 10)


def into_everything(header: str) -> None:
    """Parse a header as each kind of token, and verify the result."""
    kinds: tuple[tuple[Callable[[str], Any], Callable[[Any], object]], ...] = (
        (parse_delegation, verify_delegation),
        (parse_invocation, verify_invocation),
        (parse_revocation, verify_revocation),
    )
    for parse, verify in kinds:
        with contextlib.suppress(CapabilityError):
            verify(parse(header))


@pytest.mark.parametrize("parse", TEXT_PARSERS, ids=lambda parse: parse.__name__)
@given(text=st.text() | st.text("did:pkh:eip155tinycloud/.%#?+0x1uQmz-_=T:Z[]@ ", max_size=60))
@fuzzed()
def test_text_parsers(parse, text):
    """Text parsers accept any text or raise their own error."""
    with contextlib.suppress(CapabilityError):
        parse(text)


@given(st.text())
def test_total_functions(text):
    """Functions that never raise accept any text."""
    principal_of(text)
    ed25519_public_key(text)
    with contextlib.suppress(CapabilityError):
        root_of(parse_resource(text))
    with contextlib.suppress(CapabilityError):
        verify_jws(text, "EdDSA", b"", bytes(64))


@given(st.binary(), st.sampled_from(["EdDSA", "none", "x"]))
def test_signature_checkers(data, algorithm):
    """Any bytes are a valid signature or BadSignature."""
    with contextlib.suppress(CapabilityError):
        verify_jws(draw.SIGNERS[0].did, algorithm, data, data)
    with contextlib.suppress(CapabilityError):
        recover_address(bytes(32), data)
    with contextlib.suppress(CapabilityError):
        recover_address(bytes(32), (data * 65)[:65])


@given(st.binary(max_size=300))
@much
def test_bytes(data):
    """Byte parsers accept any bytes or raise their own error."""
    for parse in (parse_cacao, restore_cacao, lambda value: parse_json(value, max_bytes=200)):
        with contextlib.suppress(CapabilityError):
            parse(data)


@given(st.sampled_from(CBOR), st.integers(0), st.binary(max_size=4), st.integers(0, 4))
@much
def test_damaged_cacaos(data, position, inserted, removed):
    """A valid message with any damage is rejected with an error of this package."""
    position %= len(data)
    into_everything(header_text(data[:position] + inserted + data[position + removed :]))


@given(st.sampled_from(HEADERS), st.integers(0), st.text(max_size=3), st.integers(0, 3))
@much
def test_damaged_headers(header, position, inserted, removed):
    """A valid header with any damage is rejected with an error of this package."""
    position %= len(header)
    into_everything(header[:position] + inserted + header[position + removed :])


MEMBERS = st.sampled_from(["iss", "aud", "exp", "nbf", "nnc", "fct", "prf", "att"])


@given(st.dictionaries(MEMBERS, draw.json_value | draw.att, max_size=4))
@much
def test_claims_of_any_shape(changes):
    """Signed claims of any shape are parsed or rejected."""
    into_everything(raw_ucan(claims(**changes)))


@given(
    draw.json_value
    | st.fixed_dictionaries(
        {"alg": draw.json_value, "typ": st.just("JWT"), "ucv": st.just("0.10.0")}
    )
)
@much
def test_headers_of_any_shape(header):
    """Signed headers of any shape are parsed or rejected."""
    into_everything(raw_ucan(claims(), header=msgspec.json.encode(header)))


JWK = st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "alg", "d"]),
    draw.json_value | st.sampled_from(["OKP", "EC"]),
)


@given(
    st.fixed_dictionaries(
        {}, optional={"jwk": JWK | draw.json_value, "crit": draw.json_value, "b64": draw.json_value}
    )
)
@much
def test_header_extensions_of_any_shape(members):
    """Keys and extensions of any shape are parsed or rejected."""
    header = {"alg": "EdDSA", "typ": "JWT", "ucv": "0.10.0", **members}
    into_everything(raw_ucan(claims(), header=msgspec.json.encode(header)))


@given(st.sampled_from(ISSUERS), JWK | draw.json_value, draw.json_value)
@much
def test_header_keys_of_any_issuer(signer, changes, algorithm):
    """Keys with members of any type, for issuers of all kinds, are parsed or rejected."""
    jwk = signer.jwk | changes if isinstance(changes, dict) else changes
    into_everything(token(signer, header={"jwk": jwk}))
    into_everything(token(signer, header={"jwk": signer.jwk | {"alg": algorithm}}))


@given(st.binary(max_size=100) | draw.json_value.map(msgspec.json.encode))
@much
def test_recaps_of_any_bytes(data):
    """A ReCap of any bytes is parsed or rejected."""
    with contextlib.suppress(CapabilityError):
        parse_recap(PREFIX + libipld.encode_multibase("u", data)[1:])


CBOR_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text(max_size=10)
    | st.binary(max_size=70),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
PAYLOAD_KEYS = st.sampled_from(
    [*list(libipld.decode_dag_cbor(CBOR[1])["p"]), "nbf", "scheme", "request_id", "x"]
)


@given(
    st.dictionaries(PAYLOAD_KEYS, CBOR_VALUE, max_size=3),
    st.dictionaries(st.sampled_from("hpsx"), CBOR_VALUE, max_size=1),
)
@much
def test_cacaos_of_any_shape(fields, parts):
    """Messages with members of any type are parsed or rejected."""
    value = libipld.decode_dag_cbor(CBOR[1])
    value["p"].update(fields)
    into_everything(header_text(dag_cbor.encode(value | parts)))


@pytest.mark.parametrize(
    "unit", ["[", '{"a":', '"', "\\", "%41", "1", ":", "#", "/../", "a.", "\\u0065"]
)
def test_large_repetitions(unit):
    """Long repetitive input is rejected quickly and without a crash."""
    for size in (1000, 100_000, 300_000):
        into_every_parser(unit * (size // len(unit)), size)


def into_every_parser(text, size):
    for parse in TEXT_PARSERS:
        with contextlib.suppress(CapabilityError):
            parse(text)
    with contextlib.suppress(CapabilityError):
        parse_json(text.encode(), max_bytes=1 << 20)
    with contextlib.suppress(CapabilityError):
        parse_recap(PREFIX + libipld.encode_multibase("u", text.encode())[1:])
    into_everything(raw_ucan(claims()[:-1] + b',"x":' + text.encode()[: size // 2] + b"}"))
