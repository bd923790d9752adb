"""Tests of `sealspace project` and `sealspace runner`, from a program to a verified receipt."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
import wasmtime
from aiohttp import web
from backend_desk import Desk
from backend_site import serving
from guest_programs import guest
from https_service import Service, https_service
from runner_stage import ECHO, ENVIRONMENT, RunnerStage, runner_stage

from capabilities.signatures import Ed25519Signer
from runner.calls import run as calls_run
from sealspace.apps import runners
from sealspace.cli.root import EXIT_STATUS
from sealspace.documents.iexec_names import address_of
from sealspace.documents.project_names import parse_project
from sealspace.documents.published import EVIDENCE_PATH
from serving.outbound import Outbound
from serving.shares import FairSemaphore

SECRET = "open sesame, says the owner"
SOMEBODY = Ed25519Signer(bytes(range(32))).did
FILES = '(module (import "wasi_snapshot_preview1" "no_such_call" (func)) (func (export "_start")))'
EXITS = """
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 1))))
"""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service on this machine that answers under every host name of the runner."""
    async with https_service(tmp_path_factory.mktemp("service"), "api.test") as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, service: Service
) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module."""
    async with AsyncExitStack() as stack:
        outbound = Outbound(loopback_ca=service.ca)
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"), outbound=outbound)


@pytest.fixture
def desk(
    stage: RunnerStage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """A new owner for each test."""
    return stage.desk(tmp_path, capsys, monkeypatch)


def program(folder: Path, wat: str = ENVIRONMENT) -> str:
    (folder / "program.wasm").write_bytes(wasmtime.wat2wasm(wat))
    return str(folder / "program.wasm")


async def with_secret(desk: Desk) -> str:
    """Log in with the right to publish, and store a secret; return the owner."""
    await desk.log_in("--space", "public")
    assert (await desk.run("secret", "put", "API_KEY", given=SECRET)).status == 0
    return str(json.loads((await desk.run("whoami", "--json")).out)["owner"])


async def test_from_a_program_to_a_receipt_that_holds(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """Publishing, granting, calling, verifying offline and revoking take one command each
    (RN253)."""
    owner = await with_secret(desk)
    published = await desk.run("project", "publish", "digest", program(tmp_path), "--json")
    assert published.status == 0, published
    version = json.loads(published.out)
    assert version["target"] == "wasm32-wasip1" and version["active"] is True

    approved = tmp_path / "approved.json"
    approved.write_text((await desk.run("backend", "show", stage.url, "--json")).out)
    granted = await desk.run(
        *("runner", "grant", stage.url, "--secret", "API_KEY", "--program", "digest"),
        *("--like", str(approved), "--max-memory-mb", "64"),
    )
    assert granted.status == 0, granted
    for said in (
        f"for the program {version['sha256']}",
        "callers: you alone",
        "it may send to: no host",
        "maxMemoryMb 64",
    ):
        assert said in granted.out, granted
    assert SECRET not in granted.out + granted.err

    (listed,) = json.loads((await desk.run("runner", "list", "--json")).out)
    assert listed["secrets"] == ["API_KEY"]
    assert listed["url"] == stage.url
    assert listed["state"] == "active"
    assert version["sha256"] in (await desk.run("runner", "list")).out

    kept = tmp_path / "receipt.json"
    call = (
        "runner",
        "call",
        stage.url,
        f"{owner}/digest",
        "--secrets",
        "me",
        "--receipt",
        str(kept),
        "--input",
        "-",
    )
    called = await desk.run(*call, given="hello")
    assert called.status == 0, called
    assert f"API_KEY={SECRET}" in called.out.split("\0")
    (tmp_path / "in").write_text("hello")
    (tmp_path / "out").write_bytes(called.out.encode())
    verify = (
        "verify",
        str(kept),
        "--input",
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
    )
    verified = await desk.run(*verify, "--like", str(approved))
    assert verified.status == 0, verified
    assert "exactly this input and output" in verified.out and "completely approved" in verified.out
    assert (await desk.run(*verify)).status == 1  # of unknown code it proves nothing
    partly = await desk.run(*verify[:2], "--like", str(approved))
    assert partly.status == 17 and partly.out.startswith("not compared"), partly
    assert "input and output" in partly.out.splitlines()[0]
    partly = await desk.run(*verify[:2], "--like", str(approved), "--json")
    found = json.loads(partly.out)
    assert partly.status == 17
    assert found["isAboutData"] is None
    assert found["notCompared"] == ["input", "output"]
    unknown = await desk.run(*verify[:2])
    assert unknown.status == 1 and unknown.out.startswith("not compared")
    compared = json.loads((await desk.run(*verify, "--like", str(approved), "--json")).out)
    assert compared["notCompared"] == []
    (tmp_path / "out").write_text("altered")
    assert (await desk.run(*verify, "--like", str(approved))).status == 1
    (tmp_path / "out").write_bytes(called.out.encode())
    (tmp_path / "in").write_text("hullo")
    assert (await desk.run(*verify, "--like", str(approved))).status == 1

    assert (await desk.run("runner", "revoke", stage.url, "--yes")).status == 0
    refused = await desk.run(*call[:6])
    assert refused.status == 1 and refused.err.startswith("sealspace: secrets-not-granted: "), (
        refused
    )
    assert refused.next.startswith(f"sealspace runner grant {stage.url}")


async def test_hosts_are_granted_and_shown(
    desk: Desk, stage: RunnerStage, service: Service, tmp_path: Path
) -> None:
    """RN103, RN111: `--host` lets a program send a secret to that host, and each command shows the
    host."""
    owner = await with_secret(desk)
    (tmp_path / "ask.wasm").write_bytes(guest("ask-wasip1").data)
    (tmp_path / "manifest.json").write_text('{"secrets": ["API_KEY"], "hosts": ["api.test"]}')
    publish = (
        "project",
        "publish",
        "ask",
        str(tmp_path / "ask.wasm"),
        "--manifest",
        str(tmp_path / "manifest.json"),
    )
    assert (await desk.run(*publish)).status == 0
    grant = (
        "runner",
        "grant",
        stage.url,
        "--secret",
        "API_KEY",
        "--program",
        "ask",
        "--yes",
        "--host",
        "api.test",
    )
    assert "it may send to: api.test" in (await desk.run(*grant)).out
    assert "api.test" in (await desk.run("runner", "list")).out
    kept = str(tmp_path / "receipt.json")
    call = (
        "runner",
        "call",
        stage.url,
        f"{owner}/ask",
        "--secrets",
        "me",
        "--receipt",
        kept,
        "--input",
        "-",
    )
    called = await desk.run(*call, given=service.url())
    assert (called.status, called.out.strip()) == (
        0,
        "200",
    ) and "contacted: api.test\n" in called.err, called
    assert service.seen[-1].headers["Authorization"] == f"Bearer {SECRET}"
    assert re.search("contacted +api.test\n", (await desk.run("verify", kept)).out)
    refused = await desk.run(*call, given="https://other.test/")
    assert (
        refused.status == 1 and "HostRefused" in refused.err and "contacted" not in refused.err
    ), refused
    assert re.search("contacted +none\n", (await desk.run("verify", kept)).out)


@pytest.mark.parametrize(
    "kept",
    [
        "[]",
        "{}",
        '{"receipt": 1.5, "start": {}}',
        '{"receipt": {}, "start": {"quote": 1e3}}',
        '{"receipt": {"type": []}, "start": "x"}',
    ],
)
async def test_what_is_no_receipt(desk: Desk, tmp_path: Path, kept: str) -> None:
    """Any file is either verified as a receipt or refused in two lines."""
    (tmp_path / "kept").write_text(kept)
    ran = await desk.run("verify", str(tmp_path / "kept"))
    assert ran.status in (2, EXIT_STATUS["statement-invalid"]) and len(ran.err.splitlines()) == 2, (
        ran
    )


async def test_versions_of_a_project(desk: Desk, tmp_path: Path) -> None:
    """A second version is published, activated, and shown with its requirements."""
    await with_secret(desk)
    assert (
        (await desk.run("project", "list"))
        .err.rstrip()
        .endswith("next: sealspace project publish NAME FILE")
    )
    (tmp_path / "manifest.json").write_text(
        '{"secrets": ["API_KEY"], "hosts": ["api.example.com"]}'
    )
    first = json.loads(
        (await desk.run("project", "publish", "two", program(tmp_path), "--json")).out
    )["sha256"]
    more = (
        "--manifest",
        str(tmp_path / "manifest.json"),
        "--source",
        "https://git.example/two",
        "--no-activate",
    )
    second = json.loads(
        (await desk.run("project", "publish", "two", program(tmp_path, ECHO), *more, "--json")).out
    )
    shown = json.loads((await desk.run("project", "show", "two", "--json")).out)
    assert shown["active"] == {"sha256": first, "sequence": 1}
    assert {one["sha256"] for one in shown["versions"]} == {first, second["sha256"]}
    assert (await desk.run("project", "activate", "two", second["sha256"])).status == 0
    address = address_of("app", parse_project(shown["project"]))
    shown_text = await desk.run("project", "show", "two")
    assert shown["address"] == address and f"address {address}" in shown_text.err
    table = shown_text.out
    (row,) = (line for line in table.splitlines() if line.startswith("yes"))
    assert second["sha256"] in row and "API_KEY" in row and "api.example.com" in row
    listed = json.loads((await desk.run("project", "list", "--json")).out)
    sizes = [one["bytes"] for one in shown["versions"]]
    assert listed == [
        {"name": "two", "active": second["sha256"], "versions": 2, "bytes": sum(sizes)}
    ]
    assert (await desk.run("project", "activate", "two", "0" * 64)).status == EXIT_STATUS[
        "not-there"
    ]
    assert (await desk.run("project", "show", "three")).status == EXIT_STATUS["not-there"]
    other = await desk.run("project", "list", "--developer", SOMEBODY)
    assert (other.status, other.out) == (0, "")


async def test_a_project_is_removed(desk: Desk, tmp_path: Path) -> None:
    """RN225: a version that is not active is removed, or the whole project after a confirmation;
    the project can be published again."""
    await with_secret(desk)
    publish, remove = ("project", "publish", "old"), ("project", "remove", "old", "--version")
    first = json.loads((await desk.run(*publish, program(tmp_path), "--json")).out)["sha256"]
    second = json.loads((await desk.run(*publish, program(tmp_path, ECHO), "--json")).out)["sha256"]
    refused = await desk.run(*remove, second, "--yes")
    assert (refused.status, refused.next) == (
        2,
        "activate another version first, or remove the whole project",
    )
    assert (await desk.run(*remove, first, "--yes")).status == 0
    assert (await desk.run(*remove, first, "--yes")).status == EXIT_STATUS["not-there"]
    (listed,) = json.loads((await desk.run("project", "list", "--json")).out)
    assert listed["active"] == second
    assert listed["versions"] == 1
    assert "cannot ask for confirmation" in (await desk.run(*remove[:3])).err
    assert (await desk.run(*remove[:3], "--yes")).status == 0
    assert json.loads((await desk.run("project", "list", "--json")).out) == []
    assert (await desk.run(*remove[:3], "--yes")).status == EXIT_STATUS["not-there"]
    assert (await desk.run(*publish, program(tmp_path, ECHO))).status == 0
    shown = json.loads((await desk.run("project", "show", "old", "--json")).out)
    assert shown["active"] == {"sha256": second, "sequence": 4}


async def test_a_call_that_cannot_start(
    desk: Desk, stage: RunnerStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN224: the command says what it waits for and, after three attempts, why the call failed."""
    owner = await with_secret(desk)
    await desk.run("project", "publish", "echo", program(tmp_path, ECHO))
    monkeypatch.setattr(calls_run, "START_S", 0.0)
    # Without this, the third attempt starts if the first two have loaded the program by then.
    monkeypatch.setattr(stage.runner.executor, "_semaphore", FairSemaphore(0, beside=False))
    monkeypatch.setattr(runners, "_MOST_PAUSE_S", 0.0)
    called = await desk.run("runner", "call", stage.url, f"{owner}/echo")
    assert called.status != 0
    assert called.err.count("(runner-busy); trying again in 0 s") == 2
    assert "runner-busy: The runner is busy" in called.err


