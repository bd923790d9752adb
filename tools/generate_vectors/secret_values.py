"""Vectors of the plaintext of secrets with their places, and of grants for values without one."""

import json
from collections.abc import Mapping
from typing import Any

from .cases import Case
from .minting import NOW, Jwt, SignIn, b64url, plain, sorted_json
from .tokens import ALICE, BOB, SESSION, SPACE

_SECRETS = SPACE.rpartition(":")[0] + ":secrets"
_PATH = "vault/secrets/API_KEY"
_AT = "2026-01-02T03:04:05.678Z"
_PLACE = {"owner": ALICE.did, "space": _SECRETS, "path": _PATH, "form": "secret"}
_COPY = f"vault/secrets/shared/{BOB.did}/{'A' * 43}/API_KEY"
_FACT, _URN = "sealspace.values/v1", "urn:sealspace:values:v1:"


def documents() -> dict[str, tuple[str, list[Case]]]:
    """Return the documents by name."""
    return {
        "places": ("the plaintext of a secret, read where it was found", _places()),
        "unbound": ("whether a grant allows values without a place", _grants()),
    }


def _places() -> list[Case]:
    lower = ALICE.did.lower()
    other = BOB.did
    same = {
        "its-place": {},
        "owner-in-lower-case": {"owner": lower},
        "space-in-lower-case": {"space": _SECRETS.lower()},
    }
    elsewhere = {
        "another-owner": {"owner": other},
        "another-space": {"space": SPACE.rpartition(":")[0] + ":default"},
        "another-path": {"path": "vault/secrets/BANK"},
        "another-scope": {"path": "vault/secrets/scoped/ci/API_KEY"},
        "a-note": {"path": "vault/secrets/notes/API_KEY", "form": "note"},
        "a-copy": {"path": _COPY, "form": "copy"},
        "another-form": {"form": "copy"},
    }
    malformed: dict[str, Any] = {
        "null": None,
        "a-text": _PATH,
        "a-list": [_PATH],
        "empty": {},
        "a-member-less": {name: one for name, one in _PLACE.items() if name != "form"},
        "a-member-more": _PLACE | {"more": 1},
        "unknown-form": _PLACE | {"form": "file"},
        "owner-null": _PLACE | {"owner": None},
    }
    cases = [_read(name, _PLACE | changes, {"is_bound": True}) for name, changes in same.items()]
    cases.append(_read("absent", ..., {"is_bound": False}))
    cases.append(
        _read(
            "a-copy-at-its-place",
            _PLACE | {"path": _COPY, "form": "copy"},
            {"is_bound": True},
            path=_COPY,
        )
    )
    for name, changes in elsewhere.items():
        cases.append(_read(f"{name}_fail", _PLACE | changes, {"code": "place-mismatch"}))
    for name, value in malformed.items():
        cases.append(_read(f"{name}_fail", value, {"code": "invalid-secret-payload"}))
    return cases


def _read(name: str, place: Any, expect: Mapping[str, Any], *, path: str = _PATH) -> Case:
    plaintext = {"value": "open sesame", "createdAt": _AT, "updatedAt": _AT}
    if place is not ...:
        plaintext["place"] = place
    return {
        "name": name,
        "rules": ["EN45"],
        "space": _SECRETS,
        "path": path,
        "plaintext": json.dumps(plaintext, sort_keys=True),
        "expect": dict(expect),
    }


def _grants() -> list[Case]:
    allowing = {"unbound": True}
    others: dict[str, Any] = {
        "false": {"unbound": False},
        "a-number": {"unbound": 1},
        "empty": {},
        "a-member-more": {"unbound": True, "more": 1},
        "true": True,
        "null": None,
    }
    cases = [
        _grant("by-a-key", _by_key([{_FACT: allowing}]), is_allowed=True),
        _grant("by-a-wallet", _by_wallet([_URN + b64url(sorted_json(allowing))]), is_allowed=True),
        _grant("beside-another-fact", _by_key([{"a": 1}, {_FACT: allowing}]), is_allowed=True),
        _grant("without-a-fact", _by_key(None), is_allowed=False),
        _grant("another-version", _by_key([{"sealspace.values/v2": allowing}]), is_allowed=False),
        _grant("in-capitals", _by_key([{_FACT.title(): allowing}]), is_allowed=False),
        _grant("nested", _by_key([{"a": {_FACT: allowing}}]), is_allowed=False),
        _grant(
            "by-a-wallet-in-capitals",
            _by_wallet([_URN.upper() + b64url(sorted_json(allowing))]),
            is_allowed=False,
        ),
        _grant("by-a-wallet-without-json", _by_wallet([f"{_URN}!"]), is_allowed=False),
    ]
    for name, stated in others.items():
        cases.append(_grant(f"by-a-key-{name}", _by_key([{_FACT: stated}]), is_allowed=False))
    return cases


def _grant(name: str, token: str, *, is_allowed: bool) -> Case:
    return {
        "name": name,
        "rules": ["EN47"],
        "token": token,
        "expect": {"allows_unbound": is_allowed},
    }


def _by_key(facts: list[Any] | None) -> str:
    path = f"tinycloud:key:{SESSION.did[8:]}:secrets/kv/{_PATH}"
    return (
        Jwt(
            issuer=SESSION,
            audience=BOB.did,
            att={path: plain("tinycloud.kv/get")},
            exp=NOW + 86_400,
            fct=facts,
        )
        .mint()
        .header
    )


def _by_wallet(resources: list[str]) -> str:
    return (
        SignIn(
            wallet=ALICE,
            audience=BOB.did,
            att={f"{_SECRETS}/kv/{_PATH}": plain("tinycloud.kv/get")},
            before_recap=resources,
        )
        .mint()
        .header
    )
