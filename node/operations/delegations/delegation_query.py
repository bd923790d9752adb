"""List what an account granted and received, page by page (wire 5.4).

The cost of a page depends on its length, not on the size of the account: the index of parties is read in its order,
latest issued first, from where the page before ended. An account's delegations are

- those that its owner signed or received;
- those signed under a delegation of the owner, by a signer who may list the account's delegations as well;
- those that the calling key signed or received itself.

The owner does not see what a key signed or received otherwise: anybody may grant a key a right without its consent.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from capabilities.abilities import DELEGATION_LIST
from capabilities.chain import Registered
from capabilities.cids import ContentKey
from capabilities.errors import CapabilityError, WrongKind
from capabilities.principals import Principal
from capabilities.resources import SpaceResource
from capabilities.strict_base64 import encode_url
from capabilities.tokens import Invocation, UnverifiedInvocation
from spaces.grants.delegations import (
    cid_at,
    is_account,
    membership_range,
    party_range,
    party_row_key,
    party_rows,
    place_at,
    place_of,
)
from spaces.grants.revocations import mark_keys, mark_of
from spaces.keyspace import ROLE_FROM, ROLE_TO
from spaces.store.contract import Page, Range, Record, Store

from ...refusal import Refusal
from ...services import Services
from ..authorise import Call, admit_signed, closure_contents, read_call
from ..reading import Reading
from .delegation_listing import Listed, listed_of
from .query_filters import Direction, Filters, parse_filters
from .standing import Standing, Verdict, joint_window, standing_of

MAX_EXAMINED: Final = 512
"""Most delegations that one page looks at: with a filter that fits few, a page may be short or empty and go on."""

_STEP: Final = 32  # delegations between two iterations of the event loop: some milliseconds
_LEAST_STEP: Final = 8  # where a filter fits few: what lies beyond the page is looked at in vain


@dataclass(frozen=True, slots=True)
class QueryPage:
    """A page of an account's delegations."""

    items: tuple[Listed, ...]
    next_cursor: str | None


async def query_delegations(
    services: Services, unverified: UnverifiedInvocation, body: bytes, *, most_examined: int = MAX_EXAMINED
) -> QueryPage:
    """Return a page of the delegations of the account that the token names.

    A token may be used again and live as long as it says: a second reading changes nothing (I23).

    Args:
        unverified: the token as it was read.
        body: untrusted; see `parse_filters`.
        most_examined: delegations that the page looks at, at least one.

    Raises:
        `query-refused`: the token is not good or not entitled, or the cursor names none of the account's delegations.
        WrongKind: it addresses another DID, or is registered as a delegation (T8, T9).
        `bad-query`: the body.
        SpaceError: the store does not answer.
    """
    try:
        invocation = admit_signed(unverified, now=services.clock.now())
    except CapabilityError:
        raise Refusal("query-refused") from None
    view = _View(_account(invocation), invocation.invoker, parse_filters(body))
    place = await _place(services, view.filters)
    sources = [_Source(principal, role, view.filters.limit + 1, place) for principal, role in view.lists()]
    found = await _authorised_read(services, invocation, view, place, sources)
    for source, page in zip(sources, found, strict=True):
        source.take_in(page)
    return await _page(services, view, _Merge(services.store, sources), most_examined)


@dataclass(frozen=True, slots=True)
class _View:
    """Whose delegations are listed, for whom, and which of them."""

    account: Principal
    asker: Principal
    filters: Filters

    def lists(self) -> list[tuple[Principal, bytes]]:
        """Name the lists to read: of the account and of the calling key."""
        roles = {"granted": (ROLE_FROM,), "received": (ROLE_TO,), None: (ROLE_FROM, ROLE_TO)}
        return [(party, role) for party in self.parties for role in roles[self.filters.direction]]

    @property
    def parties(self) -> tuple[Principal, ...]:
        """The account and the calling key, once each."""
        return tuple(dict.fromkeys((self.account, self.asker)))

    def direction(self, stored: Registered, members: frozenset[Principal]) -> Direction | None:
        """Return the direction of a delegation, seen from the account; None: the account may not see it."""
        delegation = stored.delegation
        if delegation.delegator in self.parties:
            return "granted"
        if self.account in stored.accounts and delegation.delegator in members:
            return "granted"
        return "received" if delegation.delegate in self.parties else None


def _account(invocation: Invocation) -> Principal:
    """Return whose delegations the token asks for: it holds one capability, on `<space>/delegation` of theirs."""
    if len(invocation.capabilities) != 1:
        raise Refusal("query-refused")
    (asked,) = invocation.capabilities
    if asked.ability != DELEGATION_LIST or not isinstance(asked.resource, SpaceResource):
        raise Refusal("query-refused")
    if not is_account(asked.resource):
        raise Refusal("query-refused")
    return asked.resource.space.owner


async def _place(services: Services, filters: Filters) -> bytes | None:
    """Return where the page before ended; None: this is the first one."""
    if filters.after is None:
        return None
    (last,) = await services.delegations.by_cid([filters.after])
    if last is None:
        raise Refusal("query-refused")
    return place_of(last.delegation)


async def _authorised_read(
    services: Services, invocation: Invocation, view: _View, place: bytes | None, sources: "Sequence[_Source]"
) -> tuple[Page, ...]:
    """Judge the token and read the beginning of every list, at one moment."""
    roles = (ROLE_FROM, ROLE_TO)
    keys = [] if place is None else [party_row_key(party, role, place) for party in view.parties for role in roles]
    reading = Reading()
    at_place, pages = reading.rows(keys), reading.pages([source.wanted() for source in sources])
    try:
        call = await read_call(services, invocation, reading, claiming=False)
    except WrongKind:
        raise
    except CapabilityError:  # 5.4: one refusal, so that it does not reveal which rule of the chain failed
        raise Refusal("query-refused") from None
    if not _is_entitled(call, view.account):
        raise Refusal("query-refused")
    # A cursor that is in none of these lists would reveal where a delegation outside the account is listed.
    if keys and not any(record is not None and record.value is not None for record in at_place.found):
        raise Refusal("query-refused")
    return pages.found


