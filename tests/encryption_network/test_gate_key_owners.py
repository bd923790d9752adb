"""Tests of step 9 of the gate: the path that owns the content key (RL22)."""

from typing import Any

import pytest
from tests_support import altered

from encryption_network.gate import admit
from encryption_network.policy import Policy


def attested(world: Any, *, paths: tuple[str, ...] = ()) -> Any:
    """Return a request by attested code under the owner's list, and the owner's list of paths."""
    world.demand(altered(world.LIST, paths=paths) if paths else world.LIST)
    grant = world.grant(world.backend, world.backend.did, parents=[world.sign_in(world.backend)])
    return world.request(
        world.backend,
        [grant],
        evidence=world.evidence(world.backend),
        key_paths={path: world.row(path) for path in paths},
    )


def by_machine(world: Any) -> Any:
    """Return a request with a machine token for one path, where the key is stored."""
    return world.request(
        world.backend,
        [world.machine(world.backend, "ONE")],
        key_paths={world.path("ONE"): world.row("ONE")},
    )


def by_code(world: Any) -> Any:
    """Return a request by attested code, whose policy lists that path."""
    return attested(world, paths=(world.path("ONE"),))


@pytest.mark.parametrize("ask", [by_machine, by_code])
def test_RL22_the_owning_path_must_be_listed(world: Any, ask: Any) -> None:
    """A key that is stored at a listed path is refused unless that path owns it (RL22)."""
    request = ask(world)
    assert world.reason_of(request) == ""
    assert world.row("key owner") in admit(request).checks
    for key_owner in (
        None,
        world.key_owner(),
        world.key_owner(world.path("TWO")),
        world.key_owner(world.path("ONE"), is_at_two_paths=True),
    ):
        assert world.reason_of(altered(request, key_owner=key_owner)) == "path"


def test_RL22_each_list_must_have_the_owning_path(world: Any) -> None:
    """The owning path must be in the list of the machine token and in that of each policy."""
    one, two = world.path("ONE"), world.path("TWO")
    world.demand(Policy(paths=(one, two)))
    token = world.machine(world.backend, "ONE")
    stored = {one: world.row("ONE"), two: world.row("TWO")}
    for owning, reason in ((one, ""), (two, "path")):
        request = world.request(
            world.backend, [token], key_paths=stored, key_owner=world.key_owner(owning)
        )
        assert world.reason_of(request) == reason


def test_RL22_without_lists_only_a_second_path_refuses(world: Any) -> None:
    """Code that may open every key is refused a key at two paths, and no other (RL22)."""
    request = attested(world)
    assert world.reason_of(request) == ""
    for key_owner in (world.key_owner(), world.key_owner(world.path("ONE"))):
        permit = admit(altered(request, key_owner=key_owner))
        assert permit.checks[-1] == key_owner.row
    at_two = altered(request, key_owner=world.key_owner(is_at_two_paths=True))
    assert world.reason_of(at_two) == "path"


def test_RL22_mode_off_releases_no_key_at_two_paths(world: Any) -> None:
    """In mode off, too, a key at two paths is released to nobody but the owner in person."""
    world.record = altered(world.record, mode="off")
    grant = world.grant(world.session, world.backend.did, parents=[world.sign_in(world.session)])
    request = world.request(world.backend, [grant])
    assert world.reason_of(request) == ""
    at_two = world.key_owner(is_at_two_paths=True)
    assert world.reason_of(altered(request, key_owner=at_two)) == "path"


def test_RL22_the_owner_in_person_opens_every_key(world: Any) -> None:
    """A session of the owner opens a key at two paths, and the row is not among the checks."""
    at_two = world.key_owner(is_at_two_paths=True)
    request = world.request(world.session, [world.sign_in(world.session)], key_owner=at_two)
    permit = admit(request)
    assert permit.ground == "owner_session"
    assert at_two.row not in permit.checks


def test_RL22_is_the_last_step(world: Any) -> None:
    """A request that fails an earlier step gets the code of that step (RL12)."""
    request = altered(attested(world), key_owner=world.key_owner(is_at_two_paths=True))
    world.withdraw(dids=frozenset({world.backend.did}))
    withdrawn = altered(request, decrypt=altered(request.decrypt, network=world.network))
    assert world.reason_of(withdrawn) == "withdrawn"
    assert world.reason_of(altered(request, evidence=None, evidence_row=None)) == "not_attested"
