"""Search for the values that still need a former key of an encryption network (EN38).

The search reads the spaces of the network's owner at this node: the current values, and the former
values that are kept. Values at other nodes are not found, nor are copies in the spaces of other
owners; the owner's client lists those by the grants.
"""

import re
from dataclasses import dataclass

from msgspec import Struct

from capabilities.abilities import SET_POLICY
from capabilities.frozen_struct import AcyclicStruct
from capabilities.resources import NetworkId, SpaceId
from encryption_network.networks import NetworkRecord
from spaces.documents.network_rows import network_row_key
from spaces.grants.hosting import owned_spaces_range, space_of
from spaces.keyspace import (
    LONG_VALUES_PREFIX,
    VALUES_PREFIX,
    VERSIONS_PREFIX,
    is_index_row,
    space_id16,
)
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Page, Range, Record, pages_of, read_page
from spaces.values.value_heads import Head, head_of, version_number

from ...refusal import Refusal
from ...services import Services
from ..authorise import read_call
from ..owner_authority import decide_owner_authority
from ..values.sealed_values import find_sealed_key
from ..values.stored_keys import network_sealed_to
from .network_reading import admitted_reader, known_network

PAGE_ROWS = 64
"""Rows that one request reads; each may contain a body of some 64 KiB."""
MAX_ENVELOPE_BYTES = 4 * 1024 * 1024
"""Largest body in a file that is read, bytes; larger values count as other data."""
PAGE_BYTES = 16 * 1024 * 1024
"""Bodies in files after which a page ends; reading and searching them takes some 80 ms."""
_AFTER_CHARS = 4096
_NUMBER_CHARS = 4
_VERSION = re.compile(r"[1-9][0-9]?", re.ASCII)
_KINDS = (VALUES_PREFIX, LONG_VALUES_PREFIX, VERSIONS_PREFIX)


class Needing(Struct, rename="camel"):
    """A value that is sealed to a key, or that may be.

    Attributes:
        space: id of the space.
        path: path of the value.
        version: number of a former value; null for the current value.
        is_unreadable: the value's file is missing or damaged, so the node cannot tell.
    """

    space: str
    path: str
    version: int | None
    is_unreadable: bool


class UsagePage(Struct):
    """A page of the search.

    Attributes:
        values: the values that this page found; may be empty on any page.
        after: where the next page begins; null on the last page.
    """

    values: tuple[Needing, ...]
    after: str | None


async def read_usage(
    services: Services, header: str, *, path_id: str, key_version: str, after: str
) -> UsagePage:
    """Return one page of the values that are sealed to a version of a network's key.

    Values whose files are missing or damaged are listed too, because they may be sealed to it.

    Args:
        services: the node's.
        header: untrusted text of the `Authorization` header: a UCAN to this node whose only
            capability is `sealspace.encryption/policy` on the network.
        path_id: network id of the path, percent-decoded once.
        key_version: untrusted number of the version.
        after: untrusted `after` of the previous page; empty for the first page.
    Raises:
        Errors of `admitted_reader` and `read_call`.
        Refusal: `network-unknown`; `policy-not-in-person`, the caller is not the owner in person;
            `request-malformed`, `key_version` or `after` is not valid.
    """
    invocation, network = admitted_reader(services, header, path_id, SET_POLICY)
    call = await read_call(services, invocation, (network_row_key(network),))
    record = known_network(call.records[0])
    # The paths of the owner's spaces are not for delegates.
    authority = await decide_owner_authority(services, call, record.owner)
    if authority.in_person is None:
        raise Refusal(
            "policy-not-in-person", hint="sign in with the owner's wallet and search as the owner"
        )
    if _VERSION.fullmatch(key_version) is None:
        raise Refusal("request-malformed", hint="keyVersion: send the number of a version")
    ranges = await _list_ranges(services, record)
    number, last_key = _parse_after(after, len(ranges))
    if number == len(ranges):
        return UsagePage((), None)
    range_ = ranges[number]
    page = await read_page(services.store, Range(range_.prefix, after=last_key, limit=PAGE_ROWS))
    search = _Search(
        services=services,
        space=range_.space,
        network=record.network_id,
        key_version=int(key_version),
    )
    values, stopped_at = await search.find_values(page)
    next_after = None
    if stopped_at is not None:
        next_after = f"{number}.{stopped_at.hex()}"
    elif page.more and page.last_key is not None:
        next_after = f"{number}.{page.last_key.hex()}"
    elif number + 1 < len(ranges):
        next_after = f"{number + 1}."
    return UsagePage(tuple(values), next_after)


