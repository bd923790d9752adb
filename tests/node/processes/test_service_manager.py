"""Tests of the reports to a service manager when a node is ready and when it stops."""

import secrets
import socket
import urllib.request
from pathlib import Path

import pytest
from patience import PATIENCE_S
from running_node import RunningNode

from serving.service_manager import MANAGER_READY, MANAGER_STOPPING, report_to_manager

pytestmark = pytest.mark.slow
_WAIT_S = PATIENCE_S


def _listening(address: str) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(_WAIT_S)
    manager.bind(address)
    return manager


def test_ready_and_stopping_are_reported(tmp_path: Path) -> None:
    """READY is sent once when requests are accepted, and STOPPING when the node is told to end."""
    (tmp_path / "node").mkdir()
    with _listening(str(tmp_path / "notify")) as manager:
        node = RunningNode(
            tmp_path / "node",
            "--workers",
            "2",
            environment={"NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        try:
            assert manager.recv(4096) == MANAGER_READY
            with urllib.request.urlopen(f"{node.url}/readyz", timeout=PATIENCE_S) as answer:
                assert answer.status == 200
            assert node.stop() == 0
            assert manager.recv(4096) == MANAGER_STOPPING
            manager.setblocking(False)
            with pytest.raises(BlockingIOError):
                manager.recv(4096)
        finally:
            node.close()


@pytest.mark.parametrize(
    "address", ["", "relative", "vsock:2:1", "/nobody/listens/here", "@nobody-listens-here"]
)
def test_an_address_without_a_manager_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Without a manager, or with one that does not listen, a report is no error."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    report_to_manager(MANAGER_READY)


def test_an_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that begins with `@` is an abstract socket."""
    name = f"sealspace-{secrets.token_hex(8)}"
    with _listening(f"\0{name}") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        report_to_manager(MANAGER_STOPPING)
        assert manager.recv(4096) == MANAGER_STOPPING
