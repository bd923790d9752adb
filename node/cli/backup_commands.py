"""The commands `sealspace admin backup`, `restore` and `check`."""

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import GenericAlias
from typing import BinaryIO, ParamSpec, TypeVar, get_type_hints

import click
import lmdb
import msgspec
from msgspec import to_builtins
from msgspec.structs import replace

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import principal_of
from encryption_network.keyring import Keyring
from encryption_network.network_errors import RecordError
from encryption_network.networks import (
    NetworkRecord,
    decode_network,
    is_sealed_by,
)
from encryption_network.policy import decode_evidence
from encryption_network.release_record import decode_release_record
from encryption_network.withdrawals import decode_withdrawals
from sealspace.cli.exit_status import FAILED
from sealspace.cli.shared import shared
from sealspace.cli.terminal import (
    ask_hidden,
    counter,
    flag_option,
    is_interactive,
    print_json,
    print_lines,
    progress,
    tell,
    time_text,
)
from sealspace.private_files import make_file, read_key
from sealspace.service.command_errors import (
    ClockWrong,
    ConfigurationError,
    FileUnreadable,
    NodeError,
    SecretUnusable,
    StoreMisused,
)
from spaces.archive.backup import BackupSummary, Header, backup_file, write_backup
from spaces.archive.checking import Checked, check_store
from spaces.archive.restoring import (
    FinishedRestore,
    OpenedBackup,
    Restored,
    damaged_pages,
    finish_restore,
    restore_backup,
    restoring_into,
)
from spaces.documents.evidence import evidence_row_key
from spaces.documents.network_rows import network_row_key
from spaces.grants.replay_records import RESTORE_WAIT
from spaces.keyspace import (
    EVIDENCE_PREFIX,
    HOSTING_MODE_KEY,
    NETWORKS_PREFIX,
    RELEASE_RECORD_KEY,
    WITHDRAWALS_KEY,
)
from spaces.space_errors import (
    BackupDamaged,
    RecordDamaged,
    RotationUnfinished,
    SpaceError,
    StoreFull,
)

from ..config.loading import CONFIG_FILE_NAME, child_environment
from ..config.tree import Config
from ..platform.root_secret import (
    SECRET_FILE_NAME,
    STORE_FOLDER_NAME,
    load_root_secret,
    secret_origin,
)
from ..platform.sealed_secret import open_secret, seal_secret
from ..processes.launch import StartRefusal, end_with_parent, own_program
from ..storage.objects import stored_objects
from ..storage.stores import longest_life_s, recorded_text, rows_of
from .config import settings_for_backup
from .opened_store import opened_store, own_keyring, own_secret
from .settings import configured, where_options

_MAX_AHEAD_S = 86_400
_MAX_PASSPHRASE_CHARS = 1024
_PASSPHRASE = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read the passphrase from the first line of this file.",
)


@click.command()
@configured
@where_options
@flag_option("--with-secret", help="Include the root secret, encrypted with a passphrase.")
@_PASSPHRASE
@click.argument("file", type=click.Path(path_type=Path))
def backup(config: Config, file: Path, with_secret: bool, passphrase_file: Path | None) -> int:
    """Write a backup of the store to a new FILE.

    The backup contains every row, large value and SQL database.

    The node may be running and is not interrupted: every write that it acknowledged before the
    backup began is in the file. The settings are in it too, without secrets. The root secret is in
    it only with --with-secret; otherwise keep a copy of the file `secret` of the data folder
    somewhere else. The backup does not encrypt anything else, so keep it as safe as the store.
    """
    if passphrase_file is not None and not with_secret:
        raise click.UsageError(
            "--passphrase-file needs --with-secret, which includes the root secret"
        )
    passphrase = _read_passphrase(passphrase_file, twice=True) if with_secret else None
    handle_signals_like_ctrl_c()  # a signal then removes the unfinished file
    summary = asyncio.run(_back_up(config, file, passphrase))
    if shared().as_json:
        print_json(
            {"file": str(file), **to_builtins(summary), "markedAt": time_text(summary.marked_at)}
        )
    print_lines(
        *[f"left out: {name}: missing or damaged in the store" for name in summary.left_out],
        err=True,
    )
    tell(
        f"{file}: {summary.size_bytes:,} bytes in total; number of large values:"
        f" {summary.bodies:,}; databases: {summary.databases:,}; digest: {summary.digest}",
        f"the backup contains every write acknowledged before {time_text(summary.marked_at)}",
        (
            "the backup contains the root secret, encrypted with the passphrase"
            if with_secret
            else "the backup does not contain the root secret: keep a copy of the secret elsewhere"
        ),
        "the backup contains the settings, without secrets, in the file settings.toml",
        f"next: sealspace admin restore {file} --data DIR",
    )
    return FAILED if summary.left_out else 0


