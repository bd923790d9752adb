"""Database rows that mark delegations as live or revoked.

Such a row is called a revocation marker.

Registration writes the marker `live`. A revocation overwrites it and is never undone. So a commit
that lists a marker under `live` is refused after every revocation that was acknowledged before
(ST2).

    b"L"                           live
    b"R" cid32 details             revoked by the revocation with that cid; details are MessagePack
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from capabilities.chain import Marker
from capabilities.cids import ContentKey, Digest
from capabilities.principals import Principal

from .._codec import Codec
from ..keyspace import marker_key
from ..space_errors import RecordDamaged
from ..store.contract import LIVE_MARK, Packed, Put, Record

_PREFIX = marker_key(b"")
_REVOKED_PREFIX = b"R"
_DETAILS_AT = 1 + 32
_LIVE, _REVOKED = Marker.LIVE, Marker.REVOKED  # looking up the member of an enum is slow


class Revoked(NamedTuple):
    """A recorded revocation of a delegation."""

    cid: Digest
    at: float
    by: Principal


class _Details(Packed):
    at: float
    by: str


_CODEC = Codec(_Details)


def marker_keys(contents: Iterable[ContentKey]) -> tuple[bytes, ...]:
    """Return the key of each delegation's revocation marker."""
    return tuple([_PREFIX + content for content in contents])


def revocation_put(content: ContentKey, revoked: Revoked) -> Put:
    """Return the write operation that marks a delegation as revoked.

    A revoked delegation stays revoked. Of two concurrent revocations the later is recorded.
    """
    details = _CODEC.encode(_Details(revoked.at, revoked.by))
    return Put(marker_key(content), _REVOKED_PREFIX + revoked.cid + details)


def marker_of(record: Record | None) -> Marker | None:
    """Decode a delegation's revocation marker.

    Returns None if the row is missing. Every value but `live` counts as revoked.
    """
    if record is None or record.value is None:
        return None
    return _LIVE if record.value == LIVE_MARK else _REVOKED


def markers_of(
    contents: Sequence[ContentKey], records: Sequence[Record | None]
) -> dict[ContentKey, Marker]:
    """Map each delegation to its revocation marker.

    Delegations without a marker are left out.
    """
    marks: dict[ContentKey, Marker] = {}
    for content, record in zip(contents, records, strict=True):
        if record is None:
            continue
        mark = marker_of(record)
        if mark is not None:
            marks[content] = mark
    return marks


def revocation_of(record: Record | None) -> Revoked | None:
    """Return the revocation of a delegation, or None."""
    if record is None or record.value is None or record.value == LIVE_MARK:
        return None
    if record.value[:1] != _REVOKED_PREFIX or len(record.value) < _DETAILS_AT:
        raise RecordDamaged("the row that marks a delegation as revoked is damaged")
    details = _CODEC.decode(record.value[_DETAILS_AT:])
    return Revoked(cid=Digest(record.value[1:_DETAILS_AT]), at=details.at, by=Principal(details.by))
