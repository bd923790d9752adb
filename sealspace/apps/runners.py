"""Client functions for runners: grant secrets, and call programs.

A runner is a backend that executes other people's programs. Its evidence is verified like that of
any backend, with `backends`. A grant to it also names the programs, callers and hosts for which the
secrets may be used.

Example:
    from sealspace.documents.run_grants import ByHash
    seen = await client.backends.look(backend_url, inspector)
    run = RunStatement(programs=(ByHash("ab" * 32),))
    portable = await client.runners.grant(seen, ["API_KEY"], run, wallet=wallet)
    # `backends.deliver` sends it to the runner
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import NamedTuple

from capabilities.abilities import DECRYPT, KV_GET, KV_PUT, NETWORK_CREATE, SET_POLICY
from capabilities.clock_and_entropy import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.frozen import frozen
from capabilities.principals import same_principal
from capabilities.strict_json import Json, JsonObject
from capabilities.tokens import Capability
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson
from encryption_network.policy import Policy

from ..delegations import DELEGATION_TTL_S, Delegations
from ..documents.builds import repository_of
from ..documents.call_conditions import require_bounded_patterns
from ..documents.generation_grants import GENERATE, generation_body, read_generation_grant
from ..documents.project_names import ProjectId
from ..documents.run_grants import (
    MAX_SECRETS,
    PROJECT_ABILITIES,
    RunStatement,
    project_resource,
    read_program_grant,
    read_run_grant,
)
from ..documents.secret_names import (
    PROTECTED_NETWORK,
    SECRETS_SPACE,
    SecretName,
    canonical_scope,
    is_protected,
    parse_secret_label,
)
from ..encryption import Encryption
from ..errors import BackendAnswerInvalid, InvalidInput, NetworkNotFound, NotGranted
from ..printable import printable
from ..session import DEFAULT_NETWORK, Session, capability, network_of_owner, space_of
from ..wallets import AnyWallet, wallet_of
from ..wire.caller import Caller
from ..wire.portable import PortableDelegation
from ..wire.transport import Answer, Method, Request, TransportSettings
from .api_keys import KEY_HEADER, Credential, new_api_key, parse_credential
from .backends import (
    Backends,
    Leniency,
    Pin,
    Seen,
    ask_backend,
    deliver,
    policy_for,
    require_recent,
)
from .run_calls import RunnerAt, call_headers, call_right
from .runner_answers import (
    MAX_ANSWER_BYTES,
    answer_object,
    call_refused,
    error_code,
    error_text,
    read_secret_names,
    require_success,
)

CALL_TIMEOUT_S = 300.0
TRIES = 3
"""How often a call is sent to a runner that cannot start the program for now."""
_MOST_PAUSE_S = 60.0
_NOT_STARTED = frozenset({"node-unavailable", "secret-unreadable", "runner-busy"})
KEY_TTL_S = 30 * 86_400.0
GENERATION_GRANT_TTL_S = 600.0
"""Lifetime of a grant to write generated secrets, seconds."""


class _SignedExchange(NamedTuple):
    """A runner's answer to a signed request, and the token that the request had."""

    answer: Answer
    authorization: str


@frozen(kw_only=True)
class Generation:
    """A runner's unverified response to a request for new secrets.

    Attributes:
        generated: names of the new secrets.
        existing: names of the secrets that existed already and were not changed.
        statement: signed with the runner's receipt key; None if it refused.
        authorization: token of the request, which the statement names.
        code: error code if it failed or refused; else None.
        message: text of the error.
    """

    generated: tuple[str, ...]
    existing: tuple[str, ...]
    statement: bytes | None = field(repr=False)
    authorization: str = field(repr=False)
    code: str | None
    message: str


