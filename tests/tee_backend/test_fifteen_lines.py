"""The example backend of the module's docstring, run unchanged as a real process at a real node."""

import ast
import asyncio
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from deviating_platform import SimulatedPlatform
from running_node import running_node
from simulators.agent import AgentSimulator, agent_on
from tests_support import OUR_IMPORTS, REPOSITORY

import tee_backend.backend
from sealspace.apps.backends import deliver
from sealspace.client import Client
from sealspace.wallets import new_wallet
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.evidence.simulated import measurements_of, mint_event_log

IMAGE = replace(measurements_of("image"), rtmr3=None)


def program_of_the_docstring() -> str:
    """Return the example as a reader would copy it."""
    text = tee_backend.backend.__doc__ or ""
    (example,) = re.findall(
        r"^    from pathlib.*?^    web\.run_app[^\n]*\n", text, re.DOTALL | re.MULTILINE
    )
    return textwrap.dedent(example)


def test_it_has_fifteen_lines_at_most() -> None:
    """The example has at most 15 lines besides imports and blank lines."""
    lines = program_of_the_docstring().splitlines()
    assert 15 >= sum(
        bool(line.strip()) and not line.startswith(("from ", "import ")) for line in lines
    )


def test_the_page_has_it() -> None:
    """The page on backends contains the same program, apart from blank lines."""
    path = REPOSITORY / "docs" / "how-to" / "share-with-a-backend.md"
    page = re.sub(r"\n{2,}", "\n", path.read_text("utf-8"))
    assert re.sub(r"\n{2,}", "\n", f"```python\n{program_of_the_docstring()}```") in page


@asynccontextmanager
async def running(program: str, folder: Path, *, end: signal.Signals) -> AsyncIterator[str]:
    """Run a backend's program as a process during the block, and yield its address."""
    with (folder / "errors.log").open("a") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-P", "-c", program),
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            env={**OUR_IMPORTS},
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(120):
            line = (await process.stdout.readline()).decode()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, (line, (folder / "errors.log").read_text())
        yield found[0]
    finally:
        process.send_signal(end)
        async with asyncio.timeout(120):
            await process.communicate()


async def _work(url: str, owner: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/work", params={"owner": owner}) as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.slow
async def test_the_fifteen_lines(tmp_path: Path) -> None:
    """The example accepts a grant, reads, and reads on after a crash until the grant is revoked
    (AT58)."""
    platform = SimulatedPlatform.from_seed(b"the platform of the fifteen lines")
    agent = AgentSimulator(platform, IMAGE, mint_event_log(bytes(32)))
    with running_node(tmp_path, platform=platform, workers=1) as node:
        program = program_of_the_docstring()
        for written, here in (
            ('"https://node.example"', repr(node.url)),
            ('Path("/data")', repr(str(tmp_path / "kept")).join(("Path(", ")"))),
            ("DstackSource.find()", f"DstackSource.find((Path({str(tmp_path)!r}),))"),
            ("port=8080", "port=0"),
        ):
            assert 1 == program.count(written)
            program = program.replace(written, here)
        ast.parse(program)
        inspector = Inspector(
            CollateralFolder(tmp_path / "collateral"), root=parse_trust_root(platform.root_der)
        )
        async with agent_on(tmp_path / "dstack.sock", agent), Client(node.url) as owner:
            await owner.sign_in(new_wallet())
            await owner.secrets().put("API_KEY", "0123456789")
            me = owner.session.owner
            # what was taken up is kept by then
            async with running(program, tmp_path, end=signal.SIGKILL) as url:
                assert 500 == (await _work(url, me))[0]  # nothing granted yet
                seen = await owner.backends.look(url, inspector)
                portable = await owner.backends.grant(seen)
                await deliver(url, portable)
                assert (200, "worked with a key of 10 characters") == await _work(url, me)
            async with running(program, tmp_path, end=signal.SIGTERM) as url:
                assert seen.did == (await owner.backends.look(url, inspector)).did
                assert (200, "worked with a key of 10 characters") == await _work(url, me)
                await owner.delegations.revoke(portable)
                assert 500 == (await _work(url, me))[0]
    log = (tmp_path / "errors.log").read_text()
    assert "DelegationRevoked" in log and "NotGranted" in log
    assert "0123456789" not in log and "Unclosed" not in log
