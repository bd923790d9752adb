"""A team moves to another wallet, and nobody uses the former one again (TM16 to TM19)."""

from typing import Any

import pytest
from attacks.held_store import HeldStage
from attacks.moving_team import MONTH_S, MovingTeam, cid_of, moved_text
from attacks.parties import DELETE, GET, PUT, ROUTES, SECRET, Delegate, ids, refused
from attacks.team_parties import Person, membership, rights_on
from attacks.test_races import meanwhile
from running_node import Grants, key_token, send, wallet_token

from capabilities.successions import NOTICE_S, SENIORITY_S
from encryption_network.canonical_json import canonical_bytes
from spaces.store.contract import Commit

pytestmark = pytest.mark.slow


@pytest.fixture
async def team(held: HeldStage) -> MovingTeam:
    """A team with two old admins, and members of each role."""
    return await MovingTeam.begin(held)


# --- the statements -------------------------------------------------------------------------------


async def test_TM16_what_is_no_first_statement(team: MovingTeam) -> None:
    """A statement has the rights of a reader of all secrets, and an old admin signs it (TM16)."""
    admin, world = team.admins[0], team.world
    writer = next(one for one in world.memberships if one.role == "writer")
    young = await team.admitted("admin")
    itself = Person(world.team.wallet)
    wrong = {
        "by the team": team.statement(None),
        "by a writer": team.statement(writer),
        "by a new admin": team.statement(young),
        "for the team itself": team.statement(admin, heir=itself),
        "for one secret": team.statement(admin, changes={"paths": [world.resource(SECRET)]}),
        "with a writer's rights": team.statement(admin, grants=rights_on(world.team, "writer")),
        "with more": team.statement(admin, also={f"{world.team.space()}/kv/notes": [GET]}),
        "for another member": team.statement(admin, changes={"member": Person().did}),
        "countersigned by a reader": team.statement(
            admin, changes={"role": "reader", "countersigns": cid_of(admin.token)}
        ),
    }
    for what, token in wrong.items():
        reply = await team.stage.post("/delegate", token)
        assert reply.status in (400, 401), (what, reply.said)
    await team.compare()


async def test_TM17_what_moves_no_team(team: MovingTeam) -> None:
    """The second statement is by another old admin, who depends on nobody above the first one."""
    first, second = team.admins
    cid = await team.first()
    other = Person()
    below = await team.admitted("admin", by=first)
    young = await team.admitted("admin")
    elsewhere = await team.first(second, heir=other)
    wrong: dict[str, dict[str, Any]] = {
        "by the same admin": {"signer": first},
        "by an admin below": {"signer": below},
        "by a new admin": {"signer": young},
        "for another wallet": {"heir": other},
        "of an unknown statement": {"cid": cid_of(team.statement(first))},
        "of a membership": {"cid": cid_of(first.token)},
        "of no cid": {"cid": "bafy"},
        "of another's statement": {"cid": elsewhere},
    }
    for what, more in wrong.items():
        reply = await team.countersign(**{"cid": cid} | more)
        assert reply.status == 400, (what, reply.said)
        assert "membership" in reply.said[1], what
    await team.compare()
    assert (await team.countersign(cid)).status == 200


async def test_TM17_an_admin_with_two_memberships(team: MovingTeam) -> None:
    """The team's wallet admitted the same person twice: this is still one admin (TM17)."""
    again = await team.world.admit(team.admins[0].person, "admin", ttl_s=MONTH_S)
    assert again is not None
    team.pause(SENIORITY_S + 60)
    reply = await team.countersign(await team.first(), again)
    assert (reply.status, "two different admins" in reply.said[1]) == (400, True)


async def test_TM17_two_admins_whom_a_third_one_admitted(team: MovingTeam) -> None:
    """One admin cannot move the team with two more wallets of the own (TM17)."""
    below = [await team.admitted("admin", by=team.admins[0]) for _ in range(2)]
    team.pause(SENIORITY_S + 60)
    reply = await team.countersign(await team.first(below[0]), below[1])
    assert (reply.status, "above both" in reply.said[1]) == (400, True)


