"""A parser for YAML files that contain secrets.

Every value is taken literally as a string. YAML gives plain words a type: `no` is false, `1.10` is
a number, `2026-11-20` is a date. Here a value is the text in the file, so that a secret is never
changed. Everything without such a text is rejected: null, empty values, anchors and aliases, tags
other than `!!str` and `!!binary`, lists and mappings as values, and a second document.

This module reads the parser's events and builds no objects. So a file cannot cause deep recursion,
expand aliases or create Python classes.
"""

from collections.abc import Iterator

import yaml

from capabilities.strict_base64 import decode_standard

from ...errors import InvalidInput
from .dotenv import BrokenEntry, new_entry, text_of

_STR = (None, "!", "tag:yaml.org,2002:str")
_BINARY = "tag:yaml.org,2002:binary"
# Unicode line breaks, which the YAML parser would fold into blanks.
_FOLDED = frozenset("\x85\u2028\u2029")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


def parse_yaml_values(data: bytes, *, upper: bool = False) -> dict[str, str | bytes]:
    """Parse a YAML mapping of strings and `!!binary` values.

    With `upper`, names are converted to capitals.
    """
    text = text_of(data)
    if not _FOLDED.isdisjoint(text):
        raise InvalidInput(
            "the file contains a Unicode line break, which YAML would change",
            hint='in double quotes, write the line break as "\\N" (U+0085), "\\L" (U+2028) or "\\P"'
            " (U+2029)",
        )
    try:
        return _parse_stream(iter(yaml.parse(text, Loader=yaml.SafeLoader)), upper=upper)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # `from None` drops the cause, which quotes the file. The parser itself raises ValueError
        # and OverflowError for numbers that are too large in an escape or in a version.
        mark = getattr(error, "problem_mark", None)
        where = "the file" if mark is None else f"line {mark.line + 1}"
        raise InvalidInput(
            f"{where} is not valid YAML", hint='write NAME: "VALUE", one per line'
        ) from None


def _parse_stream(events: Iterator[yaml.Event], *, upper: bool) -> dict[str, str | bytes]:
    """Parse the events of a file with one mapping, or with nothing."""
    next(events)  # start of the stream
    if not isinstance(next(events), yaml.DocumentStartEvent):
        return {}
    mapping = next(events)
    if not isinstance(mapping, yaml.MappingStartEvent) or mapping.anchor is not None:
        raise InvalidInput(
            "the file is not a single YAML mapping", hint='write NAME: "VALUE", one per line'
        )
    values = _parse_mapping(events, upper=upper)
    next(events)  # end of the document
    if not isinstance(next(events), yaml.StreamEndEvent):
        raise InvalidInput(
            "the file contains several documents", hint="put each document into a separate file"
        )
    return values


def _parse_mapping(events: Iterator[yaml.Event], *, upper: bool) -> dict[str, str | bytes]:
    """Parse the events of a mapping after its start, its end included."""
    values: dict[str, str | bytes] = {}
    for name in events:
        if isinstance(name, yaml.MappingEndEvent):
            break
        written = ""  # not a valid name: `new_entry` refuses it
        if _is_scalar(name) and name.tag in _STR:
            written = name.value
        try:
            entry = new_entry(values, written, upper=upper)
            values[entry] = _read_value(next(events))
        except BrokenEntry as fault:
            fault.message = f"line {name.start_mark.line + 1} {fault.message}"
            raise
    return values


def _is_scalar(event: yaml.Event) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.anchor is None


def _read_value(event: yaml.Event) -> str | bytes:
    """Return the value of an entry.

    Raises:
        BrokenEntry: the value is not one plain text, or bytes in base64.
    """
    if not _is_scalar(event):
        raise BrokenEntry(
            "the value is not text",
            hint="write one text value, without YAML anchors (&) or aliases (*)",
        )
    if event.tag == _BINARY:
        data = decode_standard("".join(event.value.split()))
        if data is None:
            raise BrokenEntry(
                "the value is tagged !!binary, but is not base64", hint="write base64 with padding"
            )
        return data
    if event.tag not in _STR:
        raise BrokenEntry(
            "the value has a YAML tag", hint="remove the YAML tag (!…): every value is read as text"
        )
    # Such a word is null only without quotes and without a tag.
    if event.style is None and event.tag is None and event.value in _NULLS:
        raise BrokenEntry(
            "there is no value",
            hint='write a value; for an empty text or the word null, write "" or "null"',
        )
    text: str = event.value
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise BrokenEntry(
            "the value contains an unpaired surrogate",
            hint="write the character itself in place of its \\u escapes",
        )
    return text
