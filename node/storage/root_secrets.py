"""The keys of a store, from its root secret and the record of kept keys.

Every process and command that uses the root secret gets its keys here. A secret that is not the
present one is refused, with an error that says which one it is (RK2).
"""

from capabilities.clock_and_entropy import time_text
from encryption_network.keyring import Keyring
from spaces.identity import recorded_identity
from spaces.keyspace import ROOT_SECRET_KEY
from spaces.root_secret_row import RootSecretRow, read_root_secret, root_secret_put
from spaces.space_errors import RotationUnfinished, SecretReplaced, StoreFull, WrongSecret
from spaces.store.contract import REVOCATION_RESERVE, Check, Commit, Store


async def opened_keyring(store: Store, offered: Keyring) -> Keyring:
    """Return the keys of a store.

    Args:
        store: new, or written by any version.
        offered: the keys that are derived from the configured root secret alone.

    Returns:
        The same keyring, or one that also has the keys that were kept from former secrets (RK3).

    Raises:
        SecretReplaced: the secret is a former one.
        RotationUnfinished: the store's root secret is being replaced.
        WrongSecret: the secret belongs to another store.
        RecordError, RecordDamaged: the record of kept keys cannot be opened.
        SpaceError: the store does not answer.
    """
    stored = await read_root_secret(store)
    if stored is None:
        # Nothing was replaced, so the node's DID is derived from the secret itself.
        await _check_node_did(store, offered)
        return offered
    row = stored.row
    is_present = offered.check_value == row.check_value
    if row.next is not None:
        is_successor = offered.check_value == row.next.check_value
        if is_present or is_successor:
            raise RotationUnfinished(number=row.number, begun_on=time_text(row.next.begun_at))
    if not is_present:
        raise await _error_for_other_secret(store, row, offered)
    if row.kept_keys:
        return offered.with_kept_keys(row.kept_keys)
    return offered


async def _error_for_other_secret(
    store: Store, row: RootSecretRow, offered: Keyring
) -> SecretReplaced | WrongSecret:
    """Return the error for a root secret that is not the present one: a former or a foreign one."""
    former = row.former_of(offered.check_value)
    if former is not None:
        return SecretReplaced(
            number=former.number,
            replaced_on=time_text(former.replaced_at),
            present=row.number,
        )
    identity = await recorded_identity(store)
    recorded = "another node" if identity is None else identity.node_did
    return WrongSecret(recorded=recorded, offered=offered.node_did)


async def _check_node_did(store: Store, offered: Keyring) -> None:
    """Check that the store is new, or belongs to the node whose DID the secret gives.

    Raises:
        WrongSecret: it belongs to another node.
    """
    identity = await recorded_identity(store)
    if identity is not None and identity.node_did != offered.node_did:
        raise WrongSecret(recorded=identity.node_did, offered=offered.node_did)


async def record_root_secret(store: Store, keyring: Keyring, *, now: float) -> Check | None:
    """Record the store's root secret, unless it is recorded (RK1).

    Args:
        store: belongs to the node of the keyring.
        keyring: as `opened_keyring` returned it.
        now: epoch seconds.

    Returns:
        The condition of every commit that stores something sealed (RK4). None if the store is too
        full to record the secret.

    Raises:
        RotationUnfinished: the secret is being replaced.
        SecretReplaced: the secret was replaced meanwhile.
        WrongSecret: another process recorded another secret first.
        SpaceError: the store does not answer.
    """
    stored = await read_root_secret(store)
    if stored is None:
        first = RootSecretRow(number=1, check_value=keyring.check_value, since=now)
        first_put = root_secret_put(first, former=None)
        try:
            # The commit may use the last space of a full store, as a revocation may (ST17).
            await store.commit(Commit(puts=(first_put,), reserve=REVOCATION_RESERVE))
        except StoreFull:
            return None
        # The commit is refused if another process has written the row first.
        stored = await read_root_secret(store)
    assert stored is not None  # one of the processes wrote the row, and it is never removed
    row = stored.row
    if row.next is not None:
        raise RotationUnfinished(number=row.number, begun_on=time_text(row.next.begun_at))
    if row.check_value != keyring.check_value:
        raise await _error_for_other_secret(store, row, keyring)
    return Check(ROOT_SECRET_KEY, stored.record.stamp)
