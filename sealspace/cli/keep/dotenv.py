r"""Functions that read and write secrets in `.env` and JSON files.

Errors give the line or the number of a broken entry, and its name if that is a valid secret name.
They quote nothing else, because it may contain a secret.

A `.env` file is UTF-8 with one entry per line: `NAME=VALUE`, optionally after `export `. Empty
lines and lines that begin with `#` are skipped. A value is written as

    VALUE      taken literally up to ` #`, without blanks at either end
    'VALUE'    taken literally, may span several lines
    "VALUE"    may span several lines; \n \r \t \" \\ \$ are escapes as in a shell

Variables are not expanded: `$` is an ordinary character. A JSON file is one object. Its members are
strings, or `{"value": "…", "encoding": "base64"}` for bytes. Numbers, true, false and null become
the text that the file has for them: 1.10 is "1.10".
"""

import json
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from capabilities.capability_errors import InvalidJson
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import Json, JsonObject, parse_json

from ...errors import InvalidInput
from ...secrets import is_secret_name

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 1000

_NAME_HINT = (
    "names are capitals, digits and underscores, a capital first: API_KEY; to store db_url as"
    " DB_URL, add --upper"
)
_JSON_HINT = 'write {"NAME": "VALUE"}'
_LITERALS = {None: "null", True: "true", False: "false"}
_START = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*")
_NOTHING = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_COMMENT = re.compile(r"[ \t]#")
_SINGLE = re.compile(r"'(?P<value>[^']*)'")
_DOUBLE = re.compile(r'"(?P<value>(?:[^"\\]|\\.)*+)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "`": "`"}

_MOST_FAULTS = 20


class BrokenEntry(InvalidInput):
    """A secrets file contains malformed entries.

    The message gives their locations, not their content.
    """

    code = "broken-entry"


class _Faults(list[BrokenEntry]):
    """The errors found in one secrets file."""

    def note(self, fault: BrokenEntry, where: str, name: str) -> bool:
        """Record an error and its location in the parsed secrets file.

        A name that cannot be the name of a secret is not shown: it may be part of a value. Returns
        whether the check of the file goes on: the number of errors is limited.
        """
        label = f" ({name})" if is_secret_name(name) else ""
        fault.message = f"{where}{label}: {fault.message}"
        self.append(fault)
        return len(self) < _MOST_FAULTS

    def require_none(self) -> None:
        """Raise an exception if any errors were recorded.

        The message lists all of them.
        """
        if self:
            more = "; the rest was not checked" if len(self) == _MOST_FAULTS else ""
            raise BrokenEntry(
                "; ".join(fault.message for fault in self) + more,
                hint="; ".join(dict.fromkeys(fault.hint for fault in self)),
            )


def parse_dotenv(data: bytes, *, upper: bool = False) -> dict[str, str | bytes]:
    """Parse the content of a `.env` file.

    With `upper`, names are converted to capitals.
    """
    text = text_of(data).removeprefix("\ufeff").replace("\r\n", "\n")
    values: dict[str, str | bytes] = {}
    faults = _Faults()
    at = 0
    while at < len(text):
        blank = _NOTHING.match(text, at)
        if blank is not None:
            at = blank.end()
            continue
        start = _START.match(text, at)
        try:
            if start is None:
                raise BrokenEntry(
                    "the line is not NAME=VALUE",
                    hint="write NAME='VALUE' with the name in capitals, or begin the line with #",
                )
            name = new_entry(values, start["name"], upper=upper)
            values[name], at = _parse_value(text, start.end())
        except BrokenEntry as fault:
            number = text.count("\n", 0, at) + 1
            stated_name = "" if start is None else start["name"]
            if not faults.note(fault, f"line {number}", stated_name) or len(values) == MAX_ENTRIES:
                # The limit of errors or of entries is reached. If the loop went on, it would report
                # every later entry too.
                break
            at = _next_line(text, at)
    faults.require_none()
    return values


class JsonEntries(NamedTuple):
    """The secrets in a JSON file.

    `converted` are the names of those that the file has as a number, true, false or null.
    """

    values: dict[str, str | bytes]
    converted: tuple[str, ...]


class _NumberText(str):
    """A number, as the file has it."""


def parse_values(data: bytes, *, upper: bool = False) -> JsonEntries:
    """Parse a JSON object of texts, numbers, true, false, null and base64-encoded bytes.

    With `upper`, names are converted to capitals.
    """
    try:
        parse_json(data, max_bytes=MAX_FILE_BYTES)  # for its refusals
    except InvalidJson as error:
        # `from None` drops the cause's cause, whose message may quote a secret.
        raise InvalidInput(error.text, hint=_JSON_HINT) from None
    # The text is valid now. It is read again because `parse_json` turns 1.10 into 1.1.
    members = json.loads(data, parse_int=_number_text, parse_float=_number_text)
    values: dict[str, str | bytes] = {}
    converted: list[str] = []
    faults = _Faults()
    for number, (name, member) in enumerate(members.items(), 1):
        try:
            entry = new_entry(values, name, upper=upper)
            values[entry] = _value_of_member(member)
        except BrokenEntry as fault:
            if not faults.note(fault, f"member {number}", name) or len(values) == MAX_ENTRIES:
                break  # as in `parse_dotenv`
            continue
        if member is None or isinstance(member, (bool, _NumberText)):
            converted.append(entry)
    faults.require_none()
    return JsonEntries(values, tuple(converted))


def _number_text(text: str) -> str:
    """Return the text of a number, which must not be too large for other readers of JSON."""
    if not math.isfinite(float(text)):
        raise InvalidInput("a number in the file is out of range", hint=_JSON_HINT)
    return _NumberText(text)


def encode_dotenv(values: Mapping[str, str | bytes]) -> str:
    """Encode values as a `.env` file.

    `parse_dotenv` reads the values back unchanged. So does a shell, except for carriage returns in
    double quotes.
    """
    lines = []
    for name, value in values.items():
        if isinstance(value, bytes):
            raise InvalidInput(
                f"the secret {name} is binary data, which a .env file cannot contain",
                hint="add --format json",
            )
        # A value in single quotes is taken literally, so it cannot contain a single quote, nor a CR
        # LF, because `parse_dotenv` reads each line break as LF. Double quotes have escapes.
        if "'" not in value and "\r\n" not in value:
            lines.append(f"{name}='{value}'\n")
        else:
            escaped = re.sub(r'[\\"$`]', r"\\\g<0>", value).replace("\r", "\\r")
            lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def values_json(values: Mapping[str, str | bytes]) -> JsonObject:
    """Convert values to a JSON object.

    `parse_values` reads the values back unchanged.
    """
    document: JsonObject = {}
    for name, value in values.items():
        if isinstance(value, str):
            document[name] = value
        else:
            document[name] = {"value": encode_standard(value), "encoding": "base64"}
    return document


def text_of(data: bytes) -> str:
    """Decode the content of a text file.

    Raises InvalidInput if the content is too long or not UTF-8.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(
            f"the text is longer than {MAX_FILE_BYTES} bytes",
            hint="split it; a file of secrets needs only keys and passwords",
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput(
            "the text is not UTF-8",
            hint="convert it to UTF-8; to store bytes as a secret, use JSON or YAML with base64",
        ) from None


def new_entry(values: Mapping[str, str | bytes], name: str, *, upper: bool) -> str:
    """Return the name under which an entry is added to the parsed entries.

    With `upper`, `db-url` becomes `DB_URL`. Raises BrokenEntry if the name is invalid or repeated,
    or if there are too many entries.
    """
    if upper:
        name = re.sub("[-.]", "_", name).upper()
    # Messages do not quote the name: in a malformed file it may be part of a value.
    if not is_secret_name(name):
        raise BrokenEntry("the name of the secret is not valid", hint=_NAME_HINT)
    if name in values:
        raise BrokenEntry(
            "an earlier entry has the same name", hint="remove one of the two entries"
        )
    if len(values) == MAX_ENTRIES:
        raise BrokenEntry(
            f"the file has more than {MAX_ENTRIES} entries", hint="import the file in parts"
        )
    return name


def _next_line(text: str, at: int) -> int:
    """Return the offset of the next line, or the length of the text if there is none."""
    line_break = text.find("\n", at)
    return len(text) if line_break < 0 else line_break + 1


def _parse_value(text: str, at: int) -> tuple[str, int]:
    """Parse one value of a `.env` file.

    Returns the value, and the offset of the next line.
    """
    quoted = {"'": _SINGLE, '"': _DOUBLE}.get(text[at : at + 1])
    if quoted is None:
        following = _next_line(text, at)
        line = text[at:following].removesuffix("\n")
        # `NAME=#text` is ambiguous: some parsers read a comment here, others a value.
        if line.startswith("#") and text[at - 1] == "=":
            raise BrokenEntry("the value begins with #", hint="put the value in single quotes")
        # A comment begins with a blank, which may be the one before the value: `NAME= # text`. So
        # the search begins there, and offsets are by one greater than in `line`. The slice still
        # contains the blank, which `strip` removes.
        comment = _COMMENT.search(text[at - 1] + line)
        if comment is not None:
            line = line[: comment.start()]
        return line.strip(" \t"), following
    match = quoted.match(text, at)
    end = None if match is None else _NOTHING.match(text, match.end())
    if match is None or end is None:
        raise BrokenEntry(
            "a quote is not closed, or text follows the closing quote", hint="close the quote"
        )
    value = match["value"]
    if quoted is _DOUBLE:
        value = _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[0]), value)
    return value, end.end()


def _value_of_member(member: Json) -> str | bytes:
    """Return the value that a member of a JSON file stands for."""
    match member:
        case str():
            return str(member)  # a plain text also of a number
        case bool() | None:
            return _LITERALS[member]
        case {"value": text, **rest} if rest == {"encoding": "base64"}:
            data = decode_standard(text)
            if data is not None:
                return data
    raise BrokenEntry(
        "the value is a list or an object, but not bytes in base64",
        hint='give each value a name of its own; write it as text: "…", or as bytes: {"value":'
        ' "…", "encoding": "base64"}',
    )
