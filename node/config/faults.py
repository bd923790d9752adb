"""The faults of a node's settings, which are reported together."""

from collections.abc import Iterator
from contextlib import contextmanager

from sealspace.service.command_errors import ConfigurationError


class Faults(list[ConfigurationError]):
    """The faults that were found so far."""

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Record the fault that is raised in the `with` block, and go on behind it."""
        try:
            yield
        except ConfigurationError as error:
            self += error.faults or [error]

    def require_none(self) -> None:
        """Raise an exception if any faults were recorded."""
        if len(self) == 1:
            raise self[0]
        if self:
            raise ConfigurationError(
                "; ".join(fault.message for fault in self),
                hint="; ".join(dict.fromkeys(fault.hint for fault in self)),
                faults=self,
            )
