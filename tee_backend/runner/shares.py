"""Fair shares of what the callers of a runner have in common (RN160).

Five things are shared: children, the compiler, places for calls, kept answers and kept receipts.
All five are divided by payer. Payers who show an API key or have an account come first. All others
together get at most half, because anybody can sign as somebody new. Counts are in memory and begin
anew after a restart; what is kept is in the journal.

Example:
    async with turns.place(payer): ...
    with bounds.held(payer, len(body)): ...
    keep(connection, "receipt", job, payer, cost=1, most=MOST_RECEIPTS)
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Literal, NamedTuple, TypeAlias

from capabilities.principals import Principal

from .reasons import RunRefused

_PARTS: Final = 4
"""One payer has at most a quarter of the calls under way, and of their bytes."""

Parts: TypeAlias = Mapping[Hashable, int]
"""To whom something is counted, each with the part of the bound that it has: 2 is half."""


class Payer(NamedTuple):
    """The owner of the API key that a call shows, or the caller who signed it."""

    did: Principal
    is_known: bool = True


OPERATOR: Final = Payer(Principal("operator"))
"""Pays for runs that no caller asked for, such as checking a program before it is published. It may
use all places."""


class InUse:
    """Amounts that are in use at one time: of each payer or API key, or of each group of callers,
    which has a name."""

    def __init__(self) -> None:
        self._amounts = Counter[Hashable]()

    def add(self, parts: Parts, amount: int, most: int | None = None) -> None:
        """Count an amount, or give one back that was counted.

        Args:
            parts: to whom it is counted.
            amount: negative: given back.
            most: the bound; None: nothing is refused.
        Raises:
            RunRefused: `too-many-calls` (of one payer or key), `runner-busy` (of a group).
        """
        for one, part in parts.items():
            # RN67, RN97, RN158, RN163
            if most is not None and self._amounts[one] + amount > most // part:
                raise RunRefused("runner-busy" if isinstance(one, str) else "too-many-calls")
        for one in parts:
            self._amounts[one] += amount
            if not self._amounts[one]:
                del self._amounts[one]

    @contextmanager
    def held(self, parts: Parts, amount: int, most: int | None) -> Iterator[None]:
        """Count an amount until the block ends; as `add`."""
        self.add(parts, amount, most)
        try:
            yield
        finally:
            self.add(parts, -amount)


class Bounds:
    """Calls under way and their bytes, bounded in all, for strangers together and for each
    payer."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most, most_bytes
        self._calls, self._bytes = InUse(), InUse()

    @contextmanager
    def held(self, payer: Payer, size_bytes: int, *, is_new: bool = True) -> Iterator[None]:
        """Count a call until the block ends.

        Args:
            payer: of the call.
            size_bytes: of its body.
            is_new: False: the call was accepted before a restart and is not refused.
        Raises:
            RunRefused: `too-many-calls` (of this payer), `runner-busy` (of strangers, or in all).
        """
        parts: dict[Hashable, int] = {payer: _PARTS, "all": 1}  # RN163
        if not payer.is_known:
            parts["strangers"] = 2
        most, most_bytes = self._most if is_new else (None, None)
        with self._calls.held(parts, 1, most), self._bytes.held(parts, size_bytes, most_bytes):
            yield


class Turns:
    """Places that payers take in turns."""

    def __init__(self, places: int, *, beside: bool) -> None:
        self._places = places
        self._of_others = max(places // 2, 1)
        self._total = places + (self._of_others if beside else 0)
        self._used: Counter[Payer] = Counter()
        self._waiting: dict[asyncio.Future[None], Payer] = {}  # in the order of turns

    @asynccontextmanager
    async def place(self, payer: Payer) -> AsyncIterator[None]:
        """Wait for a place, which is used until the block ends."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = payer
        self._hand_out()
        try:
            await turn
            yield
        finally:
            # A waiter that is cancelled cancels its turn, unless it had the place already.
            if turn.cancelled():
                self._waiting.pop(turn, None)
            else:
                self._used -= Counter([payer])
            self._hand_out()

    def _hand_out(self) -> None:
        while (turn := self._next()) is not None:
            payer = self._waiting.pop(turn)
            if turn.cancelled():
                continue
            self._used[payer] += 1
            turn.set_result(None)
            for other in [one for one, whose in self._waiting.items() if whose == payer]:
                self._waiting[other] = self._waiting.pop(other)  # RN161: after all others that wait

    def _next(self) -> "asyncio.Future[None] | None":
        """Return whose turn it is; None where no place is free, or none for those who wait (RN161,
        RN162)."""
        if self._used.total() >= self._total:
            return None
        used = Counter(one.is_known for one in self._used.elements())
        free = {True: used[True] < self._places, False: used[False] < self._of_others}
        # Those with a key or an account first; the order among equals stays.
        for turn, payer in sorted(self._waiting.items(), key=lambda one: not one[1].is_known):
            if free[payer.is_known] and (
                payer == OPERATOR or self._used[payer] < max(self._places - 1, 1)
            ):
                return turn
        return None


_SHARE_OF: Final = "SELECT cost FROM held WHERE kind = ? AND is_known = ? AND payer = ''"
_DISPLACE: Final = """
DELETE FROM kept WHERE number = (
    SELECT min(number) FROM kept WHERE kind = ?1 AND is_known = ?2 AND payer = (
        SELECT payer FROM held WHERE kind = ?1 AND is_known = ?2 AND payer != '' ORDER BY cost DESC, rowid LIMIT 1
    )
)
"""


def keep(
    connection: sqlite3.Connection,
    kind: Literal["answer", "receipt"],
    job: str,
    payer: Payer,
    *,
    cost: int,
    most: int,
) -> None:
    """Note that something is kept for a payer; where its share is full, the payer with most of it
    loses its oldest.

    Args:
        connection: in a transaction; triggers of the journal delete what is displaced.
        kind: of what is kept.
        job: whose answer or receipt it is.
        payer: of the job.
        cost: how much of the bound this uses.
        most: bound of all payers; half is for those with a key or an account, half for all others.
    """
    share = (kind, payer.is_known)
    connection.execute(
        "INSERT INTO kept (kind, is_known, payer, job, cost) VALUES (?, ?, ?, ?, ?)",
        (*share, payer.did, job, cost),
    )
    while connection.execute(_SHARE_OF, share).fetchone()[0] > most // 2:  # RN168
        # the sums were edited: this would never end
        if not connection.execute(_DISPLACE, share).rowcount:
            raise sqlite3.DatabaseError("what is kept is not what its sums say")
