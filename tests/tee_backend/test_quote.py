"""The quote parser is strict, handles any bytes, and loses nothing."""

import pytest
from deviating_platform import DomainOptions, SimulatedPlatform
from hypothesis import given, settings
from hypothesis import strategies as st

from encryption_network.policy import Measurements
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.quote import MAX_QUOTE_BYTES, BodyKind, parse_quote
from tee_backend.evidence.simulated import measurements_of

QUOTE = SimulatedPlatform.from_seed(b"the platform of the tests").mint_quote(
    measurements_of("backend"), bytes(64)
)
QUOTE_V5 = SimulatedPlatform.from_seed(b"the platform of the tests").mint_quote(
    measurements_of("backend"), bytes(64), options=DomainOptions(kind=BodyKind.TD15)
)


def _with(quote: bytes, offset: int, replacement: bytes) -> bytes:
    return quote[:offset] + replacement + quote[offset + len(replacement) :]


def _outcome(data: bytes) -> str | None:
    try:
        parse_quote(data)
    except AttestationError as refused:
        return refused.code
    return None


@pytest.mark.parametrize("kind", list(BodyKind))
def test_reads_every_body(machine: SimulatedPlatform, code: Measurements, kind: BodyKind) -> None:
    """Each of the three report shapes is read field by field."""
    options = DomainOptions(kind=kind, mr_config_id=b"\x01" * 48, tee_tcb_svn2=b"\x07" * 16)
    raw = machine.mint_quote(code, bytes(range(64)), options=options)
    quote = parse_quote(raw)
    report = quote.report
    assert quote.raw == raw
    assert machine.fmspc == quote.platform.fmspc
    assert code == Measurements(
        mrtd=report.mrtd,
        rtmr0=report.rtmr0,
        rtmr1=report.rtmr1,
        rtmr2=report.rtmr2,
        rtmr3=report.rtmr3,
    )
    assert report.report_data == bytes(range(64))
    assert report.mr_config_id == b"\x01" * 48
    assert (None if kind is BodyKind.TD10 else b"\x07" * 16) == report.tee_tcb_svn2
    assert kind.value == len(quote.signed_bytes) - (48 if quote.version == 4 else 54)


def test_zero_padding_is_dropped(quote: bytes) -> None:
    """Zero bytes after a quote are accepted up to the size limit, and dropped."""
    assert quote == parse_quote(quote + bytes(70)).raw
    assert quote == parse_quote(quote.ljust(MAX_QUOTE_BYTES, b"\x00")).raw


@pytest.mark.parametrize("tail", [b"\x01", bytes(70) + b"\x01", b"extra", b"\n"])
def test_other_bytes_after_the_quote(quote: bytes, tail: bytes) -> None:
    """Non-zero bytes after a quote are refused."""
    assert "malformed" == _outcome(quote + tail)


def test_size_is_bounded_first(quote: bytes) -> None:
    """One byte above the limit is refused, whatever the bytes are."""
    assert "malformed" == _outcome(quote.ljust(MAX_QUOTE_BYTES + 1, b"\x00"))


def test_every_truncation_is_malformed(quote: bytes) -> None:
    """A quote cut at any length is refused as malformed."""
    assert {"malformed"} == {_outcome(quote[:size]) for size in range(len(quote))}


@pytest.mark.parametrize(
    ("offset", "replacement", "expected"),
    [
        (0, b"\x03\x00", "unsupported"),
        (0, b"\x06\x00", "unsupported"),
        (2, b"\x03\x00", "unsupported"),
        (4, b"\x00\x00\x00\x00", "unsupported"),
        (8, b"\x01", "malformed"),
        (12, bytes(16), "unsupported"),
        (632, b"\xff\xff\xff\xff", "malformed"),
        (632, b"\x00\x00\x00\x00", "malformed"),
        (764, b"\x07\x00", "unsupported"),
        (764, b"\x05\x00", "unsupported"),
        (766, b"\xff\xff\xff\xff", "malformed"),
        (1218, b"\x00\x00", "unsupported"),
        (1218, b"\x21\x00", "unsupported"),
        (1252, b"\x04\x00", "unsupported"),
        (1254, b"\xff\xff\xff\xff", "malformed"),
        (1258, b"X", "malformed"),
    ],
)
def test_fields_out_of_place(offset: int, replacement: bytes, expected: str) -> None:
    """Unexpected types and sizes are refused without reading past the end."""
    assert expected is _outcome(_with(QUOTE, offset, replacement))


