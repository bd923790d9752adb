"""Vectors of app manifests: their resolved form, combined requests, and invalid manifests."""

from collections.abc import Sequence
from typing import Any

from .cases import Case, Documents
from .minting import Key, Wallet

_APP = Key(0x41)
_OWNER = Wallet(0x11)
_NETWORK = f"urn:tinycloud:encryption:{_OWNER.did}:default"
_DAY_MS = 86_400_000
_ALL = "get put del list metadata"
_ACCOUNT: list[Any] = [
    ["kv", "account", "applications/", "get put list", None],
    ["kv", "account", "spaces/", "get put list", None],
    ["kv", "account", "system/bootstrap/complete", "get put", None],
    ["delegation", "account", "", "list", None],
    ["sql", "account", "account", "read write schema", None],
    ["capabilities", "account", "", "read", None],
]

_NOTES: dict[str, Any] = {"app_id": "com.example.notes", "name": "Notes"}
_BOT: dict[str, Any] = {
    "manifest_version": 1,
    "app_id": "com.example.bot",
    "name": "Bot",
    "did": _APP.did,
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
        {"service": "tinycloud.encryption", "path": _NETWORK.lower(), "actions": ["decrypt"]},
    ],
}
_BOT_ROWS: list[Any] = [
    ["kv", "applications", "vault/com.example.bot/profiles/current", _ALL, None],
    ["kv", "applications", "com.example.bot/inbox/", "get list", None],
    ["kv", "default", "shared/x", "get", 3_600_000],
    ["encryption", "encryption", _NETWORK.lower(), "decrypt", None],
    ["kv", "secrets", "vault/secrets/API_KEY", "get", None],
    ["kv", "secrets", "vault/secrets/scoped/bot-app/OTHER", "get put", _DAY_MS],
    ["kv", "secrets", "vault/secrets/REAL_NAME", "list metadata", None],
]
_SECRETS_SPACE: dict[str, Any] = {
    "app_id": "xyz.tinycloud.secrets",
    "name": "TinyCloud Secrets",
    "space": "secrets",
    "prefix": "",
    "defaults": False,
    "includePublicSpace": False,
    "permissions": [
        {
            "service": f"tinycloud.{service}",
            "space": "secrets",
            "path": path,
            "actions": actions,
            "skipPrefix": True,
        }
        for service, path, actions in (
            ("vault", "secrets/", ["read"]),
            ("kv", "variables", ["list", "metadata"]),
            ("kv", "variables/", _ALL.split()),
            ("sql", "default", ["read", "write", "schema"]),
            ("capabilities", "", ["read"]),
        )
    ],
}


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    return {
        "manifest": ("app manifests, resolved or refused", [*_resolved(), *_refused()], {}),
        "composition": ("what several manifests ask for together", _composed(), {}),
    }


def _caps(*spaces: str) -> list[Any]:
    return [["capabilities", space, "", "read", None] for space in spaces]


def _case(
    name: str, rules: str, manifest: Any, rows: list[list[Any]], *, expiry_ms: int = 30 * _DAY_MS
) -> Case:
    expect = {"resources": rows, "expiry_ms": expiry_ms}
    return {"name": name, "rules": rules.split(), "manifest": manifest, "expect": expect}


def _none(**members: Any) -> dict[str, Any]:
    return {**_NOTES, "defaults": False, **members}


