"""Errors of a backend's own key and of its folder of grants.

Each message says what to do next. No message contains a byte of a key or a token. The paths in them
are those of the backend's machine, so a backend does not send these messages to clients. Errors of
quote sources are in `evidence.evidence_errors`.
"""

from sealspace.errors import SealspaceError


class KeepingError(SealspaceError):
    """A backend's key or grants cannot be read or stored."""

    code = "backend-keeping"


class FolderUnusable(KeepingError):
    """The folder is open to other users, used by another process, or cannot be read or written."""

    code = "backend-folder-unusable"


class FolderDamaged(KeepingError):
    """A required file of the folder is missing or damaged, or the folder has too many files."""

    code = "backend-folder-damaged"


class FolderOfAnother(KeepingError):
    """The folder was made by a backend with another key, and its grants are for that backend."""

    code = "backend-folder-of-another"


class KeyUnusable(KeepingError):
    """The key file is empty, damaged, open to others, or cannot be made.

    An existing key file is never overwritten.
    """

    code = "backend-key-unusable"
