"""Storage limits for delegations, and removal of expired delegations.

Each registration increments its signer's counter, inside the commit. Its bytes are charged to the
signer and to the address it came from (`delegations.registration_puts`). A signer who hosts no
space here may store less, and addresses are charged separately for such signers: they cannot use up
the allowance of others at the same address (D12).

An expired delegation is removed 30 days later with every row that its registration wrote, including
its revocation marker. A machine token that the node made for a job is removed an hour after its
expiry (OX9). Because a delegation has expired, it cannot be registered again, revoked or not. A
delegation that never expires stays.

The index `E` is in the order of the closure's expiry. If the delegation itself expires later than
its closure, it is indexed again under its own expiry: until then it could be registered again, so
its revocation marker has to stay.

Example:
    keys = delegation_usage_keys(signer, client)
    records = (await store.read(keys)).records
    kept = delegation_usage(keys, records, hosts_now=False, hosting=bounds, others=bounds)
    puts = registration_puts(..., client_account=kept.client_account)
    commit = Commit(puts=tuple(puts), adds=kept.adds(puts[0].weight_bytes))
    removal = plan_removal(key, stored, record, now=now)
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from capabilities.chain import Registered
from capabilities.machine_tokens import issuing_owner
from capabilities.principals import Principal

from ..keyspace import (
    EXPIRY_PREFIX,
    client_bytes_counter,
    delegation_bytes_counter,
    delegation_key,
    delegations_counter,
    micros8,
    owner_counter,
    x16,
)
from ..space_errors import DelegationTooLarge, TooManyDelegations
from ..store.contract import Add, Commit, Put, Record, counter_of
from .delegations import (
    KEPT_AFTER_EXPIRY_S,
    expiry_index_key,
    registration_puts,
    row_bytes,
)
from .sessions import session_row_key

MAX_UNHOSTED_HEADER_BYTES = 96 * 1024
"""Largest delegation of a signer who hosts no space here. A sign-in for 64 values with five
abilities each, and names of 128 characters, has 66,400 bytes."""
_EXPIRY_AT = slice(len(EXPIRY_PREFIX), len(EXPIRY_PREFIX) + 8)
"""Where the time is in a key of the expiry index."""


class DelegationLimits(NamedTuple):
    """The limits on stored delegations.

    A limit of 0 means unlimited.
    """

    delegations: int
    signer_bytes: int
    client_bytes: int
    header_bytes: int = 0


def delegation_usage_keys(signer: Principal, client: str | None) -> tuple[bytes, ...]:
    """Return the database keys of a signer's delegation counters.

    The counters for the signer's spaces and for the client address are included. `delegation_usage`
    decodes the records under these keys.
    """
    signer16 = x16(signer)
    keys = (
        delegations_counter(signer16),
        delegation_bytes_counter(signer16),
        owner_counter(signer16),
    )
    if client is None:
        return keys
    client16 = x16(client)
    return (
        *keys,
        client_bytes_counter(client16, hosts=False),
        client_bytes_counter(client16, hosts=True),
    )


class _Counter(NamedTuple):
    key: bytes
    value: int
    limit: int
    what: str

    def bound(self, more: int) -> tuple[Add, ...]:
        """Return a commit condition that keeps a counter within its limit.

        The tuple is empty if the counter is unlimited.

        Raises TooManyDelegations if adding `more` would already exceed the limit.
        """
        if not self.limit:
            return ()
        if self.value + more > self.limit:
            raise TooManyDelegations(f"the limit of {self.limit} {self.what} is reached")
        # This adds nothing, but refuses the commit if its other parts bring the counter over the
        # limit. The counter may have grown since it was read.
        return (Add(self.key, 0, at_most=self.limit),)


class DelegationUsage(NamedTuple):
    """The number and size of a signer's stored delegations.

    `client_bytes` is the size of the delegations that came from the client address.
    """

    delegations: _Counter
    signer_bytes: _Counter
    client_bytes: _Counter | None
    most_header_bytes: int

    def check_header(self, header: str) -> None:
        """Check the size of a new delegation (D12).

        Raises:
            DelegationTooLarge: it is larger than this signer may store.
        """
        if self.most_header_bytes and len(header) > self.most_header_bytes:
            raise DelegationTooLarge(
                f"a delegation whose signer hosts no space here has at most"
                f" {self.most_header_bytes} bytes; this one has {len(header)}; next: grant"
                " fewer resources in one delegation, or host a space at this node first"
            )

    @property
    def client_account(self) -> bytes | None:
        """The key of the counter for bytes stored by the client address.

        None if no address is known.
        """
        return None if self.client_bytes is None else self.client_bytes.key

    def adds(self, size_bytes: int) -> tuple[Add, ...]:
        """Return the counter updates for registering a delegation.

        They include the checks of the limits. The rows of the delegation add its bytes to the
        counters (`registration_puts`).
        """
        from_address: tuple[Add, ...] = ()
        if self.client_bytes is not None:
            from_address = self.client_bytes.bound(size_bytes)
        return (
            Add(self.delegations.key, 1),
            *self.delegations.bound(1),
            *self.signer_bytes.bound(size_bytes),
            *from_address,
        )

    def charge(self, alias: Put) -> tuple[Put, tuple[Add, ...]]:
        """Count the row for a delegation's additional CID towards a storage limit.

        The limit is that of the client address or, if no address is known, of the signer.

        Returns the row with its counter, and the commit condition that enforces the limit.
        """
        counter = self.signer_bytes if self.client_bytes is None else self.client_bytes
        size_bytes = row_bytes((alias,))
        charged = replace(alias, weight_bytes=size_bytes, account=counter.key)
        return charged, counter.bound(size_bytes)


def delegation_usage(
    keys: Sequence[bytes],
    records: Sequence[Record | None],
    *,
    hosts_now: bool,
    hosting: DelegationLimits,
    others: DelegationLimits,
) -> DelegationUsage:
    """Decode the number and size of a signer's stored delegations.

    `records` are counters that were read under `keys`, which `delegation_usage_keys` returned.
    `others` has the limits for signers who host no space here.
    """
    values = dict(zip(keys, map(counter_of, records), strict=True))
    # the order of `delegation_usage_keys`; without a client address, the last two are missing
    delegations_key, signer_bytes_key, spaces_key, *client_keys = keys
    hosts = hosts_now or values[spaces_key] > 0
    limits = hosting if hosts else others
    client_bytes = None
    if client_keys:
        key_of_others, key_of_hosts = client_keys
        client_key = key_of_hosts if hosts else key_of_others
        client_bytes = _Counter(
            key=client_key,
            value=values[client_key],
            limit=limits.client_bytes,
            what="bytes of delegations from this address",
        )
    return DelegationUsage(
        delegations=_Counter(
            key=delegations_key,
            value=values[delegations_key],
            limit=limits.delegations,
            what="delegations of this signer",
        ),
        signer_bytes=_Counter(
            key=signer_bytes_key,
            value=values[signer_bytes_key],
            limit=limits.signer_bytes,
            what="bytes of delegations of this signer",
        ),
        client_bytes=client_bytes,
        most_header_bytes=limits.header_bytes,
    )


def plan_removal(
    due_key: bytes, stored: Registered | None, record: Record | None, *, now: float
) -> Commit:
    """Return the database writes that remove an expired delegation.

    `due` is the key of its row in the expiry index. If the delegation itself expires later than its
    closure, it is not removed, but indexed again under its own expiry.
    """
    own_end = None if stored is None else stored.delegation.expires_at
    if stored is None or record is None or own_end is None:
        # The delegation was removed before, or never expires itself and stays.
        return Commit(puts=(Put(due_key, None),))
    delegation = stored.delegation
    later = expiry_index_key(stored, own_end)
    if later[_EXPIRY_AT] > removal_cutoff(now):  # until then it could be registered again
        return Commit(puts=(Put(due_key, None), Put(later, delegation.content_key)))
    delegation_row_key = delegation_key(delegation.content_key)
    keys = {due_key, *[put.key for put in registration_puts(stored)]}
    keys.discard(delegation_row_key)  # removed below, on condition that it is unchanged
    if delegation.form == "cacao":
        # an earlier version wrote this row for delegations that are no sessions today
        keys.add(session_row_key(delegation))
    puts = (
        Put(delegation_row_key, None, expect=record.stamp),
        *[Put(key, None) for key in sorted(keys)],
    )
    # The counters of bytes need no update: the removed rows were charged to them.
    return Commit(puts=puts, adds=(Add(delegations_counter(x16(issuing_owner(delegation))), -1),))


def removal_cutoff(now: float) -> bytes:
    """Return the time 30 days before `now`, encoded in 8 bytes.

    Delegations that had expired by then are removed. The encoding is that of the expiry index.
    """
    return micros8(now - KEPT_AFTER_EXPIRY_S)
