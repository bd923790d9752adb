"""Attacks by another user's settings file in the folder where the operator starts the node."""

from pathlib import Path

import pytest
from engines import store_arguments
from running_node import RunningNode, send

pytestmark = pytest.mark.slow

_HOSTILE = '[release]\nattestation = "off"\n[hosting]\nmode = "explicit"\n'


async def test_a_settings_file_in_the_current_folder(tmp_path: Path) -> None:
    """A node ignores a settings file in the current folder, and says so."""
    trap = tmp_path / "trap"
    (trap / "data").mkdir(parents=True)
    for folder in (trap, trap / "data"):
        (folder / "sealspace.toml").write_text(_HOSTILE)
    node = RunningNode(
        tmp_path / "own", "--workers", "1", *store_arguments(tmp_path / "own"), started_in=trap
    )
    try:
        info = (await send(node.url, "GET", "/info")).value
        assert "delegates" == info["attestation"]
        node.wait_for(
            "^sealspace.toml in the current folder is ignored; to use the file: sealspace serve"
            " --config sealspace.toml$"
        )
    finally:
        node.close()


async def test_a_settings_file_in_the_data_folder(tmp_path: Path) -> None:
    """A node uses a settings file in its data folder."""
    data = tmp_path / "own" / "data"
    data.mkdir(parents=True, mode=0o700)
    (data / "sealspace.toml").write_text(_HOSTILE)
    node = RunningNode(tmp_path / "own", "--workers", "1", *store_arguments(tmp_path / "own"))
    try:
        info = (await send(node.url, "GET", "/info")).value
        assert "off" == info["attestation"]
    finally:
        node.close()
