"""Tests of the local page for a browser wallet: its clients, requests and answers."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S
from wallet_tab import WalletTab

from capabilities.strict_json import Json
from node.console_files import HEADERS
from sealspace.cli.owner import wallet_page
from sealspace.cli.owner.wallet_page import (
    MAX_BODY_BYTES,
    MAX_CONNECTIONS,
    AnswerRefused,
    WalletPage,
    peer_user,
)
from sealspace.errors import SealspaceError
from sealspace.service.command_errors import NotSigned
from sealspace.wallets import new_wallet

A, B = "0" * 32, "1" * 32
NOBODY = 65534
OF = ("sealspace login", "http://127.0.0.1:8000")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WalletPage]:
    """A server whose command requests no signature."""
    monkeypatch.setattr(wallet_page, "FAREWELL_S", 0.05)  # no tab of these tests waits for the end
    with WalletPage(*OF) as server:
        yield server


@pytest.fixture
def tab(server: WalletPage) -> WalletTab:
    """A tab that was opened at the address."""
    tab = WalletTab(server.url, new_wallet())
    tab.next()
    return tab


def _address(server: WalletPage) -> tuple[str, int]:
    return "127.0.0.1", server.server_address[1]


# --- who is answered ------------------------------------------------------------------------------


def test_LP1_the_system_says_whose_a_connection_is(server: WalletPage) -> None:
    """LP1: the kernel's table names this user for both ends of a connection."""
    with socket.create_connection(_address(server)) as client:
        assert peer_user(client.getsockname(), client.getpeername()) == os.geteuid()
        assert peer_user(client.getpeername(), ("127.0.0.1", 1)) is None
    assert peer_user(client_of(server), ("127.0.0.1", 1)) is None


def client_of(server: WalletPage) -> tuple[str, int]:
    """Return the client's end of a closed connection."""
    with socket.create_connection(_address(server)) as client:
        end: tuple[str, int] = client.getsockname()
    return end


