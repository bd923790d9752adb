"""The portable form of a delegation."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import CountingEntropy

from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from sealspace._minting import Message, sign_message
from sealspace.delegations import allow
from sealspace.errors import InvalidPortableDelegation
from sealspace.portable import PortableDelegation, decode_portable, encode_portable, portable_of
from sealspace.session import network_of_owner, read_grant, space_of
from sealspace.wallets import new_wallet

AGENT = Ed25519Signer(bytes(32))
WALLET = new_wallet(entropy=CountingEntropy())
SECRETS = space_of(WALLET.did, "secrets").text
NETWORK = network_of_owner(WALLET.did).text


def portable(*, owner: str = WALLET.did) -> PortableDelegation:
    message = Message(
        domain="app.example",
        uri=AGENT.did,
        issued_at=1_795_000_000,
        expires_at=1_795_000_600,
        capabilities=[
            allow(f"{SECRETS}/kv/vault/secrets/API_KEY", "tinycloud.kv/get"),
            allow(NETWORK, "tinycloud.encryption/decrypt"),
        ],
    )
    grant = read_grant(sign_message(WALLET, message, CountingEntropy()))
    return portable_of(grant, owner=Principal(owner), host="http://127.0.0.1:1")


def test_the_form_is_the_one_other_clients_read() -> None:
    """Members, and the flat ones that mirror the first resource."""
    written = json.loads(encode_portable(portable()))
    header = written.pop("delegationHeader")["Authorization"]
    assert portable().header == header
    assert {
        "cid": portable().cid,
        "spaceId": SECRETS,
        "path": "vault/secrets/API_KEY",
        "actions": ["tinycloud.kv/get"],
        "resources": [
            {"service": "kv", "space": SECRETS, "path": "vault/secrets/API_KEY", "actions": ["tinycloud.kv/get"]},
            {
                "service": "encryption",
                "space": "encryption",
                "path": NETWORK,
                "actions": ["tinycloud.encryption/decrypt"],
            },
        ],
        "disableSubDelegation": False,
        "expiry": "2026-11-18T11:16:40.000Z",
        "delegateDID": AGENT.did,
        "ownerAddress": WALLET.did.rpartition(":")[2],
        "chainId": 1,
        "host": "http://127.0.0.1:1",
    } == written


@pytest.mark.parametrize("owner", [WALLET.did, AGENT.did])
def test_what_is_read_is_what_was_written(owner: str) -> None:
    """Reading undoes writing, for a wallet and for a key as the owner."""
    one = portable(owner=owner)
    assert one == decode_portable(encode_portable(one))


def test_the_token_is_not_shown() -> None:
    """The text of the object holds no token."""
    assert portable().header not in repr(portable())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_delegation_or_refused(data: bytes) -> None:
    """Reading is total."""
    with pytest.raises(InvalidPortableDelegation):
        decode_portable(data)


@pytest.mark.parametrize(
    "change",
    [
        {"cid": 1},
        {"delegationHeader": "x"},
        {"delegateDID": None},
        {"resources": ["x"]},
        {"resources": [{"service": "kv"}]},
        {"resources": [{"service": "kv", "space": "", "path": ""}]},
        {"expiry": "tomorrow"},
        {"expiry": 1},
    ],
)
def test_members_of_another_shape_are_refused(change: dict[str, object]) -> None:
    """A form that is not understood is not used."""
    written = json.loads(encode_portable(portable()))
    with pytest.raises(InvalidPortableDelegation):
        decode_portable(json.dumps({**written, **change}).encode())
