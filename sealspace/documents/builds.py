"""Builds of programs: the repository, ref, commit and workflow (PV10).

A build is what a verified provenance bundle states about the origin of a program; see
`sealspace.apps.provenance`. Signed statements about versions (RN52) and run grants (RN45) repeat it
as a label. The label decides nothing: a grant names the program's hash.

Example:
    assert repository_of("https://github.com/alice/project.git") == "github.com/alice/project"
"""

import re
from typing import Annotated

from msgspec import Meta

from capabilities.strict_json import StrictRecord

from ..errors import InvalidInput

COMMIT = r"[0-9a-f]{40}(?:[0-9a-f]{24})?"
Commit = Annotated[str, Meta(pattern=rf"\A{COMMIT}\Z")]
_REPOSITORY = r"github\.com/[A-Za-z0-9][A-Za-z0-9-]{0,38}/(?!\.\.?(?:/|\Z))[A-Za-z0-9._-]{1,100}"


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

    repository: Annotated[str, Meta(pattern=rf"\A{_REPOSITORY}\Z")]
    repository_id: Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,19}\Z")]
    ref: Annotated[str, Meta(pattern=r"\Arefs/[A-Za-z0-9._/@#%+=,-]{1,250}\Z")]
    commit: Commit
    workflow: Annotated[
        str, Meta(pattern=rf"\A{_REPOSITORY}/\.github/workflows/[A-Za-z0-9._-]{{1,250}}\Z")
    ]

    @property
    def words(self) -> str:
        """The origin as text for a person."""
        return f"{self.repository} {self.ref} at {self.commit} by {self.workflow}"


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
