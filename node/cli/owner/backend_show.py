"""`sealspace backend show`: what a backend runs, verified on this machine, in plain words."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from capabilities.errors import InvalidJson
from capabilities.strict_json import parse_json
from encryption_network.errors import PolicyError
from encryption_network.policy import Policy, parse_policy
from sealspace.backend_words import as_json, in_plain_words
from sealspace.backends import (
    EvidenceVerifier,
    Leniency,
    Pin,
    Seen,
    look_at,
    policy_for,
    require_address,
    require_expected,
    require_like,
)
from sealspace.errors import BackendNotAcceptable
from tee_backend.inspection import CollateralFolder, FetchedCollateral, Inspector

from ...errors import ConfigurationError, NotSignedIn
from ...term_files import read_trust_root
from ..paths import FILE, FOLDER
from ..terminal import print_found, words
from .owner_profile import OwnerHome, Profile, owner_home

LENIENCIES: Final[tuple[Leniency, ...]] = ("tcb-status", "advisories", "attributes")
PINS: Final[tuple[Pin, ...]] = ("compose", "instance")
_SHOWN_TTL_S: Final = 86_400.0
_MAX_APPROVED_BYTES: Final = 256 * 1024

Command = TypeVar("Command", bound=Callable[..., Any])


def looking_options(command: Command) -> Command:
    """Add the options that set what a backend is judged by."""
    options = (
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
            "--trust-root",
            type=FILE,
            help="Root certificate instead of Intel's, or of the one that the login remembered.",
        ),
        click.option(
            "--collateral",
            type=FOLDER,
            help="Folder of collateral, instead of asking Intel or of the one that the login remembered.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    "show",
    epilog="Example: `sealspace backend show https://backend.example`; with `--json > approved.json` it is kept for "
    "`grant --like approved.json`. Nobody has to be logged in.",
)
@click.argument("url")
@looking_options
def show(
    url: str,
    expect: tuple[str, ...],
    like: Path | None,
    accept: tuple[Leniency, ...],
    pin: Pin,
    trust_root: Path | None,
    collateral: Path | None,
) -> None:
    """Ask the backend at URL what it runs, verify its quote on this machine, and say what a grant would name.

    Nothing is granted.
    """
    require_address(url)
    inspector = inspector_for(owner_home(), trust_root=trust_root, collateral=collateral)
    approved = None if like is None else approved_in(like)
    seen = asyncio.run(look(url, inspector))
    require_expected(seen, expect)
    if approved is not None:
        require_like(seen, approved.policy)
    try:
        policy = policy_for(seen, accept=accept, pin=pin, ttl_s=_SHOWN_TTL_S)
    except BackendNotAcceptable as refusal:
        # It is shown all the same, so that a person can read what is wrong.
        print_found(as_json(seen), in_plain_words(seen))
        raise refusal from None
    print_found(as_json(seen, policy), in_plain_words(seen, policy))
    words(f"to grant to exactly this: sealspace backend grant {url}")


async def look(url: str, inspector: EvidenceVerifier) -> Seen:
    """Inspect a backend, and report that on the terminal meanwhile."""
    words(f"asking {url} for a fresh quote, and verifying it …")
    return await look_at(url, inspector)


@dataclass(frozen=True, slots=True)
class Approved:
    """What an owner approved before.

    Attributes:
        policy: lists measurements.
        secrets: labels of what the backend asked for then; None: a policy alone, which names none.
    """

    policy: Policy
    secrets: frozenset[str] | None


def approved_in(path: Path) -> Approved:
    """Read the output of `show --json`, or a policy alone, from a file.

    Raises:
        ConfigurationError: unreadable, or neither of the two.
    """
    try:
        with path.open("rb") as stream:
            value = parse_json(stream.read(_MAX_APPROVED_BYTES + 1), max_bytes=_MAX_APPROVED_BYTES)
        secrets = value.get("secrets")
        asked_for = frozenset(map(str, secrets)) if isinstance(secrets, list) else None
        return Approved(parse_policy(value.get("policy", value)), asked_for)
    except (OSError, InvalidJson, PolicyError):
        raise ConfigurationError(
            f"{path} is neither what `backend show --json` printed nor a policy",
            hint="sealspace backend show URL --json > approved.json",
        ) from None


def inspector_for(home: OwnerHome, *, trust_root: Path | None, collateral: Path | None) -> EvidenceVerifier:
    """Return the verifier for the owner's options, or else for what the last login stored.

    Raises:
        ConfigurationError: the trust root is not a root certificate.
    """
    remembered = _remembered(home)
    root_file = trust_root or (None if remembered is None else remembered.trust_root)
    folder = collateral or (None if remembered is None else remembered.collateral)
    root = None if root_file is None else read_trust_root(root_file)
    return Inspector(FetchedCollateral() if folder is None else CollateralFolder(folder), root=root)


def _remembered(home: OwnerHome) -> Profile | None:
    try:
        return home.profile()
    except NotSignedIn:
        return None
