"""The command `sealspace run`, which passes secrets to a program."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import click

from capabilities.frozen import frozen

from ...client import Client
from ...errors import InvalidInput
from ...service.command_errors import NotThere
from ...wire.token_line import token_of
from ..keep.named_secrets import scope_option, scopes_instead
from ..keep.shared_secrets import from_option, shared_secrets
from ..owner.owner_profile import at_node
from ..terminal import flag_option, tell
from .passed_values import child_environment, mask_patterns
from .program_variables import is_passed_by_default
from .project import FILE_NAME, Project, find_project
from .run_process import keep_out_of_core_dumps, replace_process, run_masked
from .run_restarts import Start
from .secret_reading import Choice, Reading, read_secrets
from .secret_watch import SecretWatch, Update
from .watch_options import watch_interval, watch_options
from .watch_process import CommandRestarts, watching

_KEPT = "the command keeps running with the values that it has"
_STOP_S = 10
"""Default time for a command to end after SIGTERM, seconds."""
_MAX_STOP_S = 3600
_POINTER_BYTES = 8
_MARGIN_BYTES = 8192  # the name of the program, that of an interpreter, and what the kernel adds
_MOST_TEXT_BYTES = 6 << 20
"""Most bytes of arguments and environment that Linux passes, however large the stack may be."""


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Examples: `sealspace run -- ./deploy.sh`; `sealspace run --only API_KEY -- python"
    " app.py`; `sealspace run --scope ci -- env`.",
)
@scope_option
@from_option
@click.option(
    "--only",
    metavar="A,B",
    help="Pass only these secrets, also those with other names than API_KEY.",
)
@flag_option("--all", "is_all", help="Pass all of your secrets in the scope, whatever their names.")
@click.option(
    "--allow-override",
    metavar="A,B",
    help="Pass these secrets too, even those with names that control how programs run, like PATH.",
)
@flag_option("--allow-empty", help="Run the command even if there are no secrets to pass.")
@flag_option(
    "--no-masking",
    help="Run the command in place of this process, on the same terminal, with unmasked output.",
)
@flag_option("--no-project", help=f"Ignore the project file {FILE_NAME}, if there is one.")
@watch_options("Look for new values, and restart the command when a secret was replaced.")
@flag_option(
    "--watch-stop",
    help="With --watch: stop the command when a secret was deleted or may no longer be read.",
)
@click.option(
    "--stop-s",
    metavar="SECONDS",
    type=click.IntRange(0, _MAX_STOP_S),
    help=f"With --watch: time to end after SIGTERM, before SIGKILL. Default: {_STOP_S}.",
)
@click.argument("command", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    scope: str | None,
    source: str | None,
    only: str | None,
    is_all: bool,
    allow_override: str | None,
    allow_empty: bool,
    no_masking: bool,
    no_project: bool,
    is_watched: bool,
    every_s: int | None,
    watch_stop: bool,
    stop_s: int | None,
    command: tuple[str, ...],
) -> int | None:
    """Run a command with secrets as environment variables.

    In the command's output, `***` replaces every secret value, including values that are
    JSON-escaped, percent-encoded, in base64 or in hex. Values under four bytes are not masked.
    Signals and the exit status are passed on. No secret is written to a file.

    Without `--only` and `--all`, the command gets the secrets of the scope whose names end in _KEY,
    _KEY_ID, _TOKEN, _SECRET, _PASS, PASSWORD, _PASSPHRASE, _CREDENTIALS or _DSN, plus DATABASE_URL
    and REDIS_URL; addresses, such as _DSN, only of your own secrets. A line on standard error names
    the other secrets. With a machine token in SEALSPACE_TOKEN, the command gets exactly the token's
    secrets; neither a login nor a home folder is needed. If you are logged in as another owner than
    the token's, its secrets are selected like those of --from.

    Names that control how programs run, such as PATH and GIT_SSH_COMMAND, need --allow-override.

    In a project, the command gets exactly the secrets that the file .sealspace.toml names, and no
    others. The file is searched from the current folder upwards. `--only` selects from the file's
    variables. Only `run` uses the file; other commands need `--scope`.

    The command inherits standard input. Its output goes through pipes instead of a terminal: use
    `--no-masking` for editors and pagers. Binary secrets are encoded in base64. Environment
    variables named `SEALSPACE_…` are not passed to the command.

    With `--watch`, the command is restarted when one of its secrets was replaced: it gets SIGTERM,
    and starts again with the new values. The environment of a running program cannot change; for a
    program that reads a file again, use `sealspace template --watch`. The restarts end when the
    command ends by itself, or at Ctrl-C.
    """
    interval_s = watch_interval(
        is_watched,
        every_s,
        without=no_masking and "--no-masking",
        watch_stop=watch_stop,
        stop_s=stop_s,
    )
    keep_out_of_core_dumps()
    allowed = _names(allow_override or "")
    chosen_names = None if only is None else _names(only)
    project = None if no_project else find_project()
    reading, variables = _read_for_command(
        chosen_names, project, allowed, is_all=is_all, scope=scope, source=source
    )
    # Usually the wrong wallet or scope: do not run the command without its keys.
    if not variables and not allow_empty:
        raise _nothing_to_pass(scope, source)
    passed = _Passed(command=command, variables=variables, allowed=allowed)
    start = passed.start_with(reading.values)
    if no_masking:
        replace_process(command, start.environment)  # does not return
    _tell_of_masking()
    if interval_s is None or not variables:
        return run_masked(command, start.environment, start.patterns).status
    watch = partial(SecretWatch, reading, every_s=interval_s, keeps=_KEPT, ends_if_lost=watch_stop)
    return _run_watched(command, start, watch, passed, stop_s=stop_s)


@frozen
class _Passed:
    """The variables of a command.

    Attributes:
        command: program and arguments.
        variables: the secret of each variable.
        allowed: variables that may be set although they control how programs run.
    """

    command: Sequence[str]
    variables: Mapping[str, str]
    allowed: Collection[str]

    def start_with(self, values: Mapping[str, str | bytes]) -> Start:
        """Return what a command gets with these values of the secrets."""
        passed = {variable: values[secret] for variable, secret in self.variables.items()}
        environment = child_environment(os.environb, passed, allowed=self.allowed)
        return Start(environment=environment, patterns=mask_patterns(passed))

    def restart_with(self, values: Mapping[str, str | bytes]) -> Start:
        """Return what a command gets at a restart.

        Raises:
            InvalidInput: the system would not start the command with these values. It must be known
                before the running command is stopped (CL7).
        """
        start = self.start_with(values)
        texts = [os.fsencode(word) for word in self.command]
        for name, value in start.environment.items():
            texts.append(name + b"=" + value)
        size_bytes = sum(len(text) + 1 + _POINTER_BYTES for text in texts)
        if size_bytes + _MARGIN_BYTES > min(os.sysconf("SC_ARG_MAX"), _MOST_TEXT_BYTES):
            raise InvalidInput(
                "the secrets are too large together for the environment of a command",
                hint="use --only A,B, and read the others in the program with"
                " `sealspace secret get`",
            )
        return start


class _ReadVariables(NamedTuple):
    """The secrets that were read for a command.

    Attributes:
        reading: the secrets.
        variables: the secret of each variable.
    """

    reading: Reading
    variables: Mapping[str, str]


def _read_for_command(
    chosen_names: Sequence[str] | None,
    project: Project | None,
    allowed: Collection[str],
    *,
    is_all: bool,
    scope: str | None,
    source: str | None,
) -> _ReadVariables:
    """Read the secrets that the options and the project file choose."""
    if is_all:
        _require_no_names(chosen_names, project)
    if project is not None:
        return _read_for_project(project, chosen_names, allowed, scope=scope, source=source)
    if chosen_names is not None:
        return _read_by_name(chosen_names, scope, source)
    choice = _select_all if is_all else partial(_select_by_default, allowed=allowed)
    return _read_by_name(choice, scope, source)


def _read_by_name(
    names: Sequence[str] | Choice, scope: str | None, source: str | None
) -> _ReadVariables:
    """Read secrets that are passed under their own names."""
    reading = read_secrets(names, scope=scope, source=source)
    variables = {name: name for name in reading.secrets}
    return _ReadVariables(reading=reading, variables=variables)


def _run_watched(
    command: Sequence[str],
    start: Start,
    watch: Callable[[Callable[[Update], None]], SecretWatch],
    passed: _Passed,
    *,
    stop_s: int | None,
) -> int:
    """Run a command, start it again with new values, and return its exit status."""
    with watching(watch, sends_messages=True) as updates:
        restarts = CommandRestarts(
            updates, passed.restart_with, stop_s=_STOP_S if stop_s is None else stop_s
        )
        ended = run_masked(command, start.environment, start.patterns, restarts=restarts)
        return ended.status


def _tell_of_masking() -> None:
    """Tell a person at a terminal that the command is not connected to it."""
    if os.isatty(1) and os.isatty(2):
        tell(
            "output is masked, so the command is not connected to this terminal; to connect the"
            " command to the terminal without masking, add --no-masking"
        )


def _require_no_names(chosen_names: Sequence[str] | None, project: Project | None) -> None:
    """Refuse `--all` if the user or a project file names the secrets to pass."""
    if chosen_names is not None:
        raise click.UsageError("--all and --only cannot be combined")
    if project is not None:
        raise InvalidInput(
            f"--all contradicts the project file {project.path}, which names the secrets",
            hint="omit --all, or add --no-project",
        )


def _read_for_project(
    project: Project,
    chosen_names: Sequence[str] | None,
    allowed: Collection[str],
    *,
    scope: str | None,
    source: str | None,
) -> _ReadVariables:
    """Read the secrets of a project's variables.

    Args:
        project: the project file.
        chosen_names: the variables to read; None: all variables of the file.
        allowed: variables that may be set even if others chose the values.
        scope: the scope that the user gave.
        source: the option `--from`.
    """
    variables, scope = project.select(chosen_names, scope)
    where = "" if scope is None else f", scope {scope}"
    tell(f"project file {project.path}{where}: {', '.join(project.passes)}")
    unnamed = []
    if chosen_names is None:
        unnamed = [name for name in variables if name not in allowed]
    reading = read_secrets(
        sorted({*variables.values()}),
        scope=scope,
        project=project,
        source=source,
        unnamed=unnamed,
    )
    return _ReadVariables(reading=reading, variables=variables)


@at_node
async def _nothing_to_pass(client: Client, scope: str | None, source: str | None) -> NotThere:
    """Return the error for a command that would run without secrets."""
    text = "there are no secrets to pass, so the command was not started"
    hint = (
        "check the owner with `sealspace whoami` and the secrets with `sealspace secret list"
        " --all`; then pass secrets with --only A,B or --all"
    )
    if token_of(client.session) is None:
        async with shared_secrets(client, source) as secrets:
            other_scopes = await scopes_instead(secrets, scope)
        if other_scopes:
            text = f"there are no secrets to pass in the scope {scope}; the command was not started"
            hint = other_scopes
    return NotThere(text, hint=f"{hint}; or add --allow-empty")


def _select_all(names: Sequence[str], *, chosen_by_others: bool) -> Sequence[str]:
    """Select all secrets, which have to be the user's own (CL1)."""
    if chosen_by_others:
        raise InvalidInput(
            "--all passes only your own secrets: somebody else chose these names and values, which"
            " could control how programs run",
            hint=f"if you trust the owner, name the secrets: --only {','.join(names):.300}",
        )
    return names


def _select_by_default(
    names: Sequence[str], *, chosen_by_others: bool, allowed: Collection[str]
) -> Sequence[str]:
    """Select the secrets to pass to the command.

    The names of all other secrets are printed.
    """
    # Only names that look like secrets are passed. A list of dangerous names is never complete, so
    # a client that may only write secrets could choose a name that is not listed (CL1).
    chosen = [
        name
        for name in names
        if name in allowed or is_passed_by_default(name, chosen_by_others=chosen_by_others)
    ]
    others = [name for name in names if name not in chosen]
    if others:
        or_all = "" if chosen_by_others else " or --all"
        tell(
            f"secrets not passed ({len(others)}): {', '.join(others):.280}; by default, only names"
            f" like API_KEY are passed; to choose: --only A,B{or_all}"
        )
    return chosen


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
