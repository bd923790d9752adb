"""The commands `sealspace team adopt` and `team convert`, which move secrets into a team (TM23)."""

from collections.abc import Sequence

import click

from capabilities.principals import is_wallet, parse_principal

from ...client import Client
from ...documents.secret_names import is_protected, is_reserved
from ...errors import InvalidInput, NotFound, NotShared
from ...giving.copies import Share
from ...secrets import parse_secret_label
from ...service.command_errors import NotThere
from ..owner.chosen_team import team_named, team_session
from ..owner.contact_names import names_for
from ..owner.owner_profile import at_node, owner_home
from ..share.secret_show import other_readers
from ..terminal import confirm, flag_option, print_result, tell, yes_option
from .team_keys import KeyPlace, key_options, make_team
from .team_members import wallet_of_owner


@click.command(
    epilog="Examples: `sealspace team adopt shop API_KEY ci/TOKEN`; `sealspace team adopt shop"
    " --all`. An interrupted command is continued by the same command.",
)
@click.argument("team", metavar="TEAM")
@click.argument("labels", metavar="[NAME…]", nargs=-1)
@flag_option("--all", "is_all", help="Move all your secrets.")
@flag_option("--keep", help="Do not delete your own secrets.")
@yes_option
@at_node
async def adopt(
    client: Client, team: str, labels: tuple[str, ...], is_all: bool, keep: bool, yes: bool
) -> None:
    """Move your own secrets into TEAM, with their versions.

    NAME is the name of a secret, or scope/NAME. Your own secrets are deleted after the team's were
    read and compared. What you granted on them does not move, and is listed first. A value that the
    team has already is not replaced.
    """
    has_labels = bool(labels)
    if has_labels == is_all:  # neither, or both
        raise click.UsageError("name the secrets, or add --all")
    home = owner_home()
    team_did = await team_named(client, team)
    if is_all:
        chosen = await _labels_to_move(client)
    else:
        chosen = [parse_secret_label(label).label for label in labels]
    if not chosen:
        tell("you have no secrets of your own")
        print_result({"team": team_did, "moved": []})
        return
    await _tell_staying_grants(client, chosen)
    names = await names_for(client, [team_did])
    team_text = names.whole(team_did)
    ending = "" if keep else ", and delete your own"
    confirm(
        f"store {', '.join(chosen)} in the team {team_text}, for all its members{ending}?", yes=yes
    )
    acting = client.acting(await team_session(home, client, team_did))
    await _move_secrets(client, acting, chosen, keep=keep)
    verb = "copied" if keep else "moved"
    tell(f"{verb} to the team: sealspace secret list --all --as {team}")
    print_result({"team": team_did, "moved": chosen})


async def _labels_to_move(client: Client) -> list[str]:
    """Return the labels of all the owner's secrets that can move."""
    secrets = client.secrets()
    labels: list[str] = []
    for scope in (None, *await secrets.scopes()):
        for name in await secrets.list(scope=scope):
            if is_protected(name) or is_reserved(name):
                tell(f"{name} stays: only runners use it")
            else:
                labels.append(name if scope is None else f"{scope}/{name}")
    return labels


async def _tell_staying_grants(client: Client, labels: Sequence[str]) -> None:
    """Print the grants to others on the owner's own secrets, which do not move."""
    for label in labels:
        try:
            grants = await other_readers(client, label)
        except NotFound:  # moved by an interrupted command, or reported when it is moved
            continue
        if grants:
            tell(
                f"on your own {label}, these grants do not move:",
                *[f"  {grant}" for grant in grants],
            )


async def _move_secrets(
    client: Client, acting: Client, labels: Sequence[str], *, keep: bool
) -> None:
    """Move secrets one after the other, and print the result of each.

    Args:
        client: a client with the owner's own session.
        acting: a client with the session for the team.
        labels: labels of the secrets.
        keep: whether the owner's own secrets are left.
    """
    for label in labels:
        adopted = await client.teams.adopt(label, acting.session, keep=keep)
        noun = "version" if adopted.versions == 1 else "versions"
        own = "; your own was deleted" if adopted.is_own_deleted else ""
        tell(f"{label}: {adopted.versions} {noun} stored for the team{own}")


# --- teams of copies ------------------------------------------------------------------------------


@click.command(
    epilog="Example: `sealspace team convert ops --shares 3 --threshold 2 --out shares`. An"
    " interrupted command is continued by the same command.",
)
@click.argument("name", metavar="TEAM")
@key_options
@yes_option
@at_node
async def convert(client: Client, name: str, place: KeyPlace, yes: bool) -> None:
    """Turn a team of copies into a team with members.

    A new team of the same name is made, of which you are the admin. The people become readers, the
    shared secrets move into it with their versions, and then the copies end. People with a network
    at another node need a login at this one. See `sealspace team create` for the options.
    """
    wallet = wallet_of_owner()
    shares = [share for share in await client.sharing.shares() if share.folder.team == name]
    if not shares:
        await _delete_leftovers(client, name)
        return
    _require_wallets(shares)
    labels = sorted({copy.label for share in shares for copy in share.copies})
    share_of_person = {share.folder.did: share for share in shares}
    names = await names_for(client, list(share_of_person))
    await _tell_staying_grants(client, labels)
    readers_text = ", ".join([names.whole(did) for did in share_of_person])
    secrets_text = ", ".join(labels) or "no secret yet"
    confirm(
        f"make a team with members {name}, with the readers {readers_text}, move {secrets_text}"
        " into it, and end the copies?",
        yes=yes,
    )
    created = await make_team(client, name, (), place, replaces_copies=True)
    acting = client.acting(await team_session(owner_home(), client, created.team))
    members = await acting.teams.members()
    for did, share in share_of_person.items():
        if members.of(did):  # an interrupted command admitted them
            continue
        ends_at = share.grant.expires_at
        await acting.teams.admit(
            did,
            "reader",
            wallet=wallet,
            name=names.name(did),
            ends_at=None if ends_at is None else int(ends_at),
        )
    await _move_secrets(client, acting, labels, keep=False)
    await client.sharing.unshare(None, team=name)
    tell(
        f"the team {name} has members now; the copies ended",
        f"next, on the machine of each of {readers_text}: sealspace contact add NAME"
        f" {created.team}, then sealspace use NAME",
    )
    readers = list(share_of_person)
    print_result({"team": created.team, "name": name, "readers": readers, "moved": labels})


async def _delete_leftovers(client: Client, name: str) -> None:
    """Delete copies that nobody can read, which an interrupted command left."""
    try:
        await client.sharing.unshare(None, team=name)
    except NotShared:
        raise NotThere(
            f"you have no team of copies that is called {name}",
            hint="to list your teams of both kinds: sealspace team list",
        ) from None
    tell(f"deleted what was left of the team of copies {name}")


def _require_wallets(shares: Sequence[Share]) -> None:
    """Refuse people without a wallet, who cannot be members."""
    for share in shares:
        did = share.folder.did
        if not is_wallet(parse_principal(did)):
            raise InvalidInput(
                f"{did} has no wallet, so cannot be a member",
                hint="remove them from the team of copies first, and share with them alone:"
                f" sealspace team remove {share.folder.team} {did}",
            )
