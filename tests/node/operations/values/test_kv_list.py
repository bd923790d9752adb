"""Tests of listing over HTTP: pages, cursors and filtering by grants."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kv_client import Owner, owner_at
from tests_support import FixedClock

from node.config.tree import Hosting, Http


async def pages(owner: Owner, prefix: str, limit: int) -> AsyncIterator[list[str]]:
    """Follow the cursors from the first page to the last."""
    headers = {"x-tinycloud-limit": str(limit)}
    while True:
        reply = await owner.invoke(("list", prefix), headers=headers)
        assert reply.status == 200, reply.text
        yield json.loads(reply.body)
        cursor = reply.headers.get("x-tinycloud-next-cursor")
        assert reply.headers["x-tinycloud-truncated"] == ("false" if cursor is None else "true")
        if cursor is None:
            return
        headers["x-tinycloud-cursor"] = cursor


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Owner]]:
    """One node for all examples, each with its own owner."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        clock = FixedClock()
        entered = stack.enter_async_context(
            owner_at(
                tmp_path,
                clock,
                http=Http(port=0, drain_s=0),
                hosting=Hosting(spaces_per_owner=1000),
            )
        )
        yield runner, runner.run(entered)
        runner.run(stack.aclose())


def is_listed(path: str, prefix: str) -> bool:
    """Return whether a listing by a prefix contains a path (M61)."""
    return not prefix or path == prefix or path.startswith(f"{prefix.removesuffix('/')}/")


# What a URI's path may hold, with prefixes that are shared and keys longer than a plain key.
names = st.builds(
    lambda head, tail: head + tail,
    st.sampled_from(["", "a", "a/", "a/b", "x" * 399, "x" * 400, "x" * 401]),
    st.text(alphabet="ab/_~", max_size=3),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    paths=st.sets(names, max_size=14),
    deleted=st.sets(st.integers(0, 13), max_size=4),
    prefix=names,
    limit=st.integers(1, 5),
)
def test_pages_of_any_size_equal_the_whole(
    running: tuple[asyncio.Runner, Owner],
    paths: set[str],
    deleted: set[int],
    prefix: str,
    limit: int,
) -> None:
    """For any paths, prefix and page size, the pages are full and add up to the whole."""
    runner, some = running

    async def check() -> None:
        owner = Owner(some.node, some.session, some.clock)
        gone = {path for at, path in enumerate(sorted(paths)) if at in deleted}
        await owner.put("host", b"")
        await owner.invoke(("del", "host"))
        if paths:
            assert (await owner.put_all(dict.fromkeys(paths, b""))).status == 200
        for path in gone:
            assert (await owner.invoke(("del", path))).status == 200
        expected = sorted(path for path in paths - gone if is_listed(path, prefix))
        found = [page async for page in pages(owner, prefix, limit)]
        assert (
            list(itertools.chain(*found))
            == expected
            == json.loads((await owner.invoke(("list", prefix))).body)
        )
        assert {len(page) for page in found[:-1]} <= {limit}

    runner.run(check())


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("docs", ["docs", "docs/", "docs/a", "docs/a/b"]),
        ("docs/", ["docs/", "docs/a", "docs/a/b"]),
        ("docs/a", ["docs/a", "docs/a/b"]),
        ("doc", []),
        ("DOCS", []),
        ("", ["Docs/a", "docs", "docs-x", "docs.txt", "docs/", "docs/a", "docs/a/b", "docs0"]),
    ],
)
async def test_a_prefix_is_of_whole_segments(
    owner: Owner, prefix: str, expected: list[str]
) -> None:
    """A prefix lists its own key and those below it, byte by byte, in pages of any size (M61)."""
    keys = ("docs", "docs-x", "docs.txt", "docs/", "docs/a", "docs/a/b", "docs0", "Docs/a")
    await owner.put_all(dict.fromkeys(keys, b""))
    assert json.loads((await owner.invoke(("list", prefix))).body) == expected
    for limit in (1, 2, 5):
        found = [page async for page in pages(owner, prefix, limit)]
        assert list(itertools.chain(*found)) == expected
    await owner.invoke(("del", "docs"))
    left = [key for key in expected if key != "docs"]
    assert json.loads((await owner.invoke(("list", prefix))).body) == left


