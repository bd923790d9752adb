"""Tests of hosting: which spaces a node hosts, within which limits (store §6)."""

import asyncio
from typing import Any

import pytest
from space_grants import FRIEND, NOW, OWNER, STRANGER, WALLET, cacao, space_text, ucan

from capabilities.limits import counted_client
from capabilities.principals import Principal
from capabilities.resources import SpaceId
from capabilities.tokens import Delegation
from spaces.grants.admissions import admission_key, admission_put, is_admitted
from spaces.grants.hosting import (
    HostingPlan,
    HostingPolicy,
    HostingRequest,
    hosting_by_grant,
    hosting_by_put,
    is_hosted,
    owned_spaces_range,
    plan_hosting,
    space_of,
)
from spaces.keyspace import space_keys
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Commit, Committed, Put, Refused, Store, check_of

AUTO = HostingPolicy()
EXPLICIT = HostingPolicy("explicit")
PERMIT = HostingPolicy("permit")
GET = "tinycloud.kv/get"
HOST = "tinycloud.space/host"
OWNER_P, FRIEND_P = Principal(OWNER.did), Principal(FRIEND.did)
CLIENT = "203.0.113.7"


def space(name: str = "default", owner: Principal = OWNER_P) -> SpaceId:
    return SpaceId(owner, name)


def grant(*names: str, host: tuple[str, ...] = (), nonce: str = "n", **kwargs: Any) -> Delegation:
    att = {f"{space(name).text}/kv": [GET] for name in names}
    att |= {f"{space(name).text}/space": [HOST] for name in host}
    return ucan(att, nonce=nonce, **kwargs)


async def plan(store: Store, wanted: HostingRequest) -> HostingPlan:
    return plan_hosting(wanted, (await store.read(wanted.keys())).records, now=NOW)


async def commit(store: Store, planned: HostingPlan) -> Committed | Refused:
    return await store.commit(Commit(puts=planned.puts, adds=planned.adds, checks=planned.checks))


async def host(
    store: Store,
    delegation: Delegation,
    policy: HostingPolicy = AUTO,
    *,
    client: str | None = None,
    is_new: bool = True,
) -> tuple[list[str], list[str]]:
    """Plan and commit; return the names of the activated and of the skipped spaces."""
    wanted = hosting_by_grant(delegation, policy, client=client, now=NOW, is_new=is_new)
    planned = await plan(store, wanted)
    assert isinstance(await commit(store, planned), Committed)
    return [space.name for space in planned.activated], [space.name for space in planned.skipped]


async def test_owners_grant_hosts_its_spaces(one_store: Store) -> None:
    """In `auto` a grant without parents by the space's own DID hosts the space. A repeated grant
    reports it as already hosted (Q6)."""
    delegation = grant("default", "notes")
    assert await host(one_store, delegation) == (["default", "notes"], [])
    assert await host(one_store, delegation, is_new=False) == (["default", "notes"], [])
    records = (
        await one_store.read((space_keys(space()).row, space_keys(space("other")).row))
    ).records
    assert [is_hosted(record) for record in records] == [True, False]
    assert space_of(records[0]).space == space()
    page = (await one_store.read(ranges=(owned_spaces_range(OWNER_P),))).pages[0]
    assert {"default", "notes"} == {space_of(record).space.name for _, record in page.rows}


async def test_wallets_grant_hosts_its_spaces(one_store: Store) -> None:
    """A sign-in hosts the wallet's space, however the address is spelt."""
    text = space_text(WALLET.did)
    assert await host(one_store, cacao({f"{text.lower()}/kv": [GET]})) == (["default"], [])


async def test_grant_over_anothers_space_hosts_nothing(one_store: Store) -> None:
    """A signer other than the space's DID does not host the space, with or without a parent."""
    outsider = grant("default", signer=STRANGER)
    assert await host(one_store, outsider) == ([], ["default"])
    parent = grant("default")
    child = grant("default", signer=FRIEND, delegate=STRANGER.did, parents=[parent])
    assert await host(one_store, child) == ([], ["default"])
    owners_child = grant("default", parents=[parent])
    assert await host(one_store, owners_child) == ([], ["default"])


async def test_repeat_hosts_nothing(one_store: Store) -> None:
    """Only the first registration hosts spaces; a repeated one reports which are hosted."""
    assert await host(one_store, grant("default"), is_new=False) == ([], ["default"])


