"""Machine tokens as one line of text, for servers and CI jobs (MF21).

A machine token is a key and a delegation to it (MT1). The token of a job is a key and a job grant
to it (RN245). Its line is `sst_` and these bytes in unpadded base64url:

    1    version, 1
    32   seed of the token's Ed25519 key
    32   public key of the node, the only one that the token's session uses
    n    the delegation as it was registered, in ASCII
    4    first bytes of the SHA-256 of everything before

The line alone is enough to read the token's secrets. No error, log or `repr` contains it.

Example:
    client = Client(url, session=read_token(os.environ["SEALSPACE_TOKEN"]))
"""

import hashlib
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.machine_tokens import (
    MAX_LIFE_S,
    MAX_MACHINE_PATHS,
    NAME_PATTERN,
    MachineGrant,
    OidcTrust,
    issuing_owner,
    machine_grant,
)
from capabilities.principals import (
    Principal,
    did_key,
    ed25519_public_key,
    is_wallet,
    parse_principal,
)
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import decode_url, encode_url
from capabilities.tokens import Capability, parse_delegation, verify_delegation

from ..documents.secret_names import (
    SECRETS_SPACE,
    SecretName,
    is_protected,
    parse_secret_name,
    secret_at,
)
from ..errors import (
    DecryptDenied,
    DelegationRevoked,
    InvalidInput,
    InvalidPortableDelegation,
    InvalidSession,
    NodeMismatch,
    NotGranted,
    NotSignedIn,
    SealspaceError,
    SessionExpired,
)
from ..session import (
    Grant,
    Session,
    capability,
    network_of_owner,
    read_grant,
    space_capability,
    space_of,
    until,
)

NODE_VARIABLE = "SEALSPACE_NODE"
TOKEN_VARIABLE = "SEALSPACE_TOKEN"  # noqa: S105  # the name of a variable
MAX_TOKEN_CHARS = 98_304
"""Longest line; Linux passes at most 131,071 bytes as one environment variable."""

_PREFIX = "sst_"
_VERSION = b"\x01"
_SEED = slice(1, 33)
_NODE_KEY = slice(33, 65)
_HEADER = slice(65, None)
_CHECK_BYTES = 4
_REVOKED = "was revoked"


@frozen
class MachineToken:
    """A machine token without its key, or a trust in the ID tokens of CI jobs.

    Attributes:
        owner: DID of the owner of its secrets.
        granted: the token's statement.
        secrets: the secrets that it reads.
        grant: the delegation.
    """

    owner: Principal
    granted: MachineGrant | OidcTrust
    secrets: tuple[SecretName, ...]
    grant: Grant

    @property
    def name(self) -> str:
        """Its name, chosen by the owner."""
        return self.granted.name

    @property
    def is_of_job(self) -> bool:
        """Whether a node signed it under a trust. The owner, or an admin's wallet, signs others."""
        signer = self.grant.delegator
        return self.owner != signer and not is_wallet(parse_principal(signer))

    @property
    def labels(self) -> str:
        """The names of the secrets, for messages."""
        return ", ".join(secret.label for secret in self.secrets)

    @property
    def scope(self) -> str | None:
        """The scope of all the token's secrets.

        None if they are not all in one scope.
        """
        scopes = {secret.scope for secret in self.secrets}
        return scopes.pop() if len(scopes) == 1 else None

    def ended(self, state: str) -> SessionExpired:
        """Return the error for a token that is over.

        Its hint says who can make a new one, and how.
        """
        is_job = self.is_of_job
        if is_job and state != _REVOKED:
            return SessionExpired(f"this job's token {state}", hint="run: sealspace ci login")
        create = "ci trust SYSTEM --name" if is_job else "token create"
        command = f"sealspace {create} {self.name}"
        for secret in self.secrets:
            command += f" --secret {secret.name}"
        if self.scope:
            command += f" --scope {self.scope}"
        return SessionExpired(
            f"the machine token {self.name} {state}",
            hint=f"ask the owner {self.owner} for a new one: {command}",
        )


def token_in(header: str) -> MachineToken | None:
    """Parse a delegation that makes a machine token or a trust.

    The signature is verified. Returns None for any other delegation.
    """
    try:
        # Only the node knows when the token was registered, and checks its lifetime from then on.
        # With an infinite time, the lifetime is not checked here.
        verified = verify_delegation(parse_delegation(header))
        granted = machine_grant(verified, registered_at=math.inf)
    except CapabilityError:
        return None
    if granted is None:
        return None
    owner = issuing_owner(verified)
    folder = f"{space_of(owner, SECRETS_SPACE).text}/kv/"
    secrets = []
    for path in granted.paths:
        secret = secret_at(path.removeprefix(folder))
        if secret is not None:
            secrets.append(secret)
    return MachineToken(
        owner=owner, granted=granted, secrets=tuple(secrets), grant=read_grant(header)
    )


def token_of(session: Session) -> MachineToken | None:
    """Return the machine token that a session was made from, or None for other sessions."""
    return token_in(session.grants[0].header) if session.grants else None


def token_line(seed: bytes, node_id: str, header: str) -> str:
    """Encode a machine token as a line of text.

    Raises InvalidInput if the line would be too long.
    """
    # `Caller.info` has checked that the id is the DID of such a key.
    node_key = ed25519_public_key(node_id) or b""
    body = _VERSION + seed + node_key + header.encode("ascii")
    line = _PREFIX + encode_url(body + _check(body))
    if len(line) > MAX_TOKEN_CHARS:
        raise InvalidInput(
            "the machine token would be too long", hint="make two tokens with fewer secrets each"
        )
    return line


