"""The time until which the owner has seen the reads by others.

It is in the file `visit.json` of the owner's folder, with the node and the owner that it is about.
`sealspace receipts list` writes the file, and `sealspace status` counts the reads since then.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from capabilities.abilities import READ_RECEIPTS
from capabilities.clock_and_entropy import SystemClock
from capabilities.resources import NetworkId
from capabilities.strict_json import StrictRecord
from encryption_network.canonical_json import canonical_bytes

from ...client import Client
from ...delegations import allow
from ...errors import NotFound, NotGranted
from ...private_files import read_file, replace_file
from ...receipts import CopyFetch
from ..owner.owner_profile import owner_home
from ..terminal import tell

OWN_READ = "you"
_OWN_GROUNDS = ("owner", "owner_session")
_MOST_BYTES = 4096
_FIRST_S = 30 * 86_400.0
"""How far back reads are counted before the first visit."""
MOST_COUNTED = 1000
"""More reads than these are not counted."""


class _Visit(StrictRecord):
    """The content of the file.

    Attributes:
        node: DID of the node.
        owner: DID of the owner.
        seen_micros: time of the last read that was listed, microseconds since the epoch.
    """

    node: str
    owner: str
    seen_micros: int


class ReadsByOthers(NamedTuple):
    """The number of reads by others since a time.

    Attributes:
        number: how many reads, at most MOST_COUNTED + 1.
        since: epoch seconds.
        is_visit: whether this is the time of the last visit, or the default.
    """

    number: int
    since: float
    is_visit: bool

    @property
    def words(self) -> str:
        """The count in words."""
        count = f"more than {MOST_COUNTED}" if self.number > MOST_COUNTED else str(self.number)
        if self.is_visit:
            return f"{count} since your last `sealspace receipts list`"
        return f"{count} in the last 30 days; to see them: sealspace receipts list"


async def fetches_of_copies(
    client: Client, network: NetworkId, *, since: float
) -> tuple[CopyFetch, ...]:
    """Fetch the reads of copies since a time in epoch seconds."""
    try:
        return tuple([fetch async for fetch in client.receipts.fetches(network, since=since)])
    except NotFound:
        tell("warning: this node does not record who reads copies of secrets that you share")
        return ()


def keep_visit(client: Client, *, earliest: float, times: Sequence[float]) -> None:
    """Note that the owner has seen all reads until now.

    Args:
        client: a client with the owner's session.
        earliest: start of the list, epoch seconds. After a list of the newest reads only, the
            former visit counts.
        times: the times of all reads that were listed, epoch seconds.
    """
    seen = _read_last_visit(client)
    if earliest > (seen or 0.0):
        return
    # The times are by the node's clock, so the clock of this machine does not matter.
    latest = max((int(at * 1_000_000) for at in times), default=0)
    visit = _Visit(
        node=client.session.node_id or "",
        owner=client.session.owner,
        seen_micros=max(latest, int((seen or 0.0) * 1_000_000)),
    )
    replace_file(_path(), canonical_bytes(msgspec.to_builtins(visit)))


async def reads_by_others(client: Client) -> ReadsByOthers | None:
    """Count the reads by others since the last visit.

    Returns None if the session may not list them: a wallet is not asked for this right.
    """
    network = client.encryption.network()
    try:
        now = SystemClock.now()
        # Called only to learn whether the session has the right.
        client.session.proofs_for([allow(network.text, READ_RECEIPTS)], now=now)
    except NotGranted:
        return None
    seen = _read_last_visit(client)
    since = now - _FIRST_S if seen is None else seen
    count = 0
    try:
        # A microsecond later: the last read was listed.
        async for release in client.receipts.releases(network, since=since + 1e-6):
            if release.receipt.ground not in _OWN_GROUNDS:
                count += 1
            if count > MOST_COUNTED:
                break
        async for _ in client.receipts.fetches(network, since=since + 1e-6):
            if count > MOST_COUNTED:
                break
            count += 1
    except NotFound:  # the node has no such network, or does not record fetches
        return None
    return ReadsByOthers(count, since, is_visit=seen is not None)


def _read_last_visit(client: Client) -> float | None:
    """Return the time of the last visit in epoch seconds, or None if there was none here."""
    try:
        visit = msgspec.json.decode(read_file(_path(), most_bytes=_MOST_BYTES), type=_Visit)
    except (OSError, msgspec.MsgspecError):  # it only decides what is counted as new
        return None
    if (visit.node, visit.owner) != (client.session.node_id, client.session.owner):
        return None
    return visit.seen_micros / 1_000_000


def _path() -> Path:
    return owner_home().folder / "visit.json"
