"""Calling a runner: the token that says who calls, for one program and one body (RN60 to RN64).

The token is an invocation of `sealspace.run/call` on the caller's own resource `<a space of the
caller>/run/<program>`, addressed to the runner, with one fact:

    {"type": "sealspace.run.call/v1", "program": "<did>/<name>" | sha256, "bodySha256": base64url, "runner": DID,
     "start": base64url of the SHA-256 of the runner's start document}

A did:key calls by its own right. A session of a wallet cites the sign-in that holds
`sealspace.run/call` on `<space>/run`, and sends it along in the header `Sealspace-Sign-In`: a
runner keeps no tokens of callers.

Example:
    project, body = f"{session.owner}/mail-digest", b"{}"
    runner = RunnerAt(backend_did, start)  # as `runners.runner_at` returns it
    headers = call_headers(friend.session, runner=runner, program=project, body=body, now=clock.now(), entropy=entropy)
    call = read_call(headers["Authorization"], None, runner=runner.did, now=clock.now())
    call.require(project, body)
    assert (call.caller, call.runner) == (friend.session.owner, runner)
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from capabilities.capability_errors import CapabilityError
from capabilities.chain import (
    Mark,
    Registered,
    check_lifetime,
    judge_invocation,
    judge_registration,
)
from capabilities.cids import ContentKey
from capabilities.clock_and_entropy import Entropy
from capabilities.principals import Principal
from capabilities.resources import SpaceResource, root_of
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json
from capabilities.tokens import (
    Capability,
    Delegation,
    check_window,
    parse_delegation,
    parse_invocation,
    verify_delegation,
    verify_invocation,
)

from ..errors import CallRefused, NotGranted
from ..session import INVOCATION_TTL_S, Session, capability, mint, space_of

CALL: Final = "sealspace.run/call"
CALL_FACT: Final = "sealspace.run.call/v1"
SIGN_IN_HEADER: Final = "Sealspace-Sign-In"
MAX_SIGN_IN_AGE_S: Final = 24 * 3600
"""A runner cannot ask whether a sign-in was revoked, so it takes none for longer than this."""
MAX_TOKEN_CHARS: Final = 32 * 1024
"""Longest token, and longest sign-in, that a runner reads."""

_CLOCKS_APART_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class RunnerAt:
    """A runner as it names itself, untrusted.

    Attributes:
        did: that grants and calls are addressed to.
        start: base64url of the SHA-256 of its start document.
    """

    did: str
    start: str


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls; made by `read_call`.

    Attributes:
        caller: the root of what was shown.
        token: name of what was signed, whatever its spelling; good for one call.
        expires_at: when the token ends, epoch seconds; until then the runner remembers it.
        runner: that the call is signed for, with the start that it names.
        fact: of the token, for one program and one body; see `require`.
    """

    caller: Principal
    token: ContentKey
    expires_at: float
    runner: RunnerAt
    fact: Json

    def require(self, program: str, body: bytes) -> None:
        """Refuse another program or body than the call is signed for (RN62): CallRefused."""
        if self.fact != _fact(program, body, self.runner):
            raise CallRefused("the call is signed for another program or body")


def call_right(space: str) -> Capability:
    """Return what a wallet's session has to hold to call in its name: see `Delegations.add_right`.

    Args:
        space: full id of a space of the wallet.
    """
    return capability(f"{space}/run", CALL)


def call_headers(
    session: Session, *, runner: RunnerAt, program: str, body: bytes, now: float, entropy: Entropy
) -> dict[str, str]:
    """Return the headers of a call.

    Args:
        session: of the caller.
        runner: as it names itself. A wrong `start` makes the call one that no other start runs
            either.
        program: `<did>/<name>`, or a SHA-256 as 64 hex digits.
        body: all of it.
        now: epoch seconds.
        entropy: for the nonce.
    Raises:
        NotGranted: the session of a wallet holds no sign-in for calls; see `call_right`.
        SessionExpired: it has ended.
    """
    space = session.space or space_of(session.owner, "default")
    wanted = capability(f"{space.text}/run/{program}", CALL)
    cited = session.proofs_for([wanted], now=now)
    sign_ins = [grant.header for grant in session.grants if grant.cid in cited]
    if len(sign_ins) > 1:
        raise NotGranted(
            "a call cites one sign-in, and this session would need several", missing=(wanted,)
        )
    headers = {
        "Authorization": mint(
            session.signer,
            entropy,
            audience=runner.did,
            capabilities=[wanted],
            proofs=cited,
            expires_at=now + INVOCATION_TTL_S,
            facts=[_fact(program, body, runner)],
        )
    }
    if sign_ins:
        headers[SIGN_IN_HEADER] = sign_ins[0]
    return headers


