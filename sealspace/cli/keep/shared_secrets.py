"""Secrets of another owner, which the option `--from` names."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import click

from ...client import Client
from ...documents.contact_list import is_contact_name
from ...errors import InvalidInput, NotShared
from ...secrets import Secrets, parse_secret_name
from ...service.command_errors import NotThere
from ..options.paths import read_grants
from ..owner.contact_names import did_named, name_or_none, require_no_typo
from ..owner.owner_profile import owner_home

from_option = click.option(
    "--from",
    "source",
    metavar="DID[/TEAM]|NAME[/TEAM]|FILE",
    help="Read what the owner DID, or the contact NAME, shared with you or your TEAM. If the owner"
    " uses another node: the FILE that `sealspace secret share --out` wrote.",
)


def label_of(name: str, scope: str | None) -> str:
    """Return the label of a secret, `NAME` or `scope/NAME`."""
    return parse_secret_name(name, scope=scope).label


@asynccontextmanager
async def shared_secrets(client: Client, source: str | None) -> AsyncIterator[Secrets]:
    """Yield the secrets to read, which are one's own or those in the option `--from`."""
    home = owner_home()
    if source is not None:
        source = await _named_source(client, source)
    if source is None:
        yield client.secrets()
    elif source.startswith("did:"):
        owner, slash, team = source.partition("/")
        received = await client.sharing.received(
            owner, team=team if slash else None, wallet=home.wallet
        )
        home.keep_session(client.session)
        try:
            yield received
        except NotThere as error:
            error.step = (
                f"list what is shared with you: sealspace secret list --all --from {source}"
            )
            raise
    else:
        from ...giving.copies import read_share  # imported here to keep the start fast

        portable = read_grants(Path(source))[0]
        own = client.session
        share = read_share(portable.header, portable.owner)
        if share is None:
            raise NotShared(f"the grant in {source} does not share secrets")
        # The owner uses another node. A client refuses to use a session with the id of the own one
        # there, so the id is left out, and set again before the session is stored.
        async with Client(portable.host, session=replace(own, node_id=None)) as other_client:
            yield await other_client.sharing.opened(
                share, wallet=home.wallet, encryption=client.encryption
            )
            home.keep_session(replace(other_client.session, node_id=own.node_id))


async def _named_source(client: Client, source: str) -> str:
    """Return a value of the option `--from` with the DID in the place of a contact's name.

    Raises:
        InvalidInput: there is a contact of this name, and also a file.
        NoSuchContact: there is neither.
    """
    name, slash, team = source.partition("/")
    if not is_contact_name(name):
        require_no_typo(name)
        return source
    if not _is_there(source):
        return await did_named(client, name) + slash + team
    # Somebody else may have put the file there, with values of their own.
    if await name_or_none(client, name) is not None:
        raise InvalidInput(
            f"{name} is a contact, and there is also a file {source}",
            hint=f"to use the file: --from ./{source}; to use the contact, write the DID that"
            f" `sealspace contact show {name}` prints",
        )
    return source


def _is_there(source: str) -> bool:
    return os.path.lexists(source)
