"""Tests of the change feed over HTTP: order, groups, pages, deletes, cursors and refusals."""

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from kv_client import Owner, Wanted, etag
from running_node import Reply
from tests_support import FixedClock
from wire_replay import token_id

from capabilities.abilities import KV_RETAIN, KV_SYNC
from spaces.keyspace import space_keys
from spaces.store.contract import Put, commit_puts
from spaces.values.deleted_paths import KEPT_DAYS, sweep_deleted_paths

UNKNOWN = '{"error":{"code":"RESET_REQUIRED","reason":"position-unknown"}}'
Feed = dict[str, Any]
"""The answer of the feed."""


async def read(owner: Owner, prefix: str = "notes", cursor: str | None = None, **more: str) -> Feed:
    """Return a page of the owner's feed."""
    reply = await ask(owner, prefix, cursor, **more)
    assert reply.status == 200, reply.text
    page: Feed = json.loads(reply.body)
    return page


async def ask(owner: Owner, prefix: str = "notes", cursor: str | None = None, **more: str) -> Reply:
    """Send a call of the owner's feed. `more` are headers without `x-tinycloud-`."""
    headers = {f"x-tinycloud-{name.replace('_', '-')}": value for name, value in more.items()}
    if cursor is not None:
        headers["x-tinycloud-cursor"] = cursor
    return await owner.invoke(("sync", prefix), headers=headers)


def keys(page: Feed) -> list[str]:
    """Return the keys of a page; those of deleted values have a minus sign."""
    return [("-" if one["deleted"] else "") + one["key"] for one in page["changes"]]


async def cursor_of(owner: Owner, prefix: str = "notes") -> str:
    """Return the cursor of a feed that was read to its end."""
    page = await read(owner, prefix)
    while page["more"]:
        page = await read(owner, prefix, page["cursor"])
    cursor: str = page["cursor"]
    return cursor


async def test_CF3_kv_sync_orders_puts_overwrites_deletes_and_batches(owner: Owner) -> None:
    """Each key has its latest state, at the place of its last change."""
    await owner.put("notes/a", b"1", x_tinycloud_meta_n="first")
    await owner.put("notes/b", b"2")
    cursor = await cursor_of(owner)
    await owner.put_all({"notes/d": b"4", "notes/c": b"3"})
    await owner.put("notes/a", b"5", x_tinycloud_meta_n="second")
    await owner.invoke(("del", "notes/b"))
    page = await read(owner, cursor=cursor)
    assert keys(page) == ["notes/c", "notes/d", "notes/a", "-notes/b"]
    assert page["more"] is False
    assert page["changes"][2] == {
        "key": "notes/a",
        "deleted": False,
        "etag": etag(b"5"),
        "metadata": {"x-tinycloud-meta-n": "second"},
    }
    assert page["changes"][3] == {"key": "notes/b", "deleted": True}
    assert page["source"] == {
        "nodeDid": owner.node.services.keyring.node_did,
        "space": owner.space.text,
        "prefix": "notes",
    }
    assert page["authority"] == {"notBefore": None, "expiresAt": None, "retainUntil": None}


async def test_CF5_kv_delete_records_its_own_position(owner: Owner) -> None:
    """A delete comes after what was written before it, and a second delete is a change again."""
    await owner.put("notes/a", b"1")
    cursor = await cursor_of(owner)
    await owner.put("notes/b", b"1")
    await owner.invoke(("del", "notes/a"))
    page = await read(owner, cursor=cursor)
    assert keys(page) == ["notes/b", "-notes/a"]
    await owner.invoke(("del", "notes/a"))
    page = await read(owner, cursor=page["cursor"])
    assert keys(page) == ["-notes/a"]
    await owner.put("notes/a", b"2")
    assert keys(await read(owner, cursor=page["cursor"])) == ["notes/a"]
    assert keys(await read(owner, cursor=cursor)) == ["notes/b", "notes/a"]


