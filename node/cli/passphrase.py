"""A passphrase from a file or from the person who watches; never from an argument, which others can read."""

from typing import TextIO

import click

from sealspace.cli.errors import SecretUnusable
from sealspace.cli.terminal import watched

MAX_CHARS = 1024
passphrase_option = click.option(
    "--passphrase-file",
    type=click.File("r", encoding="utf-8", errors="surrogateescape"),
    help="Its first line is the passphrase.",
)


def asked_passphrase(file: TextIO | None, *, twice: bool) -> str:
    """Return a passphrase: the first line of the file, or what a person is asked for, twice if it is to be exact."""
    if file is not None:
        return _judged(file.readline(MAX_CHARS + 3).rstrip("\r\n"))  # one more than allowed, and the line's end
    if not watched():
        raise SecretUnusable(
            "nobody is here to be asked for the passphrase", hint="give it with --passphrase-file FILE"
        )
    answer: str = click.prompt("passphrase", hide_input=True, confirmation_prompt=twice, err=True)
    return _judged(answer)


def _judged(passphrase: str) -> str:
    if len(passphrase) > MAX_CHARS or "\0" in passphrase or not passphrase.strip():
        raise SecretUnusable(
            f"the passphrase is blank, contains NUL, or has more than {MAX_CHARS} characters",
            hint="the first line of the file is the passphrase: six random words, or more",
        )
    return passphrase
