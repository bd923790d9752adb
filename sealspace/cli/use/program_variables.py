"""Environment variables that direct programs: what they run, read or connect to (CL6).

A secret with such a name would let everybody who may write the secret run code in the child. So a
name of the list is refused, unless it ends like the name of a secret: `GIT_TOKEN` is passed, and
`GIT_SSH_COMMAND` is not.

No list of this kind is complete. It is the second line of defence: without `--only`, and for
secrets that somebody else chose, names have to end like those of secrets (CL1).
"""

import re

from .variable_families import FAMILIES

_PATTERNS = [pattern for family in FAMILIES for pattern in family.patterns]
_PREFIXES = tuple(pattern.removesuffix("*") for pattern in _PATTERNS if pattern.endswith("*"))
_ENDINGS = tuple(pattern.removeprefix("*") for pattern in _PATTERNS if pattern.startswith("*"))
_NAMES = frozenset(pattern for pattern in _PATTERNS if "*" not in pattern)

# `PGPASSWORD` has no underscore. Programs that take code, options, a file or an address from a
# variable mostly use other endings: `_ASKPASS`, `_PASSCOMMAND`, `_PASSWORD_FILE`, `_KEY_CMD`.
_ENDS_LIKE_A_SECRET = re.compile(
    r".*(_KEY|_KEY_ID|_TOKEN|_SECRET|_PASS|PASSWORD|_PASSPHRASE|_CREDENTIALS)"
)
# These end like secrets. The first two may name a file to read and an address to send it to, the
# others name files.
_NAMES_OF_FILES = frozenset(
    {
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CREDENTIALS",
        "GIT_SSL_KEY",
        "GIT_PROXY_SSL_KEY",
        "RCLONE_CLIENT_KEY",
    }
)
# An address decides whom a program talks to, and some drivers load code that it names. So it is
# passed by default only where the owner chose it.
_ENDS_LIKE_AN_ADDRESS = re.compile(r".*_DSN|(DATABASE|REDIS)_URL")

_OURS = "SEALSPACE_"


def ends_like_a_secret(name: str) -> bool:
    """Return whether the name says that the value is a secret, and nothing else."""
    return _ENDS_LIKE_A_SECRET.fullmatch(name) is not None


def directs_programs(name: str) -> bool:
    """Return whether an environment variable can direct a program's code or connections (CL6)."""
    # A `SEALSPACE_TOKEN` among the secrets would be the session of the child's commands (CL5).
    if name.startswith(_OURS):
        return True
    is_listed = name in _NAMES or name.startswith(_PREFIXES) or name.endswith(_ENDINGS)
    return is_listed and not ends_like_a_secret(name)


def is_passed_by_default(name: str, *, chosen_by_others: bool) -> bool:
    """Return whether a secret is passed to a command without being named on its line (CL1).

    Args:
        name: the name of the variable.
        chosen_by_others: whether the secret is of another owner than the user.
    """
    if directs_programs(name):
        return False
    if ends_like_a_secret(name):
        return not (chosen_by_others and name in _NAMES_OF_FILES)
    return not chosen_by_others and _ENDS_LIKE_AN_ADDRESS.fullmatch(name) is not None
