"""The names of secrets, and their paths in the `secrets` space (naming rules of the secrets
convention).

NAME                 secrets/NAME                  vault/secrets/NAME
NAME, scope "app"    secrets/scoped/app/NAME       vault/secrets/scoped/app/NAME
                     the vault key                 the path of the stored value
"""

import re
from dataclasses import dataclass
from typing import Final

from ..errors import InvalidSecretName, InvalidSecretScope

SECRETS_SPACE = "secrets"
VAULT_PREFIX = "vault/"
SCOPED_PREFIX = "vault/secrets/scoped/"
NAME_PATTERN = "^[A-Z][A-Z0-9_]*$"
PROTECTED_PREFIX: Final = "PROTECTED_"
"""Names of secrets that only a runner makes (RN140)."""
PROTECTED_NETWORK: Final = "protected"
"""Name of the owner's network that they are sealed to (RN144)."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_NOT_IN_SCOPE = re.compile(r"[^a-z0-9-]")
_DASHES = re.compile(r"-{2,}")
_RESERVED_SCOPES = frozenset({"default", "global"})


@dataclass(frozen=True, slots=True)
class SecretName:
    """A checked secret name; made by `parse_secret_name`.

    Attributes:
        name: the name, `^[A-Z][A-Z0-9_]*$`.
        scope: canonical scope, or None for a global secret.
    """

    name: str
    scope: str | None

    @property
    def label(self) -> str:
        """`NAME` or `scope/NAME`, for people."""
        return self.name if self.scope is None else f"{self.scope}/{self.name}"

    @property
    def vault_key(self) -> str:
        """Key in the vault, without the `vault/` prefix; the label of the envelope contains it."""
        return f"secrets/{'' if self.scope is None else 'scoped/'}{self.label}"

    @property
    def path(self) -> str:
        """Path of the stored envelope in the owner's `secrets` space; what a grant names."""
        return VAULT_PREFIX + self.vault_key


def parse_secret_name(name: str, *, scope: str | None = None) -> SecretName:
    """Check a name and a scope.

    Args:
        name: surrounding blanks, tabs and line ends are dropped, nothing else is repaired.
        scope: None for a global secret; else brought to its canonical form.
    Raises:
        InvalidSecretName: the name does not match the pattern.
        InvalidSecretScope: the scope is empty, reserved, or nothing is left of it.
    """
    trimmed = name.strip(" \t\n\r")  # MF20: what else is white space differs between languages
    if _NAME.fullmatch(trimmed) is None:
        raise InvalidSecretName(
            f'Invalid secret name "{name}". Secret names must match {NAME_PATTERN}.'
        )
    return SecretName(trimmed, None if scope is None else canonical_scope(scope))


def parse_secret_label(label: str) -> SecretName:
    """Check `NAME`, or `scope/NAME` with the scope in its canonical form."""
    scope, slash, name = label.rpartition("/")
    secret = parse_secret_name(name, scope=scope if slash else None)
    if secret.label != label:
        raise InvalidSecretScope(f'Invalid secret "{label}". Did you mean "{secret.label}"?')
    return secret


def secret_at(path: str) -> SecretName | None:
    """Return the secret whose path this is; None for a folder, and for any other path."""
    scope, slash, name = (
        path.removeprefix(SCOPED_PREFIX).removeprefix(f"{VAULT_PREFIX}secrets/").rpartition("/")
    )
    if not is_secret_name(name) or (slash and not is_scope(scope)):
        return None
    secret = SecretName(name, scope or None)
    return secret if secret.path == path else None


def is_protected(name: str) -> bool:
    """Whether a name is one that only a runner makes secrets under (RN140)."""
    return name.startswith(PROTECTED_PREFIX)


def canonical_scope(scope: str) -> str:
    """Bring a scope to its canonical form: lower case, dashes for all else."""
    trimmed = scope.strip()
    if not trimmed:
        raise InvalidSecretScope("Secret scope must be non-empty; omit scope for global secrets.")
    dashed = _DASHES.sub("-", _NOT_IN_SCOPE.sub("-", trimmed.lower()))
    canonical = dashed.removeprefix("-").removesuffix("-")
    if not canonical:
        raise InvalidSecretScope("Secret scope must contain at least one letter or number.")
    if canonical in _RESERVED_SCOPES:
        raise InvalidSecretScope(
            f'Secret scope "{scope}" is reserved; omit scope for global secrets.'
        )
    return canonical


def list_prefix(scope: str | None) -> str:
    """Return the path under which the secrets of a scope are stored; a grant to list names exactly
    this path."""
    if scope is None:
        return f"{VAULT_PREFIX}secrets/"
    return f"{SCOPED_PREFIX}{canonical_scope(scope)}/"


def is_secret_name(text: str) -> bool:
    """Whether a listed key is the name of a secret of this level; scoped entries are not."""
    return _NAME.fullmatch(text) is not None


def is_scope(text: str) -> bool:
    """Whether a listed part of a key is a scope in its canonical form."""
    try:
        return canonical_scope(text) == text
    except InvalidSecretScope:
        return False