class Runners:
    """A client for granting secrets to runners.

    Use `Client.runners` to get an instance.
    """

    def __init__(
        self, caller: Caller, backends: Backends, delegations: Delegations, encryption: Encryption
    ) -> None:
        self._caller = caller
        self._backends = backends
        self._delegations = delegations
        self._encryption = encryption

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
        job: str | None = None,
    ) -> PortableDelegation:
        """Grant secrets to a runner for named programs and callers.

        Args:
            seen: the result of `Backends.look`, at most LOOK_TTL_S ago.
            secrets: labels, `NAME` or `scope/NAME`, at most 32; a further secret needs a new grant.
                Generated secrets, `PROTECTED_…`, belong to another network, so they need a grant of
                their own.
            run: programs, callers, hosts and limits; the runner enforces them, the node does not.
            ttl_s: lifetime in seconds.
            accept: terms to relax; see `policy_for`.
            pin: see `policy_for`.
            wallet: the owner's wallet; None: the session's key is the owner.
            job: key for which to make a job grant (RN245), with the runner as `run.refresh_for`.
        Returns:
            The grant, registered with the node; `backends.deliver` sends it to the runner.
        Raises:
            InvalidInput: a name or their number is not valid, hosts are given for a program without
                a project, or a pattern on callers is over its limit. Also if the signer is not the
                owner itself: runners accept no grant with a parent delegation (RN41).
            BackendNotAcceptable, NodeRefused, TransportError: the same errors as `Backends.grant`.
        """
        session = self._caller.session
        self._require_grantable(seen, wallet)
        # Programs without a project contact no host, so a grant of hosts would promise too much
        # (RN176).
        if run.hosts and not all(rule.project for rule in run.programs):
            raise InvalidInput(
                "a program without a project may not contact hosts, because only a project's"
                " manifest can list hosts",
                hint="write the program as DID/NAME",
            )
        require_bounded_patterns(run.callers)  # RN210: runners refuse such a grant
        secret_names = [parse_secret_label(label) for label in dict.fromkeys(secrets)]
        if not 1 <= len(secret_names) <= MAX_SECRETS:
            raise InvalidInput(f"a run grant must name 1 to {MAX_SECRETS} secrets")
        network = network_of_owner(session.owner, network_name(secret_names))
        resources = _resources(session, secret_names)
        policy = policy_for(seen, paths=resources, accept=accept, pin=pin, ttl_s=ttl_s)
        await self._backends.require_judgeable(seen)  # before anything is signed
        portable = await self._delegations.delegate(
            job or seen.did,
            [
                *(capability(resource, KV_GET) for resource in resources),
                capability(network.text, DECRYPT),
            ],
            ttl_s=ttl_s,
            policy=policy,
            run=run,
            wallet=wallet,
        )
        read_run_grant(portable.header, runner=None if job else seen.did)  # as the runner does
        return portable

    async def generate(
        self,
        seen: Seen,
        wanted: Mapping[str, str],
        *,
        scope: str | None = None,
        accept: Sequence[Leniency] = (),
        pin: Pin = "compose",
        wallet: AnyWallet | None = None,
    ) -> Generation:
        """Ask a runner to generate secrets that only programs can read.

        The owner's network `protected` is created if it is missing, with a policy that keeps people
        from opening its secrets. The runner gets a grant for ten minutes to write exactly these
        secrets, and does not replace existing ones.

        Args:
            seen: the result of `Backends.look`, at most LOOK_TTL_S ago.
            wanted: name to type, 1 to 16; see `run_grants.checked_generation_type`.
            scope: None for global secrets.
            accept: terms to relax; see `policy_for`.
            pin: see `policy_for`.
            wallet: the owner's wallet; None: the session's key is the owner.
        Returns:
            The runner's answer. After a failure, some secrets may have been made.
        Raises:
            InvalidInput: a name, a type or their number is not valid; the signer is not the owner
                itself; or people may open secrets of the network `protected`.
            BackendNotAcceptable: the node would reject the runner, or its evidence is too old.
            GrantNotTaken: the runner did not accept the right to store the secrets.
            BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
            NodeRefused, TransportError: a request failed.
        Does not check:
            Which code answered: `runner.calls.generated_secrets.verify_generated` does,
                by the statement.
        """
        session = self._caller.session
        canonical = None if scope is None else canonical_scope(scope)
        body = generation_body(session.owner, canonical, wanted)  # before anything is sent
        self._require_grantable(seen, wallet)
        # Raises for evidence that the node would reject.
        policy_for(seen, accept=accept, pin=pin, ttl_s=GENERATION_GRANT_TTL_S)
        await self._ensure_protected(wallet)
        secret_names = [SecretName(name, canonical) for name in wanted]
        granted = [capability(resource, KV_PUT) for resource in _resources(session, secret_names)]
        portable = await self._delegations.delegate(
            seen.did, granted, ttl_s=GENERATION_GRANT_TTL_S, wallet=wallet
        )
        read_generation_grant(portable.header, runner=seen.did)  # raises if a runner would refuse
        await deliver(seen.url, portable)
        space = session.space or space_of(session.owner, "default")
        await self._ensure_rights(wallet, [call_right(space.text)])
        exchange = await self._ask(
            seen.url,
            "POST",
            "/secrets/generate",
            GENERATE,
            body=json.dumps(body).encode(),
            did=seen.did,
        )
        statements = answer_object(exchange.answer)
        return _read_generation(statements, authorization=exchange.authorization)

    async def share_project(
        self,
        seen: Seen,
        name: str,
        *,
        folder: str = "projects",
        ttl_s: float = DELEGATION_TTL_S,
        wallet: AnyWallet | None = None,
    ) -> PortableDelegation:
        """Let a runner read one of the owner's private projects (RN152), or keep its storage.

        Args:
            seen: the result of `Backends.look`, at most LOOK_TTL_S ago.
            name: name of the project, in the space `projects`.
            folder: `projects` to read the program, `storage` to keep what it stores (RN201).
            ttl_s: lifetime in seconds.
            wallet: the owner's wallet; None: the session's key is the owner.
        Returns:
            The grant, registered with the node; `backends.deliver` sends it to the runner.
        Raises:
            InvalidInput, BackendNotAcceptable, NodeRefused, TransportError: see `grant`.
        Does not check:
            Which code reads the project: for values, the node checks only the DID.
        """
        self._require_grantable(seen, wallet)
        resource = project_resource(self._caller.session.owner, name, folder)
        wanted = [capability(resource, ability) for ability in sorted(PROJECT_ABILITIES[folder])]
        portable = await self._delegations.delegate(seen.did, wanted, ttl_s=ttl_s, wallet=wallet)
        # Raises if a runner would refuse it.
        read_program_grant(portable.header, runner=seen.did, folder=folder)
        return portable

    def _require_grantable(self, seen: Seen, wallet: AnyWallet | None) -> None:
        """Check that the wallet is the owner's and the evidence is recent (RN41)."""
        self._require_owner(wallet, "a run grant")
        require_recent(seen, self._caller.clock.now())

    def _require_owner(self, wallet: AnyWallet | None, document: str) -> None:
        session = self._caller.session
        signer = session.did if wallet is None else wallet_of(wallet).did
        if not same_principal(signer, session.owner):
            raise InvalidInput(
                f"{document} must be signed by the owner", hint="sign with the owner's wallet"
            )

    async def _ensure_protected(self, wallet: AnyWallet | None) -> None:
        """Ensure that the encryption network for generated secrets exists (RN144).

        The network `protected` gives keys only to programs.
        """
        network = self._encryption.network(PROTECTED_NETWORK)
        try:
            await self._encryption.descriptor(network)  # only to learn whether the network exists
        except NetworkNotFound:
            # Only creating the network needs this right, so the wallet signs only then.
            await self._ensure_rights(wallet, [capability(network.text, NETWORK_CREATE)])
        await self._encryption.ensure_network(PROTECTED_NETWORK)  # raises if it was revoked
        await self._ensure_rights(wallet, [capability(network.text, SET_POLICY)])
        stated = await self._encryption.policy(network)
        if stated is None:
            await self._encryption.set_policy(network, Policy(in_person=False))
        elif stated.in_person:
            raise InvalidInput(
                "generated secrets must be readable by code only, but the policy of your network"
                f" {PROTECTED_NETWORK} also lets people decrypt them",
                hint='set "inPerson" to false in the policy: sealspace network policy'
                f" {PROTECTED_NETWORK} --set FILE",
            )

    async def _ensure_rights(self, wallet: AnyWallet | None, wanted: Sequence[Capability]) -> None:
        """Add the requested rights for one hour if any are missing."""
        try:  # called only to learn whether the session has the rights
            self._caller.session.proofs_for(wanted, now=self._caller.clock.now())
        except NotGranted:
            if wallet is None:
                raise
            await self._delegations.add_right(wallet, wanted)

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
        """Create an API key for calls to programs.

        The owner pays for the calls.

        Args:
            url: address of the runner, the only one where the key is valid.
            projects: projects that the key may call, 1 to 64; None: any.
            profiles: names of the profiles whose secrets a call may use; none by default.
            max_per_call: most that one call may cost, micro-units.
            ttl_s: lifetime in seconds, at most 90 days.
            wallet: the owner's wallet; None: the session's key is the owner.
        Returns:
            The key, which cannot be shown again.
        Raises:
            InvalidInput: an argument is not valid, or the signer is not the owner.
            CallRefused: the runner refused the key.
            BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
        """
        self._require_owner(wallet, "an API key")
        statement, credential = new_api_key(
            self._caller.session.signer if wallet is None else wallet,
            runner=(await runner_at(url)).did,
            projects=projects,
            profiles=profiles,
            max_per_call=max_per_call,
            expires_at=self._caller.clock.now() + ttl_s,
            entropy=self._caller.entropy,
        )
        require_success(await ask_backend(url, Request("POST", "/keys", body=statement)))
        return credential

    async def keys(self, url: str) -> JsonObject:
        """Fetch the owner's API keys and balance from a runner.

        Raises:
            NotGranted, SessionExpired: the session has no sign-in for calls; see `call_right`.
            CallRefused: the runner refused the request; the message has its text.
            BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
        """
        exchange = await self._ask(url, "GET", "/keys", "keys")
        return require_success(exchange.answer)

    async def revoke_key(self, url: str, nonce: int) -> None:
        """Revoke one of the owner's API keys on a runner.

        The effect is immediate.

        Raises:
            CallRefused: the runner refused the request, or has no such key.
            NotGranted, SessionExpired: the session has no sign-in for calls; see `call_right`.
            BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
        """
        exchange = await self._ask(url, "DELETE", f"/keys/{nonce}", f"keys/{nonce}/revoke")
        require_success(exchange.answer)

    async def make_task(self, url: str, app: str, body: bytes) -> JsonObject:
        """Make a task, and return its first state.

        Args:
            url: address of the runner.
            app: the application, as in the body.
            body: JSON with the members that TK1 lists.
        Raises:
            CallRefused: the runner refused the task; the message has its text.
            NotGranted, SessionExpired: the session has no sign-in for calls; see `call_right`.
            BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
        """
        exchange = await self._ask(url, "POST", "/tasks", app, body=body)
        return require_success(exchange.answer)

    async def task(self, url: str, job: str) -> JsonObject:
        """Fetch the state of a task of the session's owner.

        Raises the same errors as `make_task`.
        """
        exchange = await self._ask(url, "GET", f"/tasks/{job}", f"calls/{job}")
        return require_success(exchange.answer)

    async def task_result(self, url: str, job: str) -> bytes:
        """Fetch the encrypted result of a task.

        Raises the same errors as `make_task`.
        """
        exchange = await self._ask(url, "GET", f"/tasks/{job}/result", f"calls/{job}")
        if not exchange.answer.is_success:
            raise call_refused(exchange.answer)
        return exchange.answer.body

    async def _ask(
        self,
        url: str,
        method: Method,
        path: str,
        program: str,
        *,
        body: bytes = b"",
        did: str | None = None,
    ) -> _SignedExchange:
        """Send a request that is signed by this client's session; see `_ask_signed`."""
        return await _ask_signed(
            url,
            method,
            path,
            program,
            session=self._caller.session,
            body=body,
            did=did,
            clock=self._caller.clock,
            entropy=self._caller.entropy,
        )


