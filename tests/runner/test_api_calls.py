"""Tests of the HTTPS API: calls with keys, prices, and asynchronous answers (RN87 to RN98)."""

import asyncio
import json
import stat
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from patience import PATIENCE_S
from runner_stage import ECHO, ENVIRONMENT, TRAP, RunnerStage, failing, runner_stage

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.signatures import Ed25519Signer
from runner.calls import calls, kept_keys
from runner.calls.prices import Price
from runner.http import callers
from runner.http.operator_routes import ask_operator
from sealspace.apps.api_keys import new_api_key
from sealspace.apps.programs import ProgramManifest
from sealspace.documents.published import EVIDENCE_PATH, GRANTS_PATH
from sealspace.documents.run_grants import ByHash, RunStatement
from sealspace.errors import InvalidInput
from sealspace.session import key_session
from tee_backend.backend_errors import FolderUnusable

PRICE = Price(call=1000, million_instructions=1, second=1)
CREDIT = 1_000_000
KEYS: dict[str, str] = {}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """A runner with prices, for the tests of this module."""
    async with AsyncExitStack() as stack:
        staged = await runner_stage(stack, tmp_path_factory.mktemp("runner"), price=PRICE)
        await staged.publish("echo", ECHO)
        await staged.publish("trap", TRAP)
        await staged.publish("environment", ENVIRONMENT)
        await staged.credit(CREDIT)
        yield staged


async def test_a_key_calls_and_its_owner_pays(stage: RunnerStage) -> None:
    """RN93, RN94, RN96: a call with a key costs its owner only the price of the used resources."""
    before = await stage.account()
    status, answer = await stage.api("echo", await stage.key("echo"), {"input": {"n": [1, 2.50]}})
    assert status == 200, answer
    assert (
        answer["output"] == {"n": [1, 2.5]}
        and answer["status"] == "completed"
        and answer["error"] is None
    )
    cost = int(answer["compute_cost"])
    assert (
        cost == PRICE.cost(instructions=answer["instructions"], time_ms=answer["time_ms"]) >= 1001
    )
    after = await stage.account()
    assert after == {
        **before,
        "balance": before["balance"] - cost,
        "charged": before["charged"] + cost,
    }
    async with stage.http.get(stage.url + answer["attestation_url"]) as got:
        assert (await got.json())["statement"]["job"] == answer["call_id"]


async def test_later(stage: RunnerStage) -> None:
    """RN98: an asynchronous answer is given to the call's key and to the key's owner."""
    key = await stage.key("echo")
    status, answer = await stage.api("echo", key, {"input": [1], "async": True})
    assert (status, answer["status"]) == (200, "pending")
    assert answer["poll_url"] == f"/calls/{answer['call_id']}"
    status, done = await stage.polled(answer["call_id"], key)
    assert status == 200
    assert done["status"] == "completed"
    assert done["output"] == [1]


async def test_failed_runs_cost_and_refused_ones_do_not(stage: RunnerStage) -> None:
    """RN94: a program that traps is charged; an unknown program is not."""
    key = await stage.key(None)
    before = await stage.account()
    status, answer = await stage.api("trap", key)
    assert status == 200
    assert answer["status"] == "failed"
    assert answer["code"] == "guest-trap"
    assert int(answer["compute_cost"]) == 1001 and answer["output"] is None
    status, answer = await stage.api("absent", key)
    assert status == 404
    assert answer["code"] == "program-unknown"
    assert answer["compute_cost"] == "0"
    assert before["balance"] - (await stage.account())["balance"] == 1001


async def test_RN263_a_key_gets_the_output_of_a_program_that_failed(stage: RunnerStage) -> None:
    """RN263: `output` and its format are in the answer to a key, in the list of calls neither."""
    await stage.publish("complains", failing("complains", "guest-exit"))
    key = await stage.key("complains")
    status, answer = await stage.api("complains", key, {"input": "secret 1 is missing"})
    assert (status, answer["status"], answer["code"]) == (200, "failed", "guest-exit")
    assert (answer["output"], answer["output_format"]) == ("secret 1 is missing", "Json")
    assert answer["stderr"] == "complains failed"
    (told,) = (await usage(stage, key))["usage"]
    assert not {"output", "output_format"} & told.keys()


