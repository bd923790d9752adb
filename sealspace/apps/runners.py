"""Granting to runners, and calling them: an owner's secrets, for the programs and callers that the
owner names.

A runner is a backend that executes programs of others. It is looked at as any backend is, by
`backends`; the grant then says beside the runner's code for which programs, callers and hosts the
secrets may be used.

Example:
    from sealspace.documents.run_grants import ByHash
    seen = await client.backends.look(backend_url, inspector)
    run = RunStatement(programs=(ByHash("ab" * 32),))
    portable = await client.runners.grant(seen, ["API_KEY"], run, wallet=wallet)  # `backends.deliver` takes it there
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from capabilities.abilities import DECRYPT, KV_GET, KV_PUT, NETWORK_CREATE, SET_POLICY
from capabilities.capability_errors import InvalidJson
from capabilities.clock_and_entropy import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.principals import same_principal
from capabilities.strict_json import Json, parse_json, shaped
from capabilities.tokens import Capability
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson
from encryption_network.policy import Policy

from ..delegations import DELEGATION_TTL_S, Delegations
from ..documents.project_names import ProjectId
from ..documents.run_grants import (
    GENERATE,
    MAX_SECRETS,
    RunStatement,
    generation_body,
    project_resource,
    read_generation_grant,
    read_program_grant,
    read_run_grant,
)
from ..documents.secret_names import (
    PROTECTED_NETWORK,
    SECRETS_SPACE,
    SecretName,
    canonical_scope,
    is_protected,
    is_secret_name,
    parse_secret_label,
)
from ..encryption import Encryption
from ..errors import BackendAnswerInvalid, CallRefused, InvalidInput, NetworkNotFound, NotGranted
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

MAX_ANSWER_BYTES: Final = 80_000_000
"""Longest answer of a run: ten megabytes of output, each byte of which may be escaped, and what is
said about it."""
CALL_TIMEOUT_S: Final = 300.0
KEY_TTL_S: Final = 30 * 86_400.0


GENERATION_GRANT_TTL_S: Final = 600.0
"""How long a runner may write the secrets that it is to make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a runner answers of secrets that it was to make, untrusted; made by `Runners.generate`.

    Attributes:
        generated: names of those that it made.
        existing: names of those that were there, and are as they were.
        statement: signed with its receipt key; None where it refused.
        authorization: the token of the request, which the statement names.
        code: why it failed or refused; None: it did neither.
        message: what it says about that.
    """

    generated: tuple[str, ...]
    existing: tuple[str, ...]
    statement: bytes | None = field(repr=False)
    authorization: str = field(repr=False)
    code: str | None
    message: str


class Runners:
    """Granting to runners; made by `Client.runners`."""

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
    ) -> PortableDelegation:
        """Delegate secrets to exactly the runner that was seen, for named programs and callers
        alone.

        Args:
            seen: from `Backends.look`, at most LOOK_TTL_S ago.
            secrets: labels, `NAME` or `scope/NAME`, at most 32; a name that is added later needs a
                new grant. Generated ones, `PROTECTED_…`, are granted apart from others: they are of
                another network.
            run: programs, callers, hosts and limits; the runner enforces them, the node does not.
            ttl_s: lifetime in seconds.
            accept: what may deviate from the strict terms; see `policy_for`.
            pin: see `policy_for`.
            wallet: the owner's; None: the session's key is the owner itself.
        Returns:
            The grant, registered at the node; `backends.deliver` takes it to the runner.
        Raises:
            InvalidInput: a name, the number of names, hosts for a program whose project is not
                named, or the signer is not the owner itself: a runner takes no grant that rests on
                another delegation (RN41).
            BackendNotAcceptable, NodeRefused, TransportError: as `Backends.grant`.
        """
        session = self._caller.session
        self._require_grantable(seen, wallet)
        if run.hosts and not all(rule.project for rule in run.programs):  # RN176
            raise InvalidInput(
                "hosts are granted to programs of named projects: the project's manifest says where"
                " they may send",
                hint="name the program as DID/NAME",
            )
        named = [parse_secret_label(label) for label in dict.fromkeys(secrets)]
        if not 1 <= len(named) <= MAX_SECRETS:
            raise InvalidInput(f"a run grant names 1 to {MAX_SECRETS} secrets")
        network = network_of_owner(session.owner, network_name(named))
        resources = _resources(session, named)
        policy = policy_for(seen, paths=resources, accept=accept, pin=pin, ttl_s=ttl_s)
        await self._backends.require_judgeable(seen)  # before anything is signed
        wanted = [
            *(capability(one, KV_GET) for one in resources),
            capability(network.text, DECRYPT),
        ]
        portable = await self._delegations.delegate(
            seen.did, wanted, ttl_s=ttl_s, policy=policy, run=run, wallet=wallet
        )
        # what a runner would refuse is not handed on
        read_run_grant(portable.header, runner=seen.did)
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
        """Have secrets made by the runner that was seen: nobody sees their values, and the owner
        may grant them.

        The owner's network `protected` is made where it is missing, with a policy by which nobody
        opens anything in person. The runner gets a grant for ten minutes to write exactly these
        secrets, and writes none that is there.

        Args:
            seen: from `Backends.look`, at most LOOK_TTL_S ago.
            wanted: name to type, 1 to 16; see `run_grants.checked_generation_type`.
            scope: None for global secrets.
            accept: what may deviate from the strict terms; see `policy_for`.
            pin: see `policy_for`.
            wallet: the owner's; None: the session's key is the owner itself.
        Returns:
            What the runner states. Where it failed on the way, some were made.
        Raises:
            InvalidInput: a name, a type, their number, or the signer is not the owner itself; or
                the network `protected` is one that people may open secrets of.
            BackendNotAcceptable: the node would refuse what was seen, or it was seen too long ago.
            GrantNotTaken, BackendUnreachable, BackendAnswerInvalid: as `deliver`.
            NodeRefused, TransportError: as each says.
        Does not check:
            Which code answered: `tee_backend.runner.calls.generated_secrets.verify_generated` does,
                by the statement.
        """
        session = self._caller.session
        canonical = None if scope is None else canonical_scope(scope)
        body = generation_body(session.owner, canonical, wanted)  # before anything is asked
        self._require_grantable(seen, wallet)
        # no other code than is acceptable
        policy_for(seen, accept=accept, pin=pin, ttl_s=GENERATION_GRANT_TTL_S)
        await self._ensure_protected(wallet)
        named = [SecretName(name, canonical) for name in wanted]
        granted = [capability(resource, KV_PUT) for resource in _resources(session, named)]
        portable = await self._delegations.delegate(
            seen.did, granted, ttl_s=GENERATION_GRANT_TTL_S, wallet=wallet
        )
        # what a runner would refuse is not handed on
        read_generation_grant(portable.header, runner=seen.did)
        await deliver(seen.url, portable)
        space = session.space or space_of(session.owner, "default")
        await self._ensure_rights(wallet, [call_right(space.text)])
        answer, authorization = await self._signed(
            seen.url,
            "POST",
            "/secrets/generate",
            GENERATE,
            body=json.dumps(body).encode(),
            did=seen.did,
        )
        return _generation(_object(answer.body), authorization=authorization)

    async def share_project(
        self,
        seen: Seen,
        name: str,
        *,
        ttl_s: float = DELEGATION_TTL_S,
        wallet: AnyWallet | None = None,
    ) -> PortableDelegation:
        """Let the runner that was seen read a private project of the owner's (RN152).

        Args:
            seen: from `Backends.look`, at most LOOK_TTL_S ago.
            name: of the project, in the space `projects`.
            ttl_s: lifetime in seconds.
            wallet: the owner's; None: the session's key is the owner itself.
        Returns:
            The grant, registered at the node; `backends.deliver` takes it to the runner.
        Raises:
            InvalidInput, BackendNotAcceptable, NodeRefused, TransportError: as `grant`.
        Does not check:
            Which code reads: the node holds reads of values to a DID, and not to code.
        """
        self._require_grantable(seen, wallet)
        wanted = [capability(project_resource(self._caller.session.owner, name), KV_GET)]
        portable = await self._delegations.delegate(seen.did, wanted, ttl_s=ttl_s, wallet=wallet)
        # what a runner would refuse is not handed on
        read_program_grant(portable.header, runner=seen.did)
        return portable

    def _require_grantable(self, seen: Seen, wallet: AnyWallet | None) -> None:
        """Refuse signers that no runner believes (RN41), and what was seen too long ago."""
        self._require_owner(wallet, "a run grant")
        require_recent(seen, self._caller.clock.now())

    def _require_owner(self, wallet: AnyWallet | None, what: str) -> None:
        session = self._caller.session
        if not same_principal(
            session.did if wallet is None else wallet_of(wallet).did, session.owner
        ):
            raise InvalidInput(
                f"{what} is signed by the owner itself", hint="pass the owner's wallet"
            )

    async def _ensure_protected(self, wallet: AnyWallet | None) -> None:
        """Have the owner's network for generated secrets, which nobody opens in person (RN144)."""
        network = self._encryption.network(PROTECTED_NETWORK)
        try:
            await self._encryption.descriptor(network)
        except NetworkNotFound:
            await self._ensure_rights(wallet, [capability(network.text, NETWORK_CREATE)])
        await self._encryption.ensure_network(PROTECTED_NETWORK)  # a revoked one is refused
        await self._ensure_rights(wallet, [capability(network.text, SET_POLICY)])
        stated = await self._encryption.policy(network)
        if stated is None:
            await self._encryption.set_policy(network, Policy(in_person=False))
        elif stated.in_person:
            raise InvalidInput(
                f"the policy of your network {PROTECTED_NETWORK} lets people open its secrets",
                hint=(
                    f'state "inPerson": false in it: sealspace network policy {PROTECTED_NETWORK}'
                    " --set FILE"
                ),
            )

    async def _ensure_rights(self, wallet: AnyWallet | None, wanted: Sequence[Capability]) -> None:
        """Have the wallet give the session rights that it does not hold, for an hour."""
        try:
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
        """Make an API key: whoever has it calls programs at one runner in the owner's name, and at
        its cost.

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
        _accepted(await ask_backend(url, Request("POST", "/keys", body=statement)))
        return credential

    async def keys(self, url: str) -> dict[str, Json]:
        """Return the owner's API keys at a runner, and its account there, as the runner answers.

        Raises:
            NotGranted, SessionExpired: as `run_calls.call_headers`.
            CallRefused, BackendUnreachable, BackendAnswerInvalid: as `create_key`.
        """
        return _accepted((await self._signed(url, "GET", "/keys", "keys"))[0])

    async def revoke_key(self, url: str, nonce: int) -> None:
        """Revoke one of the owner's API keys at a runner, from now on.

        Raises:
            NotGranted, SessionExpired, BackendUnreachable, BackendAnswerInvalid: as `keys`.
            CallRefused: as `keys`, and where there is no such key.
        """
        _accepted((await self._signed(url, "DELETE", f"/keys/{nonce}", f"keys/{nonce}/revoke"))[0])

    async def _signed(
        self,
        url: str,
        method: Method,
        path: str,
        about: str,
        *,
        body: bytes = b"",
        did: str | None = None,
    ) -> tuple[Answer, str]:
        caller = self._caller
        return await _ask_signed(
            url,
            caller.session,
            method,
            path,
            about,
            body=body,
            did=did,
            clock=caller.clock,
            entropy=caller.entropy,
        )


def network_name(named: Sequence[SecretName]) -> str:
    """Return the name of the network of secrets that are granted together (RN146).

    Raises:
        InvalidInput: they are of two.
    """
    kinds = {is_protected(one.name) for one in named}
    if len(kinds) > 1:
        raise InvalidInput(
            "PROTECTED_ secrets are of another network than others: one grant is not for both",
            hint="grant them apart, to the same program: a run has the secrets of all its grants",
        )
    return PROTECTED_NETWORK if kinds == {True} else DEFAULT_NETWORK


def _resources(session: Session, named: Sequence[SecretName]) -> list[str]:
    space = space_of(session.owner, SECRETS_SPACE)
    return [f"{space.text}/kv/{one.path}" for one in named]


def _generation(answer: Mapping[str, Json], *, authorization: str) -> Generation:
    error = answer.get("error")
    try:
        statement = canonical_bytes(answer["statement"]) if "statement" in answer else None
    except InvalidCanonicalJson as exc:
        raise BackendAnswerInvalid("the runner's statement is not what a runner writes") from exc
    return Generation(
        generated=_names(answer, "generated"),
        existing=_names(answer, "existing"),
        statement=statement,
        authorization=authorization,
        code=(
            None
            if error is None
            else printable(str(error.get("code") if isinstance(error, dict) else None))
        ),
        message=printable(error_text(error)),
    )


def _names(answer: Mapping[str, Json], member: str) -> tuple[str, ...]:
    with suppress(InvalidJson):
        names = shaped(answer.get(member), tuple[str, ...])
        if all(map(is_secret_name, names)):
            return names
    raise BackendAnswerInvalid("the runner's answer names no secrets")


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
        What runs there, and the receipt: see `backends.fetch_evidence` and
            `tee_backend.runner.calls.run_receipts`.
    """
    match body.get("source"):
        case {"project": str(program)} | {"wasmSha256": str(program)} if program:
            pass
        case _:
            raise InvalidInput(
                "a call names a program", hint='{"source": {"project": "<did>/<name>"}}'
            )
    data = json.dumps(dict(body)).encode()
    clock, entropy = SystemClock(), SystemEntropy()
    answer, _ = await _ask_signed(
        url, session, "POST", "/run", program, body=data, clock=clock, entropy=entropy
    )
    return _object(answer.body)


