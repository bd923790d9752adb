"""Names of projects: `<developer's DID>/<name>`, and where their parts are stored (RN50).

In the developer's space `projects`, or for everybody in the space `public`:

    projects/<name>/code/<sha256>       the program's bytes
    projects/<name>/versions/<sha256>   the developer's statement about them
    projects/<name>/active              the developer's statement which version runs

Example:
    project = parse_project(f"{session.owner}/mail-digest")
    assert project.active_key == "projects/mail-digest/active"
"""

import re
from dataclasses import dataclass
from typing import Final

from capabilities.capability_errors import CapabilityError
from capabilities.principals import Principal, parse_principal

from ..errors import InvalidInput

PROJECTS_SPACE: Final = "projects"
PUBLIC_SPACE: Final = "public"

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ProjectId:
    """A project of a developer."""

    developer: Principal
    name: str

    @property
    def text(self) -> str:
        """`<DID>/<name>`."""
        return f"{self.developer}/{self.name}"

    @property
    def active_key(self) -> str:
        """Key of the statement which version runs."""
        return f"projects/{self.name}/active"

    def code_key(self, sha256: str) -> str:
        """Key of a program's bytes."""
        return f"projects/{self.name}/code/{sha256}"

    def version_key(self, sha256: str) -> str:
        """Key of the statement about a version."""
        return f"projects/{self.name}/versions/{sha256}"


def parse_project(text: str) -> ProjectId:
    """Read `<DID>/<name>`."""
    developer, _, name = text.rpartition("/")
    try:
        principal = parse_principal(developer)
    except CapabilityError as exc:
        raise InvalidInput("a project is named as <developer's DID>/<name>") from exc
    if principal != developer:
        raise InvalidInput(f"the developer of a project is written as {principal[:200]}")
    return ProjectId(principal, checked_project_name(name))


def checked_project_name(name: str) -> str:
    """Return the name of a project."""
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(
            "a project's name has 1 to 64 lower-case letters, digits and dashes, and no dash at"
            " an end",
            hint="as in `mail-digest`",
        )
    return name


def checked_sha256(value: object, *, what: str) -> str:
    """Return a SHA-256 as 64 lowercase hex digits."""
    if not isinstance(value, str) or _SHA256.fullmatch(value) is None:
        raise InvalidInput(f"{what} has not 64 lowercase hex digits")
    return value
