"""Replacement of a store's root secret (RK4 to RK9).

The node is stopped meanwhile. Three steps become durable one after the other:

1. One commit names the successor. From then on no process starts on the store. A process that was
   not stopped stores nothing that is sealed, because each such commit requires the row unchanged.
2. The private keys of all networks are sealed under the new secret, page by page. Each row is
   written only if it is the one that was read. The pass is repeated until a whole pass finds
   nothing to do.
3. One commit makes the successor the present secret.

Each private key is always sealed by one of the two secrets. So an interrupted replacement can be
continued as long as both secrets exist.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from capabilities.clock_and_entropy import Clock, Entropy, time_text
from capabilities.frozen_struct import FrozenStruct
from encryption_network.canonical_json import canonical_members
from encryption_network.keyring import Keyring
from encryption_network.network_errors import RequestError
from encryption_network.networks import decode_network, encode_network, resealed
from sealspace.service.command_errors import SecretUnusable, StoreMisused
from spaces.audit.audit_chain import Chain
from spaces.audit.audit_heads import resign_heads
from spaces.audit.audit_records import AuditRecord
from spaces.identity import Identity, identity_row, recorded_identity
from spaces.keyspace import IDENTITY_KEY, NETWORKS_PREFIX, ROOT_SECRET_KEY
from spaces.lease import Lease
from spaces.root_secret_row import (
    NextSecret,
    RootSecretRow,
    StoredRootSecret,
    read_root_secret,
    root_secret_put,
)
from spaces.space_errors import RecordDamaged, StoreBusy, StoreFull
from spaces.store.contract import (
    REVOCATION_RESERVE,
    Commit,
    Page,
    Put,
    Range,
    Record,
    Refused,
    Store,
    check_of,
    read_page,
)
from spaces.store.observing import SharedStore

from .root_secrets import opened_keyring, record_root_secret

NETWORKS_AT_ONCE = 30
"""Networks in one commit. A row has at most 256 KiB, and a commit at most 8 MiB (ST6)."""
LEASE_S = 120.0
ROTATED = "root-secret.replaced"


@dataclass
class Rotated:
    """The result of a replacement.

    Attributes:
        number: of the present root secret.
        node_did: of the node, afterwards.
        former_node_did: of the node, before.
        networks: how many networks were sealed again by this call.
        heads: how many heads of the audit chain were signed again by this call.
        damaged: ids of the networks whose private key neither secret opens.
        was_finished: whether an earlier call had finished the replacement.
    """

    number: int
    node_did: str
    former_node_did: str
    networks: int = 0
    heads: int = 0
    damaged: list[str] = field(default_factory=list)
    was_finished: bool = False


class _ResealedPage(FrozenStruct):
    """The networks of a page, after they were sealed again.

    Attributes:
        puts: the rows to write; empty if all were sealed under the new secret already.
        damaged: ids of the networks whose private key neither secret opens.
    """

    puts: tuple[Put, ...]
    damaged: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """A replacement of a root secret, as the operator wants it.

    A replacement uses three keyrings. `offered` and `new` have the keys that are derived from one
    secret alone. Each of them becomes a complete keyring with the keys that were kept from former
    secrets: the former keyring, and that of the successor.

    Attributes:
        store: no node uses it.
        offered: derived from the present root secret alone.
        new: derived from the new root secret alone.
        new_identity: whether the node also gets a new identity.
        clock: for the times in the record.
        entropy: for nonces of seals.
        progress: called with the number of networks that were sealed again.
    """

    store: Store
    offered: Keyring
    new: Keyring
    new_identity: bool
    clock: Clock
    entropy: Entropy
    progress: Callable[[int], None]

    async def run(self) -> Rotated:
        """Replace the root secret, or continue a replacement.

        Raises:
            SecretUnusable: the new secret is the present or a former one, or the secrets are not
                those of the interrupted command.
            StoreMisused: a node is running, no node has used the store yet, or --new-identity
                differs from the interrupted command.
            SecretReplaced, WrongSecret: the offered secret is not the present one.
            StoreBusy: another process replaces the secret.
            RecordDamaged, RecordError, SpaceError: the store cannot be read or written.
        """
        stored = await self._read_or_record_root_secret()
        has_new_secret = stored.row.check_value == self.new.check_value
        is_already_finished = has_new_secret and stored.row.next is None
        if is_already_finished:
            return await self._result_of_earlier_call(stored.row)
        lease = await self._take_lease()
        try:
            return await self._replace(stored)
        finally:
            if lease is not None:
                await lease.release()

    async def _replace(self, stored: StoredRootSecret) -> Rotated:
        """Do the three steps of a replacement, without those that an earlier call has done."""
        if stored.row.next is None:
            stored = await self._begin(stored)
        row = stored.row
        self._check_same_secrets(row)
        former = self._former_keyring(row)
        self._check_same_identity(row, former)
        successor = self._successor_keyring(row)
        result = Rotated(
            number=row.number + 1,
            node_did=successor.node_did,
            former_node_did=former.node_did,
        )
        is_anything_left = True
        while is_anything_left:
            is_anything_left = await self._reseal_pass(former, successor, stored.record, result)
        if result.node_did != result.former_node_did:
            result.heads = await resign_heads(self.store, await self._successor_chain(successor))
        await self._finish(stored, result)
        return result

    async def _read_or_record_root_secret(self) -> StoredRootSecret:
        """Read the row of the root secret; write it first if no version has done so.

        Raises:
            StoreMisused: no node has used the store yet.
            StoreFull: the row is missing, and the store has no space for it.
        """
        stored = await read_root_secret(self.store)
        if stored is not None:
            return stored
        # This also checks that the offered secret is that of the store.
        present = await opened_keyring(self.store, self.offered)
        if await recorded_identity(self.store) is None:
            raise StoreMisused(
                "no node has used this store yet, so there is nothing to replace",
                hint="start the node once: sealspace serve",
            )
        await record_root_secret(self.store, present, now=self.clock.now())
        stored = await read_root_secret(self.store)
        if stored is None:
            raise StoreFull("the store has no space to record its root secret")
        return stored

    async def _result_of_earlier_call(self, row: RootSecretRow) -> Rotated:
        """Return the result of a replacement that an earlier call finished.

        Raises:
            SecretUnusable: the new secret is the present one, and the offered secret is not one
                that it replaced. So this is not a repeated command.
        """
        is_repeated_command = row.former_of(self.offered.check_value) is not None
        if not is_repeated_command:
            raise SecretUnusable(
                "the new root secret is the present one",
                hint="name a file with another secret, or one that does not exist yet",
            )
        identity = await recorded_identity(self.store)
        node_did = "" if identity is None else identity.node_did
        # This call changed no identity, so the DID is the same before and after it.
        return Rotated(
            number=row.number, node_did=node_did, former_node_did=node_did, was_finished=True
        )

    async def _take_lease(self) -> Lease | None:
        """Check that no node runs on a database (RK4).

        A running node has the lease of the background jobs. LMDB has a lock instead. The lease is
        taken under the new secret's check value, so that an interrupted command can go on at once.
        """
        if not isinstance(self.store, SharedStore):
            return None
        lease = Lease(self.store, owner=self.new.check_value[:16], ttl_s=LEASE_S)
        if not await lease.take(now=self.clock.now()):
            raise StoreMisused(
                "a node is running on the database",
                hint="stop every node on the database; after a node was killed, wait two minutes",
            )
        return lease

    async def _begin(self, stored: StoredRootSecret) -> StoredRootSecret:
        """Name the successor, in one commit; return the row as it is stored afterwards.

        Raises:
            SecretUnusable: the store had the new secret before.
            StoreBusy: another process replaces the secret.
        """
        former = await opened_keyring(self.store, self.offered)
        reused = stored.row.former_of(self.new.check_value)
        if reused is not None:
            raise SecretUnusable(
                f"the new root secret is number {reused.number} of this store, which was replaced"
                f" on {time_text(reused.replaced_at)}",
                hint="use a secret that this store has never had",
            )
        kept_keys = self.new.seal_kept_keys(
            former, self.entropy, keeps_identity=not self.new_identity
        )
        begun = stored.row.replacing(
            NextSecret(
                check_value=self.new.check_value,
                begun_at=self.clock.now(),
                node_did=self.new.with_kept_keys(kept_keys).node_did,
                kept_keys=kept_keys,
            )
        )
        # It may use the last space of a full store, as a revocation may (ST17).
        begun_put = root_secret_put(begun, former=stored)
        commit = Commit(puts=(begun_put,), reserve=REVOCATION_RESERVE)
        if isinstance(await self.store.commit(commit), Refused):
            raise StoreBusy("another process is replacing the root secret")
        written = await read_root_secret(self.store)
        if written is None or written.row != begun:
            raise StoreBusy("another process is replacing the root secret")
        return written

    def _check_same_secrets(self, row: RootSecretRow) -> None:
        """Check that both secrets are those of the replacement in the row.

        Raises:
            SecretUnusable: an interrupted command had another secret.
        """
        assert row.next is not None  # `_begin` named the successor
        if row.next.check_value != self.new.check_value:
            raise SecretUnusable(
                f"root secret number {row.number} is being replaced since"
                f" {time_text(row.next.begun_at)} by another new secret than this one",
                hint="name the new secret of the command that was interrupted",
            )
        if row.check_value != self.offered.check_value:
            raise SecretUnusable(
                f"to finish the replacement, root secret number {row.number} is needed, and the"
                " configured secret is another one",
                hint="set secret.file, secret.value or secret.platform_path as before",
            )

    def _former_keyring(self, row: RootSecretRow) -> Keyring:
        """Return the keys of the store with the secret that is being replaced."""
        if row.kept_keys:
            return self.offered.with_kept_keys(row.kept_keys)
        return self.offered  # the store's first secret: no key was kept from another one

    def _successor_keyring(self, row: RootSecretRow) -> Keyring:
        """Return the keys of the store with the new secret."""
        assert row.next is not None  # `_begin` named the successor
        return self.new.with_kept_keys(row.next.kept_keys)

    def _check_same_identity(self, row: RootSecretRow, former: Keyring) -> None:
        """Check that this command has --new-identity if the one that began the replacement had it.

        Raises:
            StoreMisused: only one of the two commands has it.
        """
        assert row.next is not None  # `_begin` named the successor
        # A new identity is a new DID.
        begun_with_new_identity = row.next.node_did != former.node_did
        if begun_with_new_identity == self.new_identity:
            return
        option = "with --new-identity" if begun_with_new_identity else "without --new-identity"
        raise StoreMisused(
            f"the replacement was begun {option}",
            hint="use the same options as the command that was interrupted",
        )

    async def _reseal_pass(
        self, former: Keyring, successor: Keyring, record: Record, result: Rotated
    ) -> bool:
        """Seal the private keys of all networks under the new secret, page by page (RK5).

        Args:
            former: the keys of the secret that is being replaced.
            successor: the keys of the new secret.
            record: the record of the root secret's row; each commit requires it unchanged.
            result: gets the number of networks and the damaged ones.
        Returns:
            Whether any private key was still sealed under the former secret.
        """
        count_before = result.networks
        result.damaged.clear()
        after: bytes | None = None
        while True:
            page = await read_page(
                self.store, Range(NETWORKS_PREFIX, after=after, limit=NETWORKS_AT_ONCE)
            )
            resealed_page = self._reseal_page(page, former, successor)
            puts = resealed_page.puts
            if puts and not await self._commit_resealed(puts, record):
                continue  # a network was changed, so the page is read again
            result.networks += len(puts)
            result.damaged += resealed_page.damaged
            self.progress(result.networks)
            if page.place is None:
                return result.networks > count_before
            after = page.place

    def _reseal_page(self, page: Page, former: Keyring, successor: Keyring) -> "_ResealedPage":
        """Seal the private keys of the networks in a page again, without writing them."""
        puts: list[Put] = []
        damaged: list[str] = []
        for key, record in page.rows:
            network = decode_network(record.value or b"")
            try:
                changed = resealed(network, former=former, new=successor, entropy=self.entropy)
            except RequestError:
                # Neither secret opens it, so it was lost before. It must not prevent the others
                # from being sealed again.
                damaged.append(network.network)
                continue
            if changed is not None:  # None: an earlier pass sealed it
                puts.append(Put(key, encode_network(changed), expect=record.stamp))
        return _ResealedPage(puts=tuple(puts), damaged=tuple(damaged))

    async def _commit_resealed(self, puts: tuple[Put, ...], record: Record) -> bool:
        """Write networks that were sealed again; return False if one of them has changed.

        Raises:
            StoreBusy: the root secret's row is not `record` any more.
        """
        same_root_secret = check_of(ROOT_SECRET_KEY, record)
        commit = Commit(puts=puts, checks=(same_root_secret,), reserve=REVOCATION_RESERVE)
        if not isinstance(await self.store.commit(commit), Refused):
            return True
        present = await read_root_secret(self.store)
        if present is None or present.record.stamp != record.stamp:
            raise StoreBusy("another process has finished replacing the root secret")
        return False

    async def _successor_chain(self, successor: Keyring) -> Chain:
        """Return the audit chain, which the node signs with its new identity."""
        identity = await self._identity()
        return Chain(
            node_did=successor.node_did,
            store_id=identity.store_id,
            sign=successor.node_signer.sign,
        )

    async def _identity(self) -> Identity:
        """Read the identity of the store; a missing one is damage."""
        identity = await recorded_identity(self.store)
        if identity is None:
            raise RecordDamaged("the store has no identity")
        return identity

    async def _finish(self, stored: StoredRootSecret, result: Rotated) -> None:
        """Make the successor the present secret, in one commit with the identity and the audit.

        Raises:
            StoreBusy: another process has finished the replacement.
        """
        now = self.clock.now()
        identity = await self._identity()
        audit = AuditRecord(
            at=now,
            action=ROTATED,
            actor="operator",
            subject=result.node_did,
            detail=canonical_members(
                {"number": result.number, "formerNode": result.former_node_did}
            ),
        )
        renamed = Identity(node_did=result.node_did, store_id=identity.store_id)
        commit = Commit(
            puts=(
                root_secret_put(stored.row.replaced(now), former=stored),
                Put(IDENTITY_KEY, identity_row(renamed)),
                audit.put(self.entropy),
            ),
            reserve=REVOCATION_RESERVE,
        )
        if isinstance(await self.store.commit(commit), Refused):
            raise StoreBusy("another process has finished replacing the root secret")