async def _ask_signed(
    url: str,
    session: Session,
    method: Method,
    path: str,
    program: str,
    *,
    body: bytes,
    did: str | None = None,
    clock: Clock,
    entropy: Entropy,
) -> tuple[Answer, str]:
    """Send a request that the caller signs; return the answer, and the token that it answers.

    If the runner was started anew between its `/info` and the request, nothing happened, and the
    request is signed and sent once more (RN178).

    Args:
        url: address of the runner.
        session: of the caller.
        method: of HTTP.
        path: of the route.
        program: that is called, or what is in its place.
        body: empty: none is sent.
        did: of the runner that was seen; None: of the one that answers.
        clock: for the token.
        entropy: for its nonce.
    """

    async def asked(found: RunnerAt) -> tuple[Answer, str]:
        runner = RunnerAt(did or found.did, found.start)
        headers = call_headers(
            session, runner=runner, program=program, body=body, now=clock.now(), entropy=entropy
        )
        token, settings = headers["Authorization"], None
        if body:
            headers["Content-Type"] = "application/json"
            settings = TransportSettings(timeout_s=CALL_TIMEOUT_S)
        request = Request(
            method, path, headers=headers, body=body or None, max_answer_bytes=MAX_ANSWER_BYTES
        )
        return await ask_backend(url, request, settings=settings), token

    found = await runner_at(url)
    answer, token = await asked(found)
    match _object(answer.body) if answer.status == 409 else {}:
        case {"error": {"code": "call-start"}}:
            again = await runner_at(url)
            # else the refusal is a lie, and a second token could be a second run
            if again.start != found.start:
                return await asked(again)
    return answer, token