def required_variable(name: str, hint: str) -> str:
    """Return the text of an environment variable.

    Raises NotSignedIn if the variable is not set, or has only blanks.
    """
    text = os.environ.get(name, "")
    if text.strip():
        return text
    state = "is empty" if name in os.environ else "is not set"
    raise NotSignedIn(f"the environment variable {name} {state}", hint=hint)


def reading_rights(
    session: Session,
    name: str,
    secrets: Sequence[str],
    scope: str | None,
    ttl_s: float,
    has_wallet: bool,
) -> list[Capability]:
    """Return the rights of a machine token or a trust, before the owner's wallet signs it.

    Raises InvalidInput if an argument is not valid.
    """
    owned = [parse_secret_name(secret_name, scope=scope) for secret_name in secrets]
    if not has_wallet and session.did != session.owner:
        raise InvalidInput(
            "cannot create a machine token: only the owner's wallet can sign it, not a session's"
            " key",
            hint="sign it with the owner's wallet",
        )
    for secret in owned:
        if is_protected(secret.name):
            raise InvalidInput(
                f"{secret.name} cannot be in a machine token: only attested runners can open"
                " protected secrets",
                hint="leave out names that begin with PROTECTED_",
            )
    is_allowed_count = 0 < len(owned) <= MAX_MACHINE_PATHS
    is_allowed_life = 60 <= ttl_s <= MAX_LIFE_S
    is_allowed_name = re.fullmatch(NAME_PATTERN, name) is not None
    if not is_allowed_count or not is_allowed_life or not is_allowed_name:
        raise InvalidInput(
            f"a machine token has 1 to {MAX_MACHINE_PATHS} secrets, lasts 1 minute to 366 days, and"
            " has a name of at most 64 letters, digits, dots, dashes and underscores"
        )
    space = session.own_space(SECRETS_SPACE)
    return [
        *[space_capability(space, "kv", secret.path, KV_GET) for secret in owned],
        capability(network_of_owner(session.owner).text, DECRYPT),
    ]


def read_token(line: str) -> Session:
    """Decode the line of a machine token.

    Args:
        line: untrusted; white space around it is ignored.
    Returns:
        A session for the token's key, bound to the node in the line; see `token_of`. For
        the token of a job, `token_of` returns None.
    Raises:
        InvalidSession: the line is not a machine token. The message contains no part of it.
    Does not check:
        The delegation's revocation and end: the node checks them on each use.
    """
    text = line.strip()
    reason = ": it is cut off or mistyped" if text.startswith(_PREFIX) else ""
    invalid = InvalidSession(
        f"not a sealspace token{reason}",
        hint="copy the line again, from sst_ on, without quotes, or run `sealspace token create`",
    )
    body = _checked_body(text)
    if body is None:
        raise invalid
    try:
        return _session_in(body)
    except InvalidPortableDelegation:  # for another key, or neither of a machine token nor a job
        raise invalid from None


def _checked_body(text: str) -> bytes | None:
    """Return the bytes in a token's line without their check, or None if the check is wrong."""
    # The length is checked first, so that nothing longer is decoded (MF21).
    if len(text) > MAX_TOKEN_CHARS or not text.startswith(_PREFIX):
        return None
    data = decode_url(text.removeprefix(_PREFIX)) or b""
    body = data[:-_CHECK_BYTES]
    is_whole = data == body + _check(body)
    return body if is_whole and body[:1] == _VERSION else None


def _session_in(body: bytes) -> Session:
    """Return the session for the key in a token's line.

    Raises:
        InvalidPortableDelegation: the delegation is for another key, or is neither of a machine
            token nor a job grant.
    """
    seed = body[_SEED]
    header = body[_HEADER].decode("ascii", "replace")
    token = token_in(header)
    if token is None:
        from ..documents.run_grants import read_run_grant

        read_run_grant(header, runner=None)  # raises unless it is a job grant
    grant = read_grant(header)
    return Session(
        signer=Ed25519Signer(seed),
        owner=token.owner if token else grant.delegator,
        node_id=did_key(body[_NODE_KEY]),
        seed=seed,
    ).with_grant(grant)


@contextmanager
def about_token(session: Session) -> Iterator[None]:
    """Name the session's machine token in errors about its end, revocation and secrets."""
    try:
        yield
    except (DelegationRevoked, DecryptDenied, NodeMismatch, NotGranted, SessionExpired) as error:
        token = token_of(session)
        if token is None:
            raise
        if isinstance(error, NodeMismatch):
            error.step = (
                f"set {NODE_VARIABLE} to the address of the node where the machine token"
                f" {token.name} was made"
            )
        about = _error_about(token, session, error)
        if about is None:
            raise
        raise about from error


def _error_about(
    token: MachineToken, session: Session, error: SealspaceError
) -> SealspaceError | None:
    """Return an error that names the token, or None if the error itself says enough."""
    match error:
        case DelegationRevoked() | DecryptDenied(refusal=DelegationRevoked()):
            return token.ended(_REVOKED)
        case SessionExpired():
            return token.ended(f"was valid {until(session.expires_at)}")
        case NotGranted(missing=lacks) if lacks and lacks[0].ability == KV_GET:
            names = ", ".join(right.resource.text.rpartition("/")[2] for right in lacks)
            return NotGranted(
                f"the machine token {token.name} does not include {names}; it reads {token.labels}",
                hint="ask the owner for a token with this secret: sealspace token create",
            )
        case _:
            return None


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK_BYTES]