@pytest.mark.parametrize(
    ("offset", "replacement", "expected"),
    [
        (48, b"\x01\x00", "unsupported"),
        (48, b"\x05\x00", "unsupported"),
        (48, b"\x02\x00", "malformed"),
        (50, b"\xff\xff\xff\xff", "malformed"),
    ],
)
def test_body_of_version_5(offset: int, replacement: bytes, expected: str) -> None:
    """In version 5 only the three TDX bodies are accepted, each with its own size."""
    assert expected is _outcome(_with(QUOTE_V5, offset, replacement))


@pytest.mark.parametrize("change", [1, -1, 4096])
@pytest.mark.parametrize("offset", [632, 766, 1254])
def test_lengths_fit_exactly(offset: int, change: int) -> None:
    """A length that is off by one is refused, though no signature covers it."""
    size = int.from_bytes(QUOTE[offset : offset + 4], "little") + change
    assert "malformed" == _outcome(_with(QUOTE, offset, size.to_bytes(4, "little")))


def _with_chain(pem: bytes) -> bytes:
    """Return the quote with another certificate text and matching lengths."""
    outer = QUOTE[770:1252] + b"\x05\x00" + len(pem).to_bytes(4, "little") + pem
    auth = QUOTE[636:764] + b"\x06\x00" + len(outer).to_bytes(4, "little") + outer
    return QUOTE[:632] + len(auth).to_bytes(4, "little") + auth


def test_one_closing_nul_in_the_chain() -> None:
    """One NUL after the certificates is accepted, as quoting libraries write it; two are
    refused."""
    pem = QUOTE[1258:]
    assert [None, "malformed"] == [_outcome(_with_chain(pem + bytes(count))) for count in (1, 2)]


def test_chain_of_another_shape() -> None:
    """A quote is refused with other than three certificates, text around them, or another leaf."""
    pem = QUOTE[1258:]
    blocks = [
        block + b"-----END CERTIFICATE-----\n"
        for block in pem.split(b"-----END CERTIFICATE-----\n")[:-1]
    ]
    assert pem == b"".join(blocks)
    shapes = [
        b"",
        b"".join(blocks[:2]),
        b"".join([*blocks, blocks[2]]),
        b"# comment\n" + pem,
        pem.replace(blocks[1], b"\n" + blocks[1] + b"junk\n"),
        b"".join([blocks[1], blocks[1], blocks[2]]),
        b"".join([blocks[0], blocks[2], blocks[2]]),
        pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
        pem * 5,
    ]
    assert {"malformed"} == {_outcome(_with_chain(shape)) for shape in shapes}
    assert _outcome(_with_chain(pem.replace(b"\n", b"\r\n"))) is None


@given(st.binary(max_size=2048))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes) -> None:
    """Arbitrary bytes give a quote or an error of this package."""
    _outcome(data)
    _outcome(QUOTE[:48] + data)


@given(st.integers(0, len(QUOTE)), st.integers(0, 64), st.binary(max_size=64))
@settings(max_examples=300, deadline=None)
def test_any_splice(offset: int, removed: int, inserted: bytes) -> None:
    """A quote with a replaced part is parsed without loss, or refused with an error of this
    package."""
    data = QUOTE[:offset] + inserted + QUOTE[offset + removed :]
    try:
        quote = parse_quote(data)
    except AttestationError:
        return
    assert data == quote.raw + bytes(len(data) - len(quote.raw))
    assert quote.signed_bytes == quote.raw[: len(quote.signed_bytes)]
