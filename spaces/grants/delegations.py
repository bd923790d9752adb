"""The rows and indexes of registered delegations.

A delegation never changes; its revocation marker can (`revocations`), and is read for every answer.
A cid is an alias: a delegation can be encoded in several ways, each with its own cid, and all of
them lead to one content key. `delegation_cache` reads the delegations.

Rows of one registration: the delegation itself, its alias, its revocation marker, one row for each
of its two parties and each account whose rights it passes on, one for each space it names, one for
each account whose delegations its delegate may list, one for the sweep if it expires, one if it is
a session that the owner signed (`sessions`), and one if the node made it under a trust
(`exchanged`).

Example:
    registered = judge_registration(token, found, marks, now=now)
    commit = Commit(puts=(*registration_puts(registered), *plan.puts), live=marker_keys(...))
"""

from collections.abc import Sequence

from msgspec.structs import replace

from capabilities.abilities import DELEGATION_LIST, satisfies
from capabilities.capability_errors import CapabilityError
from capabilities.chain import Ancestor, Registered, mentioned_spaces
from capabilities.cids import ContentKey, Digest, cid_text
from capabilities.machine_tokens import issuing_owner
from capabilities.principals import Principal
from capabilities.resources import SpaceId, SpaceResource
from capabilities.tokens import Delegation, restore_delegation

from .._codec import Codec
from ..keyspace import (
    NEVER8,
    ROLE_FROM,
    ROLE_TO,
    alias_key,
    delegation_bytes_counter,
    delegation_key,
    expiry_key,
    marker_key,
    member_key,
    micros8,
    newest8,
    party_key,
    space_grant_key,
    space_id16,
    x16,
)
from ..space_errors import RecordDamaged, TooManySpaces
from ..store.contract import ABSENT, LIVE_MARK, Packed, Page, Put, Range, Record
from .exchanged import exchanged_puts, is_exchanged
from .sessions import session_puts

KEPT_AFTER_EXPIRY_S = 30 * 86_400
"""How long a delegation is kept after its expiry."""
EXCHANGED_KEPT_S = 3600
"""How long a machine token that the node made under a trust is kept after its expiry (OX9)."""
# ST6: with the rows of hosting and audit, 64 spaces stay below 256 puts.
MAX_SPACES = 64
# The size of a row besides key and value, rounded up: stamp, lengths, its entry in a page.
_ROW_COST_BYTES = 64
_PARTY_PREFIX_BYTES = 1 + 16 + 1
_NEWEST_BYTES = 8
_CONTENT_BYTES = 32


class _Row(Packed):
    header: str
    closure: list[bytes]
    not_before: float | None
    expires_at: float | None
    registered_at: float
    accounts: tuple[Principal, ...]
    parents: tuple[ContentKey, ...]


_CODEC = Codec(_Row)
_ANCESTOR_BYTES = 64


def registration_puts(
    registered: Registered,
    *,
    listing_accounts: Sequence[Principal] | None = None,
    client_account: bytes | None = None,
) -> list[Put]:
    """Return the write operations that register a delegation.

    The commit is refused if the delegation is registered already. `listing_accounts` are the
    accounts in whose lists it is filed. Without them the result has a row for every account above,
    as earlier versions wrote; it contains the keys of all rows that may exist.

    The size of all rows counts towards two limits. One row, which never changes, charges it to the
    signer, and comes first. Another one charges it to the client address.
    """
    delegation = registered.delegation
    content = delegation.content_key
    spaces = mentioned_spaces(delegation.capabilities)
    if len(spaces) > MAX_SPACES:
        raise TooManySpaces(
            f"a delegation may cover at most {MAX_SPACES} spaces; this delegation covers"
            f" {len(spaces)}"
        )
    row = _Row(
        header=delegation.header,
        closure=[member.content_key + member.cid for member in registered.closure],
        not_before=registered.not_before,
        expires_at=registered.expires_at,
        registered_at=registered.registered_at,
        accounts=registered.accounts,
        parents=registered.parents,
    )
    whole = Put(delegation_key(content), _CODEC.encode(row), expect=ABSENT)
    alias = alias_put(delegation.cid, content)
    marker = Put(marker_key(content), LIVE_MARK, expect=ABSENT)
    place = sort_key_of(delegation)
    received = Put(party_key(x16(delegation.delegate), ROLE_TO, place), content)
    if listing_accounts is None:
        listing_accounts = registered.accounts
    indexes = _index_puts(registered, listing_accounts, spaces, place)
    size_bytes = row_bytes([whole, alias, marker, received, *indexes])
    whole = replace(
        whole,
        weight_bytes=size_bytes,
        account=delegation_bytes_counter(x16(issuing_owner(delegation))),
    )
    if client_account is not None:
        received = replace(received, weight_bytes=size_bytes, account=client_account)
    return [whole, alias, marker, received, *indexes]


