"""The spaces of an owner: list them, make one, look at one (wire 4.7).

The resource names a space of the owner in question; what lies behind it names the space that is asked about.

    tinycloud.space/list     <space>/space            the owner's spaces
    tinycloud.space/create   <space>/space/<name>     a space of the owner by that name
    tinycloud.space/info     <space>/space/<target>   a space of the owner, by its id or by its name

Example:
    listed = await list_spaces(services, invocation, step)
"""

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

import msgspec

from capabilities.errors import InvalidIdentifier
from capabilities.resources import SpaceId, parse_space_id
from capabilities.tokens import Invocation
from spaces.audit.records import AuditRecord, audit_put
from spaces.grants.hosting import (
    HostedSpace,
    HostingPlan,
    hosting_by_put,
    owned_spaces_range,
    plan_hosting,
    space_of,
    space_row_key,
)
from spaces.store.contract import Commit, Put

from ...services import Services
from ..attempts import Planned, until_committed
from ..authorise import Call, read_call
from ..errors import BadSpaceName, SpaceExists, SpaceNotFound, SpaceNotMade
from .delegation_listing import time_text
from .root_identity import root_identity
from .service_plan import ServiceStep

MAX_LISTED: Final = 1000
"""Most spaces in a list; in the modes that host by themselves an owner has far fewer."""

Ownership = Literal["owned", "delegated"]


class SpaceEntry(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A space as it is told.

    Attributes:
        id: the space.
        name: the last part of the id.
        owner: whose it is.
        created_at: when it was hosted.
        type: whether the caller acts for its owner; only where one space is asked about.
    """

    id: str
    name: str
    owner: str
    created_at: str | None
    type: Ownership | None = None


@dataclass(frozen=True, slots=True)
class SpaceList:
    """An owner's spaces, in order of their ids; `truncated` when there are more than a list holds."""

    spaces: tuple[SpaceEntry, ...]
    truncated: bool


async def list_spaces(
    services: Services, invocation: Invocation, step: ServiceStep, *, limit: int = MAX_LISTED
) -> SpaceList:
    """Return the hosted spaces of the step's owner, at most `limit` of them.

    Raises:
        DuplicateInvocation, ChainError, SpaceNotFound, SpaceError: see `read_call`.
    """
    wanted = owned_spaces_range(step.space.owner, limit=limit)
    call = await read_call(services, invocation, ranges=(wanted,), claiming=True)
    call.require_hosted()
    (page,) = call.pages
    hosted = (space_of(record) for _, record in page.rows)
    entries = sorted((_entry(one) for one in hosted if one is not None), key=lambda entry: entry.id)
    return SpaceList(tuple(entries), page.more)


async def read_space(services: Services, invocation: Invocation, step: ServiceStep) -> SpaceEntry:
    """Return the space that the step's path names, where it is hosted and the step's owner has it.

    Raises:
        SpaceNotFound: it is not, or is somebody else's: nobody learns what others have.
        DuplicateInvocation, ChainError, SpaceError: see `read_call`.
    """
    target = _target(step)
    keys = () if target is None else (space_row_key(target),)
    call = await read_call(services, invocation, keys=keys, claiming=True)
    call.require_hosted()
    hosted = space_of(call.records[0]) if call.records else None
    if hosted is None:
        raise SpaceNotFound
    is_own = await root_identity(services, call) == hosted.space.owner
    return _entry(hosted, "owned" if is_own else "delegated")


def _target(step: ServiceStep) -> SpaceId | None:
    """Read an id, as it is or percent-encoded once, or a name; None for what is no space of the owner."""
    for text in (step.path, unquote(step.path), SpaceId(step.space.owner, step.path).text):
        try:
            space = parse_space_id(text)
        except InvalidIdentifier:
            continue
        return space if space.owner == step.space.owner else None
    return None


async def make_space(
    services: Services, invocation: Invocation, step: ServiceStep, *, client: str | None
) -> SpaceEntry:
    """Host a space of the step's owner under the name in its path; durable when it returns.

    The owner's word is enough where the node hosts that owner's spaces by itself, within the same bounds; where it
    does not, only a host grant makes a space.

    Args:
        services: the node.
        invocation: admitted; asks for `tinycloud.space/create`.
        step: owner and name.
        client: network address of the caller, counted against the bound on new owners; None: not counted.

    Raises:
        BadSpaceName: the path is no name.
        SpaceExists: it is hosted already.
        SpaceNotMade: mode, bounds or the rule on names of this node.
        DuplicateInvocation, ChainError, SpaceNotFound, SpaceError: see `read_call`.
    """
    space = _named(step)

    async def attempt(is_first: bool) -> Planned[SpaceEntry]:
        now = services.clock.now()
        wanted = hosting_by_put(space, space.owner, services.hosting, client=client, now=now)
        call = await read_call(services, invocation, keys=wanted.keys(), claiming=is_first)
        call.require_hosted()
        plan = plan_hosting(wanted, call.records, now=now)
        if not plan.new:
            raise SpaceExists if plan.activated else SpaceNotMade
        commit = _commit(call, plan, _audit(services, call, space, now))
        return Planned(commit, _entry(HostedSpace(space, now)))

    return await until_committed(services, attempt)


def _named(step: ServiceStep) -> SpaceId:
    space = SpaceId(step.space.owner, step.path)
    try:
        parsed = parse_space_id(space.text)
    except InvalidIdentifier:
        raise BadSpaceName from None
    if parsed != space:  # a path with a colon would name another owner's
        raise BadSpaceName
    return space


def _audit(services: Services, call: Call, space: SpaceId, now: float) -> Put:
    record = AuditRecord(
        at=now,
        action="space.created",
        actor=call.invocation.invoker,
        subject=space.text,
        token=call.invocation.cid,
        authority=call.authority.live,
    )
    return audit_put(record, entropy=services.entropy)


def _commit(call: Call, plan: HostingPlan, audit: Put) -> Commit:
    return Commit(puts=(*plan.puts, audit), live=call.live, checks=plan.checks, adds=plan.adds, claim=call.claim)


def _entry(hosted: HostedSpace, ownership: Ownership | None = None) -> SpaceEntry:
    space = hosted.space
    return SpaceEntry(space.text, space.name, space.owner, time_text(hosted.hosted_at), ownership)
