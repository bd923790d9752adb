"""Names of secrets, and the paths under which they are stored.

    name                 vault key                     path of the stored envelope
    NAME                 secrets/NAME                  vault/secrets/NAME
    NAME, scope "app"    secrets/scoped/app/NAME       vault/secrets/scoped/app/NAME

The names follow the secrets convention, so clients in other languages find the same secrets.
"""

import re
from typing import NamedTuple

from ..errors import InvalidSecretName, InvalidSecretScope

SECRETS_SPACE = "secrets"
VAULT_PREFIX = "vault/"
SCOPED_PREFIX = "vault/secrets/scoped/"
NAME_PATTERN = "^[A-Z][A-Z0-9_]*$"
PROTECTED_PREFIX = "PROTECTED_"
"""Prefix of the names of secrets that only runners make (RN140)."""
PROTECTED_NETWORK = "protected"
"""Name of the owner's network for secrets that runners make (RN144)."""
DEFAULT_PROFILE = "default"
"""A runner's name for the secrets without a scope."""
MAX_PROFILE_CHARS = 64

RESERVED_NAMES = frozenset(
    """
    NEAR_SENDER_ID NEAR_CONTRACT_ID NEAR_BLOCK_HEIGHT NEAR_BLOCK_TIMESTAMP NEAR_RECEIPT_ID
    NEAR_PREDECESSOR_ID NEAR_SIGNER_PUBLIC_KEY NEAR_GAS_BURNT NEAR_USER_ACCOUNT_ID
    NEAR_PAYMENT_YOCTO NEAR_TRANSACTION_HASH NEAR_MAX_INSTRUCTIONS NEAR_MAX_MEMORY_MB
    NEAR_MAX_EXECUTION_SECONDS NEAR_REQUEST_ID NEAR_NETWORK_ID NEAR_RPC_PROXY_AVAILABLE
    OUTLAYER_PROJECT_ID OUTLAYER_PROJECT_UUID OUTLAYER_PROJECT_NAME OUTLAYER_PROJECT_OWNER
    OUTLAYER_EXECUTION_TYPE OUTLAYER_CALL_ID ATTACHED_USD USD_PAYMENT WALLET_ID
    """.split()  # noqa: SIM905  # 26 names on as many lines are not easier to compare
)
"""Variables that OutLayer's programs read facts of a call from; the runner sets them."""
RESERVED_PREFIXES = ("IEXEC_", "SEALSPACE_")

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_NOT_IN_SCOPE = re.compile(r"[^a-z0-9-]")
_DASHES = re.compile(r"-{2,}")
_RESERVED_SCOPES = frozenset({"default", "global"})


class SecretName(NamedTuple):
    """The validated name of a secret.

    Attributes:
        name: `^[A-Z][A-Z0-9_]*$`.
        scope: canonical scope; None for a global secret.
    """

    name: str
    scope: str | None

    @property
    def label(self) -> str:
        """The secret's name for display, such as `NAME` or `scope/NAME`."""
        return self.name if self.scope is None else f"{self.scope}/{self.name}"

    @property
    def vault_key(self) -> str:
        """The secret's storage key without the prefix `vault/`.

        An example is `secrets/NAME`. The label of the encrypted envelope contains this key.
        """
        return f"secrets/{'' if self.scope is None else 'scoped/'}{self.label}"

    @property
    def path(self) -> str:
        """The path under which the encrypted secret is stored.

        The path is in the `secrets` space. Grants contain this path.
        """
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
    """Parse a secret's name of the form `NAME` or `scope/NAME`.

    The scope must be in canonical form.
    """
    scope, slash, name = label.rpartition("/")
    secret = parse_secret_name(name, scope=scope if slash else None)
    if secret.label != label:
        raise InvalidSecretScope(f'Invalid secret "{label}". Did you mean "{secret.label}"?')
    return secret


def secret_at(path: str) -> SecretName | None:
    """Parse the path of a secret into scope and name.

    Returns None for other paths.
    """
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


def is_reserved(name: str) -> bool:
    """Return whether a variable name is reserved for the runner (RN4)."""
    return name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES)


def canonical_scope(scope: str) -> str:
    """Convert a scope to its canonical form.

    Characters are converted to lower case, and all except a-z and 0-9 become dashes.
    """
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


def scope_of_profile(profile: str) -> str | None:
    """Return the scope that a runner's profile names (RN214).

    The default profile has no scope; the result is None.

    Raises:
        InvalidSecretScope: the profile is too long, or not in canonical form.
    """
    if profile == DEFAULT_PROFILE:
        return None
    if len(profile) > MAX_PROFILE_CHARS:
        raise InvalidSecretScope(f"a profile has at most {MAX_PROFILE_CHARS} characters")
    # Refused, not converted: two profiles of OutLayer's could become one scope.
    if (canonical := canonical_scope(profile)) != profile:
        raise InvalidSecretScope(
            f'the profile is not in canonical form; write "{canonical}"',
            hint="use `default`, or a scope in lower-case letters, digits and inner dashes",
        )
    return profile


def list_prefix(scope: str | None) -> str:
    """Return the path prefix of all secrets in a scope.

    A grant to list secrets needs this prefix.
    """
    if scope is None:
        return f"{VAULT_PREFIX}secrets/"
    return f"{SCOPED_PREFIX}{canonical_scope(scope)}/"


def is_secret_name(text: str) -> bool:
    """Return whether a string is a valid name for a secret.

    A scope in front of the name is not allowed.
    """
    return _NAME.fullmatch(text) is not None


def is_scope(text: str) -> bool:
    """Return whether a string is a scope in canonical form."""
    try:
        return canonical_scope(text) == text
    except InvalidSecretScope:
        return False
