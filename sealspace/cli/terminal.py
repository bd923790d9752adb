"""Output and prompts of commands.

Data goes to standard output, messages to standard error. Text may come from a node, a backend or a
stored row, and control characters in it could manipulate the terminal. So lines are made printable
here, and JSON is encoded in ASCII.
"""

import json
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import msgspec

from capabilities.clock_and_entropy import SystemClock
from capabilities.clock_and_entropy import time_text as time_text

from .. import printable as printing
from ..errors import (
    ActionNotAuthorized,
    BackendUnreachable,
    BatchIncomplete,
    DecryptDenied,
    DelegationRevoked,
    InvalidInput,
    NodeRefused,
    NotGranted,
    ReleaseRefused,
    SealspaceError,
    TokenOutsideWindow,
    TransportError,
)
from ..printable import printable, printable_line
from .shared import shared


def hold_standard_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file to be opened gets the stream's descriptor, and messages of this process
    or its children would be written into that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def drop_refused_messages() -> None:
    """Discard messages that cannot be written to standard error.

    This happens if a disk is full, for example. The messages are still buffered. Python would try
    to write them again at exit, fail, and change the exit status to 120.
    """
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


# --- data -----------------------------------------------------------------------------------------


def print_lines(*lines: str, err: bool = False) -> None:
    """Print lines of text, with control characters replaced."""
    for line in lines:
        shown = printing.format_message(with_home(line)) if err else printable_line(line)
        click.echo(shown, err=err)


def pass_on_message(text: str) -> None:
    """Print a message that another process of this command has made ready for the terminal."""
    click.echo(text, err=True, nl=False)


def print_error(text: str, hint: str) -> None:
    """Print what failed, and the next step."""
    # The text may contain what a node or a backend sent. `format_message` keeps control characters
    # away from the terminal.
    lines = (with_home(f"sealspace: {text}"), with_home(f"next: {hint}"))
    click.echo(printing.format_message(*lines, level="error"), err=True)


def with_home(line: str) -> str:
    """Add a given `--home` to the owner's commands that a message names."""
    if (home := shared().given_home) is None:
        return line
    root = click.get_current_context().find_root()
    assert isinstance(root.command, click.Group)  # `sealspace`
    commands = "|".join(root.command.list_commands(root))
    # `admin` and `serve` are the operator's.
    named_command = rf"\bsealspace (?!admin|serve)(?=(?:{commands})\b)"
    # A quoted argument stays as it is: quotes within it would end it, and the rest would be code.
    quoted = r"""(?<!\w)'[^']*'(?:"'"'[^']*')*"""
    return re.sub(
        f"{quoted}|({named_command})",
        lambda match: f"sealspace --home {shlex.quote(home)} " if match[1] else match[0],
        line,
    )


def print_json(value: object) -> None:
    """Print a value as one line of ASCII JSON."""
    click.echo(json.dumps(msgspec.to_builtins(value), separators=(",", ":")))


def print_exactly(line: bytes) -> None:
    """Print a line of signed text unchanged.

    On a terminal, control characters are replaced.
    """
    if sys.stdout.isatty():
        print_lines(line.decode("utf-8", "replace"))
    else:
        click.echo(line)


def print_value(value: str | bytes, *, raw: bool = False) -> None:
    """Print a stored value.

    On a terminal, control characters are replaced unless `raw` is set.
    """
    if raw or not sys.stdout.isatty():
        click.echo(value.encode() if isinstance(value, str) else value, nl=False)
    elif isinstance(value, bytes):
        raise InvalidInput(
            f"the value is binary ({len(value)} bytes) and is not printed to a terminal",
            hint="redirect the output with > FILE, or add --raw",
        )
    else:
        lines = value.removesuffix("\n").split("\n")
        print_lines(*lines)
        if any(printable_line(line) != line for line in lines):
            tell("control characters were replaced; --raw prints the value unchanged")


def print_result(result: object, lines: Iterable[str] = ()) -> None:
    """Print a result as JSON or as lines of text.

    JSON is printed with `--json`.
    """
    if shared().as_json:
        print_json(result)
    else:
        print_lines(*lines)


