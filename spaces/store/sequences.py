"""The rows of sequences, which number the commits to a space (ST24).

A sequence is a row that only the engines write. A commit that puts rows into the sequence takes the
next number. The row contains the last number, and the history that each number belongs to:

    offset  size  field
    ──────  ────  ────────────────────────────────────────────────────────────────
    0       8     last number, big-endian
    8       8     first number of a history, big-endian  }  at most MAX_HISTORIES
    16      8     random id of that history              }  times, the oldest first

A history ends where numbers may have been lost that readers had seen: when the process that writes
an LMDB store starts, and when a PostgreSQL server takes over or starts. A restored store is written
by such a process too. The next number then belongs to a new history. So a reader that keeps a
number and the present history can tell later whether the commits up to this number are still the
same, although the number alone may be used again.

Example:
    state = sequence_of(record)
    if not state.contains(number, history): ...     # the reader saw commits that are lost
"""

from capabilities.frozen_struct import AcyclicStruct

from ..space_errors import RecordDamaged
from .contract import Record

NUMBER_BYTES = 8
HISTORY_BYTES = 8
# A row with all of them has 520 bytes. Readers who saw an older history have to start again.
MAX_HISTORIES = 32
NO_HISTORY = bytes(HISTORY_BYTES)
"""The history of a sequence without a commit."""
_ENTRY_BYTES = NUMBER_BYTES + HISTORY_BYTES


class History(AcyclicStruct):
    """A run of numbers that no failure interrupted."""

    first_number: int
    id: bytes


class SequenceState(AcyclicStruct):
    """The decoded row of a sequence.

    Attributes:
        number: the last number; 0 before the first commit.
        histories: the latest histories, the oldest first.
    """

    number: int = 0
    histories: tuple[History, ...] = ()

    @property
    def history(self) -> bytes:
        """The id of the present history; NO_HISTORY before the first commit."""
        return self.histories[-1].id if self.histories else NO_HISTORY

    def contains(self, number: int, history: bytes) -> bool:
        """Return whether the commits up to a number are those that a reader saw.

        `history` was the present history when the reader saw them. Another history may have begun
        since, with a number that follows all commits of the former one that are left. False if
        the number is beyond those, or if the reader's history is unknown or no longer recorded.
        """
        if number == 0:
            return True  # before all commits, in every history
        if number > self.number:
            return False
        # From the present history back to the oldest one: each ends where the next one begins.
        end = self.number + 1
        for recorded in reversed(self.histories):
            if recorded.id == history:
                return number < end
            end = recorded.first_number
        return False


def sequence_of(record: Record | None) -> SequenceState:
    """Decode the row of a sequence; without a row, no number was used.

    Raises RecordDamaged if the row does not decode.
    """
    if record is None or record.value is None:
        return SequenceState()
    value = record.value
    if len(value) % _ENTRY_BYTES != NUMBER_BYTES:
        raise RecordDamaged("the row of a sequence has the wrong length")
    histories: list[History] = []
    for start in range(NUMBER_BYTES, len(value), _ENTRY_BYTES):
        entry = value[start : start + _ENTRY_BYTES]
        first_number = int.from_bytes(entry[:NUMBER_BYTES], "big")
        histories.append(History(first_number=first_number, id=entry[NUMBER_BYTES:]))
    return SequenceState(
        number=int.from_bytes(value[:NUMBER_BYTES], "big"), histories=tuple(histories)
    )


def advance(value: bytes, history: bytes) -> bytes:
    """Return the value of the row of a sequence after one more commit.

    Args:
        value: the present value; empty before the first commit.
        history: the id of the present history.
    """
    last_number = int.from_bytes(value[:NUMBER_BYTES], "big")
    number8 = (last_number + 1).to_bytes(NUMBER_BYTES, "big")
    histories = value[NUMBER_BYTES:]
    if histories[-HISTORY_BYTES:] != history:  # this number is the first of a new history
        histories += number8 + history
        histories = histories[-MAX_HISTORIES * _ENTRY_BYTES :]
    return number8 + histories


def number_of(position: bytes) -> int:
    """Return the number in the position of a row (`Record.position`)."""
    return int.from_bytes(position[-NUMBER_BYTES:], "big")
