"""Tests of `Secrets.bind`, which writes the place into a stored value (EN48)."""

import asyncio
import base64
import json

import pytest
from relabelled import CREATED_AT, relabel, store_unbound

from encryption_network.canonical_json import canonical_hash
from sealspace.errors import (
    InvalidSecretName,
    NotFound,
    PlaceMismatch,
    PreconditionFailed,
    Unauthorized,
)
from sealspace.wire.token_line import read_token

GENERATED = {"type": "hex32", "at": CREATED_AT, "tag": "A" * 43}


async def test_EN48_a_value_is_bound(bench) -> None:
    """Value, type, creation time and the statements of a runner stay; the place is added."""
    client, wallet = await bench.owner()
    await store_unbound(client, "API_KEY", "value", generated=GENERATED)
    encoded = base64.b64encode(b"\x00\xff").decode()
    await store_unbound(client, "ci/CERT", encoded, encoding="base64")
    before = await client.secrets().read("API_KEY")
    assert await client.secrets().bind("API_KEY")
    assert await client.secrets().bind("CERT", scope="ci")
    after = await client.secrets().read("API_KEY")
    assert (after.value, after.is_bound, after.generated) == ("value", True, before.generated)
    assert (after.created_at, after.etag == before.etag) == (CREATED_AT, False)
    assert await client.secrets().get("CERT", scope="ci") == b"\x00\xff"
    line = await client.delegations.create_token("deploy", ["API_KEY"], wallet=wallet)
    program = await bench.client(read_token(line))
    assert await program.secrets().get("API_KEY") == "value"


async def test_EN48_a_bound_value_is_not_written(bench) -> None:
    """Binding twice writes once, so an interrupted run can be repeated."""
    client, _ = await bench.owner()
    await store_unbound(client, "API_KEY", "value")
    assert await client.secrets().bind("API_KEY")
    version = await client.secrets().version("API_KEY")
    assert not await client.secrets().bind("API_KEY")
    assert await client.secrets().version("API_KEY") == version
    with pytest.raises(NotFound):
        await client.secrets().bind("MISSING")


@pytest.mark.parametrize("name", ["BANK", "API_KEY"])
@pytest.mark.parametrize("label", ["changed", "removed"])
async def test_EN48_an_envelope_at_two_paths_is_refused(bench, label, name: str) -> None:
    """Neither the copied envelope nor its original is bound, because either may be the copy."""
    client, _ = await bench.owner()
    await store_unbound(client, "API_KEY", "alpha")
    await store_unbound(client, "BANK", "beta")
    await relabel(client, "BANK", "API_KEY", label=label)
    with pytest.raises(PlaceMismatch, match="also stored at vault/secrets/") as refused:
        await client.secrets().bind(name)
    assert "beta" not in str(refused.value)
    assert not (await client.secrets().read(name)).is_bound


async def test_EN48_an_envelope_that_was_stored_elsewhere_is_refused(bench) -> None:
    """Earlier values count, and so do notes."""
    client, _ = await bench.owner()
    await store_unbound(client, "BANK", "beta")
    await store_unbound(client, "API_KEY", "alpha")
    await relabel(client, "BANK", "API_KEY", label="changed")
    await client.secrets().put("BANK", "new")
    with pytest.raises(PlaceMismatch, match="vault/secrets/BANK"):
        await client.secrets().bind("API_KEY")
    note = "vault/secrets/notes/CARD"
    await store_unbound(client, "CARD", "gamma")
    values = client.kv("secrets")
    await values.put(note, (await values.get("vault/secrets/CARD")).body)
    with pytest.raises(PlaceMismatch, match=note):
        await client.secrets().bind("CARD")


async def test_EN48_a_copy_of_a_deleted_secret_is_refused(bench) -> None:
    """The node also remembers the paths of secrets that were deleted with their versions."""
    client, _ = await bench.owner()
    await store_unbound(client, "BANK", "beta")
    await store_unbound(client, "API_KEY", "alpha")
    await relabel(client, "BANK", "API_KEY", label="changed")
    await client.secrets().delete("BANK", purge=True)
    with pytest.raises(PlaceMismatch, match="vault/secrets/BANK"):
        await client.secrets().bind("API_KEY")


async def test_EN48_another_spelling_of_a_wrapped_key_is_refused(bench) -> None:
    """X25519 ignores the top bit of the ephemeral key, so a copy can look different (RL21)."""
    client, _ = await bench.owner()
    await store_unbound(client, "API_KEY", "alpha")
    await store_unbound(client, "BANK", "beta")
    values = client.kv("secrets")
    copied = json.loads((await values.get("vault/secrets/BANK")).body)
    wrapped = bytearray(base64.b64decode(copied["encryptedSymmetricKey"]))
    wrapped[31] ^= 0x80
    text = base64.b64encode(wrapped).decode()
    copied |= {"encryptedSymmetricKey": text, "encryptedSymmetricKeyHash": canonical_hash(text)}
    del copied["aad"]
    await values.put("vault/secrets/API_KEY", json.dumps(copied))
    for name in ("API_KEY", "BANK"):
        with pytest.raises(PlaceMismatch, match="also stored at"):
            await client.secrets().bind(name)


async def test_EN48_a_value_that_changed_is_not_bound(bench) -> None:
    """Only the version that was read is bound, and no concurrent write is lost."""
    client, _ = await bench.owner()
    await store_unbound(client, "API_KEY", "alpha")
    etag = (await client.secrets().read("API_KEY")).etag
    await store_unbound(client, "API_KEY", "beta")
    with pytest.raises(PreconditionFailed):
        await client.secrets().bind("API_KEY", if_match=etag)
    results = await asyncio.gather(
        *[client.secrets().bind("API_KEY") for _ in range(4)], return_exceptions=True
    )
    assert results.count(True) == 1
    assert await client.secrets().get("API_KEY") == "beta"


async def test_EN48_who_may_not_bind(bench) -> None:
    """A reader with a machine token cannot, and values of runners are not for owners."""
    client, wallet = await bench.owner()
    await store_unbound(client, "API_KEY", "alpha")
    line = await client.delegations.create_token("deploy", ["API_KEY"], unbound=True, wallet=wallet)
    program = await bench.client(read_token(line))
    with pytest.raises(Unauthorized, match="Only the owner in person"):
        await program.secrets().bind("API_KEY")
    with pytest.raises(InvalidSecretName, match="only a runner"):
        await client.secrets().bind("PROTECTED_KEY")
