"""The faults of a node's settings, which are reported together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sealspace.service.command_errors import ConfigurationError


class SeveralFaults(ConfigurationError):
    """Several settings are faulty.

    Attributes:
        faults: the error about each of them.
    """

    def __init__(self, faults: Sequence[ConfigurationError]) -> None:
        super().__init__(
            "; ".join(fault.message for fault in faults),
            hint="; ".join(dict.fromkeys(fault.hint for fault in faults)),
        )
        self.faults = tuple(faults)


class Faults(list[ConfigurationError]):
    """The faults that were found so far."""

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Record the fault that is raised in the `with` block, and go on behind it."""
        try:
            yield
        except SeveralFaults as error:
            self += error.faults
        except ConfigurationError as error:
            self.append(error)

    def require_none(self) -> None:
        """Raise an exception if any faults were recorded."""
        if len(self) == 1:
            raise self[0]
        if self:
            raise SeveralFaults(self)
