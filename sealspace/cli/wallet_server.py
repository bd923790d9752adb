"""The page that asks a wallet in a browser, on an address of this machine, for as long as one command runs.

    GET  /<token>/                index.html of the folder `sign_in` of the console's files
    GET  /<token>/files/<path>    a file of the console
    GET  /<token>/next?tab=&after=  what to show next, once there is something else
    POST /<token>/answer          {"tab", "version", …}: the answer to that question
    POST /<token>/cancel          {"tab"}

Rules, each with a test: only processes of this user, or of root, are answered (LP1); only under the address that was
printed, so that no other name leads here (LP2); only below a token of 32 random bytes (LP3); what changes something
comes from the page itself, as JSON (LP4); heads, bodies, connections and waits are bounded (LP5); the page gets no
secret: the session's private key stays in the command (LP6).

Example:
    with WalletServer(desk) as server: print(server.url)
"""

import hmac
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from capabilities.ambient import Entropy, SystemEntropy
from capabilities.errors import InvalidJson
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import Json, parse_json

from .lazy import provided
from .loopback_peers import peer_user
from .terminal import print_lines
from .wallet_desk import AnswerRefused, WalletDesk

MAX_CONNECTIONS: Final = 32
MAX_BODY_BYTES: Final = 4096
"""Longest body: an address and a chain, or a signature."""

_HOST: Final = "127.0.0.1"
_TOKEN_BYTES: Final = 32
_READ_S: Final = 10.0
_LENGTH: Final = re.compile(r"[0-9]{1,9}")
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"


class _Refused(Exception):
    """A request that is not answered; status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class WalletServer(ThreadingMixIn, TCPServer):
    """Serves the page from a thread of its own while the context is entered.

    Args:
        desk: what is asked.
        entropy: for the token.
        read_s: how long a connection may be silent.
    Attributes:
        authority: address and port, as in `Host` and in the texts that a wallet signs.
        url: of the page, with the token.
    """

    daemon_threads = True  # a connection that is left open does not keep the command
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, desk: WalletDesk, *, entropy: Entropy | None = None, read_s: float = _READ_S) -> None:
        super().__init__((_HOST, 0), _Exchange)
        self.desk = desk
        self.read_s = read_s
        self.console = provided("console-files")
        self.files: dict[str, bytes] = self.console.read_files()
        self.token = encode_url((entropy or SystemEntropy()).token(_TOKEN_BYTES))
        self.authority = f"{_HOST}:{self.server_address[1]}"
        self.url = f"http://{self.authority}/{self.token}/"
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._refused_users: set[int] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="wallet page", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # Any: as in socketserver
        """Whether a connection is of this user."""
        if sys.platform != "linux":  # which alone says whose a socket is; elsewhere the token has to do
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

    def process_request(self, request: Any, client_address: Any) -> None:  # Any: as in socketserver
        """Answer a connection in a thread, or close it where there are too many."""
        if not self._free.acquire(blocking=False):  # LP5
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # Any: as in socketserver
        """Answer a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # Any: as in socketserver
        """Print nothing: a traceback would have the token."""


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer; the connection is closed then."""

    server: WalletServer

    def setup(self) -> None:
        """Prepare to read."""
        super().setup()
        self.connection.settimeout(self.server.read_s)  # LP5

    def do_GET(self) -> None:
        """Answer a request that changes nothing."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer a request that changes something."""
        self._answer(self._post)

    def _answer(self, work: Callable[[str, Mapping[str, list[str]]], None]) -> None:
        try:
            place, query = self._admitted()
            work(place, query)
        except _Refused as refusal:
            self._send(refusal.status, _TEXT, f"{refusal.text}\n".encode())
        except AnswerRefused as refusal:
            self._send_json(409, {"code": refusal.code, "text": refusal.text, "hint": refusal.hint})

    def _admitted(self) -> tuple[str, Mapping[str, list[str]]]:
        """Return what is asked for below the token, and its query."""
        if self.headers.get_all("Host") != [self.server.authority]:  # LP2: a name that resolves to this machine
            raise _Refused(421, f"this is served at http://{self.server.authority} alone")
        origin = self.headers.get("Origin")
        if origin not in (None, f"http://{self.server.authority}"):
            raise _Refused(403, "this is for its own page alone")
        asked = urlsplit(self.path)
        token, _, place = asked.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode("latin-1", "replace"), self.server.token.encode()):  # LP3
            raise _Refused(404, "there is nothing here: open the address that the command printed, whole")
        return place, parse_qs(asked.query, max_num_fields=4)

    def _get(self, place: str, query: Mapping[str, list[str]]) -> None:
        if place == "next":
            tab, after = query.get("tab", [""])[0], query.get("after", [""])[0]
            if not _LENGTH.fullmatch(after):
                raise _Refused(400, "no version")
            version, view = self.server.desk.next_view(tab, int(after))
            self._send_json(200, {**view, "version": version})
            self.server.desk.delivered(version)
            return
        name = "sign_in/index.html" if place == "" else place.removeprefix("files/")
        body = self.server.files.get(name)
        if body is None or (place != "" and (not place.startswith("files/") or name.endswith(".html"))):
            raise _Refused(404, "there is no such file")
        self._send(200, self.server.console.TYPES[name.rpartition(".")[2]], body)

    def _post(self, place: str, query: Mapping[str, list[str]]) -> None:
        said = self._body()
        tab, version = said.get("tab"), said.get("version")
        if place == "cancel" and isinstance(tab, str):
            self.server.desk.cancel(tab)
        elif place == "answer" and isinstance(tab, str) and isinstance(version, int):
            self.server.desk.answer(tab, version, said)
        else:
            raise _Refused(400, "that is no answer")
        self._send_json(200, {})

    def _body(self) -> dict[str, Json]:
        """Read the body of a request of the page itself."""
        if self.headers.get("Origin") is None or self.headers.get("Content-Type") != _JSON:  # LP4
            raise _Refused(403, "this is for its own page alone")
        lengths = self.headers.get_all("Content-Length") or []
        if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]) or "Transfer-Encoding" in self.headers:
            raise _Refused(411, "a body has a length")
        if int(lengths[0]) > MAX_BODY_BYTES:  # LP5, before a byte is read
            raise _Refused(413, f"a body has at most {MAX_BODY_BYTES} bytes")
        try:
            return parse_json(self.rfile.read(int(lengths[0])), max_bytes=MAX_BODY_BYTES)
        except InvalidJson:
            raise _Refused(400, "that is no JSON object") from None

    def _send_json(self, status: int, value: Mapping[str, Json]) -> None:
        self._send(status, _JSON, json.dumps(value).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in self.server.console.HEADERS.items():
            self.send_header(name, value)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request that is known here; says nothing of what was sent."""
        self.close_connection = True
        self._send(code, _TEXT, b"this cannot be answered\n")

    def log_message(self, format: str, *args: Any) -> None:  # Any: as in http.server
        """Print nothing: a line would have the token."""
