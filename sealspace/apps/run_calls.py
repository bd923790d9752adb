"""Signed calls to programs on a runner.

A token identifies the caller, and is valid for one program and one body. It is an invocation of
`sealspace.run/call` on the caller's own resource `<a space of the caller>/run/<program>`, addressed
to the runner (RN60 to RN64). It has one fact:

    {"type": "sealspace.run.call/v1", "program": "<did>/<name>" | sha256,
     "bodySha256": base64url, "runner": DID,
     "start": base64url of the SHA-256 of the runner's start document}

A did:key calls on its own authority. A wallet's session cites the sign-in that has
`sealspace.run/call` on `<space>/run`, and sends it in the header `Sealspace-Sign-In`, because a
runner stores no tokens of callers.

Example:
    project, body = f"{session.owner}/mail-digest", b"{}"
    runner = RunnerAt(backend_did, start)  # as `runners.runner_at` returns it
    headers = call_headers(
        friend.session, runner=runner, program=project, body=body, now=clock.now(),
        entropy=entropy,
    )
    call = read_call(headers["Authorization"], None, runner=runner.did, now=clock.now())
    call.require(project, body)
    assert (call.caller, call.runner) == (friend.session.owner, runner)
"""

import hashlib

from capabilities.cache import memoize
from capabilities.capability_errors import CapabilityError
from capabilities.chain import (
    Marker,
    Registered,
    check_lifetime,
    judge_invocation,
    judge_registration,
)
from capabilities.cids import ContentKey
from capabilities.clock_and_entropy import Entropy
from capabilities.frozen import frozen
from capabilities.principals import Principal
from capabilities.resources import SpaceResource, root_of
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json, JsonObject
from capabilities.tokens import (
    Capability,
    Delegation,
    Invocation,
    check_window,
    parse_delegation,
    parse_invocation,
    verify_delegation,
    verify_invocation,
)

from ..errors import CallRefused, NotGranted
from ..session import INVOCATION_TTL_S, Session, capability, mint, space_of

CALL = "sealspace.run/call"
CALL_FACT = "sealspace.run.call/v1"
SIGN_IN_HEADER = "Sealspace-Sign-In"
MAX_SIGN_IN_AGE_S = 24 * 3600
"""Oldest acceptable sign-in, seconds: a runner cannot check whether a sign-in was revoked."""
MAX_TOKEN_CHARS = 32 * 1024
"""Longest token, and longest sign-in, that a runner reads."""

_CLOCKS_APART_S = 60.0


@frozen
class RunnerAt:
    """The unverified identity of a runner.

    Attributes:
        did: DID that grants and calls are addressed to.
        start: base64url of the SHA-256 of its start document.
    """

    did: str
    start: str


@frozen
class Call:
    """A verified call to a program on a runner.

    Attributes:
        caller: principal that calls.
        token: digest of the signed content, the same for every spelling; valid for one call.
        expires_at: end of the token, epoch seconds; the runner remembers it until then.
        runner: the runner and the start that the call is signed for.
        fact: the token's fact, for one program and one body; see `require`.
    """

    caller: Principal
    token: ContentKey
    expires_at: float
    runner: RunnerAt
    fact: Json

    def require(self, program: str | None, body: bytes) -> None:
        """Check that the call's signature covers this program and body (RN62).

        Args:
            program: the program; None: it is in the body, which is not parsed yet (RN251).
            body: the whole body.
        Raises:
            CallRefused: the call was signed for a different program or request body.
        """
        stated = self.program if program is None else program
        if self.fact != _call_fact(stated, body, self.runner):
            raise CallRefused("the call was signed for a different program or request body")

    @property
    def program(self) -> str:
        """The program that the call is signed for."""
        stated = self.fact.get("program") if isinstance(self.fact, dict) else None
        return stated if isinstance(stated, str) else ""


def call_right(space: str) -> Capability:
    """Return the right that a wallet's session needs to call programs.

    Args:
        space: full id of a space of the wallet.
    """
    return capability(f"{space}/run", CALL)


def call_headers(
    session: Session, *, runner: RunnerAt, program: str, body: bytes, now: float, entropy: Entropy
) -> dict[str, str]:
    """Return the HTTP headers of a signed call to a runner.

    Args:
        session: the caller's session.
        runner: the runner's own statement. A call with a wrong `start` is not run by any start.
        program: `<did>/<name>`, or a SHA-256 as 64 hex digits.
        body: the whole body.
        now: epoch seconds.
        entropy: source of the nonce.
    Raises:
        NotGranted: the wallet's session has no sign-in for calls; see `call_right`.
        SessionExpired: the sign-in has expired.
    """
    space = session.space or space_of(session.owner, "default")
    wanted = capability(f"{space.text}/run/{program}", CALL)
    cited = session.proofs_for([wanted], now=now)
    sign_ins = [grant.header for grant in session.grants if grant.cid in cited]
    if len(sign_ins) > 1:
        raise NotGranted(
            "the call needs rights from several sign-ins of this session, but a call can use only"
            " one sign-in",
            missing=(wanted,),
        )
    headers = {
        "Authorization": mint(
            session.signer,
            entropy,
            audience=runner.did,
            capabilities=[wanted],
            proofs=cited,
            expires_at=now + INVOCATION_TTL_S,
            facts=[_call_fact(program, body, runner)],
        )
    }
    if sign_ins:
        headers[SIGN_IN_HEADER] = sign_ins[0]
    return headers


