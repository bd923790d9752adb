"""Command-line options that several commands share."""

import os
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from sealspace.cli.terminal import tell
from sealspace.service.command_errors import ConfigurationError

from ..config.loading import CONFIG_FILE_NAME, Value, load_config, settings_file_of
from ..config.tree import Config

STORE_FOLDER = "store"  # STORE_FOLDER_NAME; importing that module would load every platform

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


def configured(command: Callable[..., Any], *, starts: bool = False) -> Callable[..., Any]:
    """Decorate a command so that it receives the effective settings.

    This adds the options `--data` and `--config` to the command. `starts` is set for a command that
    starts a node.
    """

    @data_options
    @wraps(command)
    def with_settings(config_file: Path | None, **options: Any) -> object:
        # Options such as `http__port` are settings. All others are arguments of the command.
        flags = {name: value for name, value in options.items() if "__" in name}
        arguments = {name: value for name, value in options.items() if name not in flags}
        return command(config_from(config_file, flags, starts=starts), **arguments)

    return with_settings


configured_to_start = partial(configured, starts=True)


def config_from(
    config_file: Path | None, flags: Mapping[str, Value], *, starts: bool = False
) -> Config:
    """Return the effective settings.

    The flag `http__port` sets the setting `http.port`. With `starts`, settings beside another store
    than theirs are refused.
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
    config = load_config(file=config_file, flags=by_path)
    settings_file = config_file or settings_file_of(os.environ, by_path)
    if starts and settings_file is not None:
        _refuse_other_store(settings_file, config)
    return config


def _refuse_other_store(settings_file: Path, config: Config) -> None:
    """Refuse settings in the folder of a store that is not the store that they name (BK11).

    A settings file that was copied from another node, or from a backup, would start that node's
    store, or an empty one.
    """
    folder = settings_file.resolve().parent
    if not (folder / STORE_FOLDER).is_dir():
        return
    if not config.is_shared and config.data.resolve() == folder:
        return
    if config.is_shared and _was_moved(folder):
        return
    place = "store.url names a database" if config.is_shared else f"store.data names {config.data}"
    fix = "remove store.url from" if config.is_shared else "correct store.data in"
    raise ConfigurationError(
        f"the settings file {settings_file} is in the folder of a store, but {place}",
        hint=f"to start the node with the store in that folder, {fix} the file, or add --data"
        f" {folder}; to start the other, move the settings file out of the folder",
    )


def _was_moved(folder: Path) -> bool:
    """Return whether the store in a folder was moved into a database (ST12)."""
    import asyncio  # the supervisor starts the others before it imports this

    from spaces.space_errors import SpaceError, StoreMoved  # needs the extra `node`
    from spaces.store.lmdb.engine import read_lmdb

    try:
        store = read_lmdb(folder)
    except StoreMoved:
        return True
    except SpaceError:  # it may be a store
        return False
    asyncio.run(store.close())
    return False
