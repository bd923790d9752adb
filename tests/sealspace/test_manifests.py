"""Tests of app manifests: their faults, the resources that they request, and the grants to DIDs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.abilities import CAPABILITIES_READ, DECRYPT, KV_GET
from capabilities.strict_json import Json
from sealspace.documents.manifests import (
    Manifest,
    ResourceRequest,
    apply_prefix,
    check_manifest,
    compose_manifests,
    not_served,
    parse_manifest,
    requested_capabilities,
    resolve_manifest,
    served,
    target_grants,
    with_decrypt,
)
from sealspace.errors import InvalidInput, ManifestInvalid
from sealspace.giving.words.manifests import explain
from sealspace.session import network_of_owner, space_of
from sealspace.wallets import new_wallet

OWNER = "did:pkh:eip155:1:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
BOT_DID = "did:key:z6MkuEUybFgDhSyrmvPMUbezRNH8hHdv8PYpg6PsTcrLXswS"
NETWORK = network_of_owner(OWNER).text

NOTES: dict[str, Json] = {"app_id": "com.example.notes", "name": "Notes"}
ENTRY: dict[str, Json] = {"service": "tinycloud.kv", "path": "x", "actions": ["get"]}
PARTS: tuple[dict[str, Json], ...] = (
    {"defaults": "all"},
    {"secrets": {"API_KEY": True, "OTHER": {"scope": "Bot", "actions": ["write"], "expiry": "1d"}}},
    {
        "permissions": [
            {"service": "tinycloud.kv", "path": "/", "actions": ["get", "list"], "space": "notes"}
        ]
    },
    {
        "permissions": [
            {"service": "tinycloud.kv", "path": "a/", "actions": ["put"], "skipPrefix": True}
        ]
    },
    {
        "permissions": [
            {
                "service": "tinycloud.kv",
                "path": "a",
                "actions": ["tinycloud.kv/get"],
                "expiry": "1h",
            }
        ]
    },
    {"permissions": [{"service": "tinycloud.encryption", "path": NETWORK, "actions": ["decrypt"]}]},
    {
        "permissions": [{"service": "tinycloud.sql", "path": "db", "actions": ["read"]}],
        "prefix": "",
    },
    {"space": "notes", "prefix": "p", "defaults": True},
)
manifests = st.lists(st.sampled_from(PARTS), max_size=3).map(
    lambda parts: parse_manifest(
        {**NOTES, "defaults": False, **{k: v for part in parts for k, v in part.items()}}
    )
)


def manifest(**members: Json) -> Manifest:
    return parse_manifest({**NOTES, **members})


def stated(resources: Any) -> tuple[Any, ...]:
    return requested_capabilities(resources, space_id=lambda name: space_of(OWNER, name).text)


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "action", "said"),
    [
        (
            "tinycloud.kv",
            "lst",
            'has no action "lst"; did you mean list? (at permissions[0].actions[0])',
        ),
        ("tinycloud.kv", "tinycloud.kv/gett", "did you mean get?"),
        ("tinycloud.space", "frobnicate", "it has list, create, info, host"),
        ("tinycloud.capabilities", "write", "it has read"),
    ],
)
def test_a_known_service_has_known_actions(service: str, action: str, said: str) -> None:
    """An unknown action of a known service is refused, with the nearest one named (MF19)."""
    entry: Json = {"service": service, "path": "a", "actions": [action]}
    (fault,) = check_manifest({"app_id": "com.x", "name": "X", "permissions": [entry]})
    assert said in fault.text


@pytest.mark.parametrize(("service", "action"), [("tinycloud.kv", "*"), ("tinycloud.hooks", "lst")])
def test_another_service_has_any_actions(service: str, action: str) -> None:
    """A manifest may request any action of an unknown service (MF19)."""
    assert manifest(
        permissions=[{"service": service, "path": "a", "actions": [action]}]
    ).permissions


@pytest.mark.parametrize(
    ("prefix", "path", "skip", "expected"),
    [
        ("com.x", "a/b", False, "com.x/a/b"),
        ("com.x", "/", False, "com.x/"),
        ("com.x", "", False, "com.x/"),
        ("com.x", "/a", False, "com.x/a"),
        ("com.x", "a", True, "a"),
        ("", "a", False, "a"),
    ],
)
def test_prefixes(prefix: str, path: str, skip: bool, expected: str) -> None:
    """An app's prefix is added in front of its paths."""
    assert expected == apply_prefix(prefix, path, skip=skip)


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("30d", 2_592_000_000),
        ("7d", 604_800_000),
        ("90m", 5_400_000),
        ("1.5h", 5_400_000),
        ("2 days", 172_800_000),
        ("1 week", 604_800_000),
        ("60", 60),
        ("1y", 31_557_600_000),
    ],
)
def test_durations(text: str, expected_ms: int) -> None:
    """A duration is a number with an optional unit; a bare number is milliseconds."""
    assert expected_ms == manifest(expiry=text).expiry_ms


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"nam": "Notes"}, "nam"),
        ({"name": ""}, "name"),
        ({"icon": 1}, "icon"),
        ({"includePublicSpace": "yes"}, "includePublicSpace"),
        ({"did": "z6Mk"}, "did"),
        ({"space": "a/b"}, "space"),
        ({"app_id": "a b"}, "app_id"),
        ({"permissions": [1]}, "permissions[0]"),
        ({"permissions": [{**ENTRY, "service": "kv"}]}, "permissions[0].service"),
        ({"permissions": [ENTRY, {**ENTRY, "expiry": 3}]}, "permissions[1].expiry"),
        ({"permissions": [ENTRY, {**ENTRY, "expiry": "3 x"}]}, "permissions[1].expiry"),
        ({"permissions": [{**ENTRY, "actions": ["a/b/c"]}]}, "permissions[0].actions[0]"),
        ({"permissions": [{**ENTRY, "actions": ["get", ""]}]}, "permissions[0].actions[1]"),
        ({"permissions": [{**ENTRY, "skipPrefix": 0}]}, "permissions[0].skipPrefix"),
        ({"secrets": {"A": {"name": "a"}}}, "secrets.A.name"),
        ({"secrets": {"A": {"actions": [1]}}}, "secrets.A"),
        ({"secrets": {"B": {"scope": "default"}}}, "secrets.B.scope"),
        ({"secrets": {"B": {"scope": 1}}}, "secrets.B.scope"),
        ({"colour \x1b`": 1}, "colour \ufffd`"),
    ],
)
def test_a_fault_has_the_path_of_its_member(members: dict[str, Json], path: str) -> None:
    """A fault has the same path in the list and in the refusal (MF2)."""
    value: Json = {**NOTES, **members}
    (fault,) = check_manifest(value)
    assert fault.path == path
    with pytest.raises(ManifestInvalid) as refusal:
        parse_manifest(value)
    assert refusal.value.faults == (fault,)
    assert refusal.value.message == f"Manifest validation failed: {fault.text}"


