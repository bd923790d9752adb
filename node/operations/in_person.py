"""Reading what tells whether a caller is a network's owner in person (IP1 and IP2)."""

from collections.abc import Iterable, Sequence
from typing import Final

from capabilities.cids import ContentKey
from capabilities.principals import Principal, is_wallet
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

    Raises:
        SpaceError: the store does not answer, or a row does not decode.
    """
    invoker = call.invocation.invoker
    links = await _links(services, call.cited)
    sessions = await _sessions(services, owner, invoker, links.values())
    # A sign-in has no parents: its own mark is the whole of its closure.
    contents = tuple(dict.fromkeys((*links, *(stored.registered.delegation.content_key for stored in sessions))))
    marks = marks_of(contents, (await services.store.read(mark_keys(contents))).records)
    return Presence(
        owner=owner,
        invoker=invoker,
        cited=tuple(stored.registered.delegation.content_key for stored in call.cited),
        links=links,
        sessions=tuple(_link(stored) for stored in sessions),
        marks=marks,
        now=services.clock.now(),
    )


def _link(stored: StoredDelegation) -> Link:
    return Link(stored.registered, stored.registered_at)


async def _links(services: Services, cited: Sequence[StoredDelegation]) -> dict[ContentKey, Link]:
    """Return every delegation of every cited closure; one that is missing the gate will miss too."""
    contents = closure_contents(cited)
    found = await services.delegations.by_content(contents)
    return {content: _link(stored) for content, stored in zip(contents, found, strict=True) if stored is not None}


async def _sessions(
    services: Services, owner: Principal, invoker: Principal, links: Iterable[Link]
) -> tuple[StoredDelegation, ...]:
    """Return the sign-ins of the owner that may stand for the invoker or for a signer of the chain."""
    if not is_wallet(owner):
        return ()
    holders = sorted(session_holders(owner, invoker, links))
    ranges = tuple(sessions_range(owner, holder, limit=_MOST_SESSIONS // len(holders)) for holder in holders)
    pages = (await services.store.read(ranges=ranges)).pages
    contents = tuple(dict.fromkeys(content for page in pages for content in contents_of(page)))
    found = await services.delegations.by_content(contents)
    return tuple(stored for stored in found if stored is not None)
