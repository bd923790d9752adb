"""Policies and key providers that a command or a setting names."""

from collections.abc import Collection
from pathlib import Path

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import parse_json
from encryption_network.key_providers import MAX_KEY_PROVIDERS, parse_key_provider
from encryption_network.network_errors import PolicyError
from encryption_network.policy import MAX_POLICY_BYTES, Policy, parse_policy

from ..private_files import read_setting
from .command_errors import ConfigurationError


def key_providers_named(texts: Collection[str], *, where: str) -> tuple[str, ...]:
    """Return a list of key providers (AT29), sorted by text and without duplicates.

    Args:
        texts: as the user wrote them.
        where: what to name in the error.
    Raises:
        ConfigurationError: too many, or an entry is no key provider, or one that can never be
            accepted.
    """
    try:
        named = {parse_key_provider(text) for text in texts}
    except PolicyError as error:
        raise ConfigurationError(
            f"{where}: {error.reason}", hint="write kms, tpm, kms:<hex id> or local-sgx:<hex id>"
        ) from None
    if len(named) > MAX_KEY_PROVIDERS:
        raise ConfigurationError(
            f"{where}: more than {MAX_KEY_PROVIDERS} entries", hint="name fewer, or a whole kind"
        )
    return tuple(sorted(named))


def read_node_policy(path: Path) -> Policy:
    """Return the policy in a JSON file."""
    try:
        data = read_setting(path, "policy", ConfigurationError, most_bytes=MAX_POLICY_BYTES)
        return parse_policy(parse_json(data, max_bytes=MAX_POLICY_BYTES))
    except (InvalidJson, PolicyError) as error:
        raise ConfigurationError(f"{path} is not a policy: {error}", hint=f"edit {path}") from None