async def test_next_steps_of_refused_calls(desk: Desk, stage: RunnerStage, tmp_path: Path) -> None:
    """The next step after a failed call, or a refused key, fits its cause."""
    owner = await with_secret(desk)
    assert (await desk.run("project", "publish", "exits", program(tmp_path, EXITS))).status == 0
    call = ("runner", "call", stage.url, f"{owner}/exits")
    for secrets, said, step in (
        ((), "guest-exit: The program exited with a code other than 0: 1\n", "program itself"),
        (("--secrets", "alice.near"), "request-invalid: ", "runner call --help"),
        (("--secrets", "me/Prod_EU"), 'write "prod-eu"\n', "as the message writes it"),
    ):
        ran = await desk.run(*call, *secrets)
        assert ran.status != 0 and said in ran.err and step in ran.next, ran
    ran = await desk.run("runner", "keys", "create", stage.url, "--any-project")
    assert "no account or grant of this owner" in ran.err and "operator" in ran.next, ran
    ran = await desk.run(
        *("runner", "keys", "create", stage.url, "--any-project", "--profile", "Prod_EU")
    )
    assert "prod-eu" in ran.err and "`default`, or a scope" in ran.next, ran


async def test_next_steps_of_other_answers(desk: Desk) -> None:
    """The next step names the right command for a key of another type, and for an unreachable
    node."""
    owner = await with_secret(desk)
    said = {"code": ""}

    async def answers(request: web.Request) -> web.Response:
        if request.path == "/info":
            return web.json_response({"runner": SOMEBODY, "start": "0" * 32})
        return web.json_response({"error": said})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answers)
    async with serving(app) as url:
        for code, step in (
            ("key-project", f"runner keys list {url}"),
            ("key-profile", f"runner keys list {url}"),
            ("secret-unreadable", "sealspace status"),
            ("access-denied", "the developer"),
        ):
            said["code"] = code
            ran = await desk.run("runner", "call", url, f"{owner}/any")
            assert f"sealspace: {code}" in ran.err and step in ran.next, ran


