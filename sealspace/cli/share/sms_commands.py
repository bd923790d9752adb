"""The commands below `sealspace sms`, for owners who use iExec's clients."""

from contextlib import suppress

import click

from capabilities.abilities import KV_GET, KV_METADATA, KV_PUT

from ...client import Client
from ...delegations import allow
from ...documents.iexec_names import GRANT_KEY, SCOPES, USED_PREFIX
from ...documents.secret_names import SECRETS_SPACE, list_prefix
from ...errors import NotFound
from ...service.command_errors import NotThere
from ..options.durations import expires_option
from ..owner.contact_names import names_for
from ..owner.owner_profile import at_node
from ..terminal import ask_yes_or_no, is_interactive, print_result, tell
from .grant_create import print_granted, wallet_for
from .grant_list import revoke_all, show_by_id

_SECRETS = tuple(map(list_prefix, SCOPES))
_CLOSED = (
    "without public checks, `iexec … check-secret` shows `No secret … found` also for secrets that"
    " you pushed, and `--force-update` fails"
)


@click.command(
    epilog="Example: `sealspace sms enable --public-checks`. Then set `sms` of the chain in"
    " chain.json to the address of the node's service, and push a secret: `iexec"
    " requester push-secret my-secret`.",
)
@click.option(
    "--public-checks/--no-public-checks",
    default=None,
    help="Let everyone ask whether a secret of yours exists, as iExec's service does; or nobody,"
    " which is the default. On a terminal, the command asks.",
)
@expires_option("90d", "How long the grant lasts, from 1m to 365d: 30m, 12h, 90d.")
@at_node
async def enable(client: Client, public_checks: bool | None, ttl_s: float) -> None:
    """Let iExec's clients store secrets in your space.

    This grants the node's service for iExec the right to write four scopes of secrets, each of them
    signed by your wallet. The service cannot read a secret. Former grants are revoked.

    Only a wallet on Ethereum's main chain (did:pkh:eip155:1:0x…) can push. Without public checks,
    the `check-secret` commands of iExec's client find no secret, and `--force-update` fails.
    """
    did = await _service_did(client)
    former_cids = await _live_grants_to(client, did)
    if not public_checks:
        tell(_CLOSED)
    if public_checks is None and is_interactive():
        public_checks = ask_yes_or_no("let everyone ask whether a secret of yours exists?")
    await client.encryption.ensure_network()
    values = client.kv(SECRETS_SPACE)
    folder = f"{values.space.text}/kv/"
    rights = [allow(folder + path, KV_PUT) for path in (*_SECRETS, USED_PREFIX)]
    rights += [allow(folder + path, KV_GET) for path in ("iexec/apps/", "iexec/datasets/")]
    if public_checks:
        rights += [allow(folder + path, KV_METADATA) for path in _SECRETS]
    portable = await client.delegations.delegate(
        did, rights, ttl_s=ttl_s, wallet=wallet_for(rights)
    )
    await values.put(GRANT_KEY, portable.cid)
    if former_cids:
        await revoke_all(client, former_cids)
    if not public_checks:
        tell("existence checks are now closed; to open them: sealspace sms enable --public-checks")
    print_granted(portable, await names_for(client, [portable.delegate_did]))
    print_result({"grant": portable.cid})


@click.command()
@at_node
async def disable(client: Client) -> None:
    """Revoke every grant to the service. Secrets that were pushed remain yours."""
    cids = await _live_grants_to(client, await _service_did(client))
    if not cids:
        raise _not_enabled()
    await revoke_all(client, cids)
    tell(*(f"revoked: {cid}" for cid in cids))


@click.command()
def status() -> None:
    """Show whether iExec's clients may store secrets in your space, and by which grant."""
    find_used_grant = at_node(_find_used_grant)  # with a client for the node
    show_by_id(find_used_grant())


async def _service_did(client: Client) -> str:
    """Return the DID of the node's service for iExec's clients.

    Raises:
        NotThere: the node has no such service.
    """
    did = (await client.info()).sms_did
    if not did:
        raise NotThere(
            "this node has no service for iExec's clients",
            hint="ask the node's operator to start it with --sms ADDRESS:PORT",
        )
    return did


async def _live_grants_to(client: Client, did: str) -> list[str]:
    """Return the CIDs of the owner's grants to the service that are in force.

    They come from the node's list. The CID that is stored in the owner's space is only a hint
    (SM3): a session that may write there could name any grant.
    """
    granted = client.delegations.query(direction="granted", status="active")
    return [record.cid async for record in granted if record.delegate == did]


async def _find_used_grant(client: Client) -> str:
    """Return the CID of the grant that the service uses (SM3)."""
    live_cids = await _live_grants_to(client, await _service_did(client))
    if live_cids:
        # `enable` created the network. This raises an error if it was revoked since: then the
        # service writes nothing (SM3).
        await client.encryption.ensure_network()
    with suppress(NotFound):
        stored = (await client.kv(SECRETS_SPACE).get(GRANT_KEY)).body
        for cid in live_cids:
            if stored == cid.encode():
                return cid
    raise _not_enabled()


def _not_enabled() -> NotThere:
    return NotThere("iExec's clients are not enabled", hint="sealspace sms enable")
