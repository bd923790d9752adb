"""Ages of the newest keys of all encryption networks, for the metrics of a store."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capabilities.siwe import parse_rfc3339
from encryption_network.network_errors import RecordError
from encryption_network.networks import NetworkRecord, decode_network
from spaces.keyspace import NETWORKS_PREFIX
from spaces.store.contract import Range, Store, pages_of

_DAY_S = 86_400.0
AGE_CLASSES: Mapping[str, float] = {
    "under_30d": 30 * _DAY_S,
    "under_90d": 90 * _DAY_S,
    "under_1y": 365 * _DAY_S,
    "over_1y": float("inf"),
}
"""Name of each class -> the age below which a key belongs to it, seconds."""
_NETWORKS_AT_ONCE = 200


@dataclass(frozen=True)
class NetworkKeyAges:
    """The times when the newest keys of the active networks were made.

    Attributes:
        made_at: epoch seconds, one for each network, in no order.
    """

    made_at: Sequence[float] = ()

    def oldest_age_s(self, now: float) -> float:
        """Return the age of the oldest key in seconds; 0 without networks."""
        return now - min(self.made_at, default=now)

    def networks_by_class(self, now: float) -> dict[str, int]:
        """Return the number of networks in each of `AGE_CLASSES`."""
        counts = Counter(_class_of(now - made_at) for made_at in self.made_at)
        return {name: counts[name] for name in AGE_CLASSES}


def _class_of(age_s: float) -> str:
    for name, below_s in AGE_CLASSES.items():
        if age_s < below_s:
            return name
    return "over_1y"


async def read_key_ages(store: Store) -> NetworkKeyAges:
    """Read when the newest key of each active network was made.

    Revoked networks seal nothing. Networks that cannot be read are left out; `admin check` names
    them.

    Raises:
        SpaceError: the store cannot be read.
    """
    made_at = []
    async for page in pages_of(store, Range(NETWORKS_PREFIX, limit=_NETWORKS_AT_ONCE)):
        for _, row in page.rows:
            try:
                record = decode_network(row.value or b"")
            except RecordError:
                continue
            if record.state == "active":
                made_at.append(_made_at(record))
    return NetworkKeyAges(made_at)


def _made_at(record: NetworkRecord) -> float:
    """Return when the newest version of a network's key was made, epoch seconds."""
    # Version 1 is as old as the network.
    return parse_rfc3339(record.key_created_at or record.created_at)