@pytest.mark.parametrize(
    ("row", "user"),
    [
        (
            "0: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000 0 7",
            1000,
        ),
        (
            (
                "0: 0000000000000000FFFF00000100007F:9C40 0000000000000000FFFF00000100007F:1F90 01"
                " 0:0 0:0 0  1000 0 7"
            ),
            1000,
        ),
        (
            "0: 0100007F:9C40 0100007F:1F90 04 00000000:00000000 00:00000000 00000000     0 0 0",
            None,
        ),
        (
            "0: 0100007F:9C40 0100007F:1F90 05 00000000:00000000 00:00000000 00000000     0 0 0",
            None,
        ),
        (
            "0: 0100007F:9C40 0100007F:1F90 06 00000000:00000000 00:00000000 00000000     0 0 0",
            None,
        ),
        (
            "0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000 0 7",
            None,
        ),
        (
            "0: 0200007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000 0 7",
            None,
        ),
        ("0: 0100007F:9C40", None),
    ],
)
def test_LP1_a_closed_socket_is_nobody_s(tmp_path: Path, row: str, user: int | None) -> None:
    """LP1: a closed socket, which the kernel lists under root, does not let another user in."""
    if sys.byteorder != "little":
        pytest.skip("the rows are those of a little-endian machine")
    table = tmp_path / "tcp"
    table.write_text(f"  sl  local_address rem_address\n  {row}\n")
    assert user == peer_user(
        ("127.0.0.1", 0x9C40), ("127.0.0.1", 0x1F90), tables=[tmp_path / "absent", table]
    )


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("bash") is None, reason="needs root and bash")
def test_LP1_another_user_gets_nothing(
    server: WalletPage, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another user gets no byte, even with the token, and the owner is told once."""
    script = (
        f"exec 3<>/dev/tcp/127.0.0.1/{server.server_address[1]}; printf 'GET /{server.token}/"
        f" HTTP/1.0\\r\\nHost: {server.authority}\\r\\n\\r\\n' >&3; cat <&3"
    )
    for _ in range(2):
        got = subprocess.run(
            ["bash", "-c", script], user=NOBODY, capture_output=True, timeout=PATIENCE_S, cwd="/"
        )
        assert got.stdout == b""
    assert capfd.readouterr().err.count(f"another user of this machine (id {NOBODY})") == 1


@pytest.mark.parametrize(
    "host", ["localhost", "evil.example", "127.0.0.1", "[::1]", "127.1", None, "0.0.0.0"]
)
def test_LP2_only_under_the_address_that_was_printed(
    server: WalletPage, tab: WalletTab, host: str | None
) -> None:
    """LP2: a request under another host name, or without the port, is refused."""
    port = server.server_address[1]
    for named in {host, host and f"{host}:{port}"} - {server.authority}:
        status, body, _ = tab.ask("GET", "", headers={"Host": named})
        assert status == 421
        assert b"<html" not in body


def test_LP3_only_below_the_token(server: WalletPage, tab: WalletTab) -> None:
    """LP3: only the complete token is accepted, and a refusal reveals nothing about it."""
    token = server.token
    assert len(token) == 43
    others = (token[:-1], token + "A", token.swapcase(), "", "%2e", token[::-1], "%c3%a9")
    for other in others:
        for method in ("GET", "POST"):
            status, body, _ = tab.ask(
                method, f"/{other}/", body=b"{}" if method == "POST" else None
            )
            assert status == 404
            assert token.encode() not in body
    assert tab.ask("GET", "/")[0] == tab.ask("GET", f"http://{server.authority}/")[0] == 404
    with WalletPage(*OF) as another:
        assert another.token != token


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": None},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost"},
        {"Content-Type": "text/plain"},
        {"Content-Type": None},
    ],
)
def test_LP4_what_changes_something_comes_from_the_page(
    tab: WalletTab, headers: dict[str, str | None]
) -> None:
    """LP4: a form or a script of another origin cannot send an accepted request."""
    for said in ({"answer": {}}, {"answer": None}, {}):
        body = json.dumps({"tab": tab.name, "version": 1, **said}).encode()
        assert tab.ask("POST", "", body=body, headers=headers)[0] == 403


def test_LP4_no_other_origin_reads(tab: WalletTab) -> None:
    """Other origins can read nothing, not even the public files."""
    for path in ("", "files/style.css"):
        assert tab.ask("GET", path, headers={"Origin": "http://evil.example"})[0] == 403


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {"Content-Length": str(MAX_BODY_BYTES + 1)}, 413),
        (b"", {"Content-Length": None}, 411),
        (b"", {"Content-Length": "-1"}, 411),
        (b"0\r\n\r\n", {"Content-Length": None, "Transfer-Encoding": "chunked"}, 411),
        (b"[]", {}, 400),
        (b"{", {}, 400),
        (b"{}", {}, 400),
        (b'{"tab":1}', {}, 400),
        (b'{"tab":"a","tab":"b"}', {}, 400),
    ],
)
def test_LP5_bodies_are_bounded_and_strict(
    tab: WalletTab, body: bytes, headers: dict[str, str | None], status: int
) -> None:
    """The length of a body is checked before any byte is read."""
    assert tab.ask("POST", "", body=body, headers=headers)[0] == status


def test_LP5_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """LP5: a connection over the limit is closed at once, and a silent one after a timeout."""
    monkeypatch.setattr("sealspace.cli.owner.wallet_page._Exchange.timeout", 1.0)
    with WalletPage(*OF) as server:
        held = [
            socket.create_connection(_address(server), PATIENCE_S) for _ in range(MAX_CONNECTIONS)
        ]
        with socket.create_connection(_address(server), PATIENCE_S) as more:
            assert more.recv(1) == b""
        for one in held:
            assert one.recv(1) == b""
            one.close()
        assert WalletTab(server.url, new_wallet()).ask("GET", "")[0] == 200


def test_every_answer_has_the_console_s_headers(server: WalletPage, tab: WalletTab) -> None:
    """Files, answers and refusals have the console's headers, and are not cached."""
    for method, path in [
        ("GET", ""),
        ("GET", "files/style.css"),
        ("GET", "files/none"),
        ("GET", "/"),
        ("PUT", ""),
    ]:
        _, _, headers = tab.ask(method, path)
        assert HEADERS.items() <= headers.items()
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "files/../console_files.py",
        "files/%2e%2e/errors.py",
        "files//etc/passwd",
        "files/sign_in/index.html",
        "sign_in/page.js",
    ],
)
def test_only_files_of_the_console(tab: WalletTab, path: str) -> None:
    """Files are found in a fixed list; the requested name is never opened."""
    assert tab.ask("GET", path)[0] == 404


