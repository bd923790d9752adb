"""Tests of backups made before, during and after a replacement of the root secret (RK10)."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGHUP, SIGTERM, getsignal, signal

import msgspec
import pytest
from engines import needs_folder
from root_rotation_world import World, filled_store, killed, networks_of, rotated

from encryption_network.keyring import Keyring
from sealspace.cli.exit_status import EXIT_STATUS
from sealspace.cli.root import main
from spaces.archive.backup import ArchiveReader, ArchiveWriter
from spaces.store.lmdb.engine import open_lmdb

pytestmark = needs_folder()

Run = Callable[..., tuple[int, str]]
PASSPHRASE = "six words are better than one"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run an admin command in this process; return its status and what it said."""
    former = {number: getsignal(number) for number in (SIGTERM, SIGHUP)}

    def command(*arguments: object) -> tuple[int, str]:
        status = main(["admin", *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out + said.err

    yield command
    for number, handler in former.items():
        signal(number, handler)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A store with networks, which no node serves."""
    return asyncio.run(filled_store(tmp_path / "data"))


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    """A file with a passphrase."""
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text(PASSPHRASE)
    return file


def put_secret(folder: Path, secret: bytes) -> None:
    file = folder / "secret"
    file.touch(0o600)
    file.write_bytes(secret)


def test_RK10_each_backup_needs_its_secret(world: World, run: Run, tmp_path: Path) -> None:
    """A backup from before opens with the former secret only, and one from after with the new."""
    data = world.config.data
    secrets = [(data / "secret").read_bytes()]
    backups = [tmp_path / "before", tmp_path / "after"]
    assert run("backup", backups[0], *world.options)[0] == 0
    assert run("root", "rotate", *world.options)[0] == 0
    secrets.append((data / "secret").read_bytes())
    assert run("backup", backups[1], *world.options)[0] == 0
    for at, backup in enumerate(backups):
        folder = tmp_path / f"restored-{at}"
        status, said = run("restore", backup, "--data", folder)
        assert status == 0, said
        assert f"put root secret number {at + 1} of {world.former.node_did}" in said
        assert Keyring(secrets[at]).check_value.hex() in said
        put_secret(folder, secrets[1 - at])
        status, said = run("check", "--open", "--data", folder)
        assert status == 4, said
        put_secret(folder, secrets[at])
        status, said = run("check", "--open", "--data", folder)
        assert status == 0, said


def test_RK10_the_secret_in_a_backup(
    world: World, run: Run, tmp_path: Path, passphrase: Path
) -> None:
    """A backup made after a replacement contains the new secret, and is restored with it."""
    assert run("root", "rotate", *world.options)[0] == 0
    sealed = ("--with-secret", "--passphrase-file", passphrase)
    assert run("backup", tmp_path / "backup", *world.options, *sealed)[0] == 0
    folder = tmp_path / "restored"
    status, said = run(
        "restore", tmp_path / "backup", "--data", folder, "--passphrase-file", passphrase
    )
    assert status == 0, said
    assert (folder / "secret").read_bytes() == (world.config.data / "secret").read_bytes()
    assert run("check", "--open", "--data", folder)[0] == 0


def test_RK10_no_backup_of_two_secrets(world: World, run: Run, tmp_path: Path) -> None:
    """While the secret is being replaced, no backup is made."""
    assert killed(world, commit=2, when="after")
    status, said = run("backup", tmp_path / "backup", *world.options)
    assert status == EXIT_STATUS["rotation-unfinished"], said
    assert "finish the replacement first" in said
    assert not (tmp_path / "backup").exists()
    assert rotated(world).returncode == 0
    assert run("backup", tmp_path / "backup", *world.options)[0] == 0


def test_RK10_a_copy_as_new_has_another_secret(
    world: World, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy as new refuses the secret of its original, also after a replacement, and begins with
    number 1."""
    assert run("root", "rotate", *world.options)[0] == 0
    backup = tmp_path / "backup"
    assert run("backup", backup, *world.options)[0] == 0
    with monkeypatch.context() as named:
        named.setenv("SEALSPACE_SECRET__FILE", str(world.config.data / "secret"))
        status, said = run("restore", backup, "--as-new", "--data", tmp_path / "same")
    assert status == EXIT_STATUS["secret-unusable"], said
    assert "needs its own root secret" in said
    status, said = run("restore", backup, "--as-new", "--data", tmp_path / "new")
    assert status == 0, said
    status, said = run("root", "show", "--data", tmp_path / "new")
    assert (status, '"number":1' in said.replace(" ", "")) == (0, True), said
    assert run("check", "--open", "--data", tmp_path / "new")[0] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"rootSecretCheck": "00" * 32},
        {"rootSecretCheck": "00" * 31},
        {"rootSecretCheck": "AA" * 32},
        {"rootSecretNumber": -1},
        {"rootSecretNumber": "1"},
    ],
)
def test_RK10_an_altered_header(
    world: World, run: Run, tmp_path: Path, changes: dict[str, object]
) -> None:
    """A backup whose header and rows need different secrets is refused."""
    backup, forged = tmp_path / "backup", tmp_path / "forged"
    assert run("backup", backup, *world.options)[0] == 0
    with backup.open("rb") as stream, forged.open("wb") as written:
        reader = ArchiveReader(stream)
        writer = ArchiveWriter(written, lambda: None, made_at=1)
        for name in reader.members():
            contents = reader.contents(1 << 30)
            if name == "backup.json":
                contents = msgspec.json.encode(msgspec.json.decode(contents) | changes)
            writer.add(name, contents)
        writer.close()
    status, said = run("restore", forged, "--data", tmp_path / "restored")
    assert status != 0 and "altered" in said, said
    assert not (tmp_path / "restored").exists()


def test_a_compacted_file_has_no_former_row(world: World, run: Run, tmp_path: Path) -> None:
    """A copied and compacted file of LMDB contains no sealed key of before (RK5)."""
    data = world.config.data
    before = sealed_keys(data)
    assert run("root", "rotate", *world.options)[0] == 0
    assert not before & sealed_keys(data)
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    assert run("backup", backup, *world.options)[0] == 0
    assert run("restore", backup, "--data", restored)[0] == 0
    compact = (restored / "store" / "data.mdb").read_bytes()
    assert not any(key in compact or key in backup.read_bytes() for key in before)
    shutil.rmtree(restored)


def sealed_keys(data: Path) -> set[bytes]:
    """Return the sealed private keys of all networks."""

    async def read() -> set[bytes]:
        store = open_lmdb(data)
        try:
            return {one.sealed_private_key for one in await networks_of(store)}
        finally:
            await store.close()

    return asyncio.run(read())
