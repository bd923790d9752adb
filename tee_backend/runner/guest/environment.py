"""Environment variables for program runs.

Some variable names are reserved for the runner.

Example:
    environment = environment_of(call_variables(call), {"API_KEY": "…"})
"""

import re
from collections.abc import Mapping
from typing import NewType

from ..reasons import RunRefused

MAX_ENVIRONMENT_BYTES = 256 * 1024
"""Counts names and values in UTF-8, plus two bytes for the `=` and the NUL of each variable."""

Environment = NewType("Environment", tuple[tuple[str, str], ...])
"""Ordered names and values of a run's environment; only `environment_of` makes one."""

NO_VARIABLES = Environment(())

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
_NO_VALUE = re.compile("[\0\ud800-\udfff]")


def is_reserved(name: str) -> bool:
    """Return whether a variable name is reserved for the runner (RN4)."""
    return name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES)


def environment_of(system: Mapping[str, str], secrets: Mapping[str, str]) -> Environment:
    """Return the environment variables for a program run.

    The runner's variables come before the secrets.

    Args:
        system: the runner's variables; each name must be reserved.
        secrets: values by name. Secrets with reserved names are dropped (RN4); the checks at
            writing should have refused them.

    Raises:
        RunRefused: `environment-name`, `environment-value` or `environment-too-large`. The detail
            names the variable, and never contains a value.
        ValueError: a name in `system` is not reserved.
    """
    if unreserved := [name for name in system if not is_reserved(name)]:
        raise ValueError(
            f"the runner's variables must have reserved names; these do not: {unreserved}"
        )
    # RN6: the runner's variables come first, and no secret can replace one.
    variables = [*system.items(), *(one for one in secrets.items() if not is_reserved(one[0]))]
    size = 0
    for name, value in variables:
        if not _NAME.fullmatch(name):  # RN5
            raise RunRefused("environment-name", name)
        # RN5: a guest would get a value with a NUL truncated
        if _NO_VALUE.search(value):
            raise RunRefused("environment-value", name)
        size += len(name) + len(value.encode()) + 2
    if size > MAX_ENVIRONMENT_BYTES:  # RN5
        raise RunRefused("environment-too-large")
    return Environment(tuple(variables))
