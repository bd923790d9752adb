"""One runner: says who calls, reads programs and secrets at its node, runs, and signs what came of
it.

    who calls -> the token is used up | program -> grants -> secrets -> run -> receipt

The order is that of cost: nothing is asked of the node, and nothing is written, for a caller who
does not show who it is. Plaintext exists from the reads to the end of the run, in this process and
in one child. What a call costs, and what of it is kept, is the matter of `calls`.

Example:
    runner = Runner(backend, client, executor, journal, identity)
    outcome = await runner.perform(job, record, body, compile_s=20)
"""

import asyncio
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Final

from capabilities.abilities import DECRYPT, KV_PUT
from capabilities.clock_and_entropy import Entropy, SystemClock, SystemEntropy
from capabilities.principals import Principal, same_principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json
from sealspace.apps.backends import RUNNER_APP_ID
from sealspace.apps.programs import ProgramManifest
from sealspace.apps.run_calls import Call as SignedCall
from sealspace.apps.run_calls import read_call
from sealspace.documents.call_conditions import Call, Verdict, judge_call
from sealspace.documents.project_names import ProjectId
from sealspace.documents.published import parse_statement, statement_json
from sealspace.documents.run_grants import (
    RunGrant,
    read_generation_grant,
    read_program_grant,
    read_run_grant,
)
from sealspace.errors import (
    CallRefused,
    DecryptDenied,
    DelegationRevoked,
    NotFound,
    NotGranted,
    SealspaceError,
    Unauthorized,
)
from sealspace.secrets import is_protected, parse_secret_name
from sealspace.session import iso_time, read_grant
from sealspace.wire.portable import PortableDelegation

from ...attestation.report_data import runner_binding
from ...backend import Backend
from ...evidence.evidence_errors import EvidenceSourceError
from ...evidence.source import EvidenceSource
from ..guest.environment import environment_of
from ..guest.executor import INLINE_BYTES, Executor
from ..guest.runs import MILLION, Limits, RunRequest, RunResult, Target
from ..reasons import REASONS, RunRefused
from .call_bodies import CallBody
from .journal import Journal
from .ledger import JobRecord
from .published_programs import PublishedPrograms, live_grants
from .run_receipts import RunFacts, encode_start, names_hash, parse_start, salted, sign_receipt
from .secret_tags import SecretTags

_AT_THE_DOOR: Final = 2
"""Signatures that are verified, and tokens that are written to the disk, at one time: key holders
wait behind these."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a runner signs receipts with, and the start document that proves it, with its SHA-256 in
    base64url."""

    receipt_key: Ed25519Signer = field(repr=False)
    start: bytes = field(repr=False)
    start_hash: str


def manifest_of(did: str, name: str) -> dict[str, Json]:
    """Return the manifest that a runner publishes; it asks for nothing by itself: owners say what,
    for which programs."""
    return {"app_id": RUNNER_APP_ID, "name": name, "did": did, "defaults": False}