async def test_CF5_a_purge_is_reported(owner: Owner) -> None:
    """A value that was deleted with all its versions is reported like any other (M57)."""
    await owner.put("notes/a", b"1")
    cursor = await cursor_of(owner)
    reply = await owner.invoke(("del", "notes/a"), headers={"x-sealspace-purge": "true"})
    assert reply.status == 200
    assert keys(await read(owner, cursor=cursor)) == ["-notes/a"]


async def test_CF2_kv_sync_prefix_is_segment_and_case_exact(owner: Owner) -> None:
    """A prefix stands for itself and for what is below it, byte for byte."""
    long = "notes/" + "l" * 900
    for path in ("notes", "notes/a", "notes-x", "notesb", "NOTES/a", "note", long, "other/" + long):
        await owner.put(path, b"1")
    await owner.invoke(("del", long))
    await owner.put(long, b"2")
    assert keys(await read(owner, "notes")) == ["notes", "notes/a", long]
    assert keys(await read(owner, "notes/")) == ["notes/a", long]
    assert keys(await read(owner, "notes/a")) == ["notes/a"]
    assert keys(await read(owner, long)) == [long]


async def test_CF5_kv_sync_bootstrap_skips_pre_floor_tombstones(owner: Owner) -> None:
    """A reader that begins sees no earlier delete, and every one that follows, also between the
    pages of its beginning."""
    await owner.put("notes/a", b"1")
    await owner.put("notes/gone", b"1")
    await owner.put("notes/b", b"1")
    await owner.invoke(("del", "notes/gone"))
    first = await read(owner, limit="1")
    assert (keys(first), first["more"]) == (["notes/a"], True)
    await owner.invoke(("del", "notes/b"))
    second = await read(owner, cursor=first["cursor"])
    assert (keys(second), second["more"]) == (["-notes/b"], False)
    assert keys(await read(owner)) == ["notes/a"]


async def test_CF3_kv_sync_metadata_only_change_is_delivered(owner: Owner) -> None:
    """A value that is written again with the same bytes has changed."""
    await owner.put("notes/a", b"1", x_tinycloud_meta_n="1")
    cursor = await cursor_of(owner)
    await owner.put("notes/a", b"1", x_tinycloud_meta_n="2")
    (change,) = (await read(owner, cursor=cursor))["changes"]
    assert change["metadata"] == {"x-tinycloud-meta-n": "2"}
    assert change["etag"] == etag(b"1")


async def test_CF3_kv_sync_page_never_splits_an_event(owner: Owner) -> None:
    """A page ends with the commit that reaches its limit, and contains this commit whole."""
    await owner.put("notes/0", b"")
    await owner.put_all({f"notes/{name}": b"" for name in "cab"})
    await owner.put_all({f"notes/{name}": b"" for name in "ed"})
    await owner.put("notes/z", b"")
    pages = []
    cursor = None
    more = True
    while more:
        page = await read(owner, cursor=cursor, limit="2")
        pages.append(keys(page))
        cursor, more = page["cursor"], page["more"]
    assert pages == [
        ["notes/0", "notes/a", "notes/b", "notes/c"],
        ["notes/d", "notes/e"],
        ["notes/z"],
    ]


async def test_CF7_kv_sync_cursor_is_bound_to_space_prefix_and_key(owner: Owner) -> None:
    """A cursor of another space or prefix, or an altered one, is refused with a reset; one without
    the form of a cursor is a bad request."""
    await owner.put("notes/a", b"1")
    await owner.invoke(("put", "notes/a"), body=b"", space="other")
    cursor = await cursor_of(owner)
    reset = '{"error":{"code":"RESET_REQUIRED","reason":"cursor-invalid"}}'
    assert (await ask(owner, "notes/", cursor)).said == (410, reset)
    altered = ("B" if cursor[0] == "A" else "A") + cursor[1:]
    assert (await ask(owner, cursor=altered)).said == (410, reset)
    reply = await owner.invoke(
        ("sync", "notes"), headers={"x-tinycloud-cursor": cursor}, space="other"
    )
    assert reply.said == (410, reset)
    for malformed in ("", "A" * 4097, "?", "AAAA", cursor + "="):
        assert (await ask(owner, cursor=malformed)).said == (400, "Malformed kv/sync cursor")
    assert len(cursor) == len(await cursor_of(owner, "notes/"))


