"""An owner's machine, on which commands run in separate processes.

Example:
    await owner.store_secrets(API_KEY="open sesame")
    ran = await owner.run("run", "--", "env")
"""

import asyncio
import base64
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from owner_desk import OwnerDesk
from patience import PATIENCE_S
from running_node import COMMAND
from tests_support import REPOSITORY

LIMIT_S = PATIENCE_S


@dataclass(frozen=True)
class Machine:
    """A home, a temporary folder and a current folder, without a login.

    Attributes:
        folder: where these are.
        command: starts `sealspace`.
    """

    folder: Path
    command: Sequence[str] = field(default=COMMAND, kw_only=True)

    @property
    def environment(self) -> dict[str, str]:
        places = {name: str(self.folder / name.lower()) for name in ("HOME", "TMPDIR")}
        inherited = {
            name: text for name, text in os.environ.items() if not name.startswith("SEALSPACE_")
        }
        return {**inherited, **places, "PYTHONPATH": str(REPOSITORY)}

    @property
    def here(self) -> Path:
        return self.folder / "here"

    def start(self, *arguments: str, **variables: str) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        environment = {**self.environment, **variables}
        return subprocess.Popen(
            [*self.command, *arguments],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=environment,
            cwd=self.here,
        )

    async def run(
        self, *arguments: str, given: bytes = b"", **variables: str
    ) -> "subprocess.CompletedProcess[bytes]":
        def run_to_end() -> "subprocess.CompletedProcess[bytes]":
            with self.start(*arguments, **variables) as process:
                out, err = process.communicate(given, timeout=LIMIT_S)
            return subprocess.CompletedProcess(process.args, process.returncode, out, err)

        return await asyncio.to_thread(run_to_end)

    def files_with(self, hidden: str) -> list[Path]:
        """Return the files of home, temporary folder and current folder that contain a value,
        plainly or encoded."""
        forms = (
            hidden.encode(),
            base64.b64encode(hidden.encode())[:-4],
            hidden.encode().hex().encode(),
        )
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return [path for path in found if any(form in path.read_bytes() for form in forms)]


def new_machine(folder: Path) -> Machine:
    for name in ("home", "tmpdir", "here"):
        (folder / name).mkdir(parents=True)
    return Machine(folder)


@dataclass(frozen=True)
class Owner(Machine):
    """A logged-in owner with a machine of their own."""

    desk: OwnerDesk

    async def store_secrets(self, scope: str | None = None, **values: str | bytes) -> None:
        async with self.desk.client() as client:
            for name, value in values.items():
                await client.secrets().put(name, value, scope=scope)
