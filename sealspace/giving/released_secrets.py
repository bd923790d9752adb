"""The names of the secrets that key releases were about.

A receipt does not name a secret. The name follows from other facts: the secrets that have the
released key now, or had it in a former value that the node keeps (RC37), the paths of the machine
token, the paths of the policies, and the grants that the request cited. Several secrets can match;
then all of them are named.

Example:
    records = OwnerRecords(client.receipts, client.delegations, client.kv("secrets"))
    async for release in named_releases(records, client.encryption.network()):
        print(release.receipt.at, " or ".join(release.secrets))
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from capabilities.capability_errors import CapabilityError
from capabilities.principals import same_principal
from capabilities.resources import NetworkId, SpaceResource, parse_resource
from capabilities.strict_json import parse_json
from encryption_network.envelope import parse_envelope
from encryption_network.network_errors import EnvelopeError, PolicyError
from encryption_network.policy import MAX_POLICY_BYTES, parse_policy
from encryption_network.receipt import Receipt

from ..delegations import Delegations
from ..documents.secret_names import OWN_FOLDER, SHARED_PREFIX, secret_at
from ..errors import MalformedAnswer, NotFound, NotGranted
from ..kv import Kv
from ..receipts import KeyRelease, Receipts
from ..wire.delegation_history import MAX_PAGE_ITEMS
from ..wire.token_line import token_in
from .words.rights import label_at

MOST_RELEASES = 20_000
"""Most receipts that are read to find what a member opened."""

MOST_FORMER_READS = 1000
"""Most requests in which former values of secrets are read."""


class OwnerRecords(NamedTuple):
    """What the names of secrets are found by, from a client that is signed in as the owner.

    Attributes:
        receipts: the receipts of the owner's networks.
        delegations: the owner's grants.
        secrets: the values of the space `secrets`.
    """

    receipts: Receipts
    delegations: Delegations
    secrets: Kv


class NamedRelease(NamedTuple):
    """A receipt with the names of the secrets that it can be about.

    Attributes:
        receipt: signed by the node.
        secrets: the labels of the secrets that have or had the key, or to which the machine token
            or all policies limit the release; empty if neither is known.
        granted: the labels of the secrets in the cited grants, which may have been used for others.
    """

    receipt: Receipt
    secrets: tuple[str, ...]
    granted: tuple[str, ...]

    @property
    def possible(self) -> tuple[str, ...]:
        """All secrets that the release can be about, as far as they are known."""
        return self.secrets or self.granted


async def named_releases(
    records: OwnerRecords,
    network: NetworkId,
    *,
    since: float = 0.0,
    grants: Mapping[str, Iterable[str]] | None = None,
) -> AsyncIterator[NamedRelease]:
    """Yield the receipts of an encryption network with the names of secrets, oldest first.

    Args:
        records: delegation records of the owner.
        network: the network whose keys were released.
        since: epoch seconds; earlier receipts are left out.
        grants: cid of a known grant -> labels of its secrets; the node may have forgotten grants
            that ended.
    Raises:
        SealspaceError: the same errors as `Receipts.releases`, `Delegations.query` and
            `Kv.get_many`.
    """
    names: _Names | None = None
    async for release in records.receipts.releases(network, since=since):
        if names is None:  # nothing else is fetched if there are no receipts
            names = await _fetch_names(records, grants or {})
        limits = [
            await names.labels_of_policy(records.receipts, network, policy)
            for policy in release.receipt.policies
        ]
        secrets = await names.labels_with_key(records.secrets, release.key_sha256)
        yield _add_names(release, names, secrets, limits)


class OpenedSecrets(NamedTuple):
    """The secrets that a member of a team opened, as far as receipts name them.

    Attributes:
        labels: labels of the secrets whose present or former values were opened, in ascending
            order.
        unnamed_count: the number of other releases to the member.
        is_complete: whether all receipts were read.
    """

    labels: tuple[str, ...]
    unnamed_count: int
    is_complete: bool


async def opened_by_member(
    records: OwnerRecords, network: NetworkId, member: str, memberships: Collection[str]
) -> OpenedSecrets:
    """Return the secrets that a member of a team opened.

    A release to somebody who is not a member counts too, if it depended on one of the memberships:
    the member had passed the right on.

    Args:
        records: delegation records of the team.
        network: encryption network of the team.
        member: DID of the member's wallet.
        memberships: cids of all memberships of the member, also of those that have ended.
    Raises:
        SealspaceError: the same errors as `named_releases`.
    """
    labels: set[str] = set()
    unnamed_count = 0
    read_count = 0
    async for release in named_releases(records, network):
        read_count += 1
        if read_count > MOST_RELEASES:
            break
        receipt = release.receipt
        if receipt.member:  # unset in receipts of other grounds (TM8)
            # Members whom a removed admin admitted depend on the same membership.
            is_theirs = same_principal(receipt.member, member)
        else:
            is_theirs = any(cid in memberships for cid in receipt.chain)
        if not is_theirs:
            continue
        labels.update(release.secrets)
        if not release.secrets:
            unnamed_count += 1
    return OpenedSecrets(
        labels=tuple(sorted(labels)),
        unnamed_count=unnamed_count,
        is_complete=read_count <= MOST_RELEASES,
    )


def _add_names(
    release: KeyRelease,
    names: "_Names",
    secrets: Iterable[str],
    limits: Iterable[frozenset[str]],
) -> NamedRelease:
    """Add the names of secrets to a receipt (RC37).

    Args:
        release: the release with its receipt.
        names: names of the owner's secrets.
        secrets: the labels of those that have or had the key.
        limits: the labels of the paths in each policy.
    """
    receipt = release.receipt
    if receipt.ground == "machine":
        cited_tokens = [cid for cid in receipt.chain if cid in names.labels_by_token]
        limits = [*limits, *[names.labels_by_token[cid] for cid in cited_tokens]]
    granted: set[str] = set()
    for cid in receipt.chain:
        granted.update(names.labels_by_grant.get(cid, ()))
    return NamedRelease(
        receipt=receipt,
        secrets=tuple(sorted(secrets)) or _labels_in_all(limits),
        granted=tuple(sorted(granted)),
    )


@dataclass(kw_only=True)
class _Names:
    """The labels of secrets by the facts that receipts contain.

    The former values of secrets are read when a key is looked for that no present value has.
    """

    labels_by_key: Mapping[bytes, set[str]]
    labels_by_token: Mapping[str, frozenset[str]]
    labels_by_grant: Mapping[str, Iterable[str]]
    labels_by_policy: dict[bytes, frozenset[str]] = field(default_factory=dict)
    labels_by_former_key: Mapping[bytes, set[str]] | None = None

    async def labels_with_key(self, secrets: Kv, key_sha256: bytes | None) -> set[str]:
        """Return the labels of the secrets that have a key, or else of those that had it."""
        if key_sha256 is None:
            return set()
        present = self.labels_by_key.get(key_sha256)
        if present is not None:
            return present
        if self.labels_by_former_key is None:
            self.labels_by_former_key = await _fetch_former_keys(secrets)
        return self.labels_by_former_key.get(key_sha256, set())

    async def labels_of_policy(
        self, receipts: Receipts, network: NetworkId, digest: bytes
    ) -> frozenset[str]:
        """Return the labels of the paths in a policy; none if it is not available."""
        if digest not in self.labels_by_policy:
            paths: tuple[str, ...] = ()
            with suppress(NotFound, CapabilityError, PolicyError):
                document = await receipts.document(digest, network)
                paths = parse_policy(parse_json(document, max_bytes=MAX_POLICY_BYTES)).paths
            self.labels_by_policy[digest] = frozenset(_label(path) for path in paths)
        return self.labels_by_policy[digest]


async def _fetch_names(records: OwnerRecords, grants: Mapping[str, Iterable[str]]) -> _Names:
    """Fetch the owner's secrets and grants."""
    labels_by_token: dict[str, frozenset[str]] = {}
    labels_by_grant = dict(grants)
    # A session without the right to list grants still names secrets by keys and policies.
    with suppress(NotGranted):
        async for record in records.delegations.query(
            direction="granted", tokens=True, page_items=MAX_PAGE_ITEMS
        ):
            token = token_in(record.token or "")
            if token is not None:
                labels_by_token[record.cid] = frozenset(secret.label for secret in token.secrets)
            else:
                labels = _labels_of(right.resource for right in record.rights)
                labels_by_grant.setdefault(record.cid, labels)
    return _Names(
        labels_by_key=await _fetch_keys(records.secrets),
        labels_by_token=labels_by_token,
        labels_by_grant=labels_by_grant,
    )


