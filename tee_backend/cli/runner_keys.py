"""`sealspace runner keys`: API keys of the owner at a runner."""

import click

from capabilities.strict_json import Json
from sealspace.apps.api_keys import MAX_AMOUNT, MAX_KEY_LIFE_S
from sealspace.cli.durations import ttl_s_of
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.shared import shared
from sealspace.cli.terminal import confirm, print_json, print_lines, print_rows, words
from sealspace.client import Client
from sealspace.errors import InvalidInput

from .project import project_of
from .runner_call import with_call_right


@click.command(
    "create",
    epilog="Example: `sealspace runner keys create https://runner.example --project did:key:z6Mk…/digest > key`; then "
    "`sealspace runner call https://runner.example DID/digest --key key`, or `curl` with it in `X-Payment-Key`.",
)
@click.argument("url")
@click.option("--project", "projects", metavar="DID/NAME", multiple=True, help="What it may call; repeatable.")
@click.option("--any-project", is_flag=True, help="It may call every program.")
@click.option(
    "--profile",
    "profiles",
    metavar="NAME",
    multiple=True,
    help="Secrets that a call may ask for, `default` or a scope; none by default; repeatable.",
)
@click.option(
    "--max-per-call", type=click.IntRange(0, MAX_AMOUNT), default=10_000, show_default=True, help="Micro-units."
)
@click.option(
    "--expires",
    "ttl_s",
    metavar="TIME",
    type=ttl_s_of,
    default="30d",
    show_default=True,
    help="How long it lasts, at most 90d.",
)
@at_node
async def create(
    client: Client,
    url: str,
    projects: tuple[str, ...],
    any_project: bool,
    profiles: tuple[str, ...],
    max_per_call: int,
    ttl_s: float,
) -> None:
    """Make an API key for the runner at URL, and print it; nobody can print it again.

    Whoever has it calls in your name and at your cost, within what the wallet signs here. It reaches your secrets only
    in the profiles that are named, and only where a grant to the runner lets you call.
    """
    if bool(projects) == any_project:
        raise click.UsageError("name what the key may call: --project DID/NAME, or --any-project")
    if ttl_s > MAX_KEY_LIFE_S:
        raise InvalidInput("--expires is more than 90d", hint="an API key lasts 90 days at most")
    key = await client.runners.create_key(
        url,
        projects=None if any_project else [project_of(one) for one in projects],
        profiles=profiles,
        max_per_call=max_per_call,
        ttl_s=ttl_s,
        wallet=owner_home().wallet(),
    )
    if shared().as_json:
        print_json({"key": key.text, "nonce": key.nonce})
    else:
        print_lines(key.text)
        words(f"this is shown once; to end it: sealspace runner keys revoke {url} {key.nonce}")


@click.command("list")
@click.argument("url")
def list_(url: str) -> None:
    """Show your API keys at the runner at URL, and what your account there has, in micro-units."""
    listed = with_call_right(lambda client: client.runners.keys(url))
    keys = listed.get("keys")
    rows = [
        [_cell(one.get(name)) for name in ("nonce", "expires", "maxPerCall", "projects", "profiles")]
        for one in (keys if isinstance(keys, list) else [])
        if isinstance(one, dict)
    ]
    account = listed.get("account")
    if isinstance(account, dict):
        words(", ".join(f"{name} {_cell(account.get(name))}" for name in ("balance", "reserved", "charged")))
    print_rows(
        listed,
        ("nonce", "until", "most per call", "projects", "profiles"),
        rows,
        nothing=f"there is no API key of yours; next: sealspace runner keys create {url}",
    )


@click.command("revoke")
@click.argument("url")
@click.argument("nonce", type=click.IntRange(0, 2**32 - 1))
@click.option("--yes", is_flag=True, help="Do not ask.")
def revoke(url: str, nonce: int, yes: bool) -> None:
    """Revoke the API key NONCE at the runner at URL; it serves no call from now on."""
    confirm(f"Revoke the API key {nonce} at {url}?", yes=yes)
    with_call_right(lambda client: client.runners.revoke_key(url, nonce))
    words(f"the API key {nonce} is revoked")


def _cell(value: Json) -> str:
    return ", ".join(map(str, value)) or "-" if isinstance(value, list) else str(value)
