"""Grants to builds of a repository: published with provenance, granted, run and refreshed."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import wasmtime
from backend_desk import Desk
from runner_stage import ENVIRONMENT, RunnerStage, runner_stage
from sigstore_authority import SigstoreAuthority

from sealspace.apps.run_calls import call_right
from sealspace.apps.runners import call_runner
from sealspace.cli.exit_status import EXIT_STATUS
from sealspace.cli.owner_profile import read_wallet
from sealspace.client import Client
from sealspace.session import load_session

SECRET = "open sesame, says the owner"
REPOSITORY, REF = "github.com/alice/project", "refs/heads/main"
FIRST, SECOND = "a1" * 20, "b2" * 20
WORKFLOW = f"{REPOSITORY}/.github/workflows/release.yml"
INVALID = EXIT_STATUS["provenance-invalid"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def authority() -> SigstoreAuthority:
    """One Sigstore for the tests of this module."""
    return SigstoreAuthority()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module."""
    async with AsyncExitStack() as stack:
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"))


@dataclass
class Person:
    """An owner who is also the developer of a program, with a trusted root in a file."""

    desk: Desk
    stage: RunnerStage
    authority: SigstoreAuthority
    folder: Path
    owner: str = ""

    @property
    def root(self) -> tuple[str, str]:
        return "--trusted-root", str(self.folder / "root.json")

    def built(self, commit: str, **more: Any) -> tuple[str, str, str]:
        """Write a program that differs for each commit, and a bundle about it."""
        wasm = wasmtime.wat2wasm(ENVIRONMENT + f";; {commit}") + _section(commit)
        program, bundle = self.folder / "program.wasm", self.folder / "bundle.json"
        program.write_bytes(wasm)
        digest = hashlib.sha256(wasm).hexdigest()
        bundle.write_bytes(self.authority.bundle(digest, commit=commit, **more))
        return str(program), str(bundle), digest

    async def publish(self, commit: str, name: str = "digest", **more: Any) -> dict[str, Any]:
        program, bundle, _ = self.built(commit, **more)
        ran = await self.desk.run(
            *("project", "publish", name, program, "--provenance", bundle, *self.root, "--json")
        )
        assert ran.status == 0, ran
        found: dict[str, Any] = json.loads(ran.out)
        return found

    def granting(self, *more: str, project: str = "digest") -> tuple[str, ...]:
        return (
            *("runner", "grant", self.stage.url, "--repository", REPOSITORY, "--ref", REF),
            *("--secret", "API_KEY", "--program", project, "--yes", *self.root, *more),
        )

    def refreshing(self, *more: str) -> tuple[str, ...]:
        return ("runner", "grant", self.stage.url, "--refresh", "--yes", *self.root, *more)

    async def gets_the_secret(self, sha256: str, project: str = "digest") -> bool:
        """Call a version, and return whether it got the secret."""
        async with Client(
            self.desk.node, session=load_session(self.desk.home / "session.json")
        ) as client:
            wallet = read_wallet(self.desk.home / "wallet.key")
            await client.delegations.add_right(wallet, [call_right(client.kv().space.text)])
            answer = await call_runner(
                self.stage.url,
                client.session,
                {
                    "source": {"project": f"{self.owner}/{project}", "version": sha256},
                    "secretsRef": {"profile": "default", "owner": self.owner},
                },
            )
        text = json.dumps(answer)
        assert answer["status"] == "completed" or "secrets-not-granted" in text, text
        return f"API_KEY={SECRET}" in text

    async def grants(self) -> list[dict[str, Any]]:
        """Return the live grants to runners."""
        listed = json.loads((await self.desk.run("runner", "list", "--json")).out)
        return [one for one in listed if one["state"] == "active"]


def _section(text: str) -> bytes:
    """Return a custom section of WebAssembly, so that two programs differ."""
    name = text.encode()
    return bytes([0, len(name) + 1, len(name)]) + name


@pytest_asyncio.fixture(loop_scope="module")
async def person(
    stage: RunnerStage,
    authority: SigstoreAuthority,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Person:
    """A logged-in owner with a secret, for each test."""
    for variable in ("SEALSPACE_NODE", "SEALSPACE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "root.json").write_bytes(authority.trusted_root)
    trusted = stage.folder / "node"
    desk = Desk(
        stage.node.url, tmp_path / "home", trusted, stage.platform, stage.stack, capsys, monkeypatch
    )
    await desk.log_in("--space", "public")
    assert (await desk.run("secret", "put", "API_KEY", given=SECRET)).status == 0
    owner = str(json.loads((await desk.run("whoami", "--json")).out)["owner"])
    return Person(desk, stage, authority, tmp_path, owner)


async def test_from_a_build_to_the_next(person: Person) -> None:
    """PV11 to PV14: a repository's build gets the secret, and after a refresh only the next one."""
    desk, stage = person.desk, person.stage
    first = await person.publish(FIRST)
    assert first["build"]["commit"] == FIRST
    assert first["source"] == f"https://{REPOSITORY}/tree/{FIRST}"
    granted = await desk.run(*person.granting())
    assert granted.status == 0, granted
    for said in (REPOSITORY, REF, FIRST, WORKFLOW):
        assert said in granted.out
    assert "root.json, 0 days old" in granted.err
    assert await person.gets_the_secret(first["sha256"])
    unchanged = await desk.run(*person.refreshing())
    assert (unchanged.status, "unchanged" in unchanged.out) == (0, True), unchanged
    (old,) = await person.grants()

    second = await person.publish(SECOND)
    assert not await person.gets_the_secret(second["sha256"])
    refreshed = await desk.run(*person.refreshing("--json", "--repository", REPOSITORY))
    assert refreshed.status == 0, refreshed
    (found,) = json.loads(refreshed.out)
    assert (found["change"], found["revoked"]) == (f"{FIRST} → {SECOND}", old["cid"])
    assert not await person.gets_the_secret(first["sha256"])
    assert await person.gets_the_secret(second["sha256"])
    (new,) = await person.grants()
    (rule,) = new["run"]["programs"]
    assert (rule["wasmSha256"], rule["build"]) == (second["sha256"], second["build"])
    for command in (("runner", "list"), ("grant", "list"), ("backend", "show", stage.url)):
        listed = (await desk.run(*command)).out
        assert REPOSITORY in listed and REF in listed and SECOND in listed, command