def _index_puts(
    registered: Registered,
    listing_accounts: Sequence[Principal],
    spaces: Sequence[SpaceId],
    place: bytes,
) -> list[Put]:
    """Return the index rows of a delegation, besides the one for its receiver.

    `place` is the sort key of the delegation.
    """
    delegation = registered.delegation
    content = delegation.content_key
    expiry8 = micros8(registered.expires_at, absent=NEVER8)
    registered8 = newest8(registered.registered_at)
    member16 = x16(delegation.delegate)
    puts = [
        Put(party_key(x16(signer), ROLE_FROM, place), content)
        for signer in dict.fromkeys((delegation.delegator, *listing_accounts))
    ]
    puts += [
        Put(space_grant_key(space_id16(space), registered8, content), content + expiry8)
        for space in spaces
    ]
    puts += [
        Put(member_key(x16(account), member16, content), content)
        for account in _listable_owners(delegation)
    ]
    if registered.expires_at is not None:
        puts.append(Put(expiry_index_key(registered, registered.expires_at), content))
    puts += exchanged_puts(registered)
    puts += session_puts(delegation, now=registered.registered_at)
    return puts


def expiry_index_key(registered: Registered, expires_at: float) -> bytes:
    """Return the key of a delegation's row in the index of what is to be removed.

    The sweep removes what is indexed under a time 30 days ago. A machine token that the node made
    under a trust is removed sooner (OX9), so it is indexed under an earlier time than its expiry.
    """
    swept_as = expires_at
    if is_exchanged(registered.delegation):
        swept_as -= KEPT_AFTER_EXPIRY_S - EXCHANGED_KEPT_S
    content = registered.delegation.content_key
    return expiry_key(micros8(swept_as), newest8(registered.registered_at), content)


def row_bytes(puts: Sequence[Put]) -> int:
    """Return the size of the rows in bytes, including overhead.

    Each row counts with the size of its key and value, and a fixed overhead.
    """
    return sum([len(put.key) + len(put.value or b"") for put in puts]) + _ROW_COST_BYTES * len(puts)


def sort_key_of(delegation: Delegation) -> bytes:
    """Return the sort key of a delegation.

    Delegations sort by their time of issue, latest first, and then by CID. A UCAN has no time of
    issue and comes after all delegations that have one.
    """
    return newest8(delegation.issued_at) + cid_text(delegation.cid).encode()


def _listable_owners(delegation: Delegation) -> tuple[Principal, ...]:
    """Return the owners whose delegations the delegate may list.

    The chain rules ensure that the right comes from the owner, through holders of the same right.
    """
    owners: dict[Principal, None] = {}
    for row in delegation.capabilities:
        resource = row.resource
        if (
            satisfies(row.ability, DELEGATION_LIST)
            and isinstance(resource, SpaceResource)
            and is_delegation_list(resource)
        ):
            owners[resource.space.owner] = None
    return tuple(owners)


def is_delegation_list(resource: SpaceResource) -> bool:
    """Return whether a resource is the delegation list of a space.

    Such a resource has the form `<space>/delegation`.
    """
    is_bare = resource.query is None and resource.fragment is None
    return resource.service == "delegation" and not resource.path and is_bare