def network_name(secrets: Sequence[SecretName]) -> str:
    """Return the name of the encryption network for a grant's secrets (RN146).

    Raises:
        InvalidInput: the secrets belong to two networks.
    """
    protected_count = [is_protected(secret.name) for secret in secrets].count(True)
    if 0 < protected_count < len(secrets):
        raise InvalidInput(
            "one grant cannot contain both PROTECTED_ secrets and other secrets, because they are"
            " encrypted to different networks",
            hint="make two grants for the same program: a run gets the secrets of both",
        )
    return PROTECTED_NETWORK if protected_count else DEFAULT_NETWORK


def _resources(session: Session, secrets: Sequence[SecretName]) -> list[str]:
    space = space_of(session.owner, SECRETS_SPACE)
    return [f"{space.text}/kv/{secret.path}" for secret in secrets]


def _read_generation(answer: Mapping[str, Json], *, authorization: str) -> Generation:
    """Read a runner's answer to a request for new secrets."""
    error = answer.get("error")
    try:
        statement = canonical_bytes(answer["statement"]) if "statement" in answer else None
    except InvalidCanonicalJson as exc:
        raise BackendAnswerInvalid("the runner's statement cannot be written as JSON") from exc
    return Generation(
        generated=read_secret_names(answer, "generated"),
        existing=read_secret_names(answer, "existing"),
        statement=statement,
        authorization=authorization,
        code=error_code(error),
        message=printable(error_text(error)),
    )


