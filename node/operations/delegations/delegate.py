"""Register a delegation, host what it hosts, and make the owner's network where a sign-in asks for it (wire §3)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from capabilities.abilities import NETWORK_CREATE
from capabilities.chain import Ancestor, Mark, Registered, judge_registration
from capabilities.cids import ContentKey, cid_text
from capabilities.errors import CapabilityError, ChainError
from capabilities.kinds import check_granting
from capabilities.limits import counted_client
from capabilities.principals import is_wallet, same_principal
from capabilities.resources import NetworkId, network_of
from capabilities.tokens import Delegation, check_window, parse_delegation, verify_delegation
from encryption_network.networks import create_network, encode_network
from encryption_network.policy import policies_of
from spaces.audit.records import AuditRecord, audit_put
from spaces.documents.networks import network_put, network_row_key
from spaces.errors import TooManyDelegations
from spaces.grants.admissions import admission_check, admission_key, is_admitted
from spaces.grants.delegations import alias_put, charged_bytes, registration_puts
from spaces.grants.hosting import HostingPlan, hosting_by_grant, plan_hosting
from spaces.grants.retention import Kept, KeptBounds, kept_keys, kept_of
from spaces.grants.revocations import mark_keys, marks_of
from spaces.store.contract import Check, Commit, Put, Record

from ...config.tree import Limits
from ...services import Services
from ..attempts import CommitPlan, until_committed
from ..authorise import check_proof_count, closure_contents
from ..reading import Reading

DEFAULT_NAME: Final = "default"


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What a network adds to the commit of a sign-in; nothing, where none is made."""

    puts: tuple[Put, ...] = ()
    checks: tuple[Check, ...] = ()


NO_NETWORK: Final = NetworkPlan()


@dataclass(frozen=True, slots=True)
class SignInNetwork:
    """The default network that a sign-in asks for, made in the same commit (store §6).

    A plain sign-in of TinyCloud's clients holds `network.create` on it, and can keep secrets at once.
    """

    services: Services
    delegation: Delegation
    network: NetworkId

    def keys(self) -> tuple[bytes, ...]:
        """The rows to read for `plan`."""
        owner = self.delegation.delegator
        admission = (admission_key(owner),) if self.services.hosting.needs_row(owner) else ()
        return (network_row_key(self.network), *admission)

    def plan(self, records: Sequence[Record | None], now: float) -> NetworkPlan:
        """Return the rows of the network and of its audit record; none when it exists, in whatever state.

        In mode `permit` only for an admitted owner, who still has to be admitted at the commit.
        """
        existing, *admissions = records
        if existing is not None or not all(is_admitted(record) for record in admissions):
            return NO_NETWORK
        services = self.services
        record = create_network(
            self.network, now=now, keyring=services.keyring, entropy=services.entropy, claimed=False
        )
        audit = AuditRecord(
            at=now,
            action="network.created",
            actor=self.delegation.delegator,
            subject=self.network.text,
            token=self.delegation.cid,
        )
        puts = (network_put(self.network, encode_network(record)), audit_put(audit, entropy=services.entropy))
        return NetworkPlan(puts, tuple([admission_check(self.delegation.delegator, one) for one in admissions]))


def network_of_sign_in(services: Services, delegation: Delegation) -> SignInNetwork | None:
    """Find the network that the registration of a delegation asks for; None: none, as for nearly every delegation."""
    owner = delegation.delegator
    if delegation.parents or not is_wallet(owner) or not services.hosting.is_automatic:
        return None
    for capability in delegation.capabilities:
        network = network_of(capability.resource) if capability.ability == NETWORK_CREATE else None
        if network is not None and network.name == DEFAULT_NAME and same_principal(network.owner, owner):
            return SignInNetwork(services, delegation, network)
    return None


class Registration(Struct, frozen=True, gc=False):
    """The answer to a posted delegation.

    Attributes:
        cid: text of the cid of the bytes received (E7).
        activated: mentioned spaces that are hosted, in the order of the capabilities.
        skipped: mentioned spaces that are not.
    """

    cid: str
    activated: tuple[str, ...]
    skipped: tuple[str, ...]


