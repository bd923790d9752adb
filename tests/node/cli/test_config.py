"""`sealspace config`: settings in force with their sources, and a settings file to begin with."""

import json
import re
from pathlib import Path

import pytest

from node.cli.config import settings_file
from node.config.loading import load_config
from node.config.redaction import NOT_IN_A_FILE
from node.config.tree import Config, setting_types
from sealspace.cli.root import main

SECRETS = {
    "SEALSPACE_ADMIN__SECRET": "operators-own-words-of-forty-characters-x",
    "SEALSPACE_SECRET__VALUE": "c2VjcmV0LXJvb3Qtb2YtdGhlLW5vZGUtMzItYnl0ZXM",
    "SEALSPACE_STORE__URL": "postgresql://node:pass-of-the-database@127.0.0.1:1/none",
}


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every setting is shown with its source: the file, the variable, the command line, or its default."""
    file = tmp_path / "node.toml"
    file.write_text('[http]\nport = 8123\nworkers = 3\n[log]\nlevel = "debug"\n')
    monkeypatch.setenv("SEALSPACE_HTTP__WORKERS", "5")
    assert main(["config", "show", "--config", str(file), "--data", "here", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.keys() == setting_types().keys()
    changed = {path: (one["value"], one["source"]) for path, one in shown.items() if one["source"] != "default"}
    assert changed == {
        "http.port": (8123, str(file)),
        "http.workers": (5, "SEALSPACE_HTTP__WORKERS"),
        "log.level": ("debug", str(file)),
        "store.data": ("here", "command line"),
    }
    assert main(["config", "show", "--config", str(file)]) == 0
    assert re.search(rf"^http\.port +8123 +{file}$", capsys.readouterr().out, re.MULTILINE)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a secret only that it is set is shown, and by what; a database's password is one."""
    for name, text in SECRETS.items():
        monkeypatch.setenv(name, text)
    for option in ((), ("--json",)):
        assert main(["config", "show", *option]) == 0
        out, err = capsys.readouterr()
        assert all(name in out for name in SECRETS)
        assert not any(text in out + err for text in (*SECRETS.values(), "pass-of-the-database"))


def test_a_broken_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A typo is refused by name, with what lists all settings."""
    monkeypatch.setenv("SEALSPACE_HTTP__PROT", "1")
    assert main(["config", "show"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "sealspace: unknown setting http.prot (environment variable SEALSPACE_HTTP__PROT)",
        "next: sealspace config init - shows every setting",
    ]


def test_the_file_holds_every_default(tmp_path: Path) -> None:
    """Without the number signs the file is valid and every setting has its default; with them it changes nothing."""
    text = settings_file()
    named = re.findall(r"^#(\w+) = (.*)$", text, re.MULTILINE)
    assert len(named) + len(NOT_IN_A_FILE) == len(setting_types())
    whole, file = re.sub(r"^#(\w+ = (?!none$))", r"\1", text, flags=re.MULTILINE), tmp_path / "node.toml"
    for content in (text, whole):
        file.write_text(content)
        assert Config() == load_config(file=file, environment={})
    assert len(re.findall(r"^\w+ = ", whole, re.MULTILINE)) > 50


def test_an_existing_file_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`init` writes a file once, says how it is used, and refuses to overwrite one; `-` shows it."""
    monkeypatch.chdir(tmp_path)
    assert main(["config", "init"]) == 0
    said = "wrote sealspace.toml; a node reads it where it is named\nnext: sealspace serve --config sealspace.toml\n"
    assert ("", said) == capsys.readouterr()
    assert main(["config", "show", "-q"]) == 0 and capsys.readouterr().err == ""
    assert main(["config", "show"]) == 0
    said = (
        "sealspace.toml in this folder is not read unless it is named: sealspace config show --config sealspace.toml\n"
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
    """A file that a start finds in its data folder is not said to need a name."""
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
