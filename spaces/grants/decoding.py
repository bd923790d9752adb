"""How much of stored delegations one request may decode.

Clients choose the sizes of delegations, and on how many of them a request depends. Decoding costs
about 40 ms of CPU for each MiB. So each request has one bound for all that it decodes, whatever its
operation reads. What is in memory costs nothing.

Example:
    begin_request()              # once for each request
    ...
    decoded = decoded_so_far()   # in the same task, or in one that it started
    if decoded.has_room(size_bytes):
        decoded.size_bytes += size_bytes
"""

import math
from contextvars import ContextVar
from dataclasses import dataclass

UNPACED_BYTES = 64 * 1024
"""How much a request decodes without a pause. Nearly every request decodes less."""
MAX_DECODED_BYTES = 4 * 1024 * 1024
"""How much a request may decode: about a thousand delegations of the usual sizes."""


@dataclass(slots=True)
class Decoded:
    """What a request has decoded.

    Attributes:
        most_bytes: how much it may decode.
        size_bytes: the size of the stored rows that it decoded.
    """

    most_bytes: float
    size_bytes: int = 0

    def has_room(self, size_bytes: int) -> bool:
        """Return whether a row of this size may be decoded too."""
        return self.size_bytes + size_bytes <= self.most_bytes


_decoded: ContextVar[Decoded | None] = ContextVar("decoded", default=None)


def begin_request() -> Decoded:
    """Begin to count for a request: for this task, and for those that it starts."""
    decoded = Decoded(MAX_DECODED_BYTES)
    _decoded.set(decoded)
    return decoded


def decoded_so_far() -> Decoded:
    """Return what the present request has decoded. A job of the node itself has no bound."""
    return _decoded.get() or Decoded(math.inf)
