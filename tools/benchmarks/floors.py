"""The least CPU time of any node: HTTP alone, the signature of a token, the keys of a release."""

import math
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from loads import Load, gets
from measuring import Node, Plan, Total
from places import Place

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.signatures import Ed25519Signer
from capabilities.tokens import UnverifiedInvocation, parse_invocation, verify_invocation
from encryption_network.keywrap import open_wrapped, public_key_of, wrap

_TOKENS = 200
# As long as the signed texts of a release are.
_RECEIPT, _ANSWER = bytes(1200), bytes(800)
_BARE = "bare"


@dataclass(frozen=True, slots=True)
class Floors:
    """CPU microseconds of one request.

    Attributes:
        signature: one Ed25519 signature checked.
        token: a token read into its parts.
        signing: the two signatures that a release makes, of its receipt and of its answer.
        rewrapping: a content key opened, and wrapped anew for its receiver.
        http: for each number of connections, an aiohttp that answers 1 KiB to such a request and
            does nothing else.
    """

    signature: float
    token: float
    signing: float
    rewrapping: float
    http: Mapping[int, float]

    def of(self, connections: int) -> float:
        """HTTP server and signature check."""
        return self.signature + self.http[connections]

    def of_release(self, connections: int) -> float:
        """HTTP server, signature check, and what a release computes on curves.

        The durable commit of a release is not in it.
        """
        return self.of(connections) + self.token + self.signing + self.rewrapping

    def named(self) -> dict[str, float]:
        """Return them with what they are."""
        http = {
            f"bare aiohttp, {connections} connections": us for connections, us in self.http.items()
        }
        parts = {
            "signature of a token, checked": self.signature,
            "token, read": self.token,
            "two signatures of a release, made": self.signing,
            "content key, opened and wrapped anew": self.rewrapping,
        }
        return parts | http


def bare_plan(place: Place, url: str, pid: int, *, connections: Sequence[int]) -> Plan:
    """Have a bare server take its turns with tokens of this place."""
    bare = Node(_BARE, pid, replace(place, port=int(url.rpartition(":")[2])))
    return Plan({_BARE: Load(gets)}, [bare], connections)


class ComputedFloors:
    """The least CPU time that each computation on a token or a key took in any round."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._signer = Ed25519Signer(secrets.token_bytes(32))
        self._private_key = secrets.token_bytes(32)
        self._least_us = dict.fromkeys(("token", "signature", "signing", "rewrapping"), math.inf)

    async def measure(self) -> None:
        """Take a turn."""
        requests = await gets(self._place, _TOKENS)
        tokens = [one.split(b"\r\n")[2].partition(b" ")[2].decode() for one in requests]
        public_key, entropy = public_key_of(self._private_key), SystemEntropy()
        wrapped_key = wrap(public_key, secrets.token_bytes(32), entropy)
        read: list[UnverifiedInvocation] = []
        with self._timed("token"):
            read += [parse_invocation(token) for token in tokens]
        with self._timed("signature"):
            for invocation in read:
                verify_invocation(invocation)
        with self._timed("signing"):
            for _ in range(_TOKENS):
                self._signer.sign(_RECEIPT)
                self._signer.sign(_ANSWER)
        with self._timed("rewrapping"):
            for _ in range(_TOKENS):
                wrap(public_key, open_wrapped(self._private_key, wrapped_key), entropy)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.process_time()
        yield
        taken_us = (time.process_time() - started) / _TOKENS * 1e6
        self._least_us[name] = min(self._least_us[name], taken_us)

    def with_http(self, totals: Sequence[Total]) -> Floors:
        """Return the floors, those of HTTP from the turns of the bare server."""
        http = {total.connections: total.cpu_us for total in totals if total.node == _BARE}
        return Floors(**self._least_us, http=http)


def without_floors(totals: Sequence[Total]) -> list[Total]:
    """Return what the nodes came to."""
    return [total for total in totals if total.node != _BARE]
