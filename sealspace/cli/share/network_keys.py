"""The commands that replace the key of an encryption network, and retire former keys."""

from collections.abc import Sequence

import click

from capabilities.abilities import DECRYPT, SET_POLICY
from capabilities.resources import NetworkId

from ...apps.key_rotation import NeedingValue, Reencrypted
from ...client import Client
from ...documents.secret_names import PROTECTED_NETWORK, SharedFolder
from ...errors import InvalidInput
from ..exit_status import FAILED
from ..owner.owner_profile import at_node, owner_home
from ..terminal import (
    confirm,
    flag_option,
    print_error,
    print_lines,
    print_result,
    progress,
    tell,
    yes_option,
)
from .network import name_argument, right_to

_spaces = click.option(
    "--space",
    "spaces",
    metavar="SPACE",
    multiple=True,
    help="Another space of yours with encrypted values. Repeatable.",
)
_MOST_NAMED = 20
"""Number of values that a message names."""


@click.command(
    epilog="Example: `sealspace network rotate` replaces the key to which secrets are encrypted.",
)
@name_argument
@_spaces
@flag_option("--key-only", help="Do not encrypt the secrets again.")
@at_node
async def rotate(client: Client, name: str, spaces: tuple[str, ...], key_only: bool) -> int:
    """Replace the key of the encryption network NAME, and encrypt your secrets again.

    The default is `default`. The node makes the next key, and your wallet signs that it replaces
    the former one. Then each secret is opened and encrypted again on this machine. If this is
    interrupted, run `sealspace network reencrypt`.

    The exit status is 1 if some values were not encrypted again, and these are named. The former
    key opens what is still encrypted to it, until you run `sealspace network retire`.
    People who share secrets with you have to run `sealspace team renew` with your DID.
    """
    network = client.encryption.network(name)
    await right_to(client, network, SET_POLICY)
    newest = await client.network_keys.rotate(network, wallet=owner_home().wallet)
    tell(f"replaced: the key of {name} is version {newest.key_version}, {newest.fingerprint}")
    result = Reencrypted()
    if name == PROTECTED_NETWORK:
        tell("secrets that runners made stay encrypted to the former key")
    elif not key_only:
        result = await _reencrypt_values(client, network, spaces)
    print_result(
        {
            "network": network.text,
            "keyVersion": newest.key_version,
            "fingerprint": newest.fingerprint,
            **_reencrypted_document(result),
        }
    )
    return _report_failed(result, name)


@click.command(epilog="Example: `sealspace network reencrypt` continues an interrupted `rotate`.")
@name_argument
@_spaces
@at_node
async def reencrypt(client: Client, name: str, spaces: tuple[str, ...]) -> int:
    """Encrypt your secrets again that are encrypted to a former key of NAME.

    The default is `default`. Secrets that are encrypted to the newest key stay as they are, so this
    can be repeated. A secret that somebody replaces meanwhile is not overwritten. Former versions
    of a secret stay encrypted to the former key.

    A value that cannot be opened, or that may belong to another path, stays as it is and is named.
    The exit status is 1 then.
    """
    network = client.encryption.network(name)
    result = await _reencrypt_values(client, network, spaces)
    print_result({"network": network.text, **_reencrypted_document(result)})
    return _report_failed(result, name)


@click.command(
    epilog="Example: `sealspace network retire --version 1`, after `sealspace network rotate`."
)
@name_argument
@click.option(
    "--version", "key_version", metavar="NUMBER", type=int, required=True, help="The former key."
)
@flag_option("--lose-values", help="Destroy the key even if current values are encrypted to it.")
@yes_option
@at_node
async def retire(client: Client, name: str, key_version: int, lose_values: bool, yes: bool) -> None:
    """Destroy a former key of the encryption network NAME.

    The default is `default`. The node refuses new values that are encrypted to this key from now
    on. Then this lists what at this node still needs the key, and asks before the key is destroyed.
    Values that are encrypted to it can never be read again. While the node cannot read a value that
    may need the key, the key is not destroyed. Nobody can list copies at other nodes. Your wallet
    signs the destruction.
    Backups that the node's operator made earlier still contain the key.
    """
    network = client.encryption.network(name)
    await right_to(client, network, SET_POLICY)
    await client.network_keys.retire(network, key_version)
    tell(f"the node refuses new values that are encrypted to version {key_version}")
    values = await client.network_keys.usage(network, key_version)
    copies = await _copies_for_key(client, network, key_version)
    unreadable = [value for value in values if value.is_unreadable]
    needing = [value for value in values if not value.is_unreadable]
    current = [value for value in needing if value.version is None]
    _tell_what_needs_key(needing, copies)
    if unreadable:
        raise _refuse_for_unreadable(unreadable, key_version)
    if current and not lose_values:
        raise InvalidInput(
            f"{len(current)} current values are encrypted to version {key_version}; the key was not"
            " destroyed",
            step=f"sealspace network reencrypt {name}; if they may be lost, add --lose-values",
        )
    tell("copies and values at other nodes are not known here")
    confirm(f"destroy version {key_version} of the key of {network.text}?", yes=yes)
    await client.network_keys.destroy(network, key_version, wallet=owner_home().wallet)
    tell(f"destroyed: version {key_version} of the key of {name}")
    print_result(
        {
            "network": network.text,
            "keyVersion": key_version,
            "currentValues": len(current),
            "formerValues": len(needing) - len(current),
            "copies": len(copies),
        }
    )