class _SearchedRange(AcyclicStruct):
    """Rows of one kind in a space, which the search reads.

    Attributes:
        space: the space.
        prefix: the beginning of the keys of the rows.
    """

    space: SpaceId
    prefix: bytes


async def _list_ranges(services: Services, record: NetworkRecord) -> list[_SearchedRange]:
    """Return the ranges to search: three for each space of the network's owner."""
    ranges: list[_SearchedRange] = []
    async for page in pages_of(services.store, owned_spaces_range(record.owner)):
        for _, row in page.rows:
            hosted = space_of(row)
            if hosted is None:
                continue
            for kind in _KINDS:
                prefix = kind + space_id16(hosted.space)
                ranges.append(_SearchedRange(space=hosted.space, prefix=prefix))
    return ranges


def _parse_after(after: str, range_count: int) -> tuple[int, bytes | None]:
    """Parse `after` of a page, which is `NUMBER.KEY`.

    Returns the number of the range to read, and the last key that was read in it, or None to begin
    with its first row. The number is at most `range_count`: an owner without spaces has no range,
    and the first page has the number 0.

    Raises:
        Refusal: `request-malformed`.
    """
    if not after:
        return 0, None
    malformed = Refusal("request-malformed", hint="after: send what the previous page contained")
    if len(after) > _AFTER_CHARS:
        raise malformed
    number, dot, key = after.partition(".")
    is_number = number.isascii() and number.isdigit()
    if not dot or not is_number or len(number) > _NUMBER_CHARS:
        raise malformed
    if int(number) > range_count:
        raise malformed
    try:
        last_key = bytes.fromhex(key)
    except ValueError:
        raise malformed from None
    return int(number), last_key or None


@dataclass(slots=True, kw_only=True)
class _Search:
    """The search for values of a space that are sealed to a version of a network's key.

    Attributes:
        read_bytes: of bodies in files that were read.
    """

    services: Services
    space: SpaceId
    network: NetworkId
    key_version: int
    read_bytes: int = 0

    async def find_values(self, page: Page) -> tuple[list[Needing], bytes | None]:
        """Return the values of a page that are sealed to the key, or that may be.

        The second result is the key of the row at which the search stopped, because it had read
        PAGE_BYTES; None: it examined all rows.
        """
        values: list[Needing] = []
        for key, row in page.rows:
            needing = await self._examine(key, row)
            if needing is not None:
                values.append(needing)
            if self.read_bytes >= PAGE_BYTES:
                return values, key
        return values, None

    async def _examine(self, key: bytes, row: Record) -> Needing | None:
        """Return the value of a row if it is sealed to the key, or may be."""
        is_former = key.startswith(VERSIONS_PREFIX)
        # The key of a former value may end with the byte that marks index rows.
        if is_index_row(key) and not is_former:
            return None
        head = head_of(row, key=key)
        if head is None:  # deleted
            return None
        is_unreadable = False
        try:
            if not await self._is_sealed_to_key(head):
                return None
        except RecordDamaged:
            # The key must not be destroyed before this value was read, and one damaged file must
            # not hide the values after it. So the value is listed (EN38).
            is_unreadable = True
        return Needing(
            space=self.space.text,
            path=head.path,
            version=version_number(key) if is_former else None,
            is_unreadable=is_unreadable,
        )

    async def _is_sealed_to_key(self, head: Head) -> bool:
        """Return whether a value is sealed to the version of the key."""
        body = await self._read_envelope_body(head)
        if body is None:
            return False
        sealed = find_sealed_key(body)
        if sealed is None or sealed.key_version != self.key_version:
            return False
        return network_sealed_to(sealed, self.space) == self.network

    async def _read_envelope_body(self, head: Head) -> bytes | None:
        """Return the body of a value, or None if it is too large to be an envelope."""
        if head.body is not None:
            return head.body
        if head.size_bytes > MAX_ENVELOPE_BYTES:
            return None
        self.read_bytes += head.size_bytes
        return await self.services.values.read_body(head)
