"""Tests of secret settings, which output hides and files may not contain."""

from pathlib import Path

import pytest

from node.cli.config import description_of
from node.config.loading import load_config
from node.config.tree import Config, setting_types
from sealspace.service.command_errors import ConfigurationError

SECRETS = {
    path
    for path, kind in setting_types().items()
    if "only from the environment" in description_of(kind)
}
CANARY = "c2VjcmV0LW9mLXRoaXMtdGVzdA"


def test_secret_value_is_not_quoted() -> None:
    """A secret setting is shown neither in an error about it nor in the printed configuration."""
    environment = {"SEALSPACE_SECRET__VALUE": "c2VjcmV0"}
    assert "c2VjcmV0" not in repr(load_config(environment=environment))
    with pytest.raises(ConfigurationError) as refused:
        load_config(environment={**environment, "SEALSPACE_SECRET__FILE": "x"})
    assert "c2VjcmV0" not in str(refused.value)


def test_what_is_secret() -> None:
    """The settings described as environment-only are exactly the secret ones."""
    assert {
        "admin.secret",
        "objects.secret_key",
        "objects.session_token",
        "secret.value",
    } == SECRETS


@pytest.mark.parametrize("path", sorted(SECRETS))
def test_secrets_do_not_belong_in_a_file(tmp_path: Path, path: str) -> None:
    """A secret in a settings file is refused by name, without being quoted."""
    section, _, name = path.partition(".")
    file = tmp_path / "sealspace.toml"
    file.write_text(f'[{section}]\n{name} = "{CANARY}"\n')
    with pytest.raises(ConfigurationError, match=path) as refused:
        load_config(file=file, environment={})
    assert CANARY not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("path", sorted(SECRETS | {"objects.key_id", "store.url"}))
def test_secrets_are_not_shown(path: str) -> None:
    """Printed settings show that a secret is set but not its value."""
    value = f"postgresql://u:{CANARY}@h/d" if path == "store.url" else CANARY
    config = load_config(
        environment={
            f"SEALSPACE_{path.upper().replace('.', '__')}": value,
            "SEALSPACE_LOG__LEVEL": "debug",
        }
    )
    section, _, name = path.partition(".")
    assert value == getattr(getattr(config, section), name)
    assert CANARY not in repr(config) and f"{name}='…'" in repr(config)
    assert f"{name}=None" in repr(Config()) and "level='debug'" in repr(config)
