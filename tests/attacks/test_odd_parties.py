"""The SDK refuses damaged sessions and wallets instead of ignoring their faults."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sealspace.client import Client
from sealspace.errors import InvalidInput, InvalidSession
from sealspace.session import decode_session, encode_session, key_session
from sealspace.wallets import new_wallet

SESSION = replace(
    key_session(bytes(32)), node_id="did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
)


class OddWallet:
    """A wallet with an invalid name."""

    def __init__(self, did: str) -> None:
        self._signer = new_wallet()
        self.address, self.chain_id, self.did = self._signer.address, self._signer.chain_id, did

    def sign_eip191(self, text: str) -> bytes:
        raise AssertionError(text)


@pytest.mark.parametrize("damage", [{"nodeId": 5}, {"nodeId": ["x"]}, {"space": 5}, {"v": True}])
def test_a_damaged_session_is_none(damage: dict[str, Any]) -> None:
    """A session with an unreadable node name is refused."""
    stored = json.loads(encode_session(SESSION))
    assert decode_session(json.dumps(stored).encode()).node_id == SESSION.node_id
    with pytest.raises(InvalidSession):
        decode_session(json.dumps(stored | damage).encode())


@pytest.mark.parametrize("did", ["", "did:x:\x1b", "did:pkh", "0x" + "1" * 40])
async def test_a_wallet_without_a_did(did: str) -> None:
    """A wallet without a valid DID is refused before it signs."""
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(InvalidInput):
            await client.sign_in(OddWallet(did))