@pytest.mark.parametrize("is_signer", [True, False])
async def test_TM17_an_admin_above_both_with_two_memberships(
    team: MovingTeam, *, is_signer: bool
) -> None:
    """An admin with two memberships moves no team with a wallet below each (TM17)."""
    again = await team.world.admit(team.admins[0].person, "admin", ttl_s=MONTH_S)
    assert again is not None
    first = team.admins[0] if is_signer else await team.admitted("admin", by=team.admins[0])
    second = await team.admitted("admin", by=again)
    team.pause(SENIORITY_S + 60)
    reply = await team.countersign(await team.first(first), second)
    assert (reply.status, "above both" in reply.said[1]) == (400, True)
    reply = await team.countersign(await team.first(second), first)
    assert (reply.status, "above both" in reply.said[1]) == (400, True)
    assert (await team.countersign(await team.first(first))).status == 200


async def test_TM17_a_second_statement_of_a_second_statement(team: MovingTeam) -> None:
    """A statement that countersigns another one is not countersigned itself (TM17)."""
    third = await team.admitted("admin")
    team.pause(SENIORITY_S + 60)
    cid = await team.first()
    token = team.statement(team.admins[1], countersigns=cid)
    assert (await team.stage.post("/delegate", token)).status == 200
    again = await team.countersign(cid_of(token), third)
    assert again.status == 403, again.said


async def test_TM17_the_statements_are_a_minute_apart(team: MovingTeam) -> None:
    """What began before the first statement is over before the second one (TM17, ST26)."""
    token = team.statement(team.admins[0])
    await team.stage.register(token)
    early = await team.countersign(cid_of(token))
    assert (early.status, f"{NOTICE_S} s" in early.said[1]) == (400, True)
    team.pause(NOTICE_S)
    assert (await team.countersign(cid_of(token))).status == 200


@pytest.mark.parametrize("index", [0, 1])
async def test_TM17_a_removed_admin_moves_nothing(team: MovingTeam, index: int) -> None:
    """If either signer was removed before, there is no move (TM17)."""
    cid = await team.first()
    remover = next(one for one in team.world.sessions() if one.membership is team.admins[1 - index])
    assert await team.world.remove_by_session(remover, team.admins[index])
    assert (await team.countersign(cid)).status in (400, 401)
    await team.compare()


@pytest.mark.parametrize("index", [0, 1])
async def test_TM17_an_admin_removed_before_the_commit(team: MovingTeam, index: int) -> None:
    """Both signers are admins in the commit that moves the team (TM17)."""
    cid = await team.first()
    stage = team.stage
    assert isinstance(stage, HeldStage)
    waiting = stage.store.hold(moves_an_owner)

    async def remove() -> None:
        await team.world.remove_by_wallet(team.world.team.wallet, team.admins[index])

    reply = await meanwhile(team.countersign(cid), waiting, remove)
    assert reply.status in (400, 401), reply.said
    await team.compare()


async def test_TM17_of_two_moves_at_once_one_counts(team: MovingTeam) -> None:
    """A second succession of a team is refused, also one that was under way (TM17)."""
    rival = Person()
    cid, other = await team.first(), await team.first(heir=rival)
    stage = team.stage
    assert isinstance(stage, HeldStage)
    waiting = stage.store.hold(moves_an_owner)

    async def overtake() -> None:
        assert (await team.countersign(cid)).status == 200

    reply = await meanwhile(team.countersign(other, heir=rival), waiting, overtake)
    assert reply.said == (403, moved_text(team))


async def test_TM17_the_successor_must_not_have_moved(held: HeldStage) -> None:
    """A team does not move to a wallet that nobody may use any more (TM17)."""
    gone, team = await MovingTeam.found(held), await MovingTeam.found(held)
    gone.pause(SENIORITY_S + 60)
    await gone.move()
    team.world.ahead_s = gone.world.ahead_s
    heir = Person(gone.world.team.wallet)
    reply = await held.post("/delegate", team.statement(team.admins[0], heir=heir))
    assert (reply.status, "has moved" in reply.said[1]) == (400, True)
    assert (await held.post("/delegate", team.statement(team.admins[0]))).status == 200


# --- afterwards -----------------------------------------------------------------------------------


def moves_an_owner(commit: Commit) -> bool:
    """Return whether a commit writes the row of an owner who moves."""
    return any(put.key.startswith(b"Y") for put in commit.puts)


async def test_TM18_nobody_uses_the_former_wallet(team: MovingTeam) -> None:
    """After the move nobody reads, opens, writes or removes anything of the team (TM18)."""
    await team.compare()
    await team.move()
    await team.compare()
    team.pause(3_600)
    await team.compare()


