"""Tests of moving a team to another wallet, with clients and a real node (TM16 to TM22)."""

import json
from typing import Any

import pytest
from fuzz_strategies import damaged_text
from hypothesis import given
from moving_teams import Admin, MovableTeam, movable_team, moved_team
from relay import Answer, relay_before
from tests_support import REPOSITORY, fuzzed

from capabilities.clock_and_entropy import time_text
from capabilities.signatures import WalletSigner
from capabilities.strict_json import JsonObject
from capabilities.successions import SENIORITY_S
from encryption_network.canonical_json import canonical_bytes
from sealspace.cli.teams.team_moves import step_for_missing_seniority
from sealspace.client import Client
from sealspace.documents.places import place_json, place_of
from sealspace.documents.secret_payloads import MAX_SECRET_BYTES
from sealspace.documents.successions import (
    move_line,
    move_words,
    parse_move_line,
    verify_move,
    verify_statement,
)
from sealspace.encryption import envelope_bytes
from sealspace.errors import (
    DelegationRevoked,
    InvalidInput,
    NodeRefused,
    OwnerMoved,
    SuccessionInvalid,
    Unauthorized,
)
from sealspace.giving.teams.team_moves import MOVED_FROM
from sealspace.kv import Kv
from sealspace.secrets import VAULT_METADATA, parse_secret_label, secret_label
from sealspace.session import network_of_owner
from sealspace.wallets import AnyWallet, new_wallet
from sealspace.wire.transport import Request, Transport, path_segment


@pytest.fixture
async def team(bench: Any) -> MovableTeam:
    """A team with two old admins and two secrets."""
    return await movable_team(bench)


async def taken_along(team: MovableTeam, admin: Admin) -> Any:
    """Take the values along, and return the result."""
    move = await admin.client.team_moves.succession(team.team)
    assert move is not None
    return await admin.client.team_moves.take_along(move, team.seed)


async def reads(team: MovableTeam, admin: Admin, name: str) -> str | bytes:
    """Return what an admin reads from the new wallet's space."""
    successor = WalletSigner(team.seed).did
    membership = await admin.client.teams.membership(successor)
    acting = admin.client.acting(await admin.client.teams.sign_in(admin.wallet, membership))
    return await acting.secrets().get(name)


async def test_TM20_a_move(team: MovableTeam) -> None:
    """The values, their versions and the members come along; the former wallet is refused."""
    first, second = team.admins
    await first.acting.secrets().put("API_KEY", "second")
    await first.acting.secrets().put("URL", "in a scope", scope="ci")
    created = (await first.acting.secrets().read("API_KEY")).created_at
    assert await first.acting.team_moves.unreadable() == ()
    await team.countersign(await team.name())
    for admin in team.admins:
        with pytest.raises(OwnerMoved) as refused:
            await admin.acting.secrets().get("API_KEY")
        assert refused.value.successor == WalletSigner(team.seed).did
    done = await taken_along(team, first)
    assert (set(done.moved), done.failed) == ({"API_KEY", "BLOB", "ci/URL"}, ())
    for admin in (first, second):
        assert await reads(team, admin, "API_KEY") == "second"
        assert await reads(team, admin, "BLOB") == b"\0\1"
    again = await taken_along(team, second)
    assert (set(again.kept), again.moved) == ({"API_KEY", "BLOB", "ci/URL"}, ())
    successor = WalletSigner(team.seed).did
    membership = await first.client.teams.membership(successor)
    acting = first.client.acting(await first.client.teams.sign_in(first.wallet, membership))
    assert (await acting.secrets().read("API_KEY")).created_at == created
    versions = await acting.secrets().versions("API_KEY")
    assert len(versions) == 2
    assert await acting.secrets().get("API_KEY", version=1) == "open sesame"


async def test_TM20_what_a_member_stored_stays(team: MovableTeam) -> None:
    """A value that a member stored for the new wallet is not overwritten (TM20)."""
    first = team.admins[0]
    await team.countersign(await team.name())
    successor = WalletSigner(team.seed).did
    membership = await first.client.teams.membership(successor)
    acting = first.client.acting(await first.client.teams.sign_in(first.wallet, membership))
    await acting.secrets().put("API_KEY", "newer")
    done = await taken_along(team, first)
    assert (done.moved, done.kept) == (("BLOB",), ("API_KEY",))
    assert await reads(team, first, "API_KEY") == "newer"


