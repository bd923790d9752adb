"""Vectors of delegations as JSON: written by other clients, in other accepted forms, or refused."""

import json
from typing import Any

from .cases import Case, Documents
from .minting import NOW, Jwt, Key, SignIn, Token, Wallet, compact, plain

_ALICE = Wallet(0x11)
_SESSION = Key(0x21)
_BOB = Key(0x31)
_SECRETS = f"tinycloud:{_ALICE.did[4:]}:secrets"
_NOTES = f"tinycloud:{_ALICE.did[4:]}:notes"
_NETWORK = f"urn:tinycloud:encryption:{_ALICE.did}:default"
_HOST = "https://node.example"
_PATH = "vault/secrets/API_KEY"
_END, _END_TEXT = NOW + 3_600, "2026-11-18T12:06:40.000Z"


def documents() -> Documents:
    """Return the vectors of each file: description, cases, and shared values."""
    about = "delegations as JSON; `canonical` ones are written in exactly these bytes"
    return {"portable": (about, [*_written(), *_read(), *_refused()], {"now": NOW})}


def _session_grant(*, att: Any = None) -> Token:
    att = {f"{_SECRETS}/kv/{_PATH}": plain("tinycloud.kv/get")} if att is None else att
    return Jwt(issuer=_SESSION, iss=_SESSION.did, audience=_BOB.did, att=att, exp=_END).mint()


def _row(service: str, space: str, path: str, *words: str) -> dict[str, Any]:
    return {
        "service": service,
        "space": space,
        "path": path,
        "actions": [f"tinycloud.{service}/{word}" for word in words],
    }


def _form(
    token: Token, *rows: dict[str, Any], space: str = _SECRETS, **changes: Any
) -> dict[str, Any]:
    rows = rows or (_row("kv", _SECRETS, _PATH, "get"),)
    members = {
        "cid": token.cid,
        "delegationHeader": {"Authorization": token.header},
        "spaceId": space,
        "path": rows[0]["path"],
        "actions": rows[0]["actions"],
        "resources": list(rows),
        "disableSubDelegation": False,
        "expiry": _END_TEXT,
        "delegateDID": _BOB.did,
        "ownerAddress": _ALICE.address,
        "chainId": 1,
        "host": _HOST,
    }
    return {name: value for name, value in (members | changes).items() if value is not None}


def _text(value: Any) -> str:
    return compact(value).decode()


def _accepted(
    name: str, rules: str, value: Any, *, canonical: bool, read: list[dict[str, Any]]
) -> Case:
    return {
        "name": name,
        "rules": rules.split(),
        "text": _text(value),
        "canonical": canonical,
        "expect": {"delegations": read},
    }


def _said(token: Token, *rows: list[Any], **changes: Any) -> dict[str, Any]:
    """Return the members that are read from a delegation."""
    return {
        "cid": token.cid,
        "delegate": _BOB.did,
        "owner": _ALICE.did,
        "resources": list(rows) or [["kv", _SECRETS, _PATH, ["tinycloud.kv/get"]]],
        "expires_at": _END,
        "host": _HOST,
        "sub_delegation": True,
        "parent": None,
    } | changes


def _several() -> tuple[Token, list[dict[str, Any]]]:
    att = {
        f"{_NOTES}/kv": plain("tinycloud.kv/list"),
        f"{_NOTES}/kv/shared/": plain("tinycloud.kv/get", "tinycloud.kv/put"),
    }
    return _session_grant(att=att), [
        _row("kv", _NOTES, "", "list"),
        _row("kv", _NOTES, "shared/", "get", "put"),
    ]


def _written() -> list[Case]:
    one = _session_grant()
    several, rows = _several()
    network = _session_grant(att={_NETWORK: plain("tinycloud.encryption/decrypt")})
    network_row = _row("encryption", "encryption", _NETWORK, "decrypt")
    by_wallet = SignIn(
        wallet=_ALICE,
        audience=_BOB.did,
        att={f"{_SECRETS}/kv/{_PATH}": plain("tinycloud.kv/get")},
        exp=_END_TEXT,
    ).mint()
    said_rows = [[row["service"], row["space"], row["path"], row["actions"]] for row in rows]
    said_network = ["encryption", "encryption", _NETWORK, ["tinycloud.encryption/decrypt"]]
    forms = [
        _form(one),
        _form(several, *rows, space=_NOTES),
        _form(network, network_row, space=_NOTES),
    ]
    bundle = {
        "format": "listen.delegation-bundle",
        "version": 1,
        "delegations": [_text(form) for form in forms],
    }
    read = [_said(one), _said(several, *said_rows), _said(network, said_network)]
    return [
        _accepted("one-resource", "MF14", forms[0], canonical=True, read=[read[0]]),
        _accepted("several-resources", "MF14", forms[1], canonical=True, read=[read[1]]),
        _accepted("a-network", "MF14", forms[2], canonical=True, read=[read[2]]),
        _accepted(
            "by-the-wallet", "MF14", _form(by_wallet), canonical=True, read=[_said(by_wallet)]
        ),
        _accepted("a-bundle", "MF14", bundle, canonical=True, read=read),
    ]