async def test_programs_that_are_not_published(desk: Desk, tmp_path: Path) -> None:
    """RN215: a file that is not WebAssembly, an unknown import, a wrong target, and a login without
    the space are refused."""
    await desk.log_in()
    (tmp_path / "text").write_text("text")
    ran = await desk.run("project", "publish", "bad", str(tmp_path / "text"))
    assert ran.status == 2 and "not a WebAssembly program" in ran.err
    ran = await desk.run("project", "publish", "bad", program(tmp_path, FILES))
    # The right to publish is checked before the program is compiled.
    assert (ran.status, ran.next) == (EXIT_STATUS["not-granted"], "sealspace login --space public")
    await desk.run("login", "--space", "public")
    ran = await desk.run("project", "publish", "bad", program(tmp_path, FILES))
    assert ran.status == 2 and "no_such_call" in ran.err
    for module, function, advice in (
        ("wasi:http/types@0.2.0", "x", "sealspace:http/client"),
        ("near:storage/api@0.1.0", "set-worker", "functions of near:storage"),
        ("near:rpc/api@0.1.0", "view", "no blockchain"),
        ("near:vrf/api", "generate", "no blockchain"),
        ("near:payment/api", "refund-usd", "no blockchain"),
        ("outlayer:wallet/api", "get-id", "no blockchain"),
    ):
        wat = FILES.replace("wasi_snapshot_preview1", module).replace("no_such_call", function)
        ran = await desk.run("project", "publish", "bad", program(tmp_path, wat))
        assert ran.status == 2 and f"{module}.{function}" in ran.err and advice in ran.next, ran
    ran = await desk.run(
        "project", "publish", "bad", program(tmp_path), "--target", "wasm32-wasip2"
    )
    assert ran.status == 2 and "--target" in ran.next
    ran = await desk.run("project", "publish", "bad", program(tmp_path), "--private")
    assert (ran.status, ran.next) == (
        EXIT_STATUS["not-granted"],
        "sealspace login --space projects",
    )


