"""The stages of a task, and the secrets and variables that each of them has (TK3 to TK7).

    PRE_COMPUTE   fetch the data set into /iexec_in
    APP           run the program with both folders
    POST_COMPUTE  seal /iexec_out to the beneficiary's key

A task needs secrets of several owners:

    owner        secret                              stage         variables
    developer    of the application, if granted      APP           IEXEC_APP_DEVELOPER_SECRET, …_1
    requester    those that the request names        APP           IEXEC_REQUESTER_SECRET_<index>
    data owner   key of the data set                 PRE_COMPUTE   –
    beneficiary  public key for results              POST_COMPUTE  –

Example:
    stages = TaskStages(folder, executor, programs)
    result = await stages.run(job, order, request, secrets, load)
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from capabilities.principals import Principal
from capabilities.signatures import keccak256
from capabilities.strict_base64 import decode_standard
from encryption_network.canonical_json import canonical_bytes
from sealspace.documents.dataset_format import parse_dataset
from sealspace.documents.iexec_names import (
    RESULT_KEY_NAME,
    address_of,
    app_secret,
    dataset_secret,
    requester_secret,
    wallet_secret,
)
from sealspace.documents.project_names import ProjectId
from sealspace.documents.secret_names import SecretName
from sealspace.documents.signed_statements import MAX_STATEMENT_BYTES
from sealspace.errors import SealspaceError
from serving.shares import FairSemaphore, Payer

from ..guest.environment import Environment, environment_of
from ..guest.executor import Executor
from ..guest.runs import MAX_STDERR_BYTES, Load, RunRequest, RunResult, TaskFolders
from ..reasons import Reason, RunRefused
from ..tasks.dataset_fetch import fetch_dataset
from ..tasks.folder_space import FolderSpace
from ..tasks.folders import task_folders
from ..tasks.results import TaskResult, seal_result
from ..tasks.stage_errors import StageFailed
from .call_bodies import TaskOrder
from .published_programs import PublishedPrograms

STAGE_S = 600.0
"""Longest time of the stage before the program, and of the stage after it."""
FRESH_SECRETS_S = 5.0
"""Age of secrets above which a task reads them again before its program starts (TK5)."""
MAX_RESULT_BYTES = 50 * 1024 * 1024
MAX_FILES = 10_000
MAX_DATASET_BYTES = 1_000_000_000
PRE, APP, POST = "PRE_COMPUTE", "APP", "POST_COMPUTE"

_DATASET_KEY, _RESULT_KEY = "DATASET_KEY", "RESULT_KEY"
_REQUESTER_VARIABLE = "IEXEC_REQUESTER_SECRET_"
"""Beginning of the variable of a requester's secret; its index follows."""
_VARIABLES = {
    "IEXEC_IN": "/iexec_in",
    "IEXEC_OUT": "/iexec_out",
    "IEXEC_INPUT_FILES_FOLDER": "/iexec_in",
    "IEXEC_INPUT_FILES_NUMBER": "0",
    "IEXEC_TASK_INDEX": "0",
    "IEXEC_BOT_SIZE": "1",
    "IEXEC_BOT_FIRST_INDEX": "0",
    "IEXEC_BOT_TASK_INDEX": "0",
}
_MISSING = ("secrets-not-granted", "access-denied", "secret-missing")
_UNUSABLE = (*_MISSING, "secret-not-bound")
"""Refusals of a key that belongs to one stage; the stage names whose key it is (TK5, RN266)."""


class Wanted(NamedTuple):
    """The secrets that a run needs of one owner.

    `names` is None unless the program's manifest lists secrets. `by_project` excludes grants that
    do not name the project. For a task, a stage gets the only secret as `variables`, and `code` is
    for the refusal if it is missing. Unless it `opens`, the secret is only looked for, and its
    value is empty.
    """

    owner: Principal
    scope: str | None
    names: tuple[str, ...] | None
    by_project: bool
    variables: tuple[str, ...] = ()
    code: str = ""
    opens: bool = True


def wanted_by_application(app: ProjectId) -> Wanted:
    """Return the secret that an application's developer gives each of its tasks (TK3)."""
    return _wanted(
        app.developer,
        app_secret(address_of("app", app)),
        variables=("IEXEC_APP_DEVELOPER_SECRET", "IEXEC_APP_DEVELOPER_SECRET_1"),
    )


