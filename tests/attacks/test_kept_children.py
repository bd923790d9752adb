"""Attacks on children that are kept for several calls: other callers, keys, grants and secrets."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from guest_programs import guest
from patience import until
from runner_stage import ENVIRONMENT, TRAP, RunnerStage, runner_stage

from runner.guest.child import Child
from sealspace.apps.programs import DeveloperSecrets, ProgramManifest
from sealspace.documents.call_conditions import AllowAll, Whitelist
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.session import key_session

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALICE, BOB = (key_session(bytes([number] * 32)) for number in (1, 2))
ANYBODY = AllowAll()
Call = Callable[[], Awaitable[Child]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test has a program and a secret of its own."""
    async with AsyncExitStack() as stack:
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"))


def distinct(name: str) -> str:
    """Return a program that writes its environment, with bytes of its own."""
    return ENVIRONMENT.replace('"memory") 16)', f'"memory") 16) (data (i32.const 1024) "{name}")')


async def granted(stage: RunnerStage, name: str, wat: str | None = None) -> RunStatement:
    """Publish a program, store a secret in a profile of the same name, and grant it."""
    version = await stage.publish(name, wat or distinct(name))
    await stage.owner.secrets().put("API_KEY", f"first of {name}", scope=name)
    statement = RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    await stage.grant([f"{name}/API_KEY"], statement)
    return statement


async def used(stage: RunnerStage, calling: Awaitable[tuple[int, dict[str, Any]]]) -> Child:
    """Await a call that completes, and return the child that it ran in."""
    kept = stage.runner.executor._kept
    before = {child: child.runs for child in kept._idle}
    status, answer = await calling
    assert (status, answer["status"]) == (200, "completed"), answer
    (child,) = [one for one in kept._idle if before.get(one) != one.runs]
    return child


async def in_child(stage: RunnerStage, name: str, **about: Any) -> Child:
    """Call a program with its secret, and return the child that it ran in."""
    asked = {"secrets": stage.developer, "profile": name, "session": ALICE, **about}
    return await used(stage, stage.call(name, **asked))


async def test_calls_that_differ_in_nothing(stage: RunnerStage) -> None:
    """RN260: the same caller's call of the same program with the same secret has the same child."""
    await granted(stage, "same")
    first = await in_child(stage, "same", input="one")
    assert await in_child(stage, "same", input="two") is first
    assert await in_child(stage, "same", responseFormat="Bytes") is first


async def test_two_callers_of_one_program(stage: RunnerStage) -> None:
    """RN260: each caller has a child of its own, in turns too."""
    await granted(stage, "callers")
    of_alice = await in_child(stage, "callers")
    of_bob = await in_child(stage, "callers", session=BOB)
    assert of_alice is not of_bob
    assert await in_child(stage, "callers") is of_alice
    assert await in_child(stage, "callers", session=BOB) is of_bob


async def test_two_keys_of_one_caller(stage: RunnerStage) -> None:
    """RN260: each API key of an owner has a child of its own, and so has the owner in person."""
    await granted(stage, "keys")
    keys = [await stage.key("keys", profiles=["keys"]) for _ in range(2)]
    wanted = {"profile": "keys", "account_id": stage.developer}
    body = {"input": 1, "response_format": "Text", "secrets_ref": wanted}

    async def by_key(key: str) -> Child:
        return await used(stage, stage.api("keys", key, body))

    first, second = [await by_key(key) for key in keys]
    assert first is not second
    assert [await by_key(key) for key in keys] == [first, second]
    in_person = await in_child(stage, "keys", session=await stage.calling_session())
    assert in_person not in (first, second)


async def test_a_caller_who_gets_an_account(stage: RunnerStage) -> None:
    """RN260, RN160: a child of unknown payers is not one of a payer with an account."""
    await granted(stage, "account")
    caller = key_session(bytes([3] * 32))
    before = await in_child(stage, "account", session=caller)
    await stage.credit(0, owner=caller.did)
    assert await in_child(stage, "account", session=caller) is not before


async def test_another_value_of_the_secret(stage: RunnerStage) -> None:
    """RN260: a changed secret ends the child that has the former value, and is in the next call."""
    await granted(stage, "value")
    former = await in_child(stage, "value")
    await stage.owner.secrets().put("API_KEY", "second value", scope="value")
    _, answer = await stage.call("value", secrets=stage.developer, profile="value", session=ALICE)
    assert "API_KEY=second value" in answer["output"]
    assert "first of value" not in answer["output"]
    await until(lambda: not former.is_alive())


async def test_another_secret_of_the_developer(stage: RunnerStage) -> None:
    """RN260, RN213: secrets of every owner count."""
    manifest = ProgramManifest(
        secrets=("TOKEN",), developer=DeveloperSecrets("developer", ("API_KEY",))
    )
    version = await stage.publish("developer", distinct("developer"), manifest=manifest)
    for name, scope in (("API_KEY", "developer"), ("TOKEN", "caller")):
        await stage.owner.secrets().put(name, "first", scope=scope)
        rule = ByHash(version.sha256, version.project)
        statement = RunStatement(programs=(rule,), callers=ANYBODY)
        await stage.grant([f"{scope}/{name}"], statement)
    about = {"secrets": stage.developer, "profile": "caller"}
    first = await in_child(stage, "developer", **about)
    assert await in_child(stage, "developer", **about) is first
    await stage.owner.secrets().put("API_KEY", "second", scope="developer")
    assert await in_child(stage, "developer", **about) is not first
    # Without the secret of the call, the run has other contents, too.
    with_developer_s = await in_child(stage, "developer", secrets=None)
    await until(lambda: not first.is_alive())
    assert await in_child(stage, "developer", **about) is not with_developer_s


