"""The root command of the command line program `sealspace`.

It converts errors to messages and exit statuses. Data goes to standard output, messages go to
standard error. An error is two lines: what happened, and what to do next. The error's code
determines the exit status.
"""

import errno
from importlib.metadata import entry_points
from typing import Any

import click

from .. import __version__
from ..errors import InvalidInput, NodeRefused, SealspaceError
from ..printable import printable
from ..private_files import file_fault
from ..service.command_errors import NodeError
from .exit_status import EXIT_STATUS as EXIT_STATUS
from .exit_status import EXIT_STATUSES, FAILED, INTERRUPTED, REFUSED, WRONG_ARGUMENT
from .lazy import LazyGroup, Row, Sections, Table
from .shared import share_options, shared
from .terminal import (
    drop_refused_messages,
    hold_standard_streams,
    print_error,
    print_lines,
    what_happened,
)

_HEADINGS = ("Start", "Who", "Keep", "Share", "Backends", "Runners", "Use", "Operate")


def _merged() -> dict[str, dict[str, Row]]:
    """Collect the commands of all installed packages.

    They are grouped by the headings in the help.
    """
    merged: dict[str, dict[str, Row]] = {heading: {} for heading in _HEADINGS}
    # Sorted by name, `node` comes first, so that `serve` is the first command in the help.
    for point in sorted(entry_points(group="sealspace.commands"), key=lambda point: point.name):
        for heading, rows in point.load().items():
            merged[heading] |= rows
    return merged


SECTIONS: Sections = _merged()
COMMANDS: Table = {name: row for section in SECTIONS.values() for name, row in section.items()}


class _Root(LazyGroup):
    """The root command `sealspace`.

    Its help groups commands by subject and lists exit statuses.
    """

    def invoke(self, ctx: click.Context) -> Any:  # Any: as in click
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
            # The default by class, for codes without an exit status of their own.
            refused = REFUSED if isinstance(error, NodeRefused) else FAILED
            otherwise = WRONG_ARGUMENT if isinstance(error, InvalidInput) else refused
            return fail(error.code, text, error.step, otherwise=otherwise)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, rows in SECTIONS.items():
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
    help="Store values and secrets on a sealspace node, grant access to them, or run a node. Only"
    " the owner of a secret, and attested code that the owner approved, can decrypt the secret."
    " The options below work with every command, before or after its name.",
    epilog="To run a node: `sealspace serve`. To use one: `sealspace login URL --new`, then"
    " `sealspace secret put NAME`; later `sealspace backend grant` and `sealspace receipts list`.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
click.version_option(__version__, message="%(version)s")(cli)
share_options(cli)


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
            "usage", _usage_text(error), f"{_command_meant(error)} --help", otherwise=WRONG_ARGUMENT
        )
    except click.Abort as error:
        # click raises Abort for Ctrl-C or the end of input in a prompt, and for the answer "no".
        # The context tells which. Every question comes before the change that it is about.
        cause = error.__context__
        return fail(
            "aborted",
            "aborted" if cause else "nothing was changed, because you answered no",
            "run the command again" if cause else "run the command again to answer yes",
            otherwise=INTERRUPTED if isinstance(cause, KeyboardInterrupt) else FAILED,
        )
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


def _usage_text(error: click.ClickException) -> str:
    if isinstance(error, click.exceptions.NoSuchCommand):
        text, meant = f"unknown command {error.command_name}", f": {_command_meant(error)}"
    elif isinstance(error, click.NoSuchOption):
        text, meant = f"unknown option {error.option_name}", f" {(error.possibilities or [''])[0]}"
    else:
        text = " ".join(error.format_message().split()).rstrip(".")
        return text[:1].lower() + text[1:]
    return f"{text}; did you mean{meant}?" if error.possibilities else text


def _command_meant(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = "sealspace" if context is None else context.command_path
    if isinstance(error, click.exceptions.NoSuchCommand) and error.possibilities:
        return f"{command} {error.possibilities[0]}"
    return command
