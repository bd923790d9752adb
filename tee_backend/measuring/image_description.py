"""Descriptions of operating system images, from which MRTD, RTMR1 and RTMR2 follow.

Images of dstack 0.6 and later are released with two small files: `measurement.tdx.cbor` has the
hashes of kernel, command line and initial file system and the MRTD of the firmware, and a list of
checksums has the SHA-256 of that file. The SHA-256 of the list is the image's hash, which the
release states. A guest agent sends both files in `vm_config`.

    os image hash := SHA-256( list of checksums )
    RTMR1         := kernel, then four events of the firmware with fixed contents
    RTMR2         := command line, initial file system

RTMR0 covers the machine's virtual hardware and tables, so it does not follow from an image.

Example:
    description = parse_image_description(document, checksums)
    assert description.os_image_hash == hash_in_the_release

Source: the dstack guest's measurement document, version 3; EDK2, TdTcg2Dxe.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from .firmware import FirmwareMrtd
from .measuring_errors import MeasurementRefused

MAX_DESCRIPTION_BYTES = 16 * 1024
"""A genuine document has 400 bytes."""
DOCUMENT_NAME = "measurement.tdx.cbor"

_VERSION = 3
_REGISTER_BYTES = 48
_MAX_DEPTH = 4
_MAX_MEMBERS = 64
_CHECKSUM = re.compile(rb"(?P<sha256>[0-9a-f]{64})  (?P<file>\S{1,200})")
# Kinds of items in CBOR (RFC 8949, section 3.1).
_INTEGER = 0
_BYTES = 2
_TEXT = 3
_LIST = 4
_MAP = 5
_FIRMWARE_EVENTS = (
    b"Calling EFI Application from Boot Option",
    b"\x00\x00\x00\x00",
    b"Exit Boot Services Invocation",
    b"Exit Boot Services Returned with Success",
)


class ImageDescription(NamedTuple):
    """The values that follow from an image, whatever machine it runs on."""

    os_image_hash: bytes
    mrtd: FirmwareMrtd
    rtmr1: bytes
    rtmr2: bytes


def parse_image_description(document: bytes, checksums: bytes) -> ImageDescription:
    """Parse the description of an image, and compute its registers.

    Args:
        document: `measurement.tdx.cbor`; untrusted.
        checksums: the list of checksums; untrusted.
    Raises:
        MeasurementRefused: `image-malformed`, the document has another form or version, or the list
            does not name its hash exactly once.
    Does not check:
        That the image's hash is that of a release: compare `os_image_hash`.
    """
    if max(len(document), len(checksums)) > MAX_DESCRIPTION_BYTES:
        raise _malformed(f"it has more than {MAX_DESCRIPTION_BYTES} bytes")
    document_hash = hashlib.sha256(document).hexdigest().encode()
    if _listed_hashes(checksums) != [document_hash]:
        raise _malformed(f"the list of checksums does not name the hash of {DOCUMENT_NAME}")
    description = _Decoder(document).decode()
    if not isinstance(description, dict) or description.get("version") != _VERSION:
        raise _malformed(f"it is not of version {_VERSION}")
    kernel = _digest_at(description, "image", "kernel_authenticode")
    firmware_events = [hashlib.sha384(event).digest() for event in _FIRMWARE_EVENTS]
    command_line = _digest_at(description, "image", "cmdline_sha384")
    initial_file_system = _digest_at(description, "image", "initrd_sha384")
    return ImageDescription(
        os_image_hash=hashlib.sha256(checksums).digest(),
        mrtd=FirmwareMrtd(
            one_pass=_digest_at(description, "tdvf", "mrtd", "single_pass"),
            two_pass=_digest_at(description, "tdvf", "mrtd", "two_pass"),
        ),
        rtmr1=extended([kernel, *firmware_events]),
        rtmr2=extended([command_line, initial_file_system]),
    )


def _listed_hashes(checksums: bytes) -> list[bytes]:
    """Return every hash, in hex, that a list of checksums has for the document."""
    hashes = []
    for line in checksums.splitlines():
        match = _CHECKSUM.fullmatch(line)
        if match is not None and match["file"] == DOCUMENT_NAME.encode():
            hashes.append(match["sha256"])
    return hashes


def extended(digests: Iterable[bytes]) -> bytes:
    """Return the value of a register that was extended with digests, from 48 zero bytes on."""
    register = bytes(_REGISTER_BYTES)
    for digest in digests:
        register = hashlib.sha384(register + digest).digest()
    return register


def _digest_at(description: object, *names: str) -> bytes:
    """Return the member of 48 bytes that is reached by names, one for each level of maps.

    Raises:
        MeasurementRefused: there is no such member, or it has another form.
    """
    member = description
    for name in names:
        member = member.get(name) if isinstance(member, dict) else None
    if not isinstance(member, bytes) or len(member) != _REGISTER_BYTES:
        raise _malformed(f"{'.'.join(names)} is not a value of {_REGISTER_BYTES} bytes")
    return member


class _Decoder:
    """A decoder of the part of CBOR that the document uses.

    These are integers, byte strings, texts, lists and maps, all of definite length. The library for
    DAG-CBOR accepts sorted maps only, and the document is not sorted.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def decode(self) -> object:
        """Return the one item that is all of the data."""
        item = self._read_item(depth=0)
        if self._position != len(self._data):
            raise _malformed("bytes follow it")
        return item

    def _read_item(self, *, depth: int) -> object:
        """Read the item at the position; `depth` is the number of lists and maps around it."""
        if depth > _MAX_DEPTH:
            raise _malformed("it is nested too deeply")
        # The first byte has the kind in its upper three bits.
        (head,) = self._read_bytes(1)
        kind = head >> 5
        argument = self._read_argument(head & 31)
        if kind == _INTEGER:
            return argument
        if kind == _BYTES:
            return self._read_bytes(argument)
        if kind == _TEXT:
            return self._read_bytes(argument).decode("ascii", "replace")
        if kind not in (_LIST, _MAP) or argument > _MAX_MEMBERS:
            raise _malformed("it has an item of an unknown kind")
        if kind == _LIST:
            return [self._read_item(depth=depth + 1) for _ in range(argument)]
        return self._read_map(argument, depth=depth + 1)

    def _read_map(self, member_count: int, *, depth: int) -> dict[str, object]:
        """Read the members of a map; `depth` is theirs."""
        members: dict[str, object] = {}
        for _ in range(member_count):
            name = self._read_item(depth=depth)
            if not isinstance(name, str) or name in members:
                raise _malformed("a name is repeated or not text")
            members[name] = self._read_item(depth=depth)
        return members

    def _read_argument(self, low_bits: int) -> int:
        """Read an item's value, length or number of members, by the low 5 bits of its first byte.

        Below 24 they are the argument. From 24 to 27, it follows in 1, 2, 4 or 8 bytes.
        """
        if low_bits < 24:
            return low_bits
        if low_bits > 27:
            raise _malformed("it has an item of unknown length")
        return int.from_bytes(self._read_bytes(1 << (low_bits - 24)), "big")

    def _read_bytes(self, size_bytes: int) -> bytes:
        data = self._data[self._position : self._position + size_bytes]
        if len(data) != size_bytes:
            raise _malformed("it ends too early")
        self._position += size_bytes
        return data


def _malformed(reason: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"the description of the image cannot be used: {reason}",
        problem="image-malformed",
        hint=f"take {DOCUMENT_NAME} and its list of checksums from the release of the image",
    )