async def test_TM18_nothing_new_is_signed(team: MovingTeam) -> None:
    """Whoever has the team's key, and every admin, signs for nothing (TM18)."""
    world = team.world
    admin = Person(team.admins[0].person.wallet, team.admins[0].token)
    reader = next(one for one in world.memberships if one.role == "reader")
    await team.move()
    ends_at = world.end(600)
    key, friend = Delegate(), Person()
    new = {
        "sign-in": world.team.sign_in(key.did_url, ends_at=ends_at),
        "grant": world.team.grant_decrypt(key.did, ends_at=ends_at),
        "machine token": world.team.machine(key, ends_at=ends_at),
        "membership": membership(
            world.team, friend, "reader", ends_at=ends_at, changes={"end": ends_at}
        ),
        "membership by an admin": membership(
            world.team, friend, "reader", by=admin, ends_at=ends_at, changes={"end": ends_at}
        ),
        "succession": team.statement(team.admins[0], heir=friend),
    }
    for what, token in new.items():
        reply = await team.stage.post("/delegate", token)
        assert reply.said == (403, moved_text(team)), what
    again = await team.stage.post("/delegate", team.admins[0].token)
    assert again.said == (403, moved_text(team))
    removed = await team.stage.post("/revoke", world.wallet_removal(world.team.wallet, reader))
    assert removed.said == (403, moved_text(team))


async def test_TM18_a_signed_url_ends(team: MovingTeam) -> None:
    """A URL that an admin's session made before the move opens nothing after it (TM18)."""
    world = team.world
    cid = await team.first()
    admin = world.sessions()[0]
    token = key_token(
        admin.key.signer,
        admin.key.did,
        {world.resource(SECRET): [GET]},
        proofs=admin.key.proofs,
        ends_at=world.now() + 60,
    )
    space, _, path = world.resource(SECRET).partition("/kv/")
    body = canonical_bytes({"space": space, "path": path})
    made = await send(team.stage.url, "POST", "/signed/kv", token=token, body=body)
    assert made.status == 200, made.said
    url = str(made.value["url"])
    assert (await send(team.stage.url, "GET", url)).status == 200
    assert (await team.countersign(cid)).status == 200
    assert (await send(team.stage.url, "GET", url)).status == 401


async def test_TM18_a_write_that_was_under_way(team: MovingTeam) -> None:
    """A value that was sent before the move and not stored is not stored after it (TM18, ST26)."""
    world = team.world
    writer = next(one for one in world.sessions() if one.joined.role == "writer")
    cid = await team.first()
    value = await world.new_value()
    stage = team.stage
    assert isinstance(stage, HeldStage)
    resource = world.resource(SECRET)
    waiting = stage.store.hold(lambda commit: any(put.key[:1] == b"K" for put in commit.puts))

    async def move() -> None:
        assert (await team.countersign(cid)).status == 200

    reply = await meanwhile(world.invoke(writer.key, {resource: [PUT]}, value.body), waiting, move)
    assert reply.said == (403, moved_text(team))


async def test_TM18_a_write_that_began_before_both(team: MovingTeam) -> None:
    """A write of a body that was sent before the first statement is refused, too (ST26)."""
    world = team.world
    writer = next(one for one in world.sessions() if one.joined.role == "writer")
    value = await world.new_value()
    stage = team.stage
    assert isinstance(stage, HeldStage)
    waiting = stage.store.hold(lambda commit: any(put.key[:1] == b"K" for put in commit.puts))

    asking = world.invoke(writer.key, {world.resource(SECRET): [PUT]}, value.body)
    reply = await meanwhile(asking, waiting, team.move)
    assert reply.status in (401, 403), reply.said
    key = await team.successor(team.statements[0])
    stored = await world.invoke(key, {world.resource(SECRET): [GET]})
    assert stored.body == world.ledger.latest[SECRET].body


