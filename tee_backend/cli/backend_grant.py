"""`sealspace backend grant`: secrets to exactly the code that a backend proves to run."""

from collections.abc import Iterable, Sequence
from typing import Final

import click

from capabilities.strict_json import Json
from sealspace.apps.descriptions import as_json, in_plain_words
from sealspace.cli.durations import ttl_s_of
from sealspace.cli.grant_create import hand_over_all
from sealspace.cli.owner_profile import KeptGrant, at_node, owner_home
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_json, print_lines, time_text, watched, words
from sealspace.client import Client
from sealspace.errors import InvalidInput
from sealspace.secrets import parse_secret_label
from sealspace.wire.portable import PortableDelegation

from .backend_show import Looking, looking_options

expires_option: Final = click.option(
    "--expires",
    "ttl_s",
    metavar="TIME",
    type=ttl_s_of,
    default="7d",
    show_default=True,
    help="How long the grant lasts: 30m, 12h, 90d.",
)
yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask; what was seen is granted to, whatever it is.")


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
@expires_option
@yes_option
@click.option("--no-hand-over", is_flag=True, help="Keep the grant's file; do not send it to the backend.")
@looking_options
@at_node
async def grant(
    client: Client,
    url: str,
    looking: Looking,
    secrets: tuple[str, ...],
    ttl_s: float,
    yes: bool,
    no_hand_over: bool,
) -> None:
    """Look at the backend at URL, show what it runs, and grant secrets to exactly that.

    The grant names the backend's DID and its code: whoever holds the one and does not run the other gets no key. The
    wallet signs it, and the backend receives it.
    """
    seen = await looking.look(url)
    asked_for = [one.label for one in seen.wanted]
    resources = client.backends.resources(seen, secrets or None)
    await require_stored(client, [one for one in asked_for if not secrets or one in secrets])
    await client.backends.require_judgeable(seen)  # nobody is asked about a grant that would open nothing
    policy = looking.policy(seen, resources, ttl_s=ttl_s)
    # The secrets were named, now or when the code was approved: a manifest is not part of the code.
    are_named = bool(secrets) or looking.approved_secrets.issuperset(asked_for)
    confirm_shown(in_plain_words(seen, policy), yes=yes or (looking.knows(seen) and are_named))
    portable = await client.backends.grant(
        seen,
        secrets or None,
        ttl_s=ttl_s,
        accept=looking.accept,
        pin=looking.pin,
        wallet=owner_home().wallet(),
    )
    kept = await deliver(url, portable, hands_over=not no_hand_over)
    if shared().as_json:
        ends = None if portable.expires_at is None else time_text(portable.expires_at)
        print_json(kept | {"expiresAt": ends, "handedOver": not no_hand_over, "seen": as_json(seen, policy)})


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


def confirm_shown(lines: Iterable[str], *, yes: bool, err: bool = False) -> None:
    """Show what was seen, and go on only with a person's consent: nothing is confirmed that is not shown."""
    print_lines(*lines, err=err or shared().as_json)
    if yes:
        return
    if not watched():
        raise InvalidInput(
            "nobody is here to confirm what was seen",
            hint="name approved code with --like FILE, or whole with --expect (a compose hash needs its key provider), "
            "and its secrets with --secret; or add --yes to trust what was seen",
        )
    click.confirm("grant to exactly this?", abort=True, err=True)


async def deliver(url: str, portable: PortableDelegation, *, hands_over: bool = True) -> dict[str, Json]:
    """Store a grant, and send it to the backend at an address; returns its id and its file as JSON."""
    path = owner_home().keep_grant(KeptGrant(url=url, portable=portable))
    words(f"granted: {portable.cid}")
    if hands_over:
        await hand_over_all(url, [portable], kept=str(path))
    return {"granted": portable.cid, "file": str(path)}
