"""Tests that run every program and command of `examples` with a node."""

import asyncio
import hashlib
import hmac
import os
import re
import runpy
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from backend_process import serving
from deviating_platform import SimulatedPlatform
from owner_desk import OwnerDesk, owner_desk
from packaging.requirements import Requirement
from patience import PATIENCE_S
from running_node import running_node
from tests_support import REPOSITORY

from sealspace.apps.backends import deliver
from sealspace.client import Client
from sealspace.wallets import new_wallet
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.trust_root import parse_trust_root

EXAMPLES = REPOSITORY / "examples"
VALUE = "open-sesame-4711"


def _commands(example: Path) -> list[list[str]]:
    """Return the commands in the header of an example, without the remarks beside them."""
    header = re.findall(r"^    (\w.*)$", example.read_text("utf-8").split('"""')[1], re.MULTILINE)
    return [line.partition("  ")[0].split() for line in header]


@dataclass
class Bench:
    """A node, an owner's machine, and examples that run in this process."""

    desk: OwnerDesk
    monkeypatch: pytest.MonkeyPatch

    async def run(self, example: Path, *arguments: str) -> str:
        """Run a program as `python` does, and return its output."""
        self.monkeypatch.setattr(sys, "argv", [str(example), *arguments])
        self.desk.capsys.readouterr()
        await asyncio.to_thread(runpy.run_path, str(example), run_name="__main__")
        return self.desk.capsys.readouterr().out


@pytest.fixture
async def bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """A node that the examples find, and an empty folder to run them in."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        monkeypatch.setenv("SEALSPACE_NODE", desk.node)
        monkeypatch.setenv("SEALSPACE_HOME", str(desk.home))
        monkeypatch.chdir(tmp_path)
        yield Bench(desk, monkeypatch)


def test_each_is_listed_and_run_here() -> None:
    """The page lists every example, and this module has a test for each."""
    page = (EXAMPLES / "README.md").read_text("utf-8")
    programs = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")}
    assert programs == {
        "owner_and_reader.py",
        "flask_page.py",
        "backend.py",
        "demo.py",
        "manifest/notes.py",
        "listen/app.py",
        "listen/backend.py",
        "listen/fireflies.py",
        "deploy/tdx/notes.py",  # both are run by test_tdx.py
        "deploy/tdx/pack.py",
        "program/counter.py",  # both are built by tests/guests/test_toolchains.py
        "program/sign_jwt.py",
    }
    listed = {name for name in programs if not name.startswith("deploy/tdx/")}
    for name in (
        *listed,
        "deploy/tdx/README.md",
        "workflow.yml",
        "program/build.yml",
        "deploy/README.md",
    ):
        assert f"]({name})" in page


async def test_owner_and_reader(bench: Bench) -> None:
    """The reader can read only the granted secret, and only until the grant is revoked."""
    said = (await bench.run(EXAMPLES / "owner_and_reader.py")).splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "the reader reads",
        "not granted",
        "after the revocation",
    ]
    assert said[0] == "the reader reads: soup, bread"


async def test_flask_page(bench: Bench) -> None:
    """The page signs with the current secret, and shows no details of an error."""
    _, _, put, serve = _commands(EXAMPLES / "flask_page.py")
    assert serve[:3] == ["flask", "--app", "examples/flask_page.py"]
    await bench.desk.log_in()
    app = runpy.run_path(str(EXAMPLES / "flask_page.py"))["app"]
    page = app.test_client()
    refused = await asyncio.to_thread(page.get, "/sign?text=hello")
    assert refused.status_code == 503
    assert refused.text == "try again later"
    for value in ("first", "second"):
        assert (await bench.desk.run(*put[1:], given=value)).status == 0
        answer = await asyncio.to_thread(page.get, "/sign?text=hello")
        assert answer.text == hmac.digest(value.encode(), b"hello", hashlib.sha256).hex()


async def test_manifest_application(bench: Bench) -> None:
    """The owner sees what the application asks for, grants it, and the application stores notes."""
    folder = EXAMPLES / "manifest"
    *_, explain, _, grant, keep = _commands(folder / "notes.py")
    explained = await bench.desk.run(*explain[1:3], str(folder / explain[3]))
    assert explained.status == 0 and "Notes" in explained.out
    await bench.desk.log_in()
    did = (await bench.run(folder / "notes.py")).strip()
    assert did.startswith("did:key:")
    words = {"manifest.json": str(folder / "manifest.json"), "DID": did}
    granted = await bench.desk.run(*(words.get(word, word) for word in grant[1:]), "--yes")
    assert granted.status == 0, granted
    assert keep[:3] == ["python", "notes.py", "grants.json"]
    assert await bench.run(folder / "notes.py", "grants.json", "buy milk") == "buy milk\n"
    assert await bench.run(folder / "notes.py", "grants.json", "call Ada") == "buy milk\ncall Ada\n"


def test_the_backend_has_fifteen_lines() -> None:
    """The backend has fifteen lines, besides imports, settings and docstrings."""
    (body,) = re.findall(
        r"^async def main.*?(?=^if __name__)", (EXAMPLES / "backend.py").read_text(), re.M | re.S
    )
    assert 15 >= sum(bool(line.strip()) and '"""' not in line for line in body.splitlines())


