"""Tests of the codes of errors that stop a command."""

from sealspace.cli.keep.dotenv import BrokenEntry
from sealspace.errors import SealspaceError
from sealspace.service.command_errors import NodeError

CODES = {
    "AlreadyThere": "already-there",
    "AuditRefuted": "audit-refuted",
    "BesideOriginal": "beside-original",
    "BrokenEntry": "broken-entry",
    "ClockWrong": "clock-wrong",
    "CollateralRefused": "collateral-refused",
    "CommandNotExecutable": "command-not-executable",
    "CommandNotFound": "command-not-found",
    "ConfigurationError": "configuration-invalid",
    "ExtraMissing": "extra-missing",
    "FileUnreadable": "file-unreadable",
    "ForeignDistribution": "foreign-distribution",
    "KeyFileUnusable": "key-file-unusable",
    "NodeError": "node-error",
    "NotSigned": "not-signed",
    "AnswerIncomplete": "answer-incomplete",
    "NotThere": "not-there",
    "ProcessFailed": "process-failed",
    "ReleaseLoosened": "release-loosened",
    "RunFailed": "run-failed",
    "SecretUnusable": "secret-unusable",
    "StoreMisused": "store-misused",
}


def derived(kind: type[SealspaceError]) -> set[type[SealspaceError]]:
    """Return a class and all classes derived from it in its module."""
    below = [one for one in kind.__subclasses__() if one.__module__ == kind.__module__]
    return {kind}.union(*(derived(one) for one in below))


def every_class() -> set[type[SealspaceError]]:
    return derived(NodeError) | {BrokenEntry}


def test_codes_do_not_change() -> None:
    """The error codes equal the recorded ones, because scripts rely on them."""
    assert {kind.__name__: kind.code for kind in every_class()} == CODES


def test_each_class_has_its_code_in_its_body() -> None:
    """Each error class defines its code in its own body, so a search for the code finds the
    class."""
    assert all("code" in vars(kind) for kind in every_class())
