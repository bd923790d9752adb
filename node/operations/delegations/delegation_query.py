"""Paged lists of an account's delegations (wire 5.4).

An account has granted or received them.

The cost of a page depends on its length and not on the size of the account. The index of parties is
read in order, latest issued first, from the end of the previous page. An account's delegations are

- those that its owner signed or received;
- those that use a right of the owner, signed by a key that may list the account's delegations as
  well;
- those that the calling key itself signed or received;
- on request, all that use a right of the owner, whoever signed them.

Other delegations of a key are not listed for the owner, because a key can be granted a right
without its consent.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

from msgspec import Struct, field

from capabilities.abilities import DELEGATION_LIST
from capabilities.capability_errors import CapabilityError, WrongKind
from capabilities.chain import Registered, mentioned_spaces
from capabilities.cids import ContentKey
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import Principal
from capabilities.resources import SpaceResource
from capabilities.strict_base64 import encode_url
from capabilities.support import Comparisons, SupportUnknown
from capabilities.tokens import Invocation, UnverifiedInvocation
from spaces.grants.delegations import (
    cid_at,
    is_delegation_list,
    membership_range,
    party_range,
    party_rows,
    sort_key_at,
    sort_key_of,
)
from spaces.grants.revocations import marker_keys, marker_of
from spaces.keyspace import ROLE_FROM, ROLE_TO, party_key, x16
from spaces.space_errors import TooMuchDecoded
from spaces.store.contract import Page, Range, Record, Store, has_value

from ...refusal import Refusal
from ...services import Services
from ..authorise import Call, admit_signed, closure_contents, read_call
from .delegation_listing import Listed, listed_of
from .filing import filing_accounts
from .query_filters import Direction, Filters, parse_filters
from .status import Status, Verdict, verdict_of

MAX_EXAMINED = 512
"""Maximum number of delegations that one page examines.

With a filter that matches few delegations, a page may be short or empty although more pages follow.
"""

MAX_TOKEN_BYTES = 1024 * 1024
"""A page with tokens ends with the delegation whose token reaches this many bytes.

