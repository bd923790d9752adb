"""Errors that stop a command or the node.

Each has a message and a next step for the person at the terminal. Neither contains a secret or a
token.
"""

from collections.abc import Sequence

from ..errors import SealspaceError


class NodeError(SealspaceError):
    """Base class of the errors that stop a command or the node."""

    code = "node-error"

    def __init__(self, message: str, *, hint: str, code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code or self.code


class ConfigurationError(NodeError):
    """A setting is unknown, has the wrong type or contradicts another setting.

    Attributes:
        faults: the error about each setting, if several are faulty.
    """

    code = "configuration-invalid"

    def __init__(
        self, message: str, *, hint: str, faults: Sequence["ConfigurationError"] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.faults = tuple(faults)


class ForeignDistribution(NodeError):
    """Another distribution uses one of our package names."""

    code = "foreign-distribution"


class ExtraMissing(NodeError):
    """A command needs a library that the base install does not have."""

    code = "extra-missing"


class SecretUnusable(NodeError):
    """The node's root secret cannot be used.

    It is unreadable, too short, or accessible to other users.
    """

    code = "secret-unusable"


class StoreMisused(NodeError):
    """The store cannot be used by this node.

    It belongs to another node, has another schema version, or is in use.
    """

    code = "store-misused"


class BesideOriginal(StoreMisused):
    """The store is a restored copy, but the original store still exists."""

    code = "beside-original"


class ReleaseLoosened(NodeError):
    """The key-release settings are looser than the recorded settings."""

    code = "release-loosened"


class CollateralRefused(NodeError):
    """A TDX collateral document from Intel is unusable or outdated."""

    code = "collateral-refused"


class AuditRefuted(NodeError):
    """An exported audit log failed verification."""

    code = "audit-refuted"


class ClockWrong(NodeError):
    """The system clock shows an implausible time.

    The time is before this version's release, or years after the release.
    """

    code = "clock-wrong"


class KeyFileUnusable(NodeError):
    """The wallet's key file cannot be used.

    It cannot be read or created, or other users can read it.
    """

    code = "key-file-unusable"


class NotSigned(NodeError):
    """The wallet in the browser returned no signature."""

    code = "not-signed"


class AnswerIncomplete(NodeError):
    """A part of an answer could not be fetched. The rest was printed."""

    code = "answer-incomplete"


class NotThere(NodeError):
    """An object named in the command does not exist."""

    code = "not-there"


class AlreadyThere(NodeError):
    """A command tried to create an object that already exists."""

    code = "already-there"


class FileUnreadable(NodeError):
    """A file named on the command line cannot be read."""

    code = "file-unreadable"


class RunFailed(NodeError):
    """A program on a runner failed or was not run."""

    code = "run-failed"


class CommandNotFound(NodeError):
    """The program that `sealspace run` should start does not exist."""

    code = "command-not-found"


class CommandNotExecutable(NodeError):
    """The program that `sealspace run` should start cannot be executed."""

    code = "command-not-executable"


class ProcessFailed(NodeError):
    """A process of the node ended and cannot be restarted."""

    code = "process-failed"
