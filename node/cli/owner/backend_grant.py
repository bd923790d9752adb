"""`sealspace backend grant`: secrets to exactly the code that a backend proves to run."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from sealspace.backend_words import as_json, in_plain_words
from sealspace.backends import (
    EvidenceVerifier,
    Leniency,
    Pin,
    Seen,
    WantedSecret,
    hand_over,
    is_whole_code,
    is_whole_policy,
    policy_for,
    require_address,
    require_expected,
    require_like,
)
from sealspace.client import Client
from sealspace.errors import BackendError, InvalidInput

from ..shared import shared
from ..terminal import print_json, print_lines, time_text, watched, words
from .backend_show import Approved, approved_in, inspector_for, look, looking_options
from .durations import ttl_s_of
from .owner_profile import KeptGrant, OwnerHome, owner_home


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameters:
    """The parameters of the owner's command."""

    url: str
    secrets: tuple[str, ...] | None
    expect: tuple[str, ...]
    approved: Approved | None
    accept: tuple[Leniency, ...]
    pin: Pin
    ttl_s: float
    is_sure: bool
    hands_over: bool


@click.command(
    "grant",
    epilog="Examples: `sealspace backend grant https://backend.example` shows what it found and asks. With `--like "
    "approved.json`, which `show --json` printed when you approved the code, it does not ask, and grants only to that "
    "and what it asked for then; nor does it ask where `--expect` names MRTD, RTMR0 to RTMR2, and RTMR3 or the compose "
    "hash and the key provider, and `--secret` what is granted.",
)
@click.argument("url")
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
def grant(
    url: str,
    secrets: tuple[str, ...],
    expires: str,
    yes: bool,
    no_hand_over: bool,
    expect: tuple[str, ...],
    like: Path | None,
    accept: tuple[Leniency, ...],
    pin: Pin,
    trust_root: Path | None,
    collateral: Path | None,
) -> None:
    """Look at the backend at URL, show what it runs, and grant secrets to exactly that.

    The grant names the backend's DID and its code: whoever holds the one and does not run the other gets no key. The
    wallet signs it, and the backend receives it.
    """
    require_address(url)
    asked = _Parameters(
        url=url,
        secrets=secrets or None,
        expect=expect,
        approved=None if like is None else approved_in(like),
        accept=accept,
        pin=pin,
        ttl_s=ttl_s_of(expires),
        is_sure=yes,
        hands_over=not no_hand_over,
    )
    place = owner_home()
    place.profile()  # an owner who is not logged in need not wait for a quote
    inspector = inspector_for(place, trust_root=trust_root, collateral=collateral)
    asyncio.run(_grant(place, asked, inspector, json=shared().as_json))


async def _grant(home: OwnerHome, asked: _Parameters, inspector: EvidenceVerifier, *, json: bool) -> None:
    async with home.client() as client:
        seen = await look(asked.url, inspector)
        require_expected(seen, asked.expect)
        if asked.approved is not None:
            require_like(seen, asked.approved.policy)
        resources = client.backends.resources(seen, asked.secrets)
        await _require_stored(
            client, [one for one in seen.wanted if asked.secrets is None or one.label in asked.secrets]
        )
        await client.backends.require_judgeable(seen)  # nobody is asked about a grant that would open nothing
        policy = policy_for(seen, paths=resources, accept=asked.accept, pin=asked.pin, ttl_s=asked.ttl_s)
        print_lines(*in_plain_words(seen, policy), err=json)  # a confirmation is never requested for what is not shown
        _confirm(asked, seen)
        portable = await client.backends.grant(
            seen, asked.secrets, ttl_s=asked.ttl_s, accept=asked.accept, pin=asked.pin, wallet=home.wallet()
        )
        path = home.keep_grant(KeptGrant(url=asked.url, portable=portable))
        words(f"granted: {portable.cid}")
        if asked.hands_over:
            await _hand_over(asked.url, KeptGrant(url=asked.url, portable=portable), path)
        if json:
            ends = None if portable.expires_at is None else time_text(portable.expires_at)
            shown = {"granted": portable.cid, "file": str(path), "expiresAt": ends}
            print_json({**shown, "handedOver": asked.hands_over, "seen": as_json(seen, policy)})


async def _hand_over(url: str, kept: KeptGrant, path: Path) -> None:
    try:
        await hand_over(url, kept.portable)
    except BackendError as refusal:
        refusal.hint = f"the grant stands; hand over {path}, or end it: sealspace backend revoke {url}"
        raise
    words("handed over: the backend took it up")


async def _require_stored(client: Client, wanted: Sequence[WantedSecret]) -> None:
    """Report before granting that a secret does not exist: the backend would only find out later."""
    stored: dict[str | None, set[str]] = {}
    for scope, name in (_parts(one.label) for one in wanted):
        if scope not in stored:
            stored[scope] = set(await client.secrets().list(scope=scope))
        if name not in stored[scope]:
            option = "" if scope is None else f" --scope {scope}"
            raise InvalidInput(f"there is no secret {name}{option}", hint=f"sealspace secret put {name}{option} < FILE")


def _parts(label: str) -> tuple[str | None, str]:
    """Return scope and name of a secret's label."""
    scope, _, name = label.rpartition("/")
    return scope or None, name


def _confirm(asked: _Parameters, seen: Seen) -> None:
    """Ask for confirmation, unless the owner already knows all the code that runs there, and named what it may read."""
    if asked.is_sure or (_is_known(asked, seen) and _are_named(asked, seen)):
        return
    if not watched():
        raise InvalidInput(
            "nobody is here to confirm what was seen",
            hint="name approved code with --like FILE, or whole with --expect (a compose hash needs its key provider), "
            "and its secrets with --secret; or add --yes to trust what was seen",
        )
    click.confirm("grant to exactly this?", abort=True, err=True)


def _is_known(asked: _Parameters, seen: Seen) -> bool:
    """Whether no part of the code is left open: an open part, and its keys, could be anyone's (AT53)."""
    by_policy = asked.approved is not None and is_whole_policy(seen, asked.approved.policy)
    return by_policy or is_whole_code(seen, asked.expect)


def _are_named(asked: _Parameters, seen: Seen) -> bool:
    """Whether the owner named the secrets, now or when the code was approved: a manifest is not part of the code."""
    approved = None if asked.approved is None else asked.approved.secrets
    return asked.secrets is not None or (approved is not None and {one.label for one in seen.wanted} <= approved)