async def test_cursor_belongs_to_its_question(owner: Owner) -> None:
    """A cursor works for the same caller, space, prefix and limit only, and survives changes."""
    await owner.put_all(dict.fromkeys("abcd", b""))
    await owner.invoke(("put", "b"), body=b"", space="other")
    first = await owner.invoke(("list", ""), headers={"x-tinycloud-limit": "2"})
    cursor = first.headers["x-tinycloud-next-cursor"]

    async def said(
        prefix: str = "", limit: str | None = "2", cursor: str = cursor, space: str = "default"
    ) -> tuple[int, str]:
        headers = {"x-tinycloud-cursor": cursor} | (
            {} if limit is None else {"x-tinycloud-limit": limit}
        )
        return (await owner.invoke(("list", prefix), headers=headers, space=space)).said

    refused = (400, "Invalid KV list cursor")
    assert await said() == (200, '["c","d"]')
    assert [
        await said(prefix="c"),
        await said(limit="3"),
        await said(limit=None),
        await said(space="other"),
        await said(cursor=""),
        await said(cursor=cursor[:-1]),
        await said(cursor="A" + cursor[1:]),
    ] == [refused] * 7
    await owner.invoke(("del", "b"))
    await owner.put("bb", b"")
    assert await said() == (200, '["bb","c"]')


async def test_delegated_listing_in_pages(owner: Owner) -> None:
    """Pages under a delegated path contain only keys below it, and are full but the last (Q15)."""
    await owner.put_all(
        dict.fromkeys(("photos", "photos/1", "photos/2", "photos2/1", "photos3"), b"")
    )
    friend = Owner(owner.node, owner.session, owner.clock)
    resource = f"{owner.space.text}/kv/photos"
    grant = owner.token((), more={resource: "tinycloud.kv/list"}, audience=friend.signer.did)
    async with owner.session.post(
        f"{owner.node.url}/delegate", headers={"Authorization": grant}
    ) as answer:
        assert answer.status == 200
    headers = {"x-tinycloud-limit": "2"}
    found = []
    for _ in range(2):
        token = friend.token((), more={resource: "tinycloud.kv/list"}, proofs=[grant])
        reply = await friend.invoke(token=token, headers=headers)
        found.append(json.loads(reply.body))
        headers["x-tinycloud-cursor"] = reply.headers.get("x-tinycloud-next-cursor", "")
    assert found == [["photos", "photos/1"], ["photos/2"]]
    assert headers["x-tinycloud-cursor"] == ""


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        ("/kv", [["", "/a", "b", "b/c"], ["b", "b/c"]]),
        ("/kv/", [["", "/a"], None]),
        ("/kv/b", [None, ["b", "b/c"]]),
        ("/kv/b/", [None, None]),
    ],
)
async def test_M61_a_listing_stays_within_its_grant(
    owner: Owner, granted: str, expected: list[list[str] | None]
) -> None:
    """A delegated listing contains what its grant covers: of an empty path that is present
    this path and those that begin with a slash (X3), of an absent one all paths.

    `expected`: the answers about the paths "" and "b"; None: refused.
    """
    await owner.put_all(dict.fromkeys(("", "/a", "b", "b/c"), b""))
    friend = Owner(owner.node, owner.session, owner.clock)
    resource = f"{owner.space.text}{granted}"
    grant = owner.token((), more={resource: "tinycloud.kv/list"}, audience=friend.signer.did)
    async with owner.session.post(
        f"{owner.node.url}/delegate", headers={"Authorization": grant}
    ) as answer:
        assert answer.status == 200
    answers: list[list[str] | None] = []
    for path in ("", "b"):
        asked = f"{owner.space.text}/kv/{path}"
        token = friend.token((), more={asked: "tinycloud.kv/list"}, proofs=[grant])
        reply = await friend.invoke(token=token)
        answers.append(json.loads(reply.body) if reply.status == 200 else None)
    assert answers == expected


