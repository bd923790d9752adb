"""Attacks on requests between their read and their commit: the owner's change prevails (ST2,
RL15)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from attacks.held_store import Held, HeldStage
from attacks.parties import (
    DECRYPT,
    DELETE,
    GET,
    PUT,
    SET_POLICY,
    Delegate,
    Owner,
    Route,
    Stage,
    ids,
    opens,
    policy_for,
    put_policy,
    refused,
)
from audit_records import audit_records
from patience import PATIENCE_S
from running_node import Reply, exchange, key_token

from capabilities.abilities import NETWORK_REVOKE
from capabilities.principals import parse_principal
from encryption_network.envelope import encode_envelope
from encryption_network.release_record import decode_release_record, encode_release_record
from sealspace.delegations import allow
from spaces.documents.evidence import evidence_row_key
from spaces.keyspace import RELEASE_RECORD_KEY, deleted_key
from spaces.store.contract import (
    Commit,
    Committed,
    Put,
    Range,
    Refused,
    has_value,
    read_page,
)
from spaces.values.value_heads import head_key

RECEIPT, HEAD, DELEGATION, FETCH = b"R", b"K", b"G", b"F"


def puts_row(prefix: bytes) -> Callable[[Commit], bool]:
    """Return a test for commits that write a kind of row."""
    return lambda commit: any(put.key.startswith(prefix) for put in commit.puts)


def is_release(commit: Commit) -> bool:
    """Return whether a commit makes a release durable."""
    return (
        bool(commit.checks)
        and commit.replay_record is not None
        and any(put.key[:1] == RECEIPT for put in commit.puts)
    )


async def meanwhile(
    asking: Awaitable[Reply], held: Held, change: Callable[[], Awaitable[object]]
) -> Reply:
    """Delay a request at its commit, make a change, and then let the request continue."""
    task = asyncio.ensure_future(asking)
    try:
        await asyncio.wait_for(held.reached.wait(), PATIENCE_S)
        await change()
    finally:
        held.go.set()
    return await task


async def ready(stage: Stage) -> tuple[Owner, Delegate]:
    """An owner who may write policies, and an approved backend with evidence."""
    owner, delegate = await stage.owner(), Delegate()
    await owner.client.delegations.add_right(
        owner.wallet, [allow(owner.network, SET_POLICY), allow(owner.network, NETWORK_REVOKE)]
    )
    delegate.proofs = [
        await stage.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))
    ]
    await stage.attest(delegate, owner.network)
    assert opens(await stage.ask(delegate, owner), delegate, owner)
    return owner, delegate


def release_records(held: Held) -> int:
    """Return how many of the delayed commits succeeded."""
    return sum(isinstance(outcome, Committed) for outcome in held.outcomes)


@pytest.mark.parametrize("route", ["route", "invoke"])
async def test_a_policy_tightened_before_the_commit(held: HeldStage, route: Route) -> None:
    """A release is refused if the owner's policy changes before the commit."""
    owner, delegate = await ready(held)
    waiting = held.store.hold(is_release)

    async def tighten() -> None:
        await owner.client.encryption.set_policy(
            owner.client.encryption.network(), policy_for("another")
        )

    reply = await meanwhile(held.ask(delegate, owner, route), waiting, tighten)
    assert reply.said == refused("measurement", route)
    assert isinstance(waiting.outcomes[0], Refused)
    assert release_records(waiting) == 0


async def test_a_policy_that_changes_nothing_for_the_caller(held: HeldStage) -> None:
    """A new policy that still approves the caller makes the node judge the release again and allow
    it."""
    owner, delegate = await ready(held)
    waiting = held.store.hold(is_release)

    async def restate() -> None:
        await owner.client.encryption.set_policy(
            owner.client.encryption.network(), policy_for("another", "approved")
        )

    reply = await meanwhile(held.ask(delegate, owner), waiting, restate)
    assert opens(reply, delegate, owner)
    assert [type(outcome) for outcome in waiting.outcomes] == [Refused, Committed]


