"""What commands print: lines for people, JSON for programs; nothing else in the commands prints.

Any text may have come from a node, a backend or a stored row, and somebody may look at it in a terminal: lines are made
printable here, whatever they are made of, and JSON is spelled in ASCII.

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
    """Put the null device where a standard stream was closed: the next file that is opened would be in its place.

    Whatever is written there then, by this process or one that it starts, would go into that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def print_lines(*lines: str, err: bool = False) -> None:
    """Print lines, one for each argument whatever stands in it, on standard output or on standard error."""
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
