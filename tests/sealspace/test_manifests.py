"""App manifests: checking, expanding, composing; the worked examples of the format."""

import pytest

from capabilities.strict_json import Json
from sealspace.errors import ManifestInvalid
from sealspace.manifests import (
    Manifest,
    ResourceRequest,
    apply_prefix,
    compose_manifests,
    parse_manifest,
    requested_capabilities,
    resolve_manifest,
)

BOT_DID = "did:key:z6MkuEUybFgDhSyrmvPMUbezRNH8hHdv8PYpg6PsTcrLXswS"
NETWORK = "urn:tinycloud:encryption:did:pkh:eip155:1:0x7e5f4552091a69125d5dfcb7b8c2659029395bdf:default"

NOTES: dict[str, Json] = {"app_id": "com.example.notes", "name": "Notes"}
BOT: dict[str, Json] = {
    "manifest_version": 1,
    "app_id": "com.example.bot",
    "name": "Bot",
    "did": BOT_DID,
    "defaults": False,
    "expiry": "7d",
    "secrets": {
        "API_KEY": True,
        "OTHER": {"scope": "Bot App", "actions": ["read", "write"], "expiry": "1d"},
        "RENAMED": {"name": "REAL_NAME", "actions": ["list", "metadata"]},
    },
    "permissions": [
        {
            "service": "tinycloud.vault",
            "path": "profiles/current",
            "actions": ["read", "write", "delete", "list", "head", "metadata"],
        },
        {"service": "tinycloud.kv", "path": "/inbox/", "actions": ["get", "list"]},
        {
            "service": "tinycloud.kv",
            "path": "shared/x",
            "actions": ["get"],
            "skipPrefix": True,
            "space": "default",
            "expiry": "1h",
        },
        {"service": "tinycloud.encryption", "path": NETWORK, "actions": ["decrypt"]},
    ],
}
BOT_ROWS = [
    ("kv", "applications", "vault/com.example.bot/profiles/current", "get put del list metadata", None),
    ("kv", "applications", "com.example.bot/inbox/", "get list", None),
    ("kv", "default", "shared/x", "get", 3_600_000),
    ("encryption", "encryption", NETWORK, "decrypt", None),
    ("kv", "secrets", "vault/secrets/API_KEY", "get", None),
    ("kv", "secrets", "vault/secrets/scoped/bot-app/OTHER", "get put", 86_400_000),
    ("kv", "secrets", "vault/secrets/REAL_NAME", "list metadata", None),
]
ACCOUNT_ROWS = [
    ("kv", "account", "applications/", "get put list", None),
    ("kv", "account", "spaces/", "get put list", None),
    ("kv", "account", "system/bootstrap/complete", "get put", None),
    ("delegation", "account", "", "list", None),
    ("sql", "account", "account", "read write schema", None),
    ("capabilities", "account", "", "read", None),
]


def capabilities_row(space: str) -> tuple[str, str, str, str, None]:
    return ("capabilities", space, "", "read", None)


def manifest(**members: Json) -> Manifest:
    return parse_manifest({**NOTES, **members})


def rows(resources: tuple[ResourceRequest, ...]) -> list[tuple[str, str, str, str, int | None]]:
    """Shorten resources to (service, space, path, action names, own lifetime)."""
    return [
        (
            one.service.removeprefix("tinycloud."),
            one.space,
            one.path,
            " ".join(action.removeprefix(f"{one.service}/") for action in one.actions),
            one.expiry_ms,
        )
        for one in resources
    ]


def test_a_bare_manifest_asks_for_its_own_corner_of_the_applications_space() -> None:
    """Example A: the default tier under the app's prefix, and the row to read capabilities."""
    resolved = resolve_manifest(parse_manifest(NOTES))
    assert rows(resolved.resources) == [
        ("kv", "applications", "com.example.notes/", "get put del list metadata", None),
        ("sql", "applications", "com.example.notes/", "read write", None),
        capabilities_row("applications"),
    ]
    assert resolved.expiry_ms == 2_592_000_000
    assert resolved.include_public_space
    assert resolved.additional_delegates == ()