def _read() -> list[Case]:
    one = _session_grant()
    several, rows = _several()
    form, said = _form(one), [_said(one)]
    long_name = {**_row("kv", _SECRETS, _PATH, "get"), "service": "tinycloud.kv"}
    bearer = {"Authorization": f"Bearer {one.header}"}
    said_rows = [[row["service"], row["space"], row["path"], row["actions"]] for row in rows]
    companion = _form(several, *rows, space=_NOTES)

    def read(name: str, value: Any, expect: list[dict[str, Any]] | None = None) -> Case:
        return _accepted(
            name, "MF15", value, canonical=False, read=said if expect is None else expect
        )

    return [
        read("flat-members-only", _form(one, resources=None)),
        read("no-host", _form(one, host=None), [_said(one, host="")]),
        read("long-name-of-a-service", _form(one, long_name)),
        read("bearer", {**form, "delegationHeader": bearer}),
        read("the-token-twice", {**form, "authHeader": one.header}),
        read(
            "allow-sub-delegation",
            {**form, "disableSubDelegation": None, "allowSubDelegation": True},
        ),
        read(
            "not-passed-on",
            {**form, "disableSubDelegation": True},
            [_said(one, sub_delegation=False)],
        ),
        read(
            "not-passed-on-as-it-was-said",
            {**form, "allowSubDelegation": False},
            [_said(one, sub_delegation=False)],
        ),
        read("expiry-with-an-offset", {**form, "expiry": "2026-11-18T13:06:40+01:00"}),
        read(
            "delegate-by-its-url",
            {**form, "delegateDID": _BOB.url},
            [_said(one, delegate=_BOB.url)],
        ),
        read("with-its-parent", {**form, "parentCid": one.cid}, [_said(one, parent=one.cid)]),
        read(
            "not-revoked",
            {**form, "isRevoked": False, "delegatorDID": _SESSION.did, "createdAt": _END_TEXT},
        ),
        read(
            "with-the-public-space",
            {**form, "publicDelegation": companion},
            [_said(one), _said(several, *said_rows)],
        ),
        read(
            "a-bundle-of-objects",
            {"format": "listen.delegation-bundle", "version": 1, "delegations": [form, form]},
            [_said(one), _said(one)],
        ),
    ]


def _refused() -> list[Case]:
    one = _session_grant()
    form = _form(one)
    more = _row("kv", _SECRETS, _PATH, "get", "put")
    wider = _row("kv", _SECRETS, "vault/secrets/", "get")
    later = "2026-11-18T12:06:50.000Z"

    def fault(name: str, rule: str, value: Any, path: str) -> Case:
        text = value if isinstance(value, str) else _text(value)
        expect = {"code": "invalid-portable-delegation", "path": path}
        return {"name": f"{name}_fail", "rules": [rule], "text": text, "expect": expect}

    bundle = {"format": "listen.delegation-bundle", "version": 1}
    return [
        fault("no-json", "MF15", "delegation", ""),
        fault("unknown-member", "MF15", {**form, "colour": 1}, "colour"),
        fault("no-id", "MF15", {**form, "cid": 1}, "cid"),
        fault("no-token", "MF15", {**form, "delegationHeader": "x"}, "delegationHeader"),
        fault("another-token-beside", "MF15", {**form, "authHeader": "x"}, "authHeader"),
        fault("no-recipient", "MF15", _form(one, delegateDID=None), "delegateDID"),
        fault("no-owner", "MF15", _form(one, ownerAddress=None), "ownerAddress"),
        fault("an-owner-that-is-none", "MF15", {**form, "ownerAddress": "0x1"}, "ownerAddress"),
        fault("chain-as-text", "MF15", {**form, "chainId": "1"}, "chainId"),
        fault("resources-as-object", "MF15", {**form, "resources": {}}, "resources"),
        fault(
            "resource-without-space",
            "MF15",
            {**form, "resources": [{"service": "kv"}]},
            "resources[0].space",
        ),
        fault(
            "resource-without-actions",
            "MF15",
            {**form, "resources": [{**_row("kv", _SECRETS, _PATH), "actions": []}]},
            "resources[0].actions",
        ),
        fault("expiry-as-number", "MF15", {**form, "expiry": _END}, "expiry"),
        fault("revoked", "MF15", {**form, "isRevoked": True}, "isRevoked"),
        fault(
            "two-public-spaces",
            "MF15",
            {**form, "publicDelegation": {**form, "publicDelegation": form}},
            "publicDelegation.publicDelegation",
        ),
        fault(
            "bundle-of-another-format",
            "MF15",
            {**bundle, "format": "x", "delegations": [form]},
            "format",
        ),
        fault("bundle-of-nothing", "MF15", {**bundle, "delegations": []}, "delegations"),
        fault(
            "bundle-with-a-broken-one",
            "MF15",
            {**bundle, "delegations": [_text(form), json.dumps({**form, "host": 1})]},
            "delegations[1].host",
        ),
        fault("says-another-id", "MF16", {**form, "cid": "bafkr4ia"}, "description"),
        fault(
            "says-another-recipient", "MF16", {**form, "delegateDID": _SESSION.did}, "description"
        ),
        fault("says-one-action-more", "MF16", _form(one, more), "resources[0]"),
        fault("says-a-wider-path", "MF16", _form(one, wider), "resources[0]"),
        fault("says-a-later-expiry", "MF16", {**form, "expiry": later}, "expiry"),
        fault("says-no-expiry", "MF16", _form(one, expiry=None), "expiry"),
    ]
