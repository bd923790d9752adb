"""Secrets that are made inside the trust domain: drawn, tagged, sealed and written, and never shown (RN140 to RN151).

    body -> who asks: the owner alone -> the token is used up -> the grant that names exactly these paths
         -> for each: draw, tag, seal to the owner's network `protected`, write where nothing is -> statement

Each has a tag, which a run demands of it: see `secret_tags`. What was made is stated with the receipt key, so that an
owner can tell that the code which the start's quote names made it.

Example:
    made = await maker.make(authorization, sign_in, body)
"""

import hashlib
import logging
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import libipld
import msgspec

from capabilities.ambient import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.errors import CapabilityError, InvalidJson
from capabilities.principals import Principal, parse_principal, same_principal
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json, parse_json
from sealspace.documents.generated_secrets import (
    DEFAULT_PROFILE,
    GENERATE,
    MAX_GENERATED,
    checked_generated_name,
    checked_generation_type,
    read_generation_grant,
)
from sealspace.documents.secret_names import SecretName, is_scope
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import (
    InvalidInput,
    InvalidPortableDelegation,
    NetworkNotFound,
    NotGranted,
    PreconditionFailed,
    SealspaceError,
    StatementInvalid,
    Unauthorized,
)
from sealspace.secrets import Generated
from sealspace.session import Grant, iso_time

from ...backend import Backend
from ..reasons import REASONS, RunRefused
from .run_receipts import BoundVerifier, VerifiedRun, verify_signed
from .secret_tags import SecretTags
from .service import Runner

MAX_GENERATION_BODY_BYTES: Final = 16 * 1024
GENERATED_TYPE: Final = "sealspace.run.generated/v1"

_MEMBERS: Final = frozenset({"token", "owner", "profile", "secrets", "runner", "start", "at"})
_ALPHABET: Final = string.ascii_letters + string.digits
_FAIR: Final = 256 - 256 % len(_ALPHABET)
_PASSWORD_CHARS: Final = 32
_HEX_BYTES: Final[Mapping[str, int]] = {"hex16": 16, "hex32": 32, "hex64": 64, "ed25519_seed": 32}
_log = logging.getLogger(__name__)


def drawn(kind: str, entropy: Entropy) -> str:
    """Return a new value of a type (RN141).

    Args:
        kind: checked.
        entropy: inside a trust domain one that the host cannot foresee.
    """
    if kind in _HEX_BYTES:
        return entropy.token(_HEX_BYTES[kind]).hex()
    if kind == "ed25519":
        return "ed25519:" + str(libipld.encode_multibase("z", entropy.token(32)))[1:]
    chars = int(kind.partition(":")[2] or _PASSWORD_CHARS)
    found = ""
    while len(found) < chars:  # bytes beyond the last whole alphabet would make its first characters likelier
        found += "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in entropy.token(2 * chars) if byte < _FAIR)
    return found[:chars]


@dataclass(frozen=True, slots=True)
class GenerationBody:
    """What is asked for."""

    owner: Principal
    scope: str | None
    wanted: Mapping[SecretName, str]


def parse_generation(data: bytes) -> GenerationBody:
    """Read a body, untrusted."""
    if len(data) > MAX_GENERATION_BODY_BYTES:
        raise RunRefused("input-too-large")
    try:
        value = parse_json(data, max_bytes=MAX_GENERATION_BODY_BYTES)
    except (InvalidJson, ValueError, RecursionError) as exc:
        raise RunRefused("request-invalid", "body") from exc
    if value.keys() != {"owner", "profile", "new_secrets"}:
        raise RunRefused("request-invalid", "no object of the members that are known")
    owner, profile, items = value["owner"], value["profile"], value["new_secrets"]
    if not isinstance(profile, str) or not (profile == DEFAULT_PROFILE or is_scope(profile)):
        raise RunRefused("bad-profile")
    scope = None if profile == DEFAULT_PROFILE else profile
    try:
        principal = parse_principal(owner) if isinstance(owner, str) else None
    except CapabilityError:
        principal = None
    if principal is None:
        raise RunRefused("request-invalid", "owner")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_GENERATED:
        raise RunRefused("request-invalid", "new_secrets")
    wanted: dict[SecretName, str] = {}
    for item in items:
        secret, kind = _wanted(item, scope)
        if secret in wanted:  # the later one would win unseen
            raise RunRefused("request-invalid", "new_secrets names a secret twice")
        wanted[secret] = kind
    return GenerationBody(principal, scope, wanted)


def _wanted(item: Json, scope: str | None) -> tuple[SecretName, str]:
    if not isinstance(item, dict) or item.keys() != {"name", "generation_type"}:
        raise RunRefused("request-invalid", "new_secrets")
    name, kind = item["name"], item["generation_type"]
    try:
        if isinstance(name, str) and isinstance(kind, str):
            return SecretName(checked_generated_name(name), scope), checked_generation_type(kind)
    except InvalidInput as exc:
        raise RunRefused("request-invalid", exc.message) from exc
    raise RunRefused("request-invalid", "new_secrets")


@dataclass(frozen=True, slots=True)
class Made:
    """The answer to a request."""

    code: str | None
    body: bytes = field(repr=False)


@dataclass(slots=True)
class _Written:
    """What a request has come to so far: new secrets with type and version, and those that were there."""

    new: list[tuple[SecretName, str, str]] = field(default_factory=list)
    existing: list[str] = field(default_factory=list)