async def _back_up(config: Config, file: Path, passphrase: str | None) -> BackupSummary:
    async with opened_store(config, is_for_reading=True) as store:
        # This command does not see what `serve` was given by options or variables, so the mode is
        # the one that the last start has recorded (ST18).
        mode = await recorded_text(store, HOSTING_MODE_KEY) or config.hosting.mode
        served = replace(config, hosting=replace(config.hosting, mode=mode))
        sealed = None
        if passphrase is not None:
            if secret_origin(config) == "platform":  # a platform's secret never leaves it (BK8)
                raise SecretUnusable(
                    "the root secret comes from the platform and cannot be exported",
                    hint="make the backup without --with-secret",
                )
            secret = await own_secret(config, store)
            sealed = seal_secret(secret, passphrase, SystemEntropy())
        try:
            objects = await stored_objects(config, store)
            with backup_file(file) as stream, progress(None, "backup") as show:
                return await write_backup(
                    store,
                    rows_of(config, store),
                    objects,
                    stream,
                    folder=config.data.resolve(),
                    is_shared=config.is_shared,
                    longest_life_s=longest_life_s(config),
                    settings=settings_for_backup(served).encode(),
                    sealed_secret=sealed,
                    clock=SystemClock(),
                    done=lambda done: show(done, None),
                )
        except SpaceError as error:
            hint = "sealspace admin check"
            if isinstance(error, StoreFull):
                hint = "free disk space, or write the backup to another disk"
            elif isinstance(error, RotationUnfinished):
                hint = "finish the replacement first: sealspace admin root rotate"
            raise StoreMisused(
                f"the backup was not written: {error}", hint=hint, code=error.code
            ) from error


def _read_passphrase(file: Path | None, *, twice: bool) -> str:
    """Read the backup passphrase from a file or a prompt.

    The passphrase is the first line of the file.
    """
    if file is not None:
        data = read_key(
            file,
            "passphrase file",
            SecretUnusable,
            # A character has at most four bytes in UTF-8, and the end of the line two.
            most_bytes=4 * _MAX_PASSPHRASE_CHARS + 2,
        )
        passphrase = data.partition(b"\n")[0].decode("utf-8", "surrogateescape").rstrip("\r")
    elif is_interactive():
        passphrase = ask_hidden("passphrase", twice=twice)
    else:
        raise ConfigurationError(
            "cannot ask for the passphrase: standard input is not a terminal",
            hint="use --passphrase-file FILE",
        )
    if len(passphrase) > _MAX_PASSPHRASE_CHARS or "\0" in passphrase or not passphrase.strip():
        raise SecretUnusable(
            "the passphrase must not be blank or contain NUL, and must have at most"
            f" {_MAX_PASSPHRASE_CHARS} characters",
            hint="use a passphrase of six random words or more",
        )
    return passphrase


# --- restore --------------------------------------------------------------------------------------


