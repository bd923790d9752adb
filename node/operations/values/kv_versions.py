"""Operations on the former values of a key (M56 to M58).

They are for the owner in person only: a delegate may read what a key has now, not what it had.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from spaces.grants.revocations import marker_keys
from spaces.store.contract import Commit
from spaces.values.value_heads import Head, Write, head_key, head_of
from spaces.values.versions import versions_in, versions_range

from ...refusal import Refusal
from ..attempts import until_committed
from ..authorise import Call, read_call
from ..owner_authority import decide_owner_authority
from .kv_commit import check_conditions, durable_replay_record
from .plan import Request


class VersionEntry(Struct, frozen=True, rename="camel"):
    """The JSON description of one version of a value. Times are in epoch seconds."""

    version: int
    etag: str
    size_bytes: int
    stored_at: int | None
    replaced_at: int | None
    current: bool


class _Reading(Struct, frozen=True, gc=False):
    """The versions of a key, from one snapshot.

    `live` are the keys of the revocation markers that the owner's authority depends on.
    """

    call: Call
    current: Head | None
    kept: list[Head]
    live: tuple[bytes, ...]

    @property
    def newest_first(self) -> list[Head]:
        """All versions that can be read."""
        return [*([] if self.current is None else [self.current]), *reversed(self.kept)]


async def _read(request: Request, *, records_use: bool = True) -> _Reading:
    """Authorise a call about versions, and read them.

    Raises:
        Refusal: `versions-not-in-person`, the caller is not the owner in person (IP1, IP2).
    """
    services, target = request.services, request.target
    key, ranges = head_key(target.space, target.path), (versions_range(target.space, target.path),)
    call = await read_call(services, request.invocation, (key,), ranges, records_use=records_use)
    call.require_hosted()
    marks = (await decide_owner_authority(services, call, target.space.owner)).in_person
    if marks is None:  # M58
        raise Refusal("versions-not-in-person")
    live = tuple(dict.fromkeys((*call.live, *marker_keys(marks))))
    return _Reading(call, head_of(call.records[0], key=key), versions_in(call.pages[0]), live)


async def version(request: Request) -> Head:
    """Return one version of the value at the requested path (M56).

    Its number is in the header `x-sealspace-version`.
    """
    readable = (await _read(request)).newest_first
    number = request.options.version
    for head in readable:
        if head.version == number:
            headers = {**head.metadata, **head.last_modified, "x-sealspace-version": str(number)}
            return replace(head, metadata=headers)
    numbers = ", ".join(str(head.version) for head in reversed(readable))
    raise Refusal("version-not-found", number, numbers or "none")


async def versions(request: Request) -> Sequence[VersionEntry]:
    """Describe all versions of the value at the requested path, the newest first (M56)."""
    readable = (await _read(request)).newest_first
    if not readable:
        raise Refusal("key-not-found")
    return [
        VersionEntry(
            head.version,
            head.etag_header,
            head.size_bytes,
            head.stored_at,
            None if head.replaced_at is None else head.replaced_at // 1_000_000,
            head.replaced_at is None,
        )
        for head in readable
    ]


async def purge(request: Request) -> Head | None:
    """Remove a value and all its versions, and return the value (M57).

    Raises:
        Refusal: `no-such-key`, there is neither a value nor a version; `precondition-failed`.
    """
    services, (space, path) = request.services, (request.target.space, request.target.path)

    async def attempt(is_first: bool) -> tuple[Commit, Head | None]:
        reading = await _read(request, records_use=is_first)
        call, current, record = reading.call, reading.current, reading.call.records[0]
        check_conditions(current, request.options)
        if record is None and not reading.kept:
            raise Refusal("no-such-key", path)
        writes = [] if record is None else [Write(path, None)]
        draft = await services.values.draft(
            space, writes, [record] * len(writes), removed=reading.kept
        )
        plan = await draft.plan(now=services.clock.now())
        return Commit(
            puts=(*plan.puts, call.audit(services, "kv.purge", f"{space.text}/kv/{path}")),
            live=reading.live,
            checks=plan.checks,
            adds=plan.adds,
            replay_record=durable_replay_record(services, call),
        ), current

    return await until_committed(services, attempt)
