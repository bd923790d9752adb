"""Attacks on the files that `sealspace door --render` writes (DR17)."""

import os
import stat
from pathlib import Path

import pytest

from door.rendering import write_files
from sealspace.errors import InvalidInput

FILES = {"secret/API_KEY": b"canary-4711", "secret/prod/DB": b"canary-4712"}


@pytest.mark.parametrize("place", ["secret", "secret/prod"])
def test_DR17_a_link_out_of_memory(tmp_path: Path, place: str) -> None:
    """DR17: where others may write, a link to a disk is not followed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    link = tmp_path / "ram" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(disk)
    with pytest.raises(InvalidInput, match="is a link, or belongs to another user"):
        write_files(tmp_path / "ram", FILES)
    assert [*disk.iterdir()] == []


def test_DR17_a_link_in_the_place_of_a_file(tmp_path: Path) -> None:
    """DR17: links in the place of a file, and of its draft, are replaced and not followed."""
    other = tmp_path / "other"
    other.write_bytes(b"as before")
    folder = tmp_path / "ram" / "secret"
    folder.mkdir(parents=True)
    for name in ("API_KEY", ".API_KEY.new"):
        (folder / name).symlink_to(other)
    write_files(tmp_path / "ram", FILES)
    assert other.read_bytes() == b"as before"
    assert (folder / "API_KEY").read_bytes() == FILES["secret/API_KEY"]
    assert not (folder / "API_KEY").is_symlink()


def test_DR17_names_are_for_the_user_alone(tmp_path: Path) -> None:
    """DR17: others can list no folder of a mount, so they learn no name of a secret."""
    former = os.umask(0)
    try:
        write_files(tmp_path, FILES)
    finally:
        os.umask(former)
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("secret", "secret/prod")]
    assert modes == [0o700, 0o700]
