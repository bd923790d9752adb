"""Tests of nodes that share a database, with real processes."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest
from forked_programs import forked_program
from patience import PATIENCE_S
from pgbouncer import needs_pgbouncer, pgbouncer
from postgres_server import needs_postgres, postgres_server
from running_node import COMMAND, Reply, RunningNode, key_token, new_key, running_node, send
from tests_support import OUR_IMPORTS
from wire_replay import token_id

from node.config.loading import load_config
from sealspace.cli.root import EXIT_STATUS
from sealspace.service.command_errors import ConfigurationError
from spaces.archive.migration import describe_database
from spaces.space_errors import StoreUnavailable
from spaces.store.contract import Commit, Put, Range, Store
from spaces.store.lmdb.engine import open_lmdb
from spaces.store.postgres.engine import open_postgres

pytestmark = [needs_postgres(), pytest.mark.slow]

QUOTA_BYTES = 4000
ROWS = 4000


@pytest.fixture
def url() -> str:
    """The address of an empty database."""
    return postgres_server().new_database()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningNode]]:
    """Two nodes with one secret and one database, each with its own data folder.

    Each test has a party of its own at them.
    """
    folder, url = tmp_path_factory.mktemp("nodes"), postgres_server().new_database()
    secret = folder / "secret"
    secret.write_bytes(b"s" * 32)
    secret.chmod(0o600)
    with ExitStack() as running:
        arguments = ("--store", url, "--secret-file", str(secret), "--workers", "1")
        settings = {
            "SEALSPACE_HOSTING__DEFAULT_QUOTA_BYTES": str(QUOTA_BYTES),
            "SEALSPACE_LIMITS__UNAUTHENTICATED_PER_MINUTE": "1000000",
        }
        first = running.enter_context(
            running_node(folder / "one", *arguments, environment=settings)
        )
        yield [
            first,
            running.enter_context(running_node(folder / "two", *arguments, environment=settings)),
        ]


def _get(url: str) -> dict[str, object]:
    with urlopen(url, timeout=PATIENCE_S) as answer:
        said: dict[str, object] = json.loads(answer.read())
        return said


def test_two_nodes_on_one_database(nodes: list[RunningNode]) -> None:
    """Both nodes are ready, have one DID, and keep only blobs and secrets in their folders."""
    infos = [_get(f"{node.url}/info") for node in nodes]
    assert all(_get(f"{node.url}/readyz")["ready"] is True for node in nodes)
    assert infos[0]["nodeId"] == infos[1]["nodeId"]


class Party:
    """A key with its own space, at two nodes."""

    def __init__(self, nodes: list[RunningNode]) -> None:
        self.urls = [node.url for node in nodes]
        self.signer = new_key()
        self.space = f"tinycloud:{self.signer.did.removeprefix('did:')}:default"

    def token(self, path: str, ability: str) -> str:
        return key_token(
            self.signer, self.signer.did, {f"{self.space}/kv/{path}": [f"tinycloud.kv/{ability}"]}
        )

    async def send(self, at: int, token: str, body: bytes | None = None) -> Reply:
        return await send(self.urls[at], "POST", "/invoke", token=token, body=body)


async def test_token_is_spent_on_both_nodes(nodes: list[RunningNode]) -> None:
    """A token used at one node is a duplicate at the other, also at the same moment (ST4)."""
    party = Party(nodes)
    put = party.token("a", "put")
    assert (await party.send(0, put, b"1")).status == 200
    assert (await party.send(1, put, b"2")).said == (409, "duplicate invocation")
    for _ in range(10):
        for token, body in ((party.token("a", "get"), None), (party.token("a", "put"), b"1")):
            replies = await asyncio.gather(*[party.send(at, token, body) for at in (0, 1)])
            assert sorted(reply.status for reply in replies) == [200, 409]
    assert (await party.send(1, party.token("a", "get"))).body == b"1"


async def test_revocation_holds_on_both_nodes(nodes: list[RunningNode]) -> None:
    """A revocation acknowledged by one node applies at once at the other (ST1, ST2)."""
    party, delegate = Party(nodes), new_key()
    assert (await party.send(0, party.token("a", "put"), b"1")).status == 200
    abilities = {f"{party.space}/kv/a": ["tinycloud.kv/get", "tinycloud.kv/put"]}
    for at in (0, 1):
        grant = key_token(party.signer, delegate.did, abilities)
        assert (await send(party.urls[at], "POST", "/delegate", token=grant)).status == 200

        def use(ability: str, grant: str = grant) -> str:
            resource = {f"{party.space}/kv/a": [f"tinycloud.kv/{ability}"]}
            return key_token(delegate, delegate.did, resource, proofs=[grant])

        for place in (0, 1):
            assert (await party.send(place, use("get"))).status == 200
        revocation = key_token(
            delegate, delegate.did, {f"urn:cid:{token_id(grant)}": ["tinycloud.delegation/revoke"]}
        )
        assert (await send(party.urls[at], "POST", "/revoke", token=revocation)).status == 200
        for place in (1 - at, at):
            assert (await party.send(place, use("get"))).status == 401
            assert (await party.send(place, use("put"), b"2")).status == 401
    assert (await party.send(1, party.token("a", "get"))).body == b"1"


async def test_quota_holds_on_both_nodes(nodes: list[RunningNode]) -> None:
    """Concurrent puts at both nodes fill a space exactly to its limit (ST7)."""
    party = Party(nodes)
    values = {f"v{at}": bytes(QUOTA_BYTES // 4) for at in range(8)}
    sent = [
        party.send(at % 2, party.token(path, "put"), values[path]) for at, path in enumerate(values)
    ]
    statuses = [reply.status for reply in await asyncio.gather(*sent)]
    assert statuses.count(200) == 4
    assert set(statuses) <= {200, 402, 413}
    for at in (0, 1):
        assert (await party.send(at, party.token("more", "put"), b"1")).status == 402


async def test_one_of_the_conditional_writes_wins(nodes: list[RunningNode]) -> None:
    """Of concurrent writes under one condition at both nodes one is done, and all others are 412
    (Q37)."""
    party = Party(nodes)
    assert (await party.send(0, party.token("host", "put"), b"")).status == 200
    tag = ""
    for number in range(4):
        condition = {"If-Match": tag} if tag else {"If-None-Match": "*"}
        sent = [
            send(
                party.urls[at % 2],
                "POST",
                "/invoke",
                token=party.token("one", "put"),
                body=b"%d/%d" % (number, at),
                headers=condition,
            )
            for at in range(8)
        ]
        replies = await asyncio.gather(*sent)
        assert sorted(reply.status for reply in replies) == [200] + [412] * 7
        tag = next(reply.headers["etag"] for reply in replies if reply.status == 200)


def test_store_moves_into_a_database_and_the_node_goes_on(tmp_path: Path, url: str) -> None:
    """After `migrate-store` a node is the same node on the database."""
    with running_node(tmp_path, "--workers", "1") as node:
        before = _get(f"{node.url}/info")["nodeId"]
    moved = _command(
        "admin",
        "migrate-store",
        "--data",
        str(tmp_path / "data"),
        "--store",
        url,
        "--to",
        "postgresql",
    )
    assert moved.returncode == 0, moved.stderr
    assert json.loads(moved.stdout)["rows"] > 0
    assert "rows copied" in moved.stderr
    checked = _command("doctor", "--data", str(tmp_path / "data"), url=url)
    # The server of the tests waits for no disk, and the doctor says so; nothing else is wrong.
    assert checked.returncode == 1, checked.stdout
    wrong = [line.split()[2] for line in checked.stdout.splitlines() if line.startswith("wrong ")]
    assert wrong == ["fsync", "full_page_writes"]
    left = _command("doctor", "--data", str(tmp_path / "data"))
    assert f"the store was moved to {describe_database(url)}" in left.stdout
    assert f"it belongs to {before}" in left.stdout
    served = _command("serve", "--data", str(tmp_path / "data"), "--port", "0")
    assert served.returncode == EXIT_STATUS["store-moved"], served.stderr
    assert f"the store was moved to {describe_database(url)}" in served.stderr
    assert "sealspace serve --store postgresql://" in served.stderr
    with running_node(tmp_path, "--workers", "1", "--store", url) as node:
        assert before == _get(f"{node.url}/info")["nodeId"]
    again = _command(
        "admin",
        "migrate-store",
        "--data",
        str(tmp_path / "data"),
        "--store",
        url,
        "--to",
        "postgresql",
    )
    assert again.returncode != 0
    assert "already contains a store" in again.stderr
    assert "next: use an empty database: --store URL" in again.stderr


async def test_move_that_is_killed_goes_on(tmp_path: Path, url: str) -> None:
    """A killed move leaves no store that opens, and continues when it is run again.

    At the end both sides have the same digest.
    """
    folder, back = tmp_path / "data", tmp_path / "back"
    await _filled(open_lmdb(folder))
    _killed("admin", "migrate-store", "--data", str(folder), "--store", url, "--to", "postgresql")
    store: Store = open_postgres(url)
    with pytest.raises(StoreUnavailable):
        await store.read()
    await store.close()
    refused = _command(
        "admin", "migrate-store", "--data", str(back), "--store", url, "--to", "lmdb"
    )
    assert "an earlier migration or restore into this database is not finished" in refused.stderr
    there = json.loads(
        _command(
            "admin", "migrate-store", "--data", str(folder), "--store", url, "--to", "postgresql"
        ).stdout
    )
    assert there["rows"] == ROWS
    _killed("admin", "migrate-store", "--data", str(back), "--store", url, "--to", "lmdb")
    assert not (back / "store").exists()
    returned = json.loads(
        _command(
            "admin", "migrate-store", "--data", str(back), "--store", url, "--to", "lmdb"
        ).stdout
    )
    assert returned["rows"] == ROWS
    assert returned["digest"] == there["digest"]
    store = open_lmdb(back)
    page = (await store.read(ranges=(Range(b"K", limit=4096),))).pages[0]
    await store.close()
    assert [record.value for _, record in page.rows] == [b"v%d" % at for at in range(4000)]


async def _filled(store: Store) -> None:
    for first in range(0, 4000, 200):
        await store.commit(
            Commit(puts=tuple(Put(b"K%04d" % at, b"v%d" % at) for at in range(first, first + 200)))
        )
    await store.close()


def _killed(*arguments: str) -> None:
    """Begin a command, and kill it once it reports progress."""
    command = [*COMMAND, *arguments]
    environment = {**OUR_IMPORTS, "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert b"rows copied" in process.stderr.readline()
        process.kill()
        assert process.wait() == -signal.SIGKILL


def _command(*arguments: str, url: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": "/usr/bin:/bin"}
    if url is not None:
        environment["SEALSPACE_STORE__URL"] = url
    command = [forked_program("sealspace"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE_S
    )


@pytest.mark.parametrize(
    "password", ["postgresql://u:hush@h/db", "postgresql://h/db?password=hush"]
)
def test_password_of_a_database_is_for_the_environment_alone(tmp_path: Path, password: str) -> None:
    """A database address is refused in arguments and settings files, and never printed."""
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


@needs_pgbouncer()
@pytest.mark.parametrize("pool_mode", ["transaction", "statement"])
def test_a_node_does_not_start_behind_a_proxy_that_pools_by_transaction(
    tmp_path: Path, url: str, pool_mode: str
) -> None:
    """`serve` and `doctor` refuse a proxy that pools by transaction, before any write."""
    with pgbouncer(url, pool_mode=pool_mode) as through:
        served = _command("serve", "--data", str(tmp_path / "data"), "--port", "0", url=through)
        examined = _command("doctor", "--data", str(tmp_path / "data"), url=through).stdout
    assert "wrong    store: a proxy between node and database sends the statements" in examined
    assert served.returncode == EXIT_STATUS["store-misused"] == 5, served.stderr
    assert (
        "a proxy between node and database sends the statements of one connection to several"
        in served.stderr
    )
    assert "pool_mode = session" in served.stderr
    assert through not in served.stderr
    assert postgres_server().run(url.partition("@/")[2].partition("?")[0], "\\dt").strip() == ""


@needs_pgbouncer()
def test_a_node_starts_behind_a_proxy_that_pools_by_session(tmp_path: Path, url: str) -> None:
    """A proxy that pools by session is accepted."""
    with (
        pgbouncer(url, pool_mode="session") as through,
        running_node(tmp_path, "--store", through, workers=1) as node,
    ):
        assert _get(f"{node.url}/readyz")["ready"] is True
