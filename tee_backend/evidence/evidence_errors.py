"""What can go wrong between a backend and the platform that it runs on.

Each message ends with what to do next. `detail` may hold words of the platform's; it is for the log
of the backend itself. The codes are not in kebab-case: a body of the wire ends with them (`GET
/attestation`, AT44).
"""

from typing import ClassVar

MAX_DETAIL_CHARS = 400
"""A detail may hold text of a guest agent; it is cut."""


class EvidenceSourceError(Exception):
    """No quote was obtained."""

    code: ClassVar[str] = "evidence_source"
    hint: ClassVar[str] = "sealspace doctor"

    def __init__(self, detail: str) -> None:
        self.detail = detail[:MAX_DETAIL_CHARS]
        super().__init__(f"{self.code}: {self.detail}; next: {self.hint}")


class SourceUnavailable(EvidenceSourceError):
    """There is no such interface here, it is one of another technology, or it does not answer in
    time."""

    code = "source_unavailable"
    hint = (
        "mount the guest agent's socket into the container, or run in a TDX guest with configfs; to"
        " try things out without one: tee_backend.evidence.simulated"
    )


class SourceRefused(EvidenceSourceError):
    """The interface refuses a proper request, or another process used it at the same time."""

    code = "source_refused"
    hint = "try again; if it stays, read the log of the guest agent, or of the kernel"


class SourceMalformed(EvidenceSourceError):
    """The answer is too large, not of the expected shape, or a quote with other report data."""

    code = "source_malformed"
    hint = (
        "find out which program answers on the agent's socket, and whether its version is one of"
        " dstack's"
    )
