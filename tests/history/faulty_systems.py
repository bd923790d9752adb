"""The systems that histories with faults run on, and the faults that each can have.

A fault is injected while callers are at work, lasts for some answers or a moment, and ends with
every node ready again. Which faults come, and after how many answers, follows from the seed; what
they meet depends on the machine.
"""

import asyncio
import enum
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from deviating_platform import SimulatedPlatform
from history.faulty_disk import FaultyDisk
from history.faulty_node import MOST_KILLS_OF_A_LIFE, FaultyNode, has_clock, resume
from patience import PATIENCE_S
from running_node import send
from tests_support import REPOSITORY
from trust_settings import trust_arguments

LIMIT_BYTES = 2000
MOST_AHEAD_S = 100
"""The farthest that a clock is set ahead."""
_CLOCKS_S = (0, 20, 45, 70, MOST_AHEAD_S)
_LEFT_BYTES = (0, 5 << 20, 12 << 20, 24 << 20, 48 << 20)
"""Free disk space in each part of the reserve (ST17), and none."""
_FULL_FOR, _AWAY_FOR, _STOPPED_FOR = 60, 30, 25
_READY_WITHIN_S = PATIENCE_S / 10
_SHOWN_LINES = 20
_SECRET = "c2VjcmV0IG9mIHRoZSBub2RlcyBvZiBoaXN0b3JpZXMgd2l0aCBmYXVsdHM"

SETTINGS: Mapping[str, str] = {
    "SEALSPACE_HOSTING__DEFAULT_QUOTA_BYTES": str(LIMIT_BYTES),
    "SEALSPACE_LIMITS__UNAUTHENTICATED_PER_MINUTE": "0",
    "SEALSPACE_LIMITS__CHALLENGES_PER_MINUTE": "1000000",
    # longer than a run: evidence that has expired is refused, as it should be
    "SEALSPACE_RELEASE__EVIDENCE_S": "86400",
    # a busy machine takes long for the test write of /readyz
    "SEALSPACE_LIMITS__READY_S": "10",
    "SEALSPACE_SECRET__VALUE": _SECRET,
}


class Fault(enum.Enum):
    """A kind of fault; the value is its name in reports."""

    KILL_WORKER = "a worker is killed"
    KILL_STOREKEEPER = "the storekeeper is killed"
    KILL_NODE = "all processes of a node are killed"
    KILL_DATABASE = "the database server is killed"
    PROMOTION = "the primary is killed, the standby is promoted"
    POWER = "the power of the disk is cut"
    PAUSE_WORKER = "workers are stopped for a while"
    PAUSE_STOREKEEPER = "the storekeeper is stopped for a while"
    PAUSE_NODE = "a node is stopped for a while"
    PARTITION = "connections to the database are refused"
    SILENCE = "messages to and from the database wait"
    LOST_ANSWER = "a connection is lost with the database's answer"
    CLOCK = "a node's clock is set"
    FULL_DISK = "the disk is full"


KILLS = frozenset(
    {
        Fault.KILL_WORKER,
        Fault.KILL_STOREKEEPER,
        Fault.KILL_NODE,
        Fault.KILL_DATABASE,
        Fault.PROMOTION,
        Fault.POWER,
    }
)
Answers = Callable[[int], Awaitable[None]]
"""Waits for a number of further answers, or for a moment if none come."""
Inject = Callable[[random.Random, Answers], Awaitable[None]]


class FaultySystem(ABC):
    """One or two nodes with their store.

    Attributes:
        name: in reports.
        platform: whose quotes the nodes trust.
        nodes: the nodes.
        faults: a function for each fault that the system can have.
        calm: set while no fault is under way.
    """

    name = ""

    def __init__(self, folder: Path, *, product: Path = REPOSITORY) -> None:
        self.folder = folder
        self.product = product
        self.platform = SimulatedPlatform.from_seed(b"platform of histories with faults")
        self.nodes: list[FaultyNode] = []
        self.faults: dict[Fault, Inject] = {
            Fault.KILL_WORKER: self._kill_worker,
            Fault.KILL_NODE: self._kill_node,
            Fault.PAUSE_WORKER: self._pause_workers,
            Fault.PAUSE_NODE: self._pause_node,
        }
        if has_clock():
            self.faults[Fault.CLOCK] = self._set_clock
        self.calm = asyncio.Event()

    @abstractmethod
    async def start(self, running: AsyncExitStack) -> None:
        """Start the nodes; they end with the stack."""

    def url(self, at: int) -> str:
        """The address of a node since its last start."""
        return self.nodes[at % len(self.nodes)].url

    async def inject(self, fault: Fault, chance: random.Random, answers: Answers) -> None:
        """Let the system have a fault, until all nodes are ready again."""
        self.calm.clear()
        await self.faults[fault](chance, answers)
        for node in self.nodes:
            await _until_ready(node, fault)
        self.calm.set()

    async def _start_node(self, node: FaultyNode) -> None:
        await asyncio.to_thread(node.start)

    def _new_node(self, folder: Path, data: Path, settings: Mapping[str, str]) -> FaultyNode:
        folder.mkdir(parents=True, exist_ok=True)
        return FaultyNode(
            folder,
            data=data,
            arguments=trust_arguments(folder, self.platform),
            settings={**SETTINGS, **settings},
            workers=2,
            product=self.product,
        )

    # --- faults of any system ---------------------------------------------------------------------

    async def _kill_worker(self, chance: random.Random, answers: Answers) -> None:
        await self._kill_one("worker", chance, answers)

    async def _kill_one(self, kind: str, chance: random.Random, answers: Answers) -> None:
        node = chance.choice(self.nodes)
        if node.kills == MOST_KILLS_OF_A_LIFE:
            await self._restart(node)
        await asyncio.to_thread(node.kill_one, kind, chance)

    async def _kill_node(self, chance: random.Random, answers: Answers) -> None:
        await self._restart(chance.choice(self.nodes))

    async def _restart(self, node: FaultyNode) -> None:
        await asyncio.to_thread(node.kill)
        await self._start_node(node)

    async def _pause_workers(self, chance: random.Random, answers: Answers) -> None:
        node = chance.choice(self.nodes)
        stopped = node.stop_processes("worker", chance)
        await _while_stopped(stopped, answers)

    async def _pause_node(self, chance: random.Random, answers: Answers) -> None:
        stopped = chance.choice(self.nodes).stop_all()
        await _while_stopped(stopped, answers)

    async def _set_clock(self, chance: random.Random, answers: Answers) -> None:
        chance.choice(self.nodes).set_clock(chance.choice(_CLOCKS_S))


