"""Names of secrets, and the paths of secrets in the `secrets` space.

    name                 vault key                     path of the stored envelope
    NAME                 secrets/NAME                  vault/secrets/NAME
    NAME, scope "app"    secrets/scoped/app/NAME       vault/secrets/scoped/app/NAME

The names follow the secrets convention, so clients in other languages find the same secrets.
"""

import re
from dataclasses import dataclass

from ..errors import InvalidSecretName, InvalidSecretScope

SECRETS_SPACE = "secrets"
VAULT_PREFIX = "vault/"
SCOPED_PREFIX = "vault/secrets/scoped/"
NAME_PATTERN = "^[A-Z][A-Z0-9_]*$"
PROTECTED_PREFIX = "PROTECTED_"
"""Prefix of the names of secrets that only runners make (RN140)."""
PROTECTED_NETWORK = "protected"
"""Name of the owner's network for secrets that runners make (RN144)."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_NOT_IN_SCOPE = re.compile(r"[^a-z0-9-]")
_DASHES = re.compile(r"-{2,}")
_RESERVED_SCOPES = frozenset({"default", "global"})


@dataclass(frozen=True, slots=True)
class SecretName:
    """A validated secret name, as returned by `parse_secret_name`.

    Attributes:
        name: `^[A-Z][A-Z0-9_]*$`.
        scope: canonical scope; None for a global secret.
    """

    name: str
    scope: str | None

    @property
    def label(self) -> str:
        """The name for display: `NAME` or `scope/NAME`."""
        return self.name if self.scope is None else f"{self.scope}/{self.name}"

    @property
    def vault_key(self) -> str:
        """The secret's storage key without the prefix `vault/`, such as `secrets/NAME`.

        The label of the encrypted envelope contains this key.
        """
        return f"secrets/{'' if self.scope is None else 'scoped/'}{self.label}"

    @property
    def path(self) -> str:
        """The path of the encrypted secret in the `secrets` space. Grants contain this path."""
        return VAULT_PREFIX + self.vault_key


def parse_secret_name(name: str, *, scope: str | None = None) -> SecretName:
    """Validate the name and the scope of a secret.

    Args:
        name: surrounding blanks, tabs and line ends are removed.
        scope: converted to its canonical form; None for a global secret.
    Raises:
        InvalidSecretName: the name does not match the pattern.
        InvalidSecretScope: the scope is empty, reserved, or has no usable character.
    """
    trimmed = name.strip(" \t\n\r")  # MF20: languages disagree on other white space
    if _NAME.fullmatch(trimmed) is None:
        raise InvalidSecretName(
            f'Invalid secret name "{name}". Secret names must match {NAME_PATTERN}.'
        )
    return SecretName(trimmed, None if scope is None else canonical_scope(scope))


def parse_secret_label(label: str) -> SecretName:
    """Parse the label of a secret, `NAME` or `scope/NAME` with a canonical scope."""
    scope, slash, name = label.rpartition("/")
    secret = parse_secret_name(name, scope=scope if slash else None)
    if secret.label != label:
        raise InvalidSecretScope(f'Invalid secret "{label}". Did you mean "{secret.label}"?')
    return secret


def secret_at(path: str) -> SecretName | None:
    """Parse a secret's path into its name and scope. Return None for other paths."""
    scope, slash, name = (
        path.removeprefix(SCOPED_PREFIX).removeprefix(f"{VAULT_PREFIX}secrets/").rpartition("/")
    )
    if not is_secret_name(name) or (slash and not is_scope(scope)):
        return None
    secret = SecretName(name, scope or None)
    return secret if secret.path == path else None


def is_protected(name: str) -> bool:
    """Return whether only runners can create a secret with this name (RN140)."""
    return name.startswith(PROTECTED_PREFIX)


def canonical_scope(scope: str) -> str:
    """Convert a scope to lower case, and replace characters other than a-z and 0-9 with dashes."""
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
    """Return the path prefix of a scope's secrets. A grant to list secrets needs this prefix."""
    if scope is None:
        return f"{VAULT_PREFIX}secrets/"
    return f"{SCOPED_PREFIX}{canonical_scope(scope)}/"


def is_secret_name(text: str) -> bool:
    """Return whether a string is a valid secret name without a scope."""
    return _NAME.fullmatch(text) is not None


def is_scope(text: str) -> bool:
    """Return whether a part of a key is a scope in canonical form."""
    try:
        return canonical_scope(text) == text
    except InvalidSecretScope:
        return False
