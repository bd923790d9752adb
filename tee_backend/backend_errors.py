"""Errors of a backend's own key and of its folder of grants.

Each message says what to do next. No message contains a byte of a key or a token. The paths in them
are those of the backend's machine, so a backend does not send these messages to clients. Errors of
quote sources are in `evidence.evidence_errors`.
"""

from sealspace.errors import SealspaceError


class KeepingError(SealspaceError):
    """The backend's key or grants cannot be read or stored."""

    code = "backend-keeping"


class FolderUnusable(KeepingError):
    """The folder cannot be read or written, is open to other users, or is used by another
    process."""

    code = "backend-folder-unusable"


class FolderDamaged(KeepingError):
    """A required file in the folder is missing or damaged, or the folder has too many files."""

    code = "backend-folder-damaged"


class FolderOfAnother(KeepingError):
    """The folder belongs to a backend with another key, and contains grants to that backend."""

    code = "backend-folder-of-another"


class KeyUnusable(KeepingError):
    """The key file is empty, damaged or open to other users, or cannot be created.

    An existing key file is never overwritten.
    """

    code = "backend-key-unusable"
