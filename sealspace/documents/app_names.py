"""The name that an owner signs for approved code, in a grant (CN18, CN19).

The fact `sealspace.app/v1` says what the owner called the code, and optionally what its files name:
images, publishers and the source of each measured value. It has no effect, because the node judges
the policy. It counts only in a grant that the owner, or a sign-in of the owner, signed.

Example:
    app = AppNames(name=checked_app_name("Notes, build 7"))
    print(app_names_json(app), quoted_name(app.name))

Source: spec/operations/console.md CN18 and CN19.
"""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated

from msgspec import Meta

from capabilities.cacao import Cacao
from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import Json, JsonObject, StrictRecord, parse_json, shaped
from capabilities.tokens import parse_delegation
from encryption_network.canonical_json import canonical_bytes

from ..errors import InvalidInput
from ..printable import printable

APP_FACT = "sealspace.app/v1"
APP_URN = "urn:sealspace:app:v1:"
MAX_APP_NAME_CHARS = 60
MAX_CODE_BYTES = 8192
"""Longest names of code, as canonical JSON."""
MAX_CODE_IMAGES = 32
_MAX_STATEMENT_BYTES = 64 * 1024
_MAX_SHOWN_NAME_CHARS = 24

# Commands put a name in quotation marks, so a name with such a mark could end its own quotation.
_QUOTATION_MARKS = frozenset("\"'`´‘’‚‛“”„‟‹›«»「」『』＂＇")
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_PILED_MARKS = 3
_LOOKALIKE_SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"})
"""Scripts that share the shapes of letters, as the names of Unicode characters begin."""
_IDENTIFIER = re.compile(r"did:.*|bafy.*|(?:0x)?[0-9a-f]{8,}", re.IGNORECASE | re.DOTALL)


_Text = Annotated[str, Meta(max_length=400)]


class _Image(StrictRecord):
    """An image of the code, as a grant states it."""

    service: _Text
    reference: _Text
    publisher: _Text


class _Code(StrictRecord):
    """The names of code, as a grant states them."""

    name: _Text
    images: Annotated[list[_Image], Meta(max_length=MAX_CODE_IMAGES)]
    osImageHash: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None
    sources: dict[str, _Text]


@frozen(kw_only=True)
class AppNames:
    """What an owner called approved code.

    Attributes:
        name: the name, at most MAX_APP_NAME_CHARS characters; "" without a name.
        code: the names in its files: `{"name","images","osImageHash","sources"}`; None: not stated.
    """

    name: str
    code: JsonObject | None = None


def checked_app_name(text: str) -> str:
    """Return a name for approved code, in Unicode's composed form (NFC).

    Args:
        text: the name as the owner typed it.
    Raises:
        InvalidInput: the name is empty or too long, or could be mistaken for another text (CN19).
    """
    name = unicodedata.normalize("NFC", text)
    fault = _fault_of(name)
    if fault is not None:
        raise InvalidInput(
            f"the name {printable(text, most=80)} cannot be used: {fault}",
            hint=f"use 1 to {MAX_APP_NAME_CHARS} letters, digits, dots, dashes and single spaces:"
            ' --name "Notes 2.1"',
        )
    return name


def _fault_of(name: str) -> str | None:
    """Return why a name could be mistaken, or None if it is good."""
    if not 0 < len(name) <= MAX_APP_NAME_CHARS:
        return f"it must have 1 to {MAX_APP_NAME_CHARS} characters"
    if name.startswith(" ") or name.endswith(" ") or "  " in name:
        return "it begins or ends with a space, or has two in a row"
    for sign in name:
        if not _is_shown(sign):
            return f"the character U+{ord(sign):04X} is invisible, or changes what is read"
        if sign in _QUOTATION_MARKS:
            return "it has a quotation mark"
    if _has_piled_marks(name):
        return "it piles up accents"
    if _IDENTIFIER.fullmatch(name):
        return "it looks like an identifier or a hash"
    if len(_scripts_in(name)) > 1:
        return "it mixes alphabets with letters of the same shapes"
    return None


