"""The owner's wallet in a browser: a page on an address of this machine, for as long as one command
runs.

The page is the console's `sign_in/`, out of the installed package; no node sends it. It is opened
when something is first to be signed, and asks one question at a time.

    GET  /<token>/               the page
    GET  /<token>/files/<path>   a file of the console
    POST /<token>/               {"tab", "version"}: returns what to show, once that is another version;
                                 with "answer": an answer to the question of that version, taken once; null: cancel

Rules, each with a test: only processes of this user, or of root, are answered (LP1); only under the
address that was printed, so that no other name leads here (LP2); only below a token of 32 random
bytes (LP3); what changes something comes from the page itself, as JSON (LP4); heads, bodies,
connections and waits are bounded (LP5); the page gets no secret: the session's private key stays in
the command (LP6).

Example:
    wallet = connect_browser(node, opens=True, before=None)
    wallet.sign_eip191(text)  # waits for the person
"""

import hmac
import json
import os
import re
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final, Self, TypeVar

import click

from capabilities.capability_errors import BadSignature, CapabilityError, InvalidJson
from capabilities.clock_and_entropy import SystemEntropy
from capabilities.principals import Principal, eip55, parse_address, parse_principal, wallet_address
from capabilities.signatures import recover_eip191
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json, parse_json

from ..errors import SealspaceError
from ..printable import printable_line
from .command_errors import NotSigned
from .lazy import provided
from .listening_socket import SOCKET_TABLES, sockets
from .terminal import interruptible, print_lines, what_happened

LIMIT_S: Final = 300.0
"""How long a person has for one question."""
MAX_CONNECTIONS: Final = 32
MAX_BODY_BYTES: Final = 4096
"""Longest body: an address and a chain, or a signature."""

_HOST: Final = "127.0.0.1"
_POLL_S: Final = 20.0
_FAREWELL_S: Final = 2.0
_META: Final = "sealspace.wallet-page"
_TAB: Final = re.compile(r"[0-9a-f]{32}")
_LENGTH: Final = re.compile(r"[0-9]{1,9}")
_JSON: Final = "application/json"
_AGAIN: Final = "start the command again, and open the address that it prints"

View = Mapping[str, Json]
T = TypeVar("T")


class BrowserWallet:
    """A wallet that is asked in the page of the running command."""

    def __init__(self, did: Principal, node: str, *, opens: bool) -> None:
        self.address = wallet_address(did) or b""
        self.chain_id = int(did.split(":")[3])
        self.did = did
        self._page = partial(_page, node, opens=opens)

    @property
    def domain(self) -> str:
        """Address and port of the page: a wallet compares them with what a text names."""
        return self._page().authority

    def sign_eip191(self, text: str) -> bytes:
        """Show a text in the page, and return the wallet's signature over it; waits for the
        person."""

        def accept(said: Mapping[str, Json]) -> bytes:
            try:
                signature = bytes.fromhex(str(said.get("signature")).removeprefix("0x"))
                if recover_eip191(text.encode(), signature) == self.address:
                    return signature
            except (ValueError, BadSignature):
                pass
            raise AnswerRefused(
                409,
                f"that is no signature of {eip55(self.address)} over this text",
                hint=(
                    "choose that account in the wallet; an account that is a contract cannot sign"
                    " here"
                ),
            )

        shown: dict[str, Json] = {
            "owner": self.did,
            "address": eip55(self.address),
            "chainId": self.chain_id,
        }
        return self._page().ask({"kind": "sign", **shown, "text": text}, accept)

    def __repr__(self) -> str:
        return f"BrowserWallet({self.did})"


