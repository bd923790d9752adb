"""Read which delegations touch a space: a list of them, or one with the chain it rests on (wire 4.5).

A list has the newest, within bounds on how many are looked at, how many are returned and how long they are, and lets
other tasks run in between. It reads in steps: each delegation is returned in its state at its own step.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from capabilities.cacao import encode_cacao, header_bytes, header_text, restore_cacao
from capabilities.caveats import Caveats
from capabilities.chain import MAX_CHAIN_NODES, Mark, Marks, Registered, mentioned_spaces
from capabilities.cids import ContentKey, cid_text, parse_cid
from capabilities.errors import InvalidIdentifier
from capabilities.principals import Principal
from capabilities.resources import Resource, SpaceId, SpaceResource
from capabilities.strict_json import Json
from capabilities.tokens import Delegation, Invocation
from spaces.grants.delegations import space_grants_range, unexpired_of
from spaces.grants.revocations import mark_keys, marks_of
from spaces.store.contract import Page, read_page

from ...refusal import Refusal
from ...services import Services
from ..authorise import closure_contents, read_call
from ..reading import Reading
from .root_identity import root_identity
from .standing import Standing, own_window

FACT: Final = "capabilitiesReadParams"


class GrantFilters(msgspec.Struct, frozen=True):
    """Which delegations of a space are listed."""

    direction: str | None = None
    path: str | None = None
    actions: frozenset[str] | None = None

    def fit(self, delegation: Delegation, identity: Principal) -> bool:
        """Whether a delegation passes every filter."""
        if self.direction == "created" and delegation.delegator != identity:
            return False
        if self.direction == "received" and delegation.delegate != identity:
            return False
        if self.actions is not None and self.actions.isdisjoint(row.ability for row in delegation.capabilities):
            return False
        return self.path is None or any(path.startswith(self.path) for path in _paths(delegation))


class Chain(msgspec.Struct, frozen=True, tag="chain"):
    """One delegation and what it rests on; `cid` is untrusted text."""

    cid: str = msgspec.field(name="delegation_cid")


class _List(msgspec.Struct, frozen=True, tag="list"):
    filters: GrantFilters | None = None


RequestParameters: TypeAlias = GrantFilters | Chain


def asked_of(facts: Iterable[Json]) -> RequestParameters:
    """Return the readable filters of the first fact; without such a fact everything is listed."""
    for fact in facts:
        asked = _asked(fact.get(FACT)) if isinstance(fact, dict) else None
        if asked is not None:
            return asked
    return GrantFilters()


def _asked(value: Json) -> RequestParameters | None:
    try:
        asked = msgspec.convert(value, _List | Chain)
    except msgspec.ValidationError:
        return None
    return asked if isinstance(asked, Chain) else asked.filters or GrantFilters()


def _paths(delegation: Delegation) -> Iterable[str]:
    resources = (row.resource for row in delegation.capabilities)
    return (one.path for one in resources if isinstance(one, SpaceResource) and one.path is not None)


_STEP: Final = 16  # delegations between two iterations of the event loop: a few milliseconds

_ENCODER: Final = msgspec.json.Encoder()
_CID_PREFIX: Final = (0x01, 0x55, 0x1E, 0x20)  # E7: version 1, raw, BLAKE3, 32 bytes


@dataclass(frozen=True, slots=True)
class ListBounds:
    """How much one answer may cost; beyond, it is cut and says so."""

    reported: int = 1000
    answer_bytes: int = 8 * 1024 * 1024
    examined: int = 8192
    page_rows: int = 512


DEFAULT_BOUNDS: Final = ListBounds()


class _Held(msgspec.Struct, frozen=True):
    resource: str
    ability: str
    caveats: Caveats


class _ReportedGrant(msgspec.Struct, frozen=True):
    """A delegation as it is returned; parents as the bytes of their cids, one number each (Q23)."""

    capabilities: tuple[_Held, ...]
    delegator: str
    delegate: str
    parents: tuple[tuple[int, ...], ...]
    raw: str


@dataclass(frozen=True, slots=True)
class GrantList:
    """Delegations that touch a space."""

    grants: dict[str, msgspec.Raw]
    truncated: bool


@dataclass(frozen=True, slots=True)
class GrantChain:
    """A delegation and what it rests on."""

    grants: list[msgspec.Raw]
    truncated: bool


def is_about_grants(resource: Resource) -> bool:
    """Whether a resource is exactly `<space>/capabilities/all`."""
    return isinstance(resource, SpaceResource) and resource == SpaceResource(resource.space, "capabilities", "all")


async def read_capabilities(
    services: Services, invocation: Invocation, space: SpaceId, *, bounds: ListBounds = DEFAULT_BOUNDS
) -> GrantList | GrantChain:
    """Return what the call's facts request."""
    asked, reading = asked_of(invocation.facts), Reading()
    if isinstance(asked, Chain):
        call = await read_call(services, invocation, reading, claiming=True)
        call.require_hosted()
        return await _chain(services, space, asked, bounds)
    newest = reading.page(space_grants_range(space, limit=bounds.page_rows))
    call = await read_call(services, invocation, reading, claiming=True)
    call.require_hosted()
    telling = _Listing(services, asked, await root_identity(services, call), bounds)
    return await _list(telling, space, newest.found)


