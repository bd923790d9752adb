"""Tests of calls to a runner, from a published program to a verified receipt (RN40 to RN86)."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from capability_cases import BOB
from runner_stage import ECHO, ENVIRONMENT, TRAP, RunnerStage, failing, runner_stage

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.strict_base64 import decode_url, encode_standard
from runner.calls.run_receipts import verify_run
from sealspace.apps.backends import deliver, policy_for
from sealspace.apps.programs import ProgramManifest
from sealspace.apps.run_calls import call_headers
from sealspace.delegations import allow
from sealspace.documents.call_conditions import (
    AccountPattern,
    AllowAll,
    Logic,
    Not,
    Owner,
    Whitelist,
)
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import ByHash, ByProject, GrantLimits, RunStatement
from sealspace.errors import GrantNotTaken, InvalidInput, StatementInvalid
from sealspace.session import key_session

SECRET = "open sesame"
ANYBODY = AllowAll()


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test publishes programs of its own."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"))
        await staged.owner.secrets().put("API_KEY", SECRET)
        await staged.owner.secrets().put("API_KEY", "of prod", scope="prod")
        await staged.owner.secrets().put("OTHER", "another")
        await staged.publish("environment", ENVIRONMENT)
        yield staged


def distinct(name: str) -> str:
    """Return a program that does the same with other bytes, so that each test has its own hash."""
    return ENVIRONMENT.replace('"memory") 16)', f'"memory") 16) (data (i32.const 1024) "{name}")')


def variables(answer: dict[str, Any]) -> dict[str, str]:
    assert answer["status"] == "completed", answer
    return dict(one.split("=", 1) for one in answer["output"].split("\0") if one)


def code(answered: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    status, answer = answered
    assert SECRET not in json.dumps(answer)
    return status, answer["error"]["code"]


async def test_a_secret_reaches_the_program_and_the_receipt_proves_the_run(
    stage: RunnerStage,
) -> None:
    version = await stage.publish("digest", distinct("digest"))
    await stage.grant(
        ["API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    status, answer = await stage.call("digest", secrets=stage.developer, input="hello", nonce="n1")
    assert status == 200
    seen = variables(answer)
    assert seen["API_KEY"] == SECRET and "OTHER" not in seen
    assert seen["OUTLAYER_PROJECT_NAME"] == "digest" and seen["NEAR_GAS_BURNT"] == ""
    assert answer["secrets"] == "delivered"
    assert not {"stderr", "stderrBytes"} & answer.keys()  # the caller does not own the secrets

    receipt = json.dumps(answer["receipt"]).encode()
    async with stage.http.get(f"{stage.url}/start") as got:
        start = await got.read()
    verified = await verify_run(receipt, start, stage.inspector)
    salt = decode_url(answer["salt"])
    assert salt is not None
    assert verified.is_about(salt=salt, input=b"hello", output=answer["output"].encode())
    assert not verified.is_about(salt=salt, input=b"hullo", output=answer["output"].encode())
    assert not verified.is_about(salt=salt, input=b"hello", output=answer["output"].encode() + b"x")
    assert verified.stated["program"] == version.sha256 and verified.stated["nonce"] == "n1"
    assert verified.runner.evidence.mrtd == (await stage.look()).measurements.mrtd
    async with stage.http.get(f"{stage.url}/receipts/{answer['job']}") as got:
        assert json.loads(await got.read()) == answer["receipt"]


async def test_the_owner_calls_and_sees_the_errors_of_the_program(stage: RunnerStage) -> None:
    version = await stage.publish("own", distinct("own"))
    await stage.grant(["API_KEY"], RunStatement(programs=(ByHash(version.sha256),)))
    session = await stage.calling_session()
    status, answer = await stage.call("own", session=session, secrets=stage.developer)
    assert (status, answer["status"]) == (200, "completed")
    assert SECRET in answer["stderr"]
    assert code(await stage.call("own", secrets=stage.developer)) == (403, "access-denied")


async def test_profiles(stage: RunnerStage) -> None:
    """RN214: a profile is a scope, and another spelling is refused with the canonical form."""
    version = await stage.publish("profiles", distinct("profiles"))
    run = RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    await stage.grant(["API_KEY", "prod/API_KEY"], run)
    for profile, value in (("default", SECRET), ("prod", "of prod")):
        _, answer = await stage.call("profiles", secrets=stage.developer, profile=profile)
        assert variables(answer)["API_KEY"] == value
    assert code(await stage.call("profiles", secrets=stage.developer, profile="stage")) == (
        403,
        "access-denied",
    )
    for profile, named in (
        ("Prod_EU", '"prod-eu"'),
        ("a/b", '"a-b"'),
        ("-a--b", '"a-b"'),
        ("", "non-empty"),
        ("___", "at least one letter"),
        ("global", "reserved"),
        ("Default", "reserved"),
        ("x" * 65, "64 characters"),
        ("x" * 9000, "64 characters"),
    ):
        refused = await stage.call("profiles", secrets=stage.developer, profile=profile)
        assert code(refused) == (400, "bad-profile")
        assert named in refused[1]["error"]["detail"]


async def test_without_secrets_nobody_is_asked_for_anything(stage: RunnerStage) -> None:
    await stage.publish("echo", ECHO)
    status, answer = await stage.call("echo", input="hello")
    assert status == 200
    assert answer["output"] == "hello"
    assert answer["secrets"] == "none"
    _, answer = await stage.call("echo", inputBase64="AAH/", responseFormat="Bytes")
    assert answer["output"] == "AAH/"
    assert code(await stage.call("echo", input="{", responseFormat="Json")) == (
        200,
        "output-format",
    )
    _, answer = await stage.call("environment")
    assert "API_KEY" not in variables(answer)


async def test_another_program_under_the_grant(stage: RunnerStage) -> None:
    version = await stage.publish("named", distinct("named"))
    await stage.grant(["OTHER"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY))
    await stage.publish("unnamed", distinct("unnamed"))
    assert code(await stage.call("unnamed", secrets=stage.developer)) == (403, "access-denied")
    _, answer = await stage.call("named", secrets=stage.developer)
    assert variables(answer)["OTHER"] == "another"


async def test_a_grant_that_follows_a_project_is_for_its_active_version_alone(
    stage: RunnerStage,
) -> None:
    project = parse_project(f"{stage.developer}/followed")
    old = await stage.publish("followed", distinct("followed"))
    await stage.grant(["OTHER"], RunStatement(programs=(ByProject(project),), callers=ANYBODY))
    _, answer = await stage.call("followed", secrets=stage.developer)
    assert variables(answer)["OTHER"] == "another"
    source = {"project": project.text, "version": old.sha256}
    refused = await stage.call("followed", secrets=stage.developer, source=source)
    assert code(refused) == (403, "access-denied")
    by_hash = await stage.call(
        "followed", secrets=stage.developer, source={"wasmSha256": old.sha256}
    )
    assert code(by_hash) == (403, "access-denied")


@pytest.mark.parametrize(
    ("callers", "admitted"),
    [
        (Whitelist(()), False),
        (Not(Owner()), True),
        (Not(AllowAll()), False),
        (Logic("And", (AllowAll(), Owner())), False),
        (Logic("Or", (Owner(), AllowAll())), True),
        (AccountPattern("did:key:z6Mk.*"), True),
        (Not(AccountPattern("did:key:.*|x")), False),
    ],
)
async def test_callers(stage: RunnerStage, callers: Any, admitted: bool) -> None:
    version = await stage.publish("callers", distinct(repr(callers).replace('"', "'")))
    await stage.grant(["OTHER"], RunStatement(programs=(ByHash(version.sha256),), callers=callers))
    source = {"project": f"{stage.developer}/callers", "version": version.sha256}
    status, answer = await stage.call("callers", secrets=stage.developer, source=source)
    assert (status == 200) is admitted, answer


async def test_a_revoked_grant_serves_no_run(stage: RunnerStage) -> None:
    version = await stage.publish("revoked", distinct("revoked"))
    portable = await stage.grant(
        ["API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    status, _ = await stage.call("revoked", secrets=stage.developer)
    assert status == 200
    await stage.owner.delegations.revoke_by_wallet(portable, stage.wallet)
    # RN81: a stranger cannot tell a revoked grant from none
    for _ in range(2):
        refused = await stage.call("revoked", secrets=stage.developer)
        assert code(refused) == (403, "access-denied")


async def test_a_manifest_names_the_secrets_of_a_program(stage: RunnerStage) -> None:
    for name, wanted in (("wants", "OTHER"), ("misses", "ABSENT")):
        manifest = ProgramManifest(secrets=(wanted,))
        version = await stage.publish(name, distinct(name), manifest=manifest)
        program = ByHash(version.sha256, version.project)
        await stage.grant(["API_KEY", "OTHER"], RunStatement(programs=(program,), callers=ANYBODY))
    seen = variables((await stage.call("wants", secrets=stage.developer))[1])
    assert seen["OTHER"] == "another" and "API_KEY" not in seen
    assert code(await stage.call("misses", secrets=stage.developer)) == (403, "secret-missing")


async def test_a_secret_that_is_gone_and_one_that_is_no_text(stage: RunnerStage) -> None:
    version = await stage.publish("gone", distinct("gone"))
    run = RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    await stage.owner.secrets().put("GONE", "x", scope="gone")
    await stage.grant(["gone/GONE"], run)
    await stage.owner.secrets().delete("GONE", scope="gone")
    refused = await stage.call("gone", secrets=stage.developer, profile="gone")
    assert code(refused) == (403, "secret-missing")
    for value in (b"\xff", "a\0b"):
        await stage.owner.secrets().put("GONE", value, scope="gone")
        refused = await stage.call("gone", secrets=stage.developer, profile="gone")
        assert code(refused) == (400, "environment-value")


async def test_limits_of_a_grant_bind_the_run(stage: RunnerStage) -> None:
    version = await stage.publish("limited", distinct("limited"))
    limits = GrantLimits(max_instructions=1_000_000, max_memory_mb=64, max_execution_s=3)
    run = RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY, limits=limits)
    await stage.grant(["API_KEY"], run)
    seen = variables(
        (await stage.call("limited", secrets=stage.developer, resourceLimits={"maxMemoryMb": 32}))[
            1
        ]
    )
    names = ("NEAR_MAX_INSTRUCTIONS", "NEAR_MAX_MEMORY_MB", "NEAR_MAX_EXECUTION_SECONDS")
    assert [seen[name] for name in names] == ["1000000", "32", "3"]
    for limits_asked in ({"maxMemoryMb": 0}, {"maxInstructions": -5}):
        refused = await stage.call("environment", resourceLimits=limits_asked)
        assert code(refused) == (400, "limits-invalid")


async def test_a_token_is_good_for_one_call_of_one_body(stage: RunnerStage) -> None:
    program = f"{stage.developer}/environment"
    body = json.dumps({"source": {"project": program}}).encode()
    now, entropy = SystemClock().now(), SystemEntropy()
    headers = call_headers(
        key_session(bytes(32)),
        runner=stage.at,
        program=program,
        body=body,
        now=now,
        entropy=entropy,
    )
    assert (await stage.post(body, headers))[0] == 200
    assert code(await stage.post(body, headers)) == (409, "call-repeated")
    assert code(await stage.post(body + b" ", headers)) == (401, "call-refused")
    assert code(await stage.post(body, {})) == (401, "call-refused")
    elsewhere = call_headers(
        key_session(bytes(32)),
        runner=replace(stage.at, did=BOB.did),
        program=program,
        body=body,
        now=now,
        entropy=entropy,
    )
    assert code(await stage.post(body, elsewhere)) == (401, "call-refused")


@pytest.mark.parametrize("failed", ["guest-exit", "guest-trap"])
async def test_RN263_the_output_of_a_program_that_failed(stage: RunnerStage, failed: str) -> None:
    """RN263: the caller gets what the program wrote before it failed, and the receipt is about it.
    Standard error is only for the owner of the secrets (RN85)."""
    version = await stage.publish(failed, failing(failed, failed))
    await stage.grant(
        ["API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    printed = "missing requester secret 1"
    status, answer = await stage.call(failed, secrets=stage.developer, input=printed)
    assert (status, answer["status"], answer["error"]["code"]) == (200, "failed", failed)
    assert (answer["output"], answer["outputFormat"]) == (printed, "Text")
    assert answer["secrets"] == "delivered" and "stderr" not in answer
    receipt = json.dumps(answer["receipt"]).encode()
    async with stage.http.get(f"{stage.url}/start") as got:
        start = await got.read()
    verified = await verify_run(receipt, start, stage.inspector)
    salt = decode_url(answer["salt"])
    assert salt is not None and verified.stated["status"] == "failed"
    assert verified.is_about(salt=salt, input=printed.encode(), output=printed.encode())
    assert not verified.is_about(salt=salt, input=None, output=b"")
    session = await stage.calling_session()
    _, answer = await stage.call(failed, session=session, secrets=stage.developer, input=printed)
    assert (answer["output"], answer["stderr"]) == (printed, f"{failed} failed")


@pytest.mark.parametrize(
    ("asked", "given", "output", "shown"),
    [
        ("Json", b'{"a": 1}', {"a": 1}, "Json"),
        ("Json", b"missing secret", "missing secret", "Text"),
        ("Json", b"\x00\xff", "AP8=", "Bytes"),
        ("Text", b"\x00\xff", "AP8=", "Bytes"),
        ("Bytes", b"a", "YQ==", "Bytes"),
        ("Text", b"x" * 70_000, "x" * 70_000, "Text"),  # encoded in a thread
    ],
)
async def test_RN263_the_format_of_such_output(
    stage: RunnerStage, asked: str, given: bytes, output: Any, shown: str
) -> None:
    """RN263: output that is not valid in the format of the call is a text, else bytes, and the
    reason remains that of the program."""
    await stage.publish("formats", failing("formats", "guest-exit"))
    status, answer = await stage.call(
        "formats", inputBase64=encode_standard(given), responseFormat=asked
    )
    assert (status, answer["error"]["code"]) == (200, "guest-exit")
    assert (answer["output"], answer["outputFormat"]) == (output, shown)


@pytest.mark.parametrize("failed", ["limit-instructions", "limit-memory"])
async def test_RN263_no_output_after_another_failure(stage: RunnerStage, failed: str) -> None:
    """RN263: a run that the runner ended has no output, and the receipt is about none: its caller
    chooses the limit, and could read how far the program came."""
    await stage.publish(failed, failing(failed, failed))
    limits = {"maxInstructions": 20_000_000}
    status, answer = await stage.call(failed, input="how far", resourceLimits=limits)
    assert (status, answer["error"]["code"]) == (200, failed)
    assert not {"output", "outputFormat"} & answer.keys()
    assert "how far" not in json.dumps(answer)
    receipt = json.dumps(answer["receipt"]).encode()
    async with stage.http.get(f"{stage.url}/start") as got:
        verified = await verify_run(receipt, await got.read(), stage.inspector)
    salt = decode_url(answer["salt"])
    assert salt is not None and verified.is_about(salt=salt, input=None, output=b"")


async def test_runs_that_fail_have_receipts_too(stage: RunnerStage) -> None:
    version = await stage.publish("trap", TRAP)
    await stage.grant(
        ["API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    status, answer = await stage.call("trap", secrets=stage.developer)
    assert status == 200
    assert answer["error"]["code"] == "guest-trap"
    assert answer["secrets"] == "delivered"
    assert answer["receipt"]["statement"]["code"] == "guest-trap"
    unknown = await stage.call("absent")
    assert code(unknown) == (404, "program-unknown")
    assert unknown[1]["receipt"]["statement"]["status"] == "failed"


@pytest.mark.parametrize(
    "members",
    [
        {"source": {}},
        {"source": {"project": "a/b"}},
        {"source": {"wasmSha256": "x"}},
        {"source": {"GitHub": {"repo": "https://example.com"}}},
        {"input": 7},
        {"input": "a", "inputBase64": "YQ=="},
        {"inputBase64": "?"},
        {"responseFormat": "XML"},
        {"responseFormat": ["Text"]},
        {"resourceLimits": {"max": 1}},
        {"resourceLimits": {"maxMemoryMb": True}},
        {"secretsRef": {"owner": "x"}},
        {"secretsRef": {"owner": "alice.near", "profile": "default"}},
        {"nonce": "x" * 129},
        {"nonce": "a\nb"},
        {"async": 1},
    ],
)
async def test_bodies_that_are_refused(stage: RunnerStage, members: dict[str, Any]) -> None:
    program = f"{stage.developer}/environment"
    body = json.dumps({"source": {"project": program}, **members}).encode()
    signed: dict[str, Any] = {"now": SystemClock().now(), "entropy": SystemEntropy()}
    headers = call_headers(
        key_session(bytes(32)), runner=stage.at, program=program, body=body, **signed
    )
    assert code(await stage.post(body, headers)) == (400, "request-invalid")


async def test_grants_that_a_runner_does_not_take(stage: RunnerStage) -> None:
    seen, owner = await stage.look(), stage.owner
    run = RunStatement(programs=(ByHash("ab" * 32),), callers=ANYBODY)
    with pytest.raises(InvalidInput, match="signed by the owner"):
        # by the session's key: it would rest on the sign-in
        await owner.runners.grant(seen, ["API_KEY"], run)
    resource = owner.secrets().resource("API_KEY")
    wanted = [
        allow(resource, "tinycloud.kv/get"),
        allow(owner.encryption.network().text, "tinycloud.encryption/decrypt"),
    ]
    policy = policy_for(seen, paths=[resource], ttl_s=600)
    for stated in (
        {"policy": policy},
        {"run": run},
        {"policy": policy, "run": run, "wallet": None},
    ):
        asked: dict[str, Any] = {"wallet": stage.wallet, "ttl_s": 600.0} | stated
        portable = await owner.delegations.delegate(seen.did, wanted, **asked)
        with pytest.raises(GrantNotTaken):
            await deliver(stage.url, portable)


async def test_a_pattern_that_only_the_runner_compiles(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN210: the runner refuses a grant with a pattern that is not valid, and names it."""
    version = await stage.publish("pattern", distinct("pattern"))
    run = RunStatement(programs=(ByHash(version.sha256),), callers=AccountPattern("(did:.*"))
    with monkeypatch.context() as client:
        client.setitem(sys.modules, "re2", None)
        portable = await stage.owner.runners.grant(
            await stage.look(), ["API_KEY"], run, wallet=stage.wallet
        )
    with pytest.raises(GrantNotTaken, match=r"\(did:"):
        await deliver(stage.url, portable)


async def test_receipts_that_do_not_hold(stage: RunnerStage) -> None:
    _, answer = await stage.call("environment")
    receipt = answer["receipt"]
    start = stage.runner.identity.start
    other = json.loads(start) | {"receiptKey": BOB.did}
    changed = json.loads(json.dumps(receipt))
    changed["statement"]["program"] = "ab" * 32
    for stated, document in (
        (changed, start),
        (receipt, json.dumps(other).encode()),
        (receipt, b"{}"),
        ({}, start),
    ):
        with pytest.raises(StatementInvalid):
            await verify_run(json.dumps(stated).encode(), document, stage.inspector)


async def test_what_is_not_there(stage: RunnerStage) -> None:
    for path in ("/receipts/abc", "/receipts/" + "a" * 300, "/attestations/x"):
        async with stage.http.get(stage.url + path) as got:
            assert got.status == 404
    async with stage.http.get(f"{stage.url}/info") as got:
        assert (await got.json())["runner"] == stage.runner.did
