"""MRTD, computed from the firmware of a trust domain.

MRTD is the SHA-384 of what the host did to build the trust domain: the pages that it added, and the
contents of those that the firmware's metadata says to measure.

    firmware  := … table end
    table     := entries, each: data, size:u16, GUID; from back to front; last the table's own
    end       := 32 bytes
    metadata  := "TDVF" size:u32 version:u32 = 1 count:u32 sections
    section   := data_offset:u32 data_size:u32 address:u64 memory_size:u64 type:u32 attributes:u32

    per page      "MEM.PAGE.ADD", zero-padded to 16 bytes, address:u64, 104 zero bytes
    per 256 bytes "MR.EXTEND", zero-padded to 16 bytes, address:u64, 104 zero bytes, the 256 bytes

Integers are little-endian. Attribute bit 0 means that the contents are measured; bit 1 that the
guest adds the pages itself. Hosts do this in one of two orders: page by page, or first all pages of
a section and then their contents. QEMU does the second before version 9.

Example:
    computed = firmware_mrtd(Path("ovmf.fd").read_bytes())
    assert quote.report.mrtd in (computed.one_pass, computed.two_pass)

Source: Intel TDX Virtual Firmware Design Guide; Intel TDX Module ABI, TDH.MEM.PAGE.ADD and
TDH.MR.EXTEND.
"""

import hashlib
import struct
import uuid
from typing import NamedTuple

from .measuring_errors import MeasurementRefused

MAX_FIRMWARE_BYTES = 32 * 1024 * 1024
"""Genuine files are 2 to 16 MiB."""
MAX_SECTIONS = 64
MAX_PAGES = 65_536
"""Most pages that a firmware may have added, 256 MiB; a genuine one has about a thousand."""

_TABLE = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le
_METADATA_OFFSET = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2").bytes_le
_AFTER_TABLE_BYTES = 32
_ENTRY_HEAD = struct.Struct("<H16s")
_DESCRIPTOR = struct.Struct("<4sIII")
_SECTION = struct.Struct("<IIQQII")

_PAGE_BYTES = 4096
_CHUNK_BYTES = 256
_IS_MEASURED = 1
_IS_ADDED_BY_GUEST = 2


class FirmwareMrtd(NamedTuple):
    """The two values of MRTD that one firmware can have, by the host's order of work."""

    one_pass: bytes
    two_pass: bytes


class _Section(NamedTuple):
    data_offset: int
    data_size: int
    address: int
    memory_size: int
    kind: int
    attributes: int

    @property
    def page_count(self) -> int:
        """The number of pages that the host adds."""
        return self.memory_size // _PAGE_BYTES


def firmware_mrtd(data: bytes) -> FirmwareMrtd:
    """Compute MRTD from a firmware file.

    Args:
        data: untrusted bytes, at most MAX_FIRMWARE_BYTES.
    Raises:
        MeasurementRefused: `firmware-unsupported`, the file is too long, or has no TDX metadata of
            version 1, or its metadata is contradictory.
    """
    if len(data) > MAX_FIRMWARE_BYTES:
        raise _unsupported(f"it has more than {MAX_FIRMWARE_BYTES} bytes")
    sections = _parse_sections(data)
    one_pass, two_pass = hashlib.sha384(), hashlib.sha384()
    for section in sections:
        additions = []
        contents = []
        for page in range(section.page_count):
            additions.append(_encode_page_addition(section, page))
            contents.append(_encode_page_contents(section, page, data))
        # One pass: each page is added and measured at once.
        for addition, content in zip(additions, contents, strict=True):
            one_pass.update(addition + content)
        # Two passes: all pages of the section are added, and measured after that.
        two_pass.update(b"".join(additions))
        two_pass.update(b"".join(contents))
    return FirmwareMrtd(one_pass=one_pass.digest(), two_pass=two_pass.digest())


def _encode_page_addition(section: _Section, page: int) -> bytes:
    """Return what MRTD contains for the addition of a page; empty if the guest adds it."""
    if section.attributes & _IS_ADDED_BY_GUEST:
        return b""
    return _encode_operation(b"MEM.PAGE.ADD", section.address + page * _PAGE_BYTES)


