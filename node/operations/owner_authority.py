"""The check that distinguishes an encryption network's owner from a delegate (IP1, IP2).

This module reads the rows; the rules are in `capabilities.sign_ins`.

Example:
    call = await read_call(services, invocation)
    authority = await decide_owner_authority(services, call, owner)
"""

from collections.abc import Sequence

import msgspec

from capabilities.chain import Marker, Registered
from capabilities.cids import ContentKey
from capabilities.principals import Principal
from capabilities.sign_ins import (
    AuthorityFacts,
    OwnerAuthority,
    live_session,
    owner_authority,
    session_holders,
)
from spaces.grants.delegations import contents_of
from spaces.grants.sessions import sessions_range

from ..services import Services
from .authorise import Call, closure_contents, read_markers

_MOST_SESSIONS = 1024
"""How many sign-ins of one owner are examined, for all keys together.

A client that keeps its key replaces its sign-in when it renews it.
"""


async def decide_owner_authority(
    services: Services, call: Call, owner: Principal
) -> OwnerAuthority:
    """Read from the store whether the caller owns an encryption network.

    A caller with a session key that the owner's wallet signed in counts as the owner. Sign-ins are
    read only if the cited delegations are not enough to decide.
    """
    facts = AuthorityFacts(
        owner=owner,
        invoker=call.invocation.invoker,
        cited=tuple([stored.delegation.content_key for stored in call.cited]),
        links=await links_of(services, closure_contents(call.cited)),
        sessions=(),
        marks=call.marks,
        now=services.now(),
    )
    holders = session_holders(facts)  # empty if the cited delegations decide
    if holders:
        facts = await _with_sessions(services, facts, sorted(holders))
    return owner_authority(facts)


async def _with_sessions(
    services: Services, facts: AuthorityFacts, holders: Sequence[Principal]
) -> AuthorityFacts:
    """Add one session in force of each key that has one.

    At most _MOST_SESSIONS sign-ins are examined, for all keys together. A sign-in has no parents,
    so its own revocation marker is the only one that can revoke it. Sign-ins that are not live are
    not decoded.
    """
    limit = _MOST_SESSIONS // len(holders)
    ranges = [sessions_range(facts.owner, holder, limit=limit) for holder in holders]
    pages = [contents_of(page) for page in (await services.store.read(ranges=ranges)).pages]
    contents: dict[ContentKey, None] = {}
    for page in pages:
        contents.update(dict.fromkeys(page))
    if not contents:
        return facts
    marks = {**facts.marks, **await read_markers(services, tuple(contents))}
    facts = msgspec.structs.replace(facts, marks=marks)
    sessions = []
    for holder, page in zip(holders, pages, strict=True):
        for content in page:
            if marks.get(content) is not Marker.LIVE:
                continue
            (session,) = await services.delegations.by_content((content,))
            if session is not None and live_session(facts, holder, (session,)) is not None:
                sessions.append(session)
                break
    return msgspec.structs.replace(facts, sessions=tuple(sessions))


async def links_of(
    services: Services, contents: Sequence[ContentKey]
) -> dict[ContentKey, Registered]:
    """Load delegations by their content keys.

    Missing delegations are left out; the gate detects this itself.
    """
    found = await services.delegations.by_content(contents)
    return {
        content: stored
        for content, stored in zip(contents, found, strict=True)
        if stored is not None
    }
