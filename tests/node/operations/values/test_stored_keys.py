"""Tests of opening the keys of received envelopes (RL21)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests_support import CountingEntropy, FixedClock

from capabilities.principals import parse_principal
from capabilities.resources import SpaceId, network_id
from capabilities.strict_base64 import encode_standard
from encryption_network.keyring import Keyring
from encryption_network.keywrap import wrap
from encryption_network.networks import NetworkRecord, create_network, encode_network
from encryption_network.rotation import with_candidate, with_candidate_activated
from node.operations.values.sealed_values import SealedKey
from node.operations.values.stored_keys import MAX_TRIES, stored_keys_of
from spaces.documents.network_rows import network_put
from spaces.space_errors import CommitTooLarge
from spaces.store.contract import Commit, Store
from spaces.store.lmdb.engine import open_lmdb

OWNER = parse_principal("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
SPACE = SpaceId(OWNER, "secrets")
KEYRING = Keyring(b"k" * 32)
ENTROPY = CountingEntropy()
FORMER_KEYS = 31


@pytest.fixture
async def store(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Store]:
    """An empty store."""
    opened = open_lmdb(tmp_path, clock=clock)
    yield opened
    await opened.close()


def replaced_often() -> NetworkRecord:
    """Return a network with as many former keys as it may have."""
    record = create_network(network_id(OWNER, "default"), now=0.0, keyring=KEYRING, entropy=ENTROPY)
    for _ in range(FORMER_KEYS):
        changed = with_candidate(record, now=0.0, keyring=KEYRING, entropy=ENTROPY)
        record = with_candidate_activated(changed, b"{}", now=0.0)
    return record


async def test_RL21_tries_of_one_request_are_bounded(store: Store) -> None:
    """Envelopes that state no version are tried with the newest key first, and a request that needs
    too many tries is refused with what to do. The node itself tries as often as needed."""
    record = replaced_often()
    row = network_put(record.network_id, encode_network(record))
    await store.commit(Commit(puts=(row,)))
    good = [wrap(record.public_key, bytes([number]) * 32, ENTROPY) for number in range(200)]
    count = MAX_TRIES // (FORMER_KEYS + 1)
    bad = [bytes([number]) * len(good[0]) for number in range(count + 1)]

    def received(*wrapped_keys: bytes) -> list[tuple[str, SealedKey]]:
        sealed = []
        for number, wrapped in enumerate(wrapped_keys):
            key = SealedKey(
                digest=bytes(32),
                wrapped_key=encode_standard(wrapped),
                network=record.network_id.text,
                key_version=None,
            )
            sealed.append((f"vault/secrets/S{number}", key))
        return sealed

    assert 200 == len(await stored_keys_of(store, KEYRING, SPACE, received(*good)))
    assert not await stored_keys_of(store, KEYRING, SPACE, received(*bad[:-1]))
    with pytest.raises(CommitTooLarge, match=r"state `keyVersion`.*or send them in parts"):
        await stored_keys_of(store, KEYRING, SPACE, received(*bad))
    unbounded = stored_keys_of(store, KEYRING, SPACE, received(*bad), most_tries=None)
    assert not await unbounded
