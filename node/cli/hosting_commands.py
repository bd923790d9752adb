"""The commands `sealspace admin owners` and `sealspace admin quota`."""

import re
from collections.abc import Sequence
from pathlib import Path

import click

from capabilities.capability_errors import InvalidIdentifier
from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import Principal, parse_principal
from capabilities.resources import parse_space_id
from sealspace.cli.lazy import Verbs
from sealspace.cli.terminal import print_documents, print_result, tell, time_text
from sealspace.service.command_errors import ConfigurationError
from spaces.grants.admissions import read_admissions
from spaces.store.contract import Store
from spaces.values.quota import PUBLIC_NAME, largest_spaces

from ..config.tree import Config
from ..operations.values.admin_quota import all_overrides, set_quota, show_quota
from ..operations.values.admission import change_admission
from .opened_store import on_store, run_on_store
from .settings import config_from, data_options


def _owner(did: str) -> Principal:
    try:
        return parse_principal(did)
    except InvalidIdentifier as error:
        raise ConfigurationError(
            error.text, hint="write the whole DID, like did:key:z6Mk…"
        ) from None


# Parsed by click, so that a malformed DID is refused before any owner is changed.
_DIDS = click.argument("dids", metavar="DID...", nargs=-1, required=True, type=_owner)


@click.group(cls=Verbs)
def owners() -> None:
    """Choose the owners whose spaces the node hosts.

    The list applies in hosting mode `permit` only. Changes apply to every process on the store.
    """


@owners.command("add")
@on_store
@_DIDS
async def add(_: Config, store: Store, dids: Sequence[Principal]) -> None:
    """Allow owners to have spaces on this node.

    The node hosts their spaces within its limits. The change is audited.
    """
    for owner in dids:
        is_new = await change_admission(
            store, owner, admits=True, now=SystemClock.now(), entropy=SystemEntropy()
        )
        tell(f"{owner}: {'admitted' if is_new else 'was admitted already'}")


@owners.command("remove")
@on_store
@_DIDS
async def remove(config: Config, store: Store, dids: Sequence[Principal]) -> None:
    """Remove owners from the admitted owners.

    The node hosts no new spaces for them. It keeps hosting existing spaces, for the owner and for
    everyone with a grant. To stop all writes to a space, set the space's quota to 0 (`sealspace
    admin quota`). The change is audited.
    """
    for owner in dids:
        was_there = await change_admission(
            store, owner, admits=False, now=SystemClock.now(), entropy=SystemEntropy()
        )
        tell(f"{owner}: {'removed' if was_there else 'was not admitted'}")
        # A DID has several spellings, so parsed ones are compared.
        if owner in map(_owner, config.hosting.listed):
            tell(
                f"{owner}: hosting.listed still admits this owner; next: remove the DID from"
                " hosting.listed and restart the node"
            )


@owners.command("list")
@on_store
async def list_owners(config: Config, store: Store) -> None:
    """Print the owners whose spaces the node hosts.

    They were admitted by `owners add` or by the setting `hosting.listed`.
    """
    print_documents(
        [
            {"did": admission.owner, "admittedAt": time_text(admission.admitted_at)}
            async for admission in read_admissions(store)
        ],
        {"did": "DID", "admittedAt": "admitted"},
        nothing="no owners are admitted; next: sealspace admin owners add DID",
    )
    tell(*[f"admitted by hosting.listed: {did}" for did in config.hosting.listed])


# --- quota ----------------------------------------------------------------------------------------


_MAX_BYTES = 1 << 62
_MAX_SHOWN_SPACES = 100
_BYTES_IN = {None: 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
"""The number of bytes in each unit; None is for a number without a unit."""


def _id(text: str) -> str:
    try:
        return parse_space_id(text).text
    except InvalidIdentifier as error:
        raise ConfigurationError(
            f"not a valid space id: {error.text}",
            hint="use the whole id, in the form tinycloud:pkh:eip155:1:0x…:notes",
        ) from None


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,19})(KiB|MiB|GiB|TiB)?", text)
    if match is not None:
        number, unit = match.groups()
        size_bytes = int(number) * _BYTES_IN[unit]
        if size_bytes <= _MAX_BYTES:
            return size_bytes
    raise ConfigurationError(
        f"{text[:24]} is not a valid size", hint="use the form 1000000 or 500MiB"
    )


_SPACE = click.argument("space", metavar="SPACE", type=_id)


