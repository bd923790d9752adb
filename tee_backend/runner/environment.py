"""The environment variables of a run, and the names that no secret may have."""

from collections.abc import Mapping


def is_reserved(name: str) -> bool:
    """Tell whether a name belongs to the runner, so that no secret may be written under it (RN4)."""
    raise NotImplementedError


def environment_of(system: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run: the runner's own variables, then the secrets, in the order given.

    Args:
        system: reserved names alone; a name that is absent is absent for the guest too, which differs from empty.
        secrets: by name; reserved names among them are left out (RN5).

    Raises:
        RunRefused: `environment-name`, `environment-nul`, `environment-too-large`.
    """
    raise NotImplementedError
