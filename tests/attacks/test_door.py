"""Attacks on a door: by other callers, by paths and headers, and by web pages (spec/door.md)."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from door_stage import DoorBench, DoorCaller, door_bench, open_door
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from door.limits import MAX_BODY_BYTES, MAX_LOGIN_BYTES
from door.mounts import parse_mount
from sealspace.errors import InvalidInput

CANARY = "canary-4711"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DoorBench]:
    """A node with default settings, and its clients."""
    async with door_bench(tmp_path) as bench:
        yield bench


@pytest.fixture
async def caller(bench: DoorBench) -> AsyncIterator[DoorCaller]:
    """A caller with a machine token for one of two secrets, at a door with two mounts."""
    program, _ = await bench.machine("API_KEY", API_KEY=CANARY, OTHER="not granted")
    async with open_door(bench, program, "secret=flat", "prod=flat,scope=prod") as caller:
        yield caller


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def _raw(
    caller: DoorCaller, target: str, *headers: str, method: str = "GET", host: str = "localhost"
) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return await caller.raw(
        f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n"
    )


@pytest.mark.parametrize(
    "path",
    [
        "secret/data/../data/API_KEY",
        "secret/data/./API_KEY",
        "secret//data/API_KEY",
        "secret/data//API_KEY",
        "/secret/data/API_KEY",
        "secret/data/%41PI_KEY",
        "secret%2fdata%2fAPI_KEY",
        "secret/data/%2e%2e/data/API_KEY",
        "secret/data/API_KEY%00",
        "secret/data/API_KEY/",
        "secret/data/API_KEY\\..\\x",
        "secret/data/API_KEY;x",
        "secret/data/API_KEY#x",
        "secret/data/api_key",
        "secret/data/scoped/prod/API_KEY",
        "secret/data/vault/secrets/API_KEY",
        "secret/data/shared/did:key:z6Mk/API_KEY",
        "prod/data/../../secret/data/API_KEY",
        "prod/data/prod/API_KEY",
        "secret/data/" + "A" * 2000,
        "SECRET/data/API_KEY",
        "secret/data/API_KEY?version=1&version=2",
        "secret/data/API_KEY?version=%31",
        "secret/data/API_KEY?version=-1",
        "secret/data/API_KEY?version=1e3",
        "secret/data/API_KEY?",
    ],
)
async def test_DR2_paths_have_one_spelling(caller: DoorCaller, path: str) -> None:
    """DR2: every other spelling of a path, and every path out of a mount, is refused."""
    answer = await _raw(caller, f"/v1/{path}", f"X-Vault-Token: {caller.token}")
    assert 400 <= _status(answer) < 500
    assert CANARY.encode() not in answer


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("sys/internal/ui/mounts/../../../secret", b"leads out of its mount by a segment of dots"),
        ("secret/./data/API_KEY", b"leads out of its mount by a segment of dots"),
        ("secret/data/%41PI_KEY", b"a character that no path of a door has, such as %"),
        ("secret//data/API_KEY", b"the path has an empty segment"),
        ("sys/internal/ui/mounts/sec%72et", b"a character that no path of a door has, such as %"),
    ],
)
async def test_DR2_the_form_is_judged_before_the_path(
    caller: DoorCaller, path: str, reason: bytes
) -> None:
    """DR2: the form of a path is refused for itself, whatever the path would lead to."""
    answer = await _raw(caller, f"/v1/{path}", f"X-Vault-Token: {caller.token}")
    assert _status(answer) == 400 and reason in answer


async def test_DR2_other_forms_of_a_target(caller: DoorCaller) -> None:
    """DR2: a target with a host, one without /v1/, and an asterisk are refused."""
    token = f"X-Vault-Token: {caller.token}"
    for target in (f"{caller.url}/v1/secret/data/API_KEY", "/secret/data/API_KEY", "/v1", "*"):
        answer = await _raw(caller, target, token, method="OPTIONS" if target == "*" else "GET")
        assert 400 <= _status(answer) < 500 and CANARY.encode() not in answer


@pytest.mark.parametrize(
    "headers",
    [
        ["X-Vault-Namespace: team"],
        ["X-Vault-Namespace: root"],
        ["X-Vault-Wrap-TTL: 60s"],
        ["Origin: https://evil.example"],
        ["Origin: null"],
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-origin"],
        ["X-Vault-Token: sdt_other"],
        ["Authorization: Bearer sdt_other"],
        ["X-Vault-Namespace:", "X-Vault-Namespace: team"],
    ],
    ids=lambda headers: headers[-1],
)
async def test_DR3_headers_that_would_change_the_meaning(
    caller: DoorCaller, headers: list[str]
) -> None:
    """DR3: namespaces, wrapping, web pages, and a second token are refused by name."""
    own = f"X-Vault-Token: {caller.token}"
    right = await _raw(caller, "/v1/secret/data/API_KEY", own)
    assert _status(right) == 200 and CANARY.encode() in right
    answer = await _raw(caller, "/v1/secret/data/API_KEY", own, *headers)
    assert _status(answer) in (400, 403)
    assert b"; next: " in answer and CANARY.encode() not in answer


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8200", 200),
        ("127.0.0.1", 200),
        ("[::1]:8200", 200),
        ("LOCALHOST", 200),
        ("rebound.evil.example:8200", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("", 403),
    ],
)
async def test_DR3_a_web_page_under_its_own_name(
    caller: DoorCaller, host: str, status: int
) -> None:
    """DR3: a page whose own name resolves to this machine gets nothing, also with a token."""
    own = f"X-Vault-Token: {caller.token}"
    answer = await _raw(caller, "/v1/secret/data/API_KEY", own, host=host)
    assert _status(answer) == status
    assert (CANARY.encode() in answer) is (status == 200)


async def test_DR6_tokens_of_others(bench: DoorBench, caller: DoorCaller) -> None:
    """DR6: a token of another door, a changed one, the machine token's line, and one in the URL or
    in a cookie are no tokens."""
    program, line = await bench.machine("API_KEY", API_KEY=CANARY)
    async with open_door(bench, program) as other:
        foreign = other.token
    assert caller.token is not None
    changed = caller.token[:-2] + ("AA" if caller.token[-2:] != "AA" else "BB")
    target = "/v1/secret/data/API_KEY"
    for token in (foreign, changed, line, caller.token.upper(), "root", "", "é", "x" * 5000):
        answer = await _raw(caller, target, f"X-Vault-Token: {token}")
        assert _status(answer) == 403
        assert CANARY.encode() not in answer and line.encode() not in answer
    for query in (f"?token={caller.token}", f"?x-vault-token={caller.token}"):
        assert _status(await _raw(caller, target + query)) in (400, 403)
    for header in (f"Cookie: X-Vault-Token={caller.token}", f"Authorization: Basic {caller.token}"):
        assert _status(await _raw(caller, target, header)) == 403
    assert _status(await _raw(caller, target, f"Authorization: Bearer {caller.token}")) == 200


async def test_DR6_strangers_learn_nothing(caller: DoorCaller) -> None:
    """DR6: without a token, existing and missing secrets, mounts and names are the same answer."""
    answers = set()
    for path in (
        "secret/data/API_KEY",
        "secret/data/NONE",
        "prod/data/X",
        "secret/metadata/x",
        "no-mount/data/API_KEY",
        "sys/policies/acl",
        "sys/internal/ui/mounts/secret",
        "sys/internal/ui/mounts/no-mount",
    ):
        answers.add((await _raw(caller, f"/v1/{path}")).split(b"\r\n\r\n", 1)[1])
    assert len(answers) == 1


async def test_DR7_bytes_that_are_no_text(bench: DoorBench) -> None:
    """DR7, DR12: bytes that look like a JSON object, but are no text, are refused; an answer is
    always text."""
    owner, _ = await bench.owner()
    await owner.secrets().put_many({"ODD": b'{"a": "\xff"}', "EVEN": b'{"a": "x"}'})
    async with open_door(bench, owner, "secret=json") as door:
        token = f"X-Vault-Token: {door.token}"
        odd = await _raw(door, "/v1/secret/data/ODD", token)
        assert _status(odd) == 400 and odd.isascii()
        even = await _raw(door, "/v1/secret/data/EVEN", token)
        assert _status(even) == 200 and b'"data":{"a":"x"}' in even


async def test_DR15_the_cache_of_one_caller_is_not_of_another(bench: DoorBench) -> None:
    """DR15: a value that one caller read is not given to one whose grant does not read it."""
    owner, wallet = await bench.owner()
    await owner.secrets().put_many({"API_KEY": CANARY, "OTHER": "other"})
    lines = {}
    for name, secret in (("may", "API_KEY"), ("maynot", "OTHER")):
        lines[name] = await owner.delegations.create_token(name, [secret], wallet=wallet)
    async with open_door(
        bench, await bench.client(), fresh_s=60, stale_s=600, has_own_grant=False
    ) as door:
        may = await door.log_in("approle", role_id="may", secret_id=lines["may"])
        other = await door.log_in("approle", role_id="maynot", secret_id=lines["maynot"])
        reading = [may.get("secret/data/API_KEY"), other.get("secret/data/API_KEY")]
        own, foreign = await asyncio.gather(*reading)
        assert CANARY in own.text
        for _ in range(2):
            assert foreign.status == 403 and CANARY not in foreign.text
            foreign = await other.get("secret/data/API_KEY")
        listed = await other.send("LIST", "secret/metadata")
        assert listed.reported["data"]["keys"] == ["OTHER"]


async def test_DR14_huge_bodies(caller: DoorCaller) -> None:
    """DR14: a body is bounded before it is read, also without a stated length and before a login;
    without a token none is read."""
    own = f"X-Vault-Token: {caller.token}"
    long = f"Content-Length: {1 << 40}"
    target = "/v1/sys/capabilities-self"
    assert _status(await _raw(caller, target, own, long, method="POST")) == 413
    assert _status(await _raw(caller, target, long, method="POST")) == 403
    login = "/v1/auth/approle/login"
    assert _status(await _raw(caller, login, long, method="POST")) == 413
    for path, most_bytes, token in (
        (target, MAX_BODY_BYTES, f"{own}\r\n"),
        (login, MAX_LOGIN_BYTES, ""),
    ):
        size = most_bytes + 1
        answer = await caller.raw(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{token}Connection: close\r\n"
            f"Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{' ' * size}\r\n0\r\n\r\n"
        )
        assert _status(answer) == 413
    gzip = await _raw(caller, target, own, "Content-Encoding: gzip", method="POST")
    assert _status(gzip) == 415


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{", b'{"paths": 7}', b'{"paths": [7]}', b'{"a":' * 5000, b"\xff", b'{"a":1,"a":2}'],
)
async def test_DR12_bodies_that_are_no_requests(caller: DoorCaller, body: bytes) -> None:
    """DR12: any body is answered with 400 in the form of the API, without a part of it."""
    text = body.decode("latin-1")
    answer = await caller.raw(
        "POST /v1/sys/capabilities-self HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"X-Vault-Token: {caller.token}\r\nContent-Length: {len(body)}\r\n\r\n{text}"
    )
    head, _, data = answer.partition(b"\r\n\r\n")
    assert _status(head) == 400
    (said,) = json.loads(data)["errors"]
    assert "; next: " in said


@fuzzed()
@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(["a=flat", "=", ",", "scope=", "x", "kv=2", "owner=did:key:z", "/"])
    ).map("".join)
)
def test_fuzz_mounts(text: str) -> None:
    """DR5: any text is a mount whose name has one segment, or an error of this module."""
    try:
        mount = parse_mount(text)
    except InvalidInput:
        return
    assert "/" not in mount.name and mount.name not in ("sys", "auth")
    for path in ("../x", "a/b/C", "", "C/", "vault/secrets/C"):
        with pytest.raises(InvalidInput):
            mount.secret_at(path)
