"""A service that executes programs and signs receipts: which grants and callers it accepts.

    verify the caller -> use the token up -> run (`run`) -> charge and store the answer (`calls`)

Cheap steps come first: for a caller who is not verified, the runner sends nothing to the node and
writes nothing.

Example:
    runner = Runner(backend, client, executor, journal, identity)
    call = await runner.verify_caller(authorization, sign_in)
    await runner.use_token(call, program, body)
    outcome = await runner.runs.perform(job, record, parsed, compile_s=60)
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from capabilities.clock_and_entropy import Entropy, SystemClock, SystemEntropy
from capabilities.principals import Principal
from sealspace.apps.run_calls import Call as SignedCall
from sealspace.apps.run_calls import read_call
from sealspace.documents.call_conditions import require_bounded_patterns
from sealspace.documents.run_grants import ByBuilds, RunGrant
from sealspace.errors import CallRefused, InvalidInput, InvalidPortableDelegation
from sealspace.wire.portable import PortableDelegation
from serving.shares import FairSemaphore, Payer
from tee_backend.backend import Backend

from ..guest.executor import INLINE_BYTES, Executor
from ..guest.runs import Limits
from ..reasons import RunRefused
from .build_proofs import BuildProofs, missing_root
from .call_bodies import CallBody
from .grant_judging import ConditionJudge, located
from .identity import Identity
from .journal import Journal
from .published_programs import PublishedPrograms
from .run import START_S, Runs
from .run_preparation import Preparation
from .run_secrets import SecretReader
from .secret_tags import SecretTagKey, StorageKey
from .task_stages import TaskStages

_MOST_VERIFYING = 2
"""Tokens that are verified at one time; key holders' calls wait behind these only."""


