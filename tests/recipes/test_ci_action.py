"""The action for GitHub: its program reads the secrets of a trust with the job's own ID token."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from oidc_issuer import Issuer, github_claims
from owner_desk import owner_desk
from tests_support import REPOSITORY

ACTION = (REPOSITORY / "action.yml").read_text("utf-8")
VALUES = {"API_KEY": "alpha-4711", "SIGNING_KEY": "first line\nsecond 50% line\r\n\n"}


@asynccontextmanager
async def token_service(issuer: Issuer) -> AsyncIterator[str]:
    """Serve ID tokens as GitHub does for a job; yields the address of requests."""

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "bearer the right"
        audience = request.query["audience"]
        assert [one[:12] for one in audience.split("#")] == ["did:key:z6Mk"] * 2
        return web.json_response(
            {"count": 1, "value": issuer.token(github_claims(), audience=audience)}
        )

    app = web.Application()
    app.router.add_get("/token", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        # As on GitHub, the address has a query.
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/token?api-version=2.0"
    finally:
        await runner.cleanup()


def program() -> str:
    """Return the lines of the action's last step."""
    block = re.findall(r"^      run: \|\n((?:        .*\n|\n)+)", ACTION, re.MULTILINE)[-1]
    return re.sub(r"^        ", "", block, flags=re.MULTILINE)


async def test_OX8_the_action_passes_masked_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of each value is masked before the values are passed on."""
    tools, variables = tmp_path / "sealspace" / "bin", tmp_path / "variables"
    tools.mkdir(parents=True)
    # Modules of the repository have names of standard modules. None of them is imported.
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("json", "secrets", "subprocess"):
        (checkout / f"{name}.py").write_text("raise SystemExit(3)")
    here = Path(sys.executable).parent
    (tools / "sealspace").symlink_to(here / "sealspace")
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tools / "python").chmod(0o755)
    issuer = Issuer("https://token.actions.githubusercontent.com")
    async with owner_desk(tmp_path / "node", capsys, monkeypatch) as desk:
        await desk.log_in()
        async with desk.client() as client:
            await client.secrets().put_many(VALUES)
        (tmp_path / "keys.json").write_text(issuer.jwks)
        made = await desk.run(
            *("ci", "trust", "github", "--repository-id", "74", "--owner-id", "65"),
            *("--environment", "prod", "--jwks", str(tmp_path / "keys.json")),
            *(part for name in VALUES for part in ("--secret", name)),
        )
        async with token_service(issuer) as address:
            ran = await asyncio.create_subprocess_exec(
                *(
                    "bash",
                    "-e",
                    "-o",
                    "pipefail",
                    "-c",
                    program().replace("os.path.dirname(sys.executable)", f"{str(tools)!r}"),
                ),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=checkout,
                env={
                    "HOME": str(tmp_path / "home"),
                    "PATH": os.environ["PATH"],
                    "RUNNER_TEMP": str(tmp_path),
                    "GITHUB_ENV": str(variables),
                    "SEALSPACE_NODE": desk.node,
                    "SEALSPACE_TRUST": made.out.strip(),
                    "ACTIONS_ID_TOKEN_REQUEST_URL": address,
                    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "the right",
                },
            )
            out, err = await ran.communicate()
    assert ran.returncode == 0, err
    assert out.decode().splitlines() == [
        "::add-mask::alpha-4711",
        "::add-mask::first line",
        "::add-mask::second 50%25 line",
    ]
    passed = re.findall(r"(\w+)<<(\w{32})\n(.*?)\n\2\n", variables.read_bytes().decode(), re.DOTALL)
    assert {name: value for name, _, value in passed} == VALUES


def test_the_action_has_no_other_inputs() -> None:
    """It takes an address and an id, neither of them secret, and writes to no repository."""
    assert re.findall(r"^  (\w+):\n    description", ACTION, re.MULTILINE) == ["node", "trust"]
    assert "${{ secrets" not in ACTION and "uses:" not in ACTION
