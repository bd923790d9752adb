"""The command `sealspace mcp`, which lets agents use secrets without seeing them (spec/agents.md).

It serves the Model Context Protocol on standard input and output. An agent gets three tools: list
the names of secrets, run a command with secrets, and send an HTTPS request with a secret in a
header. No answer contains a value.

    agent's call -> listed in agents.toml? -> else ask the person -> run or send -> mask -> answer
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import click
from mcp.server.mcpserver import (
    AcceptedElicitation,
    Context,
    Elicit,
    ElicitationResult,
    MCPServer,
    Resolve,
)
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from ..errors import InvalidInput, SealspaceError
from .agent_paths import is_in_project
from .agent_rules import Action, Command, FullRequest, as_rule, read_rules
from .lazy import provided
from .owner_profile import owner_home
from .paths import FOLDER
from .run import mask_patterns, text_of
from .run_masker import HTML_SAFE, Masker
from .run_process import keep_out_of_core_dumps
from .shared import HOME_VARIABLE, NODE_VARIABLE, shared

_MAX_ANSWER_BYTES = 64 << 10
_LEFT_OUT = "\n(the rest is left out)"
_MAX_QUESTION_CHARS = 2000
"""Longest question. In a longer one a person would overlook something."""
_MAX_REFUSED = 5
"""Questions that a person may leave without a yes, until the server asks no more (AG5)."""
_MAX_RUN_S = 600

_server = MCPServer("sealspace", log_level="ERROR")
_asked: dict[Action, bool] = {}
"""Questions without a yes -> whether the person said no."""


class Approval(BaseModel):
    """The person's answer to a question."""

    allow: bool


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn our errors into errors of a tool; none of them contains a value."""
    try:
        yield
    except (SealspaceError, OSError) as error:
        # The error of a time limit has no text.
        raise ToolError(str(error) or f"it was ended after {_MAX_RUN_S} s") from None


async def _approve(wanted: Action, context: Context) -> Approval | Elicit[Approval]:
    """Allow an action that is listed in `agents.toml`, or ask the person (AG3, AG5)."""
    with _refusals():
        rules = read_rules()
        if rules.allows(wanted):
            return Approval(allow=True)
        # AG5: ASCII with escapes, so that no character, tag or Markdown link hides another.
        shown = (
            json.dumps(wanted.model_dump(mode="json"), indent=1)
            .translate(HTML_SAFE)
            .replace("](", "]\\u0028")
        )
        if not (rules.ask and getattr(context.client_capabilities, "elicitation", None)):
            reason = "the host cannot ask the owner, or the file says `ask = false`"
        elif _asked.get(wanted):
            reason = "the person already said no"
        elif len({*_asked, wanted}) > _MAX_REFUSED:
            reason = "too many questions were asked; after a restart of this server it asks again"
        elif len(shown) > _MAX_QUESTION_CHARS:
            reason = "it is too long to be shown to a person"
        else:
            _asked[wanted] = False
            warning = "\nThe agent can change files that this runs or reads."
            return Elicit(
                f"An agent wants to use your secrets for this:\n{shown}"
                + warning * wanted.can_be_changed(),
                Approval,
            )
        raise InvalidInput(
            f"this is not listed in agents.toml: {reason}",
            hint=f"the owner can add these lines to the file:\n{as_rule(wanted)}",
        )


Approved = Annotated[ElicitationResult[Approval], Resolve(_approve)]


def _require(approval: ElicitationResult[Approval], wanted: Action) -> None:
    """Refuse an action without a yes (AG5)."""
    if not (isinstance(approval, AcceptedElicitation) and approval.data.allow):
        _asked[wanted] = True
        raise ToolError("the person said no; next: do not try this again")
    _asked.pop(wanted, None)


@_server.tool()
async def list_secrets(scope: str = "") -> str:
    """List the names of the owner's secrets, one a line; never a value."""
    with _refusals():
        async with owner_home().client() as client:
            return "\n".join(await client.secrets().list(scope=scope or None))


