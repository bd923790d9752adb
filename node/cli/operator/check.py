"""`sealspace admin check`: read the whole store, and name what is damaged."""

import asyncio
import multiprocessing
import signal
import sqlite3
from multiprocessing.connection import Connection
from pathlib import Path

import click
import lmdb

from spaces.checks.checking import Checked, check_store

from ...config.loading import Value
from ...config.tree import Config
from ...errors import NodeError, StoreMisused
from ...storage.objects import stored_objects
from ..exit_status import FAILED
from ..shared import shared
from ..terminal import print_json, print_lines, words
from .opened_store import opened_store
from .settings import config_from, data_options

_Sent = tuple[Checked, tuple[str, str, str] | None]
_OF_DAMAGED_PAGES = ("SIGBUS", "SIGSEGV", "SIGABRT")


@click.command()
@data_options
@click.option("--objects", "objects__url", metavar="URL", help="The bucket of the large values, if they are in one.")
def check(config_file: Path | None, **flags: Value) -> int:
    """Read every row and every large value, and print what is damaged, one finding a line.

    Rows must decode, counters add up, large values be there and have their digest. Nothing is written, and the node may
    be running. Exit status 1 when something is damaged.
    """
    config = config_from(config_file, flags)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the process that reads ends too
    checked = check_apart(config)
    _print(checked)
    return FAILED if checked.damages else 0


def check_apart(config: Config) -> Checked:
    """Check the store in a process of its own, which damaged pages can end: such a signal is what is found (BK9).

    Raises:
        StoreMisused: there is no store, it cannot be read, or the check was ended by something else.
    """
    context = multiprocessing.get_context("spawn")
    ours: Connection[None, _Sent]
    theirs: Connection[_Sent, None]
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_check_and_send, args=(config, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        found, refusal = ours.recv()
    except EOFError:
        child.join()
        found, refusal = Checked(), None
        ending = signal.Signals(-(child.exitcode or 0)).name if (child.exitcode or 0) < 0 else "an error"
        if ending in _OF_DAMAGED_PAGES:
            found.add("store", "data.mdb", f"reading it ended the process ({ending}): it was cut short or overwritten")
        else:
            refusal = (StoreMisused.code, f"the check was ended by {ending}", "start it again")
    finally:
        child.terminate()
        child.join()
    if refusal is not None:
        code, text, hint = refusal
        refused = StoreMisused(text, hint=hint)
        refused.code = code
        raise refused
    return found


def _check_and_send(config: Config, sender: "Connection[_Sent, None]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends this process
    found = Checked()
    try:
        sender.send((asyncio.run(_check(config)), None))
    except NodeError as error:
        reason = error.__cause__ and error.__cause__.__cause__
        if isinstance(reason, lmdb.CorruptedError | lmdb.InvalidError | lmdb.PageNotFoundError):
            found.add("store", "data.mdb", f"it does not open ({type(reason).__name__}): its pages are damaged")
        sender.send((found, None if found.damages else (error.code, error.text, error.hint)))
    except (OSError, sqlite3.Error) as error:
        hint = "is the disk of temporary files full? TMPDIR names another one"
        sender.send((found, (StoreMisused.code, f"the check cannot go on: {error}", hint)))


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
