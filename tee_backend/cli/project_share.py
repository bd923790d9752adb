"""`sealspace project share`: a private program, for one runner to read."""

import click

from sealspace.apps.descriptions import in_plain_words
from sealspace.apps.programs import read_active
from sealspace.cli.errors import NotThere
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_json
from sealspace.client import Client
from sealspace.documents.project_names import checked_project_name

from .backend_grant import confirm_shown, deliver, expires_option, yes_option
from .backend_show import Looking, looking_options
from .project import project_of, reader


@click.command(
    "share",
    epilog="Example: `sealspace project publish digest digest.wasm --private`, then `sealspace project share "
    "https://runner.example digest`. To end it: `sealspace runner revoke https://runner.example`.",
)
@expires_option
@yes_option
@looking_options
@click.argument("name", metavar="NAME")
@at_node
async def share(client: Client, url: str, looking: Looking, name: str, ttl_s: float, yes: bool) -> None:
    """Look at the runner at URL, and let it read and run the private project NAME of yours, all of its versions.

    Whoever may call that runner may have it run the program; secrets it gets as their owners granted them. The node
    holds the grant to the runner's DID; that no other code has that DID's key, only its platform holds.
    """
    project = project_of(checked_project_name(name))
    if await read_active(reader(client, project), project) is None:
        raise NotThere(
            f"no version of {project.text} is active", hint=f"sealspace project publish {project.name} FILE --private"
        )
    seen = await looking.look(url)
    confirm_shown(in_plain_words(seen, looking.policy(seen, ttl_s=ttl_s)), yes=yes or looking.knows(seen))
    portable = await client.runners.share_project(seen, name, ttl_s=ttl_s, wallet=owner_home().wallet())
    kept = await deliver(url, portable)
    if shared().as_json:
        print_json(kept)
