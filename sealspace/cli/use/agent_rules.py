"""The file `agents.toml`, which lists what agents may do without a question (spec/agents.md).

    ask = true                             # false: refuse instead of asking

    [[commands]]                           # a program, with exactly these arguments and secrets
    program = "/usr/bin/gh"
    arguments = ["pr", "list"]             # optional
    secrets = ["GITHUB_TOKEN"]
    scope = "ci"                           # optional
    folder = "/"                           # optional: where the program runs

    [[requests]]                           # a secret in a header, sent to exactly this host
    secret = "API_KEY"
    host = "api.example.com"               # optional port: api.example.com:8443
    header = "Authorization"               # optional
    prefix = "Bearer "                     # optional: text in front of the secret
    method = "GET"                         # optional

Only the owner writes the file. An agent is untrusted: a web page may have told it to steal a
secret. It may change every file of its project, which is the current folder.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from ...documents.secret_names import NAME_PATTERN
from ...errors import InvalidInput
from ...printable import printable
from ...private_files import read_file
from ..shared import shared
from .agent_paths import is_in_project, leads_into_project

_MAX_BYTES = 16 << 10  # see `project._MAX_BYTES`

_Name = Annotated[str, Field(pattern=NAME_PATTERN)]
_Path = Annotated[str, Field(pattern=r"^/[^\x00]*$")]


class Action(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Something that an agent may ask for."""

    scope: Annotated[str, Field(pattern="^[a-z0-9-]*$")] = ""
    """Scope of the secrets; empty for secrets without a scope."""

    def can_be_changed(self) -> bool:
        """Return whether the agent could change what the action does."""
        return False


class Command(Action, frozen=True):
    """A program to run with secrets as environment variables."""

    program: _Path
    """Absolute path of the program."""
    arguments: tuple[Annotated[str, Field(pattern=r"^[^\x00]*$")], ...] = ()
    """Arguments of the program, which is started without a shell."""
    secrets: Annotated[
        tuple[_Name, ...], Field(min_length=1), AfterValidator(lambda names: (*sorted({*names}),))
    ]
    """Names of the secrets that the program gets."""
    folder: _Path = "/"
    """Absolute path of the program's working folder."""

    def can_be_changed(self) -> bool:
        """Return whether the agent could change what the command runs or reads (AG4)."""
        return leads_into_project(self.program, self.arguments, self.folder)


class Request(Action, frozen=True):
    """A host that a secret may be sent to in a header."""

    secret: _Name
    """Name of the secret to send."""
    host: str
    """Name of the host, with a port unless the port is 443."""
    header: str = "Authorization"
    """Name of the header with the secret."""
    prefix: str = ""
    """Text in front of the secret, such as `Bearer ` with a blank."""
    method: str = "GET"


class FullRequest(Request, frozen=True):
    """An HTTPS request with a secret in a header."""

    # Without the slash, a path like `:8443/` would change the port (AG6).
    path: Annotated[str, Field(pattern="^/")] = "/"
    """Path and query."""
    body: str = ""
    content_type: str = "application/json"


class AgentRules(BaseModel, frozen=True, extra="forbid"):
    """The actions that need no question."""

    commands: tuple[Command, ...] = ()
    requests: tuple[Request, ...] = ()
    ask: bool = True
    loopback_ca: Path | None = None

    def allows(self, action: Action) -> bool:
        """Return whether the file lists an action (AG3).

        All members must be equal: program, arguments, folder and names; or secret, host, header,
        prefix and method. A command that the agent can change is never allowed.
        """
        listed = [_members(rule) for rule in (*self.commands, *self.requests)]
        return _members(action) in listed and not action.can_be_changed()


def read_rules() -> AgentRules:
    """Read the actions that need no question (AG1).

    Without the file, agents may do nothing without a question.

    Raises:
        InvalidInput: others can write to the file, or it is malformed.
    """
    path = shared().home_folder / "agents.toml"
    try:
        text = read_file(path, most_bytes=_MAX_BYTES, denied=0o022).decode()
        rules = AgentRules.model_validate(tomllib.loads(text))
        # The agent must not choose the authority that vouches for all hosts (AG1, AG6). Without an
        # authority, the check is of this file, which could name one.
        chosen = path if rules.loopback_ca is None else rules.loopback_ca
        if is_in_project(chosen):
            raise ValueError("loopback_ca is in the project, where the agent can change it")
        return rules
    except FileNotFoundError:
        return AgentRules()
    except OSError as error:
        reason = str(error.strerror)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"{place}: {first['msg']}"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise InvalidInput(
        f"cannot use {path}: {printable(reason)}",
        hint=f"correct the file, and let only its owner write to it: chmod 600 {path}",
    )


def as_rule(action: Action) -> str:
    """Return the lines of `agents.toml` that allow an action."""
    table = "commands" if isinstance(action, Command) else "requests"
    lines = "\n".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in _members(action).items()
    )
    # Escaped here and not by `json.dumps`: it writes a character above U+FFFF as two surrogates,
    # which TOML does not allow.
    escaped = re.sub("[^ -~\n]", lambda match: f"\\U{ord(match[0]):08x}", lines)
    return f"[[{table}]]\n{escaped}"


# Any: of each member, as in pydantic
def _members(action: Action) -> dict[str, Any]:
    """Return the members of an action that a rule has. The path of a request is free (AG3)."""
    return action.model_dump(mode="json", exclude={"path", "body", "content_type"})
