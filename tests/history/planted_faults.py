"""Copies of the product with one fault each, which histories with faults have to find."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from history.campaign import Plan
from history.faulty_database import DatabaseSystem
from history.faulty_systems import DiskSystem, Fault, FaultySystem, FolderSystem
from tests_support import PACKAGES, REPOSITORY

_OPERATIONS = 500


@dataclass(frozen=True, kw_only=True)
class PlantedFault:
    """A replaced text in one module.

    Attributes:
        name: what is wrong.
        module: path of the module.
        sound: the text that is replaced, which is there once.
        broken: the text in its place.
        system: where it shows.
        kinds: the faults under which it shows; empty: none is needed.
        kills: how many of them are injected.
    """

    name: str
    module: str
    sound: str
    broken: str
    system: type[FaultySystem] = FolderSystem
    kinds: Sequence[Fault] = ()
    kills: int = 0

    def copy_to(self, folder: Path) -> Path:
        """Copy the product with the fault, and return the folder to import it from."""
        for package in PACKAGES:
            shutil.copytree(REPOSITORY / package, folder / package)
        module = folder / self.module
        text = module.read_text()
        assert text.count(self.sound) == 1, f"{self.name}: the text is not there once"
        module.write_text(text.replace(self.sound, self.broken))
        return folder

    def plan(self, seed: int) -> Plan:
        """Return the run that has to find it."""
        return Plan(operations=_OPERATIONS, kills=self.kills, seed=seed, kinds=self.kinds)


PLANTED_FAULTS = (
    PlantedFault(
        name="revocations are acknowledged before their commit",
        module="node/operations/delegations/revoke.py",
        sound="return await until_committed(services, lambda _: _attempt(services, revocation))",
        broken="""import asyncio
    _, ended = await _attempt(services, revocation)
    asyncio.ensure_future(until_committed(services, lambda _: _attempt(services, revocation)))
    return ended""",
        kinds=(Fault.PAUSE_STOREKEEPER, Fault.KILL_STOREKEEPER),
        kills=4,
    ),
    PlantedFault(
        name="commits whose answer was lost count as done",
        module="spaces/store/lmdb/_connection.py",
        sound="""        self._connection = None
        self._outbox.clear()
""",
        broken="""        self._connection = None
        self._outbox.clear()
        for waiting in self._waiting.values():
            if not waiting.future.done():
                waiting.future.set_result(Committed())
        self._waiting.clear()
""",
        kinds=(Fault.KILL_STOREKEEPER,),
        kills=4,
    ),
    PlantedFault(
        name="the last transaction is not synced",
        module="spaces/store/lmdb/_folder.py",
        sound="                sync=sync,\n",
        broken="                sync=sync, metasync=False,\n",
        system=DiskSystem,
        kinds=(Fault.POWER,),
        kills=3,
    ),
    PlantedFault(
        name="conditions of writes are judged by an earlier read only",
        module="spaces/store/lmdb/_writer.py",
        sound="if put.expect != ANY and not self._is_expected(txn, put, row):",
        broken="if False:",
    ),
    PlantedFault(
        name="releases are not in the audit log",
        module="node/operations/releases/decrypt.py",
        sound="(_release_audit(services, call, permit, receipt), *receipt.puts),",
        broken="receipt.puts,",
    ),
    PlantedFault(
        name="commits do not wait for the database's log",
        module="spaces/store/postgres/engine.py",
        sound="url, size=COMMIT_CONNECTIONS, session={}, opened=self._prepare_commits",
        broken="""url, size=COMMIT_CONNECTIONS, opened=self._prepare_commits,
            session={"synchronous_commit": "off"},""",
        system=DatabaseSystem,
        kinds=(Fault.KILL_DATABASE,),
        kills=3,
    ),
)
