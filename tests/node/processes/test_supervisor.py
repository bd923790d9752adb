"""`sealspace serve` with real processes: start, restart, stop, refusal."""

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from patience import PATIENCE_S
from running_node import COMMAND, RunningNode, is_alive, until
from tests_support import REPOSITORY

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
    assert (len(node.children("storekeeper")), len(node.children("worker"))) == (1, 2)
    pids = node.children("storekeeper") + node.children("worker")
    node.process.terminate()  # not stop(), which waits for the children too
    assert node.process.wait(PATIENCE_S) == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


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
    assert (did, "everyone") == (said["nodeId"], said["attestation"])


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
    node.wait_for("^next: stop that process, or sealspace serve --port")


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
    command = [*COMMAND, "admin", "release", "set", "--attestation", "everyone"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command += ["--data", str(tmp_path / "data")]
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=PATIENCE_S)
    assert {_get(f"{node.url}/info")["attestation"] for _ in range(4)} == {"everyone"}
    victim = min(node.children("worker"))
    os.kill(victim, signal.SIGKILL)
    node.wait_for(r'"process-ended"')
    until(lambda: len({*node.children("worker")} - {victim}) == 2 and _answers(node.url))
    assert node.stop() == 0
    # A new start with the former terms would be looser than the record.
    assert serve("--workers", "1").process.wait(PATIENCE_S) == EXIT_STATUS["release-loosened"]
