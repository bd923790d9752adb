"""Interfaces for platforms that make quotes and may have a key service.

Example:
    source = DstackSource.find()
    backend = Backend(client, source)
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from capabilities.strict_json import Json

from ..attestation.attestation_errors import QuoteRefused
from ..attestation.event_log import EventLog
from ..attestation.quote import MAX_QUOTE_BYTES, parse_quote
from ..attestation.report_data import REPORT_DATA_BYTES
from .evidence_errors import SourceMalformed


@dataclass(frozen=True, slots=True)
class Quoted:
    """A quote, with the event log as it was when the quote was made."""

    quote: bytes = field(repr=False)
    event_log: EventLog | None = field(default=None, repr=False)

    @property
    def log_entries(self) -> list[Json] | None:
        """The run-time entries of the event log as JSON, or None if there is no log."""
        return None if self.event_log is None else self.event_log.to_json()


class EvidenceSource(Protocol):
    """A source of quotes for a backend.

    Quote and log come from one call. A log from a later call could contain an entry that the quote
    does not cover.
    """

    def quote(self, report_data: bytes) -> Quoted:
        """Return a quote over 64 bytes of report data, with its event log. May block."""
        ...


@runtime_checkable
class KeySource(Protocol):
    """A key service that gives an application the same keys across restarts."""

    def key(self, path: str) -> bytes:
        """Return a secret key of at least 32 bytes for a derivation path. May block."""
        ...


def check_report_data_size(report_data: bytes) -> None:
    """Raise ValueError unless report data are exactly 64 bytes long.

    Platforms pad shorter data differently.
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise ValueError(
            f"report data must have {REPORT_DATA_BYTES} bytes, but has {len(report_data)}"
        )


def checked_quote(quote: bytes, report_data: bytes) -> bytes:
    """Return a quote after checking that it is a TDX quote over the given report data.

    The process that serves the interface may have mixed up two callers, or may have hashed the
    data. Detected here, the reason is clearer than in a node's refusal.

    Raises:
        SourceMalformed: not a TDX quote, or a quote over other report data.
    Does not check:
        Signatures; the node checks them.
    """
    if len(quote) > MAX_QUOTE_BYTES:
        raise SourceMalformed(f"the quote has more than {MAX_QUOTE_BYTES} bytes")
    try:
        found = parse_quote(quote).report.report_data
    except QuoteRefused as exc:
        raise SourceMalformed(f"the platform returned no TDX quote: {exc.detail}") from exc
    if found != report_data:  # AT27
        raise SourceMalformed("the quote does not cover the requested report data")
    return quote
