"""Interfaces to platforms that make attestation quotes.

Some platforms also have a key service.

Example:
    source = DstackSource.find()
    backend = Backend(client, source)
"""

from dataclasses import field
from typing import Protocol, runtime_checkable

from capabilities.frozen import frozen
from capabilities.strict_json import Json

from ..attestation.attestation_errors import QuoteRefused
from ..attestation.event_log import EventLog
from ..attestation.quote import MAX_QUOTE_BYTES, parse_quote
from ..attestation.report_data import REPORT_DATA_BYTES
from .evidence_errors import SourceMalformed


@frozen
class Quoted:
    """An attestation quote and its event log."""

    quote: bytes = field(repr=False)
    event_log: EventLog | None = field(default=None, repr=False)

    @property
    def log_entries(self) -> list[Json] | None:
        """The runtime entries of the event log as JSON, or None."""
        return None if self.event_log is None else self.event_log.to_json()


class EvidenceSource(Protocol):
    """A source of attestation quotes.

    The quote and the log come from one call. A log from a later call could contain an entry that
    the quote does not cover.
    """

    def quote(self, report_data: bytes) -> Quoted:
        """Return an attestation quote over the given report data.

        The report data has 64 bytes. The call may block.
        """


@runtime_checkable
class KeySource(Protocol):
    """A key service that returns the same keys after a restart."""

    def key(self, path: str) -> bytes:
        """Return the secret key for a derivation path.

        The key has at least 32 bytes. The call may block.
        """


def check_report_data_size(report_data: bytes) -> None:
    """Raise ValueError unless the report data has 64 bytes.

    Platforms pad shorter data differently.
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise ValueError(
            f"report data must be {REPORT_DATA_BYTES} bytes long, but is {len(report_data)}"
        )


def checked_quote(quote: bytes, report_data: bytes) -> bytes:
    """Check that a TDX quote covers the given report data.

    Returns the quote unchanged. The process that serves the interface may have mixed up two
    callers, or may have hashed the data. An error from this check is clearer than a refusal by the
    node.

    Raises:
        SourceMalformed: not a TDX quote, or a quote over other report data.
    Does not check:
        Signatures; the node checks them.
    """
    if len(quote) > MAX_QUOTE_BYTES:
        raise SourceMalformed(f"the quote has more than {MAX_QUOTE_BYTES} bytes")
    try:
        quoted_data = parse_quote(quote).report.report_data
    except QuoteRefused as exc:
        raise SourceMalformed(f"the platform returned no TDX quote: {exc.detail}") from exc
    if quoted_data != report_data:  # the node would refuse it with a less clear error (AT27)
        raise SourceMalformed("the quote does not cover the requested report data")
    return quote
