"""Calls from the door to the answer: who pays, what is reserved, now or later, and what a crash
leaves (RN93 to RN99).

    POST /run     the caller signs, and pays for itself
    POST /call    somebody calls with an API key, in its owner's name and at its cost

A call that costs nothing and is answered at once is no row of the ledger. Every other one is: it is
accepted, started and settled, each exactly once, whatever ends in between.

Example:
    async with Calls(runner, ledger, keys, price=Price(call=1000)) as calls:
        call = await runner.called(authorization, sign_in)
        answer = await calls.run(call, Payer(call.caller), body)
"""

import asyncio
import logging
import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final, Self

from capabilities.clock_and_entropy import SystemClock
from capabilities.limits import Rates
from capabilities.principals import Principal
from sealspace.apps.api_keys import DEFAULT_PROFILE, ApiKey, parse_owner, signer_of
from sealspace.apps.run_calls import Call as SignedCall
from sealspace.documents.project_names import ProjectId, checked_project_name, parse_project
from sealspace.errors import InvalidInput, StatementInvalid

from ...backend_errors import FolderDamaged, KeepingError
from ..reasons import RunRefused
from ..shares import Bounds, InUse, Payer, Turns
from .call_answers import Answer, api_answer, pending, run_answer
from .call_bodies import CallBody, parse_api_body, parse_body
from .kept_keys import KeptKeys
from .ledger import JobRecord, Ledger
from .prices import Price, smallest
from .run_receipts import SALT_BYTES, salted
from .service import Outcome, Runner

DEFAULT_BUDGET: Final = 10_000
"""Micro-units that a call may cost where it does not say; less where its key allows less."""

AT_ONCE: Final = 10
"""Calls of one key that wait for their answers."""
PER_MINUTE: Final = 1000
"""Calls of one key."""
MOST_ANSWERED: Final = 256
MOST_ANSWERED_BYTES: Final = 256 * 1024 * 1024
"""Calls under way that wait for their answers, and the bytes of their bodies."""
MOST_QUEUED: Final = 1000
MOST_QUEUED_BYTES: Final = 256 * 1024 * 1024
"""Asynchronous calls under way, and the bytes of their bodies."""

