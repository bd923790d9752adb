"""A request body parser that produces the protocol's error messages.

A body is checked in two steps, as the specification requires: its JSON grammar first (row 1 of the
table in enc 2.7), its members much later (row 5). The error texts are those that the protocol's
clients know.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

from capabilities.capability_errors import InvalidIdentifier, InvalidJson
from capabilities.resources import parse_network_id
from capabilities.strict_json import Json, JsonObject, bounded_decoder, check_text

from .network_errors import RequestError

Kind = Literal["string", "i64", "u32", "network", "object"]

_DECODER = bounded_decoder(Any)
_LITERALS = {"n": "null", "t": "true", "f": "false"}
_KINDS: dict[Kind, tuple[type, str]] = {
    "string": (str, "a string"),
    "network": (str, "a string"),
    "i64": (int, "i64"),
    "u32": (int, "u32"),
    "object": (dict, "an object"),
}
_RANGES = {"i64": range(-(2**63), 2**63), "u32": range(2**32)}
_MAX_ECHO_CHARS = 64
# The standard parser's messages, and the texts that the protocol's clients expect in their place.
_PARSER_TEXTS = {
    "Expecting value": "expected value",
    "Extra data": "trailing characters",
    "Expecting property name enclosed in double quotes": "key must be a string",
    "Expecting ':' delimiter": "expected `:`",
    "Expecting ',' delimiter": "expected `,` or end of the value",
    "Unterminated string starting at": "EOF while parsing a string",
    "Invalid control character at": (
        "control character (\\u0000-\\u001F) found while parsing a string"
    ),
    "Invalid \\escape": "invalid escape",
    "Invalid \\uXXXX escape": "invalid escape",
}

_TRAILING_COMMA = "Illegal trailing comma"


class ShapeError(Exception):
    """The JSON value does not have the required members.

    The message is the reason that is sent to the client.
    """


class Shape(NamedTuple):
    """The required members of a JSON object and their types."""

    members: Mapping[str, Kind]
    optional: frozenset[str] = frozenset()
    closed: bool = False


def read_body(data: bytes, *, max_bytes: int) -> Json:
    """Parse the JSON text of a request body."""
    if len(data) > max_bytes:
        raise RequestError("request-too-large", str(max_bytes))
    try:
        check_text(data, max_bytes=max_bytes)
        value = cast(Json, _DECODER.decode(data))
    except (InvalidJson, ValueError, RecursionError) as exc:
        raise RequestError("body-not-json", _parser_text(data)) from exc
    return value


def check_members(value: Json, shape: Shape) -> JsonObject:
    """Check that a JSON value is an object with the required members.

    Raises:
        ShapeError: with the wire's text for the first fault, members in the order of their names.
    """
    if isinstance(value, list):
        # Other nodes accept a list of the members in order (W19, Q35). This node rejects it, but
        # reports a member of the wrong type first, as they do.
        _check_items(value, shape)
    if not isinstance(value, dict):
        raise ShapeError(f"invalid type: {_describe(value)}, expected an object")
    for name in sorted(value):
        if name in shape.members:
            _check_member(value, name, shape)
        elif shape.closed:
            names = ", ".join(f"`{known}`" for known in shape.members)
            raise ShapeError(f"unknown field `{name[:_MAX_ECHO_CHARS]}`, expected one of {names}")
    for name in shape.members:
        if name not in value and name not in shape.optional:
            raise ShapeError(f"missing field `{name}`")
    return value


def _check_items(items: list[Json], shape: Shape) -> None:
    """Check the types of a list of members in the order of the shape."""
    # A list may have fewer or more items than the shape has members; it is rejected anyway.
    for item, kind in zip(items, shape.members.values(), strict=False):
        _check(item, kind)


def _check_member(value: JsonObject, name: str, shape: Shape) -> None:
    """Check the type of a known member; an optional one may also be null."""
    if value[name] is None and name in shape.optional:
        return
    _check(value[name], shape.members[name])


def _check(value: Json, kind: Kind) -> None:
    """Check the type of a member, and its value if the kind restricts it."""
    expected_type, kind_text = _KINDS[kind]
    # In Python a boolean is an integer too; in JSON it is not.
    if isinstance(value, bool) or not isinstance(value, expected_type):
        raise ShapeError(f"invalid type: {_describe(value)}, expected {kind_text}")
    if isinstance(value, int) and value not in _RANGES[kind]:
        raise ShapeError(f"invalid value: {_describe(value)}, expected {kind_text}")
    if kind == "network":
        try:
            parse_network_id(str(value))
        except InvalidIdentifier as exc:
            raise ShapeError(exc.text) from exc


def _describe(value: Json) -> str:
    """Describe a value in the words of the protocol's error texts."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{'true' if value else 'false'}`"
        case int():
            if value.bit_length() <= 64:
                return f"integer `{value}`"
            # The protocol has integers of at most 64 bits. Its parsers read a longer one as a
            # floating point number, as `canonical_json` does.
            return "floating point number"
        case float():
            return f"floating point `{value}`"
        case str():
            return f"string {json.dumps(value[:_MAX_ECHO_CHARS], ensure_ascii=False)}"
        case list():
            return "sequence"
        case _:
            return "map"


def _parser_text(data: bytes) -> str:
    """Return the error message for invalid JSON in an `/invoke` request.

    The message includes the position of the error.
    """
    text = data.decode("utf-8", "replace")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        return f"EOF while parsing a value at {_position(text, start)}"
    literal = _LITERALS.get(text[start])
    if literal is not None and not text.startswith(literal, start):
        # The standard parser reports an incomplete `null`, `true` or `false` at its start. Clients
        # expect the position of the first character that differs from the literal.
        end = start
        while text[end : end + 1] == literal[end - start]:
            end += 1
        if end == len(text):
            return f"EOF while parsing a value at {_position(text, end)}"
        return f"expected ident at {_position(text, end + 1)}"
    try:
        json.loads(text)
    except json.JSONDecodeError as exc:
        if exc.msg.startswith(_TRAILING_COMMA):
            return _trailing_comma_text(text, exc.pos)
        fault = _PARSER_TEXTS.get(exc.msg, "expected value")
        return f"{fault} at line {exc.lineno} column {exc.colno}"
    except (ValueError, RecursionError):
        pass
    # The standard parser accepts the text or fails by its own limits. So the text is not Unicode,
    # or exceeds a limit of this node's decoder.
    return "recursion limit or number out of range at line 1 column 1"


def _trailing_comma_text(text: str, comma: int) -> str:
    """Return the error message for a comma before the end of an array or an object.

    Clients expect the position of the bracket, and so it is reported before Python 3.13.
    """
    after = text[comma + 1 :]
    bracket = comma + 1 + len(after) - len(after.lstrip(" \t\r\n"))
    fault = "key must be a string" if text[bracket] == "}" else "expected value"
    return f"{fault} at {_position(text, bracket + 1)}"


def _position(text: str, end: int) -> str:
    """Return the line and column of the character before an index."""
    lines = text[:end].split("\n")
    return f"line {len(lines)} column {len(lines[-1])}"
