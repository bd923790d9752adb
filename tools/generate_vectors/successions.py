"""Vectors of the statements by which a team moves to another wallet."""

from collections.abc import Mapping, Sequence
from typing import Any

from .cases import Case
from .minting import NOW, SignIn, Token, Wallet, b64url, plain, sorted_json

_URN = "urn:sealspace:member:v1:"
_TEAM, _HEIR, _STRANGER = Wallet(0x14), Wallet(0x15), Wallet(0x16)
_ANNE, _BEN, _CARL, _DORA = (Wallet(fill) for fill in (0x11, 0x12, 0x13, 0x17))
_DAY_S = 86_400
_END, _END_TEXT = NOW + 200 * _DAY_S, "2027-06-06T11:06:40.000Z"
_OLD, _FIRST_AT, _AT = NOW, NOW + 7 * _DAY_S, NOW + 7 * _DAY_S + 60
_FOLDER = f"tinycloud:pkh:eip155:1:{_TEAM.address}:secrets/kv/vault/secrets/"
_NETWORK = f"urn:tinycloud:encryption:{_TEAM.did}:default"
_READ = ("tinycloud.kv/get", "tinycloud.kv/list", "tinycloud.kv/metadata")
_WRITE = (*_READ, "tinycloud.kv/put", "tinycloud.kv/del")


def document() -> tuple[list[Case], Case]:
    """Return all cases, and the tokens that they name."""
    tokens = {
        "anne": _membership(_TEAM, _ANNE, "admin", None),
        "ben": _membership(_TEAM, _BEN, "admin", None),
        "anne-again": _membership(_TEAM, _ANNE, "admin", None, name="anne2"),
    }
    tokens["carl"] = _membership(_ANNE, _CARL, "admin", tokens["anne"])
    tokens["dora"] = _membership(_ANNE, _DORA, "admin", tokens["anne"])
    tokens["carl-again"] = _membership(_ANNE, _CARL, "admin", tokens["anne-again"])
    first = _succession(_ANNE, tokens["anne"])
    named: dict[str, Any] = {"countersigns": first.cid}
    tokens |= {
        "first": first,
        "second": _succession(_BEN, tokens["ben"], **named),
        "of-the-same-admin": _succession(_ANNE, tokens["anne"], **named),
        "of-an-admin-below": _succession(_CARL, tokens["carl"], **named),
        "below-another-membership": _succession(_CARL, tokens["carl-again"], **named),
        "for-another-wallet": _succession(_BEN, tokens["ben"], heir=_STRANGER, **named),
        "of-another-statement": _succession(_BEN, tokens["ben"], countersigns=tokens["ben"].cid),
        "first-of-carl": _succession(_CARL, tokens["carl"]),
        "by-the-team": _succession(_TEAM, None),
        "for-the-team": _succession(_ANNE, tokens["anne"], heir=_TEAM),
        "with-more-rights": _succession(_ANNE, tokens["anne"], abilities=_WRITE),
        "with-paths": _succession(_ANNE, tokens["anne"], paths=[f"{_FOLDER}API_KEY"]),
        "a-reader-who-countersigns": _membership(
            _BEN, _HEIR, "reader", tokens["ben"], _READ, countersigns=first.cid
        ),
    }
    tokens["of-dora"] = _succession(_DORA, tokens["dora"], countersigns=tokens["first-of-carl"].cid)
    admins = ("anne", "anne-again", "ben", "carl", "carl-again", "dora")
    old = dict.fromkeys(admins, _OLD) | {"first": _FIRST_AT}
    moved = {"team": _TEAM.did, "successor": _HEIR.did}
    below = old | {"first-of-carl": _FIRST_AT}
    cases = [
        _case("a-first-statement", "TM16", "first", old, {"successor": _HEIR.did}, at=_FIRST_AT),
        _case("two-admins-move-a-team", "TM17", "second", old, moved),
        _failed("the-same-admin", "TM17", "of-the-same-admin", old),
        _failed("an-admin-below-the-first", "TM17", "of-an-admin-below", old),
        _failed("an-admin-with-two-memberships", "TM17", "below-another-membership", old),
        _failed("two-admins-of-a-third-one", "TM17", "of-dora", below),
        _failed("another-successor", "TM17", "for-another-wallet", old),
        _failed("a-membership-in-place-of-a-statement", "TM17", "of-another-statement", old),
        _failed("an-unknown-statement", "TM17", "second", {"anne": _OLD, "ben": _OLD}),
        _failed("a-second-too-early", "TM17", "second", old, at=_AT - 1),
        _failed("a-second-admin-too-young", "TM17", "second", old | {"ben": _OLD + 61}),
        _failed("a-first-admin-too-young", "TM16", "first", {"anne": _OLD + 1}, at=_FIRST_AT),
        _failed("the-team-itself-signs", "TM16", "by-the-team", old),
        _failed("a-team-succeeds-itself", "TM16", "for-the-team", old),
        _failed("rights-of-a-writer", "TM16", "with-more-rights", old),
        _failed("for-one-secret", "TM16", "with-paths", old),
        _failed("a-reader-countersigns", "TM17", "a-reader-who-countersigns", old),
    ]
    return cases, {"tokens": {name: token.header for name, token in tokens.items()}}


def _case(
    name: str,
    rules: str,
    statement: str,
    registered: Mapping[str, int],
    expect: Mapping[str, Any],
    *,
    at: int = _AT,
) -> Case:
    case: Case = {"name": name, "rules": rules.split(), "statement": statement}
    return case | {"registered": dict(registered), "now": at, "expect": dict(expect)}


def _failed(
    name: str, rules: str, statement: str, registered: Mapping[str, int], *, at: int = _AT
) -> Case:
    expect = {"code": "token-malformed"}
    return _case(f"{name}_fail", rules, statement, registered, expect, at=at)


def _membership(
    signer: Wallet,
    member: Wallet,
    role: str,
    above: Token | None,
    abilities: Sequence[str] = _WRITE,
    **stated: Any,
) -> Token:
    statement = {"member": member.did, "role": role, "end": _END} | stated
    return SignIn(
        wallet=signer,
        audience=member.did,
        att={_FOLDER: plain(*abilities), _NETWORK: plain("tinycloud.encryption/decrypt")},
        exp=_END_TEXT,
        prf=[] if above is None else [above.cid58],
        before_recap=[_URN + b64url(sorted_json(statement))],
    ).mint()


def _succession(
    signer: Wallet,
    above: Token | None,
    *,
    heir: Wallet = _HEIR,
    abilities: Sequence[str] = _READ,
    **stated: Any,
) -> Token:
    return _membership(signer, heir, "successor", above, abilities, **stated)
