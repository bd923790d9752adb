"""Checks of the rows of delegations.

A delegation needs each row that its registration wrote. It books one for each of them to an account
for that kind of index. Each index row subtracts one, so an orphaned index row leaves a negative
balance. Six deviations are accepted, because the node accepts them: aliases (`I`) of a delegation
that was removed, until they are swept; the revocation marker of a delegation that was revoked while
it was removed; a session (`t`) that today's rules would not index; a machine token whose row in `x`
was swept; a delegation without an expiry of its own whose row in `E` was swept; and rows (`P`) that
list a delegation for an account above it whose rights it does not use.

The signatures of delegations are not verified again.
"""

from collections.abc import Iterator
from contextlib import suppress

from capabilities.chain import Registered
from capabilities.cids import ContentKey
from capabilities.machine_tokens import issuing_owner
from capabilities.principals import Principal
from capabilities.support import SupportingPaths, SupportUnknown, listing_accounts

from ..grants.delegations import (
    decode_delegation,
    expiry_index_key,
    registration_puts,
    sort_key_of,
)
from ..grants.exchanged import exchanged_puts
from ..grants.revocations import revocation_of
from ..grants.sessions import session_row_key
from ..keyspace import (
    ALIASES_PREFIX,
    EXCHANGED_PREFIX,
    EXPIRY_PREFIX,
    ROLE_FROM,
    delegation_key,
    delegations_counter,
    expiry_key,
    micros8,
    newest8,
    party_key,
    x16,
)
from ..space_errors import RecordDamaged, TooManySpaces
from ..store.contract import LIVE_MARK, Record
from .accounting import AccountingEntry, GetRow, require

INDEXES = (b"P", b"M", b"X", b"E", b"t", EXCHANGED_PREFIX)
"""The prefixes of index rows, of which each belongs to a delegation."""
_MARKERS_PREFIX = b"L"
_CONTENT_BYTES = 32


def delegation_entries(key: bytes, record: Record, get_row: GetRow) -> Iterator[AccountingEntry]:
    """Check a delegation and its rows, and yield their share of each counter."""
    registered = decode_delegation(record)
    if registered is None:
        return
    delegation = registered.delegation
    yield delegations_counter(x16(issuing_owner(delegation))), 1
    require(
        key == delegation_key(delegation.content_key), "a delegation is stored under the wrong key"
    )
    expected_rows = _expected_rows(registered, get_row)
    wrong_prefixes = set()
    for row_key, value in expected_rows.items():
        prefix = row_key[:1]
        if not _has_value(get_row(row_key), value):
            wrong_prefixes.add(prefix)
        elif prefix in INDEXES:
            yield prefix, 1
    # An earlier version wrote this row for delegations that are no sessions by today's rules.
    session_key = session_row_key(delegation)
    if session_key not in expected_rows and get_row(session_key) is not None:
        yield session_key[:1], 1
    for put in exchanged_puts(registered):  # absent after the token's end
        if get_row(put.key) is not None:
            yield EXCHANGED_PREFIX, 1
    expiry_row_count = _count_expiry_rows(registered, get_row)
    yield EXPIRY_PREFIX, expiry_row_count
    # Without an expiry of its own, a delegation stays after its row in this index was swept.
    if expiry_row_count == 0 and delegation.expires_at is not None:
        wrong_prefixes.add(EXPIRY_PREFIX)
    prefixes = ", ".join(sorted(prefix.decode() for prefix in wrong_prefixes))
    require(not wrong_prefixes, f"rows of a delegation are missing or wrong: {prefixes}")


def _registration_rows(registered: Registered) -> dict[bytes, bytes | None]:
    """Return the rows that the registration of a delegation wrote besides the delegation itself.

    Returns the values by key. The value is None for the revocation marker, which changes. Rows of
    the expiry index are left out, because they can be under another key. Rows that count machine
    tokens under a trust are left out too, because they are removed when the token ends.
    """
    try:
        puts = registration_puts(registered)[1:]
    except TooManySpaces as exc:
        raise RecordDamaged("a delegation names more spaces than are allowed") from exc
    rows: dict[bytes, bytes | None] = {}
    for put in puts:
        if put.key[:1] == _MARKERS_PREFIX:
            rows[put.key] = None
        elif put.key[:1] not in (EXPIRY_PREFIX, EXCHANGED_PREFIX):
            rows[put.key] = put.value
    return rows


