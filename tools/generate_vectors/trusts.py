"""Vectors of trusts in issuers, and of the machine tokens that a node makes under them."""

from collections.abc import Mapping
from typing import Any

from .cases import Case
from .minting import NOW, Jwt, Key, SignIn, Token, b64url, plain, sorted_json
from .tokens import ALICE, BOB, SESSION, SPACE

_URN = "urn:sealspace:oidc:v1:"
_TRUST, _MACHINE = "sealspace.oidc/v1", "sealspace.machine/v1"
_EXCHANGE = Key(0x41)
"""The exchange key X of the node (OX2)."""
_JOB = BOB
_END = NOW + 90 * 86_400
_YEAR_LATER_S = NOW + 365 * 86_400
_FOLDER = f"tinycloud:key:{SESSION.did[8:]}:secrets/kv/vault/secrets"
_PATHS = [f"{_FOLDER}/API_KEY", f"{_FOLDER}/scoped/ci/DB_URL"]
_NETWORK = f"urn:tinycloud:encryption:{SESSION.did}:default"
_ISSUER = "https://token.actions.githubusercontent.com"
_CLAIMS: dict[str, Any] = {
    "ref": ["refs/heads/main", "refs/tags/1"],
    "repository_id": ["74"],
    "level": [3, True],
}
_PRESENTED: dict[str, Any] = {
    "iss": _ISSUER,
    "sub": "repo:acme/shop:ref:refs/heads/main",
    "ref": "refs/heads/main",
    "repository_id": "74",
    "level": 3,
    "event_name": "push",
}


def document() -> tuple[list[Case], Case]:
    """Return all cases, registered at the vectors' time, and the trusts that tokens cite."""
    above = {
        "shop": _trust(),
        "brief": _trust(end=NOW + 300),
        "machine": _token(None),
        "lenient": _trust(unbound=True),
    }
    trusts = {name: token.header for name, token in above.items()}
    return [*_trusts(), *_tokens(above)], {"trusts": trusts}


def _trusts() -> list[Case]:
    granted = {"name": "shop", "paths": _PATHS, "issuer": _ISSUER, "claims": _CLAIMS}
    full = {
        "issuer": "https://gitlab.example:8443/a/b",
        "claims": {f"claim_{n}": [str(m) for m in range(16)] for n in range(8)},
        "jwks": '{"keys":[]}',
        "issuerCa": "a certificate",
    }
    refused: dict[str, dict[str, Any]] = {
        "unknown-member": {"more": 1},
        "issuer-without-tls": {"issuer": "http://ci.example"},
        "issuer-in-capitals": {"issuer": "https://CI.example"},
        "issuer-with-query": {"issuer": "https://ci.example/?a"},
        "no-claims": {"claims": {}},
        "nine-claims": {"claims": {f"claim_{n}": ["a"] for n in range(9)}},
        "no-values": {"claims": {"ref": []}},
        "seventeen-values": {"claims": {"ref": [str(n) for n in range(17)]}},
        "long-value": {"claims": {"ref": ["a" * 513]}},
        "value-not-ascii": {"claims": {"ref": ["é"]}},
        "value-with-fraction": {"claims": {"ref": [1.5]}},
        "value-null": {"claims": {"ref": [None]}},
        "claim-with-space": {"claims": {"a b": ["c"]}},
        "jwks-that-is-no-text": {"jwks": {"keys": []}},
    }
    of_the_grant: dict[str, dict[str, Any]] = {
        "another-key": {"key": BOB.did},
        "for-ever": {"end": NOW + 366 * 86_400 + 1},
        "a-path-less": {"paths": _PATHS[:1]},
    }
    return [
        _case("a-key-trusts-github", "OX1 OX2", granted, _trust()),
        _case("a-key-allows-unbound-values", "EN46", {"unbound": True}, _trust(unbound=True)),
        _refused("unbound-false", "EN46", _trust(unbound=False)),
        _case("a-wallet-trusts-github", "OX1 OX2", {"end": _YEAR_LATER_S}, _by_wallet()),
        _case(
            "the-most-of-everything",
            "OX1",
            granted | {name: full[name] for name in ("issuer", "claims")},
            _trust(**full),
        ),
        *[_refused(name, "OX1", _trust(**changes)) for name, changes in refused.items()],
        _refused("another-version", "OX1", _by_wallet(urn=f"{_URN[:-2]}2:")),
        _refused("two-statements", "OX1", _by_wallet(times=2)),
        *[_refused(name, "OX2 MT2", _trust(**one)) for name, one in of_the_grant.items()],
    ]


