"""Runs with secrets of the project's developer beside those that the call asks for (RN212,
RN213)."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from secrets import token_hex
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from runner_stage import ENVIRONMENT, RunnerStage, runner_stage

from runner.calls.ledger import JobRecord
from sealspace.apps.backends import deliver
from sealspace.apps.programs import DeveloperSecrets, ProgramManifest
from sealspace.apps.run_calls import call_right
from sealspace.client import Client
from sealspace.documents.call_conditions import AllowAll, Condition, Not, Owner, Whitelist
from sealspace.documents.run_grants import ByHash, ByProject, GrantLimits, RunStatement
from sealspace.documents.secret_names import DEFAULT_PROFILE
from sealspace.session import Session
from sealspace.wallets import new_wallet
from sealspace.wire.portable import PortableDelegation

OURS, THEIRS = "open sesame", "shut sesame"
ANYBODY = AllowAll()
BOTH = ProgramManifest(secrets=("TOKEN",), developer=DeveloperSecrets("default", ("API_KEY",)))

pytestmark = pytest.mark.asyncio(loop_scope="module")


class User:
    """Another owner, with secrets of their own, who also calls."""

    def __init__(self, stage: RunnerStage, client: Client, wallet: Any) -> None:
        self.stage, self.client, self.wallet = stage, client, wallet
        self.did, self.session = str(wallet.did), client.session

    async def grant(self, secrets: list[str], run: RunStatement) -> PortableDelegation:
        seen = await self.stage.look()
        portable = await self.client.runners.grant(seen, secrets, run, wallet=self.wallet)
        await deliver(self.stage.url, portable)
        return portable


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test publishes programs of its own."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"))
        for scope in (None, "own"):
            await staged.owner.secrets().put("API_KEY", OURS, scope=scope)
        await staged.owner.secrets().put("TOKEN", "another token")
        yield staged


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def user(stage: RunnerStage) -> User:
    client, wallet = await stage.client(), new_wallet()
    await client.sign_in(wallet)
    await client.secrets().put("TOKEN", THEIRS)
    await client.secrets().put("DEBUG", "1")
    await client.delegations.add_right(wallet, [call_right(client.kv().space.text)])
    return User(stage, client, wallet)


async def published(stage: RunnerStage, name: str, manifest: ProgramManifest = BOTH) -> ByHash:
    """Publish a program that writes its environment; return its rule in a grant."""
    wat = ENVIRONMENT.replace('"memory") 16)', f'"memory") 16) (data (i32.const 1024) "{name}")')
    version = await stage.publish(name, wat, manifest=manifest)
    return ByHash(version.sha256, version.project)


def to(program: ByHash, callers: Condition = ANYBODY) -> RunStatement:
    return RunStatement(programs=(program,), callers=callers)


def variables(answered: tuple[int, dict[str, Any]]) -> dict[str, str]:
    assert answered[1]["status"] == "completed", answered
    return dict(one.split("=", 1) for one in answered[1]["output"].split("\0") if one)


def code(answered: tuple[int, dict[str, Any]]) -> str:
    answer = json.dumps(answered[1])
    assert OURS not in answer and THEIRS not in answer
    error: str = answered[1]["error"]["code"]
    return error


async def caller(stage: RunnerStage, user: User, who: str) -> Session | None:
    """Return the session of a caller, or of a stranger for None."""
    if who == "developer":
        return await stage.calling_session()
    return user.session if who == "user" else None


async def test_a_run_has_the_secrets_of_both(stage: RunnerStage, user: User) -> None:
    """RN213: a run gets secrets of both owners, each under its own owner's grant."""
    program = await published(stage, "both")
    await stage.grant(["API_KEY"], to(program))
    await user.grant(["TOKEN", "DEBUG"], to(program))
    for who in ("developer", "user", "stranger"):
        session = await caller(stage, user, who)
        status, answer = await stage.call("both", session=session, secrets=user.did)
        seen = variables((status, answer))
        assert seen["API_KEY"] == OURS
        assert seen["TOKEN"] == THEIRS
        assert answer["secrets"] == "delivered"
        assert "DEBUG" not in seen  # a caller adds no variable that the manifest does not list
        # RN85: no caller owns both
        assert not {"stderr", "stderrBytes"} & answer.keys()
        alone = await stage.call("both", session=session)
        assert variables(alone)["API_KEY"] == OURS and "TOKEN" not in variables(alone)
        assert alone[1]["receipt"]["statement"]["secrets"] == "delivered"
        assert ("stderr" in alone[1]) is (who == "developer")


