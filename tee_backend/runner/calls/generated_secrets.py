"""Secrets that are made inside the trust domain: drawn, tagged, sealed and written, and never shown
(RN140 to RN151).

    body -> who asks: the owner alone -> the token is used up -> the grant that names exactly these paths
         -> for each: draw, tag, seal to the owner's network `protected`, write where nothing is -> statement

Each has a tag, which a run demands of it: see `secret_tags`. What was made is stated with the
receipt key, so that an owner can tell that the code which the start's quote names made it.

Example:
    answer = await generate(runner, authorization, sign_in, body)
"""

import hashlib
import logging
import string
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import libipld
import msgspec

from capabilities.clock_and_entropy import Entropy, SystemClock
from capabilities.principals import Principal, parse_principal
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json, parse_json, shaped
from sealspace.documents.run_grants import (
    DEFAULT_PROFILE,
    GENERATE,
    MAX_GENERATED,
    checked_generated_name,
    checked_generation_type,
    read_generation_grant,
)
from sealspace.documents.secret_names import SecretName
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import (
    NetworkNotFound,
    NotGranted,
    PreconditionFailed,
    SealspaceError,
    StatementInvalid,
    Unauthorized,
)
from sealspace.secrets import Generated
from sealspace.session import Grant, iso_time

from ..reasons import Reason, RunRefused
from .call_answers import Answer, answer_with, error_of
from .call_bodies import refusing_invalid, scope_of
from .published_programs import live_grants
from .run_receipts import VerifiedRun, verify_signed
from .service import Runner

if TYPE_CHECKING:  # a runner itself needs no verifier of quotes
    from ...attestation.inspection import Inspector

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
    # bytes beyond the last whole alphabet would make its first characters likelier
    while len(found) < chars:
        found += "".join(
            _ALPHABET[byte % len(_ALPHABET)] for byte in entropy.token(2 * chars) if byte < _FAIR
        )
    return found[:chars]


class _NewSecret(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    generation_type: str


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    owner: str
    profile: Any
    new_secrets: Annotated[list[_NewSecret], msgspec.Meta(min_length=1, max_length=MAX_GENERATED)]


@refusing_invalid()
def parse_generation(data: bytes) -> tuple[Principal, str | None, dict[SecretName, str]]:
    """Read a body, untrusted; return the owner, the scope, and the types of the new secrets."""
    if len(data) > MAX_GENERATION_BODY_BYTES:
        raise RunRefused("input-too-large")
    asked = shaped(parse_json(data, max_bytes=MAX_GENERATION_BODY_BYTES), _Request)
    scope, wanted = scope_of(asked.profile), dict[SecretName, str]()
    for one in asked.new_secrets:
        secret = SecretName(checked_generated_name(one.name), scope)
        if secret in wanted:  # the later one would win unseen
            raise RunRefused("request-invalid", "new_secrets names a secret twice")
        wanted[secret] = checked_generation_type(one.generation_type)
    return parse_principal(asked.owner), scope, wanted


async def generate(
    runner: Runner, authorization: str | None, sign_in: str | None, body: bytes
) -> Answer:
    """Make the secrets that an owner asks for.

    Args:
        runner: that has a grant to write them.
        authorization: the token of who asks; None: there is none.
        sign_in: what it cites; None: nothing was sent along.
        body: as it arrived.
    Returns:
        What came of it. Each secret is written by itself: one that fails ends the request, and
            those before it are
        there and named.
    Raises:
        RunRefused: nothing was made.
        KeepingError: the journal cannot be used; nothing was made.
    """
    owner, scope, wanted = parse_generation(body)
    caller = await runner.use_up(await runner.called(authorization, sign_in), GENERATE, body)
    if caller != owner:  # RN142
        raise RunRefused("access-denied")
    grant = _grant_for(runner, owner, wanted)
    new, existing, failed = list[dict[str, Json]](), list[str](), None
    try:
        for secret, kind in wanted.items():
            version = await _write(runner, owner, secret, kind, grant)
            if version is None:
                existing.append(secret.name)
            else:
                new.append({"name": secret.name, "type": kind, "version": version})
    except RunRefused as refusal:
        failed = refusal.reason
    # What was made is stated for this request alone (RN149).
    stated: dict[str, Json] = {
        "token": token_digest(authorization or ""),
        "owner": owner,
        "profile": scope or DEFAULT_PROFILE,
        "secrets": [*new],
        "runner": runner.did,
        "start": runner.identity.start_hash,
        "at": iso_time(SystemClock.now()),
    }
    answer = {
        "status": "completed" if failed is None else "failed",
        "generated": [one["name"] for one in new],
        "existing": existing,
        "statement": msgspec.Raw(
            sign_statement(GENERATED_TYPE, stated, runner.identity.receipt_key)
        ),
    }
    return answer_with(answer if failed is None else {**answer, "error": error_of(failed)}, failed)


def refused(reason: Reason) -> Answer:
    """Return the answer to a request of which nothing was done."""
    nothing: dict[str, Json] = {"status": "refused", "generated": [], "existing": []}
    return answer_with({**nothing, "error": error_of(reason)}, reason)


def _grant_for(runner: Runner, owner: Principal, wanted: Mapping[SecretName, str]) -> Grant:
    """Return the newest grant for exactly these paths (RN143)."""
    for grant, read in live_grants(
        runner.backend, partial(read_generation_grant, runner=runner.did)
    )():
        is_whole = read.secrets == wanted.keys() and SystemClock.now() < read.expires_at
        if is_whole and read.owner == owner:
            return grant
    raise RunRefused("generation-not-granted")


async def _write(
    runner: Runner, owner: Principal, secret: SecretName, kind: str, grant: Grant
) -> str | None:
    """Draw, tag, seal and write one secret; None where one is there, which is not replaced
    (RN145)."""
    value, at = drawn(kind, runner.entropy), iso_time(SystemClock.now())
    generated = Generated(kind, at, runner.tags.tag(owner, secret, kind=kind, at=at, value=value))
    try:
        return await runner.backend.put_generated(owner, secret, value, generated, by=grant)
    except PreconditionFailed:
        return None
    except NetworkNotFound as absent:
        raise RunRefused("network-unknown") from absent
    except (Unauthorized, NotGranted) as denied:
        raise RunRefused("generation-not-granted") from denied
    except SealspaceError as error:
        _log.warning("a generated secret could not be written: %s", error.code)
        raise RunRefused("node-unavailable") from error


def token_digest(authorization: str) -> str:
    """Return what a statement names the token of its request by, in base64url."""
    return encode_url(hashlib.sha256(authorization.encode("utf-8", "surrogatepass")).digest())


async def verify_generated(
    statement: bytes, start: bytes, inspector: "Inspector", *, authorization: str
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
    verified = await verify_signed(
        statement, start, inspector, kind=GENERATED_TYPE, members=_MEMBERS
    )
    if verified.stated["token"] != token_digest(authorization):
        raise StatementInvalid("the statement answers another request")
    return verified