def test_secrets_vault_paths_networks_and_own_expiries_expand_in_order() -> None:
    """Example B: ten resources, and the app's DID gets all of them."""
    resolved = resolve_manifest(parse_manifest(BOT))
    assert rows(resolved.resources) == [
        *BOT_ROWS,
        capabilities_row("applications"),
        capabilities_row("default"),
        capabilities_row("secrets"),
    ]
    assert resolved.expiry_ms == 604_800_000
    (target,) = resolved.additional_delegates
    assert target.did == BOT_DID
    assert target.resources == resolved.resources


def test_equal_resources_merge_unless_one_has_its_own_expiry() -> None:
    """Example C: an explicit expiry keeps an entry apart, even one equal to the manifest's."""
    entries: list[Json] = [
        {"service": "tinycloud.kv", "path": "foo", "actions": ["get"]},
        {"service": "tinycloud.kv", "path": "foo", "actions": ["put", "get"]},
        {"service": "tinycloud.kv", "path": "foo", "actions": ["get"], "expiry": "1h"},
        {"service": "tinycloud.kv", "path": "foo", "actions": ["del"], "expiry": "30d"},
    ]
    resolved = resolve_manifest(manifest(defaults=False, prefix="", permissions=entries))
    assert rows(resolved.resources)[:3] == [
        ("kv", "applications", "foo", "get put", None),
        ("kv", "applications", "foo", "get", 3_600_000),
        ("kv", "applications", "foo", "del", 2_592_000_000),
    ]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (
            {"defaults": "admin"},
            [
                ("kv", "applications", "com.example.notes/", "get put del list metadata", None),
                ("sql", "applications", "com.example.notes/", "read write schema", None),
                capabilities_row("applications"),
            ],
        ),
        (
            {"defaults": " ALL ", "prefix": ""},
            [
                ("kv", "applications", "/", "get put del list metadata", None),
                ("sql", "applications", "/", "read write schema", None),
                ("duckdb", "applications", "/", "read write", None),
                capabilities_row("applications"),
            ],
        ),
        ({"defaults": False, "knowledge": "knowledge/notes.md"}, []),
        ({"defaults": "false"}, []),
    ],
)
def test_tiers_of_defaults(members: dict[str, Json], expected: list[object]) -> None:
    """Example D: the tiers, and a manifest that asks for nothing."""
    assert expected == rows(resolve_manifest(manifest(**members)).resources)


def test_the_default_tier_stays_in_the_applications_space() -> None:
    """A manifest's own space moves explicit entries only."""
    resolved = resolve_manifest(
        manifest(space="notes", permissions=[{"service": "tinycloud.kv", "path": "a", "actions": ["get"]}])
    )
    assert [one.space for one in resolved.resources[:3]] == ["applications", "applications", "notes"]
    assert resolved.space == "notes"


def test_manifests_compose_into_one_request() -> None:
    """Example E: resources in order and merged, the account rows last, one record an app."""
    request = compose_manifests([manifest(defaults=False, secrets={"K": True}), parse_manifest(BOT)])
    assert rows(request.resources) == [
        ("kv", "secrets", "vault/secrets/K", "get", None),
        capabilities_row("secrets"),
        *BOT_ROWS,
        capabilities_row("applications"),
        capabilities_row("default"),
        *ACCOUNT_ROWS,
    ]
    assert request.expiry_ms == 2_592_000_000
    assert [record.key for record in request.registry_records] == [
        "applications/com.example.notes",
        "applications/com.example.bot",
    ]
    assert [target.did for target in request.delegation_targets] == [BOT_DID]


def test_composing_without_the_account_leaves_its_rows_out() -> None:
    """The account's rows are asked for only where wanted."""
    request = compose_manifests([parse_manifest(NOTES)], include_account_registry_permissions=False)
    assert {"applications"} == {one.space for one in request.resources}


def test_composing_nothing_is_refused() -> None:
    """An empty list is an error."""
    with pytest.raises(ManifestInvalid):
        compose_manifests([])


def test_forms_of_a_secret() -> None:
    """A secret is true, an action, a list of actions or an object; `read` is what it means by default."""
    secrets: dict[str, Json] = {
        "A": "write",
        "B": ["tinycloud.kv/get", "read"],
        "C": {},
        "D": {"actions": "delete"},
    }
    resolved = resolve_manifest(manifest(defaults=False, secrets=secrets))
    assert [(row[2], row[3]) for row in rows(resolved.resources)[:4]] == [
        ("vault/secrets/A", "put"),
        ("vault/secrets/B", "get"),
        ("vault/secrets/C", "get"),
        ("vault/secrets/D", "del"),
    ]


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
    """An app's prefix goes in front of its paths."""
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


