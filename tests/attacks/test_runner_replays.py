"""Calls, statements and program bytes that are replayed or used elsewhere."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from backend_site import serving
from guest_programs import guest
from https_service import Service, https_service
from runner_stage import ECHO, RunnerStage, runner_stage

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.strict_json import Json
from sealspace.apps.backends import deliver, policy_for
from sealspace.apps.programs import ACTIVE_TYPE, ProgramManifest
from sealspace.apps.run_calls import call_headers
from sealspace.apps.runners import call_runner
from sealspace.delegations import allow
from sealspace.documents.call_conditions import AllowAll
from sealspace.documents.generation_grants import GENERATE
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import InvalidInput
from sealspace.session import key_session
from serving.outbound import Outbound

ANYBODY = AllowAll()
BOTH_HOSTS = ProgramManifest(hosts=("api.test", "other.test"))
LYING = web.AppKey("lying", bool)

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
        await staged.owner.secrets().put("API_KEY", "the canary sings at dawn")
        await staged.owner.secrets().put("OTHER", "another")
        await staged.publish("echo", ECHO)
        yield staged


def another(name: str) -> bytes:
    """Return a program with other bytes that fetches the URLs in its input."""
    said = bytes([len(name)]) + name.encode()
    return guest("fetcher-wasip1").data + bytes([0, len(said)]) + said


def code(answered: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    status, answer = answered
    return status, answer["error"]["code"]


def signed(stage: RunnerStage, name: str, **members: Any) -> tuple[bytes, dict[str, str]]:
    """Return a signed call of a published program, valid for one use at this runner."""
    program = f"{stage.developer}/{name}"
    body = json.dumps({"source": {"project": program}, **members}).encode()
    now, entropy = SystemClock().now(), SystemEntropy()
    return body, call_headers(
        key_session(bytes(32)),
        runner=stage.at,
        program=program,
        body=body,
        now=now,
        entropy=entropy,
    )


async def fetched(stage: RunnerStage, name: str, url: str, **about: Any) -> tuple[str, list[str]]:
    """Have a program send a request; return its first line and the receipt's hosts."""
    status, answer = await stage.call(name, input=f"GET {url}\n", **about)
    assert (status, answer["status"]) == (200, "completed"), answer
    return answer["output"].split("\n")[0], answer["receipt"]["statement"]["hosts"]


# --- calls ----------------------------------------------------------------------------------------


async def test_one_token_at_two_runners_of_one_identity(stage: RunnerStage, tmp_path: Path) -> None:
    """RN178: of two runners with one DID, a call runs only at the one it is signed for."""
    async with AsyncExitStack() as stack:
        twin = await stage.another(stack, tmp_path / "runner")
        assert twin.runner.did == stage.runner.did
        body, headers = signed(stage, "echo", input="once")
        assert code(await twin.post(body, headers)) == (409, "call-start")
        assert (await stage.post(body, headers))[0] == 200  # the refusal did not use the token up
        assert code(await twin.post(body, headers)) == (409, "call-start")
        body, headers = signed(twin, "echo", input="once")
        assert (await twin.post(body, headers))[0] == 200


async def test_requests_of_owners_at_two_runners_of_one_identity(
    stage: RunnerStage, tmp_path: Path
) -> None:
    """RN178: a signed request is valid for only one start of a runner."""
    session, now, entropy = await stage.calling_session(), SystemClock().now(), SystemEntropy()
    about = {
        ("GET", "/keys"): "keys",
        ("DELETE", "/keys/7"): "keys/7/revoke",
        ("GET", f"/calls/{'a' * 32}"): f"calls/{'a' * 32}",
        ("POST", "/secrets/generate"): GENERATE,
    }
    wanted = [{"name": "PROTECTED_A", "generation_type": "hex32"}]
    made = json.dumps(
        {"owner": stage.developer, "profile": "default", "new_secrets": wanted}
    ).encode()
    async with AsyncExitStack() as stack:
        twin = await stage.another(stack, tmp_path / "runner")
        for (method, path), program in about.items():
            body = made if method == "POST" else b""
            headers = call_headers(
                session, runner=stage.at, program=program, body=body, now=now, entropy=entropy
            )
            async with stage.http.request(
                method, twin.url + path, data=body or None, headers=headers
            ) as answer:
                said = await answer.json()
            assert (answer.status, said["error"]["code"]) == (409, "call-start"), path


