"""Tests of the form parser, with any split of the input and malformed forms."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.operations.values.multipart import (
    MAX_PART_HEADER_BYTES,
    MAX_PART_HEADER_LINES,
    boundary_of,
    multipart_parts,
    part_path,
)
from node.refusal import Refusal

BOUNDARY = b"probe"
Parts = list[tuple[str, dict[str, str], bytes]]


async def in_pieces(data: bytes, size_bytes: int) -> AsyncIterator[bytes]:
    for first in range(0, len(data), size_bytes):
        yield data[first : first + size_bytes]


def read(
    data: bytes, size_bytes: int = 1000, *, boundary: bytes = BOUNDARY, skip: bool = False
) -> Parts:
    """Read a form in pieces of one size; `skip` leaves the parts' bytes unread."""

    async def run() -> Parts:
        found: Parts = []
        async for part in multipart_parts(in_pieces(data, size_bytes), boundary):
            value = b"" if skip else b"".join([piece async for piece in part.pieces])
            found.append((part.name, dict(part.headers), value))
        return found

    return asyncio.run(run())


def form(*parts: tuple[bytes, bytes]) -> bytes:
    """Return a form of parts, each with header lines and bytes."""
    return b"".join(b"--probe\r\n%b\r\n\r\n%b\r\n" % part for part in parts) + b"--probe--\r\n"


def named(name: str, *more: str) -> bytes:
    return "\r\n".join([f'Content-Disposition: form-data; name="{name}"', *more]).encode(
        "utf-8", "surrogateescape"
    )


def refused(data: bytes, **options: Any) -> str:
    with pytest.raises(Refusal) as error:
        read(data, **options)
    return str(error.value)


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(
        st.binary(max_size=60) | st.sampled_from([b"\r\n", b"\r\n--prob", b"--probe", b"\r\n--"]),
        max_size=4,
    ),
    size_bytes=st.integers(1, 40),
    skip=st.booleans(),
)
def test_parts_are_what_was_laid_out(values: list[bytes], size_bytes: int, skip: bool) -> None:
    """For any parts and pieces, read or skipped, names and bytes are those sent."""
    values = [value for value in values if b"\r\n--probe" not in b"\r\n" + value + b"\r\n"]
    data = form(*((named(f"k{at}", "X-A: 1"), value) for at, value in enumerate(values)))
    expected = [(f"k{at}", {"x-a": "1"}, b"" if skip else value) for at, value in enumerate(values)]
    assert expected == read(data, size_bytes, skip=skip)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"--probe",
                b"\r\n",
                b"--",
                b":",
                b'Content-Disposition: form-data; name="a"',
                b"x",
                b'"',
                b";",
            ]
        )
        | st.binary(max_size=6),
        max_size=14,
    ),
    st.integers(1, 30),
)
def test_fuzz_of_forms(fragments: list[bytes], size_bytes: int) -> None:
    """Any bytes are parsed as a form or refused."""
    with contextlib.suppress(Refusal):
        read(b"".join(fragments), size_bytes)


@given(st.text(max_size=80), st.text(max_size=30))
def test_fuzz_of_header_values(content_type: str, name: str) -> None:
    """Any content type has a boundary or is refused, and any name is a path or refused."""
    for attempt in (
        lambda: boundary_of(content_type),
        lambda: part_path(name),
        lambda: part_path(f"%{name}"),
    ):
        with contextlib.suppress(Refusal):
            attempt()


WHOLE = form((named("a"), b"1"), (named("b"), b"2"))