async def test_TM18_the_team_s_recipients_and_givers(team: MovingTeam) -> None:
    """What somebody else granted to the team ends for it, and what is others' own goes on."""
    world = team.world
    giver, key = Person().wallet, Delegate()
    own = {f"tinycloud:{giver.did.removeprefix('did:')}:notes/kv/a": [GET]}
    token = wallet_token(giver, world.team.wallet.did, own, ends_at=world.end(86_400))
    await team.stage.register(token)
    held = world.team.grant(key.did, own, parents=[cid_of(token)], ends_at=world.end(600))
    await team.stage.register(held)
    key.proofs = [held]
    assert (await world.invoke(key, own)).status == 404
    await team.move()
    assert (await world.invoke(key, own)).said == (403, moved_text(team))
    onward = world.team.grant(key.did, own, parents=[cid_of(token)], ends_at=world.end(600))
    assert (await team.stage.post("/delegate", onward)).said == (403, moved_text(team))
    another = Delegate()
    direct = wallet_token(giver, another.did, own, ends_at=world.end(600))
    another.proofs = [await team.stage.register(direct)]
    assert (await world.invoke(another, own)).status == 404


# --- the successor --------------------------------------------------------------------------------


async def test_TM19_the_successor_reads(team: MovingTeam) -> None:
    """The new wallet fetches, lists and opens what the team owned, and changes nothing (TM19)."""
    world = team.world
    await team.move()
    value = world.ledger.latest[SECRET]
    for token in team.statements:
        key = await team.successor(token)
        for grants in team.reading(SECRET):
            assert (await world.invoke(key, grants)).status == 200, grants
        for route in ROUTES:
            assert (await world.ask(key, route, value)).status == 200
        for ability in (PUT, DELETE):
            reply = await world.invoke(key, {world.resource(SECRET): [ability]}, b"x")
            assert reply.status in (401, 403)


async def test_TM19_nobody_else_reads_with_the_statements(team: MovingTeam) -> None:
    """The statements give rights to the new wallet alone (TM19)."""
    await team.move()
    world = team.world
    for person in (Person(), team.admins[0].person):
        with pytest.raises(AssertionError):
            await team.successor(team.statements[0], person=person)
    thief = Delegate(proofs=(await team.successor(team.statements[0])).proofs)
    assert (await world.invoke(thief, team.reading(SECRET)[0])).status == 401


async def test_TM19_the_successor_reads_nothing_of_others(team: MovingTeam) -> None:
    """What others granted to the team, and the team passed on, ends for the new wallet (TM19)."""
    world = team.world
    giver, key = Person().wallet, Delegate()
    own = {f"tinycloud:{giver.did.removeprefix('did:')}:notes/kv/a": [GET]}
    given = wallet_token(giver, world.team.wallet.did, own, ends_at=world.end(86_400))
    await team.stage.register(given)
    onward = world.team.grant(team.heir.did, own, parents=[cid_of(given)], ends_at=world.end(6_000))
    await team.stage.register(onward)
    key.proofs = [
        wallet_token(
            team.heir.wallet, key.did_url, own, parents=ids(onward), ends_at=world.end(3_600)
        )
    ]
    await team.stage.register(key.proofs[0])
    assert (await world.invoke(key, own)).status == 404
    await team.move()
    assert (await world.invoke(key, own)).said == (403, moved_text(team))
    again = await team.stage.post("/delegate", key.proofs[0])
    assert again.said == (403, moved_text(team))


async def test_TM19_a_member_who_is_the_successor(team: MovingTeam) -> None:
    """What an admin had who is the new wallet ends; with the statement the admin reads (TM19)."""
    world, admin = team.world, team.admins[0]
    former = next(one for one in world.sessions() if one.membership is admin)
    grants: Grants = {world.resource(SECRET): [GET]}
    assert (await world.invoke(former.key, grants)).status == 200
    team.heir = admin.person
    await team.move()
    assert (await world.invoke(former.key, grants)).said == (403, moved_text(team))
    key = await team.successor(team.statements[1])
    assert (await world.invoke(key, grants)).status == 200


async def test_TM16_a_statement_alone_gives_what_a_reader_has(team: MovingTeam) -> None:
    """Before the move, a first statement gives what a reader's membership gives (TM16)."""
    token = team.statement(team.admins[0])
    await team.stage.register(token)
    key = await team.successor(token)
    world = team.world
    contacts = await world.new_value()
    assert (await world.invoke(key, team.reading(SECRET)[0])).status == 200
    assert (await world.ask(key, "route", contacts)).said == refused("path")


async def test_TM17_a_statement_is_sent_again(team: MovingTeam) -> None:
    """Whoever got no answer sends the statements again (TM17)."""
    await team.move()
    for token in team.statements:
        assert (await team.stage.post("/delegate", token)).status == 200
