"""Tests of signed statements by keys and wallets, each with one fault (RN51)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.strict_base64 import decode_url, encode_url
from sealspace.documents.signed_statements import (
    MAX_STATEMENT_BYTES,
    read_statement,
    sign_statement,
)
from sealspace.errors import StatementInvalid

KEY = Ed25519Signer(bytes(range(32)))
WALLET = WalletSigner(bytes(range(1, 33)))
KIND = "sealspace.test/v1"
STATED: dict[str, Any] = {"b": [1, "ü"], "a": None}


@pytest.mark.parametrize("signer", [KEY, WALLET], ids=["key", "wallet"])
def test_round_trip(signer: Any) -> None:
    assert read_statement(sign_statement(KIND, STATED, signer), KIND, signer=signer.did) == STATED


def test_another_spelling_of_the_account_names_the_same_signer() -> None:
    assert (
        read_statement(sign_statement(KIND, STATED, WALLET), KIND, signer=WALLET.did.lower())
        == STATED
    )


def changed(**members: Any) -> bytes:
    document = json.loads(sign_statement(KIND, STATED, KEY))
    return json.dumps(
        {name: value for name, value in (document | members).items() if value is not ...}
    ).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        changed(type="sealspace.other/v1"),
        changed(signer=WALLET.did),
        changed(signer=f"{KEY.did}#{KEY.did[8:]}"),
        changed(statement={**STATED, "c": 1}),
        changed(statement=[STATED]),
        changed(statement={"b": [1.0, "ü"], "a": None}),
        changed(signature=...),
        changed(signature=encode_url(bytes(64))),
        changed(signature=encode_url(bytes(65))),
        changed(signature="?"),
        changed(more=1),
        changed(statement={"a": "x" * MAX_STATEMENT_BYTES}),
        sign_statement(KIND, STATED, KEY)[:-1],
        sign_statement(KIND, STATED, KEY).replace(b'"type"', b'"type":"sealspace.test/v1","type"'),
        sign_statement(KIND, STATED, Ed25519Signer(bytes(32))),
        sign_statement(KIND, STATED, WALLET),
    ],
)
def test_what_does_not_hold_is_refused(data: bytes) -> None:
    with pytest.raises(StatementInvalid):
        read_statement(data, KIND, signer=KEY.did)


def test_a_wallet_s_signature_in_its_other_form_is_refused() -> None:
    document = json.loads(sign_statement(KIND, STATED, WALLET))
    signature = decode_url(document["signature"])
    assert signature is not None
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high = (order - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    document["signature"] = encode_url(signature[:32] + high + bytes([55 - signature[64]]))
    with pytest.raises(StatementInvalid):
        read_statement(json.dumps(document).encode(), KIND, signer=WALLET.did)


def test_a_statement_is_neither_too_long_nor_anything_but_json() -> None:
    with pytest.raises(StatementInvalid):
        sign_statement(KIND, {"a": "x" * MAX_STATEMENT_BYTES}, KEY)
    with pytest.raises(StatementInvalid):
        sign_statement(KIND, {"a": float("nan")}, KEY)


@given(st.binary(max_size=200))
def test_fuzz_statements(data: bytes) -> None:
    with pytest.raises(StatementInvalid):
        read_statement(data, KIND, signer=KEY.did)
