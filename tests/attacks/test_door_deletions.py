"""Attacks on deletions at a door, by other writers and by people with copies (spec/door.md)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from door_stage import DoorBench, LateRequest, door_bench, open_door
from relay import Answer, relay_before

from sealspace.errors import SealspaceError


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DoorBench]:
    """A node with default settings, and its clients."""
    async with door_bench(tmp_path) as bench:
        yield bench


async def test_DR13_a_value_that_is_stored_before_a_deletion_by_number(bench: DoorBench) -> None:
    """DR13: a deletion by number never deletes a value that was stored after it was judged."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "one")
    async with relay_before(bench.node.url) as relay:
        client = await bench.client(owner.session, url=relay.url)
        async with open_door(bench, client, is_writable=True) as door:
            late = LateRequest(relay, "/invoke", number=2)  # the first one lists the versions
            deletion = asyncio.create_task(
                door.send("POST", "secret/delete/API_KEY", {"versions": [1]})
            )
            await late.is_there.wait()
            await owner.secrets().put("API_KEY", "two")
            late.passes.set()
            refused = await deletion
            assert refused.status == 400 and "check-and-set" in refused.text
            kept = await door.data("secret/data/API_KEY")
            assert kept["data"]["value"] == "two"
            for body in ({"versions": [2]}, {"versions": [2]}):  # a client may repeat it
                assert (await door.send("POST", "secret/delete/API_KEY", body)).status == 204
            assert (await door.get("secret/data/API_KEY")).status == 404


async def test_DR13_a_deletion_whose_answer_is_lost(bench: DoorBench) -> None:
    """DR13: a value is gone from the cache after a deletion that failed for the door alone."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "one")
    async with relay_before(bench.node.url) as relay:
        client = await bench.client(owner.session, url=relay.url)
        async with open_door(bench, client, is_writable=True, fresh_s=60) as door:
            assert (await door.get("secret/data/API_KEY")).status == 200
            answers: list[str] = []

            def lose(answer: Answer) -> None:
                answers.append(answer.path)
                # The first one lists copies for other people.
                if answers.count("/invoke") == 2:
                    answer.status = 503

            relay.twist = lose
            assert (await door.send("DELETE", "secret/data/API_KEY")).status == 502
            assert (await door.get("secret/data/API_KEY")).status == 404


async def test_SH6_a_deletion_ends_sharing(bench: DoorBench) -> None:
    """SH6, DR13: whoever got a copy of a secret cannot read it after any deletion at a door."""
    owner, wallet = await bench.owner()
    friend, of_friend = await bench.owner()
    await friend.encryption.ensure_network()
    async with open_door(bench, owner, is_writable=True) as door:
        for method, path, body in (
            ("DELETE", "secret/data/API_KEY", None),
            ("DELETE", "secret/metadata/API_KEY", None),
            ("POST", "secret/delete/API_KEY", {"versions": [1]}),
        ):
            await owner.secrets().put("API_KEY", "shared")
            await owner.sharing.share(["API_KEY"], friend.session.owner, wallet=lambda: wallet)
            copies = await friend.sharing.received(owner.session.owner, wallet=lambda: of_friend)
            assert await copies.get("API_KEY") == "shared"
            assert (await door.send(method, path, body)).status == 204
            with pytest.raises(SealspaceError):
                await copies.get("API_KEY")
            assert await owner.sharing.shares() == ()
            assert [one async for one in owner.kv("secrets").list("vault/secrets/shared/")] == []
