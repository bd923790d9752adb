"""The command `sealspace use`, which chooses whose secrets the other commands use."""

import click

from ...client import Client
from ..options.durations import expires_option
from ..owner.chosen_team import OWN, forget_choice, keep_choice, team_named, team_session
from ..owner.owner_profile import at_node, owner_home
from ..terminal import optional_time, print_result, tell


@click.command(
    epilog="Examples: `sealspace use ops`, then `sealspace secret list` lists the secrets of the"
    " team ops; `sealspace use me` for your own secrets again. To use another team for one command,"
    " add --as NAME to it."
)
@click.argument("name", metavar="TEAM|me")
@expires_option("7d", "How long the session for the team lasts, at most 30d.", most_days=30)
def use(name: str, ttl_s: float) -> None:
    """Choose a team, whose secrets all later commands use.

    TEAM is the name of a contact or a DID, and you are a member of the team. The wallet signs in to
    a new session. With `me`, later commands use your own secrets. A project file with a team, and
    the option --as, win over this.
    """
    if name == OWN:
        forget_choice(owner_home())
        tell("later commands use your own secrets")
        print_result({"team": None})
        return
    _choose(name, ttl_s)


@at_node
async def _choose(client: Client, name: str, ttl_s: float) -> None:
    """Sign in for a team, and store the choice."""
    home = owner_home()
    team = await team_named(client, name)
    session = await team_session(home, client, team, anew=True, ttl_s=ttl_s)
    keep_choice(home, session.owner, name)
    ends = optional_time(session.expires_at)
    tell(f"later commands use the secrets of the team {name} ({session.owner})", f"until {ends}")
    print_result({"team": session.owner, "name": name, "expiresAt": ends})
