"""`sealspace backend show`: what a backend runs, verified on this machine, in plain words."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from capabilities.errors import InvalidJson
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
from sealspace.cli.errors import ConfigurationError
from sealspace.cli.owner_profile import owner_home
from sealspace.cli.paths import FILE, FOLDER, read_named
from sealspace.cli.terminal import print_found, time_text, words
from sealspace.documents.run_grants import RunGrant, run_statement_json
from sealspace.errors import BackendNotAcceptable, NotSignedIn

from ..attestation.inspection import CollateralFolder, FetchedCollateral, Inspector
from .trust_files import read_trust_root

LENIENCIES: Final[tuple[Leniency, ...]] = ("tcb-status", "advisories", "attributes")
PINS: Final[tuple[Pin, ...]] = ("compose", "instance")
_SHOWN_TTL_S: Final = 86_400.0
_MAX_APPROVED_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """What a backend is judged by; `approved_secrets` are those that it asked for when its code was approved."""

    expect: tuple[str, ...]
    approved: Policy | None
    approved_secrets: frozenset[str]
    accept: tuple[Leniency, ...]
    pin: Pin
    inspector: Inspector

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


_OPTIONS: Final = (
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
        type=click.Choice(LENIENCIES),
        multiple=True,
        help="Accept what the strict terms refuse, as it was seen and no further.",
    ),
    click.option(
        "--pin",
        type=click.Choice(PINS),
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


def looking_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument URL and the options for what a backend is judged by, which the command receives as `looking`."""

    @wraps(command)
    def with_looking(
        url: str,
        expect: tuple[str, ...],
        like: Path | None,
        trust_root: Path | None,
        collateral: Path | None,
        accept: tuple[Leniency, ...],
        pin: Pin,
        **others: Any,
    ) -> object:
        require_address(url)
        looking = judged_by(expect, like, trust_root, collateral, accept=accept, pin=pin)
        return command(url=url, looking=looking, **others)

    with_options: Callable[..., Any] = with_looking
    for option in reversed((click.argument("url"), *_OPTIONS)):
        with_options = option(with_options)
    return with_options


def judged_by(
    expect: tuple[str, ...],
    like: Path | None,
    trust_root: Path | None,
    collateral: Path | None,
    *,
    accept: tuple[Leniency, ...] = (),
    pin: Pin = "compose",
) -> Looking:
    """Return what code is judged by, from the options of a command; else from what the last login stored."""
    approved, secrets = (None, frozenset[str]()) if like is None else _approved_in(like)
    with suppress(NotSignedIn):
        remembered = owner_home().profile()
        trust_root, collateral = trust_root or remembered.trust_root, collateral or remembered.collateral
    documents = FetchedCollateral() if collateral is None else CollateralFolder(collateral)
    return Looking(
        expect=expect,
        approved=approved,
        approved_secrets=secrets,
        accept=accept,
        pin=pin,
        inspector=Inspector(documents, root=read_trust_root(trust_root)),
    )


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
    except BackendNotAcceptable as refusal:
        # It is shown all the same, so that a person can read what is wrong.
        print_found(as_json(seen), in_plain_words(seen))
        raise refusal from None
    granted = _granted_to(seen)
    shown: list[Json] = [{"cid": cid, "run": run_statement_json(one.statement)} for cid, one in granted]
    lines = [f"you granted    {_grant_words(one)}" for _, one in granted]
    print_found(
        as_json(seen, policy) | ({"runGrants": shown} if seen.is_runner else {}),
        (*in_plain_words(seen, policy), *lines),
    )
    more = " --secret NAME --program DID/NAME" if seen.is_runner else ""
    words(f"to grant to exactly this: sealspace {'runner' if seen.is_runner else 'backend'} grant {url}{more}")


def _granted_to(seen: Seen) -> list[tuple[str, RunGrant]]:
    """Return the run grants to this DID that were made from here and have not ended, by their ids."""
    kept = [(one.portable.cid, run_grant_of(one.portable)) for one in owner_home().grants_to(seen.did)]
    return [(cid, one) for cid, one in kept if one is not None and seen.seen_at < one.expires_at]


def _grant_words(grant: RunGrant) -> str:
    secrets = ", ".join(one.label for one in grant.secrets)
    return f"{secrets} until {time_text(grant.expires_at)}, {run_sentence(grant.statement)}"


def _approved_in(path: Path) -> tuple[Policy, frozenset[str]]:
    """Read the output of `show --json`, or a policy alone, from a file: the policy, and the secrets beside it."""
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
