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
from spaces.root_secret_row import NextSecret, RootSecretRow, read_root_secret, root_secret_put
from spaces.space_errors import RecordDamaged, StoreBusy, StoreFull
from spaces.store.contract import (
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


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """A replacement of a root secret, as the operator wants it.

    Attributes:
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
                those of the replacement that was begun.
            StoreMisused: a node is running, or the options are not those of the replacement that
                was begun.
            SecretReplaced, WrongSecret: the offered secret is not the present one.
            StoreBusy: another process replaces the secret.
            RecordDamaged, RecordError, SpaceError: the store cannot be read or written.
        """
        row, stored = await self._recorded()
        if row.next is None and row.check_value == self.new.check_value:
            return await self._finished_before(row)
        lease = await self._take_lease()
        try:
            return await self._replace(row, stored)
        finally:
            if lease is not None:
                await lease.release()

    async def _replace(self, row: RootSecretRow, stored: Record) -> Rotated:
        if row.next is None:
            row, stored = await self._begin(row, stored)
        former = self._former(row)
        successor = self._successor(row)
        done = Rotated(
            number=row.number + 1,
            node_did=successor.node_did,
            former_node_did=former.node_did,
        )
        while await self._reseal_all(former, successor, stored, done):
            pass
        if done.node_did != done.former_node_did:
            done.heads = await resign_heads(self.store, await self._chain(successor))
        await self._finish(row, stored, done)
        return done

    async def _recorded(self) -> tuple[RootSecretRow, Record]:
        """Read which secret the store is sealed with; record it if no version has done so."""
        row, stored = await read_root_secret(self.store)
        if row is None:
            present = await opened_keyring(self.store, self.offered)
            if await recorded_identity(self.store) is None:
                raise StoreMisused(
                    "no node has used this store yet, so there is nothing to replace",
                    hint="start the node once: sealspace serve",
                )
            await record_root_secret(self.store, present, now=self.clock.now())
            row, stored = await read_root_secret(self.store)
        if row is None or stored is None:
            raise StoreFull("the store has no space to record its root secret")
        return row, stored

    async def _finished_before(self, row: RootSecretRow) -> Rotated:
        """Return the result of a replacement that an earlier call finished."""
        if row.former_of(self.offered.check_value) is None:
            raise SecretUnusable(
                "the new root secret is the present one",
                hint="name a file with another secret, or one that does not exist yet",
            )
        identity = await recorded_identity(self.store)
        node_did = "" if identity is None else identity.node_did
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

    async def _begin(self, row: RootSecretRow, stored: Record) -> tuple[RootSecretRow, Record]:
        """Name the successor, in one commit."""
        former = await opened_keyring(self.store, self.offered)
        reused = row.former_of(self.new.check_value)
        if reused is not None:
            raise SecretUnusable(
                f"the new root secret is number {reused.number} of this store, which was replaced"
                f" on {time_text(reused.replaced_at)}",
                hint="use a secret that this store has never had",
            )
        kept_keys = self.new.seal_kept_keys(
            former, self.entropy, keeps_identity=not self.new_identity
        )
        begun = row.replacing(
            NextSecret(
                check_value=self.new.check_value,
                begun_at=self.clock.now(),
                node_did=self.new.with_kept_keys(kept_keys).node_did,
                kept_keys=kept_keys,
            )
        )
        # It may use the last space of a full store, as a revocation may (ST17).
        commit = Commit(puts=(root_secret_put(begun, stored),), reserve="")
        if isinstance(await self.store.commit(commit), Refused):
            raise StoreBusy("another process is replacing the root secret")
        written, new_stored = await read_root_secret(self.store)
        if new_stored is None or written != begun:
            raise StoreBusy("another process is replacing the root secret")
        return written, new_stored

    def _former(self, row: RootSecretRow) -> Keyring:
        """Return the keys of the secret that is being replaced.

        The arguments have to be those of the replacement that was begun.
        """
        assert row.next is not None
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
        former = self.offered
        if row.kept_keys:
            former = self.offered.with_kept_keys(row.kept_keys)
        if (row.next.node_did != former.node_did) != self.new_identity:
            raise StoreMisused(
                "the replacement was begun "
                + ("without --new-identity" if self.new_identity else "with --new-identity"),
                hint="use the same options as the command that was interrupted",
            )
        return former

    def _successor(self, row: RootSecretRow) -> Keyring:
        assert row.next is not None
        return self.new.with_kept_keys(row.next.kept_keys)

    async def _reseal_all(
        self, former: Keyring, successor: Keyring, stored: Record, done: Rotated
    ) -> bool:
        """Seal the private keys of all networks again (RK5); return whether any was not yet."""
        before = done.networks
        done.damaged.clear()
        after: bytes | None = None
        while True:
            page = await read_page(
                self.store, Range(NETWORKS_PREFIX, after=after, limit=NETWORKS_AT_ONCE)
            )
            damaged: list[str] = []
            puts = self._resealed(page, former, successor, damaged)
            if puts and not await self._write(puts, stored):
                continue  # a network was changed, so the page is read again
            done.networks += len(puts)
            done.damaged += damaged
            self.progress(done.networks)
            if page.place is None:
                return done.networks > before
            after = page.place

    def _resealed(
        self, page: Page, former: Keyring, successor: Keyring, damaged: list[str]
    ) -> tuple[Put, ...]:
        """Return the rows of a page to write; names of damaged networks are added to a list."""
        puts: list[Put] = []
        for key, record in page.rows:
            network = decode_network(record.value or b"")
            try:
                new = resealed(network, former=former, new=successor, entropy=self.entropy)
            except RequestError:
                # Neither secret opens it, so it was lost before. It must not prevent the others
                # from being sealed again.
                damaged.append(network.network)
                continue
            if new is not None:
                puts.append(Put(key, encode_network(new), expect=record.stamp))
        return tuple(puts)

    async def _write(self, puts: tuple[Put, ...], stored: Record) -> bool:
        """Write rows that were sealed again; return False if one of them has changed."""
        unchanged = check_of(ROOT_SECRET_KEY, stored)
        commit = Commit(puts=puts, checks=(unchanged,), reserve="")
        if not isinstance(await self.store.commit(commit), Refused):
            return True
        _, now_stored = await read_root_secret(self.store)
        if now_stored is None or now_stored.stamp != stored.stamp:
            raise StoreBusy("another process has finished replacing the root secret")
        return False

    async def _chain(self, successor: Keyring) -> Chain:
        identity = await self._identity()
        return Chain(
            node_did=successor.node_did,
            store_id=identity.store_id,
            sign=successor.node_signer.sign,
        )

    async def _identity(self) -> Identity:
        identity = await recorded_identity(self.store)
        if identity is None:
            raise RecordDamaged("the store has no identity")
        return identity

    async def _finish(self, row: RootSecretRow, stored: Record, done: Rotated) -> None:
        """Make the successor the present secret, in one commit."""
        now = self.clock.now()
        identity = await self._identity()
        audit = AuditRecord(
            at=now,
            action=ROTATED,
            actor="operator",
            subject=done.node_did,
            detail=canonical_members({"number": done.number, "formerNode": done.former_node_did}),
        )
        renamed = Identity(node_did=done.node_did, store_id=identity.store_id)
        commit = Commit(
            puts=(
                root_secret_put(row.replaced(now), stored),
                Put(IDENTITY_KEY, identity_row(renamed)),
                audit.put(self.entropy),
            ),
            reserve="",
        )
        if isinstance(await self.store.commit(commit), Refused):
            raise StoreBusy("another process has finished replacing the root secret")
