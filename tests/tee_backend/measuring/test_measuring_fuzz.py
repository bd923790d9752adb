"""Fuzz tests of the files from which reference values are computed."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from made_firmware import made_firmware
from measured_files import DOCUMENT, PINNED, app_compose, cbor, checksums_of

from tee_backend.measuring.compose_files import parse_compose
from tee_backend.measuring.firmware import firmware_mrtd
from tee_backend.measuring.guest_answer import parse_guest_answer
from tee_backend.measuring.image_description import parse_image_description
from tee_backend.measuring.measuring_errors import MeasurementRefused

FIRMWARE = made_firmware()


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400).map(str.encode)))
def test_fuzz_compose(data: bytes) -> None:
    """Any bytes are a compose file or refused."""
    for tried in (data, PINNED.encode() + data, app_compose(data.decode("utf-8", "replace"))):
        with suppress(MeasurementRefused):
            parse_compose(tried, file="compose.yaml")


@given(st.integers(0, len(FIRMWARE) - 1), st.integers(0, 255), st.integers(0, 200))
def test_fuzz_firmware(at: int, value: int, cut: int) -> None:
    """A firmware with any byte changed, or cut off, is measured or refused."""
    changed = bytearray(FIRMWARE)
    changed[-(at % 400) - 1] = value
    with suppress(MeasurementRefused):
        firmware_mrtd(bytes(changed[: len(changed) - cut]))


@given(st.binary(max_size=300))
def test_fuzz_image_description(document: bytes) -> None:
    """Any document is a description or refused."""
    for tried in (document, cbor(DOCUMENT)[: len(document)] + document):
        with suppress(MeasurementRefused):
            parse_image_description(tried, checksums_of(tried))


@given(st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)))
def test_fuzz_guest_answer(data: bytes) -> None:
    """Any bytes are an answer of a guest agent or refused."""
    for tried in (data, b'{"quote":"' + data + b'"}', b'{"event_log":"' + data + b'"}'):
        with suppress(MeasurementRefused):
            parse_guest_answer(tried)
