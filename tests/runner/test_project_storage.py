"""Storage of a project's programs (RN200 to RN206)."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import wasmtime
from aiohttp import web
from guest_programs import guest
from relay import relay_before
from runner_stage import RunnerStage, runner_stage
from tests_support import REPOSITORY

from runner.calls.run_receipts import RECEIPT_TYPE, verify_run
from runner.guest.guest_storage import TYPE
from sealspace.apps.backends import deliver
from sealspace.apps.programs import Target
from sealspace.documents.run_grants import STORAGE_FOLDER
from sealspace.documents.signed_statements import sign_statement
from sealspace.errors import StatementInvalid
from sealspace.wire.portable import PortableDelegation

P2: Target = "wasm32-wasip2"
NO_KEY = "a key has 1 to 128 bytes"
NO_SUM = "the stored value is not a number of 8 bytes, or the sum does not fit into 64 bits"
NO_STORAGE = (
    "error: no storage: call the program by its project, and let its developer grant storage with"
    " `sealspace project share URL NAME --storage`; grants of secrets must name the project too"
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module; each test has a project of its own."""
    async with AsyncExitStack() as stack:
        yield await runner_stage(stack, tmp_path_factory.mktemp("runner"))


def distinct(name: str) -> bytes:
    """Return the program that stores values with other bytes, by an added custom section."""
    said = bytes([len(name)]) + name.encode()
    return guest("cells-wasip2").data + bytes([0, len(said)]) + said


async def shared(stage: RunnerStage, name: str) -> PortableDelegation:
    """Publish the program that stores values, and let the runner keep its storage."""
    if name not in stage.published:
        await stage.publish(name, distinct(name), target=P2)
    portable = await stage.owner.runners.share_project(
        await stage.look(), name, folder=STORAGE_FOLDER, wallet=stage.wallet
    )
    await deliver(stage.url, portable)
    return portable


async def called(
    stage: RunnerStage, name: str, *operations: str, **about: Any
) -> tuple[int, dict[str, Any]]:
    """Have the program perform operations."""
    return await stage.call(name, input="\n".join(operations).replace(" ", "\t"), **about)


async def stored(stage: RunnerStage, name: str, *operations: str, **about: Any) -> list[str]:
    """Have the program perform operations; return a line for each."""
    _, answer = await called(stage, name, *operations, **about)
    assert answer["status"] == "completed", answer
    return str(answer["output"]).splitlines()