@click.command()
@configured
@click.option(
    "--store",
    "store__url",
    metavar="URL",
    help="Database to restore the rows into; it must be empty.",
)
@flag_option("--as-new", help="Restore as a separate node, with its own secret and id.")
@flag_option("--without-secret", help="Do not restore the root secret.")
@flag_option("--future-mark", help="Accept a backup dated more than a day in the future.")
@_PASSPHRASE
@click.argument("file", type=click.Path(path_type=Path))
def restore(
    config: Config,
    file: Path,
    as_new: bool,
    without_secret: bool,
    future_mark: bool,
    passphrase_file: Path | None,
) -> int:
    """Restore a backup FILE into an empty or new data folder.

    With --store the rows go into an empty database; large values and the secret go into the folder.
    Nothing can be used before the whole file is verified. Everything written, revoked or withdrawn
    after the backup is lost: revoke and withdraw it again. For some minutes the restored node
    refuses tokens, since it cannot tell which were used. It replaces the original, which must not
    be served any more. With --as-new it is a node of its own, and cannot open the original's
    encryption networks.
    """
    with _opened(file) as stream:
        try:
            backup = OpenedBackup(stream)
            mark = backup.header.marked_at
            if not future_mark and mark > SystemClock.now() + _MAX_AHEAD_S:
                # The restored node would refuse every token until that time (BK5).
                raise ClockWrong(
                    f"the backup is dated {time_text(mark)}, more than a day ahead of this"
                    " machine's clock",
                    hint="correct this machine's clock; if the other machine's clock was wrong when"
                    " it made the backup, add --future-mark",
                )
            if config.is_shared and backup.header.longest_life_s > longest_life_s(config):
                # A database deletes replay records by the lifetime that its own node allows (BK5).
                # Tokens that live longer could be used again.
                raise ConfigurationError(
                    "the longest token lifetime in these settings is shorter than in the settings"
                    " of the backup",
                    hint="set invocation.max_lifetime_s and release.challenge_s to the values in"
                    f" the backup; to print them: tar -xOf {file} settings.toml",
                )
            secret = None
            if not as_new and not without_secret:
                secret = _opened_secret(backup, passphrase_file)
            handle_signals_like_ctrl_c()  # a signal then removes the unfinished folder
            total_bytes = os.fstat(stream.fileno()).st_size
            restored, shown = asyncio.run(
                _restore(config, backup, secret, total_bytes, as_new=as_new)
            )
        except (StoreMisused, SpaceError) as error:
            hints = {
                BackupDamaged.code: "name the file that the backup was written to; if that is"
                f" {file}, use another copy of the backup",
                StoreFull.code: "free disk space, or restore into a folder on another disk",
            }
            # An error that knows its next step takes precedence over the hint for its code.
            hint = getattr(error, "next_step", None) or hints.get(error.code, "sealspace doctor")
            raise StoreMisused(
                f"nothing was restored: {error.args[0]}", hint=hint, code=error.code
            ) from error
    _print_restored(config, file, backup.header, restored, shown)
    return FAILED if restored.left_out else 0


def _opened(file: Path) -> BinaryIO:
    """Open a backup file for reading.

    Pipes and devices are refused.
    """
    # O_NONBLOCK: opening a pipe without a writer would wait for ever.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileUnreadable(
            f"{file} is not a regular file",
            hint="copy the backup into a file on this machine, and give the path of that file",
        )
    return os.fdopen(descriptor, "rb")


def _opened_secret(backup: OpenedBackup, passphrase_file: Path | None) -> bytes | None:
    """Decrypt the root secret in a backup, or return None.

    None means that the backup contains no root secret.
    """
    if backup.sealed_secret is None:
        return None
    secret = open_secret(backup.sealed_secret, _read_passphrase(passphrase_file, twice=False))
    if not _is_secret_of(backup.header, Keyring(secret)):
        raise SecretUnusable(
            "the root secret in the backup belongs to another store", hint="use --without-secret"
        )
    return secret


def _is_secret_of(header: Header, keyring: Keyring) -> bool:
    """Return whether a root secret is the one that a backup needs (RK10).

    The node's DID alone does not say so: a node keeps it when its root secret is replaced.
    """
    if header.root_secret_check:
        return keyring.check_value.hex() == header.root_secret_check
    return keyring.node_did == header.node_did


