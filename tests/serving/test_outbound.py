"""HTTPS requests of programs, and their limits (RN100 to RN110)."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import wasmtime
from guest_programs import Guest, are_gone, children, code, detail_of, guest, run_guest, run_request
from https_service import LOOPBACK, Service, https_service
from patience import PATIENCE_S
from tests_support import REPOSITORY

from runner.guest.executor import Executor
from runner.guest.frames import FETCH_ERRORS
from runner.guest.run_client import RunClient
from runner.guest.runs import ResponseFormat, RunResult
from serving.messages import MAX_MESSAGE_BYTES, pack_parts, unpack_parts
from serving.outbound import CheckedResolver, Outbound, _tls

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST, OTHER = "api.test", "other.test"
FETCHERS = ("fetcher-wasip1", "fetcher-wasip2")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service with two names, and with names that resolve to other addresses."""
    async with https_service(tmp_path_factory.mktemp("service"), HOST, OTHER) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def runner(service: Service) -> AsyncIterator[Executor]:
    """An executor whose programs may reach loopback and make few requests each."""
    outbound = Outbound(loopback_ca=service.ca, resolve=service.resolve, most_requests=3)
    async with Executor(children=1, spare=1, outbound=outbound) as one:
        yield one


@pytest.fixture(autouse=True)
def fresh(service: Service) -> None:
    """Clear the requests that other tests made."""
    for kept in (service.looked_up, service.seen, service.bodies, service.server_names):
        kept.clear()


async def fetched(
    runner: Executor,
    line: str,
    body: bytes = b"",
    *,
    name: str = FETCHERS[0],
    hosts: Sequence[str] = (HOST,),
    secrets: dict[str, str] | None = None,
    seconds: int = 30,
    mebibytes: int = 64,
) -> RunResult:
    """Have a guest send the request that a line describes."""
    request = run_request(
        guest(name),
        line.encode() + b"\n" + body,
        secrets=secrets,
        response_format=ResponseFormat.BYTES,
        max_instructions=2_000_000_000,
        max_memory_mb=mebibytes,
        max_output_bytes=2_000_000,
        max_execution_s=seconds,
    )
    return await runner.run(replace(request, hosts=frozenset(hosts)), guest(name).load)


async def said(runner: Executor, line: str, body: bytes = b"", **about: object) -> str:
    """Return the guest's output: the error, or the status line."""
    result = await fetched(runner, line, body, **about)  # type: ignore[arg-type]  # what `fetched` takes
    assert "completed" == code(result), result
    return result.output.split(b"\n")[0].decode()


# --- a request as it should be --------------------------------------------------------------------


@pytest.mark.parametrize("name", FETCHERS)
async def test_a_request_and_its_answer_are_exact(
    runner: Executor, service: Service, name: str
) -> None:
    """RN100: request and response arrive unchanged in method, path, headers and body."""
    body = bytes(range(256)) * 3
    line = f"POST {service.url('/echo%2f?a=%41&b')} X-Key:$KEY X-Twice:1 X-Twice:2"
    result = await fetched(runner, line, body, name=name, secrets={"KEY": "open sesame"})
    assert code(result) == "completed"
    assert result.hosts == (HOST,)
    head, _, answered = result.output.partition(b"\n\n")
    assert body == answered and head.startswith(b"200\n")
    (request,) = service.seen
    assert request.method == "POST"
    assert request.raw_path == "/echo%2f?a=%41&b"
    assert service.server_names == [HOST]
    assert {
        "Host": [f"{HOST}:{service.port}"],
        "X-Key": ["open sesame"],
        "X-Twice": ["1", "2"],
        "Content-Length": [str(len(body))],
        "Connection": ["close"],
    } == {name: request.headers.getall(name) for name in request.headers}


@pytest.mark.parametrize("name", FETCHERS)
async def test_a_program_sees_nothing_of_a_run_before(
    runner: Executor, service: Service, name: str
) -> None:
    """RN100: a run sees neither cookies nor unread responses of an earlier run."""
    for _ in range(2):
        result = await fetched(runner, f"GET {service.url('/packed')}", name=name)
        head, _, body = result.output.partition(b"\n\n")
        # RN109: nothing is unpacked
        assert b"content-encoding: gzip" in head and b"\x1f\x8b not gzip" == body
    assert not any("Cookie" in request.headers for request in service.seen)


