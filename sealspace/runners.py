"""Granting to runners: an owner's secrets, for the programs and callers that the owner names.

A runner is a backend that executes programs of others. It is looked at as any backend is, by `sealspace.backends`; the
grant then says beside the runner's code for which programs, callers and hosts the secrets may be used.

Example:
    from sealspace.run_grants import ByHash
    seen = await client.backends.look(backend_url, inspector)
    run = RunStatement(programs=(ByHash("ab" * 32),))
    portable = await client.runners.grant(seen, ["API_KEY"], run, wallet=wallet)  # `backends.hand_over` takes it there
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.ambient import SystemClock, SystemEntropy
from capabilities.errors import InvalidJson
from capabilities.principals import same_principal
from capabilities.strict_json import Json, parse_json

from ._caller import Caller
from ._capability import capability
from ._secret_names import SECRETS_SPACE, parse_secret_label
from .backends import LOOK_TTL_S, Backends, Leniency, Pin, Seen, ask_backend, policy_for
from .delegations import DELEGATION_TTL_S, Delegations
from .errors import BackendAnswerInvalid, BackendNotAcceptable, InvalidInput
from .portable import PortableDelegation
from .run_calls import call_headers
from .run_grants import MAX_SECRETS, RunStatement, read_run_grant
from .session import Session, network_of_owner, space_of
from .transport import Request, TransportSettings
from .wallets import AnyWallet, wallet_of

MAX_ANSWER_BYTES: Final = 80_000_000
"""Longest answer of a run: ten megabytes of output, each byte of which may be escaped, and what is said about it."""
CALL_TIMEOUT_S: Final = 300.0


class Runners:
    """Granting to runners; made by `Client.runners`."""

    def __init__(self, caller: Caller, backends: Backends, delegations: Delegations) -> None:
        self._caller = caller
        self._backends = backends
        self._delegations = delegations

    async def grant(
        self,
        seen: Seen,
        secrets: Sequence[str],
        run: RunStatement,
        *,
        ttl_s: float = DELEGATION_TTL_S,
        accept: Sequence[Leniency] = (),
        pin: Pin = "compose",
        wallet: AnyWallet | None = None,
    ) -> PortableDelegation:
        """Delegate secrets to exactly the runner that was seen, for named programs and callers alone.

        Args:
            seen: from `Backends.look`, at most LOOK_TTL_S ago.
            secrets: labels, `NAME` or `scope/NAME`, at most 32; a name that is added later needs a new grant.
            run: programs, callers, hosts and limits; the runner enforces them, the node does not.
            ttl_s: lifetime in seconds.
            accept: what may deviate from the strict terms; see `policy_for`.
            pin: see `policy_for`.
            wallet: the owner's; None: the session's key is the owner itself.
        Returns:
            The grant, registered at the node; `backends.hand_over` takes it to the runner.
        Raises:
            InvalidInput: a name, the number of names, or the signer is not the owner itself: a runner takes no grant
                that rests on another delegation (RN41).
            BackendNotAcceptable, NodeRefused, TransportError: as `Backends.grant`.
        """
        session = self._caller.session
        if not same_principal(session.did if wallet is None else wallet_of(wallet).did, session.owner):
            raise InvalidInput("a run grant is signed by the owner itself", hint="pass the owner's wallet")
        if not 0 <= self._caller.clock.now() - seen.seen_at <= LOOK_TTL_S:
            raise BackendNotAcceptable("what was seen is too old to grant to", problem="age", hint="look again")
        paths = [parse_secret_label(label).path for label in dict.fromkeys(secrets)]
        if not 1 <= len(paths) <= MAX_SECRETS:
            raise InvalidInput(f"a run grant names 1 to {MAX_SECRETS} secrets")
        space = space_of(session.owner, SECRETS_SPACE)
        resources = [f"{space.text}/kv/{path}" for path in paths]
        policy = policy_for(seen, paths=resources, accept=accept, pin=pin, ttl_s=ttl_s)
        await self._backends.require_judgeable(seen)  # before anything is signed
        wanted = [capability(resource, KV_GET) for resource in resources]
        wanted.append(capability(network_of_owner(session.owner).text, DECRYPT))
        portable = await self._delegations.delegate(
            seen.did, wanted, ttl_s=ttl_s, policy=policy, run=run, wallet=wallet
        )
        read_run_grant(portable.header, runner=seen.did)  # what a runner would refuse is not handed on
        return portable


async def call_runner(url: str, session: Session, body: Mapping[str, Json]) -> dict[str, Json]:
    """Have a runner run a program, in the name of a session's owner.

    Args:
        url: address of the runner.
        session: of the caller; that of a wallet holds `run_calls.call_right`.
        body: `source`, and what else RN66 lists.
    Returns:
        What the runner answered, also where it refused: `status`, `output` or `error`, `receipt`.
    Raises:
        InvalidInput: no such address, or the body names no program.
        NotGranted, SessionExpired: as `call_headers`.
        BackendUnreachable, BackendAnswerInvalid: no usable answer, or that of something else.
    Does not check:
        What runs there, and the receipt: see `backends.look_at` and `tee_backend.runner.run_receipts`.
    """
    source = body.get("source")
    program = (source.get("project") or source.get("wasmSha256")) if isinstance(source, dict) else None
    if not isinstance(program, str):
        raise InvalidInput("a call names a program", hint='{"source": {"project": "<did>/<name>"}}')
    info = _object((await ask_backend(url, Request("GET", "/info", repeatable=True))).body)
    runner = info.get("runner")
    if not isinstance(runner, str):
        raise BackendAnswerInvalid(f"there is no runner at {url}")
    data = json.dumps(dict(body)).encode()
    now, entropy = SystemClock().now(), SystemEntropy()
    headers = call_headers(session, runner=runner, program=program, body=data, now=now, entropy=entropy)
    headers["Content-Type"] = "application/json"
    request = Request("POST", "/run", headers=headers, body=data, max_answer_bytes=MAX_ANSWER_BYTES)
    answer = await ask_backend(url, request, settings=TransportSettings(timeout_s=CALL_TIMEOUT_S))
    return _object(answer.body)


async def start_of(url: str) -> bytes:
    """Return a runner's start document, untrusted: what its receipts are judged with.

    Raises:
        InvalidInput, BackendUnreachable, BackendAnswerInvalid: as `call_runner`.
    """
    answer = await ask_backend(url, Request("GET", "/start", repeatable=True))
    if not answer.is_success:
        raise BackendAnswerInvalid(f"there is no runner at {url}")
    return answer.body


def _object(data: bytes) -> dict[str, Json]:
    try:
        return parse_json(data, max_bytes=MAX_ANSWER_BYTES)
    except InvalidJson as exc:
        raise BackendAnswerInvalid("the runner's answer cannot be read") from exc
