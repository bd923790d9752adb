"""Records of reads of shared secrets' copies (RC33, RC34).

A colleague opens a copy with a key of the colleague's own network, so the owner has no receipt of
it. The owner sees instead that the copy was fetched. The row about the fetch is durable before the
copy is returned.
"""

from collections.abc import Sequence

from capabilities.abilities import KV_GET, satisfies
from capabilities.chain import Registered
from capabilities.memberships import is_membership
from capabilities.principals import Principal
from capabilities.resources import SpaceId, SpaceResource, extends
from capabilities.sign_ins import owner_statement_sessions
from capabilities.support import Comparisons, SupportingPaths, SupportUnknown, persons_of
from encryption_network.canonical_json import canonical_bytes
from sealspace.documents.secret_names import SECRETS_SPACE, SHARED_PREFIX
from spaces.documents.fetch_rows import Fetch, fetch_put, fetch_row_key
from spaces.store.contract import NO_RESERVE, Check, Commit, Put, has_value
from spaces.values.value_heads import Head

from ...services import Services
from ..attempts import until_committed
from ..authorise import Call, read_call
from ..owner_authority import decide_owner_authority
from .plan import OperationTarget
from .sealed_values import NO_ENVELOPE


def is_copy(space: SpaceId, path: str) -> bool:
    """Return whether a path is below the folder of the copies that an owner shares (SH1)."""
    return path.startswith(SHARED_PREFIX) and space.name == SECRETS_SPACE


async def record_fetches(
    services: Services, call: Call, values: Sequence[tuple[OperationTarget, Head | None]]
) -> None:
    """Record that a call reads copies, before their bodies are returned (RC33).

    Nothing is written for the owner in person, and for values that are not copies.

    Args:
        services: the node's.
        call: the authorised call that read the rows.
        values: those that are going to be returned, with the rows that describe them.
    Raises:
        Refusal, ChainError: the call's right to read was revoked meanwhile.
        StoreFull, StoreBusy, StoreUnavailable: the fetch is not durable, so the value must not be
            returned.
    """
    copies = [
        (target, head)
        for target, head in values
        # A value in a file may be an envelope, so it counts.
        if head is not None
        and is_copy(target.space, target.path)
        and head.sealed_key != NO_ENVELOPE
    ]
    if not copies:
        return
    at = services.now()
    # A batch has up to 100 copies, and one search may take 80 ms.
    comparisons = Comparisons()
    fetches: list[tuple[SpaceId, Fetch]] = []
    for target, head in copies:
        reader = await reader_of(services, call, target.space, target.path, comparisons)
        if reader is not None:
            fetch = Fetch(
                reader=reader,
                space=target.space.text,
                path=target.path,
                version=head.version,
                etag=head.etag,
                at=at,
            )
            fetches.append((target.space, fetch))
    if not fetches:
        return

    # The types are quoted, so that they are not evaluated for each read.
    async def attempt(is_first: bool) -> "tuple[Commit, None]":
        current = call
        if not is_first:  # the row was written by another call, or the right was revoked
            current = await read_call(services, call.invocation, records_use=False)
            current.require_hosted()
        puts, checks = await fetch_writes(services, current, fetches)
        # Without rows to write, the commit confirms that the rows are durable (ST16).
        if puts:
            # Readers must not use the last space of a full store (ST17).
            commit = current.commit(puts, checks=checks, reserve=NO_RESERVE)
        else:
            commit = current.commit(checks=checks, use=None)
        return commit, None

    await until_committed(services, attempt)


async def fetch_writes(
    services: Services, call: Call, fetches: Sequence[tuple[SpaceId, Fetch]]
) -> tuple[tuple[Put, ...], tuple[Check, ...]]:
    """Return the rows to write for fetches, and conditions on those that exist (RC34).

    Each new row comes with its audit record.
    """
    keyed = {fetch_row_key(space, fetch): fetch for space, fetch in fetches}  # without duplicates
    rows = (await services.store.read([*keyed])).records
    puts: list[Put] = []
    checks: list[Check] = []
    for (key, fetch), row in zip(keyed.items(), rows, strict=True):
        if row is not None and has_value(row):
            checks.append(Check(key, row.stamp))
            continue
        puts.append(fetch_put(key, fetch, row))
        puts.append(
            call.audit(
                services,
                "copy.fetched",
                f"{fetch.space}/kv/{fetch.path}",
                canonical_bytes(
                    {"reader": fetch.reader, "version": fetch.version, "etag": fetch.etag}
                ),
                at=fetch.at,
            )
        )
    return tuple(puts), tuple(checks)


async def reader_of(
    services: Services,
    call: Call,
    space: SpaceId,
    path: str,
    comparisons: Comparisons | None = None,
) -> str | None:
    """Return the DID that a read of a value is recorded for, or None for the owner in person.

    It is the member of a membership that the read depends on, or the recipient of the grant that
    the owner made, or that a sign-in of the owner made. So a person has one name, whatever keys the
    person's sessions have. Only grants that support the read count. If rights of several persons
    do, or it takes too many comparisons, it is the key that called.

    Args:
        services: of this process.
        call: the authorised call that reads the value.
        space: of the value.
        path: of the value.
        comparisons: shared with the other values of the call; None: as many as for one token.
    """
    authority = await decide_owner_authority(services, call, space.owner)
    if authority.in_person is not None:
        return None
    facts = authority.facts
    value = SpaceResource(space, "kv", path=path)

    def name(link: Registered, recipient_below: Principal | None) -> Principal | None:
        is_named = is_membership(link.delegation)
        # The nearest statement of the owner comes first, so a session of the owner that granted
        # further is not named.
        if is_named or owner_statement_sessions(facts, link) is not None:
            return link.delegation.delegate
        return None

    used = [
        capability
        for capability in call.authority.dependent
        if satisfies(capability.ability, KV_GET) and extends(value, capability.resource)
    ]
    try:
        readers = persons_of(used, call.cited, SupportingPaths(facts.links, comparisons), name)
    except SupportUnknown:
        return call.invocation.invoker
    return next(iter(readers)) if len(readers) == 1 else call.invocation.invoker
