"""Runs of programs, from a call to a signed receipt.

    find the program -> choose grants and read secrets -> run -> sign the receipt

Plaintext of secrets exists from the reads to the end of the run, in this process and in one child;
in a kept child until that ends (RN262). Payment and storage of answers are in `calls`.

Example:
    outcome = await runs.perform(job, record, body, compile_s=60)
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

from capabilities.clock_and_entropy import SystemClock
from capabilities.frozen import frozen
from capabilities.principals import same_principal
from capabilities.strict_base64 import encode_url
from sealspace.apps.programs import Version
from sealspace.session import Grant, iso_time
from serving.shares import Payer
from tee_backend.backend import Backend

from ..guest.executor import INLINE_BYTES, Executor
from ..guest.runs import Limits, RunRequest, RunResult
from ..reasons import REASONS, Reason, RunRefused
from .call_bodies import CallBody
from .disclosure import without_traces
from .identity import Identity
from .ledger import JobRecord
from .project_storage import ProjectStorage
from .published_programs import PublishedPrograms, grant_for
from .run_preparation import Preparation
from .run_receipts import RunFacts, names_hash, salted, sign_receipt
from .secret_tags import StorageKey
from .task_stages import Prepared, TaskStages, Wanted

START_S = 30.0
"""How long a synchronous call waits for the start of its program."""
_CODES_ABOUT_SECRETS = ("secret-", "environment-")
"""Beginnings of the codes with which the secrets themselves refuse a run."""


@frozen
class Outcome:
    """The result and the signed receipt of a job.

    `stores_receipt` is False for free refused calls, whose receipts could fill the store (RN169).
    """

    salt: bytes = field(repr=False)
    facts: RunFacts
    result: RunResult
    receipt: bytes = field(repr=False)
    stores_receipt: bool


@dataclass(eq=False, repr=False)
class Runs:
    """What all runs of a runner use."""

    backend: Backend
    programs: PublishedPrograms
    executor: Executor
    identity: Identity
    preparation: Preparation
    storage_key: StorageKey
    tasks: TaskStages | None

    async def perform(
        self, job: str, record: JobRecord, body: CallBody, *, compile_s: int
    ) -> Outcome:
        """Run a program, and sign a receipt.

        A refused run has a receipt too. The receipt is returned, not stored.

        Raises:
            KeepingError: the journal cannot be used; no program ran.
        """
        run = _Run(self, job, record, body, compile_s=compile_s)
        result = await run.result()
        return await run.sign(result)

    async def check_task(self, body: CallBody, payer: Payer) -> None:
        """Check that all secrets of a task are granted and stored (TK5).

        No secret is opened. The run of the task judges and reads everything again.

        Raises:
            RunRefused: a secret is missing, the program was not found, or the node is too slow.
        """
        try:
            async with asyncio.timeout(START_S):  # a call waits as long for its program (RN220)
                version = await self.programs.find(body.project, None)
                request = RunRequest(wasm_sha256=version.sha256, target=version.target, payer=payer)
                wanted = self.preparation.wanted(body, payer.did, version)
                looked_for = [one._replace(opens=False) for one in wanted]
                # Called only for its checks. There is no job yet, and so no id.
                await self.preparation.prepared("", body, looked_for, version.manifest, request)
        except TimeoutError as late:
            raise RunRefused("runner-busy") from late

    def outcome_without_run(self, job: str, record: JobRecord, code: str) -> Outcome:
        """Return the outcome of an interrupted or refused job.

        The outcome contains a signed receipt.
        """
        request = RunRequest(
            wasm_sha256=record.program or "",
            target="wasm32-wasip1",
            limits=_limits_of(record),
            secrets_delivered=record.has_secrets,
        )
        may_have_run = code in ("interrupted", "runner-failed")
        in_project = record.project is not None
        result = RunResult(
            REASONS[code],
            # RN213: any version of a project may have had secrets of its developer.
            secrets_delivered=may_have_run and (record.has_secrets or in_project),
            # RN206: also if storage is not granted now; the grant may have ended since the run
            storage="unknown" if may_have_run and in_project else "none",
        )
        return self.outcome(job, record, request, result)

    def outcome(
        self, job: str, record: JobRecord, request: RunRequest, result: RunResult
    ) -> Outcome:
        """Return the result of a program run, and its signed receipt."""
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
            storage=result.storage,
            hosts=[*result.hosts],
            limits=request.limits.as_json,
            instructions=result.rounded_instructions,
            time_ms=result.rounded_time_ms,
            nonce=record.nonce,
            at=iso_time(SystemClock.now()),
            task=record.beneficiary is not None,
            build=request.build if result.secrets_delivered else None,
            build_verified_by=(
                "runner" if result.secrets_delivered and request.is_build_proven else None
            ),
        )
        identity = self.identity
        receipt = sign_receipt(
            facts, runner=self.backend.did, start=identity.start_hash, key=identity.receipt_key
        )
        is_about_secrets = code is not None and code.startswith(_CODES_ABOUT_SECRETS)
        return Outcome(
            salt=record.salt,
            facts=facts,
            result=result,
            receipt=receipt,
            # RN169: otherwise strangers could fill the store with receipts of refused calls
            stores_receipt=(
                result.ran or record.is_known or request.secrets_delivered or is_about_secrets
            ),
        )


class _Run:
    """One run of a program.

    Attributes:
        request: what is known of the run. A run that is refused has a receipt of it.
        is_owner: whether the caller owns every secret, and asks in person.
    """

    def __init__(
        self, runs: Runs, job: str, record: JobRecord, body: CallBody, *, compile_s: int
    ) -> None:
        self._runs = runs
        self._job = job
        self._record = record
        self._body = body
        self._wanted: list[Wanted] = []
        # The stages of a task append to it, also if they fail (RN249).
        self._fetch_s: list[float] = []
        self._storage = ProjectStorage(
            backend=runs.backend,
            grant=self._storage_grant,
            project=body.project,
            digest=partial(runs.storage_key.digest, record.project or "", record.payer.did),
        )
        self.request = self._first_request(compile_s)
        self.is_owner = False

    async def result(self) -> RunResult:
        """Find, prepare and execute the program; refusals are results too.

        Raises:
            KeepingError: the journal cannot be used; no program ran.
        """
        try:
            async with asyncio.timeout_at(self.request.start_by_s):
                version = await self._find()
                prepare = partial(self._prepare, version, self.request)
                prepared = await prepare()
            self.request, _ = prepared
            result = await self._execute(version, prepared, prepare)
        except TimeoutError:  # the program was not ready to start in time (RN220)
            result = RunResult(REASONS["runner-busy"])
        except RunRefused as refused:
            result = RunResult(_shown(refused.reason, is_owner=self.is_owner))
        result = replace(result, fetch_s=sum(self._fetch_s))
        # What a program writes may contain the secrets, and is for their owner alone.
        if self.request.secrets_delivered and not self.is_owner:
            most = self._runs.preparation.most
            result = without_traces(result, self.request, stated=self._body.limits, most=most)
            if self._body.task is not None and result.reason is not None:
                result = replace(result, output=b"")  # the same bytes as `stdout` (TK9)
        return result

    async def sign(self, result: RunResult) -> Outcome:
        """Return the outcome of the run, with its signed receipt."""
        outcome = partial(self._runs.outcome, self._job, self._record, self.request, result)
        if len(result.output) <= INLINE_BYTES:
            return outcome()
        # A long output is hashed in a thread, because it would block the event loop.
        return await asyncio.to_thread(outcome)

    async def _find(self) -> Version:
        """Find the program, and which secrets it needs.

        Raises:
            RunRefused: there is no such program, or the call may not name it.
        """
        body, record = self._body, self._record
        version = await self._runs.programs.find(body.project, body.build or body.sha256)
        self.request = replace(
            self.request,
            wasm_sha256=version.sha256,
            target=version.target,
            origin=version.project.text,  # so that no other project's call runs it (RN153)
        )
        payer = record.payer
        self._wanted = self._runs.preparation.wanted(body, payer.did, version)
        self.is_owner = record.key is None and all(
            same_principal(one.owner, payer.did) for one in self._wanted
        )
        return version

    async def _prepare(self, version: Version, request: RunRequest) -> Prepared:
        """Return the request with limits, hosts and secrets, and the secrets alone.

        A task that waited for long reads its secrets again in this way (TK5).

        Raises:
            RunRefused: a secret is missing, or its owner did not grant it to this call.
        """
        return await self._runs.preparation.prepared(
            self._job, self._body, self._wanted, version.manifest, request, key=self._record.key
        )

    async def _execute(
        self,
        version: Version,
        prepared: Prepared,
        prepare: Callable[[], Awaitable[Prepared]],
    ) -> RunResult:
        """Run the program, as a task if the call asks for one.

        Raises:
            RunRefused: before the program started.
        """
        runs, body = self._runs, self._body
        load = partial(runs.programs.load, version)
        if body.task is None or runs.tasks is None:
            result = await runs.executor.run(self.request, load)
        else:
            result = await runs.tasks.run(
                self._job, body.task, prepared, prepare, load, self._fetch_s
            )
        return replace(result, storage=self._storage.state)

    def _storage_grant(self) -> Grant | None:
        """Return the grant of storage, while the program runs."""
        if not self.request.has_storage:
            return None
        return grant_for(self._body.project, self._runs.preparation.grants.storage_grants())

    def _first_request(self, compile_s: int) -> RunRequest:
        """Return the request for a run whose program has not been found yet.

        A run that is refused before its program is found has a receipt of this request.
        """
        record, body = self._record, self._body
        payer = record.payer
        # RN165: the developer whose quota of compilation time is used
        developer = payer.did if body.project is None else body.project.developer
        start_by_s = None
        if not record.is_async:  # somebody waits for the answer (RN220)
            start_by_s = asyncio.get_running_loop().time() + START_S
        return RunRequest(
            wasm_sha256=body.sha256 or "",
            target="wasm32-wasip1",  # until the program is found
            input=body.input,
            response_format=body.response_format,
            limits=self._runs.preparation.most,
            payer=payer,
            developer=developer,
            compile_s=compile_s,
            start_by_s=start_by_s,
            storage=self._storage.answer,
        )


def _shown(reason: Reason, *, is_owner: bool) -> Reason:
    """Return a reason without what only the owner of all secrets may know (RN81).

    The detail of a reason about the environment names a secret of any owner.
    """
    if is_owner or not reason.code.startswith("environment"):
        return reason
    return reason._replace(detail="")


def _limits_of(record: JobRecord) -> Limits:
    """Return the limits of a job's run from the job's record."""
    max_instructions, max_memory_mb, max_execution_s = record.limits
    return Limits(
        max_instructions=max_instructions,
        max_memory_mb=max_memory_mb,
        max_execution_s=max_execution_s,
    )
