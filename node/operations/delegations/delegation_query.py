"""Paged lists of an account's delegations (wire 5.4).

An account has granted or received them.

The cost of a page depends on its length and not on the size of the account. The index of parties is
read in order, latest issued first, from the end of the previous page. An account's delegations are

- those that its owner signed or received;
- those that depend on a delegation of the owner, signed by a key that may list the account's
  delegations as well;
- those that the calling key itself signed or received.

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
from spaces.store.contract import Page, Range, Record, Store

from ...refusal import Refusal
from ...services import Services
from ..authorise import admit_signed, closure_contents, read_call
from .delegation_listing import Listed, listed_of
from .query_filters import Direction, Filters, parse_filters
from .status import verdict_of

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
    # The token has one capability, on `<space>/delegation` of the account.
    listed = [one.resource for one in invocation.capabilities if one.ability == DELEGATION_LIST]
    resource = listed[0] if len(invocation.capabilities) == len(listed) == 1 else None
    if not isinstance(resource, SpaceResource) or not is_delegation_list(resource):
        raise Refusal("query-refused")
    account = resource.space.owner
    view = _View(account, tuple(dict.fromkeys((account, invocation.invoker))), parse_filters(body))
    position = None
    if view.filters.after is not None:  # the end of the previous page
        (last,) = await services.delegations.by_cid([view.filters.after])
        if last is None:
            raise Refusal("query-refused")
        position = sort_key_of(last.delegation)
    roles = {"granted": (ROLE_FROM,), "received": (ROLE_TO,), None: (ROLE_FROM, ROLE_TO)}[
        view.filters.direction
    ]
    sources = [
        _Source(party, role, view.filters.limit + 1, position)
        for party in view.parties
        for role in roles
    ]
    await _authorised_read(services, invocation, view, position, sources)
    return await _page(services, view, _merge(services.store, sources), most_examined)


class _View(FrozenStruct):
    """The account, parties and filters of a query for delegations.

    Attributes:
        account: the owner whose delegations are queried.
        parties: the account and the calling key, without repetition.
    """

    account: Principal
    parties: tuple[Principal, ...]
    filters: Filters

    def direction(self, stored: Registered, members: frozenset[Principal]) -> Direction | None:
        """Classify a delegation as granted or received by the queried account.

        Return None if the delegation is hidden from the account.
        """
        delegation = stored.delegation
        if delegation.delegator in self.parties:
            return "granted"
        if self.account in stored.accounts and delegation.delegator in members:
            return "granted"
        return "received" if delegation.delegate in self.parties else None


async def _authorised_read(
    services: Services,
    invocation: Invocation,
    view: _View,
    position: bytes | None,
    sources: "Sequence[_Source]",
) -> None:
    """Check a query's token, and read the first page of every index.

    Both use the same snapshot.
    """
    keys = (
        []
        if position is None
        else [
            party_key(x16(party), role, position)
            for party in view.parties
            for role in (ROLE_FROM, ROLE_TO)
        ]
    )
    try:
        call = await read_call(
            services, invocation, keys, [source.wanted() for source in sources], records_use=False
        )
    except WrongKind:
        raise
    except CapabilityError:
        # 5.4: one refusal for all, so that it does not reveal which rule of the chain failed
        raise Refusal("query-refused") from None
    # The caller is the owner, or has exactly one proof, which originates from the owner (5.4).
    if invocation.parents:
        is_entitled = len(call.cited) == 1 and view.account in call.cited[0].accounts
    else:
        is_entitled = invocation.invoker == view.account
    # A cursor outside these lists is refused. Otherwise the pages would reveal the position of a
    # delegation that the account may not see.
    is_listed = any(record is not None and record.value is not None for record in call.records)
    if not is_entitled or (keys and not is_listed):
        raise Refusal("query-refused")
    for source, page in zip(sources, call.pages, strict=True):
        source.take_in(page)


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

    def wanted(self) -> Range:
        """Return the range of keys to read for the next page."""
        return party_range(self.principal, self.role, after=self.after, limit=self.step)

    def take_in(self, page: Page) -> None:
        """Add the rows of a page to the reader."""
        self.rows.extend(party_rows(page))
        self.more = page.more
        self.after = self.after if page.last_key is None else sort_key_at(page.last_key)


async def _merge(
    store: Store, sources: Sequence[_Source]
) -> AsyncIterator[tuple[bytes, ContentKey]]:
    """Yield the delegations of several indexes, newest first.

    Duplicates are left out.

    A delegation is yielded as its position in the index and its content key.
    """
    while True:
        while dry := [source for source in sources if source.more and not source.rows]:
            pages = (await store.read(ranges=[source.wanted() for source in dry])).pages
            for source, page in zip(dry, pages, strict=True):
                source.take_in(page)
        heads = [source.rows for source in sources if source.rows]
        if not heads:
            return
        first = min(rows[0] for rows in heads)
        for rows in heads:
            if rows[0] == first:
                rows.popleft()
        yield first


async def _page(
    services: Services,
    view: _View,
    merged: AsyncIterator[tuple[bytes, ContentKey]],
    most_examined: int,
) -> DelegationPage:
    items = list[Listed]()
    examined, limit = 0, view.filters.limit
    token_bytes = 0
    position, is_cut = b"", False
    while examined < most_examined and len(items) < limit:
        wanted = min(max(limit - len(items), _LEAST_STEP), _STEP, most_examined - examined)
        step = list[tuple[bytes, ContentKey]]()
        while len(step) < wanted and (following := await anext(merged, None)) is not None:
            step.append(following)
        if not step:
            break
        examined += len(step)
        listed = await _list_entries(services, view, [content for _, content in step])
        for (at, _), item in zip(step, listed, strict=True):
            position = at
            if item is not None:
                items.append(item)
                token_bytes += len(item.token or "")
            if len(items) == limit or token_bytes >= MAX_TOKEN_BYTES:
                limit = len(items)  # the page ends here
                break
        is_cut = position != step[-1][0]
        await asyncio.sleep(0)  # lets other tasks run
    # A page continues after the last delegation that was examined, whether it was listed or not.
    more = is_cut or await anext(merged, None) is not None
    return DelegationPage(
        SCHEMA_VERSION, tuple(items), encode_url(cid_at(position)) if more else None
    )


async def _list_entries(
    services: Services, view: _View, contents: Sequence[ContentKey]
) -> list[Listed | None]:
    """Return one response entry per delegation.

    The order of the delegations is kept. An entry is None if the account may not see the
    delegation, or the filters do not match.
    """
    found = await services.delegations.by_content(contents)
    signers = (stored.delegation.delegator for stored in found if stored is not None)
    # signers other than the account and the calling key, without repetition
    unknown = tuple(dict.fromkeys(signer for signer in signers if signer not in view.parties))
    closures = tuple(
        dict.fromkeys(member for stored in found for member in closure_contents([stored]))
    )
    snapshot = await services.store.read(
        marker_keys(closures), ranges=[membership_range(view.account, signer) for signer in unknown]
    )
    marks = dict(zip(closures, snapshot.records, strict=True))
    members = frozenset(
        signer for signer, page in zip(unknown, snapshot.pages, strict=True) if page.rows
    )
    now = services.now()
    return [
        None if stored is None else _item(view, stored, members, marks, now) for stored in found
    ]


def _item(
    view: _View,
    stored: Registered,
    members: frozenset[Principal],
    marks: Mapping[ContentKey, Record | None],
    now: float,
) -> Listed | None:
    filters = view.filters
    direction = view.direction(stored, members)
    # Without a revocation marker, the delegation was removed after its expiry and is only in this
    # process's cache.
    if direction is None or marker_of(marks[stored.delegation.content_key]) is None:
        return None
    if filters.direction not in (None, direction):
        return None
    if filters.space is not None and not any(
        filters.space in (space.text, space.name)
        for space in mentioned_spaces(stored.delegation.capabilities)
    ):
        return None
    verdict = verdict_of(stored, marks, stored, now=now)
    is_revoked = filters.status == "revoked" and verdict.revoked is not None
    if filters.status not in (None, verdict.status) and not is_revoked:
        return None
    return listed_of(stored, direction, verdict, with_token=filters.tokens)
