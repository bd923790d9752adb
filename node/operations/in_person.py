"""Reading what tells whether a caller is a network's owner in person (IP1 and IP2)."""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from capabilities.cids import ContentKey
from capabilities.principals import Principal
from encryption_network.gate import Link, Presence, session_holders
from spaces.delegations import StoredDelegation, contents_of
from spaces.revocations import mark_keys, marks_of
from spaces.sessions import sessions_range

from ..services import Services
from .authorise import Call, closure_contents

_MOST_SESSIONS: Final = 1024
"""Sign-ins of one owner that are looked through, of all keys together: a client that keeps its key renews them."""


async def read_presence(services: Services, call: Call, owner: Principal) -> Presence:
    """Gather the delegations of every cited closure, the owner's sign-ins that may matter, and their marks.

    Nothing is read where what the call cites says it all, as a sign-in and what its key granted do.

    Raises:
        SpaceError: the store does not answer, or a row does not decode.
    """
    presence = Presence(
        owner=owner,
        invoker=call.invocation.invoker,
        cited=tuple([stored.registered.delegation.content_key for stored in call.cited]),
        links=await _links(services, call.cited),
        sessions=(),
        marks=call.marks,
        now=services.clock.now(),
    )
    holders = session_holders(presence)
    if not holders:
        return presence
    sessions = await _sessions(services, owner, holders)
    if not sessions:
        return presence  # no mark to read: a question to a database for nothing
    # A sign-in has no parents: its own mark is the whole of its closure.
    contents = tuple([link.delegation.content_key for link in sessions])
    marks = marks_of(contents, (await services.store.read(mark_keys(contents))).records)
    return msgspec.structs.replace(presence, sessions=sessions, marks={**call.marks, **marks})


def _link(stored: StoredDelegation) -> Link:
    return Link(stored.registered, stored.registered_at)


async def _links(services: Services, cited: Sequence[StoredDelegation]) -> dict[ContentKey, Link]:
    """Return every delegation of every cited closure; one that is missing the gate will miss too."""
    contents = closure_contents(cited)
    found = await services.delegations.by_content(contents)
    return {content: _link(stored) for content, stored in zip(contents, found, strict=True) if stored is not None}


async def _sessions(services: Services, owner: Principal, holders: Collection[Principal]) -> tuple[Link, ...]:
    """Return the sign-ins of the owner's with some keys."""
    limit = _MOST_SESSIONS // len(holders)
    ranges = tuple([sessions_range(owner, holder, limit=limit) for holder in sorted(holders)])
    pages = (await services.store.read(ranges=ranges)).pages
    contents = tuple(dict.fromkeys([content for page in pages for content in contents_of(page)]))
    found = await services.delegations.by_content(contents)
    return tuple([_link(stored) for stored in found if stored is not None])
