"""Tests of `sealspace backend simulate`, which creates a simulated platform."""

import json
from pathlib import Path

import pytest

from sealspace.cli.root import main


def test_a_simulated_platform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The platform is created once, and its collateral each time. A folder with other files is not
    changed."""
    folder = tmp_path / "tee"
    assert 0 == main(["backend", "simulate", str(folder)])
    made = capsys.readouterr()
    assert "" == made.out and "sealspace serve --trust-root" in made.err
    key = (folder / "root.key").read_bytes()
    assert 0 == main(["backend", "simulate", str(folder), "--json", "-q"])
    again = capsys.readouterr()
    said = json.loads(again.out)
    assert (
        "" == again.err and Path(said["trustRoot"]).is_file() and Path(said["collateral"]).is_dir()
    )
    assert key == (folder / "root.key").read_bytes()
    (folder / "root.key").write_bytes(b"")
    for spoilt in (folder, tmp_path / "file" / "tee"):
        (tmp_path / "file").write_bytes(b"")
        assert 2 == main(["backend", "simulate", str(spoilt)])
        assert "\nnext: pass the name of a new folder\n" in capsys.readouterr().err
    assert b"" == (folder / "root.key").read_bytes()
