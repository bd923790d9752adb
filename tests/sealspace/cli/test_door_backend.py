"""Tests of `sealspace door --data`: a door that proves its code, at a simulated platform (DR18)."""

import asyncio
import os
import re
import signal
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deviating_platform import SimulatedPlatform
from owner_machine import Owner
from patience import PATIENCE_S
from running_node import COMMAND, Reply, running_node, send
from tests_support import REPOSITORY

from sealspace.apps.backends import deliver
from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.wallets import new_wallet
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.trust_root import parse_trust_root

CANARY = "canary-4711"


@dataclass(frozen=True)
class DoorProcess:
    """A door as a process, and the token in its file."""

    url: str
    token: str

    async def get(self, path: str, method: str = "GET") -> Reply:
        headers = {"X-Vault-Token": self.token}
        return await send(self.url, method, f"/v1/{path}", headers=headers)

    async def errors(self, path: str) -> tuple[int, str]:
        reply = await self.get(path)
        return reply.status, " ".join(reply.reported["errors"])


@asynccontextmanager
async def _door(folder: Path, node: str, *arguments: str) -> AsyncIterator[DoorProcess]:
    """Run a door on the simulated platform in `tee`; it has to end with status 0."""
    backend = ("--data", "kept", "--simulate", "tee", "--key", "file", "--secret", "API_KEY")
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("door", "--node", node, "--port", "0", "--token-file", "token", *backend, *arguments),
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": str(folder)},
    )
    assert process.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b"listening on " not in said:
                line = await process.stderr.readline()
                assert line, said
                said += line
        address = re.search(rb"listening on (http://[0-9.:]+)\n", said)
        assert address is not None, said
        assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
        yield DoorProcess(address[1].decode(), (folder / "token").read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            said += (await process.communicate())[1]
    assert process.returncode == 0, said
    assert CANARY.encode() not in said and b"sdt_" not in said


@pytest.mark.slow
async def test_DR18_a_door_reads_what_owners_grant_to_its_code(tmp_path: Path) -> None:
    """DR18: an owner verifies the door's evidence and grants; then its callers read, also after a
    restart, until the grant is revoked."""
    assert main(["backend", "simulate", str(tmp_path / "tee"), "-q"]) == 0
    platform = SimulatedPlatform.load(tmp_path / "tee")
    inspector = Inspector(
        CollateralFolder(tmp_path / "tee" / "collateral"),
        root=parse_trust_root(platform.root_der),
    )
    with running_node(tmp_path, platform=platform, workers=1) as node:
        async with Client(node.url) as owner, Client(node.url) as other:
            await owner.sign_in(new_wallet())
            await owner.secrets().put_many({"API_KEY": CANARY, "OTHER": "not granted"})
            await other.sign_in(new_wallet())
            await other.secrets().put("API_KEY", "of another owner")
            mounts = (
                f"secret=flat,owner={owner.session.owner}",
                f"other=flat,owner={other.session.owner}",
            )
            arguments = ("--mount", mounts[0], "--mount", mounts[1])
            async with _door(tmp_path, node.url, *arguments) as door:
                status, said = await door.errors("secret/data/API_KEY")
                assert status == 403 and CANARY not in said
                seen = await owner.backends.look(door.url, inspector)
                portable = await owner.backends.grant(seen)
                await deliver(door.url, portable)
                assert await _value(door, "secret/data/API_KEY") == CANARY
                listed = await door.get("secret/metadata/", "LIST")
                assert listed.reported["data"]["keys"] == ["API_KEY"]
                assert (await door.errors("secret/data/OTHER"))[0] == 403
                assert (await door.errors("other/data/API_KEY"))[0] == 403
                stranger = DoorProcess(door.url, "sdt_wrong")
                assert (await stranger.errors("secret/data/API_KEY"))[0] == 403
            async with _door(tmp_path, node.url, *arguments) as door:
                assert (await owner.backends.look(door.url, inspector)).did == seen.did
                assert await _value(door, "secret/data/API_KEY") == CANARY
                await owner.delegations.revoke(portable)
                status, said = await door.errors("secret/data/API_KEY")
                assert status == 403 and "revoked" in said
                assert (await door.get("auth/token/lookup-self")).status == 200


async def _value(door: DoorProcess, path: str) -> Any:
    reply = await door.get(path)
    assert reply.status == 200, reply
    return reply.reported["data"]["data"]["value"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], b"the mount secret needs owner=DID"),
        (["--mount", "a=flat,owner=did:key:z6MkA,team=x"], b"needs owner=DID and no team"),
        (["--mount", "a=flat,owner=did:key:z6MkA", "--write"], b"a door with --data only reads"),
        (["--mount", "a=flat,owner=did:key:z6MkA"], b"cannot produce quotes"),
        (
            ["--mount", "a=flat,owner=did:key:z6MkA", "--evidence", "simulated"],
            b"missing option --simulate FOLDER",
        ),
        (
            ["--mount", "a=flat,owner=did:key:z6MkA", "--simulate", "none"],
            b"sealspace backend simulate",
        ),
    ],
)
async def test_DR18_what_such_a_door_does_not_start_with(
    forking_owner: Owner, arguments: list[str], said: bytes
) -> None:
    """DR18: mounts have to name their owners, and there has to be a platform."""
    ran = await forking_owner.run(
        "door", "--node", forking_owner.desk.node, "--data", "kept", *arguments
    )
    assert ran.returncode == 2 and said in ran.stderr, ran.stderr
    assert b"next: " in ran.stderr