@pytest.mark.parametrize("route", ["route", "invoke"])
async def test_a_grant_revoked_before_the_commit(held: HeldStage, route: Route) -> None:
    """A release is refused if its grant is revoked before the commit."""
    owner, delegate = await ready(held)
    waiting = held.store.hold(is_release)
    cid = ids(*delegate.proofs)[0]

    async def revoke() -> None:
        await owner.client.delegations.revoke_by_wallet(cid, owner.wallet)

    reply = await meanwhile(held.ask(delegate, owner, route), waiting, revoke)
    assert reply.said == (refused("", route)[0], f"delegation-revoked: {cid}")
    assert release_records(waiting) == 0


async def test_the_session_behind_an_approval_revoked_before_the_commit(held: HeldStage) -> None:
    """A release is refused if the session that approved it is revoked."""
    owner, backend = await held.owner(), Delegate()
    session = owner.session
    spare = await held.register(owner.grant_decrypt(session.did_url))
    listed = session.grant(
        backend.did, {owner.network: [DECRYPT]}, policy=policy_for("approved"), proofs=[spare]
    )
    backend.proofs = [await held.register(listed)]
    await held.attest(backend, owner.network)
    waiting = held.store.hold(is_release)

    async def revoke() -> None:
        await owner.client.delegations.revoke_by_wallet(
            owner.client.session.grants[0].cid, owner.wallet
        )

    reply = await meanwhile(held.ask(backend, owner), waiting, revoke)
    assert reply.said == refused("no_policy")
    assert release_records(waiting) == 0


async def test_the_owner_s_session_revoked_before_the_commit(held: HeldStage) -> None:
    """A key whose session is revoked before the commit is not in person (IP2)."""
    owner = await held.owner()
    session = owner.session
    spare = await held.register(owner.grant_decrypt(session.did_url))
    waiting = held.store.hold(is_release)

    async def revoke() -> None:
        await owner.client.delegations.revoke_by_wallet(
            owner.client.session.grants[0].cid, owner.wallet
        )

    reply = await meanwhile(held.ask(session, owner, proofs=[spare]), waiting, revoke)
    assert reply.said == refused("no_policy")
    assert release_records(waiting) == 0


async def test_evidence_withdrawn_before_the_commit(held: HeldStage) -> None:
    """A release is refused if its evidence is withdrawn or replaced before the commit."""
    owner, delegate = await ready(held)
    waiting = held.store.hold(is_release)
    key = evidence_row_key(parse_principal(delegate.did), delegate.receiver.public_key)

    async def withdraw() -> None:
        await held.store.commit(Commit(puts=(Put(key, None),)))

    assert (await meanwhile(held.ask(delegate, owner), waiting, withdraw)).said == refused(
        "not_attested"
    )
    await held.attest(delegate, owner.network)
    waiting = held.store.hold(is_release)
    reply = await meanwhile(
        held.ask(delegate, owner),
        waiting,
        lambda: held.attest(delegate, owner.network, program="other"),
    )
    assert reply.said == refused("measurement")
    assert release_records(waiting) == 0


async def test_a_network_revoked_before_the_commit(held: HeldStage) -> None:
    """A release is refused if its network is revoked before the commit."""
    owner, delegate = await ready(held)
    network = owner.client.encryption.network()
    waiting = held.store.hold(is_release)
    reply = await meanwhile(
        held.ask(delegate, owner), waiting, lambda: owner.client.encryption.revoke_network(network)
    )
    assert reply.said == (401, "network has been revoked")
    assert release_records(waiting) == 0


