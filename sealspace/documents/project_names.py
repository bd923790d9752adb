"""Project names, and the storage keys of project files (RN50).

In the developer's space `projects`, or in the space `public` for everybody:

    projects/<name>/code/<sha256>       the program's bytes
    projects/<name>/versions/<sha256>   the developer's statement about them
    projects/<name>/active              the developer's statement which version is active
    projects/<name>/provenance/<sha256>       the provenance bundle of a version (PV12)
    projects/<name>/builds/<commit>/<target>  the SHA-256 of the version built from a commit (PV13)
    datasets/<name>                     the owner's statement about a data set, always in `public`

Example:
    project = parse_project(f"{session.owner}/mail-digest")
    assert project.active_key == "projects/mail-digest/active"
"""

import re

from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.principals import Principal, parse_principal

from ..errors import InvalidInput

PROJECTS_SPACE = "projects"
PUBLIC_SPACE = "public"

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@frozen
class ProjectId:
    """The developer and the name that identify a project."""

    developer: Principal
    name: str

    @property
    def text(self) -> str:
        """The project's id as a string, `<DID>/<name>`."""
        return f"{self.developer}/{self.name}"

    @property
    def active_key(self) -> str:
        """The storage key of the file that names a project's active version."""
        return f"projects/{self.name}/active"

    @property
    def dataset_key(self) -> str:
        """The storage key of the owner's statement about the data set with this id (DS7)."""
        return f"datasets/{self.name}"

    def code_key(self, sha256: str) -> str:
        """Return the storage key of a program version's code."""
        return f"projects/{self.name}/code/{sha256}"

    def version_key(self, sha256: str) -> str:
        """Return the storage key of a program version's metadata."""
        return f"projects/{self.name}/versions/{sha256}"

    def provenance_key(self, sha256: str) -> str:
        """Return the storage key of a program version's provenance bundle."""
        return f"projects/{self.name}/provenance/{sha256}"

    def build_key(self, commit: str, target: str) -> str:
        """Return the storage key of the hash of the version built from a commit."""
        return f"projects/{self.name}/builds/{commit}/{target}"


def parse_project(text: str) -> ProjectId:
    """Parse a project's id, `<DID>/<name>`.

    Raises InvalidInput if the id is malformed.
    """
    developer, _, name = text.rpartition("/")
    try:
        principal = parse_principal(developer)
    except CapabilityError as exc:
        raise InvalidInput("not a project: the form is <developer's DID>/<name>") from exc
    if principal != developer:
        raise InvalidInput(f"the developer's DID must be written as {principal[:200]}")
    return ProjectId(principal, checked_project_name(name))


def checked_project_name(name: str) -> str:
    """Check that a project's name is valid, and return the name."""
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(
            "not a project name: use 1 to 64 lower-case letters, digits and inner dashes",
            hint="choose a name such as `mail-digest`",
        )
    return name


def checked_sha256(value: object, *, what: str) -> str:
    """Check that a value is a SHA-256 hash in lower-case hex.

    Returns the value.
    """
    if not isinstance(value, str) or _SHA256.fullmatch(value) is None:
        raise InvalidInput(f"{what} must be 64 lower-case hex digits")
    return value
