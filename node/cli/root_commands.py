"""The commands `sealspace admin root`."""

import asyncio
from pathlib import Path

import click

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from encryption_network.keyring import Keyring
from encryption_network.network_errors import RecordError
from sealspace.cli.exit_status import FAILED
from sealspace.cli.lazy import Verbs
from sealspace.cli.shared import shared
from sealspace.cli.terminal import (
    age_text,
    confirm,
    counter,
    flag_option,
    print_json,
    print_lines,
    tell,
    time_text,
)
from sealspace.service.command_errors import StoreMisused
from spaces.root_secret_row import read_root_secret
from spaces.space_errors import SpaceError, StartRefused, StoreLocked, WrongSecret

from ..config.tree import Config
from ..platform.new_secret import NewSecret, load_new_secret, put_in_place
from ..platform.root_secret import load_root_secret
from ..storage.root_rotation import Replacement, Rotated
from ..storage.stores import open_store, start_refused, store_location
from .opened_store import as_node_error, foreign_secret, has_store, run_on_store
from .settings import configured

_COSTS = (
    "the node gets a new DID and a new exchange key, and so:",
    "  every token that was signed for this node is refused; clients sign in again",
    "  clients that pinned the node's DID refuse it until they accept the new one",
    "  trusts for ID tokens and their machine tokens end; owners make them again",
    "  owners enable the service for iExec's clients again (sealspace sms enable)",
    "  receipts and answers that were signed before verify only under the former DID",
    "  copies for people who replaced their network's key before are shared again, not renewed",
)
_STILL_POSSIBLE = (
    "the former secret opens nothing in this store, but the node kept its identity: root secret"
    " number 1, or a later one with a copy of the store from its time, still lets its holder sign"
    " as the node and as its exchange; if a secret leaked, run the command with --new-identity"
)


@click.group(cls=Verbs)
def root() -> None:
    """Show or replace the root secret of the store."""


@root.command("show")
@configured
@click.option("--store", "store__url", metavar="URL", help="Database to use instead of LMDB.")
def show(config: Config) -> None:
    """Print the number of the root secret, and when the former ones were replaced.

    The check value identifies a secret without revealing it. Backups state the check value of the
    secret that they need.
    """
    row, _record = run_on_store(config, read_root_secret)
    if row is None:
        print_json({"number": 1, "checkValue": None})
        return
    print_json(
        {
            "number": row.number,
            "checkValue": row.check_value.hex(),
            "since": time_text(row.since),
            "isBeingReplaced": row.next is not None,
            "former": [
                {
                    "number": one.number,
                    "checkValue": one.check_value.hex(),
                    "replacedAt": time_text(one.replaced_at),
                }
                for one in row.former
            ],
        }
    )
    tell(f"root secret number {row.number}, recorded {age_text(row.since)}")


@root.command("rotate")
@configured
@click.option("--store", "store__url", metavar="URL", help="Database to use instead of LMDB.")
@click.option(
    "--new-secret-file",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the new secret as raw bytes; it is created if it does not exist.",
)
@click.option(
    "--new-platform-path",
    "platform_path",
    metavar="PATH",
    help="Name of the new secret at the platform, by default the present one with a number.",
)
@flag_option("--new-identity", help="Also replace the node's identity and its exchange key.")
@flag_option("--yes", help="Do not ask for confirmation.")
def rotate(
    config: Config, file: Path | None, platform_path: str | None, new_identity: bool, yes: bool
) -> int:
    """Replace the root secret of the store by a new one.

    Stop every node on the store first. Every sealed private key is sealed again under the new
    secret. The command prints what to change before the next start. After an interruption, run the
    same command again.

    Backups made before need the former secret. The node keeps its identity, which the former secret
    can still sign for. With --new-identity it gets another one, and every client has to accept it.
    """
    if not has_store(config):
        raise StoreMisused(
            f"there is no store in {config.data}", hint="specify the data folder with --data"
        )
    if new_identity:
        tell(*_COSTS)
        confirm("give the node a new identity?", yes=yes)
    try:
        done, new, former_file = asyncio.run(
            _rotate(config, file, platform_path, new_identity=new_identity)
        )
    except WrongSecret as error:
        raise foreign_secret(config, error) from error
    except StartRefused as error:
        raise start_refused(config, error) from error
    except RecordError as error:
        raise StoreMisused(f"the store cannot be read: {error}", hint="restore a backup") from error
    except SpaceError as error:
        hint = "run the same command again"
        if isinstance(error, StoreLocked):
            hint = f"stop the node that uses {config.data}"
        what = f"the root secret of {store_location(config)} was not replaced"
        raise as_node_error(error, config, what=what, hint=hint) from error
    _print_rotated(config, done, new, former_file, new_identity=new_identity)
    return FAILED if done.damaged else 0


async def _rotate(
    config: Config, file: Path | None, platform_path: str | None, *, new_identity: bool
) -> tuple[Rotated, NewSecret, Path | None]:
    offered = Keyring(load_root_secret(config, None))
    store = open_store(config)
    try:
        row, _ = await read_root_secret(store)
        number = 2 if row is None else row.number + 1
        new = load_new_secret(
            config,
            file=file,
            platform_path=platform_path,
            number=number,
            entropy=SystemEntropy(),
        )
        replacement = Replacement(
            store=store,
            offered=offered,
            new=Keyring(new.secret),
            new_identity=new_identity,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            progress=counter("networks sealed again", every=1_000, first=1_000),
        )
        done = await replacement.run()
    finally:
        await store.close()
    return done, new, put_in_place(config, new, former_number=done.number - 1)


def _print_rotated(
    config: Config, done: Rotated, new: NewSecret, former_file: Path | None, *, new_identity: bool
) -> None:
    """Print the result, and what the operator must change."""
    if shared().as_json:
        print_json(
            {
                "number": done.number,
                "nodeDid": done.node_did,
                "formerNodeDid": done.former_node_did,
                "networks": done.networks,
                "damaged": done.damaged,
                "secretFile": None if new.file is None else str(_file_of(config, new, former_file)),
                "platformPath": new.platform_path,
                "formerSecretFile": None if former_file is None else str(former_file),
            }
        )
    print_lines(*[f"damaged: {network}: no secret opens it" for network in done.damaged], err=True)
    former = done.number - 1
    tell(
        f"root secret number {done.number} has replaced number {former};"
        f" networks sealed again: {done.networks:,}",
        _next_step(config, new, former_file),
        f"backups made before now need secret number {former}: keep it with them, apart from this"
        " machine",
    )
    if former_file is not None:
        tell(f"next: move {former_file} there, or remove it")
    if not new_identity:
        tell(_STILL_POSSIBLE)


def _file_of(config: Config, new: NewSecret, former_file: Path | None) -> Path | None:
    """Return the file in which the new secret is now."""
    if former_file is not None:
        return (config.data / "secret").absolute()
    return new.file


def _next_step(config: Config, new: NewSecret, former_file: Path | None) -> str:
    if new.platform_path is not None:
        return f'next: set secret.platform_path = "{new.platform_path}", then start the node'
    if former_file is not None:
        if config.is_shared:
            return (
                f"next: copy {_file_of(config, new, former_file)} to the data folder of every"
                " machine that serves the database, then start the nodes"
            )
        return "next: start the node; its data folder has the new secret"
    if config.secret.value is not None:
        return (
            "next: set SEALSPACE_SECRET__VALUE to the output of this command, then start the node:"
            f" basenc --base64url -w 0 {new.file} | tr -d '='"
        )
    return f"next: set secret.file to {new.file}, then start the node"