@pytest.mark.parametrize(
    ("members", "refused"),
    [
        ({"input": 1, "more": 1}, "request-invalid"),
        ({"prompt": "Hello", "async": True}, "request-invalid"),
        ({"async": True}, "request-invalid"),
        ({"input": 1, "async": "yes"}, "request-invalid"),
        ({"input": 1, "response_format": "Xml"}, "request-invalid"),
        ({"input": 1, "resource_limits": {"max_instructions": "5"}}, "request-invalid"),
        ({"input": 1, "resource_limits": {"maxInstructions": 5}}, "request-invalid"),
        ({"input": 1, "resource_limits": {"max_execution_seconds": 0}}, "limits-invalid"),
        ({"input": 1, "secrets_ref": {"profile": "default"}}, "request-invalid"),
        (
            {"input": 1, "secrets_ref": {"profile": "default", "account_id": "alice.near"}},
            "request-invalid",
        ),
        (
            {"input": 1, "secrets_ref": {"profile": "A b", "account_id": "0x" + "1" * 40}},
            "bad-profile",
        ),
        ({"input": 1, "version_key": "main"}, "request-invalid"),
        ({"input": 1, "use_bound_identity": True}, "request-invalid"),
        ([], "request-invalid"),
        (b'{"a": [' + b"[" * 5000 + b"]" * 5000 + b"]}", "request-invalid"),
        (b'{"a": 1} {"input": 1}', "request-invalid"),
        (b"{", "request-invalid"),
        (b"", "request-invalid"),
        (b'{"input": "\xff"}', "request-invalid"),
        (b'{"input": ' + b"[" * 5000 + b"]" * 5000 + b"}", "request-invalid"),
        (b'{"input": 1, "resource_limits": {"x": "' + b"x" * 70_000 + b'"}}', "request-invalid"),
    ],
    ids=range(21),
)
async def test_bodies_that_are_refused(stage: RunnerStage, members: Any, refused: str) -> None:
    """RN96, RN230: unknown members beside known ones, and values, are refused and cost nothing."""
    status, answer = await stage.api("echo", await shared_key(stage), members)
    assert (status, answer["code"]) == (400, refused)
    assert isinstance(answer["error"], str) and answer.get("compute_cost", "0") == "0"


async def shared_key(stage: RunnerStage) -> str:
    """One key for any project, shared by the cases of a test."""
    if "shared" not in KEYS:
        KEYS["shared"] = await stage.key(None, profiles=["default"])
    return KEYS["shared"]


async def test_formats_and_the_curl_of_the_first_page(stage: RunnerStage) -> None:
    """RN96, RN230: the input is compact JSON, also bare; output is JSON, or text on request."""
    key = await shared_key(stage)
    for body, output in (
        (b'{"input": { "a" : [ 1 , "x y" ] } }', {"a": [1, "x y"]}),
        (b'{"input": null}', None),
        (b'{ "prompt": "Hello" }', {"prompt": "Hello"}),
        (b"{}", {}),
        (b'{"input": { "a" : 1e999 }, "response_format": "Text"}', '{"a":1e999}'),
    ):
        status, answer = await stage.api("echo", key, body, Content_Type="application/json")
        assert (status, answer["output"]) == (200, output), answer
    version = stage.published["echo"].sha256
    assert (await stage.api("echo", key, {"input": 1, "version_key": version}))[1]["output"] == 1
    address = stage.developer.rpartition(":")[2]
    assert (await stage.api("echo", key, {"input": 1}, owner=address))[1]["output"] == 1


async def test_refusals_by_status(stage: RunnerStage) -> None:
    """RN89, RN96: each kind of refused call has the status and code in the table."""
    key, scoped = await shared_key(stage), await stage.key("trap")
    dear = await stage.key("echo", max_per_call=10**9)
    owner, nonce, secret = key.rsplit(":", 2)
    wrong = f"{owner}:{nonce}:{'0' * 64}"
    cases: list[tuple[str | None, dict[str, str], int, str]] = [
        (None, {}, 401, "key-refused"),
        ("x:y", {}, 400, "key-malformed"),
        (wrong, {}, 401, "key-refused"),
        (f"{owner}:{int(nonce) ^ 1}:{secret}", {}, 401, "key-refused"),
        (scoped, {}, 403, "key-project"),
        (key, {"X_Compute_Limit": "1000"}, 400, "compute-limit"),
        (key, {"X_Compute_Limit": "100001"}, 400, "key-per-call"),
        (key, {"X_Compute_Limit": "-1"}, 400, "request-invalid"),
        (key, {"X_Compute_Limit": "1e4"}, 400, "request-invalid"),
        (key, {"X_Attached_Deposit": "5"}, 400, "request-invalid"),
        (key, {"X_Use_Owner_Secret": "1"}, 400, "request-invalid"),
        (dear, {"X_Compute_Limit": str(10**9)}, 402, "balance-too-low"),
    ]
    before = await stage.account()
    for shown, headers, status, code in cases:
        got, answer = await stage.api("echo", shown, **headers)
        assert got == status, (headers, answer)
        assert answer["code"] == code, (headers, answer)
        assert secret not in json.dumps(answer)
    assert await stage.account() == before
    assert (await stage.api("echo", key, X_Attached_Deposit="0", X_Compute_Limit="1001"))[0] == 200
    for name, owner_text in (
        ("Echo", stage.developer),
        ("echo", "alice.near"),
        ("none", stage.developer),
    ):
        status, answer = await stage.api(name, key, owner=owner_text)
        assert (status, answer["code"]) == (404, "program-unknown")