def print_rows(
    document: object, headers: Sequence[str], rows: Sequence[Sequence[object]], *, nothing: str
) -> None:
    """Print a list as JSON or as aligned columns.

    JSON is printed with `--json`. A line of headers is added if standard output is a terminal. If
    there are no rows, the message `nothing` is printed instead.
    """
    if shared().as_json:
        print_json(document)
        return
    shown = [[printable(str(cell)) for cell in row] for row in rows]
    if not shown:
        tell(nothing)
        return
    if sys.stdout.isatty():
        shown.insert(0, [header.upper() for header in headers])
    widths = [max(len(row[column]) for row in shown) for column in range(len(headers))]
    for row in shown:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print_lines("  ".join(cells).rstrip())


def print_documents(
    documents: Sequence[Mapping[str, object]], headers: Mapping[str, str], *, nothing: str = ""
) -> None:
    """Print a list of JSON objects, or a table of some of their members.

    Args:
        documents: the objects.
        headers: name of a member -> header of its column.
        nothing: the message for an empty table.
    """
    rows = [[cell_text(document.get(name)) for name in headers] for document in documents]
    print_rows(documents, [*headers.values()], rows, nothing=nothing)


def cell_text(value: object) -> str:
    """Format a member of a JSON object for a person."""
    if isinstance(value, list):
        value = ", ".join(map(str, value)) or None
    return "-" if value is None else str(value)


def facts(values_by_name: Mapping[str, object]) -> list[str]:
    """Format names and values as aligned lines.

    A list or tuple has a line for each of its values. Values that are None are skipped.
    """
    labelled: list[tuple[str, object]] = []
    for name, value in values_by_name.items():
        lines = value if isinstance(value, tuple | list) else (value,)
        labelled += [(name, line) for line in lines if line is not None]
    width = max((len(name) for name, _ in labelled), default=0)
    return [f"{name:<{width}}  {line}" for name, line in labelled]


def optional_time(at: float | None) -> str | None:
    """Format a time, or return None if the time is None."""
    return None if at is None else time_text(at)


def end_text(at: float | None) -> str:
    """Describe when a grant ends."""
    return "without end" if at is None else f"until {time_text(at)}"


def age_text(at: float) -> str:
    """Describe how long ago something happened: `3 days ago`."""
    age_s = SystemClock.now() - at
    for unit, unit_s in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        number = int(age_s / unit_s)
        if number == 1:
            return f"1 {unit} ago"
        if number > 1:
            return f"{number} {unit}s ago"
    return "a moment ago"


# --- words ----------------------------------------------------------------------------------------


def tell(*lines: str) -> None:
    """Print messages to standard error, unless `--quiet` was given."""
    if not shared().quiet:
        print_lines(*lines, err=True)


_REQUEST = re.compile(
    r"(?:(?:GET|HEAD|POST|PUT|DELETE|OPTIONS) \S+"
    r"|(?P<ability>(?:tinycloud|sealspace)\.\S+) on (?P<resource>\S+)(?P<more> and \d+"
    r" more)?)(?:: |$)"
)
_RELEASE = {
    "mode": "this node opens secrets only for attested code, not for their owner in person",
    "no_policy": "it belongs to another owner, and no code is approved to open it",
    "path": "its key is not stored at an allowed path, or also at another path; set the secret"
    " again, so that it gets a new key",
    "not_attested": "only attested code may open it, and this caller is not attested",
    "withdrawn": "its owner or the node's operator withdrew the caller, its code or its evidence",
}
"""Reason of a refused release -> its meaning; all other reasons are about the attested code."""


def what_happened(error: SealspaceError, *, own: str = "") -> str:
    """Describe an error in one line of plain text.

    The text contains no HTTP routes or ability names.

    Args:
        own: DID of the user; their own resources are named without an owner.
    """
    return " ".join(_describe_error(error, own).split()).rstrip(".")


def _describe_error(error: SealspaceError, own: str) -> str:
    """Describe an error; resources of the owner `own` are named as the user's own."""
    match error:
        case DecryptDenied():
            return _describe_error(error.refusal, own)
        case ReleaseRefused():
            otherwise = "the attested code does not meet the required policy"
            meaning = _RELEASE.get(error.reason, otherwise)
            return f"the node refuses to open it: {meaning} ({error.reason})"
        case NotGranted(missing=missing) if missing:
            rights = "; ".join(
                _describe_right(capability.ability, capability.resource.text, own)
                for capability in missing
            )
            return f"this session may not {rights}"
        case ActionNotAuthorized():
            right = _describe_right(error.action, error.resource, own)
            return f"the node does not allow this session to {right}"
        case DelegationRevoked():
            return f"the grant or session used for this was revoked: {error.cid}"
        case TokenOutsideWindow():
            return f"the session or a grant is not valid at this time: {error.text}"
        case NodeRefused():
            return _describe_node_refusal(error, own)
        case BatchIncomplete(__cause__=SealspaceError() as cause):
            count = len(error.done)
            return (
                f"only {count} of {count + len(error.left)} values were written:"
                f" {_describe_error(cause, own)}"
            )
        case TransportError() | BackendUnreachable():
            # The request line is dropped, because it means nothing to the user.
            return _REQUEST.sub("", error.message, count=1)
    return error.message


