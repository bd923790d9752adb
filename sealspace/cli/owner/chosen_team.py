"""The team whose secrets a command uses.

`sealspace use NAME` chooses a team for all later commands, and stores it in the owner's folder. The
member `team` of a project file wins over it, and the option `--as` over both. A session for a team
is signed by the owner's wallet, and stored until it ends.

    ~/.sealspace/team.json            the chosen team
      teams/<address>.json            the session for a team, with its private key

Example:
    async with for_chosen_team(home, client) as acting: ...
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from capabilities.strict_json import StrictRecord
from encryption_network.canonical_json import canonical_bytes

from ...client import Client
from ...errors import (
    DelegationRevoked,
    InvalidInput,
    InvalidSession,
    NoSuchContact,
    NotGranted,
    NotSignedIn,
)
from ...private_files import read_file, replace_file
from ...session import Grant, Session, load_session, save_session
from ...wire.team_session import member_of_session
from ..shared import shared, team_of_project
from ..terminal import confirm, tell
from .contact_names import did_named
from .owner_profile import OwnerHome, has_ended, owner_home

OWN = "me"
"""The word for the owner's own secrets, in the place of a team's name."""

_MOST_BYTES = 4096
_WRITING = frozenset(
    f"sealspace secret {name}"
    for name in ("put", "delete", "rollback", "restore", "import", "generate", "bind")
) | {
    "sealspace token create",
    "sealspace token revoke",
    "sealspace ci trust",
    "sealspace ci revoke",
    "sealspace backend grant",
}
_READING = frozenset(
    {f"sealspace secret {name}" for name in ("get", "list", "versions", "export", "show")}
    | {"sealspace run", "sealspace template", "sealspace receipts list", "sealspace grant show"}
    | {"sealspace token list", "sealspace ci list", "sealspace mcp"}
)
_FOR_TEAMS = _WRITING | _READING
_OF_ONESELF = ("contact", "team", "use", "status", "login", "logout", "whoami", "console")
"""Commands about the owner's login, which do not depend on the chosen team."""


class _Stored(StrictRecord):
    """The content of `team.json`.

    Attributes:
        team: DID of the team.
        name: the name by which it was chosen.
    """

    team: str
    name: str


class ChosenTeam(NamedTuple):
    """A team that was chosen for a command.

    Attributes:
        name: how the user or the file calls it.
        did: DID of the team; None: not known before the contacts are read.
        source: `--as`, `use`, or the path of the project file.
    """

    name: str
    did: str | None
    source: str


def chosen_team(home: OwnerHome, *, with_project: bool = True) -> ChosenTeam | None:
    """Return the team whose secrets commands use, or None for the owner's own secrets.

    Raises:
        InvalidInput: the project file must not be used, or the stored choice cannot be read.
    """
    named = shared().given_team
    if named is not None:
        return None if named == OWN else _named(named, "--as")
    if with_project:
        team, path = team_of_project()
        if team:
            return None if team == OWN else _named(team, path)
    return stored_choice(home)


def _named(text: str, source: str) -> ChosenTeam:
    return ChosenTeam(name=text, did=text if text.startswith("did:") else None, source=source)


def stored_choice(home: OwnerHome) -> ChosenTeam | None:
    """Return the team that `sealspace use` chose, or None.

    Raises:
        InvalidInput: the file cannot be read. Using the own secrets instead could store a value in
            the wrong place.
    """
    try:
        data = read_file(_choice_path(home), most_bytes=_MOST_BYTES)
        stored = msgspec.json.decode(data, type=_Stored)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        raise InvalidInput(
            f"cannot read which team was chosen: {_choice_path(home)} is damaged",
            hint="choose again: sealspace use NAME, or sealspace use me for your own secrets",
        ) from None
    return ChosenTeam(name=stored.name, did=stored.team, source="use")


def keep_choice(home: OwnerHome, team: str, name: str) -> None:
    """Store the team that all later commands use."""
    value = msgspec.to_builtins(_Stored(team=team, name=name))
    replace_file(_choice_path(home), canonical_bytes(value))


def forget_choice(home: OwnerHome) -> None:
    """Let all later commands use the owner's own secrets."""
    _choice_path(home).unlink(missing_ok=True)


@asynccontextmanager
async def for_chosen_team(home: OwnerHome, client: Client) -> AsyncIterator[Client]:
    """Yield the client for the running command: for the chosen team, or `client` itself.

    Raises:
        DelegationRevoked, NotGranted: as in the command, with the next step for a member.
        SealspaceError: as `_acting`.
    """
    acting = await _acting(home, client)
    try:
        yield acting
    except DelegationRevoked as error:
        if acting is not client:
            # An admin may have signed the membership anew, or changed the role.
            forget_team_session(home, acting.session.owner)
            error.step = (
                "run the command again, which signs in to the team anew; if that does not help, ask"
                " an admin of the team"
            )
        raise
    except NotGranted as error:
        if acting is not client and error.step == NotGranted.default_step:
            error.step = (
                "your role in the team does not allow this: ask an admin of the team, who can"
                " change it; to see your role: sealspace team list"
            )
        raise


