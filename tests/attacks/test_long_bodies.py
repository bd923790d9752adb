"""Long request bodies, which cost a runner seconds to check (RN251)."""

import asyncio
import io
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import pytest_asyncio
from guest_programs import children
from patience import PATIENCE_S, until
from runner_stage import ECHO, RunnerStage, runner_stage

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import Principal
from runner.calls import calls
from runner.calls.call_bodies import API_SHAPE, RUN_SHAPE
from runner.calls.prices import Price
from runner.guest import bodies
from runner.guest.body_split import BodyRefused, BodyShape, split_body
from runner.reasons import RunRefused
from sealspace.apps.api_keys import KEY_HEADER
from sealspace.apps.run_calls import call_headers
from sealspace.session import key_session
from serving.shares import Payer

COSTLY = b'{"input": [' + b'{"a":1},' * 2_400_000 + b"1]}"
"""19 MB that take the checks 2 s of processor time; refused as too long an input."""
LENGTHY = b'{"input": [' + b'{"a":1},' * 500_000 + b"1]}"
"""4 MB that take the checks a fifth of that time."""
LISTS = b'{"input": [' + b"[], " * 20_000 + b"1]}"
SOURCE = b'{"source": {"wasmSha256": "' + b"ab" * 32 + b'"}, '
PAYER = Payer(Principal("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"))

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """A runner whose calls are free, and a published program."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"))
        await staged.publish("echo", ECHO)
        yield staged


def refused_or_split(data: bytes, shape: BodyShape) -> tuple[bytes, bytes] | tuple[str, str]:
    """Separate a request body in this process, and return the result or the refusal."""
    try:
        return split_body(data, shape)
    except BodyRefused as refused:
        return refused.code, RunRefused(refused.code, refused.detail).reason.detail


def run_request(stage: RunnerStage, input_json: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the signed request of a stranger, with any JSON as its input."""
    program = f"{stage.developer}/echo"
    body = b'{"source": {"project": "%s"}, "input": %s}' % (program.encode(), input_json)
    headers = call_headers(
        key_session(SystemEntropy().token(32)),
        runner=stage.at,
        program=program,
        body=body,
        now=SystemClock().now(),
        entropy=SystemEntropy(),
    )
    return body, headers


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (LISTS, API_SHAPE),
        (b'{"a": ' + LISTS + b"}", API_SHAPE),
        (b'{"input": "' + "é☂😀".encode() * 9_000 + b'", "async": true}', API_SHAPE),
        (SOURCE + b'"input": "' + b"\\u00e9x" * 9_000 + b'"}', RUN_SHAPE),
        (SOURCE + b'"inputBase64": "' + b"QUJD" * 9_000 + b'", "nonce": "1"}', RUN_SHAPE),
        (LISTS[:-1], API_SHAPE),
        (b'{"input": "' + b"\xff" * 40_000 + b'"}', API_SHAPE),
        (b'{"input": ' + b"[" * 65 + b"]" * 65 + b" " * 40_000 + b"}", API_SHAPE),
        (b'{"input": 1, "more": "' + b"x" * 40_000 + b'"}', API_SHAPE),
        (b'{"input": 1, "secrets_ref": "' + b"x" * 80_000 + b'"}', API_SHAPE),
        (b'{"input": "' + b"x" * 10_000_001 + b'"}', API_SHAPE),
        (SOURCE + b'"input": "' + b"x" * 40_000 + b'", "input": "y"}', RUN_SHAPE),
        (SOURCE + b'"input": [' + b"1," * 40_000 + b"1]}", RUN_SHAPE),
        (b" " * 20_000_001, RUN_SHAPE),
        (b"[" + b"1," * 40_000 + b"1]", RUN_SHAPE),
        (b'{"input": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", API_SHAPE),
        (SOURCE + b'"input": ' + b'{"a":' * 200_000 + b"1" + b"}" * 200_001, RUN_SHAPE),
        (b'{"input": [' + b"NaN, " * 20_000 + b"1]}", API_SHAPE),
        (b'{"input": {"a": 1, "b": "' + b"x" * 40_000 + b'", "a": 2}}', API_SHAPE),
        (b'{"input": "' + b"\\ud800" * 8_000 + b'"}', API_SHAPE),
        (b"\0" * 40_000, API_SHAPE),
        (b"\xef\xbb\xbf" + LISTS, API_SHAPE),
    ],
    ids=range(22),
)
async def test_a_child_separates_as_the_runner_does(
    stage: RunnerStage, data: bytes, shape: BodyShape
) -> None:
    """RN251: a child separates a long body exactly as the runner does, or refuses it likewise."""
    here = refused_or_split(data, shape)
    try:
        there = await stage.runner.executor.bodies.split(data, shape, PAYER, within_s=60.0)
    except RunRefused as refused:
        assert (refused.reason.code, refused.reason.detail) == here
    else:
        assert there == here


async def test_a_costly_body_is_not_parsed_on_the_event_loop(stage: RunnerStage) -> None:
    """RN251: checking a long body takes a fraction of its processor time on the event loop's
    thread."""
    begun_s = time.thread_time()
    with suppress(BodyRefused):
        split_body(COSTLY, API_SHAPE)
    inline_s = time.thread_time() - begun_s
    key = await stage.key("echo")
    begun_s = time.thread_time()
    # As a stream: aiohttp warns of bodies of this length that are passed as bytes.
    url, headers = f"{stage.url}/call/{stage.developer}/echo", {KEY_HEADER: key}
    async with stage.http.post(url, data=io.BytesIO(COSTLY), headers=headers) as response:
        refusal = await response.json()
    # The client and the listener are in this thread, too.
    assert time.thread_time() - begun_s < inline_s / 3
    assert (response.status, refusal["code"]) == (413, "input-too-large")