async def _work(url: str, owner: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/work", params={"owner": owner}) as answer,
    ):
        return answer.status, await answer.text()


async def test_backend(tmp_path: Path) -> None:
    """The backend shows its evidence, accepts a grant and uses the secret, also after a restart."""
    platform = SimulatedPlatform.from_seed(b"the platform of the examples")
    platform.save(tmp_path / "tee")
    inspector = Inspector(
        CollateralFolder(tmp_path / "collateral"), root=parse_trust_root(platform.root_der)
    )
    with running_node(tmp_path, platform=platform, workers=1) as node:
        async with Client(node.url) as owner:
            await owner.sign_in(new_wallet())
            await owner.secrets().put("API_KEY", VALUE)
            worked = (200, "worked with a key of 16 characters\n")
            with serving(tmp_path, node.url) as url:
                seen = await owner.backends.look(url, inspector)
                portable = await owner.backends.grant(seen)
                await deliver(url, portable)
                assert await _work(url, owner.session.owner) == worked
            with serving(tmp_path, node.url) as url:
                assert (await owner.backends.look(url, inspector)).did == seen.did
                assert await _work(url, owner.session.owner) == worked
                await owner.delegations.revoke(portable)
                status, text = await _work(url, owner.session.owner)
                assert status == 403
                assert "delegation-revoked" in text


