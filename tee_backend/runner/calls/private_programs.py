"""Programs that their developers granted to this runner alone, read by that grant (RN152, RN153).

Example:
    read = PrivatePrograms(backend).reader(project, max_bytes=MAX_PROGRAM_BYTES)
    code = None if read is None else await read(project.code_key(sha256))
"""

from capabilities.principals import same_principal
from sealspace.apps.programs import Reader
from sealspace.documents.program_grants import ProgramGrant, read_program_grant
from sealspace.documents.project_names import PROJECTS_SPACE, ProjectId
from sealspace.errors import InvalidPortableDelegation, NotFound, NotGranted, Unauthorized
from sealspace.session import Grant, space_of

from ...backend import Backend


class PrivatePrograms:
    """What developers granted to read.

    Args:
        backend: that holds the grants, and reads by them.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._read: dict[str, ProgramGrant | None] = {}

    def reader(self, project: ProjectId, *, max_bytes: int) -> Reader | None:
        """Return what reads a project by the newest grant for it; None where there is none.

        Args:
            project: whose.
            max_bytes: of one value.
        """
        grant = self._grant_for(project)
        if grant is None:
            return None
        space = space_of(project.developer, PROJECTS_SPACE).text

        async def read(key: str) -> bytes | None:
            try:
                return await self._backend.read_value(space, key, by=grant, max_bytes=max_bytes)
            except (NotFound, NotGranted, Unauthorized):  # the developer ended the grant: as if there were none
                return None

        return read

    def _grant_for(self, project: ProjectId) -> Grant | None:
        held = self._backend.grants
        # Each may have been read from disk, which the host owns.
        self._read = {one.grant.cid: self._known(one.grant) for one in held}
        for one in held:
            read = self._read[one.grant.cid]
            if one.state == "live" and read is not None and any(_is_same(project, own) for own in read.projects):
                return one.grant
        return None

    def _known(self, grant: Grant) -> ProgramGrant | None:
        if grant.cid in self._read:
            return self._read[grant.cid]
        try:
            return read_program_grant(grant.header, runner=self._backend.did)
        except InvalidPortableDelegation:
            return None


def _is_same(project: ProjectId, other: ProjectId) -> bool:
    return project.name == other.name and same_principal(project.developer, other.developer)
