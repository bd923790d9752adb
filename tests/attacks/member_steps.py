"""Changes of a team and its secrets at random, by those who may make them and by those who may not.

Example:
    await step(world, random)
    await world.compare()
"""

import random
from collections.abc import Awaitable, Callable

from attacks.member_oracle import Joined, Link, Party
from attacks.member_world import NAMES, MemberWorld
from attacks.team_parties import Person

from capabilities.memberships import Role

ROLES: tuple[Role, ...] = ("admin", "writer", "writer", "reader", "reader")
TTLS_S = (600, 1_900, 7_200)


def mostly_live_session(world: MemberWorld, rng: random.Random) -> Party:
    """Return a session, more often one that is live."""
    now = world.now()
    live = [one for one in world.sessions() if world.ledger.is_live(one.link, now)]
    return rng.choice(live if live and rng.random() < 0.7 else world.sessions())


def mostly_live_member(world: MemberWorld, rng: random.Random) -> Joined:
    """Return a membership, more often one that is live."""
    now = world.now()
    live = [one for one in world.memberships if world.ledger.is_live(one, now)]
    return rng.choice(live if live and rng.random() < 0.7 else world.memberships)


async def admit(world: MemberWorld, rng: random.Random) -> None:
    """Admit somebody, new or known, by the team or by a member of any role."""
    by = None if rng.random() < 0.4 else mostly_live_member(world, rng)
    role = rng.choice(ROLES)
    names: list[str] = []
    if role != "admin" and rng.random() < 0.5:
        names = rng.sample(NAMES, rng.choice((1, 2)))
    person = rng.choice(world.people) if rng.random() < 0.4 else Person()
    if person not in world.people:
        world.people.append(person)
    joined = await world.admit(
        person,
        role,
        *names,
        by=by,
        ttl_s=rng.choice(TTLS_S),
        outlasts=rng.random() < 0.15,
    )
    if joined is not None:
        await world.sign_in(joined, role, ttl_s=rng.choice(TTLS_S))


async def change_role(world: MemberWorld, rng: random.Random) -> None:
    """Replace a membership by one of another role: the new one first, then the old ends."""
    old = mostly_live_member(world, rng)
    role = rng.choice([role for role in ROLES if role != old.role])
    joined = await world.admit(old.person, role, ttl_s=rng.choice(TTLS_S))
    assert joined is not None
    await world.sign_in(joined, role)
    if rng.random() < 0.7:
        await world.remove_by_session(remover(world, rng), old)


async def sign_in(world: MemberWorld, rng: random.Random) -> None:
    """Sign a member or former member in, with a new key or again with the key of a session."""
    joined = mostly_live_member(world, rng)
    rights = joined.role if rng.random() < 0.7 else "reader"
    keys = [one.key for one in world.sessions() if one.membership is joined]
    key = rng.choice(keys) if keys and rng.random() < 0.4 else None
    await world.sign_in(joined, rights, ttl_s=rng.choice(TTLS_S), key=key)


def remover(world: MemberWorld, rng: random.Random) -> Party:
    """Return a session that removes, more often one that may."""
    now = world.now()
    may = [one for one in world.sessions() if world.ledger.may_remove(one, now)]
    return rng.choice(may if may and rng.random() < 0.8 else world.sessions())


async def remove(world: MemberWorld, rng: random.Random) -> None:
    """End a membership, a sign-in, a token or a grant, by anybody."""
    target: Link = mostly_live_member(world, rng)
    if rng.random() < 0.25:
        target = rng.choice(world.links)
    how = rng.random()
    if how < 0.6:
        await world.remove_by_session(remover(world, rng), target)
    elif how < 0.75:
        await world.remove_by_wallet(world.team.wallet, target)
    else:
        await world.remove_by_wallet(rng.choice(world.people).wallet, target)


async def leave(world: MemberWorld, rng: random.Random) -> None:
    """Let a member end the own membership."""
    joined = mostly_live_member(world, rng)
    await world.remove_by_wallet(joined.person.wallet, joined)


async def fight(world: MemberWorld, rng: random.Random) -> None:
    """Let two admins remove each other; a new admin joins if there are no two."""
    now = world.now()
    may = [one for one in world.sessions() if world.ledger.may_remove(one, now)]
    one = rng.choice(may) if may else None
    others = [two for two in may if one is None or two.membership is not one.membership]
    if one is None or not others:
        await world.join("admin")
        return
    await world.remove_each_other(one, rng.choice(others), elsewhere=world.stage)


async def make_token(world: MemberWorld, rng: random.Random) -> None:
    """Let a member make a machine token for one or two secrets."""
    names = rng.sample(NAMES, rng.choice((1, 2)))
    await world.make_token(granting(world, rng), *names, ttl_s=rng.choice(TTLS_S))


def granting(world: MemberWorld, rng: random.Random) -> Joined:
    """Return a membership whose member grants something, more often that of an admin."""
    now = world.now()
    admins = [one for one in world.memberships if world.ledger.is_admin(one, now)]
    return rng.choice(admins if admins and rng.random() < 0.7 else world.memberships)


async def approve(world: MemberWorld, rng: random.Random) -> None:
    """Let a member approve code, for some secret of the membership."""
    session = mostly_live_session(world, rng)
    may_grant = [name for name in NAMES if session.joined.covers(name)]
    await world.approve(
        session,
        fetches=[rng.choice(may_grant)],
        names=rng.choice(((), (), (rng.choice(NAMES),))),
        by_wallet=rng.random() < 0.5,
        ttl_s=rng.choice(TTLS_S),
    )


async def replace(world: MemberWorld, rng: random.Random) -> None:
    """Let somebody store a new value."""
    await world.store(mostly_live_session(world, rng), rng.choice(NAMES), await world.new_value())


async def copy(world: MemberWorld, rng: random.Random) -> None:
    """Let somebody store the envelope of one secret as another."""
    source, target = rng.sample(NAMES, 2)
    session = mostly_live_session(world, rng)
    await world.store(session, target, world.ledger.latest[source])


async def delete(world: MemberWorld, rng: random.Random) -> None:
    """Let somebody delete a secret."""
    if world.ledger.present:
        name = rng.choice(sorted(world.ledger.present))
        await world.delete(mostly_live_session(world, rng), name)


async def wait(world: MemberWorld, rng: random.Random) -> None:
    """Let time pass, so that some delegations end."""
    world.ahead_s += rng.choice((61, 301, 1_303))
    world.log.append("time passes")


STEPS: tuple[Callable[[MemberWorld, random.Random], Awaitable[None]], ...] = (
    admit,
    admit,
    change_role,
    sign_in,
    remove,
    remove,
    leave,
    fight,
    make_token,
    make_token,
    approve,
    approve,
    replace,
    copy,
    delete,
    wait,
)
"""All changes; what counts most is there twice."""


async def step(world: MemberWorld, rng: random.Random) -> None:
    """Make one change."""
    await rng.choice(STEPS)(world, rng)