@_server.tool()
async def run_command(wanted: Command, approval: Approved) -> str:
    """Run a program with secrets as environment variables. In its output, *** replaces values.

    The program gets no other variables than HOME, PATH and LANG, and no standard input. Of its
    output, the first 64 KiB are returned.
    """
    _require(approval, wanted)
    with _refusals():
        # Another process reads the secrets, so this one never has them; and the masking is that of
        # `sealspace run`.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "sealspace", "run", "--no-project"),
            f"--only={','.join(wanted.secrets)}",
            *((f"--scope={wanted.scope}",) if wanted.scope else ()),
            # AG8: a command that ignores SIGTERM is killed with its process group.
            *("--", "timeout", "-k2", str(_MAX_RUN_S), wanted.program, *wanted.arguments),
            # AG4: no variable of the agent's host, such as LD_PRELOAD or GIT_SSH.
            env={
                "HOME": str(Path.home()),
                "LANG": "C.UTF-8",
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                HOME_VARIABLE: str(shared().home_folder),
                NODE_VARIABLE: shared().node or "",
            },
            cwd=wanted.folder,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        assert process.stdout is not None
        shown = b""
        try:
            async with asyncio.timeout(_MAX_RUN_S):
                while piece := await process.stdout.read(_MAX_ANSWER_BYTES):
                    shown += piece[: _MAX_ANSWER_BYTES - len(shown)]
                end = _LEFT_OUT * (len(shown) == _MAX_ANSWER_BYTES)
                return f"exit status {await process.wait()}\n{shown.decode(errors='replace')}{end}"
        finally:
            if process.returncode is None:
                process.terminate()


@_server.tool()
async def https_request(wanted: FullRequest, approval: Approved) -> str:
    """Send an HTTPS request with a secret in a header. In the answer, *** replaces the value.

    Of the answer, the first 64 KiB are returned.
    """
    _require(approval, wanted)
    requests = provided("https-requests")
    with _refusals():
        async with owner_home().client() as client:
            value = await client.secrets().get(wanted.secret, scope=wanted.scope or None)
        patterns = mask_patterns({wanted.secret: value})
        if not patterns:
            raise InvalidInput(f"the secret {wanted.secret} is too short to be masked")
        texts = (
            *(wanted.method, f"https://{wanted.host}{wanted.path}"),
            *(wanted.header, wanted.prefix + text_of(value)),
            *("Content-Type", wanted.content_type, wanted.body),
        )
        masker = Masker(patterns)
        try:
            request = requests.parse_request(
                requests.pack_parts([text.encode() for text in texts]),
                hosts={wanted.host.partition(":")[0]},
                any_port=True,
            )
            async with (
                requests.Outbound(loopback_ca=read_rules().loopback_ca) as outbound,
                outbound.response(request) as response,
            ):
                head = (name + b": " + value + b"\n" for name, value in response.raw_headers)
                shown = masker.feed(b"".join((*head, b"\n")))
                async for piece in response.content.iter_any():
                    shown += masker.feed(piece)
                    if len(shown) > _MAX_ANSWER_BYTES:
                        break
                # Not `end`: where the connection broke, it would return the beginning of a value.
                shown = (shown + masker.flush())[:_MAX_ANSWER_BYTES]
                end = _LEFT_OUT * (len(shown) == _MAX_ANSWER_BYTES)
                return f"status {response.status}\n{shown.decode(errors='replace')}{end}"
        except requests.RequestRefused as refused:
            # The code only: its cause could contain a part of the header.
            raise InvalidInput(
                f"no answer from {wanted.host}: {refused.code}",
                hint="check host, path and header; the host needs a public address",
            ) from None


@click.command()
@click.option(
    "--project",
    type=FOLDER,
    default=".",
    help="Folder in which the agent works. Default: the current folder.",
)
def mcp(project: Path) -> None:
    """Let agents use secrets without seeing them (Model Context Protocol).

    The tools list the names of secrets, run commands with secrets, and send HTTPS requests with a
    secret in a header. What is listed in ~/.sealspace/agents.toml runs at once; about everything
    else the agent's host asks you. Values are replaced by `***`. This is no protection against a
    program that wants to print a secret.
    """
    keep_out_of_core_dumps()
    os.chdir(project)
    # AG1: an agent that changes these changes what it may do.
    for variable in os.environ:
        if variable.startswith("SEALSPACE_"):
            raise InvalidInput(
                f"this command does not accept the variable {variable}",
                hint="use options: sealspace mcp --home DIR --node URL",
            )
    for place in (Path.home(), shared().home_folder, Path(sys.executable), Path(__file__)):
        if not place.is_absolute() or is_in_project(place):
            raise InvalidInput(
                f"{place} is in the folder {Path.cwd()}, where the agent can change it",
                hint="use --project with the folder of the agent's project, --home with an absolute"
                " path, and an installation of sealspace elsewhere",
            )
    owner_home().profile()
    read_rules()
    _server.run("stdio")
