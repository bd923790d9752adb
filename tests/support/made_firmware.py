"""Firmware files with TDX metadata, made for tests, and their MRTD written a second time."""

import hashlib
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

_TABLE = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le
_OFFSET = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2").bytes_le
_OTHER = uuid.UUID("7255371f-3a3b-4b04-927b-1da6efa8d454").bytes_le
PAGE = 4096


@dataclass(frozen=True)
class Part:
    """A section of a firmware.

    Attributes:
        address: in the guest.
        data: contents in the file.
        memory_size: in the guest; None: as long as the contents.
        attributes: 1: measured, 2: added by the guest.
    """

    address: int
    data: bytes = b""
    memory_size: int | None = None
    attributes: int = 0

    @property
    def pages(self) -> int:
        return (len(self.data) if self.memory_size is None else self.memory_size) // PAGE


PARTS = (
    Part(0xFFC84000, bytes(range(256)) * 32, attributes=1),
    Part(0xFFC00000, b"v" * PAGE),
    Part(0x810000, memory_size=2 * PAGE),
    Part(0x820000, memory_size=PAGE, attributes=2),
)


def made_firmware(
    parts: Sequence[Part] = PARTS, *, version: int = 1, signature: bytes = b"TDVF"
) -> bytes:
    """Return a firmware file with these sections."""
    body = b"".join(part.data for part in parts)
    sections = b""
    offset = 0
    for number, part in enumerate(parts):
        sections += struct.pack(
            "<IIQQII",
            offset,
            len(part.data),
            part.address,
            part.pages * PAGE if part.memory_size is None else part.memory_size,
            number,
            part.attributes,
        )
        offset += len(part.data)
    descriptor = signature + struct.pack("<III", 16 + len(sections), version, len(parts))
    metadata = descriptor + sections
    entries = struct.pack("<H16s", 18, _OTHER)
    # the metadata is before the table: 18 bytes of the other entry, 22 and 18 of the table
    entries += struct.pack("<IH16s", len(metadata) + 18 + 22 + 18 + 32, 22, _OFFSET)
    table = entries + struct.pack("<H16s", len(entries) + 18, _TABLE)
    return body + metadata + table + bytes(32)


def expected_mrtd(parts: Sequence[Part] = PARTS, *, one_pass: bool) -> bytes:
    """Return MRTD as the list of operations of a host says."""
    hashed = hashlib.sha384()
    for part in parts:
        steps: list[tuple[int, int, bytes]] = []
        for page in range(part.pages):
            start = page * PAGE
            first, second = (page, page) if one_pass else (0, 1)
            if not part.attributes & 2:
                steps.append((first, 0, _step(b"MEM.PAGE.ADD", part.address + start)))
            if part.attributes & 1:
                for at in range(start, start + PAGE, 256):
                    step = _step(b"MR.EXTEND", part.address + at) + part.data[at : at + 256]
                    steps.append((second, 1, step))
        # a stable sort: by pass, then pages before contents
        steps.sort(key=lambda step: step[:2])
        for _, _, step in steps:
            hashed.update(step)
    return hashed.digest()


def _step(name: bytes, address: int) -> bytes:
    buffer = bytearray(128)
    buffer[: len(name)] = name
    struct.pack_into("<Q", buffer, 16, address)
    return bytes(buffer)
