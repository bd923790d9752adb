"""Tests of the operator's backup commands: under load, with the root secret, and on bad input."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from durability.backups import back_up_many_times, new_database
from durability.load import PUT, Writer, new_session
from engines import needs_folder
from postgres_server import needs_postgres
from running_node import running_node

from sealspace.cli.exit_status import EXIT_STATUS
from sealspace.cli.root import main

pytestmark = [pytest.mark.slow, needs_folder()]

PASSPHRASE = "six words are better than one"
Admin = Callable[..., tuple[int, Any, str]]


def names(folder: Path) -> list[str]:
    return sorted(place.name for place in folder.iterdir())


async def test_backups_under_load(tmp_path: Path) -> None:
    """Each backup of a node under 16 writers has every write acknowledged before it, and a check
    finds no damage (BK1 to BK4)."""
    assert await back_up_many_times(tmp_path, rounds=1) > 100


@needs_postgres()
async def test_backups_from_lmdb_into_a_database_and_back(tmp_path: Path) -> None:
    """A backup of a node under load restores into a database, whose backup restores into a folder.
    A check of both finds no damage."""
    assert await back_up_many_times(tmp_path, rounds=1, via=new_database) > 100


@needs_postgres()
async def test_backups_from_a_database_under_load(tmp_path: Path) -> None:
    """A backup of a node on a database under 16 writers restores into a folder with all
    acknowledged writes (BK1)."""
    assert await back_up_many_times(tmp_path, rounds=1, store=new_database) > 100


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a node that was used and stopped."""
    folder = tmp_path_factory.mktemp("used")

    async def use() -> None:
        with running_node(folder / "node", workers=1) as node:
            writer = Writer(0)
            async with new_session() as session:
                for _ in range(12):
                    assert (await writer.write(session, node.url)).status in (200, 404)
                for at, size_bytes in enumerate((60_000, 60_000, 60_000, 600_000), 9):
                    body = bytes((at,)) * size_bytes
                    assert (await writer.invoke(session, node.url, at, PUT, body)).status == 200
            assert node.stop() == 0

    asyncio.run(use())
    return folder / "node" / "data"


@pytest.fixture
def admin(capsys: pytest.CaptureFixture[str]) -> Iterator[Admin]:
    """Run a command of the operator in this process; return its status, JSON document and
    messages."""
    was = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: object, json_: bool = True) -> tuple[int, Any, str]:
        status = main(["admin", *map(str, arguments), *(["--json"] if json_ else [])])
        said = capsys.readouterr()
        return status, json.loads(said.out) if json_ and said.out else said.out, said.err

    yield run
    for number, handler in was.items():
        signal.signal(number, handler)


def test_the_secret_in_a_backup(used: Path, tmp_path: Path, admin: Admin) -> None:
    """A backup contains the encrypted root secret on request, which its passphrase opens (BK8)."""
    file, passphrase, wrong = tmp_path / "backup", tmp_path / "passphrase", tmp_path / "wrong"
    secret, unusable = (used / "secret").read_bytes(), EXIT_STATUS["secret-unusable"]
    with_secret = ("backup", file, "--data", used, "--with-secret")
    assert admin(*with_secret)[0] == EXIT_STATUS["configuration-invalid"]  # nobody to be asked
    for place in (passphrase, wrong):
        place.touch(mode=0o600)
    passphrase.write_text("too short\n")
    assert admin(*with_secret, "--passphrase-file", passphrase)[0] == unusable
    assert names(tmp_path) == ["passphrase", "wrong"]
    passphrase.write_text(PASSPHRASE + "\n")
    assert admin(*with_secret, "--passphrase-file", passphrase)[0] == 0
    assert secret not in file.read_bytes()
    wrong.write_text(PASSPHRASE + "!")
    there = tmp_path / "restored"
    status, _, said = admin("restore", file, "--data", there, "--passphrase-file", wrong)
    assert status == unusable
    assert "this passphrase does not open the root secret" in said
    assert not there.exists()
    status, restored, _ = admin("restore", file, "--data", there, "--passphrase-file", passphrase)
    assert status == 0
    assert (there / "secret").read_bytes() == secret
    assert (there / "secret").stat().st_mode & 0o777 == 0o600
    assert admin("restore", file, "--data", tmp_path / "without", "--without-secret")[0] == 0
    assert not (tmp_path / "without" / "secret").exists()
    _, shown, _ = admin("restore", file, "--data", tmp_path / "new", "--as-new")
    assert (tmp_path / "new" / "secret").read_bytes() != secret
    assert shown["isNew"] is True
    assert shown["nodeDid"] != restored["nodeDid"]