# --- option headers (I9)

NOT_POSITIVE = "{} must be a positive integer"
NOT_ONE_KIND = "Multiple invocation outcomes require a homogeneous KV get or metadata batch"
NEITHER = "If-None-Match only supports * for KV create"
NOT_A_CREATE = "If-None-Match: * requires exactly one non-multipart KV put"
NOT_A_REPLACE = "If-Match requires exactly one non-multipart KV put or delete"
TAG = f'"blake3-{"0" * 64}"'


@pytest.mark.parametrize(
    ("wanted", "headers", "text"),
    [
        (["get"], {"x-tinycloud-limit": "x"}, NOT_POSITIVE.format("x-tinycloud-limit")),
        (["list"], {"x-tinycloud-limit": "0"}, NOT_POSITIVE.format("x-tinycloud-limit")),
        (["put"], {"x-tinycloud-limit": "1001"}, "x-tinycloud-limit must be between 1 and 1000"),
        (
            ["list"],
            {"x-tinycloud-max-response-bytes": "-1"},
            NOT_POSITIVE.format("x-tinycloud-max-response-bytes"),
        ),
        (["list"], {"If-None-Match": "*"}, NOT_A_CREATE),
        (["list"], {"If-None-Match": TAG}, NEITHER),
        (["metadata"], {"If-None-Match": "*"}, NOT_A_CREATE),
        (["get", "get"], {"If-None-Match": "*"}, NOT_A_CREATE),
        (["get", "get"], {"If-None-Match": TAG}, NEITHER),
        (["get"], {"If-Match": TAG}, NOT_A_REPLACE),
        (["get"], {"If-Match": TAG, "If-None-Match": "*"}, "KV preconditions cannot be combined"),
        (["list"], {"If-Match": TAG}, NOT_A_REPLACE),
        (["del"], {"If-None-Match": "*"}, NOT_A_CREATE),
        (["del", "del"], {"If-Match": TAG}, NOT_A_REPLACE),
        (["put", "put"], {"If-Match": TAG}, NOT_A_REPLACE),
        (["put", "del"], {"If-None-Match": "*"}, NOT_A_CREATE),
        (
            ["put", "get"],
            {"If-None-Match": "*"},
            "Multiple invocation outcomes require a homogeneous KV get or metadata batch",
        ),
        ([], {"If-None-Match": "*"}, NOT_A_CREATE),
        (
            [],
            {"x-tinycloud-expected-version": ""},
            "x-tinycloud-expected-version is not a production precondition; use If-Match",
        ),
    ],
)
async def test_options_that_a_call_cannot_have(
    owner: Owner, wanted: list[str], headers: dict[str, str], text: str
) -> None:
    """A malformed or misplaced option is 400 before anything runs, for every operation (4.4.5)."""
    await owner.put("k0", b"1")
    token = owner.token([(name, f"k{at}") for at, name in enumerate(wanted)])
    assert (await owner.invoke(token=token, body=b"2", headers=headers)).said == (400, text)
    assert (await owner.get("k0")).text == "1"


async def test_options_that_mean_nothing_here(owner: Owner) -> None:
    """A valid limit on a put, or a size limit on a list, has no effect and is not stored."""
    options = {
        "x-tinycloud-limit": "5",
        "x-tinycloud-max-response-bytes": "1",
        "x-tinycloud-cursor": "x",
    }
    assert (await owner.invoke(("put", "a"), body=b"12", headers=options)).status == 200
    del options["x-tinycloud-cursor"]
    assert (await owner.invoke(("list", ""), headers=options)).said == (200, '["a"]')
    assert not {name for name in (await owner.get("a")).headers if name.startswith("x-tinycloud")}
