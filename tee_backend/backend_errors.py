"""What can go wrong where a backend keeps its key and its grants; sources of quotes have errors of
their own.

Each says what to do next. None contains a byte of a key or a token; paths are those of the
backend's own machine, so a backend does not send these messages to clients.
"""

from sealspace.errors import SealspaceError


class KeepingError(SealspaceError):
    """A backend's key or grants cannot be read or stored."""

    code = "backend-keeping"


class FolderUnusable(KeepingError):
    """The folder is open to others, used by another process, or cannot be read or written."""

    code = "backend-folder-unusable"


class FolderDamaged(KeepingError):
    """A file of the folder that is needed is not what this program wrote, or there are too many."""

    code = "backend-folder-damaged"


class FolderOfAnother(KeepingError):
    """The folder was made by a backend with another key; its grants are for that one."""

    code = "backend-folder-of-another"


class KeyUnusable(KeepingError):
    """A key file is empty, damaged, open to others, or cannot be made; it is never overwritten."""

    code = "backend-key-unusable"
