r"""Files of names and values: `.env`, and JSON. What is broken is named by its line or number, never by its content.

A `.env` file is UTF-8, one entry a line: `NAME=VALUE`, with `export ` before it or not. Lines that are empty or begin
with `#` say nothing. A value is

    VALUE      as it stands, without blanks at its ends, up to ` #`
    'VALUE'    literally, also over several lines
    "VALUE"    also over several lines; \n \r \t \" \\ \$ stand for what they do in a shell

Nothing is expanded: `$` is a character like any other. JSON is one object, whose members are texts, or
`{"value": "…", "encoding": "base64"}` for bytes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from capabilities.errors import CapabilityError
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import Json, parse_json

from ..errors import InvalidInput
from ..secrets import is_secret_name

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_ENTRIES: Final = 1000

_NAME_HINT: Final = "names are capitals, digits and underscores, a capital first: API_KEY"
_START = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*")
_NOTHING = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_COMMENT = re.compile(r"[ \t]#")
_SINGLE = re.compile(r"'(?P<value>[^']*)'")
_DOUBLE = re.compile(r'"(?P<value>(?:[^"\\]|\\.)*+)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


_MOST_FAULTS: Final = 20


class BrokenEntry(InvalidInput):
    """Entries of a file cannot be read; the message names the place of each and nothing of it."""

    code = "broken-entry"


def _require_none(faults: Sequence[BrokenEntry]) -> None:
    """Raise one error about all that is wrong, so that a person corrects it at once."""
    if faults:
        more = "; what follows was not examined" if len(faults) == _MOST_FAULTS else ""
        hints = dict.fromkeys(fault.hint for fault in faults)
        raise BrokenEntry("; ".join(fault.message for fault in faults) + more, hint="; ".join(hints))


def parse_dotenv(data: bytes) -> dict[str, str | bytes]:
    """Read the text of a `.env` file."""
    text = text_of(data).removeprefix("\ufeff").replace("\r\n", "\n")
    values: dict[str, str | bytes] = {}
    faults: list[BrokenEntry] = []
    at, counted, line = 0, 0, 1
    while at < len(text):
        if (nothing := _NOTHING.match(text, at)) is not None:
            at = nothing.end()
            continue
        line += text.count("\n", counted, at)
        counted = at
        try:
            at = _take_line(text, at, f"line {line}", values)
        except BrokenEntry as fault:
            faults.append(fault)
            if len(faults) == _MOST_FAULTS or len(values) == MAX_ENTRIES:  # each that follows would be one too many
                break
            at = _next_line(text, at)
    _require_none(faults)
    return values


def parse_values(data: bytes) -> dict[str, str | bytes]:
    """Read a JSON object of texts, and of bytes in base64."""
    try:
        members = parse_json(data, max_bytes=MAX_FILE_BYTES)
    except CapabilityError:
        # Without the cause: it may quote what it read.
        raise InvalidInput(
            f"the file is not one JSON object of at most {MAX_FILE_BYTES} bytes", hint='write {"NAME": "VALUE"}'
        ) from None
    values: dict[str, str | bytes] = {}
    faults: list[BrokenEntry] = []
    for number, (name, member) in enumerate(members.items(), 1):
        try:
            take_entry(values, name, f"member {number}")
            values[name] = _of_member(member, f"member {number}")
        except BrokenEntry as fault:
            faults.append(fault)
            if len(faults) == _MOST_FAULTS or len(values) == MAX_ENTRIES:
                break
    _require_none(faults)
    return values


def encode_dotenv(values: Mapping[str, str | bytes]) -> str:
    """Return the text of a `.env` file; `parse_dotenv` reads the same values from it, and a shell does."""
    lines = []
    for name, value in values.items():
        if isinstance(value, bytes):
            raise InvalidInput(f"the secret {name} is bytes, which no .env file holds", hint="add --format json")
        if "'" not in value and "\r\n" not in value:
            lines.append(f"{name}='{value}'\n")
        else:
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
            lines.append(f'{name}="{escaped}"\n'.replace("\r", "\\r"))
    return "".join(lines)


def values_json(values: Mapping[str, str | bytes]) -> dict[str, Json]:
    """Return values as the JSON object that `parse_values` reads."""
    return {
        name: value if isinstance(value, str) else {"value": encode_standard(value), "encoding": "base64"}
        for name, value in values.items()
    }


def text_of(data: bytes) -> str:
    """Return the text of a file, or raise InvalidInput: too long, or not UTF-8."""
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"the file is longer than {MAX_FILE_BYTES} bytes", hint="keep keys there, not data")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the file is not UTF-8", hint="convert it; bytes go into JSON or YAML, in base64") from None


def take_entry(values: Mapping[str, str | bytes], name: str, where: str) -> None:
    """Refuse a name that cannot be used; it is not in the message: what was taken for a name may be a value."""
    if not is_secret_name(name):
        raise BrokenEntry(f"{where} has no name that a secret can have", hint=_NAME_HINT)
    if name in values:
        raise BrokenEntry(f"{where} names the secret of an earlier one again", hint="leave one of them out")
    if len(values) == MAX_ENTRIES:
        raise BrokenEntry(f"{where} is more than the {MAX_ENTRIES} entries of a file", hint="import it in parts")


def _take_line(text: str, at: int, where: str, values: dict[str, str | bytes]) -> int:
    """Take the entry that begins at a place; return where the next line begins."""
    start = _START.match(text, at)
    if start is None:
        raise BrokenEntry(f"{where} is not NAME=VALUE", hint=f"write NAME='VALUE', or # before it; {_NAME_HINT}")
    take_entry(values, start["name"], where)
    values[start["name"]], at = _value(text, start.end(), where)
    return at


def _next_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _value(text: str, at: int, where: str) -> tuple[str, int]:
    """Return a value, and where the next line begins."""
    quoted = {"'": _SINGLE, '"': _DOUBLE}.get(text[at : at + 1])
    if quoted is None:
        return _plain(text, at, where)
    found = quoted.match(text, at)
    end = None if found is None else _NOTHING.match(text, found.end())
    if found is None or end is None:
        raise BrokenEntry(f"{where} has a quote that does not end, or text behind it", hint="close the quote")
    value = found["value"]
    return (_ESCAPE.sub(_unescaped, value) if quoted is _DOUBLE else value), end.end()


def _plain(text: str, at: int, where: str) -> tuple[str, int]:
    following = _next_line(text, at)
    line = text[at:following].removesuffix("\n")
    if line.startswith("#") and text[at - 1] == "=":  # a comment for some readers, a value for others
        raise BrokenEntry(f"{where} has a value that begins with #", hint="put it into single quotes")
    comment = _COMMENT.search(text[at - 1] + line)
    value = line if comment is None else line[: comment.start()]
    return value.strip(" \t"), following


def _unescaped(escape: "re.Match[str]") -> str:
    return "`" if escape[1] == "`" else _ESCAPED.get(escape[1], escape[0])


def _of_member(member: Json, where: str) -> str | bytes:
    if isinstance(member, str):
        return member
    if isinstance(member, dict) and member.keys() == {"value", "encoding"} and member["encoding"] == "base64":
        data = decode_standard(member["value"])
        if data is not None:
            return data
    raise BrokenEntry(f"{where} is neither a text nor bytes", hint='write "…", or {"value": "…", "encoding": "base64"}')
