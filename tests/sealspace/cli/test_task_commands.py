"""`sealspace task`: from grants to a result that is verified and decrypted."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

import pytest
import pytest_asyncio
import wasmtime
from backend_desk import Desk
from runner_stage import RunnerStage, runner_stage
from task_programs import ResultKey, reporting

from sealspace.documents.iexec_names import (
    RESULT_KEY_NAME,
    address_of,
    app_secret,
    requester_secret,
    wallet_secret,
)
from sealspace.documents.project_names import parse_project
from sealspace.documents.secret_names import SecretName
from tee_backend.cli import task_commands

MEMORY = Path("/dev/shm")
SECRET = "a secret of the requester"

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not MEMORY.is_dir(), reason="/dev/shm is missing"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    async with AsyncExitStack() as stack:
        root = MEMORY / f"tasks-{token_hex(8)}"
        root.mkdir(0o700)
        stack.callback(root.rmdir)
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"), task_root=root)


@pytest.fixture
def desk(
    stage: RunnerStage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """An owner, who is developer, requester and beneficiary."""
    for variable in ("SEALSPACE_NODE", "SEALSPACE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(task_commands, "_POLL_S", 0.0)
    monkeypatch.chdir(tmp_path)
    trusted = stage.folder / "node"
    return Desk(
        stage.node.url, tmp_path / "home", trusted, stage.platform, stage.stack, capsys, monkeypatch
    )


async def put(desk: Desk, secret: SecretName, value: str) -> None:
    assert secret.scope is not None
    stored = await desk.run("secret", "put", secret.name, "--scope", secret.scope, given=value)
    assert stored.status == 0, stored


async def published(desk: Desk, folder: Path, name: str) -> str:
    """Publish an application, and return its id."""
    (folder / "app.wasm").write_bytes(wasmtime.wat2wasm(reporting(name)))
    answer = await desk.run("project", "publish", name, str(folder / "app.wasm"), "--json")
    return str(json.loads(answer.out)["project"])


async def test_from_grants_to_a_result(desk: Desk, stage: RunnerStage, tmp_path: Path) -> None:
    """TK11: the result is downloaded, verified with its receipt, and decrypted."""
    await desk.log_in("--space", "public")
    key = ResultKey()
    app = await published(desk, tmp_path, "counter")
    await put(desk, requester_secret("my-key"), SECRET)
    await put(desk, app_secret(address_of("app", parse_project(app))), "of the app")
    await put(desk, wallet_secret(RESULT_KEY_NAME), key.secret)
    run = ("task", "run", stage.url, app, "--secret", "1=my-key")
    refused = await desk.run(*run)
    assert refused.status == 1 and "secrets 1 are not granted" in refused.err, refused
    granted = await desk.run(
        *("task", "grant", stage.url, "--app", app, "--requester-secret", "my-key"),
        *("--app-secret", "--result-key", "--yes"),
    )
    assert granted.status == 0 and "callers: you alone" in granted.out, granted
    owner = app.rpartition("/")[0]
    keys = tmp_path / ".secrets" / "beneficiary"
    keys.mkdir(parents=True)
    (keys / f"{owner.rpartition(':')[2]}_key").write_bytes(key.private_pem)
    done = await desk.run(*run, "--args", "one 'two three'", "--watch", "--output", "result")
    assert done.status == 0, done
    result = (tmp_path / "result" / "iexec_out" / "result.txt").read_text().split("\0")
    assert f"IEXEC_REQUESTER_SECRET_1={SECRET}" in result
    assert result[-3:-1] == ["one", "two three"]
    assert SECRET not in done.out + done.err
    (tmp_path / "approved.json").write_text(
        (await desk.run("backend", "show", stage.url, "--json")).out
    )
    verify = ("verify", "result/receipt.json", "--like", "approved.json")
    files = ("--input", "result/request.json", "--output", "result/output.json")
    verified = await desk.run(*verify, *files)
    assert verified.status == 0 and "exactly this input and output" in verified.out, verified
    stated = json.loads((tmp_path / "result" / "output.json").read_bytes())
    sealed = (tmp_path / "result" / "result.zip").read_bytes()
    assert stated["sha256"] == sha256(sealed).hexdigest()

    made = json.loads((await desk.run(*run, "--json")).out)
    job = made["job"]
    downloaded = await desk.run("task", "download", stage.url, job, "--json")
    assert json.loads(downloaded.out)["resultPath"] == f"{job}/result.zip", downloaded
    shown = await desk.run("task", "show", stage.url, job)
    assert shown.status == 0 and "COMPLETED" in shown.out
    unknown = await desk.run("task", "show", stage.url, "0" * 32)
    assert unknown.status == 1 and "not yours" in unknown.err


async def test_a_task_that_fails(desk: Desk, stage: RunnerStage, tmp_path: Path) -> None:
    """TK8, TK11: the status is 1, and the message has the cause."""
    await desk.log_in("--space", "public")
    (tmp_path / "app.wasm").write_bytes(wasmtime.wat2wasm(reporting("fails", computed=None)))
    answer = await desk.run("project", "publish", "fails", "app.wasm", "--json")
    app = json.loads(answer.out)["project"]
    await put(desk, wallet_secret(RESULT_KEY_NAME), ResultKey().secret)
    grant = ("task", "grant", stage.url, "--app", app, "--result-key", "--yes")
    assert (await desk.run(*grant)).status == 0
    failed = await desk.run("task", "run", stage.url, app, "--watch")
    assert failed.status == 1 and "the stage" in failed.err.lower(), failed
    assert failed.next.startswith(f"sealspace task show {stage.url} ")
    shown = await desk.run(*failed.next.split()[1:])
    assert "POST_COMPUTE_COMPUTED_FILE_NOT_FOUND" in shown.out and "FAILED" in shown.out


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ("login", "'login' is not a valid secret mapping syntax"),
        ("0=login", "mapping keys must be strictly positive integers"),
        ("01=login", "mapping keys must be strictly positive integers"),
        ("1=", "mapping names must be strings"),
    ],
)
async def test_mappings_that_are_refused(
    desk: Desk, stage: RunnerStage, mapping: str, text: str
) -> None:
    """X4.5: the texts are those of iExec's client."""
    await desk.log_in("--space", "public")
    refused = await desk.run("task", "run", stage.url, "counter", "--secret", mapping)
    assert refused.status != 0 and text in refused.err
