"""Plain words for abilities, for the places of resources, and for rights.

Example:
    right = GrantedResource(
        service="kv", space="tinycloud:key:z6Mk…:notes", path="todo/", actions=(KV_GET,)
    )
    print(verb_of(KV_GET), place_of(right, "did:key:z6Mk…", with_below=True))
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from capabilities.abilities import (
    DECRYPT,
    DELEGATION_STATUS,
    KV_DELETE,
    KV_GET,
    KV_LIST,
    KV_METADATA,
    KV_PUT,
    NETWORK_CREATE,
    NETWORK_REVOKE,
    READ_RECEIPTS,
    SET_POLICY,
    SQL_ADMIN,
    SQL_READ,
    SQL_SCHEMA,
    SQL_WRITE,
)
from capabilities.capability_errors import CapabilityError
from capabilities.principals import same_principal
from capabilities.resources import parse_network_id, parse_space_id

from ...delegations import allow
from ...documents.secret_names import (
    OWN_FOLDER,
    SECRETS_SPACE,
    SHARED_PREFIX,
    secret_at,
    shared_folder_at,
    shared_name_at,
)
from ...errors import InvalidInput
from ...wire.portable import GrantedResource, PortableDelegation, described

_VERBS: Mapping[str, str] = {
    KV_GET: "read",
    KV_PUT: "write",
    KV_DELETE: "delete",
    KV_LIST: "list",
    KV_METADATA: "see the metadata of",
    DECRYPT: "decrypt what is sealed to",
    NETWORK_CREATE: "create",
    NETWORK_REVOKE: "revoke",
    SET_POLICY: "set the terms of",
    READ_RECEIPTS: "read the receipts of",
    DELEGATION_STATUS: "look up",
    SQL_READ: "query",
    SQL_WRITE: "edit",
    SQL_SCHEMA: "define tables in",
    SQL_ADMIN: "administer",
}


def verb_of(ability: str) -> str:
    """Return the verb for an ability.

    Other abilities are shown by their own name.
    """
    verb = _VERBS.get(ability)
    if verb is not None:
        return verb
    if ability.startswith("tinycloud."):
        return ability.rpartition("/")[2]
    return ability


def place_of(right: GrantedResource, by: str, *, with_below: bool) -> str:
    """Describe the place of a granted resource.

    Args:
        right: the resource; its ids are untrusted.
        by: DID of the owner whose own resources are described without the owner.
        with_below: whether to say that a path includes the paths below it.
    """
    try:
        if right.service == "encryption":
            network = parse_network_id(right.path)
            return f"the network {network.name}{_whose(network.owner, by)}"
        space = parse_space_id(right.space)
    except CapabilityError:
        return right.path or right.space
    whose = _whose(space.owner, by)
    in_space = f"in the space {space.name}{whose}"
    match right.service:
        case "space":
            return f"spaces{whose}"
        case "capabilities":
            return in_space
        case "delegation":
            return f"grants {in_space}"
        case "sql":
            return f"{_databases(right.path, with_below=with_below)} {in_space}"
        case "kv":
            secrets = secrets_at(space.name, right.path)
            if secrets is not None:
                return f"{secrets.words}{whose}"
            return f"{_paths(right.path, with_below=with_below)} {in_space}"
        case other:
            return f"{_paths(right.path, with_below=with_below)} {in_space} ({other})"


def _whose(owner: str, by: str) -> str:
    return "" if same_principal(owner, by) else f" of {owner}"


def _databases(path: str, *, with_below: bool) -> str:
    if not path:
        return "every database"
    return f"the database {_paths(path, with_below=with_below)}"


def _paths(path: str, *, with_below: bool) -> str:
    if not path:
        return "everything"
    if with_below:
        return f"{path} and what is below it"
    return path


class SecretsAt(NamedTuple):
    """The description of the secrets at a path."""

    label: str
    words: str


def secrets_at(space: str, path: str) -> SecretsAt | None:
    """Describe the secret or the folder of secrets at a path.

    Return None for other paths.
    """
    if space != SECRETS_SPACE or not f"{path}/".startswith(OWN_FOLDER):
        return None
    below = path[len(OWN_FOLDER) :]
    label = below.removeprefix("scoped/")
    folder = shared_folder_at(path)
    if folder is not None:
        return SecretsAt(label, f"copies of secrets for {folder.did}")
    shared_name = shared_name_at(path)
    if shared_name is not None:
        group = shared_name.folder.removeprefix(SHARED_PREFIX).removesuffix("/")  # a team or a DID
        return SecretsAt(label, f"the secret {shared_name.label}, as shared with {group}")
    if secret_at(path) is not None:
        return SecretsAt(label, f"the secret {label}")
    where = f" below {below}" if below else ""
    return SecretsAt(label, f"every secret{where}, those that begin with PROTECTED_ too")


def granted_resource(resource: str, abilities: tuple[str, ...]) -> GrantedResource:
    """Create the description of a granted resource from its URI and abilities."""
    try:
        (granted,) = described([allow(resource, ability) for ability in abilities])
    except (InvalidInput, ValueError):  # a resource of another kind, or an empty list of abilities
        return GrantedResource(service="", space="", path=resource, actions=abilities)
    return granted


def rights_words(
    rights: Sequence[GrantedResource], *, by: str, with_below: bool = True
) -> tuple[str, ...]:
    """Describe granted resources in plain words.

    Each resource has one line. An encryption network has one line for each ability.
    """
    lines: list[str] = []
    for right in rights:
        place = place_of(right, by, with_below=with_below)
        verbs = [verb_of(ability) for ability in right.actions]
        if right.service == "encryption":
            lines += [f"{verb} {place}" for verb in verbs]
        elif right.service == "capabilities":
            lines.append(f"see the rights {place}")
        else:
            lines.append(f"{', '.join(verbs)} {place}")
    return tuple(lines)


def granted_labels(portable: PortableDelegation) -> list[str]:
    """Return the labels of the secrets in a grant.

    Other values are listed by their paths.
    """
    return [label_at(resource.path) for resource in portable.resources if resource.service == "kv"]


def label_at(path: str) -> str:
    """Return the label of the secret at a path.

    For other values, the result is the path itself.
    """
    secret = secret_at(path)
    return path if secret is None else secret.label
