"""`sealspace backend show` and `grant`: what a backend runs, verified on this machine; secrets to exactly that."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

import click

from capabilities.errors import InvalidJson
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Json, parse_json
from encryption_network.errors import PolicyError
from encryption_network.policy import Policy, parse_policy
from sealspace.apps.backends import (
    Leniency,
    Pin,
    Seen,
    is_whole_code,
    is_whole_policy,
    look_at,
    policy_for,
    require_address,
    require_expected,
    require_like,
)
from sealspace.apps.descriptions import as_json, in_plain_words, run_grant_of, run_sentence
from sealspace.cli.durations import expires_option
from sealspace.cli.errors import ConfigurationError
from sealspace.cli.grant_create import hand_over_all
from sealspace.cli.node_terms import gathering
from sealspace.cli.owner_profile import at_node, owner_home
from sealspace.cli.paths import FILE, FOLDER, read_named
from sealspace.cli.shared import shared
from sealspace.cli.terminal import optional_time, print_found, print_lines, time_text, watched, words
from sealspace.client import Client
from sealspace.documents.published import Published
from sealspace.documents.run_grants import run_statement_json
from sealspace.errors import BackendNotAcceptable, InvalidInput, NotSignedIn
from sealspace.secrets import parse_secret_label
from sealspace.wire.portable import PortableDelegation

from ..attestation.inspection import CollateralFolder, FetchedCollateral, Inspector
from ..runner.calls.run_receipts import VerifiedRun
from .trust_files import read_trust_root

_SHOWN_TTL_S: Final = 86_400.0
_MAX_APPROVED_BYTES: Final = 256 * 1024


class Looking:
    """What a backend is judged by: the options of a command, else what the last login stored.

    `approved_secrets` are those that the backend asked for when its code was approved.
    """

    def __init__(
        self,
        *,
        expect: tuple[str, ...],
        like: Path | None,
        trust_root: Path | None,
        collateral: Path | None,
        accept: tuple[Leniency, ...] = (),
        pin: Pin = "compose",
        yes: bool = False,
    ) -> None:
        self.expect, self.accept, self.pin, self.yes = expect, accept, pin, yes
        self.approved, self.approved_secrets = _approved_in(like)
        with suppress(NotSignedIn):
            remembered = owner_home().profile()
            trust_root, collateral = trust_root or remembered.trust_root, collateral or remembered.collateral
        documents = FetchedCollateral() if collateral is None else CollateralFolder(collateral)
        self.inspector = Inspector(documents, root=read_trust_root(trust_root))

    async def look(self, url: str) -> Seen:
        """Inspect a backend, and refuse one that runs other code than is expected or approved."""
        words(f"asking {url} for a fresh quote, and verifying it …")
        seen = await look_at(url, self.inspector)
        self.require(seen)
        return seen

    def require(self, seen: Seen) -> None:
        """Refuse other code than is expected or approved."""
        require_expected(seen, self.expect)
        if self.approved is not None:
            require_like(seen, self.approved)

    def knows(self, seen: Seen) -> bool:
        """Whether no part of the code is left open: an open part, and its keys, could be anyone's (AT53)."""
        by_policy = self.approved is not None and is_whole_policy(seen, self.approved)
        return by_policy or is_whole_code(seen, self.expect)

    def policy(self, seen: Seen, paths: Sequence[str] = (), *, ttl_s: float) -> Policy:
        """Return the policy of a grant to what was seen."""
        return policy_for(seen, paths=paths, accept=self.accept, pin=self.pin, ttl_s=ttl_s)

    def confirm(self, seen: Seen, lines: Iterable[str], *, are_named: bool = True, err: bool = False) -> None:
        """Show what was seen, and go on only with a person's consent: nothing is confirmed that is not shown.

        With --yes nobody is asked, nor where the options name all the code, and all that is granted (`are_named`).
        """
        print_lines(*lines, err=err or shared().as_json)
        if self.yes or (self.knows(seen) and are_named):
            return
        if not watched():
            raise InvalidInput(
                "nobody is here to confirm what was seen",
                hint="name approved code with --like FILE, or whole with --expect (a compose hash needs its key "
                "provider), and its secrets with --secret; or add --yes to trust what was seen",
            )
        click.confirm("grant to exactly this?", abort=True, err=True)


def _address(url: str) -> str:
    require_address(url)
    return url


looking_options: Final = gathering(
    "looking",
    Looking,
    click.argument("url", type=_address),
    click.option(
        "--expect",
        metavar="TEXT",
        multiple=True,
        help="What the code has to be: a compose hash (64 hex digits), a measurement (96), or who gives the "
        "application its keys, as `show` prints it (`kms:<hex>`); may be repeated.",
    ),
    click.option(
        "--like",
        type=FILE,
        help="The same code as in this file, which `show --json` printed when you approved it, or a policy.",
    ),
    click.option(
        "--accept",
        type=click.Choice(get_args(Leniency)),
        multiple=True,
        help="Accept what the strict terms refuse, as it was seen and no further.",
    ),
    click.option(
        "--pin",
        type=click.Choice(get_args(Pin)),
        default="compose",
        show_default=True,
        help="What a grant names beside the image: the compose file, or this one start of it.",
    ),
    click.option(
        "--trust-root", type=FILE, help="Root certificate instead of Intel's, or of the one that the login remembered."
    ),
    click.option(
        "--collateral",
        type=FOLDER,
        help="Folder of collateral, instead of asking Intel or of the one that the login remembered.",
    ),
)
"""Adds the argument URL, and the options for what a backend is judged by; the command receives them as `looking`."""