async def _fetch_keys(kv: Kv) -> Mapping[bytes, set[str]]:
    """Return the labels of the stored secrets, by the digests of their wrapped keys."""
    labels_by_key: dict[bytes, set[str]] = {}
    # Without a space of secrets, or the right to read it, secrets are named by other facts.
    with suppress(NotGranted, NotFound):
        values = await kv.get_many(await paths_of_secrets(kv))
        for path, value in values.items():
            _add_key(labels_by_key, path, value.body)
    return labels_by_key


async def _fetch_former_keys(kv: Kv) -> Mapping[bytes, set[str]]:
    """Return the labels of the stored secrets, by the digests of their former wrapped keys.

    At most `MOST_FORMER_READS` requests are sent; the former values of further secrets are left
    out.
    """
    labels_by_key: dict[bytes, set[str]] = {}
    reads = 0
    # A node need not keep former values, and they are the owner's in person.
    with suppress(NotGranted, NotFound, MalformedAnswer):
        for path in await paths_of_secrets(kv):
            former = [version for version in await kv.versions(path) if not version.is_current]
            reads += 1 + len(former)
            if reads > MOST_FORMER_READS:
                break
            for former_version in former:
                value = await kv.get(path, version=former_version.version)
                _add_key(labels_by_key, path, value.body)
    return labels_by_key


async def paths_of_secrets(kv: Kv) -> list[str]:
    """Return the paths in an owner's folder of secrets, without the copies that others get."""
    return [path async for path in kv.list(OWN_FOLDER) if not path.startswith(SHARED_PREFIX)]


def _add_key(labels_by_key: dict[bytes, set[str]], path: str, body: bytes) -> None:
    """Add the label of a secret under the digest of its wrapped key."""
    secret = secret_at(path)
    with suppress(EnvelopeError):
        digest = parse_envelope(body).encrypted_symmetric_key_hash
        if secret is not None:
            labels_by_key.setdefault(bytes.fromhex(digest), set()).add(secret.label)


def _labels_of(resources: Iterable[str]) -> tuple[str, ...]:
    """Return the labels of the secrets among granted resources."""
    labels = []
    for resource in resources:
        with suppress(CapabilityError):
            match parse_resource(resource):
                case SpaceResource(service="kv", path=str(path)):
                    labels.append(label_at(path))
    return tuple(labels)


def _labels_in_all(limits: Iterable[frozenset[str]]) -> tuple[str, ...]:
    """Return the labels that every limit has; those without labels limit nothing."""
    limiting = [labels for labels in limits if labels]
    if not limiting:
        return ()
    return tuple(sorted(frozenset.intersection(*limiting)))


def _label(resource: str) -> str:
    match parse_resource(resource):
        case SpaceResource(path=str(path)):
            return label_at(path)
    return resource
