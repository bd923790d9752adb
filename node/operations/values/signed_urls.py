"""Signed URLs: one version of one value, readable by every holder of the URL, for minutes (wire §5.10).

A token that may read the value makes one URL; nothing of that token is executed (Q27). The rows that the URL rests on
are read again each time it is used: a revocation ends it at once (Q24).
"""

import math
import re
from dataclasses import dataclass
from typing import Final

from capabilities.abilities import KV_GET, satisfies
from capabilities.caveats import Caveats, selection_of
from capabilities.chain import Mark
from capabilities.errors import CaveatRefused, InvalidIdentifier
from capabilities.resources import SpaceId, SpaceResource, extends, parse_space_id
from capabilities.strict_base64 import decode_url, encode_url
from capabilities.tokens import Invocation
from spaces.audit.records import AuditRecord, audit_put
from spaces.grants.revocations import mark_keys, marks_of
from spaces.store.contract import Commit, Record, read_row
from spaces.store.observing import MAX_CLOCK_SKEW_S
from spaces.values.tickets import TICKET_BYTES, Ticket, new_ticket, ticket_of, ticket_put, ticket_row_key
from spaces.values.value_heads import Head, head_key, head_of

from ...refusal import Refusal
from ...services import Services
from ..attempts import CommitPlan, until_committed
from ..authorise import Call, read_call
from ..reading import Reading

