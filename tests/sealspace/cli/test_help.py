"""The help of every command: it is there, it is whole, and it calls one thing by one word."""

import re

import click
import pytest
from command_tree import Node, command_tree

from sealspace.cli.root import cli, main
from sealspace.cli.shared import is_shared

NODES = [node for node in command_tree() if not node.is_hidden]
# Other words for FILE, DIR, NUMBER and URL.
OTHER_WORDS = frozenset({"ADDR", "DIRECTORY", "FILENAME", "FLOAT", "FOLDER", "INTEGER", "NODE", "PATHNAME", "RANGE"})


def _words(text: str) -> str:
    return "".join(text.split())  # lines are broken between words, and behind hyphens


def _called(node: Node) -> str:
    return "sealspace " + " ".join(node.words)


@pytest.mark.parametrize("node", NODES, ids=_called)
def test_help_is_whole(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """It has all that is said of the command, of its options, and of each command below it; nothing is cut short."""
    assert main([*node.words, "--help"]) == 0
    shown = _words(capsys.readouterr().out)
    said = [node.command.help or "", node.command.epilog or ""]
    own = [one for one in node.command.params if isinstance(one, click.Option) and not is_shared(one)]
    said += [one.help or "" for one in own if not one.hidden]
    said.append("--json, --home, --node, -q Work with every command: sealspace --help.")
    said += [below.summary for below in NODES if below.words[:-1] == node.words]
    for text in said:
        for paragraph in text.split("\n\n"):
            assert _words(paragraph) in shown, (node.words, paragraph)
    assert shown.startswith(_words(f"Usage: {_called(node)} "))
    assert node.is_group or not any(text.rstrip().endswith(("…", "...")) for text in said if text)


@pytest.mark.parametrize("node", [node for node in NODES if not node.is_group], ids=_called)
def test_values_have_one_name(node: Node) -> None:
    """A file is FILE and a folder DIR, wherever it is asked for."""
    with click.Context(node.command) as context:
        for parameter in node.command.params:
            if isinstance(parameter, click.Option) and (parameter.is_flag or isinstance(parameter.type, click.Choice)):
                continue
            named = set(re.findall(r"[A-Z]+", parameter.make_metavar(context)))
            assert not named & OTHER_WORDS, (node.words, parameter.name)
            if isinstance(parameter.type, click.Path | click.File):
                holds_files = isinstance(parameter.type, click.Path) and not parameter.type.file_okay
                assert ("DIR" if holds_files else "FILE") in named or named == {"DIR"}, (node.words, parameter.name)


def test_the_help_of_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """It describes the options of every command, which the others sum up in one line; it names every noun."""
    assert main(["-h"]) == 0
    shown = _words(capsys.readouterr().out)
    assert [
        node.words for node in NODES if len(node.words) == 1 and _words(f"{node.words[0]} {node.summary}") not in shown
    ] == []
    shared = [one for one in cli.params if is_shared(one)]
    assert all(_words(str(one.to_info_dict()["help"])) in shown for one in shared) and len(shared) == 4
    assert main(["secret", "put", "-h"]) == 0
    assert capsys.readouterr().out.count("--home") == 1
