"""`sealspace network policy`: what code may receive keys of an owner's network, shown, set or removed."""

import asyncio
from pathlib import Path
from typing import Final

import click

from capabilities.abilities import SET_POLICY
from encryption_network.policy import Policy, policy_json
from sealspace.session import DEFAULT_NETWORK

from ...term_files import read_node_policy
from ..shared import shared
from ..terminal import confirm, print_json, print_lines, words
from .network import right_to
from .owner_profile import OwnerHome, owner_home
from .policy_words import only_tightens, policy_changes, policy_words


@click.command(
    "policy",
    epilog="Examples: `sealspace network policy` shows it; `sealspace network policy --set policy.json` shows what "
    "changes, asks, and sets it; `--json` prints what `--set` reads. `sealspace backend show URL --json` has the "
    "policy that approves what runs there, as its member `policy`.",
)
@click.argument("name", required=False, default=DEFAULT_NETWORK)
@click.option(
    "--set",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Set the policy in this JSON file, in place of what was stated.",
)
@click.option("--remove", is_flag=True, help="State nothing any more.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def policy(name: str, file: Path | None, remove: bool, yes: bool) -> None:
    """Show, set or remove what code may receive keys of the network NAME, `default` unless named.

    A policy is in force with the next request, beside what the node demands and what each grant says.
    """
    if file is not None and remove:
        raise click.UsageError("--set and --remove exclude each other")
    if file is None and not remove:
        _show(asyncio.run(_read(owner_home(), name)))
        return
    wanted = None if file is None else read_node_policy(file)
    has_changed = asyncio.run(_set(owner_home(), name, wanted, yes=yes))
    words(f"set: {name}" if has_changed else "nothing changes")
    if shared().as_json:
        print_json(None if wanted is None else policy_json(wanted))


def _show(stated: Policy | None) -> None:
    if shared().as_json:
        print_json(None if stated is None else policy_json(stated))
    else:
        print_lines(*policy_words(stated))


async def _read(home: OwnerHome, name: str) -> Policy | None:
    async with home.client() as client:
        network = client.encryption.network(name)
        await right_to(home, client, network, SET_POLICY)
        return await client.encryption.policy(network)


async def _set(home: OwnerHome, name: str, wanted: Policy | None, *, yes: bool) -> bool:
    """Set a policy after showing what changes; returns whether anything does."""
    async with home.client() as client:
        network = client.encryption.network(name)
        await right_to(home, client, network, SET_POLICY)
        before = await client.encryption.policy(network)
        if before == wanted:
            return False
        words(*policy_changes(before, wanted))
        confirm(_QUESTIONS[only_tightens(before, wanted)], yes=yes)
        await client.encryption.set_policy(network, wanted)
    return True


_QUESTIONS: Final = {
    True: "set this? it only tightens",
    False: "set this? code that was refused may be accepted by it",
}
