"""A synchronous client for one node.

It is `sealspace.client.Client` with calls that wait for their result.

Example:
    with Client("https://node.example") as client:
        client.sign_in(wallet, SignIn(spaces=("notes",)))
        client.kv("notes").put("todo/1", "buy milk")
"""

from typing import Any, Self

from .. import client as asynchronous
from . import services as services  # the classes that the members of a client return
from ._bridged import Bridged, described
from ._loop_thread import LoopThread


class Client(Bridged, of=asynchronous.Client):
    """A synchronous client for one node.

    The client authenticates with a session. Use it in `with`, or call `close`. Any number of
    threads may use it at once. Its arguments and errors are those of `sealspace.client.Client`.
    """

    @described(asynchronous.Client.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        inner = asynchronous.Client(*args, **kwargs)
        super().__init__(inner, LoopThread(close=inner.close, leave=inner.leave_connections))

    @classmethod
    def from_environment(cls, url: str | None = None) -> Self:
        """Create a client for a server or CI job, which reads the secrets of a machine token.

        See `sealspace.client.Client.from_environment`.
        """
        inner = asynchronous.Client.from_environment(url)
        return cls(inner.url, session=inner.session)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the node.

        Running calls of other threads end with ClientClosed.
        """
        self._thread.close()