@pytest.mark.parametrize(
    ("ours", "theirs", "outcomes"),
    [
        # what developer, user and stranger get
        (None, None, ("access-denied", "secrets-not-granted", "access-denied")),
        (ANYBODY, None, ("access-denied", "secrets-not-granted", "access-denied")),
        (None, ANYBODY, ("secrets-not-granted", "access-denied", "access-denied")),
        (Owner(), ANYBODY, ("", "access-denied", "access-denied")),
        (ANYBODY, Owner(), ("access-denied", "", "access-denied")),
        (Owner(), Owner(), ("access-denied", "access-denied", "access-denied")),
        (Not(Owner()), ANYBODY, ("access-denied", "", "")),
        (Whitelist(()), ANYBODY, ("access-denied", "access-denied", "access-denied")),
    ],
)
async def test_both_owners_have_to_agree(
    stage: RunnerStage,
    user: User,
    ours: Condition | None,
    theirs: Condition | None,
    outcomes: tuple[str, ...],
) -> None:
    """RN213: a run is refused if the condition of either owner refuses the caller."""
    name = f"agree-{token_hex(4)}"
    program = await published(stage, name)
    if ours is not None:
        await stage.grant(["API_KEY"], to(program, ours))
    if theirs is not None:
        await user.grant(["TOKEN"], to(program, theirs))
    for who, outcome in zip(("developer", "user", "stranger"), outcomes, strict=True):
        session = await caller(stage, user, who)
        answered = await stage.call(name, session=session, secrets=user.did)
        if outcome:
            assert code(answered) == outcome, who
            assert answered[1]["secrets"] == "none" and "detail" not in answered[1]["error"]
        else:
            assert variables(answered)["API_KEY"] == OURS


async def test_a_grant_that_its_developer_revoked(stage: RunnerStage, user: User) -> None:
    """RN81, RN213: a stranger gets the same answer for a revoked and a missing grant of the
    developer."""
    for session, expected in ((None, "access-denied"), (await stage.calling_session(), None)):
        program = await published(stage, "revoked")
        portable = await stage.grant(["API_KEY"], to(program))
        assert (await stage.call("revoked", session=session))[0] == 200
        await stage.owner.delegations.revoke_by_wallet(portable, stage.wallet)
        for _ in range(2):
            refused = await stage.call("revoked", session=session)
            assert code(refused) == (expected or "secrets-not-granted")


async def test_a_grant_has_to_name_the_project(stage: RunnerStage, user: User) -> None:
    """RN213: a developer's secret is used only in runs under grants that name the developer's
    project.

    Otherwise any client could publish the same bytes, and set variables beside others' secrets.
    """
    program = await published(stage, "named")
    by_hash = ByHash(program.wasm_sha256)
    await stage.grant(["API_KEY"], to(program))
    await user.grant(["TOKEN"], to(by_hash))
    assert code(await stage.call("named", secrets=user.did)) == "grant-no-project"
    assert variables(await stage.call("named"))["API_KEY"] == OURS
    # called by its hash it has no manifest, and so no secrets of a developer
    source = {"wasmSha256": program.wasm_sha256}
    seen = variables(await stage.call("named", secrets=user.did, source=source))
    assert seen["TOKEN"] == THEIRS and "API_KEY" not in seen

    program = await published(stage, "unnamed")
    await stage.grant(["API_KEY"], to(ByHash(program.wasm_sha256)))
    assert code(await stage.call("unnamed")) == "grant-no-project"


async def test_the_developer_s_scope_and_a_followed_project(stage: RunnerStage) -> None:
    """RN212: the manifest names the developer's profile, also if developer and caller are one
    owner."""
    own = DeveloperSecrets("own", ("API_KEY",))
    program = await published(stage, "scoped", ProgramManifest(secrets=("TOKEN",), developer=own))
    assert program.project is not None
    follows = RunStatement(programs=(ByProject(program.project),), callers=ANYBODY)
    await stage.grant(["own/API_KEY", "TOKEN"], follows)
    session = await stage.calling_session()
    status, answer = await stage.call("scoped", session=session, secrets=stage.developer)
    seen = variables((status, answer))
    assert seen["API_KEY"] == OURS
    assert seen["TOKEN"] == "another token"
    assert OURS in answer["stderr"]  # RN85: the caller owns all of it


