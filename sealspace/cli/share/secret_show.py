"""The command `sealspace secret show`, which says who can read a secret."""

from collections.abc import Collection, Mapping
from shlex import quote

import click

from capabilities.abilities import READ_RECEIPTS
from capabilities.principals import same_principal
from encryption_network.policy import policy_json

from ...client import Client
from ...documents.run_grants import run_statement_json
from ...giving.access import SecretAccess
from ...giving.readers import Reader, State
from ...giving.words.policies import policy_words
from ...giving.words.runs import run_sentence
from ...secrets import SecretName, parse_secret_label
from ...service.command_errors import AnswerIncomplete
from ...wire.delegation_history import DelegationRecord
from ...wire.team_session import member_of_session
from ..keep.named_secrets import no_secret, scope_option
from ..keep.shared_secrets import label_of
from ..keep.space import time_of
from ..owner.known_names import known_names
from ..owner.owner_profile import at_node
from ..shared import shared
from ..terminal import (
    age_text,
    end_text,
    optional_time,
    print_documents,
    print_json,
    print_lines,
    time_text,
    with_home,
)
from .network import right_to

_STATES: dict[State, str] = {
    "now": "can read it now",
    "attested": "can read it if it proves that it runs approved code",
    "id_token": "can read it if they show an ID token with these claims",
    "later": "can read it later, when the grant begins",
    "envelope": "can decrypt it, but may not fetch it: can read it with a copy of the envelope",
    "no_code": "cannot read it, because you approved no code for this grant",
    "undecided": "may be able to read it: only the node can check its conditions",
}


@click.command(
    epilog="Example: `sealspace secret show API_KEY`. The exit status is 18 if a part of the answer"
    " is missing.",
)
@click.argument("name", metavar="NAME")
@scope_option
@at_node
async def show(client: Client, name: str, scope: str | None) -> None:
    """Show who can read a secret, and how to end it.

    The list contains you and your logins, the members of a team, people with copies, machine
    tokens, CI jobs, backends, runners, everybody to whom one of them passed a right on, and the
    operator of the node, unless the node runs in a TEE. It also contains who can replace the
    secret. What somebody did with a value that they have read is never known. Of a team's secret,
    only an admin can see this.
    """
    access = await _fetch_access(client, label_of(name, scope))
    names = await known_names(client, _others(access))
    if shared().as_json:
        print_json(_access_json(access, names))
    else:
        print_lines(*_lines(access, client, names))
    _require_complete(access)


async def list_grants(client: Client, label: str) -> None:
    """Print the grants with which others can read a secret."""
    access = await _fetch_access(client, label)
    names = await known_names(client, _others(access))
    rows = []
    for reader in access.readers:
        if reader.kind not in ("owner", "session", "operator"):
            rows.append(_reader_json(reader, access, names))
    print_documents(
        rows,
        {"state": "state", "until": "until", "kind": "kind", "name": "name", "did": "to"}
        | {"grant": "grant"},
        nothing="nobody else can read this secret" if access.is_complete else "no known grants",
    )
    _require_complete(access)


async def other_readers(client: Client, label: str) -> list[str]:
    """Return in words who else can read or replace a secret, a line each.

    A last line says what is missing, if the answer is incomplete.

    Raises:
        SealspaceError: the same errors as `Access.of`.
    """
    secret = parse_secret_label(label)
    access = await client.access.of(secret.name, scope=secret.scope)
    names = await known_names(client, _others(access))
    lines = _readers_in_words(access, client, names, without=("owner", "session", "operator"))
    lines += [
        f"{_add_name(writer.delegate, names)}, who can replace it" for writer in access.writers
    ]
    if not access.is_complete:
        lines.append(f"others may have grants: the answer lacks {'; and '.join(access.missing)}")
    return lines


async def granted_readers(client: Client, label: str) -> list[str]:
    """Return in words who can read a secret of a team without being a member, a line each.

    Raises:
        SealspaceError: the same errors as `Access.of`.
    """
    secret = parse_secret_label(label)
    access = await client.access.of(secret.name, scope=secret.scope)
    names = await known_names(client, _others(access))
    without = ("owner", "session", "member", "operator")
    return _readers_in_words(access, client, names, without=without)