def _expected_rows(registered: Registered, get_row: GetRow) -> dict[bytes, bytes | None]:
    """Return the rows of `_registration_rows` without those that may be absent, and are."""
    rows = _registration_rows(registered)
    for optional_key in _optional_listing_keys(registered, get_row):
        row = get_row(optional_key)
        if row is None or row.value is None:
            rows.pop(optional_key, None)
    return rows


def _optional_listing_keys(registered: Registered, get_row: GetRow) -> set[bytes]:
    """Return the keys of the rows that list a delegation for accounts which do not support it.

    Earlier versions wrote these rows, and the account's owner may have removed them. If a
    delegation above was removed, it is not known which accounts support this one.
    """
    delegation = registered.delegation
    other_accounts = set(registered.accounts) - {delegation.delegator}
    if not other_accounts:  # nearly every delegation
        return set()
    links: dict[ContentKey, Registered] = {}
    for member in registered.closure[1:]:  # the first is the delegation itself
        ancestor = decode_delegation(get_row(delegation_key(member.content_key)))
        if ancestor is not None:
            links[member.content_key] = ancestor
    supporting: set[Principal] = set()
    with suppress(SupportUnknown):
        supporting.update(listing_accounts(registered, SupportingPaths(links)))
    place = sort_key_of(delegation)
    return {party_key(x16(account), ROLE_FROM, place) for account in other_accounts - supporting}


def _has_value(row: Record | None, value: bytes | None) -> bool:
    """Return whether a row exists and has a value; None stands for any value."""
    if row is None or row.value is None:
        return False
    return value is None or row.value == value


def _count_expiry_rows(registered: Registered, get_row: GetRow) -> int:
    """Return how many rows of the expiry index a delegation has.

    A delegation is indexed by the expiry of its closure, or by its own (`grants.retention`). An
    earlier version indexed machine tokens that a node made under a trust like other delegations.
    """
    delegation = registered.delegation
    keys = set()
    for expires_at in (registered.expires_at, delegation.expires_at):
        if expires_at is not None:
            keys.add(expiry_index_key(registered, expires_at))
            registered8 = newest8(registered.registered_at)
            keys.add(expiry_key(micros8(expires_at), registered8, delegation.content_key))
    count = 0
    for key in keys:
        row = get_row(key)
        if row is not None and row.value == delegation.content_key:
            count += 1
    return count


def index_entries(key: bytes, record: Record, get_row: GetRow) -> Iterator[AccountingEntry]:
    """Check a delegation's index row, and yield the amount that it adds to a counter.

    The row must refer to a stored delegation. Its entry is -1. The delegation adds 1 for each
    of its index rows, so the total of an index is 0 if no row is orphaned. An alias is only checked
    for its length.
    """
    value = record.value or b""
    prefix = key[:1]
    expected_bytes = _CONTENT_BYTES
    if prefix == b"X":  # the expiry follows
        expected_bytes += 8
    require(len(value) == expected_bytes, "a row has the wrong length for its type")
    if prefix == ALIASES_PREFIX:
        require(len(key) == 1 + _CONTENT_BYTES, "a key has the wrong length for its type")
        return
    delegation = get_row(delegation_key(value[:_CONTENT_BYTES]))
    require(delegation is not None, "an index row refers to a missing delegation")
    yield prefix, -1


def check_marker(key: bytes, record: Record, get_row: GetRow) -> None:
    """Check the revocation marker of a delegation.

    A `live` marker requires a stored delegation.
    """
    revocation_of(record)  # raises if the marker cannot be decoded
    if record.value == LIVE_MARK:
        delegation = get_row(delegation_key(key[1:]))
        require(
            delegation is not None, "a delegation is marked as live, but the delegation is missing"
        )
