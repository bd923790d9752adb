"""What can go wrong between a backend and the platform that it runs on.

    EvidenceSourceError        evidence_source
    ├── SourceUnavailable      source_unavailable      nothing there that makes quotes, or it does not answer in time
    ├── SourceRefused          source_refused          it refuses the request
    └── SourceMalformed        source_malformed        its answer is none, or a quote over something else

`detail` may hold words of the platform's; it is for the log of the backend itself. The codes are not in kebab-case: a
body of the wire ends with them (`GET /attestation`, AT44).
"""

from typing import ClassVar

MAX_DETAIL_CHARS = 400
"""A detail may hold text of a guest agent; it is cut."""


class EvidenceSourceError(Exception):
    """No quote was obtained.

    Attributes:
        code: stable name of the kind.
        detail: what exactly was found.
    """

    code: ClassVar[str] = "evidence_source"

    def __init__(self, detail: str) -> None:
        self.detail = detail[:MAX_DETAIL_CHARS]
        super().__init__(f"{self.code}: {self.detail}")


class SourceUnavailable(EvidenceSourceError):
    """There is no such interface here, it is one of another technology, or it does not answer in time."""

    code = "source_unavailable"


class SourceRefused(EvidenceSourceError):
    """The interface refuses a proper request, or another process used it at the same time."""

    code = "source_refused"


class SourceMalformed(EvidenceSourceError):
    """The answer is too large, not of the expected shape, or a quote with other report data."""

    code = "source_malformed"
