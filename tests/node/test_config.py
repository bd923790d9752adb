"""Settings: precedence, unknown keys, bounds, contradictions."""

from pathlib import Path

import pytest

from node.cli.operator.settings_table import markdown_table, settings
from node.config.checks import is_loopback
from node.config.loading import child_environment, load_config
from node.config.tree import Config, Release
from node.errors import ConfigurationError


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sealspace.toml"
    path.write_text(text)
    return path


def test_defaults_stand_alone() -> None:
    """Without any source every setting has its default."""
    assert Config() == load_config(environment={})


def test_file_over_defaults(tmp_path: Path) -> None:
    """A settings file changes what it names and nothing else."""
    config = load_config(file=_file(tmp_path, "[http]\nport = 9000\n"), environment={})
    assert (9000, Config().http.host) == (config.http.port, config.http.host)


def test_environment_over_file(tmp_path: Path) -> None:
    """A variable wins over the settings file."""
    path = _file(tmp_path, "[http]\nport = 9000\ncors = true\n")
    config = load_config(file=path, environment={"SEALSPACE_HTTP__PORT": "9001"})
    assert (config.http.port, config.http.cors) == (9001, True)


def test_flags_over_environment() -> None:
    """A flag wins over the environment; a flag that was not given does not."""
    environment = {"SEALSPACE_HTTP__PORT": "9001", "SEALSPACE_RELEASE__ATTESTATION": "everyone"}
    config = load_config(environment=environment, flags={"http.port": 9002, "release.attestation": None})
    assert (config.http.port, config.release.attestation) == (9002, "everyone")


def test_environment_names_the_file(tmp_path: Path) -> None:
    """SEALSPACE_CONFIG names the settings file."""
    path = _file(tmp_path, "[http]\nport = 9000\n")
    assert load_config(environment={"SEALSPACE_CONFIG": str(path)}).http.port == 9000


def test_file_in_the_data_folder(tmp_path: Path) -> None:
    """A file sealspace.toml in a data folder that a flag or a variable names is read, unless another one is named."""
    (tmp_path / "data").mkdir()
    _file(tmp_path / "data", "[http]\nport = 9000\n")
    other = _file(tmp_path, "[http]\nport = 9001\n")
    flags, environment = {"store.data": str(tmp_path / "data")}, {"SEALSPACE_STORE__DATA": str(tmp_path / "data")}
    assert load_config(environment={}, flags=flags).http.port == 9000
    assert load_config(environment=environment).http.port == 9000
    assert load_config(environment=environment, flags={"store.data": str(tmp_path / "none")}).http.port == 8000
    assert load_config(file=other, environment=environment).http.port == 9001
    assert load_config(environment={**environment, "SEALSPACE_CONFIG": str(other)}).http.port == 9001


