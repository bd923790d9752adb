"""Tests of loading settings: precedence, unknown keys, limits and files."""

from pathlib import Path

import pytest

from node.config.loading import child_environment, load_config
from node.config.tree import Config
from sealspace.service.command_errors import ConfigurationError


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sealspace.toml"
    path.write_text(text)
    return path


def test_defaults_stand_alone() -> None:
    """Without any source every setting has its default."""
    assert Config() == load_config(environment={})


def test_file_over_defaults(tmp_path: Path) -> None:
    """A settings file changes only what it names."""
    config = load_config(file=_file(tmp_path, "[http]\nport = 9000\n"), environment={})
    assert config.http.port == 9000
    assert Config().http.host == config.http.host


def test_environment_over_file(tmp_path: Path) -> None:
    """An environment variable overrides the settings file."""
    path = _file(tmp_path, "[http]\nport = 9000\ncors = true\n")
    config = load_config(file=path, environment={"SEALSPACE_HTTP__PORT": "9001"})
    assert config.http.port == 9001
    assert config.http.cors is True


def test_flags_over_environment() -> None:
    """A flag overrides the environment; a flag that was not given does not."""
    environment = {"SEALSPACE_HTTP__PORT": "9001", "SEALSPACE_RELEASE__ATTESTATION": "everyone"}
    config = load_config(
        environment=environment, flags={"http.port": 9002, "release.attestation": None}
    )
    assert config.http.port == 9002
    assert config.release.attestation == "everyone"


def test_environment_names_the_file(tmp_path: Path) -> None:
    """SEALSPACE_CONFIG names the settings file."""
    path = _file(tmp_path, "[http]\nport = 9000\n")
    assert load_config(environment={"SEALSPACE_CONFIG": str(path)}).http.port == 9000


def test_variables_of_the_command_line_are_no_settings() -> None:
    """A node starts although the environment has variables for owners' programs."""
    ours = ("SEALSPACE_NODE", "SEALSPACE_HOME", "SEALSPACE_KEYSTORE_PASSWORD", "SEALSPACE_TOKEN")
    assert load_config(environment=dict.fromkeys(ours, "x")) == load_config(environment={})


def test_file_in_the_data_folder(tmp_path: Path) -> None:
    """`sealspace.toml` in a named data folder is read, unless another file is named."""
    (tmp_path / "data").mkdir()
    _file(tmp_path / "data", "[http]\nport = 9000\n")
    other = _file(tmp_path, "[http]\nport = 9001\n")
    flags, environment = (
        {"store.data": str(tmp_path / "data")},
        {"SEALSPACE_STORE__DATA": str(tmp_path / "data")},
    )
    assert load_config(environment={}, flags=flags).http.port == 9000
    assert load_config(environment=environment).http.port == 9000
    assert (
        load_config(environment=environment, flags={"store.data": str(tmp_path / "none")}).http.port
        == 8000
    )
    assert load_config(file=other, environment=environment).http.port == 9001
    assert (
        load_config(environment={**environment, "SEALSPACE_CONFIG": str(other)}).http.port == 9001
    )


def test_no_file_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the current folder, or in the default data folder there, is not read."""
    (tmp_path / "data").mkdir()
    for folder in (tmp_path, tmp_path / "data"):
        _file(folder, "[http]\nport = 9000\n")
    monkeypatch.chdir(tmp_path)
    assert load_config(environment={}).http.port == 8000


def test_list_from_environment() -> None:
    """A list in a variable is separated by commas."""
    config = load_config(environment={"SEALSPACE_HTTP__TRUSTED_PROXIES": "10.0.0.7, 10.1.0.0/16"})
    assert config.http.trusted_proxies == ("10.0.0.7", "10.1.0.0/16")


@pytest.mark.parametrize(
    ("environment", "text", "flags", "reported"),
    [
        ({"SEALSPACE_HTTP__PROT": "1"}, "", {}, "unknown setting http.prot"),
        ({"SEALSPACE_HTTPS__PORT": "1"}, "", {}, "unknown setting https.port"),
        ({"SEALSPACE_PORT": "1"}, "", {}, "unknown setting port"),
        ({}, "[http]\nprot = 1\n", {}, "unknown setting http.prot"),
        ({}, "http = 1\n", {}, "unknown setting http"),
        ({}, "[http.port]\nx = 1\n", {}, "unknown setting http.port.x"),
        ({}, "", {"http.prot": 1}, "unknown setting http.prot (flags); did you mean http.port"),
        (
            {"SEALSPACE_HTTP__PORT": "many"},
            "",
            {},
            "setting http.port (environment variable SEALSPACE_HTTP__PORT)",
        ),
        ({"SEALSPACE_HTTP__PORT": "65536"}, "", {}, "setting http.port"),
        ({}, '[http]\nport = "9000"\n', {}, "setting http.port"),
        (
            {},
            '[release]\nattestation = "none"\n',
            {},
            "'none' is not one of delegates, everyone, off",
        ),
        ({}, "[http\n", {}, "is not TOML"),
        ({}, '[secret]\nvalue = "AAAA"\n', {}, "secret.value"),
    ],
)
def test_refusals_name_the_path(
    tmp_path: Path, environment: dict[str, str], text: str, flags: dict[str, int], reported: str
) -> None:
    """Unknown settings and wrong types are refused with the setting's path."""
    with pytest.raises(ConfigurationError) as refused:
        load_config(file=_file(tmp_path, text), environment=environment, flags=flags)
    assert reported in refused.value.message


def test_missing_file_refuses(tmp_path: Path) -> None:
    """A named settings file that does not exist is refused."""
    with pytest.raises(ConfigurationError):
        load_config(file=tmp_path / "absent.toml", environment={})


def test_settings_file_is_bounded(tmp_path: Path) -> None:
    """An over-long settings file is not read."""
    path = tmp_path / "sealspace.toml"
    path.write_text("# " + "x" * 1_100_000)
    with pytest.raises(ConfigurationError, match="has more than"):
        load_config(file=path, environment={})


def test_children_inherit_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process inherits none of our variables, and therefore no secret."""
    monkeypatch.setenv("SEALSPACE_SECRET__VALUE", "x")
    assert not [name for name in child_environment() if name.startswith("SEALSPACE_")]