async def test_own_put_hosts_the_space(one_store: Store) -> None:
    """A put by the space's DID hosts it; a put by a delegate does not."""
    by_friend = await plan(one_store, hosting_by_put(space(), FRIEND_P, AUTO, client=None, now=NOW))
    assert by_friend.activated == ()
    assert by_friend.skipped == (space(),)
    assert by_friend.puts == ()
    by_owner = await plan(one_store, hosting_by_put(space(), OWNER_P, AUTO, client=None, now=NOW))
    assert by_owner.activated == (space(),)
    assert by_owner.new == (space(),)
    assert isinstance(await commit(one_store, by_owner), Committed)
    in_explicit = await plan(
        one_store, hosting_by_put(space("x"), OWNER_P, EXPLICIT, client=None, now=NOW)
    )
    assert (space("x"),) == in_explicit.skipped


async def test_explicit_mode_asks_for_a_host_grant(one_store: Store) -> None:
    """In `explicit` only `space/host` on exactly `<space>/space` hosts, for several spaces (D40,
    D44)."""
    assert await host(one_store, grant("default"), EXPLICIT) == ([], ["default"])
    below = ucan({f"{space().text}/space/x": [HOST], f"{space().text}/kv": [HOST]})
    assert await host(one_store, below, EXPLICIT) == ([], ["default"])
    many = tuple(f"s{at:02d}" for at in range(16))
    activated, skipped = await host(one_store, grant(host=many), EXPLICIT)
    assert activated == list(many)
    assert skipped == []


async def test_host_grant_by_a_delegate(one_store: Store) -> None:
    """A host grant works in every mode, also from a delegate of the owner (D41)."""
    parent = grant(host=("default",))
    child = grant(host=("default",), signer=FRIEND, delegate=STRANGER.did, parents=[parent])
    assert await host(one_store, child) == (["default"], [])


async def test_listed_owners(one_store: Store) -> None:
    """In `permit` the spaces of listed DIDs host themselves, and others are not hosted in any way
    (ST13, Q20)."""
    policy = HostingPolicy("permit", frozenset({OWNER.did}))
    assert await host(one_store, grant("default"), policy) == (["default"], [])
    assert await host(one_store, grant(host=("more",)), policy) == (["more"], [])
    friends = {f"{space(owner=FRIEND_P).text}/kv": [GET]}
    assert await host(one_store, ucan(friends, signer=FRIEND), policy) == ([], ["default"])
    friends[f"{space(owner=FRIEND_P).text}/space"] = [HOST]
    assert await host(one_store, ucan(friends, signer=FRIEND), policy) == ([], ["default"])
    by_friend = await plan(
        one_store, hosting_by_put(space(owner=FRIEND_P), FRIEND_P, policy, client=None, now=NOW)
    )
    assert by_friend.activated == ()
    assert by_friend.puts == ()


async def test_permit_mode(one_store: Store) -> None:
    """In `permit` the spaces of admitted DIDs host themselves, and others are not hosted in any way
    (ST14)."""
    friends = {
        f"{space(owner=FRIEND_P).text}/{part}": [what]
        for part, what in (("kv", GET), ("space", HOST))
    }
    assert isinstance(
        await one_store.commit(Commit(puts=(admission_put(OWNER_P, now=NOW),))), Committed
    )
    assert await host(one_store, grant("default", "a.b"), PERMIT) == (["default"], ["a.b"])
    assert await host(one_store, grant(host=("a.b",)), PERMIT) == (["a.b"], [])
    assert await host(one_store, ucan(friends, signer=FRIEND), PERMIT) == ([], ["default"])
    by_friend = await plan(
        one_store, hosting_by_put(space(owner=FRIEND_P), FRIEND_P, PERMIT, client=None, now=NOW)
    )
    assert by_friend.activated == ()
    assert by_friend.puts == ()


async def test_owners_are_admitted_one_by_one(one_store: Store) -> None:
    """A grant over spaces of two owners hosts those of the admitted one, and its commit depends on
    no other admission."""
    both = HostingRequest(
        (space(), space(owner=FRIEND_P)),
        wanted=(space(), space(owner=FRIEND_P)),
        policy=PERMIT,
    )
    nobody = await plan(one_store, both)
    assert nobody.new == ()
    assert nobody.checks == ()
    assert nobody.adds == ()
    await one_store.commit(Commit(puts=(admission_put(FRIEND_P, now=NOW),)))
    planned = await plan(one_store, both)
    assert planned.new == (space(owner=FRIEND_P),)
    assert planned.skipped == (space(),)
    assert [admission_key(FRIEND_P)] == [check.key for check in planned.checks]


