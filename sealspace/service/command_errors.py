"""Errors that stop a command or the node.

Each has a message and a next step for the person at the terminal. Neither contains a secret or a
token.
"""

from ..errors import SealspaceError


class NodeError(SealspaceError):
    """Base class of the errors that stop a command or the node."""

    code = "node-error"

    def __init__(self, message: str, *, hint: str, code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code or self.code


class ConfigurationError(NodeError):
    """A setting is unknown, has the wrong type or contradicts another setting."""

    code = "configuration-invalid"


class ForeignDistribution(NodeError):
    """Another distribution uses one of our package names."""


class ExtraMissing(NodeError):
    """A command needs a library that the base install does not have."""


class SecretUnusable(NodeError):
    """The node's root secret cannot be used.

    It is unreadable, too short, or accessible to other users.
    """


class StoreMisused(NodeError):
    """The store cannot be used by this node.

    It belongs to another node, has another schema version, or is in use.
    """


class BesideOriginal(StoreMisused):
    """The store is a restored copy, but the original store still exists."""


class ReleaseLoosened(NodeError):
    """The key-release settings are looser than the recorded settings."""


class CollateralRefused(NodeError):
    """A TDX collateral document from Intel is unusable or outdated."""


class AuditRefuted(NodeError):
    """An exported audit log failed verification."""


class ClockWrong(NodeError):
    """The system clock shows an implausible time.

    The time is before this version's release, or years after the release.
    """


class KeyFileUnusable(NodeError):
    """The wallet's key file cannot be used.

    It cannot be read or created, or other users can read it.
    """


class NotSigned(NodeError):
    """The wallet in the browser returned no signature."""


class NotThere(NodeError):
    """An object named in the command does not exist."""


class AlreadyThere(NodeError):
    """A command tried to create an object that already exists."""


class FileUnreadable(NodeError):
    """A file named on the command line cannot be read."""


class RunFailed(NodeError):
    """A program on a runner failed or was not run."""


class CommandNotFound(NodeError):
    """The program that `sealspace run` should start does not exist."""


class CommandNotExecutable(NodeError):
    """The program that `sealspace run` should start cannot be executed."""


class ProcessFailed(NodeError):
    """A process of the node ended and cannot be restarted."""
