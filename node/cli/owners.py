"""`sealspace admin owners`: who may have spaces on a node in mode `permit`."""

from collections.abc import Sequence

import click

from capabilities.ambient import SystemClock, SystemEntropy
from capabilities.errors import InvalidIdentifier
from capabilities.principals import Principal, parse_principal
from sealspace.cli.errors import ConfigurationError
from sealspace.cli.lazy import Verbs
from sealspace.cli.terminal import print_rows, time_text, words
from spaces.grants.admissions import read_admissions
from spaces.store.contract import Store

from ..config.tree import Config
from ..operations.values.admission import change_admission
from .opened_store import on_store


def _owner(did: str) -> Principal:
    try:
        return parse_principal(did)
    except InvalidIdentifier as error:
        raise ConfigurationError(error.text, hint="write whole DIDs, like did:key:z6Mk…") from None


_DIDS = click.argument("dids", metavar="DID...", nargs=-1, required=True, type=_owner)  # all of them before the first


@click.group(cls=Verbs)
def owners() -> None:
    """Say whose spaces a node in hosting mode `permit` hosts, for every process on its store.

    In the other modes the list is kept and does nothing.
    """


@owners.command("add")
@on_store
@_DIDS
async def add(_: Config, store: Store, dids: Sequence[Principal]) -> None:
    """Admit owners: their spaces are hosted from now on, within the bounds of hosting; audited."""
    for owner in dids:
        is_new = await change_admission(store, owner, admits=True, now=SystemClock().now(), entropy=SystemEntropy())
        words(f"{owner}: {'admitted' if is_new else 'was admitted already'}")


@owners.command("remove")
@on_store
@_DIDS
async def remove(config: Config, store: Store, dids: Sequence[Principal]) -> None:
    """Remove owners: nothing new of theirs is hosted from now on; audited.

    Spaces that are hosted stay: who was granted something there reads and writes on, and so does the owner. To end
    writing, give a space a quota of 0 (`sealspace admin quota`).
    """
    for owner in dids:
        was_there = await change_admission(store, owner, admits=False, now=SystemClock().now(), entropy=SystemEntropy())
        words(f"{owner}: {'removed' if was_there else 'was not admitted'}")
        if owner in map(_owner, config.hosting.listed):
            words(f"{owner}: hosting.listed still admits it; take it out of the settings, and start the node again")


@owners.command("list")
@on_store
async def list_owners(config: Config, store: Store) -> None:
    """Print the owners whom `add` admitted, since when each is, and below them those whom hosting.listed admits."""
    found = [{"did": one.owner, "admittedAt": time_text(one.admitted_at)} async for one in read_admissions(store)]
    print_rows(
        found,
        ("DID", "admitted"),
        [(one["did"], one["admittedAt"]) for one in found],
        nothing="no owners are admitted; next: sealspace admin owners add DID",
    )
    words(*[f"admitted by hosting.listed: {did}" for did in config.hosting.listed])