def wanted_by_task(order: TaskOrder, caller: Principal) -> list[Wanted]:
    """Return the secrets that a task needs besides the application's: those of the requester, of
    the data set and of the beneficiary (TK3)."""
    wanted: list[Wanted] = []
    for index, name in order.secrets.items():
        wanted.append(
            _wanted(
                caller,
                requester_secret(name),
                variables=(f"{_REQUESTER_VARIABLE}{index}",),
                code="secret-missing",
            )
        )
    if order.dataset is not None:
        wanted.append(
            _wanted(
                order.dataset.developer,
                dataset_secret(address_of("dataset", order.dataset)),
                variables=(_DATASET_KEY,),
                code=f"{PRE}_GET_DATASET_SECRET_FAILED",
            )
        )
    wanted.append(
        _wanted(
            order.beneficiary or caller,
            wallet_secret(RESULT_KEY_NAME),
            variables=(_RESULT_KEY,),
            code=f"{POST}_GET_ENCRYPTION_TOKENS_FAILED_EMPTY_BENEFICIARY_KEY",
        )
    )
    return wanted


def _wanted(
    owner: Principal, secret: SecretName, *, variables: tuple[str, ...], code: str = ""
) -> Wanted:
    """Return the request for one secret of a task."""
    return Wanted(
        owner=owner,
        scope=secret.scope,
        names=(secret.name,),
        # TK3: others may publish the same bytes as a program of their own (RN213)
        by_project=True,
        variables=variables,
        code=code,
    )


@contextmanager
def noting_missing(wanted: Wanted, indexes: list[int]) -> Iterator[None]:
    """Note the index of a requester's secret if the `with` block finds that it is missing (TK5).

    Raises:
        RunRefused: another secret of the task is missing, and no index was noted before; with the
            code of that secret. Or the refusal of the block, if it is for something else.
    """
    try:
        yield
    except RunRefused as refused:
        code = refused.reason.code
        is_of_requester = wanted.code == "secret-missing"
        if not wanted.code or code not in (_MISSING if is_of_requester else _UNUSABLE):
            raise
        if is_of_requester:
            (variable,) = wanted.variables
            indexes.append(int(variable.removeprefix(_REQUESTER_VARIABLE)))
        elif not indexes:  # with indexes, the task is refused by `require_none_missing`
            raise RunRefused(wanted.code, code) from refused


def require_none_missing(indexes: Collection[int]) -> None:
    """Refuse a task for which secrets of the requester are missing, by their indexes (TK5).

    Raises:
        RunRefused: `secret-missing`.
    """
    if indexes:
        listed = ", ".join(map(str, sorted(indexes)))
        raise RunRefused(
            "secret-missing", f"secrets {listed} are not granted to this runner for this program"
        )


def task_environment(job: str, order: TaskOrder, secrets: Mapping[str, str]) -> Environment:
    """Return the environment of a task's program (TK6)."""
    variables = dict(_VARIABLES)
    for kind in ("task", "deal"):
        digest = keccak256(f"sealspace.{kind}/v1\0{job}".encode())
        variables[f"IEXEC_{kind.upper()}_ID"] = "0x" + digest.hex()
    if order.dataset is not None:
        variables |= dict.fromkeys(
            ("IEXEC_DATASET_ADDRESS", "IEXEC_DATASET_FILENAME"),
            address_of("dataset", order.dataset),
        )
    # TK6: the keys of the other stages are not for the program
    shown = {name: value for name, value in secrets.items() if name.startswith("IEXEC_")}
    return environment_of(variables | shown, {})


Prepared = tuple[RunRequest, dict[str, str]]
"""The request for a task's program, and the secrets of the task."""