async def call_with_key(
    url: str, key: str, project: ProjectId, body: Mapping[str, Json]
) -> dict[str, Json]:
    """Have a runner run a program, for the holder of an API key.

    Args:
        url: address of the runner: https, or this machine.
        key: as `Credential.text`.
        project: whose active version runs, unless the body has `version_key`.
        body: `input`, and what else RN96 lists.
    Returns:
        What the runner answered, also where it refused: `status` and `output`, or `error` and
            `code`.
    Raises:
        InvalidInput: no such address, or the key is none.
        BackendUnreachable, BackendAnswerInvalid: no usable answer.
    """
    headers = {KEY_HEADER: parse_credential(key).text, "Content-Type": "application/json"}
    path = f"/call/{project.developer}/{project.name}"
    data = json.dumps(dict(body)).encode()
    request = Request("POST", path, headers=headers, body=data, max_answer_bytes=MAX_ANSWER_BYTES)
    return _object(
        (await ask_backend(url, request, settings=TransportSettings(timeout_s=CALL_TIMEOUT_S))).body
    )


async def start_of(url: str) -> bytes:
    """Return a runner's start document, untrusted: what its receipts are judged with.

    Raises:
        InvalidInput, BackendUnreachable, BackendAnswerInvalid: as `call_runner`.
    """
    answer = await ask_backend(url, Request("GET", "/start", repeatable=True))
    if not answer.is_success:
        raise BackendAnswerInvalid(f"there is no runner at {url}")
    return answer.body