async def test_a_client_asks_once_more_after_a_restart(stage: RunnerStage, tmp_path: Path) -> None:
    """RN178: the SDK signs again only if the runner states another start."""
    paths: list[str] = []
    async with AsyncExitStack() as stack:
        twin = await stage.another(stack, tmp_path / "runner")

        async def relayed(request: web.Request) -> web.Response:
            """Relay calls with the runner's former start number, and answer them by the current
            runner."""
            paths.append(request.path)
            is_former = request.path == "/info" and (len(paths) == 1 or request.app[LYING])
            url, body, headers = (
                (stage if is_former else twin).url,
                await request.read(),
                dict(request.headers),
            )
            async with stage.http.request(
                request.method, url + request.path, data=body, headers=headers
            ) as answer:
                return web.Response(status=answer.status, body=await answer.read())

        for is_lying, expected in ((False, "completed"), (True, "call-start")):
            app = web.Application()
            app[LYING] = is_lying
            app.router.add_route("*", "/{tail:.*}", relayed)
            url = await stack.enter_async_context(serving(app))
            asked: dict[str, Json] = {
                "source": {"project": f"{stage.developer}/echo"},
                "input": "hello",
            }
            paths.clear()
            answer = await call_runner(url, key_session(bytes(32)), asked)
            error = answer.get("error")
            assert expected == (error["code"] if isinstance(error, dict) else answer["status"])
            assert ["/info", "/run", "/info"] + ([] if is_lying else ["/run"]) == paths


# --- the bytes of others --------------------------------------------------------------------------


async def test_a_stranger_s_manifest_for_the_bytes_of_a_grant(
    stage: RunnerStage, service: Service
) -> None:
    """RN176: another project of the same bytes gets no wider hosts or secrets."""
    data, hosts = another("bytes"), ("api.test", "other.test")
    version = await stage.publish(
        "narrow", data, manifest=ProgramManifest(secrets=("API_KEY",), hosts=("api.test",))
    )
    program = ByHash(version.sha256, version.project)
    await stage.grant(
        ["API_KEY", "OTHER"], RunStatement(programs=(program,), callers=ANYBODY, hosts=hosts)
    )
    await stage.publish("wide", data, manifest=ProgramManifest(secrets=("API_KEY",), hosts=hosts))
    service.seen.clear()
    other = service.url(host="other.test")
    for source in ({"project": f"{stage.developer}/wide"}, {"wasmSha256": version.sha256}):
        # without secrets
        assert (await stage.call("wide", input=f"GET {other}\n"))[1]["output"].startswith("200")
        refused = await stage.call(
            "wide", source=source, secrets=stage.developer, input=f"GET {other}\n"
        )
        assert code(refused) == (403, "access-denied")
    assert ("HostRefused", []) == await fetched(stage, "narrow", other, secrets=stage.developer)
    assert ("200", ["api.test"]) == await fetched(
        stage, "narrow", service.url("/a"), secrets=stage.developer
    )


async def test_a_grant_of_bytes_without_a_project(stage: RunnerStage, service: Service) -> None:
    """RN176: a program granted by its hash gets its secrets and contacts no host."""
    version = await stage.publish(
        "bare", another("bare"), manifest=ProgramManifest(secrets=(), hosts=("api.test",))
    )
    await stage.grant(
        ["API_KEY", "OTHER"], RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY)
    )
    for source in ({"project": f"{stage.developer}/bare"}, {"wasmSha256": version.sha256}):
        said = f"POST {service.url()} X-Key:$API_KEY\n"
        _, answer = await stage.call("bare", source=source, secrets=stage.developer, input=said)
        assert answer["output"] == "HostRefused"
        assert answer["secrets"] == "delivered"