async def test_CF7_an_empty_page_has_the_cursor_of_its_request(owner: Owner) -> None:
    """Without a change below the prefix the cursor stays the same, byte for byte, whatever is
    written elsewhere; and any caller and limit may use it."""
    await owner.put("notes/a", b"1")
    cursor = await cursor_of(owner)
    for path in ("other", "o" * 700, "notes-x"):
        await owner.put(path, b"1")
        await owner.invoke(("del", path))
    page = await read(owner, cursor=f" {cursor} ", limit="7")
    assert (page["changes"], page["more"], page["cursor"]) == ([], False, cursor)


async def test_CF8_kv_sync_unknown_position_requires_reset(owner: Owner) -> None:
    """A cursor with a number that the space has not reached is refused with a reset, as after the
    store was replaced by an older copy."""
    await owner.put("notes/a", b"1")
    cursor = await cursor_of(owner)
    assert keys(await read(owner, cursor=cursor)) == []
    sequence = Put(space_keys(owner.space).sequence, None)
    assert await commit_puts(owner.node.services.store, sequence)
    assert (await ask(owner, cursor=cursor)).said == (410, UNKNOWN)
    await owner.put("notes/a", b"2")
    assert keys(await read(owner)) == ["notes/a"]


async def test_CF6_a_reader_that_missed_a_delete_starts_again(owner: Owner) -> None:
    """When the row of a deleted path is removed, readers from before the delete have to start
    again. Readers from after it, and those that began after it, continue."""
    await owner.put("notes/a", b"1")
    await owner.put("notes/b", b"1")
    before = await cursor_of(owner)
    await owner.invoke(("del", "notes/a"))
    after = await cursor_of(owner)
    began = (await read(owner, limit="1"))["cursor"]
    await owner.put("notes/c", b"1")
    later = owner.clock.now() + (KEPT_DAYS + 1) * 86_400
    assert not await sweep_deleted_paths(owner.node.services.store, now=later)
    assert (await ask(owner, cursor=before)).said == (410, UNKNOWN)
    assert keys(await read(owner, cursor=after)) == ["notes/c"]
    assert keys(await read(owner, cursor=began)) == ["notes/c"]
    assert keys(await read(owner)) == ["notes/b", "notes/c"]


async def test_CF6_deleted_values_do_not_keep_new_ones_out(small: Owner) -> None:
    """A space whose rows are used up by deleted paths accepts new values. Readers that have not
    seen the deletes start again."""
    await small.put("notes/a", b"1")
    cursor = await cursor_of(small)
    for number in range(5):
        paths = [f"notes/{number}-{at}-{'n' * 330}" for at in range(75)]
        assert (await small.put_all(dict.fromkeys(paths, b""))).status == 200
        assert (await small.invoke(*[("del", path) for path in paths])).status == 200
    assert (await ask(small, cursor=cursor)).said == (410, UNKNOWN)
    assert keys(await read(small)) == ["notes/a"]


@pytest.mark.parametrize(
    ("limit", "status"),
    [("1", 200), (" 1000 ", 200), ("0", 400), ("1001", 400), ("x", 400), ("-1", 400), ("٣", 400)],
)
async def test_CF1_limits(owner: Owner, limit: str, status: int) -> None:
    """A limit is a number from 1 to 1000."""
    await owner.put("notes/a", b"1")
    reply = await owner.invoke(
        ("sync", "notes"), headers={"x-tinycloud-limit": limit.encode().decode("latin-1")}
    )
    assert reply.status == status
    if status == 400:
        assert reply.text == "x-tinycloud-limit must be between 1 and 1000"


