"""The environment variables of a run, and the names that no secret may have.

Example:
    environment = environment_of(call_variables(call), {"API_KEY": "…"})
"""

import re
from collections.abc import Mapping
from typing import Final, NewType

from ..reasons import RunRefused

MAX_ENVIRONMENT_BYTES: Final = 256 * 1024
"""Names and values in UTF-8, with an `=` and a NUL for each, as a process would get them."""

Environment = NewType("Environment", tuple[tuple[str, str], ...])
"""Names and values, in order; made by `environment_of` alone."""

NO_VARIABLES: Final = Environment(())

RESERVED_NAMES: Final = frozenset(
    """
    NEAR_SENDER_ID NEAR_CONTRACT_ID NEAR_BLOCK_HEIGHT NEAR_BLOCK_TIMESTAMP NEAR_RECEIPT_ID NEAR_PREDECESSOR_ID
    NEAR_SIGNER_PUBLIC_KEY NEAR_GAS_BURNT NEAR_USER_ACCOUNT_ID NEAR_PAYMENT_YOCTO NEAR_TRANSACTION_HASH
    NEAR_MAX_INSTRUCTIONS NEAR_MAX_MEMORY_MB NEAR_MAX_EXECUTION_SECONDS NEAR_REQUEST_ID NEAR_NETWORK_ID
    OUTLAYER_PROJECT_ID OUTLAYER_PROJECT_UUID OUTLAYER_EXECUTION_TYPE OUTLAYER_CALL_ID OUTLAYER_PROJECT_NAME
    OUTLAYER_PROJECT_OWNER ATTACHED_USD USD_PAYMENT WALLET_ID NEAR_RPC_PROXY_AVAILABLE
    """.split()  # noqa: SIM905  # 26 names on as many lines are not easier to compare
)
"""Names that OutLayer's programs read what the runner says of a call from."""
RESERVED_PREFIXES: Final = ("IEXEC_", "SEALSPACE_")

_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_NO_VALUE: Final = re.compile("[\0\ud800-\udfff]")


def is_reserved(name: str) -> bool:
    """Tell whether a name belongs to the runner, so that no secret may be written under it
    (RN4)."""
    return name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES)


def environment_of(system: Mapping[str, str], secrets: Mapping[str, str]) -> Environment:
    """Return the environment of a run: the runner's own variables, then the secrets, in the order
    given.

    Args:
        system: reserved names alone; one that is absent is absent for the guest too, which differs
            from empty.
        secrets: by name. Reserved names among them are left out (RN4): they got past whoever wrote
            them.

    Raises:
        RunRefused: `environment-name`, `environment-value` or `environment-too-large`; its detail
            is a name at most.
        ValueError: a name in `system` is not reserved.
    """
    if strange := [name for name in system if not is_reserved(name)]:
        raise ValueError(f"not names of the runner: {strange}")
    # RN6: a name of the runner comes first, and no secret can take its place.
    variables = [*system.items(), *(one for one in secrets.items() if not is_reserved(one[0]))]
    size = 0
    for name, value in variables:
        if not _NAME.fullmatch(name):  # RN5
            raise RunRefused("environment-name", name)
        # RN5: of a text with a NUL the guest would get what is before it
        if _NO_VALUE.search(value):
            raise RunRefused("environment-value", name)
        size += len(name) + len(value.encode()) + 2
    if size > MAX_ENVIRONMENT_BYTES:  # RN5
        raise RunRefused("environment-too-large")
    return Environment(tuple(variables))