async def test_grants_that_are_not_made(desk: Desk, stage: RunnerStage, tmp_path: Path) -> None:
    """Nothing is granted for a missing secret or version, a reserved name, or without a
    terminal."""
    await with_secret(desk)
    await desk.run("project", "publish", "digest", program(tmp_path))
    (tmp_path / "condition.json").write_text('"AllowAll", "x": 1')
    by = ("runner", "grant", stage.url, "--secret", "API_KEY")
    for arguments, part in (
        (
            (*by[:3], "--secret", "ABSENT", "--program", "digest", "--yes"),
            "there is no secret ABSENT",
        ),
        (
            (*by[:3], "--secret", "NEAR_SENDER_ID", "--program", "digest", "--yes"),
            "is a reserved name",
        ),
        (("secret", "put", "NEAR_SENDER_ID"), "is a reserved name"),  # RN216
        (
            (*by[:3], "--secret", "PROTECTED_KEY", "--program", "digest", "--yes"),
            "sealspace runner generate URL PROTECTED_KEY",
        ),
        ((*by, "--program", "absent", "--yes"), "no version of"),
        ((*by, "--program", "0" * 64, "--follow", "--yes"), "only one version"),
        ((*by, "--program", "digest", "--anybody", "--caller", SOMEBODY), "give only one of"),
        (
            (*by, "--program", "digest", "--condition", str(tmp_path / "condition.json")),
            "must contain a condition",
        ),
        ((*by, "--program", "digest", "--caller", "Alice"), "not a DID"),
        ((*by, "--program", "digest", "--caller", "alice"), "there is no contact alice"),
        ((*by, "--program", "digest", "--host", "127.0.0.1"), "without scheme"),
        ((*by, "--program", "digest"), "cannot ask for confirmation"),
    ):
        ran = await desk.run(*arguments)
        assert ran.status != 0 and part in ran.err, (arguments, ran)
        assert ran.next
    assert json.loads((await desk.run("runner", "list", "--json")).out) == []


