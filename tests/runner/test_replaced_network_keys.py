"""Tests of readers while an owner replaces the key of a network: none of them notices."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from backend_site import Domain
from runner_stage import ENVIRONMENT, RunnerStage, runner_stage

from capabilities.abilities import DECRYPT, KV_GET, SET_POLICY
from capabilities.clock_and_entropy import SystemEntropy
from encryption_network.envelope import parse_envelope
from encryption_network.policy import Policy
from sealspace.delegations import allow
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.session import key_session
from sealspace.wire.token_line import read_token
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import measurements_of

NAMES = [f"NAME_{number}" for number in range(20)]
CODE = measurements_of("approved")
Read = Callable[[], Awaitable[dict[str, Any]]]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[RunnerStage]:
    """A runner and its node, and an owner with secrets who may replace the network's key."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path)
        network = staged.owner.encryption.network()
        await staged.owner.delegations.add_right(staged.wallet, [allow(network.text, SET_POLICY)])
        await staged.owner.secrets().put_many({name: name.lower() for name in NAMES})
        yield staged


async def owner(stage: RunnerStage) -> Read:
    """Another process of the owner, with the same session."""
    client = await stage.client(stage.owner.session)
    return lambda: client.secrets().get_many(NAMES)


async def machine_token(stage: RunnerStage) -> Read:
    line = await stage.owner.delegations.create_token("deploy", NAMES, wallet=stage.wallet)
    client = await stage.client(read_token(line))
    return lambda: client.secrets().get_many(NAMES)


async def backend(stage: RunnerStage) -> Read:
    """Attested code with a grant."""
    agent = await stage.client(key_session(SystemEntropy().token(32)))
    secrets = stage.owner.secrets()
    rights = [allow(secrets.resource(name), KV_GET) for name in NAMES]
    rights.append(allow(stage.owner.encryption.network().text, DECRYPT))
    portable = await stage.owner.delegations.delegate(
        agent.session.did, rights, policy=Policy(measurements=(CODE,))
    )
    attested = Backend(agent, Domain(stage.platform, CODE))
    await attested.accept(portable)
    did = stage.owner.session.owner

    async def read() -> dict[str, Any]:
        return {name: await attested.read_secret(did, name) for name in NAMES}

    return read


async def program(stage: RunnerStage) -> Read:
    """A program at the runner, with a run grant."""
    version = await stage.publish("environment", ENVIRONMENT)
    statement = RunStatement(programs=(ByHash(version.sha256),), callers=AllowAll())
    await stage.grant(NAMES, statement)
    did = stage.owner.session.owner

    async def read() -> dict[str, Any]:
        status, answer = await stage.call("environment", secrets=did)
        assert (status, answer["status"]) == (200, "completed"), answer
        variables = dict(line.split("=", 1) for line in answer["output"].split("\0") if line)
        return {name: variables[name] for name in NAMES}

    return read


READERS = {
    "owner": owner,
    "machine token": machine_token,
    "backend": backend,
    "program": program,
}


async def test_EN35_readers_throughout(stage: RunnerStage) -> None:
    """The owner, a machine token, attested code and a runner's program read every value while the
    key is replaced, values are encrypted again, and the former key is destroyed (EN38, EN39)."""
    expected = {name: name.lower() for name in NAMES}
    reads = {who: await reader(stage) for who, reader in READERS.items()}
    network = stage.owner.encryption.network()
    keys = stage.owner.network_keys
    # Each reader has read everything since the last step.
    seen = {who: asyncio.Event() for who in reads}
    ended = asyncio.Event()

    async def keep_reading(who: str) -> None:
        while not ended.is_set():
            assert await reads[who]() == expected, who
            seen[who].set()

    reading = [asyncio.create_task(keep_reading(who)) for who in reads]

    async def each_reads_once() -> None:
        for one in seen.values():
            one.clear()
        for one in seen.values():
            await one.wait()

    async def all_have_read() -> None:
        for _ in range(2):  # a reading that began before the step may end first
            waiting = asyncio.create_task(each_reads_once())
            done, _ = await asyncio.wait([waiting, *reading], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task  # raises the error of a reader

    await all_have_read()
    await keys.rotate(network, wallet=lambda: stage.wallet)
    await all_have_read()
    done = await keys.reencrypt(network)
    assert (done.sealed, done.failed) == (len(NAMES), ())
    await keys.retire(network, 1)
    await all_have_read()
    await keys.destroy(network, 1, wallet=lambda: stage.wallet)
    await all_have_read()
    ended.set()
    await asyncio.gather(*reading)
    stored = await stage.owner.kv("secrets").get_many([f"vault/secrets/{name}" for name in NAMES])
    assert {parse_envelope(value.body).key_version for value in stored.values()} == {2}
