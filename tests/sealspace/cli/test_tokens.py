"""`sealspace token`: an owner's machine tokens, and the programs that use them."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from owner_desk import OwnerDesk, owner_desk
from patience import PATIENCE_S
from running_node import COMMAND
from tests_support import REPOSITORY


@pytest.fixture
async def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnerDesk]:
    """A logged-in owner with three secrets in the scope `ci`."""
    monkeypatch.delenv("SEALSPACE_TOKEN", raising=False)
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        async with desk.client() as client:
            await client.secrets().put_many(
                {"API_KEY": "alpha-4711", "PLAIN": "beta-4712", "OTHER_KEY": "gamma-4713"},
                scope="ci",
            )
        yield desk


async def _token(desk: OwnerDesk, name: str = "deploy", *more: str) -> str:
    made = await desk.run(
        "token", "create", name, "--secret", "API_KEY", "--secret", "PLAIN", "--scope", "ci", *more
    )
    assert made.status == 0, made
    return made.out.strip()


async def _job(
    folder: Path, node: str, line: str, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command as a process that has the two variables, and neither a home nor a login."""
    folder.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(folder),
        "SEALSPACE_NODE": node,
        "SEALSPACE_TOKEN": line,
    }

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    return await asyncio.to_thread(run)


async def test_a_server_gets_exactly_its_secrets(desk: OwnerDesk, tmp_path: Path) -> None:
    line = await _token(desk)
    script = 'echo "$API_KEY,$PLAIN,$OTHER_KEY"; env | grep SEALSPACE_; test "$PLAIN" = beta-4712'
    ran = await _job(tmp_path / "job", desk.node, line, "run", "--", "sh", "-c", script)
    print(ran)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("***,***,\n", "", 0)
    for args in (["secret","get","API_KEY"],["secret","get","OTHER_KEY"],["status"],["whoami"],["status","--json"],["secret","put","X"],["secret","list"],["logout"],["login",desk.node], ["run","--only","OTHER_KEY","--","env"], ["token","list"]):
        print(args, await _job(tmp_path/"job", desk.node, line, *args))
    print(await desk.run("token","list"), await desk.run("token","list","--json"))
    await _token(desk)
    print(await desk.run("token","revoke","deploy"))
    cid=json.loads((await desk.run("token","list","--json")).out)[1]["id"]
    print(await desk.run("token","revoke",cid))
    for args in (["secret","get","API_KEY"],["run","--","env"],["status"]):
        print(args, await _job(tmp_path/"job", desk.node, line, *args))
    print(await _job(tmp_path/"job", desk.node, line[:-5], "status"))
    assert 0
