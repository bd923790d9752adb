"""Synchronous and asynchronous program calls, with billing (RN93 to RN99).

    POST /run     the caller signs the call and pays for it
    POST /tasks   the same, for a program with files, which always runs later
    POST /call    the caller shows an API key, whose owner pays

A synchronous call that costs nothing is not recorded in the ledger. Every other call is a job
there: it is accepted, started and settled, each exactly once, even across a crash.

Example:
    async with Calls(runner, ledger, keys, price=Price(call=1000)) as calls:
        call = await runner.verify_caller(authorization, sign_in)
        answer = await calls.run(call, Payer(call.caller), body)
"""

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from capabilities.clock_and_entropy import SystemClock
from capabilities.limits import Rates
from capabilities.principals import Principal
from sealspace.apps.api_keys import ApiKey, parse_owner, signer_of
from sealspace.apps.run_calls import Call as SignedCall
from sealspace.documents.project_names import ProjectId, checked_project_name, parse_project
from sealspace.documents.secret_names import DEFAULT_PROFILE
from sealspace.errors import InvalidInput, StatementInvalid
from serving.shares import Bounds, FairSemaphore, Payer, ResourceUse
from tee_backend.backend_errors import FolderDamaged, KeepingError

from ..guest.executor import INLINE_BYTES
from ..reasons import RunRefused
from ..shares import call_refusal
from .call_answers import (
    Answer,
    api_answer,
    api_call,
    pending,
    pending_task,
    run_answer,
    task_answer,
)
from .call_bodies import API_SHAPE, RUN_SHAPE, CallBody, api_body, parse_task, run_body
from .ended_calls import EndedCalls
from .journal import keep_receipt
from .kept_keys import KeptKeys
from .ledger import Account, JobRecord, Ledger
from .prices import Price, lower_limits
from .run import START_S, Outcome
from .run_receipts import SALT_BYTES, salted
from .service import Runner
from .task_stages import STAGE_S

DEFAULT_BUDGET = 10_000
"""Default compute limit of a call in micro-units, or the key's limit if that is lower."""

AT_ONCE = 10
"""Concurrent synchronous calls of one key."""
PER_MINUTE = 1000
"""Calls of one key that may start in a minute."""
MOST_ANSWERED = 256
MOST_ANSWERED_BYTES = 256 * 1024 * 1024
"""Bytes of the bodies of all concurrent synchronous calls."""
MOST_QUEUED = 1000
MOST_QUEUED_BYTES = 256 * 1024 * 1024
"""Bytes of the bodies of all asynchronous calls that have not ended."""

MOST_TASKS = 8
"""Tasks of known payers that have begun, one of each payer. Unknown payers have half as many."""

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, *[30.0] * 19)
"""Pauses before further attempts to start an asynchronous call: ten minutes in all."""
_TRIED_AGAIN = ("node-unavailable", "secret-unreadable", "runner-busy")

_AMOUNT = re.compile(r"[0-9]{1,15}")
_log = logging.getLogger(__name__)


class AdmittedCall(NamedTuple):
    """A call with an API key that may be read.

    Attributes:
        key: the verified key.
        project: the program.
        budget: the amount to reserve.
    """

    key: ApiKey
    project: ProjectId
    budget: int


