"""What commands print, and what they ask: data on standard output, words for people on standard
error.

Any text may come from a node, a backend or a stored row, and may be shown in a terminal: lines are
made printable here, whatever they contain, and JSON is encoded in ASCII.
"""

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from ..errors import (
    ActionNotAuthorized,
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
    """Open the null device for each closed standard stream: the next file to be opened would take
    its descriptor.

    Anything that this process, or one that it starts, then writes to that stream would go into that
    file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # takes the lowest free number, which is this one
            opened = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


# --- data -----------------------------------------------------------------------------------------


def print_lines(*lines: str, err: bool = False) -> None:
    """Print one line for each argument, whatever it contains."""
    for line in lines:
        click.echo(printable_line(line), err=err)


def print_json(value: object) -> None:
    """Print a value as one line of JSON, in ASCII."""
    click.echo(json.dumps(msgspec.to_builtins(value), separators=(",", ":")))


def print_exactly(line: bytes) -> None:
    """Print a line of signed text byte for byte, so that it still verifies; printable where a
    terminal shows it."""
    if sys.stdout.isatty():
        print_lines(line.decode("utf-8", "replace"))
    else:
        click.echo(line)


def print_value(value: str | bytes, *, raw: bool = False) -> None:
    """Print a stored value exactly; on a terminal as lines that can be printed."""
    if raw or not sys.stdout.isatty():
        click.echo(value.encode() if isinstance(value, str) else value, nl=False)
    elif isinstance(value, bytes):
        raise InvalidInput(
            f"these are {len(value)} bytes, nothing for a terminal", hint="add > FILE, or --raw"
        )
    else:
        lines = value.removesuffix("\n").split("\n")
        print_lines(*lines)
        if any(printable_line(line) != line for line in lines):
            words(
                "characters that a terminal would act on are not shown; --raw prints the value as"
                " it is"
            )


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a list in columns, one row a line; the headers for a person only, and nothing when
    there is no row."""
    shown = [[printable(str(cell)) for cell in row] for row in rows]
    if not shown:
        return
    if sys.stdout.isatty():
        shown.insert(0, [header.upper() for header in headers])
    widths = [max(len(row[column]) for row in shown) for column in range(len(headers))]
    for row in shown:
        print_lines(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def print_found(found: object, lines: Iterable[str] = ()) -> None:
    """Print what was found: as JSON where that is asked for, else as lines."""
    if shared().as_json:
        print_json(found)
    else:
        print_lines(*lines)


def print_rows(
    found: object, headers: Sequence[str], rows: Sequence[Sequence[object]], *, nothing: str
) -> None:
    """Print a list: as JSON where that is asked for, else as a table, and without any row a word
    for a person."""
    if shared().as_json:
        print_json(found)
        return
    table(headers, rows)
    if not rows:
        words(nothing)


def facts(named: Mapping[str, object]) -> list[str]:
    """Return a line for each fact, its name before it; one for each of several; what is None is
    left out."""
    shown = [
        (name, line)
        for name, value in named.items()
        for line in (value if isinstance(value, tuple | list) else (value,))
        if line is not None
    ]
    width = max((len(name) for name, _ in shown), default=0)
    return [f"{name:<{width}}  {line}" for name, line in shown]


def time_text(at: float) -> str:
    """Return a time as all output has it: RFC 3339, UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def optional_time(at: float | None) -> str | None:
    """Return a time as `time_text`; None where none is stated."""
    return None if at is None else time_text(at)


# --- words ----------------------------------------------------------------------------------------


def words(*lines: str) -> None:
    """Print lines for a person, unless the command was told to be quiet."""
    if not shared().quiet:
        print_lines(*lines, err=True)


_REQUEST: Final = re.compile(
    r"(?:(?:GET|HEAD|POST|PUT|DELETE|OPTIONS) \S+"
    r"|(?P<ability>(?:tinycloud|sealspace)\.\S+) on (?P<resource>\S+)(?P<more> and \d+"
    r" more)?)(?:: |$)"
)
_RELEASE: Final = {
    "mode": "on these terms only code that proves itself reads it, and not its owner in person",
    "no_policy": "it is somebody else's, and no code is approved for it",
    "not_attested": "only code that proves itself reads it, and this caller has proved nothing",
    "withdrawn": "its owner or the node's operator withdrew the caller, its code or its evidence",
}
"""Reason of the release gate -> what it means; every other is about the code that was proved."""


def what_happened(error: SealspaceError, *, own: str = "") -> str:
    """Return one line without the full stop: what was to be done, and why it was not, without
    routes or abilities.

    Args:
        own: DID of the owner whose resources need no owner's name.
    """
    return " ".join(_what_happened(error, own).split()).rstrip(".")


def _what_happened(error: SealspaceError, own: str) -> str:
    match error:
        case DecryptDenied():
            return _what_happened(error.refusal, own)
        case ReleaseRefused():
            meaning = _RELEASE.get(
                error.reason, "what the caller proved of its code is not what is demanded"
            )
            return f"the node does not open it: {meaning} ({error.reason})"
        case NotGranted(missing=missing) if missing:
            return (
                "this session may not"
                f" {'; '.join(_right(one.ability, one.resource.text, own) for one in missing)}"
            )
        case ActionNotAuthorized():
            return (
                "the node does not allow this session to"
                f" {_right(error.action, error.resource, own)}"
            )
        case DelegationRevoked():
            return f"the grant or session that this rests on was revoked: {error.cid}"
        case TokenOutsideWindow():
            return f"the session or a grant is not valid at this time: {error.text}"
        case NodeRefused():
            reason = (
                error.text
                or error.reason_in_words
                or f"the node answers with status {error.status}"
            )
            asked = _REQUEST.match(error.asked)
            if asked and asked["ability"]:
                return (
                    "cannot"
                    f" {_right(asked['ability'], asked['resource'], own)}{asked['more'] or ''}:"
                    f" {reason}"
                )
            return f"{_REQUEST.sub('', error.asked) or 'the node refuses it'}: {reason}"
        case BatchIncomplete(__cause__=SealspaceError() as cause):
            count = len(error.done)
            return (
                f"of {count + len(error.left)} values {count} are written:"
                f" {_what_happened(cause, own)}"
            )
        case TransportError():  # the request, which no person wrote, reached nobody
            return _REQUEST.sub("", error.message, count=1)
    return error.message


def _right(ability: str, resource: str, own: str) -> str:
    """Say what one ability on one resource allows."""
    from ..apps.descriptions import granted_resource, rights_words  # needed for errors alone

    (words,) = rights_words([granted_resource(resource, (ability,))], by=own, with_below=False)
    return words


def watched() -> bool:
    """Whether a person watches, and can answer: standard input and standard error are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C end a wait that blocks the event loop: asyncio's handler cancels a task, which
    goes on waiting."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask.")


def confirm(question: str, *, yes: bool) -> None:
    """Go on only with a person's consent."""
    if yes:
        return
    if not watched():
        raise InvalidInput(
            f"nobody is here to confirm it: {question.rstrip('?')}", hint="add --yes"
        )
    with interruptible():
        click.confirm(printable_line(question), abort=True, err=True)


def confirm_replacing(path: Path | None, *, yes: bool) -> None:
    """Go on only with a person's consent where a file would be replaced."""
    if path is not None and path.exists():
        confirm(f"replace the file {path}?", yes=yes)


def counter(what: str, *, every: int, first: int = 0) -> Callable[[int], None]:
    """Return what to call with how many are done, which says so now and then."""
    following = first

    def count(done: int) -> None:
        nonlocal following
        if done >= following:
            following = done + every
            words(f"{done} {what}")

    return count


@contextmanager
def progress(total: int | None, label: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on standard error while a person watches; yields what to call with how much is
    done, and of how much."""
    if not watched() or shared().quiet:
        yield lambda _done, _total: None
        return
    from rich.console import Console  # 23 ms, and for people only
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(printable(label)), total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
