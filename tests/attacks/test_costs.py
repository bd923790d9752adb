"""Attacks by hidden costs that a client can cause, such as scanned rows and uncharged bytes."""

import json
from collections.abc import Sequence

import pytest
from attacks.held_store import HeldStage
from attacks.parties import GET, LIST, PUT, REVOKE, Delegate, Owner
from running_node import Reply, id_of, key_token, new_key, send

from node.operations.values.admin_quota import set_quota
from spaces.store.contract import Commit

pytestmark = pytest.mark.slow

LONG = "x" * 400
FORMAT_VERSION = {"Content-Type": "multipart/form-data; boundary=probe"}


async def put_empty(
    held: HeldStage, owner: Owner, space: str, paths: Sequence[str], *, metadata: str = ""
) -> Reply:
    """Put values without a body under some paths, in one call."""
    part = (
        '--probe\r\nContent-Disposition: form-data; name="{}";'
        ' filename="{}"\r\nX-TinyCloud-Meta-Note: {}\r\n\r\n\r\n'
    )
    body = "".join(part.format(path, path, metadata) for path in paths) + "--probe--\r\n"
    session = owner.session
    grants = {f"{space}/kv/{path}": [PUT] for path in paths}
    return await held.invoke(
        session.signer, grants, proofs=session.proofs, body=body.encode(), headers=FORMAT_VERSION
    )


def _listing(space: str, **asked: str) -> str:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    return f"/public/{space.replace(':', '%3A')}/kv?{query}"


@pytest.mark.parametrize("shared", [LONG, LONG * 3], ids=["400 bytes", "1200 bytes"])
async def test_long_paths_beside_cost_nobody_a_page(held: HeldStage, shared: str) -> None:
    """Long paths with a common prefix do not slow down other pages of a public space."""
    owner = await held.owner("public")
    space = owner.space("public")
    paths = [f"{shared}{number:03}" for number in range(0, 400, 2)]
    for start in range(0, len(paths), 50):
        reply = await put_empty(held, owner, space, paths[start : start + 50])
        assert reply.status == 200, reply.said
    for after, expected in (
        ("", paths[:1]),
        (f"{shared}300", [f"{shared}302"]),
        (f"{shared}301", [f"{shared}302"]),
    ):
        before = held.store.rows_read
        reply = await send(held.url, "GET", _listing(space, limit="1", after=after))
        assert (reply.status, json.loads(reply.text)) == (200, expected)
        assert held.store.rows_read - before <= 12
    reply = await send(held.url, "GET", _listing(space, limit="1000"))
    assert (reply.status, json.loads(reply.text)) == (200, paths)


async def test_paths_beside_a_grant_are_not_read(held: HeldStage) -> None:
    """A page reads no paths outside the grant, even with the same prefix."""
    owner, delegate = await held.owner(), Delegate()
    space = owner.space()
    grants = {f"{space}/kv/photos": [LIST]}
    delegate.proofs = [await held.register(owner.grant(delegate.did, grants))]
    for start in range(0, 200, 50):
        await put_empty(
            held, owner, space, [f"photos-{number:03}" for number in range(start, start + 50)]
        )
    await put_empty(held, owner, space, ["photos", "photos/1", "photos/2", "photos2"])
    for headers, expected in (
        ({}, ["photos", "photos/1", "photos/2"]),
        ({"x-tinycloud-limit": "2"}, ["photos", "photos/1"]),
    ):
        before = held.store.rows_read
        reply = await held.invoke(delegate.signer, grants, proofs=delegate.proofs, headers=headers)
        assert reply.status == 200, reply.said
        listed = json.loads(reply.text)
        assert (listed if isinstance(listed, list) else listed["keys"]) == expected
        assert not headers or held.store.rows_read - before <= 12


async def test_keys_and_metadata_are_charged(held: HeldStage) -> None:
    """Keys and metadata of empty values count towards the quota (M54)."""
    owner = await held.owner()
    space = owner.space()
    services = held.services
    now, entropy = services.clock.now(), services.entropy
    await set_quota(services.store, services.config, space, 100_000, now=now, entropy=entropy)
    batches = [[f"{batch}-{number:03}{'n' * 370}" for number in range(50)] for batch in range(4)]
    replies = [await put_empty(held, owner, space, paths, metadata="m" * 500) for paths in batches]
    assert [reply.status for reply in replies] == [200, 413, 413, 413]
    small = await put_empty(held, owner, space, ["small"])
    assert small.status == 200, small.said


async def test_delegations_are_charged_by_their_size(held: HeldStage) -> None:
    """Large delegations of a delegate count towards a quota."""
    owner, delegate = await held.owner(), Delegate()
    path = {f"{owner.space()}/kv/mine": [GET]}
    delegate.proofs = [await held.register(owner.grant(delegate.did, path))]
    filler = ["f" * 65_000]  # nearly as much as one delegation may have
    size_bytes = 0
    for _ in range(250):
        token = delegate.grant(new_key().did, path, facts=[{"filler": filler}])
        reply = await held.post("/delegate", token)
        if reply.status != 200:
            break
        size_bytes += len(token)
    assert reply.status == 400, f"{size_bytes} bytes of delegations were taken"
    assert "bytes of delegations of this signer" in reply.text
    assert size_bytes <= 16 << 20
    await held.register(owner.grant(new_key().did, path))


async def test_a_repeated_revocation_writes_nothing(held: HeldStage) -> None:
    """A repeated revocation writes nothing (W24, ST16)."""
    outsider, commits = new_key(), list[Commit]()

    def noted(commit: Commit) -> bool:
        commits.append(commit)
        return False  # it goes on

    grant = key_token(
        outsider, new_key().did, {f"tinycloud:{outsider.did.removeprefix('did:')}:x/kv": [GET]}
    )
    await held.register(grant)
    held.store.hold(noted)
    right = {f"urn:cid:{id_of(grant)}": [REVOKE]}
    texts = [key_token(outsider, outsider.did, right) for _ in range(3)]
    replies = [await held.post("/revoke", text) for text in texts for _ in range(3)]
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    recorded, *repeats = commits
    assert recorded.writes
    assert len(repeats) == len(replies) - 1
    assert not any(commit.writes for commit in repeats)
    assert {check.key for commit in repeats for check in commit.checks} == {recorded.puts[0].key}
    assert (await held.post("/delegate", grant)).said == (
        401,
        f"delegation-revoked: {id_of(grant)}",
    )
