"""Settings that contradict each other or expose the node to the network."""

from pathlib import Path

import pytest

from node.config.checks import is_loopback
from node.config.loading import load_config
from sealspace.service.command_errors import ConfigurationError

NO_RUNNERS = """
| |runner.example|http://runner.example|ftp://runner.example|https://|https://*|https://runner.example/|https://a/x
|https://a?x|https://a#b|https://user@runner.example|https://Runner.example|https://a:|https://a:0|https://a:65536
|https://a:080|https://a b|https://a; script-src *|https://*.example|https://a,https://b|https://a https://b
|https://'self'|https://a"x|https://10.0.0.7|https://[::1]:1|http://127.0.0.2|http://127.0.0.1.example|https://a..b
|https://-a.example|https://a-|https://bücher.example| https://a|https://a |https://a:٣|http://localhost.example
""".replace("\n", "").split("|")
NO_RUNNERS += ["https://a\n", f"https://{'a.' * 130}b"]


@pytest.mark.parametrize(
    "flags",
    [
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
        *({"http.console_runner": origin} for origin in NO_RUNNERS),
        {"hosting.manage_url": "http://node.example/console/"},
        {"hosting.manage_url": "node.example"},
        {"hosting.manage_url": "https://user@node.example"},
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
        {"sms.listen": "0.0.0.0:13300"},
        {"sms.listen": "node.example:13300"},
        {"sms.listen": "127.0.0.1"},
        {"sms.listen": ":13300"},
        {"sms.listen": ""},
        {"http.port": 13300, "sms.listen": "127.0.0.1:13300"},
        {"metrics.listen": "127.0.0.1:8000"},
        {"metrics.listen": "localhost:8123", "http.port": 8123},
    ],
)
def test_contradictions_refuse(flags: dict[str, str]) -> None:
    """Contradictory settings, and plain text open to the network, are refused at the start."""
    with pytest.raises(ConfigurationError):
        load_config(environment={}, flags=flags)


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "https://runner.example",
            "https://runner.example:8443",
            "https://runner",
            "https://a-b.1c.example",
        ),
        *(
            "http://127.0.0.1:8700",
            "http://localhost:8700",
            "http://localhost",
            "https://127.0.0.1:65535",
        ),
    ],
)
def test_a_runner_of_the_console(origin: str) -> None:
    """The console's runner is an https origin, or one of this machine, in canonical form (CN6)."""
    assert (
        load_config(environment={}, flags={"http.console_runner": origin}).http.console_runner
        == origin
    )


def test_a_stated_hosting_mode(tmp_path: Path) -> None:
    """Only a file, a variable or an option states the hosting mode, also the default (ST18)."""
    file = tmp_path / "node.toml"
    for text, is_stated in (("[hosting]\n", False), ('[hosting]\nmode = "auto"\n', True)):
        file.write_text(text)
        assert load_config(file=file, environment={}).hosting.is_mode_stated is is_stated
    variable = {"SEALSPACE_HOSTING__MODE": "permit"}
    assert load_config(environment=variable).hosting.is_mode_stated
    assert load_config(environment={}, flags={"hosting.mode": "auto"}).hosting.is_mode_stated
    assert not load_config(environment={}, flags={"hosting.mode": None}).hosting.is_mode_stated
    file.write_text("[hosting]\nis_mode_stated = true\n")
    with pytest.raises(ConfigurationError, match="unknown setting"):
        load_config(file=file, environment={})


@pytest.mark.parametrize(
    "also", [{"http.trusted_proxies": ["10.0.0.1"]}, {"http.plain_text_off_loopback": True}]
)
def test_off_loopback_with_a_reason(also: dict[str, bool]) -> None:
    """Off loopback, a node needs a trusted proxy or explicit permission for plain text."""
    assert (
        load_config(environment={}, flags={"http.host": "0.0.0.0", **also}).http.host == "0.0.0.0"
    )


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_metrics_stay_on_loopback(listen: str, address: tuple[str, int]) -> None:
    """Metrics are off by default, and need explicit permission off loopback."""
    assert load_config(environment={}).metrics.listen is None
    assert load_config(environment={"SEALSPACE_METRICS__LISTEN": listen}).metrics.address == address
    elsewhere = load_config(
        environment={}, flags={"metrics.listen": "10.0.0.5:9464", "metrics.off_loopback": True}
    )
    assert elsewhere.metrics.address == ("10.0.0.5", 9464)


@pytest.mark.parametrize(
    ("host", "answer"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("::", False), ("node.local", False)],
)
def test_loopback_is_distinguished_from_elsewhere(host: str, answer: bool) -> None:
    """Only the machine's own names count as loopback, whatever others resolve to."""
    assert is_loopback(host) is answer
