"""Granting to runners, and calling them: an owner's secrets, for the programs and callers that the owner names.

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
from typing import Final, Literal

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.ambient import SystemClock, SystemEntropy
from capabilities.errors import InvalidJson
from capabilities.principals import same_principal
from capabilities.strict_json import Json, parse_json

from ._caller import Caller
from ._capability import capability
from ._secret_names import SECRETS_SPACE, parse_secret_label
from .api_keys import KEY_HEADER, Credential, new_api_key, parse_credential
from .backends import LOOK_TTL_S, Backends, Leniency, Pin, Seen, ask_backend, policy_for
from .delegations import DELEGATION_TTL_S, Delegations
from .errors import BackendAnswerInvalid, BackendNotAcceptable, CallRefused, InvalidInput
from .portable import PortableDelegation
from .project_names import ProjectId
from .run_calls import call_headers
from .run_grants import MAX_SECRETS, RunStatement, read_run_grant
from .session import Session, network_of_owner, space_of
from .transport import Answer, Request, TransportSettings
from .wallets import AnyWallet, wallet_of

MAX_ANSWER_BYTES: Final = 80_000_000
"""Longest answer of a run: ten megabytes of output, each byte of which may be escaped, and what is said about it."""
CALL_TIMEOUT_S: Final = 300.0
KEY_TTL_S: Final = 30 * 86_400.0


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

    async def create_key(
        self,
        url: str,
        *,
        projects: Sequence[ProjectId] | None,
        profiles: Sequence[str] = (),
        max_per_call: int,
        ttl_s: float = KEY_TTL_S,
        wallet: AnyWallet | None = None,
    ) -> Credential:
        """Make an API key: whoever has it calls programs at one runner in the owner's name, and at its cost.

        Args:
            url: address of the runner.
            projects: that it calls, 1 to 64; None: any.
            profiles: whose secrets a call may ask for; none by default.
            max_per_call: micro-units.
            ttl_s: lifetime in seconds, at most 90 days.
            wallet: the owner's; None: the session's key is the owner itself.
        Returns:
            The key, which nobody can show again.
        Raises:
            InvalidInput: an argument, or the signer is not the owner.
            CallRefused: the runner refuses.
            BackendUnreachable, BackendAnswerInvalid: as `call_runner`.
        """
        session = self._caller.session
        signer = session.signer if wallet is None else wallet_of(wallet)
        if not same_principal(signer.did, session.owner):
            raise InvalidInput("an API key is signed by the owner itself", hint="pass the owner's wallet")
        statement, credential = new_api_key(
            signer if wallet is None else wallet,
            runner=await _runner_at(url),
            projects=projects,
            profiles=profiles,
            max_per_call=max_per_call,
            expires_at=self._caller.clock.now() + ttl_s,
            entropy=self._caller.entropy,
        )
        _accepted(await ask_backend(url, Request("POST", "/keys", body=statement)))
        return credential

    async def keys(self, url: str) -> dict[str, Json]:
        """Return the owner's API keys at a runner, and its account there, as the runner answers.

        Raises:
            NotGranted, SessionExpired: as `run_calls.call_headers`.
            CallRefused, BackendUnreachable, BackendAnswerInvalid: as `create_key`.
        """
        return _accepted(await self._signed(url, "GET", "/keys", "keys"))

    async def revoke_key(self, url: str, nonce: int) -> None:
        """Revoke one of the owner's API keys at a runner, from now on.

        Raises:
            NotGranted, SessionExpired, BackendUnreachable, BackendAnswerInvalid: as `keys`.
            CallRefused: as `keys`, and where there is no such key.
        """
        _accepted(await self._signed(url, "DELETE", f"/keys/{nonce}", f"keys/{nonce}/revoke"))

    async def _signed(self, url: str, method: Literal["GET", "DELETE"], path: str, about: str) -> Answer:
        caller, runner = self._caller, await _runner_at(url)
        headers = call_headers(
            caller.session, runner=runner, program=about, body=b"", now=caller.clock.now(), entropy=caller.entropy
        )
        return await ask_backend(url, Request(method, path, headers=headers))


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
    runner = await _runner_at(url)
    data = json.dumps(dict(body)).encode()
    now, entropy = SystemClock().now(), SystemEntropy()
    headers = call_headers(session, runner=runner, program=program, body=data, now=now, entropy=entropy)
    headers["Content-Type"] = "application/json"
    request = Request("POST", "/run", headers=headers, body=data, max_answer_bytes=MAX_ANSWER_BYTES)
    answer = await ask_backend(url, request, settings=TransportSettings(timeout_s=CALL_TIMEOUT_S))
    return _object(answer.body)


async def call_with_key(url: str, key: str, project: ProjectId, body: Mapping[str, Json]) -> dict[str, Json]:
    """Have a runner run a program, for the holder of an API key.

    Args:
        url: address of the runner: https, or this machine.
        key: as `Credential.text`.
        project: whose active version runs, unless the body has `version_key`.
        body: `input`, and what else RN96 lists.
    Returns:
        What the runner answered, also where it refused: `status` and `output`, or `error` and `code`.
    Raises:
        InvalidInput: no such address, or the key is none.
        BackendUnreachable, BackendAnswerInvalid: no usable answer.
    """
    headers = {KEY_HEADER: parse_credential(key).text, "Content-Type": "application/json"}
    path = f"/call/{project.developer}/{project.name}"
    data = json.dumps(dict(body)).encode()
    request = Request("POST", path, headers=headers, body=data, max_answer_bytes=MAX_ANSWER_BYTES)
    return _object((await ask_backend(url, request, settings=TransportSettings(timeout_s=CALL_TIMEOUT_S))).body)


async def start_of(url: str) -> bytes:
    """Return a runner's start document, untrusted: what its receipts are judged with.

    Raises:
        InvalidInput, BackendUnreachable, BackendAnswerInvalid: as `call_runner`.
    """
    answer = await ask_backend(url, Request("GET", "/start", repeatable=True))
    if not answer.is_success:
        raise BackendAnswerInvalid(f"there is no runner at {url}")
    return answer.body


async def _runner_at(url: str) -> str:
    """Return the DID of the runner at an address, untrusted."""
    runner = _object((await ask_backend(url, Request("GET", "/info", repeatable=True))).body).get("runner")
    if not isinstance(runner, str):
        raise BackendAnswerInvalid(f"there is no runner at {url}")
    return runner


def _accepted(answer: Answer) -> dict[str, Json]:
    """Return what a runner answered, unless it refused."""
    said = _object(answer.body)
    if answer.is_success:
        return said
    error = said.get("error")
    texts = [error.get(name) for name in ("message", "detail")] if isinstance(error, dict) else []
    raise CallRefused(" ".join(one for one in texts if isinstance(one, str))[:600] or "the runner refuses")


def _object(data: bytes) -> dict[str, Json]:
    try:
        return parse_json(data, max_bytes=MAX_ANSWER_BYTES)
    except InvalidJson as exc:
        raise BackendAnswerInvalid("the runner's answer cannot be read") from exc
