"""A service that executes programs and signs receipts.

    verify the caller -> use the token up -> find program -> choose grants -> read secrets -> run
                      -> sign the receipt

Cheap steps come first: for a caller who is not verified, the runner sends nothing to the node and
writes nothing. Plaintext of secrets exists from the reads to the end of the run, in this process
and in one child; in a kept child until that ends (RN262). Payment and storage of answers are in
`calls.calls`.

Example:
    runner = Runner(backend, client, executor, journal, identity)
    outcome = await runner.perform(job, record, body, compile_s=60)
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec

from capabilities.clock_and_entropy import Entropy, SystemClock, SystemEntropy
from capabilities.frozen import frozen
from capabilities.principals import Principal, same_principal
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json, JsonObject
from sealspace.apps.backends import RUNNER_APP_ID
from sealspace.apps.programs import ProgramManifest, Version
from sealspace.apps.run_calls import Call as SignedCall
from sealspace.apps.run_calls import read_call
from sealspace.documents.call_conditions import require_bounded_patterns
from sealspace.documents.iexec_names import address_of, app_secret
from sealspace.documents.project_names import ProjectId
from sealspace.documents.published import parse_statement, statement_json
from sealspace.documents.run_grants import ByBuilds, RunGrant
from sealspace.documents.secret_names import scope_of_profile
from sealspace.errors import CallRefused, InvalidInput, InvalidPortableDelegation
from sealspace.session import Grant, iso_time
from sealspace.wire.portable import PortableDelegation
from serving.shares import FairSemaphore, Payer
from tee_backend.attestation.report_data import runner_binding
from tee_backend.backend import Backend
from tee_backend.evidence.source import EvidenceSource

from ..guest.environment import Environment, environment_of
from ..guest.executor import INLINE_BYTES, Executor
from ..guest.runs import Limits, RunRequest, RunResult
from ..reasons import REASONS, Reason, RunRefused
from .build_proofs import BuildProofs, missing_root
from .call_bodies import CallBody, TaskOrder
from .disclosure import without_traces
from .grant_judging import ConditionJudge, located
from .journal import Journal
from .ledger import JobRecord
from .project_storage import ProjectStorage
from .published_programs import PublishedPrograms, grant_for
from .reuse_scopes import ReuseScopes
from .run_receipts import RunFacts, encode_start, names_hash, parse_start, salted, sign_receipt
from .run_secrets import RunSecrets, SecretReader, capped
from .secret_tags import SecretTagKey, StorageKey
from .task_stages import TaskStages, Wanted, task_environment, wanted_by_application, wanted_by_task

START_S = 30.0
"""How long a synchronous call waits for the start of its program."""
_MOST_VERIFYING = 2
"""Tokens that are verified at one time; key holders' calls wait behind these only."""
_CODES_ABOUT_SECRETS = ("secret-", "environment-")
"""Beginnings of the codes with which the secrets themselves refuse a run."""


@frozen
class Identity:
    """A runner's signing key and attested startup document.

    `start_hash` is the SHA-256 of the document in base64url.
    """

    receipt_key: Ed25519Signer = field(repr=False)
    start: bytes = field(repr=False)
    start_hash: str


def manifest_of(did: str, name: str) -> JsonObject:
    """Return a runner's application manifest.

    The manifest requests no permissions, because owners choose what they grant.
    """
    return {"app_id": RUNNER_APP_ID, "name": name, "did": did, "defaults": False}


