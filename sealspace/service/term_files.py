"""Parsers for policy files and key-provider lists."""

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
    """Parse a list of key providers (AT29).

    The result is sorted and has no duplicates.

    Args:
        texts: the entries as the user wrote them.
        where: the option or setting to name in errors.
    Raises:
        ConfigurationError: there are too many entries, or an entry is not a key provider that can
            be accepted.
    """
    try:
        providers = {parse_key_provider(text) for text in texts}
    except PolicyError as error:
        raise ConfigurationError(
            f"{where}: {error.reason}",
            hint="use one of `kms`, `tpm`, `kms:<hex id>` and `local-sgx:<hex id>`",
        ) from None
    if len(providers) > MAX_KEY_PROVIDERS:
        raise ConfigurationError(
            f"{where} lists more than {MAX_KEY_PROVIDERS} providers",
            hint="list fewer providers; `kms` without an id stands for every kms",
        )
    return tuple(sorted(providers))


def read_node_policy(path: Path) -> Policy:
    """Read a policy from a JSON file."""
    try:
        data = read_setting(path, "policy", ConfigurationError, most_bytes=MAX_POLICY_BYTES)
        return parse_policy(parse_json(data, max_bytes=MAX_POLICY_BYTES))
    except (InvalidJson, PolicyError) as error:
        raise ConfigurationError(f"{path} is not a policy: {error}", hint=f"edit {path}") from None
