"""Tests of API keys: the owners' statements and the holders' headers (RN87, RN88)."""

from contextlib import suppress
from typing import Any

import pytest
from capability_cases import BOB
from fuzz_strategies import changed_objects, json_values
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.signatures import Ed25519Signer
from sealspace.apps.api_keys import (
    KEY_TYPE,
    new_api_key,
    parse_credential,
    parse_owner,
    read_api_key,
)
from sealspace.documents.project_names import parse_project
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import InvalidInput, StatementInvalid
from sealspace.session import iso_time
from sealspace.wallets import new_wallet

NOW = 1_795_000_000.0
ALICE = Ed25519Signer(b"alice".ljust(32))
RUNNER = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
PROJECT = parse_project(f"{BOB.did}/echo")
SECRET = "0123456789abcdef" * 4
STATED: dict[str, Any] = {
    "nonce": 7,
    "secretSha256": "ab" * 32,
    "projects": [PROJECT.text],
    "profiles": ["default", "prod"],
    "maxPerCall": 5000,
    "expires": iso_time(NOW + 3600),
    "runner": RUNNER,
}


def read(stated: dict[str, Any], now: float = NOW) -> Any:
    return read_api_key(
        sign_statement(KEY_TYPE, stated, ALICE), owner=ALICE.did, runner=RUNNER, now=now
    )


@pytest.mark.parametrize("signer", [ALICE, new_wallet()], ids=["key", "wallet"])
def test_a_key_that_its_owner_made(signer: Any) -> None:
    """RN87: a key or a wallet signs. Only the holder has the secret, and a key is read in capitals
    too."""
    made: dict[str, Any] = {
        "runner": RUNNER,
        "projects": [PROJECT],
        "profiles": ["prod"],
        "max_per_call": 5000,
    }
    statement, shown = new_api_key(signer, **made, expires_at=NOW + 3600, entropy=SystemEntropy())
    key = read_api_key(statement, owner=signer.did, runner=RUNNER, now=NOW)
    assert key.owner == signer.did
    assert key.nonce == shown.nonce
    assert key.max_per_call == 5000
    assert key.calls(PROJECT) and not key.calls(parse_project(f"{ALICE.did}/echo"))
    assert key.profiles == ("prod",) and key.expires_at == NOW + 3600
    again = parse_credential(f"{signer.did}:{shown.nonce}:{shown.secret.upper()}")
    assert again == shown and key.is_of(again)
    assert not key.is_of(parse_credential(f"{signer.did}:{shown.nonce}:{'0' * 64}"))
    assert shown.secret.encode() not in statement and shown.secret not in repr(shown)


@pytest.mark.parametrize(
    "members",
    [
        {"nonce": -1},
        {"nonce": 2**32},
        {"nonce": True},
        {"nonce": "7"},
        {"secretSha256": "AB" * 32},
        {"secretSha256": ""},
        {"projects": []},
        {"projects": ["*", PROJECT.text]},
        {"projects": ["echo"]},
        {"projects": [PROJECT.text, PROJECT.text]},
        {"projects": [f"{BOB.did}/n{number}" for number in range(65)]},
        {"projects": "*"},
        {"profiles": ["Prod"]},
        {"profiles": [""]},
        {"profiles": ["a/b"]},
        {"profiles": [None]},
        {"maxPerCall": -1},
        {"maxPerCall": 10**15 + 1},
        {"maxPerCall": "5"},
        {"expires": iso_time(NOW)},
        {"expires": iso_time(NOW + 91 * 86_400)},
        {"expires": "tomorrow"},
        {"expires": 5},
        {"runner": BOB.did},
        {"more": 1},
    ],
    ids=str,
)
def test_statements_that_are_no_key(members: dict[str, Any]) -> None:
    """RN87: an unknown member, or one of another type or outside its limits, refuses the key."""
    assert read(STATED).nonce == 7
    with pytest.raises(StatementInvalid):
        read(STATED | members)


@pytest.mark.parametrize("name", sorted(STATED))
def test_no_member_is_left_out(name: str) -> None:
    """RN87: a statement without one of its members is refused."""
    with pytest.raises(StatementInvalid):
        read({member: value for member, value in STATED.items() if member != name})