def _refuse_for_unreadable(values: Sequence[NeedingValue], key_version: int) -> InvalidInput:
    """Print all values that the node cannot read, and return the error.

    `--lose-values` does not help: somebody who can restore a value must be able to open it.
    """
    for value in values:
        print_lines(f"cannot be read: {_name_value(value)}", err=True)
    return InvalidInput(
        f"the node cannot read {len(values)} values, which may be encrypted to version"
        f" {key_version}; the key was not destroyed",
        step="ask the node's operator to restore the files that `sealspace admin check` names, or"
        " delete these values, secrets with `sealspace secret delete NAME --purge`; then run the"
        " same command again",
    )


def _name_value(value: NeedingValue) -> str:
    version = "" if value.version is None else f", version {value.version} of it"
    return f"{value.path} in {value.space}{version}"


async def _copies_for_key(
    client: Client, network: NetworkId, key_version: int
) -> list[tuple[str, SharedFolder]]:
    """Return the folders of other owners with copies for a key, each with the owner's DID."""
    # Only copies for the network `default` are made (SH1).
    if client.encryption.network() != network:
        return []
    copies: list[tuple[str, SharedFolder]] = []
    for owner, folder in await client.sharing.received_folders():
        if folder.key_version == key_version:
            copies.append((owner, folder))
    return copies


def _tell_what_needs_key(
    values: Sequence[NeedingValue], copies: Sequence[tuple[str, SharedFolder]]
) -> None:
    """Print which values and copies at the node still need a key."""
    for value in values[:_MOST_NAMED]:
        tell(f"needs the key: {_name_value(value)}")
    if len(values) > _MOST_NAMED:
        tell(f"and {len(values) - _MOST_NAMED} more values")
    for owner, folder in copies:
        team = "" if folder.team is None else f" in the team {folder.team}"
        tell(
            f"needs the key: copies that {owner} shares with you{team}; they have to run:"
            f" sealspace team renew {folder.did}"
        )
    if not values and not copies:
        tell("nothing at this node needs the key")


async def _reencrypt_values(
    client: Client, network: NetworkId, spaces: Sequence[str]
) -> Reencrypted:
    """Encrypt the owner's values to the newest key, and print how many."""
    await right_to(client, network, DECRYPT)
    with progress(None, "encrypting") as show_progress:
        result = await client.network_keys.reencrypt(network, spaces=spaces, progress=show_progress)
    tell(f"encrypted again: {result.sealed} values; to the newest key before: {result.current}")
    return result


def _report_failed(result: Reencrypted, name: str) -> int:
    """Print which values were not encrypted again, with --quiet too; return the exit status."""
    if not result.failed:
        return 0
    for path, reason in result.failed[:_MOST_NAMED]:
        print_lines(f"not encrypted again: {path}: {reason}", err=True)
    if len(result.failed) > _MOST_NAMED:
        print_lines(f"and {len(result.failed) - _MOST_NAMED} more; --json names all", err=True)
    print_error(
        f"{len(result.failed)} values are still encrypted to a former key",
        f"store these values again, then run: sealspace network reencrypt {name}",
    )
    return FAILED


def _reencrypted_document(result: Reencrypted) -> dict[str, object]:
    return {
        "encryptedAgain": result.sealed,
        "encryptedBefore": result.current,
        "failed": [{"path": path, "reason": reason} for path, reason in result.failed],
    }
