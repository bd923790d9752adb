"""The commands `sealspace team invite` and `join` while they wait for each other.

Both run as programs of their own; the admin's is at a terminal.
"""

import asyncio
import os
import pty
import select
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass

from forked_programs import forked_program
from patience import PATIENCE_S
from team_desk import Team


@dataclass
class Meeting:
    """Two programs that have shown the same words, before the admin answers."""

    team: Team
    inviting: Process
    joining: Process
    terminal: int
    words: str

    async def answer(self, answer: bytes) -> tuple[int, int, str]:
        """Answer the admin's question. Return both exit statuses, and what Bob's program said."""
        os.write(self.terminal, answer)
        _, err = await asyncio.wait_for(self.joining.communicate(), PATIENCE_S)
        admin_status = await asyncio.wait_for(self.inviting.wait(), PATIENCE_S)
        os.close(self.terminal)
        assert self.joining.returncode is not None
        return admin_status, self.joining.returncode, err.decode()


async def start(team: Team, person: str, *arguments: str, terminal: int | None = None) -> Process:
    """Start a command of a person, at a terminal or with pipes."""
    home = str(team.folder / person / ".sealspace")
    return await asyncio.create_subprocess_exec(
        *(forked_program("sealspace"), "--home", home, "team", *arguments),
        stdin=PIPE if terminal is None else terminal,
        stdout=PIPE,
        stderr=PIPE if terminal is None else terminal,
    )


def read_until(terminal: int, text: str) -> str:
    """Return what a terminal shows, up to and with a text."""
    shown = b""
    while text.encode() not in shown:
        ready, _, _ = select.select([terminal], [], [], PATIENCE_S)
        assert ready, shown
        shown += os.read(terminal, 4096)
    return shown.decode()


async def met(team: Team) -> Meeting:
    """Let Alice invite Bob, and both wait until the words are shown."""
    await team.log_in("bob")
    terminal, other_end = pty.openpty()
    inviting = await start(team, "alice", "invite", "--role", "reader", terminal=other_end)
    os.close(other_end)
    assert inviting.stdout is not None
    line = await asyncio.wait_for(inviting.stdout.readline(), PATIENCE_S)
    await asyncio.to_thread(read_until, terminal, "waiting for the other person")
    joining = await start(team, "bob", "join", "-")
    assert joining.stdin is not None
    joining.stdin.write(line)
    joining.stdin.close()
    shown = await asyncio.to_thread(read_until, terminal, "[y/N]")
    (words,) = [text for text in shown.splitlines() if text.startswith("words: ")]
    return Meeting(team, inviting, joining, terminal, words.strip())


async def test_TM13_both_wait(team: Team) -> None:
    """TM13: both programs wait, show the same words, and end when the admin has confirmed."""
    meeting = await met(team)
    admin_status, status, said = await meeting.answer(b"y\n")
    assert (admin_status, status) == (0, 0), said
    assert meeting.words in said
    assert "waiting for the admin" in said
    assert await team.reads("bob", "API_KEY", "--as", "shop") == "open sesame"


async def test_TM13_the_admin_says_no(team: Team) -> None:
    """TM13: if the admin answers no, the other program ends too, and nobody is admitted."""
    meeting = await met(team)
    admin_status, status, said = await meeting.answer(b"n\n")
    assert (admin_status, status) == (12, 12), said
    assert "the admin did not confirm the words" in said
    assert set(await team.roles("alice")) == {"alice"}
