"""API keys for calls to programs on a runner.

A key is a bearer credential, `<owner>:<nonce>:<secret>` (RN87, RN88). Calls are charged to its
owner, who signs a statement with the key's rights and the SHA-256 of its secret. The maker of the
key draws the secret and shows it once. A runner stores the signed statement and checks it on every
use.

    {"nonce": 0…2³²-1, "secretSha256": hex64, "projects": ["<did>/<name>", …] | ["*"],
     "profiles": [], "maxPerCall": n, "expires": RFC 3339, at most 90 days ahead, "runner": DID}

Example:
    statement, credential = new_api_key(
        wallet, runner=did, projects=[project], max_per_call=10_000, expires_at=now + 86400,
        entropy=entropy,
    )
    headers = {KEY_HEADER: credential.text}
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field
from typing import Annotated

from msgspec import Meta, to_builtins

from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.clock_and_entropy import Entropy
from capabilities.frozen import frozen
from capabilities.principals import Principal, parse_principal
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Sha256Hex, StrictStruct, parse_json

from ..documents.project_names import ProjectId, parse_project
from ..documents.secret_names import scope_of_profile
from ..documents.signed_statements import (
    MAX_STATEMENT_BYTES,
    StatementSigner,
    read_shaped,
    sign_statement,
)
from ..errors import InvalidInput, StatementInvalid
from ..session import iso_time

KEY_TYPE = "sealspace.runner.key/v1"
KEY_HEADER = "X-Payment-Key"
MAX_KEY_LIFE_S = 90 * 86_400.0
MAX_NAMED = 64
"""Most projects of a key, and most profiles."""
MAX_AMOUNT = 10**15
"""Largest amount or account in micro-units; sums of some stay exact in JSON and in a database."""

_ANY_PROJECT = "*"
_CLOCKS_APART_S = 60.0
_MAX_OWNER_CHARS = 256
_MAX_CREDENTIAL_CHARS = _MAX_OWNER_CHARS + 80  # beside the owner: a nonce, a secret and two colons
_MAX_NONCE = 2**32 - 1
_NONCE = re.compile(r"0|[1-9][0-9]{0,9}")
_SECRET = re.compile(r"[0-9a-fA-F]{64}")
_WALLET = re.compile(r"0x[0-9a-fA-F]{40}")
_Few = Annotated[list[str], Meta(max_length=MAX_NAMED)]


class _Stated(StrictStruct, rename="camel"):
    nonce: Annotated[int, Meta(ge=0, le=_MAX_NONCE)]
    secret_sha256: Sha256Hex
    projects: Annotated[_Few, Meta(min_length=1)]
    profiles: _Few
    max_per_call: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
    expires: str
    runner: str


@frozen
class Credential:
    """The bearer credential of an API key.

    Attributes:
        owner: DID of the key's owner.
        nonce: number of the key among the owner's keys.
        secret: 64 hex digits.
    """

    owner: Principal
    nonce: int
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The credential as the value of an HTTP header."""
        return f"{self.owner}:{self.nonce}:{self.secret}"


@frozen(kw_only=True)
class ApiKey:
    """The verified rights and limits of an API key.

    `read_api_key` returns them from the owner's signed statement.

    Attributes:
        owner: DID of the signer; calls are in its name and at its cost.
        nonce: number of the key among the owner's keys.
        secret_sha256: SHA-256, in hex, of the secret's 64 lower-case digits.
        projects: projects that the key may call; None: any.
        profiles: names of the profiles whose secrets a call may use, such as `default`.
        max_per_call: most that one call may cost, micro-units.
        expires_at: epoch seconds.
    """

    owner: Principal
    nonce: int
    secret_sha256: str
    projects: tuple[ProjectId, ...] | None
    profiles: tuple[str, ...]
    max_per_call: int
    expires_at: float

    def is_of(self, credential: Credential) -> bool:
        """Return whether a credential contains the secret of this API key.

        The comparison takes constant time.
        """
        return hmac.compare_digest(self.secret_sha256, _hash(credential.secret))

    def calls(self, project: ProjectId) -> bool:
        """Return whether the key permits calls to a project's programs."""
        return self.projects is None or project in self.projects


def parse_owner(text: str) -> Principal:
    """Parse a DID or the address of an Ethereum wallet.

    The address begins with `0x`.

    Raises:
        InvalidInput: the text is neither.
    """
    did = f"did:pkh:eip155:1:{text}" if _WALLET.fullmatch(text) else text
    with suppress(CapabilityError):
        if len(did) <= _MAX_OWNER_CHARS and "#" not in did:
            return parse_principal(did)
    raise InvalidInput("the owner must be a DID, or 0x and 40 hex digits")


