"""File names and reference counts of large values.

Each large value is stored in a file, called an object:

    <folder>/<first 2 hex of hash>/<space16 hex>-<hash hex>-<generation hex>

A file is written once, synced, and given a name that was never used before (the generation is
random). Only then may a commit name it. Its record `B space16 hash32` contains the generation and
the number of values that refer to the object. The record changes only in the commits that change
those values. So a crash leaves at worst a file that no record names.

A commit adds a reference to an existing object only if its record has at least one reference; the
commit checks the record's stamp. A record without references is about to be deleted and is never
reused: the next write creates a new generation.

`collector` removes objects; `object_folder` reads and writes the files.
"""

from capabilities.clock_and_entropy import Entropy

from .._codec import Codec
from ..keyspace import due_key
from ..store.contract import Packed, Put

GENERATION_BYTES = 16
# A file stays this long after its record is deleted, for clients that read the value's row before.
UNLINK_AFTER_S = 3600.0


class ObjectName(Packed):
    """The name of a file that contains a large value."""

    space16: bytes
    digest: bytes
    generation: bytes

    @property
    def file_name(self) -> str:
        """The file name without the folder."""
        return f"{self.space16.hex()}-{self.digest.hex()}-{self.generation.hex()}"


def parse_file_name(name: str) -> ObjectName | None:
    """Parse the file name of a large value, or return None for other files."""
    parts = name.split("-")
    if [len(part) for part in parts] != [32, 64, 32]:
        return None
    try:
        space16, digest, generation = [bytes.fromhex(part) for part in parts]
    except ValueError:
        return None
    found = ObjectName(space16=space16, digest=digest, generation=generation)
    # `fromhex` also accepts capitals and spaces, which no file name of ours contains.
    if found.file_name != name:
        return None
    return found


class ObjectRecord(Packed):
    """The database row that counts the references to an object.

    Attributes:
        generation: the random part of the file name.
        references: the number of values and versions that refer to the object.
        kept: how many of them are versions (ST19).
    """

    generation: bytes
    references: int
    kept: int = 0

    @property
    def is_live(self) -> bool:
        """Whether a value refers to the object, not only versions."""
        return self.references > self.kept


class ObjectWork(ObjectName):
    """A task that deletes an unused object.

    If `unlink` is true, the file is deleted, otherwise the record.

    `size_bytes` is subtracted from the total size of all objects when the file is deleted; 0 if the
    file was never counted.
    """

    unlink: bool
    size_bytes: int = 0


_RECORD_CODEC = Codec(ObjectRecord)
object_record_of = _RECORD_CODEC.read
"""Decode an object's row; None if it does not exist or was collected."""
encode_object_record = _RECORD_CODEC.encode
_WORK_CODEC = Codec(ObjectWork)
object_work_of = _WORK_CODEC.of
"""Decode the row of a work item."""


def due_put(
    name: ObjectName, *, due_at: float, unlink: bool, entropy: Entropy, size_bytes: int = 0
) -> Put:
    """Return a write operation that schedules the deletion of an object."""
    work = ObjectWork(
        space16=name.space16,
        digest=name.digest,
        generation=name.generation,
        unlink=unlink,
        size_bytes=size_bytes,
    )
    return Put(due_key(due_at, entropy.token(16)), _WORK_CODEC.encode(work))
