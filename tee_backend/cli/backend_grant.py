"""`sealspace backend grant`: secrets to exactly the code that a backend proves to run."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from capabilities.strict_json import Json
from sealspace.apps.backends import Seen
from sealspace.apps.descriptions import as_json, in_plain_words
from sealspace.cli.durations import ttl_s_of
from sealspace.cli.grant_create import hand_over_all
from sealspace.cli.owner_profile import KeptGrant, at_node, owner_home
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_json, print_lines, time_text, watched, words
from sealspace.client import Client
from sealspace.errors import InvalidInput
from sealspace.secrets import parse_secret_label

from .backend_show import Looking, looking_options


@click.command(
    "grant",
    epilog="Examples: `sealspace backend grant https://backend.example` shows what it found and asks. With `--like "
    "approved.json`, which `show --json` printed when you approved the code, it does not ask, and grants only to that "
    "and what it asked for then; nor does it ask where `--expect` names MRTD, RTMR0 to RTMR2, and RTMR3 or the compose "
    "hash and the key provider, and `--secret` what is granted.",
)
@click.option(
    "--secret",
    "secrets",
    metavar="NAME",
    multiple=True,
    help="A secret to grant; repeatable. All that the backend asks for by default.",
)
@click.option(
    "--expires", metavar="TIME", default="7d", show_default=True, help="How long the grant lasts: 30m, 12h, 90d."
)
@click.option("--yes", is_flag=True, help="Do not ask; what was seen is granted to, whatever it is.")
@click.option("--no-hand-over", is_flag=True, help="Keep the grant's file; do not send it to the backend.")
@looking_options
def grant(url: str, looking: Looking, secrets: tuple[str, ...], expires: str, yes: bool, no_hand_over: bool) -> None:
    """Look at the backend at URL, show what it runs, and grant secrets to exactly that.

    The grant names the backend's DID and its code: whoever holds the one and does not run the other gets no key. The
    wallet signs it, and the backend receives it.
    """
    ttl_s = ttl_s_of(expires)
    owner_home().profile()  # an owner who is not logged in need not wait for a quote
    kept, path, seen_json = _grant(url, looking, secrets or None, ttl_s=ttl_s, yes=yes)
    if not no_hand_over:
        asyncio.run(hand_over_all(url, [kept.portable], kept=str(path)))
    if shared().as_json:
        ends = None if kept.portable.expires_at is None else time_text(kept.portable.expires_at)
        shown = {"granted": kept.portable.cid, "file": str(path), "expiresAt": ends}
        print_json({**shown, "handedOver": not no_hand_over, "seen": seen_json})


@at_node
async def _grant(
    client: Client, url: str, looking: Looking, secrets: tuple[str, ...] | None, *, ttl_s: float, yes: bool
) -> tuple[KeptGrant, Path, dict[str, Json]]:
    """Return the grant, its file, and what it was made to, as JSON."""
    home = owner_home()
    seen = await looking.look(url)
    resources = client.backends.resources(seen, secrets)
    await require_stored(client, [one.label for one in seen.wanted if secrets is None or one.label in secrets])
    await client.backends.require_judgeable(seen)  # nobody is asked about a grant that would open nothing
    policy = looking.policy(seen, resources, ttl_s=ttl_s)
    # A confirmation is never requested for what is not shown.
    print_lines(*in_plain_words(seen, policy), err=shared().as_json)
    if not (yes or (looking.knows(seen) and _are_named(looking, seen, secrets))):
        confirm_seen()
    portable = await client.backends.grant(
        seen, secrets, ttl_s=ttl_s, accept=looking.accept, pin=looking.pin, wallet=home.wallet()
    )
    kept = KeptGrant(url=url, portable=portable)
    path = home.keep_grant(kept)
    words(f"granted: {portable.cid}")
    return kept, path, as_json(seen, policy)


async def require_stored(client: Client, labels: Sequence[str]) -> None:
    """Report before granting that a secret does not exist: the backend would only find out later."""
    stored: dict[str | None, set[str]] = {}
    for secret in map(parse_secret_label, labels):
        scope, name = secret.scope, secret.name
        if scope not in stored:
            stored[scope] = set(await client.secrets().list(scope=scope))
        if name not in stored[scope]:
            option = "" if scope is None else f" --scope {scope}"
            raise InvalidInput(f"there is no secret {name}{option}", hint=f"sealspace secret put {name}{option} < FILE")


def confirm_seen() -> None:
    """Ask a person whether to grant to what was shown."""
    if not watched():
        raise InvalidInput(
            "nobody is here to confirm what was seen",
            hint="name approved code with --like FILE, or whole with --expect (a compose hash needs its key provider), "
            "and its secrets with --secret; or add --yes to trust what was seen",
        )
    click.confirm("grant to exactly this?", abort=True, err=True)


def _are_named(looking: Looking, seen: Seen, secrets: tuple[str, ...] | None) -> bool:
    """Whether the owner named the secrets, now or when the code was approved: a manifest is not part of the code."""
    approved = None if looking.approved is None else looking.approved.secrets
    return secrets is not None or (approved is not None and {one.label for one in seen.wanted} <= approved)
