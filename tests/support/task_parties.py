"""Parties of tasks: owners of secrets who grant them to a runner, and requesters.

Example:
    requester = await party(stage)
    await requester.grant(version, wallet_secret(RESULT_KEY_NAME))
    task = await requester.done(f"{stage.developer}/app")
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from patience import PATIENCE_S
from runner_stage import RunnerStage
from task_programs import ResultKey

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from sealspace.apps.backends import deliver
from sealspace.apps.programs import Version
from sealspace.apps.run_calls import call_headers, call_right
from sealspace.client import Client, SignIn
from sealspace.documents.call_conditions import AllowAll, Condition
from sealspace.documents.iexec_names import RESULT_KEY_NAME, requester_secret, wallet_secret
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.documents.secret_names import SecretName
from sealspace.wallets import new_wallet
from sealspace.wire.portable import PortableDelegation

VALUES = {"my-key": "first of the requester", "My_Key": "second of the requester"}
"""Secrets of each party, by name."""


class Party:
    """An owner with secrets and grants, who can also make tasks."""

    def __init__(self, stage: RunnerStage, client: Client, wallet: Any) -> None:
        self.stage, self.client, self.wallet = stage, client, wallet
        self.did, self.key = str(wallet.did), ResultKey(0)

    async def put(self, secret: SecretName, value: str) -> None:
        await self.client.secrets().put(secret.name, value, scope=secret.scope)

    async def grant(
        self,
        program: Version,
        *secrets: SecretName,
        callers: Condition | None = None,
        unbound: bool = False,
    ) -> PortableDelegation:
        run = RunStatement(
            programs=(ByHash(program.sha256, program.project),),
            callers=callers or AllowAll(),
            allows_unbound=unbound,
        )
        seen = await self.stage.look()
        labels = [one.label for one in secrets]
        portable = await self.client.runners.grant(seen, labels, run, wallet=self.wallet)
        await deliver(self.stage.url, portable)
        return portable

    async def ask(
        self, method: str, path: str, about: str, body: bytes = b"", at: RunnerStage | None = None
    ) -> tuple[int, bytes]:
        stage = at or self.stage
        headers = call_headers(
            self.client.session,
            runner=stage.at,
            program=about,
            body=body,
            now=SystemClock().now(),
            entropy=SystemEntropy(),
        )
        async with stage.http.request(
            method, stage.url + path, headers=headers, data=body or None
        ) as answer:
            return answer.status, await answer.read()

    async def make(self, app: str, **members: Any) -> tuple[int, dict[str, Any]]:
        """Make a task; return status and answer."""
        body = json.dumps({"app": app, **members}).encode()
        status, answer = await self.ask("POST", "/tasks", app, body)
        return status, json.loads(answer)

    async def ended(self, job: str, at: RunnerStage | None = None) -> dict[str, Any]:
        """Return the answer of a task that has ended."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status, answer = await self.ask("GET", f"/tasks/{job}", f"calls/{job}", at=at)
                assert status == 200, answer
                task: dict[str, Any] = json.loads(answer)
                if task["status"] != "pending":
                    return task

    async def done(self, app: str, **members: Any) -> dict[str, Any]:
        """Make a task, and return the answer when it has ended."""
        status, answer = await self.make(app, **members)
        assert status == 200, answer
        return await self.ended(answer["job"])

    async def result(self, job: str) -> tuple[int, bytes]:
        return await self.ask("GET", f"/tasks/{job}/result", f"calls/{job}")

    async def report(self, task: dict[str, Any], folder: Path) -> list[str]:
        """Return the variables, arguments and data set that the program read."""
        assert task["state"] == "COMPLETED", task
        _, sealed = await self.result(task["job"])
        files = self.key.opened(sealed, folder / task["job"])
        return files["result.txt"].decode().split("\0")


async def party(stage: RunnerStage, *, has_key: bool = True) -> Party:
    client, wallet = await stage.client(), new_wallet()
    await client.sign_in(wallet, SignIn(spaces=("public",)))
    await client.delegations.add_right(wallet, [call_right(client.kv().space.text)])
    one = Party(stage, client, wallet)
    if has_key:
        await one.put(wallet_secret(RESULT_KEY_NAME), one.key.secret)
    for name, value in VALUES.items():
        await one.put(requester_secret(name), value)
    return one
