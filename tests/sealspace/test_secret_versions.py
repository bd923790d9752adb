"""Tests of earlier values of secrets with a real node: list, read, restore and purge."""

from functools import partial

import msgspec
import pytest
from relay import Answer, relay_before

from sealspace.client import Client
from sealspace.errors import (
    InvalidEnvelope,
    InvalidSecretName,
    MalformedAnswer,
    NotFound,
    PreconditionFailed,
)

PATH = "vault/secrets/A"


async def test_versions_are_numbered_from_the_first_value(bench) -> None:
    """Each value has a number; the newest is first, and each is read by its number."""
    owner = (await bench.owner())[0]
    secrets = owner.secrets()
    etags = [await secrets.put("A", value) for value in ("one", b"two", "three")]
    found = await secrets.versions("A")
    assert [(one.version, one.etag, one.is_current) for one in found] == [
        (3, etags[2], True),
        (2, etags[1], False),
        (1, etags[0], False),
    ]
    assert [one.replaced_at is None for one in found] == [True, False, False]
    assert all(one.size_bytes > 100 and one.stored_at for one in found)
    assert {one.stored_by for one in found} == {owner.session.owner}
    assert [await secrets.get("A", version=number) for number in (1, 2, 3)] == [
        "one",
        b"two",
        "three",
    ]
    assert (await secrets.read("A", version=1)).etag == etags[0]


async def test_a_version_that_is_not_kept(bench) -> None:
    """The error for a version that is not kept lists those that are, and names the secret."""
    secrets = (await bench.owner())[0].secrets()
    await secrets.put("A", "one", scope="mail")
    await secrets.put("A", "two", scope="mail")
    for call in (secrets.get("A", scope="mail", version=7), secrets.rollback("A", 7, scope="mail")):
        with pytest.raises(NotFound, match=r"version 7 is not kept \(kept: 1, 2\)") as refused:
            await call
        assert refused.value.__notes__[-1] == "this is about the secret mail/A"
    with pytest.raises(NotFound, match="there is no secret B"):
        await secrets.versions("B")


async def test_a_rollback_stores_the_same_envelope(bench) -> None:
    """A rollback stores an earlier envelope byte for byte, as a new version."""
    owner, _ = await bench.owner()
    first = await owner.secrets().put("A", "one")
    await owner.secrets().put("A", "two")
    assert await owner.secrets().rollback("A", 1) == first
    assert await owner.secrets().get("A") == "one"
    assert len(await owner.secrets().versions("A")) == 3
    kv = owner.kv("secrets")
    current, former = await kv.get(PATH), await kv.get(PATH, version=1)
    assert current.body == former.body
    assert current.content_type == former.content_type


async def test_a_deleted_secret_is_restored(bench) -> None:
    """The newest value before the deletion is stored again; a rollback restores an older one."""
    secrets = (await bench.owner())[0].secrets()
    for value in ("one", "two"):
        await secrets.put("A", value)
    for call, value in (
        (lambda: secrets.restore("A"), "two"),
        (lambda: secrets.rollback("A", 1), "one"),
    ):
        await secrets.delete("A")
        assert not any(one.is_current for one in await secrets.versions("A"))
        await call()
        assert await secrets.get("A") == value
    with pytest.raises(PreconditionFailed):
        await secrets.restore("A")


async def test_a_purge_is_final(bench) -> None:
    """A purge deletes the value and its versions at once, also after a deletion."""
    secrets = (await bench.owner())[0].secrets()
    for is_deleted_before in (False, True):
        await secrets.put("A", "one")
        await secrets.put("A", "two")
        if is_deleted_before:
            await secrets.delete("A")
        await secrets.delete("A", purge=True)
        for call in (secrets.versions("A"), secrets.restore("A"), secrets.get("A")):
            with pytest.raises(NotFound):
                await call
    with pytest.raises(NotFound):
        await secrets.delete("NEVER", purge=True)


async def test_what_is_put_back_is_a_secret(bench) -> None:
    """A version is not restored if it is not a sealed secret of the owner."""
    client, _ = await bench.owner()
    await client.kv("secrets").put(PATH, b"plain")
    etag = await client.secrets().put("A", "one")
    with pytest.raises(InvalidEnvelope):
        await client.secrets().rollback("A", 1)
    assert await client.secrets().version("A") == etag
    for call in (
        client.secrets().rollback("PROTECTED_A", 1),
        client.secrets().restore("PROTECTED_A"),
    ):
        with pytest.raises(InvalidSecretName):
            await call


def _without_version(answer: Answer) -> None:
    """Leave out the header by which a node says which version it sends."""
    answer.headers.popall("x-sealspace-version", None)


async def test_a_node_without_versions(bench) -> None:
    """M56: a node that ignores the header gives an error, not its current value."""
    owner, _ = await bench.owner()
    await owner.secrets().put("A", "one")
    await owner.secrets().put("A", "two")
    current = await owner.secrets().envelope("A")

    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url, session=owner.session, clock=bench.clock, entropy=bench.entropy
        ) as client,
    ):
        relay.twist = _without_version
        for call in (client.secrets().get("A", version=1), client.secrets().rollback("A", 1)):
            with pytest.raises(MalformedAnswer, match="does not keep versions"):
                await call
    assert await owner.secrets().envelope("A") == current


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"[1]", b'[{"version":1}]', b"[" * 10_000],
    ids=["empty", "no version", "object", "number", "members", "nested"],
)
async def test_a_list_of_versions_that_is_none(bench, body: bytes) -> None:
    """A malformed list of versions raises the client's own error."""
    owner, _ = await bench.owner()
    await owner.secrets().put("A", "one")
    right = msgspec.json.encode(await owner.secrets().versions("A"))
    late = right.replace(b'"replacedAt":null', b'"replacedAt":1e300')
    by_no_did = right.replace(b'"storedBy":"did:', b'"storedBy":"Alice:')
    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url, session=owner.session, clock=bench.clock, entropy=bench.entropy
        ) as client,
    ):
        for false in (body, late, by_no_did):
            relay.twist = partial(_replace, false)
            with pytest.raises(MalformedAnswer):
                await client.secrets().versions("A")


def _replace(body: bytes, answer: Answer) -> None:
    if answer.path == "/invoke":
        answer.body = body