def _is_shown(sign: str) -> bool:
    """Return whether a character is a plain space, or has a shape of its own."""
    # Python counts characters of private use and unassigned ones as not printable.
    return sign.isprintable() and sign not in _BLANK_LETTERS


def _has_piled_marks(name: str) -> bool:
    """Return whether a name has marks on marks, which could cover the lines above it."""
    in_a_row = 0
    for sign in name:
        in_a_row = in_a_row + 1 if unicodedata.combining(sign) else 0
        if in_a_row == _PILED_MARKS:
            return True
    return False


def _scripts_in(name: str) -> set[str]:
    """Return the alphabets of a name that share the shapes of letters."""
    first_words = {unicodedata.name(sign, "").partition(" ")[0] for sign in name if sign.isalpha()}
    return first_words & _LOOKALIKE_SCRIPTS


def is_alike(first: AppNames, second: AppNames) -> bool:
    """Return whether two names look the same but for case, accents' spelling and punctuation."""
    return _letters_of(first.name) == _letters_of(second.name)


def _letters_of(name: str) -> str:
    """Return the letters and digits of a name in one case; the name itself if it has none."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(sign for sign in folded if sign.isalnum()) or folded


def code_with_sources(code: JsonObject | None, compared: list[JsonObject]) -> JsonObject | None:
    """Return the names of code in the form that a grant states, or None if they are too many.

    Args:
        code: `{"name","images","osImageHash"}`, or None without files.
        compared: the comparison of the files with the running backend; may be empty.
    """
    if code is None:
        return None
    sources: JsonObject = {}
    for value in compared:
        if value["agrees"] is True:
            sources[str(value["name"])] = f"{value['source']}: {value['origin']}"
    return _checked_code(code | {"sources": sources})


def app_names_json(app: AppNames) -> JsonObject:
    """Convert the names of approved code to the statement in a grant."""
    stated: JsonObject = {"name": app.name}
    if app.code is not None:
        stated["code"] = app.code
    return stated


def read_app_names(header: str) -> AppNames | None:
    """Read the names that a grant states for approved code; None if it states none.

    A statement of another form is ignored, because it has no effect.

    Args:
        header: CACAO or UCAN text, untrusted.
    Does not check:
        Who signed the grant: a recipient could pass it on with any name.
    """
    for stated in _statements_in(header):
        if not isinstance(stated, dict):
            continue
        name = stated.get("name", "")
        if not isinstance(name, str):
            continue
        return AppNames(name=name[:MAX_APP_NAME_CHARS], code=_checked_code(stated.get("code")))
    return None


def _statements_in(header: str) -> Iterator[Json]:
    """Yield the statements about an app in a grant."""
    try:
        delegation = parse_delegation(header)
    except CapabilityError:
        return
    for fact in delegation.facts:
        if isinstance(fact, dict) and APP_FACT in fact:
            yield fact[APP_FACT]
    envelope = delegation.envelope
    resources = envelope.message.resources if isinstance(envelope, Cacao) else ()
    for resource in resources:
        if resource.startswith(APP_URN):
            data = decode_url(resource.removeprefix(APP_URN))
            with suppress(CapabilityError):
                if data is not None:
                    yield parse_json(data, max_bytes=_MAX_STATEMENT_BYTES)


def _checked_code(code: Json) -> JsonObject | None:
    """Return names of code that have the right form and are within the limits, or None."""
    if not isinstance(code, dict):
        return None
    try:
        shaped(code, _Code)  # raises for another form
    except CapabilityError:
        return None
    return code if len(canonical_bytes(code)) <= MAX_CODE_BYTES else None


def quoted_name(name: str, *, is_short: bool = False) -> str:
    """Return a signed name in quotation marks, for a person.

    Args:
        name: the name that a grant states, untrusted: characters that could end the quotation or
            that change what is read are replaced.
        is_short: whether a long name is cut, because it would hide the DID beside it.
    """
    most = _MAX_SHOWN_NAME_CHARS if is_short else MAX_APP_NAME_CHARS
    shown = printable(name, most=MAX_APP_NAME_CHARS).replace('"', "\ufffd")
    if len(shown) > most:
        shown = f"{shown[: most - 1]}…"
    return f'"{shown}"'