async def _acting(home: OwnerHome, client: Client) -> Client:
    """Return a client for the chosen team, or `client` itself.

    Raises:
        InvalidInput: the command cannot be used for a team.
        NoSuchContact, NotAMember: there is no such team, or the owner is not a member.
        SealspaceError: as `Teams.sign_in`.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return client
    command = context.command_path
    if command.removeprefix("sealspace ").partition(" ")[0] in _OF_ONESELF:
        return client
    # An agent could write a project file, so `mcp` reads none (AG1).
    with_project = not context.params.get("no_project") and command != "sealspace mcp"
    chosen = chosen_team(home, with_project=with_project)
    if chosen is None:
        return client
    if command not in _FOR_TEAMS:
        raise InvalidInput(
            f"`{command}` cannot be used for a team, and the team {chosen.name} is chosen",
            hint=f"for your own account, add --as {OWN}",
        )
    did = await team_named(client, chosen.name) if chosen.did is None else chosen.did
    if command in _WRITING:
        _confirm_project(home, chosen, did)
        tell(f"for the team {_in_words(chosen.name, did)}")
    return client.acting(await team_session(home, client, did))


def _in_words(name: str, did: str) -> str:
    return did if name == did else f"{name} ({did})"


def _confirm_project(home: OwnerHome, chosen: ChosenTeam, did: str) -> None:
    """Ask before a project file decides where a value is stored.

    A repository may contain such a file, and the members of its team would read the value.
    """
    if chosen.source in ("--as", "use"):
        return
    stored = stored_choice(home)
    if stored is None or stored.did != did:
        confirm(
            f"the project file {chosen.source} chooses the team {chosen.name}; change its secrets?",
            hint=f"if this is right, add --as {chosen.name}; for your own secrets, add --as {OWN}",
        )


async def team_named(client: Client, name: str) -> str:
    """Return the DID of a team by the name of the contact.

    Raises:
        NoSuchContact: there is no contact of this name.
    """
    try:
        return await did_named(client, name)
    except NoSuchContact as error:
        error.step = (
            "list your teams: sealspace team list; to name one: sealspace contact add NAME DID; for"
            f" your own secrets, add --as {OWN}"
        )
        raise


async def team_session(
    home: OwnerHome, client: Client, team: str, *, anew: bool = False, ttl_s: float | None = None
) -> Session:
    """Return a session for a team: the stored one, or a new one that the wallet signs.

    Args:
        home: the owner's folder.
        client: with the owner's own session.
        team: DID.
        anew: sign in even if the stored session is usable.
        ttl_s: lifetime of a new session, seconds; None: the default of a login.
    Raises:
        InvalidInput: the owner has no wallet.
        NotAMember: the owner is not a member of this team.
        SealspaceError: as `Teams.sign_in`.
    """
    path = session_path(home, team)
    if not anew:
        try:
            session = load_session(path)
            is_of_node = session.node_id == client.session.node_id
            is_usable = is_of_node and session.owner == team and not has_ended(session)
            # An admin may have signed the membership anew, or changed the role. Nothing was done
            # yet, so a new session is enough; a command that has begun is not repeated.
            if is_usable and (await client.delegations.status(session.grants[0].cid)).is_active:
                return session
        except (OSError, InvalidSession):
            pass  # without the file, the wallet signs in again
    from ...wire.sign_in import SESSION_TTL_S

    membership = await client.teams.membership(team)
    wallet = home.wallet()
    if wallet is None:
        raise no_wallet()
    session = await client.teams.sign_in(wallet, membership, ttl_s=ttl_s or SESSION_TTL_S)
    acting = client.acting(session)
    # The stored session pins the key of the team's network.
    await acting.encryption.descriptor(acting.encryption.network())
    path.parent.mkdir(mode=0o700, exist_ok=True)
    save_session(acting.session, path)
    return acting.session


async def signing_membership(client: Client, *, unbound: bool = False) -> Grant | None:
    """Return the membership that a grant by the owner's wallet cites, for a team (TM6).

    Returns None for a client that acts for the owner.

    Args:
        client: of the command.
        unbound: whether the grant allows values without a place.
    Raises:
        InvalidInput: no admin may allow such values.
        NotAMember: the owner is not an admin of the team.
        SealspaceError: as `Teams.admin_membership`.
    """
    if member_of_session(client.session) is None:
        return None
    if unbound:
        raise InvalidInput(
            "only the team's own key may allow values that state no place, not an admin's wallet",
            hint="omit --allow-unbound, and bind the values: sealspace secret bind --all",
        )
    wallet = owner_home().wallet()
    if wallet is None:
        raise no_wallet()
    return (await client.teams.admin_membership(wallet)).grant


def no_wallet() -> InvalidInput:
    """Return the error for an owner with a recovery phrase, who has no wallet."""
    return InvalidInput(
        "a member of a team signs with a wallet, and you are logged in with a recovery phrase",
        hint="log in with a wallet: sealspace --home DIR login URL --new",
    )


def forget_team_session(home: OwnerHome, team: str) -> None:
    """Delete the stored session for a team."""
    session_path(home, team).unlink(missing_ok=True)


def session_path(home: OwnerHome, team: str) -> Path:
    """Return the path of the session for a team."""
    # The last part of a wallet's DID is its address.
    address = team.rpartition(":")[2]
    if not address.removeprefix("0x").isalnum():
        raise NotSignedIn(f"{team[:100]} is not the DID of a team")
    return home.folder / "teams" / f"{address}.json"


def _choice_path(home: OwnerHome) -> Path:
    return home.folder / "team.json"