async def test_the_smallest_limit_of_all_grants(stage: RunnerStage, user: User) -> None:
    """RN86: limits of both owners apply."""
    program = await published(stage, "limited")
    for granting, names, limits in (
        (stage, ["API_KEY"], GrantLimits(max_memory_mb=64, max_execution_s=9)),
        (user, ["TOKEN"], GrantLimits(max_memory_mb=96, max_execution_s=3)),
    ):
        run = RunStatement(programs=(program,), callers=ANYBODY, limits=limits)
        await granting.grant(names, run)
    seen = variables(await stage.call("limited", secrets=user.did))
    assert seen["NEAR_MAX_MEMORY_MB"] == "64"
    assert seen["NEAR_MAX_EXECUTION_SECONDS"] == "3"


async def test_the_holder_of_a_key(stage: RunnerStage, user: User) -> None:
    """RN90, RN213: a key without profiles gets the developer's secrets, and no others."""
    program = await published(stage, "keyed")
    await stage.grant(["API_KEY"], to(program))
    await user.grant(["TOKEN"], to(program))
    text = await stage.key("keyed")
    status, answer = await stage.api("keyed", text, {"input": 1, "response_format": "Text"})
    assert (status, answer["secrets"]) == (200, "delivered") and OURS in answer["output"]
    body = {"input": 1, "secrets_ref": {"profile": DEFAULT_PROFILE, "account_id": user.did}}
    assert (await stage.api("keyed", text, body))[1]["code"] == "key-profile"
    await stage.owner.secrets().put("ABSENT", "x")
    own = DeveloperSecrets("default", ("ABSENT",))
    await published(stage, "gone", ProgramManifest(secrets=(), developer=own))
    program = await published(stage, "gone", ProgramManifest(secrets=(), developer=own))
    await stage.grant(["ABSENT"], to(program))
    await stage.owner.secrets().delete("ABSENT")
    key = await stage.key("gone")
    refused = await stage.api("gone", key, {"input": 1})
    assert refused[1]["code"] == "secret-missing" and "ABSENT" not in json.dumps(refused[1])


async def test_the_receipt_of_an_interrupted_run(stage: RunnerStage) -> None:
    """RN206, RN213: a call by project may have had secrets of the developer, and written."""
    record = JobRecord(
        state="started",
        caller=stage.developer,
        key=None,
        reserved=0,
        is_async=False,
        project=f"{stage.developer}/both",
        program=None,
        has_secrets=False,
        salt=bytes(32),
        input_hash=bytes(32),
        limits=(1, 1, 1),
        nonce=None,
        is_known=True,
    )
    for one, code, secrets, storage in (
        (record, "interrupted", "delivered", "unknown"),
        (record, "runner-failed", "delivered", "unknown"),
        (record, "runner-busy", "none", "none"),
        (msgspec.structs.replace(record, project=None), "interrupted", "none", "none"),
    ):
        outcome = stage.runner.runs.outcome_without_run("ab" * 16, one, code)
        stated = json.loads(outcome.receipt)["statement"]
        assert stated["secrets"] == secrets
        assert stated["storage"] == storage


async def test_names_are_told_to_their_owner(stage: RunnerStage, user: User) -> None:
    """RN81: neither owner learns which secret of the other is missing."""
    program = await published(stage, "missing")
    await stage.grant(["API_KEY"], to(program))
    await user.client.secrets().put("TOKEN", THEIRS, scope="gone")
    await user.grant(["gone/TOKEN"], to(program))
    await user.client.secrets().delete("TOKEN", scope="gone")
    for who in ("developer", "user", "stranger"):
        session = await caller(stage, user, who)
        refused = await stage.call("missing", session=session, secrets=user.did, profile="gone")
        assert code(refused) == "secret-missing"
        assert refused[1]["error"].get("detail") == ("TOKEN" if who == "user" else None), who
