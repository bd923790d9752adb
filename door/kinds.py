"""The table of what a grant of each kind may do through a door (DR4)."""

from capabilities.frozen import frozen


@frozen
class Kind:
    """What grants of one kind may do.

    Attributes:
        name: the name of the kind in answers and messages.
        lists_all: whether the node lists names for it; otherwise the door lists the names in
            its token or its grants.
        has_versions: whether it reads earlier values.
        writes: whether it writes with `--write`.
    """

    name: str
    lists_all: bool
    has_versions: bool
    writes: bool


MACHINE = Kind(name="machine-token", lists_all=False, has_versions=False, writes=False)
"""A machine token: the line of one, or one for which an ID token was exchanged."""

OWNER = Kind(name="session", lists_all=True, has_versions=True, writes=True)
"""An owner's session, at mounts of the owner's own secrets."""

RECEIVER = Kind(name="shared", lists_all=True, has_versions=False, writes=False)
"""An owner's session, at mounts of secrets that another owner shares."""

BACKEND = Kind(name="backend", lists_all=False, has_versions=False, writes=False)
"""The grants of a door that proves its code, at mounts of the owners who granted."""
