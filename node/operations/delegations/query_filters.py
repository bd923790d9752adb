"""The filters of a listing of an account's delegations: the body of `/delegation/query` (wire 5.4)."""

from dataclasses import dataclass
from typing import Final, Literal

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
        `bad-query`: not a JSON object (an array of the members is none, Q35), a member that is unknown, of another type
            or out of bounds.
    """
    asked = _object(body)
    return Filters(
        direction=_direction(asked.get("direction")),
        standing=_standing(asked.get("status")),
        space=_space(asked.get("space")),
        limit=_limit(asked.get("limit")),
        after=_cursor(asked.get("cursor")),
    )


def _object(body: bytes) -> dict[str, Json]:
    try:
        asked = parse_json(body, max_bytes=MAX_QUERY_BYTES)
    except InvalidJson:
        raise Refusal("bad-query", "expected a JSON object") from None
    for name in asked:
        if name not in _MEMBERS:
            known = ", ".join(f"`{member}`" for member in _MEMBERS)
            raise Refusal("bad-query", f"unknown field `{name}`, expected one of {known}")
    return asked


def _direction(value: Json) -> Direction | None:
    return None if value is None else _DIRECTIONS[_word("direction", value, tuple(_DIRECTIONS))]


def _standing(value: Json) -> Standing | None:
    return None if value is None else _STANDINGS[_word("status", value, tuple(_STANDINGS))]


def _word(member: str, value: Json, words: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in words:
        raise Refusal("bad-query", f"{member} must be one of {', '.join(words)}")
    return value


def _space(value: Json) -> str | None:
    """Return a bare name as it is and an id in its canonical form; any other text finds nothing."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise Refusal("bad-query", "space must be a text")
    if not value:
        raise Refusal("bad-query", "space must not be empty")
    try:
        return parse_space_id(value).text
    except InvalidIdentifier:
        return value


def _limit(value: Json) -> int:
    if value is None:
        return DEFAULT_ITEMS
    if type(value) is not int or not 1 <= value <= MAX_ITEMS:
        raise Refusal("bad-query", f"limit must be between 1 and {MAX_ITEMS}")
    return value


def _cursor(value: Json) -> Digest | None:
    """Read where an earlier page ended: base64url of the text of a cid."""
    if value is None:
        return None
    data = decode_url(value)
    try:
        digest = None if data is None else parse_cid(data.decode("ascii")).digest32
    except (UnicodeDecodeError, InvalidIdentifier):
        digest = None
    if digest is None:
        raise Refusal("bad-query", "invalid delegation query cursor")
    return digest
