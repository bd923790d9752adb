"""The grants that a backend keeps."""

import pytest

from capabilities.principals import Principal
from sealspace.delegations import allow
from sealspace.errors import GrantsFull
from sealspace.session import Grant
from tee_backend.backend.held_grants import HeldGrants, owners_of

NOW = 1_795_000_000.0


def grant(
    name: str,
    owner: str = "o",
    *,
    expires_at: float | None = None,
    path: str = "x",
    signer: str | None = None,
) -> Grant:
    """A grant on one owner's network and space."""
    did = f"did:example:{owner}"
    resources = (
        f"urn:tinycloud:encryption:{did}:default",
        f"tinycloud:example:{owner}:secrets/kv/{path}",
    )
    capabilities = tuple(allow(resource, "tinycloud.kv/get") for resource in resources)
    signed_by = Principal(signer or did)
    return Grant("header", name, signed_by, Principal("did:key:x"), capabilities, expires_at)


def names(grants: tuple[Grant, ...]) -> list[str]:
    return [one.cid for one in grants]


def taken(held: HeldGrants, *new: Grant, now: float = NOW) -> tuple[Grant, ...]:
    """Return the grants that are kept after the given grants arrived one after the other."""
    grants: tuple[Grant, ...] = ()
    for one in new:
        grants = held.with_new(one, grants, now=now)
        held.replace(grants)
    return grants


def test_whose_a_grant_is() -> None:
    """A grant belongs to the owners of its networks and spaces, not to its signer."""
    assert {"did:example:o"} == owners_of(grant("a"))


def test_ended_grants_go() -> None:
    """A new grant makes the backend drop expired grants."""
    grants = taken(
        HeldGrants(), grant("old", expires_at=NOW), grant("live", expires_at=NOW + 1), now=NOW - 1
    )
    assert ["new", "live"] == names(HeldGrants().with_new(grant("new"), grants, now=NOW))


def test_the_new_one_comes_first() -> None:
    """The newest grant is cited first, and no grant is kept twice (AT54)."""
    assert ["a", "c", "b"] == names(taken(HeldGrants(), *map(grant, "abca")))


def test_an_owner_has_so_many() -> None:
    """Above an owner's limit, that owner's oldest unread grant is dropped."""
    held = HeldGrants(most_of_an_owner=2)
    assert ["d", "c", "x"] == names(taken(held, grant("x", "other"), *map(grant, "abcd")))


def test_what_was_read_stays() -> None:
    """A grant that was used for a read is never dropped for a new grant."""
    held = HeldGrants(most_of_an_owner=3)
    grants = taken(held, *map(grant, "abc"))
    held.mark_read(["a", "c"])
    grants = held.with_new(grant("d"), grants, now=NOW)
    assert ["d", "c", "a"] == names(grants)
    held.mark_read(["d"])
    with pytest.raises(GrantsFull) as full:
        held.with_new(grant("e"), grants, now=NOW)
    assert full.value.code == "grants-full"
    assert full.value.hint
    assert ["d", "c", "a"] == names(held.with_new(grant("d"), grants, now=NOW))


def test_all_together_have_so_many() -> None:
    """Above the total limit, a new grant displaces an unread grant, never a used one."""
    held = HeldGrants(most=3)
    grants = taken(held, grant("honest", "owner"), grant("s1", "one"))
    held.mark_read(["honest"])
    for number in range(2, 9):
        grants = held.with_new(grant(f"s{number}", f"n{number}"), grants, now=NOW)
        assert len(grants) <= 3
    assert ["s8", "s7", "honest"] == names(grants)


def test_what_is_gone_is_not_remembered_as_read() -> None:
    """A grant that was dropped and delivered again counts as unread."""
    held = HeldGrants(most=2)
    ended = held.with_new(grant("a", expires_at=NOW + 1), (), now=NOW)
    held.mark_read(["a"])
    grants = held.with_new(grant("b"), ended, now=NOW + 1)
    held.replace(grants)
    grants = held.with_new(grant("a"), grants, now=NOW + 1)
    assert ["c", "a"] == names(held.with_new(grant("c"), grants, now=NOW + 1))
    assert ["d", "c"] == names(
        held.with_new(grant("d"), taken(held, *map(grant, "ac")), now=NOW + 1)
    )


def test_revoked_grants_give_way_first() -> None:
    """A revoked grant is dropped before an unread one, even if it was read with."""
    held = HeldGrants(most=3)
    grants = taken(held, *map(grant, "abc"))
    held.mark_read("abc")
    held.mark_revoked("b")
    assert ["live", "revoked", "live"] == [held.with_state(one, now=NOW).state for one in grants]
    assert ["d", "c", "a"] == names(held.with_new(grant("d"), grants, now=NOW))


def test_a_revoked_grant_that_nothing_replaced_stays() -> None:
    """AT54, TK4: the owner's own revoked grant is dropped only after its expiry or for a newer
    grant of the same resources."""
    held = HeldGrants(most_of_an_owner=2, most=2)
    grants = taken(held, grant("a", path="a", expires_at=NOW + 1), grant("b", path="b"))
    held.mark_read("ab")
    held.mark_revoked("a")
    for new in (grant("c", path="c"), grant("c", "other")):
        with pytest.raises(GrantsFull):
            held.with_new(new, grants, now=NOW)
    assert ["c", "b"] == names(held.with_new(grant("c", path="a"), grants, now=NOW))
    assert ["c", "b"] == names(held.with_new(grant("c", path="c"), grants, now=NOW + 1))


def test_a_delegate_s_grant_replaces_none_of_the_owner() -> None:
    """AT54, TK4: a delegate's grant does not replace a revoked grant of the owner."""
    held = HeldGrants(most_of_an_owner=3)
    delegated = [grant(name, path="a", signer="did:key:d") for name in "bc"]
    grants = taken(held, grant("a", path="a"), *delegated)
    held.mark_revoked("ab")
    grants = held.with_new(grant("d", path="a", signer="did:key:d"), grants, now=NOW)
    assert ["d", "c", "a"] == names(grants)
    assert ["e", "d", "a"] == names(held.with_new(grant("e", path="e"), grants, now=NOW))


def test_an_owner_s_unused_grants_are_not_displaced_by_its_others() -> None:
    """AT54: above an owner's limit, a grant of other resources is refused."""
    held = HeldGrants(most_of_an_owner=2)
    grants = taken(held, grant("a", path="a"), grant("b", path="b"))
    with pytest.raises(GrantsFull):
        held.with_new(grant("c", path="c"), grants, now=NOW)
    assert ["c", "a"] == names(held.with_new(grant("c", path="b"), grants, now=NOW))


def test_how_an_ended_grant_stands() -> None:
    """An expired grant is reported as ended, whether or not it was revoked."""
    held = HeldGrants(revoked=["a"])
    assert "ended" == held.with_state(grant("a", expires_at=NOW), now=NOW).state
