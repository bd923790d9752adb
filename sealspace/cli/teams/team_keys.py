"""The commands that use a team's own key: `sealspace team create` and `team recover` (TM9).

The key is in a file, or in recovery shares. It is in memory while one of these commands runs.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.frozen import frozen
from capabilities.principals import same_principal
from capabilities.signatures import WalletSigner

from ...client import Client
from ...documents.contact_list import checked_name
from ...errors import InvalidInput
from ...giving.teams.membership_signing import MEMBERSHIP_TTL_S
from ...giving.teams.team_keys import CreatedTeam
from ...service.command_errors import AlreadyThere
from ..options.durations import expires_option
from ..options.given_shares import (
    owner_for,
    passphrase_for,
    passphrase_option,
    read_passphrase,
    read_shares,
)
from ..options.made_shares import (
    folder_option,
    is_empty,
    require_possible,
    shares_option,
    threshold_option,
    write_shares,
)
from ..options.paths import FILE, FILE_OR_DASH, NEW_FILE
from ..owner.chosen_team import no_wallet, team_named
from ..owner.contact_names import contacts_of, did_named, keep_contacts, name_or_none, names_for
from ..owner.owner_profile import at_node, read_wallet, write_wallet
from ..terminal import confirm, end_text, print_result, tell, yes_option
from .team_members import one_admin

_TEAM_KEY = (
    "it is for recovery: only this key admits an admin when none is left. Whoever has it can do"
    " everything that the team can"
)


@frozen
class KeyPlace:
    """Where the key of a new team goes: into shares in a folder, or into one file.

    Attributes:
        shares: how many shares are made.
        threshold: how many of them give the key.
        folder: folder for the shares, or None.
        passphrase_file: file with the passphrase of the shares, or None.
        key_file: file for the whole key, or None.
    """

    shares: int
    threshold: int
    folder: Path | None
    passphrase_file: Path | None
    key_file: Path | None

    @property
    def path(self) -> Path:
        """The folder or the file."""
        path = self.folder or self.key_file
        assert path is not None  # checked by `key_options`
        return path


def key_options(command: Callable[..., Any]) -> Callable[..., Any]:  # Any: as in click
    """Add the options for the key of a new team. The command gets them as `place`."""

    @wraps(command)
    def wrapper(
        *arguments: Any,
        shares: int,
        threshold: int,
        folder: Path | None,
        passphrase_file: Path | None,
        key_file: Path | None,
        **parameters: Any,
    ) -> Any:
        place = KeyPlace(
            shares=shares,
            threshold=threshold,
            folder=folder,
            passphrase_file=passphrase_file,
            key_file=key_file,
        )
        _require_one_place(place)
        require_possible(place.shares, place.threshold)
        return command(*arguments, place=place, **parameters)

    options_as_in_help = (
        shares_option,
        threshold_option,
        folder_option(
            required=False,
            more=" An existing set is used again, to complete an interrupted command.",
        ),
        passphrase_option,
        click.option(
            "--key-file",
            type=NEW_FILE,
            help="New file for the team's own key, with mode 0600, instead of shares. An existing"
            " file is used again, to complete an interrupted command.",
        ),
    )
    decorated: Callable[..., Any] = wrapper
    for add_option in reversed(options_as_in_help):  # as decorators: the last one is added first
        decorated = add_option(decorated)
    return decorated


@click.command(
    epilog="Examples: `sealspace team create shop --admin alice --shares 3 --threshold 2 --out"
    " shares`: give each file to another person, and delete the folder. `sealspace team create shop"
    " --admin alice --key-file shop.key`: move the file to a safe place, such as a locked drive.",
)
@click.argument("name", metavar="NAME")
@click.option(
    "--admin",
    "admins",
    metavar="DID|NAME",
    multiple=True,
    help="A further admin; repeatable. Name at least one, so that the team can admit members when"
    " your key is lost.",
)
@key_options
@expires_option("365d", "How long the admins' memberships last, from 1m to 1830d.", most_days=1830)
@at_node
async def create(
    client: Client, name: str, admins: tuple[str, ...], place: KeyPlace, ttl_s: float
) -> None:
    """Create a team, whose members read and replace the same secrets.

    You are its first admin. The team gets a DID, a space and an encryption network of its own. NAME
    becomes the name of a contact of yours. The team's key is for recovery alone: whoever has it can
    do everything that the team can. It is split into shares with --out, or written to --key-file.
    """
    created = await make_team(client, name, admins, place, ttl_s=ttl_s)
    tell(
        f"next: sealspace use {name}, then sealspace secret put NAME; and: sealspace team invite"
        f" {name} --role writer"
    )
    is_file = place.key_file is not None
    print_result(
        {
            "team": created.team,
            "name": name,
            "keyFile": str(place.path) if is_file else None,
            "shares": None if is_file else str(place.path),
        }
    )


async def make_team(
    client: Client,
    name: str,
    admins: Sequence[str],
    place: KeyPlace,
    *,
    ttl_s: float = MEMBERSHIP_TTL_S,
    replaces_copies: bool = False,
) -> CreatedTeam:
    """Create a team, or complete an interrupted creation, and say where its key is.

    Args:
        client: a client with the owner's session.
        name: name of the new contact.
        admins: further admins, DIDs or names.
        place: place for the team's key.
        ttl_s: lifetime of the admins' memberships, seconds.
        replaces_copies: whether a team of copies may have the same name.
    """
    checked_name(name)  # raises before a question is asked
    if client.session.did == client.session.owner:
        raise no_wallet()
    admin_texts: dict[str, str] = {}  # DID -> as it was given: a name or the DID
    for admin in admins:
        admin_texts[await did_named(client, admin)] = admin
    admin_names = {did: text for did, text in admin_texts.items() if not text.startswith("did:")}
    seed = _make_or_reuse_seed(place, client.url)
    await _require_free_name(client, name, WalletSigner(seed).did)
    if not replaces_copies:
        await _require_no_copies(client, name)
    created = await client.teams.create(
        list(admin_texts), ttl_s=ttl_s, names=admin_names, seed=seed
    )
    if await name_or_none(client, name) is None:
        contacts = contacts_of(client)
        await contacts.add(name, created.team)
        keep_contacts(client, await contacts.read())
    tell(f"created the team {name}: {created.team}")
    if place.key_file is not None:
        tell(
            f"the team's own key is in {place.path}; {_TEAM_KEY}. Keep it in a safe place, away"
            " from this machine"
        )
    else:
        tell(
            f"shares of the team's own key are in {place.path}; {_TEAM_KEY}",
            "give each file to another person, then delete the folder; to try the shares:"
            " sealspace recovery check FILE…",
        )
    if not admin_texts:
        tell(one_admin(name))
    return created


def _require_one_place(place: KeyPlace) -> None:
    """Check that the options say where the team's key goes."""
    if place.folder is None and place.key_file is None:
        raise click.UsageError(
            "say where the team's own key goes: --out DIR splits it into shares for several people,"
            " --key-file FILE writes it to one file"
        )
    if place.folder is not None and place.key_file is not None:
        raise click.UsageError("--out and --key-file cannot be combined: choose one of them")
    if place.folder is None:
        context = click.get_current_context()
        for option in ("shares", "threshold", "passphrase_file"):
            if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
                written = option.replace("_", "-")
                raise click.UsageError(f"--{written} is for shares: add --out, and omit --key-file")