def test_there_are_bounds() -> None:
    """Too many entries are refused together, and not listed one by one (MF6)."""
    entry: Json = {"service": "tinycloud.kv", "path": "a", "actions": ["get"]}
    assert [one.path for one in check_manifest({**NOTES, "permissions": [entry] * 257})] == [
        "permissions"
    ]
    assert [
        one.path
        for one in check_manifest({**NOTES, "secrets": {f"S{n}": True for n in range(257)}})
    ] == ["secrets"]


@pytest.mark.parametrize(
    "spec",
    ["hunter2-long-value", ["read", "hunter2-long-value"], {"actions": "hunter2-long-value"}],
)
def test_a_value_written_in_place_of_an_action_is_not_repeated(spec: Json) -> None:
    """A secret's value in place of an action is located in the error, but not repeated (MF5)."""
    faults = check_manifest({**NOTES, "secrets": {"API_KEY": spec}})
    assert [one.path for one in faults] == ["secrets.API_KEY"]
    assert "hunter2" not in repr(faults)


@pytest.mark.parametrize(
    "value", [None, [], "x", 1, {}, {"app_id": "a", "name": "b", "permissions": [1]}]
)
def test_what_is_no_manifest_is_refused(value: Json) -> None:
    """Any other JSON is refused with our own error and a next step."""
    with pytest.raises(ManifestInvalid) as refusal:
        parse_manifest(value)
    assert refusal.value.faults
    assert refusal.value.hint