async def test_a_former_grant_of_hosts_without_a_project(
    stage: RunnerStage, service: Service
) -> None:
    """RN176: a grant of hosts without a project is refused with the remedy."""
    version = await stage.publish("former", another("former"), manifest=BOTH_HOSTS)
    former = RunStatement(programs=(ByHash(version.sha256),), callers=ANYBODY, hosts=("api.test",))
    with pytest.raises(InvalidInput, match="without a project"):
        await stage.grant(["API_KEY"], former)
    seen, owner = await stage.look(), stage.owner
    resource = owner.secrets().resource("API_KEY")
    wanted = [
        allow(resource, "tinycloud.kv/get"),
        allow(owner.encryption.network().text, "tinycloud.encryption/decrypt"),
    ]
    policy = policy_for(seen, paths=[resource], ttl_s=600)
    about: dict[str, Any] = {
        "policy": policy,
        "run": former,
        "wallet": stage.wallet,
        "ttl_s": 600.0,
    }
    await deliver(stage.url, await owner.delegations.delegate(seen.did, wanted, **about))
    status, answer = await stage.call(
        "former", secrets=stage.developer, input=f"GET {service.url()}\n"
    )
    assert (status, answer["error"]["code"]) == (403, "grant-no-project")
    assert "sealspace runner grant --program DID/NAME" in answer["error"]["message"]
    again = RunStatement(
        programs=(ByHash(version.sha256, version.project),), callers=ANYBODY, hosts=("api.test",)
    )
    await stage.grant(["API_KEY"], again)
    assert ("200", ["api.test"]) == await fetched(
        stage, "former", service.url(), secrets=stage.developer
    )


# --- statements about versions --------------------------------------------------------------------


async def test_an_older_statement_about_the_active_version(
    stage: RunnerStage, service: Service
) -> None:
    """RN177: an older signed manifest of the same bytes is not used."""
    data, other = another("restated"), service.url(host="other.test")
    version = await stage.publish("restated", data, manifest=BOTH_HOSTS)
    space, key = stage.owner.kv("public"), version.project.version_key(version.sha256)
    older = (await space.get(key)).body
    await stage.publish("restated", data, manifest=ProgramManifest(hosts=("api.test",)))
    newer = (await space.get(key)).body
    await space.put(key, older)
    status, answer = await stage.call("restated", input=f"GET {other}\n")
    assert (status, answer["error"]["code"]) == (409, "program-statement")
    assert f"sealspace project activate restated {version.sha256}" in answer["error"]["detail"]
    await space.put(key, newer)
    assert ("HostRefused", []) == await fetched(stage, "restated", other)


async def test_an_active_version_of_a_former_release(stage: RunnerStage) -> None:
    """RN177: an active version without a statement's hash does not run."""
    version = await stage.publish("unstated", ECHO)
    stated: dict[str, Json] = {
        "project": version.project.text,
        "sha256": version.sha256,
        "sequence": 5,
    }
    former = sign_statement(ACTIVE_TYPE, stated, stage.wallet)
    await stage.owner.kv("public").put(version.project.active_key, former)
    assert code(await stage.call("unstated")) == (409, "program-statement")
    active = await stage.owner.programs(public=True).activate(
        "unstated", version.sha256, signer=stage.wallet
    )
    assert active.sequence == 6
    assert (await stage.call("unstated"))[0] == 200


async def test_a_statement_s_hash_is_no_version(stage: RunnerStage) -> None:
    """RN177: a statement's hash cannot be called as a version."""
    version = await stage.publish("named", ECHO)
    # remembered from now on, by the hash of its statement
    assert (await stage.call("named"))[0] == 200
    source = {"project": version.project.text, "version": version.statement_sha256}
    assert code(await stage.call("named", source=source)) == (404, "program-unknown")
