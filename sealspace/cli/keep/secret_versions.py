"""The commands `sealspace secret versions`, `rollback` and `restore`."""

from collections.abc import Iterable, Mapping

import click

from capabilities.principals import same_principal

from ...client import Client
from ...secrets import KeptVersion, parse_secret_name
from ...wire.team_session import member_of_session
from ..owner.known_names import known_names
from ..owner.owner_profile import at_node
from ..terminal import cell_text, optional_time, print_rows, tell
from .named_secrets import scope_option, with_next_step
from .storing import put_copies

_name_argument = click.argument("name")


@click.command()
@_name_argument
@scope_option
@at_node
async def versions(client: Client, name: str, scope: str | None) -> None:
    """List the versions of a secret, the newest first.

    The node keeps the last ten earlier values, unless its operator set another number. The node
    states the times and who stored a value; neither is verified. A login counts as the person who
    made it.
    """
    async with with_next_step(client.secrets(), name, scope) as secrets:
        kept_versions = await secrets.versions(name, scope=scope)
    names = await _name_storers(client, kept_versions)
    documents = []
    rows = []
    for version in kept_versions:
        stored_by = version.stored_by
        storer = None if stored_by is None else names.get(stored_by)
        stored_at = optional_time(version.stored_at)
        replaced_at = optional_time(version.replaced_at)
        documents.append(
            {
                "version": version.version,
                "storedAt": stored_at,
                "replacedAt": replaced_at,
                "storedBy": stored_by,
                "name": storer,
            }
        )
        row = (version.version, stored_at, replaced_at, storer or stored_by)
        rows.append([cell_text(cell) for cell in row])
    header = ["version", "stored", "replaced or deleted", "by"]
    print_rows(documents, header, rows, nothing="no versions")


async def _name_storers(client: Client, versions: Iterable[KeptVersion]) -> Mapping[str, str]:
    """Return the names of those who stored versions, by DID; the person who asks is "you"."""
    own = member_of_session(client.session) or client.session.owner
    names = {}
    others = []
    for version in versions:
        if version.stored_by is None:
            continue
        if same_principal(version.stored_by, own):
            names[version.stored_by] = "you"
        else:
            others.append(version.stored_by)
    names.update(await known_names(client, others))
    return names


@click.command(epilog="Example: `sealspace secret rollback API_KEY 3`.")
@_name_argument
@click.argument("version", metavar="VERSION", type=click.IntRange(1))
@scope_option
@at_node
async def rollback(client: Client, name: str, version: int, scope: str | None) -> None:
    """Store an earlier version of a secret again.

    The value that it replaces becomes a version too. The value is decrypted only if you share the
    secret, to renew the copies.
    """
    secret = parse_secret_name(name, scope=scope)
    async with with_next_step(client.secrets(), name, scope) as secrets:
        await secrets.rollback(name, version, scope=scope)
        # The copies for other people get the same value (SH6).
        copied = {copy.label for share in await client.sharing.shares() for copy in share.copies}
        if secret.label in copied:
            await put_copies(client, secret, await secrets.get(name, scope=scope))
    tell(f"stored version {version} of {name} again")


@click.command()
@_name_argument
@scope_option
@at_node
async def restore(client: Client, name: str, scope: str | None) -> None:
    """Store the last value of a deleted secret again.

    The node keeps deleted secrets for 7 days.
    """
    async with with_next_step(client.secrets(), name, scope) as secrets:
        await secrets.restore(name, scope=scope)
    tell(f"restored {name}")
