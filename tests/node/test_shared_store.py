"""Nodes on one database: real processes, no storekeeper."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest
from postgres_server import needs_postgres, postgres_server
from running_node import RunningNode, running_node
from tests_support import REPOSITORY

from node.config import load_config
from node.errors import ConfigurationError

pytestmark = [needs_postgres(), pytest.mark.slow]

_PROGRAM = "import sys; from node.cli import main; sys.exit(main())"


@pytest.fixture
def url() -> str:
    """The address of an empty database."""
    return postgres_server().new_database()


@pytest.fixture
def nodes(tmp_path: Path, url: str) -> Iterator[list[RunningNode]]:
    """Two nodes of one secret on one database, each with a data folder of its own."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    secret.chmod(0o600)
    with ExitStack() as running:
        arguments = ("--store", url, "--secret-file", str(secret), "--workers", "1")
        first = running.enter_context(running_node(tmp_path / "one", *arguments))
        yield [first, running.enter_context(running_node(tmp_path / "two", *arguments))]


def _get(url: str) -> dict[str, object]:
    with urlopen(url, timeout=10) as answer:
        said: dict[str, object] = json.loads(answer.read())
        return said


def test_two_nodes_on_one_database(nodes: list[RunningNode]) -> None:
    """Both are ready, are one node by name, and keep nothing but blobs and secrets in their folders."""
    infos = [_get(f"{node.url}/info") for node in nodes]
    assert all(_get(f"{node.url}/readyz")["ready"] is True for node in nodes)
    assert infos[0]["nodeId"] == infos[1]["nodeId"]


def test_store_moves_into_a_database_and_the_node_goes_on(tmp_path: Path, url: str) -> None:
    """A node that was started on LMDB is the same node on the database after `migrate-store`."""
    with running_node(tmp_path, "--workers", "1") as node:
        before = _get(f"{node.url}/info")["nodeId"]
    moved = _command("migrate-store", "--data", str(tmp_path / "data"), "--store", url, "--to", "postgresql")
    assert moved.returncode == 0, moved.stderr
    assert json.loads(moved.stdout)["rows"] > 0
    assert "rows copied" in moved.stderr
    checked = _command("doctor", "--data", str(tmp_path / "data"), url=url)
    assert checked.returncode == 0, checked.stdout
    with running_node(tmp_path, "--workers", "1", "--store", url) as node:
        assert before == _get(f"{node.url}/info")["nodeId"]
    again = _command("migrate-store", "--data", str(tmp_path / "data"), "--store", url, "--to", "postgresql")
    assert again.returncode != 0
    assert "holds a store already" in again.stderr


def _command(*arguments: str, url: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    if url is not None:
        environment["SEALSPACE_STORE__URL"] = url
    command = [sys.executable, "-P", "-c", _PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.mark.parametrize("password", ["postgresql://u:hush@h/db", "postgresql://h/db?password=hush"])
def test_password_of_a_database_is_for_the_environment_alone(tmp_path: Path, password: str) -> None:
    """Arguments and settings files are read by others; a printed configuration does not show the address."""
    with pytest.raises(ConfigurationError) as refused:
        load_config(environment={}, flags={"store.url": password})
    assert "hush" not in str(refused.value)
    file = tmp_path / "sealspace.toml"
    file.write_text(f'[store]\nurl = "{password}"\n')
    with pytest.raises(ConfigurationError):
        load_config(file=file, environment={})
    config = load_config(environment={"SEALSPACE_STORE__URL": password})
    assert config.store.url == password
    assert "hush" not in repr(config)
