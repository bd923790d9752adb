"""The command `sealspace receipts list`, which lists and verifies receipts.

It also lists who fetched copies of shared secrets. A plain list counts as a visit: `sealspace
status` counts the reads by others since then.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from capabilities.abilities import READ_RECEIPTS
from capabilities.audit_export import MAX_ENTRY_BYTES, verify_export
from capabilities.capability_errors import AuditChainBroken
from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import same_principal
from capabilities.resources import NetworkId
from capabilities.strict_json import JsonObject
from encryption_network.receipt import encode_receipt, receipt_json

from ...client import Client
from ...documents.secret_names import SECRETS_SPACE, parse_secret_label
from ...errors import InvalidInput
from ...giving.released_secrets import NamedRelease, OwnerRecords, named_releases
from ...giving.words.rights import granted_labels
from ...receipts import CopyFetch, digest_of, named_receipt
from ...service.command_errors import AuditRefuted, NotThere
from ...session import DEFAULT_NETWORK
from ...wire.team_session import member_of_session
from ..keep.named_secrets import no_secret
from ..options.durations import ttl_s_of
from ..options.paths import NEW_FOLDER, keep_receipt, make_receipt_folder
from ..owner.contact_names import Names, name_or_none, names_for, target_named
from ..owner.owner_profile import at_node, dids_of, owner_home
from ..terminal import flag_option, print_rows, tell, time_text
from .network import right_to
from .visits import OWN_READ, fetches_of_copies, keep_visit

_HEADERS = ("time", "why", "secret", "network", "to")
_GROUNDS: Mapping[str, str] = {
    "owner": OWN_READ,
    "owner_session": OWN_READ,
    "attested": "proved its code",
    "machine": "machine token",
    "member": "member",
    "off": "granted, no proof required",
}
"""Ground of a release -> the reason in words."""
_TEAM_KEY = "the team's own key"
_TEAM_GROUNDS: Mapping[str, str] = {**_GROUNDS, "owner": _TEAM_KEY, "owner_session": _TEAM_KEY}
"""The same for the receipts of a team, whose own key is not that of the member who lists them."""
_FETCHED = "has a copy"


@click.command(
    epilog="Examples: `sealspace receipts list --since 7d`; `sealspace receipts list --out DIR`,"
    " which saves the receipts in DIR; `sealspace receipts list --secret API_KEY --by deploy`. To"
    " verify a saved receipt again without the node, use the"
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
@click.option("--secret", metavar="NAME", help="List only reads that can be of this secret.")
@click.option(
    "--by",
    metavar="NAME|DID",
    help="List only reads by this person, backend or key (DID, or name of a contact), or with the"
    " machine token or trust of this name.",
)
@click.option("--backend", metavar="URL|DID|NAME", help="List only receipts of this backend.")
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
    secret: str | None,
    by: str | None,
    backend: str | None,
    with_own: bool,
    out: Path | None,
    audit: BinaryIO | None,
) -> int:
    """List the reads of your secrets by others, oldest first.

    These are the key releases of your network, and the reads of copies that you share. The
    signature of every receipt is checked. Receipts do not name secrets. The list names those that
    have the released key or, after a change, those of the machine token, the policy or the grant.
    With several names, the read was of one of them. Reads of one copy by one person within an hour
    are one line. With --audit, the exit status is 1 if a receipt is missing from the chain.
    """
    earliest = 0.0 if since is None else _parse_since(since)
    network = client.encryption.network(name)
    wanted = await _parse_choice(client, secret=secret, by=by, backend=backend)
    await right_to(client, network, READ_RECEIPTS)
    everything = await _fetch(client, network, earliest)
    _require_one_meaning(by, wanted, everything)
    releases = [release for release in everything if wanted.includes_release(release)]
    if out is not None:
        await _save(client, network, releases, out)
    is_own = member_of_session(client.session) is None
    grounds = _GROUNDS if is_own else _TEAM_GROUNDS
    shown = [
        release for release in releases if with_own or grounds[release.receipt.ground] != OWN_READ
    ]
    all_fetches = await fetches_of_copies(client, network, since=earliest)
    fetches = [fetch for fetch in all_fetches if wanted.includes_fetch(fetch)]
    places = _read_places_of(releases, audit)
    readers = [_reader(release) for release in shown] + [fetch.reader for fetch in fetches]
    names = await names_for(client, readers)
    rows = _rows(shown, fetches, places, names, grounds)
    if not rows:
        await _require_known(client, wanted, everything)
    _print(rows, has_audit=places is not None, has_receipts=bool(releases))
    _tell_of_receipts(releases, hidden=len(releases) - len(shown), fetches=len(fetches))
    if wanted.is_everything and name == DEFAULT_NETWORK and is_own:
        times = [release.receipt.at for release in everything] + [fetch.at for fetch in all_fetches]
        keep_visit(client, earliest=earliest, times=times)
    return 0 if _contains_all(places, releases) else 1


def _print(rows: Sequence["_Row"], *, has_audit: bool, has_receipts: bool) -> None:
    """Print the list as JSON or as a table."""
    print_rows(
        [row.document for row in rows],
        (*_HEADERS, "audit") if has_audit else _HEADERS,
        [row.cells for row in rows],
        nothing="no reads by others" if has_receipts else "no receipts",
    )


def _tell_of_receipts(releases: Sequence[NamedRelease], *, hidden: int, fetches: int) -> None:
    """Print how many receipts are valid, how many of them are not listed, and what has none."""
    if fetches:  # RC33: the key is one of the reader's network, and so is the receipt
        tell(f"reads of copies have no receipt of your network ({fetches}): the node reports them")
    if hidden:
        tell(f"receipts of your own reads are not listed ({hidden}); to list them, add --all")
    if releases:  # `sealspace verify --node-did` needs the DID
        tell(f"valid receipts: {len(releases)}, signed by the node {releases[0].receipt.node}")


class _Row(NamedTuple):
    """A row of the list.

    Attributes:
        at: time of the read, epoch seconds.
        document: the row as JSON.
        cells: the row of the table.
    """

    at: float
    document: JsonObject
    cells: tuple[str, ...]


def _rows(
    releases: Iterable[NamedRelease],
    fetches: Iterable[CopyFetch],
    places: Mapping[bytes, int] | None,
    names: Names,
    grounds: Mapping[str, str],
) -> list[_Row]:
    """Return the rows for releases and fetches, the oldest first."""
    rows: list[_Row] = []
    for fetch in fetches:
        document = _fetch_json(fetch)
        document["name"] = names.name(fetch.reader)
        cells = _fetch_cells(fetch, places, names)
        rows.append(_Row(at=fetch.at, document=document, cells=cells))
    for release in releases:
        document = _release_json(release, places)
        document["name"] = names.name(_reader(release))
        cells = _cells(release, places, names, grounds)
        rows.append(_Row(at=release.receipt.at, document=document, cells=cells))
    # Of two reads at the same time any may come first, so only the times are compared.
    rows.sort(key=attrgetter("at"))
    return rows


class _Wanted(NamedTuple):
    """The options that choose reads.

    Attributes:
        secret: label of the secret; None: all secrets.
        by: DID of the reader, or name of a machine token; None: all readers.
        dids: DIDs of a backend; None: all readers.
    """

    secret: str | None
    by: str | None
    dids: Iterable[str] | None

    @property
    def is_everything(self) -> bool:
        """Whether every read is chosen."""
        return self.secret is None and self.by is None and self.dids is None

    def includes_release(self, release: NamedRelease) -> bool:
        """Return whether a key release is chosen."""
        receipt = release.receipt
        if self.secret is not None and self.secret not in release.possible:
            return False
        if self.by is not None and receipt.machine == self.by:
            return self._is_of_backend(receipt.invoker)
        return self._includes_reader(_reader(release))

    def includes_fetch(self, fetch: CopyFetch) -> bool:
        """Return whether the fetch of a copy is chosen."""
        return self.secret in (None, fetch.label) and self._includes_reader(fetch.reader)

    def _includes_reader(self, did: str) -> bool:
        if self.by is not None and not same_principal(did, self.by):
            return False
        return self._is_of_backend(did)

    def _is_of_backend(self, did: str) -> bool:
        if self.dids is None:  # no backend is chosen, so those of all are included
            return True
        return any(same_principal(did, backend_did) for backend_did in self.dids)


async def _parse_choice(
    client: Client, *, secret: str | None, by: str | None, backend: str | None
) -> _Wanted:
    """Parse the options that choose reads, with DIDs in the place of contacts."""
    if by is not None:
        by = await name_or_none(client, by) or by
    if backend is not None:
        backend = await target_named(client, backend)
    return _Wanted(
        secret=None if secret is None else parse_secret_label(secret).label,
        by=by,
        dids=None if backend is None else dids_of(backend),
    )


def _require_one_meaning(
    name: str | None, wanted: _Wanted, everything: Iterable[NamedRelease]
) -> None:
    """Reject a contact's name in `--by` that a machine token or trust has too."""
    is_contact = name != wanted.by
    if is_contact and any(release.receipt.machine == name for release in everything):
        raise InvalidInput(
            f"{name} is a contact, and also the name of a machine token or trust",
            hint=f"write the DID of the contact (sealspace contact show {name}), or rename the"
            f" contact to list the token: sealspace contact rename {name} NEW_NAME",
        )


