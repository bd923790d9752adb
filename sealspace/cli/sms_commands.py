"""The commands below `sealspace sms`, for owners who use iExec's clients."""

import click

from capabilities.abilities import KV_GET, KV_METADATA, KV_PUT

from ..client import Client
from ..delegations import allow
from ..documents.iexec_names import (
    APP_SCOPE,
    DATASET_SCOPE,
    GRANT_KEY,
    REQUESTER_SCOPE,
    RESULT_SCOPE,
    USED_PREFIX,
)
from ..documents.secret_names import SCOPED_PREFIX, SECRETS_SPACE
from ..errors import NotFound
from ..wire.delegation_history import DelegationRecord
from .command_errors import NotThere
from .durations import expires_option
from .grant_create import print_granted, wallet_for
from .grant_list import revoke_all
from .owner_profile import at_node
from .terminal import print_result, tell

_SECRETS = tuple(
    f"{SCOPED_PREFIX}{scope}/"
    for scope in (REQUESTER_SCOPE, APP_SCOPE, DATASET_SCOPE, RESULT_SCOPE)
)


@click.command(
    "enable",
    epilog=(
        "Example: `sealspace sms enable --public-checks`. Then set `sms` of the chain in"
        " chain.json to the address of the node's service, and push a secret: `iexec"
        " requester push-secret my-secret`."
    ),
)
@click.option(
    "--public-checks",
    is_flag=True,
    help="Let everyone ask whether a secret of yours exists, as iExec's own service does.",
)
@expires_option("90d", "How long the grant lasts, from 1m to 365d: 30m, 12h, 90d.")
@at_node
async def enable(client: Client, public_checks: bool, ttl_s: float) -> None:
    """Let iExec's clients store secrets in your space.

    This grants the node's service for iExec the right to write four scopes of secrets, each of them
    signed by your wallet. The service cannot read a secret. A former grant is revoked.

    Without --public-checks, the `check-secret` commands of iExec's client find no secret.
    """
    did = (await client.info()).sms_did
    if did is None:
        raise NotThere(
            "this node has no service for iExec's clients",
            hint="ask the node's operator to start it with --sms ADDRESS:PORT",
        )
    former = await _live(client)
    await client.encryption.ensure_network()
    values = client.kv(SECRETS_SPACE)
    rights = [
        allow(f"{values.space.text}/kv/{path}", ability)
        for ability, paths in (
            (KV_PUT, (*_SECRETS, USED_PREFIX)),
            (KV_GET, ("iexec/apps/", "iexec/datasets/")),
            (KV_METADATA, _SECRETS if public_checks else ()),
        )
        for path in paths
    ]
    portable = await client.delegations.delegate(
        did, rights, ttl_s=ttl_s, wallet=wallet_for(rights)
    )
    await values.put(GRANT_KEY, portable.cid)
    if former is not None:
        await revoke_all(client, [former.cid])
    print_granted(portable)
    print_result({"grant": portable.cid, "publicChecks": public_checks})


@click.command("disable")
@at_node
async def disable(client: Client) -> None:
    """Revoke the grant. Secrets that were pushed remain yours."""
    if (record := await _live(client)) is None:
        raise NotThere("iExec's clients are not enabled", hint="nothing is to be done")
    await revoke_all(client, [record.cid])
    tell(f"revoked: {record.cid}")


@click.command("status")
@at_node
async def status(client: Client) -> None:
    """Show whether iExec's clients may store secrets in your space."""
    record = await _live(client)
    if record is None:
        print_result({"enabled": False}, ["not enabled; next: sealspace sms enable"])
        return
    is_public = any(KV_METADATA in right.abilities for right in record.rights)
    print_result(
        {
            "enabled": True,
            "grant": record.cid,
            "publicChecks": is_public,
            "expiresAt": record.expires_at,
        },
        [
            f"enabled until {record.expires_at}, by the grant {record.cid}",
            "everyone may ask whether a secret exists"
            if is_public
            else "nobody may ask whether a secret exists",
        ],
    )


async def _live(client: Client) -> DelegationRecord | None:
    """Return the grant that the service uses, if it is in force."""
    try:
        cid = (await client.kv(SECRETS_SPACE).get(GRANT_KEY)).body.decode()
    except NotFound:
        return None
    async for record in client.delegations.query(direction="granted", status="active"):
        if record.cid == cid:
            return record
    return None
