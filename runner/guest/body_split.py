"""Separation of a request body into its input and its other members (RN66, RN96, RN251).

The input may have megabytes, and the other members are short. The separation does all the work that
grows with the body: it checks encoding, nesting, grammar and repeated members, and decodes or
compacts the input. A long body is therefore separated in a child process. `body_child` imports this
module, so it imports nothing of this project but strict JSON and base64.

Example:
    members, given = split_body(b'{"input": [1, 2]}', API_SHAPE)
"""

import re
from functools import cache

import msgspec

from capabilities.capability_errors import CapabilityError
from capabilities.strict_base64 import decode_standard
from capabilities.strict_json import check_text, parse_json

MAX_BESIDE_INPUT_BYTES = 64 * 1024
"""Longest body without its input."""
_NOT_AN_OBJECT = "the body is not a JSON object"
_UNKNOWN = re.compile(r"unknown field `(.{1,64}?)`", re.DOTALL)
_OWN_INPUT = 'the program\'s own input belongs in "input"'
_INSTEAD = {
    "params": "nothing is compiled here, and no payment is attached; leave it out",
    "payer_account_id": "the owner of the API key pays; leave it out",
    "project_id": "name the project in the address, /call/OWNER/PROJECT",
    "deposit": "the operator credits the account of the key's owner; leave it out",
    "compile_only": "nothing is compiled from source; publish the program",
    "force_rebuild": "nothing is compiled from source; publish the program",
    "store_on_fastfs": "nothing is stored for others; a program publishes what it answers",
}
"""What to do instead of members that OutLayer's clients know and this runner lacks (RN269)."""


class BodyShape(msgspec.Struct, frozen=True):
    """The members of a kind of request body.

    Attributes:
        members: names of the members beside the input.
        most_input_bytes: longest input.
        is_any_json: whether `input` is any JSON, a text can be in `input_data` instead (RN268),
            and a body without known members is the input itself (RN230). Otherwise the input is a
            text, or base64 in `inputBase64`.
    """

    members: tuple[str, ...]
    most_input_bytes: int
    is_any_json: bool

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the members that contain the input."""
        return ("input", "input_data") if self.is_any_json else ("input", "inputBase64")

    @property
    def most_bytes(self) -> int:
        """The longest body; an input grows in base64 or with JSON escapes."""
        return 2 * self.most_input_bytes


class BodyRefused(Exception):
    """Raised when a request body cannot be separated.

    Attributes:
        code: code of a reason for a refusal.
        detail: which rule is broken.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(code)


def split_body(data: bytes, shape: BodyShape) -> tuple[bytes, bytes]:
    """Separate an untrusted request body.

    Returns:
        A JSON object with the members beside the input, whose values are not checked yet, and the
        input for the program.
    Raises:
        BodyRefused: `input-too-large` or `request-invalid`.
    """
    if len(data) > shape.most_bytes:
        raise BodyRefused("input-too-large")
    try:
        split = _split_api_body if shape.is_any_json else _split_run_body
        members, given = split(data, shape)
    except msgspec.ValidationError as exc:
        raise BodyRefused("request-invalid", _what_is_unknown(str(exc))) from exc
    except CapabilityError as exc:
        raise BodyRefused("request-invalid", str(exc)) from exc
    except (ValueError, RecursionError) as exc:
        raise BodyRefused("request-invalid", "body") from exc
    if len(given) > shape.most_input_bytes:
        raise BodyRefused("input-too-large")
    return members, given


def _split_run_body(data: bytes, shape: BodyShape) -> tuple[bytes, bytes]:
    """Separate a body of `POST /run`, whose input is a text, or base64."""
    texts = _member_texts(data, shape)
    # Looked at before the body is parsed, which would make objects of a long array.
    for name in shape.inputs:
        first = bytes(memoryview(texts[name])[:1])
        if first not in (b"", b'"', b"n"):  # absent, a string, or null
            raise BodyRefused("request-invalid", "input")
    members = parse_json(data, max_bytes=shape.most_bytes)
    text = members.get("input")
    encoded = members.get("inputBase64")
    if text is not None and encoded is not None:
        raise BodyRefused("request-invalid", "input")
    given: bytes | None = b""
    if isinstance(text, str):
        given = text.encode()
    elif encoded is not None:
        given = decode_standard(encoded)
    if given is None:  # not base64
        raise BodyRefused("request-invalid", "input")
    return _without_inputs(texts, shape), given


