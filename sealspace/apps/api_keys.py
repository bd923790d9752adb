"""API keys of a runner: what lets a holder call programs in its owner's name, and at its owner's
cost (RN87, RN88).

A key is `<owner>:<nonce>:<secret>`. Its owner signs what it may do, and the SHA-256 of its secret;
whoever makes it draws the secret, and nobody else sees it. A runner keeps the signed statement and
judges by it at every use.

    {"nonce": 0…2³²-1, "secretSha256": hex64, "projects": ["<did>/<name>", …] | ["*"], "profiles": [], "maxPerCall": n,
     "expires": RFC 3339, at most 90 days ahead, "runner": DID}

Example:
    statement, credential = new_api_key(
        wallet, runner=did, projects=[project], max_per_call=10_000, expires_at=now + 86400, entropy=entropy
    )
    headers = {KEY_HEADER: credential.text}
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct, to_builtins

from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.clock_and_entropy import Entropy
from capabilities.principals import Principal, parse_principal
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Sha256Hex, parse_json

from ..documents.project_names import ProjectId, parse_project
from ..documents.secret_names import is_scope
from ..documents.signed_statements import (
    MAX_STATEMENT_BYTES,
    StatementSigner,
    read_shaped,
    sign_statement,
)
from ..errors import InvalidInput, StatementInvalid
from ..session import iso_time

KEY_TYPE: Final = "sealspace.runner.key/v1"
KEY_HEADER: Final = "X-Payment-Key"
MAX_KEY_LIFE_S: Final = 90 * 86_400.0
MAX_NAMED: Final = 64
"""Projects of a key, and profiles."""
MAX_AMOUNT: Final = 10**15
"""Micro-units of one amount, or one account: every sum of some is exact in JSON and in a database's
integers."""
DEFAULT_PROFILE: Final = "default"

_ANY_PROJECT: Final = "*"
_CLOCKS_APART_S: Final = 60.0
_MAX_OWNER_CHARS: Final = 256
_MAX_NONCE: Final = 2**32 - 1
_NONCE: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_SECRET: Final = re.compile(r"[0-9a-fA-F]{64}")
_WALLET: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_Few: TypeAlias = Annotated[list[str], Meta(max_length=MAX_NAMED)]


class _Stated(Struct, forbid_unknown_fields=True, rename="camel"):
    nonce: Annotated[int, Meta(ge=0, le=_MAX_NONCE)]
    secret_sha256: Sha256Hex
    projects: Annotated[_Few, Meta(min_length=1)]
    profiles: _Few
    max_per_call: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
    expires: str
    runner: str


@dataclass(frozen=True, slots=True)
class Credential:
    """What the holder of a key shows.

    Attributes:
        owner: whose key it is.
        nonce: which of the owner's keys.
        secret: 64 hex digits.
    """

    owner: Principal
    nonce: int
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The value of the header."""
        return f"{self.owner}:{self.nonce}:{self.secret}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What an owner states about a key; made by `read_api_key`.

    Attributes:
        owner: who signed; calls are in its name and at its cost.
        nonce: which of the owner's keys.
        secret_sha256: of the secret's 64 lower-case digits, as hex.
        projects: that it calls; None: any.
        profiles: whose secrets it may ask for, by name; `default` is one of them.
        max_per_call: micro-units.
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
        """Return whether a secret is this key's, in constant time."""
        return hmac.compare_digest(self.secret_sha256, _hash(credential.secret))

    def calls(self, project: ProjectId) -> bool:
        """Return whether the key is for a project."""
        return self.projects is None or project in self.projects


def parse_owner(text: str) -> Principal:
    """Read an owner as a key or an address of the HTTPS API names it: a DID, or `0x…` for a wallet
    on Ethereum.

    Raises:
        InvalidInput: it is neither.
    """
    did = f"did:pkh:eip155:1:{text}" if _WALLET.fullmatch(text) else text
    with suppress(CapabilityError):
        if len(did) <= _MAX_OWNER_CHARS and "#" not in did:
            return parse_principal(did)
    raise InvalidInput("an owner is named by its DID, or by 0x and 40 hex digits")


