"""The command `sealspace secret bind`, which writes the place of secrets into their values.

A value without a place can be the value of another secret, which somebody stored under this name
(EN46). So the command first names those who may write there, and asks.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import click

from ...client import Client
from ...documents.secret_names import SECRETS_SPACE, SecretName, is_protected
from ...errors import SealspaceError
from ...secrets import Secret, parse_secret_name, writable_name
from ...wire.delegation_history import LIVE, MAX_PAGE_ITEMS, DelegationRecord, writers_of
from ...wire.team_session import member_of_session
from ..keep.named_secrets import scope_option
from ..keep.storing import stored_secrets
from ..owner.known_names import known_names
from ..owner.owner_profile import at_node
from ..terminal import (
    age_text,
    confirm,
    counter,
    flag_option,
    print_result,
    tell,
    time_text,
    what_happened,
    yes_option,
)
from .grant_list import grant_row

MOST_GRANTS = 10_000
"""Most live grants that are read. A longer list is cut, and a warning says so."""
_EVERY = 20
"""How many secrets are read or bound between two lines of progress."""

_ListState = Literal["complete", "cut", "unreadable"]
"""Whether the list of grants was read to its end."""


class _ReadSecrets(NamedTuple):
    """The secrets that were read.

    Attributes:
        unbound: the secrets to bind, with their values.
        bound: the secrets that state their place already.
        refused: the secrets that cannot be read, with their errors.
    """

    unbound: dict[SecretName, Secret]
    bound: list[SecretName]
    refused: dict[SecretName, SealspaceError]


@click.command(
    epilog="Examples: `sealspace secret bind API_KEY DB_URL --scope prod`; `sealspace secret bind"
    " --all`. If it is interrupted, run it again.",
)
@click.argument("names", metavar="[NAME]", nargs=-1)
@scope_option
@flag_option("--all", "is_all", help="Bind the secrets of all scopes.")
@yes_option
@at_node
async def bind(
    client: Client, names: tuple[str, ...], scope: str | None, is_all: bool, yes: bool
) -> None:
    """Bind values to the names of their secrets.

    A value that a JavaScript application or an earlier version stored does not state its place, so
    it could be another secret's. Only you can read such a value. This command stores it again with
    its place. Read the values first: whoever may write a secret could have stored another one of
    your secrets there.

    Values that are stored under two names are refused. Values that only runners make are skipped.
    """
    has_names = bool(names)
    is_neither_or_both = has_names == is_all
    is_all_of_scope = is_all and scope is not None
    if is_neither_or_both or is_all_of_scope:
        raise click.UsageError("name the secrets to bind, or add --all without --scope")
    chosen: list[SecretName] = []
    skipped: list[SecretName] = []
    if is_all:
        chosen, skipped = await _list_all_secrets(client)
    else:
        chosen = [writable_name(name, scope) for name in dict.fromkeys(names)]
    secrets = await _read_secrets(client, chosen)
    document: dict[str, object] = {
        "bound": [],
        "boundBefore": _labels(secrets.bound),
        "skipped": _labels(skipped),
    }
    if secrets.unbound:
        document |= await _tell_origin(client, list(secrets.unbound))
        count = len(secrets.unbound)
        action = "this value to its name" if count == 1 else f"these {count} values to their names"
        confirm(f"are they the right values? bind {action}?", yes=yes)
        document["bound"] = await _bind_unbound(client, secrets)
    else:
        tell("nothing to bind: no value that was read lacks its place")
    # Also those that were bound before: an earlier run may have ended before it renewed the copies.
    not_refused = [name for name in chosen if name not in secrets.refused]
    renewed = await client.sharing.renew(_labels(not_refused))
    if renewed:
        tell(f"renewed the copies of {', '.join(renewed)}")
    _print_result(client, document, secrets.refused)


def _print_result(
    client: Client, document: dict[str, object], refused: dict[SecretName, SealspaceError]
) -> None:
    """Print the result, and raise the first error if some secrets were not bound."""
    refused_documents: list[dict[str, str]] = []
    for name, error in refused.items():
        tell(f"not bound: {name.label}: {what_happened(error, own=client.session.owner)}")
        refused_documents.append({"secret": name.label, "code": error.code})
    document["refused"] = refused_documents
    print_result(document)
    for first_error in refused.values():
        raise first_error


def _labels(names: Iterable[SecretName]) -> list[str]:
    return [name.label for name in names]


class _AllSecrets(NamedTuple):
    """The names of all secrets in all scopes; those that only runners make are skipped."""

    chosen: list[SecretName]
    skipped: list[SecretName]


async def _list_all_secrets(client: Client) -> _AllSecrets:
    """List all secrets, and tell how many are skipped."""
    secrets = client.secrets()
    chosen: list[SecretName] = []
    skipped: list[SecretName] = []
    for scope in (None, *await secrets.scopes()):
        for name in await secrets.list(scope=scope):
            if is_protected(name):
                skipped.append(parse_secret_name(name, scope=scope))
            else:
                chosen.append(parse_secret_name(name, scope=scope))
    if skipped:
        tell(f"skipped {len(skipped)} generated secrets: only the runners that made them read them")
    return _AllSecrets(chosen=chosen, skipped=skipped)


async def _read_secrets(client: Client, chosen: Sequence[SecretName]) -> _ReadSecrets:
    """Read secrets, and sort them into bound, unbound and refused ones.

    A bound value states its place. The errors of refused secrets are in the result.
    """
    secrets = _ReadSecrets(unbound={}, bound=[], refused={})
    show_count = counter(f"of {len(chosen)} secrets read", every=_EVERY, first=_EVERY)
    for read_count, secret_name in enumerate(chosen, 1):
        try:
            secret = await client.secrets().read(secret_name.name, scope=secret_name.scope)
        except SealspaceError as error:
            # One secret that cannot be read must not stop the binding of the others.
            secrets.refused[secret_name] = error
        else:
            if secret.is_bound:
                secrets.bound.append(secret_name)
            else:
                secrets.unbound[secret_name] = secret
        show_count(read_count)
    return secrets


async def _bind_unbound(client: Client, secrets: _ReadSecrets) -> list[str]:
    """Store the unbound values with their places.

    Returns the labels of those that were bound. The others are added to `secrets.refused`.
    """
    bound_labels: list[str] = []
    show_count = counter(f"of {len(secrets.unbound)} values bound", every=_EVERY, first=_EVERY)
    for tried_count, (secret_name, secret) in enumerate(secrets.unbound.items(), 1):
        try:
            await client.secrets().bind(
                secret_name.name, scope=secret_name.scope, if_match=secret.etag
            )
        except SealspaceError as error:
            secrets.refused[secret_name] = error
        else:
            bound_labels.append(secret_name.label)
            tell(f"bound {secret_name.label}")
        show_count(tried_count)
    return bound_labels


async def _tell_origin(client: Client, unbound: Sequence[SecretName]) -> dict[str, object]:
    """Print when each secret was stored, and who else may write it (EN34).

    Returns:
        Members for the JSON output. `writers` contains the grants. `writersList` is `complete`,
        `cut` or `unreadable`.
    """
    await _tell_when_stored(client, unbound)
    tell("the node does not tell who stored a value; only its operator has that in the audit log")
    records, state = await _read_live_grants(client)
    grants: dict[str, DelegationRecord] = {}  # by their CIDs
    writable: dict[str, list[str]] = {}  # CID of a grant -> labels of the secrets
    for secret in unbound:
        resource = client.secrets().resource(secret.name, scope=secret.scope)
        member = member_of_session(client.session)
        for record in writers_of(records, resource, client.session.owner, member=member):
            grants[record.cid] = record
            writable.setdefault(record.cid, []).append(secret.label)
    names = await known_names(client, [record.delegate for record in grants.values()])
    rows: list[dict[str, object]] = []
    for cid, record in grants.items():
        row = grant_row(record, made_here=False).row
        name = names.get(record.delegate)
        rows.append(row | {"name": name, "secrets": writable[cid]})
        who = f"{record.delegate} ({name})" if name else record.delegate
        until = "without end" if row["expiresAt"] is None else f"until {row['expiresAt']}"
        tell(
            f"warning: {who} may write {', '.join(writable[cid])}, {until}, and could have stored"
            " another of your secrets there",
            f"to revoke this right: sealspace grant revoke {cid}",
        )
    if state == "cut":
        # Without this line, a list that an attacker made long would look like a full one (EN34).
        tell(
            f"warning: you have more than {MOST_GRANTS} grants in force, and only these were"
            " checked; others may also write these secrets; next: sealspace grant list"
        )
    return {"writers": rows, "writersList": state}


async def _tell_when_stored(client: Client, unbound: Sequence[SecretName]) -> None:
    """Print when each unbound secret was stored, as far as the node knows."""
    labels = {secret.path: secret.label for secret in unbound}
    for path, value in (await stored_secrets(client, unbound)).items():
        stored_when = ""
        if value.stored_at is not None:
            stored_when = f"; stored {age_text(value.stored_at)}, {time_text(value.stored_at)}"
        tell(f"{labels[path]} does not state its place{stored_when}")


class _LiveGrants(NamedTuple):
    """The owner's live grants, and whether these are all."""

    records: list[DelegationRecord]
    state: _ListState


async def _read_live_grants(client: Client) -> _LiveGrants:
    """Fetch the owner's live grants.

    An error leads to a warning, and the grants that were read before it are returned.
    """
    records: list[DelegationRecord] = []
    # The right to read the list is one on a space: the session's primary one, or else `secrets`.
    account = None if client.session.space else SECRETS_SPACE
    try:
        for status in LIVE:
            async for record in client.delegations.query(
                direction="granted",
                status=status,
                account=account,
                page_items=MAX_PAGE_ITEMS,
            ):
                if len(records) == MOST_GRANTS:
                    return _LiveGrants(records=records, state="cut")
                records.append(record)
    except SealspaceError as error:
        # A list that cannot be read must not look like a list without writers (EN34).
        reason = what_happened(error, own=client.session.owner)
        tell(
            f"warning: cannot check who else may write these secrets: {reason}; next: sealspace"
            " grant list"
        )
        return _LiveGrants(records=records, state="unreadable")
    return _LiveGrants(records=records, state="complete")
