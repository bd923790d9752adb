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
from typing import Any, NamedTuple

from .firmware import FirmwareMrtd
from .measuring_errors import MeasurementRefused

MAX_DESCRIPTION_BYTES = 16 * 1024
"""A genuine document has 400 bytes."""
DOCUMENT_NAME = "measurement.tdx.cbor"

_VERSION = 3
_REGISTER_BYTES = 48
_MAX_DEPTH = 4
_MAX_MEMBERS = 64
_CHECKSUM = re.compile(rb"([0-9a-f]{64})  (\S{1,200})")
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
    listed = [
        found[1]
        for found in map(_CHECKSUM.fullmatch, checksums.splitlines())
        if found is not None and found[2] == DOCUMENT_NAME.encode()
    ]
    if listed != [hashlib.sha256(document).hexdigest().encode()]:
        raise _malformed(f"the list of checksums does not name the hash of {DOCUMENT_NAME}")
    decoded = _Decoder(document).whole()
    if not isinstance(decoded, dict) or decoded.get("version") != _VERSION:
        raise _malformed(f"it is not of version {_VERSION}")
    kernel = _register(decoded, "image", "kernel_authenticode")
    events = [hashlib.sha384(event).digest() for event in _FIRMWARE_EVENTS]
    command_line = _register(decoded, "image", "cmdline_sha384")
    initial = _register(decoded, "image", "initrd_sha384")
    return ImageDescription(
        os_image_hash=hashlib.sha256(checksums).digest(),
        mrtd=FirmwareMrtd(
            one_pass=_register(decoded, "tdvf", "mrtd", "single_pass"),
            two_pass=_register(decoded, "tdvf", "mrtd", "two_pass"),
        ),
        rtmr1=extended([kernel, *events]),
        rtmr2=extended([command_line, initial]),
    )


def extended(digests: Iterable[bytes]) -> bytes:
    """Return the value of a register that was extended with digests, from 48 zero bytes on."""
    register = bytes(_REGISTER_BYTES)
    for digest in digests:
        register = hashlib.sha384(register + digest).digest()
    return register


def _register(decoded: Any, *names: str) -> bytes:
    """Return a member of 48 bytes."""
    for name in names:
        decoded = decoded.get(name) if isinstance(decoded, dict) else None
    if not isinstance(decoded, bytes) or len(decoded) != _REGISTER_BYTES:
        raise _malformed(f"{'.'.join(names)} is not a value of {_REGISTER_BYTES} bytes")
    return decoded


class _Decoder:
    """A decoder of the part of CBOR that the document uses.

    These are integers, byte strings, texts, lists and maps, all of definite length. The library for
    DAG-CBOR accepts sorted maps only, and the document is not sorted.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def whole(self) -> object:
        """Decode the item that is all of the data."""
        item = self._item(0)
        if self._at != len(self._data):
            raise _malformed("bytes follow it")
        return item

    def _item(self, depth: int) -> object:
        if depth > _MAX_DEPTH:
            raise _malformed("it is nested too deeply")
        (head,) = self._take(1)
        kind, number = head >> 5, self._number(head & 31)
        if kind == 0:
            return number
        if kind == 2:
            return self._take(number)
        if kind == 3:
            return self._take(number).decode("ascii", "replace")
        if kind not in (4, 5) or number > _MAX_MEMBERS:
            raise _malformed("it has an item of an unknown kind")
        if kind == 4:
            return [self._item(depth + 1) for _ in range(number)]
        return self._map(number, depth)

    def _map(self, number: int, depth: int) -> dict[str, object]:
        members: dict[str, object] = {}
        for _ in range(number):
            name = self._item(depth + 1)
            if not isinstance(name, str) or name in members:
                raise _malformed("a name is repeated or not text")
            members[name] = self._item(depth + 1)
        return members

    def _number(self, short: int) -> int:
        if short < 24:
            return short
        if short > 27:
            raise _malformed("it has an item of unknown length")
        return int.from_bytes(self._take(1 << (short - 24)), "big")

    def _take(self, size_bytes: int) -> bytes:
        taken = self._data[self._at : self._at + size_bytes]
        if len(taken) != size_bytes:
            raise _malformed("it ends too early")
        self._at += size_bytes
        return taken


def _malformed(why: str) -> MeasurementRefused:
    return MeasurementRefused(
        f"the description of the image cannot be used: {why}",
        problem="image-malformed",
        hint=f"take {DOCUMENT_NAME} and its list of checksums from the release of the image",
    )