def test_no_file_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the current folder is not read, nor what lies in the default data folder there."""
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
    ("environment", "text", "flags", "told"),
    [
        ({"SEALSPACE_HTTP__PROT": "1"}, "", {}, "unknown setting http.prot"),
        ({"SEALSPACE_HTTPS__PORT": "1"}, "", {}, "unknown setting https.port"),
        ({"SEALSPACE_PORT": "1"}, "", {}, "unknown setting port"),
        ({}, "[http]\nprot = 1\n", {}, "unknown setting http.prot"),
        ({}, "http = 1\n", {}, "unknown setting http"),
        ({}, "[http.port]\nx = 1\n", {}, "unknown setting http.port.x"),
        ({}, "", {"http.prot": 1}, "unknown setting http.prot (flags)"),
        ({"SEALSPACE_HTTP__PORT": "many"}, "", {}, "setting http.port (environment variable SEALSPACE_HTTP__PORT)"),
        ({"SEALSPACE_HTTP__PORT": "65536"}, "", {}, "setting http.port"),
        ({}, '[http]\nport = "9000"\n', {}, "setting http.port"),
        ({}, '[release]\nattestation = "none"\n', {}, "setting release.attestation"),
        ({}, "[http\n", {}, "is not TOML"),
        ({}, '[secret]\nvalue = "AAAA"\n', {}, "secret.value"),
    ],
)
def test_refusals_name_the_path(
    tmp_path: Path, environment: dict[str, str], text: str, flags: dict[str, int], told: str
) -> None:
    """What is unknown or ill typed refuses to start, and the message names the path of the key."""
    with pytest.raises(ConfigurationError) as refused:
        load_config(file=_file(tmp_path, text), environment=environment, flags=flags)
    assert told in refused.value.text


def test_secret_value_is_not_quoted() -> None:
    """A message about the secret does not show it, and neither does the printed configuration."""
    environment = {"SEALSPACE_SECRET__VALUE": "c2VjcmV0"}
    assert "c2VjcmV0" not in repr(load_config(environment=environment))
    with pytest.raises(ConfigurationError) as refused:
        load_config(environment={**environment, "SEALSPACE_SECRET__FILE": "x"})
    assert "c2VjcmV0" not in str(refused.value)


@pytest.mark.parametrize(
    "flags",
    [
        {"hosting.mode": "listed"},
        {"http.host": "0.0.0.0"},
        {"http.host": "node.example"},
        {"http.trusted_proxies": ["proxy.example"]},
        {"store.url": "mysql://db/x"},
        {"store.url": "postgresql://[db/x"},
        {"collateral.service_url": "pccs.example"},
        {"collateral.service_url": "https://"},
        {"collateral.service_url": "https://user@pccs.example"},
        {"collateral.service_url": "https://:secret@pccs.example"},
        {"collateral.service_url": "https://pccs.example/?key=1"},
        {"collateral.service_url": "https://pccs.example:99999"},
        {"collateral.service_url": "ftp://pccs.example"},
        {"collateral.root_crl_url": "file:///etc/passwd"},
        {"collateral.root_crl_url": "https://[pccs"},
        {"metrics.listen": "0.0.0.0:9464"},
        {"metrics.listen": "[::]:9464"},
        {"metrics.listen": "node.example:9464"},
        {"metrics.listen": "127.0.0.1"},
        {"metrics.listen": "127.0.0.1:"},
        {"metrics.listen": ":9464"},
        {"metrics.listen": "127.0.0.1:65536"},
        {"metrics.listen": "127.0.0.1:-1"},
        {"metrics.listen": "127.0.0.1:٣"},
        {"metrics.listen": ""},
        {"metrics.listen": "127.0.0.1:8000"},
        {"metrics.listen": "localhost:8123", "http.port": 8123},
    ],
)
def test_contradictions_refuse(flags: dict[str, str]) -> None:
    """Settings that contradict each other or open plain text to the network refuse to start."""
    with pytest.raises(ConfigurationError):
        load_config(environment={}, flags=flags)


@pytest.mark.parametrize("also", [{"http.trusted_proxies": ["10.0.0.1"]}, {"http.plain_text_off_loopback": True}])
def test_off_loopback_with_a_reason(also: dict[str, bool]) -> None:
    """An address other than loopback is taken behind a named proxy, or when plain text is asked for."""
    assert load_config(environment={}, flags={"http.host": "0.0.0.0", **also}).http.host == "0.0.0.0"


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_metrics_stay_on_loopback(listen: str, address: tuple[str, int]) -> None:
    """Metrics are off, are served on loopback when they are asked for, and elsewhere only when that is said."""
    assert load_config(environment={}).metrics.listen is None
    assert load_config(environment={"SEALSPACE_METRICS__LISTEN": listen}).metrics.address == address
    elsewhere = load_config(environment={}, flags={"metrics.listen": "10.0.0.5:9464", "metrics.off_loopback": True})
    assert elsewhere.metrics.address == ("10.0.0.5", 9464)


def test_missing_file_refuses(tmp_path: Path) -> None:
    """A settings file that was named but is not there refuses to start."""
    with pytest.raises(ConfigurationError):
        load_config(file=tmp_path / "absent.toml", environment={})


def test_settings_file_is_bounded(tmp_path: Path) -> None:
    """A file that is longer than any settings are is not read."""
    path = tmp_path / "sealspace.toml"
    path.write_text("# " + "x" * 1_100_000)
    with pytest.raises(ConfigurationError, match="longer"):
        load_config(file=path, environment={})


@pytest.mark.parametrize(
    ("host", "answer"), [("localhost", True), ("127.9.9.9", True), ("::1", True), ("::", False), ("node.local", False)]
)
def test_loopback_is_told_from_elsewhere(host: str, answer: bool) -> None:
    """Names other than the machine's own are not taken for it, whatever they resolve to."""
    assert is_loopback(host) is answer


def test_children_inherit_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process gets none of our variables, so no secret either."""
    monkeypatch.setenv("SEALSPACE_SECRET__VALUE", "x")
    assert not [name for name in child_environment() if name.startswith("SEALSPACE_")]


def test_every_setting_is_documented() -> None:
    """Every setting has a sentence that ends with a full stop, and a row of the table."""
    rows = settings()
    assert [row.path for row in rows if not row.description.endswith(".")] == []
    assert all(f"`{row.path}` | `{row.variable}`" in markdown_table() for row in rows)
    assert {"release.attestation", "http.port"} <= {row.path for row in rows}


def test_table_variables_work() -> None:
    """The variable that the table names sets the setting."""
    (row,) = [row for row in settings() if row.path == "release.attestation"]
    assert Release(attestation="off") == load_config(environment={row.variable: "off"}).release
