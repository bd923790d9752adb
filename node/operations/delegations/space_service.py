"""Operations that list, create and describe an owner's spaces (wire 4.7).

The resource names any space of the owner; the rest of its path names the space in question.

    tinycloud.space/list     <space>/space            the owner's spaces
    tinycloud.space/create   <space>/space/<name>     a space of the owner by that name
    tinycloud.space/info     <space>/space/<target>   a space of the owner, by its id or by its name
    tinycloud.space/info     <space>/space            the named space itself (Q36)
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Literal, TypeGuard
from urllib.parse import unquote

import msgspec

from capabilities.capability_errors import InvalidIdentifier
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import Principal
from capabilities.resources import Resource, SpaceId, SpaceResource, parse_space_id
from capabilities.tokens import Invocation
from spaces.grants.hosting import (
    HostedSpace,
    hosting_by_put,
    owned_spaces_range,
    plan_hosting,
    space_of,
)
from spaces.keyspace import space_keys
from spaces.sql.database_rows import DATABASE_ROWS, databases_of
from spaces.store.contract import Commit, Range, counter_of
from spaces.values.quota import effective_limit

from ...refusal import Refusal
from ...services import Services
from ..attempts import until_committed
from ..authorise import read_call
from .delegation_listing import Entries, time_text
from .root_identity import root_identities

MAX_LISTED = 1000
"""Most spaces in a list; in modes with automatic hosting an owner has far fewer."""


class StoredBytes(FrozenStruct, rename="camel"):
    """How much a space contains, and its limit or None, in bytes."""

    used_bytes: int
    limit_bytes: int | None


class SpaceEntry(FrozenStruct, omit_defaults=True, rename="camel"):
    """The JSON description of a space.

    Only `space/info` has the members after `created_at`. `space` repeats two of them in the form
    that TinyCloud's clients read.
    """

    id: str
    name: str
    owner: str
    created_at: str | None
    type: Literal["owned", "delegated"] | None = None
    usage_bytes: int | None = None
    versions_bytes: int = 0
    limit_bytes: int | None = None
    databases: Mapping[str, int] = msgspec.field(default_factory=dict)
    space: StoredBytes | None = None
    manage_url: str | None = None


def is_about_spaces(resource: Resource) -> bool:
    """Return whether a resource has the form `<space>/space`.

    A trailing slash is accepted.
    """
    return _is_plain(resource) and not resource.path


def is_about_one(resource: Resource) -> bool:
    """Return whether a resource has the form `<space>/space/<name or id>`."""
    return _is_plain(resource) and bool(resource.path)


def is_about_one_or_all(resource: Resource) -> bool:
    """Return whether a resource has the form `<space>/space`, with or without a name or id."""
    return _is_plain(resource)


def _is_plain(resource: Resource) -> TypeGuard[SpaceResource]:
    return isinstance(resource, SpaceResource) and resource == SpaceResource(
        resource.space, "space", path=resource.path
    )


async def list_spaces(
    services: Services, invocation: Invocation, owner: Principal, *, limit: int = MAX_LISTED
) -> Entries:
    """Return an owner's hosted spaces, sorted by id."""
    call = await read_call(services, invocation, (), (owned_spaces_range(owner, limit=limit),))
    call.require_hosted()
    (page,) = call.pages
    entries: list[SpaceEntry] = []
    for _, record in page.rows:
        hosted = space_of(record)
        if hosted is not None:
            entries.append(_entry(hosted))
    entries.sort(key=lambda entry: entry.id)
    return Entries(entries, truncated=page.more)