async def register(services: Services, header: str, *, client: str | None) -> Registration:
    """Register a delegation; a repeat of a live one answers the true lists (Q6). Durable when it returns.

    Args:
        header: untrusted text of the `Authorization` header.
        client: network address of the caller, counted against the bounds on new owners, on unauthenticated clients and
            on bytes of delegations; None: not counted.

    Raises:
        MalformedToken (D1), BadSignature (D5), WrongKind (T10), ChainError (D6 to D30): it cannot be registered.
        ChainError: also for a repeat, in any spelling, of one that is no longer in force (Q6).
        PolicyError: a fact states an attestation policy that is not understood.
        TooManyDelegations: as many of this signer, or as many bytes of them or from this address, are kept as may be.
        SpaceError: the store does not answer, or a bound of it.
    """
    unverified = parse_delegation(header)  # D1
    check_proof_count(unverified.parents)  # D3
    delegation = verify_delegation(unverified)  # D5
    check_granting(delegation, services.keyring.node_did)  # T10
    await services.cohort.yield_to_cohort()

    done = await until_committed(services, lambda _: _attempt(services, delegation, client))
    if done.stored is not None:
        services.delegations.remember(done.stored)
    if done.is_counted:  # wire 5.13
        services.unauthenticated_rates.charge(client, now=services.clock.now())
    return done.answer


class _Registered(Struct, frozen=True, gc=False):
    """What a registration came to; `stored` is None for a repeat; a signer's first and a new spelling count."""

    answer: Registration
    stored: Registered | None = None
    is_counted: bool = False


async def _attempt(services: Services, delegation: Delegation, client: str | None) -> CommitPlan[_Registered]:
    content = delegation.content_key
    found = await services.delegations.by_cid([parent.digest for parent in delegation.parents])
    # Most are new: the mark, read in the only read, says whether one is registered.
    known = services.delegations.remembered(content)
    posted = await _read(services, delegation, client, known, found)
    if known is None and content in posted.marks:  # registered, and not in memory yet
        (known,) = await services.delegations.by_content((content,))
        posted = await _read(services, delegation, client, known, found)
    if known is not None and content in posted.marks:
        return await _repeat(posted, known)
    # One that is remembered without a mark has been swept, and is as new as any that expired long ago.
    return _first(posted, found)


async def _read(
    services: Services,
    delegation: Delegation,
    client: str | None,
    known: Registered | None,
    found: Sequence[Registered | None],
) -> "_Posted":
    """Read everything that a registration depends on at one moment, and plan what it hosts and makes."""
    now, reading = services.clock.now(), Reading()
    contents = (delegation.content_key, *closure_contents((known,) if known else found))
    mark_rows = reading.rows(mark_keys(contents))
    counters = kept_keys(delegation.delegator, counted_client(client))
    counter_rows = reading.rows(counters)
    wanted = hosting_by_grant(delegation, services.hosting, client=client, now=now, is_new=known is None)
    hosting_rows = reading.rows(wanted.keys())
    network = network_of_sign_in(services, delegation)
    network_rows = reading.rows(() if network is None else network.keys())
    await reading.read(services.store)
    hosting = plan_hosting(wanted, hosting_rows.found, now=now)
    hosts_now = any(space.owner == delegation.delegator for space in hosting.new)
    return _Posted(
        services=services,
        delegation=delegation,
        now=now,
        marks=marks_of(contents, mark_rows.found),
        hosting=hosting,
        network=NO_NETWORK if network is None else network.plan(network_rows.found, now),
        kept=kept_of(counters, counter_rows.found, hosts_now=hosts_now),
    )


class _Posted(Struct, frozen=True):
    """A posted delegation, and what the store returned about it at one moment."""

    services: Services
    delegation: Delegation
    now: float
    marks: Mapping[ContentKey, Mark]
    hosting: HostingPlan
    network: NetworkPlan
    kept: Kept

    def answer(self) -> Registration:
        """Return what is hosted once everything planned is committed."""
        return Registration(
            cid=cid_text(self.delegation.cid),
            activated=tuple([space.text for space in self.hosting.activated]),
            skipped=tuple([space.text for space in self.hosting.skipped]),
        )