# --- the questions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opened", "kind", "text"),
    [
        (
            False,
            "connect",
            "waiting for the browser wallet timed out after 0.001 minutes: the page was not opened",
        ),
        (
            True,
            "connect",
            "waiting for the browser wallet timed out after 0.001 minutes: no wallet was connected",
        ),
        (
            True,
            "sign",
            "waiting for the browser wallet timed out after 0.001 minutes: the wallet did not sign",
        ),
    ],
)
def test_nobody_answers_in_time(
    opened: bool, kind: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error after a timeout says how far the sign-in got and names the next step."""
    monkeypatch.setattr("sealspace.cli.owner.wallet_page.LIMIT_S", 0.06)
    page = WalletPage(*OF)
    if opened:
        page.exchange({"tab": A, "version": 0})
    with pytest.raises(NotSigned) as caught:
        page.ask({"kind": kind}, dict)
    page.server_close()
    assert caught.value.message == text
    assert "again" in caught.value.hint


def _opened(page: WalletPage, tab: str, version: Json = 0) -> Json:
    return page.exchange({"tab": tab, "version": version})["version"]


def test_the_tab_that_was_opened_last_answers(server: WalletPage) -> None:
    """LP5: only the tab that was opened last can answer. An earlier tab is told at once."""
    version = _opened(server, A)
    told = list[str]()

    def wait() -> None:
        try:
            _opened(server, A, version)
        except AnswerRefused as refusal:
            told.append(refusal.text)

    waiting = threading.Thread(target=wait)
    waiting.start()
    _opened(server, B)
    waiting.join(PATIENCE_S)
    assert ["another tab" in text for text in told] == [True]
    for answer in ({}, None):
        with pytest.raises(AnswerRefused, match="another tab"):
            server.exchange({"tab": A, "version": version, "answer": answer})


@pytest.mark.parametrize("name", ["", "short", "G" * 32, A + "0", 7])
def test_a_tab_has_a_name(server: WalletPage, name: Json) -> None:
    """A tab whose id is malformed is refused."""
    with pytest.raises(AnswerRefused):
        server.exchange({"tab": name, "version": 0})


def test_one_question_has_one_answer(server: WalletPage) -> None:
    """A second answer, an answer to an earlier question, and one without a question are refused."""

    def answer(to: Json, **said: Json) -> None:
        server.exchange({"tab": A, "version": to, "answer": said})

    version = _opened(server, A)
    with pytest.raises(AnswerRefused, match="already been answered"):
        answer(version)
    answered = list[object]()
    command = threading.Thread(target=lambda: answered.append(server.ask({"kind": "sign"}, dict)))
    command.start()
    view = server.exchange({"tab": A, "version": version})
    assert view["kind"] == "sign"
    assert view["command"] == OF[0]
    with pytest.raises(AnswerRefused, match="already been answered"):
        answer(version, a=0)
    answer(view["version"], a=1)
    with pytest.raises(AnswerRefused, match="already been answered"):
        answer(view["version"], a=2)
    command.join(PATIENCE_S)
    assert answered == [{"a": 1}]


def test_the_last_word_is_waited_for() -> None:
    """The command ends after the page received the last message."""
    server = WalletPage(*OF)
    tab = WalletTab(server.url, new_wallet())

    def end() -> None:
        with contextlib.suppress(SealspaceError), server:
            tab.next()
            opened.set()
            raise SealspaceError("bad \u202e\x07 text")

    opened = threading.Event()
    ending = threading.Thread(target=end)
    ending.start()
    assert opened.wait(PATIENCE_S)
    view = tab.next()
    ending.join(PATIENCE_S)
    assert view["kind"] == "failed"
    assert view["text"] == "bad \ufffd\ufffd text"
    assert not ending.is_alive()
