"""The answer to the question: who can read this secret?

The answer names everybody who can obtain the value, and by what: the owner's sessions, machine
tokens and CI jobs, backends and runners with the code that the owner approved, people with copies,
recipients of grants and those to whom they passed them on, and the operator of a node outside a
TEE. It also names those who can replace the secret. What could not be fetched is said, and the
answer is then incomplete.

Example:
    await client.secrets().put("API_KEY", "open sesame")
    access = await client.access.of("API_KEY")
    for reader in access.readers:
        print(reader.kind, reader.did, reader.state)
"""

from collections.abc import Awaitable, Mapping
from typing import NamedTuple, TypeVar

from capabilities.abilities import KV_GET
from capabilities.resources import NetworkId, Resource
from encryption_network.envelope import InlineEnvelope

from ..apps.attestation import fetch_terms
from ..delegations import Delegations
from ..documents.secret_names import (
    SECRETS_SPACE,
    SHARED_PREFIX,
    SecretName,
    SharedFolder,
    parse_secret_name,
    shared_folder_at,
)
from ..encryption import Encryption
from ..errors import SealspaceError
from ..kv import Kv
from ..receipts import Receipts
from ..secrets import Secrets
from ..session import space_capability, space_of
from ..wire.caller import Caller
from ..wire.delegation_history import LIVE, MAX_PAGE_ITEMS, DelegationRecord, writers_of
from ..wire.team_session import member_of_session
from .read_credits import ReadCredits
from .readers import Facts, Reader, readers_of

_T = TypeVar("_T")
MOST_GRANTS = 10_000
"""Most live grants that are read; with more, the answer is incomplete."""

MOST_TOKEN_CHARS = 64 << 20
"""Most characters of their tokens together, which are all in memory. A token that a recipient makes
may have 384 KiB."""

READS_S = 30 * 86_400.0
"""How far back the last read is searched, seconds."""

MOST_RELEASES = 5_000
"""Most receipts that are read for the times of the last reads."""