@dataclass(eq=False, repr=False)
class Runner:
    """A service that executes programs for callers.

    `most` contains the upper limits for every run, and `roots` the trusted roots for provenance
    bundles by their SHA-256.
    """

    backend: Backend
    programs: PublishedPrograms
    executor: Executor
    journal: Journal
    identity: Identity
    tags: SecretTagKey
    storage_key: StorageKey
    most: Limits
    entropy: Entropy = field(default_factory=SystemEntropy)
    tasks: TaskStages | None = None
    roots: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.did = self.backend.did
        self.grants = self.programs.grants
        self._verifying = FairSemaphore(
            _MOST_VERIFYING, beside=False, most_of_payer=_MOST_VERIFYING
        )
        self._recording = FairSemaphore(1, beside=True)
        self.judge = ConditionJudge()
        self._proofs = BuildProofs(self.programs, self.executor.bundles, self.journal, self.roots)
        self._secret_reader = SecretReader(
            backend=self.backend, judge=self.judge, tags=self.tags, proofs=self._proofs
        )
        self.runs = Runs(
            backend=self.backend,
            programs=self.programs,
            executor=self.executor,
            identity=self.identity,
            preparation=Preparation(
                reader=self._secret_reader,
                grants=self.grants,
                executor=self.executor,
                most=self.most,
                takes_tasks=self.tasks is not None,
            ),
            storage_key=self.storage_key,
            tasks=self.tasks,
        )

    async def accept(self, *portables: PortableDelegation) -> bytes | None:
        """Verify and accept the given grants.

        If one grant is invalid, none is accepted. Run grants cannot be accepted together with
        grants of other kinds.

        Returns:
            After a grant by a job, the commits of the job's former grants by CID, as JSON.
        Raises:
            InvalidPortableDelegation: one is not a grant for this runner (RN41 to RN46, RN143,
                RN152, RN201), a pattern on callers is over its limit (RN210), or they are of both
                kinds.
            As `Backend.accept`.
        """
        run_grants = self._checked_run_grants(portables)
        if run_grants:
            await self.backend.accept(*portables)
        else:
            await self.backend.hold(*portables)
        jobs = {run_grant.job for run_grant in run_grants if run_grant.job}
        # RN247: of the grants by one job, the newest counts. It need not be one of these: they may
        # be replayed, or another delivery may have been accepted meanwhile.
        live = self.grants.run_grants()
        known = live + self.grants.run_grants("ended", "revoked")
        newest = dict[bytes, str]()
        for grant, run in known:
            # Live grants come first, and newer ones before older ones.
            newest.setdefault(run.job, grant.cid)
        former_commits = {
            grant.cid: run.commit
            for grant, run in known
            if run.job in jobs and grant.cid != newest[run.job]
        }
        await self.backend.disuse(former_commits.keys())
        return msgspec.json.encode(former_commits) if jobs else None

    def check_found(self, portable: PortableDelegation) -> None:
        """Verify a grant that was fetched from the node (AT61).

        Raises:
            SealspaceError: as `accept`. Also for a grant by a job: only the newest one of a job
                counts (RN247), and the list at the node is in another order than deliveries.
        """
        for run_grant in self._checked_run_grants([portable]):
            if run_grant.job:
                raise InvalidPortableDelegation("a job delivers its grants itself")

    def _checked_run_grants(self, portables: Sequence[PortableDelegation]) -> list[RunGrant]:
        """Check the grants of a delivery, and return them if they are run grants.

        The list is empty for grants of other kinds.

        Raises:
            InvalidPortableDelegation: one is not a grant for this runner, or they are of both
                kinds.
        """
        grants = [self.grants.read(portable.header) for portable in portables]
        run_grants = [grant for grant in grants if isinstance(grant, RunGrant)]
        for run_grant in run_grants:
            try:
                # A grant with a costly pattern would slow every later call down (RN210).
                require_bounded_patterns(run_grant.statement.callers)
            except InvalidInput as invalid:
                raise InvalidPortableDelegation(str(invalid)) from invalid
            self._require_root(run_grant)
        if run_grants and len(run_grants) != len(grants):
            raise InvalidPortableDelegation(
                "a delivery contains run grants and grants of another kind; deliver them separately"
            )
        return run_grants

    def _require_root(self, run: RunGrant) -> None:
        """Refuse a grant for builds that this runner cannot verify (PV18)."""
        for rule in run.statement.programs:
            if isinstance(rule, ByBuilds):
                cause = missing_root(rule.builds, self.roots)
                if cause:
                    raise InvalidPortableDelegation(
                        cause,
                        hint="grant with a trusted root that the runner has, or ask its operator to"
                        " start it with `--trusted-root FILE`",
                    )

    async def verify_caller(
        self, authorization: str | None, sign_in: str | None, client: str | None = None
    ) -> SignedCall:
        """Verify the token of a program call.

        The token contains the hash of the startup document, which each process creates anew. So a
        token from before a restart, or for another runner with the same DID, is refused (RN178).

        Args:
            authorization: the caller's token, untrusted, or None.
            sign_in: the wallet sign-in that the token cites, untrusted, or None.
            client: the client's IP address, or None if it is not known. Addresses take turns, so
                a client that sends many tokens delays only its own calls.
        Returns:
            The verified call. Its program and body are not compared yet (`use_token`).
        Raises:
            RunRefused: `call-refused`, `call-start`.
        """
        if authorization is None:
            raise RunRefused("call-refused", "no Authorization")
        # RN163: only a few tokens are verified at once, so that the calls of key holders do not
        # wait behind many others. The places are shared out by address.
        async with self._verifying.acquire(Payer(Principal(client or ""))):
            # Other requests run here, find no free place, and join the queue of their address.
            # Without this line each request would find a place free, because verification does not
            # wait for anything, and addresses would not take turns.
            await asyncio.sleep(0)
            try:
                call = read_call(authorization, sign_in, runner=self.did, now=SystemClock.now())
            except CallRefused as refused:
                raise RunRefused("call-refused", refused.message) from refused
        # RN178: a platform's key service gives several runners one DID, and each has a journal of
        # its own. Without this check one token could be used once at each.
        if call.runner.start != self.identity.start_hash:
            raise RunRefused("call-start")
        return call

    async def use_token(
        self, call: SignedCall, program: str | None, body: bytes, *, is_known: bool = False
    ) -> Principal:
        """Check a call's token, and record the token as used (RN65).

        Returns the caller's DID.

        Args:
            call: a verified call.
            program: the program that the token must name; None: the body names it, and is compared
                with the token once it is parsed.
            body: the body whose SHA-256 the token must name.
            is_known: whether the caller has an account.
        Raises:
            RunRefused: `call-refused`, `call-repeated`.
            KeepingError: the journal cannot be used.
        """
        try:
            if len(body) <= INLINE_BYTES:
                call.require(program, body)
            else:  # hashing 20 MB would block the event loop for 20 ms
                await asyncio.to_thread(call.require, program, body)
        except CallRefused as refused:
            raise RunRefused("call-refused", refused.message) from refused
        # Tokens are recorded one at a time, and recording waits for the disk. So tokens of callers
        # with an account have a place of their own, and do not wait behind all others (RN163).
        async with self._recording.acquire(Payer(call.caller, is_known=is_known)):
            now = SystemClock.now()
            # The journal deletes the records of expired tokens. So it cannot tell whether a token
            # that expired while the body arrived was used before.
            if now > call.expires_at:
                raise RunRefused("call-repeated")
            is_new = await self.journal.use_token(call.token, expires_at=call.expires_at, now=now)
            if not is_new:
                raise RunRefused("call-repeated")
        return call.caller

    async def locate(self, body: CallBody, payer: Payer) -> CallBody:
        """Find the project of a call that names only its source (RN242).

        Raises:
            RunRefused: `program-unknown`, `request-invalid`, or `runner-busy` if it takes too long.
        """
        if body.build is None or body.project is not None:
            return body
        try:
            async with asyncio.timeout(START_S):  # a call waits as long for its program (RN220)
                grants = [grant for _, grant in self.grants.run_grants()]
                return await located(body, body.build, payer, grants, self.judge)
        except TimeoutError as late:
            raise RunRefused("runner-busy") from late
