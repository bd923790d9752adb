"""Rules MT1 to MT3: which delegations are machine tokens, and what a machine token may grant."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from capability_cases import (
    BOB,
    KV,
    NOW,
    OWNER,
    SESSION,
    SESSION_SPACE,
    SPACE,
    World,
    base58,
    cacao,
    claims,
    machine_statement,
    raw_ucan,
    ucan,
)
from fuzz_strategies import changed_objects, json_values
from hypothesis import given
from hypothesis import strategies as st
from tests_support import altered, coded, fuzzed

from capabilities.abilities import CAPABILITIES_READ, DECRYPT, KV_GET, KV_LIST, KV_PUT
from capabilities.capability_errors import ChainError, InvalidJson, MalformedToken
from capabilities.cids import cid_text, digest_of
from capabilities.facts import (
    ATTESTATION_FACT,
    MACHINE_FACT,
    MACHINE_URN,
    contains_statement,
    statement_resource,
)
from capabilities.machine_tokens import (
    MAX_LIFE_S,
    MAX_MACHINE_PATHS,
    MachineGrant,
    is_machine_token,
    machine_grant,
)
from capabilities.sign_ins import is_sign_in
from capabilities.strict_json import Json, shaped
from capabilities.tokens import (
    Delegation,
    parse_delegation,
    restore_delegation,
    verify_delegation,
)

PATHS = [f"{SESSION_SPACE}/kv/vault/secrets/{name}" for name in ("DB_URL", "ci/API_KEY")]
NETWORK = f"urn:tinycloud:encryption:{SESSION.did}:default"
END = int(NOW) + 3600
STATED = machine_statement(key=BOB.did, paths=PATHS, ends_at=END, name="deploy")
ATT: dict[str, Any] = {**{path: [KV_GET] for path in PATHS}, NETWORK: [DECRYPT]}
UNKNOWN = cid_text(digest_of(b"another delegation"))


def read(token: str) -> Delegation:
    """Parse and verify a delegation."""
    return verify_delegation(parse_delegation(token))


def machine(stated: Any = None, *, att: Any = None, end: float = END, **changes: Any) -> Delegation:
    """Return a machine token of the session's key to Bob's key, with the given changes."""
    fact = {MACHINE_FACT: STATED if stated is None else stated}
    given: dict[str, Any] = {"fct": [fact], "exp": end} | changes
    audience = given.pop("aud", BOB.did)
    signer = given.pop("signer", SESSION)
    return read(ucan(signer, audience, ATT if att is None else att, **given))


def by_wallet(*more: str, stated: Any = None, **changes: Any) -> Delegation:
    """Return a wallet's machine token as a sign-in text."""
    paths = [f"{KV}/vault/secrets/DB_URL"]
    wanted = machine_statement(key=BOB.did, paths=paths, ends_at=1_767_322_245, name="deploy")
    resource = statement_resource(wanted if stated is None else stated, urn=MACHINE_URN)
    att = {paths[0]: [KV_GET], f"urn:tinycloud:encryption:{OWNER.did}:default": [DECRYPT]}
    given: dict[str, Any] = {
        "att": att,
        "uri": BOB.did,
        "expiration_time": "2026-01-02T02:50:45Z",
        "resources": (resource, *more),
    }
    return read(cacao(**(given | changes)))


def granted(
    delegation: Delegation, *, registered_at: float = NOW
) -> tuple[str, tuple[str, ...]] | None:
    """Return the name and the paths of a machine token that was just registered."""
    found = machine_grant(delegation, registered_at=registered_at)
    return None if found is None else (found.name, found.paths)


def test_MT1_a_key_grants_what_the_fact_states() -> None:
    """A fact in a UCAN makes it a machine token with the stated name and paths."""
    assert granted(machine()) == ("deploy", tuple(sorted(PATHS)))


@pytest.mark.parametrize("key", ["did:key:x", "did:key:z", "did:key:z6Mk", "did:web:example.com"])
def test_MT2_a_key_that_nobody_can_sign_with_is_refused(key: str) -> None:
    """A machine token for an audience that is not a valid public key is refused."""
    stated = machine_statement(key=key, paths=PATHS, ends_at=END, name="deploy")
    with pytest.raises(MalformedToken, match="did:key"):
        granted(machine(stated, aud=key))


def test_the_claims_of_a_token_are_bounded() -> None:
    """A token of a job states at most eleven claims."""
    claims: dict[str, Json] = {f"claim{number}": number for number in range(11)}
    assert shaped({**STATED, "claims": claims}, MachineGrant).claims == claims
    with pytest.raises(InvalidJson):
        shaped({**STATED, "claims": {**claims, "another": 1}}, MachineGrant)