# --- a list ------------------------------------------------------------------------------------------------------


async def _list(telling: "_Listing", space: SpaceId, page: Page) -> GrantList:
    services, bounds, examined = telling.services, telling.bounds, 0
    while True:
        contents = unexpired_of(page, now=services.clock.now())
        for start in range(0, len(contents), _STEP):
            if not await telling.take(contents[start : start + _STEP]):
                return GrantList(telling.grants, truncated=True)
            await asyncio.sleep(0)  # lets other tasks run
        examined += len(page.rows)
        if not page.more or examined >= bounds.examined:
            return GrantList(telling.grants, truncated=page.more)
        wanted = space_grants_range(space, after=page.last_key, limit=bounds.page_rows)
        page = await read_page(services.store, wanted)


@dataclass(slots=True)
class _Listing:
    """A list while it grows."""

    services: Services
    filters: GrantFilters
    identity: Principal
    bounds: ListBounds
    grants: dict[str, msgspec.Raw] = field(default_factory=dict)
    size_bytes: int = 0

    async def take(self, contents: Sequence[ContentKey]) -> bool:
        """Add those delegations that are in force and fit; False when one more did not fit."""
        found = await self.services.delegations.by_content(contents)
        marks = marks_of(contents, (await self.services.store.read(mark_keys(contents))).records)
        now = self.services.clock.now()
        for stored in found:
            if stored is None or not _stands(stored, marks, now):
                continue
            delegation = stored.delegation
            if not self.filters.fit(delegation, self.identity):
                continue
            if len(self.grants) >= self.bounds.reported or self.size_bytes >= self.bounds.answer_bytes:
                return False
            reported = _reported(delegation)
            self.grants[cid_text(delegation.cid)] = msgspec.Raw(reported)
            self.size_bytes += len(reported)
        return True


# --- a chain -----------------------------------------------------------------------------------------------------


async def _chain(services: Services, space: SpaceId, asked: Chain, bounds: ListBounds) -> GrantChain:
    """Follow first parents up, as long as they are in force and touch the space."""
    try:
        digest = parse_cid(asked.cid).digest32
    except InvalidIdentifier:
        raise Refusal("bad-delegation-cid", asked.cid) from None
    (stored,) = await services.delegations.by_cid([digest])
    contents = closure_contents([stored])
    marks = marks_of(contents, (await services.store.read(mark_keys(contents))).records)
    now = services.clock.now()
    grants: list[msgspec.Raw] = []
    size_bytes = 0
    while (
        stored is not None
        and _stands(stored, marks, now)
        and (space in mentioned_spaces(stored.delegation.capabilities))
    ):
        if len(grants) >= MAX_CHAIN_NODES or size_bytes >= bounds.answer_bytes:
            return GrantChain(grants, truncated=True)
        delegation = stored.delegation
        reported = _reported(delegation)
        grants.append(msgspec.Raw(reported))
        size_bytes += len(reported)
        above = await services.delegations.by_content(stored.parents[:1])
        stored = above[0] if above else None
    return GrantChain(grants, truncated=False)


# --- one delegation ----------------------------------------------------------------------------------------------


def _stands(stored: Registered, marks: Marks, now: float) -> bool:
    """Whether a delegation is not revoked itself and inside its own window; its ancestors do not count."""
    is_live = marks.get(stored.delegation.content_key) is Mark.LIVE
    return is_live and own_window(stored).standing(now) is Standing.ACTIVE


def _reported(delegation: Delegation) -> bytes:
    held = [_Held(row.resource.text, row.ability, row.caveats) for row in delegation.capabilities]
    reported = _ReportedGrant(
        capabilities=tuple(held),
        delegator=delegation.delegator,
        delegate=delegation.delegate,
        parents=tuple([((*_CID_PREFIX, *parent.digest)) for parent in delegation.parents if parent.digest is not None]),
        raw=_raw(delegation),
    )
    return _ENCODER.encode(reported)


def _raw(delegation: Delegation) -> str:
    """Return the delegation as it could be posted: a CACAO in its canonical spelling, a JWT as received."""
    if delegation.form == "ucan":
        return delegation.header
    return header_text(encode_cacao(restore_cacao(header_bytes(delegation.header))))
