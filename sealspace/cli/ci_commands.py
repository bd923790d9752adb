"""The commands below `sealspace ci`, for CI jobs that store no secret.

The owner's trust says which jobs may read which secrets. `token_commands` lists and revokes trusts.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import click
import msgspec

from ..client import Client
from ..errors import InvalidInput
from ..private_files import read_bounded
from ..wire.id_tokens import TRUST_VARIABLE, exchange_id_token
from ..wire.token_line import NODE_VARIABLE
from .durations import expires_option
from .owner_profile import at_node, owner_home
from .paths import NamedFile
from .secret import scope_option
from .shared import shared
from .terminal import print_result, tell
from .token_commands import require_stored, secrets_option

_MAX_FILE_BYTES = 16_384
_SYSTEMS: dict[str, tuple[str, ...]] = {
    "github": (
        "https://token.actions.githubusercontent.com",
        "repository_id={repository_id}",
        "repository_owner_id={owner_id}",
    ),
    "gitlab": (
        "https://gitlab.com",
        "project_id={repository_id}",
        "namespace_id={owner_id}",
        "ref_protected=true",
    ),
    "kubernetes": ("{issuer}", "sub=system:serviceaccount:{namespace}:{service_account}"),
    "other": ("{issuer}",),
}
"""System -> its issuer, and the claims that are required. Options are inserted."""
_REFS = {
    ("github", "branch"): ("ref=refs/heads/{branch}", "ref_type=branch"),
    ("github", "tag"): ("ref=refs/tags/{tag}", "ref_type=tag"),
    ("gitlab", "branch"): ("ref={branch}", "ref_type=branch"),
    ("gitlab", "tag"): ("ref={tag}", "ref_type=tag"),
    ("github", "environment"): ("environment={environment}",),
    ("gitlab", "environment"): ("environment={environment}",),
}
"""System and option -> its claims. At least one of a system's options is required."""
_OPTIONS = {
    "name": "A name for lists and receipts. Default: the system.",
    "repository": "On GitHub: owner/name. Its numbers are looked up there.",
    "repository-id": "The number of the repository, on GitLab of the project.",
    "owner-id": "The number of its owner, on GitLab of the namespace.",
    "branch": "Only jobs for this branch.",
    "tag": "Only jobs for this tag.",
    "environment": "Only jobs in this environment.",
    "namespace": "The namespace of a service account in Kubernetes.",
    "service-account": "The name of a service account in Kubernetes.",
    "issuer": "Address of the issuer. Default: that of GitHub or of gitlab.com.",
}


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that take a text."""
    for option in reversed(_OPTIONS):
        command = click.option(f"--{option}", help=_OPTIONS[option])(command)
    return command


@click.command(
    "trust",
    epilog=(
        "Examples: `sealspace ci trust github --repository acme/shop --branch main --secret"
        " API_KEY`; `sealspace ci trust kubernetes --issuer https://k8s.example --jwks keys.json"
        " --namespace shop --service-account deploy --secret API_KEY`."
    ),
)
@click.argument("system", type=click.Choice([*_SYSTEMS]))
@secrets_option
@_options
@click.option(
    "--claim",
    "claims",
    metavar="NAME=VALUE",
    multiple=True,
    help="A further claim; NAME:=VALUE for true, false or a number. Repeat it for more values.",
)
@click.option("--jwks", type=NamedFile(), help="File with the issuer's keys. Default: fetched.")
@click.option("--issuer-ca", type=NamedFile(), help="PEM file of the issuer's certificates.")
@scope_option
@expires_option("90d", "How long the trust lasts, at most 366d.", option="--ends", most_days=366)
@at_node
async def trust(
    client: Client,
    /,
    system: str,
    secrets: tuple[str, ...],
    claims: tuple[str, ...],
    jwks: Path | None,
    issuer_ca: Path | None,
    scope: str | None,
    ttl_s: float,
    **options: str | None,
) -> None:
    """Let CI jobs read secrets without storing one.

    SYSTEM says how the jobs prove who they are. Your wallet signs which jobs may read which
    secrets. A job then presents its ID token to the node and gets a machine token of at most 15
    minutes.
    """
    await require_stored(client, secrets, scope)
    given = {"name": system} | {option: text for option, text in options.items() if text}
    if "repository" in given and "repository_id" not in given:
        given |= await _github_ids(given["repository"])
    issuer, *stated = _SYSTEMS[system]
    refs = {option: more for (of, option), more in _REFS.items() if of == system}
    for option, more in refs.items():
        stated += more if option in given else ()
    if refs and given.keys().isdisjoint(refs):
        raise InvalidInput(
            "the trust would include jobs for every branch",
            hint=f"add one of these options: --{', --'.join(refs)}",
        )
    wanted: dict[str, list[str | int | bool]] = {}
    try:
        issuer = given.get("issuer") or issuer.format_map(given)
        for text in (*[one.format_map(given) for one in stated], *claims):
            claim, _, value = text.partition("=")
            wanted.setdefault(claim.removesuffix(":"), []).append(
                msgspec.json.decode(value, type=int | bool) if claim.endswith(":") else value
            )
    except (KeyError, msgspec.DecodeError) as error:
        raise InvalidInput(
            f"an option of a trust in {system} is missing or not valid: {error.args[0]}",
            hint="sealspace ci trust --help",
        ) from None
    keys, certificates = [
        None if one is None else read_bounded(one, most_bytes=_MAX_FILE_BYTES).decode()
        for one in (jwks, issuer_ca)
    ]
    cid = await client.delegations.trust_issuer(
        given["name"],
        secrets,
        issuer=issuer,
        claims=wanted,
        jwks=keys,
        issuer_ca=certificates,
        scope=scope,
        ttl_s=ttl_s,
        wallet=owner_home().wallet(),
    )
    tell(
        f"jobs of {issuer} with these claims can read {', '.join(secrets)}: {wanted}",
        f"in the job, set {NODE_VARIABLE}={client.url} and {TRUST_VARIABLE}={cid}, then:"
        " sealspace run -- COMMAND",
    )
    print_result({"id": cid, "issuer": issuer, "claims": wanted}, [cid])


async def _github_ids(repository: str) -> dict[str, str]:
    """Look up the numbers of a repository and its owner, which no rename changes (OX8)."""
    try:
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.get(f"https://api.github.com/repos/{repository}") as answer,
        ):
            found = await answer.json()
            return {"repository_id": str(found["id"]), "owner_id": str(found["owner"]["id"])}
    except (aiohttp.ClientError, OSError, LookupError) as error:
        raise InvalidInput(
            f"cannot look up the repository {repository}: {type(error).__name__}",
            hint="add --repository-id and --owner-id; to see them: gh api"
            f" repos/{repository} --jq .id,.owner.id",
        ) from None


@click.command("login", epilog='Example: `export SEALSPACE_TOKEN="$(sealspace ci login)"`.')
def login() -> None:
    """Exchange the ID token of this CI job for a machine token, and print its line.

    `sealspace run` does so by itself. Use this command where a job has only one ID token and runs
    several commands.
    """
    line = asyncio.run(exchange_id_token(shared().node))
    print_result({"token": line}, [line])