def _is_entitled(call: Call, account: Principal) -> bool:
    """Whether the caller is the owner, or has exactly one proof, which goes back to the owner (5.4)."""
    if not call.invocation.parents:
        return call.invocation.invoker == account
    return len(call.cited) == 1 and account in call.cited[0].accounts


# --- reading the lists -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Source:
    """One list of the index, as far as it was read."""

    principal: Principal
    role: bytes
    step: int
    after: bytes | None
    more: bool = True
    rows: deque[tuple[bytes, ContentKey]] = field(default_factory=deque)

    def wanted(self) -> Range:
        """Return the range that continues the list."""
        return party_range(self.principal, self.role, after=self.after, limit=self.step)

    def take_in(self, page: Page) -> None:
        """Add what was read of the range."""
        self.rows.extend(party_rows(page))
        self.more = page.more
        self.after = self.after if page.last_key is None else place_at(page.last_key)


class _Merge:
    """All lists as one, in order; a delegation that is in several of them is returned once."""

    def __init__(self, store: Store, sources: Sequence[_Source]) -> None:
        self._store = store
        self._sources = sources

    async def take(self, count: int) -> list[tuple[bytes, ContentKey]]:
        """Return the next places and content keys, fewer than `count` at the end only."""
        taken: list[tuple[bytes, ContentKey]] = []
        while len(taken) < count and await self.goes_on():
            heads = [source.rows for source in self._sources if source.rows]
            first = min(rows[0] for rows in heads)
            taken.append(first)
            for rows in heads:
                if rows[0] == first:
                    rows.popleft()
        return taken

    async def goes_on(self) -> bool:
        """Whether anything follows; then no list is empty that has more."""
        while dry := [source for source in self._sources if source.more and not source.rows]:
            pages = (await self._store.read(ranges=[source.wanted() for source in dry])).pages
            for source, page in zip(dry, pages, strict=True):
                source.take_in(page)
        return any(source.rows for source in self._sources)


async def _page(services: Services, view: _View, merge: _Merge, most_examined: int) -> QueryPage:
    items: list[Listed] = []
    examined = 0
    place = b""
    while examined < most_examined:
        wanted = max(view.filters.limit - len(items), _LEAST_STEP)
        step = await merge.take(min(wanted, _STEP, most_examined - examined))
        if not step:
            return QueryPage(tuple(items), None)
        examined += len(step)
        listed = await _listed(services, view, [content for _, content in step])
        for at, ((place, _), item) in enumerate(zip(step, listed, strict=True), 1):
            if item is not None:
                items.append(item)
            if len(items) == view.filters.limit:
                return _ended(items, place, more=at < len(step) or await merge.goes_on())
        await asyncio.sleep(0)  # lets other tasks run
    return _ended(items, place, more=await merge.goes_on())


def _ended(items: Sequence[Listed], place: bytes, *, more: bool) -> QueryPage:
    """A page continues after the last delegation that was examined, whether it was listed or not."""
    return QueryPage(tuple(items), encode_url(cid_at(place).encode()) if more else None)


async def _listed(services: Services, view: _View, contents: Sequence[ContentKey]) -> list[Listed | None]:
    """Return how each delegation is listed; None for one that may not be seen or was not requested."""
    found = await services.delegations.by_content(contents)
    members = _unknown_members(view, found)
    closures = tuple(dict.fromkeys(member for stored in found for member in closure_contents([stored])))
    ranges = [membership_range(view.account, signer) for signer in members]
    snapshot = await services.store.read(mark_keys(closures), ranges=ranges)
    marks = dict(zip(closures, snapshot.records, strict=True))
    known = frozenset(signer for signer, page in zip(members, snapshot.pages, strict=True) if page.rows)
    now = services.clock.now()
    return [None if stored is None else _item(view, stored, known, marks, now) for stored in found]


def _unknown_members(view: _View, found: Sequence[Registered | None]) -> tuple[Principal, ...]:
    """Return the signers, each once, who are neither the account nor the calling key."""
    signers = (stored.delegation.delegator for stored in found if stored is not None)
    return tuple(dict.fromkeys(signer for signer in signers if signer not in view.parties))


def _item(
    view: _View,
    stored: Registered,
    members: frozenset[Principal],
    marks: Mapping[ContentKey, Record | None],
    now: float,
) -> Listed | None:
    filters = view.filters
    direction = view.direction(stored, members)
    # Without a mark it was removed long after its end, and only this process remembers it.
    if direction is None or mark_of(marks[stored.delegation.content_key]) is None:
        return None
    if filters.direction not in (None, direction) or not _names(stored, filters.space):
        return None
    verdict = standing_of(stored, marks, joint_window(stored), now=now)
    return listed_of(stored, direction, verdict) if _stands_so(verdict, filters.standing) else None


def _names(stored: Registered, space: str | None) -> bool:
    """Whether a delegation names a space of this id or this name."""
    if space is None:
        return True
    rows = stored.delegation.capabilities
    spaces = (row.resource.space for row in rows if isinstance(row.resource, SpaceResource))
    return any(space in (named.text, named.name) for named in spaces)


def _stands_so(verdict: Verdict, wanted: Standing | None) -> bool:
    if wanted is Standing.REVOKED:
        return verdict.standing.is_revoked
    return wanted is None or verdict.standing is wanted
