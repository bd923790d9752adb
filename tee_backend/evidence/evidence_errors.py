"""Errors of the quote and key sources.

Each message ends with what to do next. `detail` may contain text from the platform and is for the
backend's own log. The codes are not in kebab-case, because a response body ends with them (`GET
/attestation`, AT44).
"""

from typing import ClassVar

MAX_DETAIL_CHARS = 400
"""A detail may contain text from a guest agent, so it is cut."""


class EvidenceSourceError(Exception):
    """The platform did not return a usable quote or key."""

    code: ClassVar[str] = "evidence_source"
    hint: ClassVar[str] = "sealspace doctor"

    def __init__(self, detail: str) -> None:
        self.detail = detail[:MAX_DETAIL_CHARS]
        super().__init__(f"{self.code}: {self.detail}; next: {self.hint}")


class SourceUnavailable(EvidenceSourceError):
    """The quote interface is missing, is not for TDX, or does not respond in time."""

    code = "source_unavailable"
    hint = (
        "mount the guest agent's socket into the container, or run in a TDX guest with configfs;"
        " without such a machine, try a simulated one: sealspace backend simulate FOLDER"
    )


class SourceRefused(EvidenceSourceError):
    """The quote interface refused a correct request, or was in use by another process."""

    code = "source_refused"
    hint = "try again; if it stays, read the log of the guest agent, or of the kernel"


class SourceMalformed(EvidenceSourceError):
    """The quote interface sent a malformed response, or a quote with the wrong report data."""

    code = "source_malformed"
    hint = "check which program answers on the agent's socket, and that it is a version of dstack"
