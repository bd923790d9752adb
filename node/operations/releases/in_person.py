"""Reading what shows whether a caller is a network's owner in person; the rule is `capabilities.sign_ins` (IP1, IP2).

Example:
    reading = Reading()
    likely = likely_sessions(services, reading, found, owner=owner, invoker=invocation.invoker)
    call = await read_call(services, invocation, reading, found=found, claiming=True)
    presence = await read_presence(services, call, owner, likely=likely)
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from capabilities.chain import MAX_CHAIN_NODES, Mark, Marks
from capabilities.cids import ContentKey
from capabilities.principals import Principal
from capabilities.sign_ins import Link, Presence, session_holders
from spaces.grants.delegations import StoredDelegation, contents_of
from spaces.grants.revocations import mark_keys, marks_of
from spaces.grants.sessions import sessions_range
from spaces.store.contract import Page, Range

from ...services import Services
from ..authorise import Call, closure_contents
from ..reading import Handle, Reading

_MOST_SESSIONS: Final = 1024
"""Sign-ins of one owner that are examined, of all keys together: a client that keeps its key renews them."""


class LikelySessions(Struct, frozen=True, gc=False):
    """Which sign-ins are read with a call, before it is known what matters.

    Attributes:
        holders: whose sign-ins may matter, if every delegation that is cited is live.
        sign_ins: those of all holders, read with the call; None where no holder is known.
    """

    holders: frozenset[Principal] = frozenset()
    sign_ins: Handle[tuple[Page, ...]] | None = None


NO_SESSIONS: Final = LikelySessions()
"""Nothing is read with the call."""


def likely_sessions(
    services: Services,
    reading: Reading,
    found: Sequence[StoredDelegation | None],
    *,
    owner: Principal,
    invoker: Principal,
) -> LikelySessions:
    """Work out, before a call is read, which sign-ins to read with it, and ask for them; decides nothing.

    Args:
        reading: the call's.
        found: what the call cites, as stored.
        owner: of the network that is requested.
        invoker: the caller.
    """
    cited = []
    for stored in found:
        if stored is None or stored.registered.delegation.delegate != invoker:
            return NO_SESSIONS  # nothing is read for what was granted to another DID
        cited.append(stored)
    links = _remembered_links(services, cited)
    if links is None:
        return NO_SESSIONS
    live = dict.fromkeys(links, Mark.LIVE)
    holders = session_holders(_presence(services, cited, links, live, owner=owner, invoker=invoker))
    return LikelySessions(holders, reading.pages(_session_ranges(owner, holders))) if holders else NO_SESSIONS


async def read_presence(
    services: Services, call: Call, owner: Principal, *, likely: LikelySessions = NO_SESSIONS
) -> Presence:
    """Gather the delegations of every cited closure, the owner's sign-ins that may matter, and their marks.

    Nothing is read if what the call cites is enough, as for a sign-in and what its key granted.

    Args:
        call: read with what `likely` asked for.
        owner: of the network that is requested.
        likely: worked out for this call and owner.
    Raises:
        SpaceError: the store does not answer, or a row does not decode.
    """
    links = _remembered_links(services, call.cited) or await _links(services, call.cited)
    presence = _presence(services, call.cited, links, call.marks, owner=owner, invoker=call.invocation.invoker)
    holders = session_holders(presence)
    if not holders:
        return presence
    # The ranges follow from owner and holders: where the marks left other holders than were likely, they are read here.
    sessions = await _sessions(services, owner, holders, likely.sign_ins if holders == likely.holders else None)
    if not sessions:
        return presence  # no mark to read: saves a query to the database
    # A sign-in has no parents: its own mark is the whole of its closure.
    contents = tuple([link.delegation.content_key for link in sessions])
    marks = marks_of(contents, (await services.store.read(mark_keys(contents))).records)
    return msgspec.structs.replace(presence, sessions=sessions, marks={**call.marks, **marks})


def _presence(
    services: Services,
    cited: Sequence[StoredDelegation],
    links: Mapping[ContentKey, Link],
    marks: Marks,
    *,
    owner: Principal,
    invoker: Principal,
) -> Presence:
    return Presence(
        owner=owner,
        invoker=invoker,
        cited=tuple([stored.registered.delegation.content_key for stored in cited]),
        links=links,
        sessions=(),
        marks=marks,
        now=services.clock.now(),
    )


def _link(stored: StoredDelegation) -> Link:
    return Link(stored.registered, stored.registered_at)


def _remembered_links(services: Services, cited: Sequence[StoredDelegation]) -> dict[ContentKey, Link] | None:
    """Return the result of `_links` if all of it is in memory; None if not, or for more than a chain may have."""
    links: dict[ContentKey, Link] = {}
    for stored in cited:
        own = stored.registered.delegation.content_key
        for member in stored.registered.closure:
            content = member.content_key
            if content not in links:
                found = stored if content == own else services.delegations.remembered(content)
                if found is None:
                    return None
                links[content] = Link(found.registered, found.registered_at)
        if len(links) > MAX_CHAIN_NODES:
            return None  # the chain rules refuse it
    return links


async def _links(services: Services, cited: Sequence[StoredDelegation]) -> dict[ContentKey, Link]:
    """Return every delegation of every cited closure; one that is missing the gate will miss too."""
    contents = closure_contents(cited)
    found = await services.delegations.by_content(contents)
    return {content: _link(stored) for content, stored in zip(contents, found, strict=True) if stored is not None}


def _session_ranges(owner: Principal, holders: Collection[Principal]) -> tuple[Range, ...]:
    limit = _MOST_SESSIONS // len(holders)
    return tuple([sessions_range(owner, holder, limit=limit) for holder in sorted(holders)])


async def _sessions(
    services: Services, owner: Principal, holders: Collection[Principal], sign_ins: Handle[tuple[Page, ...]] | None
) -> tuple[Link, ...]:
    """Return the sign-ins of the owner's with some keys, read with the call; None: they are read here."""
    if sign_ins is None:
        reading = Reading()
        sign_ins = reading.pages(_session_ranges(owner, holders))
        await reading.read(services.store)
    contents = tuple(dict.fromkeys([content for page in sign_ins.found for content in contents_of(page)]))
    found = await services.delegations.by_content(contents)
    return tuple([_link(stored) for stored in found if stored is not None])