def _encode_page_contents(section: _Section, page: int, data: bytes) -> bytes:
    """Return what MRTD contains for the contents of a page; empty if they are not measured."""
    if not section.attributes & _IS_MEASURED:
        return b""
    parts = []
    page_start = page * _PAGE_BYTES
    for chunk_start in range(page_start, page_start + _PAGE_BYTES, _CHUNK_BYTES):
        parts.append(_encode_operation(b"MR.EXTEND", section.address + chunk_start))
        data_start = section.data_offset + chunk_start
        parts.append(data[data_start : data_start + _CHUNK_BYTES])
    return b"".join(parts)


def _encode_operation(name: bytes, address: int) -> bytes:
    """Encode one operation of the host as the TDX module hashes it."""
    return name.ljust(16, b"\x00") + address.to_bytes(8, "little") + bytes(104)


def _parse_sections(data: bytes) -> list[_Section]:
    """Return the sections in the firmware's TDX metadata.

    Raises:
        MeasurementRefused: the metadata is missing, contradictory or of another version.
    """
    descriptor_start = len(data) - _find_metadata(data)
    if not 0 <= descriptor_start <= len(data) - _DESCRIPTOR.size:
        raise _unsupported("its TDX metadata lies outside the file")
    signature, _, version, count = _DESCRIPTOR.unpack_from(data, descriptor_start)
    if signature != b"TDVF" or version != 1:
        raise _unsupported("its TDX metadata is of an unknown version")
    sections_start = descriptor_start + _DESCRIPTOR.size
    if not 0 < count <= MAX_SECTIONS or sections_start + count * _SECTION.size > len(data):
        raise _unsupported("its TDX metadata has an impossible number of sections")
    sections = []
    for number in range(count):
        (
            data_offset,
            data_size,
            address,
            memory_size,
            kind,
            attributes,
        ) = _SECTION.unpack_from(data, sections_start + number * _SECTION.size)
        section = _Section(
            data_offset=data_offset,
            data_size=data_size,
            address=address,
            memory_size=memory_size,
            kind=kind,
            attributes=attributes,
        )
        _check_section(section, data)
        sections.append(section)
    if sum(section.page_count for section in sections) > MAX_PAGES:
        raise _unsupported(f"it has more than {MAX_PAGES} pages measured")
    return sections


def _check_section(section: _Section, data: bytes) -> None:
    """Check that a section fits pages, the address space and the file."""
    if section.address % _PAGE_BYTES or section.memory_size % _PAGE_BYTES:
        raise _unsupported("a section is not aligned to pages")
    if section.address + section.memory_size > 1 << 52:
        raise _unsupported("a section is beyond the address space")
    # A host would add zeros to a shorter section, and how many is its own decision.
    is_measured = section.attributes & _IS_MEASURED
    if is_measured and section.data_size != section.memory_size:
        raise _unsupported("a measured section is not completely in the file")
    if section.data_offset + section.data_size > len(data):
        raise _unsupported("a section goes beyond the end of the file")


def _find_metadata(data: bytes) -> int:
    """Return how many bytes before the end of the file the TDX metadata begins.

    The number is the data of one entry of the firmware's table. The table is read from back to
    front, because size and GUID of an entry follow its data.

    Raises:
        MeasurementRefused: there is no table, it is damaged, or it has no such entry.
    """
    table_end = len(data) - _AFTER_TABLE_BYTES
    own_entry_start = table_end - _ENTRY_HEAD.size
    if own_entry_start < 0:
        raise _unsupported("it is too short")
    table_size, identifier = _ENTRY_HEAD.unpack_from(data, own_entry_start)
    if identifier != _TABLE:
        raise _unsupported("it has no table of metadata")
    table_start = table_end - table_size
    entry_end = own_entry_start
    while entry_end - _ENTRY_HEAD.size >= max(table_start, 0):
        entry_size, identifier = _ENTRY_HEAD.unpack_from(data, entry_end - _ENTRY_HEAD.size)
        entry_start = entry_end - entry_size
        if entry_size < _ENTRY_HEAD.size or entry_start < table_start:
            raise _unsupported("its table of metadata is damaged")
        if identifier == _METADATA_OFFSET:
            if entry_size != _ENTRY_HEAD.size + 4:
                raise _unsupported("its table of metadata is damaged")
            return int.from_bytes(data[entry_start : entry_start + 4], "little")
        entry_end = entry_start
    raise _unsupported("it has no TDX metadata")


def _unsupported(reason: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"MRTD cannot be computed from the firmware: {reason}",
        problem="firmware-unsupported",
        hint="name the firmware that the host gives to TDX guests (dstack images: ovmf.fd), a build"
        " with TDX metadata",
    )
