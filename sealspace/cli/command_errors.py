"""The node's own errors: what prevents it from starting, and what a command reports.

Each carries two lines for a person: what happened, and the next thing to do. Neither contains a
secret or a token.
"""

from ..errors import SealspaceError


class NodeError(SealspaceError):
    """Base of the errors that prevent the node or a command from doing its work."""

    code = "node-error"

    def __init__(self, message: str, *, hint: str, code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code or self.code


class ConfigurationError(NodeError):
    """A setting is unknown, has the wrong type or contradicts another."""

    code = "configuration-invalid"


class ForeignDistribution(NodeError):
    """Another distribution, or a module earlier on the import path, has one of our package
    names."""

    code = "foreign-distribution"


class ExtraMissing(NodeError):
    """A command needs a library that the base install does not have."""

    code = "extra-missing"


class SecretUnusable(NodeError):
    """The root secret cannot be read, is too short or is open to others."""

    code = "secret-unusable"


class StoreMisused(NodeError):
    """The store belongs to another node, another schema or is in use."""

    code = "store-misused"


class BesideOriginal(StoreMisused):
    """The store was restored from a backup, and the store that the backup was taken of is still in
    its place."""

    code = "beside-original"


class ReleaseLoosened(NodeError):
    """The configuration is looser than the release record in the store."""

    code = "release-loosened"


class CollateralRefused(NodeError):
    """A collateral document is unusable, or older than the stored one."""

    code = "collateral-refused"


class AuditRefuted(NodeError):
    """An exported audit chain fails its verification."""

    code = "audit-refuted"


class ClockWrong(NodeError):
    """The machine's clock shows a time before this version was made, or long after."""

    code = "clock-wrong"


class KeyFileUnusable(NodeError):
    """The file with the owner's wallet key cannot be read or made, or is open to others."""

    code = "key-file-unusable"


class NotSigned(NodeError):
    """The owner's wallet in a browser was asked, and nobody signed."""

    code = "not-signed"


class NotThere(NodeError):
    """There is nothing of the name that a command was given."""

    code = "not-there"


class AlreadyThere(NodeError):
    """There is something of the name that a command was given, which is not to be replaced."""

    code = "already-there"


class FileUnreadable(NodeError):
    """A file that a command was given cannot be read."""

    code = "file-unreadable"


class RunFailed(NodeError):
    """A runner did not run a program, or the program failed."""

    code = "run-failed"


class CommandNotFound(NodeError):
    """The program that is to be run with secrets does not exist."""

    code = "command-not-found"


class CommandNotExecutable(NodeError):
    """The program that is to be run with secrets cannot be started."""

    code = "command-not-executable"


class ProcessFailed(NodeError):
    """A process of the node ended and cannot be started again."""

    code = "process-failed"