async def test_another_grant(stage: RunnerStage) -> None:
    """RN260: a secret that is read by another grant, with another statement, has a new child."""
    statement = await granted(stage, "grant")
    former = await in_child(stage, "grant")
    others = Whitelist((ALICE.did, BOB.did))
    await stage.grant(["grant/API_KEY"], RunStatement(programs=statement.programs, callers=others))
    assert await in_child(stage, "grant") is not former
    await until(lambda: not former.is_alive())


async def test_a_revoked_grant(stage: RunnerStage) -> None:
    """RN260, RN262: a call that is refused after a revocation ends the child with the secret."""
    version = await stage.publish("revoked", distinct("revoked"))
    await stage.owner.secrets().put("API_KEY", "value", scope="revoked")
    portable = await stage.grant(
        ["revoked/API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    child = await in_child(stage, "revoked")
    of_bob = await in_child(stage, "revoked", session=BOB)
    await stage.owner.delegations.revoke_by_wallet(portable, stage.wallet)
    about: dict[str, Any] = {"secrets": stage.developer, "profile": "revoked"}
    status, answer = await stage.call("revoked", session=ALICE, **about)
    assert (status, answer["error"]["code"]) == (403, "access-denied")
    await until(lambda: not child.is_alive())
    # Another caller's child has the secret until it calls, or until it has been idle for a time.
    assert of_bob.is_alive()
    await stage.call("revoked", session=BOB, **about)
    await until(lambda: not of_bob.is_alive())


async def test_a_deleted_secret(stage: RunnerStage) -> None:
    """RN260: after the secret was deleted, a call is refused and ends the child that has it."""
    await granted(stage, "deleted")
    child = await in_child(stage, "deleted")
    await stage.owner.secrets().delete("API_KEY", scope="deleted")
    _, answer = await stage.call(
        "deleted", session=ALICE, secrets=stage.developer, profile="deleted"
    )
    assert answer["error"]["code"] == "secret-missing"
    await until(lambda: not child.is_alive())


async def test_a_value_that_is_refused(stage: RunnerStage) -> None:
    """RN260: a secret that was changed to a value that no run may have ends the child."""
    await granted(stage, "refused")
    child = await in_child(stage, "refused")
    await stage.owner.secrets().put("API_KEY", "a NUL: \0", scope="refused")
    _, answer = await stage.call(
        "refused", session=ALICE, secrets=stage.developer, profile="refused"
    )
    assert answer["error"]["code"] == "environment-value"
    await until(lambda: not child.is_alive())


async def test_other_limits(stage: RunnerStage) -> None:
    """RN260: a call with other limits has another child."""
    await granted(stage, "limits")
    former = await in_child(stage, "limits")
    fewer = {"maxInstructions": 5_000_000_000}
    assert await in_child(stage, "limits", resourceLimits=fewer) is not former


async def test_the_same_bytes_in_another_project(stage: RunnerStage) -> None:
    """RN260: a project that publishes the same bytes has another child."""
    await granted(stage, "one")
    await stage.publish("two", distinct("one"))
    former = await in_child(stage, "one")
    other = await used(
        stage,
        stage.call("two", session=ALICE, secrets=stage.developer, profile="one"),
    )
    assert other is not former
    assert former.is_alive()
    by_hash = {"source": {"wasmSha256": stage.published["one"].sha256}}
    assert await in_child(stage, "one", **by_hash) not in (former, other)


async def test_a_run_that_fails(stage: RunnerStage) -> None:
    """RN261: a program that trapped leaves no child behind."""
    await granted(stage, "trap", TRAP)
    before = set(stage.runner.executor._kept._idle)
    _, answer = await stage.call("trap", session=ALICE, secrets=stage.developer, profile="trap")
    assert answer["error"]["code"] == "guest-trap"
    assert set(stage.runner.executor._kept._idle) <= before


async def test_a_component(stage: RunnerStage) -> None:
    """RN26: a component finds nothing that its former call left, in the same child."""
    program = guest("probe-wasip2")
    version = await stage.publish("component", program.data, target=program.target)
    await stage.owner.secrets().put("API_KEY", "value", scope="component")
    await stage.grant(
        ["component/API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    seen = set()
    for _ in range(3):
        about: dict[str, Any] = {"secrets": stage.developer, "profile": "component"}
        calling = stage.call("component", session=ALICE, input="calls", **about)
        seen.add(await used(stage, calling))
        _, answer = await stage.call("component", session=ALICE, input="calls", **about)
        assert answer["output"] == "1"
    assert len(seen) == 1
