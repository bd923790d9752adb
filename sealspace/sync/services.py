"""The synchronous services of a client, with the methods of their counterparts in `sealspace`."""

from collections.abc import Iterator
from typing import Any

from .. import client as aio
from ..apps import backends
from ._bridged import Bridged, alone, described

fetch_evidence = alone(backends.fetch_evidence)
deliver = alone(backends.deliver)


class Kv(Bridged, of=aio.Kv):
    """The values of one space; made by `Client.kv`. As `sealspace.kv.Kv`."""

    @described(aio.Kv.list, Iterator[str])
    def list(self, *args: Any, **kwargs: Any) -> Any:
        """Iterate by pages, not by keys: a change of threads takes 80 µs."""
        for page in self.pages(*args, **kwargs):
            yield from page.keys


class PublicKv(Bridged, of=aio.PublicKv):
    """The values of a public space; made by `Client.public`. As `sealspace.spaces.PublicKv`."""


class Secrets(Bridged, of=aio.Secrets):
    """The secrets of one owner; made by `Client.secrets`. As `sealspace.secrets.Secrets`."""


class Spaces(Bridged, of=aio.Spaces):
    """The spaces of an owner; made by `Client.spaces`. As `sealspace.spaces.Spaces`."""


class Encryption(Bridged, of=aio.Encryption):
    """The encryption networks of a node; made by `Client.encryption`.

    As `sealspace.encryption.Encryption`.
    """


class Delegations(Bridged, of=aio.Delegations):
    """The grants by and to a session; made by `Client.delegations`.

    As `sealspace.delegations.Delegations`.
    """


class Attestation(Bridged, of=aio.Attestation):
    """The attestation routes of a node; made by `Client.attestation`.

    As `sealspace.apps.attestation.Attestation`.
    """


class Backends(Bridged, of=aio.Backends):
    """The grants to backends; made by `Client.backends`.

    As `sealspace.apps.backends.Backends`.
    """


class Programs(Bridged, of=aio.Programs):
    """The projects of a developer; made by `Client.programs`.

    As `sealspace.apps.programs.Programs`.
    """


class Runners(Bridged, of=aio.Runners):
    """The grants to runners; made by `Client.runners`. As `sealspace.apps.runners.Runners`."""


class Receipts(Bridged, of=aio.Receipts):
    """The receipts of a node; made by `Client.receipts`. As `sealspace.receipts.Receipts`."""


class Withdrawals(Bridged, of=aio.Withdrawals):
    """The owner's withdrawals; made by `Client.withdrawals`.

    As `sealspace.encryption.Withdrawals`.
    """
