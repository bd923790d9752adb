"""Grants by which a runner reads programs that are not for everybody (RN152).

A developer grants `tinycloud.kv/get` on `projects/<name>` in its space `projects`, which is all of that project: code,
statements, and which version runs.

Example:
    wanted = allow(project_resource(session.owner, "mail-digest"), "tinycloud.kv/get")
"""

from dataclasses import dataclass
from typing import Final

from capabilities.abilities import KV_GET
from capabilities.resources import SpaceResource

from ..errors import InvalidInput, InvalidPortableDelegation
from ..session import space_of
from .project_names import PROJECTS_SPACE, ProjectId, checked_project_name
from .run_grants import verified_own

MAX_PROJECTS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramGrant:
    """A grant to read projects; made by `read_program_grant`."""

    header: str
    projects: frozenset[ProjectId]
    expires_at: float


def project_resource(developer: str, name: str) -> str:
    """Return the resource of a whole project in the developer's space `projects`."""
    return f"{space_of(developer, PROJECTS_SPACE).text}/kv/projects/{checked_project_name(name)}"


def read_program_grant(header: str, *, runner: str) -> ProgramGrant:
    """Read a grant to read projects, untrusted, and verify who signed it.

    Args:
        header: CACAO or UCAN text.
        runner: DID that it has to be for.
    Raises:
        InvalidPortableDelegation: a rule is broken; the text names it.
    Does not check:
        Time, and whether it was revoked: the node does, at each read.
    """
    _, delegation, expires_at = verified_own(header, runner=runner)
    projects: set[ProjectId] = set()
    for one in delegation.capabilities:
        path = one.resource.path if isinstance(one.resource, SpaceResource) else None
        name = (path or "").removeprefix("projects/")
        try:
            is_project = one.resource.text == project_resource(delegation.delegator, name)
        except InvalidInput:
            is_project = False
        if one.ability != KV_GET or not is_project:
            raise InvalidPortableDelegation(f"a grant of programs holds {KV_GET} on projects/NAME, and nothing else")
        projects.add(ProjectId(delegation.delegator, name))
    if not 1 <= len(projects) <= MAX_PROJECTS:
        raise InvalidPortableDelegation(f"a grant of programs names 1 to {MAX_PROJECTS} projects")
    return ProgramGrant(header=header, projects=frozenset(projects), expires_at=expires_at)
