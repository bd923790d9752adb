"""`sealspace admin owners`: who may have spaces on a node in mode `permit`."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Protocol

import click

from capabilities.ambient import Entropy, SystemClock, SystemEntropy
from capabilities.errors import InvalidIdentifier
from capabilities.principals import Principal, parse_principal
from sealspace.cli.errors import ConfigurationError
from sealspace.cli.lazy import Verbs
from sealspace.cli.terminal import print_rows, time_text, words
from spaces.grants.admissions import read_admissions
from spaces.store.contract import Store

from ..config.tree import Config
from ..operations.values.admission import admit_owner, remove_owner
from .opened_store import opened_store
from .settings import store_options


class _Change(Protocol):
    """Admits or removes an owner; returns whether anything changed."""

    def __call__(self, store: Store, owner: Principal, *, now: float, entropy: Entropy) -> Awaitable[bool]: ...


_DIDS = click.argument("dids", metavar="DID...", nargs=-1, required=True)


@click.group(cls=Verbs)
def owners() -> None:
    """Say whose spaces a node in hosting mode `permit` hosts, for every process on its store.

    In the other modes the list is kept and does nothing.
    """


@owners.command("add")
@store_options
@_DIDS
def add(config: Config, dids: Sequence[str]) -> None:
    """Admit owners: their spaces are hosted from now on, within the bounds of hosting; audited."""
    asyncio.run(_change(config, _owners_of(dids), admit_owner, ("admitted", "was admitted already")))


@owners.command("remove")
@store_options
@_DIDS
def remove(config: Config, dids: Sequence[str]) -> None:
    """Remove owners: nothing new of theirs is hosted from now on; audited.

    Spaces that are hosted stay: who was granted something there reads and writes on, and so does the owner. To end
    writing, give a space a quota of 0 (`sealspace admin quota`).
    """
    asyncio.run(_change(config, _owners_of(dids), remove_owner, ("removed", "was not admitted")))


@owners.command("list")
@store_options
def list_owners(config: Config) -> None:
    """Print the owners whom `add` admitted, and since when each is; hosting.listed is not repeated."""
    found = asyncio.run(_list(config))
    print_rows(
        found,
        ("DID", "admitted"),
        [(one["did"], one["admittedAt"]) for one in found],
        nothing="no owners are admitted; next: sealspace admin owners add DID",
    )


def _owners_of(dids: Sequence[str]) -> list[Principal]:
    """Parse all DIDs before any of them is used."""
    try:
        return [parse_principal(did) for did in dids]
    except InvalidIdentifier as error:
        raise ConfigurationError(error.text, hint="write whole DIDs, like did:key:z6Mk…") from None


async def _change(config: Config, owners: Sequence[Principal], change: _Change, outcomes: tuple[str, str]) -> None:
    async with opened_store(config) as store:
        for owner in owners:
            changed = await change(store, owner, now=SystemClock().now(), entropy=SystemEntropy())
            words(f"{owner}: {outcomes[0] if changed else outcomes[1]}")


async def _list(config: Config) -> list[dict[str, str]]:
    async with opened_store(config) as store:
        return [{"did": one.owner, "admittedAt": time_text(one.admitted_at)} async for one in read_admissions(store)]
