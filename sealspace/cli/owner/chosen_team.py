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


class _StoredChoice(StrictRecord):
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

    Args:
        home: the owner's folder.
        with_project: whether a project file may choose the team.
    Raises:
        InvalidInput: the project file must not be used, or the stored choice cannot be read.
    """
    text_in_option = shared().given_team
    if text_in_option is not None:
        return _team_in_text(text_in_option, "--as")
    if with_project:
        text_in_project, path = team_of_project()
        if text_in_project:
            return _team_in_text(text_in_project, path)
    return stored_choice(home)


def _team_in_text(text: str, source: str) -> ChosenTeam | None:
    """Return the team that a text names by a DID or a contact; None for the owner's own secrets."""
    if text == OWN:
        return None
    return ChosenTeam(name=text, did=text if text.startswith("did:") else None, source=source)


def stored_choice(home: OwnerHome) -> ChosenTeam | None:
    """Return the team that `sealspace use` chose, or None.

    Raises:
        InvalidInput: the file cannot be read. Using the own secrets instead could store a value in
            the wrong place.
    """
    try:
        data = read_file(_choice_path(home), most_bytes=_MOST_BYTES)
        stored = msgspec.json.decode(data, type=_StoredChoice)
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
    value = msgspec.to_builtins(_StoredChoice(team=team, name=name))
    replace_file(_choice_path(home), canonical_bytes(value))


def forget_choice(home: OwnerHome) -> None:
    """Let all later commands use the owner's own secrets."""
    _choice_path(home).unlink(missing_ok=True)


@asynccontextmanager
async def for_chosen_team(home: OwnerHome, client: Client) -> AsyncIterator[Client]:
    """Yield the client for the running command: for the chosen team, or `client` itself.

    Raises:
        DelegationRevoked, NotGranted: as in the command, with the next step for a member.
        SealspaceError: the same errors as `_client_for_chosen_team`.
    """
    acting = await _client_for_chosen_team(home, client)
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


async def _client_for_chosen_team(home: OwnerHome, client: Client) -> Client:
    """Return a client for the chosen team, or `client` itself.

    Raises:
        InvalidInput: the command cannot be used for a team.
        NoSuchContact, NotAMember: there is no such team, or the owner is not a member.
        SealspaceError: the same errors as `Teams.sign_in`.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return client
    command = context.command_path
    group, _, _ = command.removeprefix("sealspace ").partition(" ")
    if group in _OF_ONESELF:
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
        _confirm_project_file(home, chosen, did)
        tell(f"for the team {_team_text(chosen.name, did)}")
    return client.acting(await team_session(home, client, did))


def _team_text(name: str, did: str) -> str:
    """Return a team in words: its name and its DID."""
    return did if name == did else f"{name} ({did})"


def _confirm_project_file(home: OwnerHome, chosen: ChosenTeam, did: str) -> None:
    """Ask before a project file decides where a value is stored.

    A repository may contain such a file, and the members of its team would read the value.
    """
    is_from_project_file = chosen.source not in ("--as", "use")
    if not is_from_project_file:
        return
    stored = stored_choice(home)
    is_also_stored = stored is not None and stored.did == did
    if not is_also_stored:
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
        client: a client with the owner's own session.
        team: DID.
        anew: sign in even if the stored session is usable.
        ttl_s: lifetime of a new session, seconds; None: the default of a login.
    Raises:
        InvalidInput: the owner has no wallet.
        NotAMember: the owner is not a member of this team.
        SealspaceError: the same errors as `Teams.sign_in`.
    """
    path = session_path(home, team)
    if not anew:
        stored_session = await _usable_session(path, client, team)
        if stored_session is not None:
            return stored_session
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


async def _usable_session(path: Path, client: Client, team: str) -> Session | None:
    """Return the session for a team in a file; None if the wallet has to sign in again.

    That is so if the file has no session that can be read, if the session is for another team or
    node or has ended, or if its membership is not active any more.
    """
    try:
        session = load_session(path)
    except (OSError, InvalidSession):
        return None
    is_for_team = session.owner == team and session.node_id == client.session.node_id
    if not is_for_team or has_ended(session):
        return None
    # An admin may have signed the membership anew, or changed the role. Nothing was done yet, so a
    # new session is enough; a command that has begun is not repeated.
    membership = await client.delegations.status(session.grants[0].cid)
    return session if membership.is_active else None


async def signing_membership(client: Client, *, unbound: bool = False) -> Grant | None:
    """Return the admin's membership that a grant for a team cites (TM6).

    The owner's wallet signs such a grant, as an admin of the team.

    Args:
        client: the client of the command.
        unbound: whether the grant allows values without a place.
    Returns:
        None for a client that acts for the owner, whose grants cite no membership.
    Raises:
        InvalidInput: no admin may allow such values.
        NotAMember: the owner is not an admin of the team.
        SealspaceError: the same errors as `Teams.admin_membership`.
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
    """Return the path of the session for a team.

    Raises:
        NotSignedIn: `team` is not the DID of a wallet, whose address names the file.
    """
    # The last part of a wallet's DID is its address.
    address = team.rpartition(":")[2]
    if not address.removeprefix("0x").isalnum():
        raise NotSignedIn(f"{team[:100]} is not the DID of a team")
    return home.folder / "teams" / f"{address}.json"


def _choice_path(home: OwnerHome) -> Path:
    return home.folder / "team.json"
