"""The commands that replace a network's key, killed at random moments and continued.

The node has processes of its own, and so has each command. At the end every value is compared byte
for byte, for the owner and for three people with copies.

Example:
    report = await replace_while_killed(tmp_path, Plan(secrets=200, kills=10, seed=1))
    print(report)
"""

import asyncio
import json
import random
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from held_ports import held_ports
from owner_machine import Machine, new_machine
from patience import PATIENCE_S
from prometheus_client.parser import text_string_to_metric_families
from running_node import running_node

from sealspace.cli.owner.owner_profile import OwnerHome
from sealspace.client import Client
from sealspace.documents.network_keys import NetworkKeys
from sealspace.secrets import Secrets
from sealspace.session import load_session
from sealspace.wallets import Wallet, new_wallet
from sealspace.wire.transport import TransportSettings

PEOPLE = 3
_AT_ONCE = 8
_IN_A_BATCH = 200
_MOST_BYTES = 600
_SAMPLE = 16
"""Number of values that are read after each kill."""
_PASSES = 2
"""Number of replacements over which the kills are divided."""
MOST_VERSIONS = 30
"""Versions after which no command is killed: a network has at most 32 (EN35)."""
_SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)


@dataclass(frozen=True)
class Plan:
    """The size of a load.

    Attributes:
        secrets: number of secrets, each with two versions.
        kills: number of commands that are killed. There can be fewer: a network has at most 32
            versions of its key.
        seed: of the values and moments.
        shared: number of secrets with a copy for one of three people; None: all.
    """

    secrets: int
    kills: int
    seed: int
    shared: int | None = None


@dataclass
class Report:
    """The counts of a load.

    Attributes:
        commands: number of commands that were started, by name.
        killed: number of commands that were killed, by name.
        phases_s: duration of each phase, seconds.
        requests: number of requests that the node answered.
        key_version: the newest version of the key.
    """

    commands: dict[str, int] = field(default_factory=dict)
    killed: dict[str, int] = field(default_factory=dict)
    phases_s: dict[str, float] = field(default_factory=dict)
    requests: int = 0
    key_version: int = 1

    @property
    def kills(self) -> int:
        return sum(self.killed.values())


class Friend(NamedTuple):
    """A person with copies."""

    client: Client
    wallet: Wallet
    names: Sequence[str]

    async def received(self, owner: str) -> Secrets:
        """Return the copies that an owner made for this person."""
        return await self.client.sharing.received(owner, wallet=lambda: self.wallet)