Waiting = Callable[[str, float], object]
"""Called with the runner's error code and the pause in seconds before a call is sent again."""


async def call_runner(
    url: str, session: Session, body: Mapping[str, Json], *, on_wait: Waiting = lambda *_: None
) -> JsonObject:
    """Run a program on a runner as the session's owner.

    If the program cannot start for now, the call is signed and sent again after a pause.

    Args:
        url: address of the runner.
        session: the caller's session; a wallet's session needs `run_calls.call_right`.
        body: `source`, and the other members that RN66 lists.
        on_wait: called before each pause.
    Returns:
        The runner's answer, which may be a refusal: `status`, `output` or `error`, `receipt`.
    Raises:
        InvalidInput: the address is not valid, or the body names no program.
        NotGranted, SessionExpired: the session has no sign-in for calls; see `call_right`.
        BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
    Does not check:
        The runner's code, and the receipt: see `backends.fetch_evidence` and
            `runner.calls.run_receipts`.
    """
    match body.get("source"):
        case {"project": str(program)} | {"wasmSha256": str(program)} if program:
            pass
        # The signed text of a program that was built on GitHub (RN61).
        case {"GitHub": {"repo": str(repo), "commit": str(commit)}}:
            program = f"{repository_of(repo)}@{commit}"
        case _:
            raise InvalidInput(
                "the call does not name a program",
                hint='name the program in the call: {"source": {"project": "<did>/<name>"}}',
            )
    data = json.dumps(dict(body)).encode()

    async def ask() -> Answer:
        exchange = await _ask_signed(
            url,
            "POST",
            "/run",
            program,
            session=session,
            body=data,
            clock=SystemClock(),
            entropy=SystemEntropy(),
        )
        return exchange.answer

    return await _call_until_started(ask, on_wait)


