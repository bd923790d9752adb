"""The error of files from which no reference values can be computed."""

from typing import Literal

from sealspace.errors import SealspaceError

MeasuringProblem = Literal[
    # The file is not a compose file, or one that this version cannot read.
    "compose-malformed",
    # A container is not pinned by a digest, so the hash of the file does not name its code.
    "compose-unpinned",
    # The folder lacks a required file, or has two files of one kind.
    "folder-incomplete",
    # The guest agent's answer is not one, or is too long.
    "answer-malformed",
    # Quote, event log and compose file are not of one start of one application.
    "log-mismatch",
    # The trust domain is in a state that can never be trusted: debug, migratable, …
    "domain-unsafe",
    # The firmware has no TDX metadata of a supported version.
    "firmware-unsupported",
    # The firmware, or the image's description, is not that of the quote.
    "firmware",
    # The image's description is malformed, or does not have the stated hash.
    "image-malformed",
]


class MeasurementRefused(SealspaceError):
    """The files do not give reference values.

    Attributes:
        problem: the stable name of the problem.
    """

    code = "measurement-refused"

    def __init__(self, message: str, *, problem: MeasuringProblem, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.problem = problem
