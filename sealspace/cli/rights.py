"""What may be done with what, in words; of grants, and of requests that are refused.

Example:
    rights_words([granted_resource(f"{space}/kv/todo", (KV_GET,))], by=owner)  # ("get todo in the space notes",)
"""

from collections.abc import Sequence
from typing import Final

from capabilities.abilities import NETWORK_CREATE, NETWORK_REVOKE, READ_RECEIPTS, SET_POLICY
from capabilities.errors import CapabilityError
from capabilities.principals import same_principal
from capabilities.resources import parse_network_id, parse_space_id
from capabilities.strict_json import Json

from ..delegations import allow
from ..errors import InvalidInput
from ..secrets import SECRETS_SPACE, secret_at
from ..wire.portable import GrantedResource, PortableDelegation, described

_SECRETS: Final = "vault/secrets/"
_WORDS: Final = {"del": "delete", "metadata": "head"}  # as the commands are called
_OF_NETWORK: Final = {
    NETWORK_CREATE: "create",
    NETWORK_REVOKE: "revoke",
    SET_POLICY: "set the terms of",
    READ_RECEIPTS: "read the receipts of",
}
_OF_GRANTS: Final = {"status": "look up"}


def rights_json(rights: Sequence[GrantedResource]) -> list[Json]:
    """Return what is granted, as portable grants describe it."""
    return [
        {"service": one.service, "space": one.space, "path": one.path, "actions": list(one.actions)} for one in rights
    ]


def granted_resource(resource: str, abilities: tuple[str, ...]) -> GrantedResource:
    """Return rights on a resource as portable grants describe them."""
    try:
        (one,) = described([allow(resource, ability) for ability in abilities])
    except (InvalidInput, ValueError):  # nothing that is known here, or no ability at all
        return GrantedResource("", "", resource, abilities)
    return one


def rights_words(rights: Sequence[GrantedResource], *, by: str, with_below: bool = True) -> tuple[str, ...]:
    """Return one line for each resource, of a network for each ability: what may be done with what.

    Args:
        rights: what is granted.
        by: who grants it; the owner of a space is named where it is somebody else.
        with_below: a path means what is below it too, as in a grant; else the one value, as in a request.
    """
    lines: list[str] = []
    for one in rights:
        place = _place(one, by, with_below=with_below)
        lines += _of_network(one, place) if one.service == "encryption" else [f"{_actions(one)} {place}"]
    return tuple(lines)


def _of_network(right: GrantedResource, place: str) -> list[str]:
    return [
        f"{_OF_NETWORK[one]} {place}" if one in _OF_NETWORK else f"{_word(one)} what is sealed to {place}"
        for one in right.actions
    ]


def _actions(right: GrantedResource) -> str:
    if right.service == "capabilities":
        return "see the rights"
    if right.service == "delegation":
        return ", ".join(_OF_GRANTS.get(_word(one), _word(one)) for one in right.actions) + " grants"
    return ", ".join(_word(one) for one in right.actions)


def _word(ability: str) -> str:
    name = ability.rpartition("/")[2] if ability.startswith("tinycloud.") else ability
    return _WORDS.get(name, name)


def _place(right: GrantedResource, by: str, *, with_below: bool) -> str:
    try:
        if right.service == "encryption":
            network = parse_network_id(right.path)
            return f"the network {network.name}{_whose(network.owner, by)}"
        space = parse_space_id(right.space)
    except CapabilityError:
        return right.path or right.space
    whose = _whose(space.owner, by)
    if right.service == "space":
        return f"spaces{whose}"
    if right.service == "kv" and space.name == SECRETS_SPACE and f"{right.path}/".startswith(_SECRETS):
        secret = secret_at(right.path)
        below = right.path[len(_SECRETS) :]
        every = f"every secret{below and f' below {below}'}, those that begin with PROTECTED_ too"
        return f"{every if secret is None else f'the secret {secret.label}'}{whose}"
    if right.service in ("capabilities", "delegation"):
        return f"in the space {space.name}{whose}"
    where = f"{right.path}{' and what is below it' if with_below else ''}" if right.path else "everything"
    service = "" if right.service == "kv" else f" ({right.service})"
    return f"{where} in the space {space.name}{whose}{service}"


def granted_labels(portable: PortableDelegation) -> list[str]:
    """Return the labels of the secrets that a grant names, and the paths of other values."""
    return [label_at(one.path) for one in portable.resources if one.service == "kv"]


def label_at(path: str) -> str:
    """Return the label of the secret at a path, `NAME` or `scope/NAME`; any other path as it is."""
    secret = secret_at(path)
    return path if secret is None else secret.label


def _whose(owner: str, by: str) -> str:
    return "" if same_principal(owner, by) else f" of {owner}"
