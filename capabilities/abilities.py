"""What may be done: ability strings, their aliases and what they imply (rules A1 to A7).

There is no registry: an unknown ability is held and passed on like any other, and implies only
itself (A7). There is no wildcard beyond the two listed: `tinycloud.kv/*` is an ordinary ability
that no operation requires.
"""

import re
from functools import lru_cache
from typing import Final

from .capability_errors import InvalidIdentifier

MAX_ABILITY_CHARS: Final = 256
"""Longest ability (A1); the longest known one has 40 characters."""

# Abilities that more than one package writes or compares; an ability that only one of them uses is
# named there.
KV_GET: Final = "tinycloud.kv/get"
KV_METADATA: Final = "tinycloud.kv/metadata"
KV_LIST: Final = "tinycloud.kv/list"
KV_PUT: Final = "tinycloud.kv/put"
KV_DELETE: Final = "tinycloud.kv/del"

HOST: Final = "tinycloud.space/host"
SPACE_LIST: Final = "tinycloud.space/list"
SPACE_CREATE: Final = "tinycloud.space/create"
SPACE_INFO: Final = "tinycloud.space/info"

CAPABILITIES_READ: Final = "tinycloud.capabilities/read"
"""What every sign-in grants to its session key."""
DELEGATION_LIST: Final = "tinycloud.delegation/list"
DELEGATION_STATUS: Final = "tinycloud.delegation/status"
REVOKE: Final = "tinycloud.delegation/revoke"

DECRYPT: Final = "tinycloud.encryption/decrypt"
NETWORK_CREATE: Final = "tinycloud.encryption/network.create"
NETWORK_REVOKE: Final = "tinycloud.encryption/network.revoke"
SET_POLICY: Final = "sealspace.encryption/policy"
"""Changes a network in person: its policy, and what is withdrawn (RL17, RC22)."""
READ_RECEIPTS: Final = "sealspace.encryption/receipts"
"""Reads a network's receipts."""

# A3
_ALIASES: Final = {
    "tinycloud.kv/delete": KV_DELETE,
    "tinycloud.sql/select": "tinycloud.sql/read",
    "tinycloud.duckdb/select": "tinycloud.duckdb/read",
}
# A4, already transitive
_IMPLIED: Final = {
    "tinycloud.sql/admin": frozenset({"tinycloud.sql/schema"}),
    "tinycloud.sql/*": frozenset(
        f"tinycloud.sql/{name}" for name in ("read", "write", "schema", "admin")
    ),
    "tinycloud.duckdb/*": frozenset(
        f"tinycloud.duckdb/{name}" for name in ("read", "write", "admin", "import", "export")
    ),
}
_ASCII_ABILITY = re.compile(r"[A-Za-z0-9\-_.+*]+/[A-Za-z0-9\-_.+*]+")


@lru_cache(maxsize=1024)
def parse_ability(text: str) -> str:
    """Read an ability: `namespace/name`, both of Unicode letters, digits and `-_.+*` (A1).

    Raises:
        InvalidIdentifier: Not of that form, or longer than MAX_ABILITY_CHARS.
    """
    if len(text) <= MAX_ABILITY_CHARS and (_ASCII_ABILITY.fullmatch(text) or _is_ability(text)):
        return text
    raise InvalidIdentifier("invalid ability")


def _is_ability(text: str) -> bool:
    namespace, _, name = text.partition("/")
    return all(
        part and all(c.isalnum() or c in "-_.+*" for c in part) for part in (namespace, name)
    )


def resolve_alias(ability: str) -> str:
    """Return the current ability for an old name, any other ability unchanged (A3)."""
    return _ALIASES.get(ability, ability)


@lru_cache(maxsize=1024)
def sufficient_for(required: str) -> frozenset[str]:
    """Return every ability that satisfies the required one (A5): what a chain looks for among many
    rows."""
    target = resolve_alias(required)
    holders = {target, *(held for held, implied in _IMPLIED.items() if target in implied)}
    return frozenset(holders | {alias for alias, ability in _ALIASES.items() if ability in holders})


def satisfies(held: str, required: str) -> bool:
    """Return whether holding one ability allows another (A5); unknown abilities allow only
    themselves."""
    return held in sufficient_for(required)