@dataclass(eq=False, repr=False)
class TaskStages:
    """The stages of tasks, and the folder below which each task has its files.

    `keep` stores the sealed result of a job.
    """

    root: Path
    executor: Executor
    programs: PublishedPrograms
    stage_of: dict[str, str] = field(default_factory=dict)
    keep: Callable[[str, Path], Awaitable[object]] = field(init=False)

    def __post_init__(self) -> None:
        # RN248: a task takes this place for its program and the stage after it. So other tasks run
        # while its data set is fetched.
        self._places = FairSemaphore(1, beside=True)
        self._space = FolderSpace(self.root)

    async def run(
        self,
        job: str,
        order: TaskOrder,
        prepared: Prepared,
        prepare: Callable[[], Awaitable[Prepared]],
        load: Load,
        fetch_s: list[float],
    ) -> RunResult:
        """Run all stages of a task.

        The output of the result is a JSON document about the sealed result.

        Args:
            job: id of the task.
            order: what the request asks for.
            prepared: the request for the program, and the secrets.
            prepare: judges the grants and reads the secrets again (TK5).
            load: returns the program's bytes.
            fetch_s: receives the seconds for which the data set was fetched, also if that fails.
        Raises:
            RunRefused: of `prepare`, or `runner-busy` if there is no room for the data set now.
        """
        request, secrets = prepared
        now_s = asyncio.get_running_loop().time
        read_at_s = now_s()
        result = None
        self.stage_of[job] = PRE
        try:
            async with task_folders(
                self.root, max_bytes=MAX_RESULT_BYTES, max_files=MAX_FILES
            ) as folders:
                # Checked before the other stages, whose work would be lost without this key.
                pem = decode_standard(secrets[_RESULT_KEY])
                if not pem:
                    raise StageFailed(f"{POST}_MALFORMED_ENCRYPTION_PUBLIC_KEY", "not base64")
                if order.dataset is not None:
                    async with asyncio.timeout(STAGE_S):  # a slow service fails the stage (TK7)
                        await self._fetch(
                            order.dataset,
                            request.payer,
                            secrets[_DATASET_KEY],
                            folders.input,
                            fetch_s,
                        )
                async with self._places.acquire(request.payer):
                    # TK5: a grant may have been revoked while others had the place
                    if now_s() - read_at_s > FRESH_SECRETS_S:
                        request, _ = await prepare()
                    self.stage_of[job] = APP
                    request = replace(request, arguments=order.arguments, folders=folders)
                    result = await self.executor.run(request, load)
                    if result.reason is not None:
                        # TK9: the receipt is about what the answer shows of standard output
                        stdout = bytes(result.output[:MAX_STDERR_BYTES])
                        return replace(
                            result, output=stdout, answer=b"", answer_format=None, stdout=stdout
                        )
                    self.stage_of[job] = POST
                    async with asyncio.timeout(STAGE_S):  # this stage has the same bound (TK7)
                        sealed = await self._sealed(job, folders, pem)
            document = canonical_bytes(
                {"digest": sealed.digest, "sha256": sealed.sha256, "sizeBytes": sealed.size_bytes}
            )
            stdout = bytes(result.output[:MAX_STDERR_BYTES])
            return replace(result, output=document, answer=document, stdout=stdout)
        # OSError: the stage took too long (TimeoutError), or there is no room for its files.
        # SealspaceError: the node did not answer about the data set.
        except (StageFailed, OSError, SealspaceError) as failed:
            return _failed(self.stage_of[job], failed, result)
        finally:
            del self.stage_of[job]

    async def _fetch(
        self,
        data: ProjectId,
        payer: Payer,
        key: str,
        folder: Path,
        fetch_s: list[float],
    ) -> None:
        """Fetch a data set, and note how long that takes (RN249)."""
        read = self.programs.public_reader(data, MAX_STATEMENT_BYTES)
        stated = await read(data.dataset_key)
        if stated is None:
            raise StageFailed(f"{PRE}_DATASET_DOWNLOAD_FAILED", "not published")
        record = parse_dataset(stated, data)  # signed by the owner for this data set (DS12)
        now_s = asyncio.get_running_loop().time
        with self._space.reserve(payer, min(record.size_bytes, MAX_DATASET_BYTES)):
            begun_s = now_s()
            try:
                await fetch_dataset(
                    self.executor.outbound,
                    record,
                    key,
                    folder / address_of("dataset", data),
                    max_bytes=MAX_DATASET_BYTES,
                )
            finally:
                fetch_s.append(now_s() - begun_s)

    async def _sealed(self, job: str, folders: TaskFolders, pem: bytes) -> TaskResult:
        """Seal the output of a program, and store it."""
        file = folders.output.parent / "result.zip"
        seal = partial(seal_result, max_bytes=MAX_RESULT_BYTES, max_files=MAX_FILES)
        sealing = asyncio.create_task(asyncio.to_thread(seal, folders.output, pem, file))
        try:
            sealed = await asyncio.shield(sealing)
        finally:
            # TG9: after a cancellation, the thread ends before its folder is removed
            await asyncio.gather(sealing, return_exceptions=True)
        await self.keep(job, file)
        return sealed


def _failed(stage: str, failed: Exception, result: RunResult | None) -> RunResult:
    """Return the result of a task whose stage failed.

    Args:
        stage: the stage.
        failed: what it raised.
        result: the result of the program, if it ran.
    """
    if not isinstance(failed, StageFailed):
        code = "TIMEOUT" if isinstance(failed, TimeoutError) else "FAILED_UNKNOWN_ISSUE"
        failed = StageFailed(f"{stage}_{code}", type(failed).__name__)
    reason = Reason(
        code=failed.code,
        sentence=_STAGE_FAILED,
        status=409 if result is None else 200,  # a program that ran is charged
        detail=failed.detail,
    )
    return replace(result or RunResult(None), reason=reason, output=b"", answer=b"")


_STAGE_FAILED = "The stage before or after the program failed; the detail says why."
