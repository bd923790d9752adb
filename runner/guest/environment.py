"""Environment variables for program runs.

Example:
    environment = environment_of(call_variables(call), {"API_KEY": "…"})
"""

import re
from collections.abc import Mapping
from typing import NewType

from sealspace.documents.secret_names import is_reserved

from ..reasons import RunRefused

MAX_ENVIRONMENT_BYTES = 256 * 1024
"""Counts names and values in UTF-8, plus two bytes for the `=` and the NUL of each variable."""

Environment = NewType("Environment", tuple[tuple[str, str], ...])
"""Ordered names and values of a run's environment; only `environment_of` makes one."""

NO_VARIABLES = Environment(())


_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_NO_VALUE = re.compile("[\0\ud800-\udfff]")


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
    variables = list(system.items())
    for name, value in secrets.items():
        if not is_reserved(name):
            variables.append((name, value))
    size = 0
    for name, value in variables:
        if not _NAME.fullmatch(name):  # with "=" it would set another variable (RN5)
            raise RunRefused("environment-name", name)
        # RN5: a guest would get a value with a NUL truncated
        if _NO_VALUE.search(value):
            raise RunRefused("environment-value", name)
        size += len(name) + len(value.encode()) + 2
    if size > MAX_ENVIRONMENT_BYTES:  # it is a part of the message to the child (RN5)
        raise RunRefused("environment-too-large")
    return Environment(tuple(variables))