@pytest.mark.parametrize("name", FETCHERS)
async def test_a_redirect_is_an_answer(runner: Executor, service: Service, name: str) -> None:
    """RN107: a redirect is returned and not followed, wherever it points."""
    for to in (
        service.url("/echo", host=OTHER),
        service.url("/echo", host="localhost"),
        "http://169.254.169.254/",
    ):
        service.seen.clear()
        assert "302" == await said(runner, f"GET {service.url('/redirect')}?to={to}", name=name)
        assert ["/redirect"] == [
            request.path for request in service.seen
        ] and OTHER not in service.looked_up


# --- hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FETCHERS)
async def test_another_host(runner: Executor, service: Service, name: str) -> None:
    """RN102: a host that is not allowed is neither contacted nor resolved."""
    for hosts in ((HOST,), (f"{OTHER}.example", "er.test", "test"), ()):
        result = await fetched(runner, f"GET {service.url(host=OTHER)}", name=name, hosts=hosts)
        assert result.output == b"HostRefused"
        assert result.hosts == ()
    assert [] == service.looked_up == service.seen


@pytest.mark.parametrize(
    "url",
    [
        "http://api.test/",
        "HTTPS://api.test/",
        "https:api.test/",
        "https:///api.test/",
        "//api.test/",
        "https://user@api.test/",
        "https://user:word@api.test/",
        "https://other.test@api.test/",
        "https://api.test:0443/",
        "https://api.test:0/",
        "https://api.test:99999/",
        "https://api.test:/",
        "https://API.test/",
        "https://äpi.test/",
        "https://api%2etest/",
        "https://api.test\\@other.test/",
        "https://api.test#@other.test/",
        "https://api.test/#there",
        "https://api.test/?",
        "https://api.test/%zz",
        "https://api.test/ä",
        "https://api.test/\t",
        "https://api.test/\x00",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://api.test/" + "x" * 8192,
        "",
    ],
)
async def test_an_address_has_one_spelling(runner: Executor, url: str) -> None:
    """RN104: a URL that another program could read differently is refused."""
    async with Outbound(loopback_ca=None, resolve=_never) as outbound:
        client = RunClient(outbound, frozenset({HOST, OTHER, "user", "API.test"}))
        answer = await client.answer(pack_parts([b"GET", url.encode(), b""]))
    assert [b"request-invalid"] == unpack_parts(answer) and not client.contacted


@pytest.mark.parametrize(
    "host", ["api.test.", "127.0.0.1", "2130706433", "0x7f000001", "127.1", "xn--pi-tja.test", "."]
)
async def test_another_name_of_a_host_is_another_host(host: str) -> None:
    """RN102: another spelling of an allowed host, or its IP address, is refused."""
    async with Outbound(resolve=_never) as outbound:
        client = RunClient(outbound, frozenset({HOST, "localhost"}))
        assert [b"host-refused"] == unpack_parts(
            await client.answer(pack_parts([b"GET", f"https://{host}/".encode(), b""]))
        )


async def test_another_port() -> None:
    """RN104: port 443 may be named; any other port is refused."""
    found = {}
    for port in ("", ":443", ":444", ":80", ":8443"):
        async with Outbound(resolve=_inward) as outbound:
            client = RunClient(outbound, frozenset({HOST}))
            message = pack_parts([b"GET", f"https://{HOST}{port}/".encode(), b""])
            (found[port],) = unpack_parts(await client.answer(message))
    refused = dict.fromkeys((":444", ":80", ":8443"), b"request-invalid")
    assert {"": b"address-refused", ":443": b"address-refused"} | refused == found


async def _never(host: str) -> list[str]:
    raise AssertionError(f"{host} was looked up")


async def _inward(host: str) -> list[str]:
    return [LOOPBACK]


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["100.100.100.200"],
        ["192.168.1.1"],
        ["::1"],
        ["fd00:ec2::254"],
        ["fe80::1"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::a00:1"],
        ["2002:a00:1::"],
        ["93.184.215.14", "10.0.0.1"],
        ["fe80::1%eth0"],
        ["localhost"],
        ["0x7f.1"],
        [""],
    ],
)
async def test_a_name_that_leads_inward(addresses: list[str]) -> None:
    """RN106: a request is refused before any connection if one address of the name is not
    public."""

    async def resolve(host: str) -> list[str]:
        return addresses

    async with Outbound(resolve=resolve) as outbound:
        client = RunClient(outbound, frozenset({HOST}))
        answer = await client.answer(pack_parts([b"GET", f"https://{HOST}/".encode(), b""]))
    assert [b"address-refused"] == unpack_parts(answer) and not client.contacted