def test_composing_nothing_is_refused() -> None:
    """Composing an empty list of manifests is an error."""
    with pytest.raises(ManifestInvalid):
        compose_manifests([])


# --- asking ---------------------------------------------------------------------------------------


def test_resources_become_capabilities_of_a_token() -> None:
    """A space gets its full id, a network its canonical owner, and the root has no path (MF10)."""
    entries: list[Json] = [
        {"service": "tinycloud.kv", "path": path, "actions": ["get"], "space": space}
        for path, space in (("/", "a"), ("", "b"), ("c", "c"))
    ]
    entries.append(
        {"service": "tinycloud.encryption", "path": NETWORK.lower(), "actions": ["decrypt"]}
    )
    asked = stated(resolve_manifest(manifest(defaults=False, prefix="", permissions=entries)))
    root = OWNER.removeprefix("did:")
    assert [(one.resource.text, one.ability) for one in asked[:4]] == [
        (f"tinycloud:{root}:a/kv", KV_GET),
        (f"tinycloud:{root}:b/kv", KV_GET),
        (f"tinycloud:{root}:c/kv/c", KV_GET),
        (NETWORK, DECRYPT),
    ]


def test_decrypt_is_added_where_a_secret_is_read() -> None:
    """The composer adds the right to open secrets, for the session and for DIDs that read secrets
    (MF8)."""
    reader = manifest(defaults=False, did=BOT_DID, secrets={"API_KEY": True})
    writer = parse_manifest(
        {
            "app_id": "w",
            "name": "W",
            "did": f"{BOT_DID}X",
            "defaults": False,
            "secrets": {"B": "write"},
        }
    )
    request = with_decrypt(compose_manifests([reader, writer]), NETWORK)
    decrypt = ResourceRequest("tinycloud.encryption", "encryption", NETWORK, (DECRYPT,))
    assert request.resources[-1] == decrypt
    assert [decrypt in one.resources for one in request.delegation_targets] == [True, False]
    assert with_decrypt(request, NETWORK) == request


def test_what_only_defaults_ask_for_is_left_out() -> None:
    """Defaults for a service that the node lacks are left out, with a remark of one line (MF9)."""
    resources = compose_manifests([manifest(defaults="all")]).resources
    assert [one.text for one in not_served(resources)] == [
        "tinycloud.sql is not served by this node: read, write, schema; left out",
        "tinycloud.duckdb is not served by this node: read, write; left out",
    ]
    assert {one.service for one in served(resources)} == {
        "tinycloud.kv",
        "tinycloud.capabilities",
        "tinycloud.delegation",
    }
    assert [one.service for one in not_served(resources, ["sql"])] == ["tinycloud.duckdb"]


def test_what_a_manifest_states_is_refused_where_it_is_not_served() -> None:
    """An app that needs SQL cannot sign in at a node without SQL, unless the caller allows it
    (MF9)."""
    entries: list[Json] = [
        {"service": "tinycloud.sql", "path": path, "actions": ["read", "write"]}
        for path in ("a", "b")
    ]
    entries.append(
        {"service": "tinycloud.hooks", "path": "h", "actions": ["subscribe"], "skipPrefix": True}
    )
    resources = resolve_manifest(manifest(permissions=entries))
    with pytest.raises(InvalidInput) as refusal:
        served(resources)
    assert refusal.value.message.split("; ") == [
        (
            "tinycloud.sql is not served by this node: read, write on"
            " applications/com.example.notes/a, applications/com.example.notes/b"
        ),
        "tinycloud.hooks is not served by this node: subscribe on applications/h",
    ]
    assert "remove these entries" in refusal.value.hint
    assert served(resources, ["sql", "hooks"]) == resources
    assert {one.service for one in served(resources, leave_out=True)} == {
        "tinycloud.kv",
        "tinycloud.capabilities",
    }