def parse_credential(text: str) -> Credential:
    """Read a key as its holder shows it; it is split from the right, because a DID has colons.

    Raises:
        InvalidInput: it has not three parts, or one is not what it should be; nothing of it is in
            the text.
    """
    parts = text.rsplit(":", 2) if len(text) <= _MAX_OWNER_CHARS + 80 else ()
    if len(parts) != 3:
        raise InvalidInput("an API key is <owner>:<nonce>:<secret>")
    owner, nonce, secret = parts
    if _NONCE.fullmatch(nonce) is None or int(nonce) > _MAX_NONCE:
        raise InvalidInput("the nonce of an API key is a decimal number of 32 bits")
    if _SECRET.fullmatch(secret) is None:
        raise InvalidInput("the secret of an API key has 64 hex digits")
    return Credential(parse_owner(owner), int(nonce), secret.lower())


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
    """Draw a key, and sign what it may do.

    Args:
        signer: the owner's key or wallet.
        runner: its DID; the key is good there alone.
        projects: 1 to MAX_NAMED; None: any.
        profiles: at most MAX_NAMED.
        max_per_call: micro-units.
        expires_at: epoch seconds.
        entropy: for nonce and secret.
    Returns:
        The statement for the runner, and the key, which nobody can show again.
    Raises:
        InvalidInput, StatementInvalid: an argument is out of its bounds.
    """
    secret = entropy.token(32).hex()
    nonce = int.from_bytes(entropy.token(4))
    if projects is not None and not 1 <= len(projects) <= MAX_NAMED:
        raise InvalidInput(f"a key names 1 to {MAX_NAMED} projects, or is for any")
    if len(profiles) > MAX_NAMED or not all(map(_is_profile, profiles)):
        raise InvalidInput(
            f"a key names at most {MAX_NAMED} profiles: `default`, or lower-case letters and dashes"
        )
    if not 0 <= max_per_call <= MAX_AMOUNT:
        raise InvalidInput(f"a call costs 0 to {MAX_AMOUNT} micro-units")
    named = [_ANY_PROJECT] if projects is None else [one.text for one in projects]
    stated = _Stated(
        nonce, _hash(secret), named, [*profiles], max_per_call, iso_time(expires_at), runner
    )
    statement = sign_statement(KEY_TYPE, to_builtins(stated), signer)
    return statement, Credential(signer_of(statement), nonce, secret)


def signer_of(statement: bytes) -> Principal:
    """Return who a statement says signed it; nothing is verified.

    Raises:
        StatementInvalid: it names nobody.
    """
    try:
        signer = parse_json(statement, max_bytes=MAX_STATEMENT_BYTES).get("signer")
        return parse_principal(signer if isinstance(signer, str) else "")
    except (InvalidJson, CapabilityError) as exc:
        raise StatementInvalid("the statement names no signer") from exc


def read_api_key(statement: bytes, *, owner: str, runner: str, now: float) -> ApiKey:
    """Read what an owner signed about a key, untrusted (RN87).

    Args:
        statement: from anywhere.
        owner: who has to have signed it.
        runner: whom it has to be for.
        now: epoch seconds.
    Raises:
        StatementInvalid: anything does not hold, or the key has ended.
    Does not check:
        Whether it was revoked, and the secret: see `ApiKey.is_of`.
    """
    stated = read_shaped(statement, KEY_TYPE, _Stated, signer=owner)
    if stated.runner != runner:
        raise StatementInvalid("the key is for another runner")
    for texts in (stated.projects, stated.profiles):
        if len(set(texts)) != len(texts):
            raise StatementInvalid("the key names a project or a profile twice")
    if not all(map(_is_profile, stated.profiles)):
        raise StatementInvalid("the key names a profile that is none")
    try:
        expires_at = parse_rfc3339(stated.expires)
        # To be for any project is said, not left out.
        projects = (
            None
            if stated.projects == [_ANY_PROJECT]
            else tuple(map(parse_project, stated.projects))
        )
    except (CapabilityError, InvalidInput) as exc:
        raise StatementInvalid("a member of the key is not what it should be") from exc
    if not now < expires_at <= now + MAX_KEY_LIFE_S + _CLOCKS_APART_S:
        raise StatementInvalid("the key has ended, or is for more than 90 days")
    return ApiKey(
        owner=parse_principal(owner),
        nonce=stated.nonce,
        secret_sha256=stated.secret_sha256,
        projects=projects,
        profiles=tuple(stated.profiles),
        max_per_call=stated.max_per_call,
        expires_at=expires_at,
    )


def _is_profile(name: str) -> bool:
    return name == DEFAULT_PROFILE or (len(name) <= MAX_NAMED and is_scope(name))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