def seen_at_start(run: VerifiedRun) -> Seen:
    """Return the runner as it was at its start, to be compared as one that is seen now."""
    start = run.start
    published = Published(nonce=b"", statement=start.statement, quote=start.quote, event_log=start.event_log)
    return Seen(url="", published=published, verified=run.runner, seen_at=parse_rfc3339(str(run.stated["at"])))


@click.command(
    "show",
    epilog="Example: `sealspace backend show https://backend.example`; with `--json > approved.json` it is kept for "
    "`grant --like approved.json`. Nobody has to be logged in.",
)
@looking_options
def show(url: str, looking: Looking) -> None:
    """Ask the backend at URL what it runs, verify its quote on this machine, and say what a grant would name.

    Nothing is granted.
    """
    seen = asyncio.run(looking.look(url))
    try:
        policy = looking.policy(seen, ttl_s=_SHOWN_TTL_S)
    except BackendNotAcceptable:
        # It is shown all the same, so that a person can read what is wrong.
        print_found(as_json(seen), in_plain_words(seen))
        raise
    shown: list[Json] = []
    lines = []
    for one in owner_home().grants_to(seen.did):
        grant = run_grant_of(one.portable)
        if grant is not None and seen.seen_at < grant.expires_at:
            shown.append({"cid": one.portable.cid, "run": run_statement_json(grant.statement)})
            secrets, until = ", ".join(secret.label for secret in grant.secrets), time_text(grant.expires_at)
            lines.append(f"you granted    {secrets} until {until}, {run_sentence(grant.statement)}")
    print_found(
        as_json(seen, policy) | ({"runGrants": shown} if seen.is_runner else {}),
        (*in_plain_words(seen, policy), *lines),
    )
    more = " --secret NAME --program DID/NAME" if seen.is_runner else ""
    words(f"to grant to exactly this: sealspace {'runner' if seen.is_runner else 'backend'} grant {url}{more}")


def _approved_in(path: Path | None) -> tuple[Policy | None, frozenset[str]]:
    """Read the output of `show --json`, or a policy alone, from a file: the policy, and the secrets beside it."""
    if path is None:
        return None, frozenset()
    try:
        value = parse_json(read_named(path, most_bytes=_MAX_APPROVED_BYTES), max_bytes=_MAX_APPROVED_BYTES)
        secrets = value.get("secrets")
        return parse_policy(value.get("policy", value)), frozenset(
            map(str, secrets if isinstance(secrets, list) else ())
        )
    except (InvalidJson, PolicyError):
        raise ConfigurationError(
            f"{path} is neither what `backend show --json` printed nor a policy",
            hint="sealspace backend show URL --json > approved.json",
        ) from None


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
    no_hand_over: bool,
) -> None:
    """Look at the backend at URL, show what it runs, and grant secrets to exactly that.

    The grant names the backend's DID and its code: whoever holds the one and does not run the other gets no key. The
    wallet signs it, and the backend receives it.
    """
    seen = await looking.look(url)
    asked_for = [one.label for one in seen.wanted]
    resources = client.backends.resources(seen, secrets or None)
    await require_stored(client, secrets or asked_for)
    await client.backends.require_judgeable(seen)  # nobody is asked about a grant that would open nothing
    policy = looking.policy(seen, resources, ttl_s=ttl_s)
    # The secrets were named, now or when the code was approved: a manifest is not part of the code.
    are_named = bool(secrets) or looking.approved_secrets.issuperset(asked_for)
    looking.confirm(seen, in_plain_words(seen, policy), are_named=are_named)
    portable = await client.backends.grant(
        seen,
        secrets or None,
        ttl_s=ttl_s,
        accept=looking.accept,
        pin=looking.pin,
        wallet=owner_home().wallet(),
    )
    kept = await deliver(url, portable, hands_over=not no_hand_over)
    print_found(kept | {"handedOver": not no_hand_over, "seen": as_json(seen, policy)}, ())


async def require_stored(client: Client, labels: Sequence[str]) -> None:
    """Report before granting that a secret does not exist: the backend would only find out later."""
    secrets = [parse_secret_label(label) for label in labels]
    stored = {scope: await client.secrets().list(scope=scope) for scope in {secret.scope for secret in secrets}}
    for secret in secrets:
        if secret.name not in stored[secret.scope]:
            named = secret.name if secret.scope is None else f"{secret.name} --scope {secret.scope}"
            raise InvalidInput(f"there is no secret {named}", hint=f"sealspace secret put {named} < FILE")


async def deliver(url: str, portable: PortableDelegation, *, hands_over: bool = True) -> dict[str, Json]:
    """Store a grant, and send it to the backend at an address; returns its id, its file and its end as JSON."""
    path = owner_home().keep_grant(portable, url=url)
    words(f"granted: {portable.cid}")
    if hands_over:
        await hand_over_all(url, [portable], kept=str(path))
    return {"granted": portable.cid, "file": str(path), "expiresAt": optional_time(portable.expires_at)}
