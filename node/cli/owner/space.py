"""`sealspace space`: the owner's spaces on the node."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import click

from capabilities.abilities import KV_DELETE, KV_GET, KV_LIST, KV_METADATA, KV_PUT
from capabilities.ambient import SystemClock
from capabilities.strict_json import Json
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import DuplicateRequest, NotGranted, SpaceNotFound
from sealspace.spaces import SpaceEntry

from ...errors import AlreadyThere, NotThere
from ..shared import shared
from ..terminal import print_json, print_lines, table, words
from .owner_profile import OwnerHome, owner_home

_ABILITIES = (KV_GET, KV_PUT, KV_DELETE, KV_LIST, KV_METADATA)
_name = click.argument("name", metavar="NAME")


@click.command("list")
def list_() -> None:
    """Print the names of the owner's spaces, and since when the node hosts each."""
    found = asyncio.run(_list(owner_home()))
    if shared().as_json:
        print_json([_described(one) for one in found])
        return
    table(("name", "created"), [(one.space.name, one.created_at or "") for one in found])
    if not found:
        words("no spaces here; next: sealspace space create NAME")


@click.command("create", epilog="Example: `sealspace space create notes`, then `sealspace kv put a --space notes`.")
@_name
def create(name: str) -> None:
    """Have the node host a space of the owner, and let this session use it; the wallet signs.

    Later logins ask for it too.
    """
    made = asyncio.run(_create(owner_home(), name))
    if shared().as_json:
        print_json(_described(made))
    else:
        print_lines(made.space.text)
        words(f"next: sealspace kv put KEY --space {name} < FILE")


@click.command("info")
@_name
def info(name: str) -> None:
    """Print the id of a space of the owner, and since when the node hosts it."""
    found = _described(asyncio.run(_info(owner_home(), name)))
    if shared().as_json:
        print_json(found)
    else:
        print_lines(*(f"{member:<10} {value}" for member, value in found.items() if value is not None))


def _described(entry: SpaceEntry) -> dict[str, Json]:
    return {"name": entry.space.name, "id": entry.space.text, "createdAt": entry.created_at}


async def _list(home: OwnerHome) -> tuple[SpaceEntry, ...]:
    async with home.client() as client:
        with _explained():
            return await client.spaces().list()


async def _create(home: OwnerHome, name: str) -> SpaceEntry:
    profile, wallet = home.profile(), home.wallet()
    async with home.client() as client:
        try:
            with _explained():
                made = await client.spaces().create(name)
        except DuplicateRequest:
            hint = f"to use it: sealspace login --space {name}"
            raise AlreadyThere(f"there is a space {name} already", hint=hint) from None
        whole = [allow(f"{made.space.text}/kv", ability) for ability in _ABILITIES]
        await client.delegations.add_right(wallet, whole, ttl_s=_left_s(client))
        home.keep_session(client.session)
        home.keep(replace(profile, spaces=(*profile.spaces, name)), home.session())
    return made


async def _info(home: OwnerHome, name: str) -> SpaceEntry:
    async with home.client() as client:
        try:
            with _explained():
                return await client.spaces().info(name)
        except SpaceNotFound:
            raise NotThere(f"there is no space {name} of yours", hint="sealspace space list") from None


@contextmanager
def _explained() -> Iterator[None]:
    """Say where the right to see and make spaces comes from, which not every session has."""
    try:
        yield
    except NotGranted as refusal:
        refusal.hint = "sealspace login, which asks for that"
        raise


def _left_s(client: Client) -> float:
    """Return how long the session lasts: what is added to it ends with it."""
    ends_at = client.session.expires_at
    return 86_400.0 if ends_at is None else ends_at - SystemClock().now()
