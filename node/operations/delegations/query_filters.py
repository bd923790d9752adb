"""The filters of a listing of an account's delegations: the body of `/delegation/query` (wire 5.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from capabilities.cids import Digest, parse_cid
from capabilities.errors import InvalidIdentifier, InvalidJson
from capabilities.resources import parse_space_id
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import Json, parse_json

from ...refusal import Refusal
from .standing import Standing

MAX_QUERY_BYTES: Final = 65_536
MAX_ITEMS: Final = 100
DEFAULT_ITEMS: Final = 50
_MEMBERS: Final = ("direction", "status", "space", "limit", "cursor")

Direction = Literal["granted", "received"]
Choice = TypeVar("Choice")
_DIRECTIONS: Final[dict[str, Direction | None]] = {"granted": "granted", "received": "received", "all": None}
_STANDINGS: Final = {standing.value: standing for standing in Standing}


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of a listing."""

    direction: Direction | None = None
    standing: Standing | None = None
    space: str | None = None
    limit: int = DEFAULT_ITEMS
    after: Digest | None = None


def parse_filters(body: bytes) -> Filters:
    """Read the body of a query; an absent or null member filters nothing.

    Args:
        body: untrusted, at most MAX_QUERY_BYTES.

    Raises:
        Refusal: `bad-query`, not a JSON object (an array of the members is none, Q35), a member that is unknown, of
            another type or out of bounds.
    """
    try:
        asked = parse_json(body, max_bytes=MAX_QUERY_BYTES)
    except InvalidJson:
        raise _bad("expected a JSON object") from None
    for name in asked:
        if name not in _MEMBERS:
            known = ", ".join(f"`{member}`" for member in _MEMBERS)
            raise _bad(f"unknown field `{name}`, expected one of {known}")
    direction, standing = _choice(asked, "direction", _DIRECTIONS), _choice(asked, "status", _STANDINGS)
    space = _space(asked.get("space"))
    limit = DEFAULT_ITEMS if asked.get("limit") is None else asked["limit"]
    if type(limit) is not int or not 1 <= limit <= MAX_ITEMS:
        raise _bad(f"limit must be between 1 and {MAX_ITEMS}")
    return Filters(direction, standing, space, limit, _cursor(asked.get("cursor")))


def _bad(reason: str) -> Refusal:
    return Refusal("bad-query", reason)


def _choice(asked: Mapping[str, Json], member: str, words: Mapping[str, Choice]) -> Choice | None:
    value = asked.get(member)
    if value is None:
        return None
    if not isinstance(value, str) or value not in words:
        raise _bad(f"{member} must be one of {', '.join(words)}")
    return words[value]


def _space(value: Json) -> str | None:
    """Return a bare name as it is and an id in its canonical form; any other text finds nothing."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise _bad("space must be a text")
    if not value:
        raise _bad("space must not be empty")
    try:
        return parse_space_id(value).text
    except InvalidIdentifier:
        return value


def _cursor(value: Json) -> Digest | None:
    """Read where an earlier page ended: base64url of the text of a cid."""
    if value is None:
        return None
    try:
        digest = parse_cid((decode_url(value) or b"").decode("ascii")).digest32
    except (UnicodeDecodeError, InvalidIdentifier):
        digest = None
    if digest is None:
        raise _bad("invalid delegation query cursor")
    return digest