class SecretAccess(NamedTuple):
    """Who can read and replace a secret.

    Attributes:
        secret: label of the secret, `NAME` or `scope/NAME`.
        network: the network that it is sealed to.
        readers: everybody who can obtain its value, the owner first.
        writers: the grants with which others can replace it; see `writers_of`.
        missing: descriptions of what could not be fetched or read; empty if the answer is complete.
    """

    secret: str
    network: NetworkId
    readers: tuple[Reader, ...]
    writers: tuple[DelegationRecord, ...]
    missing: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the node answered everything that was asked.

        A grant that nobody has registered with the node yet, and what a reader did with a value,
        are never known.
        """
        return not self.missing


class _LiveRecords(NamedTuple):
    """The live grants that a node lists; `is_cut` if there are too many for one answer."""

    records: list[DelegationRecord]
    is_cut: bool


class Access:
    """A client that finds out who can read a secret.

    Use `Client.access` to get an instance. The session has to act for the owner.

    Args:
        caller: sends requests with the session's authority.
        encryption: the encryption service of the same client.
    """

    def __init__(self, caller: Caller, encryption: Encryption) -> None:
        self._caller = caller
        self._encryption = encryption
        self._delegations = Delegations(caller)

    async def of(self, name: str, *, scope: str | None = None) -> SecretAccess:
        """Return who can read and replace one of the owner's secrets.

        Args:
            name: name of the secret.
            scope: None: a global secret.
        Raises:
            InvalidInput: the name or the scope is not valid.
            NotFound: there is no such secret.
            SealspaceError: the same errors as `Secrets.envelope`.
        Does not check:
            Withdrawals of trust, which only narrow the answer. Lies of the node: it can hide grants
            from its own list.
        """
        secret = parse_secret_name(name, scope=scope)
        session = self._caller.session
        space = space_of(session.owner, SECRETS_SPACE)
        kv = Kv(self._caller, space)
        secrets = Secrets(self._caller, self._encryption, space)
        envelope = await secrets.envelope(name, scope=scope)
        network = envelope.network
        resource = space_capability(space, "kv", secret.path, KV_GET).resource
        info = await self._caller.info()
        missing: list[str] = []
        facts = Facts(
            owner=session.owner,
            secret=resource,
            network=network,
            network_policy=await _result_or(
                self._encryption.policy(network), None, missing, "the policy of your network"
            ),
            terms=await _result_or(
                fetch_terms(self._caller.transport, None),
                None,
                missing,
                "the node's conditions for releasing keys",
            ),
            exchange_key=info.oidc_did,
            node=info.node_id,
            in_tee=info.in_tee,
            records=await self._records(missing),
            copies=await _result_or(
                self._copies(kv, secret), {}, missing, "which copies other people have"
            ),
            now=self._caller.clock.now(),
        )
        judged = readers_of(facts)
        for cid in judged.unread:
            missing.append(f"what the grant {cid} allows, whose form is unknown to this version")
        credits = ReadCredits(judged.readers, facts.records)
        reads = await self._last_reads(secret, envelope, credits, missing)
        readers = []
        for reader in judged.readers:
            last_read = reads.get(reader.grant or reader.did)
            if reader.kind == "person":
                last_read = reads.get(reader.did)
            readers.append(reader._replace(last_read=last_read))
        return SecretAccess(
            secret=secret.label,
            network=network,
            readers=tuple(readers),
            writers=writers_of(
                facts.records, resource.text, session.owner, member=member_of_session(session)
            ),
            missing=tuple(missing),
        )

    async def _records(self, missing: list[str]) -> list[DelegationRecord]:
        """Return the live grants of the owner's account, with what recipients passed on."""
        no_records = _LiveRecords(records=[], is_cut=False)
        try:
            live = await self._fetch_live(derived=True)
        except SealspaceError as error:
            # A node of an earlier version does not list these.
            own = self._fetch_live(derived=False)
            live = await _result_or(own, no_records, missing, "your grants")
            missing.append(f"what recipients passed on: {error}")
            records = live.records
        else:
            records = live.records
            if live.is_cut:
                # A recipient who passes a right on thousands of times must not hide the grants that
                # the owner made before.
                own = self._fetch_live(derived=False)
                own_live = await _result_or(own, no_records, missing, "your grants")
                own_cids = {record.cid for record in own_live.records}
                others = [record for record in records if record.cid not in own_cids]
                records = [*own_live.records, *others]
        if live.is_cut:
            missing.append(f"some of your grants in force, of which there are over {len(records)}")
        return records

    async def _fetch_live(self, *, derived: bool) -> _LiveRecords:
        """Fetch the live grants that the node lists."""
        # The right to list is one on a space: the session's primary one, or else `secrets`.
        account = None if self._caller.session.space else SECRETS_SPACE
        records: list[DelegationRecord] = []
        token_chars = 0
        for status in LIVE:
            async for record in self._delegations.query(
                direction="granted",
                status=status,
                account=account,
                tokens=True,
                derived=derived,
                page_items=MAX_PAGE_ITEMS,
            ):
                token_chars += len(record.token or "")
                if len(records) == MOST_GRANTS or token_chars > MOST_TOKEN_CHARS:
                    return _LiveRecords(records=records, is_cut=True)
                records.append(record)
        return _LiveRecords(records=records, is_cut=False)

    async def _copies(self, kv: Kv, secret: SecretName) -> dict[Resource, SharedFolder]:
        """Return the stored copies of a secret for other people."""
        if member_of_session(self._caller.session) is not None:
            return {}  # the members of a team read the value itself
        copies = {}
        async for path in kv.list(SHARED_PREFIX):
            folder = shared_folder_at(path)
            if folder is None or path != secret._replace(folder=folder.path).path:
                continue
            resource = space_capability(kv.space, "kv", path, KV_GET).resource
            copies[resource] = folder
        return copies

    async def _last_reads(
        self,
        secret: SecretName,
        envelope: InlineEnvelope,
        credits: ReadCredits,
        missing: list[str],
    ) -> Mapping[str, float]:
        """Return when the current value was last read, by CIDs of grants and by DIDs of readers."""
        receipts = Receipts(self._caller)
        since = self._caller.clock.now() - READS_S
        key_sha256 = bytes.fromhex(envelope.encrypted_symmetric_key_hash)
        reads: dict[str, float] = {}
        count = 0
        try:
            async for release in receipts.releases(envelope.network, since=since):
                count += 1
                if count > MOST_RELEASES:
                    missing.append(f"the reads after the first {MOST_RELEASES} of 30 days")
                    break
                if release.key_sha256 == key_sha256:
                    names = credits.names_of(release.receipt)
                    reads |= dict.fromkeys(names, release.receipt.at)
            async for fetch in receipts.fetches(since=since):
                if fetch.label == secret.label:
                    reads[fetch.reader] = fetch.at
        except SealspaceError as error:
            missing.append(f"when rights were last used: {error}")
        return reads


async def _result_or(request: Awaitable[_T], default: _T, missing: list[str], subject: str) -> _T:
    """Return the result of a request. If it fails, note what is missing, and return a default."""
    try:
        return await request
    except SealspaceError as error:
        missing.append(f"{subject}: {error}")
        return default
