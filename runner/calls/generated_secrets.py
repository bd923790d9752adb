"""Generation of random secrets inside the runner (RN140 to RN151).

The values are never shown.

    verify that the owner signed the request -> find the grant for exactly these secrets
    -> each secret: draw, tag, encrypt to the owner's network `protected`, write -> statement

An existing secret is never overwritten. A run accepts a generated secret only with a valid tag
(`secret_tags`). The statement is signed with the receipt key, so an owner can verify which code
made the secrets.

Example:
    call = await runner.verify_caller(authorization, sign_in)
    answer = await generate(runner, call, authorization, body)
"""

import hashlib
import logging
import string
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import libipld
import msgspec

from capabilities.clock_and_entropy import Entropy, SystemClock
from capabilities.principals import Principal, parse_principal
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import JsonObject, StrictStruct, parse_json, shaped
from sealspace.apps.run_calls import Call as SignedCall
from sealspace.documents.generation_grants import (
    GENERATE,
    MAX_GENERATED,
    checked_generated_name,
    checked_generation_type,
)
from sealspace.documents.secret_names import DEFAULT_PROFILE, SecretName
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
from .run_receipts import VerifiedRun, verify_run
from .service import Runner

if TYPE_CHECKING:  # a runner itself needs no verifier of quotes
    from tee_backend.attestation.inspection import Inspector

MAX_GENERATION_BODY_BYTES = 16 * 1024
GENERATED_TYPE = "sealspace.run.generated/v1"

_MEMBERS = frozenset({"token", "owner", "profile", "secrets", "runner", "start", "at"})
_ALPHABET = string.ascii_letters + string.digits
_FAIR = 256 - 256 % len(_ALPHABET)
_PASSWORD_CHARS = 32
_HEX_BYTES: Mapping[str, int] = {"hex16": 16, "hex32": 32, "hex64": 64, "ed25519_seed": 32}
_log = logging.getLogger(__name__)


def draw_value(kind: str, entropy: Entropy) -> str:
    """Generate a random secret of the given type (RN141).

    Args:
        kind: a checked type, such as `hex32` or `password:24`.
        entropy: a random source that the host cannot predict.
    """
    if kind in _HEX_BYTES:
        return entropy.token(_HEX_BYTES[kind]).hex()
    if kind == "ed25519":
        multibase = str(libipld.encode_multibase("z", entropy.token(32)))
        return "ed25519:" + multibase.removeprefix("z")
    chars = int(kind.partition(":")[2] or _PASSWORD_CHARS)
    password = ""
    # Bytes from `_FAIR` on are dropped: they would make the alphabet's first characters likelier.
    while len(password) < chars:
        for byte in entropy.token(2 * chars):
            if byte < _FAIR:
                password += _ALPHABET[byte % len(_ALPHABET)]
    return password[:chars]


class _NewSecret(StrictStruct):
    name: str
    generation_type: str


class _Request(StrictStruct):
    owner: str
    profile: Any
    new_secrets: Annotated[list[_NewSecret], msgspec.Meta(min_length=1, max_length=MAX_GENERATED)]


class GenerationRequest(NamedTuple):
    """A parsed request for new secrets.

    Attributes:
        owner: the owner of the secrets.
        scope: the scope of all secrets, or None.
        types: the type of each secret to generate, such as `hex32`.
    """

    owner: Principal
    scope: str | None
    types: Mapping[SecretName, str]


@refusing_invalid()
def parse_generation(data: bytes) -> GenerationRequest:
    """Parse an untrusted request for new secrets."""
    if len(data) > MAX_GENERATION_BODY_BYTES:
        raise RunRefused("input-too-large")
    request = shaped(parse_json(data, max_bytes=MAX_GENERATION_BODY_BYTES), _Request)
    scope = scope_of(request.profile)
    types = dict[SecretName, str]()
    for one in request.new_secrets:
        secret = SecretName(checked_generated_name(one.name), scope)
        if secret in types:  # the later one would replace it silently
            raise RunRefused("request-invalid", "new_secrets contains a secret twice")
        types[secret] = checked_generation_type(one.generation_type)
    return GenerationRequest(owner=parse_principal(request.owner), scope=scope, types=types)


