"""One runner: says who calls, reads programs and secrets at its node, runs, and signs what came of it.

    who calls -> the token is used up | program -> grants -> secrets -> run -> receipt

The order is that of cost: nothing is asked of the node, and nothing is written, for a caller who does not show who it
is. Plaintext exists from the reads to the end of the run, in this process and in one child. What a call costs, and
what of it is kept, is the matter of `calls`.

Example:
    runner = Runner(backend, client, executor, journal, identity)
    outcome = await runner.perform(job)
"""

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from capabilities.abilities import DECRYPT, KV_PUT
from capabilities.ambient import Clock, Entropy, SystemClock, SystemEntropy
from capabilities.principals import Principal, same_principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url
from sealspace.apps.run_calls import Call as SignedCall
from sealspace.apps.run_calls import read_call
from sealspace.documents.call_conditions import Call
from sealspace.documents.generated_secrets import read_generation_grant
from sealspace.documents.run_grants import RunGrant, read_program_grant, read_run_grant
from sealspace.errors import (
    CallRefused,
    DecryptDenied,
    DelegationRevoked,
    InvalidPortableDelegation,
    NotFound,
    NotGranted,
    SealspaceError,
    Unauthorized,
)
from sealspace.secrets import is_protected, parse_secret_name
from sealspace.session import Grant, iso_time, read_grant
from sealspace.wire.portable import PortableDelegation

from ...backend import Backend
from ...errors import KeepingError
from ...evidence.errors import EvidenceSourceError
from ..guest.environment import NO_VARIABLES, Environment, environment_of
from ..guest.executor import INLINE_BYTES, Executor
from ..guest.runs import MILLION, Limits, RunRequest, RunResult
from ..reasons import RunRefused
from ..shares import Payer
from .call_bodies import CallBody
from .journal import Journal
from .published_programs import Found, PublishedPrograms
from .run_receipts import SALT_BYTES, RunFacts, names_hash, salted, sign_receipt
from .secret_choice import Wanted, choose
from .secret_tags import SecretTags

