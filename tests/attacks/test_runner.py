"""Attacks on a runner by callers, hosts, developers and other runners."""

import asyncio
import json
import logging
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from capability_cases import BOB
from guest_programs import guest
from https_service import Service, https_service
from patience import PATIENCE_S
from runner_stage import ECHO, ENVIRONMENT, P1, TRAP, RunnerStage, runner_stage

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import decode_url, encode_url
from runner.calls.run_receipts import RECEIPT_TYPE, encode_start, parse_start, verify_run
from runner.http import request_bodies, routes
from runner.reasons import RunRefused
from sealspace.apps.api_keys import KEY_HEADER
from sealspace.apps.backends import deliver, policy_for
from sealspace.apps.programs import (
    VERSION_TYPE,
    DeveloperSecrets,
    ProgramManifest,
    Target,
    version_json,
)
from sealspace.apps.run_calls import call_headers
from sealspace.delegations import allow
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import ByHash, ByProject, RunStatement
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import BackendNotProven
from sealspace.session import key_session
from serving.outbound import Outbound

SECRET = "the canary sings at dawn"
ANYBODY = AllowAll()
P2: Target = "wasm32-wasip2"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service that programs send requests to, under two names."""
    async with https_service(tmp_path_factory.mktemp("service"), "api.test", "other.test") as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, service: Service
) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test publishes its own programs."""
    outbound = Outbound(loopback_ca=service.ca, resolve=service.resolve)
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"), outbound=outbound)
        await staged.owner.secrets().put("API_KEY", SECRET)
        await staged.owner.secrets().put("OTHER", "another")
        yield staged


def distinct(name: str, program: str = ENVIRONMENT) -> str:
    """Return a program with the same behaviour and other bytes."""
    return f'{program.rstrip().removesuffix(")")} (data (i32.const 1024) "{name}"))'