def _tokens(above: Mapping[str, Token]) -> list[Case]:
    granted = {"name": "shop", "paths": _PATHS, "claims": _PRESENTED}
    least = {name: _PRESENTED[name] for name in ("iss", "sub", *_CLAIMS)}
    inside: dict[str, dict[str, Any]] = {
        "a-job": {},
        "a-job-with-one-path": {"paths": _PATHS[:1]},
        "a-job-with-other-values": {"claims": least | {"ref": "refs/tags/1", "level": True}},
    }
    outside: dict[str, dict[str, Any]] = {
        "longer-than-900-s": {"end": NOW + 901},
        "another-name": {"name": "other"},
        "another-path": {"paths": [f"{_FOLDER}/OTHER_KEY"]},
        "a-path-more": {"paths": [*_PATHS, f"{_FOLDER}/OTHER_KEY"]},
        "a-claim-less": {"claims": {n: v for n, v in least.items() if n != "ref"}},
        "another-issuer": {"claims": least | {"iss": f"{_ISSUER}/"}},
        "another-branch": {"claims": least | {"ref": "refs/heads/main2"}},
        "a-list-of-values": {"claims": least | {"ref": ["refs/heads/main"]}},
        "a-number-for-a-text": {"claims": least | {"repository_id": 74}},
        "a-number-for-true": {"claims": least | {"level": 1}},
        "a-request-by-anybody": {"claims": least | {"event_name": "pull_request_target"}},
        "empty-claims": {"claims": {}},
        "without-claims": {"claims": None},
        "unknown-member-in-a-token": {"more": 1},
    }
    shop, brief = above["shop"], above["brief"]
    return [
        *[
            _case(name, "OX4", granted | changes, _token(shop, **changes), "shop")
            for name, changes in inside.items()
        ],
        *[
            _refused(name, "OX3 OX4", _token(shop, **changes), "shop")
            for name, changes in outside.items()
        ],
        _case(
            "a-job-with-unbound-values",
            "EN46 OX4",
            {"unbound": True},
            _token(above["lenient"], unbound=True),
            "lenient",
        ),
        _case("a-job-with-less", "EN46 OX4", granted, _token(above["lenient"]), "lenient"),
        _refused("a-job-with-more", "EN46 OX4", _token(shop, unbound=True), "shop"),
        _refused("longer-than-its-trust", "OX4", _token(brief), "brief"),
        _refused("by-another-node", "OX2 OX4", _token(shop, signer=Key(0x42)), "shop"),
        _refused("that-cites-nothing", "OX4", _token(None), "shop"),
        _refused("below-a-machine-token", "OX4", _token(above["machine"]), "machine"),
    ]


def _case(name: str, rules: str, expect: Mapping[str, Any], token: Token, under: str = "") -> Case:
    case: Case = {"name": name, "rules": rules.split(), "registered_at": NOW}
    cited = {"under": under} if under else {}
    return case | cited | {"token": token.header, "expect": dict(expect)}


def _refused(name: str, rules: str, token: Token, under: str = "") -> Case:
    return _case(f"{name}_fail", rules, {"code": "token-malformed"}, token, under)


def _trust(**changes: Any) -> Token:
    stated = {
        "key": _EXCHANGE.did,
        "paths": _PATHS,
        "end": _END,
        "name": "shop",
        "issuer": _ISSUER,
        "claims": _CLAIMS,
    }
    return _stating(SESSION, _EXCHANGE, _TRUST, stated | changes, _PATHS, None)


def _token(trust: Token | None, *, signer: Key = _EXCHANGE, **changes: Any) -> Token:
    stated: dict[str, Any] = {
        "key": _JOB.did,
        "paths": _PATHS,
        "end": NOW + 900,
        "name": "shop",
        "claims": _PRESENTED,
    } | changes
    return _stating(signer, _JOB, _MACHINE, stated, stated["paths"], trust)


def _stating(
    signer: Key,
    audience: Key,
    fact: str,
    stated: Mapping[str, Any],
    paths: list[str],
    above: Token | None,
) -> Token:
    att = {path: plain("tinycloud.kv/get") for path in paths}
    return Jwt(
        issuer=signer,
        audience=audience.did,
        att=att | {_NETWORK: plain("tinycloud.encryption/decrypt")},
        exp=stated["end"],
        prf=[] if above is None else [above.cid],
        fct=[{fact: {name: one for name, one in stated.items() if one is not None}}],
    ).mint()


def _by_wallet(*, urn: str = _URN, times: int = 1) -> Token:
    path = f"{SPACE}/kv/vault/secrets/API_KEY"
    stated = {
        "key": _EXCHANGE.did,
        "paths": [path],
        "end": _YEAR_LATER_S,
        "name": "shop",
        "issuer": _ISSUER,
        "claims": _CLAIMS,
    }
    network = f"urn:tinycloud:encryption:{ALICE.did}:default"
    return SignIn(
        wallet=ALICE,
        audience=_EXCHANGE.did,
        att={
            path: plain("tinycloud.kv/get"),
            network: plain("tinycloud.encryption/decrypt"),
        },
        before_recap=[urn + b64url(sorted_json(stated))] * times,
    ).mint()
