"""Tests of lists in pages, with a node that invents endless pages."""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from patience import PATIENCE_S
from relay import Answer, Relay, relay_before

from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import MalformedAnswer
from sealspace.wire.node_answers import read_pages, require_advance
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
MOST = 5
"""After so many answers the node gives up lying: a reader that goes on ends, and is found out by
the count."""


@dataclass
class Scene:
    """An owner with a few values, whose client talks to a relay that invents pages."""

    relay: Relay
    client: Client
    answers: int = 0

    def make_up(self, path: str, page: Callable[[int], tuple[bytes, bool]]) -> None:
        """Answer requests to a path with invented pages: a body, and whether another page
        follows."""

        def twist(answer: Answer) -> None:
            if not answer.path.endswith(path):
                return
            self.answers += 1
            body, goes_on = page(self.answers) if self.answers <= MOST else (b"[]", False)
            answer.status, answer.body = 200, body
            if goes_on:
                answer.headers["x-tinycloud-truncated"] = "true"
                answer.headers["x-tinycloud-next-cursor"] = str(self.answers)

        self.relay.twist = twist


@pytest.fixture
async def scene(bench: Any) -> AsyncIterator[Scene]:
    """A scene in which the relay invents nothing yet."""
    owner, wallet = await bench.owner()
    right = allow(owner.encryption.network().text, "sealspace.encryption/receipts")
    await owner.delegations.add_right(wallet, [right])
    async with relay_before(bench.node.url) as relay, AsyncExitStack() as clients:
        settings = {"settings": SETTINGS, "clock": bench.clock, "entropy": bench.entropy}
        client = await clients.enter_async_context(
            Client(relay.url, session=owner.session, **settings)
        )
        yield Scene(relay, client)


def keys(*names: str) -> bytes:
    return json.dumps(names).encode()


# page number -> its keys; the list goes on behind each of them
ENDLESS: dict[str, tuple[Callable[[int], bytes], int]] = {
    "nothing at all": (lambda number: keys(), 1),
    "the same page again": (lambda number: keys("a/1", "a/2"), 2),
    "backwards": (lambda number: keys(f"a/{9 - number}"), 2),
    "backwards within a page": (lambda number: keys("a/2", "a/1"), 1),
    "a key twice": (lambda number: keys("a/1", "a/1"), 1),
    "what was not asked for": (lambda number: keys(f"b/{number}"), 1),
    "more than was asked for": (
        lambda number: keys(*(f"a/{number}{letter}" for letter in "abc")),
        1,
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("public", [False, True])
async def test_keys_that_do_not_advance(scene: Scene, name: str, public: bool) -> None:
    """Keys ascend under the prefix, across pages. The first page that breaks this is refused
    (J14)."""
    page, most = ENDLESS[name]
    scene.make_up("/kv" if public else "/invoke", lambda number: (page(number), True))
    space = scene.client.session.own_space("public").text
    values = scene.client.public(space) if public else scene.client.kv()
    with pytest.raises(MalformedAnswer):
        _ = [key async for key in values.list("a/", page_keys=2)]
    assert scene.answers == most


async def test_secrets_are_listed_by_the_same_rule(scene: Scene) -> None:
    """A list of secrets is refused if its names do not ascend (J14)."""
    scene.make_up("/invoke", lambda number: (keys(), True))
    with pytest.raises(MalformedAnswer):
        await scene.client.secrets().list()
    assert scene.answers == 1


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_delegations_that_do_not_end(scene: Scene, count: int) -> None:
    """A page of delegations is refused if it exceeds its limit or leads to itself (J14)."""
    item = {
        "cid": "bafy",
        "direction": "granted",
        "delegatorDid": "did:key:z6Mk",
        "delegateDid": "did:key:z6Mk",
        "resources": [],
        "parents": [],
        "issuedAt": None,
        "notBefore": None,
        "expiresAt": None,
        "status": "active",
    }
    value = {"schemaVersion": 2, "items": [item] * count, "nextCursor": "bafy"}
    scene.make_up("/delegation/query", lambda number: (json.dumps(value).encode(), False))
    with pytest.raises(MalformedAnswer):
        _ = [record async for record in scene.client.delegations.query(page_items=1)]
    assert scene.answers == (1 if count > 1 else 2)


async def test_a_list_has_an_end() -> None:
    """A node can always invent another page, so a reader stops after a number of them (J14)."""
    asked: list[str | None] = []

    async def ask(place: str | None) -> str:
        asked.append(place)
        return str(len(asked))

    with pytest.raises(MalformedAnswer, match="more than 3 pages"):
        _ = [page async for page in read_pages(ask, str, most_pages=3)]
    assert asked == [None, "1", "2"]


async def test_pages_are_read_to_the_last_one() -> None:
    """Each page is requested with the cursor of the one before, up to the largest number of
    pages."""
    pages = dict(itertools.pairwise((None, "a", "b", None)))

    async def ask(place: str | None) -> str | None:
        return place

    assert [None, "a", "b"] == [
        page async for page in read_pages(ask, pages.__getitem__, most_pages=3)
    ]


@pytest.mark.parametrize("listed", [["a/1", "a/2", "a/\U0001f600"], ["a/1"], []])
def test_honest_pages(listed: Sequence[str]) -> None:
    """Ascending keys under a prefix are accepted, and the last page may contain the whole list."""
    require_advance(listed, prefix="a/", after="a/0", limit=1, is_last=True)
    require_advance(listed, prefix="", after=None, limit=1, is_last=True)