@pytest.mark.parametrize(
    "wanted",
    [
        (("sync", "notes"), ("get", "notes/a")),
        (("sync", "notes"), ("sync", "other")),
        (("sync", "notes"), ("put", "notes/a")),
    ],
)
async def test_CF1_the_only_capability(owner: Owner, wanted: tuple[Wanted, ...]) -> None:
    """A token with other capabilities is refused, and does nothing."""
    await owner.put("notes/a", b"1")
    reply = await owner.invoke(*wanted, body=b"2")
    assert reply.said == (400, f"{KV_SYNC} must be the invocation's only capability")
    assert (await owner.get("notes/a")).body == b"1"


@pytest.mark.parametrize("tail", ["/kv", "/kv/", "/kv/notes?a=b", "/kv/notes#a"])
async def test_CF1_a_prefix_is_needed(owner: Owner, tail: str) -> None:
    """A feed has a prefix, without a query and a fragment."""
    await owner.put("notes/a", b"1")
    reply = await owner.invoke(more={owner.space.text + tail: KV_SYNC})
    assert reply.said == (400, f"{KV_SYNC} requires a non-empty KV prefix")


async def test_CF1_a_space_that_is_not_hosted(owner: Owner) -> None:
    """A space that the node does not host has no feed."""
    assert (await ask(owner)).said == (404, "Space not found")


async def delegated(owner: Owner, ability: str, path: str = "notes") -> tuple[Owner, str]:
    """Register a delegation to a friend; return the friend and the delegation."""
    friend = Owner(owner.node, owner.session, owner.clock)
    grant = owner.token(
        (), more={f"{owner.space.text}/kv/{path}": ability}, audience=friend.signer.did
    )
    await register(owner.session, owner.node.url, grant)
    return friend, grant


async def register(session: aiohttp.ClientSession, url: str, token: str) -> None:
    """Register a delegation."""
    async with session.post(f"{url}/delegate", headers={"Authorization": token}) as answer:
        assert answer.status == 200, await answer.text()