_AMOUNT: Final = re.compile(r"[0-9]{1,15}")
_log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class Calls:
    """The calls of one runner. Entering ends what a crash left, and begins what waits."""

    runner: Runner
    ledger: Ledger
    keys: KeptKeys
    price: Price
    workers: int

    def __post_init__(self) -> None:
        self._of_keys, self._lately = InUse(), Rates[tuple[Principal, int]]()
        self._answered = Bounds(MOST_ANSWERED, MOST_ANSWERED_BYTES)
        self._queued = Bounds(MOST_QUEUED, MOST_QUEUED_BYTES)
        self._turns = Turns(self.workers, beside=True)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """End what had started when the runner ended, and put what waited into the queue again
        (RN99)."""
        for job, record in await self.ledger.unfinished():
            if record is None:
                _log.error(
                    "a job in the journal was edited or moved: it is left as it is, and not run"
                )
            elif record.state == "waiting":
                counted = ExitStack()
                counted.enter_context(self._queued.held(record.payer, 0, is_new=False))
                self._begin(job, record.payer, counted)
            else:
                try:
                    await self._settle(self.runner.unrun(job, record, "interrupted"), record)
                except FolderDamaged as error:
                    # its account was edited: nothing is paid back by guessing
                    _log.error("a job that was interrupted is not settled: %s", error.message)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; what was started stays so, and is interrupted at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- the doors --------------------------------------------------------------------------------

    async def run(self, call: SignedCall, payer: Payer, body: bytes) -> Answer:
        """Run a program for a caller who signs."""
        asked = parse_body(body)
        await self.runner.use_up(call, asked.program, body)
        budget = 0 if self.price.is_free else self.price.most(self.runner.limits(asked))
        return await self._take(asked, payer, None, budget, body)

    async def call(
        self, key: ApiKey, owner: str, name: str, compute_limit: str | None, body: bytes
    ) -> Answer:
        """Run a program for the holder of a key.

        Args:
            key: that was shown.
            owner: the developer, as the address names it.
            name: the project, as the address names it.
            compute_limit: the header; None: there is none.
            body: as it arrived.
        Returns, Raises:
            As `run`.
        """
        try:
            project = ProjectId(parse_owner(owner), checked_project_name(name))  # RN96
        except InvalidInput as exc:
            raise RunRefused("program-unknown") from exc
        if not key.calls(project):
            raise RunRefused("key-project")
        budget = 0 if self.price.is_free else self._budget(key, compute_limit)
        asked = self._api_body(body, project, budget, key)
        holder, now = (key.owner, key.nonce), SystemClock.now()
        if self._lately.spent(holder, per_s=PER_MINUTE / 60, now=now) > PER_MINUTE - 1:  # RN97
            raise RunRefused("too-many-calls")
        self._lately.add(holder, 1, per_s=PER_MINUTE / 60, now=now)
        return await self._take(asked, Payer(key.owner), key.nonce, budget, body)

    async def add_key(self, statement: bytes) -> ApiKey:
        """Keep a key that its owner signed; of an owner who has an account, or, where runs are
        free, a grant (RN91).

        Raises:
            RunRefused: `balance-too-low`, `owner-unknown`, and as `KeptKeys.add`.
        """
        try:
            owner = signer_of(statement)
            if await self.ledger.account(owner) is None:
                if not self.price.is_free:
                    raise RunRefused("balance-too-low")
                if owner not in self.runner.backend.owners:
                    raise RunRefused("owner-unknown")
            return await self.keys.add(statement, owner)
        except StatementInvalid as invalid:
            raise RunRefused("key-statement", invalid.message) from invalid

    async def answer_of(self, job: str, holder: Principal, key: int | None) -> Answer | None:
        """Return the answer of an asynchronous call, to whoever called (RN98); None for everybody
        else.

        Args:
            job: its id.
            holder: the caller, or the owner of the key.
            key: nonce of the key; None: the caller itself asks, which may see what was called with
                its keys too.
        """
        record = await self.ledger.job(job)
        if (
            record is None
            or not record.is_async
            or record.caller != holder
            or key not in (None, record.key)
        ):
            return None
        if record.state != "done":
            return pending(job, is_api=record.key is not None)
        return Answer(200, kept=self.ledger.answer(job, record))

    # --- from a job to its answer -----------------------------------------------------------------

    async def _take(
        self, asked: CallBody, payer: Payer, key: int | None, budget: int, request: bytes
    ) -> Answer:
        """Have a job run now, or later."""
        job = self.runner.entropy.token(16).hex()
        with ExitStack() as counted:
            if key is not None and not asked.is_async:
                counted.enter_context(self._of_keys.held({(payer.did, key): 1}, 1, AT_ONCE))  # RN97
            bounds = self._queued if asked.is_async else self._answered
            counted.enter_context(bounds.held(payer, len(request)))
            # A call that costs nothing and is answered at once is no row of the ledger: the run
            # judges its limits.
            limits = self.runner.limits(asked) if budget or asked.is_async else self.runner.most
            salt = self.runner.entropy.token(SALT_BYTES)
            record = JobRecord(
                state="waiting" if asked.is_async else "started",
                caller=payer.did,
                key=key,
                reserved=budget,
                is_async=asked.is_async,
                project=None if asked.project is None else asked.project.text,
                program=asked.sha256,
                has_secrets=asked.secrets is not None,
                salt=salt,
                input_hash=salted(salt, asked.input),
                limits=tuple(limits.shown.values()),
                nonce=asked.nonce,
                is_known=payer.is_known,
            )
            if asked.is_async:
                await self.ledger.accept(job, record, request=request)
                self._begin(job, payer, counted.pop_all())
                return pending(job, is_api=key is not None)
            if not budget:
                outcome = await self._perform(job, record, asked)
                try:
                    if outcome.is_kept:
                        await self.runner.journal.keep(job, outcome.receipt, payer)
                except KeepingError as error:  # the caller has it all the same
                    _log.warning("a receipt is not kept: %s", error.code)
                return _answer(outcome, key, 0)
            await self.ledger.accept(job, record, request=None)
            try:
                outcome = await self._perform(job, record, asked)
            except Exception:
                await self._settle(self.runner.unrun(job, record, "runner-failed"), record)
                raise
            return await self._settle(outcome, record)

    async def _perform(self, job: str, record: JobRecord, asked: CallBody) -> Outcome:
        return await self.runner.perform(
            job, record, asked, compile_s=self.price.compile_s(record.reserved)
        )

    def _begin(self, job: str, payer: Payer, counted: ExitStack) -> None:
        """Have an asynchronous call run when it is its payer's turn."""

        async def later() -> None:
            with counted:
                async with self._turns.place(payer):
                    try:
                        await self._run_waiting(job)
                    except KeepingError as error:  # the job stays as the ledger has it
                        _log.error(
                            "an asynchronous call was not started or not settled: %s", error.message
                        )

        task = asyncio.create_task(later())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_waiting(self, job: str) -> None:
        record = await self.ledger.job(job)
        if record is None:
            return
        request = await self.ledger.start(job)
        try:
            if record.key is None:
                asked = parse_body(request)
            else:
                # RN89: it has to hold still
                key = await self.keys.held(Principal(record.caller), record.key)
                asked = self._api_body(
                    request, parse_project(str(record.project)), record.reserved, key
                )
            outcome = await self._perform(job, record, asked)
        except RunRefused as refusal:
            outcome = self.runner.unrun(job, record, refusal.reason.code)
        except Exception:
            _log.exception("an asynchronous call could not be run")
            outcome = self.runner.unrun(job, record, "runner-failed")
        await self._settle(outcome, record)

    async def _settle(self, outcome: Outcome, record: JobRecord) -> Answer:
        """End a job in the ledger, and return its answer.

        A run costs its use and its compilation, at most what was reserved (RN94, RN166).
        """
        facts, result = outcome.facts, outcome.result
        is_charged = result.ran and facts.code != "interrupted"  # of which nothing is known (RN99)
        used = (
            self.price.cost(instructions=facts.instructions, time_ms=facts.time_ms)
            if is_charged
            else 0
        )
        charged = min(used + int(result.compile_s) * self.price.second, record.reserved)
        answer = _answer(outcome, record.key, charged)
        await self.ledger.settle(
            outcome.facts.job,
            charged=charged,
            receipt=outcome.receipt if outcome.is_kept else None,
            answer=answer.body if record.is_async else None,
            now=SystemClock.now(),
        )
        return answer

    # --- money ------------------------------------------------------------------------------------

    def _budget(self, key: ApiKey, stated: str | None) -> int:
        """Return what a call may cost: what it says, as far as its key allows (RN94)."""
        if stated is None:
            budget = min(max(DEFAULT_BUDGET, self.price.least), key.max_per_call)
        elif _AMOUNT.fullmatch(stated) is None:
            raise RunRefused("request-invalid", "X-Compute-Limit")
        else:
            budget = int(stated)
        if budget < self.price.least:
            raise RunRefused("compute-limit", f"{budget} < {self.price.least}")
        if budget > key.max_per_call:
            raise RunRefused("key-per-call", f"{budget} > {key.max_per_call}")
        return budget

    def _api_body(self, body: bytes, project: ProjectId, budget: int, key: ApiKey) -> CallBody:
        """Read the body of `POST /call`, with limits that its budget pays for.

        Secrets of a profile that the key does not name are refused, whosever they are (RN90).
        """
        asked = parse_api_body(body, project)
        # RN90
        if (
            asked.secrets is not None
            and (asked.secrets.scope or DEFAULT_PROFILE) not in key.profiles
        ):
            raise RunRefused("key-profile")
        return (
            replace(asked, limits=smallest(asked.limits, self.price.affordable(budget)))
            if budget
            else asked
        )


def _answer(outcome: Outcome, key: int | None, charged: int) -> Answer:
    return run_answer(outcome) if key is None else api_answer(outcome, charged=charged)