async def usage(stage: RunnerStage, key: str) -> dict[str, Any]:
    async with stage.http.get(
        f"{stage.url}/payment-keys/usage", headers={"X-Payment-Key": key}
    ) as answer:
        assert answer.status == 200, await answer.text()
        return json.loads(await answer.read())


async def test_refusals_have_one_shape(stage: RunnerStage) -> None:
    """RN231: refusals on OutLayer's routes have a sentence and a code, also without a handler."""
    key, call = await shared_key(stage), f"/call/{stage.developer}/echo"
    keyed, long = {"X-Payment-Key": key}, {"Content-Length": "99999999", "Connection": "close"}
    for method, path, headers, status, code in (
        ("GET", call, {}, 405, "method-not-allowed"),
        ("POST", "/call/echo", {}, 404, "not-found"),
        ("POST", call, long, 401, "key-refused"),
        ("POST", call, {**keyed, **long}, 413, "input-too-large"),
        ("GET", "/calls/7", keyed, 404, "not-found"),
        ("DELETE", "/calls/7", keyed, 405, "method-not-allowed"),
        ("GET", "/attestations/7", {}, 404, "not-found"),
        ("GET", "/payment-keys/balance", {}, 401, "key-refused"),
        ("GET", "/payment-keys/usage", {"X-Payment-Key": "x"}, 400, "key-malformed"),
        ("GET", "/payment-keys/none", keyed, 404, "not-found"),
        ("GET", f"/public/payment-keys/{stage.developer}/1/balance", {}, 404, "not-found"),
    ):
        async with stage.http.request(method, stage.url + path, headers=headers) as answer:
            said = json.loads(await answer.read())
        assert (answer.status, said.pop("code")) == (status, code), path
        assert list(said) == ["error"] and isinstance(said["error"], str), path
        assert (status == 405) == ("Allow" in answer.headers)
    for path in ("/calls/7", "/receipts/7", "/nothing"):
        async with stage.http.get(stage.url + path) as answer:
            assert (await answer.json())["error"]["code"] == "not-found"


async def test_what_a_key_s_holder_is_told(stage: RunnerStage) -> None:
    """RN232, RN233: a key's holder can read the account's balance and the cost of the key's last
    calls."""
    key, other = await stage.key("echo"), await stage.key(None)
    job = (await stage.api("echo", key, {"input": 1, "async": True}))[1]["call_id"]
    ended = [(await stage.polled(job, key))[1]]
    ended += [(await stage.api("echo", key))[1], (await stage.api("trap", other))[1]]
    calls = (await usage(stage, key))["usage"]
    assert [one["call_id"] for one in calls] == [ended[1]["call_id"], job]
    for told, answer in zip(reversed(calls), ended, strict=False):
        assert told == {name: answer[name] for name in told}
        assert {*answer} - {*told} == {"output", "salt"}
    (trap,) = (await usage(stage, other))["usage"]
    assert trap["status"] == "failed"
    assert trap["code"] == "guest-trap"
    assert trap["compute_cost"] == "1001"
    assert trap["project_id"] == f"{stage.developer}/trap"
    account = await stage.account()
    async with stage.http.get(
        f"{stage.url}/payment-keys/balance", headers={"X-Payment-Key": key}
    ) as got:
        assert await got.json() == {
            "owner": stage.developer,
            "nonce": int(key.rsplit(":", 2)[1]),
            "initial_balance": str(CREDIT),
            "spent": str(account["charged"]),
            "reserved": "0",
            "available": str(account["balance"]),
            "is_grant": False,
        }