async def test_the_node_s_terms_tightened_before_the_commit(held: HeldStage) -> None:
    """A release is refused if the operator's terms change before the commit (RL16)."""
    owner, delegate = await ready(held)
    row = (await held.store.read((RELEASE_RECORD_KEY,))).records[0]
    assert row is not None and row.value is not None
    record = decode_release_record(row.value)

    async def state(**changes: Any) -> None:
        changed = encode_release_record(replace(record, **changes))
        await held.store.commit(Commit(puts=(Put(RELEASE_RECORD_KEY, changed),)))

    waiting = held.store.hold(is_release)
    reply = await meanwhile(
        held.ask(delegate, owner), waiting, lambda: state(trust_roots=(bytes(32),))
    )
    assert reply.said == refused("trust_root")
    await state()
    waiting = held.store.hold(is_release)
    reply = await meanwhile(held.ask(owner.session, owner), waiting, lambda: state(mode="everyone"))
    assert reply.said == refused("mode")
    assert release_records(waiting) == 0


async def test_an_envelope_moved_away_before_the_commit(held: HeldStage) -> None:
    """A release is refused if the secret at the policy's path is replaced."""
    owner, delegate = await held.owner(), Delegate()
    policy = policy_for("approved", paths=(owner.secret,))
    delegate.proofs = [await held.register(owner.grant_decrypt(delegate.did, policy=policy))]
    await held.attest(delegate, owner.network)
    waiting = held.store.hold(is_release)
    reply = await meanwhile(
        held.ask(delegate, owner),
        waiting,
        lambda: owner.client.secrets().put("API_KEY", "another value"),
    )
    assert reply.said == refused("path")
    assert release_records(waiting) == 0


async def test_an_envelope_deleted_before_the_commit(held: HeldStage) -> None:
    """A release is refused if the secret at the policy's path is deleted (RL19)."""
    owner, delegate = await held.owner(), Delegate()
    path = owner.secret
    who = owner.session
    policy = policy_for("approved", paths=(path,))
    delegate.proofs = [await held.register(owner.grant_decrypt(delegate.did, policy=policy))]
    await held.attest(delegate, owner.network)
    waiting = held.store.hold(is_release)
    reply = await meanwhile(
        held.ask(delegate, owner),
        waiting,
        lambda: held.invoke(who.signer, {path: [DELETE]}, proofs=who.proofs),
    )
    assert reply.said == refused("path")
    assert release_records(waiting) == 0


async def test_a_put_revoked_before_the_commit(held: HeldStage) -> None:
    """A put is refused if its grant is revoked before the commit (ST2)."""
    owner, delegate = await held.owner(), Delegate()
    grants = {f"{owner.space()}/kv/a": [PUT]}
    delegate.proofs = [await held.register(owner.grant(delegate.did, grants))]
    waiting = held.store.hold(puts_row(HEAD))
    cid = ids(*delegate.proofs)[0]
    reply = await meanwhile(
        held.invoke(delegate.signer, grants, proofs=delegate.proofs, body=b"late"),
        waiting,
        lambda: owner.client.delegations.revoke_by_wallet(cid, owner.wallet),
    )
    assert reply.said == (401, f"delegation-revoked: {cid}")
    assert [key async for key in owner.client.kv().list()] == []


async def _copy(held: HeldStage) -> tuple[Owner, Delegate, dict[str, list[str]]]:
    """An owner, a reader of the copy of a secret, and the reader's rights."""
    owner, reader = await held.owner(), Delegate()
    path = f"vault/secrets/shared/{reader.did}/{'A' * 43}/API_KEY"
    await owner.client.kv("secrets").put(path, encode_envelope(owner.envelope))
    grants = {f"{owner.space('secrets')}/kv/{path}": [GET]}
    reader.proofs = [await held.register(owner.grant(reader.did, grants))]
    return owner, reader, grants


async def test_a_read_of_a_copy_revoked_before_the_commit(held: HeldStage) -> None:
    """The copy of a secret is not returned, and no fetch is recorded, if the reader's grant is
    revoked before the fetch is durable (RC33, ST2)."""
    owner, reader, grants = await _copy(held)
    waiting = held.store.hold(puts_row(FETCH))
    cid = ids(*reader.proofs)[0]
    reply = await meanwhile(
        held.invoke(reader.signer, grants, proofs=reader.proofs),
        waiting,
        lambda: owner.client.delegations.revoke_by_wallet(cid, owner.wallet),
    )
    assert reply.said == (401, f"delegation-revoked: {cid}")
    assert await rows_of(held, FETCH) == 0


