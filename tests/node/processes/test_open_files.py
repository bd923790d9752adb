"""Tests of the limit of open files and of its share for connections."""

import asyncio
import json
import os
import resource
import sys
from pathlib import Path

import pytest
from live_processes import looks_inside
from own_process import in_own_process
from running_node import RunningNode, key_token, new_key, running_node, send
from sql_processes import sql_children

from node.config.tree import Config, Http, Sms, Sql, Store
from node.processes.open_files import LEAST_FILES, allow_open_files, plan_files
from sealspace.service.command_errors import ConfigurationError

_SPACES, _DATABASES_EACH = 32, 8


def test_H11_the_usual_settings_need_a_stated_number() -> None:
    """With enough files, a worker has all that its settings allow."""
    files = plan_files(Config(), sys.maxsize)
    assert files.wanted == 128 + 32 + 2 * 4096
    assert files.connections == 4096


@pytest.mark.parametrize("limit", [LEAST_FILES, 1024, 4096, 8351])
@pytest.mark.parametrize("sms", [None, "127.0.0.1:1"])
def test_H11_connections_fit_into_the_limit(limit: int, sms: str | None) -> None:
    """The connections within any limit leave 128 files free, and one for each SQL process."""
    files = plan_files(Config(sms=Sms(listen=sms)), limit)
    listeners = 1 if sms is None else 2
    used = 2 * files.connections * listeners
    assert files.connections >= 1
    assert limit - 160 - 2 * listeners < used <= limit - 160


def test_H11_without_databases_connections_have_all_files() -> None:
    """A node on a database server opens no SQL databases."""
    config = Config(store=Store(url="postgresql://host/name"))
    assert plan_files(config, 1024).connections == (1024 - 128) // 2
    assert plan_files(Config(http=Http(max_connections=5)), 1024).connections == 5


@in_own_process
def test_H11_a_limit_below_the_least_is_refused() -> None:
    """The refusal has the figures, and says where the limit is raised."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, LEAST_FILES - 1))
    with pytest.raises(ConfigurationError) as refused:
        allow_open_files(Config())
    assert "only 511 files: it needs 512 at least, and 8352" in refused.value.message
    assert "LimitNOFILE" in refused.value.hint


@in_own_process
def test_H11_a_low_limit_is_raised_and_a_high_one_is_kept() -> None:
    """The soft limit is raised to what the settings need, and never lowered."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    assert allow_open_files(Config()).limit == min(8352, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert allow_open_files(Config()).limit == hard


async def _filled_with_databases(node: RunningNode) -> None:
    """Make and open 256 databases of 32 owners."""
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


def _open_files(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


@looks_inside
@pytest.mark.slow
def test_H11_databases_take_no_files_of_a_worker(tmp_path: Path) -> None:
    """After 256 databases were opened, a worker has as many files open as before, and the processes
    that opened them are bounded."""
    with running_node(tmp_path, workers=1) as node:
        (worker,) = node.children("worker")
        before = _open_files(worker)
        asyncio.run(_filled_with_databases(node))
        assert _open_files(worker) <= before + 8
        children = sql_children(node.process.pid)
        assert len(children) <= Sql().processes
        for child in children:
            assert _open_files(child) < 64


@pytest.mark.slow
@in_own_process
def test_H11_a_node_says_what_its_limit_allows(tmp_path: Path) -> None:
    """With few files allowed, the node raises its soft limit and says how many connections fit."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
    with running_node(tmp_path, workers=1) as node:
        ready = json.loads(node.wait_for(r'^\{.*"node-ready".*\}$').group())
        assert ready["open_files"] == 4096
        told = node.wait_for(r"may open only 4096 files").string
        assert "at most 1968 connections" in told
