"""Exceptions for platforms that return no quote or key.

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
    """The quote interface is missing or does not respond in time.

    Also raised if the interface is not for TDX.
    """

    code = "source_unavailable"
    hint = (
        "mount the guest agent's socket into the container, or run in a TDX guest with configfs;"
        " without such a machine, try a simulated one: sealspace backend simulate FOLDER"
    )


class SourceRefused(EvidenceSourceError):
    """The quote interface refused a correct request.

    Also raised if another process was using the interface.
    """

    code = "source_refused"
    hint = "try again; if it stays, read the log of the guest agent, or of the kernel"


class SourceMalformed(EvidenceSourceError):
    """The quote interface returned an invalid response.

    The response is malformed, or the quote has the wrong report data.
    """

    code = "source_malformed"
    hint = "check which program answers on the agent's socket, and that it is a version of dstack"