_AT_THE_DOOR: Final = 2
"""Signatures that are verified, and tokens that are written to the disk, at one time: key holders wait behind these."""
_LIMIT_NAMES: Final = {
    "maxInstructions": "max_instructions",
    "maxMemoryMb": "max_memory_mb",
    "maxExecutionSeconds": "max_execution_s",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a runner signs receipts with, and what proves it; made at its start, see `start`."""

    receipt_key: Ed25519Signer = field(repr=False)
    start: bytes = field(repr=False)
    start_sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A call of a caller who is known."""

    id: str
    body: CallBody
    payer: Payer
    salt: bytes = field(repr=False)
    in_person: bool
    compile_s: int

    @property
    def caller(self) -> Principal:
        """In whose name it runs."""
        return self.payer.did


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job."""

    salt: bytes = field(repr=False)
    facts: RunFacts
    result: RunResult
    receipt: bytes = field(repr=False)
    is_shown: bool
    keeps_refusal: bool

    @property
    def ran(self) -> bool:
        """Whether the program was started."""
        return self.result.reason is None or self.result.reason.ran

    @property
    def is_kept(self) -> bool:
        """Whether the receipt is kept: refused calls cost nothing, and many of them would displace others (RN169)."""
        return self.ran or self.keeps_refusal


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a run is given."""

    environment: Environment
    limits: Limits
    hosts: frozenset[str]
    secrets_of: Principal | None


class Runner:
    """Runs programs for callers."""

    def __init__(
        self,
        backend: Backend,
        programs: PublishedPrograms,
        executor: Executor,
        journal: Journal,
        identity: Identity,
        *,
        tags: SecretTags,
        most: Limits | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self._backend = backend
        self._programs = programs
        self._executor = executor
        self._journal = journal
        self._identity = identity
        self._most = most or Limits()
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._read: dict[str, RunGrant | None] = {}
        self._tags = tags
        self._door = asyncio.Semaphore(_AT_THE_DOOR)

    @property
    def did(self) -> Principal:
        """What owners grant to."""
        return self._backend.did

    @property
    def identity(self) -> Identity:
        """What receipts are signed with, and what proves it."""
        return self._identity

    async def take_up(self, *portables: PortableDelegation) -> None:
        """Take grants up, all or none: run grants, or grants that release nothing; as `Backend.take_up`.

        Raises:
            InvalidPortableDelegation: one is no grant for this runner (RN41 to RN46, RN143, RN152), or they are of both
                kinds.
            As `Backend.take_up`.
        """
        # Whether a grant holds decrypt, by its token alone.
        releasing = {
            any(one.ability == DECRYPT for one in read_grant(portable.header).capabilities) for portable in portables
        }
        if releasing == {False}:
            for portable in portables:
                self._require_known(portable)
            await self._backend.hold(*portables)
            return
        for portable in portables:
            read_run_grant(portable.header, runner=self.did)
        await self._backend.take_up(*portables)

    def _require_known(self, portable: PortableDelegation) -> None:
        """Refuse a grant without decrypt that is neither to write generated secrets nor to read programs."""
        is_writing = any(one.ability == KV_PUT for one in read_grant(portable.header).capabilities)
        read = read_generation_grant if is_writing else read_program_grant
        read(portable.header, runner=self.did)

    async def called(self, authorization: str | None, sign_in: str | None) -> SignedCall:
        """Verify who calls, for this start (RN178).

        Args:
            authorization: the caller's token; None: there is none.
            sign_in: what it cites; None: nothing was sent along.
        Raises:
            RunRefused: `call-refused`, `call-start`.
        """
        if authorization is None:
            raise RunRefused("call-refused", "no Authorization")
        async with self._door:  # RN163
            try:
                call = read_call(authorization, sign_in, runner=self._backend.did, now=self._clock.now())
            except CallRefused as refused:
                raise RunRefused("call-refused", refused.message) from refused
        # RN178: several runners may have one DID, from a platform's key service, and each a journal of its own.
        if call.runner.start != encode_url(self._identity.start_sha256):
            raise RunRefused("call-start")
        return call

    async def use_up(self, call: SignedCall, program: str, body: bytes) -> Principal:
        """Use the token of a call up, which has to be signed for a program and a body (RN65); return who calls.

        Raises:
            RunRefused: `call-refused`, `call-repeated`.
            KeepingError: the journal cannot be used.
        """
        try:
            call.require(program, body)
        except CallRefused as refused:
            raise RunRefused("call-refused", refused.message) from refused
        async with self._door:  # RN163
            now = self._clock.now()
            # A token that ended while the body arrived may have been used, and forgotten.
            if now > call.expires_at or not await self._journal.claim(call.token, expires_at=call.expires_at, now=now):
                raise RunRefused("call-repeated")
        return call.caller

    def has_grant_of(self, owner: Principal) -> bool:
        """Tell whether a grant of an owner is held that has not ended."""
        return any(same_principal(one, owner) for one in self._backend.owners)

    def job(self, body: CallBody, payer: Payer, *, compile_s: int, in_person: bool = True) -> Job:
        """Return a job with an id of its own."""
        id, salt = self._entropy.token(16).hex(), self._entropy.token(SALT_BYTES)
        return Job(id=id, body=body, payer=payer, salt=salt, in_person=in_person, compile_s=compile_s)

    def limits(self, body: CallBody) -> Limits:
        """Return what a run may use at most, as far as its body says."""
        return _smallest(self._most, body.limits)

    async def perform(self, job: Job) -> Outcome:
        """Run a program, and sign what came of it, also where it was refused; the caller of this keeps the receipt.

        Raises:
            KeepingError: the journal cannot be used; nothing ran.
        """
        asked = job.body
        found: Found | None = None
        prepared = _Prepared(NO_VARIABLES, self._most, frozenset(), None)
        try:
            found = await self._programs.find(asked.project, asked.sha256)
            prepared = await self._prepared(job, found)
            result = await self._executor.run(
                RunRequest(
                    wasm_sha256=found.sha256,
                    target=found.target,
                    environment=prepared.environment,
                    input=asked.input,
                    response_format=asked.response_format,
                    limits=prepared.limits,
                    secrets_delivered=prepared.secrets_of is not None,
                    hosts=prepared.hosts,
                    origin=found.version.project.text,  # RN153
                    payer=job.payer,
                    developer=job.caller if asked.project is None else asked.project.developer,
                    compile_s=job.compile_s,
                ),
                found.load,
            )
        except RunRefused as refused:
            result = RunResult(refused.reason, refused.detail if _may_see_names(job, refused) else "")
        ended = (job, found, prepared, result)
        # A long output is hashed elsewhere: others wait for this thread.
        inline = len(result.output) <= INLINE_BYTES
        return self._outcome(*ended) if inline else await asyncio.to_thread(self._outcome, *ended)

    async def keep(self, outcome: Outcome, payer: Payer) -> None:
        """Keep a receipt that is no part of a ledger's transaction."""
        if not outcome.is_kept:
            return
        try:
            await self._journal.keep(outcome.facts.job, outcome.receipt, payer)
        except KeepingError as error:  # the caller has it all the same
            _log.warning("a receipt is not kept: %s", error.code)

    async def receipt(self, job: str) -> bytes | None:
        """Return the receipt of a job; None where there is none."""
        return await self._journal.receipt(job)

    async def _prepared(self, job: Job, found: Found) -> _Prepared:
        asked = job.body
        limits, hosts = self.limits(asked), frozenset(found.manifest.hosts)
        if asked.secrets is None:
            return _Prepared(environment_of(self._system(job, limits), {}), limits, hosts, None)
        call = Call(caller=job.caller, owner=asked.secrets.owner, wasm_sha256=found.sha256, now=self._clock.now())
        wanted = Wanted(
            call=call,
            scope=asked.secrets.scope,
            project=asked.project,
            active_of=found.active_of,
            names=found.manifest.secrets,
        )
        chosen = choose(self._held(), wanted)
        values = await self._values(chosen, asked.secrets.scope)
        used = [grant for grant, _ in values.values()]
        for grant in used:
            hosts &= frozenset(grant.statement.hosts)  # RN103: each owner's decision counts for what it gave
            stated = grant.statement.limits
            limits = _smallest(limits, {name: getattr(stated, member) for name, member in _LIMIT_NAMES.items()})
        secrets = {name: value for name, (_, value) in values.items()}
        environment = environment_of(self._system(job, limits), secrets)
        return _Prepared(environment, limits, hosts, asked.secrets.owner if secrets else None)

    def _held(self) -> list[RunGrant]:
        """Return the run grants that are held and were not called revoked, the newest first.

        They may have been read from disk, which the host owns: each is read as one that just arrived.
        """
        live = [one.grant for one in self._backend.grants if one.state == "live"]
        self._read = {grant.cid: self._known(grant) for grant in live}
        return [one for one in self._read.values() if one is not None]

    def _known(self, grant: Grant) -> RunGrant | None:
        """Return a grant as a run grant; None where it is none, or one of another kind."""
        if grant.cid in self._read:
            return self._read[grant.cid]
        try:
            return read_run_grant(grant.header, runner=self.did)
        except InvalidPortableDelegation:
            return None

    async def _values(
        self, chosen: Mapping[str, Sequence[RunGrant]], scope: str | None
    ) -> dict[str, tuple[RunGrant, str]]:
        """Read all secrets side by side; the first that fails refuses the run."""
        tasks = [asyncio.create_task(self._value(name, grants, scope)) for name, grants in chosen.items()]
        try:
            values = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return dict(zip(chosen, values, strict=True))

    async def _value(self, name: str, grants: Sequence[RunGrant], scope: str | None) -> tuple[RunGrant, str]:
        """Read a secret by the first grant that the node takes; each alone (RN83)."""
        for run_grant in grants:
            grant = next((one.grant for one in self._backend.grants if one.grant.header == run_grant.header), None)
            if grant is None:  # it gave way meanwhile
                continue
            try:
                secret = await self._backend.open_secret(run_grant.owner, name, scope=scope, by=grant)
            except DelegationRevoked:
                continue
            except NotFound as absent:
                raise RunRefused("secret-missing", name) from absent
            except (DecryptDenied, Unauthorized, NotGranted) as denied:
                raise RunRefused("secret-refused", name) from denied
            except (SealspaceError, EvidenceSourceError) as failed:
                _log.warning("a secret could not be read: %s", getattr(failed, "code", type(failed).__name__))
                raise RunRefused("secret-unreadable", name) from failed
            if isinstance(secret.value, bytes):
                raise RunRefused("environment-value", name)
            place = parse_secret_name(name, scope=scope)
            if is_protected(name) and not self._tags.holds(run_grant.owner, place, secret):  # RN148
                raise RunRefused("secret-not-generated", name)
            return run_grant, secret.value
        raise RunRefused("secrets-not-granted")

    def _system(self, job: Job, limits: Limits) -> dict[str, str]:
        """Return what the runner says of a call, under the names that OutLayer's programs read (RN84)."""
        nothing = dict.fromkeys(
            (
                "NEAR_NETWORK_ID",
                "NEAR_CONTRACT_ID",
                "NEAR_BLOCK_HEIGHT",
                "NEAR_BLOCK_TIMESTAMP",
                "NEAR_RECEIPT_ID",
                "NEAR_PREDECESSOR_ID",
                "NEAR_SIGNER_PUBLIC_KEY",
                "NEAR_GAS_BURNT",
                "NEAR_TRANSACTION_HASH",
                "NEAR_REQUEST_ID",
            ),
            "",
        )
        said = nothing | {
            "OUTLAYER_EXECUTION_TYPE": "HTTPS",
            "NEAR_SENDER_ID": job.caller,
            "NEAR_USER_ACCOUNT_ID": job.caller,
            "NEAR_PAYMENT_YOCTO": "0",
            "ATTACHED_USD": "0",
            "USD_PAYMENT": "0",
            "OUTLAYER_CALL_ID": job.id,
            "NEAR_MAX_INSTRUCTIONS": str(limits.max_instructions),
            "NEAR_MAX_MEMORY_MB": str(limits.max_memory_mb),
            "NEAR_MAX_EXECUTION_SECONDS": str(limits.max_execution_s),
        }
        project = job.body.project
        if project is not None:  # absent otherwise, which differs from empty
            said |= {
                "OUTLAYER_PROJECT_ID": project.text,
                "OUTLAYER_PROJECT_OWNER": project.developer,
                "OUTLAYER_PROJECT_NAME": project.name,
                "OUTLAYER_PROJECT_UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, project.text)),
            }
        return said

    def _outcome(self, job: Job, found: Found | None, prepared: _Prepared, result: RunResult) -> Outcome:
        """Sign the receipt."""
        asked, salt = job.body, job.salt
        delivered = result.secrets_delivered
        facts = RunFacts(
            job=job.id,
            program_sha256=found.sha256 if found is not None else asked.sha256 or "",
            project=None if asked.project is None else asked.project.text,
            code=None if result.reason is None else result.reason.code,
            input_hash=salted(salt, asked.input),
            output_hash=salted(salt, result.output),
            variables_hash=names_hash(tuple(name for name, _ in prepared.environment)),
            secrets="delivered" if delivered else "none",
            hosts=result.hosts,
            limits=prepared.limits,
            instructions=result.rounded_instructions,
            time_ms=result.rounded_time_ms,
            nonce=asked.nonce,
            at=iso_time(self._clock.now()),
        )
        code = "" if result.reason is None else result.reason.code
        reached_secrets = prepared.secrets_of is not None or code.startswith(("secret-", "environment-"))
        keeps_refusal = job.payer.is_known or reached_secrets  # RN169
        return Outcome(salt, facts, result, self.sign(facts), _shows_stderr(job, prepared), keeps_refusal)

    def sign(self, facts: RunFacts) -> bytes:
        """Return the receipt of what is known of a run."""
        identity = self._identity
        return sign_receipt(facts, runner=self.did, start_sha256=identity.start_sha256, key=identity.receipt_key)


def _may_see_names(job: Job, refused: RunRefused) -> bool:
    """Whether the caller may see what a refusal is about: names of secrets are their owner's matter (RN81)."""
    secrets = job.body.secrets
    is_about_secrets = refused.reason.code.startswith(("secret", "environment"))
    return not is_about_secrets or (secrets is not None and job.in_person and same_principal(secrets.owner, job.caller))


def _shows_stderr(job: Job, prepared: _Prepared) -> bool:
    """Whether the caller may see standard error: it owns every secret that the program had (RN85)."""
    return prepared.secrets_of is None or (job.in_person and same_principal(prepared.secrets_of, job.caller))


def _smallest(limits: Limits, stated: Mapping[str, int | None]) -> Limits:
    """Return the smallest of each limit; a limit above the runner's becomes the runner's (RN86).

    Instructions are rounded down to whole millions (RN1). A grant or a runner may still allow less than a million.

    Raises:
        RunRefused: `limits-invalid`: one is below 1.
    """
    values = {member: getattr(limits, member) for member in _LIMIT_NAMES.values()}
    for name, limit in stated.items():
        member = _LIMIT_NAMES[name]
        values[member] = values[member] if limit is None else min(values[member], limit)
    # RN1: with exact limits a caller measures what a program spends on a secret. By bisection, 493 calls read 16
    # characters from a program that compares byte by byte. A caller may also choose among grants: theirs are rounded.
    most = values["max_instructions"]
    values["max_instructions"] = most // MILLION * MILLION or most
    return Limits(**values, max_output_bytes=limits.max_output_bytes)
