"""An owner who publishes builds of a repository, and grants secrets to them.

Example:
    version = await person.publish(commit)
    await person.desk.run(*person.granting())
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wasmtime
from backend_desk import Desk
from msgspec import convert
from runner_stage import ENVIRONMENT, RunnerStage
from sigstore_authority import SigstoreAuthority
from tests_support import FixedClock

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.clock_and_entropy import Clock, SystemClock
from capabilities.strict_json import JsonObject
from sealspace.apps.backends import policy_for
from sealspace.apps.run_calls import call_right
from sealspace.apps.runners import call_runner
from sealspace.cli.owner.owner_profile import OwnerHome, read_wallet
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.builds import Build
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.session import load_session

SECRET = "open sesame, says the owner"
REPOSITORY, REF = "github.com/alice/project", "refs/heads/main"
DAY = 86_400.0


@dataclass
class RepositoryOwner:
    """An owner who is also the developer of a program, with a trusted root in a file."""

    desk: Desk
    stage: RunnerStage
    authority: SigstoreAuthority
    folder: Path
    owner: str = ""

    @property
    def root(self) -> tuple[str, str]:
        return "--trusted-root", str(self.folder / "root.json")

    def built(
        self,
        commit: str,
        *,
        sha256: str = "",
        cut: tuple[Any, ...] = (),
        padding: int = 0,
        hand_made: bool = False,
        **more: Any,
    ) -> tuple[str, str, str]:
        """Write a program that differs for each commit, and a bundle about it or other bytes.

        From the bundle, one member may be cut out, and it may be padded or made by hand.
        """
        wasm = wasmtime.wat2wasm(ENVIRONMENT) + _section(commit)
        program, file = self.folder / "program.wasm", self.folder / "bundle.json"
        program.write_bytes(wasm)
        digest = hashlib.sha256(wasm).hexdigest()
        bundle = json.loads(self.authority.bundle(sha256 or digest, commit=commit, **more))
        if cut:
            *path, last = cut
            inner = bundle
            for name in path:
                inner = inner[name]
            del inner[last]
        if hand_made:
            bundle = {"mediaType": bundle["mediaType"], "dsseEnvelope": bundle["dsseEnvelope"]}
        file.write_text(json.dumps(bundle) + " " * padding)
        return str(program), str(file), digest

    def desk_client(self, clock: Clock | None = None) -> Client:
        """Return a client with the stored session."""
        session = load_session(self.desk.home / "session.json")
        return Client(self.desk.node, session=session, clock=clock)

    async def kept_grant(
        self,
        version: dict[str, Any],
        *,
        did: str | None = None,
        ttl_s: float = 7 * DAY,
        age_s: float = 0,
    ) -> None:
        """Make a grant for a version, some time ago, that is not sent to the runner."""
        build = convert(version["build"], Build)
        rule = ByHash(version["sha256"], parse_project(version["project"]), build)
        wallet, seen = read_wallet(self.desk.home / "wallet.key"), await self.stage.look()
        async with self.desk_client(FixedClock(SystemClock.now() - age_s)) as client:
            secret = client.secrets().resource("API_KEY")
            portable = await client.delegations.delegate(
                did or seen.did,
                [allow(secret, KV_GET), allow(client.encryption.network().text, DECRYPT)],
                ttl_s=ttl_s,
                policy=policy_for(seen, paths=[secret], ttl_s=ttl_s),
                run=RunStatement(programs=(rule,)),
                wallet=wallet,
            )
        OwnerHome(self.desk.home).keep_grant(portable, url=self.stage.url)

    async def publish(self, commit: str, name: str = "digest", **more: Any) -> dict[str, Any]:
        """Publish a build with its provenance, and return the published version."""
        program, bundle, _ = self.built(commit, **more)
        ran = await self.desk.run(
            *("project", "publish", name, program, "--provenance", bundle, *self.root, "--json")
        )
        assert ran.status == 0, ran
        found: dict[str, Any] = json.loads(ran.out)
        return found

    def granting(self, *more: str, project: str = "digest") -> tuple[str, ...]:
        """Return the command that grants the secret to builds of the repository."""
        return (
            *("runner", "grant", self.stage.url, "--repository", REPOSITORY, "--ref", REF),
            *("--secret", "API_KEY", "--program", project, "--yes", *self.root, *more),
        )

    def refreshing(self, *more: str) -> tuple[str, ...]:
        """Return the command that refreshes the grants."""
        return ("runner", "grant", self.stage.url, "--refresh", "--yes", *self.root, *more)

    async def gets_the_secret(self, sha256: str | None, project: str = "digest") -> bool:
        """Call a version, or the active one, and return whether it got the secret."""
        source: JsonObject = {"project": f"{self.owner}/{project}"}
        if sha256 is not None:
            source["version"] = sha256
        async with self.desk_client() as client:
            wallet = read_wallet(self.desk.home / "wallet.key")
            await client.delegations.add_right(wallet, [call_right(client.kv().space.text)])
            answer = await call_runner(
                self.stage.url,
                client.session,
                {
                    "source": source,
                    "secretsRef": {"profile": "default", "owner": self.owner},
                },
            )
        text = json.dumps(answer)
        is_refused = "secrets-not-granted" in text or "build-not-proven" in text
        assert answer["status"] == "completed" or is_refused, text
        return f"API_KEY={SECRET}" in text

    async def grants(self) -> list[dict[str, Any]]:
        """Return the live grants to runners."""
        listed = json.loads((await self.desk.run("runner", "list", "--json")).out)
        return [one for one in listed if one["state"] == "active"]


def _section(text: str) -> bytes:
    """Return a custom section of WebAssembly that makes two programs differ."""
    return bytes([0, len(text) + 1, len(text)]) + text.encode()
