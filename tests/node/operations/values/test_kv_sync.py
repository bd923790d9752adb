"""Tests of the change feed over HTTP: order, groups, pages, deletes, cursors and refusals."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kv_client import Owner, Wanted, etag, owner_at
from patience import until
from running_node import Reply
from tests_support import FixedClock
from wire_replay import token_id

from capabilities.abilities import KV_RETAIN, KV_SYNC
from node.config.tree import Hosting, Http
from spaces.keyspace import space_keys
from spaces.store.contract import Put, commit_puts
from spaces.store.sequence_waits import WaitBounds
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


WAIT = {"Prefer": "wait=60"}
APPLIED = "wait=60"


async def begin_wait(
    owner: Owner, cursor: str, *, caller: Owner | None = None, token: str | None = None
) -> asyncio.Task[Reply]:
    """Send a call that waits for a change of the owner's feed, and return once it waits."""
    waits = owner.node.services.waits
    taken = waits.taken
    sent = (caller or owner).invoke(
        *(() if token else (("sync", "notes"),)),
        token=token,
        headers={**WAIT, "x-tinycloud-cursor": cursor},
    )
    task = asyncio.create_task(sent)
    await until(lambda: task.done() or waits.taken == taken + 1)
    assert not task.done(), task.result().text
    return task


def let_time_pass(owner: Owner) -> None:
    """Let the time of all waits at the owner's node be over."""
    owner.node.services.waits.now_s = lambda: time.monotonic() + 3600


async def test_CF11_a_call_waits_for_a_change(owner: Owner) -> None:
    """A call whose page is empty is answered with the next change below the prefix, and not because
    of a change elsewhere in the space."""
    await owner.put("notes/a", b"1")
    cursor = await cursor_of(owner)
    waiting = await begin_wait(owner, cursor)
    await owner.put("elsewhere", b"1")
    await owner.invoke(("put", "notes/a"), body=b"", space="other")
    assert not waiting.done()
    await owner.put("notes/b", b"1")
    reply = await waiting
    assert reply.headers["preference-applied"] == APPLIED
    page = json.loads(reply.body)
    assert keys(page) == ["notes/b"]
    assert keys(await read(owner, cursor=page["cursor"])) == []
    assert owner.node.services.waits.taken == 0


async def test_CF11_a_wait_that_is_over(owner: Owner) -> None:
    """Without a change the answer is an empty page with the cursor of the call, at the end of the
    wait."""
    await owner.put("notes/a", b"1")
    cursor = await cursor_of(owner)
    waiting = await begin_wait(owner, cursor)
    await owner.put("elsewhere", b"1")
    let_time_pass(owner)
    reply = await waiting
    assert reply.headers["preference-applied"] == APPLIED
    page = json.loads(reply.body)
    assert (page["changes"], page["more"], page["cursor"]) == ([], False, cursor)


@pytest.mark.parametrize(
    "preference",
    [
        "wait=0",
        "wait",
        "wait=-1",
        "wait=x",
        "wait=1e9",
        "wait=1000000000",
        "respond-async",
        "=60",
        "",
    ],
)
async def test_CF11_what_is_no_wait(owner: Owner, preference: str) -> None:
    """A preference that is none for a wait, or malformed, is ignored."""
    await owner.put("notes/a", b"1")
    headers = {"Prefer": preference, "x-tinycloud-cursor": await cursor_of(owner)}
    reply = await owner.invoke(("sync", "notes"), headers=headers)
    assert reply.status == 200
    assert "preference-applied" not in reply.headers


@pytest.mark.parametrize("preference", ['respond-async, WAIT="60";a=b', "wait = 600 , wait=1"])
async def test_CF11_spellings_of_a_wait(owner: Owner, preference: str) -> None:
    """The first `wait` of a list applies, in any case, with quotes and parameters, up to 60 s."""
    await owner.put("notes/a", b"1")
    headers = {"Prefer": preference, "x-tinycloud-cursor": await cursor_of(owner)}
    waiting = asyncio.create_task(owner.invoke(("sync", "notes"), headers=headers))
    await until(lambda: owner.node.services.waits.taken == 1)
    await owner.put("notes/b", b"1")
    assert (await waiting).headers["preference-applied"] == APPLIED


async def test_CF11_who_does_not_wait(owner: Owner) -> None:
    """A page with changes, and one without a cursor, are answered at once."""
    await owner.put("elsewhere", b"1")
    first = await owner.invoke(("sync", "notes"), headers=WAIT)
    assert "preference-applied" not in first.headers
    await owner.put("notes/a", b"1")
    cursor = json.loads(first.body)["cursor"]
    second = await owner.invoke(("sync", "notes"), headers={**WAIT, "x-tinycloud-cursor": cursor})
    assert keys(json.loads(second.body)) == ["notes/a"]
    assert "preference-applied" not in second.headers


async def test_CF12_a_revocation_during_the_wait(owner: Owner) -> None:
    """A grant that is revoked during the wait allows nothing any more: the change is not shown."""
    await owner.put("notes/a", b"1")
    friend, grant = await delegated(owner, KV_SYNC)
    token = friend.token((), more={f"{owner.space.text}/kv/notes": KV_SYNC}, proofs=(grant,))
    waiting = await begin_wait(owner, await cursor_of(owner), caller=friend, token=token)
    await revoke(owner, token_id(grant))
    await owner.put("notes/b", b"1")
    reply = await waiting
    assert reply.status == 401
    assert "revoked" in reply.text


