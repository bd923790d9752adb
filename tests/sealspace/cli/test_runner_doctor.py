"""Tests of the command `sealspace runner doctor`: each finding, with its next step."""

import json
import os
import resource
import shutil
import socket
import sqlite3
import ssl
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from ledgers import opened
from runner_process import RunningRunner
from sigstore_authority import SigstoreAuthority
from task_memory import TASK_MEMORY, has_task_memory

from runner.calls.journal import VERSION
from runner.calls.journal_copies import JOURNAL_NAME
from runner.cli import runner_doctor
from sealspace.cli.diagnosis import Diagnosis
from sealspace.cli.root import main
from sealspace.documents.trusted_roots import named_root
from tee_backend.backend.key import KeyFile, backend_seed

NODE = "http://127.0.0.1:1"
pytestmark = pytest.mark.skipif(
    find_spec("re2") is None, reason="google-re2 is not installed: no runner starts"
)
Examine = Callable[..., dict[str, Diagnosis]]


@pytest.fixture
def examine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Return a function that runs the doctor, and returns its findings by check.

    Each problem has a next step, and the exit status says whether there is one.
    """
    assert main(["backend", "simulate", str(tmp_path / "tee"), "-q"]) == 0

    def examined(*more: str, key: str = "file", port: str = "0") -> dict[str, Diagnosis]:
        capsys.readouterr()
        words = ("runner", "doctor", "--simulate", str(tmp_path / "tee"), "--node", NODE, "--json")
        own = ("--data", str(tmp_path / "data"), "--key", key, "--port", port)
        status = main([*words, *own, *more])
        rows = json.loads(capsys.readouterr().out)
        found = {
            row["check"]: Diagnosis(
                name=row["check"], severity=row["severity"], text=row["text"], next_step=row["next"]
            )
            for row in rows
        }
        problems = [one for one in found.values() if one.severity in ("warn", "wrong")]
        assert all(one.next_step for one in problems), problems
        assert status == (1 if any(one.severity == "wrong" for one in problems) else 0)
        return found

    return examined


def wrong(found: dict[str, Diagnosis]) -> set[str]:
    """Return the checks that failed, without those that have to fail on this machine.

    The node is not here. Where `/dev/shm` is not in memory, it has to be refused for tasks.
    """
    failed = {name for name, one in found.items() if one.severity == "wrong"} - {"node"}
    if not has_task_memory() and str(TASK_MEMORY) in found["tasks"].text:
        assert "tasks" in failed
        return failed - {"tasks"}
    return failed


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data folder with a key and a journal with an account."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    seed = backend_seed(KeyFile(folder / "backend.key"))
    async with opened(folder / JOURNAL_NAME, seed) as ledger:
        await ledger.credit("alice", 5, reference="a")
    return folder


def test_a_new_runner(examine: Examine, tmp_path: Path) -> None:
    """A new runner lacks its node alone, and the doctor makes no file."""
    found = examine()
    assert wrong(found) == set() and found["node"].severity == "wrong"
    assert "will be created" in found["journal"].text and "will be created" in found["key"].text
    assert found["prices"].text.startswith("runs are free")
    assert not (tmp_path / "data").exists()


def test_a_runner_that_was_stopped(examine: Examine, data: Path) -> None:
    """The journal of a stopped runner is read with the runner's key, and nothing is changed."""
    before = {file.name: file.read_bytes() for file in data.iterdir()}
    found = examine("--price-call", "7")
    assert wrong(found) == set()
    assert "the runner's key opens it" in found["journal"].text
    assert found["key"].text.startswith("the runner is did:key:")
    assert found["prices"].text.startswith("7 per call")
    assert {file.name: file.read_bytes() for file in data.iterdir()} == before


@pytest.mark.slow
def test_a_runner_that_is_running(examine: Examine, tmp_path: Path) -> None:
    """A running runner is no problem, and goes on."""
    runner = RunningRunner(tmp_path, "--node", NODE, "--data", "data", "--key", "file")
    try:
        found = examine()
        assert wrong(found) == set()
        assert found["journal"].text == "a running runner uses it"
        assert "the runner is did:key:" in found["key"].text
        runner.end()
    finally:
        runner.close()


def _edit(data: Path, statement: str) -> None:
    with closing(sqlite3.connect(data / JOURNAL_NAME)) as connection:
        connection.execute(statement)
        connection.commit()


def test_journals_that_cannot_be_used(examine: Examine, data: Path) -> None:
    """A newer journal, one of another key, and a damaged one are told apart."""
    _edit(data, f"PRAGMA user_version = {VERSION + 1}")
    assert "newer version" in examine()["journal"].text
    _edit(data, f"PRAGMA user_version = {VERSION}")
    kept = (data / "backend.key").read_text()
    (data / "backend.key").write_text("ab" * 32 + "\n")
    found = examine()
    assert wrong(found) == {"journal"} and "was changed or moved" in found["journal"].text
    (data / "backend.key").write_text(kept)
    (data / JOURNAL_NAME).write_bytes(b"no database" * 1000)
    assert "is not a database" in examine()["journal"].text