@click.group(cls=Verbs, invoke_without_command=True)
@data_options
@click.pass_context
def quota(context: click.Context, config_file: Path | None, store__data: str | None) -> None:
    """Show the storage usage of spaces, or show and set their limits.

    Without a command, this prints the largest spaces with their usage and limits. Changes apply to
    every process on the store. SPACE is the whole id of a space, like
    tinycloud:pkh:eip155:1:0x…:notes. The default limit is the setting
    `hosting.default_quota_bytes`.
    """
    is_here = config_file is not None or store__data is not None
    if context.invoked_subcommand is None:
        config = config_from(config_file, {"store__data": store__data})
        run_on_store(config, lambda store: _print_usage(config, store))
    elif is_here:
        # The command below has options of its own, and would use another store.
        raise click.UsageError(
            f"write the options after the command: quota {context.invoked_subcommand} --data DIR"
        )


async def _print_usage(config: Config, store: Store) -> None:
    """Print the largest spaces with their usage and limits."""
    usage = await largest_spaces(store, limit=_MAX_SHOWN_SPACES)
    shown = []
    for space in usage.spaces:
        view = await show_quota(store, config, space.space_id)
        shown.append(
            {
                "space": space.space_id,
                "usedBytes": space.usage_bytes,
                "limitBytes": view.effective_limit_bytes,
                "isOwnLimit": view.override_bytes is not None,
                "versionsBytes": view.versions_bytes,
            }
        )
    print_documents(
        shown,
        {"space": "space", "usedBytes": "used bytes", "limitBytes": "limit"},
        nothing="the node hosts no spaces yet; next: sealspace admin quota --help",
    )
    if usage.count > len(shown):
        tell(f"the largest {len(shown)} of {usage.count} spaces are shown")


@quota.command("list")
@on_store
async def list_(config: Config, store: Store) -> None:
    """List the spaces that have a storage limit of their own.

    Limits are in bytes.
    """
    listing = await all_overrides(store, config)
    print_documents(
        [{"space": space, "limitBytes": limit} for space, limit in listing.overrides.items()],
        {"space": "space", "limitBytes": "limit"},
        nothing="no space has its own limit",
    )
    if listing.more:
        tell("the list is truncated; there are other spaces with a limit of their own")
    default = (
        "none" if listing.default_limit_bytes is None else f"{listing.default_limit_bytes} bytes"
    )
    tell(f"limit of each other space: {default}; next: sealspace admin quota set SPACE SIZE")


@quota.command("show")
@on_store
@_SPACE
async def show(config: Config, store: Store, space: str) -> None:
    """Print the storage limit and the usage of a space."""
    await _show(config, store, space)


@quota.command("set")
@on_store
@_SPACE
@click.argument("size", metavar="SIZE", type=_bytes)
async def set_(config: Config, store: Store, space: str, size: int) -> None:
    """Set the storage limit of a space.

    The limit is in bytes, KiB, MiB, GiB or TiB. A limit of 0 stops all writing. The change is
    audited. The limit of spaces named `public` is a setting.
    """
    if space.endswith(f":{PUBLIC_NAME}"):  # the setting applies, whatever else is set (M53)
        raise ConfigurationError(
            f"{space} has the limit of all public spaces",
            hint="change the setting public_spaces.storage_limit_bytes",
        )
    await _set(config, store, space, size)


@quota.command("clear")
@on_store
@_SPACE
async def clear(config: Config, store: Store, space: str) -> None:
    """Reset a space to the default storage limit.

    The change is audited.
    """
    await _set(config, store, space, None)


async def _set(config: Config, store: Store, space: str, size: int | None) -> None:
    await set_quota(store, config, space, size, now=SystemClock.now(), entropy=SystemEntropy())
    await _show(config, store, space)


async def _show(config: Config, store: Store, space: str) -> None:
    view = await show_quota(store, config, space)
    limit, used = view.effective_limit_bytes, view.current_usage_bytes
    is_own = view.override_bytes is not None
    limit_text = "none" if limit is None else f"{limit} bytes"
    if is_own:
        limit_text += ", its own"
    used_text = "not hosted" if used is None else f"{used} bytes"
    print_result(
        {
            "space": view.space_id,
            "limitBytes": limit,
            "isOwnLimit": is_own,
            "usedBytes": used,
            "versionsBytes": view.versions_bytes,
        },
        (
            f"limit: {limit_text}",
            f"used: {used_text}",
            f"versions: {view.versions_bytes} bytes",
        ),
    )