async def test_CF12_a_grant_that_ends_during_the_wait(owner: Owner, clock: FixedClock) -> None:
    """The end of a grant during the wait leads to the refusal, also without a change. The end of
    the token alone does not: it was in time when the call began."""
    await owner.put("notes/a", b"1")
    friend, grant = await delegated(owner, KV_SYNC)
    token = friend.token((), more={f"{owner.space.text}/kv/notes": KV_SYNC}, proofs=(grant,))
    cursor = await cursor_of(owner)
    waiting = await begin_wait(owner, cursor, caller=friend, token=token)
    own = await begin_wait(owner, cursor)
    clock.advance(3600)
    let_time_pass(owner)
    assert (await waiting).status == 401
    assert (await own).status == 200


async def test_CF12_a_space_that_was_restored_during_the_wait(owner: Owner) -> None:
    """The cursor is judged again: when the numbers of the space were lost, the reader starts
    again."""
    await owner.put("notes/a", b"1")
    waiting = await begin_wait(owner, await cursor_of(owner))
    sequence = Put(space_keys(owner.space).sequence, None)
    assert await commit_puts(owner.node.services.store, sequence)
    assert (await waiting).said == (410, UNKNOWN)


async def test_CF13_a_full_house_answers_at_once(owner: Owner) -> None:
    """A call without a place is answered as if it did not want to wait."""
    await owner.put("notes/a", b"1")
    cursor = await cursor_of(owner)
    owner.node.services.waits.bounds = WaitBounds(most=1, most_per_owner=1, most_per_client=0)
    waiting = await begin_wait(owner, cursor)
    reply = await owner.invoke(("sync", "notes"), headers={**WAIT, "x-tinycloud-cursor": cursor})
    assert json.loads(reply.body)["cursor"] == cursor
    assert "preference-applied" not in reply.headers
    await owner.put("notes/b", b"1")
    assert (await waiting).headers["preference-applied"] == APPLIED


async def test_CF13_a_place_for_another_owner(owner: Owner) -> None:
    """When all places are taken, an owner without one gets the oldest place of the owner with the
    most, whose call is answered at once."""
    other = Owner(owner.node, owner.session, owner.clock)
    for one in (owner, other):
        await one.put("notes/a", b"1")
    owner.node.services.waits.bounds = WaitBounds(most=2, most_per_owner=2, most_per_client=0)
    cursor = await cursor_of(owner)
    oldest = await begin_wait(owner, cursor)
    kept = await begin_wait(owner, cursor)
    sent = {**WAIT, "x-tinycloud-cursor": await cursor_of(other)}
    others = asyncio.create_task(other.invoke(("sync", "notes"), headers=sent))
    reply = await oldest
    assert json.loads(reply.body)["cursor"] == cursor
    assert "preference-applied" not in reply.headers
    for one, waiting in ((owner, kept), (other, others)):
        await one.put("notes/b", b"1")
        assert (await waiting).headers["preference-applied"] == APPLIED


async def test_CF13_places_of_a_client_address(tmp_path: Path, clock: FixedClock) -> None:
    """The places of one client address are bounded. Clients on the node's own machine, such as a
    proxy that is not trusted, are not counted by their address."""
    proxies = Http(port=0, drain_s=0, trusted_proxies=("127.0.0.1",))
    async with owner_at(tmp_path, clock, http=proxies, hosting=Hosting()) as owner:
        owner.node.services.waits.bounds = WaitBounds(most=9, most_per_owner=9, most_per_client=1)
        await owner.put("notes/a", b"1")
        wait = {**WAIT, "x-tinycloud-cursor": await cursor_of(owner)}
        waiting = [await begin_wait(owner, wait["x-tinycloud-cursor"]) for _ in range(2)]
        distant = {**wait, "X-Forwarded-For": "203.0.113.7"}
        first = asyncio.create_task(owner.invoke(("sync", "notes"), headers=distant))
        await until(lambda: first.done() or owner.node.services.waits.taken == 3)
        second = await owner.invoke(("sync", "notes"), headers=distant)
        assert "preference-applied" not in second.headers
        await owner.put("notes/b", b"1")
        for task in (*waiting, first):
            assert (await task).headers["preference-applied"] == APPLIED


async def test_CF13_a_client_that_goes_away(owner: Owner) -> None:
    """A client that disconnects frees its place."""
    await owner.put("notes/a", b"1")
    waiting = await begin_wait(owner, await cursor_of(owner))
    waiting.cancel()
    await until(lambda: owner.node.services.waits.taken == 0)
    assert (await owner.get("notes/a")).status == 200


async def test_CF13_a_node_that_stops(tmp_path: Path, clock: FixedClock) -> None:
    """A node that stops answers the calls that wait, and does not let its clients wait for it."""
    http = Http(port=0, drain_s=60)
    async with aiohttp.ClientSession() as session:
        async with owner_at(tmp_path, clock, http=http, hosting=Hosting()) as made:
            owner = Owner(made.node, session, clock)
            await owner.put("notes/a", b"1")
            cursor = await cursor_of(owner)
            waiting = await begin_wait(owner, cursor)
        reply = await waiting
        assert json.loads(reply.body)["cursor"] == cursor
        assert "preference-applied" not in reply.headers
