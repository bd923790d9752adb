"""The kit with a test authority, against a node that trusts its root."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance_kit.conftest import running
from conformance_kit.evidence_faults import EVIDENCE_FAULTS
from conformance_kit.line_faults import Fault
from deviating_platform import SimulatedPlatform
from patience import PATIENCE_S
from sealspace_conformance.__main__ import main
from sealspace_conformance.catalogue import run_groups
from sealspace_conformance.quotes import Authority, read_authority
from sealspace_conformance.report import FAILED, PASSED, Row
from trust_settings import MANY_CHALLENGES, trusting_config

GROUP = "accepted-evidence"
FEWEST_ROWS = 50


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    return SimulatedPlatform.from_seed(b"authority of the kit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, platform: SimulatedPlatform) -> Path:
    """The folder of the authority, as `sealspace backend simulate` writes it."""
    folder = tmp_path_factory.mktemp("kit") / "authority"
    platform.save(folder)
    return folder


@pytest.fixture(scope="module")
def trusting_url(
    tmp_path_factory: pytest.TempPathFactory, platform: SimulatedPlatform
) -> Iterator[str]:
    """The address of a node that trusts the authority's root."""
    settings = trusting_config(tmp_path_factory.mktemp("node"), platform, limits=MANY_CHALLENGES)
    with running(settings) as url:
        yield url


def rows_of(url: str, authority: Authority | None) -> list[Row]:
    """Return the rows of the group."""
    run, _ = asyncio.run(run_groups(url, only=[GROUP], timeout_s=PATIENCE_S, authority=authority))
    return [row for row in run.rows if row.group == GROUP]


def test_every_row_passes(trusting_url: str, folder: Path) -> None:
    """A node that trusts the root passes every row, and no row is left out."""
    rows = rows_of(trusting_url, read_authority(folder))
    assert [row for row in rows if row.verdict != PASSED] == []
    assert len(rows) >= FEWEST_ROWS


def test_an_authority_that_the_node_does_not_trust(trusting_url: str, tmp_path: Path) -> None:
    """AT12: quotes of another authority open nothing, and its rows fail."""
    SimulatedPlatform.from_seed(b"another authority").save(tmp_path / "other")
    rows = rows_of(trusting_url, read_authority(tmp_path / "other"))
    failed = {row.asked: row.seen for row in rows if row.verdict == FAILED}
    assert "untrusted-root" in failed["a session with a quote of listed code"]
    assert "not_attested" in failed["ask for a key as listed code"]


@pytest.mark.parametrize("fault", EVIDENCE_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_noticed(trusting_url: str, folder: Path, fault: Fault) -> None:
    """A row fails that names the fault. The same row passes without it."""
    with fault.present():
        rows = rows_of(trusting_url, read_authority(folder))
    assert fault.asked in {row.asked for row in rows if row.verdict == FAILED}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("pck.key", None, "cannot read"),
        ("attestation.key", b"not a key", "no private key"),
        ("pck-chain.pem", b"a" * 70_000, "more than"),
    ],
)
def test_a_folder_without_an_authority(
    tmp_path: Path,
    platform: SimulatedPlatform,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    why: str,
) -> None:
    """A folder that lacks a file, or has a wrong one, is named with what to do."""
    platform.save(tmp_path / "authority")
    file = tmp_path / "authority" / name
    file.unlink() if content is None else file.write_bytes(content)
    assert main(["http://127.0.0.1:1", "--authority", str(tmp_path / "authority")]) == 2
    said = capsys.readouterr().err
    assert why in said and name in said and "next:" in said