@pytest.mark.parametrize(
    "service",
    [
        "kv",
        "x.y",
        "Tinycloud.kv",
        "tinycloud.KV",
        "ktinycloud.v",
        "tinycloud.kv/vault",
        "tinycloud.",
        "",
    ],
)
def test_a_service_has_one_spelling(service: str) -> None:
    """Another spelling of a service is refused with the correct spelling in the fault (MF20)."""
    entry: Json = {"service": service, "path": "vault/secrets/A", "actions": ["tinycloud.kv/get"]}
    faults = check_manifest({**NOTES, "permissions": [entry]})
    assert faults[0].path == "permissions[0].service"
    assert "such as tinycloud.kv" in faults[0].text


@pytest.mark.parametrize(
    ("service", "action"),
    [
        ("tinycloud.sql", "tinycloud.kv/get"),
        ("tinycloud.hooks", "kv/get"),
        ("tinycloud.hooks", "ge\u0442"),
    ],
)
def test_an_action_is_of_the_service_that_it_is_asked_of(service: str, action: str) -> None:
    """An action of another service is refused, because the user would see one thing and sign
    another (MF20)."""
    entry: Json = {"service": service, "path": "a", "actions": [action]}
    (fault,) = check_manifest({**NOTES, "permissions": [entry]})
    assert fault.path == "permissions[0].actions[0]"
    assert f"is not an action of {service}" in fault.text


def test_a_did_gets_one_grant_for_the_rights_of_an_owner() -> None:
    """The grant has the shortest requested lifetime and is not a session. Rights of other owners
    are separate (MF12)."""
    other = new_wallet().did
    theirs: Json = {
        "service": "tinycloud.kv",
        "path": "a",
        "actions": ["get"],
        "space": f"tinycloud:{other[4:]}:notes",
    }
    entry: Json = {
        "service": "tinycloud.kv",
        "path": "a",
        "actions": ["get"],
        "space": f"tinycloud:{OWNER[4:].lower()}:x",
    }
    value = manifest(
        did=BOT_DID,
        expiry="7d",
        permissions=[theirs, entry],
        secrets={
            "API_KEY": True,
            "OTHER": {"actions": ["read"], "expiry": "1h"},
            "LONG": {"expiry": "30d"},
        },
    )
    (target,) = with_decrypt(compose_manifests([value]), NETWORK).delegation_targets
    own, others = sorted(target_grants(target, owner=OWNER), key=lambda one: one.owner != OWNER)
    assert own.owner == OWNER
    assert own.ttl_s == 3_600
    assert others.owner == other
    assert others.ttl_s == 604_800
    assert CAPABILITIES_READ not in {
        one.ability for grant in (own, others) for one in grant.capabilities
    }
    assert len(own.capabilities) == 10
    assert len(others.capabilities) == 1


@pytest.mark.parametrize(
    "space", ["secrets", f"tinycloud:{OWNER[4:]}:secrets", f"tinycloud:{OWNER[4:].lower()}:secrets"]
)
def test_decrypt_is_added_whatever_the_space_is_called(space: str) -> None:
    """The owner's space of secrets is recognised by its short name and by its id in any case (MF8,
    MF20)."""
    entry: Json = {
        "service": "tinycloud.kv",
        "path": "vault",
        "actions": ["get"],
        "space": space,
        "skipPrefix": True,
    }
    asked = compose_manifests([manifest(defaults=False, did=BOT_DID, permissions=[entry])])
    (target,) = with_decrypt(asked, NETWORK).delegation_targets
    assert target.resources[-1].actions == (DECRYPT,)


