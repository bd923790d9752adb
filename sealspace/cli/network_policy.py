"""`sealspace network policy`: what code may receive keys of an owner's network, shown, set or removed."""

from pathlib import Path
from typing import Final

import click

from capabilities.abilities import SET_POLICY
from encryption_network.policy import Policy, policy_json

from ..apps.descriptions import policy_changes, policy_words
from ..client import Client
from ..session import DEFAULT_NETWORK
from .network import right_to
from .owner_profile import at_node
from .paths import FILE
from .shared import shared
from .term_files import read_node_policy
from .terminal import confirm, print_found, print_json, words


@click.command(
    "policy",
    epilog="Examples: `sealspace network policy` shows it; `sealspace network policy --set policy.json` shows what "
    "changes, asks, and sets it; `--json` prints what `--set` reads. `sealspace backend show URL --json` has the "
    "policy that approves what runs there, as its member `policy`.",
)
@click.argument("name", required=False, default=DEFAULT_NETWORK)
@click.option("--set", "file", type=FILE, help="Set the policy in this JSON file, in place of what was stated.")
@click.option("--remove", is_flag=True, help="State nothing any more.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@at_node
async def policy(client: Client, name: str, file: Path | None, remove: bool, yes: bool) -> None:
    """Show, set or remove what code may receive keys of the network NAME, `default` unless named.

    A policy is in force with the next request, beside what the node demands and what each grant says.
    """
    if file is not None and remove:
        raise click.UsageError("--set and --remove exclude each other")
    wanted = None if file is None else read_node_policy(file)
    network = client.encryption.network(name)
    await right_to(client, network, SET_POLICY)
    before = await client.encryption.policy(network)
    if file is None and not remove:
        print_found(None if before is None else policy_json(before), policy_words(before))
        return
    if before != wanted:
        words(*policy_changes(before, wanted))
        confirm(_QUESTIONS[only_tightens(before, wanted)], yes=yes)
        await client.encryption.set_policy(network, wanted)
    words("nothing changes" if before == wanted else f"set: {name}")
    if shared().as_json:
        print_json(None if wanted is None else policy_json(wanted))


_QUESTIONS: Final = {True: "set this? it only tightens", False: "set this? code that was refused may be accepted by it"}


def only_tightens(before: Policy | None, after: Policy | None) -> bool:
    """Whether nothing is accepted that was refused: False in doubt, and wherever a list of code appears or goes.

    A policy that approves code is the list that delegates are judged by (RL5), so that the first one opens something.
    """
    if after is None or before is None:
        return after == before or (before is None and after is not None and not after.is_allow_list)
    return after.is_within(before) and (before.is_allow_list or not after.is_allow_list)
