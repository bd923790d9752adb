"""Synchronous versions of the client's services, with the same methods."""

from collections.abc import Iterator
from typing import Any

from .. import client as aio
from ..apps import backends
from ._bridged import Bridged, alone, described

fetch_evidence = alone(backends.fetch_evidence)
deliver = alone(backends.deliver)


class Kv(Bridged, of=aio.Kv):
    """The client for reading and writing the values in a space. Use `Client.kv` to get an instance.

    See `sealspace.kv.Kv`.
    """

    @described(aio.Kv.list, Iterator[str])
    def list(self, *args: Any, **kwargs: Any) -> Any:
        """Yield all keys with a prefix, fetching one page at a time."""
        # Not key by key: each switch to the client's thread takes 80 µs.
        for page in self.pages(*args, **kwargs):
            yield from page.keys


class PublicKv(Bridged, of=aio.PublicKv):
    """Read access to a public space. Use `Client.public` to get an instance.

    See `sealspace.spaces.PublicKv`.
    """


class Secrets(Bridged, of=aio.Secrets):
    """The client for an owner's secrets. Use `Client.secrets` to get an instance.

    See `sealspace.secrets.Secrets`.
    """


class Spaces(Bridged, of=aio.Spaces):
    """The client for an owner's spaces. Use `Client.spaces` to get an instance.

    See `sealspace.spaces.Spaces`.
    """


class Encryption(Bridged, of=aio.Encryption):
    """Methods for encrypting and decrypting data. Use `Client.encryption` to get an instance.

    See `sealspace.encryption.Encryption`.
    """


class Delegations(Bridged, of=aio.Delegations):
    """Methods for managing delegations. Use `Client.delegations` to get an instance.

    See `sealspace.delegations.Delegations`.
    """


class Attestation(Bridged, of=aio.Attestation):
    """Methods for submitting attestation evidence. Use `Client.attestation` to get an instance.

    See `sealspace.apps.attestation.Attestation`.
    """


class Backends(Bridged, of=aio.Backends):
    """Methods for granting secrets to backends. Use `Client.backends` to get an instance.

    See `sealspace.apps.backends.Backends`.
    """


class Programs(Bridged, of=aio.Programs):
    """Access to a developer's programs. Use `Client.programs` to get an instance.

    See `sealspace.apps.programs.Programs`.
    """


class Runners(Bridged, of=aio.Runners):
    """Methods for granting secrets to runners. Use `Client.runners` to get an instance.

    See `sealspace.apps.runners.Runners`.
    """


class Receipts(Bridged, of=aio.Receipts):
    """Access to a node's key-release receipts. Use `Client.receipts` to get an instance.

    See `sealspace.receipts.Receipts`.
    """


class Withdrawals(Bridged, of=aio.Withdrawals):
    """Methods for withdrawing trust in backends. Use `Client.withdrawals` to get an instance.

    See `sealspace.encryption.Withdrawals`.
    """
