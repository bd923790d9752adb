"""Names and values of a YAML file: one mapping, every value taken as the text that stands in the
file.

YAML gives a plain word a type of its own: `no` is false, `1.10` a number, `2026-11-20` a date. Here
a value is what was written, so nothing of it changes. What has no text of its own is refused: null,
an empty value, an anchor or an alias, a tag other than `!!str` and `!!binary`, a list or a mapping
as a value, a second document.

The events of the parser are read, never its objects: it recurses over no depth, expands no alias
and builds no class.
"""

from collections.abc import Iterator
from typing import Final

import yaml

from capabilities.strict_base64 import decode_standard

from ..errors import InvalidInput
from .dotenv import BrokenEntry, take_entry, text_of

_STR: Final = (None, "!", "tag:yaml.org,2002:str")
_BINARY: Final = "tag:yaml.org,2002:binary"
# the parser takes them for line breaks, and makes them blanks
_FOLDED: Final = frozenset("\x85\u2028\u2029")
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


def parse_yaml_values(data: bytes) -> dict[str, str | bytes]:
    """Read a YAML mapping of texts, and of bytes tagged `!!binary`."""
    text = text_of(data)
    if not _FOLDED.isdisjoint(text):
        raise InvalidInput(
            "the file contains a line break of Unicode, which YAML would change",
            hint='write it as an escape in double quotes: "\\N", "\\L" or "\\P"',
        )
    try:
        return _values(iter(yaml.parse(text, Loader=yaml.SafeLoader)))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # Without the error: it quotes what it read. The parser raises the latter two itself, for
        # numbers that are too large in an escape or in a version.
        mark = getattr(error, "problem_mark", None)
        where = "the file" if mark is None else f"line {mark.line + 1}"
        raise InvalidInput(
            f"{where} is no YAML that can be read", hint='write NAME: "VALUE", one a line'
        ) from None


def _values(events: Iterator[yaml.Event]) -> dict[str, str | bytes]:
    values: dict[str, str | bytes] = {}
    began = [next(events, None) for _ in range(3)]  # stream, document, and what the document is
    if not isinstance(began[1], yaml.DocumentStartEvent):
        return values
    if not isinstance(began[2], yaml.MappingStartEvent) or began[2].anchor is not None:
        raise InvalidInput("the file is not one mapping", hint='write NAME: "VALUE", one a line')
    for name in events:
        if isinstance(name, yaml.MappingEndEvent):
            break
        try:
            take_entry(values, name.value if _is_scalar(name) and name.tag in _STR else "")
            values[name.value] = _value(next(events))
        except BrokenEntry as fault:
            fault.message = f"line {name.start_mark.line + 1} {fault.message}"
            raise
    next(events)  # the end of the document
    if not isinstance(next(events), yaml.StreamEndEvent):
        raise InvalidInput(
            "the file has several documents", hint="import each from a file of its own"
        )
    return values


def _is_scalar(event: yaml.Event) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.anchor is None


def _value(event: yaml.Event) -> str | bytes:
    if not _is_scalar(event):
        raise BrokenEntry(
            "has a value that is not one text", hint="write the value as one text, without & and *"
        )
    if event.tag == _BINARY:
        data = decode_standard("".join(event.value.split()))
        if data is None:
            raise BrokenEntry(
                "is tagged !!binary and is no base64", hint="write base64 with its padding"
            )
        return data
    if event.tag not in _STR:
        raise BrokenEntry("has a tag", hint="leave the tag out: every value is a text")
    if event.style is None and event.tag is None and event.value in _NULLS:
        raise BrokenEntry("has no value", hint='write "" around a text that is meant so')
    text: str = event.value
    if not text.isascii() and any("\ud800" <= one <= "\udfff" for one in text):
        raise BrokenEntry(
            "has half of a character", hint="write the character itself, not its two halves"
        )
    return text
