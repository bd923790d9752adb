"""`sealspace admin check`: read the whole store, and name what is damaged."""

import asyncio
import sqlite3
from pathlib import Path

import click
import lmdb
from msgspec import Struct

from spaces.checks.checking import Checked, check_store

from ...config.loading import Value
from ...config.tree import Config
from ...errors import NodeError, StoreMisused
from ...storage.objects import stored_objects
from ..exit_status import FAILED
from ..shared import shared
from ..terminal import print_json, print_lines, words
from .apart import EndedByPages, do_task, done_apart
from .interruption import end_as_by_ctrl_c
from .opened_store import opened_store
from .settings import config_from, data_options


@click.command()
@data_options
@click.option("--objects", "objects__url", metavar="URL", help="The bucket of the large values, if they are in one.")
def check(config_file: Path | None, **flags: Value) -> int:
    """Read every row and every large value, and print what is damaged, one finding a line.

    Rows must decode, counters add up, large values be there and have their digest. Nothing is written, and the node may
    be running. Exit status 1 when something is damaged.
    """
    config = config_from(config_file, flags)
    end_as_by_ctrl_c()  # so that the process that reads ends too
    checked = check_apart(config)
    _print(checked)
    return FAILED if checked.damages else 0


def check_apart(config: Config) -> Checked:
    """Check the store in a process of its own, which damaged pages can end: such a signal is what is found (BK9).

    Raises:
        StoreMisused: there is no store, it cannot be read, or the check was ended by something else.
    """
    try:
        return done_apart(__name__, _Task(config), Checked)
    except EndedByPages as ended:
        found = Checked()
        found.add("store", "data.mdb", f"reading it ended the process ({ended}): it was cut short or overwritten")
        return found


class _Task(Struct, frozen=True):
    config: Config


def main_apart() -> None:
    """Be the process of a check."""
    do_task(_Task, _checked)


def _checked(task: _Task) -> Checked:
    try:
        return asyncio.run(_check(task.config))
    except NodeError as error:
        reason = error.__cause__ and error.__cause__.__cause__
        if not isinstance(reason, lmdb.CorruptedError | lmdb.InvalidError | lmdb.PageNotFoundError):
            raise
        found = Checked()
        found.add("store", "data.mdb", f"it does not open ({type(reason).__name__}): its pages are damaged")
        return found
    except (OSError, sqlite3.Error) as error:
        hint = "is the disk of temporary files full? TMPDIR names another one"
        raise StoreMisused(f"the check cannot go on: {error}", hint=hint) from error


async def _check(config: Config) -> Checked:
    async with opened_store(config, is_for_reading=True) as store:
        return await check_store(store, await stored_objects(config, store), config.data)


def _print(checked: Checked) -> None:
    if shared().as_json:
        print_json(checked)
    else:
        print_lines(*[f"damage: {found.what} {found.name}: {found.text}" for found in checked.findings])
    words(f"rows: {checked.rows:,}; large values: {checked.bodies:,} ({checked.body_bytes:,} bytes)")
    if checked.damages:
        words(f"findings: {checked.damages:,}; next: sealspace admin restore FILE --data DIR")
    else:
        words("nothing is damaged")
