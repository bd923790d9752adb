"""What commands print: lines for people, JSON for programs; nothing else in the commands prints.

Any text may come from a node, a backend or a stored row, and may be shown in a terminal: lines are made printable here,
whatever they contain, and JSON is encoded in ASCII.

Example:
    tell(f"granted: {cid}", err=True)
    print_json({"kept": number})
"""

import json
import os
import sys

import click
import msgspec

from sealspace.printable import printable_line


def hold_standard_streams() -> None:
    """Open the null device for each closed standard stream: the next file to be opened would take its descriptor.

    Anything that this process, or one that it starts, then writes to that stream would go into that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def print_lines(*lines: str, err: bool = False) -> None:
    """Print one line for each argument, whatever it contains, on standard output or on standard error."""
    for line in lines:
        click.echo(printable_line(line), err=err)


def print_json(value: object) -> None:
    """Print a value as one line of JSON, in ASCII."""
    click.echo(json.dumps(msgspec.to_builtins(value), separators=(",", ":")))


def print_exactly(line: bytes) -> None:
    """Print a line of signed text byte for byte, so that it still verifies; printable where a terminal shows it.

    Args:
        line: UTF-8, without its end.
    """
    if sys.stdout.isatty():
        print_lines(line.decode("utf-8", "replace"))
    else:
        click.echo(line)