async def _restore(
    config: Config, backup: OpenedBackup, secret: bytes | None, total_bytes: int, *, as_new: bool
) -> tuple[Restored, dict[str, str | bool]]:
    """Restore a backup into the configured data folder.

    The result is returned, with further members of the JSON output.
    """
    async with AsyncExitStack() as filled:
        with restoring_into(config.data) as staging, progress(total_bytes, "restore") as show:
            if secret is not None:
                make_file(staging / SECRET_FILE_NAME, secret)  # mode 0600, durable
            new_node_did = None
            if as_new:  # a new secret, unless the settings name one (BK7)
                own = replace(config, store=replace(config.store, data=str(staging)))
                new_keyring = Keyring(load_root_secret(own, SystemEntropy()))
                new_node_did = new_keyring.node_did
                if _is_secret_of(backup.header, new_keyring):
                    raise SecretUnusable(
                        "a new node needs its own root secret, but the configured secret belongs"
                        " to the node that was backed up",
                        hint="unset secret.file, secret.value and secret.platform, or use another"
                        " secret",
                    )
            restored = await restore_backup(
                backup, staging, done=lambda done: show(done, total_bytes)
            )
            # The rows come from the backup, and damaged ones may crash the process that reads them.
            with damaged_pages():  # converts the error for a crash
                finished = run_in_subprocess(
                    _finish_restore,
                    str(staging),
                    backup.header,
                    longest_life_s(config),
                    new_node_did,
                )
            # A value may be missing in the backup and again in the check of the rows: name it once.
            restored.left_out = list(dict.fromkeys(restored.left_out + finished.missing))
            if config.store.url is not None:
                # Needs the extra `postgres`.
                from spaces.archive.migration import filled_database

                # The database becomes a store only when the outer block ends, after the folder is
                # complete. An error before that leaves neither.
                await filled.enter_async_context(
                    filled_database(
                        staging, config.store.url, progress=counter("rows copied", every=100_000)
                    )
                )
                shutil.rmtree(staging / STORE_FOLDER_NAME)
    return restored, {
        "nodeDid": new_node_did or backup.header.node_did,
        "isNew": as_new,
        "tokensExpireFrom": time_text(60 * finished.open_from_minute),
        "hostingMode": finished.hosting_mode,
    }


def _finish_restore(
    staging: str, header: Header, longest_life_s: int, new_node_did: str | None
) -> FinishedRestore:
    """Finish a restore, in a subprocess (`run_in_subprocess`)."""
    with damaged_pages():  # converts errors for damage that did not crash the subprocess
        made = finish_restore(
            Path(staging),
            header,
            longest_life_s=longest_life_s,
            new_node_did=new_node_did,
            clock=SystemClock(),
            entropy=SystemEntropy(),
        )
        return asyncio.run(made)


def _print_restored(
    config: Config, file: Path, header: Header, restored: Restored, shown: dict[str, str | bool]
) -> None:
    """Print the result and the next steps after a restore."""
    data = config.data
    mark = time_text(header.marked_at)
    secret_file = data / SECRET_FILE_NAME
    if shared().as_json:
        print_json({"data": str(data), "markedAt": mark, **shown, **to_builtins(restored)})
    print_lines(
        *[f"missing: {name}: not in the backup, or damaged there" for name in restored.left_out],
        err=True,
    )
    tell(
        f"{data}: restored as of {mark}; large values: {restored.bodies:,} ({restored.body_bytes:,}"
        f" bytes); databases: {restored.databases:,}",
        f"all writes, revocations and withdrawals after {mark} are lost; next: repeat the"
        " revocations and withdrawals",
        RESTORE_WAIT.format(shown["tokensExpireFrom"]),
        f"the settings were not restored (hosting.mode was {shown['hostingMode']}); next: run this"
        f" command, then check the new file: tar -xOf {file} settings.toml >"
        f" {data / CONFIG_FILE_NAME}",
    )
    if not shown["isNew"]:
        original = "a database" if header.is_shared else f"the data folder {header.folder}"
        tell(
            "the restored node replaces the node that was backed up: stop the old node and do not"
            f" start it again (its store is in {original})"
        )
    where = f"--data {data} --store URL" if config.is_shared else f"--data {data}"
    if secret_file.exists():
        tell(f"next: sealspace admin check {where}; then sealspace serve {where}")
    else:
        named = f"the root secret of {shown['nodeDid']}"
        if header.root_secret_number and not shown["isNew"]:
            # Of several secrets of this node, only this one opens the restored store (RK10).
            named = (
                f"root secret number {header.root_secret_number} of {shown['nodeDid']} (check value"
                f" {header.root_secret_check})"
            )
        tell(f"next: put {named} into {secret_file}, mode 0600")


# --- check ----------------------------------------------------------------------------------------


Decoded = TypeVar("Decoded")


