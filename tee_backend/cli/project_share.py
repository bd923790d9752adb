"""`sealspace project share`: a private program, for one runner to read."""

import asyncio
from pathlib import Path

import click

from sealspace.apps.descriptions import in_plain_words
from sealspace.apps.programs import read_active
from sealspace.cli.durations import ttl_s_of
from sealspace.cli.errors import NotThere
from sealspace.cli.grant_create import hand_over_all
from sealspace.cli.owner_profile import KeptGrant, at_node, owner_home
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_json, print_lines, words
from sealspace.client import Client
from sealspace.documents.project_names import checked_project_name

from .backend_grant import confirm_seen
from .backend_show import Looking, looking_options
from .project import project_of, reader


@click.command(
    "share",
    epilog="Example: `sealspace project publish digest digest.wasm --private`, then `sealspace project share "
    "https://runner.example digest`. To end it: `sealspace runner revoke https://runner.example`.",
)
@click.option(
    "--expires", metavar="TIME", default="7d", show_default=True, help="How long the grant lasts: 30m, 12h, 90d."
)
@click.option("--yes", is_flag=True, help="Do not ask; what was seen is granted to, whatever it is.")
@looking_options
@click.argument("name", metavar="NAME")
def share(url: str, looking: Looking, name: str, expires: str, yes: bool) -> None:
    """Look at the runner at URL, and let it read and run the private project NAME of yours, all of its versions.

    Whoever may call that runner may have it run the program; secrets it gets as their owners granted them. The node
    holds the grant to the runner's DID; that no other code has that DID's key, only its platform holds.
    """
    ttl_s = ttl_s_of(expires)
    kept, path = _share(url, looking, name, ttl_s=ttl_s, yes=yes)
    asyncio.run(hand_over_all(url, [kept.portable], kept=str(path)))
    if shared().as_json:
        print_json({"granted": kept.portable.cid, "file": str(path)})


@at_node
async def _share(
    client: Client, url: str, looking: Looking, name: str, *, ttl_s: float, yes: bool
) -> tuple[KeptGrant, Path]:
    home, project = owner_home(), project_of(checked_project_name(name))
    if await read_active(reader(client, project), project) is None:
        raise NotThere(
            f"no version of {project.text} is active", hint=f"sealspace project publish {project.name} FILE --private"
        )
    seen = await looking.look(url)
    # A confirmation is never requested for what is not shown.
    print_lines(*in_plain_words(seen, looking.policy(seen, ttl_s=ttl_s)), err=shared().as_json)
    if not (yes or looking.knows(seen)):
        confirm_seen()
    portable = await client.runners.share_project(seen, project.name, ttl_s=ttl_s, wallet=home.wallet())
    kept = KeptGrant(url=url, portable=portable)
    words(f"granted: {portable.cid}")
    return kept, home.keep_grant(kept)
