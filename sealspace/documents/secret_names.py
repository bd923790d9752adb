"""Names of secrets, and the paths under which they are stored.

    name                 vault key                     path of the stored envelope
    NAME                 secrets/NAME                  vault/secrets/NAME
    NAME, scope "app"    secrets/scoped/app/NAME       vault/secrets/scoped/app/NAME
    a copy of NAME for a person, and of app/NAME for a team's member
                         secrets/shared/DID/KEY/NAME
                         secrets/shared/team/DID/KEY/scoped/app/NAME
    a copy for version 2 of a person's key
                         secrets/shared/DID/KEY.2/NAME

The names follow the secrets convention, so clients in other languages find the same secrets.
"""

import re
from typing import NamedTuple

from capabilities.principals import Principal, principal_of
from capabilities.strict_base64 import decode_url, encode_url
from encryption_network.networks import FIRST_KEY_VERSION

from ..errors import InvalidInput, InvalidSecretName, InvalidSecretScope

SECRETS_SPACE = "secrets"
VAULT_PREFIX = "vault/"
OWN_FOLDER = "vault/secrets/"
SHARED_PREFIX = "vault/secrets/shared/"
NAME_PATTERN = "^[A-Z][A-Z0-9_]*$"
PROTECTED_PREFIX = "PROTECTED_"
"""Prefix of the names of secrets that only runners make (RN140)."""
PROTECTED_NETWORK = "protected"
"""Name of the owner's network for secrets that runners make (RN144)."""
DEFAULT_PROFILE = "default"
"""A runner's name for the secrets without a scope."""
MAX_PROFILE_CHARS = 64

