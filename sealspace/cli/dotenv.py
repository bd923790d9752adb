r"""Files of names and values: `.env`, and JSON. What is broken is named by its line or number,
never by its content.

A `.env` file is UTF-8, one entry a line: `NAME=VALUE`, with `export ` before it or not. Lines that
are empty or begin with `#` say nothing. A value is

    VALUE      as it stands, without blanks at its ends, up to ` #`
    'VALUE'    literally, also over several lines
    "VALUE"    also over several lines; \n \r \t \" \\ \$ stand for what they do in a shell

Nothing is expanded: `$` is a character like any other. JSON is one object, whose members are texts,
or `{"value": "…", "encoding": "base64"}` for bytes.
"""

import re
from collections.abc import Mapping
from typing import Final

from capabilities.capability_errors import CapabilityError
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
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "`": "`"}

_MOST_FAULTS: Final = 20


class BrokenEntry(InvalidInput):
    """Entries of a file cannot be read; the message names the place of each and nothing of it."""

    code = "broken-entry"


class _Faults(list[BrokenEntry]):
    """What is wrong with the entries of a file, up to a bound: a person corrects it at once."""

    def note(self, fault: BrokenEntry, where: str) -> bool:
        """Add a fault with its place; returns whether another one may be looked for."""
        fault.message = f"{where} {fault.message}"
        self.append(fault)
        return len(self) < _MOST_FAULTS

    def require_none(self) -> None:
        """Raise one error about all."""
        if self:
            more = "; what follows was not examined" if len(self) == _MOST_FAULTS else ""
            hints = dict.fromkeys(fault.hint for fault in self)
            raise BrokenEntry(
                "; ".join(fault.message for fault in self) + more, hint="; ".join(hints)
            )


def parse_dotenv(data: bytes) -> dict[str, str | bytes]:
    """Read the text of a `.env` file."""
    text = text_of(data).removeprefix("\ufeff").replace("\r\n", "\n")
    values: dict[str, str | bytes] = {}
    faults, at = _Faults(), 0
    while at < len(text):
        if (nothing := _NOTHING.match(text, at)) is not None:
            at = nothing.end()
            continue
        try:
            start = _START.match(text, at)
            if start is None:
                raise BrokenEntry(
                    "is not NAME=VALUE", hint=f"write NAME='VALUE', or # before it; {_NAME_HINT}"
                )
            take_entry(values, start["name"])
            values[start["name"]], at = _value(text, start.end())
        except BrokenEntry as fault:
            number = text.count("\n", 0, at) + 1
            if not faults.note(fault, f"line {number}") or len(values) == MAX_ENTRIES:
                break  # with so many values, each that follows would be one too many
            at = _next_line(text, at)
    faults.require_none()
    return values


def parse_values(data: bytes) -> dict[str, str | bytes]:
    """Read a JSON object of texts, and of bytes in base64."""
    try:
        members = parse_json(data, max_bytes=MAX_FILE_BYTES)
    except CapabilityError:
        # Without the cause: it may quote what it read.
        raise InvalidInput(
            f"the file is not one JSON object of at most {MAX_FILE_BYTES} bytes",
            hint='write {"NAME": "VALUE"}',
        ) from None
    values: dict[str, str | bytes] = {}
    faults = _Faults()
    for number, (name, member) in enumerate(members.items(), 1):
        try:
            take_entry(values, name)
            values[name] = _of_member(member)
        except BrokenEntry as fault:
            if not faults.note(fault, f"member {number}") or len(values) == MAX_ENTRIES:
                break
    faults.require_none()
    return values


def encode_dotenv(values: Mapping[str, str | bytes]) -> str:
    """Return the text of a `.env` file; `parse_dotenv` reads the same values from it, and a shell
    does."""
    lines = []
    for name, value in values.items():
        if isinstance(value, bytes):
            raise InvalidInput(
                f"the secret {name} is bytes, which no .env file holds", hint="add --format json"
            )
        if "'" not in value and "\r\n" not in value:
            lines.append(f"{name}='{value}'\n")
        else:
            escaped = (
                value.replace("\\", "\\\\")
                .replace('"', '\\"')
                .replace("$", "\\$")
                .replace("`", "\\`")
            )
            lines.append(f'{name}="{escaped}"\n'.replace("\r", "\\r"))
    return "".join(lines)


def values_json(values: Mapping[str, str | bytes]) -> dict[str, Json]:
    """Return values as the JSON object that `parse_values` reads."""
    return {
        name: value
        if isinstance(value, str)
        else {"value": encode_standard(value), "encoding": "base64"}
        for name, value in values.items()
    }


def text_of(data: bytes) -> str:
    """Return the text of a file, or raise InvalidInput: too long, or not UTF-8."""
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(
            f"the file is longer than {MAX_FILE_BYTES} bytes", hint="keep keys there, not data"
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput(
            "the file is not UTF-8", hint="convert it; bytes go into JSON or YAML, in base64"
        ) from None


def take_entry(values: Mapping[str, str | bytes], name: str) -> None:
    """Refuse a name that cannot be used; it is not in the message: what was taken for a name may be
    a value."""
    if not is_secret_name(name):
        raise BrokenEntry("has no name that a secret can have", hint=_NAME_HINT)
    if name in values:
        raise BrokenEntry("names the secret of an earlier one again", hint="leave one of them out")
    if len(values) == MAX_ENTRIES:
        raise BrokenEntry(
            f"is more than the {MAX_ENTRIES} entries of a file", hint="import it in parts"
        )


def _next_line(text: str, at: int) -> int:
    return text.find("\n", at) + 1 or len(text)


def _value(text: str, at: int) -> tuple[str, int]:
    """Return a value, and where the next line begins."""
    quoted = {"'": _SINGLE, '"': _DOUBLE}.get(text[at : at + 1])
    if quoted is None:
        return _plain(text, at)
    found = quoted.match(text, at)
    end = None if found is None else _NOTHING.match(text, found.end())
    if found is None or end is None:
        raise BrokenEntry(
            "has a quote that does not end, or text behind it", hint="close the quote"
        )
    value = found["value"]
    if quoted is _DOUBLE:
        value = _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[0]), value)
    return value, end.end()


def _plain(text: str, at: int) -> tuple[str, int]:
    following = _next_line(text, at)
    line = text[at:following].removesuffix("\n")
    # a comment for some readers, a value for others
    if line.startswith("#") and text[at - 1] == "=":
        raise BrokenEntry("has a value that begins with #", hint="put it into single quotes")
    comment = _COMMENT.search(text[at - 1] + line)
    value = line if comment is None else line[: comment.start()]
    return value.strip(" \t"), following


def _of_member(member: Json) -> str | bytes:
    if isinstance(member, str):
        return member
    if (
        isinstance(member, dict)
        and member.keys() == {"value", "encoding"}
        and member["encoding"] == "base64"
    ):
        data = decode_standard(member["value"])
        if data is not None:
            return data
    raise BrokenEntry(
        "is neither a text nor bytes", hint='write "…", or {"value": "…", "encoding": "base64"}'
    )