async def generate(
    runner: Runner,
    call: SignedCall,
    authorization: str | None,
    body: bytes,
    *,
    is_known: bool = False,
) -> Answer:
    """Generate the requested secrets, and store them on the node.

    Each secret is written separately. If a write fails, the request ends. The secrets written
    before it exist, and the answer names them.

    Args:
        runner: the runner, which needs the owner's grant to write these secrets.
        call: the caller's verified token, which is not used yet.
        authorization: the text of that token.
        body: the body, untrusted.
        is_known: whether the caller has an account.
    Returns:
        The answer, also after a failure on the way.
    Raises:
        RunRefused: the request is not admitted; no secret was generated.
        KeepingError: the journal cannot be used; no secret was generated.
    """
    owner, scope, wanted = parse_generation(body)
    caller = await runner.use_token(call, GENERATE, body, is_known=is_known)
    if caller != owner:  # only the owner in person may have secrets made (RN142)
        raise RunRefused("access-denied")
    grant = _grant_for(runner, owner, wanted.keys())
    new = list[JsonObject]()
    existing = list[str]()
    failed = None
    try:
        for secret, kind in wanted.items():
            version = await _write(runner, owner, secret, kind, grant)
            if version is None:
                existing.append(secret.name)
            else:
                new.append({"name": secret.name, "type": kind, "version": version})
    except RunRefused as refusal:
        failed = refusal.reason
    # RN149: the token's digest ties the statement to this request, so it cannot answer another.
    stated: JsonObject = {
        "token": token_digest(authorization or ""),
        "owner": owner,
        "profile": scope or DEFAULT_PROFILE,
        "secrets": [*new],
        "runner": runner.did,
        "start": runner.identity.start_hash,
        "at": iso_time(SystemClock.now()),
    }
    answer: dict[str, object] = {
        "status": "completed" if failed is None else "failed",
        "generated": [one["name"] for one in new],
        "existing": existing,
        "statement": msgspec.Raw(
            sign_statement(GENERATED_TYPE, stated, runner.identity.receipt_key)
        ),
    }
    if failed is not None:
        answer["error"] = error_of(failed)
    return answer_with(answer, failed)


def _grant_for(runner: Runner, owner: Principal, secrets: Set[SecretName]) -> Grant:
    """Return the newest live grant of an owner for exactly these secrets (RN143).

    Raises:
        RunRefused: `generation-not-granted`.
    """
    now = SystemClock.now()
    for grant, read in runner.grants.generation_grants():
        if read.secrets == secrets and read.owner == owner and now < read.expires_at:
            return grant
    raise RunRefused("generation-not-granted")


def refused(reason: Reason) -> Answer:
    """Return the error response for a refused request for new secrets."""
    return answer_with(
        {"status": "refused", "generated": [], "existing": [], "error": error_of(reason)}, reason
    )


async def _write(
    runner: Runner, owner: Principal, secret: SecretName, kind: str, grant: Grant
) -> str | None:
    """Generate and store a secret unless the name is taken (RN145).

    Returns the version that was written, or None if the secret already exists.
    """
    value = draw_value(kind, runner.entropy)
    at = iso_time(SystemClock.now())
    tag = runner.tags.tag(owner, secret, kind=kind, at=at, value=value)
    generated = Generated(type=kind, at=at, tag=tag)
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
    """Return the SHA-256 hash of a token in base64url."""
    return encode_url(hashlib.sha256(authorization.encode("utf-8", "surrogatepass")).digest())


async def verify_generated(
    statement: bytes, start: bytes, inspector: "Inspector", *, authorization: str
) -> VerifiedRun:
    """Verify a runner's signed statement about generated secrets (RN149).

    Args:
        statement: the statement, untrusted.
        start: the runner's startup document, untrusted.
        inspector: verifier of quotes, with collateral that is valid now.
        authorization: the token of the request that the statement must answer.
    Returns:
        The verified statement, with the runner's measurements.
    Raises:
        StatementInvalid: the statement is invalid, or answers another request.
        BackendNotProven, CollateralNeeded: the quote is not valid.
    Does not check:
        Whether the code is trusted: compare its measurements with the approved ones.
    """
    verified = await verify_run(statement, start, inspector, kind=GENERATED_TYPE, members=_MEMBERS)
    if verified.stated["token"] != token_digest(authorization):
        raise StatementInvalid("the runner's statement is about a different request")
    return verified