def _make_or_reuse_seed(place: KeyPlace, node: str) -> bytes:
    """Return the key of a new team, after it was written to its place.

    If the place has a key already, from an interrupted command, this key is returned.
    """
    if place.key_file is not None:
        return seed_in_file(place.key_file)
    if not is_empty(place.path):
        return _recover_seed_in_folder(place.path, place.passphrase_file)
    passphrase = ""
    if place.passphrase_file is not None:
        passphrase = read_passphrase(place.passphrase_file)
    seed = SystemEntropy().token(32)
    write_shares(
        place.path,
        seed,
        owner=WalletSigner(seed).did,
        node=node,
        shares=place.shares,
        threshold=place.threshold,
        passphrase=passphrase,
        is_team=True,
    )
    return seed


def seed_in_file(path: Path) -> bytes:
    """Return the team's key in a file; a file that does not exist gets a new key."""
    if path.exists():
        tell(f"using the existing key in {path}")
        return read_wallet(path).secret
    seed = SystemEntropy().token(32)
    write_wallet(path, seed)
    return seed


def _recover_seed_in_folder(folder: Path, passphrase_file: Path | None) -> bytes:
    """Return the key that the shares in a folder give, which an interrupted command wrote.

    Raises:
        InvalidInput: the folder does not have all shares.
    """
    recovery = read_shares(sorted(folder.iterdir()))
    sheet = recovery.sheet
    assert sheet is not None  # `read_shares` parsed each file as a sheet
    if len(recovery) != sheet.shares:
        raise InvalidInput(
            f"{folder} contains {len(recovery)} of {sheet.shares} shares",
            hint="if the team was not created, delete the folder, and run the command again",
        )
    tell(f"using the existing shares in {folder}")
    return recovery.key(passphrase=passphrase_for(recovery, passphrase_file))


