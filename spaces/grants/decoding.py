"""How much of stored delegations one request may decode.

Clients choose the sizes of delegations, and on how many of them a request depends. Decoding costs
some 10 to 120 ms of CPU for each MiB, most for facts of very many empty objects. So each request
has one bound for all that it decodes, whatever its operation reads. What is in memory costs
nothing.

Example:
    begin_request(Decoded())     # once for each request
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
PAUSE_FACTOR = 3
"""How long a request pauses after it decoded as much, as a multiple of the time that this took."""
MAX_DECODED_BYTES = 4 * 1024 * 1024
"""How much a request may decode: about a thousand delegations of the usual sizes."""
MAX_REVOKED_BYTES = 16 * 1024 * 1024
"""How much a revocation may decode: 32 targets of the largest size (V5), and their proofs. Nobody's
other requests may keep an owner from revoking."""
DECODED_PER_MINUTE = 3000
"""How much may be decoded for one client in a minute, in units of UNPACED_BYTES: 187 MiB, which
takes some 8 s of CPU, and 23 s for the costliest."""


@dataclass(slots=True)
class Decoded:
    """What a request has decoded.

    Attributes:
        most_bytes: how much it may decode.
        size_bytes: the size of the stored rows that it decoded.
        is_admitted: whether it may decode more than UNPACED_BYTES. It then may until it ends.
    """

    most_bytes: float = MAX_DECODED_BYTES
    size_bytes: int = 0
    is_admitted: bool = False

    def has_room(self, size_bytes: int) -> bool:
        """Return whether a row of this size may be decoded too."""
        return self.size_bytes + size_bytes <= self.most_bytes

    def client(self) -> str:
        """Return the name of the client, of whose requests one at a time waits for its turn."""
        return ""

    def admit(self) -> None:
        """Hook that is called before the request decodes more than UNPACED_BYTES.

        It raises an error if too much was decoded for the client.
        """

    def charge(self) -> None:
        """Hook that is called after each turn, to charge the client for what was decoded."""


_decoded: ContextVar[Decoded | None] = ContextVar("decoded", default=None)


def begin_request(decoded: Decoded) -> None:
    """Begin to count for a request: for this task, and for those that it starts."""
    _decoded.set(decoded)


def decoded_so_far() -> Decoded:
    """Return what the present request has decoded. A job of the node itself has no bound."""
    return _decoded.get() or Decoded(math.inf)