def read_call(authorization: str, sign_in: str | None, *, runner: str, now: float) -> Call:
    """Verify who calls, untrusted.

    Args:
        authorization: the token.
        sign_in: what the token cites; None: nothing was sent along.
        runner: this runner's DID.
        now: epoch seconds.
    Raises:
        CallRefused: a rule is broken.
    Does not check:
        Whether the token was used before: the caller of this function remembers `Call.token`.
        Whether the sign-in was revoked: it is at most a day old.
        Which program and body arrive: see `Call.require`.
        Whether the call names the start of this runner: the caller of this function compares it
            (RN178).
    """
    if len(authorization) > MAX_TOKEN_CHARS or (
        sign_in is not None and len(sign_in) > MAX_TOKEN_CHARS
    ):
        raise CallRefused(f"a token of a call has at most {MAX_TOKEN_CHARS} characters")
    try:
        invocation = parse_invocation(authorization)
        check_window(invocation, now)
        if invocation.audience != runner:  # RN60
            raise CallRefused("the call is addressed to another runner")
        fact = invocation.facts[0] if len(invocation.facts) == 1 else None
        start = fact.get("start") if isinstance(fact, dict) else None
        if not isinstance(fact, dict) or not isinstance(start, str):  # RN178
            raise CallRefused(
                "the call names no start of the runner", hint="update the client, and sign anew"
            )
        wanted = _wanted(invocation.capabilities, fact.get("program"))
        verified = verify_invocation(invocation)
        check_lifetime(verified, now)
        by = verified.invoker
        if not verified.parents and sign_in is None:
            judge_invocation(verified, (), {}, now=now)  # RN63: the root itself
        else:
            held = _held(sign_in, now)
            if [parent.digest for parent in verified.parents] != [held.delegation.cid]:
                raise CallRefused("the call cites another sign-in than it brings")
            judge_invocation(verified, [held], {held.delegation.content_key: Mark.LIVE}, now=now)
            by = held.delegation.delegator
            if root_of(wanted.resource) != by:
                raise CallRefused("the call is about a space of somebody else")
    except CapabilityError as exc:
        raise CallRefused(f"the call's authority does not hold: {exc.text}") from exc
    return Call(by, verified.content_key, verified.expires_at, RunnerAt(runner, start), fact)


def _fact(program: str, body: bytes, runner: RunnerAt) -> dict[str, Json]:
    """Return the fact of a call (RN62, RN178)."""
    digest = encode_url(hashlib.sha256(body).digest())
    about: dict[str, Json] = {"type": CALL_FACT, "program": program, "bodySha256": digest}
    return about | {"runner": runner.did, "start": runner.start}


def _wanted(capabilities: tuple[Capability, ...], program: Json) -> Capability:
    """Return the one capability of a call (RN61)."""
    if len(capabilities) == 1 and capabilities[0].ability == CALL:
        resource = capabilities[0].resource
        is_named = (
            isinstance(resource, SpaceResource)
            and resource.text == f"{resource.space.text}/run/{program}"
        )
        if is_named and not capabilities[0].caveats:
            return capabilities[0]
    raise CallRefused(f"a call invokes {CALL} on the program alone, in a space of the caller")


def _held(sign_in: str | None, now: float) -> Registered:
    """Return a wallet's sign-in: its own signature, without parents or conditions, at most a day
    old (RN64)."""
    if sign_in is None:
        raise CallRefused(
            "the call cites a sign-in and does not bring it", hint=f"send it as {SIGN_IN_HEADER}"
        )
    delegation: Delegation = verify_delegation(parse_delegation(sign_in))
    if delegation.form != "cacao" or delegation.parents or delegation.issued_at is None:
        raise CallRefused(
            "the sign-in of a call is a wallet's own, and rests on no other delegation"
        )
    if not -_CLOCKS_APART_S <= now - delegation.issued_at <= MAX_SIGN_IN_AGE_S:
        raise CallRefused("the sign-in of a call is older than a day", hint="sign in again")
    if delegation.facts:  # a policy on the code that may use it: nobody here could judge that
        raise CallRefused("the sign-in of a call is under conditions", hint="sign in without them")
    return judge_registration(delegation, (), {}, now=now)
