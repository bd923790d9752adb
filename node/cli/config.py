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
from .settings import STORE_FOLDER, configured

_COLUMNS = 100
_MASKED = "…"  # in place of a secret that is set
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


def settings_for_backup(config: Config) -> str:
    """Return the effective settings as TOML, without secrets and without the data folder.

    A node that is restored has another folder. With the original's, it would start the original
    (BK11).
    """
    shown = _shown(config)
    del shown["store.data"]
    folder = _assignment("store.data", str(config.data))
    lines = [*_shown_lines(shown)]
    at = lines.index("[store]") + 1
    lines[at:at] = [f"# the folder of the original: {folder}"]
    return "".join(f"{line}\n" for line in lines)


def _shown(config: Config) -> JsonObject:
    """Return the effective settings, with secrets masked as `…`.

    The keys are dotted paths.
    """
    shown: JsonObject = {}
    for path in setting_types():
        section, _, name = path.partition(".")
        value = getattr(getattr(config, section), name)
        if path in HIDDEN and value is not None:
            shown[path] = _MASKED
        else:
            shown[path] = msgspec.to_builtins(value)
    return shown


def _shown_lines(shown: JsonObject) -> Iterator[str]:
    """Return the lines of TOML for settings whose secrets are masked."""
    lines = {}
    for path, value in shown.items():
        line = _assignment(path, value)
        if value == _MASKED:
            line = f"# {_name_of(path)} is set and not shown"
        lines[path] = [line]
    return _by_section(lines)


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
    # A node finds such a file by itself if `file.parent` is its data folder.
    is_found = file.name == CONFIG_FILE_NAME and folder != Path.cwd()
    is_data_folder = (folder / STORE_FOLDER).is_dir() or folder == Path(
        Config().store.data
    ).resolve()
    where = "--config"
    if is_found:
        where = f"--config, or with data folder {file.parent}"
    option = f"--config {file}"
    if is_found and is_data_folder:
        option = f"--data {file.parent}"
    tell(
        f"wrote {file}; to use the file, start a node with {where}",
        f"next: sealspace serve {option}",
    )


def settings_file() -> str:
    """Return a settings file that describes every setting.

    The default of each setting is commented out.
    """
    defaults = _shown(Config())
    lines_by_path = {}
    for path, annotated in setting_types().items():
        if path in NOT_IN_A_FILE:
            last_line = f"# Only from the environment: {variable_of(path)}"
        else:
            assignment = _assignment(path, defaults[path])
            last_line = assignment if assignment.startswith("#") else f"#{assignment}"
        lines_by_path[path] = [
            "",
            *_comment(f"{description_of(annotated)} ({kind_of(annotated)})"),
            last_line,
        ]
    return _HEAD + "".join(f"{line}\n" for line in _by_section(lines_by_path, purposes=True))


def _by_section(lines_by_path: dict[str, list[str]], *, purposes: bool = False) -> Iterator[str]:
    """Yield the lines of all settings, with a header before the first setting of each section.

    With `purposes`, the first sentences of the section's docstring come before its header.
    """
    last_section = ""
    for path, lines in lines_by_path.items():
        section, _, _ = path.partition(".")
        if section != last_section:
            last_section = section
            yield ""
            if purposes:
                docstring = type(getattr(Config(), section)).__doc__ or ""
                purpose, _, _ = docstring.partition("\n\n")
                yield from _comment(purpose)
            yield f"[{section}]"
        yield from lines


def _name_of(path: str) -> str:
    """Return the name of a setting in its section."""
    _, _, name = path.partition(".")
    return name


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, _COLUMNS, initial_indent="# ", subsequent_indent="# ", break_long_words=False
    )


def _assignment(path: str, value: Json) -> str:
    """Return a setting as a line of TOML.

    A setting without a value is commented out.
    """
    name = _name_of(path)
    if value is None:
        return f"#{name} = none"
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"


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
    texts = {int: "whole number", float: "number", bool: "yes or no", str: "text"}
    for type_, text in texts.items():
        if kind is type_ or type_ in get_args(kind):  # the latter for an optional setting
            return text
    raise TypeError(f"a setting has the type {kind}, which has no description")
