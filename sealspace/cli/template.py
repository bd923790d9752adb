"""`sealspace template`: a file with secrets filled in.

A place for a secret is written `{{ secret "NAME" }}`; everything else stays as it is, other `{{ … }}` too, so that a
file may be a template of another program as well. Nothing is quoted or escaped.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from ..errors import InvalidInput
from ..private_files import replace_file
from ..secrets import is_secret_name
from .paths import FILE_OR_DASH, NEW_FILE, read_named
from .secret import scope_option
from .secret_values import Value, read_values
from .terminal import words

_MAX_BYTES: Final = 16 << 20
_OPENED: Final = re.compile(rb"""\{\{-?\s*secret(?:\s*["']|\s+\w)""")
_PLACE: Final = re.compile(rb'\{\{\s*secret\s+"([^"\n]*)"\s*\}\}')
_SHAPE: Final = '{{ secret "NAME" }}'


@click.command(
    "template",
    epilog='Example: a file with the line `password: {{ secret "DB_PASSWORD" }}`, then `sealspace template app.yaml '
    "--out app.local.yaml`.",
)
@click.argument("file", type=FILE_OR_DASH)
@scope_option
@click.option(
    "--out", "target", type=NEW_FILE, help="File to write, readable by its owner alone; by default standard output."
)
def template(file: Path, scope: str | None, target: Path | None) -> None:
    """Fill secrets into a text: each `{{ secret "NAME" }}` becomes the value, as it is.

    FILE may be `-` for standard input. If a secret is missing, nothing is written. An existing file is replaced as a
    whole.
    """
    text = read_named(file, most_bytes=_MAX_BYTES)
    if len(text) > _MAX_BYTES:
        raise InvalidInput(f"{file} is longer than {_MAX_BYTES} bytes", hint="fill a smaller file, and include that")
    names = places(text)
    values = read_values(names, scope=scope) if names else {}
    filled = fill(text, values)
    if target is None:
        sys.stdout.buffer.write(filled)
        sys.stdout.buffer.flush()
    else:
        replace_file(target, filled)
        words(f"wrote {target} with {len(values)} secret{'s' if len(values) != 1 else ''}")


def places(text: bytes) -> tuple[str, ...]:
    """Return the names of the secrets that a text asks for, each once, in order.

    Raises:
        InvalidInput: something begins like a place for a secret and is none; names its line.
    """
    names: dict[str, None] = {}
    for opened in _OPENED.finditer(text):
        place = _PLACE.match(text, opened.start())
        name = None if place is None else place[1].decode("utf-8", "replace")
        if name is None or not is_secret_name(name):
            line = text.count(b"\n", 0, opened.start()) + 1
            what = "is not closed or names nothing" if name is None else f"names {name!r}, which is no secret's name"
            raise InvalidInput(
                f"line {line}: a place for a secret {what}", hint=f"write {_SHAPE}, the name in capitals"
            )
        names[name] = None
    return tuple(names)


def fill(text: bytes, values: Mapping[str, Value]) -> bytes:
    """Return the text with each place filled.

    Args:
        text: with the places that `places` found.
        values: one for each.
    """
    return _PLACE.sub(lambda place: values[place[1].decode()].text.encode(), text)