async def test_a_name_that_leads_elsewhere_the_second_time(
    runner: Executor, service: Service
) -> None:
    """RN106: each request resolves the name once and checks the result."""
    service.names["turns.test"] = [[LOOPBACK], ["169.254.169.254"]]
    # The certificate is not for it, so that the first request ends when the connection is there.
    line = f"GET {service.url(host='turns.test')}"
    assert "CertificateRefused" == await said(runner, line, hosts=["turns.test"])
    assert ["turns.test"] == service.looked_up
    assert "AddressRefused" == await said(runner, line, hosts=["turns.test"])


async def test_loopback_is_all_that_trying_out_reaches(runner: Executor, service: Service) -> None:
    """RN106: with `--loopback-ca` a request to a public address is refused."""
    for address in ("93.184.215.14", "10.0.0.1", "::ffff:127.0.0.1"):
        service.names["public.test"] = [[address]]
        assert "AddressRefused" == await said(
            runner, f"GET {service.url(host='public.test')}", hosts=["public.test"]
        )


async def test_a_certificate_for_another_name(runner: Executor, service: Service) -> None:
    """RN107: nothing of a request is sent before the certificate is verified."""
    service.names["third.test"] = [[LOOPBACK]]
    result = await fetched(runner, f"GET {service.url(host='third.test')}", hosts=["third.test"])
    assert result.output == b"CertificateRefused"
    assert result.hosts == ("third.test",)
    assert [] == service.seen


async def test_nothing_comes_from_the_environment(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN108: proxies, passwords and certificate files of the environment are ignored."""
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:1")
    (tmp_path / ".netrc").write_text(f"machine {HOST} login somebody password something\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    monkeypatch.setenv("SSL_CERT_FILE", str(service.ca))
    async with Outbound(loopback_ca=service.ca) as outbound:
        message = pack_parts([b"GET", service.url().encode(), b""])
        assert (
            b"200" == unpack_parts(await RunClient(outbound, frozenset({HOST})).answer(message))[0]
        )
    assert [{"Host": f"{HOST}:{service.port}", "Connection": "close"}] == [
        dict(one.headers) for one in service.seen
    ]
    assert not (tmp_path / "keys").exists()
    named = str(_tls(None).get_ca_certs())
    assert "commonName" in str(_tls(service.ca).get_ca_certs()) and "'authority'" not in named


async def test_a_name_that_is_not_there(runner: Executor, service: Service) -> None:
    """RN106: a name without an address is `name-unknown`."""
    service.names["empty.test"] = [[]]
    for host in ("absent.test", "empty.test"):
        result = await fetched(runner, f"GET {service.url(host=host)}", hosts=[host])
        assert result.output == b"NameUnknown"
        assert result.hosts == ()
    with pytest.raises(OSError):  # `localhost` is in a file of the machine, which is not asked
        await CheckedResolver(1)._addresses("localhost.invalid")


async def test_names_that_are_answered_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN109: abandoned look-ups do not delay other runs."""
    answered, asked_for, look_up = threading.Event(), threading.Semaphore(0), socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **more: Any) -> Any:
        if not host.startswith("slow"):
            return look_up("127.0.0.1", *arguments, **more)
        asked_for.release()
        answered.wait(PATIENCE_S)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    settings = Outbound(request_s=PATIENCE_S)
    async with settings as outbound:
        slow = [
            asyncio.create_task(_asked_of(outbound, f"slow{number}.test")) for number in range(100)
        ]
        try:
            for _ in slow:
                assert await asyncio.to_thread(asked_for.acquire, timeout=PATIENCE_S)
            for one in slow:  # as where runs end
                one.cancel()
            assert [b"address-refused"] == await _asked_of(outbound, HOST)
        finally:
            answered.set()
            await asyncio.gather(*slow, return_exceptions=True)