@click.command()
@configured
@where_options
@flag_option(
    "--open",
    "opens",
    help="Also check that the root secret decrypts the private key of each encryption network.",
)
def check(config: Config, opens: bool) -> int:
    """Find damaged rows and large values in the store.

    One line is printed for each damaged item. The command checks that all rows can be decoded and
    are consistent with each other, that counters are correct, that every large value exists and has
    the right digest, and that SQLite finds no damage in the databases. Nothing is written, and the
    node may be running. The exit status is 1 if an item is damaged.

    With --open the command also proves that secrets can be opened here: the root secret decrypts
    each network's private key, and the private key matches the public key. No key is printed. Use
    it on a restored store, which need not be served.
    """
    handle_signals_like_ctrl_c()  # a signal then ends the subprocess too
    try:
        checked = run_in_subprocess(_checked, config, opens)
    except RecordDamaged as error:  # a crash while reading is a finding (BK9)
        checked = _damaged(str(error))
    if shared().as_json:
        print_json(checked)
    else:
        print_lines(
            *[
                f"damage: {finding.what} {finding.name}: {finding.text}"
                for finding in checked.findings
            ]
        )
    tell(
        f"rows: {checked.rows:,}; large values: {checked.bodies:,} ({checked.body_bytes:,} bytes);"
        f" databases: {checked.databases:,}"
    )
    if checked.networks is not None:
        tell(
            f"encryption networks whose private key the root secret decrypts: {checked.networks:,}"
        )
    if not checked.damages:
        tell("nothing is damaged")
        return 0
    tell(f"damaged items: {checked.damages:,}; next: sealspace admin restore FILE --data DIR")
    return FAILED


def _damaged(text: str) -> Checked:
    found = Checked()
    found.add("store", "data.mdb", text)
    return found


def _checked(config: Config, opens: bool) -> Checked:
    """Check the store, in a subprocess (`run_in_subprocess`)."""
    try:
        return asyncio.run(_check(config, opens))
    except NodeError as error:
        # `opened_store` raises it from a `SpaceError`, which the store raises from LMDB's error.
        store_error = error.__cause__
        reason = None if store_error is None else store_error.__cause__
        if not isinstance(reason, lmdb.CorruptedError | lmdb.InvalidError | lmdb.PageNotFoundError):
            raise
        return _damaged(f"cannot be opened ({type(reason).__name__}): its pages are damaged")
    except (OSError, sqlite3.Error) as error:
        raise StoreMisused(
            f"the check failed: {error}",
            hint="if the disk of temporary files is full, set TMPDIR to a folder on another disk",
        ) from error


async def _check(config: Config, opens: bool) -> Checked:
    async with opened_store(config, is_for_reading=True) as store:
        networks: set[str] = set()
        readers = dict(_READERS)
        if opens:
            # The reader of networks is replaced by one that also opens each network's key.
            keyring = await own_keyring(config, store)

            def opened_network(value: bytes) -> NetworkRecord:
                record = decode_network(value)
                if not is_sealed_by(record, keyring):
                    raise RecordError(f"the root secret does not open the network {record.network}")
                networks.add(record.network)
                return record

            readers[NETWORKS_PREFIX] = _reader(opened_network, _network_key)
        checked = await check_store(
            rows_of(config, store),
            await stored_objects(config, store),
            config.data,
            readers=readers,
        )
    checked.networks = len(networks) if opens else None
    return checked


def _reader(
    decode: Callable[[bytes], Decoded], key_of: Callable[[Decoded], bytes]
) -> Callable[[bytes], bytes]:
    """Return a function that decodes a row's value, and returns the key that the row must have."""

    def read(value: bytes) -> bytes:
        try:
            return key_of(decode(value))
        except RecordError as exc:
            raise RecordDamaged(str(exc)) from exc

    return read


def _network_key(record: NetworkRecord) -> bytes:
    return network_row_key(record.network_id)


# Readers of the rows that `spaces` cannot decode, by the first byte of keys or by whole keys.
_READERS = {
    NETWORKS_PREFIX: _reader(decode_network, _network_key),
    EVIDENCE_PREFIX: _reader(
        decode_evidence,
        lambda found: evidence_row_key(principal_of(found.invoker), found.receiver_public_key),
    ),
    WITHDRAWALS_KEY: _reader(decode_withdrawals, lambda _: WITHDRAWALS_KEY),
    RELEASE_RECORD_KEY: _reader(decode_release_record, lambda _: RELEASE_RECORD_KEY),
}


