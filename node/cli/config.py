"""`sealspace config`: the settings in force with their sources, and a settings file to begin with."""

import json
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec

from capabilities.strict_json import Json
from sealspace.cli.terminal import print_lines, print_rows, words
from sealspace.errors import InvalidInput

from ..config.loading import CONFIG_FILE_NAME
from ..config.redaction import NOT_IN_A_FILE, Redacted
from ..config.tree import Config, setting_types
from .settings import config_with_sources, data_options
from .settings_table import Setting, settings

_DEFAULT: Final = "default"
_HIDDEN: Final = "…"
_COLUMNS: Final = 100
_STORE: Final = "store"  # of `platform.root_secret`, which would load every platform
_HEAD: Final = """\
# Settings of a sealspace node. Each is commented out and shows its default: remove the # to change it.
# A start reads this file if it is named, `sealspace serve --config FILE`, or is sealspace.toml in the data folder.
# Variables of the environment and options of `serve` take precedence; `sealspace config show` says what is in force.
"""


@click.command("show", epilog="Example: `sealspace config show --data ./data`.")
@data_options
def show(config_file: Path | None, store__data: str | None) -> None:
    """Print every setting in force, with its source: a file, a variable, the command line, or its default.

    Of a secret only whether it is set.
    """
    config, sources = config_with_sources(config_file, {"store__data": store__data})
    shown = {path: (_value(config, path), sources.get(path, _DEFAULT)) for path in setting_types()}
    print_rows(
        {path: {"value": value, "source": source} for path, (value, source) in shown.items()},
        ("setting", "value", "source"),
        [(path, _text(value), source) for path, (value, source) in shown.items()],
        nothing="",
    )


@click.command("init", epilog="Example: `sealspace config init`, then `sealspace serve --config sealspace.toml`.")
@click.argument(
    "file", metavar="[FILE]", default=CONFIG_FILE_NAME, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
def init(file: Path) -> None:
    """Write a settings file with every setting, described and commented out, at its default.

    FILE is `sealspace.toml` in the current folder unless it is named, and `-` for standard output. An existing file is
    not overwritten.
    """
    if str(file) == "-":
        print_lines(*settings_file().splitlines())
        return
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise InvalidInput(
            f"{file} is there already", hint="sealspace config init ANOTHER-FILE, or - to see it"
        ) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(settings_file())
    folder = file.parent
    is_here = folder.resolve() == Path.cwd()
    if file.name != CONFIG_FILE_NAME or is_here:
        words(f"wrote {file}; a node reads it where it is named", f"next: sealspace serve --config {file}")
    elif (folder / _STORE).is_dir() or folder.resolve() == Path(Config().store.data).resolve():
        words(f"wrote {file}; a node reads it where its data folder is named", f"next: sealspace serve --data {folder}")
    else:
        words(
            f"wrote {file}; a node reads it where it is named, or where {folder} is named as the data folder",
            f"next: sealspace serve --config {file}",
        )


def settings_file() -> str:
    """Return the text of a settings file in which every setting is described and commented out."""
    return _HEAD + "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    section = ""
    for setting in settings():
        named, _, name = setting.path.partition(".")
        if named != section:
            section = named
            yield from ("", *_comment(_purpose(section)), f"[{section}]")
        yield from ("", *_comment(f"{setting.description} ({setting.kind})"), _assignment(setting, name))


def _assignment(setting: Setting, name: str) -> str:
    if setting.path in NOT_IN_A_FILE:
        return f"# Only from the environment: {setting.variable}"
    value = _value(Config(), setting.path)
    return f"#{name} = {'none' if value is None else json.dumps(value)}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _COLUMNS, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _purpose(section: str) -> str:
    return (type(getattr(Config(), section)).__doc__ or "").strip().partition("\n")[0]


def _value(config: Config, path: str) -> Json:
    """Return a setting as JSON; of a secret, only whether it is set."""
    section, _, name = path.partition(".")
    holder = getattr(config, section)
    value: Json = msgspec.to_builtins(getattr(holder, name))
    is_hidden = isinstance(holder, Redacted) and name in holder.secrets and value is not None
    return _HIDDEN if is_hidden else value


def _text(value: Json) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
