"""Tests of importing collateral, by a folder or a command."""

from pathlib import Path

import pytest
from deviating_platform import SimulatedPlatform
from tests_support import FixedClock

from node.collateral.intake import import_collateral, import_folder
from sealspace.service.command_errors import CollateralRefused
from spaces.keyspace import collateral_key
from spaces.store.contract import Store
from spaces.store.lmdb.engine import open_lmdb
from tee_backend.attestation.trust_root import TrustRoot, intel_root, parse_trust_root

NOW = FixedClock().now()
DAY_S = 86_400.0


@pytest.fixture
async def store(tmp_path: Path):
    """An empty store."""
    opened = open_lmdb(tmp_path / "data")
    yield opened
    await opened.close()


@pytest.fixture
def root(platform: SimulatedPlatform) -> TrustRoot:
    """The simulated trust root."""
    return parse_trust_root(platform.root_der)


async def _held(store: Store, fmspc: bytes, ca: str) -> bytes | None:
    row = (await store.read((collateral_key(fmspc, ca),))).records[0]
    return None if row is None else row.value


async def test_a_document_is_kept_as_it_came(
    store: Store, root: TrustRoot, platform: SimulatedPlatform, clock: FixedClock
) -> None:
    """A verified document is stored byte for byte, under its platform family and authority."""
    data = platform.collateral_json(NOW)
    imported = await import_collateral(store, data, root=root, clock=clock, source="a.json")
    assert platform.fmspc == imported.fmspc
    assert await _held(store, imported.fmspc, imported.ca) == data
    assert imported.ends_at > NOW


async def test_the_root_decides(
    store: Store, platform: SimulatedPlatform, clock: FixedClock
) -> None:
    """Under Intel's root a simulated document is refused and not stored."""
    with pytest.raises(CollateralRefused) as refused:
        await import_collateral(
            store, platform.collateral_json(NOW), root=intel_root(), clock=clock, source="a.json"
        )
    assert "a.json" in refused.value.message
    assert await _held(store, platform.fmspc, "platform") is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"x" * 300_000], ids=range(5))
async def test_other_bytes_are_refused(
    store: Store, root: TrustRoot, clock: FixedClock, data: bytes
) -> None:
    """Bytes that are not collateral are refused."""
    with pytest.raises(CollateralRefused):
        await import_collateral(store, data, root=root, clock=clock, source="a.json")


async def test_older_does_not_replace_newer(
    store: Store, root: TrustRoot, platform: SimulatedPlatform, clock: FixedClock
) -> None:
    """A document older than the stored one is refused; a newer one replaces it."""
    newest = platform.collateral_json(NOW)
    await import_collateral(
        store, platform.collateral_json(NOW - DAY_S), root=root, clock=clock, source="old"
    )
    await import_collateral(store, newest, root=root, clock=clock, source="new")
    with pytest.raises(CollateralRefused):
        await import_collateral(
            store, platform.collateral_json(NOW - DAY_S), root=root, clock=clock, source="old"
        )
    assert newest == await _held(store, platform.fmspc, "platform")


async def test_a_folder_is_taken_in_again(
    store: Store, root: TrustRoot, platform: SimulatedPlatform, clock: FixedClock, tmp_path: Path
) -> None:
    """A folder's documents are imported by name; outdated ones do not prevent the start."""
    folder = tmp_path / "collateral"
    folder.mkdir()
    (folder / "a.json").write_bytes(platform.collateral_json(NOW))
    (folder / "b.json").write_bytes(platform.collateral_json(NOW - DAY_S))
    (folder / "c.json").write_bytes(platform.collateral_json(NOW - 400 * DAY_S))
    (folder / "notes.txt").write_text("not collateral")
    await import_folder(store, folder, root=root, clock=clock)
    await import_folder(store, folder, root=root, clock=clock)
    assert platform.collateral_json(NOW) == await _held(store, platform.fmspc, "platform")


async def test_a_bad_folder_refuses(
    store: Store, root: TrustRoot, clock: FixedClock, tmp_path: Path
) -> None:
    """A missing folder, or a file in it that is not collateral, is an error."""
    with pytest.raises(CollateralRefused):
        await import_folder(store, tmp_path / "absent", root=root, clock=clock)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(CollateralRefused):
        await import_folder(store, tmp_path, root=root, clock=clock)
