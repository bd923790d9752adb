"""Tests of `sealspace serve` with real processes: start, restart, stop and refusal."""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from forked_programs import forked_program
from patience import PATIENCE_S
from running_node import RunningNode, is_alive, until

from sealspace.cli.root import EXIT_STATUS
from spaces.store.lmdb._folder import open_for_writing
from spaces.store.lmdb._format import TABLE

pytestmark = pytest.mark.slow


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., RunningNode]]:
    """Return a function that starts nodes on one data folder; they are stopped at the end."""
    running: list[RunningNode] = []

    def start(
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        started_in: Path | None = None,
    ) -> RunningNode:
        running.append(
            RunningNode(tmp_path, *arguments, environment=environment, started_in=started_in)
        )
        return running[-1]

    yield start
    for node in running:
        node.close()


def _get(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        said: dict[str, object] = json.loads(answer.read())
        return said


def _answers(url: str) -> bool:
    try:
        return bool(_get(f"{url}/readyz")["ready"])
    except OSError:
        return False


def test_start_and_stop(serve: Callable[..., RunningNode]) -> None:
    """The node prints its address when ready, works, and ends with status 0 on SIGTERM."""
    node = serve("--workers", "2")
    assert _get(f"{node.url}/readyz")["ready"] is True
    assert len(node.children("storekeeper")) == 1
    assert len(node.children("worker")) == 2
    pids = node.children("storekeeper") + node.children("worker")
    node.process.terminate()  # not stop(), which waits for the children too
    assert node.process.wait(PATIENCE_S) == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    said = json.loads(node.wait_for(r'.*"node-stopped".*')[0])
    assert said["reason"] == "SIGTERM"
    assert 0 < said["took_s"] < PATIENCE_S


def test_every_line_is_json(serve: Callable[..., RunningNode]) -> None:
    """With `log.format json` every line from the first start to the stop is JSON, errors too."""
    as_json = {"SEALSPACE_LOG__FORMAT": "json"}
    node = serve("--workers", "1", environment=as_json)
    port = json.loads(node.wait_for(".*listening on .*")[0])["text"].rpartition(":")[2]
    for arguments, said in (
        (("--port", port), "already listening"),
        (("--workers", "many"), "integer"),
        (("--secret-file", "/nowhere/secret"), "/nowhere/secret"),
    ):
        other = serve(*arguments, environment=as_json)
        assert other.process.wait(PATIENCE_S) != 0
        other.wait_for(said)
        error = json.loads(other.wait_for(".*next: .*")[0])
        assert error["text"].startswith("sealspace: ")
        assert error["level"] == "error"
        assert all(json.loads(line) for line in other.lines), other.lines
    node.stop()
    texts = [json.loads(line).get("text", "") for line in node.lines]
    assert [text for text in texts if text.startswith("created the root secret")]
    assert "node-stopped" in node.lines[-1]


def test_an_error_in_a_settings_file_has_the_format_of_the_file(
    serve: Callable[..., RunningNode], tmp_path: Path
) -> None:
    """With `log.format = "json"` in the file, its own errors are JSON too."""
    file = tmp_path / "own.toml"
    file.write_text('[log]\nformat = "json"\n[hosting]\nmod = "permit"\n')
    node = serve("--config", str(file))
    assert node.process.wait(PATIENCE_S) == 2
    assert json.loads(node.wait_for(".*next: .*")[0])["level"] == "error"


def test_a_second_signal_is_logged_as_forced(serve: Callable[..., RunningNode]) -> None:
    """A node that was killed during its drain says so; the drain's beginning is logged too."""
    node = serve("--workers", "1")
    host, port = node.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /invoke HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        assert _answers(node.url)  # the request before is being read
        node.process.terminate()
        node.wait_for('.*"node-stopping".*')
        node.process.terminate()
        assert json.loads(node.wait_for('.*"node-stopped".*')[0])["forced"] is True


def test_https_on_the_plain_port_is_named(serve: Callable[..., RunningNode]) -> None:
    """The node logs one line for https clients, and the command line names the mistake."""
    node = serve("--workers", "1")
    address = node.url.replace("http://", "https://")
    for _ in range(2):
        ran = subprocess.run(
            [forked_program("sealspace"), "login", address, "--new"],
            env={**os.environ, "HOME": str(node.folder)},
            cwd=node.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert f"{address} serves plain HTTP, not HTTPS" in ran.stderr
        assert "next: if the node is on this machine, use http://" in ran.stderr
    node.stop()
    assert len([line for line in node.lines if '"https-on-http-port"' in line]) == 1


def test_a_start_names_the_console(serve: Callable[..., RunningNode]) -> None:
    """The start and `/` name the console at localhost, which answers; without it neither does."""
    node = serve("--workers", "1")
    port = node.url.rpartition(":")[2]
    address = f"http://localhost:{port}/console/"
    node.wait_for(f"console: open {address}")
    with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
        assert answer.headers["Content-Type"].startswith("text/html")
    with urllib.request.urlopen(node.url, timeout=PATIENCE_S) as answer:
        assert f"open {address} in a browser" in answer.read().decode()
    hostile = urllib.request.Request(node.url, headers={"Host": "localhost.example"})
    with urllib.request.urlopen(hostile, timeout=PATIENCE_S) as answer:
        assert "open /console/ at this address" in (text := answer.read().decode())
        assert "localhost.example" not in text
    node.stop()
    assert not [line for line in node.lines if "may sign up" in line]
    without = serve("--workers", "1", "--no-console")
    with urllib.request.urlopen(without.url, timeout=PATIENCE_S) as answer:
        assert "/console/" not in answer.read().decode()
    assert not [line for line in without.lines if line.startswith("console")]


@pytest.mark.parametrize(("hosting", "is_open"), [("auto", True), ("permit", False)])
def test_a_start_off_loopback_says_who_may_sign_up(
    serve: Callable[..., RunningNode], hosting: str, is_open: bool
) -> None:
    """A node that other machines can reach logs one line saying that everyone may sign up."""
    proxied = {"SEALSPACE_HTTP__TRUSTED_PROXIES": "127.0.0.1"}
    node = serve("--workers", "1", "--hosting", hosting, environment=proxied)
    assert node.url
    node.stop()
    said = [line for line in node.lines if "may sign up" in line]
    assert len(said) == (1 if is_open else 0), node.lines
    assert ("--hosting permit" in "".join(said)) is is_open, node.lines


def test_ctrl_c_stops_in_order(serve: Callable[..., RunningNode]) -> None:
    """SIGINT ends the node as SIGTERM does."""
    node = serve("--workers", "1")
    assert node.url and node.stop(signal.SIGINT) == 0


def test_identity_survives_a_restart(serve: Callable[..., RunningNode]) -> None:
    """A second start uses the first one's secret, and settings from the environment."""
    first = serve("--workers", "1")
    did = _get(f"{first.url}/info")["nodeId"]
    first.stop()
    second = serve("--workers", "1", environment={"SEALSPACE_RELEASE__ATTESTATION": "everyone"})
    said = _get(f"{second.url}/info")
    assert said["nodeId"] == did
    assert said["attestation"] == "everyone"


def test_the_first_start_says_that_it_made_the_root_secret(
    serve: Callable[..., RunningNode], tmp_path: Path
) -> None:
    """The first start names the secret's file and advises a copy, without its content."""
    for is_first in (True, False):
        node = serve("--workers", "1")
        assert node.url
        said = [line for line in node.lines if line.startswith("created the root secret in ")]
        assert len(said) == is_first, node.lines
        assert all(f"{node.folder / 'data' / 'secret'}: copy it" in line for line in said)
        secret = (node.folder / "data" / "secret").read_bytes()
        assert secret.hex() not in "".join(node.lines)
        node.stop()


@pytest.mark.parametrize("kind", ["worker", "storekeeper"])
def test_a_killed_process_is_replaced(serve: Callable[..., RunningNode], kind: str) -> None:
    """A killed worker or storekeeper is restarted, and writes work again."""
    node = serve("--workers", "2")
    url = node.url
    victim, *_ = before = node.children(kind)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len({*node.children(kind)} - {victim}) == len(before))
    # each worker is with the new storekeeper, not one of them
    until(lambda: all(_answers(url) for _ in range(8)))
    node.wait_for(r'"process-ended"')


def test_children_end_with_the_supervisor(serve: Callable[..., RunningNode]) -> None:
    """A killed supervisor leaves no process behind, and the folder is unlocked."""
    node = serve("--workers", "1")
    assert node.url
    pids = node.children("storekeeper") + node.children("worker")
    node.process.kill()
    node.process.wait()
    until(lambda: not [pid for pid in pids if is_alive(pid)])
    assert _get(f"{serve('--workers', '1').url}/readyz")["ready"] is True


def test_looser_terms_are_refused(serve: Callable[..., RunningNode]) -> None:
    """A node whose configuration is looser than the store's record does not start."""
    first = serve("--workers", "1", "--attestation", "everyone")
    assert first.url and first.stop() == 0
    node = serve("--workers", "1", "--attestation", "off")
    assert EXIT_STATUS["release-loosened"] == node.process.wait(PATIENCE_S)


def test_a_second_node_on_the_folder_is_refused(serve: Callable[..., RunningNode]) -> None:
    """A second node on the same data folder is refused."""
    first = serve("--workers", "1")
    assert first.url
    assert EXIT_STATUS["store-misused"] == serve("--workers", "1").process.wait(PATIENCE_S)
    assert _answers(first.url)


def test_a_store_of_a_later_version_is_refused(
    serve: Callable[..., RunningNode], tmp_path: Path
) -> None:
    """A data folder of an unknown format is left unchanged, and the message has a hint."""
    first = serve("--workers", "1")
    assert first.url
    first.process.terminate()
    assert first.process.wait(PATIENCE_S) == 0
    with open_for_writing(tmp_path / "data") as env, env.begin(write=True) as txn:
        txn.put(TABLE + b"\xfe", (9).to_bytes(4, "big"))
    node = serve("--workers", "1")
    assert EXIT_STATUS["store-misused"] == node.process.wait(PATIENCE_S)
    node.wait_for("^next: start the version of sealspace that wrote the store")


def test_a_taken_port_is_refused(serve: Callable[..., RunningNode]) -> None:
    """A port in use is an error with a hint."""
    first = serve("--workers", "1")
    port = first.url.rpartition(":")[2]
    node = serve("--port", port)
    assert EXIT_STATUS["configuration-invalid"] == node.process.wait(PATIENCE_S)
    hint = node.wait_for("^next: stop that process, or (sealspace serve .*)")[1]
    assert hint == f"sealspace serve --data {node.folder / 'data'} --port {int(port) + 1}"


def test_the_current_folder_is_not_imported(
    serve: Callable[..., RunningNode], tmp_path: Path
) -> None:
    """Packages with our names in the current folder are not imported by any process."""
    trap = tmp_path / "trap"
    for name in ("spaces", "node", "capabilities"):
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text("raise SystemExit('hijacked')")
    node = serve("--workers", "1", started_in=trap)
    assert _get(f"{node.url}/readyz")["ready"] is True


def test_secrets_are_in_no_argument_or_environment(serve: Callable[..., RunningNode]) -> None:
    """A root secret from the environment is in no child's arguments or environment."""
    text = "A" * 43
    node = serve("--workers", "1", environment={"SEALSPACE_SECRET__VALUE": text})
    assert (
        _get(f"{node.url}/info")["nodeId"]
        == "did:key:z6Mko6nD6G5AKtGER7mYjNhxdM5KMi5wb8x2yRfhh99HiSLY"
    )
    for pid in node.children("storekeeper") + node.children("worker"):
        assert text.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert text.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def test_release_set_reaches_a_running_node(
    serve: Callable[..., RunningNode], tmp_path: Path
) -> None:
    """`release set` works on a running node and is effective at once."""
    node = serve("--workers", "2")
    assert _get(f"{node.url}/info")["attestation"] == "delegates"
    command = [forked_program("sealspace"), "admin", "release", "set", "--attestation", "everyone"]
    command += ["--data", str(tmp_path / "data")]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    assert {_get(f"{node.url}/info")["attestation"] for _ in range(4)} == {"everyone"}
    victim = min(node.children("worker"))
    os.kill(victim, signal.SIGKILL)
    node.wait_for(r'"process-ended"')
    until(lambda: len({*node.children("worker")} - {victim}) == 2 and _answers(node.url))
    assert node.stop() == 0
    # A new start with the former terms would be looser than the record.
    assert serve("--workers", "1").process.wait(PATIENCE_S) == EXIT_STATUS["release-loosened"]
