"""`sealspace grant create`: a grant to a DID, written in portable form."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from capabilities.abilities import DECRYPT, KV_DELETE, KV_GET, KV_LIST, KV_METADATA, KV_PUT
from capabilities.principals import same_principal
from capabilities.resources import root_of
from capabilities.tokens import Capability
from encryption_network.policy import Policy

from ..apps.attestation import ReleaseTerms
from ..apps.backends import deliver
from ..apps.descriptions import rights_words
from ..client import Client
from ..delegations import allow
from ..errors import BackendError, InvalidInput, NotFound
from ..wallets import Wallet
from ..wire.portable import PortableDelegation, encode_portable
from .durations import expires_option
from .owner_profile import at_node, owner_home
from .paths import FILE, NEW_FILE, require_free, write_grants
from .space import require_own_space
from .term_files import read_node_policy
from .terminal import optional_time, print_exactly, print_found, words

ACTIONS: Final = {
    "get": KV_GET,
    "put": KV_PUT,
    "delete": KV_DELETE,
    "list": KV_LIST,
    "head": KV_METADATA,
}
"""Word on the command line -> ability."""
NOT_SHARED: Final = "people cannot read each other's secrets on this node: it opens them for code that proves itself"


@click.command(
    "create",
    epilog=(
        "Examples: `sealspace grant create did:key:… --space notes --path todo --can get,list --out"
        " grant.json`; `sealspace grant create did:key:… --secret API_KEY --expires 12h >"
        " grant.json`. The recipient finds the DID with `sealspace whoami`, and uses the file with"
        " `sealspace grant accept grant.json`."
    ),
)
@click.argument("did")
@click.option(
    "--secret", "secrets", metavar="NAME", multiple=True, help="A secret to grant; repeatable."
)
@click.option("--scope", metavar="SCOPE", help="Scope of the secrets.")
@click.option(
    "--space", metavar="NAME", help="A space to grant values of: a name of your own, or a whole id."
)
@click.option(
    "--path", metavar="PATH", default="", help="Only this key of the space, and what is below it."
)
@click.option(
    "--can",
    metavar="ACTIONS",
    help=f"Some of {','.join(ACTIONS)}; `get` for secrets and `get,list` for a space by default.",
)
@expires_option("7d", "30m, 12h, 90d: 1m to 365d.")
@click.option(
    "--policy",
    "policy_file",
    type=FILE,
    help="What code the recipient has to prove before a secret opens, as JSON.",
)
@click.option("--out", type=NEW_FILE, help="A new file, mode 0600.")
@at_node
async def create(
    client: Client,
    did: str,
    secrets: tuple[str, ...],
    scope: str | None,
    space: str | None,
    path: str,
    can: str | None,
    ttl_s: float,
    policy_file: Path | None,
    out: Path | None,
) -> None:
    """Grant secrets, or values of a space, to DID, and write the grant for its recipient.

    A secret opens only for code that proves what it is, which --policy or the network's policy
    approves: a person who is granted one cannot read it, unless the node's operator set `sealspace
    admin release set --attestation off`. To a backend, `sealspace backend grant`; to a person,
    grant values of a space.

    The grant is in force when the command ends. It serves nobody but DID; `sealspace grant revoke`
    ends it.
    """
    if bool(secrets) == (space is not None):  # other clients refuse a grant that names two spaces
        raise click.UsageError("name what is granted: either --secret NAME, or --space NAME")
    if path and space is None:
        raise click.UsageError("--path goes with --space")
    if scope is not None and not secrets:
        raise click.UsageError("--scope goes with --secret")
    actions = _actions(can or ("get" if space is None else "get,list"))
    policy = None if policy_file is None else read_node_policy(policy_file)
    if out is not None:
        require_free(out)
    if space is None:
        wanted = [
            allow(client.secrets().resource(name, scope=scope), ability)
            for name in secrets
            for ability in actions
        ]
        if KV_GET in actions:
            wanted.append(allow(client.encryption.network().text, DECRYPT))
    else:
        # signing would make a space of a mistyped name; an id may be another owner's
        if ":" not in space:
            await require_own_space(client, space)
        place = f"{client.kv(space).space.text}/kv" + (f"/{path}" if path else "")
        wanted = [allow(place, ability) for ability in actions]
    portable = await client.delegations.delegate(
        did, wanted, ttl_s=ttl_s, policy=policy, wallet=wallet_for(wanted)
    )
    if space is None:
        await _warn(client, secrets, scope, is_read=KV_GET in actions, policy=policy)
    kept = owner_home().keep_grant(portable)
    say_granted(portable)
    if out is not None:
        write_grants(out, [portable])
        said = {
            "cid": portable.cid,
            "file": str(out),
            "expiresAt": optional_time(portable.expires_at),
        }
        print_found(said)
    else:
        words(
            "the recipient runs `sealspace grant accept FILE` with what follows; a copy is in"
            f" {kept}"
        )
        print_exactly(encode_portable(portable))


async def _warn(
    client: Client, names: Sequence[str], scope: str | None, *, is_read: bool, policy: Policy | None
) -> None:
    """Say which secrets are not there, and what the recipient has to expect of the node."""
    stored = await client.secrets().list(scope=scope)
    absent = [name for name in names if name.strip() not in stored]
    if absent:  # a grant may be made ahead of time
        words(f"not stored yet, so that the grant opens nothing until then: {', '.join(absent)}")
    if is_read:
        await warn_of_demands(client, policy)


def wallet_for(wanted: Iterable[Capability]) -> Wallet | None:
    """Return the wallet where all rights are the owner's own: what it signs outlives the session;
    else None."""
    home = owner_home()
    owner = home.profile().owner
    is_own = all(same_principal(root_of(one.resource) or "", owner) for one in wanted)
    return home.wallet() if is_own else None


def say_granted(portable: PortableDelegation) -> None:
    """Say on standard error what was granted."""
    ends = optional_time(portable.expires_at)
    until = "for good" if ends is None else f"until {ends}"
    words(f"granted to {portable.delegate_did}, {until}: {portable.cid}")
    words(*(f"  {line}" for line in rights_words(portable.resources, by=portable.owner)))


async def warn_of_demands(client: Client, policy: Policy | None) -> None:
    """Say what the recipient of a secret has to expect of the node before it opens anything."""
    if (policy is None or not policy.is_allow_list) and await demands_code(client):
        words(
            f"{NOT_SHARED}, which --policy or the network's policy names; to a backend: sealspace"
            " backend grant URL"
        )


async def hand_over_all(url: str, portables: Sequence[PortableDelegation], *, kept: str) -> None:
    """Send grants to a backend; they are in force whether it takes them or not."""
    for one in portables:
        try:
            await deliver(url, one)
        except BackendError as refusal:
            refusal.step = (
                f"what was granted stands; hand over {kept}, or end it: sealspace backend revoke"
                f" {url}"
            )
            raise
    words(f"handed over to {url}")


async def demands_code(client: Client) -> bool:
    """Whether the node opens a secret for others only when they prove their code; False where it
    does not tell."""
    terms = await node_terms(client)
    return terms is not None and terms.attestation != "off"


async def node_terms(client: Client) -> ReleaseTerms | None:
    """Return by what the node judges backends; None where it does not tell."""
    try:
        return await client.release_terms()
    except NotFound:
        return None


def _actions(text: str) -> tuple[str, ...]:
    """Read the value of `--can`."""
    named = [one.strip() for one in text.split(",")]
    unknown = [one for one in named if one not in ACTIONS]
    if unknown:
        raise InvalidInput(
            f"--can names no action {unknown[0][:20]!r}", hint=f"some of {','.join(ACTIONS)}"
        )
    return tuple(dict.fromkeys(ACTIONS[one] for one in named))
