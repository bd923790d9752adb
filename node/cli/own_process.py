"""Commands of ours as processes of their own: a node, a backend; started, waited for, stopped, killed.

Each runs in a session of its own, so that Ctrl-C reaches the command that started it alone, which stops it in order.

Example:
    node = OwnProcess("node", folder)
    await node.start("serve", "--port", "0")
    node.url  # "http://127.0.0.1:43121"
    await node.stop()
"""

import asyncio
import os
import select
import signal
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from sealspace.cli.errors import ProcessFailed

_START_LIMIT_S: Final = 60.0
_STOP_LIMIT_S: Final = 20.0
_LISTENING: Final = "listening on "
_LINES_SHOWN: Final = 20
# The process imports from where this one does, never from the current directory.
_CODE: Final = (
    "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); from sealspace.cli.root import main; sys.exit(main())"
)


class OwnProcess:
    """A command of ours that serves.

    Args:
        name: what it is, for messages and for the file that keeps what it writes.
        folder: its current folder; that file is there, `<name>.log`.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.url = ""
        self._name = name
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, *arguments: str) -> None:
        """Start the command and wait until it listens.

        Args:
            arguments: of `sealspace`. Its settings are these alone, not those of the environment.

        Raises:
            ProcessFailed: it ended, or did not listen in time.
        """
        self._process = await self._spawn(arguments, stderr=asyncio.subprocess.PIPE)
        listening = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read_log(self._process, listening))
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                self.url = await listening
        except TimeoutError:
            raise ProcessFailed(
                f"the {self._name} does not start", hint="start it again, when less runs here"
            ) from None

    async def run(self, *arguments: str) -> None:
        """Run a command that does not serve to its end, in silence.

        Raises:
            ProcessFailed: it ended with another status than 0.
        """
        with self._log.open("ab") as log:
            process = await self._spawn(arguments, stderr=log.fileno())
            try:
                failed = await process.wait() != 0
            except asyncio.CancelledError:
                await asyncio.to_thread(_kill_session, process.pid)
                await process.wait()
                raise
        if failed:
            raise self._failure()

    async def ended(self) -> None:
        """Wait until the process ends by itself.

        Raises:
            ProcessFailed: it did.
        """
        assert self._process is not None and self._reader is not None  # started
        await self._process.wait()
        await asyncio.shield(self._reader)
        raise self._failure()

    async def kill(self) -> None:
        """Kill every process of the session with SIGKILL, all at once: none can finish anything."""
        if self._process is None:
            return
        await asyncio.to_thread(_kill_session, self._process.pid)
        await self._process.wait()
        if self._reader is not None:
            await self._reader
        self._process = self._reader = None

    async def stop(self) -> None:
        """Stop it in order; kill what does not stop in time."""
        if self._process is None:
            return
        await asyncio.to_thread(_ask_to_end, self._process.pid)
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            await self.kill()

    def last_lines(self) -> list[str]:
        """Return the last lines that the process wrote."""
        return self._log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:] if self._log.exists() else []

    async def _spawn(self, arguments: tuple[str, ...], *, stderr: int) -> asyncio.subprocess.Process:
        paths = "\n".join(path for path in sys.path if path)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", _CODE, paths, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
            # The caller's settings are not this process's.
            env={name: value for name, value in os.environ.items() if not name.startswith("SEALSPACE_")},
            cwd=self._folder,
            start_new_session=True,
        )

    async def _read_log(self, process: asyncio.subprocess.Process, listening: "asyncio.Future[str]") -> None:
        """Keep what the process writes, and read from it where it listens."""
        assert process.stderr is not None  # stderr=PIPE
        with self._log.open("ab") as log:
            async for line in process.stderr:
                log.write(line)
                log.flush()
                text = line.decode(errors="replace").strip()
                if text.startswith(_LISTENING) and not listening.done():
                    listening.set_result(text.removeprefix(_LISTENING))
        if not listening.done():
            listening.set_exception(self._failure())

    def _failure(self) -> ProcessFailed:
        """Return what the process said when it ended, if it said so in our two lines."""
        happened, next_step = f"the {self._name} ended", "start it again"
        for line in self.last_lines():
            if line.startswith("sealspace: "):
                happened = f"the {self._name} ended: {line.removeprefix('sealspace: ')}"
            elif line.startswith("next: "):
                next_step = line.removeprefix("next: ")
        return ProcessFailed(happened, hint=next_step)


def _ask_to_end(session: int) -> None:
    """Send SIGTERM to the leader of a session, if it runs.

    Not by `Process.terminate`: it would reap a process that has just ended before the event loop does, which then
    reports an unknown child.
    """
    if session in _session_members(session):
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(session)
            try:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
            finally:
                os.close(handle)


def _kill_session(session: int) -> None:
    """Kill a session and wait until all its processes have ended: its leader first, which would restart the others."""
    while members := sorted(_session_members(session), key=lambda pid: pid != session):
        # A descriptor names the process for as long as it is open; a process id could be reused meanwhile.
        with ExitStack() as opened:
            for pid in members:
                with suppress(ProcessLookupError):
                    handle = os.pidfd_open(pid)
                    opened.callback(os.close, handle)
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    gone = select.poll()
                    gone.register(handle, select.POLLIN)
                    gone.poll(_STOP_LIMIT_S * 1000)


def _session_members(session: int) -> tuple[int, ...]:
    """Return the live processes of a session, its leader included; a node is one session, whatever its groups."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # After the name in brackets: state, parent, group, session.
                state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its_session) == session and state not in "ZX":
                    members.append(int(entry.name))
    return tuple(members)
