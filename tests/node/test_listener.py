"""Header bounds of the listener, and silence about what it refuses (H5)."""

import io

import pytest

from node.listener import MAX_HEAD_BYTES, MAX_HEADER_LINES, MAX_TARGET_BYTES
from node.logs import configure_logs


def _request(target: str = "/info", lines: tuple[str, ...] = ()) -> bytes:
    head = [f"GET {target} HTTP/1.1", "Host: node", *lines, "Connection: close", "", ""]
    return "\r\n".join(head).encode()


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_longest_token_passes(caller) -> None:
    """A token of 384 KiB in one header line is read."""
    assert _status(await caller.raw(_request(lines=("Authorization: " + "a" * 393_216,)))) == 200


@pytest.mark.parametrize("size_bytes", [393_216 + 100, 2_000_000])
async def test_longer_token_is_431(caller, size_bytes: int) -> None:
    """A longer line is 431 with an empty body, and nothing of it is logged (H5)."""
    stream = io.StringIO()
    configure_logs("debug", stream=stream)
    answer = await caller.raw(_request(lines=("Authorization: canary" + "a" * size_bytes,)))
    assert (_status(answer), answer.partition(b"\r\n\r\n")[2]) == (431, b"")
    assert stream.getvalue() == ""


async def test_many_long_lines_are_431(caller) -> None:
    """All header bytes together are bounded too."""
    lines = tuple(f"x-{n}: " + "a" * 200_000 for n in range(2 * MAX_HEAD_BYTES // 200_000))
    assert _status(await caller.raw(_request(lines=lines))) == 431


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
async def test_header_lines(caller, more: int, status: int) -> None:
    """A hundred header lines pass, one more is 431 (H5); `Host` and `Connection` count."""
    lines = tuple(f"x-{n}: 1" for n in range(MAX_HEADER_LINES - 2 + more))
    assert status == _status(await caller.raw(_request(lines=lines)))


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 414)])
async def test_target_length(caller, more: int, status: int) -> None:
    """A request target of 65,534 bytes passes, a longer one is 414 with an empty body (H5)."""
    target = "/info?" + "a" * (MAX_TARGET_BYTES - 6 + more)
    answer = await caller.raw(_request(target))
    assert status == _status(answer)
    assert more == 0 or answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"canary\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: canary\r\n\r\n",
        b"GET / HTTP/1.1\r\ncanary canary\r\n\r\n",
        b"\x16\x03\x01\x00canary\r\n\r\n",
    ],
)
async def test_unreadable_request_is_400(caller, request_bytes: bytes) -> None:
    """What is no HTTP is a 400 page that quotes nothing of it, and the log does not either."""
    stream = io.StringIO()
    configure_logs("debug", stream=stream)
    answer = await caller.raw(request_bytes)
    assert _status(answer) == 400 and b"canary" not in answer and b"Server: sealspace" in answer
    assert "canary" not in stream.getvalue()


async def test_second_authorization_is_not_an_error(caller) -> None:
    """A repeated Authorization header passes the HTTP layer: the first one counts (E1)."""
    assert _status(await caller.raw(_request(lines=("Authorization: a", "Authorization: b")))) == 200


async def test_head_limit_leaves_long_bodies_alone(caller) -> None:
    """A body larger than the bound on heads is no head: the route answers, and the connection goes on."""
    body = b"b" * (2 * MAX_HEAD_BYTES)
    first = b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    answers = await caller.raw(first + body + _request("/healthz"))
    assert [_status(part) for part in answers.split(b"HTTP/1.1")[1:]] == [404, 200] or b"200 OK" in answers
