"""The commands below `sealspace ci`, for CI jobs that store no secret.

The owner's trust says which jobs may read which secrets. `token_commands` lists and revokes trusts.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple, TextIO

import click

from ...client import Client
from ...errors import InvalidInput, SealspaceError
from ...wire.id_tokens import TRUST_VARIABLE, exchange_id_token
from ...wire.node_answers import json_object
from ...wire.token_line import NODE_VARIABLE
from ...wire.transport import Request, Transport
from ..keep.named_secrets import scope_option
from ..options.durations import expires_option
from ..options.unbound_values import allow_unbound_option
from ..owner.chosen_team import signing_membership
from ..owner.owner_profile import at_node, owner_home
from ..shared import shared
from ..terminal import print_result, tell
from .token_commands import require_stored, secrets_option


class _System(NamedTuple):
    """A system of CI jobs.

    Attributes:
        issuer: issuer of the ID tokens, with options inserted.
        ref: claim with the full ref; empty if the tokens have none.
        claims: the claims that are required, with options inserted.
    """

    issuer: str
    ref: str = ""
    claims: tuple[str, ...] = ()


_SYSTEMS = {
    "github": _System(
        issuer="https://token.actions.githubusercontent.com",
        ref="ref",
        claims=("repository_id={repository_id}", "repository_owner_id={owner_id}"),
    ),
    "gitlab": _System(
        issuer="https://gitlab.com",
        ref="ref_path",
        claims=(
            "project_id={repository_id}",
            "namespace_id={owner_id}",
            "ref_protected=true",
        ),
    ),
    "kubernetes": _System(
        issuer="{issuer}",
        claims=("sub=system:serviceaccount:{namespace}:{service_account}",),
    ),
    "other": _System(issuer="{issuer}"),
}
_NARROWING = {
    "branch": "{ref}=refs/heads/{branch}",
    "tag": "{ref}=refs/tags/{tag}",
    "environment": "environment={environment}",
}
"""Option -> its claim. At least one is required where a system has a claim of the ref."""
_OPTIONS = {
    "name": "A name for lists and receipts. Default: the system.",
    "repository": "On github.com: owner/name. Its numbers are looked up there.",
    "repository-id": "The number of the repository, on GitLab of the project.",
    "owner-id": "The number of its owner, on GitLab of the namespace.",
    "branch": "Only jobs for this branch.",
    "tag": "Only jobs for this tag.",
    "environment": "Only jobs in this environment.",
    "namespace": "The namespace of a service account in Kubernetes.",
    "service-account": "The name of a service account in Kubernetes.",
    "issuer": "Address of the issuer. Default: that of GitHub or of gitlab.com.",
}


def _number(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """Return the number of a repository or its owner: with another text, no job would match."""
    if text is not None and not (text.isascii() and text.isdigit()):
        raise click.BadParameter(f"{text} is not a number")
    return text


@click.command(
    "trust",
    params=[
        click.Option([f"--{name}"], help=text, callback=_number if name.endswith("-id") else None)
        for name, text in _OPTIONS.items()
    ],
    epilog="Examples: `sealspace ci trust github --repository acme/shop --branch main --secret"
    " API_KEY`; `sealspace ci trust kubernetes --issuer https://k8s.example --jwks keys.json"
    " --namespace shop --service-account deploy --secret API_KEY`.",
)
@click.argument("system", type=click.Choice([*_SYSTEMS]))
@secrets_option
@click.option(
    "--claim",
    "claims",
    metavar="NAME=VALUE",
    multiple=True,
    help="A further claim. Repeat it for more claims, or for more values of one.",
)
@click.option("--jwks", type=click.File(), help="File with the issuer's keys. Default: fetched.")
@click.option("--issuer-ca", type=click.File(), help="PEM file of the issuer's certificates.")
@scope_option
@expires_option("90d", "How long the trust lasts, at most 366d.", most_days=366, former="--ends")
@allow_unbound_option
@at_node
async def trust(
    client: Client,
    /,
    system: str,
    secrets: tuple[str, ...],
    claims: tuple[str, ...],
    jwks: TextIO | None,
    issuer_ca: TextIO | None,
    scope: str | None,
    ttl_s: float,
    unbound: bool,
    **options: str | None,
) -> None:
    """Let CI jobs read secrets without storing one.

    SYSTEM says how the jobs prove who they are. Your wallet signs which jobs may read which
    secrets. A job then presents its ID token to the node and gets a machine token of at most 15
    minutes.
    """
    await require_stored(client, secrets, scope)
    chosen = _SYSTEMS[system]
    # What is inserted into the templates of issuers and claims.
    values = {"name": system} | {option: text for option, text in options.items() if text}
    values["ref"] = chosen.ref
    narrowing = [claim for option, claim in _NARROWING.items() if option in values]
    needs_narrowing = chosen.ref != ""
    if needs_narrowing != bool(narrowing):
        raise InvalidInput(
            "GitHub and GitLab need a branch, a tag or an environment; other systems have none",
            hint="use --branch, --tag or --environment with github and gitlab, --claim with others",
        )
    try:
        # The trust names the numbers of the repository and its owner, because no rename changes
        # them. GitHub's numbers say nothing about repositories of another issuer (OX8).
        if "repository" in values and system == "github" and "issuer" not in values:
            async with Transport("https://api.github.com") as transport:
                repository: Any = json_object(
                    await transport.require(Request("GET", f"/repos/{values['repository']}"))
                )
            values |= {
                "repository_id": str(repository["id"]),
                "owner_id": str(repository["owner"]["id"]),
            }
        issuer = values.get("issuer") or chosen.issuer.format_map(values)
        texts = [template.format_map(values) for template in (*chosen.claims, *narrowing)]
        texts += claims
    except KeyError as missing:
        raise InvalidInput(
            f"{system} needs the option --{missing.args[0].replace('_', '-')}",
            hint="see sealspace ci trust --help",
        ) from None
    except (SealspaceError, TypeError) as error:
        raise InvalidInput(
            f"cannot look up the repository at GitHub: {getattr(error, 'message', 'no owner')}",
            hint="correct its name; for a private repository, use --repository-id and --owner-id in"
            " place of --repository: `gh api repos/OWNER/NAME --jq .id,.owner.id` prints them",
        ) from None
    cid = await client.delegations.trust_issuer(
        values["name"],
        secrets,
        issuer=issuer,
        claims=_values_by_claim(texts),
        jwks=jwks.read() if jwks else None,
        issuer_ca=issuer_ca.read() if issuer_ca else None,
        scope=scope,
        ttl_s=ttl_s,
        unbound=unbound,
        wallet=owner_home().wallet(),
        membership=await signing_membership(client, unbound=unbound),
    )
    tell(f"jobs with {' '.join(texts)} can read {', '.join(secrets)}")
    _print_trust(client, cid)


def _print_trust(client: Client, cid: str) -> None:
    """Print the id of a trust, and say how a job uses it."""
    tell(
        f"in the job, set {NODE_VARIABLE}={client.url} and {TRUST_VARIABLE}={cid}, then:"
        " sealspace run -- COMMAND"
    )
    print_result({"id": cid}, [cid])


def _values_by_claim(texts: Iterable[str]) -> dict[str, list[str | int | bool]]:
    """Return the values that each claim may have, from texts `NAME=VALUE`."""
    values_by_claim: dict[str, list[str | int | bool]] = {}
    for text in texts:
        claim, _, value = text.partition("=")
        values_by_claim.setdefault(claim, []).append(value)
    return values_by_claim


@click.command(epilog='Example: `export SEALSPACE_TOKEN="$(sealspace ci login)"`.')
def login() -> None:
    """Exchange the ID token of this CI job for a machine token, and print its line.

    `sealspace run` does so by itself. Use this command where a job has only one ID token and runs
    several commands.
    """
    line = asyncio.run(exchange_id_token(shared().node))
    print_result({"token": line}, [line])
