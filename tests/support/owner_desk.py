"""An owner's machine and a node in this process. Commands run on a separate thread, as if in a
separate process.

Example:
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        await desk.log_in()
        assert (await desk.run("secret", "list")).out == ""
"""

import asyncio
import getpass
import io
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from embedded_node import EmbeddedNode, embedded_node
from tests_support import Input

from node.config.tree import Config, Hosting, Http, PublicSpaces, Store
from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.session import load_session


@dataclass
class Ran:
    """The exit status and output of a command."""

    status: int
    out: str
    err: str

    @property
    def happened(self) -> str:
        """Return the first line of an error message, which says what happened."""
        first, _ = self.err.splitlines()
        return first.removeprefix("sealspace: ")

    @property
    def next(self) -> str:
        """Return the second line of an error message, which gives the next step."""
        last = self.err.splitlines()[-1]
        assert last.startswith("next: "), self
        return last.removeprefix("next: ")


def without_home(text: str, home: Path) -> str:
    """Return messages as they are without the option `--home`."""
    return text.replace(f"sealspace --home {shlex.quote(str(home))} ", "sealspace ")


@dataclass
class OwnerDesk:
    """An owner's machine and the address of a node."""

    served: EmbeddedNode
    node: str
    home: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    async def run(
        self,
        *arguments: str,
        given: str | bytes = "",
        typed: str | None = None,
        home: Path | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Ran:
        """Run a command. `given` is piped input; `typed` comes from a terminal, after `meanwhile`
        ran."""
        text = given.decode("latin-1") if isinstance(given, bytes) else given
        stdin = Input(typed or text, is_terminal=typed is not None)
        if isinstance(given, bytes):
            stdin.buffer.seek(0)
            stdin.buffer.truncate()
            stdin.buffer.write(given)
            stdin.buffer.seek(0)
        if meanwhile is not None:
            stdin.before_yes = meanwhile
        self.monkeypatch.setattr(sys, "stdin", stdin)
        # A prompt without echo would read from the terminal in which the tests run. A real terminal
        # is tested in `test_secrets_and_values`.
        self.monkeypatch.setattr(
            getpass, "getpass", lambda _prompt, _stream=None: stdin.readline().rstrip("\n")
        )
        self.monkeypatch.setattr(sys.stderr, "isatty", lambda: typed is not None)
        self.capsys.readouterr()
        status = await asyncio.to_thread(main, [*arguments, "--home", str(home or self.home)])
        reported = self.capsys.readouterr()
        return Ran(status, reported.out, without_home(reported.err, home or self.home))

    async def read(self, *arguments: str) -> bytes:
        """Run a command that must succeed, and return its output as bytes."""
        self.monkeypatch.setattr(sys, "stdin", Input())
        with self.monkeypatch.context() as patch:
            pipe = io.TextIOWrapper(io.BytesIO())
            patch.setattr(sys, "stdout", pipe)
            status = await asyncio.to_thread(main, [*arguments, "--home", str(self.home)])
        assert status == 0, (arguments, self.capsys.readouterr().err)
        pipe.flush()
        held = pipe.detach()
        assert isinstance(held, io.BytesIO)
        return held.getvalue()

    def use_terminal(self) -> None:
        """Make standard output a terminal from now on."""
        self.monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    async def log_in(self, *more: str) -> Ran:
        """Sign in with a new key."""
        ran = await self.run("login", self.node, "--new", *more)
        assert ran.status == 0, ran
        return ran

    def client(self) -> Client:
        """Return an SDK client with the stored session."""
        return Client(self.node, session=load_session(self.home / "session.json"))


@asynccontextmanager
async def owner_desk(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    hosting: Hosting | None = None,
) -> AsyncIterator[OwnerDesk]:
    """Start a node; the owner's folder does not exist yet."""
    for variable in ("SEALSPACE_NODE", "SEALSPACE_HOME", "SEALSPACE_KEYSTORE_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(folder / "data")),
        hosting=hosting or Hosting(),
        # On a fast machine a test may ask for successions more often than one client may.
        public_spaces=PublicSpaces(requests_per_minute=0),
    )
    async with embedded_node(config) as node:
        yield OwnerDesk(node, node.url, folder / "home", capsys, monkeypatch)