async def _asked_of(outbound: Outbound, host: str) -> list[bytes]:
    """Send a request to a host, and return the answer."""
    message = pack_parts([b"GET", f"https://{host}/".encode(), b""])
    return unpack_parts(await RunClient(outbound, frozenset({host})).answer(message))


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Host:x",
            "connection:x",
            "Content-Length:3",
            "Transfer-Encoding:chunked",
            "TE:x",
            "Upgrade:x",
        ),
        *(
            "Proxy-Connection:x",
            "Expect:100-continue",
            "X\r\nY:1",
            "X:1\r\nY:2",
            "X:1\nY:2",
            "X:\x00",
            "X:ä",
        ),
        *(":x", "X Y:1", "X:1 ", "X: 1"),
    ],
)
async def test_headers_that_are_refused(header: str) -> None:
    """RN105: headers of the connection and line ends in headers are refused."""
    name, _, value = header.partition(":")
    assert b"request-invalid" == await _alone(
        b"GET", b"https://api.test/", name.encode(), value.encode(), b""
    )
    assert b"address-refused" == await _alone(b"GET", b"https://api.test/", b"X", b"", b"")


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "", "GET /", "X"])
async def test_methods_that_are_refused(method: str) -> None:
    """RN105: a request with a method other than the seven allowed ones is refused."""
    assert b"request-invalid" == await _alone(method.encode(), b"https://api.test/", b"")


async def test_headers_are_bounded() -> None:
    """RN105: a request has at most 64 headers of 16 KiB together."""
    url = (b"GET", b"https://api.test/")
    assert b"address-refused" == await _alone(*url, *[b"n", b"v"] * 64, b"")
    assert b"request-invalid" == await _alone(*url, *[b"n", b"v"] * 65, b"")
    assert b"address-refused" == await _alone(*url, b"n", b"v" * 16383, b"")
    assert b"request-invalid" == await _alone(*url, b"n", b"v" * 16384, b"")
    assert b"request-invalid" == await _alone(*url, b"n", b"")  # half of a header


async def _alone(*parts: bytes) -> bytes:
    """Return the error of a request that is valid except for its address."""
    async with Outbound(resolve=_inward) as outbound:
        (error,) = unpack_parts(
            await RunClient(outbound, frozenset({HOST})).answer(pack_parts(parts))
        )
    return error


@pytest.mark.parametrize("name", FETCHERS)
async def test_bodies_are_bounded(runner: Executor, service: Service, name: str) -> None:
    """RN109: requests and responses have at most 1 MiB, headers included."""
    line = f"POST {service.url('/echo')}"
    most = MAX_MESSAGE_BYTES - len(pack_parts([b"POST", service.url("/echo").encode(), b""]))
    await fetched(runner, line, bytes(most), name=name)
    assert [most] == [len(body) for body in service.bodies]
    assert b"RequestInvalid" == (await fetched(runner, line, bytes(most + 1), name=name)).output
    # RN24: what the host needs for it is not in the limit of a small guest.
    fits = await fetched(
        runner,
        f"PUT {service.url('/large?size=1000000')}",
        bytes(1_000_000),
        name=name,
        mebibytes=12,
    )
    assert code(fits) == "completed"
    assert bytes(fits.output).partition(b"\n\n")[2] == bytes(1_000_000)
    assert "ResponseTooLarge" == await said(
        runner, f"GET {service.url('/large?size=1048577')}", name=name
    )


@pytest.mark.parametrize("name", FETCHERS)
async def test_requests_of_a_run_are_counted(runner: Executor, service: Service, name: str) -> None:
    """RN109: requests over the limit of a run are refused, and each run has its own limit."""
    for _ in range(2):
        assert "200" == await said(runner, f"TIMES 3 GET {service.url('/echo')}", name=name)
    assert "RequestsExhausted" == await said(
        runner, f"TIMES 4 GET {service.url('/echo')}", name=name
    )
    assert 9 == len(service.seen)
    # A guest that goes on asks its own process; a process that asks the runner again is ended.
    assert "RequestsExhausted" == await said(
        runner, f"TIMES 9 GET {service.url('/echo')}", name=name
    )
    async with Outbound(resolve=_never, most_requests=0) as outbound:
        client = RunClient(outbound, frozenset())
        assert [b"requests-exhausted"] == unpack_parts(await client.answer(b""))
        with pytest.raises(EOFError):
            await client.answer(b"")


