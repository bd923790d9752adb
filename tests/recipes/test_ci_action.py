"""Tests of the action for GitHub, whose steps run here unchanged.

The first step installs from an index. Here the index is a folder, with small packages in place of
sealspace and of what it needs.
"""

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from base_install import quick_python
from oidc_issuer import Issuer, github_claims
from owner_desk import owner_desk
from patience import PATIENCE_S
from tests_support import REPOSITORY

ACTION = (REPOSITORY / "action.yml").read_text("utf-8")
STEPS = {one["name"]: one for one in yaml.safe_load(ACTION)["runs"]["steps"]}
BASH = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c")
"""How GitHub runs a step with `shell: bash`."""
BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "sealspace-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as made:
        for path in FILES:
            made.writestr(path, FILES[path])
    return name
"""
"""A build backend in place of hatchling; FILES has the contents of its wheel."""
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


def shadowing(folder: Path) -> Path:
    """Make a checkout with modules that have names of standard modules and must not be imported."""
    folder.mkdir()
    for name in ("json", "secrets", "subprocess", "venv"):
        (folder / f"{name}.py").write_text("raise SystemExit(3)")
    return folder


def wheel_files(name: str, code: str, metadata: str = "") -> dict[str, str]:
    """Return the contents of a wheel with one module and, for `main` in it, one command."""
    about = f"{name}-1.0.dist-info"
    return {
        f"{name}.py": code,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
        f"{about}/RECORD": "",
    }


def write_wheel(folder: Path, name: str, files: dict[str, str]) -> bytes:
    """Write a wheel, and return its bytes."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        for member, text in files.items():
            made.writestr(member, text)
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["", "hatchling"])
def test_the_action_installs_what_is_locked(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, changed: str
) -> None:
    """The action's lock file has the hash of every installed package, and the installer refuses
    other contents."""
    action, index, temporary = (tmp_path / name for name in ("action", "index", "temporary"))
    (action / "examples" / "deploy").mkdir(parents=True)
    for folder in (index, temporary):
        folder.mkdir()
    installer = "examples/deploy/install.sh"
    shutil.copy(REPOSITORY / installer, action / installer)
    (action / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling"\n'
    )
    itself = wheel_files(
        "sealspace",
        "import needed\n\ndef main():\n    print(needed.TEXT)\n",
        "Requires-Dist: needed\nProvides-Extra: node\nRequires-Dist: absent; extra == 'node'\n",
    )
    packages = {
        "needed": wheel_files("needed", "TEXT = 'as locked'"),
        "hatchling": wheel_files("hatchling", f"FILES = {itself!r}\n{BACKEND}"),
    }
    lock = ""
    for name, files in packages.items():
        digest = hashlib.sha256(write_wheel(index, name, files)).hexdigest()
        lock += f"{name}==1.0 \\\n    --hash=sha256:{digest}\n"
        if name == changed:
            write_wheel(index, name, files | {"more.py": ""})
    (action / "requirements.lock").write_text(lock)
    checkout = shadowing(tmp_path / "checkout")
    python = quick_python(tmp_path_factory.getbasetemp())
    ran = subprocess.run(
        [*BASH, STEPS["Install"]["run"]],
        cwd=checkout,
        env={
            "HOME": str(tmp_path),
            "PATH": f"{python}:{os.environ['PATH']}",
            "PIP_FIND_LINKS": str(index),
            "PIP_NO_INDEX": "1",
            "PYTHONPATH": str(checkout),
            "RUNNER_TEMP": str(temporary),
            "GITHUB_ACTION_PATH": str(action),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if changed:
        assert ran.returncode != 0 and "DO NOT MATCH THE HASHES" in ran.stderr
        assert not (temporary / "sealspace" / "bin" / "sealspace").exists()
        return
    assert ran.returncode == 0, ran.stderr
    command = [temporary / "sealspace" / "bin" / "sealspace"]
    said = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=True)
    assert said.stdout == b"as locked\n"
    # The next step runs this Python, which has no pip.
    programs = {one.name for one in (temporary / "sealspace" / "bin").iterdir()}
    assert "python3" in programs and not any(name.startswith("pip") for name in programs)


async def test_OX8_the_action_passes_masked_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of each value is masked before the values are passed on."""
    tools, variables = tmp_path / "sealspace" / "bin", tmp_path / "variables"
    tools.mkdir(parents=True)
    checkout = shadowing(tmp_path / "checkout")
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
                *(*BASH, STEPS["Read"]["run"]),
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
    """The action's inputs are an address and an id, and it uses no other action."""
    assert re.findall(r"^  (\w+):\n    description", ACTION, re.MULTILINE) == ["node", "trust"]
    assert "${{ secrets" not in ACTION and "uses:" not in ACTION