async def _call_until_started(ask: Callable[[], Awaitable[Answer]], on_wait: Waiting) -> JsonObject:
    """Call a program, and call it again while its runner cannot start it (RN224).

    Other codes with status 503 do not exclude that the program ran.
    """
    tries = 1
    while True:
        answer = await ask()
        members = answer_object(answer)
        if answer.status != 503 or tries == TRIES:
            return members
        match members:
            case {"error": {"code": str(code)}} | {"code": str(code)} if code in _NOT_STARTED:
                pause_s = min(answer.refusal().retry_after_s or 1.0, _MOST_PAUSE_S)
                on_wait(code, pause_s)
                await asyncio.sleep(pause_s)
                tries += 1
            case _:
                return members


async def _ask_signed(
    url: str,
    method: Method,
    path: str,
    program: str,
    *,
    session: Session,
    body: bytes = b"",
    did: str | None = None,
    clock: Clock,
    entropy: Entropy,
) -> _SignedExchange:
    """Send a signed request to a runner.

    If the runner restarted between its `/info` and the request, it did nothing, so the request is
    signed and sent once more (RN178).

    Args:
        url: address of the runner.
        method: HTTP method.
        path: path of the route.
        program: the called program, or the name of another action.
        session: the caller's session.
        body: empty for no body.
        did: DID of the runner that was seen; None: of the runner that answers.
        clock: source of the token's times.
        entropy: source of the token's nonce.
    """

    async def sign_and_send(answering: RunnerAt) -> _SignedExchange:
        runner = RunnerAt(did or answering.did, answering.start)
        headers = call_headers(
            session, runner=runner, program=program, body=body, now=clock.now(), entropy=entropy
        )
        authorization = headers["Authorization"]
        settings = None
        if body:
            headers["Content-Type"] = "application/json"
            settings = TransportSettings(timeout_s=CALL_TIMEOUT_S)
        request = Request(
            method,
            path,
            headers=headers,
            body=body or None,
            max_answer_bytes=MAX_ANSWER_BYTES,
            serves_once=True,  # a second attempt would send a used token
        )
        answer = await ask_backend(url, request, settings=settings)
        return _SignedExchange(answer, authorization)

    runner_before = await runner_at(url)
    exchange = await sign_and_send(runner_before)
    if exchange.answer.status != 409:
        return exchange
    match answer_object(exchange.answer):
        case {"error": {"code": "call-start"}}:
            runner_now = await runner_at(url)
            # If the start is unchanged, the refusal is false: the runner may have run the program,
            # and a second token could run it again.
            if runner_now.start != runner_before.start:
                return await sign_and_send(runner_now)
    return exchange