MAX_TTL_S: Final = 300
_DIGEST: Final = re.compile(r"(?:blake3-)?([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParameters:
    """The parameters of a signed URL."""

    space: str
    path: str
    ttl_s: int | None = None
    is_use_limited: bool = False
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A ticket, and when it ends (epoch seconds)."""

    ticket: str
    expires_at: float


async def mint(services: Services, invocation: Invocation, asked: RequestParameters) -> SignedUrl:
    """Make a ticket for the value; durable when this returns.

    The token is used up, as it would be on `/invoke` (I23), unless it says nothing of the requested value.

    Args:
        invocation: verified; its lifetime is checked.
        asked: untrusted.

    Raises:
        WrongKind, ChainError, SpaceError, Refusal: see `read_call`; a caller that is not authorised learns nothing
            more.
        `bad-option`: a use limit, no space id, or digests that are none or differ.
        `scope-refused`: the token does not hold `kv/get` on the value.
        `no-value`: nothing is stored there, and no version was named.
        `ticket-refused`: the URL would be void at once.
    """
    space = _space(asked.space)
    key = None if space is None else head_key(space, asked.path)
    covers = space is not None and _covers(invocation, SpaceResource(space, "kv", asked.path))

    async def attempt(is_first: bool) -> CommitPlan[SignedUrl]:
        reading = Reading()
        head = None if key is None else reading.row(key)
        call = await read_call(services, invocation, reading, claiming=is_first and covers)
        call.require_hosted()
        value = _authorised(call, space, asked)
        assert key is not None and head is not None  # without a space nothing is authorised
        digest = _pinned(asked.digests) or _current(head.found, key)
        expires_at = _expiry(call, asked.ttl_s, now=services.clock.now())
        return _planned(services, call, value, Ticket(key, digest, expires_at, call.authority.live))

    return await until_committed(services, attempt)


def _space(text: str) -> SpaceId | None:
    try:
        return parse_space_id(text)
    except InvalidIdentifier:
        return None


def _authorised(call: Call, space: SpaceId | None, asked: RequestParameters) -> SpaceResource:
    """Return the value's resource, which some capability of the judged token covers."""
    if asked.is_use_limited:
        raise Refusal("bad-option", "maxUses is not supported for signed KV URLs yet")
    if space is None:
        raise Refusal("bad-option", "Invalid space ID")
    value = SpaceResource(space, "kv", asked.path)
    if not _covers(call.invocation, value):
        raise Refusal("scope-refused")
    return value


def _covers(invocation: Invocation, value: SpaceResource) -> bool:
    """Return whether a token asks for the value, or for more; whether it may is the chain's judgement."""
    for asked in invocation.capabilities:
        if satisfies(asked.ability, KV_GET) and extends(value, asked.resource) and _admit(asked.caveats, value):
            return True
    return False


def _admit(caveats: Caveats, value: SpaceResource) -> bool:
    """Return whether the conditions of a call admit the value, not only what the call names above it (I39)."""
    try:
        selection_of(value, caveats)
    except CaveatRefused:
        return False
    return True


def _pinned(digests: tuple[str, ...]) -> bytes | None:
    """Return the version that the caller names; hexadecimal, `blake3-…` or quoted."""
    found: set[bytes] = set()
    for text in digests:
        is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
        match = _DIGEST.fullmatch(text[1:-1] if is_quoted else text)
        if match is None:
            raise Refusal("bad-option", "contentHash must be a blake3 hex digest")
        found.add(bytes.fromhex(match[1]))
    if len(found) > 1:
        raise Refusal("bad-option", "contentHash and ETag must identify the same object")
    return found.pop() if found else None


def _current(record: Record | None, key: bytes) -> bytes:
    head = head_of(record, key=key)
    if head is None:
        raise Refusal("no-value")
    return bytes.fromhex(head.etag)


def _expiry(call: Call, ttl_s: int | None, *, now: float) -> float:
    """Return when the URL ends: never after the token or a delegation that it rests on."""
    ends = [now + min(MAX_TTL_S if ttl_s is None else ttl_s, MAX_TTL_S), float(math.floor(call.invocation.expires_at))]
    # The end of a closure is the earliest in it, so that no window has to be checked when the URL is used.
    ends += [stored.expires_at for stored in call.cited if stored.expires_at is not None]
    expires_at = min(ends)
    if expires_at <= now:
        raise Refusal("ticket-refused", "signed URL expired immediately")
    return expires_at


def _planned(services: Services, call: Call, value: SpaceResource, said: Ticket) -> CommitPlan[SignedUrl]:
    ticket = new_ticket(said.expires_at, services.entropy)
    audit = AuditRecord(
        at=services.clock.now(),
        action="signed-url.made",
        actor=call.invocation.invoker,
        subject=value.text,
        token=call.invocation.cid,
        authority=call.authority.live,
    )
    puts = (ticket_put(ticket, said), audit_put(audit, entropy=services.entropy))
    commit = Commit(puts=puts, live=call.live, claim=call.claim)
    return CommitPlan(commit, SignedUrl(encode_url(ticket), said.expires_at))


async def redeem(services: Services, text: str) -> Head:
    """Return the head of the value that a ticket gives.

    Args:
        text: untrusted; the last part of the URL, percent-decoded.

    Raises:
        `ticket-refused`: unknown, expired, or a delegation that it rests on was revoked since.
        `no-value`: the value was deleted.
        `value-changed`: it is another version now.
        SpaceError: the store does not answer.
    """
    ticket = decode_url(text)
    if ticket is None or len(ticket) != TICKET_BYTES:
        raise Refusal("ticket-refused", "signed URL ticket not found")
    said = ticket_of(await read_row(services.store, ticket_row_key(ticket)))
    if said is None:
        raise Refusal("ticket-refused", "signed URL ticket not found")
    # One that ends later than any made now was made by a clock that was ahead, and its lifetime is not known.
    if not 0 < said.expires_at - services.clock.now() <= MAX_TTL_S + MAX_CLOCK_SKEW_S:
        raise Refusal("ticket-refused", "signed URL expired")
    # Marks and value are read at one moment: the value existed while its authority was in force (Q24).
    reading = Reading()
    marks, value = reading.rows(mark_keys(said.contents)), reading.row(said.value_key)
    await reading.read(services.store)
    live = marks_of(said.contents, marks.found)
    if any(live.get(content) is not Mark.LIVE for content in said.contents):
        raise Refusal("ticket-refused", "signed URL ticket is invalid")
    head = head_of(value.found, key=said.value_key)
    if head is None:
        raise Refusal("no-value")
    if bytes.fromhex(head.etag) != said.digest:
        raise Refusal("value-changed")
    return head
