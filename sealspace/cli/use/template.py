"""The command `sealspace template`, which inserts secrets into a file."""

import os
import re
import shlex
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import click

from ...errors import InvalidInput
from ...private_files import replace_file
from ...secrets import is_secret_name
from ..exit_status import FAILED
from ..keep.named_secrets import scope_option
from ..options.paths import FILE_OR_DASH, NEW_FILE, read_named
from ..terminal import print_value, tell
from .passed_values import child_environment, mask_patterns, text_of
from .run_process import MASKED_STARTS, run_masked
from .run_signals import INTERRUPTED
from .secret_reading import read_secrets
from .secret_watch import SecretWatch
from .watch_options import watch_interval, watch_options
from .watch_process import ENDED, Updates, watching

_MAX_BYTES = 16 << 20


_OPENED = re.compile(
    rb"""\{\{[-~]?\s*(?:(?P<word>secret)(?![\w.\[-])|secrets(?=\s*["'(:]))""", re.IGNORECASE
)
"""The beginning of a placeholder, which may turn out to be malformed.

Placeholders of other programs, such as `{{ secrets.API_KEY }}`, do not match.
"""


_PLACE = re.compile(rb'\{\{\s*secret\s+"([^"\n]*)"\s*\}\}')
"""A placeholder; its group is the name."""


_UNQUOTED = re.compile(rb"\{\{\s*secret\s+'?\w+'?\s*\}\}")
"""A placeholder whose name is not in double quotes."""


@click.command(
    epilog='Example: a file with the line `password: {{ secret "DB_PASSWORD" }}`, then `sealspace'
    " template app.yaml --out app.local.yaml`.",
)
@click.argument("file", type=FILE_OR_DASH)
@scope_option
@click.option(
    "--out",
    "target",
    type=NEW_FILE,
    help="Write to this file, readable only by you, instead of standard output.",
)
@watch_options("Look for new values, and write --out again when a secret was replaced.")
@click.option(
    "--then",
    metavar="COMMAND",
    help="With --watch: run this command, without a shell, each time that the file was written.",
)
def template(
    file: Path,
    scope: str | None,
    target: Path | None,
    is_watched: bool,
    every_s: int | None,
    then: str | None,
) -> int:
    """Replace each `{{ secret "NAME" }}` in FILE with the secret's value.

    Values are not escaped. FILE may be `-` for standard input. A malformed placeholder is refused.
    If a secret is missing, nothing is written. An existing output file is replaced, but not FILE
    itself.

    With `--watch`, the file is written again, as a whole, when a secret was replaced, until Ctrl-C.
    FILE is read only once. The command of --then gets no secret, and its output is masked: for
    example, `--then 'pkill -HUP nginx'`.
    """
    interval_s = watch_interval(is_watched, every_s, then=then)
    if is_watched and target is None:
        raise click.UsageError("--watch needs --out FILE")
    following = _split_words(then)
    if target is not None and _is_one_file(file, target):
        raise InvalidInput(
            f"{target} is the template itself, which would be lost",
            hint="write to another file: --out FILE",
        )
    text = read_named(file, most_bytes=_MAX_BYTES)
    # Of a longer file, `read_named` returns one byte more than the limit instead of an error.
    if len(text) > _MAX_BYTES:
        raise InvalidInput(
            f"{file} is longer than {_MAX_BYTES} bytes",
            hint="move the placeholders to a smaller file, and use that file as the template",
        )
    places = _places_in_template(text, file)
    if not places:
        _write_without_secrets(text, file, target, is_watched=is_watched)
        return 0
    reading = read_secrets([*places], scope=scope, places=places)
    if target is None:
        print_value(fill(text, reading.values), raw=True)
    elif interval_s is None:
        _write_filled(target, text, reading.values)
    else:
        watch = partial(
            SecretWatch, reading, every_s=interval_s, keeps="the file keeps the values that it has"
        )
        with suppress(KeyboardInterrupt), watching(watch) as updates:
            return _write_again_and_again(target, text, reading.values, updates, following)
    return 0


def _split_words(then: str | None) -> list[str]:
    """Split the command of `--then`, as a shell does it."""
    try:
        words = [] if then is None else shlex.split(then)
    except ValueError as error:
        raise click.UsageError(f"--then is not a command: {str(error).lower()}") from None
    if then is not None and not words:
        raise click.UsageError("--then is empty")
    return words


def _write_without_secrets(
    text: bytes, file: Path, target: Path | None, *, is_watched: bool
) -> None:
    """Write or print a template that names no secret."""
    form = f'{file} contains no placeholder; the form is {{{{ secret "NAME" }}}}'
    if is_watched:
        raise InvalidInput(
            f"there is nothing to watch: {file} contains no placeholder",
            hint='write a placeholder for each secret: {{ secret "NAME" }}',
        )
    if target is None:
        print_value(text, raw=True)
    else:
        _write_filled(target, text, {})
    tell(form)


def _write_filled(target: Path, text: bytes, values: Mapping[str, str | bytes]) -> None:
    replace_file(target, fill(text, values))
    secrets = "1 secret" if len(values) == 1 else f"{len(values)} secrets"
    tell(f"wrote {target} with {secrets}")


def _write_again_and_again(
    target: Path,
    text: bytes,
    values: Mapping[str, str | bytes],
    updates: Updates,
    command: Sequence[str],
) -> int:
    """Write a file with secrets, and again with each update, until a signal ends this.

    Returns the exit status.

    Args:
        target: the file.
        text: the template.
        values: the values to begin with.
        updates: new values.
        command: command to run each time after the file was written; empty: nothing.
    """
    environment = child_environment(os.environb, {}, allowed=())
    masked: deque[frozenset[bytes]] = deque(maxlen=MASKED_STARTS)
    while True:
        _write_filled(target, text, values)
        if command:
            masked.append(mask_patterns(values))
            ended = run_masked(command, environment, frozenset().union(*masked))
            if ended.is_by_user or ended.status in INTERRUPTED:
                return 0
            if ended.status:
                tell(f"{command[0]} ended with status {ended.status}")
        update = updates.receive()
        if update is None:
            tell(ENDED)
            return FAILED
        values = update.values


def _is_one_file(file: Path, target: Path) -> bool:
    """Return whether two paths are one file, through links too."""
    return file.exists() and target.exists() and file.samefile(target)


def _places_in_template(text: bytes, file: Path) -> dict[str, str]:
    """Return the secrets that a template names, each with file and line of its first place."""
    places: dict[str, str] = {}
    for opened in _OPENED.finditer(text):
        at = opened.start()
        line = text.count(b"\n", 0, at) + 1
        place = _PLACE.match(text, at)
        name = None if place is None else place[1].decode("utf-8", "replace")
        if name is not None and is_secret_name(name):
            places.setdefault(name, f"{file}: line {line}: ")
            continue
        if opened["word"] != b"secret":
            reason = "the first word must be `secret`, in lower case"
        elif _UNQUOTED.match(text, at):
            reason = "the name must be in double quotes"
        elif name is None:
            reason = "not closed, or without a name"
        else:
            reason = f"{name!r} is not a valid secret name"
        raise InvalidInput(
            f"{file}: line {line}: invalid placeholder: {reason}",
            hint='use the form {{ secret "NAME" }}, with the name in capitals',
        )
    return places


def fill(text: bytes, values: Mapping[str, str | bytes]) -> bytes:
    """Replace a template's placeholders with secrets."""
    return _PLACE.sub(lambda place: text_of(values[place[1].decode()]).encode(), text)