async def _require_known(
    client: Client, wanted: _Wanted, everything: Iterable[NamedRelease]
) -> None:
    """Reject names that are not known, when no read was found."""
    if wanted.secret is not None:
        scope, _, name = wanted.secret.rpartition("/")
        secrets = client.secrets()
        if name not in await secrets.list(scope=scope or None):
            raise await no_secret(secrets, name, scope or None)
    by = wanted.by
    if by is None or by.startswith("did:"):
        return
    if not any(release.receipt.machine == by for release in everything):
        raise NotThere(
            f"no read with a machine token or trust named {by} is recorded",
            hint="list their names: sealspace token list, sealspace ci list; a person or a backend"
            " is named by its DID or by a contact: sealspace contact list",
        )


def _read_places_of(
    releases: Sequence[NamedRelease], audit: BinaryIO | None
) -> Mapping[bytes, int] | None:
    """Verify the audit export, and return the places of receipts in it; None without an export."""
    if audit is None or not releases:
        return None
    # The node's DID is that in the receipts, whose signatures were verified.
    return _read_places(audit, node_did=releases[0].receipt.node)


def _contains_all(places: Mapping[bytes, int] | None, releases: Iterable[NamedRelease]) -> bool:
    """Return whether the audit export contains every receipt; True without an export."""
    return places is None or all(digest_of(release.receipt) in places for release in releases)


