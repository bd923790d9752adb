"""The project file `.sealspace.toml`, which names the secrets that `sealspace run` passes.

    node = "https://node.example"      # optional
    owner = "did:pkh:…"                # optional
    team = "ops"                       # optional: a contact that is a team of yours
    scope = "ci"                       # optional
    secrets = ["API_KEY", "DB_URL"]    # passed under their own names

    [rename]                           # variable = secret
    DATABASE_URL = "DB_URL"

A cloned repository may contain such a file, so it is untrusted. It selects from the secrets of the
user's own login and directs nothing else: neither connections nor folders nor commands.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

from msgspec import field

from capabilities.capability_errors import InvalidJson
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import same_principal
from capabilities.strict_json import shaped

from ...client import Client
from ...documents.contact_list import is_contact_name
from ...documents.secret_names import canonical_scope, is_secret_name
from ...errors import InvalidInput
from ...printable import printable
from ...private_files import read_file
from ..keep.project_file import MAX_PROJECT_BYTES, PROJECT_FILE
from ..terminal import confirm
from .program_variables import directs_programs

FILE_NAME = PROJECT_FILE
_WITHOUT = "to run the command without the project file, add --no-project"


class Project(FrozenStruct):
    """The content of a project file."""

    path: str = ""
    node: str = ""
    owner: str = ""
    team: str = ""
    scope: str = ""
    secrets: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """The secret of each variable that the file names."""
        return {name: name for name in self.secrets} | self.rename

    @property
    def passes(self) -> list[str]:
        """The variables as text for a person."""
        return [*self.secrets, *(f"{name}={of}" for name, of in self.rename.items())]

    def select(
        self, only: Sequence[str] | None, scope: str | None
    ) -> tuple[Mapping[str, str], str | None]:
        """Return the secret of each variable to pass, and the scope of the secrets (CL3).

        Args:
            only: the variables to pass; None: all variables of the file.
            scope: the scope that the user gave.
        """
        variables = self.variables
        if only is None:
            only = [*variables]
        for name in only:
            if name not in variables:
                raise InvalidInput(
                    f"the project file {self.path} has no variable {name}",
                    hint=f"choose from {', '.join(variables):.300}; {_WITHOUT}",
                )
        if scope is None:
            scope = self.scope or None
        if scope and self.scope and canonical_scope(scope) != canonical_scope(self.scope):
            raise InvalidInput(
                f"the scope {scope} contradicts the project file {self.path}, which"
                f" names the scope {self.scope}",
                hint=f"omit --scope; {_WITHOUT}",
            )
        return {name: variables[name] for name in only}, scope

    def confirm_login(self, client: Client) -> None:
        """Ask the user to confirm if the file names another node or owner than the login's."""
        # The file selects no node and no owner (CL4). The answer only allows the user's own login.
        for word, stated, own in (
            ("node", self.node, client.url),
            ("owner", self.owner, client.session.owner),
        ):
            if stated and not same_principal(stated.rstrip("/"), own):
                confirm(
                    f"the project file {self.path} is for the {word} {printable(stated)}, but you"
                    f" are logged in with {own}; pass the secrets of your login?",
                    hint=f"if you trust this {word}, log in: sealspace login URL; {_WITHOUT}",
                )


_MEMBERS = {"node", "owner", "team", "scope", "secrets", "rename"}


def find_project() -> Project | None:
    """Read the nearest project file (CL2).

    It is searched from the current folder upwards to the user's home or a mount point. Returns None
    if there is no such file.

    Raises:
        InvalidInput: the nearest file must not be used, or is malformed.
    """
    home = os.path.realpath(os.path.expanduser("~"))  # noqa: PTH111  # never raises
    path = Path(FILE_NAME)
    try:
        path = path.absolute()
        while not os.path.lexists(path):
            folder = path.parent
            if str(folder) == home or folder.is_mount():
                return None
            path = folder.parent / FILE_NAME
        # Another user could name any secret in a file that they can write (CL2). The folder is not
        # checked: a file that another user puts there belongs to that user.
        return _parse_project(path, read_file(path, most_bytes=MAX_PROJECT_BYTES, denied=0o022))
    except OSError as error:
        reason = str(error.strerror).lower()
        fix = f"use your own file, no link, that only you can write: chmod go-w {quote(str(path))}"
    except (InvalidJson, ValueError, RecursionError) as error:
        reason, fix = printable(str(error)), "correct the file, and keep `secrets` above [rename]"
    raise InvalidInput(f"cannot use the project file {path}: {reason}", hint=f"{fix}; {_WITHOUT}")


def _parse_project(path: Path, data: bytes) -> Project:
    """Parse a project file (CL3)."""
    document = tomllib.loads(data.decode())
    # An ignored member would be a restriction that does not apply (CL3).
    unknown = document.keys() - _MEMBERS
    if unknown:
        raise InvalidJson(
            f"unknown member {min(unknown)}; the members are secrets, rename, scope, team, node and"
            " owner"
        )
    project = shaped({**document, "path": str(path)}, Project)
    # A DID could be that of a team which made the user a member without being asked.
    if project.team and not is_contact_name(project.team) and project.team != "me":
        raise InvalidJson("its team is not the name of a contact; write team = 'ops'")
    if not all(map(is_secret_name, [*project.variables, *project.variables.values()])):
        # The name itself is not printed: it may be the value of a secret.
        raise InvalidJson(
            "it has a name that is not in capitals; write the scope apart: scope = 'ci'"
        )
    for name in project.rename:
        # The file's writer could pass any secret to the loader of programs (CL3).
        if directs_programs(name):
            raise InvalidJson(f"the variable {name} controls how programs run")
        if name in project.secrets:
            raise InvalidJson(f"the variable {name} has two secrets")
    return project
