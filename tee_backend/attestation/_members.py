"""Strict JSON objects and their members; what several signed documents have: a window, a chain of signer and root."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from capabilities.errors import InvalidJson
from capabilities.strict_json import parse_json, shaped

from .certificates import Certificate, parse_pem_chain
from .errors import CollateralCode, CollateralUnusable, MalformedCertificate

_SIGNER_CHAIN_CERTIFICATES = 2

MAX_DOCUMENT_BYTES = 64 * 1024
"""Bound of each signed text and of each revocation list."""

TimeText = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
"""A UTC time in whole seconds."""
HexText = Annotated[str, Meta(pattern=r"^(?:[0-9A-Fa-f]{2})*\Z")]
"""Plain hex of either case."""
SignatureHex = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{128}\Z")]
EvaluationNumber = Annotated[int, Meta(ge=0, lt=2**31)]


@dataclass(frozen=True, slots=True)
class Window:
    """When a document is valid: from `starts_at` until before `ends_at`; epoch seconds."""

    starts_at: float
    ends_at: float


class Stated(Struct, rename="camel"):
    """The members that every signed document has; others are skipped."""

    id: str
    version: int
    issue_date: TimeText
    next_update: TimeText

    @property
    def window(self) -> Window:
        """When the document is valid; raises CollateralUnusable."""
        return window_of(time_of(self.issue_date), time_of(self.next_update))


Shape = TypeVar("Shape")
AnyStated = TypeVar("AnyStated", bound=Stated)


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


def read_members(data: bytes, shape: type[Shape], *, max_bytes: int, what: str) -> Shape:
    """Parse one JSON object of a shape; raises CollateralUnusable with `what` in its detail."""
    with refusing(what):
        return shaped(parse_json(data, max_bytes=max_bytes), shape)


def read_stated(text: str, shape: type[AnyStated], expected_id: str, versions: range) -> AnyStated:
    """Read the members of a signed text; raises CollateralUnusable, also for a document of another technology."""
    stated = read_members(text.encode(), shape, max_bytes=MAX_DOCUMENT_BYTES, what=expected_id)
    if stated.id != expected_id or stated.version not in versions:
        raise CollateralUnusable(
            "collateral-mismatch", f"document {stated.id[:16]!r} version {stated.version} where {expected_id} is due"
        )
    return stated


@contextmanager
def refusing(what: str, *, code: CollateralCode = "collateral-malformed") -> Iterator[None]:
    """Turn what readers raise into CollateralUnusable that names the part of the document."""
    try:
        yield
    except InvalidJson as exc:
        raise CollateralUnusable(code, f"{what}: {exc}") from exc
    except MalformedCertificate as exc:
        raise CollateralUnusable(code, f"{what}: {exc.detail}") from exc


def window_of(starts_at: float, ends_at: float) -> Window:
    """Return a window that does not end before it starts; raises CollateralUnusable."""
    if ends_at < starts_at:
        raise CollateralUnusable("collateral-malformed", "a window ends before it starts")
    return Window(starts_at, ends_at)


def time_of(text: TimeText) -> float:
    """Return a time as epoch seconds; raises CollateralUnusable."""
    try:
        return datetime.fromisoformat(text).timestamp()  # not strptime: its first call imports
    except (ValueError, OverflowError) as exc:
        raise CollateralUnusable("collateral-malformed", f"{text} is no time of a calendar") from exc


def issuer_chain(pem: str, name: str) -> IssuerChain:
    """Return a chain of exactly signer and root; raises CollateralUnusable."""
    with refusing(name):
        chain = parse_pem_chain(pem.encode(), most=_SIGNER_CHAIN_CERTIFICATES)
    if len(chain) != _SIGNER_CHAIN_CERTIFICATES:
        raise CollateralUnusable("collateral-malformed", f"{name} is not signer and root")
    return IssuerChain(pem, *chain)


class _Signed(Struct):
    signature: SignatureHex


def cut_signed_body(body: bytes, *, member: str, max_bytes: int) -> tuple[str, bytes]:
    """Cut the text of a signed object out of an answer, and return it with the signature; both unverified."""
    signature = read_members(body, _Signed, max_bytes=max_bytes, what=member).signature
    # The body was read strictly: no member occurs twice, so both readings mean the same one.
    parts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if parts.keys() != {member, "signature"} or not bytes(parts[member]).startswith(b"{"):
        raise CollateralUnusable("collateral-malformed", f"no answer with {member} and signature")
    return bytes(parts[member]).decode(), bytes.fromhex(signature)