def permission(**members: Json) -> dict[str, Json]:
    entry: dict[str, Json] = {"service": "tinycloud.kv", "path": "a", "actions": ["get"], **members}
    return {"permissions": [entry]}


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        ({"manifest_version": 2}, "manifest.manifest_version must be 1"),
        ({"manifest_version": True}, "manifest.manifest_version must be 1"),
        ({"app_id": ""}, "manifest.app_id is required and must be a non-empty string"),
        ({"name": 1}, "manifest.name is required and must be a non-empty string"),
        ({"did": ""}, "manifest.did must be a non-empty DID string"),
        ({"knowledge": "readme.md"}, "manifest.knowledge must be true or a knowledge/*.md root path"),
        ({"permissions": {}}, "manifest.permissions must be an array"),
        (permission(actions=[]), "permissions[0].actions must be a non-empty array"),
        (permission(path=None), 'permissions[0].path is required (use "" or "/" for root)'),
        ({"secrets": []}, "manifest.secrets must be an object"),
        ({"secrets": {"bad": True}}, "manifest.secrets.bad must match ^[A-Z][A-Z0-9_]*$"),
        ({"secrets": {"A": []}}, "manifest.secrets.A actions must be non-empty"),
        (
            {"secrets": {"A": 1}},
            "manifest.secrets.A must be true, a string action, an actions array, or an object",
        ),
        (
            {"secrets": {"A": "nope"}},
            "manifest.secrets.A: unknown secret action; expected read, write, delete, list, or metadata",
        ),
        (
            permission(service="tinycloud.vault", actions=["bogus"]),
            'unknown vault action "bogus"; expected read, write, delete, get, put, del, list, head, or metadata'
            " (at permissions[0].actions[0])",
        ),
        (
            permission(service="tinycloud.encryption", path="foo"),
            'tinycloud.encryption entries require path to be a networkId URN (got "foo") (at permissions[0].path)',
        ),
        (
            permission(service="tinycloud.encryption", path=NETWORK, actions=["nuke"]),
            'unknown encryption action "nuke"; expected decrypt, network.create, or network.revoke'
            " (at permissions[0].actions[0])",
        ),
        ({"expiry": "abc"}, 'invalid expiry duration: "abc"'),
        ({"expiry": "-1d"}, 'invalid expiry duration: "-1d"'),
        ({"expiry": ""}, 'expiry must be a non-empty duration string (got "")'),
    ],
)
def test_faults_of_a_manifest_are_named(members: dict[str, Json], detail: str) -> None:
    """A fault is refused with the words that other clients use."""
    with pytest.raises(ManifestInvalid) as refusal:
        resolve_manifest(manifest(**members))
    assert f"Manifest validation failed: {detail}" == refusal.value.message


@pytest.mark.parametrize("value", [None, [], "x", 1, {}, {"app_id": "a", "name": "b", "permissions": [1]}])
def test_what_is_no_manifest_is_refused(value: Json) -> None:
    """Whatever the shape, the error is ours."""
    with pytest.raises(ManifestInvalid):
        parse_manifest(value)


def test_resources_become_capabilities_of_a_token() -> None:
    """A space gets its full id, a network its canonical owner, a root has no path at all."""
    canonical_network = "urn:tinycloud:encryption:did:pkh:eip155:1:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf:default"
    resources = resolve_manifest(parse_manifest(BOT)).resources
    asked = requested_capabilities(resources, space_id=lambda name: f"tinycloud:key:z6Mk:{name}")
    stated = {(one.resource.text, one.ability) for one in asked}
    assert ("tinycloud:key:z6Mk:secrets/kv/vault/secrets/API_KEY", "tinycloud.kv/get") in stated
    assert (canonical_network, "tinycloud.encryption/decrypt") in stated
    assert ("tinycloud:key:z6Mk:default/capabilities", "tinycloud.capabilities/read") in stated
