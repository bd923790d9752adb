"""A token that revokes several delegations ends all of them or none (V5)."""

import json

import pytest
from attacks.held_store import HeldStage
from attacks.parties import GET, REVOKE, Delegate, Owner, ids, policy_for
from attacks.test_tokens import spellings_of
from audit_records import audit_records
from capability_cases import parse_digest
from running_node import Reply, key_token, new_key
from wire_replay import token_id

from spaces.grants.revocations import marker_keys
from spaces.store.contract import Commit, Range

pytestmark = pytest.mark.slow


def revocation(owner: Owner, *targets: str, proofs: tuple[str, ...] = ()) -> str:
    """Return a token of the session that revokes the given delegations in order."""
    session = owner.session
    grants = {f"urn:cid:{cid}": [REVOKE] for cid in ids(*targets)}
    return key_token(session.signer, session.did, grants, proofs=proofs or session.proofs, ttl_s=60)


async def delegates(held: HeldStage, owner: Owner, number: int) -> list[Delegate]:
    """Return this many delegates, each with a wallet's grant to read one value."""
    await owner.client.kv().put("a", b"a")
    made = [Delegate() for _ in range(number)]
    for one in made:
        one.proofs = [await held.register(owner.grant(one.did, {f"{owner.space()}/kv/a": [GET]}))]
    return made


async def reads(held: HeldStage, owner: Owner, delegate: Delegate) -> int:
    """Return the status of a read by a delegate."""
    grants = {f"{owner.space()}/kv/a": [GET]}
    return (await held.invoke(delegate.signer, grants, proofs=delegate.proofs)).status


def commits_of(held: HeldStage) -> list[Commit]:
    """Return a list that receives all commits from now on."""
    commits = list[Commit]()

    def noted(commit: Commit) -> bool:
        commits.append(commit)
        return False  # it goes on

    held.store.hold(noted)
    return commits


async def test_V5_one_approval_ends_at_once(held: HeldStage) -> None:
    """Two grants of one approval end in one commit, and the answer names both in order."""
    owner, program = await held.owner(), Delegate()
    read = await held.register(owner.grant(program.did, {owner.secret: [GET]}))
    opening = await held.register(owner.grant_decrypt(program.did, policy=policy_for("approved")))
    grants = {owner.secret: [GET]}
    program.proofs = [opening]
    await held.attest(program, owner.network)
    assert (await held.ask(program, owner)).status == 200
    assert (await held.invoke(program.signer, grants, proofs=[read])).status == 200
    commits = commits_of(held)
    for targets in ((opening, read), (read, opening)):
        cids = ids(*targets)
        reply = await held.post("/revoke", revocation(owner, *targets))
        assert reply.status == 200
        assert reply.value == {"revoked": True, "cid": cids[0], "cids": cids}
    assert [commit.writes for commit in commits] == [True, False]
    assert (await held.ask(program, owner)).status == 401
    assert (await held.invoke(program.signer, grants, proofs=[read])).status == 401
    revoked = [
        one.subject
        for one in await audit_records(held.services.store)
        if one.action == "delegation.revoked"
    ]
    assert sorted(ids(read, opening)) == sorted(revoked)


async def test_V5_if_one_may_not_be_revoked_none_is(held: HeldStage) -> None:
    """A revocation of several delegations is refused if one of them may not be revoked (W20,
    W22)."""
    owner, other = await held.owner(), await held.owner()
    mine = await delegates(held, owner, 2)
    (foreign,) = await delegates(held, other, 1)
    unknown = owner.grant(new_key().did, {f"{owner.space()}/kv/a": [GET]})
    absent, forbidden = (403, "Cannot find parent delegation"), (403, "Unauthorized Revoker")
    commits = commits_of(held)
    for targets, expected in (
        ((mine[0].proofs[0], mine[1].proofs[0], unknown), absent),
        ((mine[0].proofs[0], foreign.proofs[0], unknown), forbidden),
        ((unknown, foreign.proofs[0], mine[0].proofs[0]), absent),
    ):
        assert expected == (await held.post("/revoke", revocation(owner, *targets))).said
    assert not commits
    assert [200, 200, 200] == [
        await reads(held, who, one)
        for who, one in ((owner, mine[0]), (owner, mine[1]), (other, foreign))
    ]