def read_call(authorization: str, sign_in: str | None, *, runner: str, now: float) -> Call:
    """Verify a signed call to a runner (RN60 to RN64, RN178).

    Args:
        authorization: the token, untrusted.
        sign_in: the sign-in that the token cites, untrusted; None: not sent.
        runner: DID of this runner.
        now: epoch seconds.
    Raises:
        CallRefused: a rule is broken.
    Does not check:
        Replay: the caller of this function remembers `Call.token`.
        Revocation of the sign-in, which is at most a day old.
        Program and body: see `Call.require`.
        The start of the runner: the caller of this function compares it (RN178).
    """
    longest = max(len(authorization), len(sign_in or ""))
    if longest > MAX_TOKEN_CHARS:
        raise CallRefused(f"the token or the sign-in is longer than {MAX_TOKEN_CHARS} characters")
    try:
        invocation = parse_invocation(authorization)
        check_window(invocation, now)
        if invocation.audience != runner:  # a runner could repeat the call at another one (RN60)
            raise CallRefused("the call is addressed to another runner")
        fact = _only_fact(invocation.facts)
        start = _start_in(fact)
        invoked = _call_capability(invocation.capabilities, fact.get("program"))
        verified = verify_invocation(invocation)
        check_lifetime(verified, now)
        if not verified.parents and sign_in is None:
            # RN63: without proofs, this raises unless the caller owns what it calls on.
            judge_invocation(verified, (), {}, now=now)
            caller = verified.invoker
        else:
            caller = _judge_by_sign_in(verified, sign_in, invoked, now=now)
    except CapabilityError as exc:
        raise CallRefused(f"the call is not authorised: {exc.text}") from exc
    return Call(
        caller=caller,
        token=verified.content_key,
        expires_at=verified.expires_at,
        runner=RunnerAt(runner, start),
        fact=fact,
    )


def _only_fact(facts: tuple[Json, ...]) -> JsonObject:
    """Return the token's only fact, or an empty object if it has another form."""
    fact = facts[0] if len(facts) == 1 else None
    return fact if isinstance(fact, dict) else {}


def _start_in(fact: JsonObject) -> str:
    """Return the start of the runner in a token's fact.

    Without it, a runner with the same DID would run the call once more (RN178).
    """
    start = fact.get("start")
    if isinstance(start, str):
        return start
    raise CallRefused(
        "the call's token does not contain the digest of the runner's startup document",
        hint="update the client, then sign the call again",
    )


def _judge_by_sign_in(
    verified: Invocation, sign_in: str | None, invoked: Capability, *, now: float
) -> Principal:
    """Judge a call that cites a sign-in, and return the wallet that signed in (RN64)."""
    cited = _verify_sign_in(sign_in, now)
    if [parent.digest for parent in verified.parents] != [cited.delegation.cid]:
        raise CallRefused(
            "the call's token cites a different sign-in than the one sent with the call"
        )
    # The runner cannot ask whether the sign-in was revoked, and counts it as live (RN64).
    judge_invocation(
        verified,
        [cited],
        {cited.delegation.content_key: Marker.LIVE},
        now=now,
    )
    wallet = cited.delegation.delegator
    if root_of(invoked.resource) != wallet:
        raise CallRefused("the caller does not own the space that the call names")
    return wallet


def _call_fact(program: str, body: bytes, runner: RunnerAt) -> JsonObject:
    """Return the UCAN fact that describes a signed call (RN62, RN178).

    The fact binds the call to its program, body and runner.
    """
    return {
        "type": CALL_FACT,
        "program": program,
        "bodySha256": encode_url(hashlib.sha256(body).digest()),
        "runner": runner.did,
        "start": runner.start,
    }


def _call_capability(capabilities: tuple[Capability, ...], program: Json) -> Capability:
    """Return the token's only capability (RN61).

    It must be the right to call the program.
    """
    if len(capabilities) == 1 and capabilities[0].ability == CALL:
        resource = capabilities[0].resource
        is_named = (
            isinstance(resource, SpaceResource)
            and resource.text == f"{resource.space.text}/run/{program}"
        )
        if is_named and not capabilities[0].caveats:
            return capabilities[0]
    raise CallRefused(
        f"the call's token must have exactly one capability, {CALL}, and only for this program in a"
        " space that the caller owns"
    )


@memoize(256)
def _verify_signature(sign_in: str) -> Delegation:
    """Return a sign-in with a valid signature; a caller sends the same one for a day."""
    return verify_delegation(parse_delegation(sign_in))


def _verify_sign_in(sign_in: str | None, now: float) -> Registered:
    """Verify the sign-in that was sent with a call (RN64).

    It must be signed by a wallet, at most a day old, and without a parent, policy or other facts.
    """
    if sign_in is None:
        raise CallRefused(
            "the call's token cites a sign-in message, but the message was not sent with the call",
            hint=f"send the sign-in message in the header {SIGN_IN_HEADER}",
        )
    delegation = _verify_signature(sign_in)
    if delegation.form != "cacao" or delegation.parents or delegation.issued_at is None:
        raise CallRefused(
            "the sign-in message sent with the call must be signed by a wallet and have no parent"
            " delegation"
        )
    if not -_CLOCKS_APART_S <= now - delegation.issued_at <= MAX_SIGN_IN_AGE_S:
        raise CallRefused(
            "the sign-in message sent with the call is more than a day old", hint="sign in again"
        )
    if delegation.facts:  # for example a policy on code, which a runner cannot apply
        raise CallRefused(
            "the sign-in message sent with the call must not contain a policy or other facts",
            hint="sign in again without a policy",
        )
    return judge_registration(delegation, (), {}, now=now)