def alias_put(cid: Digest, content: ContentKey) -> Put:
    """Return the write operation that maps a CID to a delegation.

    The row contains the delegation's content key. The operation may be repeated.
    """
    return Put(alias_key(cid), content)


def decode_delegation(record: Record | None) -> Registered | None:
    """Decode a stored delegation.

    Its signature was verified before it was stored.
    """
    row = _CODEC.read(record)
    if row is None:
        return None
    if not row.closure or any(len(member) != _ANCESTOR_BYTES for member in row.closure):
        raise RecordDamaged("the list of ancestors in a stored delegation is damaged")
    try:
        delegation = restore_delegation(row.header)
    except CapabilityError as exc:
        raise RecordDamaged("a stored delegation cannot be parsed") from exc
    closure = [
        Ancestor(ContentKey(member[:_CONTENT_BYTES]), Digest(member[_CONTENT_BYTES:]))
        for member in row.closure
    ]
    return Registered(
        delegation=delegation,
        closure=tuple(closure),
        not_before=row.not_before,
        expires_at=row.expires_at,
        parents=row.parents,
        registered_at=row.registered_at,
        accounts=row.accounts,
    )


def space_grants_range(space: SpaceId, *, after: bytes | None = None, limit: int = 1000) -> Range:
    """Return the range of database rows that list a space's delegations.

    The latest registered comes first. Decode the pages with `unexpired_of`.
    """
    return Range(space_grant_key(space_id16(space)), after=after, limit=limit)


def unexpired_of(page: Page, *, now: float) -> tuple[ContentKey, ...]:
    """Return the ids of the unexpired delegations in a page.

    An id is the delegation's content key. The page is from `space_grants_range`. A delegation
    expires with the earliest expiry in its closure.
    """
    now8 = micros8(now)
    # The value of a row is the content key, and then the expiry, encoded like `now8`.
    values = [record.value for _, record in page.rows if record.value]
    return tuple(
        [ContentKey(value[:_CONTENT_BYTES]) for value in values if value[_CONTENT_BYTES:] > now8]
    )


def party_range(
    principal: Principal, role: bytes, *, after: bytes | None = None, limit: int = 1000
) -> Range:
    """Return the range of database rows that list a principal's delegations.

    The range contains the delegations from the principal (ROLE_FROM) or to the principal (ROLE_TO).
    Rows are in the order of `sort_key_of`. `after` is the sort key after which the range begins.
    """
    prefix = party_key(x16(principal), role)
    start = None if after is None else prefix + after
    return Range(prefix, after=start, limit=limit)


def sort_key_at(key: bytes) -> bytes:
    """Extract a delegation's sort key from the key of an index row.

    The row is from `party_range`.
    """
    return key[_PARTY_PREFIX_BYTES:]


def cid_at(place: bytes) -> bytes:
    """Extract the CID from a delegation's sort key, as ASCII text.

    The sort key is from `sort_key_of`.
    """
    return place[_NEWEST_BYTES:]


def party_rows(page: Page) -> tuple[tuple[bytes, ContentKey], ...]:
    """Return the sort key and id of each delegation in a page.

    An id is the delegation's content key. The page is from `party_range`.
    """
    return tuple(
        [(sort_key_at(key), ContentKey(record.value)) for key, record in page.rows if record.value]
    )


def membership_range(account: Principal, member: Principal) -> Range:
    """Return the key range of a DID's permission to list an account's delegations.

    The range has a row if the DID `member` has this permission. It is limited to one row, because
    one delegation that grants the permission is enough.
    """
    return Range(member_key(x16(account), x16(member)), limit=1)


def contents_of(page: Page) -> tuple[ContentKey, ...]:
    """Return the ids of the delegations in a page.

    An id is the delegation's content key.
    """
    return tuple([ContentKey(record.value) for _, record in page.rows if record.value])
