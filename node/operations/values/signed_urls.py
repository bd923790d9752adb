"""Signed URLs for temporary public access to a value (wire §5.10).

A signed URL is for one version of a value and lasts up to 5 minutes. A token that may read the
value makes one URL; nothing else in that token is executed (Q27). The rows that the URL depends on
are read again at each use, so a revocation ends it at once (Q24).
"""

import math
import re
from typing import Annotated

import msgspec

from capabilities.abilities import KV_GET, satisfies
from capabilities.capability_errors import CaveatRefused, InvalidIdentifier
from capabilities.caveats import Caveats, selection_of
from capabilities.chain import Marker
from capabilities.machine_tokens import is_machine_token
from capabilities.resources import SpaceResource, extends, parse_space_id
from capabilities.strict_base64 import decode_url, encode_url
from capabilities.tokens import Invocation
from spaces.documents.fetch_rows import Fetch
from spaces.grants.revocations import marker_keys, marker_of
from spaces.grants.successions import moved_owners
from spaces.store.contract import Check, Commit, Put, Record, read_row
from spaces.store.observing import MAX_CLOCK_SKEW_S
from spaces.values.tickets import (
    TICKET_BYTES,
    Ticket,
    new_ticket,
    ticket_of,
    ticket_put,
    ticket_row_key,
)
from spaces.values.value_heads import Head, head_key, head_of

from ...refusal import Refusal
from ...services import Services
from ..attempts import until_committed
from ..authorise import Call, read_call
from .copy_fetches import fetch_writes, is_copy, reader_of
from .sealed_values import NO_ENVELOPE

MAX_TTL_S = 300
_DIGEST = re.compile(r"(?:blake3-)?([0-9a-fA-F]{64})")


_Seconds = Annotated[int, msgspec.Meta(ge=0)] | None


class SignedUrlRequest(msgspec.Struct, rename="camel"):
    """The parameters of a request for a signed URL.

    Both spellings of each parameter are read (Q9). Of two lifetimes the shorter one counts.
    """

    space: str
    path: str
    ttl_seconds: _Seconds = None
    content_hash: str | None = None
    max_uses: int | None = None
    etag: str | None = None
    snake_ttl: _Seconds = msgspec.field(default=None, name="ttl_seconds")
    snake_hash: str | None = msgspec.field(default=None, name="content_hash")
    snake_uses: int | None = msgspec.field(default=None, name="max_uses")


async def mint(
    services: Services, invocation: Invocation, request: SignedUrlRequest
) -> tuple[str, float]:
    """Create a signed URL for a value.

    The ticket is stored durably. The token is used up, as on `/invoke` (I23), unless it does not
    cover the requested value.

    Args:
        invocation: verified; its lifetime is checked.
        request: untrusted.

    Returns:
        The ticket in base64url, and its expiry in epoch seconds.

    Raises:
        WrongKind, ChainError, SpaceError, Refusal: see `read_call`; a caller that is not authorised
            learns nothing more.
        Refusal: `bad-option`, a limit on uses, an invalid space id, or digests that are invalid or
            differ; `scope-refused`, the token has no `kv/get` capability for the value, or cites a
            machine token; `no-value`, nothing is stored there and no version was named;
            `ticket-refused`, the URL would expire at once.
    """
    # The request is checked only after the token, so that a caller without authority learns nothing
    # (5.10). Until then, an invalid space id is a value of None, for which no row is read.
    value = _requested_value(request)
    keys: tuple[bytes, ...] = ()
    if value is not None:
        keys = (head_key(value.space, request.path),)
    is_covered = value is not None and _covers(invocation, value)

    async def attempt(is_first: bool) -> tuple[Commit, tuple[str, float]]:
        # A token that does not cover the value is not used up (I23). Otherwise the first attempt
        # records the use; a later one would take the record for a replay (ST4).
        records_use = is_first and is_covered
        call = await read_call(services, invocation, keys, records_use=records_use)
        call.require_hosted()
        _check_no_max_uses(request)
        if value is None:
            raise Refusal("bad-option", "Invalid space ID")
        # With a URL, the value could be read without the key of the machine token (MT3).
        cites_machine_token = any(is_machine_token(stored.delegation) for stored in call.cited)
        if not is_covered or cites_machine_token:
            raise Refusal("scope-refused")
        (key,) = keys
        (row,) = call.records
        digest = _requested_digest(request) or bytes.fromhex(_current(row, key).etag)
        now = services.now()
        expires_at = _expiry_of(call, request, now)
        if expires_at <= now:
            raise Refusal("ticket-refused", "signed URL expired immediately")
        ticket = new_ticket(expires_at, services.entropy)
        record = Ticket(
            value_key=key,
            digest=digest,
            expires_at=expires_at,
            authority=call.authority.live,
            successions=call.moves,
        )
        fetched, checks = await _fetch_writes(services, call, value, digest, row)
        made = call.audit(services, "signed-url.made", value.text)
        commit = call.commit((ticket_put(ticket, record), made, *fetched), checks=checks)
        return commit, (encode_url(ticket), expires_at)

    return await until_committed(services, attempt)


