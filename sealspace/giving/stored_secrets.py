"""The secrets that somebody stored, by the versions that the node keeps (M62).

Example:
    stored = await secrets_stored_by(client.kv("secrets"), did)
    print(", ".join(stored.labels))
"""

from typing import NamedTuple

from capabilities.principals import same_principal

from ..documents.secret_names import secret_at
from ..errors import NotFound
from ..kv import Kv
from ..wire.concurrency import all_of
from .released_secrets import paths_of_secrets

MOST_SECRETS = 1000
"""Most secrets whose versions are read, with one request each."""
_AT_ONCE = 8


class StoredSecrets(NamedTuple):
    """The secrets that somebody stored, as far as the node keeps the values.

    Attributes:
        labels: of the secrets, in ascending order.
        unread_count: the number of other secrets, whose versions were not read.
    """

    labels: tuple[str, ...]
    unread_count: int


async def secrets_stored_by(secrets: Kv, did: str) -> StoredSecrets:
    """Return the secrets of which a person stored the present or a former value.

    The node states who stored a value, and nothing proves it. Values that an earlier version of the
    node stored, or that it does not keep any more, do not count.

    Args:
        secrets: the values of the space `secrets`, of a client that may read their versions: the
            owner's, or a writer's or an admin's of a team.
        did: DID of the person's wallet.
    Raises:
        SealspaceError: as `Kv.list` and `Kv.versions`.
    """
    paths: dict[str, str] = {}  # label of a secret -> path
    for path in await paths_of_secrets(secrets):
        secret = secret_at(path)
        if secret is not None:
            paths[secret.label] = path
    labels = sorted(paths)[:MOST_SECRETS]

    async def is_stored_by_person(label: str) -> bool:
        try:
            versions = await secrets.versions(paths[label])
        except NotFound:  # it was deleted with all versions meanwhile
            return False
        for version in versions:
            if version.stored_by is not None and same_principal(version.stored_by, did):
                return True
        return False

    are_stored = await all_of(is_stored_by_person, labels, at_once=_AT_ONCE)
    stored = [label for label, is_stored in zip(labels, are_stored, strict=True) if is_stored]
    return StoredSecrets(labels=tuple(stored), unread_count=len(paths) - len(labels))