async def test_V5_spellings_of_one_delegation(held: HeldStage) -> None:
    """Two CIDs of one delegation are two targets with one revocation mark."""
    owner = await held.owner()
    (delegate,) = await delegates(held, owner, 1)
    grant = delegate.proofs[0]
    spelling = await held.register(
        spellings_of(grant, "0x" + owner.wallet.did.rpartition("0x")[2])["v of 0 or 1"]
    )
    assert token_id(spelling) != token_id(grant)
    commits = commits_of(held)
    reply = await held.post("/revoke", revocation(owner, spelling, grant))
    assert reply.status == 200
    assert reply.value["cids"] == ids(spelling, grant)
    assert len(commits[0].puts) == 2  # the mark and the audit record
    assert await reads(held, owner, delegate) == 401


async def test_V5_W25_what_was_revoked_before_is_confirmed(held: HeldStage) -> None:
    """Revoking a revoked delegation again is confirmed by the existing mark (ST16)."""
    owner = await held.owner()
    first, second = await delegates(held, owner, 2)
    assert (await held.post("/revoke", revocation(owner, first.proofs[0]))).status == 200
    commits = commits_of(held)
    reply = await held.post("/revoke", revocation(owner, first.proofs[0], second.proofs[0]))
    assert reply.status == 200
    (commit,) = commits
    stored = await held.services.delegations.by_cid(
        [parse_digest(token_id(one.proofs[0])) for one in (first, second)]
    )
    keys = marker_keys([one.delegation.content_key for one in stored if one is not None])
    assert keys[0] in [check.key for check in commit.checks]
    assert keys[1] == commit.puts[0].key
    assert [401, 401] == [await reads(held, owner, one) for one in (first, second)]


async def test_V5_a_session_ends_itself_with_others(held: HeldStage) -> None:
    """A sign-in may revoke itself among others; its tokens are refused afterwards."""
    owner = await held.owner()
    (delegate,) = await delegates(held, owner, 1)
    (sign_in,) = owner.session.proofs
    token = revocation(owner, delegate.proofs[0], sign_in)
    assert (await held.post("/revoke", token)).status == 200
    assert await reads(held, owner, delegate) == 401
    assert (403, "Unauthorized Revoker") == (await held.post("/revoke", token)).said


async def test_V5_the_most_targets_fit_one_commit(held: HeldStage) -> None:
    """A token can revoke 32 delegations in one commit; 33 are refused."""
    owner = await held.owner()
    made = await delegates(held, owner, 33)
    targets = [one.proofs[0] for one in made]
    assert (401, "Token of another kind") == (
        await held.post("/revoke", revocation(owner, *targets))
    ).said
    commits = commits_of(held)
    reply = await held.post("/revoke", revocation(owner, *targets[:32]))
    assert reply.status == 200
    assert reply.value["cids"] == ids(*targets[:32])
    assert len(commits) == 1
    assert [401] * 32 + [200] == [await reads(held, owner, one) for one in made]


async def test_W27_one_target_is_answered_as_ever(held: HeldStage) -> None:
    """The answer to a revocation of one delegation has the same bytes as in earlier versions."""
    owner = await held.owner()
    (delegate,) = await delegates(held, owner, 1)
    reply: Reply = await held.post("/revoke", revocation(owner, delegate.proofs[0]))
    assert f'{{"revoked":true,"cid":"{token_id(delegate.proofs[0])}"}}' == reply.text
    assert json.loads(reply.text) == reply.value


async def test_ST16_a_repeat_leaves_no_row(held: HeldStage) -> None:
    """Repeated revocations and sign-ins leave the store unchanged."""
    owner = await held.owner()
    (delegate,) = await delegates(held, owner, 1)
    token, (sign_in,) = revocation(owner, delegate.proofs[0]), owner.session.proofs
    for path, text in (("/revoke", token), ("/delegate", sign_in)):
        assert (await held.post(path, text)).status == 200
        before = await _rows(held)
        commits = commits_of(held)
        for _ in range(3):
            assert (await held.post(path, text)).status == 200
        assert len(commits) == 3
        assert before == await _rows(held)


async def _rows(held: HeldStage) -> dict[bytes, bytes]:
    """Return every row of the store with its stamp."""
    ranges = [Range(bytes([first]), limit=4096) for first in range(0x41, 0x7B)]
    pages = [(await held.services.store.read(ranges=(one,))).pages[0] for one in ranges]
    assert not any(page.more for page in pages)
    return {key: record.stamp for page in pages for key, record in page.rows}