def _readers_in_words(
    access: SecretAccess, client: Client, names: Mapping[str, str], *, without: Collection[str]
) -> list[str]:
    """Return in words who can read a secret, a line each, without some kinds of readers."""
    lines = []
    for reader in access.readers:
        if reader.kind not in without:
            lines.append(f"{_who(reader, client, names)}, {end_text(reader.until)}")
    return lines


def _others(access: SecretAccess) -> list[str]:
    """Return the DIDs of all who can read or replace a secret, without the owner and the logins."""
    dids = [
        reader.did
        for reader in access.readers
        if reader.kind not in ("owner", "session", "operator")
    ]
    dids += [writer.delegate for writer in access.writers]
    return [did for did in dids if did]


async def _fetch_access(client: Client, label: str) -> SecretAccess:
    """Find out who can read a secret."""
    if member_of_session(client.session) is not None:
        # Without the rights of an admin the answer would leave out the other members.
        await right_to(client, client.encryption.network(), READ_RECEIPTS)
    secret = parse_secret_label(label)
    if secret.name not in await client.secrets().list(scope=secret.scope):
        raise await no_secret(client.secrets(), secret.name, secret.scope)
    return await client.access.of(secret.name, scope=secret.scope)


def _require_complete(access: SecretAccess) -> None:
    """Raise AnswerIncomplete if a part of the answer is missing."""
    if not access.is_complete:
        raise AnswerIncomplete(
            f"the answer is incomplete: it lacks {'; and '.join(access.missing)}",
            hint="try again; if that does not help, sign in again with `sealspace login`",
        )


def _lines(access: SecretAccess, client: Client, names: Mapping[str, str]) -> list[str]:
    """Return the answer in words."""
    lines = [f"{access.secret}, sealed to {access.network.text}", "", "who can read it:"]
    for reader in access.readers:
        lines.append(f"  {_who(reader, client, names)}")
        lines += [f"    {line}" for line in _details(reader, access)]
    if _is_only_owner(access):
        lines.append("  nobody else")
    lines += ["", "who else can replace it:"]
    for writer in access.writers:
        until = time_of(writer.expires_at)
        ending = "without end" if until is None else f"until {until}"
        lines.append(f"  {_writer(writer, access, names)}, {ending}")
        lines.append(f"    to end it: {_command_to_end_writing(writer, access)}")
    if not access.writers:
        lines.append("  nobody" if access.is_complete else "  nobody that is known")
    return lines


def _is_only_owner(access: SecretAccess) -> bool:
    """Return whether the answer is complete, and nobody but the owner can read the secret."""
    if not access.is_complete:
        return False
    return all(reader.kind in ("owner", "session") for reader in access.readers)


def _who(reader: Reader, client: Client, names: Mapping[str, str]) -> str:
    """Return in words who a reader is."""
    me_as_member = member_of_session(client.session)
    if me_as_member is not None and reader.kind in ("owner", "member", "session"):
        return _who_of_team(reader, me_as_member, names)
    match reader.kind:
        case "owner":
            return f"you, {reader.did}"
        case "session":
            if reader.did == client.session.did:
                return "this login of yours"
            return f"your login at {reader.name}, {reader.did}"
        case "token":
            return f"the machine token {reader.name}"
        case "ci":
            return f"CI jobs of the trust {reader.name}"
        case "person":
            team = f", in the team {reader.name}" if reader.name else ""
            return f"{_add_name(reader.did, names)}, who has a copy{team}"
        case "operator":
            return "the operator of the node, which does not run in a TEE"
        case "backend" | "runner":
            # The name of one without a contact is "the backend at URL".
            name = _add_name(reader.did, names).removeprefix("the backend ")
            return f"the {reader.kind} {name}"
        case _:
            return _add_name(reader.did, names)


def _who_of_team(reader: Reader, me: str, names: Mapping[str, str]) -> str:
    """Return in words who a reader of a team's secret is, for the member `me`."""
    if reader.kind == "owner":
        return f"whoever has the team's own key, {reader.did}"
    if reader.kind == "session":
        return f"a login with the team's own key at {reader.name}, {reader.did}"
    if reader.did == me:
        return f"you, {reader.did}, as a member"
    own_name = {reader.did: reader.name} if reader.name else names
    return f"the member {_add_name(reader.did, own_name)}"