# --- properties -----------------------------------------------------------------------------------


@given(st.lists(manifests, min_size=1, max_size=3))
def test_composing_is_idempotent(drawn: list[Manifest]) -> None:
    """Composing a request twice adds and loses nothing (MF10)."""
    once, twice = compose_manifests(drawn), compose_manifests([*drawn, *drawn])
    assert once.resources == twice.resources
    assert once.expiry_ms == twice.expiry_ms
    asked = {
        (row.service, row.space, row.path, action)
        for row in once.resources
        for action in row.actions
    }
    for one in drawn:
        for row in resolve_manifest(one):
            assert asked >= {(row.service, row.space, row.path, action) for action in row.actions}


# --- words ----------------------------------------------------------------------------------------


def test_an_explanation_says_who_gets_what_and_for_how_long() -> None:
    """Each request is a line, and the defaults of every space are one line. The part of a DID says
    until when (MF3)."""
    value = manifest(
        did=BOT_DID,
        defaults=False,
        expiry="7d",
        secrets={
            "API_KEY": True,
            "OTHER": {"scope": "Bot", "actions": ["read", "write"], "expiry": "1h"},
        },
        permissions=[
            {
                "service": "tinycloud.kv",
                "path": "/",
                "actions": ["get", "list"],
                "description": "your notes",
            },
            {"service": "tinycloud.encryption", "path": NETWORK, "actions": ["decrypt"]},
        ],
    )
    lines = explain(value, now=1_795_000_000)
    assert [one.text for one in lines if one.who is None] == [
        "Notes (com.example.notes) asks for this:",
        (
            "the app may read and list values below com.example.notes/ in the space applications:"
            " your notes"
        ),
        f"the app may decrypt what is sealed to the encryption network {NETWORK}",
        "the app may read the secret API_KEY",
        "the app may read and write the secret bot/OTHER; asked for 1 hour",
        "the app may see what was granted in applications and secrets",
        "the app gets this for as long as its sign-in lasts; it asks for 7 days",
    ]
    theirs = [one for one in lines if one.who == BOT_DID]
    assert [(one.kind, one.space, one.path, one.lifetime_ms) for one in theirs] == [
        ("values", "applications", "com.example.notes/", 604_800_000),
        ("network", NETWORK, None, 604_800_000),
        ("secret", "secrets", "API_KEY", 604_800_000),
        ("secret", "secrets", "bot/OTHER", 3_600_000),
        ("lifetime", None, None, 604_800_000),
    ]
    assert theirs[-2].text == f"{BOT_DID} may read and write the secret bot/OTHER, for 1 hour"
    assert "until 2026-11-25T11:06:40Z" in theirs[-1].text


@pytest.mark.parametrize(
    ("members", "why"),
    [({}, "because it states no defaults"), ({"defaults": True}, "defaults")],
)
def test_an_explanation_says_what_defaults_brought(members: dict[str, Json], why: str) -> None:
    """For a manifest without `"defaults": false` the explanation says so, in one line and another
    for SQL (MF3, MF9)."""
    lines = explain(manifest(**members))
    about = [one.text for one in lines if one.kind in ("not-served", "note")]
    assert about[0] == "tinycloud.sql is not served by this node: read, write; left out"
    assert why in about[1]
    assert '`"defaults": false` leaves them out' in about[1]
    assert len([one for one in lines if "sql" in one.text]) == 1
    assert not [
        one
        for one in explain(manifest(defaults=False))
        if one.kind == "not-served" or "defaults" in one.text
    ]


def test_an_explanation_is_fit_for_a_terminal() -> None:
    """Texts of a manifest cannot move the cursor or look like other lines."""
    lines = explain(manifest(name="A\x1b[2J\nthe app gets nothing", defaults=False))
    assert all(one.text.isprintable() for one in lines)