def _resolved() -> list[Case]:
    kv_row: list[Any] = ["kv", "applications", "com.example.notes/", _ALL, None]
    root_row: list[Any] = ["kv", "applications", "/", _ALL, None]
    foo = {"service": "tinycloud.kv", "path": "foo"}
    return [
        _case(
            "bare-manifest",
            "MF3 MF7",
            _NOTES,
            [
                kv_row,
                ["sql", "applications", "com.example.notes/", "read write", None],
                *_caps("applications"),
            ],
        ),
        _case(
            "secrets-vault-network-own-expiry",
            "MF7",
            _BOT,
            [*_BOT_ROWS, *_caps("applications", "default", "secrets")],
            expiry_ms=7 * _DAY_MS,
        ),
        _case(
            "equal-but-for-the-expiry",
            "MF7",
            _none(
                prefix="",
                permissions=[
                    {**foo, "actions": ["get"]},
                    {**foo, "actions": ["put", "get"]},
                    {**foo, "actions": ["get"], "expiry": "1h"},
                    {**foo, "actions": ["del"], "expiry": "30d"},
                ],
            ),
            [
                ["kv", "applications", "foo", "get put", None],
                ["kv", "applications", "foo", "get", 3_600_000],
                ["kv", "applications", "foo", "del", 30 * _DAY_MS],
                *_caps("applications"),
            ],
        ),
        _case(
            "defaults-admin",
            "MF3 MF7",
            {**_NOTES, "defaults": "admin"},
            [
                kv_row,
                ["sql", "applications", "com.example.notes/", "read write schema", None],
                *_caps("applications"),
            ],
        ),
        _case(
            "defaults-all-without-prefix",
            "MF3 MF7",
            {**_NOTES, "defaults": " ALL ", "prefix": ""},
            [
                root_row,
                ["sql", "applications", "/", "read write schema", None],
                ["duckdb", "applications", "/", "read write", None],
                *_caps("applications"),
            ],
        ),
        _case("nothing", "MF3", _none(knowledge="knowledge/notes.md"), []),
        _case("defaults-false-as-text", "MF3", {**_NOTES, "defaults": "False"}, []),
        _case(
            "own-space-keeps-the-tier-where-it-is",
            "MF7",
            {**_NOTES, "space": "notes", "permissions": [{**foo, "actions": ["get"]}]},
            [
                kv_row,
                ["sql", "applications", "com.example.notes/", "read write", None],
                ["kv", "notes", "com.example.notes/foo", "get", None],
                *_caps("applications", "notes"),
            ],
        ),
        _case(
            "forms-of-a-secret",
            "MF7",
            _none(
                secrets={
                    "A": "write",
                    "B": ["tinycloud.kv/get", "read"],
                    "C": {},
                    "D": {"actions": "delete"},
                }
            ),
            [
                *(
                    ["kv", "secrets", f"vault/secrets/{name}", word, None]
                    for name, word in zip("ABCD", _FORMS, strict=True)
                ),
                *_caps("secrets"),
            ],
        ),
        _case(
            "caveats-that-narrow-nothing",
            "MF4",
            _none(permissions=[{**foo, "actions": ["get"], "caveats": [{}]}]),
            [["kv", "applications", "com.example.notes/foo", "get", None], *_caps("applications")],
        ),
        _case(
            "the-secrets-space-of-other-clients",
            "MF7",
            _SECRETS_SPACE,
            [
                ["kv", "secrets", "vault/secrets/", "get", None],
                ["kv", "secrets", "variables", "list metadata", None],
                ["kv", "secrets", "variables/", _ALL, None],
                ["sql", "secrets", "default", "read write schema", None],
                *_caps("secrets"),
            ],
        ),
    ]


_FORMS = ("put", "get", "get", "del")


def _fault(name: str, rules: str, manifest: Any, path: str, text: str) -> Case:
    expect = {"code": "manifest-invalid", "path": path, "text": text}
    return {"name": f"{name}_fail", "rules": rules.split(), "manifest": manifest, "expect": expect}


def _permission(**members: Any) -> dict[str, Any]:
    return _none(
        permissions=[{"service": "tinycloud.kv", "path": "a", "actions": ["get"], **members}]
    )