async def begin(
    source: EvidenceSource, *, did: Principal, manifest: Mapping[str, Json], compose: str | None
) -> Identity:
    """Make a receipt key, and have one quote name it (RN71)."""
    key = Ed25519Signer(SystemEntropy().token(32))
    stated = statement_json(did, dict(manifest), compose)
    binding = runner_binding(did, key.public_key, parse_statement(stated).sha256)
    # Quotes come out of a file system or a socket of the platform, neither of which belongs on the
    # event loop.
    quoted = await asyncio.to_thread(source.quote, binding.report_data)
    start = encode_start(stated, key.did, quoted.quote, quoted.log_entries)
    return Identity(receipt_key=key, start=start, start_hash=encode_url(parse_start(start).sha256))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job; refused calls cost nothing, and many receipts of them would displace
    others (RN169)."""

    salt: bytes = field(repr=False)
    facts: RunFacts
    result: RunResult
    receipt: bytes = field(repr=False)
    is_kept: bool


@dataclass(eq=False, repr=False)
class Runner:
    """Runs programs for callers, with at most the limits `most`."""

    backend: Backend
    programs: PublishedPrograms
    executor: Executor
    journal: Journal
    identity: Identity
    tags: SecretTags
    most: Limits
    entropy: Entropy = field(default_factory=SystemEntropy)

    def __post_init__(self) -> None:
        self.did = self.backend.did
        self._run_grants = live_grants(self.backend, partial(read_run_grant, runner=self.did))
        self._door = asyncio.Semaphore(_AT_THE_DOOR)

    async def accept(self, *portables: PortableDelegation) -> None:
        """Take grants up, all or none: run grants, or grants that release nothing; as
        `Backend.accept`.

        Raises:
            InvalidPortableDelegation: one is no grant for this runner (RN41 to RN46, RN143, RN152),
                or they are of both kinds.
            As `Backend.accept`.
        """
        # What kind a grant is, by its token alone: to run, to write generated secrets, or to read
        # programs.
        held = [
            {one.ability for one in read_grant(portable.header).capabilities}
            for portable in portables
        ]
        is_releasing = not held or any(DECRYPT in abilities for abilities in held)
        for portable, abilities in zip(portables, held, strict=True):
            of_others = read_generation_grant if KV_PUT in abilities else read_program_grant
            read = read_run_grant if is_releasing else of_others
            read(portable.header, runner=self.did)
        await (self.backend.accept if is_releasing else self.backend.hold)(*portables)

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
                call = read_call(authorization, sign_in, runner=self.did, now=SystemClock.now())
            except CallRefused as refused:
                raise RunRefused("call-refused", refused.message) from refused
        # RN178: several runners may have one DID, from a platform's key service, and each a journal
        # of its own.
        if call.runner.start != self.identity.start_hash:
            raise RunRefused("call-start")
        return call

    async def use_up(self, call: SignedCall, program: str, body: bytes) -> Principal:
        """Use the token of a call up, which has to be signed for a program and a body (RN65);
        return who calls.

        Raises:
            RunRefused: `call-refused`, `call-repeated`.
            KeepingError: the journal cannot be used.
        """
        try:
            call.require(program, body)
        except CallRefused as refused:
            raise RunRefused("call-refused", refused.message) from refused
        async with self._door:  # RN163
            now = SystemClock.now()
            # A token that ended while the body arrived may have been used, and forgotten.
            if now > call.expires_at or not await self.journal.claim(
                call.token, expires_at=call.expires_at, now=now
            ):
                raise RunRefused("call-repeated")
        return call.caller

    def limits(self, body: CallBody) -> Limits:
        """Return what a run may use at most, as far as its body says."""
        return _smallest(self.most, body.limits)

    async def perform(
        self, job: str, record: JobRecord, asked: CallBody, *, compile_s: int
    ) -> Outcome:
        """Run a program, and sign what came of it, also where it was refused; the caller of this
        keeps the receipt.

        Raises:
            KeepingError: the journal cannot be used; nothing ran.
        """
        payer = record.payer
        # What is about secrets is for their owner, and not for holders of its keys.
        is_owner = (
            asked.secrets is not None
            and record.key is None
            and same_principal(asked.secrets.owner, payer.did)
        )
        request = RunRequest(
            asked.sha256 or "",
            Target.WASIP1,  # until the program is found
            input=asked.input,
            response_format=asked.response_format,
            limits=self.most,
            payer=payer,
            developer=payer.did if asked.project is None else asked.project.developer,
            compile_s=compile_s,
        )
        try:
            version = await self.programs.find(asked.project, asked.sha256)
            request = replace(
                request,
                wasm_sha256=version.sha256,
                target=Target(version.target),
                origin=version.project.text,  # RN153
            )
            request = await self._prepared(job, asked, version.manifest, request)
            result = await self.executor.run(request, partial(self.programs.load, version))
        except RunRefused as refused:
            # RN81
            is_shown = is_owner or not refused.reason.code.startswith(("secret", "environment"))
            result = RunResult(refused.reason if is_shown else replace(refused.reason, detail=""))
        if request.secrets_delivered and not is_owner:  # RN85
            result = replace(result, stderr=b"")
        if len(result.output) <= INLINE_BYTES:
            return self._outcome(job, record, request, result)
        # A long output is hashed elsewhere: others wait for this thread.
        return await asyncio.to_thread(self._outcome, job, record, request, result)

    def unrun(self, job: str, record: JobRecord, code: str) -> Outcome:
        """Return what is said of a job that was accepted, and of whose run nothing is known."""
        limits, has_secrets = Limits(*record.limits), record.has_secrets
        request = RunRequest(
            record.program or "", Target.WASIP1, limits=limits, secrets_delivered=has_secrets
        )
        may_have_secrets = has_secrets and code == "interrupted"
        return self._outcome(
            job, record, request, RunResult(REASONS[code], secrets_delivered=may_have_secrets)
        )

    async def _prepared(
        self, job: str, asked: CallBody, manifest: ProgramManifest, request: RunRequest
    ) -> RunRequest:
        """Return a request with its limits and hosts, and the secrets that are granted for it."""
        caller = request.payer.did
        limits, hosts, secrets = self.limits(asked), frozenset(manifest.hosts), dict[str, str]()
        if asked.secrets is not None:
            owner, scope = asked.secrets.owner, asked.secrets.scope
            call = Call(
                caller=caller, owner=owner, wasm_sha256=request.wasm_sha256, now=SystemClock.now()
            )
            chosen = _choose(
                [grant for _, grant in self._run_grants()], call, asked, scope, manifest.secrets
            )
            for name, (grant, value) in (await self._values(chosen, scope)).items():
                secrets[name] = value
                # RN103: each owner's decision counts for what it gave
                hosts &= frozenset(grant.statement.hosts)
                limits = _smallest(limits, asdict(grant.statement.limits))
        environment = environment_of(_system(job, caller, asked.project, limits), secrets)
        return replace(
            request,
            environment=environment,
            limits=limits,
            hosts=hosts,
            secrets_delivered=bool(secrets),
        )

    async def _values(
        self, chosen: Mapping[str, Sequence[RunGrant]], scope: str | None
    ) -> dict[str, tuple[RunGrant, str]]:
        """Read all secrets side by side; the first that fails refuses the run."""
        tasks = [
            asyncio.create_task(self._value(name, grants, scope)) for name, grants in chosen.items()
        ]
        try:
            values = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return dict(zip(chosen, values, strict=True))

    async def _value(
        self, name: str, grants: Sequence[RunGrant], scope: str | None
    ) -> tuple[RunGrant, str]:
        """Read a secret by the first grant that the node takes; each alone (RN83)."""
        for run_grant in grants:
            grant = next(
                (one.grant for one in self.backend.grants if one.grant.header == run_grant.header),
                None,
            )
            if grant is None:  # it gave way meanwhile
                continue
            try:
                secret = await self.backend.open_secret(
                    run_grant.owner, name, scope=scope, by=grant
                )
            except DelegationRevoked:
                continue
            except NotFound as absent:
                raise RunRefused("secret-missing", name) from absent
            except (DecryptDenied, Unauthorized, NotGranted) as denied:
                raise RunRefused("secret-refused", name) from denied
            except (SealspaceError, EvidenceSourceError) as failed:
                _log.warning(
                    "a secret could not be read: %s", getattr(failed, "code", type(failed).__name__)
                )
                raise RunRefused("secret-unreadable", name) from failed
            if isinstance(secret.value, bytes):
                raise RunRefused("environment-value", name)
            place = parse_secret_name(name, scope=scope)
            if is_protected(name) and not self.tags.holds(run_grant.owner, place, secret):  # RN148
                raise RunRefused("secret-not-generated", name)
            return run_grant, secret.value
        raise RunRefused("secrets-not-granted")

    def _outcome(
        self, job: str, record: JobRecord, request: RunRequest, result: RunResult
    ) -> Outcome:
        """Sign the receipt."""
        code = None if result.reason is None else result.reason.code
        facts = RunFacts(
            job=job,
            program=request.wasm_sha256,
            project=record.project,
            code=code,
            input_hash=encode_url(record.input_hash),
            output_hash=encode_url(salted(record.salt, result.output)),
            variables_hash=names_hash(name for name, _ in request.environment),
            secrets="delivered" if result.secrets_delivered else "none",
            hosts=[*result.hosts],
            limits=request.limits.shown,
            instructions=result.rounded_instructions,
            time_ms=result.rounded_time_ms,
            nonce=record.nonce,
            at=iso_time(SystemClock.now()),
        )
        identity = self.identity
        receipt = sign_receipt(
            facts, runner=self.did, start=identity.start_hash, key=identity.receipt_key
        )
        reached_secrets = request.secrets_delivered or (code or "").startswith(
            ("secret-", "environment-")
        )
        is_kept = result.ran or record.is_known or reached_secrets  # RN169
        return Outcome(record.salt, facts, result, receipt, is_kept)


def _choose(
    held: Iterable[RunGrant],
    call: Call,
    asked: CallBody,
    scope: str | None,
    names: tuple[str, ...] | None,
) -> Mapping[str, Sequence[RunGrant]]:
    """Return for each secret the grants by which it may be read, the first one first (RN80 to
    RN83).

    For each name one grant is chosen that names the secret, the program and the caller; it alone is
    cited in the reads, so that its policy, and no looser one of another grant, is what the node
    judges by. Grants that came later go first.

    Args:
        held: the newest first.
        call: of which program, by whom, and whose secrets.
        asked: says as a version of which project the program is called.
        scope: of the secrets.
        names: of the secrets that the program wants, as its manifest says; None: it does not say.
    Returns:
        Name to at least one grant; names in ascending order.
    Raises:
        RunRefused: `secrets-not-granted`: none of the profile is granted to this runner for this
            program, and the owner calls; `access-denied`, `access-unknown`: the conditions on
            callers do not hold, or cannot be judged; `grant-no-project`: each grant states hosts
            and names no project; `secret-missing`: the manifest names a secret that is not granted.
    """
    active_of = asked.project if asked.sha256 is None else None
    verdicts: dict[Verdict, list[tuple[RunGrant, bool]]] = {True: [], False: [], None: []}
    for grant in held:
        rules = grant.statement.rules_for(call.wasm_sha256, asked.project, active_of)
        # RN80: of this owner and profile, for this program, and not ended
        if (
            grant.owner == call.owner
            and call.now < grant.expires_at
            and any(secret.scope == scope for secret in grant.secrets)
            and rules
        ):
            # RN176: whether the grant says whose manifest counts for the program
            names_project = any(rule.project for rule in rules)
            verdicts[judge_call(grant.statement.callers, call)].append((grant, names_project))
    if not any(verdicts.values()):  # others than the owner do not learn what was granted
        raise RunRefused("secrets-not-granted" if call.caller == call.owner else "access-denied")
    if not verdicts[True]:  # RN81: only True lets a call pass
        raise RunRefused("access-unknown" if verdicts[None] else "access-denied")
    # RN176: any client may publish the same bytes under a project of its own, with other hosts.
    # Hosts that were granted without a project would be bounded by the manifest of whichever
    # project the caller chooses.
    usable = [
        (grant, names_it)
        for grant, names_it in verdicts[True]
        if names_it or not grant.statement.hosts
    ]
    if not usable:
        raise RunRefused("grant-no-project")
    candidates: dict[str, list[RunGrant]] = {}
    for grant, _ in usable:
        for secret in grant.secrets:
            if secret.scope == scope:
                candidates.setdefault(secret.name, []).append(grant)
    # RN82: those that the program names, and no others, where a grant says whose manifest counts
    # (RN176)
    if names is not None and any(names_it for _, names_it in usable):
        if missing := [name for name in names if name not in candidates]:
            raise RunRefused("secret-missing", missing[0])
        candidates = {name: candidates[name] for name in names}
    return dict(sorted(candidates.items()))


def _smallest(limits: Limits, stated: Mapping[str, int | None]) -> Limits:
    """Return the smallest of each limit; a limit above the runner's becomes the runner's (RN86).

    Instructions are rounded down to whole millions (RN1). A grant or a runner may still allow less
    than a million.

    Raises:
        RunRefused: `limits-invalid`: one is below 1.
    """
    lower = {
        name: min(getattr(limits, name), limit)
        for name, limit in stated.items()
        if limit is not None
    }
    smallest = replace(limits, **lower)
    # RN1: with exact limits a caller measures what a program spends on a secret. By bisection, 493
    # calls read 16 characters from a program that compares byte by byte. A caller may also choose
    # among grants: theirs are rounded.
    most = smallest.max_instructions
    return replace(smallest, max_instructions=most // MILLION * MILLION or most)


def _system(job: str, caller: str, project: ProjectId | None, limits: Limits) -> dict[str, str]:
    """Return what the runner says of a call, under the names that OutLayer's programs read
    (RN84)."""
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
        "NEAR_SENDER_ID": caller,
        "NEAR_USER_ACCOUNT_ID": caller,
        "NEAR_PAYMENT_YOCTO": "0",
        "ATTACHED_USD": "0",
        "USD_PAYMENT": "0",
        "OUTLAYER_CALL_ID": job,
        "NEAR_MAX_INSTRUCTIONS": str(limits.max_instructions),
        "NEAR_MAX_MEMORY_MB": str(limits.max_memory_mb),
        "NEAR_MAX_EXECUTION_SECONDS": str(limits.max_execution_s),
    }
    if project is not None:  # absent otherwise, which differs from empty
        said |= {
            "OUTLAYER_PROJECT_ID": project.text,
            "OUTLAYER_PROJECT_OWNER": project.developer,
            "OUTLAYER_PROJECT_NAME": project.name,
            "OUTLAYER_PROJECT_UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, project.text)),
        }
    return said
