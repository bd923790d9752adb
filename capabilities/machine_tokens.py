"""The statement that makes a delegation a machine token (MT1 to MT3).

A machine token lets a server or a CI job read a few secrets of an owner without the owner's key. It
is a key and one delegation to that key. The delegation states what it is in its only fact:

    {"sealspace.machine/v1": {"key": "did:key:z6Mk…", "paths": ["tinycloud:…:secrets/kv/…"],
                              "end": 1790000000, "name": "deploy"}}

Example:
    grant = machine_grant(delegation, registered_at=now)  # None: not a machine token
"""

from typing import Annotated

from msgspec import Meta

from .abilities import DECRYPT, KV_GET
from .capability_errors import InvalidJson, MalformedToken
from .facts import MACHINE_FACT
from .resources import Resource, SpaceResource, network_of, root_of
from .strict_json import StrictRecord, shaped
from .tokens import Delegation

MAX_LIFE_S = 366 * 86_400
"""Longest life of a machine token, from its registration."""
MAX_MACHINE_PATHS = 64
"""Most secrets of one machine token; each release reads a row for every one."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
MachineName = Annotated[str, Meta(pattern=NAME_PATTERN)]
"""The name of a machine token, which is safe to print."""

_Text = Annotated[str, Meta(max_length=4096)]


class MachineGrant(StrictRecord, frozen=True):
    """The statement of a machine token, which is what its owner grants (MT1).

    Attributes:
        key: did:key of the token.
        paths: resources of the secrets, in canonical form.
        end: of the delegation, epoch seconds.
        name: chosen by the owner, for lists and receipts.
    """

    key: _Text
    paths: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=MAX_MACHINE_PATHS)]
    end: int
    name: MachineName


def is_machine_token(delegation: Delegation) -> bool:
    """Return whether a delegation has the statement of a machine token, valid or not."""
    return any(isinstance(fact, dict) and MACHINE_FACT in fact for fact in delegation.facts)


def machine_grant(delegation: Delegation, *, registered_at: float) -> MachineGrant | None:
    """Return what a machine token grants, or None for any other delegation (MT2).

    Args:
        delegation: verified.
        registered_at: when it was registered here, epoch seconds.
    Raises:
        MalformedToken: the statement is invalid, or differs from what the delegation grants.
    Does not check:
        That the delegation is live; who presents it.
    """
    if not is_machine_token(delegation):
        return None
    fact, *others = delegation.facts
    if others or not isinstance(fact, dict) or len(fact) != 1 or delegation.parents:
        raise MalformedToken("a machine token has exactly one fact and cites no proof")
    try:
        stated = shaped(fact[MACHINE_FACT], MachineGrant)
    except InvalidJson as exc:
        raise MalformedToken(f"its statement is invalid: {exc.text}") from exc
    if stated.key != delegation.delegate or not stated.key.startswith("did:key:"):
        raise MalformedToken("the machine token is for another key than it states")
    if stated.end != delegation.expires_at:
        raise MalformedToken("the machine token ends at another time than it states")
    if stated.end > registered_at + MAX_LIFE_S:
        raise MalformedToken(f"a machine token ends within {MAX_LIFE_S // 86_400} days")
    # It grants exactly what it states, on resources of its signer. Otherwise its key could also
    # write or list.
    granted, networks = list[str](), 0
    for one in delegation.capabilities:
        if one.caveats or root_of(one.resource) != delegation.delegator:
            raise MalformedToken("a machine token grants its signer's own values, without caveats")
        if one.ability == KV_GET and _is_value(one.resource):
            granted.append(one.resource.text)
        elif one.ability == DECRYPT and network_of(one.resource):
            networks += 1
        else:
            raise MalformedToken("a machine token may only read values and decrypt them")
    if networks != 1 or sorted(granted) != sorted(stated.paths):  # no capability repeats (T7)
        raise MalformedToken("a machine token grants exactly its paths, and one network's keys")
    return stated


def _is_value(resource: Resource) -> bool:
    """Return whether a resource is one value, and not a space or a folder."""
    return (
        isinstance(resource, SpaceResource)
        and resource.service == "kv"
        and bool(resource.path)
        and not resource.text.endswith("/")  # X5: it would cover everything below
        and resource.query is resource.fragment is None
    )