def _writer(writer: DelegationRecord, access: SecretAccess, names: Mapping[str, str]) -> str:
    """Return in words who can replace a secret."""
    members = _members(access)
    if writer.delegate in members:
        return f"the member {_add_name(writer.delegate, names)}"
    for member in members:
        if same_principal(writer.delegator, member):
            return f"a login or grant of the member {_add_name(member, names)}, {writer.delegate}"
    return _add_name(writer.delegate, names)


def _command_to_end_writing(writer: DelegationRecord, access: SecretAccess) -> str:
    """Return the command that ends the right to replace a secret, for this owner's home."""
    if writer.delegate in _members(access):
        # A member may have several memberships, and removal ends them all.
        command = f"sealspace team remove {access.network.owner} {writer.delegate}"
    else:
        command = f"sealspace grant revoke {writer.cid}"
    return with_home(command)


def _members(access: SecretAccess) -> list[str]:
    """Return the DIDs of the members who can read a secret of a team."""
    return [reader.did for reader in access.readers if reader.kind == "member"]


def _add_name(did: str, names: Mapping[str, str]) -> str:
    """Return a DID, after its name if it has one."""
    name = names.get(did)
    return did if name is None else f"{name} ({did})"


def _details(reader: Reader, access: SecretAccess) -> list[str]:
    """Return what is known about a reader, a line each."""
    lines = [_STATES[reader.state]]
    if reader.kind in ("owner", "operator"):
        return lines
    for policy in reader.policies:
        lines += policy_words(policy)
    if reader.run is not None:
        later = reader.run.refresh_for is not None
        lines.append(run_sentence(reader.run) + ("; and later builds of it" if later else ""))
    lines += reader.claims
    if reader.granted_by != access.network.owner:
        lines.append(f"granted by {reader.granted_by}")
    since = "" if reader.since is None else f"since {time_text(reader.since)}, "
    lines.append(f"{since}{end_text(reader.until)}")
    if reader.last_read is not None:
        lines.append(f"last read {age_text(reader.last_read)}")
    lines.append(f"to end it: {_command_to_end(reader, access)}")
    return lines


def _command_to_end(reader: Reader, access: SecretAccess) -> str:
    """Return the command that ends the access of a reader, for this owner's home."""
    secret = parse_secret_label(access.secret)
    return with_home(_ending(reader, secret, access.network.owner))


def _ending(reader: Reader, secret: SecretName, owner: str) -> str:
    """Return the command that ends the access of a reader."""
    match reader.kind:
        case "token":
            return f"sealspace token revoke {reader.grant}"
        case "ci":
            return f"sealspace ci revoke {reader.grant}"
        case "member":
            return f"sealspace team remove {owner} {reader.did}"
        case "person" if reader.name:
            return f"sealspace team remove {reader.name} {reader.did}"
        case "person":
            scope = f" --scope {quote(secret.scope)}" if secret.scope else ""
            return f"sealspace secret unshare {secret.name}{scope} --with {reader.did}"
        case _:
            return f"sealspace grant revoke {reader.grant}"


def _access_json(access: SecretAccess, names: Mapping[str, str]) -> dict[str, object]:
    """Return the answer as JSON."""
    return {
        "secret": access.secret,
        "network": access.network.text,
        "isComplete": access.is_complete,
        "missing": list(access.missing),
        "readers": [_reader_json(reader, access, names) for reader in access.readers],
        "writers": [
            {"did": writer.delegate, "name": names.get(writer.delegate), "grant": writer.cid}
            | {"until": time_of(writer.expires_at)}
            for writer in access.writers
        ],
    }


def _reader_json(
    reader: Reader, access: SecretAccess, names: Mapping[str, str]
) -> dict[str, object]:
    """Return a reader as JSON."""
    end = None
    if reader.kind not in ("owner", "operator"):
        end = _command_to_end(reader, access)
    return {
        "kind": reader.kind,
        "did": reader.did,
        "name": reader.name or names.get(reader.did),
        "state": reader.state,
        "grant": reader.grant or None,
        "grantedBy": reader.granted_by or None,
        "since": optional_time(reader.since),
        "until": optional_time(reader.until),
        "policies": [policy_json(policy) for policy in reader.policies],
        "run": None if reader.run is None else run_statement_json(reader.run),
        "claims": list(reader.claims),
        "lastReadAt": optional_time(reader.last_read),
        "toEnd": end,
    }
