"""Untrusted requests of guests and the addresses that they may reach."""

import asyncio
import contextlib
import ipaddress
import os
import socket
import subprocess
import time

import pytest
from fuzz_strategies import damaged_bytes, damaged_text
from guest_programs import children
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_S
from tests_support import fuzzed
from yarl import URL

from runner.guest import frames as _frames
from runner.guest.child import Child, ChildEnded, Template
from runner.guest.executor import Executor
from serving.messages import MAX_MESSAGE_BYTES, pack_parts, unpack_parts
from serving.outbound import RequestRefused, is_loopback, is_public, parse_request

_TOO_MANY = MAX_MESSAGE_BYTES + 1
HOSTS = frozenset({"api.test", "other.test"})
URLS = (
    "https://api.test:443/a/../b?c=%20&d#e",
    "https://other.test@api.test/",
    "https://api.test",
    "https://api.test?a",
)
REQUEST = pack_parts([b"POST", b"https://api.test/a?b=%20", b"X-Key", b"v v", b"body"])


@fuzzed(2)
@given(st.binary(max_size=200) | damaged_bytes(REQUEST))
def test_fuzz_messages(message: bytes) -> None:
    """RN101: any bytes decode to parts that encode to the same bytes, or raise ValueError."""
    try:
        parts = unpack_parts(message)
    except ValueError:
        return
    assert parts and message == pack_parts(parts)


def test_a_megabyte_of_empty_parts_costs_little() -> None:
    """RN105: a message with too many parts is not parsed to its end."""
    begun = time.process_time()
    with pytest.raises(RequestRefused, match="request-invalid"):
        parse_request(bytes(MAX_MESSAGE_BYTES), hosts=HOSTS, any_port=False)
    assert time.process_time() - begun < 0.05


@fuzzed(2)
@given(st.binary(max_size=200) | damaged_bytes(REQUEST))
def test_fuzz_requests(message: bytes) -> None:
    """RN102, RN105: any bytes are refused, or give an allowed host and no line end in the head."""
    try:
        request = parse_request(message, hosts=HOSTS, any_port=False)
    except RequestRefused as refused:
        assert refused.code in _frames.FETCH_ERRORS
        return
    assert request.host in HOSTS and 443 == request.port
    assert not {"\r", "\n", "\0"} & set(
        "".join([request.method, request.url, *sum(request.headers, ())])
    )


@fuzzed(2)
@given(
    st.builds(
        lambda left, right: left + right, st.sampled_from(("", "https://")), damaged_text(*URLS)
    )
)
def test_fuzz_urls(url: str) -> None:
    """RN104: the connecting library reads host, port and path of an accepted URL as the runner
    does."""
    try:
        request = parse_request(pack_parts([b"GET", url.encode(), b""]), hosts=HOSTS, any_port=True)
    except RequestRefused:
        return
    read = URL(url, encoded=True)
    assert request.host == read.host
    assert request.port == read.port
    assert "https" == read.scheme and None is read.user is read.password and "" == read.fragment
    assert url.endswith(read.raw_path_qs) or "/" == read.raw_path


