"""The command `sealspace grant create`, which writes a grant to a file."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from capabilities.abilities import (
    DECRYPT,
    KV_DELETE,
    KV_GET,
    KV_LIST,
    KV_METADATA,
    KV_PUT,
    KV_SYNC,
    SQL_READ,
)
from capabilities.principals import same_principal
from capabilities.resources import root_of
from capabilities.tokens import Capability
from encryption_network.policy import Policy

from ...apps.attestation import ReleaseTerms
from ...apps.backends import deliver
from ...client import Client
from ...delegations import allow
from ...errors import BackendError, InvalidInput, NotFound
from ...giving.words.rights import rights_words
from ...service.term_files import read_node_policy
from ...wallets import Wallet
from ...wire.portable import PortableDelegation, encode_portable
from ...wire.sign_in import SQL_ABILITIES
from ..keep.space import require_own_space
from ..options.durations import expires_option
from ..options.paths import file_option, grants_option, write_grants
from ..options.unbound_values import allow_unbound_option
from ..owner.contact_names import Names, did_named, names_for
from ..owner.owner_profile import at_node, owner_home
from ..terminal import end_text, optional_time, print_exactly, print_result, repeatable_option, tell

ACTIONS = {
    "get": KV_GET,
    "put": KV_PUT,
    "delete": KV_DELETE,
    "list": KV_LIST,
    "head": KV_METADATA,
    "sync": KV_SYNC,
}
"""Action on the command line -> ability."""
SECRET_ACTIONS = {action: ability for action, ability in ACTIONS.items() if ability != KV_SYNC}
DATABASE_ACTIONS = {ability.rpartition("/")[2]: ability for ability in SQL_ABILITIES}
policy_option = file_option(
    "--policy",
    callback=lambda _context, _option, file: file and read_node_policy(file),
    help="JSON policy. Only attested code that this policy approves can read the secrets.",
)
NOT_SHARED = "this node gives secrets only to approved programs, not to other people"


@click.command(
    epilog="Examples: `sealspace grant create did:key:… --space notes --path todo --can get,list"
    " --out grant.json`; `sealspace grant create did:key:… --secret API_KEY --expires 12h >"
    " grant.json`. The recipient finds the DID with `sealspace whoami`, and accepts the file"
    " with `sealspace grant accept grant.json`.",
)
@click.argument("did", metavar="DID|NAME")
@repeatable_option("--secret", "secrets", metavar="NAME", help="A secret to grant; repeatable.")
@click.option("--scope", metavar="SCOPE", help="The scope that the secrets are in.")
@click.option(
    "--space",
    metavar="NAME",
    help="The space that the values are in: the name of your own space, or a full space id.",
)
@click.option(
    "--path",
    metavar="PATH",
    help="Grant only the value with this key, and values whose keys begin with `PATH/`.",
)
@click.option(
    "--database",
    metavar="NAME",
    help="Grant only this database of the space, and databases whose names begin with `NAME/`.",
)
@click.option(
    "--can",
    metavar="ACTIONS",
    help=f"One or more of {','.join(ACTIONS)}; default: `get` for secrets, `get,list` for a space."
    " `sync`, for values, allows following changes and keeping a copy: `--can get,sync`."
    f" For a database: {','.join(DATABASE_ACTIONS)}; default: `read`.",
)
@expires_option("7d", "How long the grant lasts, from 1m to 365d: 30m, 12h, 90d.")
@policy_option
@allow_unbound_option
@grants_option
@at_node
async def create(
    client: Client,
    did: str,
    secrets: tuple[str, ...],
    scope: str | None,
    space: str | None,
    path: str | None,
    database: str | None,
    can: str | None,
    ttl_s: float,
    policy: Policy | None,
    unbound: bool,
    out: Path | None,
) -> None:
    """Grant a recipient access to secrets, or to values or a database of a space.

    DID is the recipient, or NAME of a contact. The grant is written to a file for it.

    Only attested code that --policy or the network's policy approves can decrypt granted secrets. A
    person cannot read a secret that was granted to them, unless the node's operator ran `sealspace
    admin release set --attestation off`. To share a secret with a person, use `sealspace secret
    share`; to share a secret with a backend, use `sealspace backend grant`; to share other data
    with a person, grant values of a space.

    The grant is in force as soon as the command ends. Only DID can use it. `sealspace grant revoke`
    ends it.
    """
    _check_options(secrets, scope, space, path, database)
    abilities = _parse_abilities(can, space, database)
    if space is None:
        wanted = _secret_rights(client, secrets, scope, abilities)
    else:
        # Without this check, signing for a mistyped name would create a space of that name. A full
        # id, which contains colons, is not checked: it may belong to another owner.
        if ":" not in space:
            await require_own_space(client, space)
        wanted = _space_rights(client, space, path, database, abilities)
    did = await did_named(client, did)
    portable = await client.delegations.delegate(
        did, wanted, ttl_s=ttl_s, policy=policy, unbound=unbound, wallet=wallet_for(wanted)
    )
    if space is None:
        await warn_absent(client, secrets, scope)
        if KV_GET in abilities:
            await warn_about_proof(client, policy)
    copy = owner_home().keep_grant(portable)
    print_granted(portable, await names_for(client, [portable.delegate_did]))
    if out is not None:
        write_grants(out, [portable])
        print_result(
            {"cid": portable.cid, "file": str(out), "expiresAt": optional_time(portable.expires_at)}
        )
    else:
        tell(
            "save the next line to a file for the recipient, who runs: sealspace grant accept FILE",
            f"a copy is in {copy}",
        )
        print_exactly(encode_portable(portable))


def _check_options(
    secrets: Sequence[str],
    scope: str | None,
    space: str | None,
    path: str | None,
    database: str | None,
) -> None:
    """Reject contradictory options of `grant create`."""
    if not secrets and space is None:
        raise click.UsageError("specify what to grant: --secret NAME or --space NAME")
    # Secrets are in a space of their own, and other clients refuse a grant that names two spaces.
    if secrets and space is not None:
        raise click.UsageError("specify what to grant: --secret NAME or --space NAME")
    # An empty text, such as an unset variable of a shell, would grant the whole space.
    if path == "" or database == "" or (path and database):
        raise click.UsageError("--path and --database must not be empty, and exclude each other")
    if secrets and (path or database):
        raise click.UsageError("--path and --database require --space")
    if scope is not None and not secrets:
        raise click.UsageError("--scope requires --secret")


def _secret_rights(
    client: Client, names: Sequence[str], scope: str | None, abilities: Sequence[str]
) -> list[Capability]:
    """Return the rights to secrets, with the right to decrypt them if they may be read."""
    rights = []
    for name in names:
        resource = client.secrets().resource(name, scope=scope)
        for ability in abilities:
            rights.append(allow(resource, ability))
    if KV_GET in abilities:
        rights.append(allow(client.encryption.network().text, DECRYPT))
    return rights


def _space_rights(
    client: Client,
    space: str,
    path: str | None,
    database: str | None,
    abilities: Sequence[str],
) -> list[Capability]:
    """Return the rights to a database, to the values below a path, or to all values."""
    if database:
        below = f"sql/{database}"
    elif path:
        below = f"kv/{path}"
    else:
        below = "kv"
    resource = f"{client.kv(space).space.text}/{below}"
    return [allow(resource, ability) for ability in abilities]


async def warn_absent(client: Client, names: Sequence[str], scope: str | None) -> None:
    """Print a warning if granted secrets are not stored yet."""
    stored = await client.secrets().list(scope=scope)
    # Blanks around a name are not part of it.
    absent = [name for name in names if name.strip() not in stored]
    if absent:  # no error: a secret may be granted before it is stored
        tell(
            "warning: these secrets are not stored yet; the grant takes effect when they are"
            f" stored: {', '.join(absent)}"
        )


def wallet_for(rights: Iterable[Capability]) -> Wallet | None:
    """Return the wallet that must sign a grant, or None.

    None means that the session's key can sign the grant.
    """
    # A grant by the session ends with the session, so the wallet signs wherever it can: if every
    # resource belongs to the owner.
    home = owner_home()
    owner = home.profile().owner
    is_own = all(same_principal(root_of(right.resource) or "", owner) for right in rights)
    return home.wallet() if is_own else None


def print_granted(portable: PortableDelegation, names: Names) -> None:
    """Print a summary of a new grant to standard error."""
    whom = names.whole(portable.delegate_did)
    tell(f"granted to {whom}, {end_text(portable.expires_at)}: {portable.cid}")
    tell(*(f"  {line}" for line in rights_words(portable.resources, by=portable.owner)))


async def warn_about_proof(client: Client, policy: Policy | None) -> None:
    """Print a warning if a grant lacks a policy that the node requires."""
    if (policy is None or not policy.is_allow_list) and await requires_proof(client):
        tell(
            f"warning: this grant alone does not let the recipient read the secrets: {NOT_SHARED}",
            "to approve a program, use --policy or the network's policy; to approve a backend, use:"
            " sealspace backend grant URL",
        )


async def hand_over_all(url: str, portables: Sequence[PortableDelegation], *, copies: str) -> None:
    """Send grants to a backend.

    The grants remain valid even if the backend rejects them.
    """
    for portable in portables:
        try:
            await deliver(url, portable)
        except BackendError as refusal:
            refusal.step = (
                f"the grant is in force all the same; send {copies} to the backend yourself, or"
                f" revoke it: sealspace backend revoke {url}"
            )
            raise
    tell(f"handed over to {url}")


async def requires_proof(client: Client) -> bool:
    """Return whether the node requires attestation before it releases keys."""
    terms = await node_terms(client)
    return terms is not None and terms.attestation != "off"


async def node_terms(client: Client) -> ReleaseTerms | None:
    """Fetch the node's conditions for releasing keys.

    None means that the node does not publish them.
    """
    try:
        return await client.release_terms()
    except NotFound:
        return None


def _parse_abilities(text: str | None, space: str | None, database: str | None) -> tuple[str, ...]:
    """Parse the comma-separated value of the option `--can`."""
    if text is None:
        return _default_abilities(space, database)
    known = SECRET_ACTIONS if space is None else ACTIONS
    if database:
        known = DATABASE_ACTIONS
    abilities = []
    for part in text.split(","):
        action = part.strip()
        if action not in known:
            raise InvalidInput(
                f"--can: {action[:20]!r} is not an action",
                hint=f"one or more of {','.join(known)}",
            )
        if known[action] not in abilities:
            abilities.append(known[action])
    return tuple(abilities)


def _default_abilities(space: str | None, database: str | None) -> tuple[str, ...]:
    """Return the abilities that are granted without the option `--can`."""
    if database:
        return (SQL_READ,)
    if space is None:
        return (KV_GET,)
    return (KV_GET, KV_LIST)
