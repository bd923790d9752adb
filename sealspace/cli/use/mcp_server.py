"""The command `sealspace mcp`, which lets agents use secrets without seeing them (spec/agents.md).

It serves the Model Context Protocol on standard input and output. An agent gets three tools: list
the names of secrets, run a command with secrets, and send an HTTPS request with a secret in a
header. No answer contains a value.

    agent's call -> listed in agents.toml? -> else ask the person -> run or send -> mask -> answer
"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from mcp.server.elicitation import render_elicitation_schema
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    InputResponse,
)
from mcp_types.version import is_version_at_least
from pydantic import BaseModel

from ...errors import InvalidInput, SealspaceError
from ..options.paths import FOLDER
from ..owner.chosen_team import OWN, chosen_team
from ..owner.owner_profile import owner_home
from ..provided import https_requests
from ..shared import HOME_VARIABLE, NODE_VARIABLE, shared
from .agent_paths import is_in_project
from .agent_questions import Outcome, Question, Questions, question_text, unlisted
from .agent_rules import Action, Command, FullRequest, read_rules
from .passed_values import mask_patterns, text_of
from .run_masker import Masker
from .run_process import keep_out_of_core_dumps

_MAX_ANSWER_BYTES = 64 << 10
_LEFT_OUT = "\n(the rest is left out)"
_MAX_RUN_S = 600

_ANSWER_KEY = "allow"
_ASKS_BETWEEN_CALLS = "2026-07-28"
"""First version of the protocol in which the answer to a question comes with another call."""

_server = MCPServer("sealspace", log_level="ERROR")
_questions = Questions()


class Approval(BaseModel):
    """The person's answer to a question."""

    allow: bool


@contextmanager
def _convert_errors() -> Iterator[None]:
    """Turn our errors into errors of a tool; none of them contains a value."""
    try:
        yield
    except (SealspaceError, OSError) as error:
        # The error of a time limit has no text.
        raise ToolError(str(error) or f"it was ended after {_MAX_RUN_S} s") from None


async def _approve(wanted: Action, context: Context) -> InputRequiredResult | None:
    """Allow an action that is listed in `agents.toml`, or ask the person (AG3, AG5).

    Returns None if the action is allowed. For a host that asks between two calls, returns the
    question, with which the call ends.

    Raises:
        InvalidInput: the action is not allowed.
    """
    rules = read_rules()
    if rules.allows(wanted):
        return None
    if not (rules.ask and _can_ask(context)):
        raise unlisted(wanted, "the host cannot ask the owner, or the file says `ask = false`")
    schema = render_elicitation_schema(Approval)
    version = context.protocol_version
    if version is not None and is_version_at_least(version, _ASKS_BETWEEN_CALLS):
        # The person's answer comes with a second call, which names the question by its id. So an
        # answer counts once.
        question = _questions.find(wanted, context.request_state)
        if question is None:
            question = await _questions.begin(wanted)
            form = ElicitRequestFormParams(message=question.text, requested_schema=schema)
            return InputRequiredResult(
                input_requests={_ANSWER_KEY: ElicitRequest(params=form)},
                request_state=question.id,
            )
        _judge(question, (context.input_responses or {}).get(_ANSWER_KEY))
        return None
    question = await _questions.begin(wanted)
    try:
        answer = await context.request_context.session.elicit_form(
            question.text, schema, related_request_id=context.request_id
        )
        _judge(question, answer)
    finally:
        # A question is left if the call was cancelled or the host could not ask. The outcome of a
        # question that `_judge` ended does not change.
        _questions.end(question, Outcome.UNANSWERED)
    return None


def _can_ask(context: Context) -> bool:
    """Return whether the host shows questions with a form for the answer."""
    capabilities = context.client_capabilities
    elicitation = None if capabilities is None else capabilities.elicitation
    if elicitation is None:
        return False
    # A host from before the protocol had modes names neither form nor URL. It shows forms.
    return elicitation.form is not None or elicitation.url is None


def _judge(question: Question, answer: InputResponse | None) -> None:
    """End a question with the host's answer.

    Raises:
        InvalidInput: the answer is no yes.
    """
    match answer:
        case ElicitResult(action="accept", content={"allow": True}):
            # What the person did not see, such as a new warning, was not allowed.
            if question.text != question_text(question.action):
                _questions.end(question, Outcome.UNANSWERED)
                raise unlisted(question.action, "it changed after the person was asked")
            if not _questions.end(question, Outcome.YES):
                raise unlisted(question.action, "the answer came too late")
        case ElicitResult(action="decline" | "cancel") | ElicitResult(content={"allow": False}):
            _questions.end(question, Outcome.NO)
            raise InvalidInput("the person said no", hint="do not try this again")
        case _:
            _questions.end(question, Outcome.NO)
            raise InvalidInput(
                "the host's answer is neither yes nor no",
                hint="do not try this again: report it to the person",
            )