async def test_removal_before_the_commit(one_store: Store) -> None:
    """An owner who is removed after the plan hosts nothing, and nothing is counted (ST14)."""
    await one_store.commit(Commit(puts=(admission_put(OWNER_P, now=NOW),)))
    wanted = hosting_by_grant(grant("default", host=("more",)), PERMIT, client=CLIENT, now=NOW)
    planned = await plan(one_store, wanted)
    row = (await one_store.read((admission_key(OWNER_P),))).records[0]
    assert row is not None and is_admitted(row)
    await one_store.commit(Commit(puts=(Put(admission_key(OWNER_P), None, expect=row.stamp),)))
    assert isinstance(await commit(one_store, planned), Refused)
    assert (await plan(one_store, wanted)).activated == ()
    assert (await plan(one_store, wanted)).adds == ()
    assert isinstance(
        await one_store.commit(Commit(puts=(admission_put(OWNER_P, now=NOW),))), Committed
    )
    # another admission than the one it was planned on
    assert isinstance(await commit(one_store, planned), Refused)
    with pytest.raises(RecordDamaged):
        check_of(admission_key(OWNER_P), None)


NAMES = {
    "letters": "aZ09_-",
    "64 bytes": "a" * 64,
    "65 bytes": "a" * 65,
    "a dot": "a.b",
    "an escape": "a%20b",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_names_that_host_themselves(one_store: Store, name: str) -> None:
    """A space hosts itself if its name has up to 64 letters, digits, `_` and `-`."""
    is_plain = name in (NAMES["letters"], NAMES["64 bytes"])
    assert (([name], []) if is_plain else ([], [name])) == await host(one_store, grant(name))
    assert ([name], []) == await host(one_store, grant(host=(name,)))


def test_names_that_are_never_hosted() -> None:
    """The names `.`, `..` and names over 255 bytes are never hosted (Q30)."""
    for name, expected in {
        ".": False,
        "..": False,
        "...": True,
        "a" * 255: True,
        "a" * 256: False,
    }.items():
        wanted = hosting_by_grant(grant(host=(name,)), EXPLICIT, client=None, now=NOW)
        planned = plan_hosting(wanted, [None] * len(wanted.keys()), now=NOW)
        assert (((space(name),), ()) if expected else ((), (space(name),))) == (
            planned.activated,
            planned.skipped,
        )


LISTED = HostingPolicy("permit", frozenset({OWNER.did, FRIEND.did}))
EVERY_MODE = pytest.mark.parametrize(
    "mode", [AUTO, EXPLICIT, LISTED, PERMIT], ids=["auto", "explicit", "listed", "permit"]
)


@pytest.fixture
async def admitted(one_store: Store) -> Store:
    """A store with two admitted owners."""
    await one_store.commit(
        Commit(puts=tuple([admission_put(owner, now=NOW) for owner in (OWNER_P, FRIEND_P)]))
    )
    return one_store


@EVERY_MODE
async def test_bound_of_one_grant(admitted: Store, mode: HostingPolicy) -> None:
    """One grant hosts up to 16 new spaces; further ones are skipped, and the grant is registered
    (ST15)."""
    names = tuple(f"s{at:02d}" for at in range(20))
    activated, skipped = await host(admitted, grant(host=names), mode)
    assert activated == list(names[:16])
    assert skipped == list(names[16:])
    assert (list(names), []) == await host(admitted, grant(host=names, nonce="again"), mode)


@EVERY_MODE
async def test_bound_of_one_owner(admitted: Store, mode: HostingPolicy) -> None:
    """An owner has 32 spaces, whether they host themselves or are granted (ST15)."""
    for first in (0, 16):
        await host(admitted, grant(host=tuple([f"s{first + at}" for at in range(16)])), mode)
    assert await host(admitted, grant("more"), mode) == ([], ["more"])
    assert await host(admitted, grant(host=("more",)), mode) == ([], ["more"])
    friends = ucan({f"{space(owner=FRIEND_P).text}/space": [HOST]}, signer=FRIEND)
    assert await host(admitted, friends, mode) == (["default"], [])


@EVERY_MODE
async def test_bound_of_the_store(admitted: Store, mode: HostingPolicy) -> None:
    """The store hosts no more spaces than its total limit (ST15)."""
    policy = mode._replace(total=3)
    activated, skipped = await host(admitted, grant(host=("a", "b", "c", "d")), policy)
    assert activated == ["a", "b", "c"]
    assert skipped == ["d"]


@EVERY_MODE
async def test_bound_of_new_owners(admitted: Store, mode: HostingPolicy) -> None:
    """New owners per client address and hour are limited; known owners and loopback do not
    count."""
    policy = mode._replace(new_owners_per_hour=1)
    friends = ucan({f"{space(owner=FRIEND_P).text}/space": [HOST]}, signer=FRIEND)
    assert await host(admitted, grant(host=("default",)), policy, client=CLIENT) == (
        ["default"],
        [],
    )
    assert await host(admitted, friends, policy, client=CLIENT) == ([], ["default"])
    assert await host(admitted, grant(host=("more",)), policy, client=CLIENT) == (["more"], [])
    assert await host(admitted, friends, policy, client="::1") == (["default"], [])


async def test_next_hour_counts_anew(one_store: Store) -> None:
    """The limit on new owners starts again each hour."""
    policy = AUTO._replace(new_owners_per_hour=1)
    await host(one_store, grant("default"), policy, client=CLIENT)
    friends = ucan({f"{space(owner=FRIEND_P).text}/kv": [GET]}, signer=FRIEND)
    wanted = hosting_by_grant(friends, policy, client=CLIENT, now=NOW + 3600)
    assert (space(owner=FRIEND_P),) == (await plan(one_store, wanted)).activated


CLIENTS = {
    "nothing": (None, None),
    "loopback": ("127.0.0.1", None),
    "more loopback": ("127.8.9.1", None),
    "loopback of version 6": ("::1", None),
    "mapped loopback": ("::ffff:127.0.0.1", None),
    "an address": ("203.0.113.7", "203.0.113.7"),
    "mapped": ("::ffff:203.0.113.7", "203.0.113.7"),
    "one of a network": ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    "another of it": ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
    "no address": ("unix", "unix"),
}


@pytest.mark.parametrize(("address", "expected"), CLIENTS.values(), ids=CLIENTS)
def test_how_clients_are_counted(address: str | None, expected: str | None) -> None:
    """Loopback is not counted, an IPv6 address counts by its /64, any other address by itself."""
    assert expected == counted_client(address)


async def test_racing_grants_stay_within_the_bounds(one_store: Store) -> None:
    """Concurrent plans cannot exceed a limit together, because the commit that would exceed it is
    refused."""
    policy = AUTO._replace(per_owner=3)
    grants = [grant(f"{letter}1", f"{letter}2", nonce=letter) for letter in "ab"]
    wanted = [hosting_by_grant(delegation, policy, client=None, now=NOW) for delegation in grants]
    plans = [await plan(one_store, request) for request in wanted]
    outcomes = await asyncio.gather(*[commit(one_store, planned) for planned in plans])
    assert [Committed, Refused] == [type(outcome) for outcome in outcomes]
    again = await plan(one_store, wanted[1])
    assert [s.name for s in again.activated] == ["b1"]
    assert [s.name for s in again.skipped] == ["b2"]
    assert isinstance(await commit(one_store, again), Committed)


async def test_racing_hosts_of_one_space(one_store: Store) -> None:
    """One of two concurrent grants hosts a space, and the other finds it hosted."""
    wanted = [
        hosting_by_grant(grant("default", nonce=nonce), AUTO, client=None, now=NOW)
        for nonce in ("one", "two")
    ]
    plans = [await plan(one_store, request) for request in wanted]
    outcomes = [await commit(one_store, planned) for planned in plans]
    assert [Committed, Refused] == [type(outcome) for outcome in outcomes]
    assert (await plan(one_store, wanted[1])).activated == (space(),)
    assert (await plan(one_store, wanted[1])).new == ()


async def test_write_may_depend_on_the_space(one_store: Store) -> None:
    """A hosted space returns a condition for commits, and a space that is not hosted returns
    none."""
    await host(one_store, grant("default"))
    record = (await one_store.read((space_keys(space()).row,))).records[0]
    key = space_keys(space()).row
    assert isinstance(await one_store.commit(Commit(checks=(check_of(key, record),))), Committed)
    with pytest.raises(RecordDamaged):
        check_of(key, None)


def test_grant_without_spaces() -> None:
    """A grant that names no space hosts and skips nothing."""
    wanted = hosting_by_grant(cacao({}), AUTO, client=CLIENT, now=NOW)
    assert wanted.keys() == ()
    assert HostingPlan((), (), (), (), (), ()) == plan_hosting(wanted, (), now=NOW)
