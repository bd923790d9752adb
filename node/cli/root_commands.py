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
    stored = run_on_store(config, read_root_secret)
    if stored is None:  # no start of this version has recorded it
        print_json({"number": 1, "checkValue": None})
        return
    row = stored.row
    print_json(
        {
            "number": row.number,
            "checkValue": row.check_value.hex(),
            "since": time_text(row.since),
            "isBeingReplaced": row.next is not None,
            "former": [
                {
                    "number": former.number,
                    "checkValue": former.check_value.hex(),
                    "replacedAt": time_text(former.replaced_at),
                }
                for former in row.former
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
        result, new_secret, former_file = asyncio.run(
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
    _print_rotated(config, result, new_secret, former_file, new_identity=new_identity)
    return FAILED if result.damaged else 0


async def _rotate(
    config: Config, file: Path | None, platform_path: str | None, *, new_identity: bool
) -> tuple[Rotated, NewSecret, Path | None]:
    """Replace the root secret, and put the file of the new one in place.

    Returns the result, the new secret, and the file that has the former secret now (see
    `put_in_place`).
    """
    offered = Keyring(load_root_secret(config, None))
    store = open_store(config)
    try:
        present = await read_root_secret(store)
        new_secret = load_new_secret(
            config,
            file=file,
            platform_path=platform_path,
            number=2 if present is None else present.row.number + 1,
            entropy=SystemEntropy(),
        )
        replacement = Replacement(
            store=store,
            offered=offered,
            new=Keyring(new_secret.secret),
            new_identity=new_identity,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            progress=counter("networks sealed again", every=1_000, first=1_000),
        )
        result = await replacement.run()
    finally:
        await store.close()
    former_file = put_in_place(config, new_secret, former_number=result.number - 1)
    return result, new_secret, former_file


def _print_rotated(
    config: Config,
    result: Rotated,
    new: NewSecret,
    former_file: Path | None,
    *,
    new_identity: bool,
) -> None:
    """Print the result, and what the operator must change.

    `former_file` is the file in the data folder that has the former secret, or None if the operator
    names the secret in the settings.
    """
    secret_file = _secret_file_now(config, new, former_file)
    if shared().as_json:
        print_json(
            {
                "number": result.number,
                "nodeDid": result.node_did,
                "formerNodeDid": result.former_node_did,
                "networks": result.networks,
                "damaged": result.damaged,
                "secretFile": None if secret_file is None else str(secret_file),
                "platformPath": new.platform_path,
                "formerSecretFile": None if former_file is None else str(former_file),
            }
        )
    print_lines(
        *[f"damaged: {network}: no secret opens it" for network in result.damaged], err=True
    )
    former_number = result.number - 1
    tell(
        f"root secret number {result.number} has replaced number {former_number};"
        f" networks sealed again: {result.networks:,}",
        _next_step(config, new, former_file),
        f"backups made before now need secret number {former_number}: keep it with them, apart from"
        " this machine",
    )
    if former_file is not None:
        tell(f"next: move {former_file} there, or remove it")
    if not new_identity:
        tell(_STILL_POSSIBLE)


def _secret_file_now(config: Config, new: NewSecret, former_file: Path | None) -> Path | None:
    """Return the file in which the new secret is now; None for a secret of the platform."""
    if former_file is not None:  # `put_in_place` renamed `secret-next`
        return (config.data / "secret").absolute()
    return new.file


def _next_step(config: Config, new: NewSecret, former_file: Path | None) -> str:
    """Return what the operator does so that the next start uses the new secret."""
    if new.platform_path is not None:
        return f'next: set secret.platform_path = "{new.platform_path}", then start the node'
    is_in_data_folder = former_file is not None
    if is_in_data_folder and config.is_shared:
        return (
            f"next: copy {_secret_file_now(config, new, former_file)} to the data folder of every"
            " machine that serves the database, then start the nodes"
        )
    if is_in_data_folder:
        return "next: start the node; its data folder has the new secret"
    # The settings name the secret: by its value in an environment variable, or by its file.
    if config.secret.value is not None:
        return (
            "next: set SEALSPACE_SECRET__VALUE to the output of this command, then start the node:"
            f" basenc --base64url -w 0 {new.file} | tr -d '='"
        )
    return f"next: set secret.file to {new.file}, then start the node"
