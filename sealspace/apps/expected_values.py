"""The values that an owner expects in a backend's evidence.

Each is a compose hash, a measurement, or a key provider as in policies.

Example:
    assert is_provider_name("kms:00ff")
    assert digest_of("00" * 32) == bytes(32)
"""

from encryption_network.key_providers import NAMES, parse_key_provider
from encryption_network.network_errors import PolicyError

from ..errors import InvalidInput


def is_provider_name(text: str) -> bool:
    """Return whether a string is the name of a key provider.

    Raises InvalidInput for a malformed name.
    """
    if text.partition(":")[0] not in NAMES:
        return False
    try:
        parse_key_provider(text)  # raises for a malformed id
    except PolicyError as exc:
        raise InvalidInput(
            f"the expected key provider is not valid: {exc.reason}",
            hint="use kms:<hex>, with the id that `sealspace backend show` prints",
        ) from exc
    return True


def digest_of(text: str) -> bytes:
    """Return the bytes of a compose hash (32) or of a measurement (48) in hexadecimal.

    Raises InvalidInput for any other text.
    """
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    # `fromhex` also reads texts with blanks between the bytes, which are rejected here.
    if len(value) not in (32, 48) or value.hex() != text.lower():
        raise InvalidInput(
            "each expected value must be a compose hash, a measurement or a key provider",
            hint="use a compose hash (64 hex digits), an MRTD or register (96 hex digits), or a key"
            " provider (kms:<hex>)",
        )
    return value
