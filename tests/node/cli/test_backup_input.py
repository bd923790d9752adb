"""Tests of hostile input to the commands `admin backup`, `restore` and `check`."""

import asyncio
import json
import os
import shutil
import signal
import struct
import tomllib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import lmdb
import msgspec
import pytest
from engines import needs_folder
from msgspec.structs import replace
from postgres_server import needs_postgres, postgres_server
from tests_support import CountingEntropy, FixedClock
from value_bench import LARGE, SMALL, Bench, Write

from capabilities.resources import network_id
from capabilities.signatures import Ed25519Signer
from encryption_network.keyring import Keyring
from encryption_network.networks import NetworkRecord, create_network, encode_network, private_key
from encryption_network.withdrawals import NOTHING_WITHDRAWN, encode_withdrawals
from node.cli import backup_commands
from node.config.tree import Config, Hosting, Store
from node.platform import sealed_secret
from node.storage.stores import refuse_unsafe_copy, shared_store
from sealspace.cli.exit_status import EXIT_STATUS, INTERRUPTED
from sealspace.cli.root import main
from sealspace.service.command_errors import BesideOriginal, ConfigurationError
from spaces.archive.backup import ArchiveReader, ArchiveWriter
from spaces.documents.network_rows import network_put
from spaces.identity import ensure_identity
from spaces.keyspace import WITHDRAWALS_KEY
from spaces.store.contract import ANY, Commit, Put, commit_puts
from spaces.store.lmdb.engine import open_lmdb

pytestmark = needs_folder()

PASSPHRASE = "six words are better than one"
PAGE = 4096
Run = Callable[..., tuple[int, str, str]]
Parts = dict[str, bytes]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with its secret, some rows and a large value."""
    folder, secret = (
        tmp_path_factory.mktemp("used") / "data",
        CountingEntropy(b"backed up").token(32),
    )

    async def use() -> None:
        store = open_lmdb(folder, clock=FixedClock())
        bench = Bench(store, folder / "blobs")
        await ensure_identity(store, node_did=Keyring(secret).node_did, entropy=CountingEntropy())
        await bench.write(
            Write("large", LARGE), *(Write(f"small{at}", SMALL * 40) for at in range(40))
        )
        await store.close()

    asyncio.run(use())
    (folder / "secret").write_bytes(secret)
    (folder / "secret").chmod(0o600)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run an admin command in this process; return its status, output and errors."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def command(*arguments: object) -> tuple[int, str, str]:
        status = main(["admin", *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    yield command
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def parts(used: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """The members of a backup."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    file = tmp_path_factory.mktemp("backup") / "backup"
    assert main(["admin", "backup", str(file), "--data", str(used), "--quiet"]) == 0
    for number, handler in former.items():
        signal.signal(number, handler)
    reader = ArchiveReader(BytesIO(file.read_bytes()))
    return {name: reader.contents(1 << 30) for name in reader.members()}


def forged(parts: Parts, path: Path, **header: object) -> Path:
    """Write a backup with any members and a valid digest, as an attacker can."""
    stated = msgspec.json.decode(parts["backup.json"]) | {"folder": "/nonexistent"} | header
    with path.open("wb") as stream:
        archive = ArchiveWriter(stream, lambda: None, made_at=1)
        for name, contents in parts.items():
            archive.add(name, msgspec.json.encode(stated) if name == "backup.json" else contents)
        archive.close()
    return path


def of_format_1(parts: Parts, rows: bytes) -> Parts:
    """Return the members in the format of an earlier version, with an LMDB file."""
    kept = {name: contents for name, contents in parts.items() if name.startswith("blobs/")}
    return {"backup.json": parts["backup.json"], "store/data.mdb.00000": rows, **kept}


