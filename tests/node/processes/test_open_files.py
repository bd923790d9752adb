"""The limit of open files: raised at the start, and divided between connections and databases."""

import asyncio
import json
import resource
import sys
from pathlib import Path

import pytest
from own_process import in_own_process
from patience import AT_ONCE_S
from running_node import RunningNode, key_token, new_key, running_node, send

from node.config.tree import Config, Http, Sms, Store
from node.processes.open_files import LEAST_FILES, allow_open_files, planned
from sealspace.cli.command_errors import ConfigurationError

_SPACES, _DATABASES_EACH = 32, 8
_CONNECTIONS = 300


def test_H11_the_usual_settings_need_a_stated_number() -> None:
    """With enough files, a worker has all that its settings allow."""
    files = planned(Config(), sys.maxsize)
    assert (files.wanted, files.connections, files.databases) == (
        128 + 3 * 256 + 2 * 4096,
        4096,
        256,
    )


@pytest.mark.parametrize("limit", [LEAST_FILES, 1024, 4096, 9087])
@pytest.mark.parametrize("sms", [None, "127.0.0.1:1"])
def test_H11_connections_and_databases_fit_into_the_limit(limit: int, sms: str | None) -> None:
    """Whatever the limit, all connections and databases together leave 128 files."""
    files = planned(Config(sms=Sms(listen=sms)), limit)
    listeners = 1 if sms is None else 2
    used = 3 * files.databases + 2 * files.connections * listeners
    assert files.databases >= 1 and files.connections >= 1
    assert limit - 128 - 4 * listeners - 3 < used <= limit - 128


def test_H11_without_databases_connections_have_all_files() -> None:
    """A node on a database server opens no SQL databases."""
    config = Config(store=Store(url="postgresql://host/name"))
    assert planned(config, 1024).connections == (1024 - 128) // 2
    assert planned(Config(http=Http(max_connections=5)), 1024).connections == 5


@in_own_process
def test_H11_a_limit_below_the_least_is_refused() -> None:
    """The refusal has the figures, and says where the limit is raised."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, LEAST_FILES - 1))
    with pytest.raises(ConfigurationError) as refused:
        allow_open_files(Config())
    assert "only 511 files: it needs 512 at least, and 9088" in refused.value.message
    assert "LimitNOFILE" in refused.value.hint


@in_own_process
def test_H11_a_low_limit_is_raised_and_a_high_one_is_kept() -> None:
    """The soft limit is raised to what the settings need, and never lowered."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    assert allow_open_files(Config()).limit == min(9088, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert allow_open_files(Config()).limit == hard


async def _filled_with_databases(node: RunningNode) -> None:
    """Make and open 256 databases, as many as a process has open."""
    for _ in range(_SPACES):
        owner = new_key()
        space = f"tinycloud:{owner.did.removeprefix('did:')}:default"
        granted = {f"{space}/kv/a": ["tinycloud.kv/put"]}
        token = key_token(owner, owner.did, granted)
        assert (await send(node.url, "POST", "/invoke", token=token, body=b"a")).status == 200
        for number in range(_DATABASES_EACH):
            granted = {f"{space}/sql/d{number}": ["tinycloud.sql/schema"]}
            token = key_token(owner, owner.did, granted)
            body = b'{"action": "execute", "sql": "CREATE TABLE t (a)"}'
            made = await send(node.url, "POST", "/invoke", token=token, body=body)
            assert made.status == 200, made.body


async def _connected(port: int) -> None:
    """Open connections one after the other, and have a request answered on each."""
    opened = []
    for _ in range(_CONNECTIONS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: node\r\n\r\n")
        async with asyncio.timeout(AT_ONCE_S):
            assert (await reader.readuntil(b"\r\n")).split()[1] == b"200"
    for writer in opened:
        writer.close()


@pytest.mark.slow
@in_own_process
def test_H11_a_node_accepts_connections_beside_256_databases(tmp_path: Path) -> None:
    """With a soft limit of 1,024 files, open databases leave none for connections unless the node
    raises it."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
    with running_node(tmp_path, workers=1) as node:
        asyncio.run(_filled_with_databases(node))
        asyncio.run(_connected(int(node.url.rpartition(":")[2])))
        ready = json.loads(node.wait_for(r'^\{.*"node-ready".*\}$').group())
        assert ready["open_files"] == 4096
        told = node.wait_for(r"may open only 4096 files").string
        assert "1600 connections and 256 open databases" in told
