"""What a grant shows of a space, compared with a simple oracle: lists, pages, the change feed,
metadata and values (M61, X3, CF2)."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kv_client import FORM_TYPE, Owner, form, owner_at
from tests_support import FixedClock

from node.config.tree import Hosting, Http

LONG = "x" * 400
SEGMENTS = ["a", "b", "ab", "A", "", "a%2Fb", "a%20b", "%C3%A9", "e%CC%81", "...", "~", LONG]
paths = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4).map("/".join)
grants = paths | st.none()
"""The path of a grant; None: the grant has none, and is on all paths."""


def is_at_or_below(path: str, prefix: str) -> bool:
    """Return whether a path is a prefix, or has its segments and more."""
    if path == prefix:
        return True
    whole, more = prefix.split("/"), path.split("/")
    if len(whole) > 1 and whole[-1] == "":  # a slash at the end: anything may follow
        whole.pop()
    return len(more) > len(whole) and more[: len(whole)] == whole


def is_covered(path: str, granted: str | None) -> bool:
    """Return whether a grant covers a path (X2, X3)."""
    return granted is None or is_at_or_below(path, granted)


def is_asked(path: str, prefix: str) -> bool:
    """Return whether a list of a prefix contains a path, as far as it is granted (M61)."""
    return prefix == "" or is_at_or_below(path, prefix)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Owner]]:
    """One node for all examples, each with its own owner."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        http, hosting = Http(port=0, drain_s=0), Hosting(spaces_per_owner=1000)
        made = owner_at(tmp_path, FixedClock(), http=http, hosting=hosting)
        yield runner, runner.run(stack.enter_async_context(made))
        runner.run(stack.aclose())


class Friend:
    """Somebody with a grant on a part of an owner's space."""

    def __init__(self, owner: Owner, grant: str) -> None:
        self._self = Owner(owner.node, owner.session, owner.clock)
        self._owner = owner
        self._grant = grant

    @staticmethod
    async def of(owner: Owner, granted: str | None) -> "Friend":
        """Make a grant, and register it."""
        friend = Friend(owner, "")
        resource = f"{owner.space.text}/kv" + ("" if granted is None else f"/{granted}")
        abilities = ("list", "sync", "metadata", "get")
        friend._grant = owner.token_of(
            {resource: {f"tinycloud.kv/{ability}": [{}] for ability in abilities}},
            audience=friend._self.signer.did,
        )
        headers = {"Authorization": friend._grant}
        async with owner.session.post(f"{owner.node.url}/delegate", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
        return friend

    async def ask(self, ability: str, *asked: str, **headers: str) -> tuple[int, object, str]:
        """Return the status, the JSON or text, and the cursor of an answer."""
        resources = {f"{self._owner.space.text}/kv/{path}" for path in asked}
        token = self._self.token_of(
            {resource: {f"tinycloud.kv/{ability}": [{}]} for resource in resources},
            proofs=[self._grant],
        )
        named = {f"x-tinycloud-{name}": text for name, text in headers.items()}
        reply = await self._self.invoke(token=token, headers=named)
        body = json.loads(reply.body) if reply.body[:1] in (b"[", b"{") else reply.text
        return reply.status, body, reply.headers.get("x-tinycloud-next-cursor", "")

    async def pages(self, prefix: str, limit: int) -> list[str]:
        """Return the keys of a list in pages."""
        found: list[str] = []
        headers = {"limit": str(limit)}
        while True:
            status, page, cursor = await self.ask("list", prefix, **headers)
            assert status == 200 and isinstance(page, list), page
            found += page
            if not cursor:
                return found
            headers["cursor"] = cursor

    async def feed(self, prefix: str) -> list[str] | None:
        """Return the keys of the change feed, in order; None: it is refused."""
        found: list[str] = []
        headers = {"limit": "2"}
        while True:
            status, page, _ = await self.ask("sync", prefix, **headers)
            if status == 401:
                return None
            assert status == 200 and isinstance(page, dict), page
            found += [change["key"] for change in page["changes"]]
            if not page["more"]:
                return sorted(found, key=str.encode)
            headers["cursor"] = page["cursor"]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stored=st.sets(paths, max_size=12), granted=grants, prefix=paths, limit=st.integers(1, 3))
@example(stored={"", "/a", "b"}, granted="", prefix="", limit=1)
@example(stored={"", "/", "//", "/a", "//a"}, granted="/", prefix="", limit=1)
@example(stored={"a", "a/", "a//", "ab", "a//b"}, granted="a/", prefix="a/", limit=1)
def test_M61_X3_CF2_nothing_beside_the_grant(
    running: tuple[asyncio.Runner, Owner],
    stored: set[str],
    granted: str | None,
    prefix: str,
    limit: int,
) -> None:
    """Whatever is stored, granted and asked for: a list and the feed contain exactly what is
    granted of it, and a value beside the grant cannot be told from one that does not exist."""
    runner, some = running

    async def check() -> None:
        owner = Owner(some.node, some.session, some.clock)
        await owner.put("host", b"1")
        await owner.invoke(("del", "host"))
        if stored:
            # The name of a part is decoded once.
            parts = {path.replace("%", "%25"): b"1" for path in stored}
            wanted = [("put", path) for path in stored]
            reply = await owner.invoke(*wanted, body=form(parts), headers=FORM_TYPE)
            assert reply.status == 200, reply.text
        friend = await Friend.of(owner, granted)
        visible = {path for path in stored if is_covered(path, granted)}
        expected = sorted((one for one in visible if is_asked(one, prefix)), key=str.encode)
        status, listed, _ = await friend.ask("list", prefix)
        if is_covered(prefix, granted):
            assert (status, listed) == (200, expected)
            assert await friend.pages(prefix, limit) == expected
            if prefix:
                assert await friend.feed(prefix) == expected
        else:
            assert status == 401, listed
            if prefix:
                assert await friend.feed(prefix) is None
        for path in sorted(stored | {prefix}):
            for ability in ("metadata", "get"):
                status, body, _ = await friend.ask(ability, path)
                if not is_covered(path, granted):
                    assert (status, "Unauthorized" in str(body)) == (401, True)
                else:
                    assert status == (200 if path in stored else 404), (path, body)

    runner.run(check())
