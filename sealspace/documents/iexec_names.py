"""Names of iExec's secrets and addresses, and the secrets and addresses that stand for them.

The service that speaks iExec's protocol writes these secrets, and tasks on a runner read them:

    secret                         scope              name
    developer's, of an application iexec-app          APP_<40 hex digits of its address>
    requester's                    iexec-requester    NAME_<the name, escaped>
    key of a data set              iexec-dataset      DATASET_<40 hex digits of its address>
    wallet's, such as result keys  iexec-result       NAME_<the lower-cased name, escaped>

An application is a project, and a data set has an id of the same form, `<DID>/<name>`. Its address
is derived from that id, so only the owner in the id can own the address.

Example:
    assert requester_secret("my-key").path == "vault/secrets/scoped/iexec-requester/NAME_MY_HKEY"
"""

import re
from string import ascii_uppercase
from typing import Literal

from capabilities.signatures import keccak256

from ..errors import InvalidInput
from .project_names import ProjectId
from .secret_names import SecretName

APP_SCOPE = "iexec-app"
REQUESTER_SCOPE = "iexec-requester"
DATASET_SCOPE = "iexec-dataset"
RESULT_SCOPE = "iexec-result"
SCOPES: dict[str | None, str] = {
    APP_SCOPE: "iexec app push-secret ADDRESS",
    REQUESTER_SCOPE: "iexec requester push-secret NAME",
    DATASET_SCOPE: "sealspace dataset push-key NAME FILE",
    RESULT_SCOPE: "iexec result push-encryption-key",
}
"""The command that stores a secret of each scope."""
RESULT_KEY_NAME = "iexec-result-encryption-public-key"
"""Wallet secret with the key that results are encrypted to: base64 of a PEM (X1.1)."""
MAX_NAME_BYTES = 64
GRANT_KEY = "vault/secrets/iexec-grant"
"""Key in the owner's `secrets` space under which the CID of the service's grant is stored.

Every session of the owner may write it. No secret has such a name.
"""
USED_PREFIX = "iexec/used/"
"""Keys in the same space that record challenges which were used (SM12)."""

AddressKind = Literal["app", "dataset"]

_REQUESTER_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}")
_ADDRESS = re.compile(r"0x[0-9A-Fa-f]{40}")
_ESCAPES = {"_": "__", "-": "_H"} | {letter: f"_U{letter}" for letter in ascii_uppercase}


def address_of(kind: AddressKind, project: ProjectId) -> str:
    """Return the address of an application or a data set: `0x` and 40 lower-case hex digits.

    It is the last 20 bytes of the Keccak-256 of `sealspace.<kind>/v1`, a NUL and the id.
    """
    return "0x" + keccak256(f"sealspace.{kind}/v1\0{project.text}".encode())[-20:].hex()


def owner_record_key(kind: AddressKind, address: str) -> str:
    """Return the key of the record that names the project or data set at an address (DS10).

    The value is canonical JSON: `{"project": "<name>"}` or `{"dataset": "<name>"}`. It is stored in
    the owner's `secrets` space.
    """
    return f"iexec/{kind}s/0x{_hex_of(address).lower()}"


def app_secret(address: str) -> SecretName:
    """Return the secret of an application's developer; the address is in any case of letters."""
    return SecretName("APP_" + _hex_of(address), APP_SCOPE)


def dataset_secret(address: str) -> SecretName:
    """Return the secret with the key of a data set; the address is in any case of letters."""
    return SecretName("DATASET_" + _hex_of(address), DATASET_SCOPE)


def requester_secret(name: str) -> SecretName:
    """Return a requester's secret. Its name is case-sensitive (X1.2).

    Raises InvalidInput if the name does not match `[0-9A-Za-z_-]{1,64}`.
    """
    if _REQUESTER_NAME.fullmatch(name) is None:
        raise InvalidInput("Secret key should contain at most 64 characters from [0-9A-Za-z-_]")
    return SecretName("NAME_" + _escape_name(name), REQUESTER_SCOPE)


def wallet_secret(name: str) -> SecretName:
    """Return a wallet's secret, such as the key for results. Case is ignored (X1.2).

    Raises InvalidInput unless the name has 1 to 64 bytes in UTF-8.
    """
    lower = name.lower()
    if not 1 <= len(lower.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES:
        raise InvalidInput(f"a wallet secret's name has 1 to {MAX_NAME_BYTES} bytes")
    return SecretName("NAME_" + _escape_name(lower), RESULT_SCOPE)


def _hex_of(address: str) -> str:
    if _ADDRESS.fullmatch(address) is None:
        raise InvalidInput("not an address: the form is 0x and 40 hex digits")
    return address[2:].upper()


def _escape_name(name: str) -> str:
    """Encode a name with A-Z, 0-9 and underscores; different names stay different.

    Lower-case letters become upper-case, and every other character begins with an underscore.
    """
    return re.sub("[^a-z0-9]", _escape, name).upper()


def _escape(match: re.Match[str]) -> str:
    """Return the escape of a character that is neither a lower-case letter nor a digit."""
    character = match[0]
    escape = _ESCAPES.get(character)
    if escape is not None:
        return escape
    return "".join(f"_X{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