def _split_api_body(data: bytes, shape: BodyShape) -> tuple[bytes, bytes]:
    """Separate a body of `POST /call`, whose input is any JSON, or a text in `input_data`."""
    # RN230: other members are skipped without being built
    found = msgspec.json.decode(data, type=_raw_members(shape, is_strict=False))
    if not any(msgspec.structs.astuple(found)):  # no known member: the body itself is the input
        data = b'{"input":%s}' % data
    texts = _member_texts(data, shape)
    text = bytes(texts["input"])
    plain = bytes(texts["input_data"])
    if plain:
        if text:
            raise BodyRefused("request-invalid", 'give "input" or "input_data", not both')
        # RN268: OutLayer's requests with this member have text answers unless they say otherwise
        texts["response_format"] = texts["response_format"] or msgspec.Raw(b'"Text"')
        return _without_inputs(texts, shape), _plain_input(plain, shape)
    check_text(text, max_bytes=shape.most_bytes)
    return _without_inputs(texts, shape), msgspec.json.format(text, indent=-1)


def _plain_input(text: bytes, shape: BodyShape) -> bytes:
    """Return the input of a body whose `input_data` is a JSON string (RN268)."""
    if not text.startswith(b'"'):
        raise BodyRefused(
            "request-invalid", '"input_data" must be a text; other JSON belongs in "input"'
        )
    check_text(text, max_bytes=shape.most_bytes)
    return msgspec.json.decode(text, type=str).encode()


def _what_is_unknown(error: str) -> str:
    """Return what is wrong with a body, and what to do instead of an unknown member (RN269)."""
    found = _UNKNOWN.search(error)
    if found is None:
        return _NOT_AN_OBJECT
    name = found[1]
    return f'unknown member "{name}": {_INSTEAD.get(name, _OWN_INPUT)}'


def _member_texts(data: bytes, shape: BodyShape) -> dict[str, msgspec.Raw]:
    """Return the members of a body as JSON text, which is empty for an absent one.

    Nothing is built from the members. Ten megabytes of `[[],[],…]` beside the input would become a
    gigabyte of objects.

    Raises:
        BodyRefused: the members beside the input are too long.
        msgspec.ValidationError: the body is not an object, or has an unknown member.
        ValueError: the body is not JSON.
    """
    found = msgspec.json.decode(data, type=_raw_members(shape, is_strict=True))
    texts: dict[str, msgspec.Raw] = msgspec.structs.asdict(found)
    input_bytes = sum(memoryview(texts[name]).nbytes for name in shape.inputs)
    if len(data) - input_bytes > MAX_BESIDE_INPUT_BYTES:
        raise BodyRefused(
            "request-invalid",
            f"without its input, the body may have at most {MAX_BESIDE_INPUT_BYTES} bytes",
        )
    return texts


@cache
def _raw_members(shape: BodyShape, *, is_strict: bool) -> type[msgspec.Struct]:
    """Return a type with the members of a shape as JSON text.

    Other members are errors or, if not `is_strict`, skipped.
    """
    fields = [(name, msgspec.Raw, msgspec.Raw()) for name in (*shape.inputs, *shape.members)]
    return msgspec.defstruct("_Members", fields, forbid_unknown_fields=is_strict)


def _without_inputs(texts: dict[str, msgspec.Raw], shape: BodyShape) -> bytes:
    """Return a JSON object with the members beside the input that are not absent."""
    stated = [
        b'"%s":%s' % (name.encode(), bytes(text))
        for name, text in texts.items()
        if name not in shape.inputs and text
    ]
    return b"{%s}" % b",".join(stated)
