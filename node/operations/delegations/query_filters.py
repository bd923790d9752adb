"""Filters for lists of delegations (wire 5.4).

They are the body of `/delegation/query`.
"""

from typing import Annotated, Literal, get_args

from msgspec import Meta

from capabilities.capability_errors import InvalidIdentifier, InvalidJson
from capabilities.cids import Digest, parse_cid
from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import parse_space_id
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import JsonObject, StrictStruct, parse_json, shaped

from ...refusal import Refusal
from .status import Status

MAX_QUERY_BYTES = 65_536
MAX_ITEMS = 100
DEFAULT_ITEMS = 50

Direction = Literal["granted", "received"]


class QueryRequest(StrictStruct):
    """The JSON body of a delegation query.

    A null value counts as absent.
    """

    direction: Literal["granted", "received", "all"] | None = None
    status: Status | None = None
    space: Annotated[str, Meta(min_length=1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_ITEMS)] | None = None
    cursor: str | None = None
    tokens: bool | None = None
    derived: bool | None = None


_BAD_CURSOR = "invalid delegation query cursor"
# The message for each invalid member, in the order in which members are checked.
_REASONS = {
    "direction": "direction must be one of granted, received, all",
    "status": f"status must be one of {', '.join(get_args(Status))}",
    "space": "space must be a text",
    "limit": f"limit must be between 1 and {MAX_ITEMS}",
    "cursor": _BAD_CURSOR,
    "tokens": "tokens must be true or false",
    "derived": "derived must be true or false",
}


class Filters(FrozenStruct):
    """The parsed filters of a delegation query.

    Attributes:
        derived: list all delegations that depend on one of the account's, whoever signed them.
    """

    direction: Direction | None
    status: Status | None
    space: str | None
    limit: int
    after: Digest | None
    tokens: bool
    derived: bool


def parse_filters(body: bytes) -> Filters:
    """Parse the filters in the body of a delegation query.

    Absent and null members filter nothing.

    Args:
        body: untrusted, at most MAX_QUERY_BYTES.

    Raises:
        Refusal: `bad-query`, not a JSON object (an array of the members is not accepted either,
            Q35), or a member that is unknown, of another type or out of bounds.
    """
    try:
        members = parse_json(body, max_bytes=MAX_QUERY_BYTES)
    except InvalidJson:
        raise _bad("expected a JSON object") from None
    _check_members(members)
    request = shaped(members, QueryRequest)
    return Filters(
        direction=None if request.direction == "all" else request.direction,
        status=request.status,
        space=None if request.space is None else _canonical_space(request.space),
        limit=request.limit or DEFAULT_ITEMS,
        after=None if request.cursor is None else _last_listed(request.cursor),
        tokens=bool(request.tokens),
        derived=bool(request.derived),
    )


def _check_members(members: JsonObject) -> None:
    """Check the members one by one, because clients read which one is invalid.

    Raises:
        Refusal: `bad-query`, a member is unknown, of another type or out of bounds.
    """
    for name in members:
        if name not in _REASONS:
            # Without `tokens` and `derived`, which only this node knows: existing clients read this
            # text.
            raise _bad(
                f"unknown field `{name}`, expected one of `direction`, `status`, `space`, `limit`,"
                " `cursor`"
            )
    for name, reason in _REASONS.items():
        value = members.get(name)
        try:
            shaped({name: value}, QueryRequest)
        except InvalidJson:
            if name == "space" and value == "":
                raise _bad("space must not be empty") from None
            raise _bad(reason) from None


def _canonical_space(text: str) -> str:
    """Return the canonical form of a space's id, and other texts unchanged.

    A bare name is compared with the names of spaces. Any other text matches nothing.
    """
    try:
        return parse_space_id(text).text
    except InvalidIdentifier:
        return text


def _last_listed(cursor: str) -> Digest:
    """Return the digest of the CID in a cursor, which names the last delegation of a page.

    Raises:
        Refusal: `bad-query`, the cursor is malformed.
    """
    text = decode_url(cursor) or b""  # a malformed cursor is no CID either
    try:
        digest = parse_cid(text.decode("ascii")).digest32
    except (UnicodeDecodeError, InvalidIdentifier):
        raise _bad(_BAD_CURSOR) from None
    if digest is None:
        raise _bad(_BAD_CURSOR)
    return digest


def _bad(reason: str) -> Refusal:
    return Refusal("bad-query", reason)