async def test_two_reads_of_a_copy_at_once(held: HeldStage) -> None:
    """Two reads of a copy at the same time leave one row, and both are answered (RC34)."""
    _, reader, grants = await _copy(held)
    waiting = held.store.hold(puts_row(FETCH))

    async def read() -> Reply:
        return await held.invoke(reader.signer, grants, proofs=reader.proofs)

    replies: list[Reply] = []

    async def second() -> None:
        replies.append(await read())

    replies.append(await meanwhile(read(), waiting, second))
    assert [reply.status for reply in replies] == [200, 200]
    assert await rows_of(held, FETCH) == 1
    records = await audit_records(held.services.store)
    assert [one.action for one in records].count("copy.fetched") == 1


async def rows_of(held: HeldStage, prefix: bytes) -> int:
    """Return the number of rows of a kind."""
    return len((await read_page(held.services.store, Range(prefix))).rows)


async def test_a_put_whose_grandparent_is_revoked_before_the_commit(held: HeldStage) -> None:
    """A put is refused if a grandparent of its grant is revoked (ST2)."""
    owner, first, second = await held.owner(), Delegate(), Delegate()
    grants = {f"{owner.space()}/kv/a": [PUT]}
    first.proofs = [await held.register(owner.grant(first.did, grants))]
    second.proofs = [await held.register(first.grant(second.did, grants))]
    waiting = held.store.hold(puts_row(HEAD))
    reply = await meanwhile(
        held.invoke(second.signer, grants, proofs=second.proofs, body=b"late"),
        waiting,
        lambda: owner.client.delegations.revoke_by_wallet(ids(*first.proofs)[0], owner.wallet),
    )
    assert reply.status == 401
    assert [key async for key in owner.client.kv().list()] == []


async def test_a_registration_whose_parent_is_revoked_before_the_commit(held: HeldStage) -> None:
    """A delegation is refused if its parent is revoked before the commit (ST2)."""
    owner, first, second = await held.owner(), Delegate(), Delegate()
    grants = {f"{owner.space()}/kv/a": [GET]}
    first.proofs = [await held.register(owner.grant(first.did, grants))]
    token = first.grant(second.did, grants)
    waiting = held.store.hold(puts_row(DELEGATION))
    reply = await meanwhile(
        held.post("/delegate", token),
        waiting,
        lambda: owner.client.delegations.revoke_by_wallet(ids(*first.proofs)[0], owner.wallet),
    )
    assert reply.status == 401
    assert "revoked" in reply.text
    reply = await held.invoke(second.signer, grants, proofs=[token])
    assert reply.said == (401, "Cannot find parent delegation")


async def test_evidence_whose_grant_is_revoked_before_the_commit(held: HeldStage) -> None:
    """Evidence is refused if its grant is revoked before the commit (ST2)."""
    owner, delegate = await held.owner(), Delegate()
    delegate.proofs = [
        await held.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))
    ]
    waiting = held.store.hold(puts_row(b"A"))
    nonce = await held.nonce(delegate.did)
    quote = held.quote(delegate.did, delegate.receiver.public_key, nonce)
    reply = await meanwhile(
        held.submit_quote(delegate, owner.network, nonce=nonce, quote=quote),
        waiting,
        lambda: owner.client.delegations.revoke_by_wallet(ids(*delegate.proofs)[0], owner.wallet),
    )
    assert reply.status == 401
    key = evidence_row_key(parse_principal(delegate.did), delegate.receiver.public_key)
    assert (await held.store.read((key,))).records == (None,)


