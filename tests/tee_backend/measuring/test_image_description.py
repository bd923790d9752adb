"""Tests of descriptions of images."""

import hashlib

import pytest
from measured_files import DOCUMENT, INITIAL, KERNEL, LINE, ONE, TWO, cbor, checksums_of

from tee_backend.measuring.image_description import (
    MAX_DESCRIPTION_BYTES,
    extended,
    parse_image_description,
)
from tee_backend.measuring.measuring_errors import MeasurementRefused


def test_a_description() -> None:
    """The registers follow from the members, and the hash from the list of checksums (AT67)."""
    document = cbor(DOCUMENT)
    checksums = checksums_of(document)
    description = parse_image_description(document, checksums)
    assert description.os_image_hash == hashlib.sha256(checksums).digest()
    assert (description.mrtd.one_pass, description.mrtd.two_pass) == (ONE, TWO)
    assert description.rtmr2 == extended([LINE, INITIAL])
    assert description.rtmr1 != extended([KERNEL])


MALFORMED = {
    "nothing": b"",
    "not a map": cbor([1]),
    "another version": cbor(DOCUMENT | {"version": 4}),
    "no image": cbor({"version": 3, "tdvf": DOCUMENT["tdvf"]}),
    "a short register": cbor(DOCUMENT | {"image": {"kernel_authenticode": b"x" * 47}}),
    "bytes after it": cbor(DOCUMENT) + b"\x00",
    "cut off": cbor(DOCUMENT)[:-1],
    "a repeated name": b"\xa2" + 2 * (cbor("version") + cbor(3)),
    "a name that is a number": b"\xa1\x01\x01",
    "an item without an end": b"\xbf\xff",
    "a huge length": b"\x5b" + b"\xff" * 8,
    "a huge map": b"\xbb" + b"\xff" * 8,
    "deep nesting": b"\x81" * 100,
    "a negative number": b"\x20",
    "too long": b"\x58" * (MAX_DESCRIPTION_BYTES + 1),
}


@pytest.mark.parametrize("document", MALFORMED.values(), ids=MALFORMED)
def test_malformed_descriptions(document: bytes) -> None:
    """A document of another form is refused."""
    with pytest.raises(MeasurementRefused) as refused:
        parse_image_description(document, checksums_of(document))
    assert refused.value.problem == "image-malformed"


@pytest.mark.parametrize(
    "checksums",
    [
        b"",
        b"\xff",
        checksums_of(b"other"),
        checksums_of(cbor(DOCUMENT)) * 2,
        checksums_of(cbor(DOCUMENT)).replace(b"  meas", b" meas"),
    ],
)
def test_other_checksums(checksums: bytes) -> None:
    """A list that does not name the document's hash exactly once is refused."""
    with pytest.raises(MeasurementRefused, match="list of checksums"):
        parse_image_description(cbor(DOCUMENT), checksums)
