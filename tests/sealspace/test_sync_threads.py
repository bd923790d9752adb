"""Tests of the synchronous client's thread: concurrent callers, forks, interrupts and closing."""

import asyncio
import gc
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from patience import PATIENCE_S
from running_node import RunningNode, running_node, until
from tests_support import REPOSITORY

from capabilities.signatures import Ed25519Signer, WalletSigner
from sealspace.errors import ClientClosed, ClientNotReady, NotFound
from sealspace.session import save_session
from sealspace.sync import Client
from sealspace.wallets import new_wallet
from sealspace.wire.transport import TransportSettings

if TYPE_CHECKING:
    from _typeshed import TraceFunction

WAIT_S = PATIENCE_S


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node in processes of its own; each test signs in a new owner."""
    with running_node(tmp_path_factory.mktemp("node"), workers=1) as node:
        yield node


@pytest.fixture
def client(node: RunningNode) -> Iterator[Client]:
    """A client of a new owner."""
    with Client(node.url) as client:
        client.sign_in(new_wallet())
        yield client


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sealspace.sync"]


def program(node: RunningNode, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a program with a signed-in `client`, and return its output."""
    with Client(node.url) as client:
        session = client.sign_in(new_wallet())
    save_session(session, folder / "session.json")
    head = (
        "import atexit, os, threading\n"
        # Registered first, it runs last.
        "left = lambda: [one.name for one in threading.enumerate() if one.name =="
        " 'sealspace.sync']\natexit.register(lambda: os.write(1, b'threads left: %a\\n' %"
        " left()))\nfrom pathlib import Path\nfrom sealspace.session import load_session\nfrom"
        f" sealspace.sync import Client\nclient = Client({node.url!r},"
        " session=load_session(Path('session.json')))\n"
    )
    return subprocess.run(
        # From 3.12 on Python warns about a fork in a process with threads.
        [
            sys.executable,
            "-u",  # in the order in which the program and its last hook print
            "-W",
            "error",
            "-W",
            "ignore:This process:DeprecationWarning",
            "-c",
            head + text,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def outcome(ran: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return ran.returncode, ran.stdout, ran.stderr


# --- threads --------------------------------------------------------------------------------------


def test_many_threads_use_one_client(client: Client) -> None:
    """Concurrent calls each get their own answer, and share one thread."""
    kv, before = client.kv(), len(loop_threads())

    def put_and_get(at: int) -> bytes:
        kv.put(f"many/{at}", str(at))
        return kv.get(f"many/{at}").body

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(put_and_get, range(100)))
    assert found == [str(at).encode() for at in range(100)]
    assert sorted(kv.list("many/")) == sorted(f"many/{at}" for at in range(100))
    assert len(loop_threads()) == before


def test_the_thread_begins_with_the_first_call_and_ends_with_close(node: RunningNode) -> None:
    """The client's thread starts with the first call and ends with `close`."""
    before = len(loop_threads())
    client = Client(node.url)
    assert len(loop_threads()) == before
    assert client.info().node_id.startswith("did:key:")
    assert len(loop_threads()) == before + 1
    client.close()
    client.close()
    assert len(loop_threads()) == before
    with pytest.raises(ClientClosed):
        client.info()
    assert len(loop_threads()) == before


def test_a_thread_that_cannot_be_started(node: RunningNode) -> None:
    """If the client's thread cannot be started, the call fails and the next call tries again."""
    with Client(node.url) as client:
        before = threading.stack_size(1 << 46)  # more than there is
        try:
            for _ in range(2):
                with pytest.raises(RuntimeError, match="thread"):
                    client.info()
        finally:
            threading.stack_size(before)
        assert client.info().node_id.startswith("did:key:")


def test_a_client_that_nobody_refers_to_ends_its_thread(node: RunningNode) -> None:
    """A client without references ends its thread."""
    before = len(loop_threads())
    client = Client(node.url)
    client.sign_in(new_wallet())
    kv = client.kv()
    del client
    gc.collect()
    kv.put("a", "1")
    assert len(loop_threads()) == before + 1
    del kv
    gc.collect()
    until(lambda: len(loop_threads()) == before)


def test_closing_ends_the_calls_of_other_threads() -> None:
    """Closing the client ends running calls of other threads with ClientClosed."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ThreadPoolExecutor(2) as pool,
        ExitStack() as connections,
    ):
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}")
        calls = [pool.submit(client.info) for _ in range(2)]
        for _ in calls:
            connection = connections.enter_context(silent.accept()[0])
            assert connection.recv(4096)
        client.close()
        for call in calls:
            with pytest.raises(ClientClosed, match="during this call"):
                call.result(WAIT_S)


def test_a_wallet_may_not_use_the_client_that_asks_it(client: Client) -> None:
    """A wallet that calls its own client while signing gets an error instead of a deadlock."""

    class Curious:
        address, chain_id, did = WALLET.address, WALLET.chain_id, WALLET.did

        def sign_eip191(self, text: str) -> bytes:
            client.kv().get("a")
            return WALLET.sign_eip191(text)

    with pytest.raises(ClientNotReady, match="cause a deadlock"):
        client.sign_in(Curious())
    client.kv().put("a", "1")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, TimeoutError])
def test_whatever_a_wallet_raises_reaches_the_caller(
    client: Client, kind: type[BaseException]
) -> None:
    """An exception of a wallet reaches the caller, and the client stays usable."""

    class Leaving:
        address, chain_id, did = WALLET.address, WALLET.chain_id, WALLET.did

        def sign_eip191(self, text: str) -> bytes:
            raise kind("no more")

    for _ in range(2):
        with pytest.raises(kind, match="no more"):
            client.sign_in(Leaving())
    client.kv().put("a", "1")


WALLET = WalletSigner(bytes([7]) * 32)


def test_an_error_shows_the_line_that_called(client: Client) -> None:
    """The traceback leads from the caller's own line into the client."""
    with pytest.raises(NotFound) as raised:
        client.kv().get("absent")
    names = [entry.name for entry in raised.traceback]
    assert names[0] == "test_an_error_shows_the_line_that_called"
    assert "get" in names


# --- lists ----------------------------------------------------------------------------------------


def test_an_iteration_that_is_abandoned(client: Client) -> None:
    """A client stays usable after an iteration is abandoned."""
    kv = client.kv()
    for at in range(5):
        kv.put(f"half/{at}", "1")
    keys = kv.list("half/", page_keys=2)
    assert [next(keys), next(keys), next(keys)] == ["half/0", "half/1", "half/2"]
    del keys
    gc.collect()
    for key in kv.list("half/", page_keys=1):
        assert key == "half/0"
        break
    assert list(kv.list("half/", page_keys=3)) == [f"half/{at}" for at in range(5)]
    waiting = kv.list("half/", page_keys=2)
    next(waiting)
    client.close()
    with pytest.raises(ClientClosed):
        list(waiting)


def test_two_threads_share_no_iteration(client: Client) -> None:
    """Iterations in two threads do not affect each other."""
    kv = client.kv()
    for at in range(20):
        kv.put(f"side/{at:02}", "1")
    expected = [f"side/{at:02}" for at in range(20)]
    with ThreadPoolExecutor(4) as pool:
        assert (
            list(pool.map(lambda size: list(kv.list("side/", page_keys=size)), (1, 3, 7, 20)))
            == [expected] * 4
        )


# --- transfers ------------------------------------------------------------------------------------


def test_progress_is_called_in_the_caller_s_thread(client: Client, tmp_path: Path) -> None:
    """Progress callbacks run in the caller's thread before the call returns."""
    kv, threads, moves = client.kv(), set(), []

    def note(moved_bytes: int, size_bytes: int | None) -> None:
        threads.add(threading.get_ident())
        moves.append(moved_bytes)
        kv.put("progress", str(moved_bytes))

    pieces = [bytes(100_000)] * 5
    kv.upload("large", iter(pieces), progress=note)
    assert moves == [100_000 * at for at in range(1, 6)]
    moves.clear()
    kv.download("large", tmp_path / "large", progress=note)
    assert moves == sorted(moves) and moves[-1] == 500_000
    assert threads == {threading.get_ident()}
    assert kv.get("progress").body == b"500000"
    assert b"".join(kv.stream("large")) == b"".join(pieces)


def test_a_progress_that_raises_cancels_the_call(client: Client) -> None:
    """An exception of a progress callback cancels the upload, and the client stays usable."""
    kv, stop = client.kv(), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        assert stop.wait(WAIT_S)
        yield b"second"

    def give_up(moved_bytes: int, size_bytes: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kv.upload("up", pieces(), progress=give_up)
    stop.set()  # the call is cancelled already, so that what follows is not sent
    with pytest.raises(NotFound):
        kv.get("up")
    kv.put("up", "the client goes on")


def test_a_stream_that_is_abandoned(client: Client) -> None:
    """A client stays usable after a stream is abandoned."""
    kv = client.kv()
    kv.upload("large", [bytes(1_000_000)] * 20)
    for _ in range(3):
        stream = kv.stream("large")
        assert next(stream)
        del stream
    assert kv.get("large", max_bytes=30_000_000).body == bytes(20_000_000)


# --- event loops ----------------------------------------------------------------------------------


async def test_a_loop_that_runs_in_the_same_thread(client: Client) -> None:
    """The client can be called in a thread with a running event loop, such as a notebook's."""
    client.kv().put("a", "1")
    assert client.kv().get("a").body == b"1"
    assert list(client.kv().list()) == ["a"]
    assert [b"1", b"1"] == [
        value.body
        for value in await asyncio.gather(
            *(asyncio.to_thread(client.kv().get, "a") for _ in range(2))
        )
    ]


def test_a_call_inside_a_loop_inside_a_call(client: Client, node: RunningNode) -> None:
    """A wallet can call another client while it signs."""
    with Client(node.url) as other:
        other.sign_in(new_wallet())

        class Nested:
            address, chain_id, did = WALLET.address, WALLET.chain_id, WALLET.did

            def sign_eip191(self, text: str) -> bytes:
                other.kv().put("signed", "1")
                return WALLET.sign_eip191(text)

        client.sign_in(Nested())
        assert other.kv().get("signed").body == b"1"


# --- interrupts -----------------------------------------------------------------------------------


@contextmanager
def interrupted() -> Iterator[Callable[[], None]]:
    """Return a function that sends SIGINT to the main thread."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


class Halting:
    """A server that interrupts the main thread instead of answering its first request."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.left = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._socket:
            first = self._socket.accept()[0]
            with first:
                assert first.recv(4096)
                self._interrupt()
                if first.recv(4096) == b"":
                    self.left.set()
            second = self._socket.accept()[0]
            with second:
                assert second.recv(4096)
                body = json.dumps({"protocol": 1, "nodeId": Ed25519Signer(bytes(32)).did}).encode()
                second.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                )
                second.recv(4096)

    def close(self) -> None:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


def test_an_interrupt_cancels_the_call() -> None:
    """Ctrl-C cancels the running request, and the client stays usable."""
    with interrupted() as interrupt:
        server = Halting(interrupt)
        with Client(server.url, settings=TransportSettings(tries=1, timeout_s=WAIT_S)) as client:
            with pytest.raises(KeyboardInterrupt):
                client.info()
            assert server.left.wait(WAIT_S)
            assert client.info().node_id == Ed25519Signer(bytes(32)).did
    server.close()


@contextmanager
def interrupted_at(event: str, until: Callable[[], object]) -> Iterator[None]:
    """Raise KeyboardInterrupt just before (`call`) or after (`return`) a call is passed to the
    loop."""

    def trace(frame: FrameType, happens: str, _: object) -> "TraceFunction":
        if (frame.f_code.co_name, happens) == ("call_soon_threadsafe", event):
            sys.settrace(None)
            until()
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_an_interrupt_when_the_loop_has_the_call_already() -> None:
    """Ctrl-C after the call was passed to the loop cancels the request."""
    begun = threading.Event()
    server = Halting(begun.set)
    with Client(server.url, settings=TransportSettings(tries=1, timeout_s=WAIT_S)) as client:
        with pytest.raises(KeyboardInterrupt), interrupted_at("return", lambda: begun.wait(WAIT_S)):
            client.info()
        assert server.left.wait(WAIT_S)
        assert client.info().node_id == Ed25519Signer(bytes(32)).did
    server.close()


def test_an_interrupt_before_the_loop_has_the_call(node: RunningNode) -> None:
    """Ctrl-C before the call is passed to the loop leaves no unawaited coroutine."""
    with Client(node.url) as client:
        with pytest.raises(KeyboardInterrupt), interrupted_at("call", lambda: None):
            client.info()
        assert client.info().features
    gc.collect()


# --- forks ----------------------------------------------------------------------------------------

FORKED = """
import os, sys, threading
from sealspace.wire.transport import TransportSettings
settings = TransportSettings(tries=1, timeout_s=30)
client = Client(client.url, session=client.session, settings=settings)
kv = client.kv()
kv.put("before", "1")
busy = [threading.Thread(target=lambda: [kv.get("before") for _ in range(40)]) for _ in range(4)]
[one.start() for one in busy]
children = []
for at in range(4):
    if (child := os.fork()) == 0:
        assert kv.get("before").body == b"1"
        kv.put(f"child/{at}", "1")
        assert len(threading.enumerate()) == 2
        %s
        sys.exit(0)
    children.append(child)
[one.join() for one in busy]
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
assert list(kv.list("child/")) == [f"child/{at}" for at in range(4)]
%s
print("done")
"""


@pytest.mark.parametrize("ends", ["", "client.close()"], ids=["unclosed", "closed"])
def test_a_client_works_on_both_sides_of_a_fork(
    node: RunningNode, tmp_path: Path, ends: str
) -> None:
    """After a fork, each child makes new connections and the parent keeps its own."""
    in_each = "threads left: []\n"
    assert outcome(program(node, tmp_path, FORKED % (ends, ends))) == (
        0,
        4 * in_each + "done\n" + in_each,
        "",
    )


def test_a_pool_of_forked_processes(node: RunningNode, tmp_path: Path) -> None:
    """A client that was used before a fork works in the worker processes."""
    try:
        multiprocessing.get_context("fork").Semaphore()
    except OSError:
        pytest.skip("this machine allows no semaphores")
    text = """
import multiprocessing
kv = client.kv()
kv.put("a", "1")
def read(at):
    return kv.get("a").body + str(at).encode()
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(read, range(3)))
"""
    assert outcome(program(node, tmp_path, text)) == (
        0,
        "[b'10', b'11', b'12']\nthreads left: []\n",
        "",
    )


# --- the end of the program -----------------------------------------------------------------------

ENDS = {
    "unclosed": "client.kv().put('a', '1')",
    "unclosed-many": "many = [Client(client.url) for _ in range(5)]\n[one.info() for one in many]",
    "half-a-list": (
        "kv = client.kv(); kv.put('a', '1'); kv.put('b', '1'); keys = kv.list(page_keys=1);"
        " next(keys)"
    ),
    "never-used": "",
    "used-at-exit": "client.info(); atexit.register(lambda: client.kv().put('a', '1'))",
    "called-in-a-daemon": (
        "import threading, socket\n"
        "silent = socket.create_server(('127.0.0.1', 0))\n"
        "held = Client(f'http://127.0.0.1:{silent.getsockname()[1]}')\n"
        "threading.excepthook = lambda args: None\n"
        "threading.Thread(target=held.info, daemon=True).start()\n"
        "connection = silent.accept()[0]\n"
        "connection.recv(1)\n"
        "silent.close(); connection.detach()"
    ),
}


@pytest.mark.parametrize("text", ENDS.values(), ids=ENDS)
def test_a_program_ends_without_close(node: RunningNode, tmp_path: Path, text: str) -> None:
    """A program that never closes its client ends without hanging or printing a warning."""
    assert outcome(program(node, tmp_path, text + "\nprint('done')\n")) == (
        0,
        "done\nthreads left: []\n",
        "",
    )


def test_an_interrupted_program_ends(node: RunningNode, tmp_path: Path) -> None:
    """A program that is interrupted without closing its client ends with the status of an
    interrupt."""
    ran = program(
        node,
        tmp_path,
        "import os, signal\nclient.info()\nos.kill(os.getpid(), signal.SIGINT)\nclient.info()\n",
    )
    assert ran.returncode == -signal.SIGINT
    assert ran.stderr.rstrip().endswith("KeyboardInterrupt")