def code(answered: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answered[0], answered[1]["error"]["code"]


async def folder_of(stage: RunnerStage, name: str) -> str:
    """Return the folder in which the default caller's values of a project are."""
    await stored(stage, name, "set first x")
    prefix = f"storage/{name}/"
    (path,) = [path async for path in stage.owner.kv("projects").list(prefix)]
    return path.removesuffix(b"first".hex())


async def test_values_stay_from_run_to_run(stage: RunnerStage) -> None:
    """RN200: a later run of the same caller, of any version, reads what an earlier one wrote."""
    await shared(stage, "kept")
    first = ["get a", "has a", "set a one", "has a"]
    assert await stored(stage, "kept", *first) == ["", "false", "", "true"]
    await stage.publish("kept", distinct("kept, version 2"), target=P2)
    second = ["get a", "set b two", "list-keys ", "delete a", "delete a"]
    assert await stored(stage, "kept", *second) == ["one", "", '["a","b"]', "true", "false"]
    third = ["get a", "has a", "list-keys b", "list-keys c"]
    assert await stored(stage, "kept", *third) == ["", "false", '["b"]', "[]"]


async def test_conditional_writes(stage: RunnerStage) -> None:
    """RN204: each conditional write compares with the stored value."""
    await shared(stage, "conditional")
    assert await stored(
        stage,
        "conditional",
        "set-if-absent a one",
        "set-if-absent a two",
        "set-if-equals a two three",
        "set-if-equals a one three",
        "set-if-equals absent  x",
        "get a",
    ) == ["true", "false", "false one", "true ", "false ", "three"]
    most = 2**63 - 1
    assert await stored(
        stage,
        "conditional",
        "increment n 5",
        "decrement n 7",
        f"decrement n {-most - 1}",
        f"increment n {most}",
        "increment n 3",
        "set m seven",
        "increment m 1",
        "get m",
    ) == [
        "5",
        "-2",
        str(most - 1),
        f"error: {NO_SUM}",
        f"error: {NO_SUM}",
        "",
        f"error: {NO_SUM}",
        "seven",
    ]


async def test_parallel_increments_add_up(stage: RunnerStage, tmp_path: Path) -> None:
    """RN204: increments of several runners at one time count exactly."""
    await shared(stage, "counter")
    async with AsyncExitStack() as stack:
        runners = [stage]
        for name in ("second", "third"):
            runners.append(await stage.another(stack, tmp_path / name))
            await shared(runners[-1], "counter")
        ran = await asyncio.gather(
            *(stored(one, "counter", *["increment n 1"] * 12) for one in runners for _ in range(2))
        )
        sums = [line for lines in ran for line in lines if not line.startswith("error: ")]
        assert sorted(map(int, sums)) == [*range(1, len(sums) + 1)]
        assert await stored(stage, "counter", "decrement n 0") == [str(len(sums))]


async def test_bounds(stage: RunnerStage) -> None:
    """RN203: the sizes of keys, values and lists, and the number of operations of a run, are
    limited."""
    await shared(stage, "bounds")
    folder = await folder_of(stage, "bounds")
    long, size = "k" * 128, 256 * 1024
    assert await stored(
        stage, "bounds", f"set {long} x", f"set {long}k x", "set  x", f"get {long}k"
    ) == ["", f"error: {NO_KEY}", f"error: {NO_KEY}", f"error: {NO_KEY}"]
    lines = await stored(
        stage, "bounds", f"set a *{size}", f"set a *{size + 1}", "set a *2000000", "get a"
    )
    assert lines == [
        "",
        f"error: a value has at most {size} bytes",
        "error: the operation is malformed, or could not be performed",
        "x" * size,
    ]
    lines = await stored(stage, "bounds", "set n 1", f"set-if-equals a *{size} *{size}", "get n")
    assert lines == ["", "true ", "1"]
    assert (await stored(stage, "bounds", "REPEAT 128 get n", "get n")) == [
        "1",
        "error: a run may perform 128 storage operations",
    ]
    for operations, reason in (
        (["REPEAT 130 get n"], "run-crashed"),
        (["REPEAT 129 has n"], "guest-trap"),
        (["has ", "get n"], "guest-trap"),
    ):
        assert code(await called(stage, "bounds", *operations)) == (200, reason)
    space = stage.owner.kv("projects")
    await space.put_many({f"{folder}{b'many'.hex()}{number:06x}": b"" for number in range(1001)})
    assert await stored(stage, "bounds", "list-keys many", "list-keys n") == [
        "error: too many keys begin with this prefix",
        '["n"]',
    ]


@pytest.mark.slow
async def test_RN203_a_folder_with_many_keys(stage: RunnerStage) -> None:
    """RN203: `list-keys` finds a key among 10,000, and fails with one more."""
    await shared(stage, "many")
    folder = await folder_of(stage, "many")  # with the key `first`
    space = stage.owner.kv("projects")
    names = [f"{number:05}" for number in range(9_999)]
    await space.put_many({folder + name.encode().hex(): b"" for name in names})
    assert await stored(stage, "many", "list-keys f", "list-keys 0042", "list-keys ") == [
        '["first"]',
        json.dumps([f"0042{digit}" for digit in range(10)], separators=(",", ":")),
        "error: too many keys begin with this prefix",
    ]
    await space.put(folder + b"zero".hex(), b"")
    assert await stored(stage, "many", "list-keys f", "get first") == [
        "error: too many keys are stored to list them",
        "x",
    ]


async def test_runs_without_storage(stage: RunnerStage) -> None:
    """RN201: a program that is called without a live grant, or by its hash, cannot use storage."""
    version = await stage.publish("none", distinct("none"), target=P2)
    by_hash = {"source": {"wasmSha256": version.sha256}}
    assert await stored(stage, "none", "get a", "set a x", "list-keys ") == [NO_STORAGE] * 3
    assert code(await called(stage, "none", "has a")) == (200, "guest-trap")
    assert code(await called(stage, "none", "delete a")) == (200, "guest-trap")
    portable = await shared(stage, "none")
    assert await stored(stage, "none", "set a x", "get a") == ["", "x"]
    assert await stored(stage, "none", "get a", "increment n 1", **by_hash) == [NO_STORAGE] * 2
    await stage.owner.delegations.revoke_by_wallet(portable, stage.wallet)
    for _ in range(2):  # as the node says, and then as the runner knows
        assert await stored(stage, "none", "get a", "set-if-absent b x") == [NO_STORAGE] * 2
    await shared(stage, "none")
    assert await stored(stage, "none", "get a", "get b") == ["x", ""]


@pytest.mark.parametrize(
    ("operations", "state"),
    [
        (["get a", "has a", "list-keys "], "none"),
        (["set-if-equals a two x", "delete nothing"], "none"),
        (["set  x"], "none"),
        (["set a one"], "written"),
        (["increment n 1", "set  x"], "written"),
        (["set a one", "REPEAT 130 get a"], "written"),
    ],
)
async def test_receipts_say_whether_a_run_wrote(
    stage: RunnerStage, operations: list[str], state: str
) -> None:
    """RN206: the receipt says that a run wrote, also where it failed afterwards."""
    await shared(stage, "receipts")
    _, answer = await called(stage, "receipts", *operations)
    receipt = json.dumps(answer["receipt"]).encode()
    verified = await verify_run(receipt, stage.runner.identity.start, stage.inspector)
    assert verified.stated["storage"] == state


async def test_a_conditional_write_whose_end_is_unknown(stage: RunnerStage, tmp_path: Path) -> None:
    """RN204, RN206: an increment whose outcome is unknown is not repeated, and the receipt says
    `unknown`."""
    name = "unknown"
    await stage.publish(name, distinct(name), target=P2)
    async with relay_before(stage.node.url) as relay, AsyncExitStack() as stack:
        there = replace(stage, node=replace(stage.node, url=relay.url))
        far = await there.another(stack, tmp_path / "runner")
        await shared(far, name)

        async def lose(request: web.Request) -> None:
            is_write = "If-None-Match" in request.headers
            relay.twist = lambda answer: setattr(
                answer, "status", 503 if is_write else answer.status
            )

        relay.hold = lose
        _, answer = await called(far, name, "increment n 1")
        assert answer["receipt"]["statement"]["storage"] == "unknown"
        assert await stored(far, name, "get n") == ["\1\0\0\0\0\0\0\0"]


async def test_receipts_of_former_releases(stage: RunnerStage) -> None:
    """RN206: a receipt without the member is valid, one with another member is not."""
    await shared(stage, "receipts")
    _, answer = await called(stage, "receipts", "get a")
    identity, stated = stage.runner.identity, answer["receipt"]["statement"]
    del stated["storage"]
    former = sign_statement(RECEIPT_TYPE, stated, identity.receipt_key)
    assert "storage" not in (await verify_run(former, identity.start, stage.inspector)).stated
    for changed in (stated | {"store": "none"}, {**stated, "storage": "none", "store": "none"}):
        receipt = sign_statement(RECEIPT_TYPE, changed, identity.receipt_key)
        with pytest.raises(StatementInvalid):
            await verify_run(receipt, identity.start, stage.inspector)


IMPORTS = """(component
  (import "near:storage/api@0.1.0" (instance {functions}))
  (core module $one (func (export "run") (result i32) i32.const 0))
  (core instance $a (instantiate $one))
  (func $run (result (result)) (canon lift (core func $a "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))"""


@pytest.mark.parametrize(
    ("functions", "named"),
    [
        ('(export "get-by-version" (func (param "key" string)))', " get-by-version"),
        ('(export "set-worker" (func (param "key" string) (result string)))', " set-worker"),
        ('(export "get" (func (param "key" string) (result string)))', " get"),
        ("", ""),
    ],
)
async def test_functions_that_are_not_offered(
    stage: RunnerStage, functions: str, named: str
) -> None:
    """RN205: a program that imports another function is refused, and the refusal names it."""
    name = f"wants{named.replace(' ', '-') or '-nothing'}"
    wasm = bytes(wasmtime.wat2wasm(IMPORTS.format(functions=functions)))
    await stage.publish(name, wasm, target=P2)
    status, answer = await stage.call(name)
    assert (status, answer["error"]["code"]) == (400, "program-imports")
    assert answer["error"]["detail"] == f"near:storage/api@0.1.0{named}"


async def test_the_interface_is_the_one_that_is_published() -> None:
    """RN200: the WIT file has exactly the functions that a component may import."""
    wit = (REPOSITORY / "spec" / "runner" / "storage.wit").read_text()
    declared = re.findall(r"^  ([a-z-]+): func", wit, re.MULTILINE)
    assert declared == re.findall('export "(.*?)"', TYPE)