def connect_browser(node: str, *, opens: bool, before: str | None) -> BrowserWallet:
    """Ask a wallet for its account."""

    def accept(said: Mapping[str, Json]) -> Principal:
        # Untrusted: what is granted to an account is worth nothing without its signature.
        address, chain = said.get("address"), said.get("chainId")
        try:
            if not isinstance(chain, int) or chain < 1:
                raise ValueError
            return parse_principal(f"did:pkh:eip155:{chain}:{eip55(parse_address(str(address)))}")
        except (CapabilityError, ValueError):
            raise AnswerRefused(
                409,
                "the wallet gave no account of Ethereum",
                hint="choose an account in the wallet",
            ) from None

    return BrowserWallet(
        _page(node, opens=opens).ask({"kind": "connect", "before": before}, accept),
        node,
        opens=opens,
    )


def _page(node: str, *, opens: bool) -> "WalletPage":
    """Return the page of the running command; at first it is started, and its address printed."""
    context = click.get_current_context()
    if _META not in context.meta:
        # LP1: no connection could be answered
        if sys.platform == "linux" and not SOCKET_TABLES[0].exists():
            raise NotSigned(
                "this system does not say who connects to a page",
                hint="sealspace login --key-file FILE",
            )
        page = context.meta[_META] = context.with_resource(WalletPage(context.command_path, node))
        # Also with --quiet: without the address the command would wait in vain.
        heading = f"open this in the browser with your wallet, within {LIMIT_S / 60:g} minutes:"
        print_lines(heading, f"  {page.url}", err=True)
        # Without a display, `webbrowser` would start a browser in the terminal of the command.
        if opens and (
            sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
        ):
            # In a thread: the program that BROWSER names may be waited for until it ends.
            threading.Thread(target=webbrowser.open, args=(page.url,), daemon=True).start()
    found: WalletPage = context.meta[_META]
    return found


