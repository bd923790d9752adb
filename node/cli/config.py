"""The command `sealspace config`, which shows or creates settings."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import click
import msgspec

from capabilities.strict_json import Json, JsonObject
from sealspace.cli.terminal import print_lines, print_result, tell
from sealspace.errors import InvalidInput

from ..config.loading import CONFIG_FILE_NAME, variable_of
from ..config.redaction import HIDDEN, NOT_IN_A_FILE
from ..config.tree import Config, setting_types
from .settings import configured

_COLUMNS = 100
_STORE = "store"  # STORE_FOLDER_NAME; importing that module would load every platform
_HEAD = """\
# Settings of a sealspace node. Each is commented out and shows its default: remove the # to change
# it. The node reads this file if you name it, `sealspace serve --config FILE`, or if it is
# sealspace.toml in the data folder. Environment variables and options of `serve` override it;
# `sealspace config show` prints the settings in force.
"""


@click.command(epilog="Example: `sealspace config show --data ./data`.")
@configured
def show(config: Config) -> None:
    """Print the effective settings as TOML, including the defaults.

    Secrets are masked: the output shows only whether a secret is set.
    """
    shown = _shown(config)
    print_result(shown, _shown_lines(shown))


def settings_without_secrets(config: Config) -> str:
    """Return the effective settings as TOML without secrets.

    Secrets are masked.
    """
    return "".join(f"{line}\n" for line in _shown_lines(_shown(config)))


def _shown(config: Config) -> JsonObject:
    """Return the effective settings, with secrets masked as `…`.

    The keys are dotted paths.
    """
    shown: JsonObject = {}
    for path in setting_types():
        section, _, name = path.partition(".")
        value = getattr(getattr(config, section), name)
        shown[path] = "…" if path in HIDDEN and value is not None else msgspec.to_builtins(value)
    return shown


def _shown_lines(shown: JsonObject) -> Iterator[str]:
    return _by_section(
        {
            path: [
                f"# {path.partition('.')[2]} is set and not shown"
                if value == "…"
                else _assignment(path, value)
            ]
            for path, value in shown.items()
        }
    )


@click.command(
    epilog="Example: `sealspace config init`, then `sealspace serve --config sealspace.toml`.",
)
@click.argument(
    "file",
    metavar="[FILE]",
    default=CONFIG_FILE_NAME,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
)
def init(file: Path) -> None:
    """Write a settings file that describes every setting.

    The default of each setting is commented out. FILE defaults to `sealspace.toml` in the current
    folder; `-` is standard output. An existing file is not overwritten.
    """
    if str(file) == "-":
        print_lines(*settings_file().splitlines())
        return
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(settings_file())
    except FileExistsError:
        raise InvalidInput(
            f"{file} already exists", hint="use another file: sealspace config init FILE"
        ) from None
    folder = file.parent.resolve()
    is_found = file.name == CONFIG_FILE_NAME and folder != Path.cwd()
    is_data = (folder / _STORE).is_dir() or folder == Path(Config().store.data).resolve()
    where = f"--config, or with data folder {file.parent}" if is_found else "--config"
    option = f"--data {file.parent}" if is_found and is_data else f"--config {file}"
    tell(
        f"wrote {file}; to use the file, start a node with {where}",
        f"next: sealspace serve {option}",
    )


def settings_file() -> str:
    """Return a settings file that describes every setting.

    The default of each setting is commented out.
    """
    defaults = _shown(Config())
    settings = {}
    for path, annotated in setting_types().items():
        assignment = "#" + _assignment(path, defaults[path]).lstrip("#")
        if path in NOT_IN_A_FILE:
            assignment = f"# Only from the environment: {variable_of(path)}"
        settings[path] = [
            "",
            *_comment(f"{description_of(annotated)} ({kind_of(annotated)})"),
            assignment,
        ]
    return _HEAD + "".join(f"{line}\n" for line in _by_section(settings, purposes=True))


def _by_section(settings: dict[str, list[str]], *, purposes: bool = False) -> Iterator[str]:
    section = ""
    for path, lines in settings.items():
        if (named := path.partition(".")[0]) != section:
            section = named
            purpose = (type(getattr(Config(), section)).__doc__ or "").partition("\n\n")[0]
            yield from ("", *(_comment(purpose) if purposes else ()), f"[{section}]")
        yield from lines


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, _COLUMNS, initial_indent="# ", subsequent_indent="# ", break_long_words=False
    )


def _assignment(path: str, value: Json) -> str:
    """Return a setting as a line of TOML.

    A setting without a value is commented out.
    """
    name = path.partition(".")[2]
    return (
        f"#{name} = none" if value is None else f"{name} = {json.dumps(value, ensure_ascii=False)}"
    )


def description_of(annotated: object) -> str:
    """Return the description of a setting from its type annotation."""
    description: str = get_args(annotated)[1].description
    return description


def kind_of(annotated: object) -> str:
    """Return the type of a setting in plain words."""
    kind = get_args(annotated)[0]
    if get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "list of text"
    kinds = {int: "whole number", float: "number", bool: "yes or no", str: "text"}
    return next(kinds[known] for known in kinds if kind is known or known in get_args(kind))
