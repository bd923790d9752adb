"""The commands `sealspace space`, which manage the owner's spaces."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from msgspec.structs import replace

from capabilities.capability_errors import InvalidIdentifier
from capabilities.clock_and_entropy import SystemClock
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import JsonObject

from ...client import Client
from ...errors import DuplicateRequest, NotGranted, SpaceNotFound
from ...service.command_errors import AlreadyThere, NotThere
from ...spaces import SpaceEntry
from ...wire.sign_in import whole_space
from ..owner.owner_profile import at_node, owner_home
from ..terminal import facts, print_result, print_rows, tell, time_text

_name = click.argument("name")
_RIGHT_TTL_S = 86_400.0
"""Lifetime of the rights to a new space if the session has no end."""


@click.command()
@at_node
async def list_(client: Client) -> None:
    """List the owner's spaces and their creation times."""
    with _sign_in_hint():
        spaces = await client.spaces().list()
    print_rows(
        [_space_json(entry) for entry in spaces],
        ("name", "since"),
        [(entry.space.name, time_of(entry.created_at) or "") for entry in spaces],
        nothing="no spaces on this node; next: sealspace space create NAME",
    )


@click.command(
    epilog="Example: `sealspace space create notes`, then `sealspace kv put a --space notes`.",
)
@_name
@at_node
async def create(client: Client, name: str) -> None:
    """Create a space on the node.

    The space is added to this session; the wallet signs the new rights. Later logins also request
    the rights to this space.
    """
    home = owner_home()
    profile, wallet = home.profile(), home.wallet()
    try:
        with _sign_in_hint():
            created = await client.spaces().create(name)
    except DuplicateRequest:
        raise AlreadyThere(
            f"the space {name} already exists", hint=f"to use it: sealspace login --space {name}"
        ) from None
    rights = whole_space(created.space, (await client.info()).features)
    ends_at = client.session.expires_at
    ttl_s = _RIGHT_TTL_S
    if ends_at is not None:
        ttl_s = ends_at - SystemClock.now()  # the new right ends with the session
    await client.delegations.add_right(wallet, rights, ttl_s=ttl_s)
    home.keep_session(client.session)
    # The stored session is read again: `keep_session` added the grants of other commands to it.
    home.keep(replace(profile, spaces=(*profile.spaces, name)), home.session())
    print_result(_space_json(created), [created.space.text])
    tell(f"next: sealspace kv put KEY --space {name} < FILE")


@click.command()
@_name
@at_node
async def info(client: Client, name: str) -> None:
    """Show the id, the creation time and the size of a space."""
    try:
        with _sign_in_hint():
            entry = await client.spaces().info(name)
    except SpaceNotFound:
        raise NotThere(
            f"you do not own a space named {name}", hint="sealspace space list"
        ) from None
    shown = {
        "name": entry.space.name,
        "id": entry.space.text,
        "since": time_of(entry.created_at),
        "stored": _usage_text(entry),
    }
    use = {"usageBytes": entry.usage_bytes, "limitBytes": entry.limit_bytes}
    print_result(_space_json(entry) | use, facts(shown))


def _usage_text(entry: SpaceEntry) -> str:
    if entry.usage_bytes is None:
        return "-"
    limit = "no limit" if entry.limit_bytes is None else f"at most {entry.limit_bytes:,}"
    return f"{entry.usage_bytes:,} bytes, {limit}"


def _space_json(entry: SpaceEntry) -> JsonObject:
    return {"name": entry.space.name, "id": entry.space.text, "createdAt": entry.created_at}


def time_of(text: str | None) -> str | None:
    """Format a timestamp from a node.

    Strings that are not timestamps are returned unchanged.
    """
    if text is None:
        return None
    try:
        return time_text(parse_rfc3339(text))
    except InvalidIdentifier:
        return text


async def require_own_space(client: Client, name: str) -> None:
    """Check that the owner has a space with this name.

    Raises NotThere if the node does not host the space.
    """
    try:
        await client.spaces().info(name)
    except SpaceNotFound:
        raise NotThere(
            f"the space {name} does not exist yet", hint=f"sealspace space create {name}"
        ) from None


@contextmanager
def _sign_in_hint() -> Iterator[None]:
    """Add a hint to errors about missing rights.

    The hint says to sign in again.
    """
    try:
        yield
    except NotGranted as refusal:
        refusal.step = "sign in again for a session with this right: sealspace login"
        raise