async def read_space(
    services: Services, invocation: Invocation, resource_space: SpaceId, target: str
) -> SpaceEntry:
    """Return the description of one of the owner's hosted spaces.

    Args:
        services: of this process.
        invocation: verified; see `read_call`.
        resource_space: the space that the token's resource names.
        target: the name or id of the space to describe; empty for `resource_space` (Q36).
    Raises:
        Refusal: `space-not-found`, the space is not hosted, or belongs to another owner.
        Errors of `read_call`.
    """
    owner = resource_space.owner
    # For an invalid target no rows are read. It is refused like a space that is not hosted, after
    # the token was judged.
    space = _parse_target(owner, target) if target else resource_space
    keys: tuple[bytes, ...] = ()
    ranges: tuple[Range, ...] = ()
    if space is not None:
        own = space_keys(space)
        ranges = (databases_of(space),)
        keys = (own.row, own.usage, own.override, own.versions)
    call = await read_call(services, invocation, keys, ranges)
    call.require_hosted()
    if space is None:
        raise Refusal("space-not-found")
    space_row, usage, override, versions = call.records
    hosted = space_of(space_row)
    if hosted is None:
        raise Refusal("space-not-found")
    is_own = hosted.space.owner in await root_identities(services, call)
    (database_page,) = call.pages
    databases: dict[str, int] = {}
    for _, record in database_page.rows:
        database = DATABASE_ROWS.read(record)
        if database is not None:
            databases[database.path] = database.size_bytes
    usage_bytes = counter_of(usage)
    limit_bytes = effective_limit(hosted.space, override, services.quota)
    return msgspec.structs.replace(
        _entry(hosted),
        type="owned" if is_own else "delegated",
        usage_bytes=usage_bytes,
        versions_bytes=counter_of(versions),
        limit_bytes=limit_bytes,
        databases=databases,
        space=StoredBytes(used_bytes=usage_bytes, limit_bytes=limit_bytes),
        manage_url=services.config.hosting.manage_url,
    )


def _parse_target(owner: Principal, target: str) -> SpaceId | None:
    """Parse the name or id of one of the owner's spaces.

    An id may be percent-encoded once. Return None for any other text, and for the id of a space of
    another owner.
    """
    # The last text is the id of the owner's space with this name.
    for text in (target, unquote(target), SpaceId(owner, target).text):
        with suppress(InvalidIdentifier):
            space = parse_space_id(text)
            return space if space.owner == owner else None
    return None


async def make_space(
    services: Services, invocation: Invocation, owner: Principal, name: str, *, client: str | None
) -> SpaceEntry:
    """Create a hosted space for an owner.

    The space is durable when this returns. It is created where the owner's own write would host it,
    within the same limits. Otherwise only a host grant creates a space.

    Raises:
        Refusal: `bad-space-name`; `space-exists`; `space-not-made`, the mode does not host it, or a
            limit is reached; `space-not-found`, the resource names a space that is not hosted.
        Errors of `read_call`.
    """
    space = SpaceId(owner, name)
    try:
        parsed = parse_space_id(space.text)
    except InvalidIdentifier:
        raise Refusal("bad-space-name") from None
    # A name with a colon would parse as a space of another owner.
    if parsed != space:
        raise Refusal("bad-space-name")

    async def attempt(is_first: bool) -> tuple[Commit, SpaceEntry]:
        now = services.now()
        hosting = hosting_by_put(space, owner, services.hosting, client=client, now=now)
        call = await read_call(services, invocation, hosting.keys(), records_use=is_first)
        call.require_hosted()
        plan = plan_hosting(hosting, call.records, now=now)
        if not plan.new:
            raise Refusal("space-exists" if plan.activated else "space-not-made")
        made = call.audit(services, "space.created", space.text)
        commit = call.commit((*plan.puts, made), checks=plan.checks, adds=plan.adds)
        return commit, _entry(HostedSpace(owner=space.owner, name=space.name, hosted_at=now))

    return await until_committed(services, attempt)


def _entry(hosted: HostedSpace) -> SpaceEntry:
    space = hosted.space
    return SpaceEntry(
        id=space.text,
        name=space.name,
        owner=space.owner,
        created_at=time_text(hosted.hosted_at),
    )
