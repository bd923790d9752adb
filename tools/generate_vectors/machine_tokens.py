"""Vectors of machine tokens: the name and the paths that one grants, or its refusal."""

from collections.abc import Mapping
from typing import Any

from .cases import Case
from .minting import NOW, Jwt, SignIn, b64url, plain, sorted_json
from .tokens import ALICE, BOB, SESSION, SPACE

_URN = "urn:sealspace:machine:v1:"
_FACT = "sealspace.machine/v1"
_YEAR_LATER_S = NOW + 365 * 86_400
_WALLET_PATHS = [f"{SPACE}/kv/vault/secrets/{name}" for name in ("API_KEY", "scoped/ci/DB_URL")]
_KEY_PATHS = [f"tinycloud:key:{SESSION.did[8:]}:secrets/kv/vault/secrets/API_KEY"]


def cases() -> list[Case]:
    """Return all cases of machine tokens, registered at the vectors' time."""
    wallet = {"name": "deploy", "paths": _WALLET_PATHS}
    return [
        _case("alice-to-a-server", "MT1 MT3", _by_wallet(), wallet),
        _case("alice-to-a-server-by-did-url", "MT1 MT3", _by_wallet(BOB.url), wallet),
        _case(
            "key-to-a-server", "MT1 MT3", _by_key(), {"name": "ci.deploy-2", "paths": _KEY_PATHS}
        ),
        _case(
            "alice-to-a-server-unbound-values",
            "MT1 EN46",
            _by_wallet(unbound=True),
            wallet | {"unbound": True},
        ),
        _case("alice-to-a-server-unbound-false", "EN46", _by_wallet(unbound=False), None),
        _case("alice-to-a-server-unbound-number", "EN46", _by_wallet(unbound=1), None),
        _case("alice-to-a-server-unbound-null", "EN46", _by_wallet(unbound=None), None),
        _case("alice-to-a-server-two-statements", "MT2", _by_wallet(times=2), None),
        _case("alice-to-a-server-other-version", "MT2", _by_wallet(urn=_URN[:-2] + "2:"), None),
        _case("alice-to-a-server-other-end", "MT2", _by_wallet(end=_YEAR_LATER_S - 1), None),
        _case("alice-to-a-server-path-less", "MT2", _by_wallet(paths=_WALLET_PATHS[:1]), None),
        _case("key-to-a-server-name-with-space", "MT2", _by_key(name="a b"), None),
        _case("key-to-a-server-for-ever", "MT2", _by_key(end=NOW + 366 * 86_400 + 1), None),
        _case("key-to-a-server-unknown-member", "MT2", _by_key(more=1), None),
    ]


def _case(name: str, rules: str, token: str, machine: Mapping[str, Any] | None) -> Case:
    return {
        "name": name if machine is not None else f"{name}_fail",
        "rules": rules.split(),
        "registered_at": NOW,
        "token": token,
        "expect": {"code": "token-malformed"}
        if machine is None
        else {"terminal": True, "machine": dict(machine)},
    }


def _by_wallet(audience: str = BOB.did, *, urn: str = _URN, times: int = 1, **changes: Any) -> str:
    stated = {"key": BOB.did, "paths": _WALLET_PATHS, "end": _YEAR_LATER_S, "name": "deploy"}
    resource = urn + b64url(sorted_json(stated | changes))
    att = {path: plain("tinycloud.kv/get") for path in _WALLET_PATHS}
    network = f"urn:tinycloud:encryption:{ALICE.did}:default"
    return (
        SignIn(
            wallet=ALICE,
            audience=audience,
            att=att | {network: plain("tinycloud.encryption/decrypt")},
            before_recap=[resource] * times,
        )
        .mint()
        .header
    )


def _by_key(**changes: Any) -> str:
    stated: dict[str, Any] = {
        "key": BOB.did,
        "paths": _KEY_PATHS,
        "end": NOW + 30 * 86_400,
        "name": "ci.deploy-2",
    } | changes
    att = {path: plain("tinycloud.kv/get") for path in _KEY_PATHS}
    network = f"urn:tinycloud:encryption:{SESSION.did}:default"
    return (
        Jwt(
            issuer=SESSION,
            audience=BOB.did,
            att=att | {network: plain("tinycloud.encryption/decrypt")},
            exp=stated["end"],
            fct=[{_FACT: stated}],
        )
        .mint()
        .header
    )