def code(answered: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    status, answer = answered
    assert SECRET not in json.dumps(answer)
    return status, answer["error"]["code"]


def signed(
    stage: RunnerStage, name: str, *, caller: bytes = bytes(32), **members: Any
) -> tuple[bytes, dict[str, str]]:
    """Return a signed call of a published program, valid for one use."""
    program = f"{stage.developer}/{name}"
    body = json.dumps({"source": {"project": program}, **members}).encode()
    now, entropy = SystemClock().now(), SystemEntropy()
    session = key_session(caller)
    return body, call_headers(
        session, runner=stage.at, program=program, body=body, now=now, entropy=entropy
    )


# --- callers --------------------------------------------------------------------------------------


async def test_one_token_fifty_times_at_once_runs_once(stage: RunnerStage) -> None:
    """RN65: of 50 concurrent calls with one token one runs."""
    await stage.publish("echo", ECHO)
    body, headers = signed(stage, "echo", input="once")
    answers = await asyncio.gather(*(stage.post(body, headers) for _ in range(50)))
    assert Counter(status for status, _ in answers) == {200: 1, 409: 49}
    assert {answer["error"]["code"] for status, answer in answers if status == 409} == {
        "call-repeated"
    }


async def test_a_used_token_stays_used_after_a_restart(stage: RunnerStage, tmp_path: Path) -> None:
    """RN65, RN178: a token used before a restart is refused after it."""
    await stage.publish("echo", ECHO)
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        body, headers = signed(runner, "echo")
        assert (await runner.post(body, headers))[0] == 200
        assert code(await runner.post(body, headers)) == (409, "call-repeated")
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        assert code(await runner.post(body, headers)) == (409, "call-start")


async def test_a_token_that_ends_while_its_body_arrives(stage: RunnerStage) -> None:
    """RN65: a token that expires while the body arrives is refused."""
    body, headers = signed(stage, "echo")
    call = await stage.runner.verify_caller(headers["Authorization"], None)
    with pytest.raises(RunRefused, match="call-repeated"):
        await stage.runner.use_token(
            replace(call, expires_at=SystemClock().now() - 1), f"{stage.developer}/echo", body
        )
    assert await stage.runner.use_token(call, f"{stage.developer}/echo", body) == call.caller


async def test_a_body_that_was_changed_after_signing(stage: RunnerStage) -> None:
    """RN62: a call whose body was changed after signing is refused."""
    await stage.publish("echo", ECHO)
    body, headers = signed(stage, "echo", input="pay bob")
    assert code(await stage.post(body.replace(b"bob", b"eve"), headers)) == (401, "call-refused")
    body, headers = signed(stage, "echo")
    other = body.replace(b"echo", b"evil")
    assert code(await stage.post(other, headers)) == (401, "call-refused")
    assert (await stage.post(body, headers))[0] == 200  # nothing of it used the token up


async def test_names_of_secrets_are_told_to_their_owner_alone(stage: RunnerStage) -> None:
    """RN81: only the owner learns the name of a missing secret."""
    await stage.owner.secrets().put("GONE", "x", scope="names")
    version = await stage.publish("names", distinct("names"))
    await stage.grant(
        ["names/GONE"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    await stage.owner.secrets().delete("GONE", scope="names")
    session = await stage.calling_session()
    for caller, detail in ((None, None), (session, "GONE")):
        status, answer = await stage.call(
            "names", session=caller, secrets=stage.developer, profile="names"
        )
        assert status == 403
        assert answer["error"]["code"] == "secret-missing"
        assert answer["error"].get("detail") == detail


async def test_slow_bodies_and_too_many_calls(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN67: slow bodies and calls over the limits are refused with a code and a sentence.

    Neither strangers nor the keys of one owner take the places of those who show keys or have an
    account. Nothing is read from anybody who shows no signature.
    """
    monkeypatch.setattr(request_bodies, "MOST_CALLS", 2)
    monkeypatch.setattr(request_bodies, "BODY_S", 1.0)
    await stage.publish("echo", ECHO)
    key, other = (
        await stage.key("echo"),
        await stage.key(None, signer=Ed25519Signer(bytes(range(32)))),
    )
    left, (body, unknown), known = (
        asyncio.Event(),
        signed(stage, "echo"),
        signed(stage, "echo", caller=bytes(range(32))),
    )

    async def never(begin: bytes) -> AsyncIterator[bytes]:
        yield begin
        await left.wait()

    async def slow(path: str, headers: Mapping[str, str], begin: bytes = b"{") -> tuple[int, str]:
        async with stage.http.post(stage.url + path, data=never(begin), headers=headers) as answer:
            said = await answer.json()
            return answer.status, said["code"] if "code" in said else said["error"]["code"]

    answers = Counter(await asyncio.gather(*(slow("/run", unknown) for _ in range(3))))
    assert answers == {(503, "runner-busy"): 1, (408, "request-slow"): 2}
    monkeypatch.setattr(request_bodies, "BODY_BYTES", 1 / PATIENCE_S)  # what began has time
    call = f"/call/{stage.developer}/echo"

    async def holding(path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        # one of the calls below was there
        while (answered := await slow(path, headers)) == (503, "runner-busy"):
            pass
        return answered

    doors: list[tuple[str, dict[str, str]]] = [
        ("/run", unknown),
        ("/run", unknown),
        (call, {KEY_HEADER: key}),
    ]
    held = [asyncio.create_task(holding(*door)) for door in doors]
    async with asyncio.timeout(PATIENCE_S):
        while code(await stage.post(b"{}", unknown)) != (503, "runner-busy"):
            pass
        while (await stage.api("echo", key))[1]["code"] != "runner-busy":
            pass
        assert (await stage.api("echo", other))[0] == 200
        assert (await stage.post(*known))[0] == 200
        assert await slow("/run", {}) == (401, "call-refused")
        assert await slow(call, {KEY_HEADER: other}, b"") == (408, "request-slow")
        left.set()
        # RN251: a body that the caller did not sign is not parsed
        assert Counter(await asyncio.gather(*held)) == {
            (401, "call-refused"): 2,
            (400, "request-invalid"): 1,
        }
    monkeypatch.setattr(request_bodies, "BODY_S", 1.0)
    monkeypatch.setattr(request_bodies, "MOST_BODY_BYTES", 10)
    assert code(await stage.post(body, unknown)) == (503, "runner-busy")
    monkeypatch.undo()
    assert (await stage.post(body, unknown))[0] == 200  # nothing is counted for ever


async def test_slow_bodies_of_one_address(
    stage: RunnerStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN67: strangers of one address leave places for strangers of others."""
    monkeypatch.setattr(request_bodies, "MOST_CALLS", 4)
    address = ["192.0.2.1"]
    monkeypatch.setattr(routes, "counted_address", lambda _: address[0])
    left, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        begun.release()
        await left.wait()

    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "addresses")

        async def add_key(data: bytes | AsyncIterator[bytes]) -> str:
            async with stage.http.post(f"{runner.url}/keys", data=data) as answer:
                return str((await answer.json())["error"]["code"])

        held = [asyncio.create_task(add_key(never())) for _ in range(2)]
        for _ in held:
            await begun.acquire()
        async with asyncio.timeout(PATIENCE_S):
            while await add_key(b"{}") != "runner-busy":  # until both are being read
                pass
        address[0] = "192.0.2.2"
        assert await add_key(b"{}") != "runner-busy"
        left.set()
        await asyncio.gather(*held)


async def test_nothing_of_a_generation_is_read_without_a_token(stage: RunnerStage) -> None:
    """RN67: a request to generate a secret occupies no place if it has no signature."""
    begun = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        begun.set()
        await asyncio.Event().wait()

    async with (
        asyncio.timeout(PATIENCE_S),
        stage.http.post(f"{stage.url}/secrets/generate", data=never()) as answer,
    ):
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "call-refused"


async def test_unknown_payers_send_so_many_bytes_at_once(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN163: the runner reads bodies of unknown payers at a limited rate."""
    monkeypatch.setattr(request_bodies, "UNKNOWN_BYTES", 0)
    await stage.publish("echo", ECHO)
    await stage.key(None, signer=Ed25519Signer(bytes(range(32))))
    assert (await stage.post(*signed(stage, "echo", input="it waits a moment")))[0] == 200
    monkeypatch.setattr(request_bodies, "UNKNOWN_BYTES_PER_S", 1)
    assert code(await stage.post(*signed(stage, "echo", input="x" * 100))) == (503, "runner-busy")
    assert (await stage.post(*signed(stage, "echo", caller=bytes(range(32)))))[0] == 200


# --- runners and their hosts ----------------------------------------------------------------------


async def test_a_grant_that_is_replayed_to_other_code(stage: RunnerStage, tmp_path: Path) -> None:
    """RN46: other code with the same key and grants gets no secret."""
    version = await stage.publish("replayed", distinct("replayed"))
    portable = await stage.grant(
        ["API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    async with AsyncExitStack() as stack:
        shutil.copytree(stage.folder / "runner" / "grants", tmp_path / "runner" / "grants")
        (tmp_path / "runner").chmod(0o700)
        other = await stage.another(stack, tmp_path / "runner", image="other")
        await deliver(other.url, portable)
        assert code(await other.call("replayed", secrets=stage.developer)) == (
            403,
            "secret-refused",
        )
    status, answer = await stage.call("replayed", secrets=stage.developer)
    assert (status, answer["secrets"]) == (200, "delivered")


async def test_grants_that_the_host_puts_into_the_folder(
    stage: RunnerStage, tmp_path: Path
) -> None:
    """RN80: a grant without a run statement is not used for any program."""
    version = await stage.publish("planted", distinct("planted"))
    seen, owner = await stage.look(), stage.owner
    resource = owner.secrets().resource("API_KEY")
    wanted = [
        allow(resource, "tinycloud.kv/get"),
        allow(owner.encryption.network().text, "tinycloud.encryption/decrypt"),
    ]
    policy = policy_for(seen, paths=[resource], ttl_s=600)
    planted = await owner.delegations.delegate(
        seen.did, wanted, policy=policy, wallet=stage.wallet, ttl_s=600
    )
    granted = await stage.grant(
        ["API_KEY"], RunStatement(programs=(ByHash("cd" * 32),), callers=ANYBODY)
    )
    folder = tmp_path / "runner" / "grants"
    shutil.copytree(stage.folder / "runner" / "grants", folder)
    (tmp_path / "runner").chmod(0o700)
    (record,) = (one for one in (folder / "grants").glob("*.json") if granted.cid in one.name)
    for one in (folder / "grants").glob("*.json"):
        if one != record:
            one.unlink()
    text = record.read_text()
    assert granted.header in text
    edited = folder / "grants" / f"{planted.cid}.json"
    edited.write_text(text.replace(granted.header, planted.header))
    edited.chmod(0o600)
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        # both are held; one says nothing about programs
        assert len(runner.runner.backend.grants) == 2
        assert code(await runner.call("planted", secrets=stage.developer)) == (403, "access-denied")
    assert version.sha256 != "cd" * 32


# --- developers -----------------------------------------------------------------------------------


async def test_a_version_that_its_developer_did_not_sign(stage: RunnerStage) -> None:
    """RN52: a version that the developer did not sign does not run."""
    version = await stage.publish("forged", distinct("forged"))
    project, space = parse_project(f"{stage.developer}/forged"), stage.owner.kv("public")
    key = project.version_key(version.sha256)
    await space.put(key, sign_statement(VERSION_TYPE, version_json(version), BOB))
    assert code(await stage.call("forged")) == (409, "program-statement")
    await space.put(key, sign_statement(VERSION_TYPE, version_json(version), stage.wallet))
    await space.put(project.code_key(version.sha256), b"\0asm\x01\0\0\0other")
    assert code(await stage.call("forged")) == (400, "program-mismatch")


async def test_an_older_active_version_that_is_put_back(stage: RunnerStage, tmp_path: Path) -> None:
    """RN54: an older active version is refused, also after a restart."""
    await stage.publish("back", distinct("back one", ECHO))
    project = parse_project(f"{stage.developer}/back")
    older = (await stage.owner.kv("public").get(project.active_key)).body
    await stage.publish("back", distinct("back two", ECHO))
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        assert (await runner.call("back"))[0] == 200
    await stage.owner.kv("public").put(project.active_key, older)
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner")
        assert code(await runner.call("back")) == (409, "program-older")


async def test_somebody_else_s_project_of_the_same_bytes(stage: RunnerStage) -> None:
    """RN45: a project's grant does not apply to another project with the same bytes."""
    version = await stage.publish("mine", distinct("shared"))
    await stage.publish("theirs", distinct("shared"))
    followed = RunStatement(
        programs=(ByProject(parse_project(f"{stage.developer}/mine")),), callers=ANYBODY
    )
    await stage.grant(["API_KEY"], followed)
    by_hash = {"wasmSha256": version.sha256}
    assert (await stage.call("mine", secrets=stage.developer))[1]["secrets"] == "delivered"
    assert code(await stage.call("theirs", secrets=stage.developer)) == (403, "access-denied")
    assert code(await stage.call("mine", secrets=stage.developer, source=by_hash)) == (
        403,
        "access-denied",
    )


async def test_what_others_state_about_the_same_bytes(stage: RunnerStage) -> None:
    """RN55: statements of other developers do not affect a program that is called by its hash."""
    version = await stage.publish("bytes", distinct("bytes"))
    await stage.grant(
        ["API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    assert (await stage.call("bytes"))[0] == 200
    await stage.publish(
        "lies",
        distinct("bytes"),
        target="wasm32-wasip2",
        manifest=ProgramManifest(secrets=("NONE",)),
    )
    assert code(await stage.call("lies")) == (400, "program-target")
    status, answer = await stage.call(
        "bytes", secrets=stage.developer, source={"wasmSha256": version.sha256}
    )
    assert (status, answer["secrets"]) == (200, "delivered")


# --- requests of programs -------------------------------------------------------------------------


def another(name: str, program: str) -> bytes:
    """Return a program with the same behaviour, and other bytes in an added custom section."""
    said = bytes([len(name)]) + name.encode()
    return guest(program).data + bytes([0, len(said)]) + said


async def sends(stage: RunnerStage, name: str, url: str, **about: Any) -> tuple[str, list[str]]:
    """Run a program that sends its key in a header; return its first line and the receipt's
    hosts."""
    status, answer = await stage.call(name, input=f"POST {url} X-Key:$API_KEY\n", **about)
    assert (status, answer["status"]) == (200, "completed"), answer
    return answer["output"].split("\n")[0], answer["receipt"]["statement"]["hosts"]


BOTH_HOSTS = ProgramManifest(hosts=("api.test", "other.test"))


async def test_a_secret_goes_to_the_hosts_of_its_grant_alone(
    stage: RunnerStage, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """RN102, RN103: a program sends a secret only to hosts of the manifest and every grant."""
    caplog.set_level(logging.DEBUG)
    version = await stage.publish(
        "sender", another("sender", "fetcher-wasip1"), manifest=BOTH_HOSTS
    )
    program = ByHash(version.sha256, version.project)
    await stage.grant(
        ["API_KEY"],
        RunStatement(programs=(program,), callers=ANYBODY, hosts=("api.test", "third.test")),
    )
    secrets = {"secrets": stage.developer}
    service.seen.clear()
    assert ("200", ["api.test"]) == await sends(stage, "sender", service.url("/a"), **secrets)
    assert [SECRET] == [request.headers["X-Key"] for request in service.seen]
    for host in ("other.test", "third.test"):
        assert ("HostRefused", []) == await sends(
            stage, "sender", service.url(host=host), **secrets
        )
    redirected = service.url(f"/redirect?to={service.url(host='other.test')}")
    assert ("302", ["api.test"]) == await sends(stage, "sender", redirected, **secrets)

    # A second secret, whose grant names the other host alone: together they go nowhere.
    await stage.grant(
        ["OTHER"], RunStatement(programs=(program,), callers=ANYBODY, hosts=("other.test",))
    )
    for host in ("api.test", "other.test"):
        assert ("HostRefused", []) == await sends(
            stage, "sender", service.url(host=host), **secrets
        )
    assert ["/a", "/redirect"] == [request.path for request in service.seen]
    assert SECRET not in caplog.text and service.url("/a") not in caplog.text


async def test_a_secret_of_the_developer_goes_to_its_own_hosts(
    stage: RunnerStage, service: Service
) -> None:
    """RN103, RN213: a program with a developer's secret may contact only hosts in both owners'
    grants."""
    own = DeveloperSecrets("default", ("OTHER",))
    manifest = ProgramManifest(secrets=("API_KEY",), hosts=BOTH_HOSTS.hosts, developer=own)
    version = await stage.publish("two", another("two", "fetcher-wasip1"), manifest=manifest)
    program = ByHash(version.sha256, version.project)
    for name, hosts in (("API_KEY", ("api.test",)), ("OTHER", ("api.test", "other.test"))):
        await stage.grant([name], RunStatement(programs=(program,), callers=ANYBODY, hosts=hosts))
    secrets = {"secrets": stage.developer}
    assert ("200", ["api.test"]) == await sends(stage, "two", service.url("/b"), **secrets)
    other = service.url(host="other.test")
    assert ("HostRefused", []) == await sends(stage, "two", other, **secrets)
    # without the caller's secret, the developer's grant alone counts
    _, answer = await stage.call("two", input=f"GET {other}\n")
    assert answer["receipt"]["statement"]["hosts"] == ["other.test"]


async def test_a_grant_without_hosts_lets_nothing_out(stage: RunnerStage, service: Service) -> None:
    """RN103: under a grant without hosts a program contacts no host."""
    version = await stage.publish(
        "quiet", another("quiet", "fetcher-wasip2"), target=P2, manifest=BOTH_HOSTS
    )
    await stage.grant(
        ["API_KEY"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    assert ("HostRefused", []) == await sends(
        stage, "quiet", service.url(), secrets=stage.developer
    )


async def test_hosts_without_secrets(stage: RunnerStage, service: Service) -> None:
    """RN103: without secrets the manifest alone decides which hosts a program contacts."""
    get = f"GET {service.url()}\n"
    version = await stage.publish("open", another("open", "fetcher-wasip1"), manifest=BOTH_HOSTS)
    await stage.publish("silent", another("silent", "fetcher-wasip1"))
    _, answer = await stage.call("open", input=get)
    assert answer["output"].startswith("200\n") and answer["receipt"]["statement"]["hosts"] == [
        "api.test"
    ]
    by_hash, other = {"wasmSha256": version.sha256}, {"project": f"{stage.developer}/silent"}
    for name, source in (("silent", other), ("open", by_hash)):
        _, answer = await stage.call(name, source=source, input=get)
        assert answer["output"] == "HostRefused"
        assert answer["receipt"]["statement"]["hosts"] == []


@pytest.mark.parametrize(
    ("program", "target"), [("ask-wasip1", P1), ("ask-wasip2", P2), ("ask_c", P1)]
)
async def test_the_examples_ask_with_a_secret(
    stage: RunnerStage, service: Service, program: str, target: Target
) -> None:
    """The examples in each language send the key and return the service's answer."""
    manifest = ProgramManifest(secrets=("API_KEY",), hosts=("api.test",))
    version = await stage.publish(
        program.replace("_", "-"), guest(program).data, target=target, manifest=manifest
    )
    hosts = ("api.test",)
    granted = ByHash(version.sha256, version.project)
    await stage.grant(["API_KEY"], RunStatement(programs=(granted,), callers=ANYBODY, hosts=hosts))
    service.seen.clear()
    _, answer = await stage.call(
        program.replace("_", "-"), secrets=stage.developer, input=service.url("/hello")
    )
    assert answer["output"].strip() == "200", answer
    assert [f"Bearer {SECRET}"] == [request.headers["Authorization"] for request in service.seen]


async def test_a_secret_is_with_whom_it_was_sent_to_when_time_is_over(
    stage: RunnerStage, service: Service
) -> None:
    """RN110: the receipt of a run that times out in a request names the contacted host.

    A revocation meanwhile holds from the next run on.
    """
    version = await stage.publish("waits", another("waits", "fetcher-wasip1"), manifest=BOTH_HOSTS)
    program = ByHash(version.sha256, version.project)
    run = RunStatement(programs=(program,), callers=ANYBODY, hosts=("api.test",))
    portable = await stage.grant(["API_KEY"], run)
    service.seen.clear()
    call = stage.call(
        "waits",
        secrets=stage.developer,
        input=f"POST {service.url('/slow')} X:$API_KEY\n",
        resourceLimits={"maxExecutionSeconds": 1},
    )
    running = asyncio.create_task(call)
    async with asyncio.timeout(PATIENCE_S):
        while not service.seen:
            await asyncio.sleep(0)
    await stage.owner.delegations.revoke_by_wallet(portable, stage.wallet)
    answered = await running
    assert code(answered) == (200, "limit-time") and answered[1]["secrets"] == "delivered"
    assert answered[1]["receipt"]["statement"]["hosts"] == ["api.test"]
    assert code(await stage.call("waits", secrets=stage.developer)) == (403, "access-denied")


# --- receipts and traces --------------------------------------------------------------------------


async def test_a_salt_does_not_reach_into_the_data(stage: RunnerStage) -> None:
    """RN74: a receipt does not verify for a longer salt and shorter data."""
    await stage.publish("echo", ECHO)
    _, answer = await stage.call("echo", input="abc")
    verified = await verify_run(
        json.dumps(answer["receipt"]).encode(), stage.runner.identity.start, stage.inspector
    )
    salt = decode_url(answer["salt"])
    assert salt is not None and verified.is_about(salt=salt, input=b"abc", output=b"abc")
    assert not verified.is_about(salt=salt + b"a", input=b"bc", output=b"bc")
    assert not verified.is_about(
        salt=salt[:31], input=salt[31:] + b"abc", output=salt[31:] + b"abc"
    )


async def test_a_quote_for_a_client_is_none_of_a_start(stage: RunnerStage) -> None:
    """RN71: a quote made for a client does not prove a receipt key."""
    published = (await stage.look()).published
    start = parse_start(stage.runner.identity.start)
    assert published.statement == start.statement
    forged = encode_start(
        json.loads(stage.runner.identity.start)["statement"],
        BOB.did,
        published.quote,
        published.event_log,
    )
    await stage.publish("echo", ECHO)
    _, answer = await stage.call("echo")
    facts = answer["receipt"]["statement"] | {"start": encode_url(parse_start(forged).sha256)}
    with pytest.raises(BackendNotProven):
        await verify_run(sign_statement(RECEIPT_TYPE, facts, BOB), forged, stage.inspector)


async def test_a_secret_leaves_no_trace(
    stage: RunnerStage, caplog: pytest.LogCaptureFixture
) -> None:
    """No log, error, receipt or file of the runner contains a secret."""
    caplog.set_level(logging.DEBUG)
    manifest = ProgramManifest(secrets=("API_KEY", "ABSENT"))
    answers = []
    for name, program, wanted in (
        ("seen", ENVIRONMENT, None),
        ("trapped", TRAP, None),
        ("wanting", ENVIRONMENT, manifest),
        ("json", ENVIRONMENT, None),
    ):
        version = await stage.publish(name, distinct(name, program), manifest=wanted)
        granted = ByHash(version.sha256, version.project)
        await stage.grant(["API_KEY"], RunStatement(programs=(granted,), callers=ANYBODY))
        shape = "Json" if name == "json" else "Text"
        answers.append((await stage.call(name, secrets=stage.developer, responseFormat=shape))[1])
    assert SECRET in answers[0].pop("output")
    assert [answer.get("error", {}).get("code") for answer in answers] == [
        *(None, "guest-trap", "secret-missing", "output-format")
    ]
    assert SECRET not in json.dumps(answers) and SECRET not in caplog.text
    files = [path for path in (stage.folder / "runner").rglob("*") if path.is_file()]
    assert any("journal" in path.name for path in files)
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert (
        SECRET not in repr(stage.runner.grants.run_grants())
        and SECRET.encode() not in stage.runner.identity.start
    )
    assert P1 in version_json(stage.published["seen"]).values()
