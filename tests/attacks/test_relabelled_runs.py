"""Attacks on runs and tasks by a writer of one secret's path, who stores another value there.

Neither the envelope of another secret nor a value that does not state its place reaches a program,
unless the owner's grant allows the latter (EN45, RN264 to RN266).
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import pytest_asyncio
from moved_secrets import copy, put_for, put_unbound
from runner_stage import ENVIRONMENT, RunnerStage, runner_stage
from sms_owner import new_owner
from task_memory import TASK_MEMORY as MEMORY
from task_memory import needs_task_memory
from task_parties import VALUES, Party, party
from task_programs import reporting

from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import Principal
from capabilities.strict_base64 import encode_url
from node.config.tree import Sms
from sealspace.apps.backends import deliver, policy_for
from sealspace.apps.programs import Version
from sealspace.apps.run_calls import call_right
from sealspace.client import SignIn
from sealspace.delegations import allow
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.iexec_names import (
    RESULT_KEY_NAME,
    address_of,
    app_secret,
    dataset_secret,
    requester_secret,
    wallet_secret,
)
from sealspace.documents.project_names import ProjectId, parse_project
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.secrets import PROTECTED_NETWORK, SecretName, parse_secret_name
from sealspace.session import iso_time

HIDDEN, PLAIN = "a value for other programs", "an old value"
HIDDEN_NAME = parse_secret_name("HIDDEN")
RESULT = wallet_secret(RESULT_KEY_NAME)
FIRST = requester_secret("my-key")

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs_task_memory,
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """A runner with tasks, a node with iExec's service, and an owner with a secret for others."""
    async with AsyncExitStack() as stack:
        root = MEMORY / f"tasks-{token_hex(8)}"
        root.mkdir(0o700)
        stack.callback(root.rmdir)
        folder = tmp_path_factory.mktemp("runner")
        sms = Sms(listen="127.0.0.1:0")
        staged = await runner_stage(stack, folder, task_root=root, sms=sms)
        await staged.owner.secrets().put(HIDDEN_NAME.name, HIDDEN)
        yield staged


@pytest_asyncio.fixture(loop_scope="module")
async def requester(stage: RunnerStage) -> Party:
    """A requester, who has a secret that no task may have."""
    one = await party(stage)
    await one.put(HIDDEN_NAME, HIDDEN)
    return one


async def granted(
    stage: RunnerStage, name: str, secret: SecretName, *, unbound: bool = False
) -> None:
    """Publish a program that writes its environment, and grant it a secret."""
    unique = f'"memory") 16) (data (i32.const 1024) "{name}")'
    version = await stage.publish(name, ENVIRONMENT.replace('"memory") 16)', unique))
    program = ByHash(version.sha256, version.project)
    run = RunStatement(programs=(program,), callers=AllowAll(), allows_unbound=unbound)
    await stage.grant([secret.label], run)


async def answers(stage: RunnerStage, name: str) -> tuple[dict[str, Any], ...]:
    """Return what the owner, a stranger and the holder of an API key get, who all call."""
    mine, session = stage.developer, await stage.calling_session()
    _, by_owner = await stage.call(name, session=session, secrets=mine)
    _, by_stranger = await stage.call(name, secrets=mine)
    body = {
        "input": "",
        "response_format": "Text",
        "secrets_ref": {"profile": "default", "account_id": mine},
    }
    _, by_key = await stage.api(name, await stage.key(name, profiles=("default",)), body)
    return by_owner, by_stranger, by_key


def require_refused(found: tuple[dict[str, Any], ...], code: str, detail: str) -> None:
    """Check that all callers got one code, and only the owner in person the detail."""
    by_owner, by_stranger, by_key = found
    assert HIDDEN not in json.dumps(found) and PLAIN not in json.dumps(found)
    assert (by_owner["error"]["code"], by_stranger["error"]["code"]) == (code, code)
    assert by_key["code"] == code
    assert detail in by_owner["error"]["detail"]
    # RN81, RN266: other callers learn neither the name nor what is wrong with the value
    assert "detail" not in by_stranger["error"]
    assert detail not in json.dumps([by_stranger, by_key])


# --- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbound", [False, True])
async def test_RN264_the_value_of_another_secret(stage: RunnerStage, unbound: bool) -> None:
    """RN264: no grant makes the runner deliver a value that states another place."""
    name = f"moved-{unbound}".lower()
    target = parse_secret_name(f"MOVED_{unbound}".upper())
    await stage.owner.secrets().put(target.name, "right")
    await granted(stage, name, target, unbound=unbound)
    by_owner, *_ = await answers(stage, name)
    assert f"{target.name}=right" in by_owner["output"]
    await put_for(stage.owner, HIDDEN_NAME, target, HIDDEN)
    require_refused(
        await answers(stage, name), "secret-not-bound", f"{target.name} belongs to another secret"
    )


