"""A data folder as its only writer has it: locked, open for writing, with the replay records of this boot."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from capabilities.ambient import Clock

from ._folder import FolderLock, open_for_writing
from ._housekeeping import Housekeeping
from ._replay_records import ReplayRecords, boot_id, discard_other_boots
from ._writer import FreeSpace, Writer

if TYPE_CHECKING:
    from ..observing import Observer


@dataclass(frozen=True, slots=True)
class OwnedFolder:
    """What the writer of a folder works with."""

    env: lmdb.Environment
    replay_records: ReplayRecords
    writer: Writer
    housekeeping: Housekeeping


@contextmanager
def owned_folder(
    folder: Path, free_space: FreeSpace, clock: Clock, observer: "Observer | None" = None
) -> Iterator[OwnedFolder]:
    """Be the writer of a folder, which is made when it is new, until the block ends."""
    with ExitStack() as opened:
        opened.callback(FolderLock(folder).close)
        boot = boot_id()
        discard_other_boots(folder, boot)
        env = open_for_writing(folder)
        opened.callback(env.close)
        replay_records = ReplayRecords(folder, boot)
        opened.callback(replay_records.close)
        writer = Writer(env, free_space, clock, observer)
        yield OwnedFolder(env, replay_records, writer, Housekeeping(writer, replay_records, clock))
