"""An S3-compatible server for tests: one per test process, on a loopback port, with its objects in
memory.

It starts when a test first requests it, and ends with the process. It can be made unreachable for a
while without losing objects.
"""

import functools
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection

from held_ports import held_ports
from moto.server import ThreadedMotoServer
from patience import PATIENCE_S

from spaces.values.object_bucket import BucketAccess, BucketLocation

KEY_ID = "key-of-tests"
SECRET_KEY = "hush-hush-the-secret-of-the-tests"
_HOST = "127.0.0.1"


@dataclass
class S3Server:
    """A running server."""

    port: int = 0
    _held: ExitStack = field(default_factory=ExitStack, repr=False)
    _server: ThreadedMotoServer | None = field(default=None, repr=False)

    def start(self) -> None:
        """Accept connections on the same port as before.

        The port is held meanwhile. Taken by another process, it would end the thread of the server,
        for which `ThreadedMotoServer.start` would wait for ever.
        """
        if self.port == 0:
            (self.port,) = self._held.enter_context(held_ports(1))
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self._server = ThreadedMotoServer(ip_address=_HOST, port=self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        """Stop accepting connections."""
        assert self._server is not None
        self._server.stop()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be unreachable while the block runs."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @property
    def endpoint(self) -> str:
        """Return the server's address."""
        return f"http://{_HOST}:{self.port}"

    @property
    def access(self) -> BucketAccess:
        """Return the settings for reaching the server."""
        return BucketAccess(key_id=KEY_ID, secret_key=SECRET_KEY, endpoint=self.endpoint)

    def ask(self, method: str, path: str) -> bytes:
        """Send a single request."""
        connection = HTTPConnection(_HOST, self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, headers={"Content-Length": "0"})
            return connection.getresponse().read()
        finally:
            connection.close()

    def new_bucket(self) -> BucketLocation:
        """Make an empty bucket and return a place in it."""
        name = f"bodies-{next(_NUMBERS)}"
        self.ask("PUT", f"/{name}")
        return BucketLocation(name, "some/node")

    def unfinished(self, place: BucketLocation) -> int:
        """Return the number of multipart uploads that were neither completed nor aborted."""
        return self.ask("GET", f"/{place.bucket}?uploads").count(b"<UploadId>")

    def keys(self, place: BucketLocation) -> list[str]:
        """Return the keys of all objects, without the prefix."""
        listed = self.ask("GET", f"/{place.bucket}?list-type=2").decode()
        keys = [part.partition("</Key>")[0] for part in listed.split("<Key>")[1:]]
        return [key.removeprefix(f"{place.prefix}/") for key in keys]


_NUMBERS = iter(range(1, 1_000_000))


@functools.cache
def s3_server() -> S3Server:
    """Return the server of this process; start it if necessary."""
    server = S3Server()
    server.start()
    return server
