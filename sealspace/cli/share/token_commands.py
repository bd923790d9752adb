"""The commands below `sealspace token`, for machine tokens.

A machine token lets a server or a CI job read a few secrets. This machine stores no tokens: the
list comes from the node, which has their delegations, not their keys.
"""

from collections.abc import Mapping

import click

from capabilities.clock_and_entropy import SystemClock
from capabilities.machine_tokens import MachineGrant, OidcTrust

from ...client import Client
from ...service.command_errors import NotThere
from ...wire.team_session import member_of_session
from ...wire.token_line import (
    NODE_VARIABLE,
    TOKEN_VARIABLE,
    MachineToken,
    read_token,
    token_in,
    token_of,
)
from ..keep.named_secrets import no_secret, scope_option
from ..options.durations import expires_option
from ..options.unbound_values import allow_unbound_option
from ..owner.chosen_team import signing_membership
from ..owner.owner_profile import at_node, owner_home
from ..terminal import (
    confirm,
    end_text,
    is_interactive,
    optional_time,
    print_documents,
    print_result,
    repeatable_option,
    tell,
    yes_option,
)
from .grant_list import revoke_all

_SEARCHED_S = 30 * 86_400
"""How far back a last use is searched."""
_MOST_PAGES = 50
"""Most pages of receipts that are read for it, of 100 receipts each."""


secrets_option = repeatable_option(
    "--secret",
    "secrets",
    metavar="NAME",
    required=True,
    help="A secret that the token reads. For several: `--secret A --secret B`.",
)


async def require_stored(client: Client, secrets: tuple[str, ...], scope: str | None) -> None:
    """Check that secrets are stored, before the wallet signs."""
    stored = await client.secrets().list(scope=scope)
    for name in secrets:
        if name not in stored:
            raise await no_secret(client.secrets(), name, scope)


@click.command(
    epilog="Example: `sealspace token create deploy --secret API_KEY --secret DB_URL --scope ci"
    " --expires 90d`. The program needs two variables: SEALSPACE_NODE, the node's address, and"
    " SEALSPACE_TOKEN, the line that this command prints. It then runs `sealspace run --"
    " COMMAND`.",
)
@click.argument("name")
@secrets_option
@scope_option
@expires_option("30d", "How long the token lasts, at most 366d.", most_days=366, former="--ends")
@allow_unbound_option
@at_node
async def create(
    client: Client,
    name: str,
    secrets: tuple[str, ...],
    scope: str | None,
    ttl_s: float,
    unbound: bool,
) -> None:
    """Create a machine token, which reads secrets without your key.

    NAME is for lists and receipts. Your wallet signs the token, which then depends on no login. The
    token is printed once and stored nowhere. The line alone is enough to read these secrets.
    """
    # This request comes before the wallet signs. One that fails afterwards would keep the line from
    # being printed.
    await require_stored(client, secrets, scope)
    line = await client.delegations.create_token(
        name,
        secrets,
        scope=scope,
        ttl_s=ttl_s,
        unbound=unbound,
        wallet=owner_home().wallet(),
        membership=await signing_membership(client, unbound=unbound),
    )
    token = token_of(read_token(line))
    assert token is not None
    tell(
        f"the machine token {name} reads {token.labels}, {end_text(token.grant.expires_at)};"
        f" its id is {token.grant.cid}",
        f"to use it, set {NODE_VARIABLE}={client.url} and {TOKEN_VARIABLE} to the line below, then:"
        " sealspace run -- COMMAND",
        "the line is shown only once: store it like a password",
    )
    print_result(_json(token) | {"token": line}, [line])


@click.command()
@at_node
async def list_(client: Client) -> None:
    """List the machine tokens, or below `ci` the trusts, that are in force.

    The last use is the time of the newest receipt, if it is at most 30 days ago.
    """
    tokens = await _fetch_live_tokens(client)
    used = await _last_uses(client) if tokens else {}
    print_documents(
        [_json(token, used.get(token.grant.cid)) for token in tokens],
        {
            "name": "name",
            "secrets": "secrets",
            "expiresAt": "until",
            "lastUsedAt": "last use",
            "id": "id",
        },
        nothing="no trusts; next: sealspace ci trust --help"
        if _is_about_trusts()
        else "no machine tokens; next: sealspace token create NAME --secret NAME",
    )


@click.command()
@click.argument("token", metavar="NAME|ID")
@yes_option
@at_node
async def revoke(client: Client, token: str, yes: bool) -> None:
    """Revoke a machine token, or below `ci` a trust, permanently.

    Programs that use the token fail from their next request on. On a terminal, you are asked to
    confirm.
    """
    kind = "trust" if _is_about_trusts() else "machine token"
    readers = "jobs of this trust" if _is_about_trusts() else "programs with this token"
    live = await _fetch_live_tokens(client)
    matching = [
        live_token for live_token in live if token in (live_token.name, live_token.grant.cid)
    ]
    if len(matching) != 1:
        ids = " or ".join(matching_token.grant.cid for matching_token in matching)
        raise NotThere(
            f"{len(matching) or 'no'} {kind}s in force are named {token}",
            hint=f"name one by its id: {ids or 'see sealspace token list, or sealspace ci list'}",
        )
    (revoked,) = matching
    consequence = f"{readers} can no longer read {revoked.labels}"
    if is_interactive():
        confirm(f"revoke the {kind} {revoked.name}? {consequence}", yes=yes)
    await revoke_all(client, [revoked.grant.cid])
    tell(f"revoked {revoked.name}: {consequence}")


def _is_about_trusts() -> bool:
    """Return whether the command is below `ci`, whose commands are the same functions."""
    return " ci " in click.get_current_context().command_path


async def _fetch_live_tokens(client: Client) -> list[MachineToken]:
    """Fetch the machine tokens that are in force from the node.

    Below `ci`, these are the trusts. Tokens that the node made for jobs are left out.
    """
    kind = OidcTrust if _is_about_trusts() else MachineGrant
    tokens = []
    async for record in client.delegations.query(
        direction="granted",
        status="active",
        tokens=True,
        derived=member_of_session(client.session) is not None,  # an admin's wallet signs them
    ):
        token = token_in(record.token or "")
        if token is None or not isinstance(token.granted, kind):
            continue
        if not token.is_of_job:
            tokens.append(token)
    return tokens


async def _last_uses(client: Client) -> Mapping[str, float]:
    """Return when machine tokens last opened a secret, by the id of the owner's delegation.

    Receipts are listed from the oldest on. If there are more than are read, a time may be too
    early.
    """
    used_at: dict[str, float] = {}
    # With zeros after the time in microseconds, the list begins at that time (RC14).
    after: str | None = f"{int((SystemClock.now() - _SEARCHED_S) * 1e6):016x}{0:032x}"
    for _ in range(_MOST_PAGES):
        page = await client.receipts.page(after=after)
        for receipt in page.receipts:
            if receipt.ground == "machine":
                used_at |= dict.fromkeys(receipt.chain, receipt.at)
        after = page.after
        if after is None:
            break
    return used_at


def _json(token: MachineToken, used_at: float | None = None) -> dict[str, object]:
    document: dict[str, object] = {
        "name": token.name,
        "secrets": [secret.label for secret in token.secrets],
        "expiresAt": optional_time(token.grant.expires_at),
        "lastUsedAt": optional_time(used_at),
        "id": token.grant.cid,
        "allowsUnbound": token.granted.unbound,
    }
    if isinstance(token.granted, OidcTrust):
        document |= {"issuer": token.granted.issuer, "claims": token.granted.claims}
    return document
