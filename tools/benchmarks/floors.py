"""The least CPU time of any node: HTTP alone, and the signature of a token."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from loads import Load, gets
from measuring import Node, Plan, Total
from places import Place

from capabilities.tokens import parse_invocation, verify_invocation

_TOKENS = 200
_BARE = "bare"


@dataclass(frozen=True, slots=True)
class Floors:
    """CPU microseconds of one request.

    Attributes:
        signature: one Ed25519 signature checked.
        token: a token read into its parts.
        http: for each number of connections, an aiohttp that answers 1 KiB to such a request and
            does nothing else.
    """

    signature: float
    token: float
    http: Mapping[int, float]

    def of(self, connections: int) -> float:
        """HTTP server and signature check."""
        return self.signature + self.http[connections]

    def named(self) -> dict[str, float]:
        """Return them with what they are."""
        http = {
            f"bare aiohttp, {connections} connections": us for connections, us in self.http.items()
        }
        return {"signature of a token, checked": self.signature, "token, read": self.token} | http


def bare_plan(place: Place, url: str, pid: int, *, connections: Sequence[int]) -> Plan:
    """Have a bare server take its turns with tokens of this place."""
    bare = Node(_BARE, pid, replace(place, port=int(url.rpartition(":")[2])))
    return Plan({_BARE: Load(gets)}, [bare], connections)


class TokenFloor:
    """The least CPU time that reading and checking a token took in any round."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._least_us = (float("inf"), float("inf"))

    async def measure(self) -> None:
        """Take a turn."""
        requests = await gets(self._place, _TOKENS)
        tokens = [one.split(b"\r\n")[2].partition(b" ")[2].decode() for one in requests]
        started = time.process_time()
        read = [parse_invocation(token) for token in tokens]
        parsed = time.process_time()
        for invocation in read:
            verify_invocation(invocation)
        checked = time.process_time()
        taken = ((checked - parsed) / _TOKENS * 1e6, (parsed - started) / _TOKENS * 1e6)
        self._least_us = (min(self._least_us[0], taken[0]), min(self._least_us[1], taken[1]))

    def with_http(self, totals: Sequence[Total]) -> Floors:
        """Return the floors, those of HTTP from the turns of the bare server."""
        http = {total.connections: total.cpu_us for total in totals if total.node == _BARE}
        return Floors(*self._least_us, http)


def without_floors(totals: Sequence[Total]) -> list[Total]:
    """Return what the nodes came to."""
    return [total for total in totals if total.node != _BARE]
