"""The command `sealspace receipts list`, which lists and verifies receipts."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from capabilities.abilities import READ_RECEIPTS
from capabilities.audit_export import MAX_ENTRY_BYTES, verify_export
from capabilities.capability_errors import AuditChainBroken, CapabilityError
from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import same_principal
from capabilities.resources import NetworkId, SpaceResource, parse_resource
from capabilities.strict_json import JsonObject, parse_json
from encryption_network.network_errors import PolicyError
from encryption_network.policy import MAX_POLICY_BYTES, parse_policy
from encryption_network.receipt import Receipt, encode_receipt, receipt_json

from ...apps.descriptions import granted_labels, label_at
from ...client import Client
from ...errors import InvalidInput, NotFound
from ...receipts import digest_of, named_receipt
from ...service.command_errors import AuditRefuted
from ...session import DEFAULT_NETWORK
from ..options.durations import ttl_s_of
from ..options.paths import NEW_FOLDER, keep_receipt, make_receipt_folder
from ..owner.owner_profile import at_node, dids_of, owner_home
from ..terminal import flag_option, print_rows, tell, time_text
from .network import right_to

_HEADERS = ("time", "why", "secret", "network", "to")
_GROUNDS: Mapping[str, str] = {
    "owner": "you",
    "owner_session": "you",
    "attested": "proved its code",
    "machine": "machine token",
    "off": "granted, no proof required",
}
"""Ground of a release -> the reason in words."""


class _Release(NamedTuple):
    """A key-release receipt and the secrets that it concerns.

    Attributes:
        receipt: The receipt, which names no secret.
        secrets: The secrets that all its release policies allow, empty if the policies name none.
        granted: The secrets in the grants that the request used.
    """

    receipt: Receipt
    secrets: list[str]
    granted: list[str]


@click.command(
    epilog="Examples: `sealspace receipts list --since 7d`; `sealspace receipts list --out DIR`,"
    " which saves the receipts in DIR. To verify a saved receipt again without the node, use the"
    " DID that the command prints: `sealspace verify DIR/receipts/….json --node-did DID`.",
)
@click.option(
    "--network",
    "name",
    metavar="NAME",
    default=DEFAULT_NETWORK,
    show_default=True,
    help="List the receipts of this network.",
)
@click.option(
    "--since",
    metavar="TIME",
    help="List only receipts since a date, a time (RFC 3339), or an age such as 12h.",
)
@click.option("--backend", metavar="URL|DID", help="List only receipts of this backend.")
@flag_option("--all", "with_own", help="Also list the receipts of your own reads.")
@click.option(
    "--out",
    type=NEW_FOLDER,
    help="Save all receipts and their documents in this folder, including those of your own reads.",
)
@click.option(
    "--audit",
    type=click.File("rb"),
    help="Verify this export of the audit chain, and check that the export contains every receipt.",
)
@at_node
async def list_(
    client: Client,
    name: str,
    since: str | None,
    backend: str | None,
    with_own: bool,
    out: Path | None,
    audit: BinaryIO | None,
) -> int:
    """List the key releases of your network, oldest first.

    The signature of every receipt is checked. Receipts do not name the secrets that were read. The
    list shows the secrets that the policy allows or, if the policy names none, the secrets in the
    grant. With --audit, the exit status is 1 if a receipt is missing from the chain.
    """
    earliest = 0.0 if since is None else _parse_since(since)
    network = client.encryption.network(name)
    backends = None if backend is None else dids_of(backend)
    found = await _fetch(client, network, backends, earliest)
    if out is not None:
        await _save(client, network, found, out)
    shown = [one for one in found if with_own or _GROUNDS[one.receipt.ground] != "you"]
    places = None
    if audit is not None and found:
        # The node's DID is that in the receipts, whose signatures were verified.
        places = _places(audit, node_did=found[0].receipt.node)
    print_rows(
        [_release_json(one, places) for one in shown],
        _HEADERS if places is None else (*_HEADERS, "audit"),
        [_cells(one, places) for one in shown],
        nothing="no releases to others" if found else "no receipts",
    )
    hidden = len(found) - len(shown)
    if hidden:
        tell(f"receipts of your own reads are not listed ({hidden}); to list them, add --all")
    if found:  # `sealspace verify --node-did` needs the DID
        tell(f"valid receipts: {len(found)}, signed by the node {found[0].receipt.node}")
    if places is not None and not _contains_all(places, found):
        return 1
    return 0


def _contains_all(places: Mapping[bytes, int], found: Iterable[_Release]) -> bool:
    """Return whether the audit export contains every receipt."""
    return all(digest_of(one.receipt) in places for one in found)


async def _save(
    client: Client, network: NetworkId, found: Iterable[_Release], folder: Path
) -> None:
    """Save receipts and their documents in a folder."""
    make_receipt_folder(folder)
    for one in found:
        documents = await client.receipts.documents(one.receipt, network)
        keep_receipt(folder, encode_receipt(one.receipt), documents)


def _release_json(one: _Release, places: Mapping[bytes, int] | None) -> JsonObject:
    """Return a receipt as JSON; with an audit export, also the number of its entry there."""
    shown = receipt_json(one.receipt)
    shown["at"] = time_text(one.receipt.at)
    shown["secrets"] = [*one.secrets]
    if places is not None:
        shown["auditEntry"] = places.get(digest_of(one.receipt))
    return shown


def _cells(one: _Release, places: Mapping[bytes, int] | None) -> tuple[str, ...]:
    """Return a receipt as a row of the table."""
    receipt = one.receipt
    why = _GROUNDS[receipt.ground]
    if receipt.machine:
        why += f" {receipt.machine}"
    label = "not recorded"
    if why != "you" and one.secrets:
        label = " or ".join(one.secrets)
    elif why != "you" and one.granted:
        label += f"; granted: {', '.join(one.granted)}"
    network = receipt.network.rpartition(":")[2]
    cells = (time_text(receipt.at), why, label, network, receipt.invoker)
    if places is None:  # no audit export was given
        return cells
    place = places.get(digest_of(receipt))
    if place is None:
        return (*cells, "NOT in the audit chain")
    return (*cells, f"audit entry {place}")


# --- fetching -------------------------------------------------------------------------------------


async def _fetch(
    client: Client, network: NetworkId, backends: Iterable[str] | None, earliest: float
) -> list[_Release]:
    """Fetch the receipts since a time, with the secrets that they concern.

    Args:
        client: of the owner.
        network: the network whose keys were released.
        backends: DIDs; None: the receipts of all recipients.
        earliest: epoch seconds.
    """
    await right_to(client, network, READ_RECEIPTS)
    paths: dict[bytes, frozenset[str]] = {}  # digest of a policy -> the paths that it names
    releases = []
    # CID of a grant that was made here -> the labels of its secrets
    granted = {one.portable.cid: granted_labels(one.portable) for one in owner_home().grants()}
    async for receipt in client.receipts.all(network):
        if receipt.at < earliest or not _is_invoked_by(receipt, backends):
            continue
        for digest in receipt.policies:
            if digest not in paths:
                paths[digest] = await _policy_paths(client, network, digest)
        labels = {label for cid in receipt.chain for label in granted.get(cid, ())}
        releases.append(
            _Release(
                receipt=receipt,
                secrets=_allowed_by_all([paths[digest] for digest in receipt.policies]),
                granted=sorted(labels),
            )
        )
    return releases


def _is_invoked_by(receipt: Receipt, backends: Iterable[str] | None) -> bool:
    """Return whether one of the backends received the key; None: any backend."""
    if backends is None:
        return True
    return any(same_principal(receipt.invoker, did) for did in backends)


async def _policy_paths(client: Client, network: NetworkId, digest: bytes) -> frozenset[str]:
    """Return the paths that a policy names; none if the policy is not available."""
    try:
        document = await client.receipts.document(digest, network)
        policy = parse_policy(parse_json(document, max_bytes=MAX_POLICY_BYTES))
    except (NotFound, CapabilityError, PolicyError):
        return frozenset()
    return frozenset(policy.paths)


def _allowed_by_all(paths_of_policies: Iterable[frozenset[str]]) -> list[str]:
    """Return the labels of the secrets that a release may concern, empty if no policy limits it."""
    # Every policy of a release has to allow a path. Policies without paths allow them all.
    limits = [paths for paths in paths_of_policies if paths]
    if not limits:
        return []
    return sorted(_label(path) for path in frozenset.intersection(*limits))


def _label(resource: str) -> str:
    match parse_resource(resource):
        case SpaceResource(path=str(path)):
            return label_at(path)
    return resource


# --- choosing -------------------------------------------------------------------------------------


def _parse_since(text: str) -> float:
    """Convert a date, a time or an age to epoch seconds."""
    with suppress(InvalidInput):  # not an age
        return SystemClock.now() - ttl_s_of(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"--since {text[:30]} is not a date, a time or an age",
            hint="use a date (2026-01-31), a time (2026-01-31T12:00:00Z) or an age (12h, 90d)",
        ) from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return at.timestamp()


# --- the audit chain ------------------------------------------------------------------------------


def _places(audit: BinaryIO, *, node_did: str) -> dict[bytes, int]:
    """Verify an exported audit log.

    Returns a mapping from receipt digests to entry numbers.
    """
    places: dict[bytes, int] = {}
    # A line is read with its line break and one byte more, so that a longer entry is refused by its
    # size.
    lines = iter(lambda: audit.readline(MAX_ENTRY_BYTES + 2), b"")

    def note(number: int, entry: bytes) -> None:
        digest = named_receipt(entry)
        if digest is not None:
            places[digest] = number

    try:
        verify_export(lines, node_did=node_did, on_entry=note)
    except AuditChainBroken as error:
        raise AuditRefuted(
            f"the audit chain is invalid: {error}", hint="ask the operator for a new export"
        ) from error
    return places
