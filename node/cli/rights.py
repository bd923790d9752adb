"""What may be done with what, in words; of grants, and of requests that are refused.

Example:
    rights_words([granted_resource(f"{space}/kv/todo", (KV_GET,))], by=owner)  # ("get todo in the space notes",)
"""

from collections.abc import Sequence
from typing import Final

from capabilities.errors import CapabilityError
from capabilities.principals import same_principal
from capabilities.resources import parse_network_id, parse_space_id
from capabilities.strict_json import Json
from sealspace.delegations import allow
from sealspace.errors import InvalidInput
from sealspace.portable import GrantedResource, PortableDelegation, described
from sealspace.secrets import SECRETS_SPACE, secret_at

_SECRETS: Final = "vault/secrets/"
_WORDS: Final = {"del": "delete", "metadata": "head"}  # as the commands are called


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
    """Return one line for each resource: what may be done with what.

    Args:
        rights: what is granted.
        by: who grants it; the owner of a space is named where it is somebody else.
        with_below: a path means what is below it too, as in a grant; else the one value, as in a request.
    """
    return tuple(f"{_actions(one)} {_place(one, by, with_below=with_below)}" for one in rights)


def _actions(right: GrantedResource) -> str:
    words = [one.rpartition("/")[2] if one.startswith("tinycloud.") else one for one in right.actions]
    return ", ".join(_WORDS.get(one, one) for one in words)


def _place(right: GrantedResource, by: str, *, with_below: bool) -> str:
    try:
        if right.service == "encryption":
            network = parse_network_id(right.path)
            return f"what is sealed to the network {network.name}{_whose(network.owner, by)}"
        space = parse_space_id(right.space)
    except CapabilityError:
        return right.path or right.space
    whose = _whose(space.owner, by)
    if right.service == "space":
        return f"spaces{whose}"
    if right.service == "kv" and space.name == SECRETS_SPACE and right.path.startswith(_SECRETS):
        secret = secret_at(right.path)
        return f"the secret {secret.label}{whose}" if secret is not None else f"every secret below {right.path}{whose}"
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
