"""Answers of a guest agent that were kept: a quote, its event log, and the machine's configuration.

The file has the JSON that the agent answers to a request for a quote:

| member | form |
|---|---|
| quote | hex; optional, so that a log alone can be read |
| event_log | JSON text, or the array itself |
| vm_config | JSON text; optional |

Other members are ignored. The file is untrusted. What it says is compared: the log has to replay to
all four registers of the quote.

Example:
    answer = parse_guest_answer(Path("quote.json").read_bytes())
    if answer.quote is not None:
        check_agrees(answer)

Source: the dstack guest agent's HTTP interface; spec/attestation.md AT20.
"""

import binascii
from base64 import b64decode
from typing import Any, NamedTuple

from msgspec import Struct

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import Json, parse_json, shaped
from sealspace.printable import printable

from ..attestation.attestation_errors import QuoteRefused
from ..attestation.event_log import (
    RUNTIME_REGISTER,
    EventLog,
    parse_event_log,
    read_event_log,
)
from ..attestation.event_log_claims import EventLogClaims, verify_event_log
from ..attestation.examine import check_trust_domain
from ..attestation.quote import MAX_QUOTE_BYTES, Quote, parse_quote
from ..evidence.dstack import MAX_ANSWER_BYTES
from .image_description import ImageDescription, extended, parse_image_description
from .measuring_errors import MeasurementRefused

_MAX_CONFIG_BYTES = 64 * 1024
_BOOT_REGISTERS = (0, 1, 2)


class GuestAnswer(NamedTuple):
    """A parsed answer of a guest agent.

    Attributes:
        quote: the quote, whose signatures are not verified.
        log: not compared with the quote yet.
        image: the description of the image in the machine's configuration.
        os_image_hash: hex, as the configuration states it; "" if it does not.
    """

    quote: Quote | None
    log: EventLog | None
    image: ImageDescription | None
    os_image_hash: str


class _Answer(Struct):
    quote: str = ""
    event_log: str | list[Any] | None = None
    vm_config: str | None = None


class _Described(Struct):
    measurement: str
    checksum_file: str


class _Config(Struct):
    os_image_hash: str = ""
    tdx_measurement: _Described | None = None


def parse_guest_answer(data: bytes) -> GuestAnswer:
    """Parse the answer of a guest agent to a request for a quote.

    Args:
        data: untrusted bytes, at most `MAX_ANSWER_BYTES`.
    Raises:
        MeasurementRefused: `answer-malformed`, `image-malformed`.
    Does not check:
        That its parts belong together: see `check_agrees`.
    """
    try:
        answer = shaped(parse_json(data, max_bytes=MAX_ANSWER_BYTES), _Answer)
    except InvalidJson as error:
        raise _malformed(str(error)) from None
    quote = _parse_quote_hex(answer.quote)
    log = _parse_log(answer.event_log)
    config = _parse_config(answer.vm_config)
    return GuestAnswer(
        quote=quote, log=log, image=_parse_image(config), os_image_hash=config.os_image_hash
    )


def _parse_quote_hex(text: str) -> Quote | None:
    """Parse the member `quote`; None if it is empty or missing."""
    if not text:
        return None
    if len(text) > 2 * MAX_QUOTE_BYTES:
        raise _malformed(f"the quote has more than {MAX_QUOTE_BYTES} bytes")
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise _malformed("the quote is not hexadecimal") from None
    try:
        return parse_quote(data)
    except QuoteRefused as error:
        raise _malformed(error.detail) from None


def _parse_log(text_or_entries: str | list[Any] | None) -> EventLog | None:
    """Parse the member `event_log`, which is text or an array; None if it is empty or missing."""
    if not text_or_entries:
        return None
    try:
        if isinstance(text_or_entries, str):
            return parse_event_log(_encode(text_or_entries))
        entries: list[Json] = text_or_entries
        return read_event_log(entries)
    except QuoteRefused as error:
        raise _malformed(error.detail) from None


def _parse_config(text: str | None) -> _Config:
    """Parse the member `vm_config`, the machine's configuration; empty if it is missing."""
    if not text:
        return _Config()
    try:
        return shaped(parse_json(_encode(text), max_bytes=_MAX_CONFIG_BYTES), _Config)
    except InvalidJson as error:
        raise _malformed(str(error)) from None


def _encode(text: str) -> bytes:
    """Encode a text of the answer, which may have half of a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _malformed("it has a text that is not Unicode") from None


def _parse_image(config: _Config) -> ImageDescription | None:
    """Parse the description of the image in a machine's configuration; None if it has none.

    Raises:
        MeasurementRefused: it is malformed, or has another hash than the machine states.
    """
    if config.tdx_measurement is None:
        return None
    try:
        document = b64decode(config.tdx_measurement.measurement, validate=True)
        checksums = b64decode(config.tdx_measurement.checksum_file, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("the description of the image is not base64") from None
    image = parse_image_description(document, checksums)
    if config.os_image_hash and config.os_image_hash != image.os_image_hash.hex():
        raise MeasurementRefused(
            "the description of the image does not have the hash that the machine states:"
            f" {printable(config.os_image_hash, most=64)}",
            problem="image-malformed",
            hint="take the description from the release of the image",
        )
    return image


class BootRegister(NamedTuple):
    """The value of RTMR0, RTMR1 or RTMR2 that follows from the digests in a log."""

    value: bytes
    entries: int


def replayed_registers(log: EventLog) -> dict[int, BootRegister]:
    """Replay the registers that firmware and kernel wrote, and return them by number, 0 to 2.

    Their digests cannot be recomputed, so this shows that a log and a quote belong together, not
    which code ran. A register without entries is left out.
    """
    registers = {}
    for number in _BOOT_REGISTERS:
        digests = []
        for entry in log.entries:
            if entry.register == number:
                digests.append(bytes.fromhex(entry.digest))
        if digests:
            registers[number] = BootRegister(value=extended(digests), entries=len(digests))
    return registers


def check_agrees(answer: GuestAnswer) -> EventLogClaims | None:
    """Check that quote and event log are of one start, and return what the log states.

    Returns:
        The claims of the log; None if there is no quote, no log, or no entry of register 3.
    Raises:
        MeasurementRefused: `domain-unsafe`, the trust domain cannot be trusted; `log-mismatch`, the
            log does not replay to the registers of the quote.
    Does not check:
        The signatures of the quote.
    """
    quote, log = answer.quote, answer.log
    if quote is None:
        return None
    try:
        check_trust_domain(quote.report)
    except QuoteRefused as error:
        raise MeasurementRefused(
            f"the quote is of a trust domain that cannot keep a secret: {error.detail}",
            problem="domain-unsafe",
            hint="start the guest without debugging and migration, and request a new quote",
        ) from None
    if log is None:
        return None
    for number, register in replayed_registers(log).items():
        if register.value != getattr(quote.report, f"rtmr{number}"):
            raise _other_log(f"RTMR{number} of the quote does not follow from the event log")
    has_runtime_entries = any(entry.register == RUNTIME_REGISTER for entry in log.entries)
    if not has_runtime_entries:
        return None
    try:
        return verify_event_log(log, quote.report)
    except QuoteRefused as error:
        raise _other_log(error.detail) from None


def _other_log(reason: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"the event log is not that of the quote: {reason}",
        problem="log-mismatch",
        hint="keep both from one answer of the guest agent; a log from elsewhere proves nothing",
    )


def _malformed(reason: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"the guest agent's answer cannot be read: {reason}",
        problem="answer-malformed",
        hint="keep the answer as it is: curl --unix-socket /var/run/dstack.sock"
        " http://localhost/GetQuote?report_data=00",
    )