def test_MT3_a_path_below_another_one() -> None:
    """Each stated path counts, in whatever order, and nothing else below one of them."""
    folder = f"{SESSION_SPACE}/kv/vault/secrets/ci"
    paths = [folder, f"{folder}/API_KEY"]
    stated = machine_statement(key=BOB.did, paths=paths, ends_at=END, name="deploy")
    att = {**{path: [KV_GET] for path in paths}, NETWORK: [DECRYPT]}
    world = World()
    token = world.register(ucan(SESSION, BOB.did, att, fct=[{MACHINE_FACT: stated}], exp=END))
    for path in paths:
        world.invoke(ucan(BOB, BOB.did, {path: [KV_GET]}, prf=[token], exp=NOW + 60))
    other = {f"{folder}/OTHER": [KV_GET]}
    with pytest.raises(ChainError, check=coded("action-unauthorized")):
        world.invoke(ucan(BOB, BOB.did, other, prf=[token], exp=NOW + 60))


@pytest.mark.parametrize("uri", [BOB.did, BOB.did_url])
def test_MT1_a_wallet_grants_what_the_resource_states(uri: str) -> None:
    """A resource in a sign-in text makes it a machine token, which is never a sign-in (MT3)."""
    token = by_wallet(uri=uri)
    assert granted(token, registered_at=token.issued_at or 0) == (
        "deploy",
        (f"{KV}/vault/secrets/DB_URL",),
    )
    assert not is_sign_in(token, registered_at=token.issued_at or 0)


def test_MT1_the_bounds_are_inclusive() -> None:
    """A token with the most paths, the longest name and the longest life is accepted."""
    paths = [f"{SESSION_SPACE}/kv/{n}" for n in range(MAX_MACHINE_PATHS)]
    att = {**{path: [KV_GET] for path in paths}, NETWORK: [DECRYPT]}
    end = int(NOW) + MAX_LIFE_S
    stated = {**STATED, "paths": paths, "end": end, "name": "a" + "-" * 63}
    assert granted(machine(stated, att=att, end=end)) == ("a" + "-" * 63, tuple(paths))


@pytest.mark.parametrize(
    "facts", [[], [{}], [{"role": "x"}], ["sealspace.machine/v1"], [["sealspace.machine/v1"]]]
)
def test_MT3_other_delegations_are_no_machine_tokens(facts: list[Any]) -> None:
    """A delegation without the machine token's fact is an ordinary delegation."""
    token = machine(fct=facts or None)
    assert granted(token) is None
    assert token.terminal is False
    assert not is_machine_token(token)


FORMS: dict[str, Any] = {
    "no object": [],
    "nothing": None,
    "a member more": {**STATED, "more": 1},
    "no key": {name: value for name, value in STATED.items() if name != "key"},
    "no paths": {**STATED, "paths": []},
    "too many paths": {**STATED, "paths": [f"{SESSION_SPACE}/kv/{n}" for n in range(65)]},
    "a long path": {**STATED, "paths": [f"{SESSION_SPACE}/kv/" + "a" * 4096]},
    "a number for a path": {**STATED, "paths": [1]},
    "an end that is no number": {**STATED, "end": "soon"},
    "an end that is a truth value": {**STATED, "end": True},
    "an empty name": {**STATED, "name": ""},
    "a long name": {**STATED, "name": "a" * 65},
    "a name with a line": {**STATED, "name": "a\n"},
    "a name with a space": {**STATED, "name": "a b"},
    "a name that looks like an option": {**STATED, "name": "-a"},
    "a name of other letters": {**STATED, "name": "dеploy"},
    "another key": {**STATED, "key": SESSION.did},
    "a DID URL": {**STATED, "key": BOB.did_url},
    "another end": {**STATED, "end": END + 1},
    "a path less": {**STATED, "paths": PATHS[:1]},
    "a path more": {**STATED, "paths": [*PATHS, f"{SESSION_SPACE}/kv/c"]},
    "a path twice": {**STATED, "paths": [*PATHS, PATHS[0]]},
}


@pytest.mark.parametrize("stated", FORMS.values(), ids=FORMS)
def test_MT2_the_statement_has_one_form(stated: Any) -> None:
    """A machine token's statement is refused if it is malformed or contradicts the delegation."""
    fact = {MACHINE_FACT: stated}
    with pytest.raises(MalformedToken):
        granted(machine(fct=[fact]))


def with_path(path: str) -> dict[str, Any]:
    """Return the changes for a token with one path."""
    return {"stated": {**STATED, "paths": [path]}, "att": {path: [KV_GET], NETWORK: [DECRYPT]}}


