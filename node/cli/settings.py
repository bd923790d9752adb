"""Command-line options that several commands share."""

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from sealspace.cli.terminal import tell

from ..config.loading import CONFIG_FILE_NAME, Value, load_config
from ..config.tree import Config

Command = TypeVar("Command", bound=Callable[..., Any])


def data_options(command: Command) -> Command:
    """Add the options `--data` and `--config` to a command."""
    command = click.option(
        "--config", "config_file", type=click.Path(path_type=Path), help="Settings file."
    )(command)
    return click.option("--data", "store__data", metavar="DIR", help="Data folder.")(command)


def where_options(command: Command) -> Command:
    """Add the options `--store` and `--objects` to a command."""
    command = click.option(
        "--objects",
        "objects__url",
        metavar="URL",
        help="Bucket for large values: s3://bucket/prefix.",
    )(command)
    return click.option(
        "--store", "store__url", metavar="URL", help="Database to use instead of LMDB."
    )(command)


trust_root_option = click.option(
    "--trust-root",
    "release__trust_root",
    metavar="FILE",
    help="Root certificate to trust instead of Intel's.",
)


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command so that it receives the effective settings.

    This adds the options `--data` and `--config` to the command.
    """

    @data_options
    @wraps(command)
    def gathered(config_file: Path | None, **given: Any) -> object:
        # Options such as `http__port` are settings. All others are arguments of the command.
        flags = {name: value for name, value in given.items() if "__" in name}
        others = {name: value for name, value in given.items() if name not in flags}
        return command(config_from(config_file, flags), **others)

    return gathered


def config_from(config_file: Path | None, flags: Mapping[str, Value]) -> Config:
    """Return the effective settings.

    The flag `http__port` sets the setting `http.port`.
    """
    # A settings file in the current folder is not read (node.config.loading): tell a user who may
    # expect it.
    if config_file is None and Path(CONFIG_FILE_NAME).is_file():
        context = click.get_current_context(silent=True)
        command = "sealspace serve" if context is None else context.command_path
        tell(
            f"{CONFIG_FILE_NAME} in the current folder is ignored; to use the file: {command}"
            f" --config {CONFIG_FILE_NAME}"
        )
    by_path = {name.replace("__", "."): value for name, value in flags.items()}
    return load_config(file=config_file, flags=by_path)
