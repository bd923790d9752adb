"""Tests of the root secret: sources, creation and refusal."""

import base64
import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from tests_support import CountingEntropy

from node.config.tree import Config, Secret, Store
from node.platform import root_secret
from node.platform.root_secret import load_root_secret
from sealspace.cli.exit_status import EXIT_STATUS
from sealspace.service.command_errors import SecretUnusable

SECRET = bytes(range(32))


def _config(tmp_path: Path, **secret: Any) -> Config:
    return Config(store=Store(data=str(tmp_path / "data")), secret=Secret(**secret))


def test_first_start_makes_one(tmp_path: Path, entropy: CountingEntropy) -> None:
    """The first start makes 32 bytes in a private file, which later starts read."""
    made = load_root_secret(_config(tmp_path), entropy)
    path = tmp_path / "data" / "secret"
    assert len(made) == 32
    assert path.read_bytes() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert made == load_root_secret(_config(tmp_path), entropy)


def test_mode_does_not_depend_on_umask(tmp_path: Path, entropy: CountingEntropy) -> None:
    """The file is private even under a permissive umask."""
    former = os.umask(0)
    try:
        load_root_secret(_config(tmp_path), entropy)
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600


def test_from_the_environment(tmp_path: Path, entropy: CountingEntropy) -> None:
    """A secret from the environment is base64url without padding, and no file is made."""
    text = base64.urlsafe_b64encode(SECRET).decode().rstrip("=")
    assert load_root_secret(_config(tmp_path, value=text), entropy) == SECRET
    assert not (tmp_path / "data").exists()


def test_from_a_file(tmp_path: Path, entropy: CountingEntropy) -> None:
    """A secret file contains raw bytes; any length from 32 on is used as it is."""
    path = tmp_path / "elsewhere"
    path.write_bytes(SECRET + b"more")
    assert load_root_secret(_config(tmp_path, file=str(path)), entropy) == SECRET + b"more"


@pytest.mark.parametrize(
    "text", ["canary=", "can+ary", "can ary", "", "A" * 41, base64.b64encode(SECRET).decode()]
)
def test_bad_text_is_refused(tmp_path: Path, entropy: CountingEntropy, text: str) -> None:
    """Padding, another alphabet and short secrets are refused, without quoting the text."""
    with pytest.raises(SecretUnusable) as refused:
        load_root_secret(_config(tmp_path, value=text), entropy)
    assert "canary" not in refused.value.message


@pytest.mark.parametrize("size_bytes", [0, 31, 4097])
def test_length_is_bounded(tmp_path: Path, entropy: CountingEntropy, size_bytes: int) -> None:
    """A file with fewer than 32 or more than 4,096 bytes is refused."""
    path = tmp_path / "elsewhere"
    path.write_bytes(b"a" * size_bytes)
    with pytest.raises(SecretUnusable):
        load_root_secret(_config(tmp_path, file=str(path)), entropy)


def test_missing_file_is_refused(tmp_path: Path, entropy: CountingEntropy) -> None:
    """A missing configured file is refused, and none is made."""
    with pytest.raises(SecretUnusable):
        load_root_secret(_config(tmp_path, file=str(tmp_path / "absent")), entropy)


def test_open_file_is_refused(tmp_path: Path, entropy: CountingEntropy) -> None:
    """A secret that others can read is refused with a hint."""
    load_root_secret(_config(tmp_path), entropy)
    path = tmp_path / "data" / "secret"
    path.chmod(0o640)
    with pytest.raises(SecretUnusable) as refused:
        load_root_secret(_config(tmp_path), entropy)
    assert f"chmod 600 {path}" == refused.value.hint


def test_lost_secret_is_not_replaced(tmp_path: Path, entropy: CountingEntropy) -> None:
    """A data folder with a store but no secret does not get a new one."""
    (tmp_path / "data" / "store").mkdir(parents=True)
    with pytest.raises(SecretUnusable):
        load_root_secret(_config(tmp_path), entropy)
    assert not (tmp_path / "data" / "secret").exists()


def test_a_damaged_secret_of_a_store_is_put_back(
    tmp_path: Path, entropy: CountingEntropy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a damaged secret of an existing store the hint is the backup, never a new secret."""
    (tmp_path / "data" / "store").mkdir(parents=True)
    path = tmp_path / "data" / "secret"
    path.write_bytes(b"a" * 16)
    path.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    for settings in (Config(store=Store(data="data")), _config(tmp_path, file="data/secret")):
        with pytest.raises(SecretUnusable) as refused:
            load_root_secret(settings, entropy)
        assert refused.value.hint == f"copy the store's secret back to {path} from your backup"
    for text in ("canary=", "A" * 8):
        with pytest.raises(SecretUnusable) as refused:
            load_root_secret(_config(tmp_path, value=text), entropy)
        hint = "copy the store's secret back into secret.value from your backup"
        assert refused.value.hint == hint


def test_no_secret_is_made_for_a_store_elsewhere(tmp_path: Path) -> None:
    """A missing secret of a store that must exist, such as a database, is refused and not
    replaced."""
    with pytest.raises(SecretUnusable, match="the store's root secret is missing"):
        load_root_secret(_config(tmp_path), None)
    assert not (tmp_path / "data").exists()


def test_a_secret_on_a_full_disk(
    tmp_path: Path, entropy: CountingEntropy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that does not fit on the disk is a full store, with the free space as next step."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(root_secret, "make_file", refuse)
    with pytest.raises(SecretUnusable, match="No space left on device") as refused:
        load_root_secret(_config(tmp_path), entropy)
    assert EXIT_STATUS[refused.value.code] == 9
    assert f"df -h {tmp_path / 'data'}" in refused.value.hint


def test_unwritable_folder_is_refused(tmp_path: Path, entropy: CountingEntropy) -> None:
    """A data folder that cannot be created is an error with a hint."""
    (tmp_path / "data").write_text("a file")
    with pytest.raises(SecretUnusable):
        load_root_secret(_config(tmp_path), entropy)