def test_a_key_ends() -> None:
    """RN87: a key is refused after its expiry."""
    assert read(STATED, NOW + 3599).nonce == 7
    with pytest.raises(StatementInvalid):
        read(STATED, NOW + 3600)


def test_statements_of_others() -> None:
    """RN87: a key signed by another DID, or as another type of statement, is rejected."""
    for kind, signer in ((KEY_TYPE, BOB), ("sealspace.program.active/v1", ALICE)):
        with pytest.raises(StatementInvalid):
            read_api_key(
                sign_statement(kind, STATED, signer), owner=ALICE.did, runner=RUNNER, now=NOW
            )
    for data in (b"", b"[]", b"{}", b"\xff", b'{"signer": 5}'):
        with pytest.raises(StatementInvalid):
            read_api_key(data, owner=ALICE.did, runner=RUNNER, now=NOW)


def test_an_owner_is_a_did_or_an_address() -> None:
    """RN88: `0x…` is the wallet of that address, in any case."""
    wallet = new_wallet()
    address = str(wallet.did).rpartition(":")[2]
    for text in (wallet.did, address, f"0x{address[2:].lower()}", f"0x{address[2:].upper()}"):
        assert parse_owner(text) == wallet.did
    assert parse_owner(ALICE.did) == ALICE.did


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET,
        f"7:{SECRET}",
        f"alice.near:7:{SECRET}",
        f"{ALICE.did}:{SECRET}",
        f"{ALICE.did}:7:{SECRET[:-1]}",
        f"{ALICE.did}:7:{SECRET}0",
        f"{ALICE.did}:7:{SECRET[:-1]}g",
        f"{ALICE.did}:-7:{SECRET}",
        f"{ALICE.did}:07:{SECRET}",
        f"{ALICE.did}:+7:{SECRET}",
        f"{ALICE.did}:٧:{SECRET}",
        f"{ALICE.did}:4294967296:{SECRET}",
        f"{ALICE.did}:7: {SECRET[:-1]}",
        f"{ALICE.did}:7:{SECRET}\n",
        f"{ALICE.did}\0:7:{SECRET}",
        f"{ALICE.did}#x:7:{SECRET}",
        f"{ALICE.did}' OR 1=1 --:7:{SECRET}",
        f"did:web:{'a' * 9000}:7:{SECRET}",
        f"0x12:7:{SECRET}",
    ],
    ids=range(20),
)
def test_headers_that_show_no_key(text: str) -> None:
    """RN88: a malformed header is refused with an error that contains no part of it."""
    with pytest.raises(InvalidInput) as refused:
        parse_credential(text)
    assert SECRET[:20] not in str(refused.value)


@pytest.mark.parametrize(
    "more",
    [
        {"projects": []},
        {"projects": [PROJECT] * 65},
        {"profiles": ["Prod"]},
        {"profiles": ["a"] * 65},
        {"max_per_call": -1},
        {"max_per_call": 10**16},
    ],
    ids=str,
)
def test_keys_that_are_not_made(more: dict[str, Any]) -> None:
    """RN87: a key that no runner would accept is not signed."""
    asked: dict[str, Any] = {
        "runner": RUNNER,
        "projects": None,
        "max_per_call": 1,
        "expires_at": NOW + 60,
    } | more
    with pytest.raises(InvalidInput):
        new_api_key(ALICE, **asked, entropy=SystemEntropy())


@fuzzed()
@given(st.text(max_size=200) | st.from_regex(r"(did:key:|0x)[0-9a-z]*:[0-9]*:[0-9a-f]*"))
def test_fuzz_headers(text: str) -> None:
    """Any text is read as an owner or a key, or refused."""
    with suppress(InvalidInput):
        assert parse_credential(text).text.count(":") >= 2
    with suppress(InvalidInput):
        assert parse_owner(parse_owner(text)) == parse_owner(text)


@fuzzed()
@given(changed_objects(STATED, json_values("ab" * 32, members=tuple(STATED))))
def test_fuzz_statements(stated: dict[str, Any]) -> None:
    """An almost valid statement is read as a key, or refused."""
    with suppress(StatementInvalid):
        assert read(stated).owner == ALICE.did