def test_a_folder_of_another_runner(examine: Examine, data: Path) -> None:
    """A key that is missing or does not fit the folder is found before a start makes another."""
    (data / "backend.json").write_text('{"v":1,"did":"did:key:z6MkOther","networks":[]}')
    (data / "backend.json").chmod(0o600)
    assert "belongs to did:key:z6MkOther" in examine()["key"].text
    (data / "backend.key").unlink()
    assert "is missing" in examine()["key"].text
    assert not (data / "backend.key").exists()


def test_a_folder_that_others_read(examine: Examine, data: Path) -> None:
    """The folder has to be private; the journal is then not opened."""
    data.chmod(0o755)
    found = examine()
    assert wrong(found) == {"folder"} and "chmod 700" in found["folder"].next_step
    assert found["journal"].severity == "skipped"


def test_grants_that_are_damaged(examine: Examine, data: Path) -> None:
    """Damaged grants are counted."""
    (data / "grants").mkdir()
    (data / "grants" / "a.json").touch()
    (data / "grants" / "b.json.unreadable").touch()
    assert examine()["grants"].text.startswith("1 of 2 grants are damaged")


def test_options_that_do_not_fit(examine: Examine, tmp_path: Path) -> None:
    """Options that a start would refuse are found, and every other check goes on."""
    found = examine("--metrics", "192.0.2.1:9465")
    assert wrong(found) == {"settings", "ports"}
    assert "--metrics-off-loopback" in found["settings"].next_step
    found = examine("--evidence", "tsm", "--task-dir", "/proc")  # never on tmpfs, as /tmp may be
    assert wrong(found) == {"tasks"} and "tmpfs" in found["tasks"].next_step
    base = tmp_path / "base.wasm"
    base.write_bytes(b"\0asm")
    assert "of 4 bytes" in examine("--python-base", str(base))["python-bases"].text
    assert wrong(examine(*["--python-base", str(base)] * 9)) == {"python-bases"}
    root = tmp_path / "root.json"
    document = SigstoreAuthority().trusted_root
    root.write_bytes(document)
    named = named_root(document).sha256
    assert examine("--trusted-root", str(root))["trusted-roots"].text == named
    root.write_bytes(b'{"mediaType": "of something else"}')
    found = examine("--trusted-root", str(root))
    assert wrong(found) == {"trusted-roots"}
    assert "gh attestation trusted-root" in found["trusted-roots"].next_step
    missing = tmp_path / "tee"
    shutil.rmtree(missing)
    found = examine()
    assert wrong(found) == {"evidence"} and "backend simulate" in found["evidence"].next_step


def test_a_port_that_is_in_use(examine: Examine) -> None:
    """A port of another process is found, and the doctor says which process has it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        found = examine(port=str(other.getsockname()[1]))
    assert wrong(found) == {"ports"} and "already listening" in found["ports"].text


def test_too_little_of_something(
    examine: Examine, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Too little memory, disk, space for tasks and open files are warnings, a full disk is not."""
    limit = tmp_path / "memory.max"
    limit.write_text("1000000000\n")
    monkeypatch.setattr(runner_doctor, "_CGROUP_LIMIT", limit)
    found = examine("--children", "8", "--max-memory-mb", "512")
    assert (
        found["memory"].severity == "warn" and "the container has 953 MiB" in found["memory"].text
    )
    usage = shutil.disk_usage(data)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 29))
    found = examine()
    assert found["journal"].severity == "warn"
    assert found["tasks"].severity == ("warn" if has_task_memory() else "wrong")
    assert wrong(found) == set()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    assert wrong(examine()) == {"disk"}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert examine()["files"].severity == "warn"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_without_capabilities(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root that cannot change the uid of children is a problem, not a runner without separation."""
    assert examine()["children"].text == "start; each has a uid of its own"
    monkeypatch.setattr(runner_doctor, "_has_capabilities", lambda *_: False)
    assert "SETUID" in examine()["children"].next_step


@pytest.mark.parametrize(
    ("days", "severity", "part"),
    [(-1, "wrong", "ended at"), (3, "warn", "ends at"), (90, "ok", "certificate of run.example")],
)
def test_certificates(
    examine: Examine, tmp_path: Path, days: int, severity: str, part: str
) -> None:
    """A certificate that has ended, or ends soon, is found."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "runner")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), 1, now - timedelta(10), now + timedelta(days)
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("run.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "runner.pem").write_bytes(made.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "runner.key").write_bytes(private)
    assert ssl.PEM_cert_to_DER_cert(made.public_bytes(Encoding.PEM).decode())
    found = examine(
        *("--tls-certificate", str(tmp_path / "runner.pem")),
        *("--tls-key", str(tmp_path / "runner.key")),
    )["tls"]
    assert found.severity == severity and part in found.text