def _describe_node_refusal(error: NodeRefused, own: str) -> str:
    """Describe what the node refuses, and why."""
    reason = error.text or error.reason_in_words or f"the node answers with status {error.status}"
    # `asked` is a request line, a right, or plain text.
    request = _REQUEST.match(error.asked)
    if request and request["ability"]:
        right = _describe_right(request["ability"], request["resource"], own)
        return f"cannot {right}{request['more'] or ''}: {reason}"
    subject = _REQUEST.sub("", error.asked) or "the node refuses it"
    return f"{subject}: {reason}"


def _describe_right(ability: str, resource: str, own: str) -> str:
    """Describe a right to a resource in words."""
    # Imported here to keep the start fast.
    from ..giving.words.rights import granted_resource, rights_words

    (line,) = rights_words([granted_resource(resource, (ability,))], by=own, with_below=False)
    return line


def is_interactive() -> bool:
    """Return whether both standard input and standard error are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt a blocking wait inside an event loop."""
    # asyncio's own handler only cancels the task, which would go on blocking.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


flag_option = partial(click.option, is_flag=True)
repeatable_option = partial(click.option, multiple=True)
raw_option = flag_option(
    "--raw",
    help="Print control characters and binary data unchanged, even to a terminal.",
)
yes_option = flag_option("--yes", help="Do not ask for confirmation.")


def ask_hidden(label: str, *, twice: bool = False) -> str:
    """Ask for a text on the terminal without echo, and once more if `twice` is set."""
    with interruptible():
        while True:
            typed: str = click.prompt(label, hide_input=True, err=True)
            if not twice:
                return typed
            if typed == click.prompt("repeat for confirmation", hide_input=True, err=True):
                return typed
            print_error("the two texts differ", "type it again, twice")


def confirm(question: str, *, yes: bool = False, hint: str = "add --yes") -> None:
    """Ask for confirmation on the terminal, and abort if the answer is no.

    `hint` is the next step where there is no terminal.
    """
    if yes:
        return
    if not is_interactive():
        raise InvalidInput(
            f"cannot ask for confirmation ({question}): this command is not running in a terminal",
            hint=hint,
        )
    if not ask_yes_or_no(question):
        raise click.Abort


def ask_text(question: str) -> str:
    """Ask for a text on the terminal, which may be empty."""
    with interruptible():
        typed: str = click.prompt(
            printable_line(question), default="", show_default=False, err=True
        )
    return typed.strip()


def ask_yes_or_no(question: str) -> bool:
    """Ask a question on the terminal, and return whether the answer is yes."""
    prompt = f"{printable_line(question)} [y/N]"
    with interruptible():
        while True:
            answer = click.prompt(prompt, default="", show_default=False, err=True).strip().lower()
            if answer in ("y", "yes"):
                return True
            if answer in ("n", "no", ""):
                return False
            print_error("the answer is not y or n", "answer y or n")


def confirm_replacing(path: Path | None, *, yes: bool) -> None:
    """Ask for confirmation before an existing file is replaced."""
    if path is not None and path.exists():
        confirm(f"replace the file {path}?", yes=yes)


def counter(items: str, *, every: int, first: int = 0) -> Callable[[int], None]:
    """Return a function that prints a progress count.

    It prints once per `every` items, beginning with the number `first`.
    """
    following = first

    def count(done: int) -> None:
        nonlocal following
        if done >= following:
            following = done + every
            tell(f"{done} {items}")

    return count


@contextmanager
def progress(total: int | None, label: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar on a terminal.

    Yields a function that updates the bar.
    """
    if not is_interactive() or shared().quiet:
        yield lambda _done, _total: None
        return
    from rich.console import Console  # imported here: takes 23 ms, and scripts do not need it
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(printable(label)), total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