WRONG: dict[str, dict[str, Any]] = {
    "a second fact": {"fct": [{MACHINE_FACT: STATED}, {"role": "x"}]},
    "the fact twice": {"fct": [{MACHINE_FACT: STATED}] * 2},
    "a policy beside it": {"fct": [{MACHINE_FACT: STATED, ATTESTATION_FACT: {}}]},
    "a policy in another fact": {"fct": [{ATTESTATION_FACT: {}}, {MACHINE_FACT: STATED}]},
    "a proof": {"prf": [UNKNOWN]},
    "another delegate": {"aud": SESSION.did},
    "another end": {"end": END + 1},
    "an end within a second": {"end": END + 0.5},
    "a day more than a year and a day": {
        "stated": {**STATED, "end": int(NOW) + MAX_LIFE_S + 1},
        "end": NOW + MAX_LIFE_S + 1,
    },
    "writing": {"att": {**ATT, PATHS[0]: [KV_GET, KV_PUT]}},
    "listing": {"att": {**ATT, f"{SESSION_SPACE}/kv/vault": [KV_LIST]}},
    "reading grants": {"att": {**ATT, f"{SESSION_SPACE}/capabilities/all": [CAPABILITIES_READ]}},
    "every ability": {"att": {**ATT, PATHS[0]: ["tinycloud.kv/*"]}},
    "a path that is not stated": {"att": {**ATT, f"{SESSION_SPACE}/kv/c": [KV_GET]}},
    "no network": {"att": {path: [KV_GET] for path in PATHS}},
    "two networks": {"att": {**ATT, f"urn:tinycloud:encryption:{SESSION.did}:b": [DECRYPT]}},
    "decrypt on a value": {
        "att": {**{path: [KV_GET] for path in PATHS}, f"{SESSION_SPACE}/kv/c": [DECRYPT]}
    },
    "another's network": {
        "att": {
            **{path: [KV_GET] for path in PATHS},
            f"urn:tinycloud:encryption:{OWNER.did}:default": [DECRYPT],
        }
    },
    "a condition": {"att": {**ATT, PATHS[0]: {KV_GET: [{"type": "x"}]}}},
    "a session that signs": {"signer": SESSION, **with_path(f"{SPACE}/kv/vault/secrets/DB_URL")},
    "a key that is not the owner": {"signer": BOB, "aud": SESSION.did},
    "an account as delegate": {"stated": {**STATED, "key": OWNER.did}, "aud": OWNER.did},
    "a network as a path": with_path(f"urn:tinycloud:encryption:{SESSION.did}:b"),
    "another URI": with_path("https://example.org/a"),
    "a whole space": with_path(f"{SESSION_SPACE}/kv"),
    "an empty path": with_path(f"{SESSION_SPACE}/kv/"),
    "a folder": with_path(f"{SESSION_SPACE}/kv/vault/"),
    "another service": with_path(f"{SESSION_SPACE}/sql/vault"),
    "a query": with_path(f"{SESSION_SPACE}/kv/a?b"),
    "a fragment": with_path(f"{SESSION_SPACE}/kv/a#b"),
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_MT2_it_grants_what_it_states_and_nothing_else(changes: dict[str, Any]) -> None:
    """A machine token is refused if the delegation grants more or less than its statement says."""
    with pytest.raises(MalformedToken):
        granted(machine(**changes))


def test_MT2_a_path_is_canonical() -> None:
    """A machine token is refused if its path spells the owner's account in another way."""
    spelled = f"{KV}/a".replace(OWNER.did[4:], OWNER.did[4:].lower())
    assert spelled != f"{KV}/a"
    stated = machine_statement(key=BOB.did, paths=[spelled], ends_at=1_767_322_245, name="deploy")
    network = f"urn:tinycloud:encryption:{OWNER.did}:default"
    with pytest.raises(MalformedToken):
        granted(by_wallet(stated=stated, att={spelled: [KV_GET], network: [DECRYPT]}))


@pytest.mark.parametrize(
    "changes",
    [
        {"expiration_time": None},
        {"prf": (base58(UNKNOWN),)},
        {"uri": "https://app.example"},
        {"more": (statement_resource({}),)},
        {"more": (statement_resource(STATED, urn=MACHINE_URN),)},
    ],
)
def test_MT2_a_wallet_s_token_has_one_form(changes: dict[str, Any]) -> None:
    """A wallet's machine token is refused if it has a proof, a policy, a second statement or no
    expiry."""
    with pytest.raises(MalformedToken):
        granted(by_wallet(*changes.pop("more", ()), **changes), registered_at=1_767_322_000)


@pytest.mark.parametrize(
    "resource",
    [
        "urn:sealspace:machine:v2:e30",
        "URN:sealspace:machine:v1:e30",
        "urn:sealspace:Machine:v1:e30",
        f"{MACHINE_URN}e30=",
        f"{MACHINE_URN}W10",
        f"{MACHINE_URN}eyJhIjoxLCJhIjoyfQ",  # repeats a member
    ],
)
def test_MT2_a_statement_in_another_spelling_is_not_ignored(resource: str) -> None:
    """A machine token's resource in another version, case or encoding makes the token invalid."""
    token = read(cacao({f"{KV}/a": [KV_GET]}, resources=(resource,)))
    assert restore_delegation(token.header) == token
    assert token.terminal and not is_sign_in(token, registered_at=NOW)
    with pytest.raises(MalformedToken):
        granted(token)
    with pytest.raises(MalformedToken):
        granted(by_wallet(resource))


def test_MT2_a_repeated_member_is_refused() -> None:
    """A UCAN that repeats the fact's member, or a member in it, is rejected."""
    stated = json.dumps(STATED)
    repeated = (
        f'[{{"{MACHINE_FACT}":{stated},"{MACHINE_FACT}":{stated}}}]',
        f'[{{"{MACHINE_FACT}":{{"name":"a",{stated[1:]}}}]',
        f'[{{"sealspace.\\u006dachine/v1":{{}},"{MACHINE_FACT}":{stated}}}]',
    )
    for facts in repeated:
        payload = claims(fct=msgspec.Raw(facts.encode()))
        with pytest.raises(MalformedToken):
            parse_delegation(raw_ucan(payload))


@pytest.mark.parametrize(
    "fact",
    [
        {"Sealspace.Machine/v1": {}},
        {"sealspace.machine/v2": {}},
        {"a": [{"b": {MACHINE_FACT: {}}}]},
        [[{MACHINE_FACT: {}}]],
    ],
)
def test_MT2_a_statement_is_found_in_any_place(fact: Any) -> None:
    """The parser finds a machine token's fact in any letter case, version and nesting depth."""
    assert contains_statement([fact])


def test_MT3_nothing_is_granted_below_a_machine_token() -> None:
    """A machine token is terminal, whether its statement is valid or not (D24)."""
    world = World()
    for fact in ({MACHINE_FACT: STATED}, {MACHINE_FACT: 1}):
        above = world.register(ucan(SESSION, BOB.did, ATT, fct=[fact], exp=END))
        with pytest.raises(ChainError, check=coded("parent-terminal")):
            world.register(ucan(BOB, OWNER.did, {PATHS[0]: [KV_GET]}, prf=[above], exp=END - 1))
    assert by_wallet().terminal


def test_MT3_its_paths_and_nothing_below_them() -> None:
    """A machine token reads only the value at its path; an ordinary grant also reads values below
    it."""
    world = World()
    proof = world.register(ucan(SESSION, BOB.did, ATT, fct=[{MACHINE_FACT: STATED}], exp=END))
    plain = world.register(ucan(SESSION, BOB.did, ATT, fct=[{ATTESTATION_FACT: {}}], exp=END))
    below = {f"{PATHS[0]}/below": [KV_GET]}
    for att in ({PATHS[0]: [KV_GET]}, {NETWORK: [DECRYPT]}):
        world.invoke(ucan(BOB, BOB.did, att, prf=[proof], exp=NOW + 60))
    world.invoke(ucan(BOB, BOB.did, below, prf=[plain], exp=NOW + 60))
    with pytest.raises(ChainError, check=coded("action-unauthorized")):
        world.invoke(ucan(BOB, BOB.did, below, prf=[proof], exp=NOW + 60))


machine_values = json_values(
    BOB.did, "deploy", END, *PATHS, members=[*STATED, MACHINE_FACT, ATTESTATION_FACT]
)
fact_values = machine_values | changed_objects(STATED, machine_values).map(
    lambda stated: {MACHINE_FACT: stated}
)


@fuzzed()
@given(st.lists(fact_values, max_size=2))
def test_fuzz_machine_tokens(facts: list[Any]) -> None:
    """Any fact makes an ordinary delegation, a machine token with exactly its grants, or an
    error."""
    token = altered(machine(), facts=tuple(facts))
    with suppress(MalformedToken):
        grant = granted(token)
        assert (grant is None) is not is_machine_token(token)
        assert grant is None or sorted(grant[1]) == sorted(PATHS)
