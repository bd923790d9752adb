"""Quotes from the kernel's report interface."""

import errno
from pathlib import Path

import pytest
from deviating_platform import SimulatedPlatform
from simulators.tsm import TsmSimulator
from tests_support import CountingEntropy

from encryption_network.policy import Measurements
from tee_backend.attestation.quote import MAX_QUOTE_BYTES, parse_quote
from tee_backend.evidence.evidence_errors import (
    EvidenceSourceError,
    SourceMalformed,
    SourceRefused,
    SourceUnavailable,
)
from tee_backend.evidence.tsm import TsmSource

DATA = bytes(range(64))


@pytest.fixture
def kernel(machine: SimulatedPlatform, code: Measurements) -> TsmSimulator:
    """The interface of a kernel on a simulated platform."""
    return TsmSimulator(lambda data: machine.mint_quote(code, data))


@pytest.fixture
def source(tmp_path: Path, kernel: TsmSimulator, entropy: CountingEntropy) -> TsmSource:
    """A source that uses this kernel."""
    return TsmSource(tmp_path, files=kernel, entropy=entropy)


def test_quote(source: TsmSource, kernel: TsmSimulator, tmp_path: Path) -> None:
    """A quote has the requested report data, and its folder is removed afterwards."""
    assert DATA == parse_quote(source.quote(DATA).quote).report.report_data
    assert 1 == len(kernel.made)
    assert [] == list(tmp_path.iterdir())


def test_a_folder_for_each_quote(source: TsmSource, kernel: TsmSimulator) -> None:
    """Two quotes do not share a folder."""
    source.quote(DATA)
    source.quote(DATA)
    assert 2 == len(set(kernel.made))


def test_no_log(source: TsmSource) -> None:
    """The kernel returns no event log."""
    assert source.quote(DATA).event_log is None


def test_padding_is_allowed(tmp_path: Path, machine: SimulatedPlatform, code: Measurements) -> None:
    """A quote padded with zero bytes is accepted."""
    kernel = TsmSimulator(lambda data: machine.mint_quote(code, data).ljust(8000, b"\x00"))
    assert (
        DATA == parse_quote(TsmSource(tmp_path, files=kernel).quote(DATA).quote).report.report_data
    )


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_only_sixty_four_bytes(source: TsmSource, size: int) -> None:
    """Report data of other sizes raise ValueError."""
    with pytest.raises(ValueError, match="64"):
        source.quote(bytes(size))


def _refused(
    source: TsmSource, folder: Path, kind: type[EvidenceSourceError]
) -> EvidenceSourceError:
    with pytest.raises(kind) as refused:
        source.quote(DATA)
    assert [] == list(folder.iterdir())
    return refused.value


def test_another_technology(source: TsmSource, kernel: TsmSimulator, tmp_path: Path) -> None:
    """Reports of another technology are refused."""
    kernel.provider = "sev_guest"
    assert "sev_guest" in _refused(source, tmp_path, SourceUnavailable).detail


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ETIMEDOUT, errno.EIO])
def test_the_platform_fails(
    source: TsmSource, kernel: TsmSimulator, tmp_path: Path, number: int
) -> None:
    """A failing platform and a missing one are different errors."""
    kernel.error = number
    _refused(source, tmp_path, SourceRefused)


def test_another_client_writes(source: TsmSource, kernel: TsmSimulator, tmp_path: Path) -> None:
    """A report that another process wrote into is refused, whatever its quote contains."""
    kernel.intruder = lambda report: (report / "generation").write_text("2\n") and None
    _refused(source, tmp_path, SourceRefused)


def test_a_generation_that_is_no_number(
    source: TsmSource, kernel: TsmSimulator, tmp_path: Path
) -> None:
    """A malformed generation is refused."""
    kernel.intruder = lambda report: (report / "generation").write_text("many\n") and None
    _refused(source, tmp_path, SourceMalformed)


@pytest.mark.parametrize("made", [b"", b"quote", bytes(MAX_QUOTE_BYTES + 1)])
def test_other_bytes(tmp_path: Path, made: bytes) -> None:
    """Bytes that are not a quote are refused at the source."""
    _refused(TsmSource(tmp_path, files=TsmSimulator(lambda data: made)), tmp_path, SourceMalformed)


def test_a_quote_for_another_client(
    tmp_path: Path, machine: SimulatedPlatform, code: Measurements
) -> None:
    """A quote over other report data is refused."""
    kernel = TsmSimulator(lambda data: machine.mint_quote(code, bytes(64)))
    _refused(TsmSource(tmp_path, files=kernel), tmp_path, SourceMalformed)


def test_no_interface(tmp_path: Path) -> None:
    """Without the kernel's interface, the source is unavailable and changes no folder."""
    with pytest.raises(SourceUnavailable):
        TsmSource(tmp_path / "absent").quote(DATA)
    _refused(TsmSource(tmp_path), tmp_path, SourceUnavailable)