async def call_with_key(
    url: str,
    key: str,
    project: ProjectId,
    body: Mapping[str, Json],
    *,
    on_wait: Waiting = lambda *_: None,
) -> JsonObject:
    """Run a program on a runner, authorised by an API key.

    If the program cannot start for now, the call is sent again after a pause.

    Args:
        url: address of the runner: https, or this machine.
        key: the key, as `Credential.text`.
        project: the project whose active version runs, unless the body has `version_key`.
        body: `input`, and the other members that RN96 lists.
        on_wait: called before each pause.
    Returns:
        The runner's answer, which may be a refusal: `status` and `output`, or `error` and `code`.
    Raises:
        InvalidInput: the address or the key is not valid.
        BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
    """
    request = Request(
        "POST",
        f"/call/{project.developer}/{project.name}",
        headers={KEY_HEADER: parse_credential(key).text, "Content-Type": "application/json"},
        body=json.dumps(dict(body)).encode(),
        max_answer_bytes=MAX_ANSWER_BYTES,
        serves_once=True,  # a program may have run (RN158)
    )
    settings = TransportSettings(timeout_s=CALL_TIMEOUT_S)
    return await _call_until_started(partial(ask_backend, url, request, settings=settings), on_wait)


async def start_of(url: str) -> bytes:
    """Fetch a runner's startup document without verifying it.

    The document contains the runner's key and its attestation evidence.

    Raises:
        InvalidInput: the address is not valid.
        BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
    """
    answer = await ask_backend(url, Request("GET", "/start", repeatable=True))
    if not answer.is_success:
        raise BackendAnswerInvalid(f"there is no runner at {url}")
    return answer.body


async def runner_at(url: str) -> RunnerAt:
    """Fetch a runner's identity without verifying it.

    A false statement is harmless: only the start that a signed call names runs it (RN178).

    Raises:
        InvalidInput: the address is not valid.
        BackendUnreachable, BackendAnswerInvalid: there was no usable answer.
    """
    answer = await ask_backend(url, Request("GET", "/info", repeatable=True))
    match answer_object(answer):
        case {"runner": str(did), "start": str(start)}:
            return RunnerAt(did, start)
    raise BackendAnswerInvalid(f"there is no runner at {url}, or the runner's version is too old")