async def test_TM20_interrupted_after_each_write(
    team: MovableTeam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that ends after any write is repeated, and nothing is lost or twice there (TM20)."""
    first = team.admins[0]
    for value in ("second", "third"):
        await first.acting.secrets().put("API_KEY", value)
    await team.countersign(await team.name())
    put = Kv.put
    writes = 0

    async def put_once(self: Kv, *arguments: Any, **more: Any) -> str:
        nonlocal writes
        if writes == 1:
            raise Interrupted("interrupted")
        writes += 1
        return await put(self, *arguments, **more)

    monkeypatch.setattr(Kv, "put", put_once)
    for _ in range(3):
        writes = 0
        with pytest.raises(Interrupted):
            await taken_along(team, first)
    monkeypatch.undo()
    done = await taken_along(team, first)
    assert done.failed == ()
    successor = WalletSigner(team.seed).did
    membership = await first.client.teams.membership(successor)
    acting = first.client.acting(await first.client.teams.sign_in(first.wallet, membership))
    assert [one.version for one in await acting.secrets().versions("API_KEY")] == [3, 2, 1]
    for number, value in ((1, "open sesame"), (2, "second"), (None, "third")):
        assert await acting.secrets().get("API_KEY", version=number) == value
    assert await acting.secrets().get("BLOB") == b"\0\1"


class Interrupted(Exception):
    """The program was ended."""


async def store_longest(acting: Client, name: str) -> None:
    """Store a sealed secret whose plaintext has the greatest length, without times."""
    space = acting.session.own_space("secrets")
    place = place_json(place_of(space, f"vault/secrets/{name}"))
    stated: JsonObject = {"value": "", "createdAt": "", "updatedAt": "", "place": place}
    stated["value"] = "x" * (MAX_SECRET_BYTES - len(canonical_bytes(stated)))
    envelope = await acting.encryption.encrypt(
        canonical_bytes(stated),
        network=network_of_owner(space.owner),
        label=secret_label(space, parse_secret_label(name)),
        metadata=VAULT_METADATA,
    )
    path = f"vault/secrets/{name}"
    await acting.kv(space.text).put(path, envelope_bytes(envelope).decode())


async def test_TM20_values_that_cannot_be_stored(team: MovableTeam) -> None:
    """A writer's values that cannot be read or sealed again do not keep the others back (TM20)."""
    first = team.admins[0]
    await store_longest(first.acting, "AA_LONG")
    await store_longest(first.acting, "AB_FORMER")
    await first.acting.secrets().put("AB_FORMER", "good")
    space = first.acting.session.own_space("secrets").text
    await first.acting.kv(space).put("vault/secrets/AC_HUGE", b"x" * 3_000_000)
    found = dict(await first.acting.team_moves.unreadable())
    assert set(found) == {"AA_LONG", "AC_HUGE"}
    await team.countersign(await team.name())
    done = await taken_along(team, first)
    assert done.moved == ("AB_FORMER", "API_KEY", "BLOB")
    assert dict(done.failed) == found
    assert await reads(team, first, "AB_FORMER") == "good"


@pytest.mark.parametrize("number", ["9" * 5_000, "-1", "two"])
async def test_TM20_a_member_s_metadata(team: MovableTeam, number: str) -> None:
    """Metadata that names no version counts as a value that a member stored (TM20)."""
    first = team.admins[0]
    await team.countersign(await team.name())
    successor = WalletSigner(team.seed).did
    membership = await first.client.teams.membership(successor)
    acting = first.client.acting(await first.client.teams.sign_in(first.wallet, membership))
    space = acting.session.own_space("secrets").text
    await acting.kv(space).put("vault/secrets/API_KEY", "x", metadata={MOVED_FROM: number})
    done = await taken_along(team, first)
    assert (done.moved, done.kept) == (("BLOB",), ("API_KEY",))


@pytest.mark.parametrize("index", [0, 1])
async def test_TM20_an_admin_who_leaves_after_the_move(team: MovableTeam, index: int) -> None:
    """If one of the admins ends the own membership, the other statement serves (TM20)."""
    leaving, staying = team.admins[index], team.admins[1 - index]
    own = {one.did: one.grant.cid for one in await team.members()}
    await team.countersign(await team.name())
    await leaving.client.delegations.revoke_by_wallet(own[leaving.did], leaving.wallet)
    assert set((await taken_along(team, staying)).moved) == {"API_KEY", "BLOB"}
    await staying.client.delegations.revoke_by_wallet(own[staying.did], staying.wallet)
    with pytest.raises(DelegationRevoked):
        await taken_along(team, staying)


@pytest.mark.parametrize("index", [0, 1])
async def test_TM21_an_admin_who_was_admitted_again(team: MovableTeam, index: int) -> None:
    """Another admin who admits a signer once more does not prevent the move (TM17, TM21)."""
    again, other = team.admins[index], team.admins[1 - index]
    await other.acting.teams.admit(again.did, "admin", wallet=other.wallet)
    await team.countersign(await team.name())
    move = await again.client.team_moves.succession(team.team)
    assert move is not None
    assert move.signers == (team.admins[0].did, team.admins[1].did)


async def test_TM21_an_admin_whom_both_admitted(team: MovableTeam) -> None:
    """Who has a membership by either admin signs under the one that is independent (TM17, TM21)."""
    bench, first = team.bench, team.admins[0]
    third, wallet = await bench.owner()
    for admin in team.admins:  # the one by the first admin is the older one
        await admin.acting.teams.admit(third.session.owner, "admin", wallet=admin.wallet)
        bench.clock.advance(10)
    bench.clock.advance(SENIORITY_S)
    people = ((first.client, first.wallet), (third, wallet))
    team.admins = [await signed_in_again(team, *person) for person in people]
    await team.countersign(await team.name())
    move = await third.team_moves.succession(team.team)
    assert move is not None
    assert move.signers == (first.did, third.session.owner)


async def signed_in_again(team: MovableTeam, client: Client, wallet: AnyWallet) -> Admin:
    """Sign an admin in whose sessions have ended."""
    await client.sign_in(wallet)
    membership = await client.teams.membership(team.team)
    return Admin(client, wallet, client.acting(await client.teams.sign_in(wallet, membership)))


async def test_TM20_the_prepared_team_again(team: MovableTeam) -> None:
    """Memberships are signed once for each member, with the same terms (TM20)."""
    first = team.admins[0]
    reader, wallet = await team.bench.owner()
    await first.acting.teams.admit(
        reader.session.owner, "reader", secrets=["API_KEY"], wallet=first.wallet, name="rita"
    )
    members = await team.members()
    prepared = await first.client.team_moves.prepare(team.seed, members)
    assert len(prepared.memberships) == 3
    again = await first.client.team_moves.prepare(team.seed, members)
    assert (again.team, again.memberships) == (prepared.team, ())
    there = await reader.teams.membership(prepared.team)
    former = await reader.teams.membership(team.team)
    assert (there.role, there.secrets, there.name) == ("reader", ("API_KEY",), "rita")
    assert there.ends_at == former.ends_at
    await team.countersign(await team.name())
    await taken_along(team, first)
    acting = reader.acting(await reader.teams.sign_in(wallet, there))
    assert await acting.secrets().get("API_KEY") == "open sesame"


async def test_TM20_another_seed(team: MovableTeam) -> None:
    """Values are stored for the wallet that the admins signed, and for no other."""
    await team.countersign(await team.name())
    move = await team.admins[0].client.team_moves.succession(team.team)
    assert move is not None
    with pytest.raises(InvalidInput, match="has moved to"):
        await team.admins[0].client.team_moves.take_along(move, bytes(range(1, 33)))


async def test_TM16_an_admin_whose_membership_ends(team: MovableTeam) -> None:
    """An admin whose membership ends within a day does not sign (TM20)."""
    first = team.admins[0]
    ends_at = (await first.client.teams.membership(team.team)).ends_at
    team.bench.clock.advance(ends_at - team.bench.clock.now() - 80_000)
    session = await first.client.sign_in(first.wallet)
    assert session is not None
    membership = await first.client.teams.membership(team.team)
    acting = first.client.acting(await first.client.teams.sign_in(first.wallet, membership))
    with pytest.raises(InvalidInput, match="within a day"):
        await acting.team_moves.name(new_wallet().did, wallet=first.wallet)


async def test_TM17_the_same_admin(team: MovableTeam) -> None:
    """The admin who signed first is told that another one has to sign."""
    line = await team.name()
    first = team.admins[0]
    statement = await first.acting.team_moves.examine(line)
    with pytest.raises(InvalidInput, match="two different admins"):
        await first.acting.team_moves.countersign(statement, wallet=first.wallet)


async def test_TM17_a_second_move(team: MovableTeam) -> None:
    """A team moves once; the refusal names the wallet to which it moved."""
    await team.countersign(await team.name())
    first = team.admins[0]
    with pytest.raises(Unauthorized) as refused:
        await first.acting.team_moves.name(new_wallet().did, wallet=first.wallet)
    assert isinstance(refused.value, OwnerMoved)


# --- the line and the proof -----------------------------------------------------------------------


async def test_TM21_lines_that_are_refused(team: MovableTeam, bench: Any) -> None:
    """The second admin's client refuses lines for others, and statements by others (TM21)."""
    line = await team.name()
    second = team.admins[1]
    parsed = parse_move_line(line)
    membership = (await team.members())[0].grant.header
    other = await moved_team(bench)

    def changed(**members: str) -> str:
        given = {"node": parsed.node, "node_did": parsed.node_did, "statement": parsed.statement}
        return move_line(**given | members)

    wrong = {
        "cut": line[:-40],
        "of another kind": line.replace("smove_", "sinv_"),
        "at another node": changed(node_did="did:key:z6MkOther"),
        "for another team": changed(statement=other.statement),
        "with a membership": changed(statement=membership),
        "with an altered statement": changed(statement=parsed.statement[:-8] + "AAAAAAAA"),
    }
    for what, text in wrong.items():
        with pytest.raises(SuccessionInvalid):
            await second.acting.team_moves.examine(text)
            pytest.fail(what)


async def test_TM21_words(team: MovableTeam) -> None:
    """The words depend on both wallets and on the statement (TM21)."""
    line = await team.name()
    statement = verify_statement(parse_move_line(line).statement, now=team.bench.clock.now())
    words = move_words(statement.owner, statement.successor, statement.cid)
    assert len(words) == 8
    assert words != move_words(statement.successor, statement.owner, statement.cid)
    assert words != move_words(statement.owner, statement.successor, statement.cid[:-1])


async def test_TM22_the_proof(team: MovableTeam) -> None:
    """Everybody verifies the move; a node that leaves something out or adds it is refused."""
    first, second = team.admins
    assert await first.client.team_moves.succession(team.team) is None
    await team.countersign(await team.name())
    stranger, _ = await team.bench.owner()
    move = await stranger.team_moves.succession(team.team)
    assert move is not None
    assert (move.owner, move.successor) == (team.team, WalletSigner(team.seed).did)
    assert move.signers == (first.did, second.did)
    tokens = await proof_of(stranger, team.team)
    now = team.bench.clock.now()
    assert verify_move(team.team, tokens[::-1], at=move.at, now=now) == move
    for left_out in range(len(tokens)):
        with pytest.raises(SuccessionInvalid):
            verify_move(team.team, tokens[:left_out] + tokens[left_out + 1 :], at=0, now=now)
    with pytest.raises(SuccessionInvalid, match="another owner"):
        verify_move(stranger.session.owner, tokens, at=0, now=now)


async def proof_of(client: Client, owner: str) -> tuple[str, ...]:
    """Return the tokens with which the node proves a move."""
    path = f"/owners/{path_segment(owner)}/succession"
    async with Transport(client.url) as transport:
        answer = await transport.require(Request("GET", path))
    return tuple(json.loads(answer.body)["tokens"])


async def test_TM22_a_node_that_names_another_wallet(team: MovableTeam) -> None:
    """A client does not believe which wallet the node names (TM22)."""
    await team.countersign(await team.name())
    first = team.admins[0]

    def lie(answer: Answer) -> None:
        if "/succession" in answer.path:
            answer.body = answer.body.replace(
                WalletSigner(team.seed).did.encode(), new_wallet().did.encode()
            )

    async with relay_before(first.client.url) as relay:
        relay.twist = lie
        async with Client(relay.url, clock=team.bench.clock) as client:
            with pytest.raises(SuccessionInvalid, match="another wallet"):
                await client.team_moves.succession(team.team)


async def test_TM17_the_next_step_counts_admins(bench: Any) -> None:
    """If an admin is too new, the next step counts admins and not their memberships: one with two
    memberships is one, and the time is that of the second admin (TM17)."""
    client, wallet = await bench.owner()
    created = await client.teams.create()
    alice = await signed_in_again(MovableTeam(bench, created.team, []), client, wallet)
    bench.clock.advance(3600)
    await alice.acting.teams.admit(alice.did, "admin", wallet=wallet)
    listed = await alice.acting.teams.members()
    assert len(listed.of(alice.did)) == 2
    alone = step_for_missing_seniority(listed, now=bench.clock.now())
    assert alone is not None and alone.startswith("a move needs a second admin")
    bench.clock.advance(3600)
    other, _ = await bench.owner()
    await alice.acting.teams.admit(other.session.owner, "admin", wallet=wallet)
    second_since = bench.clock.now()
    listed = await alice.acting.teams.members()
    young = step_for_missing_seniority(listed, now=second_since + SENIORITY_S - 1)
    ready_at = time_text(second_since + SENIORITY_S)
    assert young is not None and f"again after {ready_at}, when two" in young
    assert step_for_missing_seniority(listed, now=second_since + SENIORITY_S) is None


async def test_TM17_too_young(bench: Any) -> None:
    """The node says that an admin of yesterday names no successor (TM16)."""
    client, wallet = await bench.owner()
    created = await client.teams.create()
    membership = await client.teams.membership(created.team)
    acting = client.acting(await client.teams.sign_in(wallet, membership))
    with pytest.raises(NodeRefused, match="younger than 7 days"):
        await acting.team_moves.name(new_wallet().did, wallet=wallet)


def token_vectors() -> dict[str, str]:
    """Return the tokens of the vectors of successions."""
    vectors = REPOSITORY / "spec" / "vectors" / "capabilities" / "successions.json"
    tokens: dict[str, str] = json.loads(vectors.read_text("utf-8"))["tokens"]
    return tokens


def test_TM22_one_admin_above_both() -> None:
    """A client believes no node that counts one admin with two memberships twice (TM17, TM22)."""
    tokens, now = token_vectors(), 1_795_000_000
    team = verify_statement(tokens["first"], now=now).owner
    two = [tokens[name] for name in ("first", "second", "anne", "ben")]
    assert verify_move(team, two, at=0, now=now).owner == team
    names = ("first", "below-another-membership", "anne", "anne-again", "carl-again")
    with pytest.raises(SuccessionInvalid, match="above both"):
        verify_move(team, [tokens[name] for name in names], at=0, now=now)


def test_TM21_the_words_of_the_vector() -> None:
    """The words of a statement are those of the page."""
    statement = verify_statement(token_vectors()["first"], now=1_795_000_000)
    words = move_words(statement.owner, statement.successor, statement.cid)
    assert " ".join(words) in (REPOSITORY / "spec" / "teams.md").read_text("utf-8")


@fuzzed()
@given(line=damaged_text(move_line(node="http://node", node_did="did:key:z6Mk", statement="token")))
def test_fuzz_lines(line: str) -> None:
    """Any text is a line, or a SuccessionInvalid; no text is a statement."""
    with pytest.raises(SuccessionInvalid):
        verify_statement(parse_move_line(line).statement, now=0)
