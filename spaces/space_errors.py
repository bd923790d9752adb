"""Everything that can be wrong with stored data.

Each class has a stable `code`; the node maps codes to statuses. No message contains a stored value.
"""

from typing import ClassVar


class SpaceError(Exception):
    """Base of every error of this package."""

    code: ClassVar[str] = "space-error"


class StoreError(SpaceError):
    """The store did not do what was asked."""

    code = "store-error"


class StoreUnavailable(StoreError):
    """No process writes at the moment, or the answer did not arrive in time.

    The outcome of a commit that raised this is unknown: it may have become durable.
    """

    code = "store-unavailable"


class StoreLocked(StoreUnavailable):
    """Another process is the writer of this data folder."""

    code = "store-locked"


class StoreFull(StoreError):
    """The bound on the store or the reserve of free disk is reached; nothing was written and reads
    go on."""

    code = "store-full"


class StoreBusy(StoreError):
    """The same commit was refused for too long, or too many bytes wait for the writer; nothing was
    written."""

    code = "store-busy"


class IntakeFull(StoreBusy):
    """Bodies in transit use as much of this process's memory as they may; nothing was written."""

    code = "intake-full"


class CommitTooLarge(StoreError):
    """A commit or read goes beyond a bound of the contract (ST6)."""

    code = "commit-too-large"


class CommitInvalid(StoreError):
    """A commit or read contradicts itself: a mistake of the caller, never of a request's data."""

    code = "commit-invalid"


class RecordDamaged(StoreError):
    """Stored bytes do not decode, or a body does not have the digest of its head."""

    code = "record-damaged"


class BackupDamaged(StoreError):
    """A file is no backup, or was cut short or altered; nothing was restored from it."""

    code = "backup-damaged"


class StartRefused(SpaceError):
    """The node must not start on this store."""

    code = "start-refused"


class SchemaMismatch(StartRefused):
    """The store was written under another schema version."""

    code = "schema-mismatch"

    def __init__(self, *, expected: int, got: int) -> None:
        found = str(got) if got < 1 << 32 else "that is no number"
        super().__init__(f"the store has schema {found}, this version needs {expected}")


class StoreMoved(StartRefused):
    """The store was moved elsewhere; what remains here may be read but not served (ST12)."""

    code = "store-moved"

    def __init__(self, place: str) -> None:
        super().__init__(f"the store was moved to {place}, and what is here is as it was then")


class WrongSecret(StartRefused):
    """The root secret gives another node DID than the one the store was made with."""

    code = "wrong-secret"

    def __init__(self, *, recorded: str, offered: str) -> None:
        super().__init__(
            f"the store belongs to {recorded}, the secret at hand is that of {offered}"
        )
        self.recorded = recorded


class BodiesElsewhere(StartRefused):
    """The place that the settings name for bodies is not where this store keeps them, or belongs to
    another store."""

    code = "bodies-elsewhere"


class TooManySpaces(SpaceError):
    """A delegation names more spaces than one registration can index (ST6)."""

    code = "too-many-spaces"


class TooManyDelegations(SpaceError):
    """The limit on stored delegations, or on their bytes, is reached."""

    code = "too-many-delegations"


class MetadataTooLarge(SpaceError):
    """The metadata to be stored with a value is larger than its bound (ST6)."""

    code = "metadata-too-large"


class PathTooLong(SpaceError):
    """The path of a value that is to be stored is longer than its bound."""

    code = "path-too-long"
