"""The grants that a runner holds, each verified once (RN252).

Grants may come from the disk, which the host controls. So each is verified as if it had just
arrived, by the rules of its kind. The result is kept as long as the grant is held: a signature does
not change. Whether a grant is live is looked up each time, so that a revocation or expiry counts at
once.

Example:
    reader = GrantReader(backend)
    for grant, run_grant in reader.run_grants():
        ...
"""

from typing import TypeVar

from capabilities.abilities import DECRYPT, KV_LIST, KV_PUT
from sealspace.documents.generation_grants import GenerationGrant, read_generation_grant
from sealspace.documents.project_names import ProjectId
from sealspace.documents.run_grants import (
    STORAGE_FOLDER,
    RunGrant,
    read_program_grant,
    read_run_grant,
)
from sealspace.errors import InvalidPortableDelegation
from sealspace.session import Grant, read_grant
from tee_backend.backend import Backend
from tee_backend.backend.held_grants import GrantState


class ProgramGrant(frozenset[ProjectId]):
    """The projects whose programs a runner may read (RN152)."""


class StorageGrant(frozenset[ProjectId]):
    """The projects whose storage a runner may keep (RN201)."""


HeldRead = RunGrant | GenerationGrant | ProgramGrant | StorageGrant
_Kind = TypeVar("_Kind", RunGrant, GenerationGrant, ProgramGrant, StorageGrant)


class GrantReader:
    """The only reader of a runner's grants, for calls, programs, storage and generated secrets.

    Creating it verifies the grants that the backend holds, so that no caller waits for that.

    Attributes:
        verified: number of grants that were verified since the start.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._read = dict[str, HeldRead | None]()
        self.verified = 0
        self.run_grants()  # called because it verifies all grants that the backend holds

    def read(self, header: str) -> HeldRead:
        """Parse and verify a grant of any kind.

        The abilities in its token decide its kind: to run programs, to write generated secrets, to
        keep what programs store, or to read programs.

        Args:
            header: CACAO or UCAN text, untrusted.
        Raises:
            InvalidPortableDelegation: it is not a grant for this runner (RN41 to RN46, RN143,
                RN152, RN201).
        """
        runner = self._backend.did
        abilities = {one.ability for one in read_grant(header).capabilities}
        self.verified += 1
        if DECRYPT in abilities:
            return read_run_grant(header, runner=runner)
        if KV_LIST in abilities:
            return StorageGrant(read_program_grant(header, runner=runner, folder=STORAGE_FOLDER))
        if KV_PUT in abilities:
            return read_generation_grant(header, runner=runner)
        return ProgramGrant(read_program_grant(header, runner=runner))

    def run_grants(self, *states: GrantState) -> list[tuple[Grant, RunGrant]]:
        """Return the run grants in the given states, by default the live ones, newest first."""
        return self._of(RunGrant, states)

    def generation_grants(self) -> list[tuple[Grant, GenerationGrant]]:
        """Return the live grants to write generated secrets, newest first."""
        return self._of(GenerationGrant)

    def program_grants(self) -> list[tuple[Grant, ProgramGrant]]:
        """Return the live grants to read programs, newest first."""
        return self._of(ProgramGrant)

    def storage_grants(self) -> list[tuple[Grant, StorageGrant]]:
        """Return the live grants to keep what programs store, newest first."""
        return self._of(StorageGrant)

    def _of(
        self, kind: type[_Kind], states: tuple[GrantState, ...] = ()
    ) -> list[tuple[Grant, _Kind]]:
        """Return the grants of a kind in the given states, by default the live ones."""
        held = self._backend.grants
        if len(self._read) > len(held):
            # Some grants are not held any more, so their results are dropped.
            kept = {one.grant.cid for one in held}
            self._read = {cid: read for cid, read in self._read.items() if cid in kept}
        grants = list[tuple[Grant, _Kind]]()
        for grant, state in held:
            if grant.cid not in self._read:
                self._read[grant.cid] = self._read_or_none(grant)
            read = self._read[grant.cid]
            if state in (states or ("live",)) and isinstance(read, kind):
                grants.append((grant, read))
        return grants

    def _read_or_none(self, grant: Grant) -> HeldRead | None:
        try:
            return self.read(grant.header)
        except InvalidPortableDelegation:  # the host changed it in the folder
            return None
