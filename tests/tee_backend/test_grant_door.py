"""Tests of how the limits on delivered grants are shared among clients and signers (AT63)."""

from contextlib import ExitStack

import pytest

from capabilities.principals import Principal
from tee_backend.backend.grant_door import (
    CHECKED_BYTES,
    CHECKS_OF_A_CLIENT_PER_MINUTE,
    CHECKS_PER_MINUTE,
    GRANTS_OF_A_CLIENT_PER_MINUTE,
    GRANTS_OF_A_SIGNER_PER_MINUTE,
    GRANTS_PER_MINUTE,
    MOST_BODIES_UNDER_WAY,
    MOST_GRANTS_UNDER_WAY,
    DoorClosed,
    GrantDoor,
)
from tee_backend.backend.grant_shares import MOST_CLIENTS, SharedPlaces, SharedRates

NOW = 1_000.0
KNOWN, NEW = Principal("did:key:known"), Principal("did:key:new")


def rates(most: int = 60, most_of_one: int = 12) -> SharedRates:
    return SharedRates(most=most, most_of_one=most_of_one)


def passed(shared: SharedRates, client: str | None, times: int = 500, *, now: float = NOW) -> int:
    """Return how many of the given number of single amounts were allowed."""
    return sum(shared.take(client, 1, now=now) is None for _ in range(times))


# --- rates ----------------------------------------------------------------------------------------


def test_one_client_has_so_many() -> None:
    """Each client has its own limit, which refills within a minute."""
    shared = rates()
    assert passed(shared, "a") == 12
    assert passed(shared, "b", 1) == 1
    assert passed(shared, "a", now=NOW + 1) == 0
    assert passed(shared, "a", now=NOW + 61) == 12


@pytest.mark.parametrize("flooding", [1, 5, 12, 29, 58])
def test_a_client_that_sends_little_is_let_through(flooding: int) -> None:
    """A client that sends little is allowed while other clients flood the backend."""
    shared = rates()
    for _ in range(100):  # in turns, so that each gets as much as it can
        for number in range(flooding):
            shared.take(f"flood {number}", 1, now=NOW)
    assert shared.take("honest", 1, now=NOW) is None


@pytest.mark.parametrize(("flooding", "most_refused"), [(1, 0), (6, 0), (10, 0), (20, 0), (40, 70)])
@pytest.mark.parametrize("every_s", [0.1, 1.0, 5.0])
def test_clients_that_flood_for_minutes_leave_room(
    flooding: int, most_refused: int, every_s: float
) -> None:
    """A client that takes each unit as soon as it is free does not count as unused."""
    shared, refused, now = rates(), 0, NOW
    for number in range(200):
        until = now + 3
        while now < until:
            now += every_s
            for one in range(flooding):
                shared.take(f"flood {one}", 1, now=now)
        refused += shared.take(f"honest {number}", 1, now=now) is not None
    assert refused <= most_refused


def test_a_share_drains_with_the_total() -> None:
    """A client that stops sending gets the whole total again once it has drained."""
    shared = rates(most_of_one=60)
    assert passed(shared, "a") == 30
    assert passed(shared, "b") == 15
    # A minute's total drains in 45 s; after 15 s, two thirds of each share are left: 20 and 10.
    assert passed(shared, "b", now=NOW + 15) == 10
    assert passed(shared, "b", now=NOW + 15 + 40) == 30
    assert passed(shared, "a", now=NOW + 15 + 40 + 120) == 30


def test_a_client_leaves_as_much_as_it_uses() -> None:
    """A single client gets at most half of the total."""
    shared = rates()
    assert passed(shared, None) == 30
    assert passed(shared, "a") == 12
    assert passed(shared, "b") == 9
    assert passed(shared, None) == 0


def test_an_excess_says_which_limit_and_when() -> None:
    """A refusal names the limit, its client, and the seconds until it ends."""
    shared = rates()
    passed(shared, "a")
    own = shared.take("a", 1, now=NOW)
    assert own is not None
    assert own.most == 12
    assert own.is_own is True
    assert own.wait_s == 5
    assert shared.take("a", 1, now=NOW + own.wait_s) is None
    shared = rates(most_of_one=60)
    passed(shared, "a")
    others = shared.take("a", 1, now=NOW)
    assert others is not None
    assert others.most == 60
    assert others.is_own is False
    assert others.wait_s == 1
    assert shared.take("a", 1, now=NOW + others.wait_s) is None


def test_a_refused_amount_is_not_counted() -> None:
    """A refused amount does not count towards the client's limit."""
    shared = rates()
    assert shared.take("a", 13, now=NOW) is not None
    assert passed(shared, "a") == 12


def test_clients_are_forgotten_at_last() -> None:
    """A full table drops the least recently seen client."""
    shared = rates()
    for number in range(MOST_CLIENTS + 5):
        assert shared.take(f"client {number}", 1, now=NOW + 10 * number) is None
        assert len(shared) <= MOST_CLIENTS


# --- places ---------------------------------------------------------------------------------------


