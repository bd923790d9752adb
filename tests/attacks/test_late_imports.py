"""A running process imports no further modules: an import would fail without free descriptors."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from attacks.parties import GET, VALUE, Delegate, Stage, opens, policy_for, refused, stage_on
from deviating_platform import SimulatedPlatform
from running_node import key_token, new_key, running_node, send
from tests_support import REPOSITORY
from trust_settings import trust_files

from node.http.routes.route_table import ROUTES
from sealspace.delegations import allow

pytestmark = pytest.mark.slow

# Every Python process that finds this on its path notes each import that is not answered from
# memory.
_NOTING = """
import os, sys
_path = os.path.join(os.environ["IMPORTS_NOTED_IN"], str(os.getpid()))
_noted = os.open(_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def _note(event, arguments):
    if event == "import":
        os.write(_noted, arguments[0].encode() + b"\\n")
sys.addaudithook(_note)
"""


class Notes:
    """The recorded imports of processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "imports"
        self._folder.mkdir(parents=True)
        (folder / "sitecustomize.py").write_text(_NOTING)
        self.environment: Mapping[str, str] = {
            "PYTHONPATH": os.pathsep.join(
                map(str, (folder, REPOSITORY, REPOSITORY / "tests" / "support"))
            ),
            "IMPORTS_NOTED_IN": str(self._folder),
        }

    @contextmanager
    def nothing_more(self, *processes: int) -> Iterator[None]:
        """Check that no process imports a module while the block runs."""
        before = {pid: self._of(pid) for pid in processes}
        assert all(before.values())
        yield
        assert {pid: [] for pid in processes} == {
            pid: self._of(pid)[len(before[pid]) :] for pid in processes
        }

    def _of(self, pid: int) -> list[str]:
        return (self._folder / str(pid)).read_text().splitlines()


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """A folder in which processes record their imports."""
    return Notes(tmp_path / "notes")


async def test_no_request_imports(
    tmp_path: Path, platform: SimulatedPlatform, notes: Notes
) -> None:
    """No request makes a process of a node import a module."""
    environment = {**notes.environment, "SEALSPACE_METRICS__LISTEN": "127.0.0.1:0"}
    with running_node(tmp_path / "node", platform=platform, environment=environment) as node:
        metrics = node.wait_for(r'"url": "(http://127\.0\.0\.1:\d+)/metrics"').group(1)
        processes = (node.process.pid, *node.children("worker"), *node.children("storekeeper"))
        assert len(processes) >= 3  # on a database nobody keeps the store
        async with AsyncExitStack() as clients:
            stage = await stage_on(node.url, platform, clients)
            with notes.nothing_more(*processes):
                for worker in (0, 1):
                    with node.only(worker):
                        await _every_route(stage)
                        await _every_service(stage)
                assert (await send(metrics, "GET", "/metrics")).status == 200


async def _every_route(stage: Stage) -> None:
    for route in ROUTES:
        path = (
            route.path.replace("{path:.*}", "x")
            .replace("{key:.*}", "x")
            .replace("{", "")
            .replace("}", "")
        )
        method = "POST" if route.method == "*" else route.method
        for token in (None, "x", key_token(new_key(), "did:key:x", {"urn:x": ["x/y"]})):
            await send(
                stage.url, method, path, token=token, body=None if method == "GET" else b"{}"
            )


async def _every_service(stage: Stage) -> None:
    owner = await stage.owner("more")
    client = owner.client
    assert await client.secrets().get("API_KEY") == VALUE
    kv = client.kv("more")
    for body in (b"small", bytes(200_000)):  # in the row, and in a file
        await kv.put("one", body, metadata={"a": "b"})
        assert (await kv.get("one")).body == body
        reply = await send(
            "", "GET", (await kv.signed_url("one")).url, headers={"Range": "bytes=1-2"}
        )
        assert reply.status == 206
    assert [key async for key in kv.list()] == ["one"]
    await kv.delete("one")
    delegate = Delegate()
    delegate.proofs = [
        await stage.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))
    ]
    assert (await stage.ask(delegate, owner)).said == refused("not_attested")
    await stage.attest(delegate, owner.network)
    assert opens(await stage.ask(delegate, owner), delegate, owner)
    rights = [
        allow(owner.network, f"sealspace.encryption/{right}") for right in ("receipts", "policy")
    ]
    await client.delegations.add_right(owner.wallet, rights)
    assert [receipt async for receipt in client.receipts.all()]
    await client.withdrawals.withdraw_backend(delegate.did)
    assert (await stage.ask(delegate, owner)).status == 401
    granted = await client.delegations.delegate(new_key().did, [allow(f"{kv.space.text}/kv/", GET)])
    assert (await client.delegations.status(granted)).cid == granted.cid
    await client.delegations.revoke(granted)