# --- subprocess -----------------------------------------------------------------------------------


_MAX_TASK_BYTES = 16 << 20
_MAX_ANSWER_BYTES = 32 << 20
_REFUSED = 3
"""Exit status of a subprocess that answers with an expected error."""
_OF_DAMAGED_PAGES = frozenset({signal.SIGBUS, signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE})

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer", bound=msgspec.Struct)


def run_in_subprocess(
    do: Callable[Arguments, Answer], *task: Arguments.args, **_: Arguments.kwargs
) -> Answer:
    """Call a function in a subprocess (BK9).

    A damaged LMDB file can crash the process that reads it: access to damaged pages can end the
    process by a signal. The subprocess imports modules from where this process does, never from the
    current folder. It reads its task from standard input and writes its answer to standard output,
    each as one JSON document. It ends when this process ends.

    Args:
        do: A function of this module.
        task: Its positional arguments. They may contain secrets, so they are passed neither as
            process arguments nor in the environment.

    Returns:
        The function's return value.

    Raises:
        RecordDamaged: The subprocess was ended by a signal that damaged pages cause.
        StoreMisused: The task raised an error, whose code is preserved; or the subprocess was ended
            by something else.
    """
    with subprocess.Popen(  # noqa: S603  # our own interpreter with our own code
        own_program(
            "from node.cli.backup_commands import do_task; do_task(*sys.argv[1:])", do.__name__
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
        process_group=0,  # Ctrl-C reaches only this process, which then kills the subprocess
    ) as process:
        assert process.stdin is not None and process.stdout is not None  # PIPE
        try:
            with suppress(BrokenPipeError):  # it has already ended; its status is read below
                process.stdin.write(msgspec.json.encode(task) + b"\n")
                process.stdin.flush()
            data = process.stdout.read(_MAX_ANSWER_BYTES + 1)
            # After too long an answer do not wait: the subprocess may be blocked, writing the rest.
            status = process.wait() if len(data) <= _MAX_ANSWER_BYTES else 1
        finally:
            process.kill()
    signal_number = -status  # `Popen` gives a negative status to a process that a signal ended
    if signal_number in _OF_DAMAGED_PAGES:
        name = signal.Signals(signal_number).name
        raise RecordDamaged(
            f"the process that read the store crashed with {name}: the store's file was truncated"
            " or overwritten"
        )
    if status == _REFUSED:
        refusal = msgspec.json.decode(data, type=StartRefusal)
        raise StoreMisused(refusal.text, hint=refusal.hint, code=refusal.code)
    if status != 0:
        ending = signal.Signals(signal_number).name if signal_number > 0 else "an error"
        raise StoreMisused(
            f"the process that read the store was terminated by {ending}",
            hint="run the command again",
        )
    answer: Answer = msgspec.json.decode(data, type=get_type_hints(do)["return"])
    return answer


def do_task(name: str) -> None:
    """Call a function of this module with arguments from standard input.

    This is what the subprocess of `run_in_subprocess` does. The result is printed as JSON.
    """
    do = globals()[name]
    *argument_types, _return_type = get_type_hints(do).values()
    task = msgspec.json.decode(
        sys.stdin.buffer.readline(_MAX_TASK_BYTES), type=GenericAlias(tuple, tuple(argument_types))
    )
    end_with_parent()  # it reads standard input, so the task has to be read first
    status = _REFUSED
    try:
        reply: object = do(*task)
        status = 0
    except NodeError as error:
        reply = StartRefusal(code=error.code, text=error.message, hint=error.hint)
    except SpaceError as error:
        reply = StartRefusal(code=error.code, text=str(error), hint="")
    sys.stdout.buffer.write(msgspec.json.encode(reply))
    sys.stdout.buffer.flush()
    sys.exit(status)


def handle_signals_like_ctrl_c() -> None:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP.

    The command then cleans up, as after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Below `nohup`, SIGHUP stays ignored.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
