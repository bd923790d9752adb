"""Bounds on kept delegations and their bytes, by signer and by client address, and when a delegation is removed.

Each registration counts in its signer's counter, inside the commit, and its bytes are charged to the signer and to the
address it came from (`delegations.registration_puts`). A signer who hosts no space here may keep less, and addresses
are charged separately for such signers: they cannot use up the allowance of others at the same address (D12).

An expired delegation is removed 30 days later with every row that its registration wrote, including its mark: its own
expiry forbids that it is registered again, revoked or not, so nothing comes back. One that never expires stays.

The index `E` is in the order of the closure's expiry. Where the delegation itself expires later than its closure, it
is indexed again under its own expiry: until then it could be posted again, and its mark has to be there.

Example:
    keys = kept_keys(signer, client)
    kept = kept_of(keys, (await store.read(keys)).records, hosts_now=False)
    puts = registration_puts(..., client_account=kept.client_account)
    commit = Commit(puts=tuple(puts), adds=kept.adds(bounds, size_bytes=charged_bytes(puts)))
    removal = plan_removal(key, stored, record, now=now)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from capabilities.chain import Registered
from capabilities.principals import Principal

from ..errors import TooManyDelegations
from ..keyspace import (
    EXPIRY_PREFIX,
    client_bytes_counter,
    delegation_key,
    expiry_key,
    kept_bytes_counter,
    kept_counter,
    micros8,
    newest8,
    owner_counter,
    x16,
)
from ..store.contract import Add, Commit, Put, Record, counter_of
from .delegations import registration_puts, row_bytes
from .sessions import session_row_key

KEPT_AFTER_EXPIRY_S: Final = 30 * 86_400
_OF_SIGNER: Final = "bytes of delegations of this signer"
_OF_ADDRESS: Final = "bytes of delegations from this address"


@dataclass(frozen=True, slots=True)
class KeptBounds:
    """How much may be kept; None: no bound."""

    count: int | None = None
    signer_bytes: int | None = None
    client_bytes: int | None = None


def kept_keys(signer: Principal, client: str | None) -> tuple[bytes, ...]:
    """Return the rows to read for `kept_of`."""
    signer16 = x16(signer)
    keys = (kept_counter(signer16), kept_bytes_counter(signer16), owner_counter(signer16))
    if client is None:
        return keys
    client16 = x16(client)
    return (*keys, *[client_bytes_counter(client16, hosts=hosts) for hosts in (False, True)])


class Kept(Struct, frozen=True, gc=False):
    """What is kept of a signer and from a client address, as it was read: keys of counters, and their values."""

    count: tuple[bytes, int]
    signer_bytes: tuple[bytes, int]
    client_bytes: tuple[bytes, int] | None
    hosts: bool

    @property
    def is_first(self) -> bool:
        """Nothing is kept of the signer yet."""
        return self.count[1] == 0

    @property
    def client_account(self) -> bytes | None:
        """The counter that is charged for the address."""
        return None if self.client_bytes is None else self.client_bytes[0]

    def adds(self, bounds: KeptBounds, *, size_bytes: int) -> tuple[Add, ...]:
        """Count one more delegation, within the bounds; its bytes are charged with its rows."""
        _require_room(self.count, 1, bounds.count, "delegations of this signer")
        adds = [Add(self.count[0], 1, at_most=bounds.count)]
        adds += _bound_bytes(self.signer_bytes, size_bytes, bounds.signer_bytes, _OF_SIGNER)
        if self.client_bytes is not None:
            adds += _bound_bytes(self.client_bytes, size_bytes, bounds.client_bytes, _OF_ADDRESS)
        return tuple(adds)

    def charge(self, alias: Put, bounds: KeptBounds) -> tuple[Put, tuple[Add, ...]]:
        """Charge the row of one more cid to the address it came from, or to the signer where that is not counted."""
        counter, limit, what = self.signer_bytes, bounds.signer_bytes, _OF_SIGNER
        if self.client_bytes is not None:
            counter, limit, what = self.client_bytes, bounds.client_bytes, _OF_ADDRESS
        size_bytes = row_bytes((alias,))
        adds = _bound_bytes(counter, size_bytes, limit, what)
        return replace(alias, weight_bytes=size_bytes, account=counter[0]), tuple(adds)


def _bound_bytes(counter: tuple[bytes, int], size_bytes: int, limit: int | None, what: str) -> list[Add]:
    """Return the condition under which rows that charge a counter stay within its limit."""
    _require_room(counter, size_bytes, limit, what)
    return [] if limit is None else [Add(counter[0], 0, at_most=limit)]


def _require_room(counter: tuple[bytes, int], more: int, limit: int | None, what: str) -> None:
    if limit is not None and counter[1] + more > limit:
        raise TooManyDelegations(limit=limit, what=what)


def kept_of(keys: Sequence[bytes], records: Sequence[Record | None], *, hosts_now: bool) -> Kept:
    """Decode the records under `kept_keys`."""
    said = [counter_of(record) for record in records]
    hosts = hosts_now or said[2] > 0
    client = None if len(keys) == 3 else 3 + hosts
    client_bytes = None if client is None else (keys[client], said[client])
    return Kept((keys[0], said[0]), (keys[1], said[1]), client_bytes, hosts)


def plan_removal(due: bytes, stored: Registered | None, record: Record | None, *, now: float) -> Commit:
    """Return what to do with a delegation that the index says has expired."""
    own_end = None if stored is None else stored.delegation.expires_at
    if stored is None or record is None or own_end is None:
        return Commit(puts=(Put(due, None),))
    delegation = stored.delegation
    if micros8(own_end) > swept_until(now):
        later = expiry_key(micros8(own_end), newest8(stored.registered_at), delegation.content_key)
        return Commit(puts=(Put(due, None), Put(later, delegation.content_key)))
    whole = delegation_key(delegation.content_key)
    keys = {due, *[put.key for put in registration_puts(stored)]} - {whole}
    if delegation.form == "cacao":
        keys.add(session_row_key(delegation))  # an earlier version wrote the row; by today's rules it may be no session
    puts = (Put(whole, None, expect=record.stamp), *[Put(key, None) for key in sorted(keys)])
    return Commit(puts=puts, adds=(Add(kept_counter(x16(delegation.delegator)), -1),))


def swept_until(now: float) -> bytes:
    """The latest expiry whose delegations may be removed now, in the form it has in the index."""
    return micros8(now - KEPT_AFTER_EXPIRY_S)


INDEX: Final = EXPIRY_PREFIX