@_server.tool()
async def list_secrets(scope: str = "") -> str:
    """List the names of the owner's secrets, one a line; never a value."""
    with _convert_errors():
        async with owner_home().client() as client:
            return "\n".join(await client.secrets().list(scope=scope or None))


@_server.tool()
async def run_command(wanted: Command, context: Context) -> str | InputRequiredResult:
    """Run a program with secrets as environment variables. In its output, *** replaces values.

    The program gets no other variables than HOME, PATH and LANG, and no standard input. Of its
    output, the first 64 KiB are returned.
    """
    with _convert_errors():
        question = await _approve(wanted, context)
    if question is not None:
        return question
    with _convert_errors():
        # `sealspace run` reads the secrets and masks them, so this process never has them.
        command = [sys.executable, "-P", "-m", "sealspace", "run", "--no-project"]
        # Another `sealspace use` in the meantime does not change whose secrets the agent gets.
        command.append(f"--as={shared().given_team or OWN}")
        command.append(f"--only={','.join(wanted.secrets)}")
        if wanted.scope:
            command.append(f"--scope={wanted.scope}")
        # `timeout` kills a command that ignores SIGTERM, with its process group (AG8).
        command += ["--", "timeout", "-k2", str(_MAX_RUN_S), wanted.program, *wanted.arguments]
        process = await asyncio.create_subprocess_exec(
            *command,
            # No variable of the agent's host, such as LD_PRELOAD or GIT_SSH (AG4).
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
                # All output is read, or the command would wait for a full pipe. Only the
                # beginning is kept.
                while piece := await process.stdout.read(_MAX_ANSWER_BYTES):
                    shown += piece[: _MAX_ANSWER_BYTES - len(shown)]
                end = _LEFT_OUT if len(shown) == _MAX_ANSWER_BYTES else ""
                return f"exit status {await process.wait()}\n{shown.decode(errors='replace')}{end}"
        finally:
            if process.returncode is None:
                process.terminate()


@_server.tool()
async def https_request(wanted: FullRequest, context: Context) -> str | InputRequiredResult:
    """Send an HTTPS request with a secret in a header. In the answer, *** replaces the value.

    Of the answer, the first 64 KiB are returned.
    """
    with _convert_errors():
        question = await _approve(wanted, context)
    if question is not None:
        return question
    with _convert_errors():
        async with owner_home().client() as client:
            value = await client.secrets().get(wanted.secret, scope=wanted.scope or None)
        patterns = mask_patterns({wanted.secret: value})
        if not patterns:
            raise InvalidInput(f"the secret {wanted.secret} is too short to be masked")
        headers = (
            (wanted.header, wanted.prefix + text_of(value)),
            ("Content-Type", wanted.content_type),
        )
        masker = Masker(patterns)
        async with https_requests().https_response(
            wanted.method,
            f"https://{wanted.host}{wanted.path}",
            headers,
            wanted.body,
            loopback_ca=read_rules().loopback_ca,
        ) as response:
            lines = [name + b": " + content + b"\n" for name, content in response.raw_headers]
            shown = masker.feed(b"".join([*lines, b"\n"]))
            async for piece in response.content.iter_any():
                shown += masker.feed(piece)
                if len(shown) > _MAX_ANSWER_BYTES:
                    break
            # `end` would also return a held-back beginning of a value. Its rest may be missing,
            # because the answer was cut off or the connection broke (AG7).
            shown = (shown + masker.flush())[:_MAX_ANSWER_BYTES]
            end = _LEFT_OUT if len(shown) == _MAX_ANSWER_BYTES else ""
            return f"status {response.status}\n{shown.decode(errors='replace')}{end}"


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
    chosen = chosen_team(owner_home(), with_project=False)
    if chosen is not None and shared().given_team is None:
        # The rules in agents.toml were written for one owner's secrets.
        raise InvalidInput(
            f"the team {chosen.name} is chosen, and this command does not follow `sealspace use`",
            hint=f"say whose secrets agents use: add --as {chosen.name}, or --as {OWN}",
        )
    os.chdir(project)
    # Such variables direct this command, for example to another home. An agent that can set them
    # could change what it may do (AG1).
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
    # Without a login, or with a malformed file, the server does not start (AG1).
    owner_home().profile()
    read_rules()
    _server.run("stdio")