# A node that keeps house when it is told to, a day after the last time. A line on standard input
# says with how many descriptors at most (0: as many as ever); one on standard output, whether it
# kept house.
_KEEPING_HOUSE = """
import asyncio, json, os, resource, sys
from pathlib import Path
from capabilities.clock_and_entropy import SystemClock
from node.config.loading import load_config
from embedded_node import embedded_node
from node.housekeeping.schedule import Housekeeper

class Clock(SystemClock):
    ahead_s = 0.0
    def now(self):
        return super().now() + self.ahead_s

async def turn(housekeeper, clock, descriptors):
    clock.ahead_s += 90_000.0
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors or most[0], most[1]))
    try:
        return await housekeeper.turn()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)

async def main():
    clock, lines = Clock(), asyncio.Queue()
    async with embedded_node(load_config(file=Path(sys.argv[1])), clock=clock) as node:
        housekeeper = Housekeeper(node.services)
        asyncio.get_running_loop().add_reader(0, lambda: lines.put_nowait(os.read(0, 100)))
        print(json.dumps(node.url), flush=True)
        while line := await lines.get():
            print(json.dumps(await turn(housekeeper, clock, int(line))), flush=True)

asyncio.run(main())
"""


class Keeping:
    """A test's own node, whose housekeeping the test starts."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.pid = process.pid
        self.url = str(self._answer())

    def turn(self, *, descriptors: int = 0) -> bool:
        """Do the housekeeping of the next day, and return whether it completed."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{descriptors}\n")
        self._process.stdin.flush()
        return bool(self._answer())

    def _answer(self) -> object:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the node ended"
        return json.loads(line)


@contextmanager
def housekeeping(
    folder: Path, platform: SimulatedPlatform, notes: Notes
) -> Iterator[tuple[Keeping, Path]]:
    """Run a node with housekeeping, and yield it with the file of its log."""
    root, collateral = trust_files(folder, platform)
    settings, log = folder / "settings.toml", folder / "log"
    settings.write_text(
        f'[http]\nport = 0\n[store]\ndata = "{folder}/data"\n'
        f'[release]\ntrust_root = "{root}"\ncollateral = "{collateral}"\n'
    )
    with log.open("w") as standard_error:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _KEEPING_HOUSE, str(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=standard_error,
            text=True,
            env={**os.environ, **notes.environment},
        )
        try:
            yield Keeping(process), log
        finally:
            process.kill()
            process.communicate()


def _failed(log: Path) -> list[str]:
    """Return the failed jobs, and check that every line of the log is valid."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["job"] for line in lines if line["event"] == "housekeeping-failed"]


@pytest.mark.parametrize("descriptors", [0, 3], ids=["with descriptors", "without descriptors"])
async def test_no_sweep_imports(
    tmp_path: Path, platform: SimulatedPlatform, notes: Notes, descriptors: int
) -> None:
    """Housekeeping imports no module, and repeats jobs that failed for lack of descriptors."""
    with housekeeping(tmp_path / "node", platform, notes) as (node, log):
        with notes.nothing_more(node.pid):
            async with AsyncExitStack() as clients:
                stage = await stage_on(node.url, platform, clients)
                await _every_service(stage)
            assert node.turn(descriptors=descriptors)
        failed = _failed(log)
        assert bool(failed) == bool(descriptors)
        with notes.nothing_more(node.pid):
            assert node.turn()
        assert failed == _failed(log)
