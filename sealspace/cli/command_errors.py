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
    """A setting is unknown, has the wrong type or contradicts another."""

    code = "configuration-invalid"


class ForeignDistribution(NodeError):
    """Another distribution or module on the import path uses one of our package names."""

    code = "foreign-distribution"


class ExtraMissing(NodeError):
    """A command needs a library that the base install does not have."""

    code = "extra-missing"


class SecretUnusable(NodeError):
    """The root secret is unreadable, too short, or accessible to other users."""

    code = "secret-unusable"


class StoreMisused(NodeError):
    """The store belongs to another node, has another schema version, or is in use."""

    code = "store-misused"


class BesideOriginal(StoreMisused):
    """The store is a restored copy, but the original store still exists."""

    code = "beside-original"


class ReleaseLoosened(NodeError):
    """The settings for key releases are looser than the settings recorded in the store."""

    code = "release-loosened"


class CollateralRefused(NodeError):
    """A document of Intel's attestation collateral is unusable, or older than the stored one."""

    code = "collateral-refused"


class AuditRefuted(NodeError):
    """The verification of an exported audit chain failed."""

    code = "audit-refuted"


class ClockWrong(NodeError):
    """The system clock shows a time before this version's release, or years after the release."""

    code = "clock-wrong"


class KeyFileUnusable(NodeError):
    """The wallet's key file cannot be read or created, or other users can read it."""

    code = "key-file-unusable"


class NotSigned(NodeError):
    """The wallet in the browser returned no signature."""

    code = "not-signed"


class NotThere(NodeError):
    """The command's argument refers to a missing object, such as a secret or a grant."""

    code = "not-there"


class AlreadyThere(NodeError):
    """A command tried to create an object that already exists."""

    code = "already-there"


class FileUnreadable(NodeError):
    """A file named on the command line cannot be read."""

    code = "file-unreadable"


class RunFailed(NodeError):
    """A runner did not run a program, or the program failed."""

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