async def test_RN264_a_copied_envelope(stage: RunnerStage) -> None:
    """RN264: the node refuses the key of an envelope that was copied, whatever the grant says."""
    target = parse_secret_name("COPIED")
    await copy(stage.owner, HIDDEN_NAME, target)
    await granted(stage, "copied", target, unbound=True)
    require_refused(await answers(stage, "copied"), "secret-refused", "COPIED")


async def test_RN264_a_value_from_another_scope(stage: RunnerStage) -> None:
    """RN264: the same name in another scope is another place."""
    source, target = parse_secret_name("SCOPED", scope="prod"), parse_secret_name("SCOPED")
    await stage.owner.secrets().put("SCOPED", HIDDEN, scope="prod")
    await put_for(stage.owner, source, target, HIDDEN)
    await granted(stage, "scoped", target)
    require_refused(await answers(stage, "scoped"), "secret-not-bound", "SCOPED belongs to another")


async def test_RN264_a_value_without_a_place(stage: RunnerStage) -> None:
    """RN264: it is refused, until a newer grant of the owner allows it."""
    target = parse_secret_name("OLD")
    await put_unbound(stage.owner, target, PLAIN)
    await granted(stage, "old", target)
    found = await answers(stage, "old")
    require_refused(found, "secret-not-bound", "`sealspace secret bind OLD`")
    # the same code as for the value of another secret: a writer must not learn which it is
    assert found[1]["error"]["message"] == found[0]["error"]["message"]
    await granted(stage, "old", target, unbound=True)
    by_owner, by_stranger, by_key = await answers(stage, "old")
    for answer in (by_owner, by_stranger, by_key):
        assert f"OLD={PLAIN}" in answer["output"]


async def test_RN264_every_secret_of_a_run_counts(stage: RunnerStage) -> None:
    """RN264: a grant that allows unbound values does so for its own secrets alone."""
    await stage.owner.secrets().put("FIRST", "1")
    await put_unbound(stage.owner, parse_secret_name("SECOND"), PLAIN)
    await granted(stage, "mixed", parse_secret_name("FIRST"), unbound=True)
    await granted(stage, "mixed", parse_secret_name("SECOND"))
    require_refused(await answers(stage, "mixed"), "secret-not-bound", "SECOND does not say")


async def test_RN264_a_statement_for_other_readers(stage: RunnerStage) -> None:
    """RN264, EN47: the statement with which other readers may use such values allows nothing."""
    target = parse_secret_name("STATED")
    await put_unbound(stage.owner, target, PLAIN)
    version = await stage.publish("stated", ENVIRONMENT.replace('"memory") 16', '"memory") 17'))
    owner, seen = stage.owner, await stage.look()
    resource = owner.secrets().resource(target.name)
    network = owner.encryption.network()
    portable = await owner.delegations.delegate(
        seen.did,
        [allow(resource, "tinycloud.kv/get"), allow(network.text, "tinycloud.encryption/decrypt")],
        policy=policy_for(seen, paths=[resource], ttl_s=600),
        run=RunStatement(programs=(ByHash(version.sha256),), callers=AllowAll()),
        unbound=True,
        wallet=stage.wallet,
        ttl_s=600,
    )
    await deliver(stage.url, portable)
    require_refused(await answers(stage, "stated"), "secret-not-bound", "STATED does not say")


# --- generated secrets ----------------------------------------------------------------------------


async def test_RN265_generated_secrets(stage: RunnerStage) -> None:
    """RN265: a generated value at another path is refused; a valid tag stands in for a place."""
    seen = await stage.look()
    names = {"PROTECTED_A": "hex32", "PROTECTED_B": "hex32"}
    await stage.owner.runners.generate(seen, names, wallet=stage.wallet)
    first, second = map(parse_secret_name, names)
    await granted(stage, "generated", second)
    assert "PROTECTED_B=" in (await answers(stage, "generated"))[0]["output"]
    await put_for(stage.owner, first, second, HIDDEN, network=PROTECTED_NETWORK)
    found = await answers(stage, "generated")
    require_refused(found, "secret-not-generated", "PROTECTED_B: changed")
    # as runners wrote it before values had places
    value, at = "ab" * 32, iso_time(SystemClock().now())
    tag = stage.runner.tags.tag(
        Principal(stage.developer), second, kind="hex32", at=at, value=value
    )
    stated = {"type": "hex32", "at": at, "tag": encode_url(tag)}
    await put_unbound(stage.owner, second, value, network=PROTECTED_NETWORK, generated=stated)
    assert f"PROTECTED_B={value}" in (await answers(stage, "generated"))[0]["output"]
    await put_unbound(stage.owner, first, value, network=PROTECTED_NETWORK, generated=stated)
    await granted(stage, "untagged", first, unbound=True)
    found = await answers(stage, "untagged")
    require_refused(found, "secret-not-generated", "PROTECTED_A: changed")


# --- tasks ----------------------------------------------------------------------------------------


async def published(stage: RunnerStage, name: str) -> tuple[Version, str]:
    """Publish an application; return its version and id."""
    return await stage.publish(name, reporting(name)), f"{stage.developer}/{name}"


