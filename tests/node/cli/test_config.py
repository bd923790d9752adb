"""The command `sealspace config`."""

import json
import re
from pathlib import Path

import pytest

from node.cli.config import settings_file
from node.config.loading import load_config
from node.config.redaction import NOT_IN_A_FILE
from node.config.tree import Config, Hosting, setting_types
from sealspace.cli.root import main

SECRETS = {
    "SEALSPACE_ADMIN__SECRET": "operators-own-words-of-forty-characters-x",
    "SEALSPACE_SECRET__VALUE": "c2VjcmV0LXJvb3Qtb2YtdGhlLW5vZGUtMzItYnl0ZXM",
    "SEALSPACE_STORE__URL": "postgresql://node:pass-of-the-database@127.0.0.1:1/none",
}


def test_settings_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`config show` prints TOML that gives the same settings when used as a file."""
    file = tmp_path / "node.toml"
    file.write_text(
        '[http]\nport = 8123\nworkers = 3\n[hosting]\nmode = "auto"\n[log]\nlevel = "debug"\n'
    )
    monkeypatch.setenv("SEALSPACE_HTTP__WORKERS", "5")
    assert main(["config", "show", "--config", str(file), "--data", "höre", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.keys() == setting_types().keys()
    changed = {"http.port": 8123, "http.workers": 5, "log.level": "debug", "store.data": "höre"}
    assert changed.items() <= shown.items()
    assert main(["config", "show", "--config", str(file), "--data", "höre"]) == 0
    again = tmp_path / "again.toml"
    again.write_text(capsys.readouterr().out)
    effective = load_config(
        file=file, environment={}, flags={"store.data": "höre", "http.workers": 5}
    )
    assert load_config(file=again, environment={}) == effective


def test_secrets_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a secret, including a database password, only the fact that it is set is shown."""
    for name, text in SECRETS.items():
        monkeypatch.setenv(name, text)
    for option in ((), ("--json",)):
        assert main(["config", "show", *option]) == 0
        out, err = capsys.readouterr()
        assert out.count("\\u2026" if option else "is set and not shown") == len(SECRETS)
        assert not any(text in out + err for text in (*SECRETS.values(), "pass-of-the-database"))


def test_a_broken_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown setting is refused by name, with the command that lists all settings."""
    monkeypatch.setenv("SEALSPACE_HTTP__PROT", "1")
    assert main(["config", "show"]) == 2
    said, hint = capsys.readouterr().err.splitlines()
    assert said.startswith(
        "sealspace: unknown setting http.prot (environment variable SEALSPACE_HTTP__PROT); did you"
        " mean http.port"
    )
    assert hint == "next: to show every setting, run: sealspace config init -"


def test_the_file_holds_every_default(tmp_path: Path) -> None:
    """The written file changes nothing; with every line uncommented, it sets all defaults."""
    text = settings_file()
    named = re.findall(r"^#(\w+) = (.*)$", text, re.MULTILINE)
    assert len(named) + len(NOT_IN_A_FILE) == len(setting_types())
    whole, file = (
        re.sub(r"^#(\w+ = (?!none$))", r"\1", text, flags=re.MULTILINE),
        tmp_path / "node.toml",
    )
    for content in (text, whole):
        file.write_text(content)
        stated = Hosting(is_mode_stated=content is whole)
        assert Config(hosting=stated) == load_config(file=file, environment={})
    assert len(re.findall(r"^\w+ = ", whole, re.MULTILINE)) > 50


def test_an_existing_file_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`init` writes a file, says how to use it, and does not overwrite one; `-` prints it."""
    monkeypatch.chdir(tmp_path)
    assert main(["config", "init"]) == 0
    said = (
        "wrote sealspace.toml; to use the file, start a node with --config\nnext: sealspace serve"
        " --config sealspace.toml\n"
    )
    assert ("", said) == capsys.readouterr()
    assert main(["config", "show", "-q"]) == 0 and capsys.readouterr().err == ""
    assert main(["config", "show"]) == 0
    said = (
        "sealspace.toml in the current folder is ignored; to use the file: sealspace config show"
        " --config sealspace.toml\n"
    )
    assert capsys.readouterr().err == said
    assert (tmp_path / "sealspace.toml").read_text() == settings_file()
    (tmp_path / "sealspace.toml").write_text("mine")
    assert main(["config", "init"]) == 2
    assert "next: " in capsys.readouterr().err
    assert (tmp_path / "sealspace.toml").read_text() == "mine"
    assert main(["config", "init", "-"]) == 0
    assert capsys.readouterr().out == settings_file()


def test_a_file_in_a_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a file that a start finds in its data folder, no `--config` is suggested."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data", "else", "else/store"):
        (tmp_path / folder).mkdir()
    (tmp_path / "etc").mkdir()
    for path, following in (
        ("data/sealspace.toml", "--data data"),
        ("else/sealspace.toml", "--data else"),
        ("etc/sealspace.toml", "--config etc/sealspace.toml"),
        ("data/other.toml", "--config data/other.toml"),
    ):
        assert main(["config", "init", path]) == 0
        said = capsys.readouterr().err
        assert said.endswith(f"next: sealspace serve {following}\n")
        assert ("data folder" in said) is path.endswith("sealspace.toml")