async def _fetch_writes(
    services: Services, call: Call, value: SpaceResource, digest: bytes, row: Record | None
) -> tuple[tuple[Put, ...], tuple[Check, ...]]:
    """Return the rows that record the fetch of a copy (RC33).

    The uses of the URL are not recorded, so its creation counts as the fetch. `row` is the value's.
    """
    path = value.path or ""
    if not is_copy(value.space, path):
        return (), ()
    head = head_of(row, key=head_key(value.space, path))
    version = 0  # the URL is for a version that is not stored now
    if head is not None and bytes.fromhex(head.etag) == digest:
        if head.sealed_key == NO_ENVELOPE:
            return (), ()
        version = head.version
    reader = await reader_of(services, call, value.space, path)
    if reader is None:
        return (), ()
    fetch = Fetch(
        reader=reader,
        space=value.space.text,
        path=path,
        version=version,
        etag=digest.hex(),
        at=services.now(),
    )
    return await fetch_writes(services, call, ((value.space, fetch),))


def _requested_value(request: SignedUrlRequest) -> SpaceResource | None:
    """Return the value that a request names, or None if its space id is invalid."""
    try:
        space = parse_space_id(request.space)
    except InvalidIdentifier:
        return None
    return SpaceResource(space, "kv", path=request.path)


def _check_no_max_uses(request: SignedUrlRequest) -> None:
    """Refuse a request that limits how often the URL may be used, which is not supported."""
    if request.max_uses is not None or request.snake_uses is not None:
        raise Refusal("bad-option", "maxUses is not supported for signed KV URLs yet")


def _expiry_of(call: Call, request: SignedUrlRequest, now: float) -> float:
    """Return the time at which a signed URL expires, in epoch seconds.

    The URL does not outlive the token, nor any delegation that the token depends on. A stored
    delegation's `expires_at` is the earliest in its closure, so the use of the URL need not check
    windows.
    """
    ttl_s = MAX_TTL_S
    # A request may give its lifetime under either spelling of the field. The shorter one applies.
    for requested_ttl_s in (request.ttl_seconds, request.snake_ttl):
        if requested_ttl_s is not None:
            ttl_s = min(ttl_s, requested_ttl_s)
    expiries = [now + ttl_s, float(math.floor(call.invocation.expires_at))]
    for stored in call.cited:
        if stored.expires_at is not None:
            expiries.append(stored.expires_at)
    return min(expiries)


def _covers(invocation: Invocation, value: SpaceResource) -> bool:
    """Return whether a token has a capability to read a value.

    Whether the token is authorised to do so is decided by its chain.
    """
    return any(
        satisfies(capability.ability, KV_GET)
        and extends(value, capability.resource)
        and _admits(capability.caveats, value)
        for capability in invocation.capabilities
    )


def _admits(caveats: Caveats, value: SpaceResource) -> bool:
    """Return whether the conditions of a capability allow a value (I39).

    The capability may be on a resource above the value, so the conditions are compared with the
    value itself.
    """
    try:
        selection_of(value, caveats)
    except CaveatRefused:
        return False
    return True


def _requested_digest(request: SignedUrlRequest) -> bytes | None:
    """Parse the digest of the requested version of a value.

    Return None if no version is requested. The text is hexadecimal, with or without `blake3-` and
    quotes.
    """
    digests: set[bytes] = set()
    for text in (request.content_hash, request.snake_hash, request.etag):
        if text is None:
            continue
        is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
        unquoted = text[1:-1] if is_quoted else text
        match = _DIGEST.fullmatch(unquoted)
        if match is None:
            raise Refusal("bad-option", "contentHash must be a blake3 hex digest")
        digests.add(bytes.fromhex(match[1]))
    if len(digests) > 1:
        raise Refusal("bad-option", "contentHash and ETag must identify the same object")
    return digests.pop() if digests else None


def _current(record: Record | None, key: bytes) -> Head:
    """Decode the row of a value.

    Raises:
        Refusal: `no-value`, nothing is stored there.
    """
    head = head_of(record, key=key)
    if head is None:
        raise Refusal("no-value")
    return head


async def redeem(services: Services, text: str) -> Head:
    """Verify the ticket in a signed URL.

    Return the row that describes the value.

    Args:
        text: untrusted; the last part of the URL, percent-decoded.

    Raises:
        Refusal: `ticket-refused`, the ticket is unknown or expired, or a delegation that it depends
            on was revoked since, or an owner above has moved; `no-value`, the value was deleted;
            `value-changed`, the value has another version now.
        SpaceError: the store does not answer.
    """
    ticket = decode_url(text)
    record = None
    if ticket is not None and len(ticket) == TICKET_BYTES:
        record = ticket_of(await read_row(services.store, ticket_row_key(ticket)))
    if record is None:
        raise Refusal("ticket-refused", "signed URL ticket not found")
    # A ticket that expires later than a new one could was made while the clock was ahead. Its true
    # lifetime is unknown, so it is refused.
    if not 0 < record.expires_at - services.now() <= MAX_TTL_S + MAX_CLOCK_SKEW_S:
        raise Refusal("ticket-refused", "signed URL expired")
    # Revocation markers and value are read in one snapshot, so a value that was written after a
    # revocation is not served (Q24).
    markers_end = len(record.authority)
    snapshot = await services.store.read(
        (*marker_keys(record.authority), *record.successions, record.value_key)
    )
    *conditions, value = snapshot.records
    is_revoked = any(marker_of(row) is not Marker.LIVE for row in conditions[:markers_end])
    if is_revoked or moved_owners(conditions[markers_end:]):  # TM18
        raise Refusal("ticket-refused", "signed URL ticket is invalid")
    head = _current(value, record.value_key)
    if bytes.fromhex(head.etag) != record.digest:
        raise Refusal("value-changed")
    return head