async def test_lists_of_calls_count_as_calls(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN233, RN97: a request for the list of calls counts as one call of its key."""
    monkeypatch.setattr(calls, "PER_MINUTE", 3)
    key, other = await stage.key("echo"), await stage.key("echo")
    statuses = list[int]()
    for _ in range(6):
        async with stage.http.get(
            f"{stage.url}/payment-keys/usage", headers={"X-Payment-Key": key}
        ) as answer:
            statuses.append(answer.status)
    assert statuses[:3] == [200] * 3 and 429 in statuses
    assert "usage" in await usage(stage, other)


async def test_free_calls_are_told_too(stage: RunnerStage, tmp_path: Path) -> None:
    """RN233: calls without a cost are in their key's list, also after a restart."""
    for _ in range(2):
        async with AsyncExitStack() as stack:
            free = await stage.another(stack, tmp_path / "runner")
            KEYS.setdefault("free", await free.key("echo"))
            assert (await free.api("echo", KEYS["free"]))[0] == 200
            told = await usage(free, KEYS["free"])
    assert [one["compute_cost"] for one in told["usage"]] == ["0", "0"]


async def test_a_budget_bounds_the_run(stage: RunnerStage) -> None:
    """RN94: a call gets the instructions and time that it pays for; its receipt states them."""
    _, answer = await stage.api(
        "environment", await shared_key(stage), {"input": 1, "response_format": "Text"}
    )
    seen = dict(one.split("=", 1) for one in answer["output"].split("\0") if one)
    assert (
        seen["NEAR_MAX_INSTRUCTIONS"] == str(9000 * 10**6)
        and seen["NEAR_MAX_EXECUTION_SECONDS"] == "60"
    )
    assert seen["OUTLAYER_EXECUTION_TYPE"] == "HTTPS" and seen["NEAR_SENDER_ID"] == stage.developer
    limits = {"max_instructions": 5_000_000}
    body = {"input": 1, "response_format": "Text", "resource_limits": limits}
    _, answer = await stage.api(
        "environment", await shared_key(stage), body, X_Compute_Limit="1003"
    )
    seen = dict(one.split("=", 1) for one in answer["output"].split("\0") if one)
    assert seen["NEAR_MAX_INSTRUCTIONS"] == "3000000" and seen["NEAR_MAX_EXECUTION_SECONDS"] == "3"


async def test_whoever_signs_pays_too(stage: RunnerStage) -> None:
    """RN94: a signer without an account cannot run a program for free by `POST /run`."""
    status, answer = await stage.call("echo", input="x")
    assert (status, answer["error"]["code"]) == (402, "balance-too-low")
    before = await stage.account()
    session = await stage.calling_session()
    assert (await stage.call("echo", session=session, input="x"))[0] == 200
    after = await stage.account()
    assert after["charged"] - before["charged"] == before["balance"] - after["balance"] == 1001
    assert after["reserved"] == 0


async def test_secrets_of_a_key(stage: RunnerStage) -> None:
    """RN90, RN234: a key reaches only its profiles, and standard error only without secrets."""
    await stage.owner.secrets().put("API_KEY", "open sesame")
    await stage.owner.secrets().put("API_KEY", "of prod", scope="prod")
    version = stage.published["environment"]
    await stage.grant(["API_KEY", "prod/API_KEY"], RunStatement(programs=(ByHash(version.sha256),)))
    body: dict[str, Any] = {"input": 1, "response_format": "Text"}
    wanted = {"profile": "default", "account_id": stage.developer}
    key, none = await shared_key(stage), await stage.key("environment")
    status, answer = await stage.api("environment", key, {**body, "secrets_ref": wanted})
    assert (status, answer["secrets"]) == (200, "delivered")
    assert "API_KEY=open sesame" in answer["output"] and answer["stderr"] == ""
    assert (await usage(stage, key))["usage"][0]["stderr"] == ""
    _, answer = await stage.api("environment", key, body)
    assert "NEAR_SENDER_ID" in answer["stderr"]
    (last, *_) = (await usage(stage, key))["usage"]
    assert last["stderr"] == answer["stderr"][-1000:]
    for shown, profile in ((none, "default"), (key, "prod")):
        status, answer = await stage.api(
            "environment", shown, {**body, "secrets_ref": {**wanted, "profile": profile}}
        )
        assert (status, answer["code"]) == (403, "key-profile")
    status, answer = await stage.api("echo", key, {"input": 1, "secrets_ref": wanted})
    assert (status, answer["code"]) == (403, "secrets-not-granted")
    await stage.publish("wanting", TRAP, manifest=ProgramManifest(secrets=("ABSENT",)))
    version = stage.published["wanting"]
    wanting = RunStatement(programs=(ByHash(version.sha256, version.project),))
    await stage.grant(["API_KEY"], wanting)
    status, answer = await stage.api("wanting", key, {"input": 1, "secrets_ref": wanted})
    assert (status, answer["code"]) == (403, "secret-missing") and "ABSENT" not in json.dumps(
        answer
    )


async def test_a_key_is_listed_and_ends(stage: RunnerStage) -> None:
    """RN91: only the owner lists and revokes a key; a revoked key cannot be added again."""
    signed: dict[str, Any] = {"runner": stage.runner.did, "projects": None, "max_per_call": 5000}
    signed |= {"expires_at": SystemClock().now() + 60, "entropy": SystemEntropy()}
    statement, shown = new_api_key(stage.wallet, **signed)

    async def sent(data: bytes) -> tuple[int, Any]:
        async with stage.http.post(f"{stage.url}/keys", data=data) as answer:
            return answer.status, await answer.json()

    for _ in range(2):
        status, said = await sent(statement)
        assert status == 201
        assert said["nonce"] == shown.nonce
        assert said["maxPerCall"] == "5000"
    _, listed = await stage.signed("GET", "/keys", "keys")
    assert shown.nonce in [
        key["nonce"] for key in listed["keys"]
    ] and shown.secret not in json.dumps(listed)
    other = key_session(sha256(b"somebody else").digest())
    assert (await stage.signed("GET", "/keys", "keys", other))[1]["keys"] == []
    revoke = ("DELETE", f"/keys/{shown.nonce}", f"keys/{shown.nonce}/revoke")
    assert (await stage.signed(*revoke, other))[0] == 404
    assert (await stage.signed("DELETE", f"/keys/{shown.nonce}", "keys"))[0] == 401
    assert (await stage.api("echo", shown.text))[0] == 200
    assert (await stage.signed(*revoke))[0] == 200
    assert (await stage.api("echo", shown.text))[1]["code"] == "key-refused"
    status, said = await sent(statement)
    assert (status, said["error"]["code"]) == (409, "key-known")
    assert (await sent(b"{}"))[1]["error"]["code"] == "key-statement"
    stranger, _ = new_api_key(Ed25519Signer(b"stranger".ljust(32)), **signed)
    status, said = await sent(stranger)
    assert (status, said["error"]["code"]) == (402, "balance-too-low")
    assert (await stage.signed("DELETE", "/keys/x", "keys/x/revoke"))[0] == 404


async def test_too_many_keys(stage: RunnerStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN91: keys are limited for each owner and in all; expired keys free their places."""
    monkeypatch.setattr(kept_keys, "MOST_OF_AN_OWNER", 1)
    other = Ed25519Signer(bytes(range(32)))
    assert await stage.key(None, signer=other, expires_at=SystemClock().now() + 60)
    with pytest.raises(AssertionError, match="keys-full"):
        await stage.key(None, signer=other)
    monkeypatch.setattr(kept_keys, "MOST", 1)
    with pytest.raises(AssertionError, match="keys-full"):
        await stage.key(None, signer=Ed25519Signer(bytes(range(1, 33))))


async def test_keys_of_owners_who_are_not_known_here(
    stage: RunnerStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN91: on a free runner, owners without an account need a grant and get half the places."""
    async with AsyncExitStack() as stack:
        free = await stage.another(stack, tmp_path / "runner")
        assert await added(free) == (403, "owner-unknown")
        version = await stage.publish("granted", ECHO)
        await stage.owner.secrets().put("API_KEY", "open sesame")
        await free.grant(["API_KEY"], RunStatement(programs=(ByHash(version.sha256),)))
        assert await added(free) == (201, "")
        monkeypatch.setattr(kept_keys, "MOST", 2)
        assert await added(free) == (503, "keys-full")
        await free.credit(0)
        assert await added(free) == (201, "")


async def added(stage: RunnerStage) -> tuple[int, str]:
    """Add a key of the owner's, and return the status and the code of a refusal."""
    until_s, runner, entropy = SystemClock().now() + 60, stage.runner.did, SystemEntropy()
    statement, _ = new_api_key(
        stage.wallet,
        runner=runner,
        projects=None,
        max_per_call=1,
        expires_at=until_s,
        entropy=entropy,
    )
    async with stage.http.post(f"{stage.url}/keys", data=statement) as answer:
        said = await answer.json()
        return answer.status, said["error"]["code"] if "error" in said else ""


async def test_asynchronous_calls_of_who_signs(stage: RunnerStage) -> None:
    """RN98: only the signer of an asynchronous `POST /run` can fetch its answer."""
    session = await stage.calling_session()
    later: Any = {"input": "x", "async": True}
    status, answer = await stage.call("echo", session=session, **later)
    assert (status, answer["status"]) == (200, "pending")
    job = answer["job"]
    async with asyncio.timeout(PATIENCE_S):
        while (said := await stage.signed("GET", f"/calls/{job}", f"calls/{job}"))[1][
            "status"
        ] == "pending":
            pass
    assert (
        said[0] == 200
        and said[1]["output"] == "x"
        and said[1]["receipt"]["statement"]["job"] == job
    )
    other = key_session(sha256(b"somebody else").digest())
    assert (await stage.signed("GET", f"/calls/{job}", f"calls/{job}", other))[0] == 404


async def test_bounds_of_a_key(stage: RunnerStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN97: a key has limits on concurrent calls and on calls in a minute."""
    monkeypatch.setattr(calls, "AT_ONCE", 2)
    key = await stage.key("echo")
    codes = Counter(
        answer["code"]
        for _, answer in await asyncio.gather(*(stage.api("echo", key) for _ in range(12)))
    )
    assert set(codes) == {None, "too-many-calls"} and codes[None] >= 2
    assert (await stage.api("echo", key))[0] == 200
    monkeypatch.undo()
    monkeypatch.setattr(calls, "PER_MINUTE", 3)
    fresh = await stage.key("echo")
    assert 429 in [(await stage.api("echo", fresh))[0] for _ in range(6)]
    assert (await stage.account())["reserved"] == 0


async def test_keys_are_not_taken_in_the_clear(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN88: a key that arrives from another machine without TLS is refused unread."""

    def is_private(peer: Any, tls: Any = None) -> bool:
        transport: Any = SimpleNamespace(get_extra_info={"peername": peer, "sslcontext": tls}.get)
        request: Any = SimpleNamespace(transport=transport)
        return callers._is_confidential(request)

    peer: Any
    for peer in (
        ("127.0.0.1", 1),
        ("127.9.9.9", 1),
        ("::1", 1, 0, 0),
        ("::ffff:127.0.0.1", 1, 0, 0),
    ):
        assert is_private(peer)
    for peer in (
        ("192.0.2.1", 1),
        ("::ffff:192.0.2.1", 1, 0, 0),
        ("10.0.0.1", 1),
        ("0.0.0.0", 1),
        "",
        None,
        "x",
    ):
        assert not is_private(peer)
    assert is_private(("192.0.2.1", 1), tls=object())
    monkeypatch.setattr(callers, "_is_confidential", lambda _: False)
    status, answer = await stage.api("echo", await shared_key(stage))
    assert (status, answer["code"]) == (403, "key-in-clear")


@pytest.mark.parametrize(
    "credit",
    [
        {},
        {"owner": "alice", "amount": 1, "reference": "x"},
        {"owner": "did:key:z6Mk", "amount": -1, "reference": "x"},
        {"owner": "did:key:z6Mk", "amount": 10**15 + 1, "reference": "x"},
        {"owner": "did:key:z6Mk", "amount": 1.5, "reference": "x"},
        {"owner": "did:key:z6Mk", "amount": True, "reference": "x"},
        {"owner": "did:key:z6Mk", "amount": 1, "reference": ""},
        {"owner": "did:key:z6Mk", "amount": 1, "reference": "x" * 201},
        {"owner": "did:key:z6Mk", "amount": 1, "reference": 5},
    ],
    ids=str,
)
async def test_credits_that_are_refused(stage: RunnerStage, credit: dict[str, Any]) -> None:
    """RN95: an invalid credit is refused with its reason, and changes nothing."""
    with pytest.raises(InvalidInput):
        await ask_operator(stage.runner_folder, credit)


async def test_the_operator_s_socket(stage: RunnerStage, tmp_path: Path) -> None:
    """RN95: a credit with a used reference changes nothing, and one that differs from the first is
    refused."""
    credit: dict[str, Any] = {"owner": "0x" + "1" * 40, "amount": 5, "reference": "one"}
    for _ in range(2):
        assert (await ask_operator(stage.runner_folder, credit))["balance"] == "5"
    with pytest.raises(InvalidInput):
        await ask_operator(stage.runner_folder, credit | {"amount": 6})
    with pytest.raises(FolderUnusable):
        await ask_operator(tmp_path, credit)
    assert stat.S_IMODE(stage.runner_folder.stat().st_mode) == 0o700
    async with stage.http.post(f"{stage.url}/credits", json=credit) as answer:
        assert answer.status == 404


async def test_what_pages_may_call(stage: RunnerStage) -> None:
    """RN154: pages may call the routes of keys, information, generation and grants only."""

    async def asked(method: str, path: str, **headers: str) -> tuple[int, Any]:
        async with stage.http.request(
            method, stage.url + path, headers={"Origin": "null", **headers}
        ) as answer:
            return answer.status, answer.headers

    for path, method in (
        ("/info", "GET"),
        ("/keys", "POST"),
        ("/keys/7", "DELETE"),
        ("/secrets/generate", "POST"),
        (GRANTS_PATH, "POST"),
    ):
        headers = {"Access-Control-Request-Method": method, "Authorization": "ignored"}
        status, said = await asked("OPTIONS", path, **headers)
        assert (status, said["Access-Control-Allow-Origin"]) == (204, "*"), path
        assert method in said["Access-Control-Allow-Methods"].split(", ")
        assert "Authorization" in said["Access-Control-Allow-Headers"].split(", ")
        status, answered = await asked(method, path)
        assert status == 200 if path == "/info" else 400 <= status < 500
        assert answered["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in {**said, **answered}
    call = f"/call/{stage.developer}/echo"
    closed = [
        ("POST", call),
        ("GET", "/calls/7"),
        ("POST", "/run"),
        ("GET", "/receipts/7"),
        ("GET", "/start"),
    ]
    for method, path in [
        *closed,
        ("GET", "/nothing"),
        ("GET", EVIDENCE_PATH),
        ("GET", f"{GRANTS_PATH}/x"),
    ]:
        for tried in (method, "OPTIONS"):
            status, said = await asked(tried, path)
            assert not [name for name in said if name.lower().startswith("access-control-")], path
            assert tried == method or status in (404, 405)


async def test_pages_of_origins_that_the_operator_names(stage: RunnerStage, tmp_path: Path) -> None:
    """RN235: only pages of origins that the operator names can call with a key."""
    app, local = "https://app.example", "http://localhost:3000"
    async with AsyncExitStack() as stack:
        runner = await stage.another(stack, tmp_path / "runner", origins=(app, local))
        key = await runner.key("echo")
        paths = {
            f"/call/{stage.developer}/echo": "POST",
            "/calls/7": "GET",
            "/payment-keys/balance": "GET",
            "/payment-keys/usage": "GET",
        }
        for path, method in paths.items():
            for origin in (app, local, "https://app.example.evil", f"{app}/", "null", "*", ""):
                asked = {"Origin": origin, "Access-Control-Request-Method": method}
                for sent, headers in (
                    ("OPTIONS", asked),
                    (method, asked | {"X-Payment-Key": key}),
                    (method, asked),
                ):
                    async with stage.http.request(
                        sent, runner.url + path, headers=headers
                    ) as answer:
                        allowed = answer.headers.get("Access-Control-Allow-Origin")
                    assert allowed == (origin if origin in (app, local) else None), (path, origin)
                    assert answer.headers["Vary"] == "Origin"
                    if sent == "OPTIONS":
                        assert answer.status == 204
                        assert answer.headers["Access-Control-Allow-Methods"] == method
                        names = answer.headers["Access-Control-Allow-Headers"].split(", ")
                        assert {"Content-Type", "X-Payment-Key", "X-Compute-Limit"} <= {*names}
        for path in ("/run", "/receipts/7", "/attestations/7", "/start"):
            asked = {"Origin": app, "Access-Control-Request-Method": "POST"}
            async with stage.http.options(runner.url + path, headers=asked) as answer:
                assert answer.status == 405
            async with stage.http.get(runner.url + path, headers=asked) as answer:
                assert "Access-Control-Allow-Origin" not in answer.headers