RESERVED_NAMES = frozenset(
    {
        "NEAR_SENDER_ID",
        "NEAR_CONTRACT_ID",
        "NEAR_BLOCK_HEIGHT",
        "NEAR_BLOCK_TIMESTAMP",
        "NEAR_RECEIPT_ID",
        "NEAR_PREDECESSOR_ID",
        "NEAR_SIGNER_PUBLIC_KEY",
        "NEAR_GAS_BURNT",
        "NEAR_USER_ACCOUNT_ID",
        "NEAR_PAYMENT_YOCTO",
        "NEAR_TRANSACTION_HASH",
        "NEAR_MAX_INSTRUCTIONS",
        "NEAR_MAX_MEMORY_MB",
        "NEAR_MAX_EXECUTION_SECONDS",
        "NEAR_REQUEST_ID",
        "NEAR_NETWORK_ID",
        "NEAR_RPC_PROXY_AVAILABLE",
        "OUTLAYER_PROJECT_ID",
        "OUTLAYER_PROJECT_UUID",
        "OUTLAYER_PROJECT_NAME",
        "OUTLAYER_PROJECT_OWNER",
        "OUTLAYER_EXECUTION_TYPE",
        "OUTLAYER_CALL_ID",
        "ATTACHED_USD",
        "USD_PAYMENT",
        "WALLET_ID",
    }
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
        folder: path of the folder. Copies for other people have folders of their own (SH1).
    """

    name: str
    scope: str | None
    folder: str = OWN_FOLDER

    @property
    def label(self) -> str:
        """The secret's name for display, such as `NAME` or `scope/NAME`."""
        return self.name if self.scope is None else f"{self.scope}/{self.name}"

    @property
    def vault_key(self) -> str:
        """The secret's storage key without the prefix `vault/`.

        An example is `secrets/NAME`. The label of the encrypted envelope contains this key.
        """
        return self.path.removeprefix(VAULT_PREFIX)

    @property
    def path(self) -> str:
        """The path under which the encrypted secret is stored.

        The path is in the `secrets` space. Grants contain this path.
        """
        if self.scope is None:
            return self.folder + self.name
        return f"{self.folder}scoped/{self.scope}/{self.name}"


_FOLDER = re.compile(
    rf"{SHARED_PREFIX}(?:(?P<team>[a-z0-9][a-z0-9-]{{0,63}})/)?"
    r"(?P<did>did:(?:key:z[1-9A-Za-z]{1,64}|pkh:eip155:[0-9]{1,20}:0x[0-9A-Fa-f]{40}))"
    r"/(?P<key>[\w-]{43})(?:\.(?P<version>[1-9][0-9]?))?/",
    re.ASCII,
)


class SharedFolder(NamedTuple):
    """A folder with copies of secrets for one person (SH1).

    Attributes:
        team: name of the team for which the copies are made; None: the person alone.
        did: DID of the person.
        key: public key of the person's network, 32 bytes.
        key_version: version of this key.
    """

    team: str | None
    did: Principal
    key: bytes
    key_version: int = FIRST_KEY_VERSION

    @property
    def group(self) -> str:
        """The path of the team or person, below which grants name the secrets (SH3)."""
        return f"{SHARED_PREFIX}{self.team or self.did}/"

    @property
    def path(self) -> str:
        """The path of the folder, which grants contain."""
        did = f"{self.did}/" if self.team else ""
        version = "" if self.key_version == FIRST_KEY_VERSION else f".{self.key_version}"
        return f"{self.group}{did}{encode_url(self.key)}{version}/"


def shared_folder(team: str | None, did: str) -> SharedFolder:
    """Validate the person and the team of a folder, whose key is not known yet.

    Raises:
        InvalidInput: the DID is not that of a wallet or a key, or the team's name is not valid.
    """
    folder = SharedFolder(team=team, did=principal_of(did), key=bytes(32))
    # The path is parsed to check the DID and the team. It is valid with any key.
    if shared_folder_at(folder.path) != folder:
        raise InvalidInput(
            "a person is named by the DID of a wallet or a key, and a team by 1 to 64 lower-case"
            " letters, digits and dashes",
            hint="ask the person for the value of `client.session.owner`",
            step="ask the person to run `sealspace whoami` and to send you the DID of the owner",
        )
    return folder


def shared_folder_at(path: str) -> SharedFolder | None:
    """Parse the path of a folder, or of a value in it.

    Returns None for other paths, and for those in another spelling.
    """
    match = _FOLDER.match(path)
    if match is None:
        return None
    folder = SharedFolder(
        team=match["team"],
        did=principal_of(match["did"]),
        key=decode_url(match["key"]) or b"",
        key_version=int(match["version"] or FIRST_KEY_VERSION),
    )
    # The comparison also refuses the version 1, which is not written.
    return folder if folder.path == match[0] else None


def shared_name_at(path: str) -> SecretName | None:
    """Parse the path by which a grant names a secret that a team or a person has (SH3).

    Returns None for other paths.
    """
    group = path.removeprefix(SHARED_PREFIX).partition("/")[0]
    return secret_at(path, f"{SHARED_PREFIX}{group}/")


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


def secret_at(path: str, folder: str = OWN_FOLDER) -> SecretName | None:
    """Parse the path of a secret, or of a copy in another folder, into scope and name.

    Returns None for other paths.
    """
    scope, slash, name = path.removeprefix(folder).removeprefix("scoped/").rpartition("/")
    try:
        secret = parse_secret_name(name, scope=scope if slash else None)._replace(folder=folder)
    except InvalidInput:
        return None
    # The whole path is compared, because a path without the folder would pass until here.
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
    canonical = canonical_scope(profile)
    if canonical != profile:
        raise InvalidSecretScope(
            f'the profile is not in canonical form; write "{canonical}"',
            hint="use `default`, or a scope in lower-case letters, digits and inner dashes",
        )
    return profile


def list_prefix(scope: str | None, folder: str = OWN_FOLDER) -> str:
    """Return the path prefix of all secrets in a scope.

    A grant to list secrets needs this prefix.
    """
    if scope is None:
        return folder
    return f"{folder}scoped/{canonical_scope(scope)}/"


def is_secret_name(text: str) -> bool:
    """Return whether a string is a valid name for a secret.

    A scope in front of the name is not allowed.
    """
    return _NAME.fullmatch(text) is not None


def writable_name(name: str, scope: str | None) -> SecretName:
    """Parse a secret's name, and reject names reserved for runners (RN140, RN216).

    Raises:
        InvalidSecretName, InvalidSecretScope: the name or scope is not valid.
    """
    secret = parse_secret_name(name, scope=scope)
    if is_reserved(secret.name):
        raise InvalidSecretName(
            f"{secret.name} is a reserved name: runners set the variable of this name themselves",
            hint="choose another name",
        )
    if is_protected(secret.name):
        raise InvalidSecretName(
            f"{secret.name} begins with {PROTECTED_PREFIX}: only a runner can make secrets"
            " with this prefix, and they cannot be shared",
            hint="choose another name, or run: sealspace runner generate URL NAME",
        )
    return secret
