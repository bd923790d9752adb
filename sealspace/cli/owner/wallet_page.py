"""A local web page for signing with a browser wallet.

A command that needs signatures serves the page on 127.0.0.1 until it ends. The page is the
console's `sign_in/` from the installed package, not from a node. It opens at the first signature
and asks one question at a time.

    GET  /<token>/               the page
    GET  /<token>/files/<path>   a file of the console
    POST /<token>/               {"tab", "version"}: wait for a version other than this one, return
                                 what to show; with "answer": answer the question of this version
                                 (once); "answer": null cancels

Rules, each with a test:
    LP1  Only processes of this user or of root get an answer.
    LP2  The page is served only under the printed address, not under another host name.
    LP3  All paths begin with a token of 32 random bytes.
    LP4  Requests that change something come from the page itself, as JSON.
    LP5  Header sizes, body sizes, connections and waits are limited.
    LP6  The page gets no secret: the session's private key stays in the command.
    LP7  `sealspace console` signs a browser's key only after the person compared a short code.
    LP8  A console at `localhost` is opened only while the command has the other loopback address.

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
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Self, TypeVar

import click

from capabilities.capability_errors import BadSignature, CapabilityError, InvalidJson
from capabilities.clock_and_entropy import SystemEntropy
from capabilities.principals import (
    Principal,
    ed25519_public_key,
    eip55,
    parse_address,
    parse_principal,
    wallet_address,
)
from capabilities.signatures import recover_eip191
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json, JsonObject, parse_json

from ...errors import SealspaceError
from ...printable import printable_line
from ...service.command_errors import NotSigned
from ...service.listening_socket import (
    LOCAL_END,
    OTHER_END,
    SOCKET_TABLES,
    STATE,
    USER,
    sockets,
)
from ...wallets import crockford
from ..provided import console_files
from ..terminal import interruptible, print_lines, what_happened, with_home

LIMIT_S = 300.0
"""Time limit for one question, in seconds."""
MAX_CONNECTIONS = 32
MAX_BODY_BYTES = 4096
"""Longest body; an answer is an address with a chain id, or a signature."""

_HOST = "127.0.0.1"
_POLL_S = 20.0
FAREWELL_S = 2.0
"""Longest wait at the end for an open page to fetch its last view."""
_META = "sealspace.wallet-page"
_CODE_LABEL = "sealspace/console-code/1"
_TAB = re.compile(r"[0-9a-f]{32}")
_LENGTH = re.compile(r"[0-9]{1,9}")
_JSON = "application/json"
_ESTABLISHED = "01"  # state of a socket in the kernel's tables
_AGAIN = "start the command again, and open the address that it prints"

View = Mapping[str, Json]
T = TypeVar("T")


class BrowserWallet:
    """A browser wallet that signs through a local web page."""

    def __init__(self, did: Principal, node: str, *, opens: bool) -> None:
        self.address = wallet_address(did) or b""
        self.chain_id = int(did.split(":")[3])
        self.did = did
        self._page = partial(_page, node, opens=opens)

    @property
    def domain(self) -> str:
        """The domain that wallets expect in sign-in messages.

        It is the address and port of the local wallet page.
        """
        return self._page().authority

    def sign_eip191(self, text: str) -> bytes:
        """Ask the user to sign a message with the browser wallet."""

        def accept(answer: Mapping[str, Json]) -> bytes:
            try:
                signature = bytes.fromhex(str(answer.get("signature")).removeprefix("0x"))
                if recover_eip191(text.encode(), signature) == self.address:
                    return signature
            except (ValueError, BadSignature):
                pass
            raise AnswerRefused(
                409,
                f"the signature of this text was not made by {eip55(self.address)}",
                hint="choose that account in the wallet; contract accounts are not supported",
            )

        view: JsonObject = {
            "kind": "sign",
            "owner": self.did,
            "address": eip55(self.address),
            "chainId": self.chain_id,
            "text": text,
        }
        return self._page().ask(view, accept)


def connect_browser(node: str, *, opens: bool, before: str | None) -> BrowserWallet:
    """Ask the browser wallet for its account.

    Args:
        node: URL of the node, which the page shows.
        opens: whether to open the page in the browser; otherwise its address is printed.
        before: DID of the last login, which the page shows; None: there was none.
    """
    page = _page(node, opens=opens)
    did = page.ask({"kind": "connect", "before": before}, _account_in)
    return BrowserWallet(did, node, opens=opens)


def _account_in(answer: Mapping[str, Json]) -> Principal:
    """Return the account in the answer of the wallet's page.

    It is not verified here: without its signature it is of no use.
    """
    no_account = AnswerRefused(
        409, "the wallet returned no Ethereum account", hint="choose an account in the wallet"
    )
    chain = answer.get("chainId")
    if not isinstance(chain, int) or chain < 1:
        raise no_account
    try:
        address = parse_address(str(answer.get("address")))
        return parse_principal(f"did:pkh:eip155:{chain}:{eip55(address)}")
    except (CapabilityError, ValueError):
        raise no_account from None


def _page(node: str, *, opens: bool, console: str | None = None) -> "WalletPage":
    """Return the web server for the wallet page.

    The first call starts the server. With the address of a console, that page is opened, which
    leads to the local one.
    """
    context = click.get_current_context()
    if _META not in context.meta:
        # Without the table, every connection would be refused (LP1).
        is_needed = sys.platform == "linux"
        if is_needed and not SOCKET_TABLES[0].exists():
            raise NotSigned(
                f"cannot serve the wallet page: {SOCKET_TABLES[0]} is missing, so connections of"
                " other users cannot be detected",
                hint="sealspace login --key-file FILE",
            )
        page = context.meta[_META] = context.with_resource(WalletPage(context.command_path, node))
        url = page.url
        if console is not None:
            # The token is in the fragment, which browsers do not send to the node.
            url = f"{console}#/link?to={page.server_address[1]}.{page.token}"
        # `print_lines` prints with --quiet, too: the person needs the address.
        print_lines(
            f"open this page in your browser within {LIMIT_S / 60:g} minutes:", f"  {url}", err=True
        )
        if opens and _has_display():
            # In a thread, because `webbrowser` may wait until the browser ends.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    running_page: WalletPage = context.meta[_META]
    return running_page


def _has_display() -> bool:
    """Return whether a browser can open a window.

    Without a display, `webbrowser` would start a text browser in the command's terminal.
    """
    if sys.platform != "linux":
        return True
    return any(os.environ.get(variable) for variable in ("DISPLAY", "WAYLAND_DISPLAY"))


class BrowserLink:
    """A browser's key that waits to be signed in.

    Attributes:
        did: the key that the browser sent.
        code: short text that the browser shows for this key and this command.
    """

    def __init__(self, node: str, console: str, *, opens: bool) -> None:
        def accept(answer: Mapping[str, Json]) -> str:
            did = str(answer.get("key"))
            if ed25519_public_key(did) is None:
                raise AnswerRefused(
                    409, "the console sent no key", hint="run sealspace console again"
                )
            return did

        self._page = _page(node, opens=opens, console=console)
        self._console = console
        self.did = self._page.ask({"kind": "link"}, accept)
        digest = sha256(f"{_CODE_LABEL}{self._page.token}{self.did}".encode()).digest()
        code = crockford(digest, 6)
        self.code = f"{code[:3]}-{code[3:]}"

    def finish(self, sign_in: str, wallet: str) -> None:
        """Send the browser back to the console with its sign-in when the command ends.

        `wallet` is what signed: `key`, `keystore` or `browser`.
        """
        self._page.last = {
            "kind": "linked",
            "next": f"{self._console}#/link?session={sign_in}&wallet={wallet}",
        }


@dataclass(eq=False)
class AnswerRefused(Exception):
    """An HTTP error response to a request from the wallet page.

    The page may retry only after status 409.
    """

    status: int
    text: str
    hint: str = ""


class WalletPage(ThreadingMixIn, TCPServer):
    """A web server that shows the wallet page while a command runs.

    Use it as a context manager.
    """

    daemon_threads = True  # an open connection must not keep the command from ending
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, command: str, node: str) -> None:
        super().__init__((_HOST, 0), _Exchange)
        self._context: View = {"command": command, "node": node}
        self.console = console_files()
        self.files = self.console.read_files()
        # Whoever has the token in the address can answer for the user's wallet.
        self.token = encode_url(SystemEntropy().token(32))
        self.authority = f"{_HOST}:{self.server_address[1]}"
        self.url = f"http://{self.authority}/{self.token}/"
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._refused_users: set[int] = set()
        self.last: View = {"kind": "done"}  # shown when the command has ended without an error
        # The threads of connections share all that follows, under this lock.
        self._changed = threading.Condition()
        self._view: View = {"kind": "working"}
        self._version = 1  # of the view
        self._delivered: Json = None  # the version that the page has fetched
        self._tab = ""  # the tab that was opened last; no other one may answer
        self._is_cancelled = False
        # Takes the answer to the question that is shown.
        self._accept: Callable[[Mapping[str, Json]], None] | None = None

    def __enter__(self) -> Self:
        threading.Thread(
            target=self.serve_forever, args=(0.05,), name="wallet page", daemon=True
        ).start()
        return self

    def __exit__(self, *failure: Any) -> None:  # Any: as in socketserver
        _, raised, _ = failure
        view: View
        match raised:
            case None:
                view = self.last
            case SealspaceError() as error:
                # A node's text could contain characters that reverse the direction of writing, and
                # so read differently in the page than on the terminal.
                view = {
                    "kind": "failed",
                    "text": printable_line(what_happened(error)),
                    "hint": printable_line(with_home(error.step)),
                }
            case _:
                view = {
                    "kind": "failed",
                    "text": "the command was interrupted",
                    "hint": "run it again",
                }
        with self._changed:
            self._show(view)
            if self._tab:  # a page is open, and fetches its last view
                self._changed.wait_for(lambda: self._delivered == self._version, FAREWELL_S)
        self.shutdown()
        self.server_close()

    # --- the command ------------------------------------------------------------------------------

    def ask(self, view: View, accept: Callable[[Mapping[str, Json]], T]) -> T:
        """Show a question on the wallet page, and wait for the answer.

        Args:
            view: the question.
            accept: returns the result of an answer, or raises AnswerRefused. `exchange` calls it.
        """
        answers: list[T] = []
        with interruptible(), self._changed:
            self._accept = lambda answer: answers.append(accept(answer))
            self._show({**self._context, **view})
            try:
                self._changed.wait_for(lambda: answers or self._is_cancelled, LIMIT_S)
            finally:
                self._accept = None
                self._show({"kind": "working"})
        if answers:
            return answers[0]
        if self._is_cancelled:
            raise NotSigned("signing was cancelled in the browser", hint=_AGAIN)
        if not self._tab:
            missing = "the page was not opened"
        elif view["kind"] == "connect":
            missing = "no wallet was connected"
        elif view["kind"] == "link":
            missing = "the console sent no key"
        else:
            missing = "the wallet did not sign"
        raise NotSigned(
            f"waiting for the browser wallet timed out after {LIMIT_S / 60:g} minutes: {missing}",
            hint=_AGAIN,
        )

    def _show(self, view: View) -> None:
        self._view, self._version = view, self._version + 1
        self._changed.notify_all()

    # --- the page ---------------------------------------------------------------------------------

    def exchange(self, message: Mapping[str, Json]) -> View:
        """Handle a message from the wallet page.

        A message is the user's answer, or a poll for new content.

        Args:
            message: `tab`, the page's own id of 32 hex digits; `version`, the version of the view
                that it shows, or 0 if the page was just opened; `answer`, optional. The tab that
                was opened last is the only one that may answer.
        Raises:
            AnswerRefused: another tab was opened later, or the answer is malformed or too late.
        """
        tab, version = message.get("tab"), message.get("version")
        if not isinstance(tab, str) or not isinstance(version, int):
            raise AnswerRefused(400, "not an answer")
        with self._changed:
            if version == 0 and _TAB.fullmatch(tab):  # a tab that was just opened
                self._tab = tab
                self._changed.notify_all()
            if "answer" not in message:
                self._changed.wait_for(
                    lambda: self._version != version or self._tab != tab, _POLL_S
                )
            if not self._tab or tab != self._tab:  # only the tab that was opened last (LP5)
                raise AnswerRefused(
                    409,
                    "this tab is no longer active: the page was opened in another tab",
                    hint="continue in the other tab, or reload this page",
                )
            if "answer" not in message:
                return {**self._view, "version": self._version}
            if message["answer"] is None:
                self._is_cancelled = True
            elif self._accept is None or version != self._version:
                raise AnswerRefused(
                    409,
                    "this question has already been answered, so this answer was not used",
                    hint="answer the question that the page shows now",
                )
            else:
                answer = message["answer"]
                self._accept(answer if isinstance(answer, dict) else {})
                self._accept = None  # each question takes one answer
            self._changed.notify_all()
            return {}

    def note_delivered(self, version: Json) -> None:
        """Record the content version that the wallet page has received.

        `__exit__` waits until this is the last version.
        """
        with self._changed:
            self._delivered = version
            self._changed.notify_all()

    # --- connections ------------------------------------------------------------------------------

    def verify_request(self, request: Any, client_address: Any) -> bool:  # Any: as in socketserver
        """Accept connections only from the user who runs this process.

        The number of open connections is limited.
        """
        # Only Linux lists the users of sockets. Elsewhere the secret token is the only protection.
        if sys.platform == "linux":
            user = peer_user(client_address, (_HOST, self.server_address[1]))
            if user not in (0, os.geteuid()):  # root can read our memory anyway (LP1)
                if user is not None and user not in self._refused_users:
                    self._refused_users.add(user)
                    print_lines(
                        "refused a connection to the wallet page from another user of this machine"
                        f" (id {user})",
                        "next: open the page as the user who runs this command",
                        err=True,
                    )
                return False
        return self._free.acquire(blocking=False)  # the number of connections is limited (LP5)

    # Any: as in socketserver
    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection of the wallet page."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # Any: as in socketserver
        """Suppress the traceback, which would contain the secret token."""


class _Exchange(BaseHTTPRequestHandler):
    """A handler for HTTP requests to the wallet page."""

    server: WalletPage
    timeout = 10.0  # seconds until a read fails (LP5)

    def do_GET(self) -> None:
        self._answer(self._send_file)

    def do_POST(self) -> None:
        self._answer(self._receive)

    def _answer(self, work: Callable[[str], None]) -> None:
        try:
            work(self._check_request())
        except AnswerRefused as refusal:
            if refusal.status == 409:
                self._send_json(409, {"text": refusal.text, "hint": refusal.hint})
            else:
                self._send(
                    refusal.status, "text/plain; charset=utf-8", f"{refusal.text}\n".encode()
                )

    def _check_request(self) -> str:
        """Check a request's headers and token, and return the requested path.

        The path is the part after the token.
        """
        own = self.server.authority
        # Stops DNS rebinding, where another site's name resolves to this machine (LP2).
        if self.headers.get_all("Host") != [own]:
            raise AnswerRefused(421, f"this page is available only at http://{own}")
        if self.headers.get("Origin") not in (None, f"http://{own}"):
            raise AnswerRefused(403, "requests from other sites are refused")
        token, _, place = self.path.removeprefix("/").partition("/")
        # The path begins with the page's token, which is compared in constant time (LP3).
        if not hmac.compare_digest(token.encode("latin-1", "replace"), self.server.token.encode()):
            raise AnswerRefused(
                404,
                "page not found: open the complete address that sealspace printed in the terminal",
            )
        return place

    def _send_file(self, place: str) -> None:
        """Send the page, or a file below `files/`. Other pages of the console are not sent."""
        name = "sign_in/index.html"
        is_sent = True
        if place:
            name = place.removeprefix("files/")
            is_sent = name != place and not name.endswith(".html")
        body = self.server.files.get(name)
        if body is None or not is_sent:
            raise AnswerRefused(404, "no such file")
        self._send(200, self.server.console.TYPES[name.rpartition(".")[2]], body)

    def _receive(self, place: str) -> None:
        """Read a message from the page, and send what the page has to show.

        A request that is refused is refused for the first of its faults, so another site learns
        nothing of the paths. A view with a version is noted as delivered once it was sent.

        Args:
            place: the rest of the path; messages are sent to the empty one.
        Raises:
            AnswerRefused: with the HTTP status of the refusal.
        """
        # Another site's form cannot send JSON, and its scripts send another Origin (LP4).
        if self.headers.get("Origin") is None or self.headers.get("Content-Type") != _JSON:
            raise AnswerRefused(403, "requests from other sites are refused")
        # Without the header, or with several that are joined by commas, the pattern does not match.
        length = ",".join(self.headers.get_all("Content-Length", ()))
        if not _LENGTH.fullmatch(length) or "Transfer-Encoding" in self.headers:
            raise AnswerRefused(411, "the body needs a Content-Length")
        if int(length) > MAX_BODY_BYTES:  # before a byte is read (LP5)
            raise AnswerRefused(413, f"the body must be at most {MAX_BODY_BYTES} bytes long")
        try:
            message = parse_json(self.rfile.read(int(length)), max_bytes=MAX_BODY_BYTES)
        except InvalidJson:
            raise AnswerRefused(400, "the body is not a JSON object") from None
        if place:
            raise AnswerRefused(404, "not found")
        view = self.server.exchange(message)
        self._send_json(200, view)
        if "version" in view:
            self.server.note_delivered(view["version"])

    def _send_json(self, status: int, value: View) -> None:
        self._send(status, _JSON, json.dumps(value).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        """Send a response, which closes the connection."""
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
        """Send an error response that does not repeat the request."""
        self.close_connection = True
        self._send(code, "text/plain; charset=utf-8", b"bad request\n")

    def log_message(self, format: str, *args: Any) -> None:  # Any: as in http.server
        """Suppress the log line, which would contain the secret token."""


# --- who connects ---------------------------------------------------------------------------------


def peer_user(
    client: tuple[str, int], server: tuple[str, int], *, tables: Sequence[Path] = SOCKET_TABLES
) -> int | None:
    """Return the user id of a loopback connection's client (LP1).

    Args:
        client, server: IPv4 address and port of each end.
        tables: the kernel's tables of TCP sockets.
    Returns:
        The user id; None if the tables do not list the client's socket, or it was closed.
    """

    # The tables have each 32 bits of an address as a number of this machine, in hex.
    def word(data: bytes) -> str:
        return f"{int.from_bytes(data, sys.byteorder):08X}"

    def end(address: tuple[str, int], before: str) -> str:
        host, port = address
        return f"{before}{word(socket.inet_aton(host))}:{port:04X}"

    # A browser may connect by an IPv6 socket. The table of IPv6 then has mapped addresses, such as
    # ::ffff:127.0.0.1.
    mapped = f"{0:016X}{word(bytes.fromhex('0000ffff'))}"
    ends = {(end(client, before), end(server, before)) for before in ("", mapped)}
    for columns in sockets(tables):
        # The kernel lists a closed socket under user 0. Only established ones count, or every
        # closed connection would pass as root's.
        is_between = (columns[LOCAL_END], columns[OTHER_END]) in ends
        if is_between and columns[STATE] == _ESTABLISHED:
            return int(columns[USER])
    return None
