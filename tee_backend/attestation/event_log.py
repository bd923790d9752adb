"""Event logs of TDX guests.

The digests of the entries were extended into the RTMR registers.

A log is a JSON array of entries:

| member | form |
|---|---|
| imr | 0 to 3: the run-time register |
| event_type | u32 |
| digest | lower-case hex of 48 bytes; may be empty for run-time events |
| event | name; ASCII |
| event_payload | lower-case hex |
| version | 1 (also when absent) or 2: which digest a run-time event has |
| preimage | optional hex of what a run-time event's digest is made over |

Firmware and kernel wrote registers 0 to 2. A policy compares these registers directly, so only the
shape of their entries is checked. Register 3 contains run-time events, whose digests follow from
name and payload:

    version 1   SHA384( LE32(type) ‖ ":" ‖ name ‖ ":" ‖ payload )
    version 2   SHA384( canonical JSON of {"name", "payload" (hex), "type"} )
    register    48 zero bytes at first; with each entry SHA384( register ‖ digest )

The sender of a log chose every byte of it. So `runtime_entries` recomputes each digest and never
uses a supplied one. Otherwise an approved payload could be shown with the digest of another
payload.

Example:
    log = parse_event_log(text)
    assert replay(runtime_entries(log)) == quote.report.rtmr3

Source: spec/attestation.md AT20; the dstack guest agent's event log, version 1 and 2.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import Json, StrictRecord, parse_json, shaped
from encryption_network.canonical_json import canonical_bytes

from .attestation_errors import QuoteRefused

RUNTIME_EVENT_TYPE = 0x0800_0001
RUNTIME_REGISTER = 3
REGISTER_BYTES = 48

MAX_LOG_BYTES = 256 * 1024
"""Genuine logs are 5 to 8 KiB."""
MAX_ENTRIES = 256
"""Genuine logs have about 30 entries."""
MAX_PAYLOAD_BYTES = 16 * 1024
MAX_NAME_CHARS = 128

EventVersion = Literal[1, 2]

# No colon in names: with one, two different pairs of name and payload could have the same version 1
# digest.
_RUNTIME_NAME = re.compile(r"[ -9;-~]+")
_HEX = r"^(?:[0-9a-f]{2})*\Z"


class Event(StrictRecord, omit_defaults=True):
    """An unverified event log entry.

    The digest may be empty, and the preimage may be missing.
    """

    register: Annotated[int, Meta(ge=0, le=RUNTIME_REGISTER)] = field(name="imr")
    event_type: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    digest: Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{96})?\Z")]
    name: Annotated[str, Meta(max_length=MAX_NAME_CHARS, pattern=r"^[ -~]*\Z")] = field(
        name="event"
    )
    payload_hex: Annotated[str, Meta(max_length=2 * MAX_PAYLOAD_BYTES, pattern=_HEX)] = field(
        name="event_payload"
    )
    version: EventVersion = 1
    preimage: Annotated[str, Meta(max_length=8 * MAX_PAYLOAD_BYTES, pattern=_HEX)] | UnsetType = (
        UNSET
    )

    @property
    def payload(self) -> bytes:
        """The decoded payload of the entry."""
        return bytes.fromhex(self.payload_hex)


class EventLog(StrictRecord):
    """An unverified event log of a TDX guest."""

    entries: Annotated[tuple[Event, ...], Meta(max_length=MAX_ENTRIES)]

    def to_json(self) -> list[Json]:
        """Return the event log's RTMR3 entries as a JSON array.

        `read_event_log` can parse the array. Entries of registers 0 to 2 are left out, because no
        reader uses them and they describe the machine.
        """
        return [
            msgspec.to_builtins(event)
            for event in self.entries
            if event.register == RUNTIME_REGISTER
        ]


def parse_event_log(data: bytes) -> EventLog:
    """Parse an event log in the JSON format of guest agents."""
    if len(data) > MAX_LOG_BYTES:
        raise QuoteRefused(
            "event-log-malformed",
            f"the event log has {len(data)} bytes; the maximum is {MAX_LOG_BYTES}",
        )
    try:
        # The strict parser accepts objects only, so the array is wrapped. Text that closes the
        # array early would add members, which are refused.
        wrapped = parse_json(b'{"entries":%s}' % data, max_bytes=MAX_LOG_BYTES + 16)
    except InvalidJson as exc:
        raise QuoteRefused("event-log-malformed", f"event log: {exc}") from exc
    return _convert_entries(wrapped)


def read_event_log(value: Json) -> EventLog:
    """Convert a parsed JSON array to an event log.

    Args:
        value: the array; untrusted, its text bounded by the caller.
    Raises:
        QuoteRefused: `event-log-malformed`, not an array, too many entries, too much payload, or an
            entry with missing, unknown or mistyped members.
    Does not check:
        The contents of the entries: see `runtime_entries`.
    """
    return _convert_entries({"entries": value})


def _convert_entries(wrapped: Json) -> EventLog:
    """Convert a parsed object to an event log, and check its size and digests."""
    try:
        log = shaped(wrapped, EventLog)
    except InvalidJson as exc:
        raise QuoteRefused("event-log-malformed", f"event log: {exc}") from exc
    if any(not event.digest and event.register != RUNTIME_REGISTER for event in log.entries):
        raise QuoteRefused("event-log-malformed", "an entry of the event log has no digest")
    if sum(len(event.payload_hex) for event in log.entries) > MAX_LOG_BYTES:
        raise QuoteRefused(
            "event-log-malformed",
            f"the event payloads have more than {MAX_LOG_BYTES} hex digits in total",
        )
    return log


def runtime_entries(log: EventLog) -> tuple[Event, ...]:
    """Check and return the RTMR3 entries of an event log.

    These are called run-time entries.

    Raises:
        QuoteRefused: `event-log`, an entry of register 3 with another type, or a run-time event in
            another register; a name that is empty or contains a colon; a digest or preimage that
            does not follow from name and payload.
    """
    for event in log.entries:
        # The digest of another type in this register could not be recomputed (AT20).
        has_runtime_register = event.register == RUNTIME_REGISTER
        has_runtime_type = event.event_type == RUNTIME_EVENT_TYPE
        if has_runtime_register != has_runtime_type:
            raise QuoteRefused(
                "event-log",
                f"event type {event.event_type:#x} is not allowed for register {event.register}",
            )
    runtime_events = tuple(event for event in log.entries if event.register == RUNTIME_REGISTER)
    for event in runtime_events:
        if _RUNTIME_NAME.fullmatch(event.name) is None:
            raise QuoteRefused(
                "event-log", "the name of a run-time event is empty or contains a colon"
            )
        preimage = event_preimage(event.name, event.payload, version=event.version)
        # The digest that the sender states proves nothing by itself (AT20).
        if event.digest and event.digest != hashlib.sha384(preimage).hexdigest():
            raise QuoteRefused(
                "event-log", f"the digest of {event.name!r} does not match the payload"
            )
        if event.preimage not in (UNSET, preimage.hex()):
            raise QuoteRefused(
                "event-log", f"the preimage of {event.name!r} does not match the payload"
            )
    return runtime_events


def replay(events: Iterable[Event]) -> bytes:
    """Compute the register value that results from a list of events.

    The value has 48 bytes.
    """
    register = bytes(REGISTER_BYTES)
    for event in events:
        register = hashlib.sha384(
            register + event_digest(event.name, event.payload, version=event.version)
        ).digest()
    return register


def event_digest(name: str, payload: bytes, *, version: EventVersion = 1) -> bytes:
    """Return the digest of a run-time event.

    The event's register is extended with these 48 bytes.
    """
    return hashlib.sha384(event_preimage(name, payload, version=version)).digest()


def event_preimage(name: str, payload: bytes, *, version: EventVersion = 1) -> bytes:
    """Encode a run-time event for hashing."""
    if version == 1:
        return RUNTIME_EVENT_TYPE.to_bytes(4, "little") + b":" + name.encode() + b":" + payload
    return canonical_bytes({"name": name, "payload": payload.hex(), "type": RUNTIME_EVENT_TYPE})
