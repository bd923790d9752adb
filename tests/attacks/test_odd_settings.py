"""Malformed settings and addresses give an error of two lines without any password."""

from pathlib import Path

import pytest

from node.config.loading import load_config
from sealspace.cli.root import main
from sealspace.errors import InvalidInput
from sealspace.service.command_errors import ConfigurationError
from sealspace.wire.transport import Transport

PASSWORD = "topsecret"


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://u:{PASSWORD}/more@h/d",
        f"postgresql://u:{PASSWORD}?more@h/d",
        f"postgresql://u:{PASSWORD}#more@h/d",
        f"postgresql://u:{PASSWORD}@[::1/d",
        f"postgresql://u:{PASSWORD}@h:1,h:port/d",
        f"postgresql://u:{PASSWORD}@h/d\udcff",
    ],
)
def test_a_torn_address_shows_no_password(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
) -> None:
    """An address with separators in its password is refused and not shown."""
    monkeypatch.setattr("os.environ", {"SEALSPACE_STORE__URL": address})
    status = main(["admin", "owners", "list", "--data", str(tmp_path)])
    reported, following = capsys.readouterr().err.splitlines()
    assert status == 2 and reported.startswith("sealspace: ") and following.startswith("next: ")
    assert PASSWORD not in reported + following


@pytest.mark.parametrize(
    "address",
    ["h", "h:5432", "[::1]", "[::1]:5432", "h:1,h:2", "[::1]:1,h", "", "u@h", "u:p%2F@h:1"],
)
def test_whole_addresses_are_taken(address: str) -> None:
    """A well-formed address is accepted."""
    url = f"postgresql://{address}/d"
    assert load_config(environment={"SEALSPACE_STORE__URL": url}).store.url == url


def test_a_password_of_a_key_is_no_argument() -> None:
    """The password of a client's key is refused as an argument."""
    with pytest.raises(ConfigurationError):
        load_config(
            environment={}, flags={"store.url": f"postgresql://u@h/d?sslpassword={PASSWORD}"}
        )


def test_a_variable_that_is_no_text() -> None:
    """A setting in the environment that is not UTF-8 is refused by its name."""
    with pytest.raises(ConfigurationError, match="SEALSPACE_LOG__LEVEL is not Unicode"):
        load_config(environment={"SEALSPACE_LOG__LEVEL": "\udcff"})


def test_an_address_of_a_node_that_is_no_text() -> None:
    """A node's address that is not UTF-8 is refused before a sign-in."""
    with pytest.raises(InvalidInput):
        Transport("http://127.0.0.1:8000/\udcff")