async def _require_free_name(client: Client, name: str, team: str) -> None:
    """Check that a name can become that of a team among the contacts.

    Raises:
        AlreadyThere: the name is that of another contact, or the team has another name.
    """
    did_of_contact = await name_or_none(client, name)
    if did_of_contact is not None and not same_principal(did_of_contact, team):
        raise AlreadyThere(
            f"you have a contact {name}, which is {did_of_contact}",
            hint="choose another name for the team",
        )
    present_name = (await names_for(client, [team])).name(team)
    if present_name not in (None, name):
        raise AlreadyThere(
            f"this is the key of {team}, which is your contact {present_name}",
            hint=f"a new team needs a new key; to complete the team {present_name}, use this name",
        )


async def _require_no_copies(client: Client, name: str) -> None:
    """Refuse the name of a team of copies."""
    if any(share.folder.team == name for share in await client.sharing.shares()):
        raise AlreadyThere(
            f"you have a team of copies that is called {name}",
            hint="choose another name for the team; or, to make a team with members of it:"
            f" sealspace team convert {name}",
        )


# --- recovery -------------------------------------------------------------------------------------


@click.command(
    epilog="Examples: `sealspace team recover share-1-of-3.txt share-3-of-3.txt`; `sealspace team"
    " recover --key-file shop.key --team shop --admin bob`."
)
@click.argument("files", nargs=-1, type=FILE_OR_DASH, metavar="[FILE… | -]")
@click.option("--key-file", type=FILE, help="File with the team's own key, instead of shares.")
@click.option(
    "--team",
    metavar="DID|NAME",
    help="The team. Default: the DID that the files of the shares state.",
)
@click.option("--admin", metavar="DID|NAME", help="The new admin. Default: you.")
@passphrase_option
@expires_option("365d", "How long the membership lasts, from 1m to 1830d.", most_days=1830)
@yes_option
@at_node
async def recover(
    client: Client,
    files: tuple[Path, ...],
    key_file: Path | None,
    team: str | None,
    admin: str | None,
    passphrase_file: Path | None,
    ttl_s: float,
    yes: bool,
) -> None:
    """Admit an admin with a team's own key, if no admin is left.

    The shares are put together, and the key is compared with the team's DID before anything is
    signed. You have to be logged in at the team's node. All members stay as they are: remove lost
    admins afterwards. The key is not stored.
    """
    uses_shares = bool(files)
    uses_key_file = key_file is not None
    if uses_shares == uses_key_file:  # neither, or both
        raise click.UsageError("name the team's key: either the files of shares, or --key-file")
    stated_team = None if team is None else await team_named(client, team)
    admin_did, admin_name = await _find_new_admin(client, admin)
    if key_file is None:
        seed, team_did = _recover_seed_from_files(files, stated_team, passphrase_file)
    elif stated_team is None:
        raise click.UsageError("a key file does not state the team: add --team")
    else:
        seed = read_wallet(key_file).secret
        team_did = stated_team
    names = await names_for(client, [team_did, admin_did])
    confirm(
        f"make {names.whole(admin_did)} an admin of the team {names.whole(team_did)}, who can read"
        " and replace all its secrets, and remove all members?",
        yes=yes,
    )
    grant = await client.teams.recover(seed, team_did, admin_did, ttl_s=ttl_s, name=admin_name)
    tell(f"{names.whole(admin_did)} is an admin of the team, {end_text(grant.expires_at)}")
    if names.name(team_did) is None:
        tell(f"next: sealspace contact add NAME {team_did}")
    tell(
        "next: sealspace team members NAME, and remove each admin whose key is lost:"
        " sealspace team remove NAME DID"
    )
    print_result({"team": team_did, "admin": admin_did, "cid": grant.cid})


class _NewAdmin(NamedTuple):
    """The DID of a new admin, and the name by which the team calls the admin, or None."""

    did: str
    name: str | None


async def _find_new_admin(client: Client, admin: str | None) -> _NewAdmin:
    """Return the admin whom the option --admin names, or else the user, who needs a wallet."""
    if admin is not None:
        did = await did_named(client, admin)
        return _NewAdmin(did=did, name=None if admin.startswith("did:") else admin)
    if client.session.did == client.session.owner:
        raise no_wallet()
    return _NewAdmin(did=client.session.owner, name=None)


def _recover_seed_from_files(
    files: Sequence[Path], stated_team: str | None, passphrase_file: Path | None
) -> tuple[bytes, str]:
    """Return the private key that shares give, and the DID of the team whose key it is (RV8).

    `stated_team` is the DID in --team. Without it, the files state the team.
    """
    recovery = read_shares(files)
    team = owner_for(recovery, stated_team, option="--team")
    passphrase = passphrase_for(recovery, passphrase_file)
    return recovery.key(owner=team, passphrase=passphrase), team
