"""Fair sharing of a server's resources among those who use it (RN160 to RN163, DR14).

A runner shares children, the compiler and call slots among payers; a door shares the places of
grants and of requests among holders. Those whom the operator knows come first: payers with an API
key or an account, or holders that the operator of a door named. All others, the unknown ones,
together get at most half, because anybody can make a new key for each call. Counters are in memory
and start at zero after a restart.

Example:
    async with semaphore.acquire(payer): ...
    with bounds.reserve(payer, len(body)): ...
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from capabilities.principals import Principal

_PARTS = 4
"""One payer has at most a quarter of the calls under way, and of their bytes."""

UNKNOWN = "unknown"
"""Counter of all unknown payers together."""

_PAUSE_FACTOR = 4
"""How long unknown payers wait after a piece of work, times its duration."""

Parts = Mapping[Hashable, int]
"""Names of counters, each with the divisor of the limit that applies to it: 2 is half."""


class Payer(NamedTuple):
    """The payer of a program call, or the holder of grants at a door.

    The payer of a call is the owner of the API key or, without a key, the caller who signed it. The
    holder of a grant is the owner of its machine token, or the trust of its ID token.
    """

    did: Principal
    is_known: bool = True


OPERATOR = Payer(Principal("operator"))
"""Payer of runs without a caller, such as the check before publication. It may use all slots."""


class ShareFull(NamedTuple):
    """The reason for refusing an amount.

    Attributes:
        counter: name of the counter that would exceed its limit.
        most: the limit of this counter.
        is_own: whether it counts one payer or key; False: a group.
    """

    counter: Hashable
    most: int
    is_own: bool


Refusal = Callable[[ShareFull], Exception]
"""Returns the error that is raised for a share that is used up."""


def parts_of(payer: Payer) -> Parts:
    """Return the counters that increase for a payer (RN163).

    One payer has at most a quarter, and all unknown payers together have half.
    """
    parts: dict[Hashable, int] = {payer: _PARTS, "all": 1}
    if not payer.is_known:
        parts[UNKNOWN] = 2
    return parts


class ResourceUse:
    """The use of one resource, counted separately for each payer.

    The resource is the active calls or the buffered bytes. There is one counter for each payer,
    API key or group of callers.

    Args:
        refusal: returns the error for a share that is used up.
    """

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._amounts = Counter[Hashable]()

    def amount(self, one: Hashable) -> int:
        """Return the amount of one counter."""
        return self._amounts[one]

    def add(self, parts: Parts, amount: int, most: int | None = None) -> None:
        """Add an amount to the given counters, or to none of them if one would exceed its limit.

        Args:
            parts: the counters.
            amount: the amount; negative to release.
            most: the limit, which each counter's divisor reduces; None: no limit.
        Raises:
            Exception: that of `refusal`, if a counter would exceed its limit. It is a payer's or an
                API key's own, unless its name is a text, of a group or an owner.
        """
        full = None if most is None else self.full(parts, amount, most)
        # nobody takes more than a share: RN67, RN97, RN158, RN163, DR14
        if full is not None:
            raise self._refusal(full)
        for one in parts:
            self._amounts[one] += amount
            if not self._amounts[one]:  # otherwise there would be a zero for each former payer
                del self._amounts[one]

    def full(self, parts: Parts, amount: int, most: int) -> ShareFull | None:
        """Return the first counter that an amount would take above its limit, or None."""
        for one, part in parts.items():
            if self._amounts[one] + amount > most // part:
                return ShareFull(one, most // part, is_own=not isinstance(one, str))
        return None

    def require_left(self, one: Hashable, group: Hashable, amount: int, most: int) -> None:
        """Refuse an amount with which one counter would be greater than what its group leaves free.

        So the owner of a counter leaves at least as much free as it uses.

        Raises:
            Exception: that of `refusal`, with the counter's own limit.
        """
        left = most - self._amounts[group]
        if self._amounts[one] + amount > left:
            raise self._refusal(ShareFull(one, left, is_own=True))

    @contextmanager
    def reserve(self, parts: Parts, amount: int, most: int | None) -> Iterator[None]:
        """Add an amount to counters, and subtract it after the `with` block.

        Raises the same errors as `add`.
        """
        self.add(parts, amount, most)
        try:
            yield
        finally:
            self.add(parts, -amount)


class Bounds:
    """Limits on the number and total body size of concurrent calls.

    Unknown payers together get at most half of the total.

    Args:
        most: limit on the number.
        most_bytes: limit on the size.
        refusal: returns the error for a share that is used up.
    """

    def __init__(self, most: int, most_bytes: int, *, refusal: Refusal) -> None:
        self._most = most, most_bytes
        self._calls, self._bytes = ResourceUse(refusal), ResourceUse(refusal)

    @property
    def calls(self) -> int:
        """The number of concurrent calls."""
        return self._calls.amount("all")

    @contextmanager
    def reserve(self, payer: Payer, size_bytes: int, *, is_new: bool = True) -> Iterator[None]:
        """Reserve capacity for a call until the `with` block ends.

        Args:
            payer: the payer of the call.
            size_bytes: length of its body.
            is_new: False if the call was accepted before a restart; it is then never refused.
        Raises:
            Exception: that of `refusal`, if this payer has too many calls, or unknown payers or all
                payers together have.
        """
        # one payer cannot take all places (RN163)
        parts = parts_of(payer)
        most, most_bytes = self._most if is_new else (None, None)
        with (
            self._calls.reserve(parts, 1, most),
            self._bytes.reserve(parts, size_bytes, most_bytes),
        ):
            yield


class FairSemaphore:
    """A semaphore that serves the payers of program calls in turn.

    One payer gets at most `most_of_payer` places; None: all but one.
    """

    def __init__(self, places: int, *, beside: bool, most_of_payer: int | None = None) -> None:
        self._places = places
        self._most_of_payer = max(places - 1, 1) if most_of_payer is None else most_of_payer
        self._unknown_places = max(places // 2, 1)
        self._total = places + (self._unknown_places if beside else 0)
        self._used: Counter[Payer] = Counter()
        self._waiting: dict[asyncio.Future[None], Payer] = {}  # in the order of turns

    @property
    def used(self) -> int:
        """The number of places that calls have."""
        return self._used.total()

    @property
    def waiting(self) -> int:
        """The number of calls that wait for a place."""
        return len(self._waiting)

    @property
    def free(self) -> int:
        """The number of places that no call has."""
        return self._total - self._used.total()

    @asynccontextmanager
    async def acquire(self, payer: Payer) -> AsyncIterator[None]:
        """Acquire the semaphore, and release it when the `with` block ends."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = payer
        self._hand_out()
        try:
            await turn
            yield
        finally:
            # A cancelled future means that the call was cancelled before it got a place.
            if turn.cancelled():
                self._waiting.pop(turn, None)
            else:
                self._used -= Counter([payer])  # drops the payer with its last place
            self._hand_out()

    def _hand_out(self) -> None:
        """Give the free places to the calls that may start next."""
        while (turn := self._next()) is not None:
            payer = self._waiting.pop(turn)
            if turn.cancelled():
                continue
            self._used[payer] += 1
            turn.set_result(None)
            for other in [one for one, whose in self._waiting.items() if whose == payer]:
                # RN161: the payer's other calls move behind those of all waiting payers.
                self._waiting[other] = self._waiting.pop(other)

    def _next(self) -> "asyncio.Future[None] | None":
        """Return the waiting call that may start next, or None (RN161, RN162)."""
        if self._used.total() >= self._total:
            return None
        known, unknown = 0, 0
        for payer, places in self._used.items():
            if payer.is_known:
                known += places
            else:
                unknown += places
        if known < self._places:  # known payers first
            turn = self._first_waiting(is_known=True)
            if turn is not None:
                return turn
        if unknown < self._unknown_places:
            return self._first_waiting(is_known=False)
        return None

    def _first_waiting(self, *, is_known: bool) -> "asyncio.Future[None] | None":
        """Return the next call of a payer who has not all the places that one payer may have."""
        for turn, payer in self._waiting.items():
            if payer.is_known != is_known:
                continue
            if payer == OPERATOR or self._used[payer] < self._most_of_payer:
                return turn
        return None


class UnknownPauses:
    """The pauses of unknown payers between pieces of work that hold the interpreter's lock.

    After a piece of work, unknown payers wait four times as long as it took. So all of them
    together take at most a fifth of the event loop's time (RN164, RN250). Known payers do not wait.
    """

    def __init__(self) -> None:
        self._unknown_from_s = 0.0  # in seconds of the event loop's clock

    @asynccontextmanager
    async def work(self, payer: Payer) -> AsyncIterator[None]:
        """Wait for the end of the pause, and time the work in the `with` block.

        Only one unknown payer may be in the block or wait for it.
        """
        if payer.is_known:
            yield
            return
        time = asyncio.get_running_loop().time
        # The pause comes before the work. After it, a caller who disconnects would end the pause,
        # and the next unknown payer would not wait.
        await asyncio.sleep(self._unknown_from_s - time())
        began_s = time()
        try:
            yield
        finally:
            ended_s = time()
            self._unknown_from_s = ended_s + _PAUSE_FACTOR * (ended_s - began_s)
