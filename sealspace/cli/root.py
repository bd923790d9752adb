"""The root command of the command line program `sealspace`.

It converts errors to messages and exit statuses. Data goes to standard output, messages go to
standard error. An error is two lines: what happened, and what to do next. The error's code
determines the exit status.
"""

import errno
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import click

from .. import __version__
from ..errors import InvalidInput, NodeRefused, SealspaceError
from ..printable import printable
from ..private_files import file_fault
from ..service.command_errors import NodeError
from . import groups
from .exit_status import EXIT_STATUS as EXIT_STATUS
from .exit_status import EXIT_STATUSES, FAILED, INTERRUPTED, REFUSED, WRONG_ARGUMENT
from .lazy import LazyGroup, Row, Sections, Table
from .shared import provide, share_options, shared
from .terminal import (
    drop_refused_messages,
    hold_standard_streams,
    print_error,
    print_lines,
    what_happened,
)

_HEADINGS = ("Start", "Who", "Keep", "Share", "Backends", "Runners", "Use", "Operate")


@cache
def _collect_sections() -> Sections:
    """Collect the commands of all installed packages.

    They are grouped by the headings in the help.
    """
    # Imported here to keep the start fast: commands of owners need none of the other packages.
    from importlib.metadata import entry_points

    merged: dict[str, dict[str, Row]] = {heading: {} for heading in _HEADINGS}
    # Sorted by name, `node` comes first, so that `serve` is the first command in the help.
    for point in sorted(entry_points(group="sealspace.commands"), key=lambda point: point.name):
        for heading, rows in point.load().items():
            merged[heading] |= rows
    return merged


class _Commands(Mapping[str, Row]):
    """All commands by name.

    Those of owners are found without searching for other packages.
    """

    def __init__(self) -> None:
        self._own = _by_name(groups.SECTIONS)

    def __getitem__(self, name: str) -> Row:
        row = self._own.get(name)
        return _by_name(_collect_sections())[name] if row is None else row

    def __iter__(self) -> Iterator[str]:
        return iter(_by_name(_collect_sections()))

    def __len__(self) -> int:
        return len(_by_name(_collect_sections()))


def _by_name(sections: Sections) -> dict[str, Row]:
    return {name: row for section in sections.values() for name, row in section.items()}


COMMANDS: Table = _Commands()


class _Root(LazyGroup):
    """The root command `sealspace`.

    Its help groups commands by subject and lists exit statuses.
    """

    def invoke(self, ctx: click.Context) -> Any:  # Any: as in click
        provide(ctx, find_team=_team_of_project, for_team=_for_team)
        try:
            return super().invoke(ctx)
        except NodeError as error:
            # Does not read the owner's folder: a node may run without one.
            return fail(error.code, error.message, error.step)
        except SealspaceError as error:  # caught here, while click still knows the shared options
            from .owner.owner_profile import own_did  # imported here to keep the start fast

            text = what_happened(error, own=own_did())
            if shared().as_json and error.message != text:
                print_lines(f"detail: {error.message}", err=True)
            return fail(error.code, text, error.step, otherwise=_default_status(error))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, rows in _collect_sections().items():
            with formatter.section(heading):
                formatter.write_dl([(name, row.summary) for name, row in rows.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit status"):
            formatter.write_dl(
                [(str(number), meaning) for number, (meaning, *_) in EXIT_STATUSES.items()]
            )


cli = _Root(
    COMMANDS,
    name="sealspace",
    help="Store values and secrets on a sealspace node, grant access to them, or run a node. A"
    " secret can be decrypted by its owner, and by what the owner allows: people with a copy,"
    " machine tokens, CI jobs, and attested code. The options below work with every command,"
    " before or after its name.",
    epilog="To run a node: `sealspace serve`. To use one: `sealspace login URL --new`, then"
    " `sealspace secret put NAME`; later `sealspace backend grant` and `sealspace receipts list`.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
click.version_option(__version__, message="%(version)s")(cli)
share_options(cli)


def _for_team(home: Any, client: Any) -> Any:  # Any: their modules are imported only here
    """Return the context manager that yields a client for the chosen team."""
    from .owner.chosen_team import for_chosen_team  # imported here to keep the start fast

    return for_chosen_team(home, client)


def _team_of_project() -> tuple[str, str]:
    """Return the team in the nearest project file and the path of the file."""
    from .use.project import find_project  # imported here to keep the start fast

    project = find_project()
    return ("", "") if project is None else (project.team, project.path)


def _default_status(error: SealspaceError) -> int:
    """Return the exit status for an error whose code has none of its own."""
    if isinstance(error, InvalidInput):
        return WRONG_ARGUMENT
    if isinstance(error, NodeRefused):
        return REFUSED
    return FAILED


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    hold_standard_streams()
    try:
        status = cli.main(arguments, prog_name="sealspace", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()  # a command group without a command: show its help
        return WRONG_ARGUMENT
    except click.ClickException as error:
        return fail(
            "usage",
            _describe_usage_error(error),
            f"{_command_meant(error)} --help",
            otherwise=WRONG_ARGUMENT,
        )
    except click.Abort as error:
        # click raises Abort for Ctrl-C or the end of input in a prompt, and `confirm` raises it for
        # the answer "no". Only the one of click has a cause.
        cause = error.__context__
        if cause is None:
            # Every question comes before the change that it is about.
            text = "nothing was changed, because you answered no"
            return fail("aborted", text, "run the command again to answer yes")
        status = INTERRUPTED if isinstance(cause, KeyboardInterrupt) else FAILED
        return fail("aborted", "aborted", "run the command again", otherwise=status)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.filename is None:
            if error.errno != errno.ENOSPC:  # for example too many open files
                return fail("system-refused", reason, "sealspace doctor")
            return fail(
                "system-refused",
                "cannot write the output: no space left on device",
                "the output is incomplete; make space for the output, or write it elsewhere",
            )
        _, step = file_fault(error.filename, error.errno)
        return fail("system-refused", f"{printable(str(error.filename))}: {reason}", step)
    finally:
        drop_refused_messages()
    return status if isinstance(status, int) else 0


def fail(code: str, text: str, hint: str, *, otherwise: int = FAILED) -> int:
    """Print an error message, and return the exit status.

    The message includes the next step, and is printed even with --quiet.
    """
    print_error(text, hint)
    return EXIT_STATUS.get(code, otherwise)


def _describe_usage_error(error: click.ClickException) -> str:
    """Describe a wrong call of a command in one line, with the most similar name, if any."""
    if isinstance(error, click.exceptions.NoSuchCommand):
        text = f"unknown command {error.command_name}"
        if error.possibilities:
            text += f"; did you mean: {_command_meant(error)}?"
        return text
    if isinstance(error, click.NoSuchOption):
        text = f"unknown option {error.option_name}"
        if error.possibilities:
            text += f"; did you mean {error.possibilities[0]}?"
        return text
    text = " ".join(error.format_message().split()).rstrip(".")
    return text[:1].lower() + text[1:]


def _command_meant(error: click.ClickException) -> str:
    """Return the command whose help explains an error, the most similar one for a wrong name."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = "sealspace" if context is None else context.command_path
    if isinstance(error, click.exceptions.NoSuchCommand) and error.possibilities:
        return f"{command} {error.possibilities[0]}"
    return command
