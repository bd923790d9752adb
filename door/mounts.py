"""Mounts of a door: parts of its path at which secrets are read (DR5).

Example:
    mount = parse_mount("secret=flat,scope=prod")
    mount.secret_at("API_KEY").path      # "vault/secrets/scoped/prod/API_KEY"
    parse_mount("kv=json").secret_at("prod/GOOGLE").label   # "prod/GOOGLE"
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from capabilities.frozen import frozen
from capabilities.principals import Principal, principal_of
from sealspace.documents.secret_names import (
    SecretName,
    canonical_scope,
    parse_secret_label,
    parse_secret_name,
    shared_folder,
)
from sealspace.errors import InvalidInput

Form = Literal["flat", "json"]
DEFAULT_MOUNT = "secret=flat"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_RESERVED_NAMES = frozenset({"auth", "cubbyhole", "identity", "sys"})
_EXAMPLE = "write NAME=flat or NAME=json, and after it scope=SCOPE, owner=DID, team=TEAM or kv=1"


@frozen
class Mount:
    """A part of the path at which secrets of one owner are read.

    Attributes:
        name: the first segment of its paths.
        form: `flat`: each secret is `{"value": …}`; `json`: each is the object that its text is.
        kv: version of the key-value API, 1 or 2.
        scope: the scope of its secrets; None: paths name the scope, as `SCOPE/NAME`.
        owner: DID of the owner; None: the owner of the caller's grant.
        team: name of the team that got the secrets; "" for the person alone, None for either.
    """

    name: str
    form: Form
    kv: int = 2
    scope: str | None = None
    owner: Principal | None = None
    team: str | None = None

    def secret_at(self, path: str) -> SecretName:
        """Return the secret at a path below the mount.

        Raises:
            InvalidInput: the path names no secret, or leads out of the mount.
        """
        if self.scope is None:
            try:
                return parse_secret_label(path)
            except InvalidInput:
                # The SDK's text is about options of commands.
                raise InvalidInput(
                    f"{path} names no secret of the mount {self.name}/",
                    hint=f"use {self.name}/NAME or {self.name}/SCOPE/NAME: a name has capitals,"
                    " digits and underscores, a scope lower-case letters, digits and dashes",
                ) from None
        if "/" in path:
            raise InvalidInput(
                f"{path} is outside the mount {self.name}/, which has the scope {self.scope} only",
                hint=f"use {self.name}/NAME, or a mount without a scope",
            )
        return parse_secret_name(path, scope=self.scope)

    def scope_at(self, folder: str) -> str | None:
        """Return the scope whose names are listed at a folder below the mount.

        Args:
            folder: a path without a slash at its end; "" is the mount itself.
        Raises:
            InvalidInput: the folder is not that of a scope.
        """
        if not folder:
            return self.scope
        if self.scope is not None or "/" in folder or canonical_scope(folder) != folder:
            raise InvalidInput(
                f"{folder}/ is no folder of the mount {self.name}/",
                hint=f"list {self.name}/, or {self.name}/SCOPE/ of a mount without a scope",
            )
        return folder


def parse_mount(text: str) -> Mount:
    """Parse a mount as the option `--mount` has it: NAME=FORM, and members after commas.

    Raises:
        InvalidInput: the name is reserved, a part is malformed, or there is a team without an
            owner.
    """
    name_and_form, *member_texts = text.split(",")
    name, equals, form = name_and_form.partition("=")
    if _NAME.fullmatch(name) is None or name in _RESERVED_NAMES:
        raise InvalidInput(f"not the name of a mount: {name[:100]}", hint=_EXAMPLE)
    if form not in ("flat", "json"):
        problem = f"the unknown form {form[:100]}" if equals else "no form"
        raise InvalidInput(f"the mount {name} has {problem}", hint=_EXAMPLE)
    members = _parse_members(name, member_texts)
    kv = members.get("kv", "2")
    if kv not in ("1", "2"):
        raise InvalidInput(f"the mount {name} has the version {kv[:100]}", hint=_EXAMPLE)
    scope = members.get("scope")
    owner = members.get("owner")
    team = members.get("team")
    if team is not None and owner is None:
        raise InvalidInput(
            f"the mount {name} has a team, but not the owner who shares", hint=_EXAMPLE
        )
    if team:
        shared_folder(team, str(owner))  # raises for a name that no team has
    return Mount(
        name=name,
        form="flat" if form == "flat" else "json",
        kv=int(kv),
        scope=None if scope is None else canonical_scope(scope),
        owner=None if owner is None else principal_of(owner),
        team=team,
    )


def _parse_members(mount_name: str, texts: Iterable[str]) -> Mapping[str, str]:
    """Return the members behind a mount's form, such as `scope=prod`, by their names."""
    members: dict[str, str] = {}
    for text in texts:
        member, equals, value = text.partition("=")
        # An unknown member could be a restriction that would not apply.
        is_known = member in ("kv", "scope", "owner", "team")
        if not equals or not is_known or member in members:
            raise InvalidInput(f"the mount {mount_name} has {text[:100]}", hint=_EXAMPLE)
        members[member] = value
    return members


def mounts_of(texts: Iterable[str]) -> dict[str, Mount]:
    """Parse several mounts, and return them by name.

    Raises:
        InvalidInput: a mount is malformed, or two have the same name.
    """
    mounts: dict[str, Mount] = {}
    for text in texts:
        mount = parse_mount(text)
        if mount.name in mounts:
            raise InvalidInput(f"two mounts have the name {mount.name}", hint=_EXAMPLE)
        mounts[mount.name] = mount
    return mounts