@dataclass(eq=False, repr=False)
class Calls:
    """A context manager that handles program calls and bills their payers.

    Entering it handles the jobs that the runner's last start left unfinished.
    """

    runner: Runner
    ledger: Ledger
    keys: KeptKeys
    price: Price
    workers: int

    def __post_init__(self) -> None:
        self._of_keys = ResourceUse(call_refusal)
        self._lately = Rates[tuple[Principal, int]]()
        self._answered = Bounds(MOST_ANSWERED, MOST_ANSWERED_BYTES, refusal=call_refusal)
        self._queued = Bounds(MOST_QUEUED, MOST_QUEUED_BYTES, refusal=call_refusal)
        self._semaphore = FairSemaphore(self.workers, beside=True)
        if (tasks := self.runner.tasks) is not None:
            tasks.keep = self.ledger.keep_result
            # RN248: a task has one of these places from its beginning to its end, also while its
            # data set is fetched. One payer has one place at most, so a slow data set keeps only
            # other tasks of its payer waiting.
            self._task_semaphore = FairSemaphore(MOST_TASKS, beside=True, most_of_payer=1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._started: set[asyncio.Task[None]] = set()
        self._drain_until_s: float | None = None
        self.ended = EndedCalls()

    async def __aenter__(self) -> Self:
        """Recover the unfinished jobs after a restart (RN99).

        Interrupted jobs fail, and waiting jobs are queued again. After a restore, waiting jobs fail
        too: they may have run after the backup was made (RN293).
        """
        is_restored = await self.ledger.is_restored()
        for job, record in await self.ledger.unfinished():
            if record is None:
                _log.error("a job was not run: the job's row in the journal was edited or moved")
            elif record.state == "waiting" and not is_restored:
                reservations = ExitStack()
                # RN163: the job counts as a call, and is never refused. The bytes of its request
                # are not counted, because the record does not state them.
                reservations.enter_context(self._queued.reserve(record.payer, 0, is_new=False))
                self._enqueue(job, record, reservations)
            else:
                await self._end_interrupted(job, record)
        if is_restored:
            await self.ledger.end_restore()
        return self

    async def _end_interrupted(self, job: str, record: JobRecord) -> None:
        """Settle a job that is not run, and return its reserved amount."""
        try:
            if record.state == "waiting":
                await self.ledger.start(job)
            outcome = self.runner.runs.outcome_without_run(job, record, "interrupted")
            await self._settle(outcome, record)
        except FolderDamaged as error:
            # The journal was edited, so the amount to return is not known.
            _log.error("cannot settle an interrupted job: %s", error.message)

    def begin_drain(self, within_s: float) -> None:
        """Start no further call, and let those that have started finish within a time (RN295).

        Asynchronous calls that have not started wait in the journal for the next start.
        """
        self._drain_until_s = asyncio.get_running_loop().time() + within_s

    @property
    def is_draining(self) -> bool:
        """Whether the runner is about to stop, and starts no further call."""
        return self._drain_until_s is not None

    async def __aexit__(self, *_: object) -> None:
        """Wait for the asynchronous calls that have started, then cancel all.

        Without `begin_drain`, nothing is waited for. Calls that were cancelled after they started
        fail with `interrupted` at the next start of the runner.
        """
        if self._drain_until_s is None:
            self.begin_drain(0)
        for task in self._tasks - self._started:
            task.cancel()
        left_s = (self._drain_until_s or 0.0) - asyncio.get_running_loop().time()
        if self._started:
            await asyncio.wait(self._started, timeout=max(left_s, 0.0))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def answered(self) -> int:
        """The number of synchronous calls in progress."""
        return self._answered.calls

    # --- the routes -------------------------------------------------------------------------------

    async def run(
        self,
        call: SignedCall,
        payer: Payer,
        body: bytes,
        *,
        is_task: bool = False,
    ) -> Answer:
        """Run a program for a caller who signed the request, or make a task.

        The token is used up before the body is parsed (RN251). So a body that is refused costs its
        sender a token, and is not parsed again when the request is repeated.
        """
        await self._require_balance(payer.did, self.price.lowest_budget)
        await self.runner.use_token(call, None, body, is_known=payer.is_known)
        parsed = parse_task(body) if is_task else await self._run_body(body, payer)
        if parsed.program != call.program:
            raise RunRefused("call-refused", "the call was signed for a different program")
        budget = 0
        if not self.price.is_free:
            budget = self.price.highest_price(self.runner.runs.preparation.limits(parsed))
        if parsed.task is not None and parsed.task.dataset is not None:
            # the seconds of fetching the data set are paid for, too (RN249)
            budget += int(STAGE_S) * self.price.second
        return await self._start_job(parsed, payer, None, budget, body)

    async def admit(
        self, key: ApiKey, owner: str, name: str, compute_limit: str | None
    ) -> AdmittedCall:
        """Admit a call by the holder of an API key before its body is read.

        Otherwise a key without balance would hold the memory for bodies of other keys.

        Args:
            key: the verified key.
            owner: the developer in the URL, untrusted.
            name: the project in the URL, untrusted.
            compute_limit: the header `X-Compute-Limit`, untrusted, or None.
        Raises:
            RunRefused: the call is not admitted.
        """
        try:
            # RN96: `parse_owner` also takes an EVM address, and returns its DID
            project = ProjectId(parse_owner(owner), checked_project_name(name))
        except InvalidInput as exc:
            raise RunRefused("program-unknown", exc.message) from exc
        if not key.calls(project):
            raise RunRefused("key-project")
        budget = 0 if self.price.is_free else self._budget(key, compute_limit)
        # RN251: the call counts before its body is read. So one whose body is refused later is one
        # of the key's calls in the minute, too.
        await self._require_balance(key.owner, budget)
        self.count(key)
        return AdmittedCall(key=key, project=project, budget=budget)

    async def call(self, admitted: AdmittedCall, body: bytes) -> Answer:
        """Run a program for the holder of an API key.

        Args:
            admitted: the call, whose cost its owner can pay.
            body: the body, untrusted.
        Raises:
            RunRefused: the call is not admitted; a run that fails is an answer.
        """
        key, budget = admitted.key, admitted.budget
        parsed = await self._api_body(body, admitted.project, budget, key)
        return await self._start_job(parsed, Payer(key.owner), key.nonce, budget, body)

    def count(self, key: ApiKey) -> None:
        """Count a call or a list of calls towards its key's minute (RN97).

        Raises RunRefused with `too-many-calls` if the minute is used up.
        """
        holder = (key.owner, key.nonce)
        now = SystemClock.now()
        recent_calls = self._lately.spent(holder, per_s=PER_MINUTE / 60, now=now)
        if recent_calls + 1 > PER_MINUTE:
            raise RunRefused("too-many-calls")
        self._lately.add(holder, 1, per_s=PER_MINUTE / 60, now=now)

    async def add_key(self, statement: bytes) -> ApiKey:
        """Verify and store a new API key (RN91).

        The key is a statement that the owner signed. The owner needs an account or, if runs are
        free, a grant to this runner.

        Raises:
            RunRefused: `key-statement`, `balance-too-low`, `owner-unknown`, or a reason of
                `KeptKeys.add`.
        """
        try:
            owner = signer_of(statement)
            if not await self.ledger.has_account(owner):
                if not self.price.is_free:
                    raise RunRefused("balance-too-low")
                if owner not in self.runner.backend.owners:
                    raise RunRefused("owner-unknown")
            return await self.keys.add(statement, owner)
        except StatementInvalid as invalid:
            raise RunRefused("key-statement", invalid.message) from invalid

    async def answer_of(
        self, job: str, holder: Principal, key: int | None, *, is_result: bool = False
    ) -> Answer | None:
        """Return the response to an asynchronous program call, or None (RN98, TK8, TK9).

        None means that the client has no such call or result.

        Args:
            job: id of the call.
            holder: the caller, or the owner of the API key.
            key: nonce of the API key. None: the caller signed the request, and may also see calls
                that were made with its keys.
            is_result: whether the sealed result of a task is wanted.
        """
        record = await self.ledger.job(job)
        if record is None or not record.is_async:
            return None
        if holder not in (record.caller, record.beneficiary):
            return None
        if key is not None and key != record.key:
            return None
        if is_result and not record.result_bytes:
            return None
        if record.state != "done":
            return self._pending(job, record)
        return Answer(200, kept=self.ledger.answer(job, record, is_result=is_result))

    def _pending(self, job: str, record: JobRecord) -> Answer:
        if record.beneficiary is None:
            return pending(job, is_api=record.key is not None)
        tasks = self.runner.tasks
        return pending_task(job, None if tasks is None else tasks.stage_of.get(job))

    # --- from a job to its answer -----------------------------------------------------------------

    async def _start_job(
        self, parsed: CallBody, payer: Payer, key: int | None, budget: int, request: bytes
    ) -> Answer:
        """Run or queue a program call, and return the response."""
        if self.is_draining:
            raise RunRefused("runner-closed")
        job = self.runner.entropy.token(16).hex()
        with ExitStack() as reservations:
            self._reserve(reservations, parsed, payer, key, len(request))
            # RN250: conditions of grants are judged only for a call that has its place
            parsed = await self.runner.locate(parsed, payer)
            if parsed.task is not None:
                # TK5: a task with a missing secret is refused now, while the client waits for the
                # answer, and not only when the task begins
                await self.runner.runs.check_task(parsed, payer)
            record = await self._new_record(parsed, payer, key, budget, request)
            if parsed.is_async:
                await self.ledger.accept(job, record, request=request)
                self._enqueue(job, record, reservations.pop_all())
                return self._pending(job, record)
            if not budget:
                return await self._run_free(job, record, parsed)
            return await self._run_paid(job, record, parsed)

    def _reserve(
        self,
        reservations: ExitStack,
        parsed: CallBody,
        payer: Payer,
        key: int | None,
        size_bytes: int,
    ) -> None:
        """Reserve the places of a call, until the stack is closed.

        Raises:
            RunRefused: `too-many-calls` or `runner-busy`.
        """
        if key is not None and not parsed.is_async:
            # one key may have few calls that wait for their answers (RN97)
            of_key = self._of_keys.reserve({(payer.did, key): 1}, 1, AT_ONCE)
            reservations.enter_context(of_key)
        bounds = self._queued if parsed.is_async else self._answered
        reservations.enter_context(bounds.reserve(payer, size_bytes))

    async def _new_record(
        self, parsed: CallBody, payer: Payer, key: int | None, budget: int, request: bytes
    ) -> JobRecord:
        """Return the record of a new job.

        Raises:
            RunRefused: `limits-invalid`.
        """
        # A free synchronous call has no record in the ledger, so nothing reads the limits of this
        # one. The run checks those of the call, and a refusal then has a receipt.
        is_recorded = budget > 0 or parsed.is_async
        limits = self.runner.runs.preparation.limits(parsed) if is_recorded else self.runner.most
        salt = self.runner.entropy.token(SALT_BYTES)
        task = parsed.task
        # TK9: a task has no input, and its receipt is about the request
        hashed = parsed.input if task is None else request
        if len(hashed) <= INLINE_BYTES:
            input_hash = salted(salt, hashed)
        else:  # hashing it on the event loop would delay other requests
            input_hash = await asyncio.to_thread(salted, salt, hashed)
        beneficiary = None
        if task is not None:  # by default, the result is for the requester
            beneficiary = task.beneficiary or payer.did
        return JobRecord(
            state="waiting" if parsed.is_async else "started",
            caller=payer.did,
            key=key,
            reserved=budget,
            is_async=parsed.is_async,
            project=None if parsed.project is None else parsed.project.text,
            program=parsed.sha256,
            has_secrets=parsed.secrets is not None or task is not None,
            salt=salt,
            input_hash=input_hash,
            limits=tuple(limits.as_json.values()),
            nonce=parsed.nonce,
            is_known=payer.is_known,
            beneficiary=beneficiary,
        )

    async def _run_free(self, job: str, record: JobRecord, parsed: CallBody) -> Answer:
        """Run a program for which nothing is reserved; only its receipt is stored."""
        outcome = await self._perform(job, record, parsed)
        self._count_ended(outcome, charged=0)
        try:
            if outcome.stores_receipt:
                call = self.ledger.sealed_call(record, api_call(outcome, charged=0))
                await self.runner.journal.write(
                    lambda connection: keep_receipt(
                        connection, job, outcome.receipt, record.payer, call
                    )
                )
        except KeepingError as error:  # the answer contains the receipt in any case
            _log.warning("a receipt was not stored: %s", error.code)
        return _answer(outcome, record.key, 0)

    async def _run_paid(self, job: str, record: JobRecord, parsed: CallBody) -> Answer:
        """Reserve the amount of a call, run its program, and charge the payer."""
        await self.ledger.accept(job, record, request=None)
        try:
            outcome = await self._perform(job, record, parsed)
        except Exception:
            failed = self.runner.runs.outcome_without_run(job, record, "runner-failed")
            await self._settle(failed, record)
            raise
        return await self._settle(outcome, record)

    async def _perform(self, job: str, record: JobRecord, parsed: CallBody) -> Outcome:
        return await self.runner.runs.perform(
            job, record, parsed, compile_s=self.price.compile_s(record.reserved)
        )

    def _enqueue(self, job: str, record: JobRecord, reservations: ExitStack) -> None:
        """Run an asynchronous call as soon as a worker is free.

        While its program cannot start, the call is tried again, and other calls get the worker
        during the pauses.
        """
        running = asyncio.create_task(self._run_later(job, record, reservations))
        self._tasks.add(running)
        running.add_done_callback(self._tasks.discard)

    async def _run_later(self, job: str, record: JobRecord, reservations: ExitStack) -> None:
        """Try to run an asynchronous call, with pauses, until it has ended."""
        is_task = record.beneficiary is not None and self.runner.tasks is not None
        semaphore = self._task_semaphore if is_task else self._semaphore
        with reservations:
            for attempt, pause_s in enumerate((0.0, *PAUSES_S)):
                is_last = attempt == len(PAUSES_S)
                await asyncio.sleep(pause_s)
                async with semaphore.acquire(record.payer):
                    if self.is_draining:  # RN295: it waits in the journal for the next start
                        return
                    try:
                        with self._counted_as_started():
                            has_ended = await self._run_waiting(job, is_last=is_last)
                    except KeepingError as error:
                        # The job stays in the ledger until the next start.
                        _log.error(
                            "an asynchronous call was not started or not settled: %s",
                            error.message,
                        )
                        return
                    if has_ended or self.is_draining:
                        return

    @contextmanager
    def _counted_as_started(self) -> Iterator[None]:
        """Have a stop of the runner wait for the current task until the `with` block ends."""
        task = asyncio.current_task()
        assert task is not None  # an asynchronous call has a task of its own
        self._started.add(task)
        try:
            yield
        finally:
            self._started.discard(task)

    async def _run_waiting(self, job: str, *, is_last: bool) -> bool:
        """Run an asynchronous call, and return whether the job has ended.

        If not, the job waits again: its program could not start, and is tried again later (RN221).
        """
        record = await self.ledger.job(job)
        if record is None:
            return True
        request = await self.ledger.start(job)
        try:
            if record.beneficiary is not None:
                parsed = parse_task(request)
            elif record.key is None:
                parsed = await self._run_body(request, record.payer)
                if record.project is not None:
                    # RN242: found when the call was accepted, because its body may name no project
                    parsed = replace(parsed, project=parse_project(record.project))
            else:
                # RN89: the key may have ended or been revoked since the call was accepted
                key = await self.keys.live_key(Principal(record.caller), record.key)
                parsed = await self._api_body(
                    request, parse_project(str(record.project)), record.reserved, key
                )
            outcome = await self._perform(job, record, parsed)
        except RunRefused as refusal:
            outcome = self.runner.runs.outcome_without_run(job, record, refusal.reason.code)
        except Exception:
            _log.exception("an asynchronous call could not be run")
            outcome = self.runner.runs.outcome_without_run(job, record, "runner-failed")
        # RN221: after these codes the program has not started, so none runs twice (RN99)
        may_start_later = outcome.facts.code in _TRIED_AGAIN
        # RN249: the payer pays for fetching a data set, so it is not fetched again
        has_fetched = outcome.result.fetch_s > 0
        if may_start_later and not is_last and not has_fetched:
            await self.ledger.postpone(job, request)
            return False
        await self._settle(outcome, record)
        return True

    async def _settle(self, outcome: Outcome, record: JobRecord) -> Answer:
        """Charge the payer for a finished job, and return the response.

        The charge is the cost of run, compilation and fetching, at most the reserved amount (RN94,
        RN166, RN249).
        """
        facts, result = outcome.facts, outcome.result
        run_cost = 0
        # what an interrupted run used is not known, so nothing is charged for it (RN99)
        if result.ran and facts.code != "interrupted":
            run_cost = self.price.cost(instructions=facts.instructions, time_ms=facts.time_ms)
        # compiling and fetching are paid for in whole seconds each, also if the program did not
        # start (RN166, RN249)
        seconds = int(result.compile_s) + int(result.fetch_s)
        charged = min(run_cost + seconds * self.price.second, record.reserved)
        is_task = record.beneficiary is not None
        answer = task_answer(outcome) if is_task else _answer(outcome, record.key, charged)
        await self.ledger.settle(
            facts.job,
            charged=charged,
            receipt=outcome.receipt if outcome.stores_receipt else None,
            answer=answer.body if record.is_async else None,
            now=SystemClock.now(),
            call=self.ledger.sealed_call(record, api_call(outcome, charged=charged)),
            is_failed=is_task and facts.code is not None,
        )
        self._count_ended(outcome, charged=charged)
        return answer

    def _count_ended(self, outcome: Outcome, *, charged: int) -> None:
        facts = outcome.facts
        self.ended.add(
            facts.code, instructions=facts.instructions, time_ms=facts.time_ms, charged=charged
        )

    # --- money ------------------------------------------------------------------------------------

    async def _require_balance(self, owner: Principal, amount: int) -> None:
        """Refuse a call that its payer cannot pay for, before its body is parsed (RN251).

        Only `Ledger.accept` reserves the amount, in one transaction.

        Raises RunRefused with `balance-too-low`.
        """
        if amount:
            account = await self.ledger.account(owner) or Account()
            if account.balance < amount:
                raise RunRefused("balance-too-low")

    def _budget(self, key: ApiKey, stated: str | None) -> int:
        """Return the amount to reserve for a call (RN94).

        The amount is the stated compute limit, or a default.

        Raises:
            RunRefused: `request-invalid`, `compute-limit` if the amount is too low for any run,
                `key-per-call` if it exceeds the key's limit.
        """
        if stated is None:
            budget = min(max(DEFAULT_BUDGET, self.price.lowest_budget), key.max_per_call)
        elif _AMOUNT.fullmatch(stated) is None:
            raise RunRefused("request-invalid", "X-Compute-Limit")
        else:
            budget = int(stated)
        if budget < self.price.lowest_budget:
            raise RunRefused(
                "compute-limit",
                f"the compute limit is {budget}, but a call needs at least"
                f" {self.price.lowest_budget}",
            )
        if budget > key.max_per_call:
            raise RunRefused(
                "key-per-call",
                f"the compute limit is {budget}, but the key allows at most {key.max_per_call}",
            )
        return budget

    async def _run_body(self, body: bytes, payer: Payer) -> CallBody:
        """Parse the request body of a call that its caller signed."""
        bodies = self.runner.executor.bodies
        return run_body(*await bodies.split(body, RUN_SHAPE, payer, within_s=START_S))

    async def _api_body(
        self, body: bytes, project: ProjectId, budget: int, key: ApiKey
    ) -> CallBody:
        """Parse the request body of a call authorised by an API key.

        Unless the budget is 0, the run's resource limits are reduced to what it pays for.

        Raises:
            RunRefused: `key-profile` if the key does not name the profile of the secrets (RN90).
        """
        bodies = self.runner.executor.bodies
        members, given = await bodies.split(body, API_SHAPE, Payer(key.owner), within_s=START_S)
        parsed = api_body(members, given, project)
        if parsed.secrets is not None:
            # RN90: also for secrets of other owners, which a grant may allow the key's owner to use
            profile = parsed.secrets.scope or DEFAULT_PROFILE
            if profile not in key.profiles:
                raise RunRefused("key-profile")
        if not budget:
            return parsed
        limits = lower_limits(parsed.limits, self.price.affordable(budget))
        return replace(parsed, limits=limits)


def _answer(outcome: Outcome, key: int | None, charged: int) -> Answer:
    return run_answer(outcome) if key is None else api_answer(outcome, charged=charged)