@pytest.mark.parametrize("name", FETCHERS)
async def test_a_service_that_does_not_answer(
    runner: Executor, service: Service, name: str
) -> None:
    """RN19, RN110: a run that times out in a request still reports its host."""
    result = await fetched(runner, f"GET {service.url('/slow')}", name=name, seconds=1)
    assert code(result) == "limit-time"
    assert result.hosts == (HOST,)
    assert result.time_ns >= 1_000_000_000


@pytest.mark.parametrize("ends", ["the child", "the runner"])
async def test_who_ends_while_a_service_is_waited_for(service: Service, ends: str) -> None:
    """RN100: the request of a child that ends is cancelled at once."""
    begun = asyncio.Event()

    async def never(host: str) -> list[str]:
        begun.set()
        await asyncio.Event().wait()
        return []

    outbound = Outbound(loopback_ca=service.ca, resolve=never, request_s=10 * PATIENCE_S)
    async with AsyncExitStack() as stack:
        runner = await stack.enter_async_context(Executor(children=1, spare=1, outbound=outbound))
        run = asyncio.create_task(fetched(runner, f"GET {service.url()}"))
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
            if ends == "the child":
                killed = children(kind="_run_child")
                for process in killed:
                    os.kill(process, signal.SIGKILL)
                # Idle children of the module's executor are among them. One that has not ended yet
                # would be given the next run.
                assert are_gone(killed)
                assert "run-crashed" == code(await run)
            else:
                await stack.aclose()
                assert "runner-closed" == code(await run)