async def test_a_policy_written_by_a_session_that_is_revoked_before_the_commit(
    held: HeldStage,
) -> None:
    """A policy of a session that is revoked before the commit is refused (RL17)."""
    owner, delegate = await ready(held)
    client = owner.client
    await client.encryption.set_policy(client.encryption.network(), policy_for("another"))
    waiting = held.store.hold(puts_row(b"N"))

    async def loosen() -> Reply:
        session = Delegate(client.session.signer, [client.session.grants[-1].header])
        return await put_policy(held, session, owner, policy_for("approved"))

    reply = await meanwhile(
        loosen(),
        waiting,
        lambda: client.delegations.revoke_by_wallet(client.session.grants[0].cid, owner.wallet),
    )
    assert (reply.status, reply.value["code"]) == (403, "policy-not-in-person")
    assert (await held.ask(delegate, owner)).said == refused("measurement")


async def test_two_releases_of_one_token(held: HeldStage) -> None:
    """A second use of a token is refused while the first waits for its commit (ST4)."""
    owner, delegate = await ready(held)
    request = held.decrypt(delegate, owner)
    waiting = held.store.hold(is_release)
    second: list[Reply] = []

    async def use_again() -> None:
        second.append(await held.send_decrypt(request, "invoke"))

    reply = await meanwhile(held.send_decrypt(request), waiting, use_again)
    assert opens(reply, delegate, owner)
    assert second[0].said == (409, "duplicate invocation")


@pytest.mark.parametrize(
    "form",
    [(b"", b""), (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n', b"\r\n--x--\r\n")],
)
@pytest.mark.parametrize("late_s", [3, 4000])
async def test_a_value_that_arrives_after_its_grant_has_ended(
    held: HeldStage, late_s: int, form: tuple[bytes, bytes]
) -> None:
    """A put is refused if its grant ends before its last byte arrives (I33).

    As a value of its own or as the only one of a batch.
    """
    headers = {"Content-Type": "multipart/form-data; boundary=x"} if form[0] else {}
    owner, delegate = await held.owner(), Delegate()
    grants = {f"{owner.space()}/kv/a": [PUT]}
    delegate.proofs = [await held.register(owner.grant(delegate.did, grants, ttl_s=late_s - 2))]
    token = key_token(delegate.signer, delegate.did, grants, proofs=delegate.proofs)
    held.store.is_first_use.clear()

    async def body() -> AsyncIterator[bytes]:
        yield form[0] + b"begun in time, "
        await asyncio.wait_for(held.store.is_first_use.wait(), PATIENCE_S)
        held.clock.advance(late_s)
        yield b"finished too late" + form[1]

    async with aiohttp.ClientSession() as session:
        reply = await exchange(
            session, held.url, "POST", "/invoke", token=token, body=body(), headers=headers
        )
    assert reply.said == (401, f"Unauthorized Action: {owner.space()}/kv/a / {PUT}")
    held.clock.advance(-late_s)
    assert [key async for key in owner.client.kv().list()] == []


async def test_CF5_a_path_that_comes_and_goes_before_the_commit(held: HeldStage) -> None:
    """A put of a new path is judged again if somebody stored and deleted that path meanwhile. The
    row of the deleted path is gone afterwards, and no version gets a number twice (CF5, ST19)."""
    owner = await held.owner()
    secrets = owner.client.kv("secrets")
    path = "vault/secrets/NEW"
    waiting = held.store.hold(puts_row(HEAD))
    task = asyncio.ensure_future(secrets.put(path, b"at last"))
    await asyncio.wait_for(waiting.reached.wait(), PATIENCE_S)
    await secrets.put(path, b"meanwhile")
    await secrets.delete(path)
    waiting.go.set()
    await task
    assert (await secrets.get(path)).body == b"at last"
    assert [version.version for version in await secrets.versions(path)] == [2, 1]
    key = head_key(owner.client.session.own_space("secrets"), path)
    (deleted,) = (await held.store.read((deleted_key(key),))).records
    assert not has_value(deleted)
