"""What the writer of a folder does every minute."""

from typing import Final

from capabilities.ambient import Clock

from ._first_use import FirstUses
from ._writer import Writer

HOUSEKEEPING_S: Final = 60.0
# Claims outlive their expiry by this much before they are forgotten: clocks of one machine that step back.
CLAIM_GRACE_MINUTES: Final = 2
# For a day a deleted row is told from one that was never written (M31).
TOMBSTONE_MINUTES: Final = 24 * 60


def keep_house(writer: Writer, first_uses: FirstUses, clock: Clock) -> None:
    """Free dead reader slots, forget expired claims and old tombstones.

    Raises:
        WriterBroken: a sync failed.
    """
    writer.check_readers()
    first_uses.check_readers()
    before_minute = max(int(clock.now()) // 60 - CLAIM_GRACE_MINUTES, 0)
    first_uses.sweep(before_minute)
    writer.sweep_claims(before_minute)
    writer.sweep_tombstones(max(before_minute - TOMBSTONE_MINUTES, 0))