@pytest.fixture(scope="module")
def lmdb_file(used: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The LMDB file as an earlier version put it into a backup."""
    folder = tmp_path_factory.mktemp("copied")
    with lmdb.open(str(used / "store"), readonly=True, max_dbs=1) as env:
        env.copy(str(folder), compact=True)
    return (folder / "data.mdb").read_bytes()


# --- folders


def test_the_current_folder_is_not_imported_from(
    used: Path, run: Run, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subprocesses that read a store import no module from the current folder (BK9)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "multiprocessing").mkdir()
    for name in (
        "pickle.py",
        "multiprocessing/__init__.py",
        "lmdb.py",
        "msgspec.py",
        "sitecustomize.py",
    ):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise ImportError\n")
    assert run("check", "--data", used)[0] == 0
    assert run("restore", forged(parts, tmp_path / "backup"), "--data", "restored")[0] == 0
    assert not (tmp_path / "ran").exists()


def test_nothing_is_made_during_a_restore(run: Run, tmp_path: Path) -> None:
    """A node started on a folder during a restore creates no secret, lock or store there (BK4)."""
    (tmp_path / "restoring").mkdir()
    assert main(["serve", "--data", str(tmp_path), "--port", "0"]) != 0
    assert run("audit", "export", "--data", tmp_path)[0] != 0
    assert [place.name for place in tmp_path.iterdir()] == ["restoring"]


def test_the_original_below_a_name_that_cannot_be(run: Run, parts: Parts, tmp_path: Path) -> None:
    """A header with an impossible folder name is refused (BK6)."""
    for folder in ("relative", "", "/a\0b", "/" + "x" * 256, "/x" * 2048):
        file = forged(parts, tmp_path / "backup", folder=folder)
        status, _, said = run("restore", file, "--data", tmp_path / "restored")
        assert status == 1, folder
        assert "the path of its data folder is not valid" in said, folder
    assert not (tmp_path / "restored").exists()


# --- the drill


def test_the_root_secret_opens_each_network_of_a_copy(
    used: Path, run: Run, parts: Parts, tmp_path: Path
) -> None:
    """`check --open` counts the networks that the root secret opens, and names each other one.

    Another root secret is refused. No key is printed.
    """
    data = tmp_path / "restored"
    assert run("restore", forged(parts, tmp_path / "backup"), "--data", data)[0] == 0
    secret = (used / "secret").read_bytes()
    (data / "secret").write_bytes(secret)
    (data / "secret").chmod(0o600)
    keyring, entropy = Keyring(secret), CountingEntropy()
    ids = [network_id(Ed25519Signer(bytes([at]) * 32).did, "default") for at in range(3)]
    made = [create_network(one, now=1e9, keyring=keyring, entropy=entropy) for one in ids]

    def store_networks(*records: NetworkRecord) -> None:
        async def write() -> None:
            store = open_lmdb(data)
            nothing = encode_withdrawals(NOTHING_WITHDRAWN)
            await commit_puts(store, Put(WITHDRAWALS_KEY, nothing))
            puts = [network_put(one.network_id, encode_network(one), expect=ANY) for one in records]
            await store.commit(Commit(puts=tuple(puts)))
            await store.close()

        asyncio.run(write())

    store_networks(*made)
    status, out, said = run("check", "--open", "--data", data)
    assert status == 0, out + said
    assert out == "", out + said
    assert "private key the root secret decrypts: 3" in said, out + said
    # The second one has the sealed key of the first, the third one has damaged bytes.
    foreign = replace(made[1], sealed_private_key=made[0].sealed_private_key)
    sealed = made[2].sealed_private_key
    torn = replace(made[2], sealed_private_key=sealed[:-1] + bytes([sealed[-1] ^ 1]))
    store_networks(foreign, torn)
    status, out, said = run("check", "--open", "--data", data)
    assert status == 1
    assert "private key the root secret decrypts: 1" in said
    assert out.count("\n") == 2
    assert [ids[at].text in out for at in range(3)] == [False, True, True]
    scalar = private_key(made[0], keyring)
    assert not any(form in out + said for form in (secret.hex(), scalar.hex()))
    assert run("check", "--data", data)[0] == 0  # without --open the keys stay closed
    (data / "secret").chmod(0o600)
    (data / "secret").write_bytes(bytes(32))
    status, out, said = run("check", "--open", "--data", data)
    assert status == EXIT_STATUS["secret-unusable"], said
    assert "but the root secret to did:key:" in said
    assert "failed" not in said


# --- files


def meta(at: int, form: str, number: int) -> Callable[[bytes], bytes]:
    """Return a function that writes a number into both meta pages."""

    def change(rows: bytes) -> bytes:
        changed = bytearray(rows)
        for page in (0, PAGE):
            struct.pack_into(form, changed, page + at, number)
        return bytes(changed)

    return change


def beyond_the_metas(rows: bytes) -> bytes:
    return rows[: 2 * PAGE] + b"\xff" * (len(rows) - 2 * PAGE)


def circle(rows: bytes) -> bytes:
    """Return rows whose tree refers to one leaf many times."""
    changed = bytearray(rows)
    root = struct.unpack_from("<Q", rows, PAGE + 16 + 24 + 48 + 40)[0] * PAGE
    assert changed[root + 10] & 1  # a branch
    lower = struct.unpack_from("<H", rows, root + 12)[0]
    nodes = [struct.unpack_from("<H", rows, root + at)[0] for at in range(16, lower, 2)]
    assert len(nodes) > 3
    first = rows[root + nodes[0] : root + nodes[0] + 4]
    for node in nodes[:-2]:  # the last have what says of which version the file is
        changed[root + node : root + node + 4] = first
    return bytes(changed)


HOSTILE_ROWS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda rows: b"",
    "a piece of a page": lambda rows: rows[:100],
    "the metas alone": lambda rows: rows[: 2 * PAGE],
    "all but the last page": lambda rows: rows[:-PAGE],
    "a piece of the last page": lambda rows: rows[:-100],
    "a last page far behind": meta(136, "<Q", 1 << 30),
    "a last page beyond numbers": meta(136, "<Q", (1 << 64) - 1),
    "a map of 64 TiB": meta(32, "<Q", 1 << 46),
    "pages of 3 bytes": meta(40, "<I", 3),
    "another magic": meta(16, "<I", 7),
    "free pages of its own": meta(80, "<Q", 5),
    "no pages": beyond_the_metas,
    "leaves in a circle": circle,
}


@pytest.mark.parametrize("what", HOSTILE_ROWS)
def test_rows_that_are_damaged_under_a_right_digest(
    run: Run, parts: Parts, lmdb_file: bytes, tmp_path: Path, what: str
) -> None:
    """Damaged rows under a valid digest are refused as a damaged backup and leave nothing (BK4)."""
    file = forged(of_format_1(parts, HOSTILE_ROWS[what](lmdb_file)), tmp_path / "backup", format=1)
    status, _, said = run("restore", file, "--data", tmp_path / "restored")
    assert status == 1, said
    assert "nothing was restored: " in said
    assert "use another copy of the backup" in said
    assert not (tmp_path / "restored").exists()


def test_a_backup_of_format_1_restores(
    run: Run, parts: Parts, lmdb_file: bytes, tmp_path: Path
) -> None:
    """A backup of an earlier version restores and passes the check."""
    file = forged(of_format_1(parts, lmdb_file), tmp_path / "backup", format=1)
    assert run("restore", file, "--data", tmp_path / "restored")[0] == 0
    assert run("check", "--data", tmp_path / "restored")[0] == 0


def test_the_settings_in_a_backup(
    used: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup contains the node's effective settings, without secrets (BK8)."""
    file = tmp_path / "sealspace.toml"
    file.write_text("[release]\nchallenge_s = 120\n")
    monkeypatch.setenv("SEALSPACE_ADMIN__SECRET", "hush" * 8)
    status, _, said = run("backup", tmp_path / "backup", "--data", used, "--config", file)
    assert status == 0
    assert "the backup contains the settings, without secrets" in said
    assert b"hush" not in (tmp_path / "backup").read_bytes()
    reader = ArchiveReader(BytesIO((tmp_path / "backup").read_bytes()))
    members = {name: reader.contents(1 << 30) for name in reader.members()}
    text = members["settings.toml"].decode()
    found = tomllib.loads(text)
    assert found["release"]["challenge_s"] == 120
    # BK11: the settings do not lead to the folder of the original.
    assert "data" not in found["store"]
    assert f"# the folder of the original: data = {json.dumps(str(used))}" in text


def test_BK11_settings_beside_another_store(
    used: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BK11: a start with settings beside a store is refused if they name another store."""
    monkeypatch.chdir(tmp_path)
    restored = tmp_path / "restored"
    shutil.copytree(used, restored)
    settings = restored / "sealspace.toml"

    def started(text: str, *options: str) -> str:
        """Return the error of a start, and check that the doctor says the same."""
        settings.write_text(text)
        assert main(["doctor", *options]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert main(["serve", "--port", "0", *options]) == EXIT_STATUS["configuration-invalid"]
        said = capsys.readouterr().err.splitlines()
        assert f"wrong    settings: {said[0].removeprefix('sealspace: ')}" in lines
        return "\n".join(said)

    config = ("--config", str(settings))
    said = started(f"[store]\ndata = {json.dumps(str(used))}\n", *config)
    assert f"is in the folder of a store, but store.data names {used}" in said
    assert f"add --data {restored}" in said
    assert f"names {tmp_path / 'data'}" in started("[http]\nport = 0\n", *config)
    database = "[store]\nurl = 'postgresql://node@127.0.0.1:1/none'\n"
    assert "but store.url names a database" in started(database, "--data", str(restored))
    assert not (tmp_path / "data").exists()
    settings.write_text(f"[store]\ndata = {json.dumps(str(used))}\n")
    assert main(["doctor", "--data", str(restored)]) == 0, capsys.readouterr().out
    assert main(["doctor", "--config", str(settings), "--data", str(restored)]) == 0
    moved = tmp_path / "sealspace.toml"
    settings.rename(moved)
    assert main(["doctor", "--config", str(moved)]) == 0


def test_a_body_that_the_backup_does_not_have(run: Run, parts: Parts, tmp_path: Path) -> None:
    """A large value that is missing in the backup is named, and the exit status is 1 (BK4)."""
    kept = {name: contents for name, contents in parts.items() if not name.startswith("blobs/")}
    (lost,) = parts.keys() - kept.keys()
    status, _, said = run(
        "restore", forged(kept, tmp_path / "backup"), "--data", tmp_path / "restored"
    )
    assert status == 1
    assert f"missing: {lost.rpartition('/')[2]}: " in said
    assert (tmp_path / "restored" / "store").is_dir()


@needs_postgres()
def test_a_backup_into_a_database(used: Path, run: Run, parts: Parts, tmp_path: Path) -> None:
    """A backup restores rows into an empty database and large values into the folder (BK4 to BK6,
    ST17)."""
    url, data = postgres_server().new_database(), tmp_path / "restored"
    file = forged(parts, tmp_path / "backup", folder=str(used))
    there = ("--data", data, "--store", url)
    long_lived = forged(parts, tmp_path / "long-lived", longestLifeS=86_400)
    status, _, said = run("restore", long_lived, *there)
    assert status == EXIT_STATUS["configuration-invalid"]
    assert "longest token lifetime" in said
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-2000])
    assert run("restore", tmp_path / "cut", *there)[0] == 1
    assert not data.exists()
    assert run("restore", file, *there)[0] == 0
    assert [place.name for place in data.iterdir()] == ["blobs"]
    assert run("check", *there)[0] == 0
    status, _, said = run("restore", file, "--data", tmp_path / "second", "--store", url)
    assert status != 0
    assert "already contains a store" in said
    assert not (tmp_path / "second").exists()
    unstated = Config(store=Store(data=str(data), url=url))
    with pytest.raises(ConfigurationError, match=r"hosting\.mode = unknown"):  # ST17
        asyncio.run(_refuse_beside(unstated))
    with pytest.raises(BesideOriginal):  # BK6
        asyncio.run(_refuse_beside(replace(unstated, hosting=Hosting(is_mode_stated=True))))


async def _refuse_beside(config: Config) -> None:
    store = shared_store(config)
    try:
        await refuse_unsafe_copy(config, store)
    finally:
        await store.close()


def test_a_mark_of_the_future(run: Run, parts: Parts, tmp_path: Path) -> None:
    """A backup dated more than a day ahead is refused without --future-mark (BK5)."""
    file = forged(parts, tmp_path / "backup", markedAt=float((1 << 33) - 1))
    status, _, said = run("restore", file, "--data", tmp_path / "restored")
    assert status == EXIT_STATUS["clock-wrong"]
    assert "--future-mark" in said
    assert not (tmp_path / "restored").exists()
    assert run("restore", file, "--data", tmp_path / "restored", "--future-mark")[0] == 0


def test_a_pipe_is_no_backup(run: Run, tmp_path: Path) -> None:
    """A pipe without a writer, or any file that is not a regular one, is refused at once."""
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/null"), tmp_path):
        status, _, said = run("restore", place, "--data", tmp_path / "restored")
        assert status == EXIT_STATUS["file-unreadable"]
        assert "is not a regular file" in said


def test_the_longest_name(used: Path, run: Run, tmp_path: Path) -> None:
    """A backup file can have the longest name that the file system allows (BK3)."""
    assert run("backup", tmp_path / ("x" * 255), "--data", used)[0] == 0
    assert [place.name for place in tmp_path.iterdir()] == ["x" * 255]


# --- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(
    used: Path,
    run: Run,
    parts: Parts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    """A signal during a backup or restore ends it like Ctrl-C and leaves nothing (BK3, BK4)."""
    file = forged(parts, tmp_path / "whole")
    made: list[str] = []

    def interrupt(*_: object) -> None:
        made.extend(place.name for place in tmp_path.rglob("*"))
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr("spaces.archive.backup.ArchiveWriter.close", interrupt)
        assert run("backup", tmp_path / "backup", "--data", used)[0] == INTERRUPTED
    with monkeypatch.context() as patch:
        patch.setattr(backup_commands, "run_in_subprocess", interrupt)
        assert run("restore", file, "--data", tmp_path / "restored")[0] == INTERRUPTED
    assert any(name.endswith(".partial") for name in made) and "restoring" in made
    assert [place.name for place in tmp_path.iterdir()] == ["whole"]


# --- passphrases


def test_passphrases_are_not_cut(used: Path, run: Run, tmp_path: Path) -> None:
    """The longest passphrase is used whole; a longer or blank one, one with NUL, or one that other
    users can read, is refused (BK8)."""
    place, unusable = tmp_path / "passphrase", EXIT_STATUS["secret-unusable"]
    arguments = ("--data", used, "--with-secret", "--passphrase-file", place)
    for text in ("x" * 1025, "x" * 5000, " " * 20, "six words\0and more", "\n"):
        place.write_text(text)
        place.chmod(0o600)
        status, _, said = run("backup", tmp_path / "backup", *arguments)
        assert status == unusable
        assert "the passphrase" in said
        assert not (tmp_path / "backup").exists()
    place.write_text("x" * 1024 + "\r\n")
    status, _, said = run("backup", tmp_path / "backup", *arguments)
    assert status == 0
    assert "the backup contains the root secret, encrypted" in said
    place.write_text("x" * 1024)
    opening = ("restore", tmp_path / "backup", "--data", tmp_path / "restored", *arguments[3:])
    place.chmod(0o640)
    status, _, said = run(*opening)
    assert status == unusable
    assert f"chmod 600 {place}" in said
    place.chmod(0o600)
    assert run(*opening)[0] == 0


def test_a_passphrase_for_nothing(used: Path, run: Run, tmp_path: Path) -> None:
    """A passphrase without --with-secret is an error (BK8)."""
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    file = tmp_path / "backup"
    assert run("backup", file, "--data", used, "--passphrase-file", tmp_path / "passphrase")[0] == 2
    assert not file.exists()
    assert "the backup does not contain the root secret" in run("backup", file, "--data", used)[2]


def test_no_memory_for_scrypt(
    used: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without enough memory for scrypt, backup and restore report it (BK8)."""

    class NoMemory:
        def __init__(self, **_: object) -> None: ...

        def derive(self, _: bytes) -> bytes:
            raise MemoryError

    place, file = tmp_path / "passphrase", tmp_path / "backup"
    place.write_text(PASSPHRASE)
    place.chmod(0o600)
    sealing = ("backup", file, "--data", used, "--with-secret", "--passphrase-file", place)
    opening = ("restore", file, "--data", tmp_path / "restored", "--passphrase-file", place)
    with monkeypatch.context() as patch:
        patch.setattr(sealed_secret, "Scrypt", NoMemory)
        status, _, said = run(*sealing)
        assert status == EXIT_STATUS["secret-unusable"]
        assert "enough memory for scrypt" in said
    assert run(*sealing)[0] == 0
    monkeypatch.setattr(sealed_secret, "Scrypt", NoMemory)
    status, _, said = run(*opening)
    assert status == EXIT_STATUS["secret-unusable"]
    assert "enough memory for scrypt" in said