async def _save(
    client: Client, network: NetworkId, releases: Iterable[NamedRelease], folder: Path
) -> None:
    """Save receipts and their documents in a folder."""
    make_receipt_folder(folder)
    for release in releases:
        documents = await client.receipts.documents(release.receipt, network)
        keep_receipt(folder, encode_receipt(release.receipt), documents)


def _release_json(release: NamedRelease, places: Mapping[bytes, int] | None) -> JsonObject:
    """Return a receipt as JSON; with an audit export, also the number of its entry there."""
    shown = receipt_json(release.receipt)
    shown["at"] = time_text(release.receipt.at)
    shown["secrets"] = [*release.secrets]
    shown["granted"] = [*release.granted]
    if places is not None:
        shown["auditEntry"] = places.get(digest_of(release.receipt))
    return shown


def _fetch_json(fetch: CopyFetch) -> JsonObject:
    """Return the fetch of a copy as JSON."""
    return {
        "action": "copy.fetched",
        "at": time_text(fetch.at),
        "reader": fetch.reader,
        "secrets": [fetch.label],
        "path": fetch.path,
        "version": fetch.version,
        "etag": fetch.etag,
        "hour": time_text(fetch.hour),
    }


def _reader(release: NamedRelease) -> str:
    """Return the DID of the member who read a team's secret, or of the key that read it."""
    return release.receipt.member or release.receipt.invoker


def _cells(
    release: NamedRelease,
    places: Mapping[bytes, int] | None,
    names: Names,
    grounds: Mapping[str, str],
) -> tuple[str, ...]:
    """Return a receipt as a row of the table."""
    receipt = release.receipt
    why = grounds[receipt.ground]
    if receipt.machine:
        why += f" {receipt.machine}"
    label = "not recorded"
    if release.secrets:
        label = " or ".join(release.secrets)
    elif why != OWN_READ and release.granted:
        label += f"; granted: {', '.join(release.granted)}"
    network = receipt.network.rpartition(":")[2]
    cells = (time_text(receipt.at), why, label, network, names.short(_reader(release)))
    if places is None:  # no audit export was given
        return cells
    place = places.get(digest_of(receipt))
    if place is None:
        return (*cells, "NOT in the audit chain")
    return (*cells, f"audit entry {place}")


def _fetch_cells(
    fetch: CopyFetch, places: Mapping[bytes, int] | None, names: Names
) -> tuple[str, ...]:
    """Return the fetch of a copy as a row of the table.

    The copy was opened with a key of the reader's network, not of the owner's.
    """
    cells = (time_text(fetch.at), _FETCHED, fetch.label, "the reader's", names.short(fetch.reader))
    return cells if places is None else (*cells, "no receipt")


# --- fetching -------------------------------------------------------------------------------------


async def _fetch(client: Client, network: NetworkId, earliest: float) -> list[NamedRelease]:
    """Fetch the receipts since a time, with the names of the secrets.

    `earliest` is in epoch seconds.
    """
    # CID of a grant that was made here -> the labels of its secrets
    granted = {
        grant.portable.cid: granted_labels(grant.portable) for grant in owner_home().grants()
    }
    records = OwnerRecords(
        receipts=client.receipts,
        delegations=client.delegations,
        secrets=client.kv(SECRETS_SPACE),
    )
    releases = named_releases(records, network, since=earliest, grants=granted)
    return [release async for release in releases]


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


def _read_places(audit: BinaryIO, *, node_did: str) -> dict[bytes, int]:
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
