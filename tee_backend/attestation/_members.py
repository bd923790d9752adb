"""Strict JSON objects and their members; what several signed documents have: a window, a chain of signer and root."""

import re
from dataclasses import dataclass
from datetime import datetime

import msgspec

from capabilities.errors import InvalidJson
from capabilities.strict_json import Json, parse_json

from .certificates import Certificate, parse_pem_chain
from .errors import CollateralUnusable, MalformedCertificate

_SIGNER_CHAIN_CERTIFICATES = 2
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """When a document is valid: from `starts_at` until before `ends_at`; epoch seconds."""

    starts_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class IssuerChain:
    """Who signed a document: the signer, then the root; `pem` is the text as received."""

    pem: str
    signer: Certificate
    root: Certificate


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A text with the signature over it; nothing of it is verified."""

    text: str
    signature: bytes
    issuer_chain: IssuerChain
    window: Window


def read_object(data: bytes, *, max_bytes: int, what: str) -> dict[str, Json]:
    """Parse one JSON object; raises CollateralUnusable with `what` in its detail."""
    try:
        return parse_json(data, max_bytes=max_bytes)
    except InvalidJson as exc:
        raise CollateralUnusable("collateral-malformed", f"{what}: {exc}") from exc


def document_window(signed: dict[str, Json]) -> Window:
    """Return the window that a signed document names; raises CollateralUnusable."""
    return window_of(time_member(signed, "issueDate"), time_member(signed, "nextUpdate"))


def window_of(starts_at: float, ends_at: float) -> Window:
    """Return a window that does not end before it starts; raises CollateralUnusable."""
    if ends_at < starts_at:
        raise CollateralUnusable("collateral-malformed", "a window ends before it starts")
    return Window(starts_at, ends_at)


def time_member(signed: dict[str, Json], name: str) -> float:
    """Return a UTC time in whole seconds as epoch seconds; raises CollateralUnusable."""
    value = signed.get(name)
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        raise CollateralUnusable("collateral-malformed", f"{name} is no UTC time in seconds")
    try:
        return datetime.fromisoformat(value).timestamp()  # not strptime: its first call imports
    except (ValueError, OverflowError) as exc:
        raise CollateralUnusable("collateral-malformed", f"{name} is no time of a calendar") from exc


def evaluation_number(signed: dict[str, Json]) -> int:
    """Return tcbEvaluationDataNumber; raises CollateralUnusable."""
    value = signed.get("tcbEvaluationDataNumber")
    if type(value) is not int or not 0 <= value < 2**31:
        raise CollateralUnusable("collateral-malformed", "tcbEvaluationDataNumber is no number")
    return value


def issuer_chain(document: dict[str, Json], name: str) -> IssuerChain:
    """Return a chain of exactly signer and root; raises CollateralUnusable."""
    pem = text_member(document, name)
    try:
        chain = parse_pem_chain(pem.encode(), most=_SIGNER_CHAIN_CERTIFICATES)
    except MalformedCertificate as exc:
        raise CollateralUnusable("collateral-malformed", f"{name}: {exc.detail}") from exc
    if len(chain) != _SIGNER_CHAIN_CERTIFICATES:
        raise CollateralUnusable("collateral-malformed", f"{name} is not signer and root")
    return IssuerChain(pem=pem, signer=chain[0], root=chain[1])


def text_member(members: dict[str, Json], name: str) -> str:
    """Return a text; raises CollateralUnusable."""
    value = members.get(name)
    if not isinstance(value, str):
        raise CollateralUnusable("collateral-malformed", f"{name} is no text")
    return value


def hex_member(members: dict[str, Json], name: str, *, size_bytes: int | None) -> bytes:
    """Return bytes given as plain hex of either case; raises CollateralUnusable."""
    text = text_member(members, name)
    try:
        value = bytes.fromhex(text)
    except ValueError as exc:
        raise CollateralUnusable("collateral-malformed", f"{name} is no hex") from exc
    if len(text) != 2 * len(value):  # spaces between the digits
        raise CollateralUnusable("collateral-malformed", f"{name} is no plain hex")
    if size_bytes is not None and len(value) != size_bytes:
        raise CollateralUnusable("collateral-malformed", f"{name} is not {size_bytes} bytes")
    return value


@dataclass(frozen=True, slots=True)
class SignedText:
    """What was signed, and the signature; unverified."""

    text: str
    signature: bytes


def cut_signed_body(body: bytes, *, member: str, max_bytes: int) -> SignedText:
    """Cut a signed object out of an answer."""
    answer = read_object(body, max_bytes=max_bytes, what=member)
    if answer.keys() != {member, "signature"} or not isinstance(answer[member], dict):
        raise CollateralUnusable("collateral-malformed", f"no answer with {member} and signature")
    # The body was read strictly: no member occurs twice, so both readings mean the same one.
    parts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return SignedText(text=bytes(parts[member]).decode(), signature=hex_member(answer, "signature", size_bytes=64))
