"""Operations on the former values of a key (M56 to M58).

They are for the owner in person, and for the writers and admins of a team. Another delegate may
read what a key has now, not what it had.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from capabilities.capability_errors import MalformedToken
from capabilities.members import member_of
from capabilities.memberships import StatedRole
from capabilities.sign_ins import OwnerAuthority
from spaces.values.value_heads import Head, head_key, head_of, versions_in, versions_range

from ...refusal import Refusal
from ..authorise import Call, read_call
from ..owner_authority import decide_owner_authority
from .plan import Request

_MICROSECONDS = 1_000_000
READERS: tuple[StatedRole, ...] = ("admin", "writer", "successor")
"""Roles of members who may read versions (TM5, TM19)."""
REMOVERS: tuple[StatedRole, ...] = ("admin",)
"""Roles of members who may remove them."""


async def read_versions(
    request: Request, *, roles: tuple[StatedRole, ...], records_use: bool = True
) -> tuple[Call, Mapping[bytes, Head]]:
    """Authorise a call about versions, and read them.

    Members of a team with one of `roles` may make the call too (TM5).

    Returns:
        The call, whose only record is the row of the value, and the former values by the keys of
        their rows, the oldest first. Commits for the call also depend on the owner's sign-in.

    Raises:
        Refusal: `versions-not-in-person`, the caller is not the owner in person (IP1, IP2), nor
            such a member; `space-not-found`.
        Errors of `read_call`.
    """
    services, space, path = request.services, request.target.space, request.target.path
    keys = (head_key(space, path),)
    ranges = (versions_range(space, path),)
    call = await read_call(services, request.invocation, keys, ranges, records_use=records_use)
    call.require_hosted()
    authority = await decide_owner_authority(services, call, space.owner)
    # The delegations that make the caller the owner in person; they have to stay live.
    relied_on = authority.in_person
    if relied_on is None and _member_role(authority) in roles:
        relied_on = ()  # the membership is among the cited delegations
    if relied_on is None:  # a delegate may not read what a key had (M58)
        raise Refusal("versions-not-in-person")
    live = tuple(dict.fromkeys((*call.authority.live, *relied_on)))  # each delegation once
    call = replace(call, authority=replace(call.authority, live=live))
    return call, versions_in(call.pages[0])


def _member_role(authority: OwnerAuthority) -> StatedRole | None:
    """Return the role of the team's member who makes a request; None for anybody else."""
    try:
        member = member_of(authority.facts)
    except MalformedToken:
        return None
    return None if member is None else member.statement.role


async def _read_heads(request: Request) -> list[Head]:
    """Return the current value, if there is one, and its former values, the newest first."""
    call, former_values = await read_versions(request, roles=READERS)
    current = head_of(call.records[0], key=head_key(request.target.space, request.target.path))
    heads: list[Head] = []
    if current is not None:
        heads.append(current)
    heads += reversed(list(former_values.values()))
    return heads


async def version(request: Request) -> Head:
    """Return one version of the value at the requested path (M56).

    Its number is in the header `x-sealspace-version`.

    Raises:
        Refusal: `version-not-found`; its message names the versions that can be read.
        Errors of `read_versions`.
    """
    number = request.options.version
    heads = await _read_heads(request)
    for head in heads:
        if head.version == number:
            headers = {**head.metadata, **head.last_modified, "x-sealspace-version": str(number)}
            return replace(head, metadata=headers)
    readable_versions = ", ".join(str(head.version) for head in reversed(heads))
    raise Refusal("version-not-found", number, readable_versions or "none")


async def versions(request: Request) -> Sequence[Mapping[str, object]]:
    """Describe all versions of the value at the requested path, the newest first (M56).

    Each has the DID of who stored it (M62). Times are in epoch seconds.

    Raises:
        Refusal: `key-not-found`, there is neither a value nor a version.
        Errors of `read_versions`.
    """
    heads = await _read_heads(request)
    if not heads:
        raise Refusal("key-not-found")
    return [_described(head) for head in heads]


def _described(head: Head) -> dict[str, object]:
    """Return the JSON description of one version."""
    replaced_at_s = head.replaced_at // _MICROSECONDS  # 0 for the current value
    return {
        "version": head.version,
        "etag": head.etag_header,
        "sizeBytes": head.size_bytes,
        "storedAt": head.stored_at,
        "storedBy": head.stored_by,
        "replacedAt": replaced_at_s or None,
        "current": head.replaced_at == 0,
    }