class SecretMaker:
    """Makes secrets for their owners."""

    def __init__(
        self,
        runner: Runner,
        backend: Backend,
        tags: SecretTags,
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self._runner = runner
        self._backend = backend
        self._tags = tags
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()

    async def make(self, authorization: str | None, sign_in: str | None, body: bytes) -> Made:
        """Make the secrets that an owner asks for.

        Args:
            authorization: the token of who asks; None: there is none.
            sign_in: what it cites; None: nothing was sent along.
            body: as it arrived.
        Returns:
            What came of it. Each secret is written by itself: one that fails ends the request, and those before it are
            there and named.
        Raises:
            KeepingError: the journal cannot be used; nothing was made.
        """
        try:
            asked = parse_generation(body)
            caller = await self._runner.use_up(await self._runner.called(authorization, sign_in), GENERATE, body)
            if not same_principal(caller, asked.owner):  # RN142
                raise RunRefused("access-denied")
            grant = self._grant_for(asked, self._clock.now())
        except RunRefused as refusal:
            return refused(refusal)
        written, failed = _Written(), None
        try:
            for secret, kind in asked.wanted.items():
                await self._write(asked.owner, secret, kind, grant, written)
        except RunRefused as refusal:
            failed = refusal
        return _answered(written, self._statement(authorization or "", asked, written), failed)

    def _grant_for(self, asked: GenerationBody, now: float) -> Grant:
        """Return the newest grant for exactly these paths (RN143)."""
        for one in self._backend.grants:
            if one.state != "live":
                continue
            try:  # it may have been read from disk, which the host owns
                read = read_generation_grant(one.grant.header, runner=self._backend.did)
            except InvalidPortableDelegation:
                continue
            is_whole = read.secrets == asked.wanted.keys() and now < read.expires_at
            if is_whole and same_principal(read.owner, asked.owner):
                return one.grant
        raise RunRefused("generation-not-granted")

    async def _write(self, owner: Principal, secret: SecretName, kind: str, grant: Grant, written: _Written) -> None:
        """Draw, tag, seal and write one; nothing that is there is replaced (RN145)."""
        value, at = drawn(kind, self._entropy), iso_time(self._clock.now())
        generated = Generated(kind, at, self._tags.tag(owner, secret, kind=kind, at=at, value=value))
        try:
            version = await self._backend.put_generated(owner, secret, value, generated, by=grant)
        except PreconditionFailed:
            written.existing.append(secret.name)
        except NetworkNotFound as absent:
            raise RunRefused("network-unknown") from absent
        except (Unauthorized, NotGranted) as denied:
            raise RunRefused("generation-not-granted") from denied
        except SealspaceError as error:
            _log.warning("a generated secret could not be written: %s", error.code)
            raise RunRefused("node-unavailable") from error
        else:
            written.new.append((secret, kind, version))

    def _statement(self, authorization: str, asked: GenerationBody, written: _Written) -> bytes:
        """State what was made, for this request alone (RN149)."""
        identity = self._runner.identity
        stated: dict[str, Json] = {
            "token": encode_url(token_digest(authorization)),
            "owner": asked.owner,
            "profile": asked.scope or DEFAULT_PROFILE,
            "secrets": [
                {"name": secret.name, "type": kind, "version": version} for secret, kind, version in written.new
            ],
            "runner": self._backend.did,
            "start": encode_url(identity.start_sha256),
            "at": iso_time(self._clock.now()),
        }
        return sign_statement(GENERATED_TYPE, stated, identity.receipt_key)


def refused(refusal: RunRefused) -> Made:
    """Return the answer to a request of which nothing was done."""
    return _answered(_Written(), None, refusal)


def _answered(written: _Written, statement: bytes | None, refusal: RunRefused | None) -> Made:
    answer: dict[str, object] = {
        "status": "completed" if refusal is None else "refused" if statement is None else "failed",
        "generated": [secret.name for secret, _, _ in written.new],
        "existing": written.existing,
    }
    if statement is not None:
        answer["statement"] = msgspec.Raw(statement)
    if refusal is None:
        return Made(None, msgspec.json.encode(answer))
    error = {"code": refusal.reason.code, "message": REASONS[refusal.reason.code].sentence}
    answer["error"] = error | ({"detail": refusal.detail} if refusal.detail else {})
    return Made(refusal.reason.code, msgspec.json.encode(answer))


def token_digest(authorization: str) -> bytes:
    """Return what a statement names the token of its request by."""
    return hashlib.sha256(authorization.encode("utf-8", "surrogatepass")).digest()


async def verify_generated(
    statement: bytes, start: bytes, inspector: BoundVerifier, *, authorization: str
) -> VerifiedRun:
    """Judge what a runner states about secrets that it made (RN149).

    Args:
        statement: untrusted.
        start: the runner's start document, untrusted.
        inspector: with collateral that is valid now.
        authorization: the token of the request that it has to answer.
    Raises:
        StatementInvalid: it does not hold, or answers another request.
        BackendNotProven, CollateralNeeded: the quote does not hold.
    Does not check:
        Whether that code is to be trusted: compare it with what was approved.
    """
    verified = await verify_signed(statement, start, inspector, kind=GENERATED_TYPE, members=_MEMBERS)
    if verified.stated["token"] != encode_url(token_digest(authorization)):
        raise StatementInvalid("the statement answers another request")
    return verified