class Load:
    """An owner, three people, and a node, while the owner's key is replaced.

    Args:
        plan: the size.
        machine: the owner's machine.
        owner: a client of the owner, for checks.
        friends: the three people.
        show: prints a line of progress.
    """

    def __init__(
        self,
        plan: Plan,
        machine: Machine,
        owner: Client,
        friends: Sequence[Friend],
        show: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self.report = Report()
        self._machine = machine
        self._owner = owner
        self._friends = friends
        self._show = show
        self._chance = random.Random(f"{plan.seed}/moments")
        self._values = _values(plan)
        self._start_s = 1.0
        self._pass_s = 1.0

    # --- before -----------------------------------------------------------------------------------

    async def fill(self) -> None:
        """Store two versions of each secret, and share them."""
        began = time.monotonic()
        former = {name: value[::-1] for name, value in self._values.items()}
        for values in (former, self._values):
            for names in _parts(list(values), _IN_A_BATCH):
                await self._owner.secrets().put_many({name: values[name] for name in names})
        self._show(f"stored {len(self._values)} secrets with two versions each")
        profile_wallet = OwnerHome(self._home).profile().wallet()
        for friend in self._friends:
            for names in _parts(friend.names, _IN_A_BATCH):
                await self._owner.sharing.share(
                    names, friend.wallet.did, wallet=lambda: profile_wallet
                )
                self._show(f"shared {len(names)} secrets")
        self._ended("store and share", began)

    # --- commands ---------------------------------------------------------------------------------

    async def replace(self) -> None:
        """Replace the key and encrypt everything again, as often as it takes for all kills."""
        began = time.monotonic()
        await self._measure()
        while self.report.kills < self.plan.kills and self.report.key_version < MOST_VERSIONS:
            await self._rotate()
            await self._reencrypt()
        self._ended("replace and encrypt again", began)

    async def retire(self) -> None:
        """Destroy every former key; each command is killed once and continued."""
        began = time.monotonic()
        for version in range(1, self.report.key_version):
            words = ("network", "retire", "--version", str(version), "--yes")
            if not await self._killed(words, self._start_s * 1.5):
                continue
            if (await self._state_of(version)) != "retired":
                await self._run(words)
        states = [await self._state_of(one) for one in range(1, self.report.key_version)]
        assert set(states) <= {"retired"}, states
        self._ended("retire", began)

    async def _rotate(self) -> None:
        """Have a new newest version; the command is killed now and then before and after it."""
        newest = self.report.key_version
        while self.report.key_version == newest:
            words = ("network", "rotate", "--key-only")
            # A command that is killed after the change has made the version, too.
            if self._chance.random() < 0.7 and self.report.kills < self.plan.kills:
                await self._killed(words, self._start_s * 1.5)
            else:
                await self._run(words)
            self.report.key_version = (await self._keys()).keys[-1].key_version
        assert self.report.key_version == newest + 1

    async def _reencrypt(self) -> None:
        """Encrypt everything again; the command is killed at random moments and continued."""
        words = ("network", "reencrypt", "--json")
        planned = -(-self.plan.kills // _PASSES)
        left = min(planned, self.plan.kills - self.report.kills)
        most_s = self._start_s + self._pass_s / max(1, min(planned, 25))
        while left > 0 and await self._killed(words, most_s):
            left -= 1
        done = json.loads((await self._run(words)).stdout)
        assert done["failed"] == []
        assert done["encryptedAgain"] + done["encryptedBefore"] == len(self._values)

    async def _measure(self) -> None:
        """Measure how long a command takes that asks the node once, and estimate a whole pass."""
        began = time.monotonic()
        await self._run(("network", "show"))
        self._start_s = time.monotonic() - began
        began = time.monotonic()
        names = list(self._values)[:_IN_A_BATCH]
        await self._owner.secrets().get_many(names)
        read_s = (time.monotonic() - began) / len(names)
        self._pass_s = 2 * read_s * len(self._values)  # each value is read and written
        self._show(f"start of a command: {self._start_s:.1f} s; a pass: about {self._pass_s:.0f} s")

    async def _killed(self, words: Sequence[str], most_s: float) -> bool:
        """Run a command and kill it at a random moment; return False if it ended before.

        Values are read afterwards.
        """
        after_s = self._chance.uniform(0.1, most_s)
        self._count(self.report.commands, words)
        with self._machine.start(*words) as process:
            try:
                _, err = await asyncio.to_thread(process.communicate, None, after_s)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.communicate)
        if process.returncode == 0:
            return False
        assert process.returncode == -9, err.decode()
        self._count(self.report.killed, words)
        sample = self._chance.sample(list(self._values), min(_SAMPLE, len(self._values)))
        found = await self._owner.secrets().get_many(sample)
        assert found == {name: self._values[name] for name in sample}
        self._show(
            f"kill {self.report.kills}: {words[1]} after {after_s:.2f} s; version"
            f" {self.report.key_version}"
        )
        return True

    async def _run(self, words: Sequence[str]) -> "subprocess.CompletedProcess[bytes]":
        """Run a command that must succeed, however long it takes."""
        self._count(self.report.commands, words)
        with self._machine.start(*words) as process:
            out, err = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, err.decode()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def _count(self, counts: dict[str, int], words: Sequence[str]) -> None:
        counts[words[1]] = counts.get(words[1], 0) + 1

    # --- checks -----------------------------------------------------------------------------------

    async def check(self) -> None:
        """Compare every value and every copy."""
        began = time.monotonic()
        owners = self._owner.secrets()
        for names in _parts(list(self._values), _IN_A_BATCH):
            assert await owners.get_many(names) == {name: self._values[name] for name in names}
        for friend in self._friends:
            received = await friend.received(self._owner.session.owner)
            for names in _parts(friend.names, _IN_A_BATCH):
                assert await received.get_many(names) == {
                    name: self._values[name] for name in names
                }
        self._ended(f"compare with {self.report.key_version} versions", began)

    async def check_former(self) -> None:
        """Compare a sample of the values before the current ones, which the former key opens."""
        owners = self._owner.secrets()
        for name in self._chance.sample(list(self._values), min(_SAMPLE, len(self._values))):
            versions = await owners.versions(name)
            opened = {await owners.get(name, version=one.version) for one in versions}
            assert opened <= {self._values[name], self._values[name][::-1]}

    async def _keys(self) -> NetworkKeys:
        return await self._owner.encryption.keys(self._owner.encryption.network())

    async def _state_of(self, version: int) -> str:
        return (await self._keys()).keys[version - 1].state

    @property
    def _home(self) -> Path:
        return self._machine.folder / "home" / ".sealspace"

    def _ended(self, phase: str, began: float) -> None:
        took_s = time.monotonic() - began
        name = phase
        if name in self.report.phases_s:
            name = f"{phase}, again"
        self.report.phases_s[name] = took_s
        self._show(f"{name}: {took_s:.0f} s")


def _values(plan: Plan) -> dict[str, bytes]:
    """Return the current value of each secret."""
    chance = random.Random(f"{plan.seed}/values")
    return {
        f"NAME_{number:05}": chance.randbytes(chance.randrange(1, _MOST_BYTES))
        for number in range(plan.secrets)
    }


def _parts(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


async def replace_while_killed(
    folder: Path, plan: Plan, show: Callable[[str], None] = print
) -> Report:
    """Replace the key of a network with secrets and copies while its commands are killed.

    Args:
        folder: for the node and the owner's machine.
        plan: the size.
        show: prints a line of progress.
    """
    machine = new_machine(folder / "owner")
    with (
        held_ports(1) as (port,),
        running_node(
            folder / "node", environment={"SEALSPACE_METRICS__LISTEN": f"127.0.0.1:{port}"}
        ) as node,
    ):
        login = await machine.run("login", node.url, "--new")
        assert login.returncode == 0, login.stderr
        async with AsyncExitStack() as stack:
            session = load_session(machine.folder / "home" / ".sealspace" / "session.json")
            owner = await stack.enter_async_context(
                Client(node.url, session=session, settings=_SETTINGS)
            )
            names = list(_values(plan))[: plan.shared]
            friends = [await _friend(stack, node.url, names[at::PEOPLE]) for at in range(PEOPLE)]
            load = Load(plan, machine, owner, friends, show)
            await load.fill()
            await load.replace()
            await load.check()
            await load.check_former()
            await load.retire()
            await load.check()
            load.report.requests = await asyncio.to_thread(
                _requests, f"http://127.0.0.1:{port}/metrics"
            )
            return load.report


async def _friend(stack: AsyncExitStack, url: str, names: Sequence[str]) -> Friend:
    """Return another person with a network."""
    client = await stack.enter_async_context(Client(url, settings=_SETTINGS))
    wallet = new_wallet()
    await client.sign_in(wallet)
    await client.encryption.ensure_network()
    return Friend(client, wallet, names)


def _requests(url: str) -> int:
    """Return the number of requests that a node counted."""
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    count = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "sealspace_requests_total":
                count += sample.value
    return int(count)
