"""Builds of programs: the repository, ref, commit and workflow (PV10).

A build is what a verified provenance bundle states about the origin of a program; see
`sealspace.apps.provenance`. Signed statements about versions (RN52) and run grants (RN45) repeat it
as a label. The label decides nothing: a grant names the program's hash.

A grant to all later builds of a repository has `TrustedBuilds` instead (PV17). The runner verifies
each build, so that record does decide.

Example:
    assert repository_of("https://github.com/alice/project.git") == "github.com/alice/project"
"""

import re
from typing import Annotated, Final, Literal, NamedTuple

from msgspec import Meta

from capabilities.strict_json import Sha256Hex, StrictRecord

from ..errors import InvalidInput, ProvenanceInvalid
from ..printable import printable

COMMIT = r"[0-9a-f]{40}(?:[0-9a-f]{24})?"
Commit = Annotated[str, Meta(pattern=rf"\A{COMMIT}\Z")]
MAX_BUNDLE_BYTES = 256 * 1024
"""Longest provenance bundle (PV1)."""
GITHUB_ISSUER: Final = "https://token.actions.githubusercontent.com"
"""Issuer of the identities of jobs of GitHub Actions."""
_REPOSITORY = r"github\.com/[A-Za-z0-9][A-Za-z0-9-]{0,38}/(?!\.\.?(?:/|\Z))[A-Za-z0-9._-]{1,100}"


_FILE = rf"{_REPOSITORY}/\.github/workflows/[A-Za-z0-9._-]{{1,250}}"
_REF = r"refs/[A-Za-z0-9._/@#%+=,-]{1,250}"
_Ref = Annotated[str, Meta(pattern=rf"\A{_REF}\Z")]
_RepositoryName = Annotated[str, Meta(pattern=rf"\A{_REPOSITORY}\Z")]
_RepositoryId = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,19}\Z")]
_Workflow = Annotated[str, Meta(pattern=rf"\A{_FILE}\Z")]
_Count = Annotated[int, Meta(ge=1, le=2**53 - 1)]


class Build(StrictRecord, kw_only=True, rename="camel"):
    """The origin of a program.

    Attributes:
        repository: `github.com/OWNER/NAME`, as GitHub spells it.
        repository_id: GitHub's number of the repository, decimal; another repository that takes the
            name later has another number.
        ref: full name of the branch or tag, such as `refs/heads/main`.
        commit: full hash of the commit, 40 or 64 lower-case hex digits.
        workflow: file of the workflow that built the program, without a ref:
            `github.com/OWNER/NAME/.github/workflows/FILE`.
    """

    repository: _RepositoryName
    repository_id: _RepositoryId
    ref: _Ref
    commit: Commit
    workflow: _Workflow

    @property
    def words(self) -> str:
        """The origin as text for a person."""
        return f"{self.repository} {self.ref} at {self.commit} by {self.workflow}"


class RunNumber(NamedTuple):
    """The number of a workflow run on GitHub, and the attempt at it.

    GitHub counts runs up over all repositories, and attempts up within a run. So a later number
    is a later build, and numbers are compared as tuples.
    """

    run: int
    attempt: int


class Origin(StrictRecord, kw_only=True, rename="camel"):
    """What the certificate of a verified bundle states about a build.

    Attributes:
        build: repository, ref, commit and workflow.
        issuer: issuer of the job's identity.
        source_workflow: file and ref of the workflow that GitHub started: `FILE@REF`.
        signer: file and ref of the workflow that signed.
        run: number of the workflow run.
        attempt: number of the attempt at this run.
    """

    build: Build
    issuer: str
    source_workflow: str
    signer: str
    run: _Count
    attempt: _Count

    @property
    def number(self) -> RunNumber:
        """The run and the attempt, which order builds."""
        return RunNumber(run=self.run, attempt=self.attempt)


class TrustedBuilds(StrictRecord, kw_only=True, rename="camel"):
    """The builds that a grant admits without naming their hashes (PV17).

    A build has to prove each member exactly.

    Attributes:
        repository: `github.com/OWNER/NAME`, as GitHub spells it.
        repository_id: GitHub's number of the repository, decimal.
        ref: full name of the branch or tag.
        source_workflow: file of the workflow that GitHub started, at `ref`.
        signer: file and ref of the workflow that signed: `FILE@REF`. The ref is a full name, or the
            hash of a commit.
        target: kind of program.
        issuer: issuer of the job's identity.
        trusted_root: SHA-256 of the trusted root by which builds are verified; see
            `sealspace.documents.trusted_roots`.
        least_run: number of the oldest workflow run that is admitted.
        least_attempt: number of the oldest attempt at that run.
    """

    repository: _RepositoryName
    repository_id: _RepositoryId
    ref: _Ref
    source_workflow: _Workflow
    signer: Annotated[str, Meta(pattern=rf"\A{_FILE}@(?:{_REF}|{COMMIT})\Z")]
    target: Literal["wasm32-wasip1", "wasm32-wasip2", "python"]
    issuer: Literal["https://token.actions.githubusercontent.com"]
    trusted_root: Sha256Hex
    least_run: _Count
    least_attempt: _Count

    @property
    def least(self) -> RunNumber:
        """The oldest run that is admitted."""
        return RunNumber(run=self.least_run, attempt=self.least_attempt)

    @property
    def words(self) -> str:
        """The builds as text for a person."""
        return (
            f"builds of {self.repository} (number {self.repository_id}) {self.ref} by"
            f" {self.source_workflow}, signed by {self.signer}, from run {self.least_run} on"
        )


def require_trusted(origin: Origin, trusted: TrustedBuilds) -> None:
    """Check that a verified origin is exactly one that a grant admits (PV17).

    Args:
        origin: the origin that a bundle proves by the trusted root that the grant names.
        trusted: the builds that the grant admits.
    Raises:
        ProvenanceInvalid: a part differs; its `claim` says which is the first.
    Does not check:
        The target, which a bundle does not state, and whether a later run was admitted before.
    """
    build = origin.build
    expected = (
        ("issuer", origin.issuer, trusted.issuer),
        # Before the name: another name with the same number is a renamed repository.
        ("repository-id", build.repository_id, trusted.repository_id),
        ("repository", build.repository, trusted.repository),
        ("ref", build.ref, trusted.ref),
        ("config", origin.source_workflow, f"{trusted.source_workflow}@{trusted.ref}"),
        ("signer", origin.signer, trusted.signer),
    )
    for claim, proven, wanted in expected:
        if proven != wanted:
            raise ProvenanceInvalid(
                f"the build proves another {claim}: {printable(proven, most=200)} instead of"
                f" {wanted}",
                claim=claim,
            )
    if origin.number < trusted.least:
        raise ProvenanceInvalid(
            f"run {origin.run}, attempt {origin.attempt}, is older than run {trusted.least_run},"
            f" attempt {trusted.least_attempt}, with which the grant begins",
            claim="run",
        )


def repository_of(text: str) -> str:
    """Convert the address of a repository to the form `github.com/OWNER/NAME`.

    A URL, an address for SSH and `OWNER/NAME` are accepted, each also with `.git` at its end.

    Raises:
        InvalidInput: it is not the address of a repository on GitHub.
    """
    name = re.sub(r"\A(?:(?:https?://|(?:ssh://)?git@)?github\.com[/:])?", "", text)
    address = f"github.com/{name.removesuffix('/').removesuffix('.git')}"
    if re.fullmatch(_REPOSITORY, address) is None:
        raise InvalidInput(
            "not a repository on GitHub", hint="write the repository as github.com/OWNER/NAME"
        )
    return address