async def _while_stopped(processes: list[int], answers: Answers) -> None:
    try:
        await answers(_STOPPED_FOR)
    finally:
        resume(processes)


class NotReady(Exception):
    """A node was not ready again after a fault."""


async def _until_ready(node: FaultyNode, fault: Fault) -> None:
    said = ""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while said := await _unready(node.url):
                pass
    except TimeoutError:
        last = "\n".join(node.running.lines[-_SHOWN_LINES:])
        raise NotReady(
            f"{fault.value}, and then {node.url} was not ready: {said}\n{last}"
        ) from None


async def _unready(url: str) -> str:
    """Return how a node says that it is not ready; empty if it is ready."""
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            reply = await send(url, "GET", "/readyz")
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        return repr(error)
    return "" if reply.status == 200 else str(reply.said)


class FolderSystem(FaultySystem):
    """A node with its data in a folder: a supervisor, a storekeeper and two workers."""

    name = "a node on LMDB"

    def __init__(self, folder: Path, *, product: Path = REPOSITORY) -> None:
        super().__init__(folder, product=product)
        self.faults[Fault.KILL_STOREKEEPER] = self._kill_storekeeper
        self.faults[Fault.PAUSE_STOREKEEPER] = self._pause_storekeeper

    async def start(self, running: AsyncExitStack) -> None:
        """Start the node."""
        self.nodes = [self._new_node(self.folder, self._data(), {})]
        running.callback(self.nodes[0].close)
        await self._start_node(self.nodes[0])
        self.calm.set()

    def _data(self) -> Path:
        return self.folder / "data"

    async def _kill_storekeeper(self, chance: random.Random, answers: Answers) -> None:
        await self._kill_one("storekeeper", chance, answers)

    async def _pause_storekeeper(self, chance: random.Random, answers: Answers) -> None:
        await _while_stopped(self.nodes[0].stop_processes("storekeeper", chance), answers)


class DiskSystem(FolderSystem):
    """The same on a disk of its own, which loses its power or runs full."""

    name = "a node on LMDB, on a disk of its own"

    def __init__(self, folder: Path, *, product: Path = REPOSITORY) -> None:
        super().__init__(folder, product=product)
        self._disk = FaultyDisk(folder)
        self.faults = {
            Fault.POWER: self._cut_power,
            Fault.FULL_DISK: self._fill_disk,
            Fault.KILL_STOREKEEPER: self._kill_storekeeper,
        }

    async def start(self, running: AsyncExitStack) -> None:
        """Mount the disk and start the node."""
        await asyncio.to_thread(self._disk.mount)
        running.callback(self._disk.unmount)
        await super().start(running)

    def _data(self) -> Path:
        return self._disk.place / "data"

    async def _cut_power(self, chance: random.Random, answers: Answers) -> None:
        (node,) = self.nodes
        self._disk.cut_power()
        await asyncio.to_thread(node.kill)
        await asyncio.to_thread(self._disk.unmount)
        await asyncio.to_thread(self._disk.mount)
        self._disk.empty()
        # A machine that lost its power has another boot id. The node discards the replay records
        # of other boots, which are not synced.
        for records in node.data.glob("first-use-*"):
            records.rename(records.with_name("first-use-before-the-power-cut"))
        await self._start_node(node)

    async def _fill_disk(self, chance: random.Random, answers: Answers) -> None:
        await asyncio.to_thread(self._disk.fill, left_bytes=chance.choice(_LEFT_BYTES))
        try:
            await answers(_FULL_FOR)
        finally:
            self._disk.empty()