async def test_grants_for_others_follow_the_developer(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """The grant contains the values of `--follow`, `--caller`, `--anybody` and `--condition`."""
    owner = await with_secret(desk)
    await desk.run("project", "publish", "digest", program(tmp_path))
    (tmp_path / "condition.json").write_text('{"Not": {"condition": {"Owner": {}}}}')
    by = ("runner", "grant", stage.url, "--secret", "API_KEY", "--program", "digest")
    said = await desk.run(*by, "--follow", "--anybody", typed="n\n")
    assert said.status != 0 and "whatever version its developer makes the active one" in said.out
    for more in (
        ("--follow", "--caller", SOMEBODY),
        ("--anybody",),
        ("--condition", str(tmp_path / "condition.json")),
    ):
        assert (await desk.run(*by, *more, typed="y\n")).status == 0
    runs = [one["run"] for one in json.loads((await desk.run("runner", "list", "--json")).out)]
    assert {"project": f"{owner}/digest"} in [one["programs"][0] for one in runs]
    callers = [one["callers"] for one in runs]
    expected = [
        {"Whitelist": {"accounts": [SOMEBODY]}},
        "AllowAll",
        {"Not": {"condition": {"Owner": {}}}},
    ]
    assert all(one in callers for one in expected)


async def test_secrets_that_the_runner_makes(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """RN140 to RN149: the commands generate secrets and grant them to a program that alone can read
    them."""
    owner = await with_secret(desk)
    approved = tmp_path / "approved.json"
    approved.write_text((await desk.run("backend", "show", stage.url, "--json")).out)
    by = ("runner", "generate", stage.url)
    made = await desk.run(
        *by, "PROTECTED_KEY", "PROTECTED_PIN:password:12", "--like", str(approved)
    )
    assert (made.status, made.out) == (0, "PROTECTED_KEY\nPROTECTED_PIN\n"), made
    again = await desk.run(*by, "PROTECTED_KEY", "PROTECTED_NEW", "--like", str(approved), "--json")
    assert again.status == EXIT_STATUS["already-there"] and "PROTECTED_KEY" in again.err
    assert json.loads(again.out) == {"generated": ["PROTECTED_NEW"], "existing": ["PROTECTED_KEY"]}
    opened = await desk.run("secret", "get", "PROTECTED_KEY")
    assert opened.status != 0 and opened.out == "" and "only programs can read" in opened.next

    await desk.run("project", "publish", "digest", program(tmp_path))
    grant = ("runner", "grant", stage.url, "--program", "digest", "--like", str(approved))
    mixed = await desk.run(*grant, "--secret", "API_KEY", "--secret", "PROTECTED_PIN")
    assert mixed.status == 2 and "different networks" in mixed.err
    assert (await desk.run(*grant, "--secret", "PROTECTED_PIN")).status == 0
    called = await desk.run("runner", "call", stage.url, f"{owner}/digest", "--secrets", "me")
    (pin,) = (one for one in called.out.split("\0") if one.startswith("PROTECTED_PIN="))
    assert len(pin.removeprefix("PROTECTED_PIN=")) == 12

    (tmp_path / "some.env").write_text("PROTECTED_MINE=mine\n")
    for arguments in (
        ("secret", "put", "PROTECTED_MINE"),
        ("secret", "generate", "PROTECTED_MINE"),
        ("secret", "import", str(tmp_path / "some.env"), "--yes"),
    ):
        refused = await desk.run(*arguments, given="mine")
        assert refused.status == 2 and "only a runner can make secrets" in refused.err, refused
        assert "sealspace runner generate" in refused.next
    assert "PROTECTED_MINE" not in (await desk.run("secret", "list")).out


async def test_what_is_not_generated(desk: Desk, stage: RunnerStage) -> None:
    """RN141, RN142: nothing is generated for an invalid name or type, or without a terminal."""
    await with_secret(desk)
    by = ("runner", "generate", stage.url)
    for arguments, part in (
        (("KEY", "--yes"), "must begin with PROTECTED_"),
        (("PROTECTED_KEY:base64", "--yes"), "unknown type"),
        (("PROTECTED_KEY:password:7", "--yes"), "unknown type"),
        (("PROTECTED_KEY", "PROTECTED_KEY:hex16", "--yes"), "named twice"),
        (tuple(f"PROTECTED_{number}" for number in range(17)), "1 to 16"),
        (("PROTECTED_KEY", "--scope", "default", "--yes"), "reserved"),
        (("PROTECTED_KEY",), "cannot ask for confirmation"),
        (("PROTECTED_KEY", "--expect", "00" * 48), "expected measurement"),
    ):
        ran = await desk.run(*by, *arguments)
        assert ran.status != 0 and part in ran.err and ran.out == "" and ran.next, (arguments, ran)
    assert "PROTECTED" not in (await desk.run("secret", "list")).out
    assert (await desk.run("network", "show", "protected")).status != 0


async def test_secrets_that_other_code_made(desk: Desk, stage: RunnerStage, tmp_path: Path) -> None:
    """RN149: a host that shows one runner and lets another answer is noticed, and the secret has to
    be deleted."""
    await with_secret(desk)
    async with AsyncExitStack() as stack:
        other = await stage.another(stack, tmp_path / "runner", image="other")

        async def relayed(request: web.Request) -> web.StreamResponse:
            behind = stage.url if request.path == EVIDENCE_PATH else other.url
            body, headers = await request.read(), {**request.headers}
            async with stage.http.request(
                request.method, behind + request.path_qs, data=body, headers=headers
            ) as answer:
                return web.Response(
                    status=answer.status, body=await answer.read(), content_type=answer.content_type
                )

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", relayed)
        url = await stack.enter_async_context(serving(app))
        ran = await desk.run("runner", "generate", url, "PROTECTED_KEY", "--yes")
    assert ran.status == EXIT_STATUS["backend-not-expected"] and ran.out == "", ran
    assert "delete the secrets: PROTECTED_KEY" in ran.err


async def test_a_private_program_is_shared(desk: Desk, stage: RunnerStage, tmp_path: Path) -> None:
    """RN152: a private program is shared with one runner, run there, and listed only for its
    developer."""
    await desk.log_in()
    private = ("project", "publish", "mine", program(tmp_path, ECHO), "--private")
    refused = await desk.run(*private)
    assert (refused.status, refused.next) == (
        EXIT_STATUS["not-granted"],
        "sealspace login --space projects",
    )
    desk.home = tmp_path / "second"
    await desk.log_in("--space", "projects", "--space", "public")
    owner = str(json.loads((await desk.run("whoami", "--json")).out)["owner"])
    share = ("project", "share", stage.url)
    assert (await desk.run(*share, "mine", "--yes")).status == EXIT_STATUS["not-there"]
    published = await desk.run(*private)
    assert published.status == 0 and "sealspace project share URL mine" in published.err
    assert (await desk.run("project", "list")).out.startswith("mine ")
    assert "wasm32-wasip1" in (await desk.run("project", "show", "mine")).out
    call = ("runner", "call", stage.url, f"{owner}/mine", "--input", "-")
    unknown = await desk.run(*call, given="hello")
    assert unknown.status != 0 and "program-unknown" in unknown.err
    assert "cannot ask for confirmation" in (await desk.run(*share, "mine")).err
    shared = await desk.run(*share, "mine", "--yes", "--json")
    assert shared.status == 0 and json.loads(shared.out)["granted"], shared
    assert (await desk.run(*call, given="hello")).out == "hello"
    again = await desk.run("project", "activate", "mine", "0" * 64, "--private")
    assert again.status == EXIT_STATUS["not-there"]


async def test_storage_of_a_project_is_shared(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """RN201: the option `--storage` lets a program store values, and the grant can be listed and
    revoked."""
    await desk.log_in("--space", "projects", "--space", "public")
    owner = str(json.loads((await desk.run("whoami", "--json")).out)["owner"])
    (tmp_path / "cells.wasm").write_bytes(guest("cells-wasip2").data)
    published = await desk.run("project", "publish", "cells", str(tmp_path / "cells.wasm"))
    assert published.status == 0, published
    approved, receipt = tmp_path / "approved.json", tmp_path / "receipt.json"
    approved.write_text((await desk.run("backend", "show", stage.url, "--json")).out)
    call = ("runner", "call", stage.url, f"{owner}/cells", "--input", "-")
    without = await desk.run(*call, given="set\ta\tone")
    assert "`sealspace project share URL NAME --storage`" in without.out
    shared = await desk.run("project", "share", stage.url, "cells", "--storage", "--yes", "--json")
    assert shared.status == 0 and json.loads(shared.out)["granted"], shared
    assert "storage/cells" in (await desk.run("grant", "list")).out
    called = await desk.run(*call, "--receipt", str(receipt), given="set\ta\tone\nget\ta")
    assert called.out == "\none\n"
    verified = await desk.run("verify", str(receipt), "--like", str(approved))
    assert verified.status == 17 and "written" in verified.out, verified
    assert (await desk.run("runner", "revoke", stage.url, "--yes")).status == 0
    assert "no storage" in (await desk.run(*call, given="get\ta")).out


async def test_a_runner_is_shown_with_what_was_granted_to_it(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """`backend show`, `grant list` and `grant show` describe a runner's programs, callers and
    hosts."""
    owner = await with_secret(desk)
    await desk.run("project", "publish", "digest", program(tmp_path))
    before = await desk.run("backend", "show", stage.url)
    assert "runs programs of others" in before.out and "you granted" not in before.out
    assert f"sealspace runner grant {stage.url} --secret NAME --program DID/NAME" in before.err
    granted = await desk.run(
        *("runner", "grant", stage.url, "--secret", "API_KEY", "--program", "digest", "--follow"),
        *("--caller", SOMEBODY, "--host", "api.example.com", "--max-memory-mb", "64", "--yes"),
    )
    assert granted.status == 0, granted
    said = (
        f"for {owner}/digest, whatever version its developer makes the active one; called by"
        f" {SOMEBODY} alone, or with its API keys; sends to api.example.com; at most maxMemoryMb 64"
    )
    (line,) = (
        one
        for one in (await desk.run("backend", "show", stage.url)).out.splitlines()
        if "you granted" in one
    )
    assert "API_KEY until" in line and said in line
    shown = json.loads((await desk.run("backend", "show", stage.url, "--json")).out)
    assert shown["isRunner"] is True
    (listed,) = json.loads((await desk.run("runner", "list", "--json")).out)
    assert [one["run"] for one in shown["runGrants"]] == [listed["run"]]
    (row,) = (
        one
        for one in json.loads((await desk.run("grant", "list", "--json")).out)
        if one["cid"] == listed["cid"]
    )
    assert row["run"] == listed["run"] and said in (await desk.run("grant", "list")).out
    words = (await desk.run("grant", "show", listed["cid"])).out.splitlines()
    for part in ("callers: ", "it may send to: api.example.com", "limits of a run: maxMemoryMb 64"):
        assert any(one.startswith("runs") and part in one for one in words), words
    assert "api.example.com" in (await desk.run("runner", "list")).out


async def test_a_key_from_its_making_to_its_end(
    desk: Desk, stage: RunnerStage, tmp_path: Path
) -> None:
    """An API key is created, used, listed and revoked, and is printed only once."""
    owner = await with_secret(desk)
    await desk.run("project", "publish", "echo", program(tmp_path, ECHO))
    create = ("runner", "keys", "create", stage.url)
    assert "ask its operator for an account" in (await desk.run(*create, "--project", "echo")).err
    credit = (
        "runner",
        "credit",
        owner,
        "2000",
        "--data",
        str(stage.runner_folder),
        "--reference",
        "first",
    )
    for _ in range(2):  # once for each reference
        assert json.loads((await desk.run(*credit, "--json")).out)["balance"] == "2000"
    made = await desk.run(*create, "--project", "echo", "--expires", "1d")
    assert made.status == 0, made
    (tmp_path / "key").write_text(made.out)
    owner_text, nonce, secret = made.out.strip().rsplit(":", 2)
    assert owner_text == owner and secret not in made.err
    call = ("runner", "call", stage.url, "echo", "--key", str(tmp_path / "key"), "--input", "-")
    (tmp_path / "key").chmod(0o644)
    refused = await desk.run(*call, given='{"a": 1}')
    assert (refused.status, refused.next) == (10, f"chmod 600 {tmp_path / 'key'}")
    (tmp_path / "key").chmod(0o600)
    assert (await desk.run(*call, given='{"a": 1}')).out.strip() == '{"a": 1}'
    listed = await desk.run("runner", "keys", "list", stage.url)
    assert (
        nonce in listed.out
        and "balance 2000" in listed.err
        and secret not in listed.out + listed.err
    ), listed
    assert (await desk.run("runner", "keys", "revoke", stage.url, nonce, "--yes")).status == 0
    refused = await desk.run(*call, given="1")
    assert refused.status == 1 and refused.err.startswith("sealspace: key-refused: "), refused
    assert (await desk.run("runner", "keys", "revoke", stage.url, "7", "--yes")).status != 0
    for wrong in (
        create,
        (*create, "--any-project", "--project", "echo"),
        (*create, "--any-project", "--expires", "91d"),
    ):
        ran = await desk.run(*wrong)
        assert ran.status == 2 and len(ran.err.splitlines()) == 2, ran
    (tmp_path / "key").write_text("no key")
    assert (await desk.run(*call, given="1")).status == 2
    elsewhere = await desk.run("runner", "credit", owner, "1", "--data", str(tmp_path))
    assert (
        "cannot connect to the runner" in elsewhere.err and len(elsewhere.err.splitlines()) == 2
    ), elsewhere
