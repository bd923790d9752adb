"""Synchronous versions of the client's services."""

from collections.abc import Iterator
from typing import Any, Self

import sealspace as aio

from ..apps import backends
from ._bridged import Bridged, alone, described

fetch_evidence = alone(backends.fetch_evidence)
deliver = alone(backends.deliver)


class Kv(Bridged, of=aio.Kv):
    """A client that reads and writes values in a space.

    Use `Client.kv` to get an instance. See `sealspace.kv.Kv`.
    """

    @described(aio.Kv.list, Iterator[str])
    def list(self, *args: Any, **kwargs: Any) -> Any:
        """Yield all keys with a given prefix."""
        # The keys are fetched in pages, because each switch to the client's thread takes 80 µs.
        for page in self.pages(*args, **kwargs):
            yield from page.keys


class Replica(Bridged, of=aio.Replica):
    """A durable local copy of the values below a prefix.

    Use `Client.replica` to get an instance. See `sealspace.apps.replica.Replica`.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PublicKv(Bridged, of=aio.PublicKv):
    """A client that reads values from a public space.

    Use `Client.public` to get an instance. See `sealspace.spaces.PublicKv`.
    """


class Secrets(Bridged, of=aio.Secrets):
    """A client that reads and writes an owner's secrets.

    Use `Client.secrets` to get an instance. See `sealspace.secrets.Secrets`.
    """


class Sharing(Bridged, of=aio.Sharing):
    """A client that shares secrets with people, and reads what others shared.

    Use `Client.sharing` to get an instance. See `sealspace.sharing.Sharing`.
    """


class Teams(Bridged, of=aio.Teams):
    """A client for teams and memberships.

    Use `Client.teams` to get an instance. See `sealspace.giving.teams.teams.Teams`.
    """


class TeamMoves(Bridged, of=aio.TeamMoves):
    """A client that moves a team to another wallet.

    Use `Client.team_moves` to get an instance. See `sealspace.giving.teams.team_moves.TeamMoves`.
    """


class Access(Bridged, of=aio.Access):
    """A client that finds out who can read a secret.

    Use `Client.access` to get an instance. See `sealspace.giving.access.Access`.
    """


class KeyRotation(Bridged, of=aio.KeyRotation):
    """A client that replaces and retires the keys of an owner's encryption networks.

    Use `Client.network_keys` to get an instance. See `sealspace.apps.key_rotation.KeyRotation`.
    """


class Contacts(Bridged, of=aio.Contacts):
    """A client for the names that an owner gives to DIDs.

    Use `Client.contacts` to get an instance. See `sealspace.apps.contacts.Contacts`.
    """


class Sql(Bridged, of=aio.Sql):
    """A client that uses a database of a space.

    Use `Client.sql` to get an instance. See `sealspace.sql.Sql`.
    """


class Spaces(Bridged, of=aio.Spaces):
    """A client that lists and creates an owner's spaces.

    Use `Client.spaces` to get an instance. See `sealspace.spaces.Spaces`.
    """


class Encryption(Bridged, of=aio.Encryption):
    """A client that encrypts and decrypts data.

    Use `Client.encryption` to get an instance. See `sealspace.encryption.Encryption`.
    """


class Delegations(Bridged, of=aio.Delegations):
    """A client that manages delegations.

    Use `Client.delegations` to get an instance. See `sealspace.delegations.Delegations`.
    """


class Attestation(Bridged, of=aio.Attestation):
    """A client that submits attestation evidence.

    Use `Client.attestation` to get an instance. See `sealspace.apps.attestation.Attestation`.
    """


class Backends(Bridged, of=aio.Backends):
    """A client that grants secrets to backends.

    Use `Client.backends` to get an instance. See `sealspace.apps.backends.Backends`.
    """


class Programs(Bridged, of=aio.Programs):
    """A client that publishes a developer's programs.

    Use `Client.programs` to get an instance. See `sealspace.apps.programs.Programs`.
    """


class Runners(Bridged, of=aio.Runners):
    """A client that grants secrets to runners.

    Use `Client.runners` to get an instance. See `sealspace.apps.runners.Runners`.
    """


class Receipts(Bridged, of=aio.Receipts):
    """A client that fetches the receipts of key releases.

    Use `Client.receipts` to get an instance. See `sealspace.receipts.Receipts`.
    """


class Withdrawals(Bridged, of=aio.Withdrawals):
    """A client for withdrawing an owner's trust in backends.

    Use `Client.withdrawals` to get an instance. See `sealspace.encryption.Withdrawals`.
    """
