"""Synchronous versions of the client's services, with the same methods."""

from collections.abc import Iterator
from typing import Any

from .. import client as aio
from ..apps import backends
from ._bridged import Bridged, alone, described

fetch_evidence = alone(backends.fetch_evidence)
deliver = alone(backends.deliver)


class Kv(Bridged, of=aio.Kv):
    """Access to the values of one space. Obtain it with `Client.kv`.

    See `sealspace.kv.Kv`.
    """

    @described(aio.Kv.list, Iterator[str])
    def list(self, *args: Any, **kwargs: Any) -> Any:
        """Yield all keys with a prefix, page by page, because each thread switch takes 80 µs."""
        for page in self.pages(*args, **kwargs):
            yield from page.keys


class PublicKv(Bridged, of=aio.PublicKv):
    """Read access to a public space. Obtain it with `Client.public`.

    See `sealspace.spaces.PublicKv`.
    """


class Secrets(Bridged, of=aio.Secrets):
    """Access to the secrets of one owner. Obtain it with `Client.secrets`.

    See `sealspace.secrets.Secrets`.
    """


class Spaces(Bridged, of=aio.Spaces):
    """Access to the spaces of an owner. Obtain it with `Client.spaces`.

    See `sealspace.spaces.Spaces`.
    """


class Encryption(Bridged, of=aio.Encryption):
    """Access to a node's encryption networks. Obtain it with `Client.encryption`.

    See `sealspace.encryption.Encryption`.
    """


class Delegations(Bridged, of=aio.Delegations):
    """Access to the grants of a session. Obtain it with `Client.delegations`.

    See `sealspace.delegations.Delegations`.
    """


class Attestation(Bridged, of=aio.Attestation):
    """Access to a node's attestation routes. Obtain it with `Client.attestation`.

    See `sealspace.apps.attestation.Attestation`.
    """


class Backends(Bridged, of=aio.Backends):
    """Access to grants for backends. Obtain it with `Client.backends`.

    See `sealspace.apps.backends.Backends`.
    """


class Programs(Bridged, of=aio.Programs):
    """Access to the projects of a developer. Obtain it with `Client.programs`.

    See `sealspace.apps.programs.Programs`.
    """


class Runners(Bridged, of=aio.Runners):
    """Access to grants for runners. Obtain it with `Client.runners`.

    See `sealspace.apps.runners.Runners`.
    """


class Receipts(Bridged, of=aio.Receipts):
    """Access to a node's receipts of key releases. Obtain it with `Client.receipts`.

    See `sealspace.receipts.Receipts`.
    """


class Withdrawals(Bridged, of=aio.Withdrawals):
    """Access to the owner's withdrawals. Obtain it with `Client.withdrawals`.

    See `sealspace.encryption.Withdrawals`.
    """
