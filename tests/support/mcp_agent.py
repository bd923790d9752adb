"""An agent at `sealspace mcp`, its host, and the person whom the host asks."""

import base64
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import ElicitRequestFormParams, ElicitResult, TextContent
from owner_machine import Owner

CANARY = "canary/7f3a91d4e2+of the owner"
LEAKS = (
    CANARY,
    base64.b64encode(CANARY.encode()).decode(),
    CANARY.encode().hex(),
    quote(CANARY, safe=""),
)
SHOW = ("/bin/sh", "-c", "echo got $API_KEY")
LISTED = {"program": SHOW[0], "arguments": SHOW[1:], "secrets": ["API_KEY"]}
YES, NO = ElicitResult(action="accept", content={"allow": True}), ElicitResult(action="decline")


@dataclass
class Agent:
    """An agent's connection, and everything that it was told."""

    client: Client
    told: list[str] = field(default_factory=list)

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool; return its text, with `error: ` before that of an error."""
        found = await self.client.call_tool(tool, arguments)
        (content,) = found.content
        assert isinstance(content, TextContent)
        self.told += [content.text, json.dumps(found.structured_content)]
        return f"error: {content.text}" if found.is_error else content.text

    async def run_command(self, program: str, *arguments: str, **more: Any) -> str:
        wanted = {"program": program, "arguments": arguments, "secrets": ["API_KEY"], **more}
        return await self.call("run_command", wanted=wanted)

    async def https_request(self, host: str, **more: Any) -> str:
        wanted = {"secret": "API_KEY", "host": host, "prefix": "Bearer ", **more}
        return await self.call("https_request", wanted=wanted)


@dataclass
class Person:
    """The person at the agent's host, who answers the questions in turn."""

    answers: list[ElicitResult] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    async def answer(self, context: object, params: object) -> ElicitResult:
        assert isinstance(params, ElicitRequestFormParams)
        self.questions.append(params.message)
        return self.answers.pop(0)


def rules_file(owner: Owner) -> Path:
    return owner.folder / "home" / ".sealspace" / "agents.toml"


def allow(owner: Owner, *lines: str, **tables: Sequence[dict[str, Any]]) -> None:
    """Write agents.toml."""
    text = list(lines)
    for table, rules in tables.items():
        for rule in rules:
            text += [f"[[{table}]]", *(f"{name} = {json.dumps(it)}" for name, it in rule.items())]
    rules_file(owner).write_text("\n".join(text))
    rules_file(owner).chmod(0o600)


@asynccontextmanager
async def agent_of(
    owner: Owner,
    person: Person | None = None,
    *,
    mode: str = "auto",
    variables: Mapping[str, str] = {},
    options: Sequence[str] = (),
) -> AsyncIterator[Agent]:
    """Connect an agent in the owner's current folder, and check afterwards that no message contains
    the canary."""
    server = StdioServerParameters(
        command=owner.command[0],
        args=[*owner.command[1:], "mcp", *options],
        env={**owner.environment, **variables},
        cwd=owner.here,
    )
    with (owner.folder / "log").open("w+") as log:
        stderr, sys.stderr = sys.stderr, log
        try:
            async with Client(
                server,
                mode=mode,
                elicitation_callback=None if person is None else person.answer,
            ) as client:
                agent = Agent(client)
                yield agent
        finally:
            sys.stderr = stderr
        log.seek(0)
        told = "\n".join([*agent.told, *(person.questions if person else ()), log.read()])
    assert not [leak for leak in LEAKS if leak in told]