async def runner_at(url: str) -> RunnerAt:
    """Return which runner an address states to be, and which start of it, untrusted.

    Whatever it states, a call that is signed for it is run by at most one start: the one that it
    names (RN178).

    Raises:
        InvalidInput, BackendUnreachable, BackendAnswerInvalid: as `call_runner`.
    """
    stated = _object((await ask_backend(url, Request("GET", "/info", repeatable=True))).body)
    match stated:
        case {"runner": str(did), "start": str(start)}:
            return RunnerAt(did, start)
    raise BackendAnswerInvalid(f"there is no runner at {url}, or one of an older version")


def _accepted(answer: Answer) -> dict[str, Json]:
    """Return what a runner answered, unless it refused."""
    said = _object(answer.body)
    if answer.is_success:
        return said
    raise CallRefused(error_text(said.get("error"))[:600] or "the runner refuses")


def error_text(error: Json) -> str:
    """Return what a runner says about an error, untrusted; "" for anything else."""
    texts = [error.get(name) for name in ("message", "detail")] if isinstance(error, dict) else []
    return " ".join(one for one in texts if isinstance(one, str))


def _object(data: bytes) -> dict[str, Json]:
    try:
        return parse_json(data, max_bytes=MAX_ANSWER_BYTES)
    except InvalidJson as exc:
        raise BackendAnswerInvalid("the runner's answer cannot be read") from exc