def test_a_form_that_ends_early() -> None:
    """A form that is cut off anywhere is refused, and never parsed as a shorter one."""
    texts = (
        "incomplete multipart stream",
        *(f'field "{name}" received with incomplete data' for name in "ab"),
    )
    for size_bytes in range(len(WHOLE) - 3):
        assert refused(WHOLE[:size_bytes]) in texts, size_bytes


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "incomplete multipart stream"),
        (b"preamble\r\n" + WHOLE, "incomplete multipart stream"),
        (WHOLE.replace(b"--probe\r\n", b"--probe \r\n", 1), "incomplete multipart stream"),
        (WHOLE.replace(b"\r\n--probe\r\n", b"\r\n--probeX\r\n"), "incomplete multipart stream"),
        (WHOLE.replace(b"\r\n", b"\n"), "incomplete multipart stream"),
        (form((b"X-A: 1", b"1")), "Multipart KV part is missing a field name"),
        (b"--probe\r\n\r\n1\r\n--probe--", "Multipart KV part is missing a field name"),
        (
            form((b"Content-Disposition: form-data", b"1")),
            "Multipart KV part is missing a field name",
        ),
        (
            form((b'Content-Disposition: attachment; name="a"', b"1")),
            "Multipart KV part is missing a field name",
        ),
        (
            form((b'Content-Disposition: form-data; name="a', b"1")),
            "Multipart KV part is missing a field name",
        ),
        (
            form((b"Content-Disposition: form-data; name=a; name=b", b"1")),
            "Multipart KV part is missing a field name",
        ),
        (form((named("a", "no colon"), b"1")), "multipart part has a malformed header"),
        (form((named("a", "X A: 1"), b"1")), "multipart part has a malformed header"),
        (form((named("a", "X-A: 1\nX-B: 2"), b"1")), "multipart part has a malformed header"),
        (form((named("a", "X-A: 1", " folded"), b"1")), "multipart part has a malformed header"),
        (form((named("a", "X-A: a\0b"), b"1")), "multipart part has a malformed header"),
    ],
)
def test_what_is_no_form(data: bytes, text: str) -> None:
    """Malformed forms are refused, above all line breaks and control characters in headers."""
    assert refused(data) == text


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('form-data; name="a"', "a"),
        ("Form-Data; NAME=a", "a"),
        ('form-data; filename="x; name=b"; name="a"', "a"),
        (r'form-data; name="a\"b\\c"', r'a"b\c'),
        ('form-data; name=""', ""),
        ('form-data;name="ü"', "ü"),
    ],
)
def test_names(disposition: str, name: str) -> None:
    """A name may be quoted or not, and come before or after other parameters."""
    assert [(name, {}, b"1")] == read(form((f"Content-Disposition: {disposition}".encode(), b"1")))


def test_headers_of_a_part() -> None:
    """Header names are lower-cased, values trimmed, and the last repeated one counts."""
    head = named("a", "X-A: 1", "x-a:  2 \t", "X-B:", "X-C: \udcff")
    assert [("a", {"x-a": "2", "x-b": "", "x-c": "\udcff"}, b"1")] == read(form((head, b"1")))


def test_bounds_of_a_part_head() -> None:
    """A part's headers are limited in lines and bytes, and so is the buffer while they are read."""
    lines = [f"X-{number}: 1" for number in range(MAX_PART_HEADER_LINES)]
    assert (
        refused(form((named("a", *lines), b"1")))
        == f"multipart part has more than {MAX_PART_HEADER_LINES} headers"
    )
    assert len(read(form((named("a", *lines[1:]), b"1")))[0][1]) == MAX_PART_HEADER_LINES - 1
    endless = b"--probe\r\nX-A: " + b"x" * (2 * MAX_PART_HEADER_BYTES)
    assert refused(endless, size_bytes=65_536).startswith("multipart headers of one part exceed ")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=probe", b"probe"),
        ('Multipart/Form-Data; charset=utf-8; Boundary="a b:c"', b"a b:c"),
        ("multipart/form-data;boundary=----x", b"----x"),
        ("multipart/form-data; boundary=" + "x" * 70, b"x" * 70),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ('multipart/form-data; boundary=""', None),
        ('multipart/form-data; boundary="x "', None),
        ("multipart/form-data; boundary=" + "x" * 71, None),
        ("multipart/form-data; boundary=a; boundary=b", None),
        ("multipart/form-data; boundary=a b", None),
        ("multipart/form-data; boundary=ä", None),
    ],
)
def test_boundaries(content_type: str, boundary: bytes | None) -> None:
    """A boundary has 1 to 70 of the standard's characters, and is given once."""
    if boundary is None:
        with pytest.raises(Refusal, match="boundary"):
            boundary_of(content_type)
    else:
        assert boundary == boundary_of(content_type)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a%2Fb", "a/b"),
        ("a%252Fb", "a%2Fb"),
        ("%zz%", "%zz%"),
        ("%C3%A9", "é"),
        ("é", "é"),
        ("a+b", "a+b"),
    ],
)
def test_names_are_decoded_once(name: str, path: str) -> None:
    """A part's name is its path, percent-encoded once; malformed escapes stay as they are."""
    assert path == part_path(name)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("%FF", "invalid utf-8 sequence of 1 bytes from index 0"),
        ("ab%C3", "incomplete utf-8 byte sequence from index 2"),
        ("%F0%9F%92x", "invalid utf-8 sequence of 3 bytes from index 0"),
    ],
)
def test_names_that_are_not_utf8(name: str, where: str) -> None:
    """The error about a name that is not UTF-8 names the fault and its place."""
    with pytest.raises(Refusal) as error:
        part_path(name)
    assert str(error.value) == f"Multipart KV part name is not valid percent-encoded UTF-8: {where}"