def parse_credential(text: str) -> Credential:
    """Parse the bearer credential of an API key.

    The text is split from the right, because a DID contains colons.

    Raises:
        InvalidInput: the text does not have three valid parts; the message contains none of it.
    """
    parts: list[str] = []
    if len(text) <= _MAX_CREDENTIAL_CHARS:
        parts = text.rsplit(":", 2)
    if len(parts) != 3:
        raise InvalidInput("the API key must have the form <owner>:<nonce>:<secret>")
    owner, nonce, secret = parts
    if _NONCE.fullmatch(nonce) is None or int(nonce) > _MAX_NONCE:
        raise InvalidInput(
            f"the nonce of the API key must be a decimal number from 0 to {_MAX_NONCE}"
        )
    if _SECRET.fullmatch(secret) is None:
        raise InvalidInput("the secret of the API key must be 64 hex digits")
    return Credential(owner=parse_owner(owner), nonce=int(nonce), secret=secret.lower())


def new_api_key(
    signer: StatementSigner,
    *,
    runner: str,
    projects: Sequence[ProjectId] | None,
    profiles: Sequence[str] = (),
    max_per_call: int,
    expires_at: float,
    entropy: Entropy,
) -> tuple[bytes, Credential]:
    """Create an API key with a signed list of its rights.

    Args:
        signer: the owner's key or wallet.
        runner: DID of the only runner where the key is valid.
        projects: 1 to MAX_NAMED projects; None: any project.
        profiles: names of profiles, at most MAX_NAMED.
        max_per_call: most that one call may cost, micro-units.
        expires_at: epoch seconds.
        entropy: source of nonce and secret.
    Returns:
        The statement for the runner, and the key, which cannot be shown again.
    Raises:
        InvalidInput, StatementInvalid: an argument is out of its bounds.
    """
    secret = entropy.token(32).hex()
    nonce = int.from_bytes(entropy.token(4))
    if projects is not None and not 1 <= len(projects) <= MAX_NAMED:
        raise InvalidInput(f"an API key must list 1 to {MAX_NAMED} projects, or allow any project")
    if len(profiles) > MAX_NAMED:
        raise InvalidInput(f"an API key can have at most {MAX_NAMED} profiles")
    for profile in profiles:
        scope_of_profile(profile)  # raises for a malformed name
    if not 0 <= max_per_call <= MAX_AMOUNT:
        raise InvalidInput(f"the cost limit for one call must be 0 to {MAX_AMOUNT} micro-units")
    project_texts = [_ANY_PROJECT] if projects is None else [project.text for project in projects]
    stated = _Stated(
        nonce=nonce,
        secret_sha256=_hash(secret),
        projects=project_texts,
        profiles=list(profiles),
        max_per_call=max_per_call,
        expires=iso_time(expires_at),
        runner=runner,
    )
    statement = sign_statement(KEY_TYPE, to_builtins(stated), signer)
    return statement, Credential(owner=signer_of(statement), nonce=nonce, secret=secret)


def signer_of(statement: bytes) -> Principal:
    """Return the unverified DID of a statement's signer.

    Raises:
        StatementInvalid: the statement names no signer.
    """
    try:
        signer = parse_json(statement, max_bytes=MAX_STATEMENT_BYTES).get("signer")
        return parse_principal(signer if isinstance(signer, str) else "")
    except (InvalidJson, CapabilityError) as exc:
        raise StatementInvalid(
            "the signed statement about the API key has no valid `signer`"
        ) from exc


def read_api_key(statement: bytes, *, owner: str, runner: str, now: float) -> ApiKey:
    """Verify an owner's signed statement about an API key (RN87).

    Args:
        statement: the signed statement, untrusted.
        owner: DID that must have signed it.
        runner: DID of the runner that it must name.
        now: epoch seconds.
    Raises:
        StatementInvalid: the statement or its signature is not valid, or the key has expired.
    Does not check:
        Revocation, and the secret: see `ApiKey.is_of`.
    """
    stated = read_shaped(statement, KEY_TYPE, _Stated, signer=owner)
    if stated.runner != runner:
        raise StatementInvalid("the API key is for another runner")
    for texts in (stated.projects, stated.profiles):
        if len(set(texts)) != len(texts):
            raise StatementInvalid("the API key lists a project or a profile twice")
    try:
        for profile in stated.profiles:
            scope_of_profile(profile)  # raises for a malformed name
        expires_at = parse_rfc3339(stated.expires)
        # "*" is explicit: an empty or missing list must not mean any project.
        projects = None
        if stated.projects != [_ANY_PROJECT]:
            projects = tuple(map(parse_project, stated.projects))
    except (CapabilityError, InvalidInput) as exc:
        raise StatementInvalid(
            "the API key has an invalid project, profile, expiry time or owner"
        ) from exc
    if not now < expires_at <= now + MAX_KEY_LIFE_S + _CLOCKS_APART_S:
        raise StatementInvalid("the API key has expired, or is valid for more than 90 days")
    return ApiKey(
        owner=parse_principal(owner),
        nonce=stated.nonce,
        secret_sha256=stated.secret_sha256,
        projects=projects,
        profiles=tuple(stated.profiles),
        max_per_call=stated.max_per_call,
        expires_at=expires_at,
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