A token has at most 384 KiB, and a page has up to 100 delegations.
"""

_STEP = 32  # delegations between two iterations of the event loop: some milliseconds
_LEAST_STEP = 8  # near the end of a page: delegations beyond it are examined for nothing


SCHEMA_VERSION = 2


class DelegationPage(FrozenStruct, omit_defaults=True, rename="camel"):
    """A page in a list of delegations."""

    schema_version: int
    items: tuple[Listed, ...]
    next_cursor: str | None = None


async def query_delegations(
    services: Services,
    unverified: UnverifiedInvocation,
    body: bytes,
    *,
    most_examined: int = MAX_EXAMINED,
) -> DelegationPage:
    """Return a page of an account's delegations.

    The token names the account.

    The token may be used repeatedly and has no limit on its lifetime, because reading changes
    nothing (I23).

    Args:
        unverified: the parsed token.
        body: untrusted; see `parse_filters`.
        most_examined: maximum number of delegations to examine, at least one.

    Raises:
        Refusal: `query-refused`, the token is invalid or not entitled, or the cursor names none of
            the account's delegations; `bad-query`, the body is invalid.
        WrongKind: the token is for another audience, or is registered as a delegation (T8, T9).
        SpaceError: the store does not answer.
    """
    try:
        invocation = admit_signed(unverified, now=services.now())
    except CapabilityError:
        raise Refusal("query-refused") from None
    account = _listed_account(invocation)
    view = _View(
        account=account,
        parties=tuple(dict.fromkeys((account, invocation.invoker))),
        filters=parse_filters(body),
    )
    position = await _end_of_previous_page(services, view.filters)
    sources = _sources_of(view, position)
    await _authorised_read(services, invocation, view, position, sources)
    return await _page(services, view, _merge(services.store, sources), most_examined)


def _listed_account(invocation: Invocation) -> Principal:
    """Return the account whose delegations a token asks for.

    Raises:
        Refusal: `query-refused`, the token has not exactly one capability, or one for something
            else than `<space>/delegation` of an account.
    """
    if len(invocation.capabilities) != 1:
        raise Refusal("query-refused")
    (capability,) = invocation.capabilities
    resource = capability.resource
    if capability.ability != DELEGATION_LIST:
        raise Refusal("query-refused")
    if not isinstance(resource, SpaceResource) or not is_delegation_list(resource):
        raise Refusal("query-refused")
    return resource.space.owner


async def _end_of_previous_page(services: Services, filters: Filters) -> bytes | None:
    """Return the position of the delegation that the cursor names; None without a cursor.

    Raises:
        Refusal: `query-refused`, there is no such delegation.
    """
    if filters.after is None:
        return None
    (last,) = await services.delegations.by_cid([filters.after])
    if last is None:
        raise Refusal("query-refused")
    return sort_key_of(last.delegation)


class _View(FrozenStruct):
    """The account, parties and filters of a query for delegations.

    Attributes:
        account: the owner whose delegations are queried.
        parties: the account and the calling key, without repetition.
    """

    account: Principal
    parties: tuple[Principal, ...]
    filters: Filters

    def direction(self, stored: Registered, *, uses_right: bool) -> Direction | None:
        """Classify a delegation as granted or received by the queried account.

        Return None if the delegation is hidden from the account. `uses_right` states whether its
        signer used a right of the account's, and the query asks for what this signer did with it.
        """
        delegation = stored.delegation
        if delegation.delegator in self.parties or uses_right:
            return "granted"
        if delegation.delegate in self.parties:
            return "received"
        return None

    async def uses_right(
        self,
        services: Services,
        stored: Registered,
        members: frozenset[Principal],
        comparisons: Comparisons,
    ) -> bool:
        """Return whether a delegation passes on a right of the account's, and is asked for.

        A delegation that only cites one of the account's is not listed, whoever signed it: the
        account has nothing to do with it.

        Args:
            services: of this process.
            stored: the delegation.
            members: the keys that may list the account's delegations.
            comparisons: those that the page may still make.
        Raises:
            SupportUnknown: the search takes too long.
            TooMuchDecoded: the request would exceed its bound.
        """
        signer = stored.delegation.delegator
        if signer in self.parties or self.account not in stored.accounts:
            return False
        if not self.filters.derived and signer not in members:
            return False
        return self.account in await filing_accounts(services, stored, comparisons)


async def _authorised_read(
    services: Services,
    invocation: Invocation,
    view: _View,
    position: bytes | None,
    sources: "Sequence[_Source]",
) -> None:
    """Check a query's token, and read the first page of every index.

    Both use the same snapshot.

    Raises:
        WrongKind: the token is for another audience, or is registered as a delegation.
        Refusal: `query-refused`, the token gives no right to the list, or the cursor names none of
            the account's delegations.
    """
    keys: list[bytes] = []
    if position is not None:
        for party in view.parties:
            keys.append(party_key(x16(party), ROLE_FROM, position))
            keys.append(party_key(x16(party), ROLE_TO, position))
    try:
        call = await read_call(
            services,
            invocation,
            keys,
            [source.next_range() for source in sources],
            records_use=False,
        )
    except WrongKind:
        raise  # T8 and T9 keep their own refusal (5.4)
    except CapabilityError:
        # All others get the same refusal, so that it does not reveal which rule of the chain failed
        # (5.4).
        raise Refusal("query-refused") from None
    if not _is_entitled(call, view.account):
        raise Refusal("query-refused")
    # A cursor outside these lists is refused. Otherwise the pages would reveal the position of a
    # delegation that the account may not see.
    if keys and not any(has_value(record) for record in call.records):
        raise Refusal("query-refused")
    for source, page in zip(sources, call.pages, strict=True):
        source.add_page(page)


def _is_entitled(call: Call, account: Principal) -> bool:
    """Return whether the caller may list an account's delegations (5.4).

    The caller is the owner, or cites exactly one proof whose chain begins at the owner.
    """
    if not call.invocation.parents:
        return call.invocation.invoker == account
    return len(call.cited) == 1 and account in call.cited[0].accounts


# --- reading the lists ----------------------------------------------------------------------------


class _Source(Struct):
    """A page-by-page reader for an index of delegations.

    The index is by issuer or by recipient.
    """

    principal: Principal
    role: bytes
    step: int
    after: bytes | None
    more: bool = True
    rows: deque[tuple[bytes, ContentKey]] = field(default_factory=deque)

    def next_range(self) -> Range:
        """Return the range of keys to read for the next page."""
        return party_range(self.principal, self.role, after=self.after, limit=self.step)

    def add_page(self, page: Page) -> None:
        """Add the rows of a page to the reader."""
        self.rows.extend(party_rows(page))
        self.more = page.more
        if page.last_key is not None:
            self.after = sort_key_at(page.last_key)


def _sources_of(view: _View, position: bytes | None) -> list[_Source]:
    """Return readers of the indexes that a query needs, which begin after a position."""
    roles: tuple[bytes, ...] = (ROLE_FROM, ROLE_TO)
    if view.filters.direction == "granted":
        roles = (ROLE_FROM,)
    elif view.filters.direction == "received":
        roles = (ROLE_TO,)
    step = view.filters.limit + 1  # one more shows whether another page follows
    return [
        _Source(principal=party, role=role, step=step, after=position)
        for party in view.parties
        for role in roles
    ]


async def _merge(
    store: Store, sources: Sequence[_Source]
) -> AsyncIterator[tuple[bytes, ContentKey]]:
    """Yield the delegations of several indexes, newest first and without duplicates.

    A delegation is yielded as its position in the index and its content key.
    """
    while True:
        await _read_ahead(store, sources)
        queues = [source.rows for source in sources if source.rows]
        if not queues:
            return
        newest = min(rows[0] for rows in queues)  # positions sort the newest first
        for rows in queues:  # several indexes may contain the same delegation
            if rows[0] == newest:
                rows.popleft()
        yield newest


async def _read_ahead(store: Store, sources: Sequence[_Source]) -> None:
    """Read pages until each index has rows in memory, or has no more."""
    while True:
        used_up = [source for source in sources if source.more and not source.rows]
        if not used_up:
            return
        snapshot = await store.read(ranges=[source.next_range() for source in used_up])
        for source, page in zip(used_up, snapshot.pages, strict=True):
            source.add_page(page)


class _Items:
    """The entries of a page, up to its limits.

    Attributes:
        listed: the entries.
        position: the position in the index of the last delegation that was examined.
    """

    def __init__(self, limit: int) -> None:
        self.listed: list[Listed] = []
        self.position = b""
        self._limit = limit
        self._token_bytes = 0

    @property
    def room(self) -> int:
        """The number of entries that the page may still get."""
        return self._limit - len(self.listed)

    @property
    def is_full(self) -> bool:
        """Whether the page ends here."""
        return self.room == 0 or self._token_bytes >= MAX_TOKEN_BYTES

    def add(
        self, step: Sequence[tuple[bytes, ContentKey]], entries: Sequence[Listed | None]
    ) -> None:
        """Add the entries of some delegations, until the page is full; None is not listed."""
        for (position, _), entry in zip(step, entries, strict=True):
            self.position = position
            if entry is not None:
                self.listed.append(entry)
                self._token_bytes += len(entry.token or "")
            if self.is_full:
                return


async def _page(
    services: Services,
    view: _View,
    merged: AsyncIterator[tuple[bytes, ContentKey]],
    most_examined: int,
) -> DelegationPage:
    """Examine delegations until the page is full, and return it.

    Args:
        merged: the delegations of the account's indexes.
        most_examined: maximum number of delegations to examine.
    """
    items = _Items(view.filters.limit)
    comparisons = Comparisons()
    examined = 0
    is_cut = False  # whether the page became full before the end of a step
    while examined < most_examined and not items.is_full:
        step_size = min(max(items.room, _LEAST_STEP), _STEP, most_examined - examined)
        step = await _take(merged, step_size)
        if not step:
            break
        contents = [content for _, content in step]
        is_first = examined == 0
        entries = await _list_entries(services, view, contents, comparisons, is_first=is_first)
        examined += len(entries)
        items.add(step[: len(entries)], entries)
        last_position, _ = step[-1]
        is_cut = items.position != last_position
        if len(entries) < len(step):  # the request may not decode or compare more
            if not examined:  # it used up its bound before: refused, as the page would be empty
                await services.delegations.by_content(contents)
            break
        await asyncio.sleep(0)  # lets other tasks run
    # The next page begins after the last delegation that was examined, listed or not.
    more = is_cut or await anext(merged, None) is not None
    return DelegationPage(
        schema_version=SCHEMA_VERSION,
        items=tuple(items.listed),
        next_cursor=encode_url(cid_at(items.position)) if more else None,
    )


async def _take(
    merged: AsyncIterator[tuple[bytes, ContentKey]], count: int
) -> list[tuple[bytes, ContentKey]]:
    """Return the next delegations, fewer than `count` at the end."""
    delegations: list[tuple[bytes, ContentKey]] = []
    while len(delegations) < count:
        following = await anext(merged, None)
        if following is None:
            break
        delegations.append(following)
    return delegations


async def _list_entries(
    services: Services,
    view: _View,
    contents: Sequence[ContentKey],
    comparisons: Comparisons,
    *,
    is_first: bool,
) -> list[Listed | None]:
    """Return one response entry per delegation.

    The order of the delegations is kept. An entry is None if the account may not see the
    delegation, or the filters do not match. There are fewer entries if the request may not decode
    or compare more.

    Args:
        services: of this process.
        view: of the query.
        contents: the content keys of the delegations.
        comparisons: those that the page may still make.
        is_first: whether the page begins with these delegations.
    """
    delegations = await services.delegations.first_of(contents)
    marks, members = await _read_marks(services, view, delegations)
    now = services.now()
    entries: list[Listed | None] = []
    for stored in delegations:
        if stored is None:
            entries.append(None)
        else:
            try:
                uses_right = await view.uses_right(services, stored, members, comparisons)
            except (SupportUnknown, TooMuchDecoded):
                # D34: one search may take 80 ms, and a page has up to 512 delegations. The next
                # page begins with this one.
                if entries or not is_first:
                    break
                uses_right = True  # a list rather names too much than hides a grant
            direction = view.direction(stored, uses_right=uses_right)
            entries.append(_entry(view, stored, direction, marks, now))
    return entries


async def _read_marks(
    services: Services, view: _View, delegations: Sequence[Registered | None]
) -> tuple[dict[ContentKey, Record | None], frozenset[Principal]]:
    """Read the revocation markers above some delegations.

    The second result are those of their signers who may list the account's delegations.
    """
    # The keys of these two dictionaries are in order and without repetition.
    closures: dict[ContentKey, None] = {}
    other_signers: dict[Principal, None] = {}  # those that are neither the account nor the caller
    for stored in delegations:
        for member in closure_contents([stored]):
            closures[member] = None
        if stored is not None and stored.delegation.delegator not in view.parties:
            other_signers[stored.delegation.delegator] = None
    snapshot = await services.store.read(
        marker_keys(tuple(closures)),
        ranges=[membership_range(view.account, signer) for signer in other_signers],
    )
    marks = dict(zip(closures, snapshot.records, strict=True))
    members = frozenset(
        signer for signer, page in zip(other_signers, snapshot.pages, strict=True) if page.rows
    )
    return marks, members


def _entry(
    view: _View,
    stored: Registered,
    direction: Direction | None,
    marks: Mapping[ContentKey, Record | None],
    now: float,
) -> Listed | None:
    """Return the entry of one delegation; None if it is hidden, removed or does not match."""
    # Without a revocation marker, the delegation was removed after its expiry and is only in this
    # process's cache.
    if direction is None or marker_of(marks[stored.delegation.content_key]) is None:
        return None
    filters = view.filters
    if filters.direction not in (None, direction):
        return None
    if filters.space is not None and not _mentions(stored, filters.space):
        return None
    verdict = verdict_of(stored, marks, stored, now=now)
    if filters.status is not None and not _has_status(verdict, filters.status):
        return None
    return listed_of(stored, direction, verdict, with_token=filters.tokens)


def _mentions(stored: Registered, id_or_name: str) -> bool:
    """Return whether a delegation mentions a space with this id or name."""
    spaces = mentioned_spaces(stored.delegation.capabilities)
    return any(id_or_name in (space.text, space.name) for space in spaces)


def _has_status(verdict: Verdict, status: Status) -> bool:
    """Return whether a delegation has a status.

    A delegation with a revoked ancestor counts as revoked too.
    """
    if status == "revoked" and verdict.revoked is not None:
        return True
    return verdict.status == status
