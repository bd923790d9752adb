"""The commands `sealspace runner backup` and `sealspace runner restore`."""

import asyncio
from pathlib import Path

import click
import msgspec

from capabilities.clock_and_entropy import SystemClock
from sealspace.cli.options.paths import FOLDER, NEW_FOLDER
from sealspace.cli.terminal import print_result, time_text

from ..calls.journal_copies import (
    JOURNAL_NAME,
    Backup,
    BackupCopies,
    RestoredJournal,
    backup_folder,
    restore_journal,
    runner_of,
    stopped_runner,
)
from ..http.operator_routes import offered_file

_KEY = (
    "the backup does not contain the runner's key, without which keys, accounts and jobs cannot be"
    " opened: the platform's key service gives it to the same application, and with --key file it"
    " is the file backend.key in the data folder, of which you need a copy"
)


@click.command(
    epilog="Example: `sealspace runner backup /backups/runner --data runner`. Run it as the user"
    " who runs the runner."
)
@click.argument("folder", metavar="DIR", type=NEW_FOLDER)
@click.option("--data", required=True, type=FOLDER, help="Data folder of the runner.")
def backup(folder: Path, data: Path) -> None:
    """Write a backup of a runner's journal to the folder DIR.

    The journal contains accounts, API keys, receipts, answers and waiting calls. The runner may be
    running and goes on meanwhile. A former backup in DIR is replaced when the new one is complete;
    an interrupted command leaves it whole. Grants are not in the backup, because the runner fetches
    them from its node; neither is the runner's key.
    """
    with backup_folder(folder) as copies:
        made_backup = asyncio.run(_copy_journal(copies, data))
        copies.publish(made_backup)
    made_at = time_text(made_backup.made_at)
    print_result(
        {"folder": str(folder), **msgspec.to_builtins(made_backup), "madeAt": made_at},
        [
            f"{folder}: {made_backup.size_bytes:,} bytes",
            f"it contains every change that was acknowledged before {made_at}",
            _KEY,
            f"next: copy {folder} to another machine; sealspace runner restore {folder} --data NEW",
        ],
    )


async def _copy_journal(copies: BackupCopies, data: Path) -> Backup:
    """Copy the journal of a runner, which may be running."""
    source = data / JOURNAL_NAME
    with stopped_runner(data) as is_stopped:
        if is_stopped:
            return copies.copy_stopped(source, runner=runner_of(data), made_at=SystemClock.now())
    # A running runner offers a file of its own, which does not change while it is copied.
    async with offered_file(data) as offered:
        return await asyncio.to_thread(
            copies.copy,
            source,
            size_bytes=offered.size_bytes,
            runner=offered.runner,
            made_at=offered.made_at,
        )


@click.command(
    epilog="Example: `sealspace runner restore /backups/runner --data runner`, then start the"
    " runner."
)
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option(
    "--data",
    required=True,
    type=NEW_FOLDER,
    help="Data folder of a runner that is stopped and has no journal, or a new folder.",
)
def restore(folder: Path, data: Path) -> None:
    """Restore the journal of a runner from the backup in the folder DIR.

    The backup is verified before the journal appears in the data folder. Balances, API keys and
    receipts are then those of the backup. Calls that had not ended fail with `interrupted` and cost
    nothing, because they may have run after the backup.
    """
    restored = restore_journal(folder, data, now=SystemClock.now())
    made_at = time_text(restored.backup.made_at)
    print_result(
        {
            "runner": restored.backup.runner,
            "madeAt": made_at,
            "waiting": restored.waiting,
            "started": restored.started,
        },
        _restore_lines(restored, made_at),
    )


def _restore_lines(restored: RestoredJournal, made_at: str) -> list[str]:
    """Return what a person has to know and do after a restore."""
    return [
        f"restored the journal of {restored.backup.runner or 'a runner'}, as it was at {made_at}",
        f"calls that fail with `interrupted` at the next start: {restored.waiting} that had not"
        f" started, {restored.started} that had",
        f"balances are those of {made_at}: add the credits since then again, with the same"
        " --reference; what was charged since then is lost",
        "API keys that were revoked since then work again: ask their owners to revoke them again,"
        " and to make the keys again that they made since then",
        _KEY,
        "next: sealspace runner doctor, with the options of `runner serve`; then start the runner",
    ]