async def begin(
    source: EvidenceSource, *, did: Principal, manifest: Mapping[str, Json], compose: str | None
) -> Identity:
    """Create a runner's signing key and attested startup document (RN71).

    The document contains a quote for the key.
    """
    key = Ed25519Signer(SystemEntropy().token(32))
    stated = statement_json(did, dict(manifest), compose)
    binding = runner_binding(did, key.public_key, parse_statement(stated).sha256)
    # In a thread: a quote is read from a file system or a socket of the platform, which may block.
    quoted = await asyncio.to_thread(source.quote, binding.report_data)
    start = encode_start(stated, key.did, quoted.quote, quoted.log_entries)
    return Identity(receipt_key=key, start=start, start_hash=encode_url(parse_start(start).sha256))


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
        self._scopes = ReuseScopes()
        self._proofs = BuildProofs(self.programs, self.executor.bundles, self.journal, self.roots)
        self._secret_reader = SecretReader(
            backend=self.backend, judge=self.judge, tags=self.tags, proofs=self._proofs
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

    def limits(self, body: CallBody) -> Limits:
        """Return the resource limits for a requested program run.

        Each is the requested limit, but at most the runner's limit.
        """
        return capped(self.most, body.limits)

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
                wanted = self._wanted(body, payer.did, version)
                looked_for = [one._replace(opens=False) for one in wanted]
                # Called only for its checks. There is no job yet, and so no id.
                await self._prepared("", body, looked_for, version.manifest, request)
        except TimeoutError as late:
            raise RunRefused("runner-busy") from late

    def _wanted(self, body: CallBody, caller: Principal, version: Version) -> list[Wanted]:
        """Return the secrets that a call or a task needs (RN212, TK3)."""
        if body.project is not None and body.task is not None:
            return self._wanted_by_task(body.project, body.task, caller)
        wanted = list[Wanted]()
        own = version.manifest.developer
        if body.secrets is not None:
            wanted.append(
                Wanted(
                    owner=body.secrets.owner,
                    scope=body.secrets.scope,
                    names=version.manifest.secrets,
                    by_project=own is not None,
                )
            )
        if own is not None and body.project is not None:
            wanted.append(
                Wanted(
                    owner=body.project.developer,
                    scope=scope_of_profile(own.profile),
                    names=own.secrets,
                    by_project=True,
                )
            )
        return wanted

    def _wanted_by_task(self, app: ProjectId, order: TaskOrder, caller: Principal) -> list[Wanted]:
        """Return the secrets that a task needs (TK3).

        The application's secret is optional: it is left out if the runner never had a grant of it.
        A grant that has ended, was revoked or is for another version counts. The task is then
        refused when its grants are judged, which says why, unless another grant admits it (TK4).

        Raises:
            RunRefused: `tasks-off`: this runner takes no tasks.
        """
        if self.tasks is None:
            raise RunRefused("tasks-off")
        wanted = wanted_by_task(order, caller)
        secret = app_secret(address_of("app", app))
        for _, grant in self.grants.run_grants("live", "ended", "revoked"):
            if grant.owner == app.developer and secret in grant.secrets:
                return [wanted_by_application(app), *wanted]
        return wanted

    async def perform(
        self, job: str, record: JobRecord, body: CallBody, *, compile_s: int
    ) -> Outcome:
        """Run a program, and sign a receipt.

        A refused run has a receipt too. The receipt is returned, not stored.

        Raises:
            KeepingError: the journal cannot be used; no program ran.
        """
        payer = record.payer
        is_owner = False  # whether the caller owns every secret, and asks in person
        fetch_s = list[float]()  # the stages of a task append to it, also if they fail (RN249)

        def storage_grant() -> Grant | None:
            # Called while the program runs. `request` is then the one that `_prepared` returned.
            if not request.has_storage:
                return None
            return grant_for(body.project, self.grants.storage_grants())

        storage = ProjectStorage(
            backend=self.backend,
            grant=storage_grant,
            project=body.project,
            digest=partial(self.storage_key.digest, record.project or "", payer.did),
        )
        request = self._first_request(record, body, storage, compile_s)
        try:
            async with asyncio.timeout_at(request.start_by_s):
                version = await self.programs.find(body.project, body.build or body.sha256)
                request = replace(
                    request,
                    wasm_sha256=version.sha256,
                    target=version.target,
                    origin=version.project.text,  # so that no other project's call runs it (RN153)
                )
                wanted = self._wanted(body, payer.did, version)
                is_owner = record.key is None and all(
                    same_principal(one.owner, payer.did) for one in wanted
                )
                prepare = partial(
                    self._prepared, job, body, wanted, version.manifest, request, key=record.key
                )
                request, secrets = await prepare()
            load = partial(self.programs.load, version)
            if body.task is None or self.tasks is None:
                result = await self.executor.run(request, load)
            else:
                prepared = request, secrets
                # `prepare` is passed too: the stages may have to read the secrets again (TK5).
                result = await self.tasks.run(job, body.task, prepared, prepare, load, fetch_s)
            result = replace(result, storage=storage.state)
        except TimeoutError:  # the program was not ready to start in time (RN220)
            result = RunResult(REASONS["runner-busy"])
        except RunRefused as refused:
            result = RunResult(_shown(refused.reason, is_owner=is_owner))
        result = replace(result, fetch_s=sum(fetch_s))
        # What a program writes may contain the secrets, and is for their owner alone.
        if request.secrets_delivered and not is_owner:
            result = without_traces(result, request, stated=body.limits, most=self.most)
            if body.task is not None and result.reason is not None:
                result = replace(result, output=b"")  # the same bytes as `stdout` (TK9)
        return await self._signed(job, record, request, result)

    def _first_request(
        self, record: JobRecord, body: CallBody, storage: ProjectStorage, compile_s: int
    ) -> RunRequest:
        """Return the request for a run whose program has not been found yet.

        A run that is refused before its program is found has a receipt of this request.
        """
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
            limits=self.most,
            payer=payer,
            developer=developer,
            compile_s=compile_s,
            start_by_s=start_by_s,
            storage=storage.answer,
        )

    async def _signed(
        self, job: str, record: JobRecord, request: RunRequest, result: RunResult
    ) -> Outcome:
        """Return the outcome of a run, with its signed receipt."""
        if len(result.output) <= INLINE_BYTES:
            return self._outcome(job, record, request, result)
        # A long output is hashed in a thread, because it would block the event loop.
        return await asyncio.to_thread(self._outcome, job, record, request, result)

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
        return self._outcome(job, record, request, result)

    async def _prepared(
        self,
        job: str,
        body: CallBody,
        wanted: Sequence[Wanted],
        manifest: ProgramManifest,
        request: RunRequest,
        *,
        key: int | None = None,
    ) -> tuple[RunRequest, dict[str, str]]:
        """Return a run request with limits, allowed hosts and secrets, and the secrets alone."""
        limits = self.limits(body)
        has_storage = False
        if body.task is None:  # tasks have no storage
            has_storage = grant_for(body.project, self.grants.storage_grants()) is not None
        found = RunSecrets(
            self._secret_reader,
            body,
            request,
            has_key=key is not None,
            limits=limits,
            hosts=frozenset(manifest.hosts),
            has_storage=has_storage,
        )
        grants = [grant for _, grant in self.grants.run_grants()] if wanted else []
        project = None if body.project is None else body.project.text
        series = self._scopes.series(request, key=key, project=project)
        try:
            await found.gather(wanted, grants)
            environment = _environment(job, body, request.payer.did, found)
        except RunRefused:
            # RN260: a grant may have been revoked, and a kept child still has its secret
            self.executor.end_kept(series)
            raise
        build = None
        if len(found.builds) == 1:  # RN244: only a label on which the grants of all secrets agree
            build = found.builds.pop()
        is_proven = build is not None and found.are_builds_proven
        scope = self._scopes.scope(
            series,
            found.read,
            hosts=found.hosts,
            limits=found.limits,
            has_storage=found.has_storage,
        )
        prepared = replace(
            request,
            environment=environment,
            limits=found.limits,
            hosts=found.hosts,
            secrets_delivered=bool(found.values),
            build=build,
            is_build_proven=is_proven,
            has_storage=found.has_storage,
            reuse=scope,
        )
        return prepared, found.values

    def _outcome(
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
            facts, runner=self.did, start=identity.start_hash, key=identity.receipt_key
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


def _environment(job: str, body: CallBody, caller: str, found: RunSecrets) -> Environment:
    """Return the environment of a run, with its secrets.

    Raises:
        RunRefused: a reason of `environment_of`.
    """
    if body.task is not None:
        return task_environment(job, body.task, found.values)
    system = _system(job, caller, body.project, found.limits)
    return environment_of(system, found.values)


def _system(job: str, caller: str, project: ProjectId | None, limits: Limits) -> dict[str, str]:
    """Return the environment variables set by the runner (RN84).

    The variables are compatible with OutLayer's. Those about a blockchain are empty here.
    """
    variables = dict.fromkeys(
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
    ) | {
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
    if project is not None:  # otherwise absent, not empty: a program can tell the difference
        variables |= {
            "OUTLAYER_PROJECT_ID": project.text,
            "OUTLAYER_PROJECT_OWNER": project.developer,
            "OUTLAYER_PROJECT_NAME": project.name,
            "OUTLAYER_PROJECT_UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, project.text)),
        }
    return variables
