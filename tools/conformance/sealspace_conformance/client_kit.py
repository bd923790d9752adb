"""The kit for clients: a command is run against a fake node, once for each lie of the node."""

import argparse
import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiohttp import web

from sealspace_conformance.client_requests import Examination, examine
from sealspace_conformance.fake_node import FakeNode, Lie, lies
from sealspace_conformance.report import (
    FAILED,
    NOT_APPLICABLE,
    PASSED,
    Row,
    as_json,
    exit_status,
    print_table,
    shown,
)

URL = "SEALSPACE_CONFORMANCE_URL"
DID = "SEALSPACE_CONFORMANCE_DID"
VALUE = "SEALSPACE_CONFORMANCE_VALUE"
_MOST_OUTPUT = 1024 * 1024
_TIMEOUT_S = 60.0
_NO_CLIENT = 2


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit status (None: it was stopped), and its output."""

    status: int | None
    output: bytes
    node: FakeNode
    value: str

    @property
    def has_value(self) -> bool:
        """Whether the output has the secret's value."""
        return self.value.encode() in self.output

    @property
    def words(self) -> str:
        """The outcome for the report."""
        if self.status is None:
            return "the command did not end in time"
        printed = "printed the value" if self.has_value else "did not print the value"
        return f"status {self.status}, {printed}"


@asynccontextmanager
async def _served(node: FakeNode) -> AsyncIterator[str]:
    runner = web.AppRunner(node.app(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def run_command(
    command: Sequence[str], lie: Lie | None, *, timeout_s: float = _TIMEOUT_S
) -> Outcome:
    """Run the command against a fake node of its own.

    Raises:
        OSError: the command cannot be started.
    """
    node = FakeNode(lie=lie)
    value = secrets.token_hex(16)
    async with _served(node) as url:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, URL: url, DID: node.key.did, VALUE: value},
            start_new_session=True,
        )
        assert process.stdout is not None
        status: int | None = None
        output = b""
        try:
            async with asyncio.timeout(timeout_s):
                output = await _read(process.stdout)
                status = await process.wait()
        except TimeoutError:
            pass
        finally:
            # also what the command left running
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Outcome(status=status, output=output, node=node, value=value)


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Return the beginning of an output, and read all of it."""
    kept = bytearray()
    while chunk := await stream.read(65_536):
        kept += chunk[: _MOST_OUTPUT - len(kept)]
    return bytes(kept)


def _honest(outcome: Outcome) -> Row:
    is_right = outcome.status == 0 and outcome.has_value
    seen = outcome.words
    if not is_right and outcome.node.unknown:
        seen += f"; asked for unknown routes: {', '.join(outcome.node.unknown[:5])}"
    return _row("J5", "true answers", "status 0, and the value is printed", seen, ok=is_right)


def _row(rule: str, asked: str, expected: str, seen: str, *, ok: bool) -> Row:
    return Row(
        rule=rule,
        group="client",
        asked=asked,
        expected=expected,
        seen=shown(seen),
        verdict=PASSED if ok else FAILED,
    )


def _judge(lie: Lie, outcome: Outcome) -> Row:
    if not outcome.node.told:
        return Row(
            rule=lie.rule,
            group="client",
            asked=lie.told,
            expected="",
            seen="the client did not ask for this answer",
            verdict=NOT_APPLICABLE,
        )
    stopped = outcome.status is not None and outcome.status != 0
    is_sealed = "descriptor" in lie.step and outcome.node.sealed_after > 0
    seen = outcome.words
    if is_sealed:
        seen += ", and stored a secret after the lie"
    expected = "another status than 0, the value is not printed"
    if "descriptor" in lie.step:
        expected += ", and no secret is stored after the lie"
    refused = stopped and not outcome.has_value and not is_sealed
    return _row(lie.rule, lie.told, expected, seen, ok=refused)


async def run_client(
    command: Sequence[str], *, told: Collection[str] = (), timeout_s: float = _TIMEOUT_S
) -> list[Row]:
    """Run a command once with true answers, and then with each lie.

    Args:
        command: the program and its arguments.
        told: the lies that are told, by their `told`; empty: all of them.
        timeout_s: the time for one run of the command.
    """
    outcome = await run_command(command, None, timeout_s=timeout_s)
    rows = [_honest(outcome)]
    if rows[0].verdict == FAILED:
        return rows
    node = outcome.node
    rows += examine(
        Examination(
            node=node.key.did,
            network_key=node.network_key,
            value=outcome.value,
            now=time.time(),
            seen=node.seen,
        )
    )
    for lie in lies():
        if told and lie.told not in told:
            continue
        rows.append(_judge(lie, await run_command(command, lie, timeout_s=timeout_s)))
    return rows


def main(arguments: Sequence[str]) -> int:
    """Run the kit for clients; return 0, 1 if a row failed, 2 if the command cannot be started."""
    parser = argparse.ArgumentParser(
        prog="sealspace-conformance client",
        description="Run a client against a fake node that lies, once for each lie. The command"
        f" signs in as a new owner at ${URL}, whose DID is ${DID}, stores ${VALUE} as two secrets"
        " in one session, reads the first one, prints it, and ends with status 0; it ends with"
        " another status if it refuses something.",
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--every", action="store_true", help="show what was seen in every row")
    parser.add_argument(
        "--timeout", type=float, default=_TIMEOUT_S, help="seconds for one run of the command"
    )
    parser.add_argument("command", nargs="+", help="the command, behind --")
    options = parser.parse_args(arguments)
    try:
        rows = asyncio.run(run_client(options.command, timeout_s=options.timeout))
    except OSError as error:
        print(
            f"the command cannot be started: {error.strerror}; next: give a program behind --",
            file=sys.stderr,
        )
        return _NO_CLIENT
    if options.json:
        print(as_json(" ".join(options.command), rows))
    else:
        print_table(rows, every=options.every)
    return exit_status(rows)
