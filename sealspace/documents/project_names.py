"""Project names of the form `<developer's DID>/<name>`, and a project's storage keys (RN50).

In the developer's space `projects`, or in the space `public` for everybody:

    projects/<name>/code/<sha256>       the program's bytes
    projects/<name>/versions/<sha256>   the developer's statement about them
    projects/<name>/active              the developer's statement which version is active

Example:
    project = parse_project(f"{session.owner}/mail-digest")
    assert project.active_key == "projects/mail-digest/active"
"""

import re
from dataclasses import dataclass

from capabilities.capability_errors import CapabilityError
from capabilities.principals import Principal, parse_principal

from ..errors import InvalidInput

PROJECTS_SPACE = "projects"
PUBLIC_SPACE = "public"

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ProjectId:
    """The identity of a project: its developer and its name."""

    developer: Principal
    name: str

    @property
    def text(self) -> str:
        """The id as a string, `<DID>/<name>`."""
        return f"{self.developer}/{self.name}"

    @property
    def active_key(self) -> str:
        """The key under which the signed statement about the active version is stored."""
        return f"projects/{self.name}/active"

    def code_key(self, sha256: str) -> str:
        """Return the storage key of a version's code."""
        return f"projects/{self.name}/code/{sha256}"

    def version_key(self, sha256: str) -> str:
        """Return the storage key of a version's signed metadata."""
        return f"projects/{self.name}/versions/{sha256}"


def parse_project(text: str) -> ProjectId:
    """Parse a project's id, `<DID>/<name>`. Raises InvalidInput if it is malformed."""
    developer, _, name = text.rpartition("/")
    try:
        principal = parse_principal(developer)
    except CapabilityError as exc:
        raise InvalidInput("not a project: the form is <developer's DID>/<name>") from exc
    if principal != developer:
        raise InvalidInput(f"the developer's DID must be written as {principal[:200]}")
    return ProjectId(principal, checked_project_name(name))


def checked_project_name(name: str) -> str:
    """Return a project's name if it is valid, or raise InvalidInput."""
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(
            "not a project name: use 1 to 64 lower-case letters and digits, with dashes between",
            hint="choose a name such as `mail-digest`",
        )
    return name


def checked_sha256(value: object, *, what: str) -> str:
    """Check that a value is a SHA-256 in lower-case hex, and return the value."""
    if not isinstance(value, str) or _SHA256.fullmatch(value) is None:
        raise InvalidInput(f"{what} must be 64 lower-case hex digits")
    return value