def _refused() -> list[Case]:
    words = "expected read, write, delete, list, or metadata"
    return [
        _fault("no-object", "MF1", [], "", "manifest must be"),
        _fault(
            "version-2",
            "MF1",
            _none(manifest_version=2),
            "manifest_version",
            "manifest.manifest_version must be 1",
        ),
        _fault("no-app-id", "MF1", {"name": "Notes"}, "app_id", "manifest.app_id is required"),
        _fault("empty-name", "MF1", _none(name=""), "name", "manifest.name must be"),
        _fault(
            "empty-did", "MF1", _none(did=""), "did", "manifest.did must be a non-empty DID string"
        ),
        _fault(
            "knowledge-elsewhere",
            "MF1",
            _none(knowledge="readme.md"),
            "knowledge",
            "manifest.knowledge must be true or a knowledge/*.md root path",
        ),
        _fault(
            "unknown-member",
            "MF1",
            _none(colour="red"),
            "colour",
            "manifest.colour is no known member",
        ),
        _fault(
            "backend-as-member",
            "MF1",
            _none(backend={}),
            "backend",
            "manifest.backend is no known member",
        ),
        _fault(
            "unknown-member-of-a-permission",
            "MF1",
            _permission(skipprefix=True),
            "permissions[0].skipprefix",
            "manifest.permissions[0].skipprefix is no known member",
        ),
        _fault(
            "unknown-member-of-a-secret",
            "MF1",
            _none(secrets={"A": {"scop": "x"}}),
            "secrets.A.scop",
            "manifest.secrets.A.scop is no known member",
        ),
        _fault(
            "unknown-defaults",
            "MF3",
            {**_NOTES, "defaults": "none"},
            "defaults",
            'manifest.defaults must be true, false, "admin" or "all"',
        ),
        _fault(
            "permissions-as-object",
            "MF1",
            _none(permissions={}),
            "permissions",
            "manifest.permissions must be",
        ),
        _fault(
            "no-actions",
            "MF2",
            _permission(actions=[]),
            "permissions[0].actions",
            "manifest.permissions[0].actions must be",
        ),
        _fault(
            "no-path",
            "MF2",
            _permission(path=None),
            "permissions[0].path",
            "manifest.permissions[0].path must be",
        ),
        _fault(
            "path-that-is-no-path",
            "MF6",
            _permission(path="a b"),
            "permissions[0].path",
            "permissions[0].path must be",
        ),
        _fault(
            "caveats-that-narrow",
            "MF4",
            _permission(caveats=[{"below": 1}]),
            "permissions[0].caveats",
            "permissions[0].caveats: this client signs no caveats",
        ),
        _fault(
            "network-without-id",
            "MF6",
            _permission(service="tinycloud.encryption", path="foo"),
            "permissions[0].path",
            'tinycloud.encryption entries require path to be a networkId URN (got "foo")',
        ),
        _fault(
            "unknown-encryption-action",
            "MF6",
            _permission(service="tinycloud.encryption", path=_NETWORK, actions=["nuke"]),
            "permissions[0].actions[0]",
            'unknown encryption action "nuke"; expected decrypt, network.create, or network.revoke',
        ),
        _fault(
            "unknown-vault-action",
            "MF6",
            _permission(service="tinycloud.vault", actions=["read", "bogus"]),
            "permissions[0].actions[1]",
            'unknown vault action "bogus"; expected read, write, delete, get, put, del, list, head,'
            " or metadata",
        ),
        _fault(
            "secret-of-another-form",
            "MF1",
            _none(secrets={"bad": True}),
            "secrets.bad",
            "manifest.secrets.bad must match ^[A-Z][A-Z0-9_]*$",
        ),
        _fault(
            "no-secret-actions",
            "MF1",
            _none(secrets={"A": []}),
            "secrets.A",
            "manifest.secrets.A actions must be non-empty",
        ),
        _fault(
            "secret-as-number",
            "MF1",
            _none(secrets={"A": 1}),
            "secrets.A",
            "manifest.secrets.A must be true, a string action, an actions array, or an object",
        ),
        _fault(
            "value-in-place-of-an-action",
            "MF5",
            _none(secrets={"A": "sk-live-0123456789"}),
            "secrets.A",
            f"manifest.secrets.A: unknown secret action; {words}",
        ),
        _fault(
            "expiry-of-no-form",
            "MF1",
            _none(expiry="abc"),
            "expiry",
            'invalid expiry duration: "abc"',
        ),
        _fault(
            "expiry-below-zero",
            "MF1",
            _none(expiry="-1d"),
            "expiry",
            'invalid expiry duration: "-1d"',
        ),
    ]