def test_a_client_leaves_places_for_others() -> None:
    """One client gets at most half of the places, and each further client half of the rest."""
    places = SharedPlaces(16)
    with ExitStack() as taken:

        def count(client: str) -> int:
            return sum(taken.enter_context(places.reserve(client)) for _ in range(16))

        assert [count("a"), count("b"), count("c"), count("d")] == [8, 4, 2, 1]
    with places.reserve("e") as has_place:
        assert has_place


# --- the door -------------------------------------------------------------------------------------


def door_of(*signers: Principal) -> GrantDoor:
    return GrantDoor(lambda: signers)


def delivered(door: GrantDoor, client: str | None, signer: Principal, times: int = 100) -> int:
    """Return how many of the given number of grants were allowed."""
    count = 0
    for _ in range(times):
        try:
            door.admit_grants(client, {signer}, 1, now=NOW)
        except DoorClosed:
            continue
        count += 1
    return count


def test_a_known_signer_has_a_share_of_its_own() -> None:
    """A known signer can deliver a grant while new keys use up their whole share."""
    door = door_of(KNOWN)
    for number in range(200):
        delivered(door, f"flood {number}", Principal(f"did:key:{number}"))
    delivered(door, None, NEW)
    assert delivered(door, "flood 1", KNOWN) == GRANTS_OF_A_SIGNER_PER_MINUTE


def test_known_signers_use_nothing_of_new_ones() -> None:
    """Signers of known grants cannot use up the share of new owners."""
    known = [Principal(f"did:key:{number}") for number in range(100)]
    door = door_of(*known)
    for signer in known:
        delivered(door, "flood", signer)
    assert delivered(door, "other", NEW, 1) == 1


def test_new_keys_of_one_address_are_one_client() -> None:
    """A client that signs each grant with a new key gets no larger share."""
    door = door_of()
    let_through = [
        delivered(door, "flood", Principal(f"did:key:{number}"), 1) for number in range(100)
    ]
    assert sum(let_through) == GRANTS_OF_A_CLIENT_PER_MINUTE
    assert delivered(door, "other", NEW, 1) == 1


def test_grants_of_several_signers_count_as_new() -> None:
    """A delivery with grants of several signers is charged to the share of new signers."""
    door = door_of(KNOWN)
    door.admit_grants("flood", {KNOWN, NEW}, GRANTS_OF_A_CLIENT_PER_MINUTE, now=NOW)
    with pytest.raises(DoorClosed):
        door.admit_grants("flood", {NEW}, 1, now=NOW)
    door.admit_grants("flood", {KNOWN}, GRANTS_OF_A_CLIENT_PER_MINUTE, now=NOW)


def test_checks_are_counted_by_size() -> None:
    """A long body counts as several signature checks, before it is parsed."""
    door = door_of()
    long = 11 * CHECKED_BYTES
    for _ in range(CHECKS_OF_A_CLIENT_PER_MINUTE // 12):
        door.admit_body("flood", long, now=NOW)
    with pytest.raises(DoorClosed):
        door.admit_body("flood", 1, now=NOW)
    door.admit_body("other", long, now=NOW)


def test_refusals_have_figures_and_a_next_step() -> None:
    """A refusal is 429 for the client's own limit and 503 for a total limit, and says when to
    retry."""
    door = door_of()
    with pytest.raises(DoorClosed) as own:
        for _ in range(CHECKS_OF_A_CLIENT_PER_MINUTE + 1):
            door.admit_body("flood", 1, now=NOW)
    assert own.value.status == 429
    assert own.value.code == "too-many-grants"
    assert own.value.wait_s == 1
    assert f"at most {CHECKS_OF_A_CLIENT_PER_MINUTE} checks" in own.value.detail
    assert "next: send the grant again in 1 s" in own.value.detail
    with pytest.raises(DoorClosed) as all_of_them:
        for number in range(CHECKS_PER_MINUTE + 1):
            door.admit_body(f"client {number}", 1, now=NOW)
    assert (all_of_them.value.status, all_of_them.value.code) == (503, "grants-busy")
    assert f"at most {CHECKS_PER_MINUTE} checks" in all_of_them.value.detail
    with pytest.raises(DoorClosed) as grants:
        for number in range(GRANTS_PER_MINUTE + 1):
            door.admit_grants(f"client {number}", {NEW}, 1, now=NOW)
    assert (grants.value.status, grants.value.code) == (503, "grants-busy")
    assert f"at most {GRANTS_PER_MINUTE} grants" in grants.value.detail
    with ExitStack() as taken, pytest.raises(DoorClosed) as places:
        for _ in range(MOST_GRANTS_UNDER_WAY):
            taken.enter_context(door.place("flood"))
    assert (places.value.status, places.value.code) == (503, "grants-busy")
    assert f"at most {MOST_GRANTS_UNDER_WAY} deliveries" in places.value.detail


def test_bodies_that_arrive_leave_places_for_others() -> None:
    """One address with slow bodies takes at most half of the places."""
    door = GrantDoor(lambda: ())
    with ExitStack() as slow:
        for _ in range(MOST_BODIES_UNDER_WAY // 2):
            slow.enter_context(door.arriving("flood"))
        with pytest.raises(DoorClosed, match="at most 64 bodies of grants are arriving") as closed:
            slow.enter_context(door.arriving("flood"))
        assert closed.value.status == 503
        with door.arriving("honest"):
            pass
    with door.arriving("flood"):
        pass
