"""Tests of rule MT4, machine tokens at the gate."""

from typing import Any

import pytest
from tests_support import altered

from capabilities.sign_ins import session_holders
from encryption_network.gate import admit
from encryption_network.grounds import needs_evidence, path_lists_in_force, policies_in_force
from encryption_network.holders import holder_of
from encryption_network.policy import Policy


def ask(world: Any, *proofs: Any, name: str = "ONE", holder: Any = None, **more: Any) -> Any:
    """Return a request for a key that is stored at the path of a secret."""
    paths = {world.path(name): world.row(name)}
    return world.request(holder or world.backend, proofs, **{"key_paths": paths} | more)


@pytest.mark.parametrize("mode", ["delegates", "off"])
def test_MT4_a_machine_token_opens_its_paths(world: Any, mode: str) -> None:
    """A machine token opens keys at its paths without evidence, and no other key (MT4)."""
    world.record = altered(world.record, mode=mode)
    token = world.machine(world.backend, "ONE", "TWO")
    permit = admit(ask(world, token, name="TWO"))
    assert permit.ground == "machine"
    assert permit.holder.name == "deploy"
    assert permit.mode == mode
    assert permit.live == (token.delegation.content_key,)
    names = ("network", "record", "withdrawals", "TWO", "key owner")
    rows = [world.row(name) for name in names]
    assert list(permit.checks) == rows
    assert permit.evidence is None
    for paths in ({}, {world.path("THREE"): world.row("THREE")}):
        assert world.reason_of(ask(world, token, key_paths=paths)) == "path"


def test_MT4_an_owner_that_is_a_key_issues_one(world: Any) -> None:
    """A did:key that owns the network signs a machine token, and is itself in person (IP1)."""
    world.own_network()
    token = world.machine(world.session, signer=world.backend)
    assert admit(ask(world, token, holder=world.session)).ground == "machine"
    itself = world.machine(world.backend, signer=world.backend)
    assert admit(ask(world, itself, key_paths={})).ground == "owner"


def test_MT4_no_evidence_is_read_or_helps(world: Any) -> None:
    """A refused machine token is also refused with evidence of approved code (MT4)."""
    world.demand(world.LIST)
    token, evidence = world.machine(world.backend), world.evidence(world.backend)
    assert admit(ask(world, token, evidence=evidence)).ground == "machine"
    assert world.reason_of(ask(world, token, evidence=evidence, key_paths={})) == "path"
    for demanded in (altered(world.LIST, in_person=False), Policy(in_person=False)):
        world.demand(demanded)
        assert world.reason_of(ask(world, token, evidence=evidence)) == "policy"
    world.demand(None)
    world.record = altered(world.record, mode="everyone")
    request = ask(world, token, evidence=evidence)
    assert world.reason_of(request) == "mode"
    grant = holder_of(request.owner, request.exchange_key)
    assert not needs_evidence(request.owner, request.release_record, (), grant)


def test_MT4_a_policy_with_paths_narrows_it(world: Any) -> None:
    """The key has to be stored at a path of the token and at one of each policy."""
    token = world.machine(world.backend, "ONE", "TWO")
    world.demand(Policy(paths=(world.path("ONE"),)))
    assert admit(ask(world, token)).ground == "machine"
    request = ask(world, token, name="TWO")
    assert world.reason_of(request) == "path"
    links = request.owner.facts.links.values()
    in_force = policies_in_force(request.decrypt.network.policy, request.release_record, links)
    holder = holder_of(request.owner, request.exchange_key)
    listed = path_lists_in_force(in_force, holder, request.owner.facts)
    assert [path_list.paths for path_list in listed] == [
        (world.path("ONE"),),
        (world.path("ONE"), world.path("TWO")),
    ]


def test_MT4_it_is_the_only_proof(world: Any) -> None:
    """A machine token that is sent beside another proof opens nothing (MT4)."""
    token = world.machine(world.backend)
    for beside in (
        world.sign_in(world.backend),
        world.sign_in(world.backend, read=False),
        world.machine(world.backend, "TWO"),
    ):
        for proofs in ((token, beside), (beside, token)):
            assert world.reason_of(ask(world, *proofs)) == "chain"


def test_MT4_nothing_is_released_below_it(world: Any) -> None:
    """A delegation that cites a machine token opens nothing, wherever it is in the chain."""
    token = world.machine(world.backend)
    other = world.sign_in(world.other, read=False)
    above = altered(other, closure=(*other.closure, *token.closure))
    assert world.reason_of(ask(world, above, holder=world.other)) == "chain"


def test_MT4_the_owner_issued_it_to_the_caller(world: Any) -> None:
    """A machine token of another owner, or to another key, opens nothing."""
    token = world.machine(world.backend)
    request = ask(world, token)
    for changes in ({"delegator": world.session.did}, {"delegate": world.other.did}):
        link = altered(token, delegation=altered(token.delegation, **changes))
        links = {token.delegation.content_key: link}
        assert world.reason_of(world.with_facts(request, links=links)) == "chain"


@pytest.mark.parametrize("changes", [{"name": "-"}, {"end": 1}, {"paths": []}, {"more": 1}])
def test_MT4_the_statement_is_checked_again(world: Any, changes: dict[str, Any]) -> None:
    """An invalid machine token opens nothing, even if it was registered (MT2)."""
    token = world.machine(world.backend, **changes)
    assert world.reason_of(ask(world, token)) == "chain"


def test_MT4_its_life_counts_from_its_registration(world: Any) -> None:
    """A token that ends more than 366 days after its registration opens nothing (MT2)."""
    token = world.machine(world.backend, lifetime_s=366 * 86_400, registered_at=world.now - 1)
    assert world.reason_of(ask(world, token)) == "chain"


def test_MT4_it_ends(world: Any) -> None:
    """A token opens nothing once it is revoked or its end is reached."""
    token = world.machine(world.backend)
    request = ask(world, token)
    revoked = {token.delegation.content_key: None}
    assert world.reason_of(world.with_facts(request, marks=revoked)) == "chain"
    assert world.reason_of(world.with_facts(request, now=world.now + world.DAY_S)) == "chain"


def test_MT4_a_withdrawal_stops_it(world: Any) -> None:
    """A machine token's key in which trust was withdrawn opens nothing (RC20)."""
    token = world.machine(world.backend)
    world.withdraw(dids=frozenset({world.backend.did}))
    assert world.reason_of(ask(world, token)) == "withdrawn"


def test_MT3_it_signs_nobody_in(world: Any) -> None:
    """MT3: a machine token to the DID URL of a session's key does not count as a sign-in."""
    session, token = world.sign_in(world.session), world.machine(world.session)
    request = ask(world, token, holder=world.session, sessions=[session])
    assert session_holders(request.owner.facts) == frozenset()
    assert request.owner.in_person is None
    assert admit(request).ground == "machine"