async def test_a_request_has_a_time_of_its_own(service: Service) -> None:
    """RN109: a request times out on a slow service and on a slow name server."""

    async def never(host: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    for resolve in (service.resolve, never):
        settings = Outbound(loopback_ca=service.ca, resolve=resolve, request_s=0.05)
        async with settings as outbound:
            answer = RunClient(outbound, frozenset({HOST})).answer(
                pack_parts([b"GET", service.url("/slow").encode(), b""])
            )
            assert b"timed-out" == unpack_parts(await answer)[0]


# --- guests ---------------------------------------------------------------------------------------

_IMPORTS = """
(import "sealspace:http/client@0.1.0" "fetch" (func $fetch (param i32 i32) (result i32)))
(import "sealspace:http/client@0.1.0" "read" (func $read (param i32 i32) (result i32)))
"""


def module(body: str, *, memory: str = '(memory (export "memory") 1)') -> Guest:
    """A module of a test's own."""
    text = f'(module {_IMPORTS} {memory} (func (export "_start") {body}))'
    return Guest(bytes(wasmtime.wat2wasm(text)), "wasm32-wasip1")


@pytest.mark.parametrize("function", ["fetch", "read"])
@pytest.mark.parametrize(
    ("address", "length", "expected"),
    [
        (0, 65536, "completed"),
        (65536, 0, "completed"),
        (1, 65536, "guest-trap"),
        (65537, 0, "guest-trap"),
        (-1, 1, "guest-trap"),
        (-4, 8, "guest-trap"),
        (0, -1, "guest-trap"),
        (-1, -1, "guest-trap"),
        (2147483647, 2147483647, "guest-trap"),
    ],
)
async def test_addresses_outside_a_memory(
    runner: Executor, function: str, address: int, length: int, expected: str
) -> None:
    """RN101: an address range that is not wholly in the guest's memory traps."""
    program = module(f"(drop (call ${function} (i32.const {address}) (i32.const {length})))")
    assert expected == code(await run_guest(runner, program))


@pytest.mark.parametrize(
    "memory", ["", '(func (export "memory"))', '(table (export "memory") 1 funcref)', "(memory 1)"]
)
async def test_a_module_without_a_memory(runner: Executor, memory: str) -> None:
    """RN101: a guest without an exported memory traps."""
    assert "guest-trap" == code(
        await run_guest(
            runner, module("(drop (call $fetch (i32.const 0) (i32.const 0)))", memory=memory)
        )
    )


async def test_a_guest_that_never_reads(runner: Executor, service: Service) -> None:
    """RN101: an unread response is dropped, and a read one yields no further bytes."""
    message = pack_parts([b"GET", service.url("/large?size=9").encode(), b""])
    text = "".join(f"\\{byte:02x}" for byte in message)
    fetch = f"(call $fetch (i32.const 0) (i32.const {len(message)}))"
    read = "(call $read (i32.const 1024) (i32.const 60000))"
    check = f"(if (i32.ne {read} (local.get 0)) (then unreachable)) (if {read} (then unreachable))"
    memory = f'(memory (export "memory") 1) (data (i32.const 0) "{text}")'
    program = module(f"(local i32) (drop {fetch}) (local.set 0 {fetch}) {check}", memory=memory)
    request = replace(run_request(program), hosts=frozenset({HOST}))
    assert "completed" == code(await runner.run(request, program.load))
    assert 2 == len(service.seen)
    request = replace(
        run_request(module(f"(drop {fetch})", memory=memory)), hosts=frozenset({HOST})
    )
    assert "completed" == code(
        await runner.run(request, module(f"(drop {fetch})", memory=memory).load)
    )
    left = module(f"(if {read} (then unreachable))")
    assert "completed" == code(await run_guest(runner, left))  # the same process, another run


async def test_a_guest_that_asks_for_nonsense(runner: Executor) -> None:
    """RN101: a malformed message is answered with `request-invalid`."""
    memory = '(memory (export "memory") 20)'
    for length in (0, 3, 4, 1000, MAX_MESSAGE_BYTES + 1):
        body = (
            f"(if (i32.ne (call $fetch (i32.const 0) (i32.const {length})) (i32.const -1)) (then"
            " unreachable))"
        )
        assert "completed" == code(await run_guest(runner, module(body, memory=memory))), length


_OTHER_TYPES = [
    '(import "sealspace:http/client@0.1.0" "fetch" (func (param i32) (result i32)))',
    '(import "sealspace:http/client@0.1.0" "fetch" (func (param i64 i32) (result i32)))',
    '(import "sealspace:http/client@0.1.0" "send" (func (param i32 i32) (result i32)))',
    '(import "sealspace:http/client@0.2.0" "fetch" (func (param i32 i32) (result i32)))',
    '(import "wasi:http/outgoing-handler" "handle" (func (param i32 i32) (result i32)))',
]


@pytest.mark.parametrize("imported", _OTHER_TYPES)
async def test_imports_that_nobody_offers(runner: Executor, imported: str) -> None:
    """RN13: a module is refused at compilation if it imports an unknown function, version or
    type."""
    text = f'(module {imported} (memory (export "memory") 1) (func (export "_start")))'
    result = await run_guest(runner, Guest(bytes(wasmtime.wat2wasm(text)), "wasm32-wasip1"))
    assert "program-imports" == code(result)


@pytest.mark.parametrize(
    "imported",
    [
        '(export "fetch" (func (param "request" string) (result string)))',
        '(export "fetch" (func (param "request" (list u8)) (result (list u8))))',
        '(export "send" (func (param "request" string) (result string)))',
        "",
    ],
)
async def test_a_component_that_declares_the_interface_otherwise(
    runner: Executor, imported: str
) -> None:
    """RN13: a component's own types must equal those of the interface."""
    text = f"""(component
      (import "sealspace:http/client@0.1.0" (instance {imported}))
      (core module $one (func (export "run") (result i32) i32.const 0))
      (core instance $a (instantiate $one))
      (func $run (result (result)) (canon lift (core func $a "run")))
      (instance $cli (export "run" (func $run)))
      (export "wasi:cli/run@0.2.0" (instance $cli)))"""
    result = await run_guest(runner, Guest(bytes(wasmtime.wat2wasm(text)), "wasm32-wasip2"))
    named = imported.split('"')[1:2]
    assert code(result) == "program-imports"
    assert detail_of(result) == " ".join(["sealspace:http/client@0.1.0", *named])


async def test_errors_have_the_numbers_of_the_interface() -> None:
    """The WIT file lists the errors in the runner's order."""
    wit = (REPOSITORY / "spec" / "runner" / "http.wit").read_text()
    cases = wit.partition("enum error {")[2].partition("}")[0].splitlines()
    assert FETCH_ERRORS == tuple(
        line.strip(" ,") for line in cases if line.strip() and "///" not in line
    )