_MEETINGS: dict[str, Any] = {
    "app_id": "com.example.meetings",
    "name": "Meetings",
    "secrets": {"FEED_KEY": ["read"]},
    "permissions": [
        {"service": "tinycloud.sql", "path": "talks", "actions": ["read", "write", "schema"]},
        {
            "service": "tinycloud.hooks",
            "path": "sql/talks/talk",
            "actions": ["subscribe"],
            "skipPrefix": True,
        },
    ],
}
_BACKEND: dict[str, Any] = {
    "app_id": "com.example.meetings",
    "name": "Backend of Meetings",
    "did": _APP.did,
    "expiry": "7d",
    "defaults": False,
    "permissions": [
        {"service": "tinycloud.kv", "path": "/", "actions": _ALL.split()},
        {"service": "tinycloud.sql", "path": "talks", "actions": ["read", "write", "schema"]},
        {
            "service": "tinycloud.kv",
            "space": "secrets",
            "path": "vault/secrets/FEED_KEY",
            "actions": ["get"],
            "skipPrefix": True,
        },
        {
            "service": "tinycloud.encryption",
            "space": "encryption",
            "path": _NETWORK,
            "actions": ["decrypt"],
            "skipPrefix": True,
        },
    ],
}


def _with_backend() -> Case:
    """Return an app and its backend as one request with one signature."""
    kv = ["kv", "applications", "com.example.meetings/", _ALL, None]
    sql = ["sql", "applications", "com.example.meetings/talks", "read write schema", None]
    secret = ["kv", "secrets", "vault/secrets/FEED_KEY", "get", None]
    network = ["encryption", "encryption", _NETWORK, "decrypt", None]
    app = [
        kv,
        ["sql", "applications", "com.example.meetings/", "read write", None],
        sql,
        ["hooks", "applications", "sql/talks/talk", "subscribe", None],
        secret,
        *_caps("applications", "secrets"),
    ]
    return _together(
        "an-app-and-its-backend",
        [_MEETINGS, _BACKEND],
        [*app, network, *_ACCOUNT],
        expiry_ms=30 * _DAY_MS,
        targets=[_APP.did],
        target_resources=[kv, sql, secret, network, *_caps("applications", "secrets")],
    )


def _composed() -> list[Case]:
    notes = _none(secrets={"K": True})
    first = [
        ["kv", "secrets", "vault/secrets/K", "get", None],
        *_caps("secrets"),
        *_BOT_ROWS,
        *_caps("applications", "default"),
    ]
    both: dict[str, Any] = {
        "expiry_ms": 30 * _DAY_MS,
        "targets": [_APP.did],
    }
    alone: dict[str, Any] = {"expiry_ms": 7 * _DAY_MS}
    bot = [*_BOT_ROWS, *_caps("applications", "default", "secrets")]
    return [
        _together("two-apps", [notes, _BOT], [*first, *_ACCOUNT], **both),
        _together("two-apps-without-the-account", [notes, _BOT], first, account=False, **both),
        _with_backend(),
        _together(
            "one-app-twice", [_BOT, _BOT], bot, account=False, targets=[_APP.did, _APP.did], **alone
        ),
    ]


def _together(
    name: str,
    manifests: Sequence[Any],
    resources: Sequence[Any],
    *,
    account: bool = True,
    **expect: Any,
) -> Case:
    return {
        "name": name,
        "rules": ["MF10"],
        "manifests": list(manifests),
        "account": account,
        "expect": {"resources": list(resources), **expect},
    }
