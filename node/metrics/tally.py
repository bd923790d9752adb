"""What a worker counts while it answers: two additions for a request, one more for a refusal or a release."""

from bisect import bisect_left
from time import perf_counter_ns
from typing import Final

from encryption_network.errors import ReleaseRefused

from ..counts import Operation
from .series import (
    BOUND,
    CODE,
    GIVEN_UP,
    GROUND,
    OPERATION,
    OTHER,
    REASON,
    REFUSALS,
    RELEASE_REFUSALS,
    RELEASES,
    REQUEST_SECONDS,
)
from .table import Row

_BOUNDS: Final = REQUEST_SECONDS.bounds
_WIDTH: Final = REQUEST_SECONDS.width
_SUM: Final = _WIDTH - 1
# Where an operation's cells would begin if the classes of status started at 0; the first is 2.
_ANSWERED: Final = {name: REQUEST_SECONDS.cell(name, "2xx") - 2 * _WIDTH for name in OPERATION.values}
_REFUSED: Final = {code: REFUSALS.cell(code) for code in CODE.values}
_RELEASED: Final = {ground: RELEASES.cell(ground) for ground in GROUND.values}
_WITHHELD: Final = {reason: RELEASE_REFUSALS.cell(reason) for reason in REASON.values}
_GIVEN_UP: Final = {setting: GIVEN_UP.cell(setting) for setting in BOUND.values}


class Tally:
    """Counts into the row of one worker; belongs to its event loop's thread."""

    __slots__ = ("_row",)

    def __init__(self, row: Row) -> None:
        self._row = row

    def answered(self, operation: Operation, status: int, began_ns: int) -> None:
        """Count an answer: its operation, its status, and how long it took until now by `perf_counter_ns`."""
        row, took_ns = self._row, perf_counter_ns() - began_ns
        cell = _ANSWERED[operation] + status // 100 * _WIDTH
        row[cell + bisect_left(_BOUNDS, took_ns)] += 1
        row[cell + _SUM] += took_ns

    def refused(self, error: Exception, code: str) -> None:
        """Count an error that became an answer, by the code in the answer."""
        self._row[_REFUSED.get(code, _REFUSED[OTHER])] += 1
        if isinstance(error, ReleaseRefused):
            self._row[_WITHHELD[error.reason]] += 1

    def released(self, ground: str) -> None:
        """Count a release that was authorised, and is durable."""
        self._row[_RELEASED[ground]] += 1

    def gave_up(self, setting: str) -> None:
        """Count a connection that was not accepted or was ended, by the setting whose limit it reached."""
        self._row[_GIVEN_UP[setting]] += 1
