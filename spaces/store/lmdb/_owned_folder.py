"""A data folder as its one writer has it: locked, open for writing, with the records of this boot."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from capabilities.ambient import Clock

from ._folder import FolderLock, open_for_writing
from ._housekeeping import Housekeeping
from ._replay_records import FirstUses, boot_id, discard_other_boots
from ._writer import Room, Writer

if TYPE_CHECKING:
    from ..watching import Watch


@dataclass(frozen=True, slots=True)
class OwnedFolder:
    """What the writer of a folder works with."""

    env: lmdb.Environment
    first_uses: FirstUses
    writer: Writer
    housekeeping: Housekeeping


@contextmanager
def owned_folder(folder: Path, room: Room, clock: Clock, watch: "Watch | None" = None) -> Iterator[OwnedFolder]:
    """Own the writing of a folder, which is made when it is new, until the block ends.

    Raises:
        StoreLocked: another process writes this folder.
        StoreUnavailable: the environment does not open.
    """
    with ExitStack() as opened:
        opened.callback(FolderLock(folder).close)
        boot = boot_id()
        discard_other_boots(folder, boot)
        env = open_for_writing(folder)
        opened.callback(env.close)
        first_uses = FirstUses(folder, boot)
        opened.callback(first_uses.close)
        writer = Writer(env, room, clock, watch)
        yield OwnedFolder(env, first_uses, writer, Housekeeping(writer, first_uses, clock))
