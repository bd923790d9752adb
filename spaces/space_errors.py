"""Errors of the store and of stored data.

Each class has a stable `code`; the node maps codes to statuses. No message contains a stored value.
"""

from typing import ClassVar


class SpaceError(Exception):
    """Base class of all errors of this package."""

    code: ClassVar[str] = "space-error"


class StoreError(SpaceError):
    """A storage operation failed."""

    code = "store-error"


class StoreUnavailable(StoreError):
    """The store cannot be reached, or did not answer in time.

    The outcome of a commit that raised this is unknown: it may have become durable.
    """

    code = "store-unavailable"


class AuthoritiesUnreadable(StoreUnavailable):
    """The client of a bucket found no certificate authority that it can read."""


class SqlOutcomeUnknown(StoreUnavailable):
    """The process of an SQL database ended, or did not answer, while it committed a write.

    The write is durable or was undone.
    """


class StoreLocked(StoreUnavailable):
    """Another process has the data folder open for writing."""

    code = "store-locked"


class StoreFull(StoreError):
    """The store has no space for more data.

    It has reached its size limit, or free disk space is below the reserve. Nothing was written.
    Reads continue to work.
    """

    code = "store-full"


class StoreBusy(StoreError):
    """The store has too many conflicting or pending writes.

    Nothing was written.
    """

    code = "store-busy"


class IntakeFull(StoreBusy):
    """The memory limit for incoming values is reached.

    Nothing was written.
    """

    code = "intake-full"


class CommitTooLarge(StoreError):
    """A commit or read exceeds a limit of the store (ST6)."""

    code = "commit-too-large"


class CommitInvalid(StoreError):
    """A commit or read has inconsistent arguments.

    This error is always a programming error.
    """

    code = "commit-invalid"


class RecordDamaged(StoreError):
    """Stored data is damaged.

    A row cannot be decoded, or the body of a value does not match its digest.
    """

    code = "record-damaged"


class BackupDamaged(StoreError):
    """A backup file is damaged or incomplete.

    The file may also not be a backup at all. Nothing was restored from it.
    """

    code = "backup-damaged"


class StartRefused(SpaceError):
    """The node must not start on the configured store."""

    code = "start-refused"


class SchemaMismatch(StartRefused):
    """The store was written with another schema version.

    Attributes:
        can_upgrade: whether `sealspace admin upgrade` moves the store forward.
    """

    code = "schema-mismatch"

    def __init__(self, *, expected: int, got: int, can_upgrade: bool = False) -> None:
        found = str(got) if got < 1 << 32 else "unknown"
        super().__init__(
            f"the store has schema version {found}; this version of sealspace needs {expected}"
        )
        self.can_upgrade = can_upgrade


class StoreMoved(StartRefused):
    """The store was moved to another place (ST12).

    No node may run on the old copy, but it can still be read.
    """

    code = "store-moved"

    def __init__(self, place: str) -> None:
        super().__init__(f"the store was moved to {place}; the copy here is out of date")


class WrongSecret(StartRefused):
    """The root secret does not match the store's node DID."""

    code = "wrong-secret"

    def __init__(self, *, recorded: str, offered: str) -> None:
        super().__init__(
            f"the store belongs to {recorded}, but the root secret belongs to {offered}"
        )
        self.recorded = recorded
        self.offered = offered


class SecretReplaced(StartRefused):
    """The root secret is a former one of this store.

    Attributes:
        number: of the former root secret.
    """

    code = "secret-replaced"

    def __init__(self, *, number: int, replaced_on: str, present: int) -> None:
        super().__init__(
            f"this is root secret number {number} of the store, which was replaced on"
            f" {replaced_on}; the store needs root secret number {present}"
        )
        self.number = number


class RotationUnfinished(StartRefused):
    """The replacement of the store's root secret was begun and is not finished."""

    code = "rotation-unfinished"

    def __init__(self, *, number: int, begun_on: str) -> None:
        super().__init__(
            f"root secret number {number} of the store is being replaced since {begun_on}, and the"
            " replacement is not finished"
        )


class BodiesElsewhere(StartRefused):
    """The store's large values are not in the configured location.

    They are in another location, or the configured location belongs to another store.
    """

    code = "bodies-elsewhere"


class TooManySpaces(SpaceError):
    """A delegation names too many spaces (ST6)."""

    code = "too-many-spaces"


class TooManyDelegations(SpaceError):
    """The limit on stored delegations is reached.

    Both their number and their size are limited.
    """

    code = "too-many-delegations"


class DelegationTooLarge(SpaceError):
    """A delegation is larger than its signer may store."""

    code = "delegation-too-large"


class TooMuchDecoded(SpaceError):
    """A request depends on more bytes of stored delegations than one request may decode."""

    code = "too-much-decoded"


class TooManyExchanged(SpaceError):
    """Too many machine tokens that were made under one trust have not ended (OX9)."""

    code = "too-many-exchanged"


class MetadataTooLarge(SpaceError):
    """The metadata of a value is larger than allowed (ST6)."""

    code = "metadata-too-large"


class PathTooLong(SpaceError):
    """The path of a value is longer than allowed."""

    code = "path-too-long"


class SqlError(SpaceError):
    """A statement or request for a database was refused.

    The message is for the caller. It may repeat the caller's SQL, so it is never logged.
    """

    code = "sql-invalid"


class SqlForbidden(SqlError):
    """The statement needs an ability that the token lacks, or is never allowed."""

    code = "sql-forbidden"


class SqlAdminNeeded(SqlForbidden):
    """A PRAGMA needs the ability `tinycloud.sql/admin`."""


class SqlAnswerTooLarge(SqlError):
    """The rows of a query exceed a limit on the answer."""

    code = "sql-answer-too-large"


class SqlQuotaExceeded(SqlError):
    """A write does not fit into the quota of the space."""


class SqlLogFull(SqlError):
    """The write of one request changes more of a database than its log may contain (SQ30)."""

    code = "sql-log-full"