async def _repeat(posted: _Posted, known: Registered) -> CommitPlan[_Registered]:
    """Answer for a delegation that is registered, in this spelling or another (D4, Q6, Q25)."""
    delegation, services = posted.delegation, posted.services
    is_new_spelling = not any(await services.delegations.by_cid([delegation.cid]))
    for member in known.closure:
        if posted.marks.get(member.content_key) is not Mark.LIVE:
            if is_new_spelling:  # added all the same, where space is free: a token that cites it is refused as revoked
                with suppress(TooManyDelegations):
                    await services.store.commit(_spelling(posted))
            raise _revoked(delegation, member)
    check_window(delegation, posted.now)
    added, network = _spelling(posted) if is_new_spelling else Commit(), posted.network
    # Even with nothing to write, this waits until what was read, the spaces among it, outlives a failover (ST16).
    live = mark_keys((delegation.content_key,))
    commit = Commit(puts=(*added.puts, *network.puts), live=live, checks=network.checks, adds=added.adds)
    return CommitPlan(commit, _Registered(posted.answer(), is_counted=is_new_spelling))


def _spelling(posted: _Posted) -> Commit:
    """Store another cid that leads to a delegation; its signer can make any number of them, so it is charged (D12).

    Raises:
        TooManyDelegations: there is no free space.
    """
    bounds = _bounds(posted.services.config.limits, hosts=posted.kept.hosts)
    alias, adds = posted.kept.charge(alias_put(posted.delegation.cid, posted.delegation.content_key), bounds)
    return Commit(puts=(alias,), adds=adds)


def _revoked(delegation: Delegation, member: Ancestor) -> CapabilityError:
    own = cid_text(delegation.cid)
    if member.content_key == delegation.content_key:
        return ChainError("delegation-revoked", own)
    return ChainError("ancestor-revoked", cid_text(member.cid), f"parent={own}")


def _first(posted: _Posted, found: Sequence[Registered | None]) -> CommitPlan[_Registered]:
    """Judge a delegation that is not registered, and plan its rows (D6 to D8)."""
    delegation, now, hosting = posted.delegation, posted.now, posted.hosting
    policies_of(delegation.facts)  # an attestation policy that is not understood refuses the delegation
    registered = judge_registration(delegation, found, posted.marks, now=now)  # D6, D20 to D30
    ancestors = tuple([member.content_key for member in registered.closure[1:]])
    rows = registration_puts(registered, client_account=posted.kept.client_account)
    bounds = _bounds(posted.services.config.limits, hosts=posted.kept.hosts)
    kept = posted.kept.adds(bounds, size_bytes=charged_bytes(rows))  # D12
    answer = posted.answer()
    audit = AuditRecord(
        at=now,
        action="delegation.registered",
        actor=delegation.delegator,
        subject=answer.cid,
        token=delegation.cid,
        authority=ancestors,
    )
    puts = (
        *rows,
        *hosting.puts,
        *posted.network.puts,
        audit_put(audit, entropy=posted.services.entropy),
    )
    # D23 has to hold when the rows are written, not only when they were read.
    checks = (*hosting.checks, *posted.network.checks)
    commit = Commit(puts=puts, live=mark_keys(ancestors), checks=checks, adds=(*hosting.adds, *kept))
    return CommitPlan(commit, _Registered(answer, registered, is_counted=posted.kept.is_first))


def _bounds(limits: Limits, *, hosts: bool) -> KeptBounds:
    """Return what may be kept of a signer who hosts a space here, or of another; a setting of 0 is no bound."""
    return KeptBounds(
        count=limits.delegations_per_signer or None,
        signer_bytes=(limits.delegation_bytes_per_signer if hosts else limits.unhosted_bytes_per_signer) or None,
        client_bytes=(limits.delegation_bytes_per_address if hosts else limits.unhosted_bytes_per_address) or None,
    )
