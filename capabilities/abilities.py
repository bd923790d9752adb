"""Abilities, which are the names of permitted actions (A1 to A7).

There is no registry: an unknown ability is delegated like any other and implies only itself (A7).
The only wildcards are the two listed here: `tinycloud.kv/*` is an ordinary ability that no
operation requires.
"""

import re
from functools import lru_cache

from .capability_errors import InvalidIdentifier

MAX_ABILITY_CHARS = 256
"""Longest ability that is accepted (A1); the longest known one has 40 characters."""

# Abilities that several packages use. An ability that only one package uses is defined there.
KV_GET = "tinycloud.kv/get"
KV_METADATA = "tinycloud.kv/metadata"
KV_LIST = "tinycloud.kv/list"
KV_PUT = "tinycloud.kv/put"
KV_DELETE = "tinycloud.kv/del"
KV_SYNC = "tinycloud.kv/sync"
KV_RETAIN = "tinycloud.kv/retain"
"""Never called. A grant of it states until when a reader may keep what `kv/sync` showed it."""

SQL_READ = "tinycloud.sql/read"
SQL_WRITE = "tinycloud.sql/write"
SQL_SCHEMA = "tinycloud.sql/schema"
SQL_ADMIN = "tinycloud.sql/admin"
SQL_ALL = "tinycloud.sql/*"

HOST = "tinycloud.space/host"
SPACE_LIST = "tinycloud.space/list"
SPACE_CREATE = "tinycloud.space/create"
SPACE_INFO = "tinycloud.space/info"

CAPABILITIES_READ = "tinycloud.capabilities/read"
"""Granted to the session key by every sign-in."""
DELEGATION_LIST = "tinycloud.delegation/list"
DELEGATION_STATUS = "tinycloud.delegation/status"
REVOKE = "tinycloud.delegation/revoke"

DECRYPT = "tinycloud.encryption/decrypt"
NETWORK_CREATE = "tinycloud.encryption/network.create"
NETWORK_REVOKE = "tinycloud.encryption/network.revoke"
SET_POLICY = "sealspace.encryption/policy"
"""Lets the owner, in person, set a network's policy and add withdrawals (RL17, RC22)."""
READ_RECEIPTS = "sealspace.encryption/receipts"
"""Lets its holder read a network's receipts."""

# Clients use both names of these abilities (A3).
_ALIASES = {
    "tinycloud.kv/delete": KV_DELETE,
    "tinycloud.sql/select": SQL_READ,
    "tinycloud.duckdb/select": "tinycloud.duckdb/read",
}
# A4. Implications of implications are listed too, so one lookup is enough.
_IMPLIED = {
    SQL_ADMIN: frozenset({SQL_SCHEMA}),
    SQL_ALL: frozenset({SQL_READ, SQL_WRITE, SQL_SCHEMA, SQL_ADMIN}),
    "tinycloud.duckdb/*": frozenset(
        f"tinycloud.duckdb/{name}" for name in ("read", "write", "admin", "import", "export")
    ),
}
_ABILITY = re.compile(r"[\w\-.+*]+/[\w\-.+*]+")


@lru_cache(maxsize=1024)
def parse_ability(text: str) -> str:
    """Check that a string is a valid ability name (A1).

    The string is returned unchanged. The form is `namespace/name`; both parts are Unicode letters,
    digits and `-_.+*`.

    Raises:
        InvalidIdentifier: Not of that form, or longer than MAX_ABILITY_CHARS.
    """
    if len(text) <= MAX_ABILITY_CHARS and _ABILITY.fullmatch(text):
        return text
    raise InvalidIdentifier("invalid ability")


def resolve_alias(ability: str) -> str:
    """Return the current name of an ability (A3).

    Names that are not aliases are returned unchanged.
    """
    return _ALIASES.get(ability, ability)


@lru_cache(maxsize=1024)
def sufficient_for(required: str) -> frozenset[str]:
    """Return all abilities that satisfy a required ability (A5).

    The aliases of these abilities are included.
    """
    target = resolve_alias(required)
    holders = {target, *(held for held, implied in _IMPLIED.items() if target in implied)}
    return frozenset(holders | {alias for alias, ability in _ALIASES.items() if ability in holders})


def satisfies(held: str, required: str) -> bool:
    """Return whether a granted ability satisfies a required ability (A5)."""
    return held in sufficient_for(required)