async def test_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The owner stores a key on the application's page, lets the backend use it, and sees what the
    backend fetched; the backend refuses everybody else, and after the revocation the owner too."""
    platform = SimulatedPlatform.from_seed(b"the platform of the examples")
    platform.save(tmp_path / "tee")
    wallet = new_wallet()
    (tmp_path / "wallet.key").write_text(wallet.secret.hex())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALSPACE_HOME", str(tmp_path))
    folder = EXAMPLES / "listen"

    async def main(name: str, running: AsyncExitStack) -> str:
        made = runpy.run_path(str(folder / f"{name}.py"))["main"]()
        server = TestServer(made if isinstance(made, web.Application) else await made)
        await running.enter_async_context(server)
        return str(server.make_url("")).rstrip("/")

    async with AsyncExitStack() as running:
        node = running.enter_context(running_node(tmp_path, platform=platform, workers=1))
        (tmp_path / "tee" / "collateral").symlink_to(tmp_path / "collateral")
        monkeypatch.setenv("SEALSPACE_NODE", node.url)
        monkeypatch.setenv("FIREFLIES_KEY", VALUE)
        monkeypatch.setenv("FIREFLIES_URL", f"{await main('fireflies', running)}/transcripts")
        backend = await main("backend", running)
        monkeypatch.setenv("LISTEN_BACKEND", backend)
        url = await main("app", running)
        (word,) = re.findall(
            r"^open http://127\.0\.0\.1:\d+(/\S+/)$", capsys.readouterr().out, re.M
        )
        http = await running.enter_async_context(aiohttp.ClientSession())

        async def step(name: str, **sent: str) -> tuple[str, list[str]]:
            """Press a button of the page, and return what the page says and lists then."""
            async with http.post(f"{url}{word}{name}", data=sent) as answer:
                page = await answer.text()
            (said,) = re.findall(r'<p role="status">(.*?)\s*</p>', page, re.S)
            return said, re.findall("<li>(.*?)</li>", page)

        async with http.get(f"{url}{word}") as answer:
            (did,) = re.findall(r"is (did:key:\w+), with", await answer.text())
        assert await step("fetch") == ("this owner granted nothing", [])
        assert await step("key", key="another key") == ("The key is stored.", [])
        said, _ = await step("grant")
        assert said == "The backend may use the key until you revoke the grant."
        assert await step("fetch") == ("the service of the meetings refused the key", [])
        await step("key", key=VALUE)
        fetched = ("Fetched.", ["Plan of the week", "Interview with Ada"])
        assert await step("fetch") == fetched
        for path in ("/", "/key", f"/{'A' * 22}/"):
            async with http.get(url + path) as answer:
                assert answer.status == 404
        for stranger in (new_wallet().did, "nobody", ""):
            async with http.post(f"{backend}/fetch", params={"owner": stranger}) as answer:
                assert answer.status == 403
        async with Client(node.url) as owner:
            await owner.sign_in(wallet)
            granted = owner.delegations.query(direction="granted", status="active")
            (cid,) = [one.cid async for one in granted if one.delegate == did]
            await owner.delegations.revoke(cid)
        said, kept = await step("fetch")
        assert "delegation-revoked" in said and kept == fetched[1]


async def test_workflow(bench: Bench, tmp_path: Path) -> None:
    """The workflow's `run:` lines give the program the secret and keep it out of the log."""
    workflow = (EXAMPLES / "workflow.yml").read_text("utf-8")
    assert "\npermissions: {}\n" in workflow and "write" not in workflow
    assert re.findall(r"uses: (?![\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d)", workflow) == []
    steps = re.findall(r"^( *)(?:- )?run: (?:\|\n((?:\1  .*\n)+)|(.*)\n)", workflow, re.MULTILINE)
    install, deploy = [block or line for _, block, line in steps]
    assert install == 'pip install "sealspace @ $SEALSPACE_CODE"'
    (code,) = re.findall(r"^  SEALSPACE_CODE: (\S+)$", workflow, re.MULTILINE)
    assert Requirement(f"sealspace @ {code}").url == code and re.search(r"@[0-9a-f]{40}$", code), (
        "a pinned commit"
    )
    assert (await bench.desk.run("login", bench.desk.node, "--new")).status == 0
    assert (await bench.desk.run("secret", "put", "API_KEY", given=VALUE)).status == 0
    made = await bench.desk.run("token", "create", "github", "--secret", "API_KEY")
    program = tmp_path / "deploy.sh"
    program.write_text(
        '#!/bin/sh\nprintf %s "$API_KEY" > deployed\necho "deployed with $API_KEY,'
        ' ${SEALSPACE_TOKEN-no token}"\n'
    )
    program.chmod(0o755)
    # It is installed here.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = await asyncio.create_subprocess_exec(
        *("bash", "-e", "-o", "pipefail", "-c", deploy),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
        env={
            "HOME": str(tmp_path),
            "PATH": path,
            "SEALSPACE_NODE": bench.desk.node,
            "SEALSPACE_TOKEN": made.out.strip(),
        },
    )
    async with asyncio.timeout(PATIENCE_S):
        printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    assert "deployed with ***, no token" in printed and VALUE not in printed
    assert (tmp_path / "deployed").read_text() == VALUE


def test_build_workflow(tmp_path: Path) -> None:
    """PV6 to PV9: the workflow attests and uploads exactly the program that it builds."""
    text = (EXAMPLES / "program" / "build.yml").read_text("utf-8")
    assert re.findall(r"uses: (?![\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d)", text) == []
    workflow = yaml.safe_load(text)
    assert workflow[True] == {"push": {"branches": ["main"]}}  # YAML's word for `on`
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "read", "id-token": "write", "attestations": "write"}
    steps = job["steps"]
    by_action = {step["uses"].partition("@")[0]: step for step in steps if "uses" in step}
    assert by_action["actions/checkout"]["with"] == {"persist-credentials": False}
    attested = by_action["actions/attest-build-provenance"]["with"]["subject-path"]
    uploaded = by_action["actions/upload-artifact"]["with"]["path"].split()
    assert uploaded == [attested, "bundle.json"]
    order = [step.get("id") or step.get("run", "")[:5] for step in steps]
    assert order.index("cargo") < order.index("attest")

    built = "target/wasm32-wasip1/release"
    for name, does in (("rustup", ":"), ("cargo", f"mkdir -p {built}; echo wasm > {built}/a.wasm")):
        stand_in = tmp_path / name
        stand_in.write_text(f"#!/bin/sh\n{does}\n")
        stand_in.chmod(0o755)
    (tmp_path / "attestation.json").write_text("{}")
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    for step in steps:
        if "run" in step:
            named = {"BUNDLE": "attestation.json"} if "env" in step else {}
            subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
                check=True,
                cwd=tmp_path,
                env={"PATH": path, **named},
            )
    assert (tmp_path / attested).read_text() == "wasm\n"
    assert (tmp_path / "bundle.json").read_text() == "{}"
