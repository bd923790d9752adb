"""Exceptions for a backend's key file and grants folder.

Each message says what to do next. No message contains a byte of a key or a token. The paths in them
are those of the backend's machine, so a backend does not send these messages to clients. Errors of
quote sources are in `evidence.evidence_errors`.
"""

from sealspace.errors import SealspaceError


class KeepingError(SealspaceError):
    """The backend's key or grants cannot be read or stored."""

    code = "backend-keeping"


class FolderUnusable(KeepingError):
    """The backend's folder is inaccessible, insecure or in use.

    A folder is insecure if it is open to other users, and in use if another process has locked it.
    """

    code = "backend-folder-unusable"


class FolderDamaged(KeepingError):
    """A file in the backend's folder is missing or damaged.

    Also raised if there are too many files.
    """

    code = "backend-folder-damaged"


class FolderOfAnother(KeepingError):
    """The grants folder belongs to a backend with a different key."""

    code = "backend-folder-of-another"


class KeyUnusable(KeepingError):
    """The backend's key file is empty, damaged or insecure.

    A file is insecure if it is open to other users. Also raised if the file cannot be created. An
    existing key file is never overwritten.
    """

    code = "backend-key-unusable"