async def asked_by(
    friend: Owner,
    owner: Owner,
    grant: str,
    *,
    path: str = "notes",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send a call of the owner's feed with a friend's token."""
    token = friend.token((), more={f"{owner.space.text}/kv/{path}": KV_SYNC}, proofs=(grant,))
    return await friend.invoke(token=token, headers=headers)


@pytest.mark.parametrize("ability", ["tinycloud.kv/get", "tinycloud.kv/list", "tinycloud.kv/*"])
async def test_CF4_no_other_ability_covers_the_feed(owner: Owner, ability: str) -> None:
    """A caller without the right is refused before its cursor is judged."""
    await owner.put("notes/a", b"1")
    friend, grant = await delegated(owner, ability)
    cursor = await cursor_of(owner)
    altered = ("B" if cursor[0] == "A" else "A") + cursor[1:]
    expected = (401, f"Unauthorized Action: {owner.space.text}/kv/notes / {KV_SYNC}")
    for sent in ({}, {"x-tinycloud-cursor": altered}, {"x-tinycloud-cursor": cursor}):
        assert (await asked_by(friend, owner, grant, headers=sent)).said == expected
    assert (await friend.invoke(token="x")).status == 401


async def test_CF9_the_window_of_the_grant(owner: Owner, clock: FixedClock) -> None:
    """The answer states until when the right lasts, which is that of the grant, not of the token;
    a grant covers the feeds below its path only."""
    await owner.put("notes/a", b"1")
    friend, grant = await delegated(owner, KV_SYNC)
    reply = await asked_by(friend, owner, grant)
    assert reply.status == 200, reply.text
    ends = json.loads(reply.body)["authority"]["expiresAt"]
    assert ends.endswith("Z")
    clock.advance(5)
    later = await asked_by(friend, owner, grant, path="notes/a")
    assert json.loads(later.body)["authority"]["expiresAt"] == ends
    assert (await asked_by(friend, owner, grant, path="note")).status == 401


async def test_CF10_retention(owner: Owner) -> None:
    """A grant of `kv/retain` to the caller states until when it may keep the values; without one
    that allows it, nothing is answered."""
    await owner.put("notes/a", b"1")
    friend, grant = await delegated(owner, KV_SYNC)
    _, foreign = await delegated(owner, KV_RETAIN)
    retained: dict[str, str] = {}
    for path in ("notes", "other"):
        token = owner.token(
            (), more={f"{owner.space.text}/kv/{path}": KV_RETAIN}, audience=friend.signer.did
        )
        await register(owner.session, owner.node.url, token)
        retained[path] = token_id(token)

    async def said(cid: str) -> tuple[int, str]:
        return (
            await asked_by(friend, owner, grant, headers={"x-tinycloud-retention-grant": cid})
        ).said

    status, text = await said(retained["notes"])
    assert status == 200
    assert json.loads(text)["authority"]["retainUntil"] is not None

    def refused(reason: str) -> tuple[int, str]:
        error = (
            f'{{"error":{{"code":"RETENTION_GRANT_REFUSED","reason":"retention-grant-{reason}"}}}}'
        )
        return 403, error

    assert await said(retained["other"]) == refused("not-covering")
    assert await said(token_id(grant)) == refused("not-covering")
    assert await said(token_id(foreign)) == refused("holder-mismatch")
    assert await said("bafkr4i" + "a" * 52) == refused("not-found")
    assert await said("x") == (400, "x-tinycloud-retention-grant must be a delegation CID")


@pytest.mark.parametrize(("kind", "status"), [("exact", 401), ("prefix", 200)])
async def test_CF2_a_grant_for_one_path_allows_no_feed(
    owner: Owner, kind: str, status: int
) -> None:
    """A grant that selects exactly one path does not allow the feed, which has the paths below."""
    await owner.put("notes", b"1")
    await owner.put("notes/below", b"1")
    friend = Owner(owner.node, owner.session, owner.clock)
    selector = {"type": "xyz.tinycloud.resource/selector", "kind": kind, "value": "notes"}
    right: dict[str, Any] = {f"{owner.space.text}/kv/notes": {KV_SYNC: [selector]}}
    grant = owner.token_of(right, audience=friend.signer.did)
    await register(owner.session, owner.node.url, grant)
    reply = await friend.invoke(token=friend.token_of(right, proofs=(grant,)))
    assert reply.status == status, reply.text
    if status == 200:
        assert keys(json.loads(reply.body)) == ["notes", "notes/below"]


async def test_CF10_a_revoked_retention_grant(owner: Owner) -> None:
    """A retention grant that was revoked, or is under a revoked one, is refused."""
    await owner.put("notes/a", b"1")
    friend, grant = await delegated(owner, KV_SYNC)
    between = Owner(owner.node, owner.session, owner.clock)
    resource = {f"{owner.space.text}/kv/notes": KV_RETAIN}
    above = owner.token((), more=resource, audience=between.signer.did)
    await register(owner.session, owner.node.url, above)
    below = between.token((), more=resource, audience=friend.signer.did, proofs=(above,))
    await register(owner.session, owner.node.url, below)

    async def said(token: str) -> tuple[int, str]:
        headers = {"x-tinycloud-retention-grant": token_id(token)}
        reply = await asked_by(friend, owner, grant, headers=headers)
        return reply.status, reply.text.rpartition(':"')[2].rstrip('"}')

    assert (await said(below))[0] == 200
    await revoke(owner, token_id(above))
    assert await said(below) == (403, "retention-grant-ancestor-revoked")
    own = owner.token((), more=resource, audience=friend.signer.did)
    await register(owner.session, owner.node.url, own)
    assert (await said(own))[0] == 200
    await revoke(owner, token_id(own))
    assert await said(own) == (403, "retention-grant-revoked")


async def revoke(owner: Owner, cid: str) -> None:
    """Revoke a delegation."""
    token = owner.token((), more={f"urn:cid:{cid}": "tinycloud.delegation/revoke"})
    async with owner.session.post(
        f"{owner.node.url}/revoke", headers={"Authorization": token}
    ) as answer:
        assert answer.status == 200, await answer.text()