def test_what_bad_input_gets(
    used: Path, tmp_path: Path, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged file, a used folder, an existing name or a missing store gives an error and changes
    nothing."""
    file, cut, misused = tmp_path / "backup", tmp_path / "cut", EXIT_STATUS["store-misused"]
    status, taken, said = admin("backup", file, "--data", used)
    assert status == 0
    assert taken["bodies"] == 1
    assert taken["leftOut"] == []
    assert taken["digest"] in said
    whole = file.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    status, _, said = admin("restore", cut, "--data", tmp_path / "restored")
    assert status == 1
    assert "nothing was restored: the backup was cut short" in said
    status, _, said = admin("restore", file, "--data", used)
    assert status == 1
    assert "is not empty" in said
    status, _, said = admin("backup", file, "--data", used)
    assert status == 1
    assert "already exists" in said
    assert file.read_bytes() == whole
    assert admin("backup", tmp_path / "other", "--data", tmp_path / "nothing")[0] == misused
    assert admin("check", "--data", tmp_path / "nothing")[0] == misused
    monkeypatch.setenv("SEALSPACE_STORE__URL", "postgresql://nowhere.example/none")
    for arguments in (("backup", tmp_path / "other"), ("restore", file), ("check",)):
        status, _, said = admin(*arguments, "--data", tmp_path / "restored")
        assert status != 0 and "the database" in said, said
    assert names(tmp_path) == ["backup", "cut"]


def test_a_damaged_store_is_named(used: Path, tmp_path: Path, admin: Admin) -> None:
    """`check` prints a line for each damage and ends with 1. A backup does too, and contains the
    rest (BK3, BK9)."""
    there = tmp_path / "data"
    shutil.copytree(used, there)
    assert admin("check", "--data", there, json_=False)[:2] == (0, "")
    body = max(
        (there / "blobs").rglob("*-*"),
        key=lambda place: place.stat().st_size if place.is_file() else 0,
    )
    body.write_bytes(body.read_bytes()[:-1] + b"!")
    reason = "the digest of a large value does not match the recorded digest"
    line = f"damage: body {body.name}: {reason}\n"
    assert admin("check", "--data", there, json_=False)[:2] == (1, line)
    status, taken, said = admin("backup", tmp_path / "backup", "--data", there)
    assert status == 1
    assert taken["leftOut"] == [body.name]
    assert body.name in said
    status, restored, _ = admin("restore", tmp_path / "backup", "--data", tmp_path / "restored")
    assert (status, restored["leftOut"]) == (1, [body.name])


@pytest.mark.parametrize(
    ("how", "text"), [("cut", "crashed with SIGBUS"), ("zeros", "cannot be opened (Corrupt")]
)
def test_damaged_pages_are_named(
    used: Path, tmp_path: Path, admin: Admin, how: str, text: str
) -> None:
    """A truncated or overwritten store file is a finding, whichever way it fails to be read
    (BK9)."""
    (tmp_path / "data" / "store").mkdir(parents=True)
    place = tmp_path / "data" / "store" / "data.mdb"
    shutil.copy(used / "store" / "data.mdb", place)
    # the two pages that say where the others are
    size_bytes, kept_bytes = place.stat().st_size, 2 * 4096
    os.truncate(place, kept_bytes)
    if how == "zeros":
        os.truncate(place, size_bytes)
    status, checked, _ = admin("check", "--data", tmp_path / "data")
    assert status == 1
    assert checked["damages"] == 1
    assert checked["findings"][0]["what"] == "store"
    assert text in checked["findings"][0]["text"]