PUBLIC = [
    "1.1.1.1",
    "93.184.215.14",
    "172.15.255.255",
    "172.32.0.0",
    "11.0.0.0",
    "223.255.255.255",
    "2606:4700::1111",
]
PUBLIC += [
    "2a00:1450:4001::1",
    "2001:200::1",
    "169.253.255.255",
    "100.63.255.255",
    "100.128.0.0",
    "192.0.1.0",
]
NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255
    168.63.129.16 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255
    192.0.0.0 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0
    198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::ffff:127.0.0.1 ::ffff:1.1.1.1 ::ffff:0:1.1.1.1 ::127.0.0.1 ::1.1.1.1
    64:ff9b::1.1.1.1 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2
    2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:101:101::1 3fff::1 5f00::1 fc00::1
    fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1 4000::1 fe80::1%eth0 2606:4700::1111%1
    1 127.1 0x7f000001 0177.0.0.1 1.1.1 1.1.1.1.1 1.1.1.1/32 [::1] localhost 1.1.1.01
    """.split()  # noqa: SIM905  # a table


def test_public_addresses() -> None:
    """RN106: both ends of each range that is not public are refused, their neighbours accepted."""
    assert [] == [address for address in PUBLIC if not is_public(address)]
    assert [] == [
        address for address in (*NOT_PUBLIC, "", " 1.1.1.1", "1.1.1.1 ") if is_public(address)
    ]
    assert ["127.0.0.1", "127.255.255.255", "::1"] == [
        one for one in NOT_PUBLIC if is_loopback(one)
    ]


@pytest.mark.parametrize("host", ["93.184.215.14", "127.0.0.1", "2130706433", "1.1", "."])
def test_a_number_is_no_name(host: str) -> None:
    """RN102, RN106: an IP address is refused even if it was allowed by mistake."""
    message = pack_parts([b"GET", f"https://{host}/".encode(), b""])
    with pytest.raises(RequestRefused, match="host-refused"):
        parse_request(message, hosts=frozenset({host}), any_port=False)


@fuzzed(1)
@given(
    st.integers(0, 2**128 - 1) | st.integers(0, 2**32 - 1),
    st.sampled_from([0, 0xFFFF << 32, 0x64FF9B << 96]),
)
def test_fuzz_addresses(number: int, prefix: int) -> None:
    """RN106: no IPv6 address with an embedded IPv4 address is public."""
    address = ipaddress.IPv6Address(number | prefix)
    contained = (address.ipv4_mapped, address.sixtofour, address.teredo)
    assert not is_public(str(address)) or contained == (None, None, None)
    assert not (is_public(str(address)) and is_loopback(str(address)))


async def _begun(
    process: "subprocess.Popen[bytes]", ours: socket.socket, theirs: socket.socket
) -> Child:
    """Return a child whose other end of the connection belongs to the test."""
    child = Child(Template(process, theirs), ours, None)
    theirs.sendall(_frames.PROCESS.pack(process.pid) + _frames.PROCESS.pack(-process.pid))
    await child.ready()
    return child


@pytest.mark.parametrize(
    ("sent", "is_allowed"),
    [
        (_frames.LENGTH.pack(_frames.FETCH | _TOO_MANY) + bytes(_TOO_MANY), True),
        (_frames.LENGTH.pack(_frames.FETCH), False),
        (_frames.LENGTH.pack(101), True),
        (_frames.LENGTH.pack(_frames.FETCH | 3) + b"ab", True),
        (_frames.LENGTH.pack(_frames.STORAGE), True),
        (_frames.LENGTH.pack(_frames.STORAGE ^ _frames.FETCH) + b"ab", True),
    ],
)
async def test_a_child_that_asks_for_more_than_it_may(sent: bytes, is_allowed: bool) -> None:
    """RN17, RN100: a request that is too long or not allowed ends the child."""
    asked: list[bytes] = []

    async def answer(message: bytes) -> bytes:
        asked.append(message)
        return b""

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        child = await _begun(process, ours, theirs)
        handlers = {_frames.FETCH: answer} if is_allowed else {}
        run = asyncio.create_task(
            child.request(b"", [], most_bytes=100, within_s=60, handlers=handlers)
        )
        with contextlib.suppress(OSError):  # nobody reads it all
            await asyncio.to_thread(theirs.sendall, sent)
            theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ChildEnded):
            await run
    assert [] == asked and not child.is_alive()


async def test_a_request_is_answered_and_the_run_goes_on() -> None:
    """RN100: requests are answered one by one, until the answer of the run."""

    async def answer(message: bytes) -> bytes:
        return message[::-1]

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        child = await _begun(process, ours, theirs)
        asked = asyncio.create_task(
            child.request(b"x", [], most_bytes=100, within_s=60, handlers={_frames.STORAGE: answer})
        )
        assert (b"x", []) == await asyncio.to_thread(_frames.receive, theirs)
        for message in (b"abc", b"", b"de"):
            exchanged = asyncio.to_thread(_frames.exchange, theirs, _frames.STORAGE, message)
            assert message[::-1] == await exchanged
        theirs.sendall(_frames.LENGTH.pack(2) + b"ok")
        assert b"ok" == await asked
        await child.end()


@pytest.mark.parametrize("waits_for", ["the child", "the service"])
async def test_nothing_is_left_at_the_number_of_a_connection(waits_for: str) -> None:
    """RN100: a new connection that reuses a file descriptor number receives its own events."""
    begun, given_up = asyncio.Event(), asyncio.Event()

    async def never(message: bytes) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        return message

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    number = ours.fileno()
    with theirs, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        child = await _begun(process, ours, theirs)
        run = asyncio.create_task(
            child.request(
                b"x", [], most_bytes=100, within_s=PATIENCE_S, handlers={_frames.FETCH: never}
            )
        )
        await asyncio.to_thread(_frames.receive, theirs)
        if waits_for == "the service":
            await asyncio.to_thread(theirs.sendall, _frames.LENGTH.pack(_frames.FETCH))
            await begun.wait()
        process.kill()
        # so that ending the child takes no time in which the loop sees its connection
        process.wait()
        await child.end()
    left, right = _pair_at(number)
    with left, right:
        assert given_up.is_set() is begun.is_set()
        heard = asyncio.create_task(asyncio.get_running_loop().sock_recv(left, 1))
        await asyncio.sleep(0)  # it waits
        right.send(b"x")
        async with asyncio.timeout(PATIENCE_S):
            assert b"x" == await heard
    with pytest.raises(ChildEnded):
        await run


def _pair_at(number: int) -> tuple[socket.socket, socket.socket]:
    """Return a connection, one end of which has the given file descriptor number."""
    left, right = socket.socketpair()
    for one in (left, right):
        one.setblocking(False)
    if number in (left.fileno(), right.fileno()):
        return (left, right) if left.fileno() == number else (right, left)
    os.dup2(left.fileno(), number)
    left.close()
    return socket.socket(fileno=number), right


def test_another_event_loop() -> None:
    """RN109: the executor refuses to start on another event loop."""
    uvloop = pytest.importorskip("uvloop")

    async def enter() -> None:
        async with Executor(children=1, spare=1):
            raise AssertionError("it was entered")

    before = children()
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises(RuntimeError, match="event loop"),
    ):
        runner.run(enter())
    assert before == children()