async def cause(requester: Party, app: str, **members: Any) -> tuple[str, str | None]:
    """Make a task that fails; return the code and the detail that its requester is told."""
    task = await requester.done(app, **members)
    assert task["state"] == "FAILED" and task["secrets"] == "none"
    assert HIDDEN not in json.dumps(task)
    return task["cause"]["code"], task["cause"].get("detail")


async def test_RN264_a_requester_s_secret(
    stage: RunnerStage, requester: Party, tmp_path: Path
) -> None:
    """RN264, RN266: a task with another value in place of a requester's secret fails."""
    version, app = await published(stage, "requester")
    await requester.grant(version, FIRST, RESULT)
    await put_for(requester.client, HIDDEN_NAME, FIRST, HIDDEN)
    code, detail = await cause(requester, app, secrets={"1": "my-key"})
    assert code == "secret-not-bound"
    assert detail and f"{FIRST.label} belongs to another secret" in detail
    await put_unbound(requester.client, FIRST, PLAIN)
    code, detail = await cause(requester, app, secrets={"1": "my-key"})
    assert code == "secret-not-bound"
    assert detail and f"sealspace secret bind {FIRST.name} --scope {FIRST.scope}`" in detail
    await requester.grant(version, FIRST, unbound=True)
    task = await requester.done(app, secrets={"1": "my-key"})
    assert f"IEXEC_REQUESTER_SECRET_1={PLAIN}" in await requester.report(task, tmp_path)


async def test_RN266_a_key_of_another_owner(stage: RunnerStage, requester: Party) -> None:
    """RN266: the requester learns whose key is not usable, and nothing else about it."""
    version, app = await published(stage, "dataset")
    await requester.grant(version, RESULT)
    owner = await party(stage)
    await owner.put(HIDDEN_NAME, HIDDEN)
    data = ProjectId(owner.wallet.did, "rows")
    secret = dataset_secret(address_of("dataset", data))
    await owner.grant(version, secret)
    expected = ("PRE_COMPUTE_GET_DATASET_SECRET_FAILED", "secret-not-bound")
    await put_for(owner.client, HIDDEN_NAME, secret, HIDDEN)
    assert await cause(requester, app, dataset=data.text) == expected
    await put_unbound(owner.client, secret, PLAIN)
    assert await cause(requester, app, dataset=data.text) == expected


async def test_RN266_the_key_for_results(stage: RunnerStage, requester: Party) -> None:
    """RN266: a task whose result would be encrypted to another value's key does not start."""
    version, app = await published(stage, "results")
    friend = await party(stage)
    await put_unbound(friend.client, RESULT, friend.key.secret)
    await friend.grant(version, RESULT)
    missing = "POST_COMPUTE_GET_ENCRYPTION_TOKENS_FAILED_EMPTY_BENEFICIARY_KEY"
    found = await cause(requester, app, beneficiary=friend.did)
    assert found == (missing, "secret-not-bound")


async def test_RN266_the_secret_of_an_application(stage: RunnerStage, requester: Party) -> None:
    """RN266: a granted secret of the application that is not usable is not left out (TK4)."""
    version, app = await published(stage, "developed")
    await requester.grant(version, RESULT)
    developer = Party(stage, stage.owner, stage.wallet)
    secret = app_secret(address_of("app", parse_project(app)))
    await put_for(developer.client, HIDDEN_NAME, secret, HIDDEN)
    await developer.grant(version, secret)
    assert await cause(requester, app) == ("secret-not-bound", None)


# --- iExec's clients ------------------------------------------------------------------------------


async def test_RN264_what_iexec_s_client_pushed(stage: RunnerStage, tmp_path: Path) -> None:
    """RN264, EN45: a task has what the node sealed at its place, and fails with a moved value."""
    pushing = await new_owner(tmp_path / "home", stage.node.url, stage.node.sms_url)
    await pushing.enable()
    client = await stage.client()
    await client.sign_in(pushing.wallet, SignIn(spaces=("public",)))
    await client.delegations.add_right(pushing.wallet, [call_right(client.kv().space.text)])
    requester = Party(stage, client, pushing.wallet)
    key = requester.key.secret.encode()
    assert (await pushing.push_result(RESULT_KEY_NAME, key)).status == 204
    for name, value in VALUES.items():
        assert (await pushing.push_requester(name, value.encode())).status == 204
    version, app = await published(stage, "pushed")
    first, second = map(requester_secret, VALUES)
    await requester.grant(version, first, second, RESULT)
    asked = {"1": "my-key", "2": "My_Key"}
    shown = await requester.report(await requester.done(app, secrets=asked), tmp_path)
    assert f"IEXEC_REQUESTER_SECRET_1={VALUES['my-key']}" in shown
    assert f"IEXEC_REQUESTER_SECRET_2={VALUES['My_Key']}" in shown
    await put_for(client, second, first, HIDDEN)
    code, detail = await cause(requester, app, secrets={"1": "my-key"})
    assert code == "secret-not-bound"
    assert detail and "belongs to another secret" in detail
