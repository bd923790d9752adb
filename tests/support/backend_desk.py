"""An owner's machine, a node in this process that trusts a simulated platform, and backends on that
platform.

Example:
    async def test_a_command(desk: Desk) -> None:
        await desk.log_in()
        ran = await desk.run("secret", "list", "--json")
"""

import asyncio
import hashlib
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from backend_site import Domain, Program, serving
from deviating_platform import SimulatedPlatform
from owner_desk import Ran, without_home
from tests_support import Input

from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.session import key_session
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import SIMULATED_KEY_PROVIDER, measurements_of, mint_event_log

COMPOSE = f"services:\n  notes:\n    image: acme/notes@sha256:{'01' * 32}\n"
EVIL = f"services:\n  evil:\n    image: acme/evil@sha256:{'02' * 32}\n"
COMPOSE_HASH = hashlib.sha256(COMPOSE.encode()).hexdigest()
PROVIDER = f"kms:{SIMULATED_KEY_PROVIDER.id.hex()}"
IMAGE = replace(measurements_of("image"), rtmr3=None)
SECRET = "open sesame, says the owner"


@dataclass
class Site:
    """A running backend."""

    url: str
    program: Program


@dataclass
class Desk:
    """An owner's machine, a node, and backends."""

    node: str
    home: Path
    folder: Path
    platform: SimulatedPlatform
    stack: AsyncExitStack
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    async def run(
        self, *arguments: str, given: str = "", typed: str | None = None, home: bool = True
    ) -> Ran:
        """Run a command on a separate thread, as if in a separate process."""
        self.monkeypatch.setattr(sys, "stdin", Input(typed or given, is_terminal=typed is not None))
        self.monkeypatch.setattr(sys.stderr, "isatty", lambda: typed is not None)
        self.capsys.readouterr()
        words = [*arguments, *(("--home", str(self.home)) if home else ())]
        status = await asyncio.to_thread(main, words)
        reported = self.capsys.readouterr()
        named = Path(words[words.index("--home") + 1]) if "--home" in words else self.home
        return Ran(status, reported.out, without_home(reported.err, named))

    async def log_in(self, *more: str) -> Ran:
        trust = (
            "--trust-root",
            str(self.folder / "root.pem"),
            "--collateral",
            str(self.folder / "collateral"),
        )
        ran = await self.run("login", self.node, "--new", *trust, *more)
        assert ran.status == 0, ran
        return ran

    async def backend(
        self,
        compose: str = COMPOSE,
        *,
        seed: int = 1,
        wants: tuple[str, ...] = ("API_KEY",),
        publishes: bool = True,
    ) -> Site:
        domain = Domain(
            self.platform, IMAGE, mint_event_log(hashlib.sha256(compose.encode()).digest())
        )
        client = await self.stack.enter_async_context(
            Client(self.node, session=key_session(bytes(31) + bytes([seed])))
        )
        program = Program(client, Backend(client, domain), wants)
        asked: dict[str, Any] = {"app_id": "com.example", "name": "Notes", "defaults": False}
        surface = BackendSurface(
            domain,
            did=program.backend.did,
            manifest={**asked, "secrets": dict.fromkeys(wants, True)},
            compose=compose if publishes else None,
            on_grant=program.accept,
        )
        return Site(await self.stack.enter_async_context(serving(surface)), program)