class AnswerRefused(Exception):
    """A request that the page may make again, with status 409, or that is not the page's."""

    def __init__(self, status: int, text: str, *, hint: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.hint = status, text, hint


class WalletPage(ThreadingMixIn, TCPServer):
    """The page of one command, and its questions; serves from threads of its own while the context
    is entered."""

    daemon_threads = True  # a connection that is left open does not keep the command
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, command: str, node: str) -> None:
        super().__init__((_HOST, 0), _Exchange)
        self._shown: View = {"command": command, "node": node}
        self.console = provided("console-files")
        self.files: dict[str, bytes] = self.console.read_files()
        self.token = encode_url(SystemEntropy().token(32))
        self.authority = f"{_HOST}:{self.server_address[1]}"
        self.url = f"http://{self.authority}/{self.token}/"
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._refused_users: set[int] = set()
        self._changed = threading.Condition()
        self._view: View = {"kind": "working"}
        self._version = 1
        self._delivered: Json = None
        self._tab = ""
        self._is_cancelled = False
        self._take: Callable[[Mapping[str, Json]], None] | None = None

    def __enter__(self) -> Self:
        threading.Thread(
            target=self.serve_forever, args=(0.05,), name="wallet page", daemon=True
        ).start()
        return self

    def __exit__(self, *failure: Any) -> None:  # Any: as in socketserver
        match failure[1]:
            case None:
                view: View = {"kind": "done"}
            case SealspaceError() as error:
                # A node's text with a change of direction would make the page say something else
                # than the terminal.
                text, hint = printable_line(what_happened(error)), printable_line(error.step)
                view = {"kind": "failed", "text": text, "hint": hint}
            case _:
                view = {"kind": "failed", "text": "the command was ended", "hint": "start it again"}
        with self._changed:
            self._show(view)
            if self._tab:
                self._changed.wait_for(lambda: self._delivered == self._version, _FAREWELL_S)
        self.shutdown()
        self.server_close()

    # --- the command ------------------------------------------------------------------------------

    def ask(self, view: View, accept: Callable[[Mapping[str, Json]], T]) -> T:
        """Show a question and wait for its answer."""
        answers: list[T] = []
        with interruptible(), self._changed:
            self._take = lambda said: answers.append(accept(said))
            self._show({**self._shown, **view})
            try:
                self._changed.wait_for(lambda: answers or self._is_cancelled, LIMIT_S)
            finally:
                self._take = None
                self._show({"kind": "working"})
        if answers:
            return answers[0]
        if self._is_cancelled:
            raise NotSigned(
                "it was cancelled in the browser, and nothing more is signed", hint=_AGAIN
            )
        missing = (
            "no wallet was connected" if view["kind"] == "connect" else "the wallet did not sign"
        )
        missing = missing if self._tab else "nobody opened the page"
        raise NotSigned(f"{missing} within {LIMIT_S / 60:g} minutes", hint=_AGAIN)

    def _show(self, view: View) -> None:
        self._view, self._version = view, self._version + 1
        self._changed.notify_all()

    # --- the page ---------------------------------------------------------------------------------

    def exchange(self, said: Mapping[str, Json]) -> View:
        """Take an answer, or return what to show as soon as that is another version, or after a
        while.

        Args:
            said: `tab`, what the page calls itself, 32 hex digits; `version` that it shows, 0 when
                it was opened just now: it answers from now on.
        Raises:
            AnswerRefused: another page was opened since, or the answer is not what was asked for,
                or no longer.
        """
        tab, version = said.get("tab"), said.get("version")
        if not isinstance(tab, str) or not isinstance(version, int):
            raise AnswerRefused(400, "that is no answer")
        with self._changed:
            if version == 0 and _TAB.fullmatch(tab):
                self._tab = tab
                self._changed.notify_all()
            if "answer" not in said:
                self._changed.wait_for(
                    lambda: self._version != version or self._tab != tab, _POLL_S
                )
            if not self._tab or tab != self._tab:  # LP5
                raise AnswerRefused(
                    409,
                    "this page was opened in another tab since",
                    hint="go on there, or load this one again",
                )
            if "answer" not in said:
                return {**self._view, "version": self._version}
            if said["answer"] is None:
                self._is_cancelled = True
            elif self._take is None or version != self._version:
                raise AnswerRefused(
                    409, "this was answered already", hint="go on with what the page shows now"
                )
            else:
                answer = said["answer"]
                self._take(answer if isinstance(answer, dict) else {})
                self._take = None  # one answer
            self._changed.notify_all()
            return {}

    def note_delivered(self, version: Json) -> None:
        """Note that the page has this version: the last one is waited for."""
        with self._changed:
            self._delivered = version
            self._changed.notify_all()

    # --- connections ------------------------------------------------------------------------------

    def verify_request(self, request: Any, client_address: Any) -> bool:  # Any: as in socketserver
        """Whether a connection is of this user, and not one too many: it is answered in a thread
        then."""
        return self._is_of_user(client_address) and self._free.acquire(blocking=False)  # LP5

    def _is_of_user(self, client_address: tuple[str, int]) -> bool:
        # which alone says whose a socket is; elsewhere the token has to do
        if sys.platform != "linux":
            return True
        user = peer_user(client_address, (_HOST, self.server_address[1]))
        if user in (0, os.geteuid()):  # LP1; root may do everything anyway
            return True
        if user is not None and user not in self._refused_users:
            self._refused_users.add(user)
            print_lines(
                f"another user of this machine (id {user}) tried to open the page, and got nothing",
                "next: open it as the user who runs the command",
                err=True,
            )
        return False

    # Any: as in socketserver
    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # Any: as in socketserver
        """Print nothing: a traceback would have the token."""


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer; the connection is closed then."""

    server: WalletPage
    timeout = 10.0  # LP5: seconds that a read waits

    def do_GET(self) -> None:
        self._answer(self._file)

    def do_POST(self) -> None:
        self._answer(self._said)

    def _answer(self, work: Callable[[str], None]) -> None:
        try:
            work(self._place())
        except AnswerRefused as refusal:
            if refusal.status == 409:
                self._send_json(409, {"text": refusal.text, "hint": refusal.hint})
            else:
                self._send(
                    refusal.status, "text/plain; charset=utf-8", f"{refusal.text}\n".encode()
                )

    def _place(self) -> str:
        """Return what is asked for below the token."""
        own = self.server.authority
        if self.headers.get_all("Host") != [own]:  # LP2: a name that resolves to this machine
            raise AnswerRefused(421, f"this is served at http://{own} alone")
        if self.headers.get("Origin") not in (None, f"http://{own}"):
            raise AnswerRefused(403, "this is for its own page alone")
        token, _, place = self.path.removeprefix("/").partition("/")
        # LP3
        if not hmac.compare_digest(token.encode("latin-1", "replace"), self.server.token.encode()):
            raise AnswerRefused(
                404, "there is nothing here: open the address that the command printed, whole"
            )
        return place

    def _file(self, place: str) -> None:
        name = place.removeprefix("files/") if place else "sign_in/index.html"
        body = self.server.files.get(name)
        if body is None or name == place or (place and name.endswith(".html")):
            raise AnswerRefused(404, "there is no such file")
        self._send(200, self.server.console.TYPES[name.rpartition(".")[2]], body)

    def _said(self, place: str) -> None:
        if self.headers.get("Origin") is None or self.headers.get("Content-Type") != _JSON:  # LP4
            raise AnswerRefused(403, "this is for its own page alone")
        length = ",".join(self.headers.get_all("Content-Length", ()))  # several are no number
        if not _LENGTH.fullmatch(length) or "Transfer-Encoding" in self.headers:
            raise AnswerRefused(411, "a body has a length")
        if int(length) > MAX_BODY_BYTES:  # LP5, before a byte is read
            raise AnswerRefused(413, f"a body has at most {MAX_BODY_BYTES} bytes")
        try:
            said = parse_json(self.rfile.read(int(length)), max_bytes=MAX_BODY_BYTES)
        except InvalidJson:
            raise AnswerRefused(400, "that is no JSON object") from None
        if place:
            raise AnswerRefused(404, "there is nothing here")
        view = self.server.exchange(said)
        self._send_json(200, view)
        if "version" in view:
            self.server.note_delivered(view["version"])

    def _send_json(self, status: int, value: View) -> None:
        self._send(status, _JSON, json.dumps(value).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response_only(status)
        sent = {
            **self.server.console.HEADERS,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
            "Connection": "close",
            "Content-Type": kind,
            "Content-Length": str(len(body)),
        }
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request that is known here; says nothing of what was sent."""
        self.close_connection = True
        self._send(code, "text/plain; charset=utf-8", b"this cannot be answered\n")

    def log_message(self, format: str, *args: Any) -> None:  # Any: as in http.server
        """Print nothing: a line would have the token."""


# --- who connects ---------------------------------------------------------------------------------


def peer_user(
    client: tuple[str, int], server: tuple[str, int], *, tables: Sequence[Path] = SOCKET_TABLES
) -> int | None:
    """Return the user id of the socket at the other end of a connection over loopback (LP1), as
    Linux lists it.

    Args:
        client, server: IPv4 address and port.
        tables: of sockets, as Linux writes them.
    Returns:
        None where no socket of this machine has that end, or it was closed: the system then names
        no user.
    """

    def word(data: bytes) -> str:
        return f"{int.from_bytes(data, sys.byteorder):08X}"

    def end(address: tuple[str, int], before: str) -> str:
        return f"{before}{word(socket.inet_aton(address[0]))}:{address[1]:04X}"

    mapped = f"{0:016X}{word(bytes.fromhex('0000ffff'))}"
    ends = {(end(client, before), end(server, before)) for before in ("", mapped)}
    for columns in sockets(tables):
        # A socket that its process has closed is listed as user 0, in another state than 01,
        # established.
        if (columns[1], columns[2]) in ends and columns[3] == "01":
            return int(columns[7])
    return None
