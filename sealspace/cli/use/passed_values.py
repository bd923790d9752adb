"""Values of secrets as the environment of a program has them, and what of them is masked.

Example:
    environment = child_environment(os.environb, values, allowed=())
    patterns = mask_patterns(values)
"""

from collections.abc import Collection, Mapping

from capabilities.strict_base64 import encode_standard

from ...errors import InvalidInput
from ..terminal import tell
from .program_variables import directs_programs
from .run_masker import patterns_of

_LONGEST_BYTES = 131_071
"""Longest `NAME=value` that Linux passes to a program: MAX_ARG_STRLEN less the zero byte."""


def text_of(value: str | bytes) -> str:
    """Return a secret's value as text, with bytes in base64."""
    return value if isinstance(value, str) else encode_standard(value)


def child_environment(
    inherited: Mapping[bytes, bytes], values: Mapping[str, str | bytes], *, allowed: Collection[str]
) -> dict[bytes, bytes]:
    """Return the environment variables for the child process.

    These are the inherited variables without SEALSPACE_ variables, plus the secrets.
    """
    refused = sorted(name for name in values if directs_programs(name) and name not in allowed)
    if refused:
        raise InvalidInput(
            f"refusing to set {refused[0]}: this variable controls how programs run, so the value"
            " of the secret could run code",
            hint="select other secrets with --only A,B, or allow these variables with"
            f" --allow-override {','.join(refused)}",
        )
    environment = {}
    for variable, text in inherited.items():
        if not variable.startswith(b"SEALSPACE_"):
            environment[variable] = text
    for name, value in values.items():
        environment[name.encode()] = _encode_for_environment(name, value)
    return environment


def _encode_for_environment(name: str, value: str | bytes) -> bytes:
    """Return the bytes of a secret as the value of an environment variable."""
    data = text_of(value).encode()
    if len(name) + 1 + len(data) > _LONGEST_BYTES:
        reason = "is too long for an environment variable"
    elif b"\0" in data:
        reason = "contains a zero byte, which environment variables cannot contain"
    else:
        return data
    raise InvalidInput(
        f"the secret {name} {reason}",
        hint="use --only A,B without this secret, and read the secret in the program with"
        " `sealspace secret get`",
    )


def mask_patterns(values: Mapping[str, str | bytes]) -> frozenset[bytes]:
    """Return the byte patterns to mask in the command's output.

    A warning is printed for each value that is too short to be masked.
    """
    all_patterns: set[bytes] = set()
    for name, value in values.items():
        patterns = patterns_of(text_of(value).encode())
        if isinstance(value, bytes):
            patterns |= patterns_of(value)
        if not patterns and value:
            tell(
                f"warning: {name} is too short to be masked: if the command prints the value, the"
                " output shows it"
            )
        all_patterns |= patterns
    return frozenset(all_patterns)
