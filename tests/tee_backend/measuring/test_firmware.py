"""Tests of MRTD from a firmware file."""

import struct

import pytest
from made_firmware import PAGE, PARTS, Part, expected_mrtd, made_firmware

from tee_backend.measuring.firmware import MAX_FIRMWARE_BYTES, MAX_SECTIONS, firmware_mrtd
from tee_backend.measuring.measuring_errors import MeasurementRefused


def test_both_orders() -> None:
    """MRTD equals that of a second writing, for each order in which hosts work (AT67)."""
    computed = firmware_mrtd(made_firmware())
    assert computed.one_pass == expected_mrtd(one_pass=True)
    assert computed.two_pass == expected_mrtd(one_pass=False)
    assert computed.one_pass != computed.two_pass


def test_every_measured_byte_counts() -> None:
    """A changed byte of a measured section changes MRTD, and one of another section does not."""
    firmware = made_firmware()
    plain = firmware_mrtd(firmware)
    measured_end = len(PARTS[0].data)
    for at in (0, 255, 256, measured_end - 1):
        changed = bytearray(firmware)
        changed[at] ^= 1
        assert firmware_mrtd(bytes(changed)).one_pass != plain.one_pass
    changed = bytearray(firmware)
    changed[measured_end] ^= 1
    assert firmware_mrtd(bytes(changed)) == plain


def _with_offset(firmware: bytes, offset: int) -> bytes:
    """Return a firmware whose metadata begins `offset` bytes before its end."""
    at = len(firmware) - 32 - 18 - 22
    return firmware[:at] + struct.pack("<I", offset) + firmware[at + 4 :]


UNSUPPORTED = {
    "nothing": b"",
    "short": bytes(40),
    "no table": bytes(4096),
    "an old one without TDX metadata": made_firmware().replace(
        bytes.fromhex("35657ae44a989847865e4685a7bf8ec2"), bytes(16)
    ),
    "another signature": made_firmware(signature=b"OVMF"),
    "a newer version": made_firmware(version=2),
    "metadata before the file": _with_offset(made_firmware(), 1 << 30),
    "metadata at the end": _with_offset(made_firmware(), 0),
    "too many sections": made_firmware([Part(0, memory_size=PAGE)] * (MAX_SECTIONS + 1)),
    "no section": made_firmware([]),
    "a section between pages": made_firmware([Part(16, memory_size=PAGE)]),
    "a part of a page": made_firmware([Part(0, memory_size=PAGE - 16)]),
    "a measured section that is not in the file": made_firmware(
        [Part(0, b"x" * PAGE, memory_size=2 * PAGE, attributes=1)]
    ),
    "too many pages": made_firmware([Part(0, memory_size=PAGE * 70_000)]),
    "beyond the address space": made_firmware([Part((1 << 52), memory_size=PAGE)]),
    "too long": bytes(MAX_FIRMWARE_BYTES + 1),
}


@pytest.mark.parametrize("data", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_other_files(data: bytes) -> None:
    """A file without usable TDX metadata is refused, with the next step (AT67)."""
    with pytest.raises(MeasurementRefused) as refused:
        firmware_mrtd(data)
    assert refused.value.problem == "firmware-unsupported"
    assert "TDX metadata" in refused.value.hint


def test_a_section_beyond_the_file() -> None:
    """A section whose data is outside the file is refused, even if it is not measured."""
    firmware = bytearray(made_firmware([Part(0, b"x" * PAGE)]))
    at = firmware.index(b"TDVF") + 16
    struct.pack_into("<I", firmware, at, 1 << 20)
    with pytest.raises(MeasurementRefused, match="beyond the end"):
        firmware_mrtd(bytes(firmware))
