"""A client for the dstack guest agent.

The agent provides quotes, event logs and keys over a Unix socket.

    dstack (0.5 and later)   dstack.sock   POST /GetQuote {"report_data"}
    tappd (before)           tappd.sock    POST /prpc/Tappd.TdxQuote
                                                {"report_data", "hash_algorithm": "raw"}
    answer of both           {"quote", "event_log", …}

    dstack                   POST /GetKey {"path"}                    {"key", …}
    tappd                    POST /prpc/Tappd.DeriveK256Key {"path"}  {"k256_key", …}

Bytes are hex; `event_log` is JSON text. The agent refuses with a status of 400 or more, or with an
object `{"error": text}`. Unknown members are ignored, because agents add some with each release.

A key depends only on the application's id and the path. So both generations give the same key, on
every machine on which the key provider lets the application run. Other applications with that id,
and other containers of this application, can request it too.

The older agent hashes its input unless `hash_algorithm` is "raw", and pads shorter data on the
left. Therefore 64 bytes are always sent, and the report data of the quote are compared.

Example:
    backend = Backend(client, DstackSource.find())

Source: the dstack guest agent's HTTP interface, both generations.
"""

import errno
import http.client
import json
import socket
import time
from itertools import product
from pathlib import Path
from typing import Any, Literal

from capabilities.capability_errors import InvalidJson
from capabilities.frozen import frozen
from capabilities.strict_json import JsonObject, parse_json

from ..attestation.attestation_errors import QuoteRefused
from ..attestation.event_log import MAX_LOG_BYTES, parse_event_log
from ..attestation.quote import MAX_QUOTE_BYTES
from .evidence_errors import SourceMalformed, SourceRefused, SourceUnavailable
from .source import Quoted, check_report_data_size, checked_quote

Generation = Literal["dstack", "tappd"]

SOCKET_FOLDERS = (
    Path("/var/run"),
    Path("/run"),
    Path("/var/run/dstack"),
    Path("/run/dstack"),
)
DEFAULT_TIMEOUT_S = 10.0
"""Making a quote takes about 40 ms of hardware time, but it may queue behind others on the host."""

MAX_ANSWER_BYTES = 2 * MAX_QUOTE_BYTES + 2 * MAX_LOG_BYTES + 64 * 1024
"""Room for a quote in hex, an event log as escaped text, and the ignored members."""

MIN_KEY_BYTES = 32
_MAX_RECEIVED_BYTES = MAX_ANSWER_BYTES + 256 * 1024  # headers and chunk framing

_KEY_REQUESTS = {
    "dstack": ("/GetKey", "key"),
    "tappd": ("/prpc/Tappd.DeriveK256Key", "k256_key"),
}


@frozen
class DstackSource:
    """A client of the dstack guest agent, for quotes and keys."""

    socket_path: Path
    generation: Generation = "dstack"
    timeout_s: float = DEFAULT_TIMEOUT_S

    @classmethod
    def find(
        cls,
        folders: tuple[Path, ...] = SOCKET_FOLDERS,
        *,
        generations: tuple[Generation, ...] = ("dstack", "tappd"),
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> "DstackSource":
        """Find the first guest agent socket that exists.

        The generations are tried in order, each in all folders.
        """
        for generation, folder in product(generations, folders):
            path = folder / f"{generation}.sock"
            if path.is_socket():
                return cls(path, generation, timeout_s=timeout_s)
        raise SourceUnavailable(f"found no guest agent socket in {', '.join(map(str, folders))}")

    def quote(self, report_data: bytes) -> Quoted:
        """Return a quote and its event log.

        The quote is over 64 bytes of data. Blocks up to `timeout_s`.
        """
        check_report_data_size(report_data)
        members = {"report_data": report_data.hex()}
        if self.generation == "dstack":
            answer = self._exchange("/GetQuote", members)
        else:
            answer = self._exchange("/prpc/Tappd.TdxQuote", {**members, "hash_algorithm": "raw"})
        quote = checked_quote(_decode_hex(answer, "quote"), report_data)
        event_log = None
        text = answer.get("event_log")
        if isinstance(text, str) and text:
            try:
                event_log = parse_event_log(text.encode())
            except (QuoteRefused, UnicodeEncodeError) as exc:
                raise SourceMalformed(
                    f"the event log is not valid: {getattr(exc, 'detail', 'not text')}"
                ) from exc
        return Quoted(quote, event_log)

    def key(self, path: str) -> bytes:
        """Return this application's key for a derivation path.

        Blocks up to `timeout_s`.
        """
        target, name = _KEY_REQUESTS[self.generation]
        key = _decode_hex(self._exchange(target, {"path": path}), name)
        if len(key) < MIN_KEY_BYTES:
            raise SourceMalformed(
                f"the guest agent's key must have {MIN_KEY_BYTES} bytes or more, but has {len(key)}"
            )
        return key

    def _exchange(self, target: str, members: dict[str, str]) -> JsonObject:
        """Send one request and return the JSON object in the response.

        Each request uses a new connection.
        """
        connection = http.client.HTTPConnection("localhost")
        try:
            connection.sock = _DeadlineSocket(deadline=time.monotonic() + self.timeout_s)
            connection.sock.connect(str(self.socket_path))
            connection.request(
                "POST", target, json.dumps(members), {"Content-Type": "application/json"}
            )
            with connection.getresponse() as response:
                status, body = response.status, response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            # ValueError: a chunk with a negative size. Only the type is reported, because the
            # exception's text may contain bytes from the agent.
            raise SourceUnavailable(
                f"the guest agent at {self.socket_path.name} did not respond: {type(exc).__name__}"
            ) from exc
        finally:
            connection.close()
        # A refusal may have a JSON object that says why; any other text is not read.
        if status >= 300 and not body.lstrip().startswith(b"{"):
            raise SourceRefused(f"the guest agent responded with status {status}")
        try:
            answer = parse_json(body, max_bytes=MAX_ANSWER_BYTES)
        except InvalidJson as exc:
            raise SourceMalformed(f"the guest agent's response is not valid: {exc}") from exc
        if status >= 300 or "error" in answer:
            detail = str(answer.get("error", ""))[:200]
            raise SourceRefused(f"the guest agent responded with status {status}: {detail}")
        return answer


def _decode_hex(answer: JsonObject, name: str) -> bytes:
    """Decode a member in hex; a missing one becomes empty, which every caller refuses."""
    value = answer.get(name)
    if not isinstance(value, str):
        return b""
    try:
        return bytes.fromhex(value)
    except ValueError as exc:
        raise SourceMalformed(
            f"the member {name} in the guest agent's response is not hexadecimal"
        ) from exc


class _DeadlineSocket(socket.socket):
    """A socket with a total deadline and a limit on received bytes.

    With a timeout for each operation, an agent could trickle bytes for ever. A limit on the body is
    not enough either, because the HTTP library reads a chunk of size -1 to its end.
    """

    def __init__(self, *, deadline: float) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._deadline = deadline
        self._free_bytes = _MAX_RECEIVED_BYTES

    # Buffers have no common type that could be named here; all arguments are passed on unchanged.
    def connect(self, *arguments: Any) -> None:
        self._arm()
        super().connect(*arguments)

    def sendall(self, *arguments: Any) -> None:
        self._arm()
        super().sendall(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        self._arm()
        if self._free_bytes <= 0:
            raise OSError(errno.EMSGSIZE, "the guest agent's response is too long")
        received = super().recv_into(*arguments)
        self._free_bytes -= received
        return received

    def _arm(self) -> None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.settimeout(left_s)
