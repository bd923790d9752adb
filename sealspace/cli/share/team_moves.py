"""The commands `sealspace team move`, `countersign` and `follow`.

The first admin's statement is in the owner's folder, in `moves/<address>.json`, until the move is
complete, so that the same command continues after an interruption.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import same_principal
from capabilities.signatures import WalletSigner
from capabilities.strict_json import StrictRecord
from capabilities.successions import SENIORITY_S
from encryption_network.canonical_json import canonical_bytes

from ...apps.memberships import TeamMember
from ...client import Client
from ...documents.successions import (
    MAX_LINE_CHARS,
    MoveStatement,
    ProvenMove,
    move_line,
    move_words,
    verify_statement,
)
from ...errors import InvalidInput, NodeRefused, SuccessionInvalid
from ...private_files import read_file, replace_file
from ...service.command_errors import AlreadyThere, NotThere
from ..options.paths import NEW_FILE
from ..owner.chosen_team import (
    forget_team_session,
    keep_choice,
    session_path,
    stored_choice,
    team_named,
    team_session,
)
from ..owner.contact_names import contacts_of, did_named, keep_contacts, names_for
from ..owner.owner_profile import OwnerHome, at_node, owner_home
from ..terminal import (
    ask_yes_or_no,
    cell_text,
    confirm,
    end_text,
    flag_option,
    is_interactive,
    optional_time,
    print_result,
    tell,
    time_text,
    yes_option,
)
from .secret_show import granted_readers
from .team_keys import seed_in_file
from .team_members import wallet_of_owner

_POLL_S = 1.0
"""How often a waiting command looks whether the other admin has signed, seconds."""
_MOST_BYTES = 256 * 1024
_COLUMNS = ("member", "name", "role", "secrets", "until", "by")


class _Kept(StrictRecord):
    """The state of a move on the first admin's machine.

    Attributes:
        successor: DID of the new wallet.
        statement: token of the first statement.
        grants: in words, who read the team's secrets by a token, a trust or another grant when the
            statement was signed. The node does not list them after the move.
    """

    successor: str
    statement: str
    grants: tuple[str, ...] = ()


class _Choice(NamedTuple):
    """What the first admin chose.

    Attributes:
        left_out: names or DIDs of the members who do not come along.
        leave_unreadable: whether to move although secrets cannot be taken along.
        yes: whether the questions are answered.
    """

    left_out: tuple[str, ...]
    leave_unreadable: bool
    yes: bool


@click.command(
    epilog="Example: `sealspace team move shop --key-file shop-new.key`. If the command was"
    " interrupted, run it again. The first and the second admin were both admitted by the team's"
    " own key, or by different admins, more than 7 days ago.",
)
@click.argument("team", metavar="TEAM")
@click.option(
    "--key-file",
    type=NEW_FILE,
    required=True,
    help="New file for the key of the new wallet, with mode 0600. An existing file is used again,"
    " to continue an interrupted command.",
)
@click.option(
    "--without",
    "left_out",
    metavar="DID|NAME",
    multiple=True,
    help="A member who does not come along; repeatable.",
)
@flag_option(
    "--leave-unreadable",
    help="Also move if secrets cannot be taken along. They are listed, and lost with the former"
    " key.",
)
@flag_option("--no-wait", help="Do not wait for the other admin.")
@yes_option
@at_node
async def move(
    client: Client,
    team: str,
    key_file: Path,
    left_out: tuple[str, ...],
    leave_unreadable: bool,
    no_wait: bool,
    yes: bool,
) -> None:
    """Move TEAM to a new wallet, because somebody else may know the team's key.

    You and another admin sign. From then on the node refuses everything that the former key
    signed: sessions, memberships, tokens, trusts and grants. The secrets and the members that you
    confirm come along. The team gets a new DID, which you and the others compare.
    """
    home = owner_home()
    former = await team_named(client, team)
    proven = await client.team_moves.succession(former)
    if proven is None:
        choice = _Choice(left_out=left_out, leave_unreadable=leave_unreadable, yes=yes)
        named = await _named(client, home, team, former, key_file, choice)
        await _show(client, team, named)
        if no_wait:
            tell(f"next, after the other admin has signed: {_again(team, key_file)}")
            return
        proven = await _countersigned(client, former, _again(team, key_file))
    await _finish(client, home, team, proven, key_file)


@click.command(
    epilog="Examples: `sealspace team countersign shop smove_…`; `sealspace team countersign shop -"
    " < line.txt`.",
)
@click.argument("team", metavar="TEAM")
@click.argument("line", metavar="LINE|-")
@at_node
async def countersign(client: Client, team: str, line: str) -> None:
    """Sign, as the second admin, that TEAM moves to a new wallet.

    LINE comes from the admin who runs `sealspace team move`. You are asked whether that admin reads
    the same eight words, in a call or face to face. From your signature on, nobody uses the team's
    former key any more, and this cannot be undone.
    """
    home = owner_home()
    former = await team_named(client, team)
    acting = client.acting(await team_session(home, client, former))
    statement = await acting.team_moves.examine(_line_of(line))
    names = await names_for(client, [statement.signer])
    signer = names.whole(statement.signer)
    tell(
        f"{signer} signed that the team {team} moves",
        f"  from {statement.owner}",
        f"  to   {statement.successor}",
    )
    _print_words(statement)
    if not is_interactive():
        raise InvalidInput(
            "cannot ask whether the words are the same: this command is not running in a terminal",
            hint=f"run in a terminal: sealspace team countersign {team} LINE",
        )
    if not ask_yes_or_no(f"does {signer} read the same words, in a call with you?"):
        raise SuccessionInvalid("the words differ, so nothing was signed")
    await acting.team_moves.countersign(statement, wallet=wallet_of_owner())
    tell(
        f"the team {team} has moved, and the node refuses its former key",
        f"next, when the other admin is ready: sealspace team follow {team}",
    )
    print_result({"team": statement.successor, "former": statement.owner})


@click.command()
@click.argument("team", metavar="TEAM")
@click.option(
    "--did",
    metavar="DID",
    help="The new DID, which an admin told you. Without it, you are asked whether it is right.",
)
@at_node
async def follow(client: Client, team: str, did: str | None) -> None:
    """Use the new wallet of TEAM, after the team has moved.

    The signatures of both admins are verified here. Compare the new DID with an admin whom you
    know: somebody who has the team's former key could have made admins, too.
    """
    home = owner_home()
    former = await team_named(client, team)
    proven = await client.team_moves.succession(former)
    if proven is None:
        raise NotThere(
            f"the team {team} has not moved", hint="nothing to do: go on with its secrets"
        )
    names = await names_for(client, proven.signers)
    tell(
        f"the team {team} has moved",
        f"  from {proven.owner}",
        f"  to   {proven.successor}",
        f"signed by {' and '.join(names.whole(one) for one in proven.signers)}",
    )
    if did is not None and not same_principal(did, proven.successor):
        raise SuccessionInvalid("the team has moved to another wallet than the one in --did")
    if did is None:
        confirm(
            "is this the new DID that an admin told you?",
            hint="ask an admin for the new DID, then add --did DID",
        )
    membership = await client.teams.membership(proven.successor)
    await _use(client, home, team, proven)
    tell(f"you are {membership.role} of the team {team}, {end_text(membership.ends_at)}")
    print_result({"team": proven.successor, "former": proven.owner, "role": membership.role})


# --- details --------------------------------------------------------------------------------------


async def _named(
    client: Client,
    home: OwnerHome,
    team: str,
    former: str,
    key_file: Path,
    choice: _Choice,
) -> MoveStatement:
    """Return the first statement: the one that this machine keeps, or a new one."""
    _require_other_key(key_file, former, team)
    acting = client.acting(await team_session(home, client, former))
    kept = _kept_statement(home, former, key_file)
    if kept is not None and await acting.team_moves.is_live(kept):
        return kept
    left = await _require_readable(acting, choice)
    listed = (await acting.teams.members()).live
    without = [await did_named(client, one) for one in choice.left_out]
    coming = [one for one in listed if not any(same_principal(one.did, did) for did in without)]
    await _confirm_members(client, coming, yes=choice.yes)
    seed = seed_in_file(key_file)
    grants = await _grants_that_end(acting, left)
    prepared = await client.team_moves.prepare(seed, coming)
    try:
        grant = await acting.team_moves.name(prepared.team, wallet=wallet_of_owner())
    except NodeRefused as error:
        # A refusal for another reason keeps its own next step.
        if error.status == 400 and (step := _step_if_too_young(listed)) is not None:
            error.step = step
        raise
    kept_state = _Kept(successor=prepared.team, statement=grant.header, grants=grants)
    path = _state_path(home, former)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(path, canonical_bytes(msgspec.to_builtins(kept_state)))
    return verify_statement(grant.header, now=SystemClock.now())


def _step_if_too_young(listed: Sequence[TeamMember]) -> str | None:
    """Return what to do until two admins are old enough to sign; None: they are.

    Their memberships state when they were signed. The node decides by when it registered them.
    """
    signed = sorted([one.since or 0 for one in listed if one.role == "admin"])
    instead = "if you cannot wait, create a new team with `sealspace team create`, and store the"
    instead += " secrets there"
    if len(signed) < 2:
        return f"a move needs a second admin, and this team has one; {instead}"
    ready_at = signed[1] + SENIORITY_S
    if ready_at <= SystemClock.now():
        return None
    return (
        f"run the same command again after {time_text(ready_at)}, when two admins have been admins"
        f" for 7 days; neither may have admitted the other; {instead}"
    )


async def _require_readable(acting: Client, choice: _Choice) -> frozenset[str]:
    """Refuse to begin while a secret could not be taken along, unless the user accepts it.

    Every writer, and whoever has the team's key, can store such a value at any time.

    Returns:
        The labels of the secrets that are left.
    """
    unreadable = await acting.team_moves.unreadable()
    for label, reason in unreadable:
        tell(f"cannot be taken along: {label}: {reason}")
    if unreadable and not choice.leave_unreadable:
        raise InvalidInput(
            f"{len(unreadable)} secrets could not be read after the move",
            hint="store them again with `sealspace secret put`, or delete them; then run this"
            " again. To move without them: add --leave-unreadable",
        )
    return frozenset([label for label, _ in unreadable])


async def _grants_that_end(acting: Client, left: frozenset[str]) -> tuple[str, ...]:
    """Return in words who reads the team's secrets by a token, a trust or another grant.

    Those in `left` are not taken along, so nobody reads them afterwards.
    """
    secrets = acting.secrets()
    lines = []
    for scope in (None, *await secrets.scopes()):
        for name in await secrets.list(scope=scope):
            label = name if scope is None else f"{scope}/{name}"
            if label not in left:
                lines += [f"{label}: {line}" for line in await granted_readers(acting, label)]
    return tuple(lines)


async def _confirm_members(client: Client, coming: Sequence[TeamMember], *, yes: bool) -> None:
    """Show who comes along, and ask whether that is right.

    Who has the team's key may have admitted members.
    """
    names = await names_for(
        client, [one.did for one in coming] + [one.admitted_by for one in coming]
    )
    documents = []
    for one in coming:
        by = "the team's key" if one.admitted_by == one.team else names.short(one.admitted_by)
        documents.append(
            {
                "member": names.short(one.did),
                "name": one.name,
                "role": one.role,
                "secrets": list(one.secrets) or "all",
                "until": optional_time(one.ends_at),
                "by": by,
            }
        )
    rows = [[cell_text(document[column]) for column in _COLUMNS] for document in documents]
    tell("these members come along:")
    for row in rows:
        tell("  " + "  ".join(row))
    confirm(
        "do you know all of them? whoever has the team's key could have admitted others",
        yes=yes,
        hint="leave somebody out with --without DID; if all are right, add --yes",
    )


async def _show(client: Client, team: str, statement: MoveStatement) -> None:
    """Print the line and the words for the other admin."""
    line = move_line(
        node=client.url, node_did=(await client.info()).node_id, statement=statement.token
    )
    words = move_words(statement.owner, statement.successor, statement.cid)
    print_result({"move": line, "words": list(words), "team": statement.successor}, [line])
    _print_words(statement)
    tell(
        f"nothing has changed yet; another admin runs: sealspace team countersign {team} LINE",
        "read the words to each other in a call or face to face",
    )


def _print_words(statement: MoveStatement) -> None:
    words = move_words(statement.owner, statement.successor, statement.cid)
    tell(f"the words are: {' '.join(words)}")


async def _countersigned(client: Client, former: str, again: str) -> ProvenMove:
    """Wait until the other admin has signed."""
    tell(f"waiting for the other admin; to go on later: Ctrl-C, then {again}")
    while True:
        proven = await client.team_moves.succession(former)
        if proven is not None:
            return proven
        await asyncio.sleep(_POLL_S)


async def _finish(
    client: Client, home: OwnerHome, team: str, proven: ProvenMove, key_file: Path
) -> None:
    """Take the secrets along, and use the new wallet from now on."""
    seed = _seed_of(key_file, proven)
    done = await client.team_moves.take_along(proven, seed)
    for label, reason in done.failed:
        tell(f"not taken along: {label}: {reason}")
    kept = _kept_state(home, proven.owner)
    ended = () if kept is None else kept.grants
    if ended:
        tell("these grants ended with the former key:", *(f"  {one}" for one in ended))
    await _use(client, home, team, proven)
    _state_path(home, proven.owner).unlink(missing_ok=True)
    tell(
        f"took {len(done.moved)} secrets along; {len(done.kept)} were there already",
        f"the other members run: sealspace team follow {team}, and compare the new DID:"
        f" {proven.successor}",
        "make again what your programs use: tokens (sealspace token create), trusts (sealspace ci"
        " trust), grants to backends and runners",
        f"the new key is in {key_file}. Keep it in a safe place, away from this machine",
    )
    print_result(
        {
            "team": proven.successor,
            "former": proven.owner,
            "moved": list(done.moved),
            "kept": list(done.kept),
            "failed": [{"secret": label, "reason": reason} for label, reason in done.failed],
            "ended": list(ended),
        }
    )


async def _use(client: Client, home: OwnerHome, team: str, proven: ProvenMove) -> None:
    """Let the contact, and the choice of `sealspace use`, mean the new wallet."""
    forget_team_session(home, proven.owner)
    chosen = stored_choice(home)
    if chosen is not None and chosen.did == proven.owner:
        keep_choice(home, proven.successor, chosen.name)
    # The contact is the last: while it has the former DID, the same command continues.
    if team.startswith("did:") or not same_principal(await did_named(client, team), proven.owner):
        return
    contacts = contacts_of(client)
    await contacts.replace(team, proven.owner, proven.successor)
    keep_contacts(client, await contacts.read())


def _require_other_key(key_file: Path, former: str, team: str) -> None:
    """Refuse the key file of the wallet that the team has."""
    if key_file.exists() and same_principal(WalletSigner(seed_in_file(key_file)).did, former):
        raise AlreadyThere(
            f"the team {team} has moved already to the wallet in {key_file}",
            hint="to move it once more, name a new file with --key-file",
        )


def _seed_of(key_file: Path, proven: ProvenMove) -> bytes:
    """Return the key of the wallet to which a team has moved."""
    if not key_file.exists():
        raise NotThere(
            f"the team has moved to {proven.successor}, and {key_file} does not exist",
            hint="name the key file of the first command; without it, the secrets stay where"
            " they are",
        )
    seed = seed_in_file(key_file)
    if not same_principal(WalletSigner(seed).did, proven.successor):
        raise InvalidInput(
            f"the team has moved to {proven.successor}, and {key_file} has another key",
            hint="if an admin told you this DID: sealspace team follow NAME; otherwise somebody"
            " else has moved the team",
        )
    return seed


def _line_of(line: str) -> str:
    """Return the line, which is read from standard input for `-`."""
    return sys.stdin.read(MAX_LINE_CHARS + 1) if line == "-" else line


def _again(team: str, key_file: Path) -> str:
    """Return the command that continues a move."""
    return f"sealspace team move {team} --key-file {key_file}"


def _kept_statement(home: OwnerHome, former: str, key_file: Path) -> MoveStatement | None:
    """Return the first statement that this machine keeps, or None."""
    now = SystemClock.now()
    kept = _kept_state(home, former)
    if kept is None or not key_file.exists():
        return None
    try:
        statement = verify_statement(kept.statement, now=now)
    except SuccessionInvalid:
        return None
    return statement if statement.ends_at > now else None


def _kept_state(home: OwnerHome, former: str) -> _Kept | None:
    """Return the state of a move on this machine; None if there is none that can be read."""
    try:
        data = read_file(_state_path(home, former), most_bytes=_MOST_BYTES)
        return msgspec.json.decode(data, type=_Kept)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _state_path(home: OwnerHome, former: str) -> Path:
    return home.folder / "moves" / session_path(home, former).name