async def test_long_inputs_reach_the_program(stage: RunnerStage) -> None:
    """RN251: a call with a long body is answered as one with a short body."""
    key = await stage.key("echo")
    text = "x" * 60_000
    status, answer = await stage.api("echo", key, {"input": text, "response_format": "Text"})
    assert (status, answer["output"]) == (200, f'"{text}"')
    body, headers = run_request(stage, json.dumps(text).encode())
    status, answer = await stage.post(body, headers)
    assert (status, answer["output"]) == (200, text)
    request = {"input": text, "response_format": "Text", "async": True}
    _, answer = await stage.api("echo", key, request)
    assert (await stage.polled(answer["call_id"], key))[1]["output"] == f'"{text}"'


async def _without_end() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


async def test_a_payer_without_balance_has_nothing_parsed(
    stage: RunnerStage, tmp_path: Path
) -> None:
    """RN251: a call that its payer cannot afford is refused before its body is parsed."""
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", price=Price(call=1000))
        key = await runner.key("echo", max_per_call=1000)
        forked = runner.runner.executor.bodies.forked
        broken = b'{"input": [' + b"[]," * 20_000
        assert (await runner.api("echo", key, broken))[1]["code"] == "balance-too-low"
        status, answer = await runner.post(*run_request(runner, b"[" + b"1," * 20_000))
        assert (status, answer["error"]["code"]) == (402, "balance-too-low")
        assert runner.runner.executor.bodies.forked == forked
        # Nor is it read: such bodies would take the memory for those of others.
        async with (
            asyncio.timeout(PATIENCE_S),
            runner.http.post(
                f"{runner.url}/call/{runner.developer}/echo",
                data=_without_end(),
                headers={"X-Payment-Key": key},
            ) as answered,
        ):
            assert answered.status == 402
        await runner.credit(1000)
        assert (await runner.api("echo", key, broken))[1]["code"] == "request-invalid"
        assert await runner.account() == {"balance": 1000, "reserved": 0, "charged": 0}


async def test_a_refused_body_costs_its_token(stage: RunnerStage) -> None:
    """RN251: a refused signed body uses up its token."""
    body, headers = run_request(stage, b"[" + b"1," * 20_000 + b"1]")
    forked = stage.runner.executor.bodies.forked
    assert (await stage.post(body, headers))[1]["error"]["code"] == "request-invalid"
    assert stage.runner.executor.bodies.forked == forked + 1
    assert (await stage.post(body, headers))[1]["error"]["code"] == "call-repeated"
    changed = body + b" "
    assert (await stage.post(changed, run_request(stage, b'""')[1]))[0] == 401
    assert stage.runner.executor.bodies.forked == forked + 1


async def test_a_refused_body_is_a_call_of_its_key(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN251: a refused body counts towards the key's calls per minute."""
    monkeypatch.setattr(calls, "PER_MINUTE", 2)
    key = await stage.key("echo")
    codes = [(await stage.api("echo", key, b"[]"))[1]["code"] for _ in range(3)]
    assert codes == ["request-invalid", "request-invalid", "too-many-calls"]


async def test_strangers_bodies_hold_up_no_key_holder(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN251: a long body of a known payer does not wait for those of unknown payers."""
    splitter = stage.runner.executor.bodies
    strangers = [Payer(Principal(f"did:key:z{number}"), is_known=False) for number in range(4)]
    ended = list[Payer]()

    async def separate(payer: Payer, data: bytes) -> None:
        with suppress(RunRefused):
            await splitter.split(data, API_SHAPE, payer, within_s=600.0)
        ended.append(payer)

    tasks = [asyncio.create_task(separate(one, LENGTHY)) for one in strangers]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(separate(PAYER, LISTS)))
    await asyncio.gather(*tasks)
    assert PAYER in ended[:2]  # beside at most one of theirs
    with pytest.raises(RunRefused, match="runner-busy"):
        async with splitter._places.acquire(PAYER):
            await splitter.split(LISTS, API_SHAPE, PAYER, within_s=0.0)


async def test_a_child_that_takes_too_long_is_ended(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN251: a child that gives no answer is ended, and the next body is parsed."""
    with monkeypatch.context() as patched:
        patched.setattr(bodies, "_SPLIT_S", 0.0)
        with pytest.raises(RunRefused) as raised:
            # Costly: on a busy machine a quick child can answer before this process runs again.
            await stage.runner.executor.bodies.split(COSTLY, API_SHAPE, PAYER, within_s=60.0)
    reason = raised.value.reason
    assert reason.code == "runner-busy"
    assert reason.status == 503
    assert "longer than 0 s" in reason.detail
    await until(lambda: not children(kind="_body_child"))
    key = await stage.key("echo")
    assert (await stage.api("echo", key, LISTS))[0] == 200


async def test_a_child_that_dies_keeps_no_place(stage: RunnerStage) -> None:
    """RN251: a body whose child is killed gets 503, and the next one is parsed."""
    splitter = stage.runner.executor.bodies
    # Those of former bodies are killed in the background, and may not have ended.
    await until(lambda: not children(kind="_body_child"))
    waiting = asyncio.create_task(splitter.split(COSTLY, API_SHAPE, PAYER, within_s=60.0))
    await until(lambda: bool(children(kind="_body_child")))
    for process in children(kind="_body_child"):
        os.kill(process, signal.SIGKILL)
    with pytest.raises(RunRefused) as raised:
        await waiting
    reason = raised.value.reason
    assert reason.code == "runner-failed"
    assert reason.status == 503
    await until(lambda: not children(kind="_body_child"))
    key = await stage.key("echo")
    assert (await stage.api("echo", key, LISTS))[0] == 200
